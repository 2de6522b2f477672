// What a client sends (PostgreSQL manual, "Message Formats"): framing with limits, then each message as a struct whose
// views point into the frame's body.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::pgwire {

/// Bodies before a client is known are small: a startup packet, a SASL response.
constexpr size_t kStartupBytesMax = 10'000;
constexpr size_t kAuthenticationBytesMax = 4'096;
/// A statement with its parameters.
constexpr size_t kMessageBytesMax = size_t{64} << 20;

struct Frame {
  char type = 0;          ///< 0 for a startup packet
  std::string_view body;  ///< valid until the next call of the reader
};

/// Cuts a byte stream into messages. Holds at most one message and what was received behind it.
class FrameReader {
 public:
  void Append(std::string_view bytes);
  /// The next whole message; nothing when more bytes are needed. An announced length above `body_max` is an error
  /// (54000) before anything is kept for it; one below the minimum is 08P01. After an error the stream cannot be used.
  Result<std::optional<Frame>> Next(bool typed, size_t body_max);
  /// Type of the message that comes next, when its first byte is here.
  std::optional<char> PeekType() const { return pending() > 0 ? std::optional(buffer_[begin_]) : std::nullopt; }
  /// Bytes received and not yet handed out.
  size_t pending() const { return buffer_.size() - begin_; }

 private:
  std::string buffer_;
  size_t begin_ = 0;
};

/// The packet without a type byte that opens a connection.
struct Startup {
  enum class Kind { kSession, kSsl, kGssEncryption, kCancel };
  Kind kind = Kind::kSession;
  int minor_version = 0;
  std::vector<std::pair<std::string, std::string>> parameters;
  /// kCancel: whose statement.
  uint32_t process_id = 0;
  uint32_t secret_key = 0;

  /// Value of a parameter, or "".
  std::string Get(std::string_view name) const;
};
Result<Startup> ParseStartup(std::string_view body);

struct SaslInitialResponse {
  std::string_view mechanism;
  std::optional<std::string_view> data;
};
/// Both kinds of the message 'p' are told apart by the state of the exchange.
Result<SaslInitialResponse> ParseSaslInitialResponse(std::string_view body);

struct Query {
  std::string_view sql;
};
struct Parse {
  std::string_view name, sql;
  std::vector<uint32_t> parameter_oids;
};
struct Bind {
  std::string_view portal, statement;
  std::vector<int16_t> parameter_formats;
  std::vector<std::optional<std::string_view>> values;
  std::vector<int16_t> result_formats;
};
struct Describe {
  char kind;
  std::string_view name;
};  ///< 'S' statement, 'P' portal
struct Execute {
  std::string_view portal;
  int32_t rows_max;
};  ///< rows_max <= 0: all
struct Close {
  char kind;
  std::string_view name;
};
struct Sync {};
struct Flush {};
struct Terminate {};
struct FunctionCall {};
/// CopyData, CopyDone, CopyFail outside of a COPY: ignored, as the protocol says.
struct CopyLeftover {};

using FrontendMessage =
    std::variant<Query, Parse, Bind, Describe, Execute, Close, Sync, Flush, Terminate, FunctionCall, CopyLeftover>;
/// 08P01 for an unknown type or a body that breaks its format.
Result<FrontendMessage> ParseFrontend(const Frame& frame);

/// The format (0 text, 1 binary) of the i-th value under a message's list: none means text, one means all.
inline int FormatOf(const std::vector<int16_t>& formats, size_t i) {
  return formats.empty() ? 0 : formats.size() == 1 ? formats[0] : formats[i];
}

/// Whether the bytes are UTF-8 without NUL; the position of the first byte that is not, or nothing.
std::optional<size_t> InvalidUtf8At(std::string_view text);

}  // namespace tidewater::pgwire
