// Metadata updates and requirements: the language of a commit (REST catalog spec, TableUpdate and TableRequirement).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/metadata.h"

namespace tidewater::iceberg {

struct AssignUuid {
  std::string uuid;
};
struct UpgradeFormatVersion {
  int version = 2;
};
/// Its id is assigned by who applies it: an equal schema keeps its id, -1 or a taken id gets the next one.
struct AddSchema {
  Schema schema;
};
struct SetCurrentSchema {
  int id = -1;
};  ///< -1: the one added last in the same commit
struct AddPartitionSpec {
  PartitionSpec spec;
};
struct SetDefaultSpec {
  int id = -1;
};
struct AddSortOrder {
  SortOrder order;
};
struct SetDefaultSortOrder {
  int id = -1;
};
struct AddSnapshot {
  Snapshot snapshot;
};
struct SetSnapshotRef {
  std::string name;
  SnapshotRef ref;
};
struct RemoveSnapshots {
  std::vector<int64_t> ids;
};
struct RemoveSnapshotRef {
  std::string name;
};
struct SetLocation {
  std::string location;
};
struct SetProperties {
  Properties properties;
};
struct RemoveProperties {
  std::vector<std::string> keys;
};
struct SetStatistics {
  StatisticsFile file;
  bool partition = false;
};
struct RemoveStatistics {
  int64_t snapshot_id = 0;
  bool partition = false;
};
struct RemovePartitionSpecs {
  std::vector<int> ids;
};
struct RemoveSchemas {
  std::vector<int> ids;
};

using MetadataUpdate = std::variant<AssignUuid, UpgradeFormatVersion, AddSchema, SetCurrentSchema, AddPartitionSpec,
                                    SetDefaultSpec, AddSortOrder, SetDefaultSortOrder, AddSnapshot, SetSnapshotRef,
                                    RemoveSnapshots, RemoveSnapshotRef, SetLocation, SetProperties, RemoveProperties,
                                    SetStatistics, RemoveStatistics, RemovePartitionSpecs, RemoveSchemas>;

struct AssertCreate {};
struct AssertTableUuid {
  std::string uuid;
};
struct AssertRefSnapshotId {
  std::string ref;
  std::optional<int64_t> snapshot_id;
};  ///< null: the ref must not exist
struct AssertLastAssignedFieldId {
  int id = 0;
};
struct AssertCurrentSchemaId {
  int id = 0;
};
struct AssertLastAssignedPartitionId {
  int id = 0;
};
struct AssertDefaultSpecId {
  int id = 0;
};
struct AssertDefaultSortOrderId {
  int id = 0;
};

using Requirement =
    std::variant<AssertCreate, AssertTableUuid, AssertRefSnapshotId, AssertLastAssignedFieldId, AssertCurrentSchemaId,
                 AssertLastAssignedPartitionId, AssertDefaultSpecId, AssertDefaultSortOrderId>;

/// kCommitFailed when a requirement does not hold; `metadata` is null for a table that does not exist.
Status CheckRequirements(const std::vector<Requirement>& requirements, const TableMetadata* metadata);

/// Applies in order, all or nothing. Sets last_updated_ms to `now_ms` (never back), keeps the snapshot log, and refuses
/// what the spec forbids (kUser 22023 for a request that is wrong, kCommitFailed for a snapshot whose sequence number
/// or first-row-id is behind).
Status ApplyUpdates(const std::vector<MetadataUpdate>& updates, int64_t now_ms, TableMetadata* metadata);

/// Appends the replaced metadata file to the metadata log, bounded by kPropPreviousVersionsMax; returns the files that
/// fell out.
std::vector<std::string> AdvanceMetadataLog(TableMetadata* metadata, const std::string& replaced_file,
                                            int64_t replaced_updated_ms);

/// JSON of one commit request: {"requirements": […], "updates": […]} and, with `identifier_json`, the "identifier".
std::string CommitRequestToJson(const std::vector<Requirement>&, const std::vector<MetadataUpdate>&,
                                const std::string& identifier_json = "");
struct CommitRequest {
  std::string identifier_json;  ///< empty when absent
  std::vector<Requirement> requirements;
  std::vector<MetadataUpdate> updates;
};
Result<CommitRequest> ParseCommitRequest(std::string_view json);

}  // namespace tidewater::iceberg
