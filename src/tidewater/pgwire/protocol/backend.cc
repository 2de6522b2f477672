#include "tidewater/pgwire/protocol/backend.h"

namespace tidewater::pgwire {
namespace {

void PutReport(std::string& out, char type, const Report& report) {
  MessageScope message(out, type);
  auto field = [&](char code, std::string_view text) {
    if (text.empty()) return;
    out.push_back(code);
    PutCString(out, text);
  };
  field('S', report.severity);
  field('V', report.severity);
  field('C', report.sqlstate);
  field('M', report.message.empty() ? "unknown error" : report.message);
  field('D', report.detail);
  field('H', report.hint);
  if (report.position > 0) field('P', std::to_string(report.position));
  out.push_back('\0');
}

void PutAuthentication(std::string& out, int32_t code, std::string_view data) {
  MessageScope message(out, 'R');
  PutInt32(out, code);
  out.append(data);
}

}  // namespace

void PutAuthenticationOk(std::string& out) { PutAuthentication(out, 0, {}); }

void PutAuthenticationSasl(std::string& out, const std::vector<std::string>& mechanisms) {
  MessageScope message(out, 'R');
  PutInt32(out, 10);
  for (auto& m : mechanisms) PutCString(out, m);
  out.push_back('\0');
}
void PutAuthenticationSaslContinue(std::string& out, std::string_view data) { PutAuthentication(out, 11, data); }
void PutAuthenticationSaslFinal(std::string& out, std::string_view data) { PutAuthentication(out, 12, data); }

void PutNegotiateProtocolVersion(std::string& out, const std::vector<std::string>& unknown_options) {
  MessageScope message(out, 'v');
  PutInt32(out, 3 << 16);
  PutInt32(out, int32_t(unknown_options.size()));
  for (auto& o : unknown_options) PutCString(out, o);
}

void PutParameterStatus(std::string& out, std::string_view name, std::string_view value) {
  MessageScope message(out, 'S');
  PutCString(out, name);
  PutCString(out, value);
}

void PutBackendKeyData(std::string& out, uint32_t process_id, uint32_t secret_key) {
  MessageScope message(out, 'K');
  PutInt32(out, int32_t(process_id));
  PutInt32(out, int32_t(secret_key));
}

void PutReadyForQuery(std::string& out, char transaction_status) {
  MessageScope message(out, 'Z');
  out.push_back(transaction_status);
}

void PutError(std::string& out, const Report& report) { PutReport(out, 'E', report); }
void PutError(std::string& out, const Error& error, std::string_view severity) {
  PutReport(out, 'E', {severity, error.sqlstate, error.message, error.detail, error.hint, error.position});
}
void PutNotice(std::string& out, const Report& report) { PutReport(out, 'N', report); }

void PutParameterDescription(std::string& out, const std::vector<uint32_t>& oids) {
  MessageScope message(out, 't');
  PutInt16(out, int16_t(uint16_t(oids.size())));
  for (auto oid : oids) PutInt32(out, int32_t(oid));
}

void PutRowDescription(std::string& out, const std::vector<ColumnDescription>& columns) {
  MessageScope message(out, 'T');
  PutInt16(out, int16_t(uint16_t(columns.size())));
  for (auto& c : columns) {
    PutCString(out, c.name);
    PutInt32(out, 0);  // no table of pg_class stands behind it
    PutInt16(out, 0);
    PutInt32(out, int32_t(c.type_oid));
    PutInt16(out, c.type_bytes);
    PutInt32(out, c.type_modifier);
    PutInt16(out, c.format);
  }
}

void PutCommandComplete(std::string& out, std::string_view tag) {
  MessageScope message(out, 'C');
  PutCString(out, tag);
}

void PutBare(std::string& out, char type) { MessageScope message(out, type); }

}  // namespace tidewater::pgwire
