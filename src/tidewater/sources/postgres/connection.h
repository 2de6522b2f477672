// One libpq connection whose waiting can be interrupted, with PostgreSQL's errors as ours.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>
#include <libpq-fe.h>
#include "tidewater/base/result.h"
#include "tidewater/sources/postgres/options.h"

namespace tidewater::postgres {

/// Ends the waiting of a thread from another one. Any thread.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  /// For good: every wait from now on fails with kCancelled.
  void Stop();
  bool stopped() const { return stopped_.load(std::memory_order_acquire); }
  /// Once: the current or the next WaitSocket returns early.
  void Wake();
  /// Waits until the socket is readable (or writable), a wake, or the time is over.
  void WaitSocket(int fd, bool read, bool write, int timeout_ms);

 private:
  int event_ = -1;
  std::atomic<bool> stopped_{false};
};

/// The rows of a query as text.
using Rows = std::vector<std::vector<std::optional<std::string>>>;

class Connection {
 public:
  /// Errors: kAuthentication, kUnavailable, kUser (no such database), kCancelled.
  static Result<std::unique_ptr<Connection>> Open(const Options& options, bool replication, Interrupt& interrupt);
  ~Connection();
  Connection(const Connection&) = delete;

  /// One statement or several, the rows are the last one's; $1 to $9 stand for the parameters.
  Result<Rows> Query(const std::string& sql, const std::vector<std::string>& params = {});
  Status Execute(const std::string& sql);
  /// Runs COPY … TO STDOUT and calls on_data(std::span<const char>) -> Status for each piece.
  template <class OnData>
  Status CopyOut(const std::string& sql, OnData&& on_data) {
    TW_TRY(Send(sql, PGRES_COPY_OUT));
    while (true) {
      char* buffer = nullptr;
      int n = PQgetCopyData(pg_, &buffer, 1);
      if (n > 0) {
        Status status = on_data(std::span<const char>(buffer, size_t(n)));
        PQfreemem(buffer);
        TW_TRY(status);
        continue;
      }
      if (n == 0) {
        TW_TRY(WaitReadable());
        continue;
      }
      if (n == -2) return std::unexpected(LastError());
      return Finish();
    }
  }
  /// START_REPLICATION; the caller then uses raw().
  Status StartReplication(const std::string& command) { return Send(command, PGRES_COPY_BOTH); }

  std::string Identifier(const std::string& name) const;
  std::string Literal(const std::string& value) const;
  /// "server_version" as a number: 150019.
  int version() const { return PQserverVersion(pg_); }
  std::string Parameter(const char* name) const;
  PGconn* raw() { return pg_; }
  /// The connection's last error as it stands.
  Error LastError() const;

 private:
  Connection(PGconn* pg, Interrupt& interrupt) : pg_(pg), interrupt_(interrupt) {}
  Status Send(const std::string& sql, ExecStatusType expected);
  Status WaitReadable();
  Result<PGresult*> NextResult();
  Status Finish();

  PGconn* pg_;
  Interrupt& interrupt_;
};

/// The error of a failed result, its kind by SQLSTATE.
Error ErrorOf(const PGresult* result);

}  // namespace tidewater::postgres
