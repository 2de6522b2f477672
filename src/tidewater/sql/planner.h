// Planner: a query's text to DuckDB's optimized logical plan, and that to a dataflow plan. Inside sql/ only.
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "duckdb.hpp"
#include "tidewater/base/result.h"
#include "tidewater/dataflow/plan.h"
#include "tidewater/types/schema.h"

namespace tidewater::sql {

struct LoweredView {
  std::unique_ptr<dataflow::PlanNode> plan;  ///< pruned and numbered, not Derive()d
  std::vector<std::string> names;
  Types types;
};

/// Plans a view's query in `connection`, whose transaction is open. Throws DuckDB's exceptions and, through
/// ThrowThroughDuckDB, ours (0A000 naming the construct that the dataflow does not know yet). `sql` is rewritten
/// (rewrite.h) already.
LoweredView PlanViewQuery(duckdb::Connection& connection, const std::string& sql);

}  // namespace tidewater::sql
