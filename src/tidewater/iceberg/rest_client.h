// A foreign REST catalog (Iceberg REST catalog OpenAPI) over libcurl.
#pragma once
#include <memory>
#include <string>
#include "tidewater/base/secret.h"
#include "tidewater/iceberg/catalog.h"

namespace tidewater::iceberg {

struct RestClientOptions {
  std::string uri;        ///< "http://host:port/path", without /v1
  std::string warehouse;  ///< may be empty
  Secret token;           ///< a bearer token, or empty
  Secret credential;      ///< "client_id:client_secret" or "client_secret" for OAuth2 client credentials, or empty
  std::string oauth2_server_uri;  ///< default: URI/v1/oauth/tokens
  std::string scope = "catalog";
  /// Options for the object store, used under those that the catalog vends ("s3.endpoint", …). May hold secrets.
  Properties store_options;
  int64_t timeout_ms = 30000;
};

/// Asks for /v1/config; kAuthentication, kUnavailable as they come.
/// Commit: 409 -> kCommitFailed; 500, 502, 503, 504, timeouts and lost connections -> kCommitStateUnknown; 401, 403,
/// 419 -> kAuthentication.
Result<std::shared_ptr<Catalog>> OpenRestCatalog(RestClientOptions options);

}  // namespace tidewater::iceberg
