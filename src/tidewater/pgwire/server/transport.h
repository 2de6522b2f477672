// One client's socket, plain or TLS. Every wait also ends when the server stops.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include "tidewater/base/result.h"

struct ssl_st;
struct ssl_ctx_st;

namespace tidewater::pgwire {

/// Owned by the connection's thread. Errors: kUnavailable when the client is gone or a deadline passed, kCancelled with
/// SQLSTATE 57P01 when the server stops.
class Transport {
 public:
  /// Takes `socket_fd`. `stop_fd` becomes readable or hung up when the server stops.
  Transport(int socket_fd, int stop_fd);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  /// The server's half of the handshake.
  Status StartTls(ssl_ctx_st* context, int64_t deadline_us);
  bool encrypted() const { return tls_ != nullptr; }
  /// At least one byte, valid until the next call; empty when the client closed. `deadline_us` by MonotonicMicros(), 0
  /// = none.
  Result<std::string_view> Read(int64_t deadline_us);
  Status Write(std::string_view bytes);
  /// Whether a call found the client gone or too slow: nothing can be said to it any more.
  bool gone() const { return gone_; }
  /// What the client can still take within a second, also while the server stops.
  void WriteLast(std::string_view bytes);
  /// Waits; true when the server stops meanwhile.
  bool Pause(int64_t milliseconds);

 private:
  enum class Io { kDone, kClosed, kWantRead, kWantWrite };
  Io ReadSome(size_t& n);
  Io WriteSome(std::string_view bytes, size_t& n);
  Io TlsOutcome(int result);
  Status Wait(Io io, int64_t deadline_us, bool heed_stop);
  Error Gone(const char* how);

  int socket_, stop_;
  ssl_st* tls_ = nullptr;
  bool gone_ = false;
  std::array<char, 16384> buffer_;
};

}  // namespace tidewater::pgwire
