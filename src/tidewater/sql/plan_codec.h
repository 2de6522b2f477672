// How plans are stored: JSON of our own, beside the SQL text in the catalog. Expressions are written by function name,
// argument types and exact constants, never in DuckDB's serialization, so that a newer DuckDB opens them.
#pragma once
#include <memory>
#include <string>
#include "tidewater/base/result.h"
#include "tidewater/dataflow/plan.h"

namespace tidewater::sql {

/// 0A000 naming what has no encoding (an expression that a later version must learn first).
Result<std::string> EncodePlan(const dataflow::PlanNode& plan);

/// Binds functions again through DuckDB's FunctionBinder in `context` (an own transaction is opened if none is active).
/// The result is not Derive()d. kCorrupt for bytes that are none of ours; 42883 when a function is no longer there or
/// binds to other types.
Result<std::unique_ptr<dataflow::PlanNode>> DecodePlan(duckdb::ClientContext& context, const std::string& text);

}  // namespace tidewater::sql
