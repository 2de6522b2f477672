#include "tidewater/pgwire/protocol/scram.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <algorithm>
#include <charconv>
#include "tidewater/base/check.h"

namespace tidewater::pgwire {
namespace {

using Key = std::array<uint8_t, 32>;

Key Hmac(const Key& key, std::string_view text) {
  Key out;
  unsigned size = 0;
  auto* ok = HMAC(EVP_sha256(), key.data(), int(key.size()), reinterpret_cast<const uint8_t*>(text.data()), text.size(),
                  out.data(), &size);
  TW_CHECK(ok != nullptr && size == out.size(), "HMAC-SHA-256 gave {} bytes", size);
  return out;
}

Key Sha256(const Key& key) {
  Key out;
  SHA256(key.data(), key.size(), out.data());
  return out;
}

std::string_view View(const Key& key) { return {reinterpret_cast<const char*>(key.data()), key.size()}; }

Error Malformed(const char* what) { return UserError("08P01", "malformed SCRAM message: {}", what); }

/// Takes "x=value" up to the next comma off `rest`.
bool TakeAttribute(std::string_view& rest, char name, std::string_view& value) {
  if (rest.size() < 2 || rest[0] != name || rest[1] != '=') return false;
  auto end = std::min(rest.find(','), rest.size());
  value = rest.substr(2, end - 2);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return true;
}

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x21 && c <= 0x7e && c != ','; });
}

}  // namespace

std::string Base64Encode(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  int n = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(out.data()), reinterpret_cast<const uint8_t*>(bytes.data()),
                          int(bytes.size()));
  out.resize(size_t(n));
  return out;
}

Result<std::string> Base64Decode(std::string_view text) {
  auto value = [](char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  auto bad = [] { return std::unexpected(Malformed("invalid base64")); };
  if (text.size() % 4 != 0) return bad();
  std::string out;
  out.reserve(text.size() / 4 * 3);
  for (size_t i = 0; i < text.size(); i += 4) {
    bool last = i + 4 == text.size();
    int pad = !last ? 0 : text[i + 2] == '=' ? 2 : text[i + 3] == '=' ? 1 : 0;
    if (pad == 2 && text[i + 3] != '=') return bad();
    uint32_t bits = 0;
    for (int k = 0; k < 4; k++) {
      int v = k >= 4 - pad ? 0 : value(text[i + size_t(k)]);
      if (v < 0) return bad();
      bits = bits << 6 | uint32_t(v);
    }
    for (int k = 0; k < 3 - pad; k++) out.push_back(char(bits >> (16 - 8 * k)));
  }
  return out;
}

std::string RandomBytes(size_t n) {
  std::string out(n, '\0');
  TW_CHECK(RAND_bytes(reinterpret_cast<uint8_t*>(out.data()), int(n)) == 1, "no randomness for {} bytes", n);
  return out;
}

Result<ScramVerifier> ScramVerifier::FromPassword(const Secret& password, std::string salt, int iterations) {
  auto& clear = password.Reveal();
  if (clear.empty()) return std::unexpected(UserError("22023", "the password is empty"));
  if (!std::all_of(clear.begin(), clear.end(), [](char c) { return c >= 0x20 && c <= 0x7e; })) {
    return std::unexpected(UserError("22023", "the password holds characters other than printable ASCII"));
  }
  ScramVerifier out;
  out.iterations = iterations;
  out.salt = salt.empty() ? RandomBytes(16) : std::move(salt);
  Key salted;
  int ok = PKCS5_PBKDF2_HMAC(clear.data(), int(clear.size()), reinterpret_cast<const uint8_t*>(out.salt.data()),
                             int(out.salt.size()), iterations, EVP_sha256(), int(salted.size()), salted.data());
  TW_CHECK(ok == 1, "PBKDF2 with {} iterations", iterations);
  out.stored_key = Sha256(Hmac(salted, "Client Key"));
  out.server_key = Hmac(salted, "Server Key");
  OPENSSL_cleanse(salted.data(), salted.size());
  return out;
}

Result<ScramVerifier> ScramVerifier::FromText(std::string_view text) {
  auto bad = [] { return std::unexpected(UserError("22023", "malformed SCRAM-SHA-256 verifier")); };
  constexpr std::string_view kPrefix = "SCRAM-SHA-256$";
  if (!text.starts_with(kPrefix)) return bad();
  text.remove_prefix(kPrefix.size());
  auto colon = text.find(':'), dollar = text.find('$');
  auto second = text.rfind(':');
  if (colon == text.npos || dollar == text.npos || colon > dollar || second < dollar) return bad();
  ScramVerifier out;
  auto parsed = std::from_chars(text.data(), text.data() + colon, out.iterations);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + colon || out.iterations < 1) return bad();
  auto salt = Base64Decode(text.substr(colon + 1, dollar - colon - 1));
  auto stored = Base64Decode(text.substr(dollar + 1, second - dollar - 1));
  auto server = Base64Decode(text.substr(second + 1));
  if (!salt || !stored || !server || salt->empty() || stored->size() != 32 || server->size() != 32) return bad();
  out.salt = *salt;
  std::copy(stored->begin(), stored->end(), out.stored_key.begin());
  std::copy(server->begin(), server->end(), out.server_key.begin());
  return out;
}

std::string ScramVerifier::ToText() const {
  return fmt::format("SCRAM-SHA-256${}:{}${}:{}", iterations, Base64Encode(salt), Base64Encode(View(stored_key)),
                     Base64Encode(View(server_key)));
}

ScramServer::ScramServer(const ScramVerifier& verifier, std::string nonce)
    : verifier_(verifier), nonce_(nonce.empty() ? Base64Encode(RandomBytes(18)) : std::move(nonce)) {}

Result<std::string> ScramServer::First(std::string_view message) {
  auto rest = message;
  if (rest.starts_with("p=")) {
    return std::unexpected(UserError("08P01", "the client asks for SCRAM channel binding, which is not offered"));
  }
  if (!rest.starts_with("n,") && !rest.starts_with("y,")) return std::unexpected(Malformed("channel binding flag"));
  rest.remove_prefix(2);
  if (!rest.starts_with(",")) {
    return std::unexpected(
        EnvError(ErrorKind::kUnsupported, "the client uses an authorization identity, which is not supported"));
  }
  rest.remove_prefix(1);
  gs2_header_ = message.substr(0, message.size() - rest.size());
  first_bare_ = rest;
  // The user is the one of the startup packet; the name given here is not used.
  std::string_view user, nonce;
  if (rest.starts_with("m=")) {
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "the client requires an unsupported SCRAM extension"));
  }
  if (!TakeAttribute(rest, 'n', user)) return std::unexpected(Malformed("user name"));
  if (!TakeAttribute(rest, 'r', nonce) || nonce.empty() || !IsPrintable(nonce))
    return std::unexpected(Malformed("nonce"));
  full_nonce_ = std::string(nonce) + nonce_;
  server_first_ = fmt::format("r={},s={},i={}", full_nonce_, Base64Encode(verifier_.salt), verifier_.iterations);
  return server_first_;
}

Result<std::string> ScramServer::Final(std::string_view message) {
  auto proof_at = message.rfind(",p=");
  if (proof_at == message.npos) return std::unexpected(Malformed("proof"));
  auto without_proof = message.substr(0, proof_at);
  auto rest = without_proof;
  std::string_view binding, nonce;
  if (!TakeAttribute(rest, 'c', binding) || binding != Base64Encode(gs2_header_)) {
    return std::unexpected(Malformed("channel binding"));
  }
  if (!TakeAttribute(rest, 'r', nonce) || nonce != full_nonce_) return std::unexpected(Malformed("nonce"));
  TW_ASSIGN(auto proof, Base64Decode(message.substr(proof_at + 3)));
  if (proof.size() != 32) return std::unexpected(Malformed("proof"));

  auto auth_message = fmt::format("{},{},{}", first_bare_, server_first_, without_proof);
  auto signature = Hmac(verifier_.stored_key, auth_message);
  Key client_key;
  for (size_t i = 0; i < client_key.size(); i++) client_key[i] = uint8_t(proof[i]) ^ signature[i];
  auto stored = Sha256(client_key);
  if (CRYPTO_memcmp(stored.data(), verifier_.stored_key.data(), stored.size()) != 0) {
    return std::unexpected(Error{ErrorKind::kAuthentication, "28P01", "password authentication failed", {}, {}, 0});
  }
  return "v=" + Base64Encode(View(Hmac(verifier_.server_key, auth_message)));
}

}  // namespace tidewater::pgwire
