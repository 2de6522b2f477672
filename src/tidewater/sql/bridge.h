// Bridge: catalog::Catalog as a DuckDB catalog, and snapshots as DuckDB table scans. Inside sql/ only.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>
#include "duckdb.hpp"
#include "duckdb/catalog/catalog_entry/table_catalog_entry.hpp"
#include "duckdb/function/table_function.hpp"
#include "duckdb/main/client_context_state.hpp"
#include "duckdb/main/config.hpp"
#include "tidewater/base/result.h"
#include "tidewater/catalog/catalog.h"
#include "tidewater/dataflow/circuit.h"
#include "tidewater/sql/frontend.h"

namespace tidewater::sql {

/// Schemas of our database. The last two are reached by rewriting (rewrite.h), because DuckDB keeps names like
/// pg_catalog to itself.
inline constexpr const char* kPgSchema = "tw_pg_catalog";
inline constexpr const char* kInformationSchema = "tw_information_schema";

/// What a DuckDB connection of ours carries: the snapshot it reads and the objects its statement named.
struct ContextState : duckdb::ClientContextState {
  static constexpr const char* kKey = "tidewater";
  static ContextState& Get(duckdb::ClientContext& context);

  std::shared_ptr<dataflow::Snapshot> snapshot;
  std::set<ObjectId> touched;  ///< relations and plain views looked up since it was cleared
  SessionSettings settings;
};

/// The letters by which system tables and functions name types (system_tables.cc).
LogicalType TypeOf(char letter);

/// A virtual table computed from the catalog: pg_catalog and information_schema.
struct SystemTable {
  std::string schema, name;
  std::vector<std::string> names;
  Types types;
  std::function<std::vector<duckdb::vector<duckdb::Value>>(const catalog::Contents&, const SessionSettings&,
                                                           const std::string& database)>
      rows;
};
/// All of them (system_tables.cc).
const std::vector<SystemTable>& SystemTables();

/// The relation that a scan of ours reads.
struct RelationBind : duckdb::TableFunctionData {
  std::shared_ptr<duckdb::TableCatalogEntry> entry;  ///< keeps it alive while a plan refers to it
  catalog::ObjectPtr object;                         ///< null for system tables
  const SystemTable* system = nullptr;
  catalog::Catalog* catalog = nullptr;
  Types types;
  /// Where filters fix the whole store key: one expression without columns per key column.
  duckdb::vector<duckdb::unique_ptr<duckdb::Expression>> key;

  duckdb::unique_ptr<duckdb::FunctionData> Copy() const override;
  bool Equals(const duckdb::FunctionData& other) const override;
  bool SupportStatementCache() const override { return true; }
};

/// Registers the storage extension "tidewater"; ATTACH '' AS dev (TYPE tidewater) then shows `catalog`.
void RegisterCatalog(duckdb::DBConfig& config, catalog::Catalog& catalog, const std::string& database);

/// An error of ours to be thrown through DuckDB; FromDuckDB gives it back whole.
[[noreturn]] void ThrowThroughDuckDB(const Error& error, duckdb::ExceptionType type = duckdb::ExceptionType::BINDER);

}  // namespace tidewater::sql
