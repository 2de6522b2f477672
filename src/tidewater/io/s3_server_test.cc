#include "tidewater/io/s3_server_test.h"
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <vector>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tidewater/base/check.h"

namespace tidewater::io {
namespace {
sockaddr_in Loopback(int port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(uint16_t(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

int FreePort() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = Loopback(0);
  socklen_t n = sizeof a;
  bool ok =
      bind(fd, reinterpret_cast<sockaddr*>(&a), n) == 0 && getsockname(fd, reinterpret_cast<sockaddr*>(&a), &n) == 0;
  close(fd);
  TW_CHECK(ok, "no free port");
  return ntohs(a.sin_port);
}

/// Sends a request without a body; the status of the answer, 0 when there is none.
int Ask(int port, const std::string& request) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = Loopback(port);
  char answer[16] = "";
  bool ok = connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0 &&
            write(fd, request.data(), request.size()) == ssize_t(request.size()) && read(fd, answer, 12) > 9;
  close(fd);
  return ok ? std::atoi(answer + 9) : 0;
}

std::filesystem::path Deps() {
  if (const char* d = std::getenv("TIDEWATER_DEPS")) return d;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return std::filesystem::path(cache) / "tidewater";
  if (const char* home = std::getenv("HOME")) return std::filesystem::path(home) / ".cache/tidewater";
  return {};
}

constexpr char kAccessKey[] = "tests", kSecretKey[] = "tests-secret";

struct Server {
  pid_t pid = -1;
  int port = 0;
  std::filesystem::path folder;  ///< versitygw keeps its objects there, with extended attributes

  explicit Server(S3Kind kind) {
    auto program = Deps() / (kind == S3Kind::kMoto ? "venv/bin/moto_server" : "bin/versitygw");
    if (!std::filesystem::exists(program)) return;
    port = FreePort();
    auto host = "127.0.0.1:" + std::to_string(port);
    std::vector<std::string> arguments{program.string()};
    if (kind == S3Kind::kMoto) {
      arguments.insert(arguments.end(), {"-H", "127.0.0.1", "-p", std::to_string(port)});
    } else {
      auto pattern = (std::filesystem::temp_directory_path() / "tidewater-versitygw-XXXXXX").string();
      TW_CHECK(mkdtemp(pattern.data()), "no temporary folder");
      folder = pattern;
      std::filesystem::create_directories(folder / "objects" / "bucket");
      arguments.insert(arguments.end(),
                       {"--port", host, "--health", "/health", "--keep-alive", "posix", folder / "objects"});
    }
    std::vector<char*> argv;
    for (auto& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_t parent = getpid();
    pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      setenv("ROOT_ACCESS_KEY", kAccessKey, 1);
      setenv("ROOT_SECRET_KEY", kSecretKey, 1);
      int null = open("/dev/null", O_RDWR);
      dup2(null, 1);
      dup2(null, 2);
      execv(argv[0], argv.data());
      _exit(127);
    }
    // Moto takes any signature; a folder is a bucket of versitygw.
    auto request = kind == S3Kind::kMoto
                       ? "PUT /bucket HTTP/1.1\r\nHost: " + host +
                             "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + kAccessKey +
                             "/20300101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n"
                             "Content-Length: 0\r\nConnection: close\r\n\r\n"
                       : "GET /health HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
    for (int i = 0; i < 600; i++) {
      if (Ask(port, request) / 100 == 2) return;
      TW_CHECK(waitpid(pid, nullptr, WNOHANG) == 0, "{} ended", program.string());
      usleep(100'000);
    }
    TW_CHECK(false, "{} did not come up on port {}", program.string(), port);
  }
  ~Server() {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    if (!folder.empty()) std::filesystem::remove_all(folder);
  }
};
}  // namespace

std::map<std::string, std::string> S3ServerForTests::Options(S3Kind kind) {
  static std::map<S3Kind, Server> servers;
  auto& server = servers.try_emplace(kind, kind).first->second;
  if (server.pid < 0) return {};
  return {{"s3.endpoint", "http://127.0.0.1:" + std::to_string(server.port)},
          {"s3.access-key-id", kAccessKey},
          {"s3.secret-access-key", kSecretKey},
          {"s3.region", "us-east-1"}};
}

std::string S3ServerForTests::NotInstalled(S3Kind kind) {
  return kind == S3Kind::kMoto ? "moto_server is not installed: scripts/deps.sh"
                               : "versitygw is not installed: scripts/deps.sh builds it where there is a Go toolchain";
}

}  // namespace tidewater::io
