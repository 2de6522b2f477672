// The REST catalog protocol over an embedded catalog (Iceberg REST catalog OpenAPI). Knows no HTTP library: who mounts
// it calls Handle.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include "tidewater/base/secret.h"
#include "tidewater/iceberg/embedded_catalog.h"

namespace tidewater::iceberg {

struct RestRequest {
  std::string_view method;
  /// Path and query as in the request line, still percent-encoded ("/v1/namespaces/a%1Fb/tables?pageSize=10"), without
  /// the mount point.
  std::string_view target;
  std::string_view body;
  std::string_view authorization;  ///< the header's value, may be empty
};

struct RestResponse {
  int status = 200;
  std::string body;  ///< JSON; empty for 204 and HEAD
};

/// Thread-safe.
class RestCatalogServer {
 public:
  /// With a non-empty `token`, requests need "Bearer TOKEN", and POST /v1/oauth/tokens gives it for a client_secret
  /// equal to it.
  explicit RestCatalogServer(std::shared_ptr<EmbeddedCatalog> catalog, Secret token = Secret());
  RestResponse Handle(const RestRequest& request);

 private:
  std::shared_ptr<EmbeddedCatalog> catalog_;
  Secret token_;
};

}  // namespace tidewater::iceberg
