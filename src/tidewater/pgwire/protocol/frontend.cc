#include "tidewater/pgwire/protocol/frontend.h"
#include <cstring>

namespace tidewater::pgwire {
namespace {

Error Violation(const char* what) { return UserError("08P01", "{}", what); }

/// Reads fields in order. The first field that does not fit makes it fail for good; fields read then are empty.
class BodyReader {
 public:
  explicit BodyReader(std::string_view body) : rest_(body) {}
  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && rest_.empty(); }

  std::string_view Bytes(size_t n) {
    if (!ok_ || n > rest_.size()) {
      ok_ = false;
      return {};
    }
    auto out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return out;
  }
  std::string_view CString() {
    auto end = ok_ ? rest_.find('\0') : std::string_view::npos;
    if (end == std::string_view::npos) {
      ok_ = false;
      return {};
    }
    auto out = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return out;
  }
  char Byte() {
    auto b = Bytes(1);
    return ok_ ? b[0] : '\0';
  }
  uint32_t UInt32() {
    auto b = Bytes(4);
    uint32_t v = 0;
    if (ok_) std::memcpy(&v, b.data(), 4);
    return __builtin_bswap32(v);
  }
  int32_t Int32() { return int32_t(UInt32()); }
  uint16_t UInt16() {
    auto b = Bytes(2);
    uint16_t v = 0;
    if (ok_) std::memcpy(&v, b.data(), 2);
    return __builtin_bswap16(v);
  }
  /// A count of items that take at least `item_bytes` each: never more than what is there.
  size_t Count(size_t item_bytes) {
    size_t n = UInt16();
    if (ok_ && n * item_bytes > rest_.size()) ok_ = false;
    return ok_ ? n : 0;
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

bool Formats(BodyReader& in, std::vector<int16_t>& out) {
  size_t n = in.Count(2);
  out.reserve(n);
  for (size_t i = 0; i < n; i++) {
    out.push_back(int16_t(in.UInt16()));
    if (out.back() != 0 && out.back() != 1) return false;
  }
  return in.ok();
}

}  // namespace

void FrameReader::Append(std::string_view bytes) {
  if (begin_ > 0) {
    buffer_.erase(0, begin_);
    begin_ = 0;
    // One large message must not keep its memory for the life of an idle connection.
    if (buffer_.empty() && buffer_.capacity() > (size_t{1} << 20)) buffer_.shrink_to_fit();
  }
  buffer_.append(bytes);
}

Result<std::optional<Frame>> FrameReader::Next(bool typed, size_t body_max) {
  auto rest = std::string_view(buffer_).substr(begin_);
  size_t header = typed ? 5 : 4;
  if (rest.size() < header) return std::nullopt;
  uint32_t length;
  std::memcpy(&length, rest.data() + header - 4, 4);
  length = __builtin_bswap32(length);
  if (length < 4) return std::unexpected(Violation("invalid message length"));
  size_t body = length - 4;
  if (body > body_max) {
    return std::unexpected(UserError("54000", "a message of {} bytes is above the limit of {} bytes", body, body_max));
  }
  if (rest.size() < header + body) return std::nullopt;
  Frame frame{typed ? rest[0] : '\0', rest.substr(header, body)};
  begin_ += header + body;
  return frame;
}

std::string Startup::Get(std::string_view name) const {
  for (auto& [key, value] : parameters) {
    if (key == name) return value;
  }
  return {};
}

Result<Startup> ParseStartup(std::string_view body) {
  BodyReader in(body);
  Startup out;
  uint32_t code = in.UInt32();
  if (!in.ok()) return std::unexpected(Violation("invalid length of startup packet"));
  switch (code) {
    case 80877103:
      out.kind = Startup::Kind::kSsl;
      break;
    case 80877104:
      out.kind = Startup::Kind::kGssEncryption;
      break;
    case 80877102:
      out.kind = Startup::Kind::kCancel;
      out.process_id = in.UInt32();
      out.secret_key = in.UInt32();
      break;
    default: {
      if (code >> 16 != 3) {
        return std::unexpected(
            UserError("0A000", "unsupported frontend protocol {}.{}: server supports 3.0", code >> 16, code & 0xffff));
      }
      out.minor_version = int(code & 0xffff);
      while (true) {
        auto name = in.CString();
        if (!in.ok())
          return std::unexpected(Violation("invalid startup packet layout: expected terminator as last byte"));
        if (name.empty()) break;
        auto value = in.CString();
        if (InvalidUtf8At(name) || InvalidUtf8At(value)) {
          return std::unexpected(UserError("22021", "a startup parameter is not UTF-8"));
        }
        out.parameters.emplace_back(name, value);
      }
    }
  }
  if (!in.AtEnd()) return std::unexpected(Violation("invalid startup packet layout"));
  return out;
}

Result<SaslInitialResponse> ParseSaslInitialResponse(std::string_view body) {
  BodyReader in(body);
  SaslInitialResponse out;
  out.mechanism = in.CString();
  int32_t size = in.Int32();
  if (in.ok() && size >= 0) out.data = in.Bytes(size_t(size));
  if (!in.AtEnd() || size < -1) return std::unexpected(Violation("invalid SASLInitialResponse message"));
  return out;
}

Result<FrontendMessage> ParseFrontend(const Frame& frame) {
  BodyReader in(frame.body);
  FrontendMessage out;
  switch (frame.type) {
    case 'Q':
      out = Query{in.CString()};
      break;
    case 'P': {
      Parse m;
      m.name = in.CString();
      m.sql = in.CString();
      size_t n = in.Count(4);
      m.parameter_oids.reserve(n);
      for (size_t i = 0; i < n; i++) m.parameter_oids.push_back(in.UInt32());
      out = std::move(m);
      break;
    }
    case 'B': {
      Bind m;
      m.portal = in.CString();
      m.statement = in.CString();
      if (!Formats(in, m.parameter_formats))
        return std::unexpected(Violation("invalid Bind message: parameter formats"));
      size_t n = in.Count(4);
      m.values.reserve(n);
      for (size_t i = 0; i < n && in.ok(); i++) {
        int32_t size = in.Int32();
        if (size < -1) return std::unexpected(Violation("invalid Bind message: parameter length"));
        if (size == -1) {
          m.values.emplace_back(std::nullopt);
        } else {
          m.values.emplace_back(in.Bytes(size_t(size)));
        }
      }
      if (!in.ok()) return std::unexpected(Violation("invalid Bind message: parameter values"));
      if (m.parameter_formats.size() > 1 && m.parameter_formats.size() != m.values.size()) {
        return std::unexpected(UserError("08P01", "bind message has {} parameter formats but {} parameters",
                                         m.parameter_formats.size(), m.values.size()));
      }
      if (!Formats(in, m.result_formats)) return std::unexpected(Violation("invalid Bind message: result formats"));
      out = std::move(m);
      break;
    }
    case 'D':
      out = Describe{in.Byte(), in.CString()};
      break;
    case 'C':
      out = Close{in.Byte(), in.CString()};
      break;
    case 'E':
      out = Execute{in.CString(), in.Int32()};
      break;
    case 'S':
      out = Sync{};
      break;
    case 'H':
      out = Flush{};
      break;
    case 'X':
      out = Terminate{};
      break;
    case 'F':
      return FunctionCall{};
    case 'd':
    case 'c':
    case 'f':
      return CopyLeftover{};
    default:
      return std::unexpected(UserError("08P01", "invalid frontend message type {}", int(uint8_t(frame.type))));
  }
  if (!in.AtEnd())
    return std::unexpected(UserError("08P01", "invalid message format (type {})", int(uint8_t(frame.type))));
  auto bad_kind = [](char kind) { return kind != 'S' && kind != 'P'; };
  if (auto* d = std::get_if<Describe>(&out); d && bad_kind(d->kind)) {
    return std::unexpected(UserError("08P01", "invalid DESCRIBE message subtype {}", int(uint8_t(d->kind))));
  }
  if (auto* c = std::get_if<Close>(&out); c && bad_kind(c->kind)) {
    return std::unexpected(UserError("08P01", "invalid CLOSE message subtype {}", int(uint8_t(c->kind))));
  }
  return out;
}

std::optional<size_t> InvalidUtf8At(std::string_view text) {
  size_t i = 0, n = text.size();
  auto byte = [&](size_t at) { return uint8_t(text[at]); };
  while (i < n) {
    uint8_t b = byte(i);
    if (b == 0) return i;
    if (b < 0x80) {
      i++;
      continue;
    }
    size_t length = b >= 0xc2 && b <= 0xdf ? 2 : (b & 0xf0) == 0xe0 ? 3 : b >= 0xf0 && b <= 0xf4 ? 4 : 0;
    if (length == 0 || i + length > n) return i;
    for (size_t k = 1; k < length; k++) {
      if ((byte(i + k) & 0xc0) != 0x80) return i;
    }
    // Overlong forms, surrogates, beyond U+10FFFF.
    uint8_t second = byte(i + 1);
    if ((b == 0xe0 && second < 0xa0) || (b == 0xed && second > 0x9f) || (b == 0xf0 && second < 0x90) ||
        (b == 0xf4 && second > 0x8f)) {
      return i;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace tidewater::pgwire
