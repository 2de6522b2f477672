// DML: INSERT, UPDATE and DELETE as queries that give the rows to change. Inside sql/ only.
#pragma once
#include "duckdb/parser/sql_statement.hpp"
#include "duckdb/parser/statement/select_statement.hpp"
#include "tidewater/catalog/catalog.h"
#include "tidewater/sql/frontend.h"

namespace tidewater::sql {

struct DmlQuery {
  DmlKind kind;
  catalog::ObjectPtr table;
  duckdb::unique_ptr<duckdb::SelectStatement> query;
  PreparedDml::OnConflict on_conflict = PreparedDml::OnConflict::kError;
  std::vector<uint32_t> returning;
  /// INSERT ... SELECT: how many columns the query below must have (0: not to be checked), and that query.
  size_t source_columns = 0;
  bool explicit_columns = false;
  duckdb::unique_ptr<duckdb::SelectStatement> source;
};

/// Throws through DuckDB.
DmlQuery ToQuery(duckdb::unique_ptr<duckdb::SQLStatement> statement, const catalog::Contents& contents);

}  // namespace tidewater::sql
