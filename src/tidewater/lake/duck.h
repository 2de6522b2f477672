// The DuckDB instance of the lake: it lends its kernels (casts, Parquet writer and reader) and holds no tables.
#pragma once
#include <memory>
#include <string>
#include "duckdb.hpp"
#include "tidewater/base/result.h"

namespace tidewater::lake {

/// A new connection to the process-wide instance, which is made at the first call. Any thread; one connection per
/// thread.
std::unique_ptr<duckdb::Connection> Connect();

/// What a caught exception of DuckDB says, without its JSON. Corrupt input and our own bugs both arrive this way, so
/// the kind is the caller's.
std::string DuckMessage(const std::exception& e);

/// Bytes in memory under a path that DuckDB's readers open, for as long as the object lives.
class MemoryFile {
 public:
  explicit MemoryFile(std::string bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace tidewater::lake
