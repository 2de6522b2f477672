#include "tidewater/pgwire/server/transport.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include "tidewater/base/clock.h"

namespace tidewater::pgwire {

Error Transport::Gone(const char* how) {
  gone_ = true;
  return EnvError(ErrorKind::kUnavailable, "{}", how);
}

Transport::Transport(int socket_fd, int stop_fd) : socket_(socket_fd), stop_(stop_fd) {
  fcntl(socket_, F_SETFL, fcntl(socket_, F_GETFL) | O_NONBLOCK);
  int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(socket_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

Transport::~Transport() {
  if (tls_) {
    SSL_shutdown(tls_);
    SSL_free(tls_);
  }
  close(socket_);
}

Transport::Io Transport::TlsOutcome(int result) {
  int error = SSL_get_error(tls_, result);
  ERR_clear_error();
  switch (error) {
    case SSL_ERROR_WANT_READ:
      return Io::kWantRead;
    case SSL_ERROR_WANT_WRITE:
      return Io::kWantWrite;
    default:
      return Io::kClosed;
  }
}

Transport::Io Transport::ReadSome(size_t& n) {
  if (tls_) {
    ERR_clear_error();
    int result = SSL_read_ex(tls_, buffer_.data(), buffer_.size(), &n);
    return result == 1 ? Io::kDone : TlsOutcome(result);
  }
  while (true) {
    auto got = recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (got > 0) {
      n = size_t(got);
      return Io::kDone;
    }
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? Io::kWantRead : Io::kClosed;
  }
}

Transport::Io Transport::WriteSome(std::string_view bytes, size_t& n) {
  if (tls_) {
    ERR_clear_error();
    int result = SSL_write_ex(tls_, bytes.data(), bytes.size(), &n);
    return result == 1 ? Io::kDone : TlsOutcome(result);
  }
  while (true) {
    auto sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      n = size_t(sent);
      return Io::kDone;
    }
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == EWOULDBLOCK ? Io::kWantWrite : Io::kClosed;
  }
}

Status Transport::Wait(Io io, int64_t deadline_us, bool heed_stop) {
  pollfd fds[2] = {{socket_, short(io == Io::kWantRead ? POLLIN : POLLOUT), 0}, {stop_, POLLIN, 0}};
  while (true) {
    int timeout_ms = -1;
    if (deadline_us > 0) timeout_ms = int(std::max<int64_t>(0, (deadline_us - MonotonicMicros() + 999) / 1000));
    int ready = poll(fds, heed_stop ? 2 : 1, timeout_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return std::unexpected(Gone("the client closed the connection"));
    if (ready == 0) return std::unexpected(Gone("the client did not answer in time"));
    if (heed_stop && fds[1].revents != 0) {
      return std::unexpected(
          Error{ErrorKind::kCancelled, "57P01", "terminating connection due to administrator command", {}, {}, 0});
    }
    return {};
  }
}

Status Transport::StartTls(ssl_ctx_st* context, int64_t deadline_us) {
  tls_ = SSL_new(context);
  if (!tls_ || SSL_set_fd(tls_, socket_) != 1)
    return std::unexpected(EnvError(ErrorKind::kInternal, "cannot set up TLS"));
  SSL_set_mode(tls_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  while (true) {
    ERR_clear_error();
    int result = SSL_accept(tls_);
    if (result == 1) return {};
    auto io = TlsOutcome(result);
    if (io == Io::kClosed) {
      // Nothing more can be said over this connection, in either way.
      SSL_free(tls_);
      tls_ = nullptr;
      return std::unexpected(Gone("the TLS handshake failed"));
    }
    TW_TRY(Wait(io, deadline_us, true));
  }
}

Result<std::string_view> Transport::Read(int64_t deadline_us) {
  while (true) {
    size_t n = 0;
    auto io = ReadSome(n);
    if (io == Io::kDone) return std::string_view(buffer_.data(), n);
    if (io == Io::kClosed) {
      gone_ = true;
      return std::string_view();
    }
    TW_TRY(Wait(io, deadline_us, true));
  }
}

Status Transport::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    size_t n = 0;
    auto io = WriteSome(bytes, n);
    if (io == Io::kClosed) return std::unexpected(Gone("the client closed the connection"));
    if (io == Io::kDone) {
      bytes.remove_prefix(n);
    } else {
      TW_TRY(Wait(io, 0, true));
    }
  }
  return {};
}

void Transport::WriteLast(std::string_view bytes) {
  int64_t deadline_us = MonotonicMicros() + 1'000'000;
  while (!bytes.empty()) {
    size_t n = 0;
    auto io = WriteSome(bytes, n);
    if (io == Io::kClosed) return;
    if (io == Io::kDone) {
      bytes.remove_prefix(n);
    } else if (!Wait(io, deadline_us, false)) {
      return;
    }
  }
}

bool Transport::Pause(int64_t milliseconds) {
  pollfd stop{stop_, POLLIN, 0};
  return poll(&stop, 1, int(milliseconds)) > 0;
}

}  // namespace tidewater::pgwire
