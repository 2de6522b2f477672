#include "tidewater/sql/override.h"
#include "duckdb/catalog/catalog.hpp"
#include "duckdb/catalog/catalog_entry/aggregate_function_catalog_entry.hpp"
#include "duckdb/catalog/catalog_transaction.hpp"
#include "duckdb/main/database.hpp"
#include "duckdb/parser/parsed_data/create_aggregate_function_info.hpp"

namespace tidewater::sql {
void OverrideAggregates(duckdb::ExtensionLoader& loader, duckdb::AggregateFunctionSet ours) {
  auto& db = loader.GetDatabaseInstance();
  auto& catalog = duckdb::Catalog::GetSystemCatalog(db);
  auto transaction = duckdb::CatalogTransaction::GetSystemTransaction(db);
  auto& schema = catalog.GetSchema(transaction, DEFAULT_SCHEMA);
  auto entry = schema.GetEntry(transaction, duckdb::CatalogType::AGGREGATE_FUNCTION_ENTRY, ours.name);
  auto same = [](const duckdb::AggregateFunction& a, const duckdb::AggregateFunction& b) {
    return a.arguments == b.arguments;
  };
  if (entry) {
    for (auto& theirs : entry->Cast<duckdb::AggregateFunctionCatalogEntry>().functions.functions) {
      bool replaced = false;
      for (auto& f : ours.functions) replaced |= same(f, theirs);
      if (!replaced) ours.AddFunction(theirs);
    }
  }
  for (auto& f : ours.functions) f.name = ours.name;
  duckdb::CreateAggregateFunctionInfo info(std::move(ours));
  info.internal = true;
  info.on_conflict = duckdb::OnCreateConflict::REPLACE_ON_CONFLICT;
  loader.RegisterFunction(std::move(info));
}
}  // namespace tidewater::sql
