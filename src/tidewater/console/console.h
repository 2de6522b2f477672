// The HTTP side of the process: metrics, health, the embedded Iceberg REST catalog.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include "tidewater/base/listen_address.h"
#include "tidewater/base/result.h"
#include "tidewater/base/secret.h"
#include "tidewater/iceberg/rest_server.h"

namespace tidewater::console {

/// A request whose target begins behind the mount point ("/v1/config"). Any thread, several at a time.
using CatalogHandler = std::function<iceberg::RestResponse(const iceberg::RestRequest&)>;

struct ConsoleOptions {
  ListenAddress address;
  /// Wanted as "Authorization: Bearer TOKEN" by all but /healthz. The catalog checks it by itself, because its clients
  /// may also get it by OAuth: hand it over there, too.
  Secret token;
  CatalogHandler catalog;  ///< empty: no /iceberg
  /// What /healthz says besides "ok": an error makes it answer 503.
  std::function<Status()> health;
};

/// The rule of Start about addresses beyond loopback.
Status CheckReach(const ConsoleOptions& options);

class Console {
 public:
  /// Returns listening. 22023 when the address reaches beyond loopback and there is no token; 58030 when it is taken.
  static Result<std::unique_ptr<Console>> Start(ConsoleOptions options);
  /// Stops as Stop() does.
  ~Console();
  uint16_t port() const;
  /// Finishes requests under way.
  void Stop();

 private:
  struct Impl;
  explicit Console(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidewater::console
