// SHOW: the columns and rows of each kind, from the catalog and the engine's report.
#pragma once
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/engine/core.h"
#include "tidewater/sql/statement.h"
#include "tidewater/types/schema.h"

namespace tidewater::engine {

/// Empty for kSetting and kAll, which are the session's.
std::vector<ColumnDef> ShowColumns(const sql::Show& show);
Result<std::vector<duckdb::vector<duckdb::Value>>> ShowRows(Core& core, const sql::Show& show);
/// The relations below `relations` (views on views included) that have rows in the error table, with their numbers.
std::vector<std::pair<std::string, uint64_t>> IncompleteBelow(Core& core, const std::vector<ObjectId>& relations);

}  // namespace tidewater::engine
