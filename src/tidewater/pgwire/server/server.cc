#include "tidewater/pgwire/server/server.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <fcntl.h>
#include <list>
#include <mutex>
#include <thread>
#include "tidewater/base/check.h"
#include "tidewater/base/log.h"
#include "tidewater/pgwire/protocol/backend.h"
#include "tidewater/pgwire/server/connection.h"

namespace tidewater::pgwire {

/// Places beyond connections_max for those that are still opening: cancel requests, passwords.
constexpr size_t kOpeningMax = 64;

struct Server::Impl {
  ServerContext context;
  int listener = -1;
  int stop_read = -1, stop_write = -1;  ///< a pipe: its closed end wakes every wait
  uint16_t port = 0;
  std::thread acceptor;
  std::mutex mutex;
  std::list<std::thread> threads;   ///< running
  std::list<std::thread> finished;  ///< to be joined

  void Accept();
  void Join(std::list<std::thread> which) {
    for (auto& t : which) t.join();
  }
  std::list<std::thread> TakeFinished() {
    std::lock_guard lock(mutex);
    return std::exchange(finished, {});
  }
  ~Impl() {
    if (listener >= 0) close(listener);
    if (stop_read >= 0) close(stop_read);
    if (stop_write >= 0) close(stop_write);
    if (context.tls) SSL_CTX_free(context.tls);
  }
};

static Result<ssl_ctx_st*> MakeTls(const ServerOptions& options) {
  auto fail = [&](const char* what) {
    char reason[256] = "unknown";
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    ERR_clear_error();
    return std::unexpected(UserError("22023", "{}: {}", what, reason));
  };
  auto* context = SSL_CTX_new(TLS_server_method());
  if (!context) return fail("cannot set up TLS");
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  Result<ssl_ctx_st*> out = context;
  if (SSL_CTX_use_certificate_chain_file(context, options.tls_certificate_file.c_str()) != 1) {
    out = fail("the TLS certificate file cannot be used");
  } else if (SSL_CTX_use_PrivateKey_file(context, options.tls_key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    out = fail("the TLS key file cannot be used");
  } else if (SSL_CTX_check_private_key(context) != 1) {
    out = fail("the TLS key does not belong to the certificate");
  }
  if (!out) SSL_CTX_free(context);
  return out;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { Stop(); }
uint16_t Server::port() const { return impl_->port; }
size_t Server::connections() const { return impl_->context.sessions_open; }

Status CheckReach(const ServerOptions& options) {
  if (!options.verifier && !options.address.loopback_only()) {
    return std::unexpected(
        UserError("22023", "listening on {} without a password would let everybody in who can reach it",
                  options.address.ToString())
            .WithHint("Set a password (--password-file or TIDEWATER_PASSWORD), or listen on 127.0.0.1."));
  }
  return {};
}

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, SessionFactory sessions) {
  TW_TRY(CheckReach(options));
  if (options.tls_certificate_file.empty() != options.tls_key_file.empty()) {
    return std::unexpected(UserError("22023", "TLS needs both a certificate file and a key file"));
  }
  auto impl = std::make_unique<Impl>();
  if (!options.tls_certificate_file.empty()) {
    TW_ASSIGN(impl->context.tls, MakeTls(options));
  }
  TW_ASSIGN(impl->listener, options.address.Listen(128));
  impl->port = ListenAddress::BoundPort(impl->listener);
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return std::unexpected(EnvError(ErrorKind::kIo, "no pipe: errno {}", errno));
  impl->stop_read = pipe_fds[0];
  impl->stop_write = pipe_fds[1];
  impl->context.options = std::move(options);
  impl->context.sessions = std::move(sessions);
  impl->acceptor = std::thread([raw = impl.get()] { raw->Accept(); });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

void Server::Impl::Accept() {
  pollfd fds[2] = {{listener, POLLIN, 0}, {stop_read, POLLIN, 0}};
  while (true) {
    if (poll(fds, 2, 1000) < 0 && errno != EINTR) break;
    if (fds[1].revents != 0) break;
    Join(TakeFinished());
    if ((fds[0].revents & POLLIN) == 0) continue;
    int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      // Out of descriptors: the clients that wait get their turn when others leave.
      if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(std::chrono::milliseconds(50));
      continue;
    }
    std::lock_guard lock(mutex);
    if (threads.size() >= context.options.connections_max + kOpeningMax) {
      std::string out;
      PutError(out, UserError("53300", "sorry, too many clients already"), "FATAL");
      (void)send(fd, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      close(fd);
      continue;
    }
    auto place = threads.emplace(threads.end());
    try {
      *place = std::thread([this, fd, place] {
        // OpenSSL writes without MSG_NOSIGNAL; a client that left must not end the process.
        sigset_t pipe_signal;
        sigemptyset(&pipe_signal);
        sigaddset(&pipe_signal, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
        {
          Connection(context, fd, stop_read).Run();
        }
        std::lock_guard lock(mutex);
        finished.splice(finished.end(), threads, place);
      });
    } catch (std::system_error&) {
      threads.erase(place);
      close(fd);
    }
  }
}

void Server::Stop() {
  if (!impl_ || impl_->stop_write < 0) return;
  close(std::exchange(impl_->stop_write, -1));
  impl_->acceptor.join();
  while (true) {
    impl_->Join(impl_->TakeFinished());
    {
      std::lock_guard lock(impl_->mutex);
      if (impl_->threads.empty() && impl_->finished.empty()) break;
    }
    // Again and again: a statement may begin between a look and the next.
    impl_->context.cancels.CancelAll();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  close(std::exchange(impl_->listener, -1));
}

}  // namespace tidewater::pgwire
