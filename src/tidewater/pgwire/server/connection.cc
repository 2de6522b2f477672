#include "tidewater/pgwire/server/connection.h"
#include <algorithm>
#include <charconv>
#include "tidewater/base/clock.h"
#include "tidewater/base/log.h"
#include "tidewater/base/metrics.h"
#include "tidewater/pgwire/protocol/backend.h"
#include "tidewater/pgwire/server/parameter.h"
#include "tidewater/pgwire/server/pg_type.h"
#include "tidewater/pgwire/server/row_encoder.h"

namespace tidewater::pgwire {
namespace {

constexpr size_t kFlushBytes = 64 * 1024;
constexpr size_t kEncodeRows = 256;
constexpr size_t kStatementsMax = 10'000;
constexpr size_t kPortalsMax = 10'000;

/// Settings that clients are told of, with the values that hold when the session says nothing.
constexpr std::pair<const char*, const char*> kReported[] = {
    {"server_version", "15.0"},
    {"server_encoding", "UTF8"},
    {"client_encoding", "UTF8"},
    {"application_name", ""},
    {"is_superuser", "on"},
    {"session_authorization", "tidewater"},
    {"DateStyle", "ISO, MDY"},
    {"IntervalStyle", "postgres"},
    {"TimeZone", "UTC"},
    {"integer_datetimes", "on"},
    {"standard_conforming_strings", "on"},
    {"in_hot_standby", "off"},
    {"default_transaction_read_only", "off"},
};

Error Closed() { return EnvError(ErrorKind::kUnavailable, "the client closed the connection"); }

std::string_view TrimSql(std::string_view sql) {
  auto drop = [](char c) { return std::isspace(uint8_t(c)) || c == ';'; };
  while (!sql.empty() && drop(sql.front())) sql.remove_prefix(1);
  while (!sql.empty() && drop(sql.back())) sql.remove_suffix(1);
  return sql;
}

std::string_view TakeWord(std::string_view& sql) {
  sql = TrimSql(sql);
  size_t n = 0;
  while (n < sql.size() && !std::isspace(uint8_t(sql[n]))) n++;
  auto word = sql.substr(0, n);
  sql.remove_prefix(n);
  return word;
}

/// DEALLOCATE [PREPARE] NAME | ALL -> the name, "*" for ALL; "" for anything else.
std::string DeallocatedName(std::string_view sql) {
  if (sql.size() > 300) return {};
  auto is = [](std::string_view word, const char* keyword) {
    return duckdb::StringUtil::CIEquals(std::string(word), keyword);
  };
  if (!is(TakeWord(sql), "deallocate")) return {};
  auto name = TakeWord(sql);
  if (is(name, "prepare")) name = TakeWord(sql);
  if (name.empty() || !TrimSql(sql).empty()) return {};
  if (is(name, "all")) return "*";
  if (name.size() >= 2 && name.front() == '"' && name.back() == '"')
    return std::string(name.substr(1, name.size() - 2));
  return duckdb::StringUtil::Lower(std::string(name));
}

/// "-c a=b --c=d" with backslashes before spaces, as libpq's `options` holds settings.
std::vector<std::pair<std::string, std::string>> ParseOptions(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      word.push_back(text[++i]);
    } else if (std::isspace(uint8_t(text[i]))) {
      if (!word.empty()) words.push_back(std::exchange(word, {}));
    } else {
      word.push_back(text[i]);
    }
  }
  if (!word.empty()) words.push_back(word);
  std::vector<std::pair<std::string, std::string>> out;
  for (size_t i = 0; i < words.size(); i++) {
    std::string setting = words[i];
    if (setting == "-c" && i + 1 < words.size()) {
      setting = words[++i];
    } else if (setting.starts_with("-c") || setting.starts_with("--")) {
      setting = setting.substr(2);
    } else {
      continue;
    }
    auto equals = setting.find('=');
    if (equals == setting.npos || equals == 0) continue;
    auto name = setting.substr(0, equals);
    std::replace(name.begin(), name.end(), '-', '_');
    out.emplace_back(name, setting.substr(equals + 1));
  }
  return out;
}

int CharactersBefore(std::string_view text) {
  return int(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

bool IsIn(std::string_view tag, std::initializer_list<const char*> list) {
  return std::any_of(list.begin(), list.end(), [&](auto* t) { return tag == t; });
}

std::optional<Error> CheckUtf8(std::string_view text) {
  auto at = InvalidUtf8At(text);
  if (!at) return std::nullopt;
  return UserError("22021", "invalid byte sequence for encoding \"UTF8\": 0x{:02x}", uint8_t(text[*at]));
}

struct Metrics {
  prometheus::Counter& statements =
      metrics::Counter("tidewater_pgwire_statements_total", "Statements that PostgreSQL clients ran");
  prometheus::Counter& errors = metrics::Counter("tidewater_pgwire_errors_total", "Errors sent to PostgreSQL clients");
  prometheus::Counter& refused =
      metrics::Counter("tidewater_pgwire_refused_total", "Connections refused: wrong password or too many");
  prometheus::Counter& rows = metrics::Counter("tidewater_pgwire_rows_total", "Rows sent to PostgreSQL clients");
  prometheus::Gauge& connections =
      metrics::Gauge("tidewater_pgwire_connections", "Open sessions of PostgreSQL clients");
};
Metrics& Metric() {
  static Metrics m;
  return m;
}

}  // namespace

Connection::~Connection() {
  if (registered_) context_.cancels.Remove(key_);
  // Cursors and statements go before the session that they belong to.
  portals_.clear();
  statements_.clear();
  if (session_) {
    session_.reset();
    context_.sessions_open--;
    Metric().connections.Set(double(context_.sessions_open.load()));
  }
}

void Connection::Run() {
  Status end;
  try {
    auto opened = Open();
    if (!opened) {
      end = std::unexpected(opened.error());
    } else if (*opened) {
      end = Serve();
    }
  } catch (std::exception& e) {
    log::error("a client connection ended by an exception: {}", e.what());
    end = std::unexpected(EnvError(ErrorKind::kInternal, "internal error, the connection is closed"));
  }
  if (end || transport_.gone()) return;
  PutError(out_, end.error(), "FATAL");
  transport_.WriteLast(out_);
}

// --- Opening

Result<bool> Connection::Open() {
  int64_t deadline = MonotonicMicros() + context_.options.authentication_timeout_ms * 1000;
  bool asked_tls = false, asked_gss = false;
  while (true) {
    auto frame = Receive(false, kStartupBytesMax, deadline);
    if (!frame) return std::unexpected(frame.error());
    TW_ASSIGN(auto startup, ParseStartup(frame->body));
    switch (startup.kind) {
      case Startup::Kind::kCancel:
        context_.cancels.Cancel({startup.process_id, startup.secret_key});
        return false;
      case Startup::Kind::kGssEncryption:
        if (std::exchange(asked_gss, true)) return std::unexpected(UserError("08P01", "GSSENCRequest was sent twice"));
        TW_TRY(transport_.Write("N"));
        break;
      case Startup::Kind::kSsl:
        if (std::exchange(asked_tls, true)) return std::unexpected(UserError("08P01", "SSLRequest was sent twice"));
        // What a client sends before the answer would be read as if it were encrypted.
        if (reader_.pending() > 0)
          return std::unexpected(UserError("08P01", "received unencrypted data after SSL request"));
        TW_TRY(transport_.Write(context_.tls ? "S" : "N"));
        if (context_.tls) TW_TRY(transport_.StartTls(context_.tls, deadline));
        break;
      case Startup::Kind::kSession: {
        std::vector<std::string> unknown;
        for (auto& [name, value] : startup.parameters) {
          if (name.starts_with("_pq_.")) unknown.push_back(name);
        }
        if (startup.minor_version > 0 || !unknown.empty()) PutNegotiateProtocolVersion(out_, unknown);
        if (startup.Get("user").empty()) {
          return std::unexpected(UserError("28000", "no PostgreSQL user name specified in startup packet"));
        }
        auto replication = startup.Get("replication");
        if (!replication.empty() && !IsIn(replication, {"0", "false", "off", "no"})) {
          return std::unexpected(EnvError(ErrorKind::kUnsupported, "replication connections are not supported"));
        }
        if (context_.options.verifier) TW_TRY(Authenticate());
        TW_TRY(StartSession(startup));
        return true;
      }
    }
  }
}

Status Connection::Authenticate() {
  int64_t deadline = MonotonicMicros() + context_.options.authentication_timeout_ms * 1000;
  auto response = [&]() -> Result<std::string_view> {
    auto frame = Receive(true, kAuthenticationBytesMax, deadline);
    if (!frame) return std::unexpected(frame.error());
    if (frame->type != 'p')
      return std::unexpected(
          UserError("08P01", "expected SASL response, got message type {}", int(uint8_t(frame->type))));
    return frame->body;
  };
  auto exchange = [&]() -> Status {
    PutAuthenticationSasl(out_, {ScramServer::kMechanism});
    TW_ASSIGN(auto body, response());
    TW_ASSIGN(auto initial, ParseSaslInitialResponse(body));
    if (initial.mechanism != ScramServer::kMechanism || !initial.data) {
      return std::unexpected(UserError("08P01", "client selected an invalid SASL authentication mechanism"));
    }
    ScramServer scram(*context_.options.verifier);
    TW_ASSIGN(auto first, scram.First(*initial.data));
    PutAuthenticationSaslContinue(out_, first);
    TW_ASSIGN(auto proof, response());
    TW_ASSIGN(auto final, scram.Final(proof));
    PutAuthenticationSaslFinal(out_, final);
    return {};
  };
  auto status = exchange();
  if (!status && !transport_.gone()) {
    Metric().refused.Increment();
    log::warn("a client was refused: {}", status.error().message);
    transport_.Pause(context_.options.failed_authentication_delay_ms);
  }
  return status;
}

Status Connection::StartSession(const Startup& startup) {
  // Counted only now, so that connections without a password cannot fill the places of those that have one.
  if (context_.sessions_open.fetch_add(1) >= context_.options.connections_max) {
    context_.sessions_open--;
    Metric().refused.Increment();
    return std::unexpected(UserError("53300", "sorry, too many clients already"));
  }
  engine::SessionOptions options;
  options.user = startup.Get("user");
  options.database = startup.Get("database");
  if (options.database.empty()) options.database = options.user;
  options.application_name = startup.Get("application_name");
  try {
    session_ = context_.sessions(options);
  } catch (...) {
    context_.sessions_open--;
    throw;
  }
  Metric().connections.Set(double(context_.sessions_open.load()));

  auto settings = ParseOptions(startup.Get("options"));
  for (auto& [name, value] : startup.parameters) {
    if (!IsIn(name, {"user", "database", "options", "replication"}) && !name.starts_with("_pq_.")) {
      settings.emplace_back(name, value);
    }
  }
  PutAuthenticationOk(out_);
  for (auto& [name, value] : settings) {
    auto set = session_->Set(name, value);
    if (set) continue;
    if (duckdb::StringUtil::CIEquals(name, "client_encoding")) return set;
    PutNotice(out_, {"WARNING", set.error().sqlstate, set.error().message, set.error().detail, set.error().hint, 0});
  }
  ReportSettings(true);
  key_ = context_.cancels.Add(&running_);
  registered_ = true;
  PutBackendKeyData(out_, key_.process_id, key_.secret);
  PutNotices();
  PutReady();
  return {};
}

void Connection::ReportSettings(bool all) {
  for (auto& [name, fallback] : kReported) {
    auto value = session_->Setting(name);
    if (value.empty()) value = fallback;
    auto [known, added] = reported_.try_emplace(name, value);
    if (!all && known->second == value) continue;
    known->second = value;
    PutParameterStatus(out_, name, value);
  }
}

// --- Messages

Status Connection::FlushOut() {
  if (out_.empty()) return {};
  auto status = transport_.Write(out_);
  if (out_.capacity() > 16 * kFlushBytes) {
    std::string().swap(out_);
  } else {
    out_.clear();
  }
  return status;
}

Status Connection::FlushIfLarge() { return out_.size() >= kFlushBytes ? FlushOut() : Status(); }

Result<Frame> Connection::Receive(bool typed, size_t body_max, int64_t deadline_us) {
  while (true) {
    TW_ASSIGN(auto frame, reader_.Next(typed, body_max));
    if (frame) return *frame;
    TW_TRY(FlushOut());
    TW_ASSIGN(auto bytes, transport_.Read(deadline_us));
    if (bytes.empty()) return std::unexpected(Closed());
    reader_.Append(bytes);
  }
}

Result<char> Connection::PeekType() {
  while (true) {
    if (auto type = reader_.PeekType()) return *type;
    TW_TRY(FlushOut());
    TW_ASSIGN(auto bytes, transport_.Read(0));
    if (bytes.empty()) return std::unexpected(Closed());
    reader_.Append(bytes);
  }
}

Status Connection::Serve() {
  while (true) {
    TW_ASSIGN(auto frame, Receive(true, kMessageBytesMax, 0));
    TW_ASSIGN(auto message, ParseFrontend(frame));
    if (std::holds_alternative<Terminate>(message)) return {};
    Status status;
    if (std::holds_alternative<Sync>(message)) {
      status = OnSync();
    } else if (skip_to_sync_) {
      continue;
    } else {
      try {
        if (auto* query = std::get_if<Query>(&message)) {
          status = OnQuery(std::string(query->sql));
        } else if (auto* parse = std::get_if<Parse>(&message)) {
          status = OnParse(*parse);
        } else if (auto* bind = std::get_if<Bind>(&message)) {
          status = OnBind(*bind);
        } else if (auto* describe = std::get_if<Describe>(&message)) {
          status = OnDescribe(*describe);
        } else if (auto* execute = std::get_if<Execute>(&message)) {
          status = OnExecute(*execute);
        } else if (auto* close = std::get_if<Close>(&message)) {
          status = OnClose(*close);
        } else if (std::holds_alternative<Flush>(message)) {
          status = FlushOut();
        } else if (std::holds_alternative<FunctionCall>(message)) {
          OnError(EnvError(ErrorKind::kUnsupported, "the function call protocol is not supported"));
          PutReady();
        }
      } catch (std::bad_alloc&) {
        status = std::unexpected(UserError("53200", "out of memory"));
      } catch (std::exception& e) {
        log::error("a statement ended by an exception: {}", e.what());
        status = std::unexpected(EnvError(ErrorKind::kInternal, "internal error: {}", e.what()));
      }
      if (!status && !transport_.gone() && status.error().sqlstate != "57P01") {
        bool simple = std::holds_alternative<Query>(message);
        OnError(std::move(status).error());
        skip_to_sync_ = !simple;
        if (simple) PutReady();
        status = {};
      }
    }
    TW_TRY(status);
    TW_TRY(FlushIfLarge());
  }
}

void Connection::PutReady() { PutReadyForQuery(out_, char(session_->transaction_status())); }

Status Connection::OnSync() {
  skip_to_sync_ = false;
  auto ended = EndImplicit();
  if (!ended) {
    if (transport_.gone()) return ended;
    OnError(std::move(ended).error());
  }
  // Portals live as long as their transaction.
  if (session_->transaction_status() == engine::TransactionStatus::kIdle) portals_.clear();
  PutReady();
  return {};
}

Status Connection::OnParse(const Parse& message) {
  if (auto bad = CheckUtf8(message.sql)) return std::unexpected(*bad);
  std::string name(message.name);
  if (!name.empty() && statements_.contains(name)) {
    return std::unexpected(UserError("42P05", "prepared statement \"{}\" already exists", name));
  }
  if (statements_.size() >= kStatementsMax) {
    return std::unexpected(UserError("54000", "a connection can hold {} prepared statements", kStatementsMax));
  }
  statements_.erase(name);
  TW_ASSIGN(auto prepared, Prepare(std::string(message.sql), message.parameter_oids));
  statements_[name] = std::move(prepared);
  PutBare(out_, '1');
  return {};
}

Status Connection::OnBind(const Bind& message) {
  auto found = statements_.find(std::string(message.statement));
  if (found == statements_.end()) {
    return std::unexpected(message.statement.empty()
                               ? UserError("26000", "unnamed prepared statement does not exist")
                               : UserError("26000", "prepared statement \"{}\" does not exist", message.statement));
  }
  std::string name(message.portal);
  if (!name.empty() && portals_.contains(name)) {
    return std::unexpected(UserError("42P03", "cursor \"{}\" already exists", name));
  }
  if (portals_.size() >= kPortalsMax)
    return std::unexpected(UserError("54000", "a connection can hold {} cursors", kPortalsMax));
  Portal portal;
  portal.prepared = found->second;
  auto& prepared = *portal.prepared;
  if (message.values.size() != prepared.oids.size()) {
    return std::unexpected(UserError("08P01",
                                     "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                                     message.values.size(), message.statement, prepared.oids.size()));
  }
  for (size_t i = 0; i < message.values.size(); i++) {
    auto& target = prepared.statement->parameters[i];
    if (!message.values[i]) {
      portal.values.emplace_back(target);
      continue;
    }
    auto value = DecodeParameter(prepared.oids[i], FormatOf(message.parameter_formats, i) == 1, *message.values[i],
                                 target, Zone());
    if (!value) return std::unexpected(std::move(value.error()).WithDetail(fmt::format("Parameter ${}.", i + 1)));
    portal.values.push_back(std::move(*value));
  }
  size_t columns = prepared.statement ? prepared.statement->columns.size() : 0;
  if (message.result_formats.size() > 1 && message.result_formats.size() != columns) {
    return std::unexpected(UserError("08P01", "bind message has {} result formats but query has {} columns",
                                     message.result_formats.size(), columns));
  }
  portal.formats = message.result_formats;
  portals_.erase(name);
  portals_.emplace(name, std::move(portal));
  PutBare(out_, '2');
  return {};
}

Status Connection::OnDescribe(const Describe& message) {
  std::string name(message.name);
  const Prepared* prepared = nullptr;
  std::vector<int16_t> formats;
  if (message.kind == 'S') {
    auto found = statements_.find(name);
    if (found == statements_.end())
      return std::unexpected(UserError("26000", "prepared statement \"{}\" does not exist", name));
    prepared = found->second.get();
    PutParameterDescription(out_, prepared->oids);
  } else {
    auto found = portals_.find(name);
    if (found == portals_.end()) return std::unexpected(UserError("34000", "portal \"{}\" does not exist", name));
    prepared = found->second.prepared.get();
    formats = found->second.formats;
  }
  if (prepared->statement && !prepared->statement->columns.empty()) {
    PutRowDescription(out_, DescribeColumns(prepared->statement->columns, formats));
  } else {
    PutBare(out_, 'n');
  }
  return {};
}

Status Connection::OnExecute(const Execute& message) {
  auto found = portals_.find(std::string(message.portal));
  if (found == portals_.end())
    return std::unexpected(UserError("34000", "portal \"{}\" does not exist", message.portal));
  bool suspended = false;
  TW_TRY(ExecutePortal(found->second, message.rows_max, false, suspended));
  return {};
}

Status Connection::OnClose(const Close& message) {
  std::string name(message.name);
  if (message.kind == 'S') {
    statements_.erase(name);
  } else {
    portals_.erase(name);
  }
  PutBare(out_, '3');
  return {};
}

Status Connection::OnQuery(const std::string& sql) {
  if (auto bad = CheckUtf8(sql)) return std::unexpected(*bad);
  TW_ASSIGN(auto parts, session_->Split(sql));
  if (parts.empty()) PutBare(out_, 'I');
  size_t from = 0;
  for (auto& part : parts) {
    auto at = sql.find(part, from);
    auto status = RunSimple(part, parts.size() > 1);
    if (!status) {
      auto error = std::move(status).error();
      if (error.position > 0 && at != sql.npos) error.position += CharactersBefore(std::string_view(sql).substr(0, at));
      return std::unexpected(std::move(error));
    }
    if (at != sql.npos) from = at + part.size();
  }
  TW_TRY(EndImplicit());
  if (session_->transaction_status() == engine::TransactionStatus::kIdle) portals_.clear();
  PutReady();
  return {};
}

// --- Statements

Result<std::shared_ptr<Connection::Prepared>> Connection::Prepare(const std::string& sql,
                                                                  const std::vector<uint32_t>& oids) {
  auto out = std::make_shared<Prepared>();
  out->sql = sql;
  if (auto name = DeallocatedName(sql); name == "*" || statements_.contains(name)) {
    if (!name.empty()) {
      out->deallocate = name;
      out->tag = name == "*" ? "DEALLOCATE ALL" : "DEALLOCATE";
      return out;
    }
  }
  // Only a text with a semicolon inside can be more than one statement.
  if (TrimSql(sql).find(';') != std::string_view::npos) {
    TW_ASSIGN(auto parts, session_->Split(sql));
    if (parts.size() > 1) {
      return std::unexpected(UserError("42601", "cannot insert multiple commands into a prepared statement"));
    }
  }
  std::vector<LogicalType> declared;
  for (auto oid : oids) declared.push_back(TypeOfOid(oid));
  TW_TRY(Guarded([&]() -> Status {
    TW_ASSIGN(out->statement, session_->Prepare(sql, declared));
    return {};
  }));
  out->tag = out->statement->tag;
  if (out->tag.starts_with("COPY")) {
    return std::unexpected(
        EnvError(ErrorKind::kUnsupported, "COPY is not supported").WithHint("Use INSERT, or a source."));
  }
  for (size_t i = 0; i < out->statement->parameters.size(); i++) {
    bool known = i < oids.size() && oids[i] != 0 && oids[i] != 705;
    out->oids.push_back(known ? oids[i] : PgTypeOf(out->statement->parameters[i]).oid);
  }
  return out;
}

Status Connection::RunSimple(const std::string& sql, bool batch) {
  TW_ASSIGN(auto prepared, Prepare(sql, {}));
  if (!prepared->oids.empty()) {
    return std::unexpected(UserError("42P02", "there is no parameter $1"));
  }
  Portal portal;
  portal.prepared = std::move(prepared);
  bool already_done = false;
  if (portal.prepared->deallocate.empty()) TW_TRY(JoinImplicit(portal.prepared->tag, batch, already_done));
  if (already_done) {
    PutCommandComplete(out_, portal.prepared->tag);
    return {};
  }
  bool suspended = false;
  return ExecutePortal(portal, 0, true, suspended);
}

Status Connection::ExecutePortal(Portal& portal, int32_t rows_max, bool describe, bool& suspended) {
  auto prepared = portal.prepared;
  if (!prepared->deallocate.empty()) return Deallocate(prepared->deallocate);
  if (prepared->statement->empty) {
    PutBare(out_, 'I');
    return {};
  }
  if (portal.done) {
    if (prepared->statement->columns.empty()) return std::unexpected(UserError("55000", "portal cannot be run anew"));
    PutCommandComplete(out_, "SELECT 0");
    return {};
  }
  if (!portal.cursor && !describe) {
    // A pipeline of several statements is one transaction up to its Sync; one that Sync follows needs none of its own.
    bool more_follow = false, already_done = false;
    if (implicit_ || session_->transaction_status() == engine::TransactionStatus::kIdle) {
      TW_ASSIGN(auto next, PeekType());
      more_follow = next != 'S';
    }
    TW_TRY(JoinImplicit(prepared->tag, more_follow, already_done));
    if (already_done) {
      portal.done = true;
      PutCommandComplete(out_, prepared->tag);
      return {};
    }
  }
  std::string tag;
  auto status = Guarded([&]() -> Status {
    if (!portal.cursor) {
      Metric().statements.Increment();
      TW_ASSIGN(portal.cursor, session_->Execute(*prepared->statement, portal.values));
      auto& columns = portal.cursor->columns;
      if (describe) {
        if (!columns.empty()) PutRowDescription(out_, DescribeColumns(columns, {}));
      } else {
        auto& told = prepared->statement->columns;
        bool same = std::equal(columns.begin(), columns.end(), told.begin(), told.end(),
                               [](auto& a, auto& b) { return a.type == b.type; });
        if (!same) {
          return std::unexpected(EnvError(ErrorKind::kUnsupported, "cached plan must not change result type"));
        }
      }
    }
    return FetchRows(portal, rows_max, suspended);
  });
  PutNotices();
  if (!status) {
    portal.done = true;
    portal.cursor.reset();
    portal.chunk.reset();
    return status;
  }
  if (suspended) {
    PutBare(out_, 's');
    return {};
  }
  tag = portal.cursor->CommandTag();
  portal.done = true;
  portal.cursor.reset();
  portal.chunk.reset();
  AfterStatement(tag);
  PutCommandComplete(out_, tag);
  return {};
}

Status Connection::FetchRows(Portal& portal, int32_t rows_max, bool& suspended) {
  auto& zone = Zone();
  uint64_t left = rows_max > 0 ? uint64_t(rows_max) : std::numeric_limits<uint64_t>::max();
  while (true) {
    if (!portal.chunk || portal.next_row >= portal.chunk->size()) {
      TW_ASSIGN(portal.chunk, portal.cursor->Next());
      portal.next_row = 0;
      if (!portal.chunk) return {};
      continue;
    }
    size_t n = std::min<uint64_t>({kEncodeRows, portal.chunk->size() - portal.next_row, left});
    TW_TRY(EncodeRows(*portal.chunk, portal.next_row, portal.next_row + n, portal.formats, zone, out_));
    portal.next_row += n;
    left -= n;
    Metric().rows.Increment(double(n));
    TW_TRY(FlushIfLarge());
    if (left == 0) {
      suspended = true;
      return {};
    }
  }
}

Status Connection::JoinImplicit(const std::string& tag, bool more_follow, bool& already_done) {
  already_done = false;
  if (IsIn(tag, {"BEGIN", "START TRANSACTION"})) {
    // The transaction that the protocol opened becomes the client's.
    already_done = std::exchange(implicit_, false);
    return {};
  }
  if (IsIn(tag, {"COMMIT", "ROLLBACK", "END", "ABORT"})) {
    implicit_ = false;
    return {};
  }
  if (IsIn(tag, {"SELECT", "INSERT", "UPDATE", "DELETE"})) {
    if (!more_follow || implicit_ || session_->transaction_status() != engine::TransactionStatus::kIdle) return {};
    TW_TRY(RunUtility("BEGIN"));
    implicit_ = true;
    return {};
  }
  if (IsIn(tag, {"SHOW", "SET", "RESET", "EXPLAIN"})) return {};
  return EndImplicit();
}

Status Connection::EndImplicit() {
  if (!std::exchange(implicit_, false)) return {};
  return RunUtility("COMMIT");
}

Status Connection::RunUtility(const char* sql) {
  return Guarded([&]() -> Status {
    TW_ASSIGN(auto statement, session_->Prepare(sql, {}));
    TW_ASSIGN(auto cursor, session_->Execute(*statement, {}));
    while (true) {
      TW_ASSIGN(auto chunk, cursor->Next());
      if (!chunk) return {};
    }
  });
}

Status Connection::Deallocate(const std::string& name) {
  // The portal that runs this keeps what it needs by itself.
  if (name == "*") {
    statements_.clear();
    PutCommandComplete(out_, "DEALLOCATE ALL");
  } else {
    statements_.erase(name);
    PutCommandComplete(out_, "DEALLOCATE");
  }
  return {};
}

Status Connection::Guarded(const std::function<Status()>& work) {
  int64_t timeout_ms = ParseTimeoutMs(session_->Setting("statement_timeout"));
  running_.Begin(session_.get());
  uint64_t ticket = timeout_ms > 0 ? context_.timer.Arm(timeout_ms, &running_) : 0;
  Status status;
  std::exception_ptr thrown;
  try {
    status = work();
  } catch (...) {
    thrown = std::current_exception();
  }
  auto reason = running_.End();
  if (ticket != 0) context_.timer.Disarm(ticket);
  if (thrown) std::rethrow_exception(thrown);
  if (!status && status.error().sqlstate == "57014" && reason == RunningStatement::Reason::kTimeout) {
    status.error().message = "canceling statement due to statement timeout";
  }
  return status;
}

void Connection::OnError(Error error) {
  Metric().errors.Increment();
  PutNotices();
  PutError(out_, error);
  portals_.clear();
  if (std::exchange(implicit_, false)) {
    if (auto rolled_back = RunUtility("ROLLBACK"); !rolled_back) {
      log::error("a rollback failed: {}", rolled_back.error().ToString());
    }
  } else {
    session_->Fail();
  }
}

void Connection::PutNotices() {
  for (auto& n : session_->TakeNotices()) PutNotice(out_, {n.severity, n.sqlstate, n.message, n.detail, n.hint, 0});
}

void Connection::AfterStatement(const std::string& tag) {
  if (tag.starts_with("DISCARD ALL")) statements_.clear();
  if (tag.starts_with("SET") || tag.starts_with("RESET") || tag.starts_with("DISCARD") || tag.starts_with("ROLLBACK")) {
    ReportSettings(false);
  }
}

const TimeZone& Connection::Zone() {
  auto name = session_->Setting("TimeZone");
  if (name != zone_name_) {
    auto zone = name.empty() ? TimeZone::Utc() : TimeZone::Find(name);
    if (!zone) {
      zone = TimeZone::Utc();
      auto text = fmt::format("the time zone \"{}\" is not in this system's tz database", name);
      PutNotice(out_, {"WARNING", "22023", text, "timestamptz values are shown in UTC.", {}, 0});
    }
    zone_ = zone;
    zone_name_ = name;
  }
  return *zone_;
}

}  // namespace tidewater::pgwire
