// ParquetWriter: DataChunks become the bytes of a Parquet file with Iceberg field ids, and its metrics.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/manifest.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::lake {

/// A column of a data file. `type` is one that StorageType() returns; nested types have a child per struct field, one
/// named "element" for a list, "key" and "value" for a map.
struct FileColumn {
  std::string name;
  LogicalType type;
  int32_t field_id = 0;
  std::vector<FileColumn> children;
};

struct FinishedFile {
  std::string bytes;
  /// Everything that a manifest says of the file but its path, content and partition. Bounds and counts are there for
  /// columns that are not nested; bounds of strings and binaries are cut to 16 characters or bytes.
  iceberg::DataFile file;
};

struct ParquetOptions {
  /// A row group ends at the first of both; the second counts uncompressed bytes in memory.
  uint64_t row_group_rows = 512 * 1024;
  uint64_t row_group_bytes = 64 << 20;
  int zstd_level = 1;
  /// False keeps bounds whole (file_path of position deletes).
  bool truncate_bounds = true;
  /// What the caller knows of the number of rows; sizes the dictionaries.
  uint64_t expected_rows = 0;
};

/// Writes one file into memory. One thread.
class ParquetFile {
 public:
  virtual ~ParquetFile() = default;
  static Result<std::unique_ptr<ParquetFile>> Create(std::vector<FileColumn> columns, ParquetOptions options = {});

  /// Appends rows of exactly the columns' types; row i of the file is the i-th row appended.
  virtual Status Append(DataChunk& rows) = 0;
  virtual uint64_t rows() const = 0;
  /// Bytes already encoded: grows by row groups, so a file may pass a limit by one row group.
  virtual uint64_t encoded_bytes() const = 0;
  /// Ends the file. The writer is of no use afterwards.
  virtual Result<FinishedFile> Finish() = 0;
};

}  // namespace tidewater::lake
