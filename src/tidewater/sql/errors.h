// Errors: DuckDB's exceptions as PostgreSQL would report them. Inside sql/ only; others use FromDuckDB of frontend.h.
#pragma once
#include "duckdb/common/error_data.hpp"
#include "tidewater/base/result.h"
#include "tidewater/sql/rewrite.h"

namespace tidewater::sql {

/// `sql` is the client's text; `rewritten` what DuckDB was given of it, for the position.
Error Translate(const duckdb::ErrorData& error, const std::string& sql, const Rewritten* rewritten);

}  // namespace tidewater::sql
