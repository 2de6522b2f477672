// Where a server listens: "127.0.0.1:4566", "[::1]:4566", "localhost:4566", "0.0.0.0:4566".
#pragma once
#include <cstdint>
#include <string>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater {

class ListenAddress {
 public:
  /// 22023 when the text is no host:port or the host has no address. Port 0 lets the system choose.
  static Result<ListenAddress> Parse(const std::string& text);
  const std::string& host() const { return host_; }
  uint16_t port() const { return port_; }
  /// Whether every address of the host is a loopback one: only this machine can connect.
  bool loopback_only() const { return loopback_only_; }
  /// A listening TCP socket (close-on-exec, SO_REUSEADDR), bound to the host's first address. 58030 when it cannot be
  /// had.
  Result<int> Listen(int backlog) const;
  /// The port that a listening socket got.
  static uint16_t BoundPort(int socket_fd);
  std::string ToString() const;

 private:
  std::string host_;
  uint16_t port_ = 0;
  bool loopback_only_ = false;
  std::vector<char> sockaddr_;  ///< the first address, as the system wrote it
};

}  // namespace tidewater
