// A private PostgreSQL server for tests and benches: a fresh cluster in a temporary folder, on 127.0.0.1 and a Unix
// socket, with logical replication on. It dies with this process.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

struct pg_conn;

namespace tidewater::test {

class PostgresServer {
 public:
  using Rows = std::vector<std::vector<std::optional<std::string>>>;

  /// Settings go to the server's command line ("wal_level" = "replica"). Throws std::runtime_error when no server can
  /// be started; nullptr when PostgreSQL is not installed.
  static std::unique_ptr<PostgresServer> Start(const std::map<std::string, std::string>& settings = {});
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;

  int port() const { return port_; }
  const std::string& directory() const { return directory_; }
  static std::string BinDirectory();
  /// Over TCP a password is asked for: user postgres, password "secret". Over the socket none is.
  std::string password() const { return "secret"; }
  std::string SocketDsn(const std::string& database = "postgres") const;

  /// Statements over one connection that is kept; throws with PostgreSQL's message.
  Rows Run(const std::string& sql, const std::string& database = "postgres");
  /// The first value of the first row, "" when there is none.
  std::string Value(const std::string& sql, const std::string& database = "postgres");

  /// `immediate`: as in a crash.
  void Stop(bool immediate = false);
  void StartAgain(const std::map<std::string, std::string>& settings = {});

 private:
  PostgresServer() = default;
  void Launch();
  pg_conn* Connection(const std::string& database);
  void Disconnect();

  std::string directory_;
  int port_ = 0;
  int pid_ = -1;
  std::map<std::string, std::string> settings_;
  std::map<std::string, pg_conn*> connections_;
};

}  // namespace tidewater::test
