// Table metadata (spec, "Table Metadata"): read v1 to v3, written as v2 or v3.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/partition.h"
#include "tidewater/iceberg/schema.h"

namespace tidewater::iceberg {

using Properties = std::map<std::string, std::string>;

struct Snapshot {
  int64_t id = 0;
  std::optional<int64_t> parent_id;
  int64_t sequence_number = 0;
  int64_t timestamp_ms = 0;
  std::string manifest_list;           ///< location; empty only for v1 snapshots that list their manifests
  std::vector<std::string> manifests;  ///< v1 only
  Properties summary;                  ///< with "operation"; our stamps are here
  std::optional<int> schema_id;
  std::optional<int64_t> first_row_id;  ///< v3
  std::optional<int64_t> added_rows;    ///< v3
  std::optional<std::string> key_id;    ///< v3, encryption
};

struct SnapshotRef {
  int64_t snapshot_id = 0;
  bool is_branch = true;
  std::optional<int> min_snapshots_to_keep;
  std::optional<int64_t> max_snapshot_age_ms;
  std::optional<int64_t> max_ref_age_ms;
};

struct SnapshotLogEntry {
  int64_t timestamp_ms = 0;
  int64_t snapshot_id = 0;
};

struct MetadataLogEntry {
  int64_t timestamp_ms = 0;
  std::string metadata_file;
};

/// Statistics and partition statistics: what we act on, and the whole entry as it came.
struct StatisticsFile {
  int64_t snapshot_id = 0;
  std::string path;
  std::string json;
};

struct TableMetadata {
  int format_version = 2;
  std::string table_uuid;
  std::string location;  ///< no trailing '/'
  int64_t last_sequence_number = 0;
  int64_t last_updated_ms = 0;
  int last_column_id = 0;
  std::vector<Schema> schemas;
  int current_schema_id = 0;
  std::vector<PartitionSpec> specs;
  int default_spec_id = 0;
  int last_partition_id = 999;
  std::vector<SortOrder> sort_orders;
  int default_sort_order_id = 0;
  Properties properties;
  std::optional<int64_t> current_snapshot_id;
  std::vector<Snapshot> snapshots;
  std::vector<SnapshotLogEntry> snapshot_log;
  std::vector<MetadataLogEntry> metadata_log;
  std::map<std::string, SnapshotRef> refs;
  std::vector<StatisticsFile> statistics;
  std::vector<StatisticsFile> partition_statistics;
  int64_t next_row_id = 0;  ///< v3
  /// JSON object of top-level fields that we do not know (encryption-keys among them): written back as they came.
  std::string unknown_fields = "{}";

  const Schema& CurrentSchema() const;
  const Schema* FindSchema(int id) const;
  const PartitionSpec* FindSpec(int id) const;
  const PartitionSpec& DefaultSpec() const;
  /// Null when absent.
  const Snapshot* FindSnapshot(int64_t id) const;
  const Snapshot* CurrentSnapshot() const;
  /// The snapshot at the head of a branch or tag; null when there is none. "main" is the current snapshot.
  const Snapshot* RefSnapshot(const std::string& ref) const;
  /// `fallback` when unset or not a number.
  int64_t IntProperty(const std::string& key, int64_t fallback) const;
  bool BoolProperty(const std::string& key, bool fallback) const;
};

/// Bounded: depth of nesting, and every reference between parts is checked (kCorrupt). v4 and higher: kUnsupported.
Result<TableMetadata> ParseMetadataJson(std::string_view json);
std::string MetadataToJson(const TableMetadata&);
/// The same for files that end in ".gz.metadata.json" or are gzip by their first bytes.
Result<TableMetadata> ParseMetadataFile(std::string_view bytes);

std::string SnapshotToJson(const Snapshot&);

struct TableSpec {
  Schema schema;  ///< ids are assigned anew
  PartitionSpec spec;
  SortOrder sort_order;
  std::string location;
  Properties properties;  ///< "format-version" is taken out and obeyed (2 or 3; default 2)
};
/// The metadata of a new table, with a new UUID and no snapshot.
Result<TableMetadata> NewTableMetadata(const TableSpec&);

// Names of table properties that this library obeys (spec of the reference implementation, "Configuration").
inline constexpr char kPropPreviousVersionsMax[] = "write.metadata.previous-versions-max";      // default 100
inline constexpr char kPropDeleteAfterCommit[] = "write.metadata.delete-after-commit.enabled";  // default false
inline constexpr char kPropManifestTargetSize[] = "commit.manifest.target-size-bytes";          // default 8 MB
inline constexpr char kPropManifestMinCountToMerge[] = "commit.manifest.min-count-to-merge";    // default 100
inline constexpr char kPropManifestMergeEnabled[] = "commit.manifest-merge.enabled";            // default true
inline constexpr char kPropFormatVersion[] = "format-version";

}  // namespace tidewater::iceberg
