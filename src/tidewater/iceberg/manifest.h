// Data files, manifests and manifest lists (spec, "Manifests", "Manifest Lists"). Avro files; v1 to v3 are read, v2 and
// v3 written.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/files.h"
#include "tidewater/iceberg/metadata.h"

namespace tidewater::iceberg {

enum class FileContent { kData = 0, kPositionDeletes = 1, kEqualityDeletes = 2 };

/// Field id -> value, ascending by id.
using ColumnCounts = std::vector<std::pair<int32_t, int64_t>>;
using ColumnBounds = std::vector<std::pair<int32_t, std::string>>;  ///< values as in values.h
/// One value per field of the spec, as in values.h; nullopt is null.
using PartitionTuple = std::vector<std::optional<std::string>>;

/// A data file, a delete file, or a deletion vector (content kPositionDeletes, format "puffin", content_offset set).
struct DataFile {
  FileContent content = FileContent::kData;
  std::string path;                ///< a full location
  std::string format = "parquet";  ///< lower case: "parquet", "avro", "orc", "puffin"
  int spec_id = 0;                 ///< not in the manifest entry: known from the manifest
  PartitionTuple partition;
  int64_t record_count = 0;  ///< deletion vector: its cardinality
  int64_t file_size_bytes = 0;
  ColumnCounts column_sizes, value_counts, null_value_counts, nan_value_counts;
  ColumnBounds lower_bounds, upper_bounds;
  std::string key_metadata;
  std::vector<int64_t> split_offsets;
  std::vector<int32_t> equality_ids;
  std::optional<int> sort_order_id;
  std::optional<int64_t> first_row_id;  ///< v3 data files; after reading: inherited where it was null
  std::string referenced_data_file;     ///< empty when absent
  std::optional<int64_t> content_offset;
  std::optional<int64_t> content_size_bytes;

  bool IsDeletionVector() const { return content == FileContent::kPositionDeletes && format == "puffin"; }
};

/// Names one file of a snapshot. A Puffin file holds many deletion vectors: there the referenced data file tells them
/// apart.
struct FileKey {
  std::string path;
  std::string referenced_data_file;  ///< of a deletion vector; else empty
  auto operator<=>(const FileKey&) const = default;
  static FileKey Of(const DataFile& f) {
    return {f.path, f.IsDeletionVector() ? f.referenced_data_file : std::string()};
  }
};

enum class EntryStatus { kExisting = 0, kAdded = 1, kDeleted = 2 };

struct ManifestEntry {
  EntryStatus status = EntryStatus::kAdded;
  /// After reading: inherited where they were null. For writing an added entry: null sequence numbers are inherited at
  /// commit.
  std::optional<int64_t> snapshot_id;
  std::optional<int64_t> sequence_number;       ///< of the data: orders deletes against data
  std::optional<int64_t> file_sequence_number;  ///< of the commit that added the file
  /// Shared: an entry lives on in many versions of its manifest.
  std::shared_ptr<const DataFile> file;
  bool IsLive() const { return status != EntryStatus::kDeleted; }
};

struct FieldSummary {
  bool contains_null = false;
  std::optional<bool> contains_nan;
  std::optional<std::string> lower_bound, upper_bound;
};

/// A line of a manifest list.
struct ManifestFile {
  std::string path;
  int64_t length_bytes = 0;
  int spec_id = 0;
  bool is_deletes = false;
  int64_t sequence_number = 0;
  int64_t min_sequence_number = 0;
  int64_t added_snapshot_id = 0;
  /// -1 when unknown (v1).
  int added_files = 0, existing_files = 0, deleted_files = 0;
  int64_t added_rows = 0, existing_rows = 0, deleted_rows = 0;
  std::vector<FieldSummary> partitions;
  std::string key_metadata;
  std::optional<int64_t> first_row_id;  ///< v3, data manifests
  bool HasLiveFiles() const { return added_files != 0 || existing_files != 0; }
};

/// The bytes of a manifest with these entries, and the line for the manifest list (path, sequence_number and
/// added_snapshot_id are for the caller to set; min_sequence_number is kInheritSequence when only entries without a
/// number are in it).
struct EncodedManifest {
  std::string bytes;
  ManifestFile file;
  /// Records of live data files without first_row_id: how many row ids a manifest list has to set aside for it.
  int64_t rows_without_id = 0;
};
inline constexpr int64_t kInheritSequence = -1;
/// All entries have `spec`'s id, and are all data or all deletes.
Result<EncodedManifest> EncodeManifest(const std::vector<ManifestEntry>& entries, bool is_deletes, const Schema& schema,
                                       const PartitionSpec& spec, int format_version);
/// Bounded. `file` gives what is inherited.
Result<std::vector<ManifestEntry>> DecodeManifest(std::string_view bytes, const ManifestFile& file);

/// Header values of a manifest list. For v3 every data manifest must have its first_row_id already.
std::string EncodeManifestList(const std::vector<ManifestFile>& manifests, const Snapshot& snapshot,
                               int format_version);
Result<std::vector<ManifestFile>> DecodeManifestList(std::string_view bytes);

/// Through the cache of `files`.
Result<FileAccess::ManifestList> ReadManifestList(FileAccess& files, const Snapshot& snapshot);
Result<FileAccess::Manifest> ReadManifest(FileAccess& files, const ManifestFile& manifest);

}  // namespace tidewater::iceberg
