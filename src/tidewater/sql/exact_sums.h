// sum and avg of doubles without rounding on the way (base/exact_sum.h), so that a query gives the same bits as the
// views' aggregates, whatever the order of rows. Replaces DuckDB's own sum(DOUBLE) and avg(DOUBLE).
#pragma once
#include "duckdb/main/extension/extension_loader.hpp"
#include "tidewater/types/delta_batch.h"

namespace tidewater::sql {
void RegisterExactSums(duckdb::ExtensionLoader& loader);
}
