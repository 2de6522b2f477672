#include "tidewater/console/console.h"
#include <httplib.h>
#include <openssl/crypto.h>
#include <thread>
#include "tidewater/base/log.h"
#include "tidewater/base/metrics.h"

namespace tidewater::console {
namespace {

constexpr size_t kBodyBytesMax = size_t{64} << 20;
constexpr size_t kThreads = 16;
/// An idle client's connection; also how long a stop may take.
constexpr time_t kKeepAliveSeconds = 2;
constexpr const char* kMount = "/iceberg";

bool SameBytes(const std::string& a, const std::string& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

struct Console::Impl {
  ConsoleOptions options;
  httplib::Server http;
  uint16_t port = 0;
  std::thread thread;

  bool Allowed(const httplib::Request& request, httplib::Response& response) const {
    if (options.token.empty() ||
        SameBytes(request.get_header_value("Authorization"), "Bearer " + options.token.Reveal())) {
      return true;
    }
    response.status = 401;
    response.set_header("WWW-Authenticate", "Bearer");
    response.set_content("a bearer token is required\n", "text/plain");
    return false;
  }

  void Catalog(const httplib::Request& request, httplib::Response& response) const {
    std::string_view target = request.target;
    target.remove_prefix(std::string_view(kMount).size());
    auto authorization = request.get_header_value("Authorization");
    auto answer = options.catalog({request.method, target, request.body, authorization});
    response.status = answer.status;
    // 204 has no body, and none is announced; for HEAD the library leaves the body away.
    if (!answer.body.empty()) response.set_content(answer.body, "application/json");
  }

  void Routes();
};

void Console::Impl::Routes() {
  http.Get("/", [this](auto&, httplib::Response& response) {
    response.set_content(options.catalog ? "Tidewater\n/metrics\n/healthz\n/iceberg (Iceberg REST catalog)\n"
                                         : "Tidewater\n/metrics\n/healthz\n",
                         "text/plain");
  });
  http.Get("/healthz", [this](auto&, httplib::Response& response) {
    auto health = options.health ? options.health() : Status();
    response.status = health ? 200 : 503;
    response.set_content(health ? "ok\n" : health.error().message + "\n", "text/plain");
  });
  http.Get("/metrics", [this](auto& request, httplib::Response& response) {
    if (Allowed(request, response)) response.set_content(metrics::Render(), "text/plain; version=0.0.4; charset=utf-8");
  });
  if (options.catalog) {
    auto handler = [this](const httplib::Request& request, httplib::Response& response) { Catalog(request, response); };
    constexpr const char* kPattern = "/iceberg/.*";
    http.Get(kPattern, handler);
    http.Post(kPattern, handler);
    http.Put(kPattern, handler);
    http.Delete(kPattern, handler);
  }
  http.set_exception_handler([](auto& request, httplib::Response& response, std::exception_ptr thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (std::exception& e) {
      log::error("{} {} ended by an exception: {}", request.method, request.path, e.what());
    } catch (...) {
      log::error("{} {} ended by an exception", request.method, request.path);
    }
    response.status = 500;
    response.set_content("internal error\n", "text/plain");
  });
}

Console::Console(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Console::~Console() { Stop(); }
uint16_t Console::port() const { return impl_->port; }

Status CheckReach(const ConsoleOptions& options) {
  if (options.token.empty() && !options.address.loopback_only()) {
    return std::unexpected(
        UserError("22023", "HTTP on {} without a token would let everybody in who can reach it",
                  options.address.ToString())
            .WithHint("Set a token (--http-token-file or TIDEWATER_HTTP_TOKEN), or listen on 127.0.0.1."));
  }
  return {};
}

Result<std::unique_ptr<Console>> Console::Start(ConsoleOptions options) {
  TW_TRY(CheckReach(options));
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  impl->Routes();
  auto& http = impl->http;
  http.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  http.set_payload_max_length(kBodyBytesMax);
  http.set_keep_alive_max_count(10'000);
  http.set_keep_alive_timeout(kKeepAliveSeconds);
  http.set_tcp_nodelay(true);
  // The library's default also sets SO_REUSEPORT: two processes would share the port without a word.
  http.set_socket_options([](auto socket) {
    int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  auto& address = impl->options.address;
  int port = address.port();
  if (port == 0) {
    port = http.bind_to_any_port(address.host());
  } else if (!http.bind_to_port(address.host(), port)) {
    port = -1;
  }
  if (port < 0) return std::unexpected(EnvError(ErrorKind::kIo, "cannot listen on {}", address.ToString()));
  impl->port = uint16_t(port);
  impl->thread = std::thread([raw = impl.get()] { raw->http.listen_after_bind(); });
  // stop() before the loop runs would be lost.
  while (!http.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return std::unique_ptr<Console>(new Console(std::move(impl)));
}

void Console::Stop() {
  if (!impl_ || !impl_->thread.joinable()) return;
  impl_->http.stop();
  impl_->thread.join();
}

}  // namespace tidewater::console
