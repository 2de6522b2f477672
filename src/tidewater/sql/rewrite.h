// Rewriting: PostgreSQL's and Flink's spellings into those that DuckDB's parser takes. Inside sql/ only.
#pragma once
#include <string>
#include <utility>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::sql {

struct Rewritten {
  std::string text;
  /// (offset in `text`, offset in the original), ascending: the places where a piece was copied or replaced.
  std::vector<std::pair<size_t, size_t>> pieces;
  /// The original offset of a place in `text`.
  size_t Original(size_t offset) const;
};

/// Comments go; `backticks` become double quotes; "pg_catalog." before a name goes (its tables come by the search
/// path); information_schema becomes our schema; OPERATOR(pg_catalog.~) becomes the operator; regular expression
/// operators get names of our own (~@, ~*@, !~@, !~*@), since DuckDB's ~ matches whole strings; COLLATE "default"/"C"
/// goes; 'x'::regclass becomes an oid; numeric without precision becomes DECIMAL(38,10); CURRENT_USER and its like
/// become functions; a name that DuckDB alone reserves (IsReservedByDuckDBAlone) is quoted.
Result<Rewritten> RewriteQuery(const std::string& sql);

/// A column list of CREATE TABLE: types are rewritten, and names quoted that DuckDB alone reserves.
Result<Rewritten> RewriteColumns(const std::string& columns);

}  // namespace tidewater::sql
