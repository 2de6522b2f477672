#include "tidewater/sql/functions.h"
namespace tidewater::sql {
void RegisterSystemFunctions(duckdb::ExtensionLoader&, catalog::Catalog&, const std::string&, const std::string&) {}
}  // namespace tidewater::sql
