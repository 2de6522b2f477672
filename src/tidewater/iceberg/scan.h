// Scan planning (spec, "Scan Planning"): which files make up a snapshot, and which deletes apply to each.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/manifest.h"

namespace tidewater::iceberg {

struct DeleteFile {
  std::shared_ptr<const DataFile> file;
  int64_t sequence_number = 0;
};

struct FileScanTask {
  std::shared_ptr<const DataFile> file;  ///< first_row_id is set where row ids are known
  int64_t sequence_number = 0;           ///< of the data: _last_updated_sequence_number of rows without one
  int64_t snapshot_id = 0;               ///< that added the file
  /// A deletion vector alone; or the position deletes, which may name other files too.
  std::vector<DeleteFile> deletes;
  std::vector<DeleteFile> equality_deletes;
};

/// Tasks in the order of the manifests. `files` caches manifests.
Result<std::vector<FileScanTask>> PlanScan(FileAccess& files, const TableMetadata& metadata, const Snapshot& snapshot);

/// What changed between two snapshots of one branch: for foreign writers. `ancestor` must be an ancestor of `head`
/// (kNotFound else).
struct SnapshotDelta {
  std::vector<Snapshot> snapshots;  ///< after the ancestor up to the head, oldest first
};
Result<SnapshotDelta> SnapshotsSince(const TableMetadata& metadata, int64_t head, std::optional<int64_t> ancestor);

/// Files that one snapshot added and deleted (entries with its id).
struct SnapshotChanges {
  std::vector<ManifestEntry> added_data, removed_data, added_deletes, removed_deletes;
};
Result<SnapshotChanges> ChangesOf(FileAccess& files, const Snapshot& snapshot);

/// The positions of a deletion vector, by the manifest entry alone (one range read). kCorrupt if the cardinality
/// differs.
class PositionSet;
Result<PositionSet> ReadDeletionVector(FileAccess& files, const DataFile& vector);

}  // namespace tidewater::iceberg
