#include "tidewater/base/listen_address.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace tidewater {

static bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family == AF_INET6) {
    auto& ip = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(&ip) || (IN6_IS_ADDR_V4MAPPED(&ip) && ip.s6_addr[12] == 127);
  }
  return false;
}

Result<ListenAddress> ListenAddress::Parse(const std::string& text) {
  ListenAddress out;
  auto colon = text.rfind(':');
  auto bad = [&] { return UserError("22023", "\"{}\" is not an address to listen on: expected HOST:PORT", text); };
  if (colon == std::string::npos || colon == 0) return std::unexpected(bad());
  out.host_ = text.substr(0, colon);
  if (out.host_.front() == '[' && out.host_.back() == ']') {
    out.host_ = out.host_.substr(1, out.host_.size() - 2);
  } else if (out.host_.find(':') != std::string::npos) {
    return std::unexpected(bad().WithHint("Write an IPv6 address in brackets: [::1]:4566"));
  }
  auto* end = text.data() + text.size();
  auto parsed = std::from_chars(text.data() + colon + 1, end, out.port_);
  if (parsed.ec != std::errc() || parsed.ptr != end || out.host_.empty()) return std::unexpected(bad());

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (int rc = getaddrinfo(out.host_.c_str(), std::to_string(out.port_).c_str(), &hints, &found); rc != 0) {
    return std::unexpected(UserError("22023", "the host \"{}\" has no address: {}", out.host_, gai_strerror(rc)));
  }
  out.loopback_only_ = true;
  for (auto* a = found; a != nullptr; a = a->ai_next) out.loopback_only_ &= IsLoopback(a->ai_addr);
  auto* bytes = reinterpret_cast<const char*>(found->ai_addr);
  out.sockaddr_.assign(bytes, bytes + found->ai_addrlen);
  freeaddrinfo(found);
  return out;
}

Result<int> ListenAddress::Listen(int backlog) const {
  auto* address = reinterpret_cast<const sockaddr*>(sockaddr_.data());
  auto fail = [&] {
    return std::unexpected(EnvError(ErrorKind::kIo, "cannot listen on {}: {}", ToString(), std::strerror(errno)));
  };
  int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail();
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, address, socklen_t(sockaddr_.size())) != 0 || listen(fd, backlog) != 0) {
    auto error = fail();
    close(fd);
    return error;
  }
  return fd;
}

uint16_t ListenAddress::BoundPort(int socket_fd) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  if (bound.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return ntohs(reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port);
}

std::string ListenAddress::ToString() const {
  return host_.find(':') == std::string::npos ? fmt::format("{}:{}", host_, port_)
                                              : fmt::format("[{}]:{}", host_, port_);
}

}  // namespace tidewater
