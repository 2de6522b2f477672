// TableWriter: the deltas of some checkpoints become data files, delete files and the change that commits them.
//
// In upsert mode it holds the primary-key index: for every live row of the table, which row of which data file has the
// key. An update or a delete of an older row becomes a position delete (v2) or joins its file's deletion vector (v3); a
// data file without live rows is removed as a whole. There are never equality deletes.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/puffin.h"
#include "tidewater/lake/data_reader.h"
#include "tidewater/lake/key_index.h"
#include "tidewater/lake/parquet_writer.h"
#include "tidewater/types/schema.h"

namespace tidewater::lake {

struct TableWriterOptions {
  /// False: append-only.
  bool upsert = true;
  /// Append-only: retractions are dropped; otherwise one is an error.
  bool drop_retractions = false;
  /// Positions of the key in the view's columns; upsert only.
  std::vector<uint32_t> key;
  /// A data file ends after the row group that passes this.
  uint64_t target_file_bytes = 128ull << 20;
  int zstd_level = 1;
  /// v2: a commit merges this many position delete files of about one size into its own (0: never).
  int merge_deletes = 8;
  /// How often a file is put again after a failure that may pass, with doubling pauses from 100 ms.
  int put_retries = 4;
};

/// One thread.
class TableWriter {
 public:
  /// Checks that the view's rows fit the table: columns are found by name; a column of the table that the view lacks
  /// must be optional. Errors: kUser with the column's name; kUnsupported for partitioned tables.
  static Result<std::unique_ptr<TableWriter>> Make(const iceberg::Table& table, const Schema& view,
                                                   TableWriterOptions options);

  /// Reads the keys of all live rows of the table's current snapshot. kConflict when a key stands there twice.
  Status Rebuild(const iceberg::Table& table);
  /// Adds the keys of files that somebody else appended. kConflict when the index holds one of them already.
  Status IndexForeign(const iceberg::Table& table, const std::vector<iceberg::ManifestEntry>& files);

  /// Consolidates the deltas (in the order of their checkpoints; within one, -1 and +1 in any order), writes and puts
  /// the files, and moves the index ahead to the state after the commit. The change is empty when nothing is left to
  /// do. After an error the index is of no use until Rebuild(). `rows` are not consumed: a rebuild may need them again.
  Result<iceberg::TableChange> Prepare(const iceberg::Table& table, std::span<const DeltaBatch* const> rows,
                                       const std::string& file_prefix);
  /// Deletes the files of a change that will never be committed.
  static void Abandon(const iceberg::Table& table, const iceberg::TableChange& change);

  size_t index_keys() const { return index_.size(); }
  size_t index_bytes() const { return index_.memory_bytes(); }
  /// Rows put into data files since the start.
  uint64_t rows_written() const { return rows_written_; }

 private:
  struct LiveFile {
    std::string path;
    uint64_t live_rows = 0;
    /// v3: all deleted positions, those of the vector in the base included.
    std::unique_ptr<iceberg::PositionSet> deleted;
    /// v2: which of grouped_deletes_ name this file.
    std::vector<uint32_t> grouped;
  };
  /// A position delete file that may name several data files: it goes when the last of them went, or into a larger one.
  struct GroupedDelete {
    std::shared_ptr<const iceberg::DataFile> file;
    uint32_t live_files = 0;
  };
  struct Column {
    int source = -1;  ///< in the view, or -1
    LogicalType type;
  };
  struct Output;
  struct Batches;

  TableWriter(TableWriterOptions options, std::vector<Column> columns, std::vector<FileColumn> file_columns,
              std::vector<uint32_t> key_columns, Types key_types, int format_version);

  Status IndexFile(iceberg::FileAccess& files, const iceberg::DataFile& file, const iceberg::PositionSet& deleted);
  /// The columns of `rows` as the table stores them; references where no cast is needed.
  Status ToStorage(DataChunk& rows, DataChunk* out);
  Status WriteInserts(std::span<const DeltaBatch* const> rows, Output& out);
  Status WriteConsolidated(std::span<const DeltaBatch* const> rows, Output& out);
  Status WriteAppendOnly(std::span<const DeltaBatch* const> rows, Output& out);
  /// Appends rows in storage types and, in upsert mode, points their keys to them.
  Status Put(DataChunk& storage, Output& out);
  Status FinishFile(Output& out);
  Status WriteDeletes(Output& out);
  Status WriteVectors(Output& out, const std::vector<uint32_t>& ids);
  Status WritePositionDeletes(Output& out, std::vector<uint32_t> ids);
  /// Small position delete files join the new one, so that a reader meets few of them. Adds to `ids` and out.deletes.
  Status MergePositionDeletes(Output& out, std::vector<uint32_t>* ids);
  void RetireFile(uint32_t file, Output& out);
  uint32_t NewFile(std::string path);
  uint32_t NewGroupedDelete(GroupedDelete grouped);

  TableWriterOptions options_;
  std::vector<Column> columns_;
  std::vector<FileColumn> file_columns_;
  std::vector<uint32_t> key_columns_;  ///< in the table
  Types storage_types_, key_types_;
  int format_version_;
  std::unique_ptr<duckdb::Connection> connection_;  ///< lends its context to casts
  KeyCodec codec_;
  KeyIndex index_;
  std::vector<LiveFile> files_;
  std::vector<uint32_t> free_files_;  ///< places in files_ of files that went
  std::vector<GroupedDelete> grouped_deletes_;
  std::vector<uint32_t> free_grouped_;
  std::vector<iceberg::FileKey> dangling_deletes_;
  uint64_t rows_written_ = 0;
};

/// What data files of the table are put under ("write.data.path" or LOCATION/data).
std::string DataLocation(const iceberg::TableMetadata& metadata);

}  // namespace tidewater::lake
