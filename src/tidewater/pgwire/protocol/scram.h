// SCRAM-SHA-256, the server's half (RFC 5802, RFC 7677), without channel binding.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include "tidewater/base/result.h"
#include "tidewater/base/secret.h"

namespace tidewater::pgwire {

/// What a server keeps instead of the password: salt and keys from which the password cannot be computed.
struct ScramVerifier {
  int iterations = 4096;
  std::string salt;
  std::array<uint8_t, 32> stored_key{};
  std::array<uint8_t, 32> server_key{};

  /// The password must be printable ASCII (then SASLprep changes nothing): 22023 otherwise, also when it is empty.
  static Result<ScramVerifier> FromPassword(const Secret& password, std::string salt = {}, int iterations = 4096);
  /// The text form of PostgreSQL's pg_authid.rolpassword: SCRAM-SHA-256$4096:SALT$STORED:SERVER, all three in base64.
  static Result<ScramVerifier> FromText(std::string_view text);
  std::string ToText() const;
};

/// One exchange. Every failure is 28P01 or 08P01 with a message that says nothing of the verifier.
class ScramServer {
 public:
  static constexpr const char* kMechanism = "SCRAM-SHA-256";
  /// `nonce` is random unless a test gives one.
  explicit ScramServer(const ScramVerifier& verifier, std::string nonce = {});
  /// client-first-message -> server-first-message.
  Result<std::string> First(std::string_view message);
  /// client-final-message -> server-final-message; 28P01 when the proof does not match.
  Result<std::string> Final(std::string_view message);

 private:
  const ScramVerifier& verifier_;
  std::string nonce_;
  std::string gs2_header_, first_bare_, server_first_, full_nonce_;
};

std::string Base64Encode(std::string_view bytes);
/// Strict: padding required, nothing else inside. Nothing when malformed.
Result<std::string> Base64Decode(std::string_view text);
std::string RandomBytes(size_t n);

}  // namespace tidewater::pgwire
