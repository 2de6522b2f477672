// The WITH clause of an Iceberg sink. Names are RisingWave's where it has them.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/base/secret.h"
#include "tidewater/iceberg/catalog.h"
#include "tidewater/types/schema.h"

namespace tidewater {

struct IcebergSinkConfig {
  bool upsert = false;
  bool force_append_only = false;
  /// Positions in the view's columns; upsert only.
  std::vector<uint32_t> key;
  iceberg::TableIdent table;
  bool create_table = false;
  /// 2 or 3, for a table that is made here.
  int format_version = 2;

  bool rest_catalog = false;
  std::string catalog_uri, catalog_scope, oauth2_server_uri;
  Secret catalog_credential, catalog_token;
  /// A path, "s3://…", or for a REST catalog its name of the warehouse. Empty: the embedded catalog's default.
  std::string warehouse;
  /// As io::OpenStore takes them. Holds secrets.
  std::map<std::string, std::string> store_options;

  uint64_t commit_interval = 1;  ///< checkpoints
  int commit_retries = 100;      ///< lost races in a row until the sink gives up
  bool expire_snapshots = true;
  int keep_snapshots = 100;
  int64_t keep_snapshots_ms = 120'000;
  uint64_t target_file_bytes = 128ull << 20;
};

/// Errors: kUser 22023 with the option's name; 42703 for a key column that the view lacks.
Result<IcebergSinkConfig> ParseIcebergSinkOptions(const std::map<std::string, std::string>& options,
                                                  const Schema& input);

}  // namespace tidewater
