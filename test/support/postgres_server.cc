#include "support/postgres_server.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <thread>
#include <libpq-fe.h>

namespace tidewater::test {
namespace {

/// Runs a program as the user `postgres` when we are root: the server refuses root.
int Spawn(const std::vector<std::string>& args, const std::string& output) {
  std::vector<char*> argv;
  for (auto& a : args) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  passwd* user = geteuid() == 0 ? getpwnam("postgres") : nullptr;
  int pid = fork();
  if (pid != 0) return pid;
  int fd = open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  dup2(fd, 1);
  dup2(fd, 2);
  if (user && (initgroups("postgres", user->pw_gid) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
    _exit(126);
  prctl(PR_SET_PDEATHSIG, SIGQUIT);
  setenv("LC_ALL", "C.UTF-8", 1);
  if (chdir("/") != 0) _exit(126);
  execv(argv[0], argv.data());
  _exit(127);
}

int FreePort() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t n = sizeof a;
  if (bind(fd, reinterpret_cast<sockaddr*>(&a), n) != 0 || getsockname(fd, reinterpret_cast<sockaddr*>(&a), &n) != 0)
    throw std::runtime_error("no free port");
  close(fd);
  return ntohs(a.sin_port);
}

}  // namespace

std::string PostgresServer::BinDirectory() {
  glob_t g;
  std::string found;
  if (glob("/usr/lib/postgresql/*/bin/initdb", 0, nullptr, &g) == 0) found = g.gl_pathv[g.gl_pathc - 1];
  globfree(&g);
  return found.empty() ? found : found.substr(0, found.rfind('/'));
}

std::unique_ptr<PostgresServer> PostgresServer::Start(const std::map<std::string, std::string>& settings) {
  auto bin = BinDirectory();
  if (bin.empty()) return nullptr;
  std::unique_ptr<PostgresServer> s(new PostgresServer);
  std::string name = std::filesystem::temp_directory_path() / "tidewater-postgres-XXXXXX";
  if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
  s->directory_ = name;
  if (auto* user = geteuid() == 0 ? getpwnam("postgres") : nullptr)
    if (chown(name.c_str(), user->pw_uid, user->pw_gid) != 0) throw std::runtime_error("chown failed");
  s->port_ = FreePort();
  s->settings_ = settings;
  auto password_file = name + "/password";
  FILE* f = fopen(password_file.c_str(), "w");
  fputs("secret\n", f);
  fclose(f);
  chmod(password_file.c_str(), 0644);
  int pid = Spawn({bin + "/initdb", "-D", name + "/data", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
                   "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=" + password_file},
                  name + "/initdb.log");
  int status;
  waitpid(pid, &status, 0);
  if (status != 0) throw std::runtime_error("initdb failed, see " + name + "/initdb.log");
  s->Launch();
  return s;
}

void PostgresServer::Launch() {
  std::map<std::string, std::string> settings = {{"wal_level", "logical"},
                                                 {"max_replication_slots", "20"},
                                                 {"max_wal_senders", "20"},
                                                 {"listen_addresses", "127.0.0.1"},
                                                 {"port", std::to_string(port_)},
                                                 {"unix_socket_directories", directory_},
                                                 {"fsync", "off"},
                                                 {"shared_buffers", "256MB"},
                                                 {"max_wal_size", "4GB"},
                                                 {"autovacuum", "off"}};
  for (auto& [k, v] : settings_) settings[k] = v;
  std::vector<std::string> args = {BinDirectory() + "/postgres", "-D", directory_ + "/data"};
  for (auto& [k, v] : settings) args.insert(args.end(), {"-c", k + "=" + v});
  pid_ = Spawn(args, directory_ + "/server.log");
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < deadline) {
    if (PQping(SocketDsn().c_str()) == PQPING_OK) return;
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  throw std::runtime_error("PostgreSQL did not start, see " + directory_ + "/server.log");
}

PostgresServer::~PostgresServer() {
  Stop(true);
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

void PostgresServer::Stop(bool immediate) {
  Disconnect();
  if (pid_ < 0) return;
  kill(pid_, immediate ? SIGQUIT : SIGINT);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void PostgresServer::StartAgain(const std::map<std::string, std::string>& settings) {
  Stop();
  for (auto& [k, v] : settings) settings_[k] = v;
  Launch();
}

std::string PostgresServer::SocketDsn(const std::string& database) const {
  return "host=" + directory_ + " port=" + std::to_string(port_) + " user=postgres dbname=" + database;
}

pg_conn* PostgresServer::Connection(const std::string& database) {
  auto& c = connections_[database];
  if (c && PQstatus(c) == CONNECTION_OK) return c;
  if (c) PQfinish(c);
  c = PQconnectdb(SocketDsn(database).c_str());
  if (PQstatus(c) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(c));
  PQsetNoticeProcessor(c, [](void*, const char*) {}, nullptr);
  return c;
}

void PostgresServer::Disconnect() {
  for (auto& [database, c] : connections_) PQfinish(c);
  connections_.clear();
}

PostgresServer::Rows PostgresServer::Run(const std::string& sql, const std::string& database) {
  auto* r = PQexec(Connection(database), sql.c_str());
  auto status = PQresultStatus(r);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY) {
    std::string message = PQresultErrorMessage(r);
    PQclear(r);
    throw std::runtime_error(message + " in: " + sql.substr(0, 200));
  }
  Rows rows;
  for (int i = 0; i < PQntuples(r); i++) {
    auto& row = rows.emplace_back();
    for (int c = 0; c < PQnfields(r); c++) {
      if (PQgetisnull(r, i, c))
        row.emplace_back();
      else
        row.emplace_back(PQgetvalue(r, i, c));
    }
  }
  PQclear(r);
  return rows;
}

std::string PostgresServer::Value(const std::string& sql, const std::string& database) {
  auto rows = Run(sql, database);
  return rows.empty() || rows[0].empty() ? "" : rows[0][0].value_or("");
}

}  // namespace tidewater::test
