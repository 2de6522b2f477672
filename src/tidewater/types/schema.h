// The shape of a table, view or source: columns in order, and which of them identify a row.
#pragma once
#include <string>
#include <vector>
#include "tidewater/types/delta_batch.h"

namespace tidewater {

struct ColumnDef {
  std::string name;
  LogicalType type;
  bool not_null = false;
  /// The upstream's stable number of the column (PostgreSQL attnum), 0 when there is none.
  int upstream_id = 0;
  bool operator==(const ColumnDef&) const = default;
};

struct Schema {
  std::vector<ColumnDef> columns;
  /// Positions in `columns` of the primary key, in key order; empty when rows have no key.
  std::vector<uint32_t> primary_key;

  Types GetTypes() const {
    Types t;
    for (auto& c : columns) t.push_back(c.type);
    return t;
  }
  /// Position of the column of that exact name, or -1.
  int Find(const std::string& name) const {
    for (size_t i = 0; i < columns.size(); i++)
      if (columns[i].name == name) return int(i);
    return -1;
  }
};

/// The written form of a type in the catalog, and back: LogicalType::ToString and its parser, nested types included.
std::string TypeToText(const LogicalType& type);
LogicalType TypeFromText(const std::string& text);

}  // namespace tidewater
