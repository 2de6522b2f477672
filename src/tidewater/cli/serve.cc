#include "tidewater/cli/serve.h"
#include <signal.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>
#include "tidewater/base/block_memory.h"
#include "tidewater/base/log.h"
#include "tidewater/console/console.h"
#include "tidewater/engine/engine.h"
#include "tidewater/engine/session.h"
#include "tidewater/lake/warehouse.h"
#include "tidewater/pgwire/server/server.h"
#include "tidewater/sinks/blackhole/blackhole.h"
#include "tidewater/sinks/iceberg/iceberg_sink.h"
#include "tidewater/sources/nexmark/nexmark.h"
#include "tidewater/sources/postgres/connector.h"

namespace tidewater::cli {
namespace {

void RegisterConnectors() {
  SourceRegistry::Get().Register(PostgresCdcConnector());
  RegisterNexmark();
  RegisterIcebergSink();
  RegisterBlackhole();
}

/// A secret from the first line of a file, or from the environment; empty when neither is given.
Result<Secret> ReadSecret(const std::string& file, const char* variable) {
  if (file.empty()) {
    auto* value = std::getenv(variable);
    return Secret(value ? value : "");
  }
  std::ifstream in(file);
  std::string line;
  if (!in || !std::getline(in, line)) {
    return std::unexpected(EnvError(ErrorKind::kIo, "cannot read a secret from the first line of \"{}\"", file));
  }
  if (line.ends_with('\r')) line.pop_back();
  if (line.empty()) return std::unexpected(UserError("22023", "the first line of \"{}\" is empty", file));
  return Secret(line);
}

/// The clear password, or its verifier as PostgreSQL writes it (SCRAM-SHA-256$…).
Result<std::optional<pgwire::ScramVerifier>> ReadVerifier(const ServeOptions& options) {
  TW_ASSIGN(auto password, ReadSecret(options.password_file, "TIDEWATER_PASSWORD"));
  if (password.empty()) return std::nullopt;
  if (password.Reveal().starts_with("SCRAM-SHA-256$")) {
    TW_ASSIGN(auto verifier, pgwire::ScramVerifier::FromText(password.Reveal()));
    return verifier;
  }
  TW_ASSIGN(auto verifier, pgwire::ScramVerifier::FromPassword(password));
  return verifier;
}

/// Whether the address can be had, before the state is opened: opening it fences off the process that uses it now.
Status TryListen(const ListenAddress& address) {
  TW_ASSIGN(int fd, address.Listen(1));
  close(fd);
  return {};
}

void Say(const char* what, const ListenAddress& address, uint16_t port) {
  auto host = address.host().find(':') == std::string::npos ? address.host() : "[" + address.host() + "]";
  std::printf("listening on %s:%d (%s)\n", host.c_str(), int(port), what);
  std::fflush(stdout);
}

Status Run(const ServeOptions& options, const sigset_t& stop_signals) {
  pgwire::ServerOptions pg;
  TW_ASSIGN(pg.address, ListenAddress::Parse(options.listen));
  TW_ASSIGN(pg.verifier, ReadVerifier(options));
  pg.tls_certificate_file = options.tls_certificate_file;
  pg.tls_key_file = options.tls_key_file;
  pg.connections_max = options.connections_max;
  TW_TRY(pgwire::CheckReach(pg));
  TW_TRY(TryListen(pg.address));

  console::ConsoleOptions http;
  TW_ASSIGN(http.address, ListenAddress::Parse(options.http));
  TW_ASSIGN(http.token, ReadSecret(options.http_token_file, "TIDEWATER_HTTP_TOKEN"));
  TW_TRY(console::CheckReach(http));
  TW_TRY(TryListen(http.address));

  RegisterConnectors();
  engine::EngineOptions engine_options;
  engine_options.state = options.state;
  engine_options.workers = options.workers;
  engine_options.checkpoint_interval_ms = options.checkpoint_interval_ms;
  auto memory = options.memory_bytes ? options.memory_bytes : MachineMemoryBytes() / 10 * 7;
  engine_options.memory_bytes = memory;
  engine_options.query_memory_bytes = memory / 4;
  engine_options.checkpoint_bytes = std::min(engine_options.checkpoint_bytes, memory / 32);
  engine_options.sink_log_bytes_max = std::min(engine_options.sink_log_bytes_max, memory / 8);
  engine_options.scratch_directory = options.scratch_directory;
  engine_options.freeze = options.freeze;
  engine_options.query_threads = std::max(1, options.workers);
  log::info("opening state={} memory={} MB", options.state, memory >> 20);
  TW_ASSIGN(auto engine, engine::Engine::Open(std::move(engine_options)));
  TW_ASSIGN(auto warehouse, lake::OpenWarehouse(lake::DefaultWarehouse(options.state), {}));
  auto catalog = std::make_shared<iceberg::RestCatalogServer>(warehouse, http.token);
  http.catalog = [catalog](const iceberg::RestRequest& request) { return catalog->Handle(request); };
  TW_TRY(engine->Start());

  TW_ASSIGN(auto console, console::Console::Start(http));
  TW_ASSIGN(auto server, pgwire::Server::Start(pg, [&](const engine::SessionOptions& session) {
              return engine::OpenSession(*engine, session);
            }));
  Say("PostgreSQL", pg.address, server->port());
  Say("HTTP: /metrics, /healthz, /iceberg", http.address, console->port());

  int signal = 0;
  sigwait(&stop_signals, &signal);
  log::info("stopping on signal={}", signal);
  // A second signal ends the process at once; what is durable stays so.
  pthread_sigmask(SIG_UNBLOCK, &stop_signals, nullptr);
  server->Stop();
  // Idle keep-alive connections hold the HTTP side for a moment; the last checkpoint need not wait for them.
  std::thread http_stop([&] { console->Stop(); });
  engine->Stop();
  http_stop.join();
  log::info("stopped");
  return {};
}

}  // namespace

int Serve(const ServeOptions& options) {
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  ::signal(SIGPIPE, SIG_IGN);
  // Before any thread starts, so that all inherit it and sigwait alone sees these.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
  auto status = Run(options, stop_signals);
  if (status) return 0;
  auto& error = status.error();
  std::fprintf(stderr, "tidewater: %s\n", error.ToString().c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "hint: %s\n", error.hint.c_str());
  return 1;
}

}  // namespace tidewater::cli
