// Reading Parquet files of a table: some columns by field id, with the position of each row.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/catalog.h"
#include "tidewater/iceberg/puffin.h"
#include "tidewater/iceberg/scan.h"
#include "tidewater/lake/duck.h"
#include "tidewater/lake/parquet_writer.h"

namespace tidewater::lake {

/// Reads one file. `columns` are found by field id; one that the file does not have is NULL. Rows come in file order;
/// the last column of each chunk is the row's position (BIGINT). Nested columns are found by name instead of id.
Status ReadParquet(iceberg::FileAccess& files, const std::string& location, const std::vector<FileColumn>& columns,
                   const std::function<Status(DataChunk&)>& on_chunk);

/// Deleted positions of data files, from deletion vectors and position delete files, each of which is read once.
class DeleteReader {
 public:
  explicit DeleteReader(iceberg::FileAccess& files) : files_(files) {}
  /// kUnsupported for equality deletes.
  Result<iceberg::PositionSet> Of(const iceberg::FileScanTask& task);
  using ByDataFile = std::unordered_map<std::string, iceberg::PositionSet>;
  /// The positions in a position delete file by data file. Valid as long as this object.
  Result<const ByDataFile*> Load(const iceberg::DataFile& delete_file);

 private:
  iceberg::FileAccess& files_;
  std::unordered_map<std::string, ByDataFile> loaded_;
};

/// The live rows of a table's current snapshot, in no order: for tests and small reads.
Status ReadTable(const iceberg::Table& table, const std::function<Status(DataChunk&)>& on_chunk);

/// Reserved columns of a position delete file.
std::vector<FileColumn> PositionDeleteColumns();

}  // namespace tidewater::lake
