// Puts our overloads of an aggregate function in the place of DuckDB's of the same argument types, and beside the
// others. (Scalar functions need no such thing: ExtensionLoader::RegisterFunction does it.)
#pragma once
#include "duckdb/function/function_set.hpp"
#include "duckdb/main/extension/extension_loader.hpp"

namespace tidewater::sql {
void OverrideAggregates(duckdb::ExtensionLoader& loader, duckdb::AggregateFunctionSet ours);
}
