// Naming: columns that a query does not name get PostgreSQL's names ("count", "?column?") instead of DuckDB's. Inside
// sql/ only.
#pragma once
#include "duckdb/parser/statement/select_statement.hpp"

namespace tidewater::sql {
/// Sets aliases in the select lists of the query, its FROM subqueries and its CTEs. What has an alias or is a column or
/// * stays.
void NameColumns(duckdb::SelectStatement& statement);
}  // namespace tidewater::sql
