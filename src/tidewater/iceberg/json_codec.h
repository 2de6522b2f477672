// JSON of the spec, for the .cc files of this folder: bounded parsing and typed access.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <nlohmann/json.hpp>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/metadata.h"

namespace tidewater::iceberg {

using Json = nlohmann::json;

/// kCorrupt for what is no JSON, and for text nested deeper than 100 levels.
Result<Json> ParseJson(std::string_view text, std::string_view what);
/// Compact; bytes that are no UTF-8 become U+FFFD.
std::string Dump(const Json&);

// Members of an object. `what` names the object in errors.
Result<std::string> GetString(const Json& object, const char* key, std::string_view what);
Result<int64_t> GetLong(const Json& object, const char* key, std::string_view what);
Result<int> GetInt(const Json& object, const char* key, std::string_view what);
std::optional<std::string> FindString(const Json& object, const char* key);
std::optional<int64_t> FindLong(const Json& object, const char* key);
std::optional<int> FindInt(const Json& object, const char* key);
bool FindBool(const Json& object, const char* key, bool fallback);
/// Null when absent, null or of another type.
const Json* FindArray(const Json& object, const char* key);
const Json* FindObject(const Json& object, const char* key);
Result<Properties> GetProperties(const Json& object, const char* key, std::string_view what);
Result<std::vector<int>> GetInts(const Json& array, std::string_view what);

Json ToJson(const Schema&);
Json ToJson(const PartitionSpec&);
Json ToJson(const SortOrder&);
Json ToJson(const Snapshot&);
Json ToJson(const SnapshotRef&);
Json ToJson(const TableMetadata&);
Result<Schema> SchemaFromJson(const Json&);
Result<PartitionSpec> PartitionSpecFromJson(const Json&);
Result<SortOrder> SortOrderFromJson(const Json&);
Result<Snapshot> SnapshotFromJson(const Json&);
Result<SnapshotRef> SnapshotRefFromJson(const Json&);
Result<TableMetadata> MetadataFromJson(Json);
Result<StatisticsFile> StatisticsFromJson(const Json&);

}  // namespace tidewater::iceberg
