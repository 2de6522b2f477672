// The PostgreSQL server side: listens, and gives each connection a thread and a session.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include "tidewater/base/listen_address.h"
#include "tidewater/base/result.h"
#include "tidewater/engine/session.h"
#include "tidewater/pgwire/protocol/scram.h"

namespace tidewater::pgwire {

struct ServerOptions {
  ListenAddress address;
  /// Without one, everybody who can connect is let in: only on loopback. Any user name is taken.
  std::optional<ScramVerifier> verifier;
  /// PEM files; both or none. With them clients may ask for TLS; without, SSLRequest is answered with no.
  std::string tls_certificate_file, tls_key_file;
  size_t connections_max = 200;
  int64_t authentication_timeout_ms = 30'000;
  int64_t failed_authentication_delay_ms = 500;
};

using SessionFactory = std::function<std::unique_ptr<engine::Session>(const engine::SessionOptions&)>;

/// The rule of Start about addresses beyond loopback.
Status CheckReach(const ServerOptions& options);

class Server {
 public:
  /// Returns listening. 22023 with a hint when the address reaches beyond loopback and there is no verifier, or when
  /// the TLS files cannot be used; 58030 when the address is taken.
  static Result<std::unique_ptr<Server>> Start(ServerOptions options, SessionFactory sessions);
  /// Stops as Stop() does.
  ~Server();
  /// The port, also when the system chose it.
  uint16_t port() const;
  size_t connections() const;
  /// No new connections; cancels what runs, tells clients 57P01, waits for their threads. One thread.
  void Stop();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidewater::pgwire
