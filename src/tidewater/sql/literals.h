// Literals: constants that DuckDB's binder would refuse or read otherwise than PostgreSQL, made plain for it. Inside
// sql/ only.
#pragma once
#include "duckdb/parser/statement/select_statement.hpp"

namespace tidewater::sql {
/// In every expression of the query, those of its subqueries included:
///   ARRAY[a, b]::t[] casts each element to t, so that ARRAY[1.5, 'NaN']::double precision[] never is an array of
///   numeric; a timestamptz of minutes and an offset ('2024-07-01 12:00+00') gets its seconds.
void ReadLiterals(duckdb::SelectStatement& statement);
}  // namespace tidewater::sql
