// `tidewater serve`.
#pragma once
#include <cstdint>
#include <string>
#include <vector>
#include "tidewater/base/secret.h"

namespace tidewater::cli {

struct ServeOptions {
  std::string state;
  std::string listen = "127.0.0.1:4566";
  std::string http = "127.0.0.1:4567";
  int workers = 1;
  uint64_t memory_bytes = 0;  ///< 0: 70% of the machine's
  std::string scratch_directory;
  std::vector<std::string> freeze;  ///< names of materialized views
  int64_t checkpoint_interval_ms = 1000;
  size_t connections_max = 200;
  std::string password_file, http_token_file;
  std::string tls_certificate_file, tls_key_file;
  std::string log_level = "info";
};

/// Runs until SIGTERM or SIGINT. The process's exit code: 0 after a last checkpoint, 1 when it could not start.
int Serve(const ServeOptions& options);

}  // namespace tidewater::cli
