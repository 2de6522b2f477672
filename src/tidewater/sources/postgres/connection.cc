#include "tidewater/sources/postgres/connection.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"

namespace tidewater::postgres {
namespace {

constexpr int kConnectTimeoutMs = 10'000;

ErrorKind KindOf(std::string_view state) {
  auto starts = [&](std::string_view s) { return state.substr(0, s.size()) == s; };
  if (starts("28")) return ErrorKind::kAuthentication;
  if (state.empty() || starts("08") || starts("53") || starts("57P") || state == "55006" || starts("40") ||
      starts("58") || starts("XX"))
    return ErrorKind::kUnavailable;
  if (state == "57014") return ErrorKind::kCancelled;
  return ErrorKind::kUser;
}

std::string Trim(std::string s) {
  while (!s.empty() && isspace(uint8_t(s.back()))) s.pop_back();
  return s;
}

/// libpq gives no SQLSTATE for a refused connection, but prints it when asked to be verbose: "FATAL:  28P01: …".
std::string TakeSqlState(std::string& message) {
  if (auto at = message.find("\nLOCATION:"); at != std::string::npos) {
    auto end = message.find('\n', at + 1);
    message.erase(at, end == std::string::npos ? end : end - at);
  }
  for (size_t at = message.find(":  "); at != std::string::npos; at = message.find(":  ", at + 1)) {
    auto code = message.substr(at + 3, 5);
    if (code.size() == 5 && message.compare(at + 8, 2, ": ") == 0 &&
        code.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos) {
      message.erase(at + 1, 8);
      return code;
    }
  }
  return {};
}

struct ResultDeleter {
  void operator()(PGresult* r) const { PQclear(r); }
};
using ResultPtr = std::unique_ptr<PGresult, ResultDeleter>;

}  // namespace

Interrupt::Interrupt() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { TW_CHECK(event_ >= 0); }
Interrupt::~Interrupt() { close(event_); }
void Interrupt::Stop() {
  stopped_.store(true, std::memory_order_release);
  Wake();
}
void Interrupt::Wake() {
  uint64_t one = 1;
  [[maybe_unused]] auto n = write(event_, &one, sizeof one);
}
void Interrupt::WaitSocket(int fd, bool read_ready, bool write_ready, int timeout_ms) {
  if (stopped()) return;
  pollfd p[2] = {{event_, POLLIN, 0}, {fd, short((read_ready ? POLLIN : 0) | (write_ready ? POLLOUT : 0)), 0}};
  poll(p, fd >= 0 ? 2 : 1, timeout_ms);
  if (p[0].revents & POLLIN) {
    uint64_t count;
    [[maybe_unused]] auto n = ::read(event_, &count, sizeof count);
  }
}

Error ErrorOf(const PGresult* result) {
  auto field = [&](int code) {
    auto* s = PQresultErrorField(result, code);
    return std::string(s ? s : "");
  };
  Error e;
  e.sqlstate = field(PG_DIAG_SQLSTATE);
  e.kind = KindOf(e.sqlstate);
  e.message = field(PG_DIAG_MESSAGE_PRIMARY);
  e.detail = field(PG_DIAG_MESSAGE_DETAIL);
  e.hint = field(PG_DIAG_MESSAGE_HINT);
  if (e.message.empty()) e.message = Trim(PQresultErrorMessage(result));
  if (e.message.empty()) e.message = "the connection to PostgreSQL was lost";
  if (e.sqlstate.empty()) e.sqlstate = "08006";
  return e;
}

Error Connection::LastError() const {
  if (interrupt_.stopped()) return EnvError(ErrorKind::kCancelled, "stopped");
  std::string message = Trim(PQerrorMessage(pg_));
  auto state = TakeSqlState(message);
  auto error = EnvError(KindOf(state), "{}", message.empty() ? "the connection to PostgreSQL was lost" : message);
  error.sqlstate = state.empty() ? "08006" : state;
  if (state.empty() && PQconnectionNeedsPassword(pg_))
    error.kind = ErrorKind::kAuthentication, error.sqlstate = "28P01";
  return error;
}

Result<std::unique_ptr<Connection>> Connection::Open(const Options& o, bool replication, Interrupt& interrupt) {
  std::vector<const char*> keys, values;
  auto set = [&](const char* key, const char* value) {
    keys.push_back(key);
    values.push_back(value);
  };
  set("host", o.host.c_str());
  set("port", o.port.c_str());
  set("user", o.user.c_str());
  set("dbname", o.database.c_str());
  if (!o.password.empty()) set("password", o.password.Reveal().c_str());
  set("sslmode", o.ssl_mode.c_str());
  if (!o.ssl_root_cert.empty()) set("sslrootcert", o.ssl_root_cert.c_str());
  set("application_name", "tidewater");
  set("fallback_application_name", "tidewater");
  set("client_encoding", "UTF8");
  set("keepalives_idle", "30");
  // Text forms of values must not depend on the server's settings.
  set("options",
      "-c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC -c extra_float_digits=3 -c bytea_output=hex "
      "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0");
  if (replication) set("replication", "database");
  keys.push_back(nullptr);
  values.push_back(nullptr);
  PGconn* pg = PQconnectStartParams(keys.data(), values.data(), 0);
  if (!pg) return std::unexpected(EnvError(ErrorKind::kInternal, "out of memory"));
  std::unique_ptr<Connection> c(new Connection(pg, interrupt));
  if (PQstatus(pg) == CONNECTION_BAD) return std::unexpected(c->LastError());
  PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
  PQsetNoticeProcessor(pg, [](void*, const char*) {}, nullptr);
  int64_t deadline = MonotonicMicros() + kConnectTimeoutMs * 1000ll;
  auto state = PGRES_POLLING_WRITING;
  while (state != PGRES_POLLING_OK) {
    int64_t left_ms = (deadline - MonotonicMicros()) / 1000;
    if (left_ms <= 0)
      return std::unexpected(
          EnvError(ErrorKind::kUnavailable, "connecting to {} port {} took longer than 10 s", o.host, o.port));
    interrupt.WaitSocket(PQsocket(pg), state == PGRES_POLLING_READING, state == PGRES_POLLING_WRITING, int(left_ms));
    if (interrupt.stopped()) return std::unexpected(EnvError(ErrorKind::kCancelled, "stopped"));
    pollfd p{PQsocket(pg), short(state == PGRES_POLLING_READING ? POLLIN : POLLOUT), 0};
    if (poll(&p, 1, 0) == 0) continue;
    state = PQconnectPoll(pg);
    if (state == PGRES_POLLING_FAILED) return std::unexpected(c->LastError());
  }
  PQsetErrorVerbosity(pg, PQERRORS_DEFAULT);
  if (PQserverVersion(pg) < 130000)
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "PostgreSQL {} is too old: 13 or newer is needed",
                                    c->Parameter("server_version")));
  return c;
}

Connection::~Connection() { PQfinish(pg_); }

std::string Connection::Parameter(const char* name) const {
  auto* v = PQparameterStatus(pg_, name);
  return v ? v : "";
}
std::string Connection::Identifier(const std::string& name) const {
  std::string out = "\"";
  for (char c : name) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}
std::string Connection::Literal(const std::string& value) const {
  bool escape = value.find('\\') != std::string::npos;
  std::string out = escape ? "E'" : "'";
  for (char c : value) {
    if (c == '\'' || c == '\\') out += c;
    out += c;
  }
  return out + "'";
}

Status Connection::WaitReadable() {
  interrupt_.WaitSocket(PQsocket(pg_), true, false, -1);
  if (interrupt_.stopped()) return std::unexpected(EnvError(ErrorKind::kCancelled, "stopped"));
  pollfd p{PQsocket(pg_), POLLIN, 0};
  if (poll(&p, 1, 0) > 0 && !PQconsumeInput(pg_)) return std::unexpected(LastError());
  return {};
}

Result<PGresult*> Connection::NextResult() {
  while (PQisBusy(pg_)) TW_TRY(WaitReadable());
  return PQgetResult(pg_);
}

Status Connection::Finish() {
  std::optional<Error> error;
  while (true) {
    TW_ASSIGN(PGresult * raw, NextResult());
    ResultPtr result(raw);
    if (!result) break;
    auto status = PQresultStatus(result.get());
    if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE) {
      if (!error) error = ErrorOf(result.get());
      if (PQstatus(pg_) == CONNECTION_BAD) break;
    }
  }
  if (error) return std::unexpected(*error);
  return {};
}

Status Connection::Send(const std::string& sql, ExecStatusType expected) {
  if (!PQsendQuery(pg_, sql.c_str())) return std::unexpected(LastError());
  TW_ASSIGN(PGresult * raw, NextResult());
  ResultPtr result(raw);
  if (!result) return std::unexpected(LastError());
  if (PQresultStatus(result.get()) == expected) return {};
  auto error = ErrorOf(result.get());
  if (PQstatus(pg_) == CONNECTION_OK) [[maybe_unused]]
    auto rest = Finish();
  return std::unexpected(error);
}

Result<Rows> Connection::Query(const std::string& sql, const std::vector<std::string>& params) {
  // Replication connections know only the simple protocol, so parameters become literals here.
  std::string text;
  for (size_t i = 0; i < sql.size(); i++) {
    size_t n = sql[i] == '$' && i + 1 < sql.size() && isdigit(uint8_t(sql[i + 1])) ? size_t(sql[i + 1] - '0') : 0;
    if (n == 0 || n > params.size()) {
      text += sql[i];
      continue;
    }
    text += Literal(params[n - 1]);
    i++;
  }
  if (!PQsendQuery(pg_, text.c_str())) return std::unexpected(LastError());
  Rows rows;
  std::optional<Error> error;
  while (true) {
    TW_ASSIGN(PGresult * raw, NextResult());
    ResultPtr result(raw);
    if (!result) break;
    switch (PQresultStatus(result.get())) {
      case PGRES_COMMAND_OK:
        break;
      case PGRES_TUPLES_OK: {
        rows.clear();
        int n = PQntuples(result.get()), columns = PQnfields(result.get());
        for (int i = 0; i < n; i++) {
          auto& row = rows.emplace_back();
          for (int c = 0; c < columns; c++) {
            if (PQgetisnull(result.get(), i, c))
              row.emplace_back();
            else
              row.emplace_back(std::string(PQgetvalue(result.get(), i, c), size_t(PQgetlength(result.get(), i, c))));
          }
        }
        break;
      }
      default:
        if (!error) error = ErrorOf(result.get());
        if (PQstatus(pg_) == CONNECTION_BAD) return std::unexpected(*error);
    }
  }
  if (error) return std::unexpected(*error);
  return rows;
}

Status Connection::Execute(const std::string& sql) {
  TW_TRY(Query(sql));
  return {};
}

}  // namespace tidewater::postgres
