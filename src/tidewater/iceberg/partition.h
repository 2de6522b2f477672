// Partition specs and sort orders (spec, "Partitioning" and "Sorting"). New tables of ours are unpartitioned and
// unsorted; other tables' are read and carried.
#pragma once
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/schema.h"

namespace tidewater::iceberg {

/// `text` is the transform as the spec writes it: "identity", "bucket[16]", "truncate[4]", "year", …, "void", or one
/// that we do not know.
struct Transform {
  std::string text = "identity";
  bool operator==(const Transform&) const = default;
  /// Result type for a source type; the source type for transforms that we do not know.
  Type ResultType(const Type& source) const;
  bool IsKnown() const;
};

struct PartitionField {
  std::vector<int> source_ids;  ///< one, unless a multi-argument transform (v3)
  int field_id = 0;             ///< from 1000
  std::string name;
  Transform transform;
  bool operator==(const PartitionField&) const = default;
};

struct PartitionSpec {
  int id = 0;
  std::vector<PartitionField> fields;
  bool IsUnpartitioned() const;
  bool SameFields(const PartitionSpec&) const;
  /// The struct type of a partition tuple. A source column that is no longer in the schema is read as binary.
  Type PartitionType(const Schema&) const;
};

struct SortField {
  std::vector<int> source_ids;
  Transform transform;
  bool ascending = true;
  bool nulls_first = true;
  bool operator==(const SortField&) const = default;
};

struct SortOrder {
  int id = 0;  ///< 0 is unsorted
  std::vector<SortField> fields;
};

Result<PartitionSpec> ParsePartitionSpecJson(std::string_view json);
std::string PartitionSpecToJson(const PartitionSpec&);
/// The array of fields alone, as in a manifest's metadata.
std::string PartitionFieldsToJson(const PartitionSpec&);
Result<SortOrder> ParseSortOrderJson(std::string_view json);
std::string SortOrderToJson(const SortOrder&);

}  // namespace tidewater::iceberg
