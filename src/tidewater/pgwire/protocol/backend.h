// What the server sends, written into one growing buffer.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::pgwire {

/// Big-endian fields at the end of `out`.
inline void PutInt16(std::string& out, int16_t v) {
  uint16_t b = __builtin_bswap16(uint16_t(v));
  out.append(reinterpret_cast<const char*>(&b), 2);
}
inline void PutInt32(std::string& out, int32_t v) {
  uint32_t b = __builtin_bswap32(uint32_t(v));
  out.append(reinterpret_cast<const char*>(&b), 4);
}
inline void PutInt64(std::string& out, int64_t v) {
  uint64_t b = __builtin_bswap64(uint64_t(v));
  out.append(reinterpret_cast<const char*>(&b), 8);
}
inline void PutCString(std::string& out, std::string_view text) {
  out.append(text.substr(0, text.find('\0')));
  out.push_back('\0');
}
/// Overwrites four bytes at `at`.
inline void PatchInt32(std::string& out, size_t at, int32_t v) {
  uint32_t b = __builtin_bswap32(uint32_t(v));
  std::memcpy(out.data() + at, &b, 4);
}

/// Opens a message and writes its length when it goes out of scope.
class MessageScope {
 public:
  MessageScope(std::string& out, char type) : out_(out) {
    out_.push_back(type);
    at_ = out_.size();
    out_.append(4, '\0');
  }
  ~MessageScope() { PatchInt32(out_, at_, int32_t(out_.size() - at_)); }
  MessageScope(const MessageScope&) = delete;
  MessageScope& operator=(const MessageScope&) = delete;

 private:
  std::string& out_;
  size_t at_;
};

struct ColumnDescription {
  std::string name;
  uint32_t type_oid = 25;
  int16_t type_bytes = -1;  ///< pg_type.typlen
  int32_t type_modifier = -1;
  int16_t format = 0;
};

/// The fields of ErrorResponse and NoticeResponse that are sent.
struct Report {
  std::string_view severity;  ///< ERROR, FATAL, WARNING, NOTICE, ...
  std::string_view sqlstate, message, detail, hint;
  int position = 0;
};

void PutAuthenticationOk(std::string& out);
void PutAuthenticationSasl(std::string& out, const std::vector<std::string>& mechanisms);
void PutAuthenticationSaslContinue(std::string& out, std::string_view data);
void PutAuthenticationSaslFinal(std::string& out, std::string_view data);
void PutNegotiateProtocolVersion(std::string& out, const std::vector<std::string>& unknown_options);
void PutParameterStatus(std::string& out, std::string_view name, std::string_view value);
void PutBackendKeyData(std::string& out, uint32_t process_id, uint32_t secret_key);
void PutReadyForQuery(std::string& out, char transaction_status);
void PutError(std::string& out, const Report& report);
void PutError(std::string& out, const Error& error, std::string_view severity = "ERROR");
void PutNotice(std::string& out, const Report& report);
void PutParameterDescription(std::string& out, const std::vector<uint32_t>& oids);
void PutRowDescription(std::string& out, const std::vector<ColumnDescription>& columns);
void PutCommandComplete(std::string& out, std::string_view tag);
/// Messages without a body: '1' ParseComplete, '2' BindComplete, '3' CloseComplete, 'n' NoData, 'I' EmptyQueryResponse,
/// 's' PortalSuspended.
void PutBare(std::string& out, char type);

}  // namespace tidewater::pgwire
