// Naming: columns that a query does not name get PostgreSQL's names ("count", "?column?") instead of DuckDB's. Inside
// sql/ only.
#pragma once
#include <string>
#include <vector>
#include "duckdb/parser/statement/select_statement.hpp"

namespace tidewater::sql {
/// Sets aliases in the select lists of the query, its FROM subqueries and its CTEs. What has an alias or is a column or
/// * stays.
void NameColumns(duckdb::SelectStatement& statement);
/// The places of the outermost select list that are casts to varchar (and not to text, which is one type with it in
/// DuckDB) up to the first *; they get PostgreSQL's names. `text`: what the statement was parsed from. Goes before
/// NameColumns.
std::vector<size_t> NameVarchars(duckdb::SelectStatement& statement, const std::string& text);
}  // namespace tidewater::sql
