#include "tidewater/io/s3_server_test.h"
#include <csignal>
#include <cstdlib>
#include <filesystem>
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

/// Sends a request without a body; true on a status of 2xx.
bool Ask(int port, const std::string& request) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = Loopback(port);
  char answer[16] = "";
  bool ok = connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0 &&
            write(fd, request.data(), request.size()) == ssize_t(request.size()) && read(fd, answer, 12) > 9;
  close(fd);
  return ok && answer[9] == '2';
}

struct Server {
  pid_t pid = -1;
  int port = 0;

  Server() {
    std::string deps;
    if (const char* d = std::getenv("TIDEWATER_DEPS")) {
      deps = d;
    } else if (const char* cache = std::getenv("XDG_CACHE_HOME")) {
      deps = std::string(cache) + "/tidewater";
    } else if (const char* home = std::getenv("HOME")) {
      deps = std::string(home) + "/.cache/tidewater";
    }
    std::string program = deps + "/venv/bin/moto_server";
    if (!std::filesystem::exists(program)) return;
    port = FreePort();
    std::string text = std::to_string(port);
    pid_t parent = getpid();
    pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      int null = open("/dev/null", O_RDWR);
      dup2(null, 1);
      dup2(null, 2);
      execl(program.c_str(), program.c_str(), "-H", "127.0.0.1", "-p", text.c_str(), nullptr);
      _exit(127);
    }
    for (int i = 0; i < 600; i++) {
      if (Ask(port, "PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1:" + text +
                        "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=test/20300101/us-east-1/s3/aws4_request, "
                        "SignedHeaders=host, Signature=0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
        return;
      usleep(100'000);
    }
    TW_CHECK(false, "moto_server did not come up on port {}", port);
  }
  ~Server() {
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
};
}  // namespace

std::map<std::string, std::string> S3ServerForTests::Options() {
  static Server server;
  if (server.pid < 0) return {};
  return {{"s3.endpoint", "http://127.0.0.1:" + std::to_string(server.port)},
          {"s3.access-key-id", "test"},
          {"s3.secret-access-key", "test"},
          {"s3.region", "us-east-1"}};
}

}  // namespace tidewater::io
