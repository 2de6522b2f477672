#include "tidewater/sql/bridge.h"
#include <mutex>
#include <thread>
#include <unordered_map>
#include "duckdb/catalog/catalog.hpp"
#include "duckdb/catalog/catalog_entry/schema_catalog_entry.hpp"
#include "duckdb/catalog/catalog_entry/view_catalog_entry.hpp"
#include "duckdb/catalog/entry_lookup_info.hpp"
#include "duckdb/execution/expression_executor.hpp"
#include "duckdb/main/attached_database.hpp"
#include "duckdb/parser/parsed_data/attach_info.hpp"
#include "duckdb/parser/parsed_data/create_schema_info.hpp"
#include "duckdb/parser/parsed_data/create_table_info.hpp"
#include "duckdb/parser/parsed_data/create_view_info.hpp"
#include "duckdb/parser/parsed_data/drop_info.hpp"
#include "duckdb/parser/parser.hpp"
#include "duckdb/parser/statement/select_statement.hpp"
#include "duckdb/planner/expression/list.hpp"
#include "duckdb/planner/expression_iterator.hpp"
#include "duckdb/planner/operator/logical_get.hpp"
#include "duckdb/storage/database_size.hpp"
#include "duckdb/storage/statistics/base_statistics.hpp"
#include "duckdb/storage/statistics/node_statistics.hpp"
#include "duckdb/storage/storage_extension.hpp"
#include "duckdb/storage/table_storage_info.hpp"
#include "duckdb/transaction/transaction.hpp"
#include "duckdb/transaction/transaction_manager.hpp"
#include "tidewater/base/check.h"
#include "tidewater/sql/literals.h"
#include "tidewater/sql/rewrite.h"
#include "tidewater/types/schema.h"

namespace tidewater::sql {
namespace {

using duckdb::CatalogTransaction;
using duckdb::CatalogType;
using duckdb::ClientContext;
using duckdb::idx_t;
using duckdb::optional_ptr;
using duckdb::string;

[[noreturn]] void Refuse(const char* what) { ThrowThroughDuckDB(UserError("0A000", "{} is not supported here", what)); }

// --- The scan.

/// Types whose SQL equality is equality of bits, so that the hash of a looked-up value finds all equal rows.
bool ExactKeyType(const LogicalType& type) {
  switch (type.id()) {
    case duckdb::LogicalTypeId::BOOLEAN:
    case duckdb::LogicalTypeId::TINYINT:
    case duckdb::LogicalTypeId::SMALLINT:
    case duckdb::LogicalTypeId::INTEGER:
    case duckdb::LogicalTypeId::BIGINT:
    case duckdb::LogicalTypeId::HUGEINT:
    case duckdb::LogicalTypeId::UTINYINT:
    case duckdb::LogicalTypeId::USMALLINT:
    case duckdb::LogicalTypeId::UINTEGER:
    case duckdb::LogicalTypeId::UBIGINT:
    case duckdb::LogicalTypeId::DECIMAL:
    case duckdb::LogicalTypeId::VARCHAR:
    case duckdb::LogicalTypeId::BLOB:
    case duckdb::LogicalTypeId::DATE:
    case duckdb::LogicalTypeId::TIME:
    case duckdb::LogicalTypeId::TIMESTAMP:
    case duckdb::LogicalTypeId::TIMESTAMP_TZ:
    case duckdb::LogicalTypeId::UUID:
      return true;
    default:
      return false;
  }
}

struct ScanGlobal : duckdb::GlobalTableFunctionState {
  std::shared_ptr<dataflow::Snapshot> snapshot;  // null for system tables
  ObjectId relation = 0;
  std::vector<uint32_t> columns;  // relation columns of the output, virtual ones left out
  bool counts_only = false;       // no real column is asked for
  uint64_t parts = 0;
  std::atomic<uint64_t> next_part{0};
  // Rows known at the start: a point lookup, or a system table.
  bool ready_rows = false;
  std::vector<duckdb::vector<duckdb::Value>> rows;
  size_t next_row = 0;

  idx_t MaxThreads() const override { return ready_rows ? 1 : std::max<uint64_t>(1, parts / 16); }
};

struct ScanLocal : duckdb::LocalTableFunctionState {
  uint64_t part = 0;
  uint64_t resume = 0;
  bool more = false;
  std::unique_ptr<DataChunk> counted;
};

duckdb::unique_ptr<duckdb::GlobalTableFunctionState> InitGlobal(ClientContext& context,
                                                                duckdb::TableFunctionInitInput& input) {
  auto& bind = input.bind_data->Cast<RelationBind>();
  auto& state = ContextState::Get(context);
  auto global = duckdb::make_uniq<ScanGlobal>();
  for (auto column : input.column_ids)
    if (column < bind.types.size()) global->columns.push_back(uint32_t(column));
  if (global->columns.empty()) global->counts_only = true;
  TW_CHECK(global->counts_only || global->columns.size() == input.column_ids.size(), "{} of {} columns",
           global->columns.size(), input.column_ids.size());
  if (bind.system) {
    global->ready_rows = true;
    global->rows = bind.system->rows(*bind.catalog->Current(), state.settings, bind.entry->ParentCatalog().GetName());
    return global;
  }
  if (!state.snapshot)
    ThrowThroughDuckDB(
        UserError("55000", "relation \"{}\" cannot be read here: there is no snapshot", bind.object->name));
  global->snapshot = state.snapshot;
  global->relation = bind.object->id;
  if (global->counts_only) global->columns = {0};
  if (!bind.key.empty()) {
    duckdb::vector<duckdb::Value> key;
    bool null = false;
    for (size_t i = 0; i < bind.key.size(); i++) {
      auto value = duckdb::ExpressionExecutor::EvaluateScalar(context, *bind.key[i], true);
      null = null || value.IsNull();
      key.push_back(std::move(value));
    }
    global->ready_rows = true;
    if (null) return global;
    DeltaBatch found;
    found.types = bind.types;
    global->snapshot->Lookup(global->relation, key, found);
    for (auto& chunk : found.chunks)
      for (idx_t r = 0; r < chunk.size(); r++) {
        duckdb::vector<duckdb::Value> row;
        for (idx_t c = 0; c < chunk.rows->ColumnCount(); c++) row.push_back(chunk.rows->GetValue(c, r));
        for (int64_t w = 0; w < chunk.weight(r); w++) global->rows.push_back(row);
      }
    return global;
  }
  global->parts = global->snapshot->Parts(global->relation);
  return global;
}

duckdb::unique_ptr<duckdb::LocalTableFunctionState> InitLocal(duckdb::ExecutionContext& context,
                                                              duckdb::TableFunctionInitInput& input,
                                                              duckdb::GlobalTableFunctionState* global_state) {
  auto local = duckdb::make_uniq<ScanLocal>();
  if (global_state->Cast<ScanGlobal>().counts_only) {
    auto& bind = input.bind_data->Cast<RelationBind>();
    local->counted = std::make_unique<DataChunk>();
    local->counted->Initialize(duckdb::Allocator::Get(context.client), Types{bind.types[0]});
  }
  return local;
}

void ScanReadyRows(ScanGlobal& global, DataChunk& out) {
  idx_t n = std::min<idx_t>(STANDARD_VECTOR_SIZE, global.rows.size() - global.next_row);
  if (!global.counts_only)
    for (idx_t r = 0; r < n; r++)
      for (idx_t c = 0; c < global.columns.size(); c++)
        out.SetValue(c, r, global.rows[global.next_row + r][global.columns[c]]);
  global.next_row += n;
  out.SetCardinality(n);
}

void Scan(ClientContext& context, duckdb::TableFunctionInput& input, DataChunk& out) {
  auto& global = input.global_state->Cast<ScanGlobal>();
  if (global.ready_rows) return ScanReadyRows(global, out);
  auto& local = input.local_state->Cast<ScanLocal>();
  DataChunk& into = global.counts_only ? *local.counted : out;
  while (true) {
    if (!local.more) {
      local.part = global.next_part++;
      if (local.part >= global.parts) return;  // an empty chunk ends the scan
      local.resume = 0;
    }
    into.Reset();
    local.more = global.snapshot->Scan(global.relation, local.part, local.resume, global.columns, into);
    if (into.size() > 0) break;
    if (context.IsInterrupted()) throw duckdb::InterruptException();
  }
  if (global.counts_only) out.SetCardinality(into.size());
}

duckdb::unique_ptr<duckdb::NodeStatistics> Cardinality(ClientContext& context, const duckdb::FunctionData* data) {
  auto& bind = data->Cast<RelationBind>();
  auto& state = ContextState::Get(context);
  idx_t rows = 1000;
  if (!bind.key.empty())
    rows = 1;
  else if (bind.object && state.snapshot)
    rows = state.snapshot->Rows(bind.object->id);
  return duckdb::make_uniq<duckdb::NodeStatistics>(rows);
}

/// The other side where `e` compares column `binding` of the scan with something constant, else null.
const duckdb::Expression* ConstantSide(const duckdb::Expression& e, const duckdb::LogicalGet& get, uint32_t& column) {
  if (e.GetExpressionType() != duckdb::ExpressionType::COMPARE_EQUAL) return nullptr;
  auto& comparison = e.Cast<duckdb::BoundComparisonExpression>();
  for (auto [a, b] : {std::pair(comparison.left.get(), comparison.right.get()),
                      std::pair(comparison.right.get(), comparison.left.get())}) {
    if (a->GetExpressionClass() != duckdb::ExpressionClass::BOUND_COLUMN_REF) continue;
    auto& ref = a->Cast<duckdb::BoundColumnRefExpression>();
    if (ref.binding.table_index != get.table_index || a->return_type != b->return_type) continue;
    bool constant = true;
    std::function<void(const duckdb::Expression&)> look = [&](const duckdb::Expression& x) {
      auto c = x.GetExpressionClass();
      if (c == duckdb::ExpressionClass::BOUND_COLUMN_REF || c == duckdb::ExpressionClass::BOUND_REF ||
          c == duckdb::ExpressionClass::BOUND_SUBQUERY || x.IsVolatile())
        constant = false;
      duckdb::ExpressionIterator::EnumerateChildren(x, look);
    };
    look(*b);
    auto& index = get.GetColumnIds()[ref.binding.column_index];
    if (!constant || index.IsVirtualColumn()) continue;
    column = uint32_t(index.GetPrimaryIndex());
    return b;
  }
  return nullptr;
}

/// Notes a full key for InitGlobal. The filters stay where they are.
void NoteKey(ClientContext&, duckdb::LogicalGet& get, duckdb::FunctionData* data,
             duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>& filters) {
  auto& bind = data->Cast<RelationBind>();
  bind.key.clear();
  if (!bind.object || bind.object->store_key.empty()) return;
  std::unordered_map<uint32_t, const duckdb::Expression*> fixed;
  for (auto& f : filters) {
    uint32_t column = 0;
    if (auto value = ConstantSide(*f, get, column)) fixed[column] = value;
  }
  duckdb::vector<duckdb::unique_ptr<duckdb::Expression>> key;
  for (auto column : bind.object->store_key) {
    auto it = fixed.find(column);
    if (it == fixed.end() || !ExactKeyType(bind.types[column])) return;
    key.push_back(it->second->Copy());
  }
  bind.key = std::move(key);
}

duckdb::BindInfo GetBindInfo(const optional_ptr<duckdb::FunctionData> data) {
  return duckdb::BindInfo(*data->Cast<RelationBind>().entry);
}

duckdb::InsertionOrderPreservingMap<string> ScanText(duckdb::TableFunctionToStringInput& input) {
  duckdb::InsertionOrderPreservingMap<string> text;
  auto& bind = input.bind_data->Cast<RelationBind>();
  text["Table"] = bind.entry->name;
  if (!bind.key.empty()) text["Access"] = "point lookup by key";
  return text;
}

duckdb::TableFunction ScanFunction() {
  duckdb::TableFunction f("tidewater_scan", {}, Scan, nullptr, InitGlobal, InitLocal);
  f.projection_pushdown = true;
  f.cardinality = Cardinality;
  f.get_bind_info = GetBindInfo;
  f.pushdown_complex_filter = NoteKey;
  f.to_string = ScanText;
  f.order_preservation_type = duckdb::OrderPreservationType::NO_ORDER;
  f.verify_serialization = false;
  return f;
}

// --- Entries.

class RelationEntry : public duckdb::TableCatalogEntry, public std::enable_shared_from_this<RelationEntry> {
 public:
  RelationEntry(duckdb::Catalog& catalog, duckdb::SchemaCatalogEntry& schema, duckdb::CreateTableInfo& info,
                catalog::ObjectPtr object, const SystemTable* system, catalog::Catalog& ours)
      : TableCatalogEntry(catalog, schema, info), object(std::move(object)), system(system), ours(ours) {}

  duckdb::unique_ptr<duckdb::BaseStatistics> GetStatistics(ClientContext&, duckdb::column_t) override {
    return nullptr;
  }
  duckdb::TableFunction GetScanFunction(ClientContext&, duckdb::unique_ptr<duckdb::FunctionData>& bind_data) override {
    auto bind = duckdb::make_uniq<RelationBind>();
    bind->entry = shared_from_this();
    bind->object = object;
    bind->system = system;
    bind->catalog = &ours;
    bind->types = GetTypes();
    bind_data = std::move(bind);
    return ScanFunction();
  }
  duckdb::TableStorageInfo GetStorageInfo(ClientContext&) override { return {}; }
  // No rowid: nothing like it exists. The empty column is what count(*) reads.
  duckdb::virtual_column_map_t GetVirtualColumns() const override {
    duckdb::virtual_column_map_t columns;
    columns.insert({duckdb::COLUMN_IDENTIFIER_EMPTY, duckdb::TableColumn("", LogicalType::BOOLEAN)});
    return columns;
  }

  const catalog::ObjectPtr object;
  const SystemTable* const system;
  catalog::Catalog& ours;
};

class Schema_ : public duckdb::SchemaCatalogEntry {
 public:
  Schema_(duckdb::Catalog& catalog, duckdb::CreateSchemaInfo& info, catalog::Catalog& ours)
      : SchemaCatalogEntry(catalog, info), ours_(ours) {}

  optional_ptr<duckdb::CatalogEntry> LookupEntry(CatalogTransaction transaction,
                                                 const duckdb::EntryLookupInfo& lookup) override;
  void Scan(ClientContext&, CatalogType type, const std::function<void(duckdb::CatalogEntry&)>& visit) override {
    Scan(type, visit);
  }
  // DuckDB looks through all entries for "did you mean" and for its own listings, neither of which is ours.
  void Scan(CatalogType, const std::function<void(duckdb::CatalogEntry&)>&) override {}

  optional_ptr<duckdb::CatalogEntry> CreateIndex(CatalogTransaction, duckdb::CreateIndexInfo&,
                                                 duckdb::TableCatalogEntry&) override {
    Refuse("CREATE INDEX");
  }
  optional_ptr<duckdb::CatalogEntry> CreateFunction(CatalogTransaction, duckdb::CreateFunctionInfo&) override {
    Refuse("CREATE FUNCTION");
  }
  optional_ptr<duckdb::CatalogEntry> CreateTable(CatalogTransaction, duckdb::BoundCreateTableInfo&) override {
    Refuse("CREATE TABLE");
  }
  optional_ptr<duckdb::CatalogEntry> CreateView(CatalogTransaction, duckdb::CreateViewInfo&) override {
    Refuse("CREATE VIEW");
  }
  optional_ptr<duckdb::CatalogEntry> CreateSequence(CatalogTransaction, duckdb::CreateSequenceInfo&) override {
    Refuse("CREATE SEQUENCE");
  }
  optional_ptr<duckdb::CatalogEntry> CreateTableFunction(CatalogTransaction,
                                                         duckdb::CreateTableFunctionInfo&) override {
    Refuse("CREATE FUNCTION");
  }
  optional_ptr<duckdb::CatalogEntry> CreateCopyFunction(CatalogTransaction, duckdb::CreateCopyFunctionInfo&) override {
    Refuse("CREATE FUNCTION");
  }
  optional_ptr<duckdb::CatalogEntry> CreatePragmaFunction(CatalogTransaction,
                                                          duckdb::CreatePragmaFunctionInfo&) override {
    Refuse("CREATE FUNCTION");
  }
  optional_ptr<duckdb::CatalogEntry> CreateCollation(CatalogTransaction, duckdb::CreateCollationInfo&) override {
    Refuse("CREATE COLLATION");
  }
  optional_ptr<duckdb::CatalogEntry> CreateType(CatalogTransaction, duckdb::CreateTypeInfo&) override {
    Refuse("CREATE TYPE");
  }
  void DropEntry(ClientContext&, duckdb::DropInfo&) override { Refuse("DROP"); }
  void Alter(CatalogTransaction, duckdb::AlterInfo&) override { Refuse("ALTER"); }

 private:
  struct Cached {
    catalog::ObjectPtr object;
    std::shared_ptr<duckdb::CatalogEntry> entry;
  };
  std::shared_ptr<duckdb::CatalogEntry> MakeEntry(const catalog::ObjectPtr& object);
  std::shared_ptr<duckdb::CatalogEntry> SystemEntry(const std::string& name);
  std::shared_ptr<RelationEntry> MakeRelation(const std::string& name, const std::vector<std::string>& names,
                                              const Types& types, catalog::ObjectPtr object, const SystemTable* system);

  catalog::Catalog& ours_;
  std::mutex mutex_;
  std::unordered_map<ObjectId, Cached> cache_;                                           // guarded by mutex_
  std::unordered_map<std::string, std::shared_ptr<duckdb::CatalogEntry>> system_cache_;  // guarded by mutex_
};

/// Keeps the entries that its statement was given alive, also when they are dropped meanwhile.
class Transaction_ : public duckdb::Transaction {
 public:
  using Transaction::Transaction;
  void Keep(std::shared_ptr<duckdb::CatalogEntry> entry) {
    std::lock_guard lock(mutex_);
    kept_.insert(std::move(entry));
  }

 private:
  std::mutex mutex_;
  std::set<std::shared_ptr<duckdb::CatalogEntry>> kept_;
};

std::shared_ptr<RelationEntry> Schema_::MakeRelation(const std::string& name, const std::vector<std::string>& names,
                                                     const Types& types, catalog::ObjectPtr object,
                                                     const SystemTable* system) {
  duckdb::CreateTableInfo info;
  info.catalog = catalog.GetName();
  info.schema = this->name;
  info.table = name;
  for (size_t i = 0; i < names.size(); i++) info.columns.AddColumn(duckdb::ColumnDefinition(names[i], types[i]));
  return std::make_shared<RelationEntry>(catalog, *this, info, std::move(object), system, ours_);
}

std::shared_ptr<duckdb::CatalogEntry> Schema_::MakeEntry(const catalog::ObjectPtr& object) {
  if (object->type == catalog::ObjectType::kView) {
    duckdb::CreateViewInfo info(*this, object->name);
    duckdb::ParserOptions options;
    options.preserve_identifier_case = false;
    options.max_expression_depth = 1000;
    duckdb::Parser parser(options);
    auto text = RewriteQuery(object->query);
    if (!text) ThrowThroughDuckDB(text.error());
    parser.ParseQuery(text->text);
    info.query =
        duckdb::unique_ptr_cast<duckdb::SQLStatement, duckdb::SelectStatement>(std::move(parser.statements[0]));
    ReadLiterals(*info.query);
    info.sql = object->sql;
    for (auto& c : object->columns) {
      info.aliases.push_back(c.name);
      info.names.push_back(c.name);
      info.types.push_back(TypeFromText(c.type));
    }
    return std::make_shared<duckdb::ViewCatalogEntry>(catalog, *this, info);
  }
  std::vector<std::string> names;
  Types types;
  for (auto& c : object->columns) {
    names.push_back(c.name);
    types.push_back(TypeFromText(c.type));
  }
  return MakeRelation(object->name, names, types, object, nullptr);
}

std::shared_ptr<duckdb::CatalogEntry> Schema_::SystemEntry(const std::string& table) {
  std::lock_guard lock(mutex_);
  auto& cached = system_cache_[table];
  if (cached) return cached;
  for (auto& t : SystemTables())
    if (t.schema == name && t.name == table) return cached = MakeRelation(t.name, t.names, t.types, nullptr, &t);
  system_cache_.erase(table);
  return nullptr;
}

optional_ptr<duckdb::CatalogEntry> Schema_::LookupEntry(CatalogTransaction transaction,
                                                        const duckdb::EntryLookupInfo& lookup) {
  if (lookup.GetCatalogType() != CatalogType::TABLE_ENTRY && lookup.GetCatalogType() != CatalogType::VIEW_ENTRY)
    return nullptr;
  if (name == kPgSchema || name == kInformationSchema) {
    auto entry = SystemEntry(lookup.GetEntryName());
    return entry.get();
  }
  auto object = ours_.Current()->Find(catalog::kDefaultSchema, lookup.GetEntryName());
  if (!object || !object->is_relation() || object->hidden) return nullptr;
  std::shared_ptr<duckdb::CatalogEntry> entry;
  {
    std::lock_guard lock(mutex_);
    auto& cached = cache_[object->id];
    if (cached.object != object) cached = {object, MakeEntry(object)};
    entry = cached.entry;
    // Entries of dropped objects go; who still uses them holds them.
    if (cache_.size() > 2 * ours_.Current()->objects().size() + 16)
      std::erase_if(cache_, [&](auto& c) { return !ours_.Current()->Find(c.first); });
  }
  if (transaction.transaction) transaction.transaction->Cast<Transaction_>().Keep(entry);
  if (transaction.context) ContextState::Get(*transaction.context).touched.insert(object->id);
  return entry.get();
}

class Catalog_ : public duckdb::Catalog {
 public:
  Catalog_(duckdb::AttachedDatabase& db, catalog::Catalog& ours) : Catalog(db), ours_(ours) {}

  void Initialize(bool) override {
    for (auto name : {catalog::kDefaultSchema, kPgSchema, kInformationSchema}) {
      duckdb::CreateSchemaInfo info;
      info.schema = name;
      schemas_[name] = duckdb::make_uniq<Schema_>(*this, info, ours_);
    }
  }
  string GetCatalogType() override { return "tidewater"; }
  string GetDefaultSchema() const override { return catalog::kDefaultSchema; }
  duckdb::optional_idx GetCatalogVersion(ClientContext&) override { return ours_.version(); }
  optional_ptr<duckdb::SchemaCatalogEntry> LookupSchema(CatalogTransaction, const duckdb::EntryLookupInfo& lookup,
                                                        duckdb::OnEntryNotFound not_found) override {
    auto name = lookup.GetEntryName();
    if (name.empty() || name == DEFAULT_SCHEMA) name = catalog::kDefaultSchema;
    auto it = schemas_.find(name);
    if (it != schemas_.end()) return it->second.get();
    if (not_found == duckdb::OnEntryNotFound::RETURN_NULL) return nullptr;
    ThrowThroughDuckDB(UserError("3F000", "schema \"{}\" does not exist", name));
  }
  void ScanSchemas(ClientContext&, std::function<void(duckdb::SchemaCatalogEntry&)> visit) override {
    for (auto& [name, schema] : schemas_) visit(*schema);
  }
  optional_ptr<duckdb::CatalogEntry> CreateSchema(CatalogTransaction, duckdb::CreateSchemaInfo&) override {
    Refuse("CREATE SCHEMA");
  }
  void DropSchema(ClientContext&, duckdb::DropInfo&) override { Refuse("DROP SCHEMA"); }
  duckdb::PhysicalOperator& PlanCreateTableAs(ClientContext&, duckdb::PhysicalPlanGenerator&,
                                              duckdb::LogicalCreateTable&, duckdb::PhysicalOperator&) override {
    Refuse("CREATE TABLE AS");
  }
  duckdb::PhysicalOperator& PlanInsert(ClientContext&, duckdb::PhysicalPlanGenerator&, duckdb::LogicalInsert&,
                                       optional_ptr<duckdb::PhysicalOperator>) override {
    Refuse("INSERT");
  }
  duckdb::PhysicalOperator& PlanDelete(ClientContext&, duckdb::PhysicalPlanGenerator&, duckdb::LogicalDelete&,
                                       duckdb::PhysicalOperator&) override {
    Refuse("DELETE");
  }
  duckdb::PhysicalOperator& PlanUpdate(ClientContext&, duckdb::PhysicalPlanGenerator&, duckdb::LogicalUpdate&,
                                       duckdb::PhysicalOperator&) override {
    Refuse("UPDATE");
  }
  duckdb::DatabaseSize GetDatabaseSize(ClientContext&) override { return {}; }
  bool InMemory() override { return true; }
  string GetDBPath() override { return ""; }

 private:
  catalog::Catalog& ours_;
  std::map<std::string, duckdb::unique_ptr<Schema_>> schemas_;
};

class TransactionManager_ : public duckdb::TransactionManager {
 public:
  using TransactionManager::TransactionManager;
  duckdb::Transaction& StartTransaction(ClientContext& context) override {
    auto t = std::make_unique<Transaction_>(*this, context);
    auto& result = *t;
    std::lock_guard lock(mutex_);
    open_[&result] = std::move(t);
    return result;
  }
  duckdb::ErrorData CommitTransaction(ClientContext&, duckdb::Transaction& t) override {
    RollbackTransaction(t);
    return {};
  }
  void RollbackTransaction(duckdb::Transaction& t) override {
    std::unique_ptr<Transaction_> closed;
    std::lock_guard lock(mutex_);
    auto it = open_.find(&t);
    if (it == open_.end()) return;
    closed = std::move(it->second);
    open_.erase(it);
  }
  void Checkpoint(ClientContext&, bool) override {}

 private:
  std::mutex mutex_;
  std::unordered_map<duckdb::Transaction*, std::unique_ptr<Transaction_>> open_;
};

struct StorageInfo : duckdb::StorageExtensionInfo {
  explicit StorageInfo(catalog::Catalog& c) : catalog(c) {}
  catalog::Catalog& catalog;
};

}  // namespace

ContextState& ContextState::Get(ClientContext& context) {
  return *context.registered_state->GetOrCreate<ContextState>(kKey);
}

duckdb::unique_ptr<duckdb::FunctionData> RelationBind::Copy() const {
  auto copy = duckdb::make_uniq<RelationBind>();
  copy->entry = entry;
  copy->object = object;
  copy->system = system;
  copy->catalog = catalog;
  copy->types = types;
  for (auto& k : key) copy->key.push_back(k->Copy());
  return copy;
}

bool RelationBind::Equals(const duckdb::FunctionData& other) const {
  auto& o = other.Cast<RelationBind>();
  if (entry != o.entry || key.size() != o.key.size()) return false;
  for (size_t i = 0; i < key.size(); i++)
    if (!key[i]->Equals(*o.key[i])) return false;
  return true;
}

void RegisterCatalog(duckdb::DBConfig& config, catalog::Catalog& catalog, const std::string& database) {
  auto extension = duckdb::make_shared_ptr<duckdb::StorageExtension>();
  extension->storage_info = duckdb::make_shared_ptr<StorageInfo>(catalog);
  extension->attach = [](optional_ptr<duckdb::StorageExtensionInfo> info, ClientContext&, duckdb::AttachedDatabase& db,
                         const string&, duckdb::AttachInfo&,
                         duckdb::AttachOptions&) -> duckdb::unique_ptr<duckdb::Catalog> {
    return duckdb::make_uniq<Catalog_>(db, static_cast<StorageInfo&>(*info).catalog);
  };
  extension->create_transaction_manager = [](optional_ptr<duckdb::StorageExtensionInfo>, duckdb::AttachedDatabase& db,
                                             duckdb::Catalog&) -> duckdb::unique_ptr<duckdb::TransactionManager> {
    return duckdb::make_uniq<TransactionManager_>(db);
  };
  duckdb::StorageExtension::Register(config, "tidewater", std::move(extension));
}

void ThrowThroughDuckDB(const Error& error, duckdb::ExceptionType type) {
  duckdb::unordered_map<string, string> extra = {
      {"tw_sqlstate", error.sqlstate}, {"tw_detail", error.detail}, {"tw_hint", error.hint}};
  throw duckdb::Exception(extra, type, error.message);
}

}  // namespace tidewater::sql
