#include "tidewater/sql/frontend.h"
#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include "duckdb/catalog/catalog_search_path.hpp"
#include "duckdb/main/client_data.hpp"
#include "duckdb/main/extension/extension_loader.hpp"
#include "duckdb/main/prepared_statement.hpp"
#include "duckdb/main/stream_query_result.hpp"
#include "duckdb/parser/constraints/list.hpp"
#include "duckdb/parser/parsed_data/create_table_info.hpp"
#include "duckdb/parser/parser.hpp"
#include "duckdb/parser/statement/create_statement.hpp"
#include "duckdb/parser/statement/explain_statement.hpp"
#include "duckdb/parser/statement/select_statement.hpp"
#include "duckdb/planner/binder.hpp"
#include "duckdb/planner/planner.hpp"
#include "tidewater/base/check.h"
#include "tidewater/sql/bridge.h"
#include "tidewater/sql/dml.h"
#include "tidewater/sql/errors.h"
#include "tidewater/sql/exact_sums.h"
#include "tidewater/sql/functions.h"
#include "tidewater/sql/literals.h"
#include "tidewater/sql/naming.h"
#include "tidewater/sql/plan_codec.h"
#include "tidewater/sql/planner.h"
#include "tidewater/sql/rewrite.h"
#include "tidewater/sql/tokens.h"

namespace tidewater::sql {
namespace {

using catalog::ObjectPtr;
using catalog::ObjectType;
using duckdb::LogicalTypeId;
using duckdb::Value;
using DuckConnection = std::shared_ptr<duckdb::Connection>;

/// DuckDB reads no such name anywhere; ours do.
void RefuseLostNames(const std::vector<ColumnDef>& columns) {
  std::set<std::string> seen;
  for (auto& c : columns)
    if (!seen.insert(duckdb::StringUtil::Lower(c.name)).second) {
      bool exact = std::count_if(columns.begin(), columns.end(), [&](auto& o) { return o.name == c.name; }) > 1;
      ThrowThroughDuckDB(
          exact ? UserError("42701", "column \"{}\" specified more than once", c.name)
                : UserError("42701", "column \"{}\" differs from another one in case only", c.name)
                      .WithHint("Names of columns must differ in more than case, also when they are quoted."));
    }
}

/// timestamp(3) and the like are plain timestamps here, aliases of types the types themselves.
LogicalType Plain(const LogicalType& type) {
  switch (type.id()) {
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
    case LogicalTypeId::TIMESTAMP_NS:
      return LogicalType::TIMESTAMP;
    case LogicalTypeId::SQLNULL:
      return LogicalType::VARCHAR;
    default:
      break;
  }
  if (type.HasAlias() && !type.IsJSONType()) {
    auto copy = type;
    copy.SetAlias("");
    return copy;
  }
  return type;
}

class FrontendImpl;

class PreparedImpl : public Prepared {
 public:
  ~PreparedImpl() override;

  FrontendImpl* frontend = nullptr;
  std::string sql;
  Rewritten rewritten;
  duckdb::unique_ptr<duckdb::SQLStatement> statement;  ///< to prepare once more where the connection is busy
  DuckConnection connection;
  duckdb::unique_ptr<duckdb::PreparedStatement> prepared;
  std::shared_ptr<std::atomic<bool>> streaming = std::make_shared<std::atomic<bool>>(false);
  bool unstable = false;  ///< depends on the time or the session: planned anew each time
};

/// What a session is running; Interrupt() reaches it, and only while it runs, since connections are shared.
struct Running {
  std::mutex mutex;
  DuckConnection connection;  // guarded by mutex
  void Interrupt() {
    std::lock_guard lock(mutex);
    if (connection) connection->Interrupt();
  }
  void End() {
    std::lock_guard lock(mutex);
    connection.reset();
  }
};

class StreamImpl : public QueryStream {
 public:
  ~StreamImpl() override {
    if (running) running->End();
    result.reset();
    second.reset();
    if (connection) ContextState::Get(*connection->context).snapshot.reset();
    if (streaming) streaming->store(false);
    if (done) done();
  }
  Result<std::unique_ptr<DataChunk>> Next() override {
    auto outcome = Fetch();
    // What a stream says after an interrupt depends on where it stood.
    if ((!outcome || *outcome) && *interrupts != interrupts_before)
      return std::unexpected(EnvError(ErrorKind::kCancelled, "canceling statement due to user request"));
    return outcome;
  }

  std::shared_ptr<Running> running;
  std::shared_ptr<std::atomic<uint64_t>> interrupts;
  uint64_t interrupts_before = 0;

 private:
  Result<std::unique_ptr<DataChunk>> Fetch() {
    try {
      duckdb::unique_ptr<DataChunk> chunk;
      duckdb::ErrorData error;
      if (!result->TryFetch(chunk, error)) return std::unexpected(Translate(error, sql, nullptr));
      if (!chunk || chunk->size() == 0) return nullptr;
      for (duckdb::idx_t c = 0; c < chunk->ColumnCount(); c++)
        if (chunk->data[c].GetType().id() == LogicalTypeId::SQLNULL) {
          duckdb::Vector text(LogicalType::VARCHAR);
          text.Reference(Value(LogicalType::VARCHAR));
          chunk->data[c].Reinterpret(text);
          chunk->data[c].Reference(text);
        }
      return std::unique_ptr<DataChunk>(chunk.release());
    } catch (const std::exception& e) {
      return std::unexpected(Translate(duckdb::ErrorData(e), sql, nullptr));
    }
  }

 public:
  std::string sql;
  DuckConnection connection;
  duckdb::unique_ptr<duckdb::PreparedStatement> second;  ///< where the Prepared's own is busy
  duckdb::unique_ptr<duckdb::QueryResult> result;
  std::shared_ptr<std::atomic<bool>> streaming;
  std::function<void()> done;
};

class FrontendImpl : public Frontend {
 public:
  FrontendImpl(catalog::Catalog& catalog, const FrontendOptions& options) : catalog_(catalog), options_(options) {
    duckdb::DBConfig config;
    config.options.maximum_memory = options.memory_limit_bytes;
    config.options.maximum_threads = duckdb::idx_t(std::max(1, options.threads));
    config.options.use_temporary_directory = !options.temp_directory.empty();
    config.options.temporary_directory = options.temp_directory;
    RegisterCatalog(config, catalog, options.database);
    config.replacement_scans.clear();  // no 'file.parquet' as a table, no variables of a host language
    database_ = std::make_unique<duckdb::DuckDB>(nullptr, &config);
    duckdb::ExtensionLoader loader(*database_->instance, "tidewater");
    RegisterArithmetic(loader);
    RegisterExactSums(loader);
    RegisterCasts(loader);
    RegisterStrings(loader);
    RegisterSystemFunctions(loader, catalog, options.database, options.version);
    loader.RegisterType("jsonb", LogicalType::JSON());
    for (auto name : {"regclass", "regtype", "regproc", "regnamespace", "name", "cstring", "xid", "pg_node_tree", "tid",
                      "citext"}) {
      auto type = LogicalType(LogicalTypeId::VARCHAR);
      loader.RegisterType(name, type);
    }
    duckdb::Connection setup(*database_);
    auto run = [&](const std::string& sql) {
      auto result = setup.Query(sql);
      if (result->HasError()) result->ThrowError();
    };
    run(fmt::format("ATTACH '' AS {} (TYPE tidewater)", QuoteIdentifier(options.database)));
    for (auto setting :
         {"preserve_identifier_case = false", "default_null_order = 'nulls_last_on_asc_first_on_desc'",
          "TimeZone = 'UTC'", "autoinstall_known_extensions = false", "autoload_known_extensions = false",
          "errors_as_json = true", "enable_external_access = false"})
      if (auto result = setup.Query(fmt::format("SET GLOBAL {}", setting));
          result->HasError() && std::string(setting).find("python") == std::string::npos)
        result->ThrowError();
    planning_ = NewConnection();
  }

  ~FrontendImpl() override {
    planning_.reset();
    idle_.clear();
  }

  duckdb::DatabaseInstance& db() override { return *database_->instance; }
  catalog::Catalog& objects() { return catalog_; }

  /// A connection that resolves names in our database.
  DuckConnection NewConnection() {
    auto connection = std::make_shared<duckdb::Connection>(*database_);
    auto& path = *duckdb::ClientData::Get(*connection->context).catalog_search_path;
    path.Set({duckdb::CatalogSearchEntry(options_.database, catalog::kDefaultSchema),
              duckdb::CatalogSearchEntry(options_.database, kPgSchema)},
             duckdb::CatalogSetPathType::SET_DIRECTLY);
    connection->context->config.enable_progress_bar = false;
    return connection;
  }
  DuckConnection Borrow() {
    {
      std::lock_guard lock(idle_mutex_);
      if (!idle_.empty()) {
        auto connection = std::move(idle_.back());
        idle_.pop_back();
        return connection;
      }
    }
    return NewConnection();
  }
  void GiveBack(DuckConnection connection) {
    if (!connection) return;
    auto& state = ContextState::Get(*connection->context);
    state.snapshot.reset();
    state.touched.clear();
    connection->context->ClearInterrupt();
    std::lock_guard lock(idle_mutex_);
    if (idle_.size() < 16) idle_.push_back(std::move(connection));
  }

  Result<Schema> ResolveColumns(const ColumnList& list) override {
    Rewritten rewritten;
    const std::string prefix = "CREATE TABLE tw_new (";
    auto locate = [&](Error e) {
      if (e.position > 0) e.position = e.position + list.position - 1;
      return std::unexpected(std::move(e));
    };
    TW_ASSIGN(rewritten, RewriteColumns(list.text));
    rewritten.text = prefix + rewritten.text + ")";
    for (auto& piece : rewritten.pieces) piece.first += prefix.size();
    std::lock_guard lock(planning_mutex_);
    try {
      Schema schema;
      planning_->context->RunFunctionInTransaction([&] { schema = ReadColumns(rewritten.text); });
      return schema;
    } catch (const std::exception& e) {
      return locate(Translate(duckdb::ErrorData(e), list.text, &rewritten));
    }
  }

  Result<ViewPlan> PlanView(const std::string& query, const std::vector<std::string>& column_names) override {
    return Planned(query, column_names, false);
  }
  Result<ViewPlan> DescribeView(const std::string& query, const std::vector<std::string>& column_names) override {
    return Planned(query, column_names, true);
  }

  Result<std::unique_ptr<dataflow::PlanNode>> LoadPlan(const catalog::Object& view,
                                                       duckdb::ClientContext& context) override {
    TW_ASSIGN(auto plan, DecodePlan(context, view.plan));
    if (auto missing = MissingRelation(*plan))
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "the plan of view {} reads object {}, which does not exist",
                                      view.name, *missing));
    dataflow::Derive(*plan, [this](ObjectId id) { return Describe(id); });
    return plan;
  }

  std::string ExplainView(const dataflow::PlanNode& plan) override {
    auto contents = catalog_.Current();
    // Expressions are copied to be printed, and some look into the catalog then.
    std::lock_guard lock(planning_mutex_);
    std::string text;
    planning_->context->RunFunctionInTransaction([&] {
      text = dataflow::ToText(plan, [&](ObjectId id) {
        auto object = contents->Find(id);
        return object ? object->name : fmt::format("#{}", id);
      });
    });
    return text;
  }

  dataflow::RelationInfo Describe(ObjectId id) override {
    auto object = catalog_.Current()->Find(id);
    dataflow::RelationInfo info;
    info.id = id;
    if (!object) return info;
    {
      std::lock_guard lock(described_mutex_);
      auto it = described_.find(id);
      if (it != described_.end() && it->second.first == object) return it->second.second;
    }
    info.name = object->name;
    for (auto& c : object->columns) {
      info.names.push_back(c.name);
      info.types.push_back(TypeFromText(c.type));
    }
    if (object->type == ObjectType::kMaterializedView) {
      DuckConnection connection = Borrow();
      connection->context->RunFunctionInTransaction([&] {
        if (auto plan = LoadPlan(*object, *connection->context)) {
          info.unique_keys = (*plan)->unique_keys;
          info.append_only = (*plan)->append_only;
        }
      });
      GiveBack(std::move(connection));
    } else {
      if (!object->primary_key.empty()) info.unique_keys.push_back(object->primary_key);
      auto option = object->options.find("append_only");
      info.append_only = object->stream_only || (option != object->options.end() && option->second == "true");
    }
    std::lock_guard lock(described_mutex_);
    if (described_.size() > 10000) described_.clear();
    described_[id] = {object, info};
    return info;
  }

  std::unique_ptr<Connection> Connect() override;

 private:
  Schema ReadColumns(const std::string& sql) {
    duckdb::Parser parser(planning_->context->GetParserOptions());
    parser.ParseQuery(sql);
    auto& info = parser.statements[0]->Cast<duckdb::CreateStatement>().info->Cast<duckdb::CreateTableInfo>();
    if (parser.statements.size() != 1 || info.query)
      ThrowThroughDuckDB(UserError("42601", "a list of columns is expected"));
    Schema schema;
    auto binder = duckdb::Binder::CreateBinder(*planning_->context);
    for (auto& c : info.columns.Logical()) {
      if (c.Generated()) ThrowThroughDuckDB(UserError("0A000", "generated columns are not supported"));
      if (c.HasDefaultValue()) ThrowThroughDuckDB(UserError("0A000", "DEFAULT of a column is not supported"));
      auto type = c.Type();
      binder->BindLogicalType(type);
      ColumnDef column{c.Name(), Plain(type), false, 0};
      if (TypeFromText(TypeToText(column.type)) != column.type)
        ThrowThroughDuckDB(UserError("0A000", "columns of type {} are not supported", type.ToString()));
      schema.columns.push_back(std::move(column));
    }
    RefuseLostNames(schema.columns);
    for (auto& constraint : info.constraints) {
      switch (constraint->type) {
        case duckdb::ConstraintType::NOT_NULL:
          schema.columns[constraint->Cast<duckdb::NotNullConstraint>().index.index].not_null = true;
          break;
        case duckdb::ConstraintType::UNIQUE: {
          auto& unique = constraint->Cast<duckdb::UniqueConstraint>();
          if (!unique.IsPrimaryKey())
            ThrowThroughDuckDB(
                UserError("0A000", "UNIQUE is not supported").WithHint("A table can have a PRIMARY KEY."));
          if (!schema.primary_key.empty())
            ThrowThroughDuckDB(UserError("42P16", "multiple primary keys are not allowed"));
          if (unique.HasIndex()) schema.primary_key.push_back(uint32_t(unique.GetIndex().index));
          for (auto& name : unique.GetColumnNames()) {
            if (unique.HasIndex()) break;
            int place = -1;
            for (size_t i = 0; i < schema.columns.size(); i++)
              if (duckdb::StringUtil::CIEquals(schema.columns[i].name, name)) place = int(i);
            if (place < 0) ThrowThroughDuckDB(UserError("42703", "column \"{}\" named in key does not exist", name));
            schema.primary_key.push_back(uint32_t(place));
          }
          break;
        }
        case duckdb::ConstraintType::CHECK:
          ThrowThroughDuckDB(UserError("0A000", "CHECK constraints are not supported"));
        case duckdb::ConstraintType::FOREIGN_KEY:
          ThrowThroughDuckDB(UserError("0A000", "foreign keys are not supported"));
        default:
          ThrowThroughDuckDB(UserError("0A000", "this constraint is not supported"));
      }
    }
    for (auto k : schema.primary_key) schema.columns[k].not_null = true;
    return schema;
  }

  std::optional<ObjectId> MissingRelation(const dataflow::PlanNode& node) {
    if (node.kind == dataflow::NodeKind::kScan) {
      auto object = catalog_.Current()->Find(node.relation);
      if (!object) return node.relation;
      for (auto c : node.columns)
        if (c >= object->columns.size()) return node.relation;
    }
    for (auto& i : node.inputs)
      if (auto missing = MissingRelation(*i)) return missing;
    return std::nullopt;
  }

  Result<ViewPlan> Planned(const std::string& query, const std::vector<std::string>& column_names, bool describe_only) {
    TW_ASSIGN(auto rewritten, RewriteQuery(query));
    ViewPlan view;
    {
      std::lock_guard lock(planning_mutex_);
      auto& context = *planning_->context;
      auto& state = ContextState::Get(context);
      state.touched.clear();
      try {
        context.RunFunctionInTransaction([&] {
          if (describe_only) {
            duckdb::Parser parser(context.GetParserOptions());
            parser.ParseQuery(rewritten.text);
            if (parser.statements.size() != 1 || parser.statements[0]->type != duckdb::StatementType::SELECT_STATEMENT)
              ThrowThroughDuckDB(UserError("42601", "a view is defined by one SELECT"));
            auto& select = parser.statements[0]->Cast<duckdb::SelectStatement>();
            NameColumns(select);
            ReadLiterals(select);
            duckdb::Planner planner(context);
            planner.CreatePlan(std::move(parser.statements[0]));
            if (!planner.plan) ThrowThroughDuckDB(UserError("42P02", "there is no parameter in a view"));
            SetColumns(view, {planner.names.begin(), planner.names.end()}, planner.types, column_names);
          } else {
            auto lowered = PlanViewQuery(*planning_, rewritten.text);
            SetColumns(view, lowered.names, lowered.types, column_names);
            // What runs is what a restart will read.
            auto text = EncodePlan(*lowered.plan);
            if (!text) ThrowThroughDuckDB(text.error());
            auto plan = DecodePlan(context, *text);
            if (!plan) ThrowThroughDuckDB(UserError("0A000", "the query cannot be stored: {}", plan.error().message));
            CheckSame(*lowered.plan, **plan);
            view.plan = std::move(*plan);
          }
        });
      } catch (const std::exception& e) {
        return std::unexpected(Translate(duckdb::ErrorData(e), query, &rewritten));
      }
      view.depends_on.assign(state.touched.begin(), state.touched.end());
    }
    if (view.plan) {
      view.plan->names.clear();
      for (auto& c : view.columns) view.plan->names.push_back(c.name);
      dataflow::Derive(*view.plan, [this](ObjectId id) { return Describe(id); });
    }
    return view;
  }

  /// Fails where a function, bound again from its stored form, would not be the one that was planned.
  static void CheckSame(const dataflow::PlanNode& a, const dataflow::PlanNode& b) {
    auto same = [](const dataflow::ExpressionPtr& x, const dataflow::ExpressionPtr& y) {
      if (!x && !y) return;
      if (!x || !y || !x->Equals(*y))
        ThrowThroughDuckDB(UserError("0A000", "the expression {} cannot be stored yet", x ? x->ToString() : "?"));
    };
    auto all_same = [&](auto& x, auto& y) {
      for (size_t i = 0; i < x.size(); i++) same(x[i], y[i]);
    };
    all_same(a.expressions, b.expressions);
    all_same(a.left_keys, b.left_keys);
    all_same(a.right_keys, b.right_keys);
    all_same(a.groups, b.groups);
    same(a.residual, b.residual);
    for (size_t i = 0; i < a.aggregates.size(); i++) {
      same(a.aggregates[i].argument, b.aggregates[i].argument);
      same(a.aggregates[i].filter, b.aggregates[i].filter);
    }
    for (size_t i = 0; i < a.inputs.size(); i++) CheckSame(*a.inputs[i], *b.inputs[i]);
  }

  static void SetColumns(ViewPlan& view, const std::vector<std::string>& names, const Types& types,
                         const std::vector<std::string>& given) {
    if (given.size() > names.size())
      ThrowThroughDuckDB(UserError("42601", "CREATE VIEW specifies more column names than columns"));
    for (size_t i = 0; i < names.size(); i++) {
      auto name = i < given.size() ? given[i] : names[i];
      view.columns.push_back(
          {name, types[i].id() == LogicalTypeId::SQLNULL ? LogicalType(LogicalType::VARCHAR) : types[i], false, 0});
    }
    if (!given.empty()) return RefuseLostNames(view.columns);
    // Names that the query gives twice get a number, as in a join of two tables with the same columns.
    std::set<std::string> seen;
    for (auto& c : view.columns) {
      auto name = c.name;
      for (int n = 1; !seen.insert(duckdb::StringUtil::Lower(name)).second; n++) name = fmt::format("{}_{}", c.name, n);
      c.name = name;
    }
  }

  catalog::Catalog& catalog_;
  FrontendOptions options_;
  std::unique_ptr<duckdb::DuckDB> database_;
  std::mutex planning_mutex_;
  DuckConnection planning_;  // guarded by planning_mutex_
  std::mutex idle_mutex_;
  std::vector<DuckConnection> idle_;  // guarded by idle_mutex_
  std::mutex described_mutex_;
  std::map<ObjectId, std::pair<ObjectPtr, dataflow::RelationInfo>> described_;  // guarded by described_mutex_
};

PreparedImpl::~PreparedImpl() {
  prepared.reset();
  // With a stream still open on it, the connection goes with the stream.
  if (!streaming->load()) frontend->GiveBack(std::move(connection));
}

class ConnectionImpl : public Connection {
 public:
  explicit ConnectionImpl(FrontendImpl& frontend) : frontend_(frontend) {}

  void Apply(const SessionSettings& settings) override { settings_ = settings; }

  Result<std::unique_ptr<Prepared>> Prepare(const std::string& sql, const std::vector<LogicalType>& declared) override {
    TW_ASSIGN(auto rewritten, Rewrite(sql, declared));
    try {
      auto statement = ParseOne(rewritten.text);
      if (statement->type != duckdb::StatementType::SELECT_STATEMENT) {
        if (statement->type == duckdb::StatementType::INSERT_STATEMENT ||
            statement->type == duckdb::StatementType::UPDATE_STATEMENT ||
            statement->type == duckdb::StatementType::DELETE_STATEMENT)
          return std::unexpected(UserError("0A000", "WITH in front of INSERT, UPDATE or DELETE is not supported here"));
        return std::unexpected(UserError("42501", "this statement is not permitted"));
      }
      auto varchars = NameVarchars(statement->Cast<duckdb::SelectStatement>(), rewritten.text);
      NameColumns(statement->Cast<duckdb::SelectStatement>());
      TW_ASSIGN(auto prepared, PrepareStatement(sql, rewritten, std::move(statement), declared));
      for (auto i : varchars)  // unnest() of a struct moves those behind it
        if (prepared->columns[i].type == LogicalType::VARCHAR) prepared->columns[i].type.SetAlias("varchar");
      return std::unique_ptr<Prepared>(std::move(prepared));
    } catch (const std::exception& e) {
      return std::unexpected(Translate(duckdb::ErrorData(e), sql, &rewritten));
    }
  }

  Result<PreparedDml> PrepareDml(const std::string& sql, const std::vector<LogicalType>& declared) override {
    TW_ASSIGN(auto rewritten, Rewrite(sql, declared));
    try {
      auto query = ToQuery(ParseOne(rewritten.text), *frontend_.objects().Current());
      if (query.source) {
        TW_ASSIGN(auto source, PrepareStatement(sql, rewritten, std::move(query.source), declared));
        auto columns = source->columns.size();
        if (columns > query.source_columns)
          return std::unexpected(UserError("42601", "INSERT has more expressions than target columns"));
        if (columns < query.source_columns)
          return std::unexpected(
              query.explicit_columns
                  ? UserError("42601", "INSERT has more target columns than expressions")
                  : UserError("0A000",
                              "INSERT ... SELECT of fewer columns than the table has needs a list of columns"));
      }
      PreparedDml dml;
      dml.kind = query.kind;
      dml.table = query.table->id;
      dml.on_conflict = query.on_conflict;
      dml.returning = std::move(query.returning);
      TW_ASSIGN(auto prepared, PrepareStatement(sql, rewritten, std::move(query.query), declared));
      dml.query = std::move(prepared);
      return dml;
    } catch (const std::exception& e) {
      return std::unexpected(PointToName(Translate(duckdb::ErrorData(e), sql, &rewritten), sql));
    }
  }

  Result<std::unique_ptr<QueryStream>> Execute(Prepared& base, const std::vector<Value>& parameters,
                                               std::shared_ptr<dataflow::Snapshot> snapshot) override {
    auto& p = static_cast<PreparedImpl&>(base);
    if (parameters.size() != p.parameters.size())
      return std::unexpected(UserError("08P01", "bind message supplies {} parameters, but the statement requires {}",
                                       parameters.size(), p.parameters.size()));
    try {
      duckdb::vector<Value> values;
      for (size_t i = 0; i < parameters.size(); i++) {
        Value cast;
        std::string message;
        if (!parameters[i].DefaultTryCastAs(p.parameters[i], cast, &message))
          return std::unexpected(
              Translate(duckdb::ErrorData(duckdb::ExceptionType::CONVERSION, message), p.sql, nullptr));
        values.push_back(std::move(cast));
      }
      auto stream = std::make_unique<StreamImpl>();
      stream->sql = p.sql;
      stream->interrupts = interrupts_;
      stream->interrupts_before = *interrupts_;
      duckdb::PreparedStatement* statement = p.prepared.get();
      if (p.streaming->load() || p.unstable) {
        stream->connection = frontend_.Borrow();
        SetUp(*stream->connection);
        stream->second = stream->connection->Prepare(p.statement->Copy());
        if (stream->second->HasError()) return std::unexpected(Translate(stream->second->error, p.sql, &p.rewritten));
        statement = stream->second.get();
        auto* frontend = &frontend_;
        stream->done = [frontend, connection = stream->connection] { frontend->GiveBack(connection); };
      } else {
        stream->connection = p.connection;
        SetUp(*stream->connection);
        p.streaming->store(true);
        stream->streaming = p.streaming;
      }
      auto& state = ContextState::Get(*stream->connection->context);
      state.snapshot = std::move(snapshot);
      stream->connection->context->ClearInterrupt();
      stream->running = Track(stream->connection);
      auto pending = statement->PendingQuery(values, true);
      if (pending->HasError()) return std::unexpected(Translate(pending->GetErrorObject(), p.sql, &p.rewritten));
      stream->result = pending->Execute();
      if (stream->result->HasError())
        return std::unexpected(Translate(stream->result->GetErrorObject(), p.sql, &p.rewritten));
      return std::unique_ptr<QueryStream>(std::move(stream));
    } catch (const std::exception& e) {
      return std::unexpected(Translate(duckdb::ErrorData(e), p.sql, &p.rewritten));
    }
  }

  Result<std::string> ExplainQuery(const std::string& sql, bool analyze,
                                   std::shared_ptr<dataflow::Snapshot> snapshot) override {
    TW_ASSIGN(auto rewritten, Rewrite(sql, {}));
    auto connection = frontend_.Borrow();
    SetUp(*connection);
    std::string text;
    try {
      auto statement = ParseOne(rewritten.text);
      if (statement->type != duckdb::StatementType::SELECT_STATEMENT)
        return std::unexpected(UserError("0A000", "EXPLAIN takes a query"));
      ContextState::Get(*connection->context).snapshot = std::move(snapshot);
      auto running = Track(connection);
      ReadLiterals(statement->Cast<duckdb::SelectStatement>());
      auto explain = duckdb::make_uniq<duckdb::ExplainStatement>(
          std::move(statement), analyze ? duckdb::ExplainType::EXPLAIN_ANALYZE : duckdb::ExplainType::EXPLAIN_STANDARD);
      auto result = connection->Query(std::move(explain));
      if (result->HasError()) return std::unexpected(Translate(result->GetErrorObject(), sql, &rewritten));
      for (auto& row : *result) text += row.GetValue<std::string>(1);
    } catch (const std::exception& e) {
      return std::unexpected(Translate(duckdb::ErrorData(e), sql, &rewritten));
    }
    frontend_.GiveBack(std::move(connection));
    return text;
  }

  void Interrupt() override {
    std::lock_guard lock(running_mutex_);
    ++*interrupts_;
    for (auto& weak : running_)
      if (auto running = weak.lock()) running->Interrupt();
  }

 private:
  /// The text for DuckDB; parameters with a declared type become casts, and so do those in `texts` (to VARCHAR).
  static Result<Rewritten> Rewrite(const std::string& sql, const std::vector<LogicalType>& declared) {
    TW_ASSIGN(auto rewritten, RewriteQuery(sql));
    if (std::all_of(declared.begin(), declared.end(), [](auto& t) { return t.id() == LogicalTypeId::SQLNULL; }))
      return rewritten;
    TW_ASSIGN(auto tokens, Tokenize(rewritten.text));
    Rewritten out;
    size_t at = 0;
    auto copy = [&](size_t end) {
      for (auto& [here, there] : rewritten.pieces)
        if (here >= at && here < end) out.pieces.emplace_back(out.text.size() + here - at, there);
      out.text += rewritten.text.substr(at, end - at);
      at = end;
    };
    for (auto& t : tokens) {
      if (t.kind != TokenKind::kParameter) continue;
      auto n = std::strtoull(t.text.c_str(), nullptr, 10);
      if (n == 0 || n > declared.size() || declared[n - 1].id() == LogicalTypeId::SQLNULL) continue;
      copy(t.begin);
      out.pieces.emplace_back(out.text.size(), rewritten.Original(t.begin));
      out.text += fmt::format("CAST(${} AS {})", n, declared[n - 1].ToString());
      at = t.end;
    }
    copy(rewritten.text.size());
    return out;
  }

  /// DuckDB's parser does not keep the places of the target of a DML statement and of its columns: an error that has no
  /// place gets that of the first token with the name it quotes, for a column behind the name of the table.
  static Error PointToName(Error error, const std::string& sql) {
    auto begin = error.message.find('"'), end = error.message.find('"', begin + 1);
    auto tokens = Tokenize(sql);
    if (error.position > 0 || end == std::string::npos || !tokens) return error;
    auto name = error.message.substr(begin + 1, end - begin - 1);
    for (size_t i = error.sqlstate == "42703" ? 3 : 1; i < tokens->size(); i++)
      if ((*tokens)[i].IsName() && (*tokens)[i].text == name)
        return std::move(error).WithPosition(CharacterPosition(sql, (*tokens)[i].begin));
    return error;
  }

  duckdb::unique_ptr<duckdb::SQLStatement> ParseOne(const std::string& text) {
    duckdb::ParserOptions options;
    options.preserve_identifier_case = false;
    duckdb::Parser parser(options);
    parser.ParseQuery(text);
    if (parser.statements.size() != 1)
      ThrowThroughDuckDB(UserError("42601", "cannot insert multiple commands into a prepared statement"));
    return std::move(parser.statements[0]);
  }

  /// Brings the session's settings to a connection.
  void SetUp(duckdb::Connection& connection) {
    auto& state = ContextState::Get(*connection.context);
    auto old_zone = state.settings.time_zone;
    state.settings = settings_;
    if (old_zone != settings_.time_zone) {
      auto result = connection.Query(fmt::format("SET SESSION TimeZone = {}", QuoteLiteral(settings_.time_zone)));
      if (result->HasError())
        ThrowThroughDuckDB(UserError("22023", "invalid value for parameter \"TimeZone\": \"{}\"", settings_.time_zone));
    }
  }

  Result<std::unique_ptr<PreparedImpl>> PrepareStatement(const std::string& sql, const Rewritten& rewritten,
                                                         duckdb::unique_ptr<duckdb::SQLStatement> statement,
                                                         const std::vector<LogicalType>& declared) {
    auto p = std::make_unique<PreparedImpl>();
    p->frontend = &frontend_;
    p->sql = sql;
    p->rewritten = rewritten;
    p->connection = frontend_.Borrow();
    SetUp(*p->connection);
    auto& state = ContextState::Get(*p->connection->context);
    state.touched.clear();
    ReadLiterals(statement->Cast<duckdb::SelectStatement>());
    p->statement = statement->Copy();
    p->prepared = p->connection->Prepare(std::move(statement));
    if (p->prepared->HasError()) return std::unexpected(Translate(p->prepared->error, sql, &rewritten));
    size_t count = 0;
    for (auto& [name, index] : p->prepared->named_param_map)
      count = std::max<size_t>(count, std::strtoull(name.c_str(), nullptr, 10));
    if (count > 65535) return std::unexpected(UserError("42P02", "there are more than 65535 parameters"));
    count = std::max(count, declared.size());
    auto expected = p->prepared->GetExpectedParameterTypes();
    std::vector<LogicalType> resolved(count, LogicalType(LogicalType::SQLNULL));
    bool unresolved = false;
    std::vector<size_t> guessed;
    for (size_t i = 0; i < count; i++) {
      auto it = expected.find(std::to_string(i + 1));
      bool used = p->prepared->named_param_map.count(std::to_string(i + 1)) > 0;
      bool known = it != expected.end() && it->second.id() != LogicalTypeId::UNKNOWN &&
                   it->second.id() != LogicalTypeId::INVALID && it->second.id() != LogicalTypeId::SQLNULL &&
                   it->second.id() != LogicalTypeId::INTEGER_LITERAL &&
                   it->second.id() != LogicalTypeId::STRING_LITERAL;
      if (i < declared.size() && declared[i].id() != LogicalTypeId::SQLNULL)
        resolved[i] = declared[i];
      else if (known)
        resolved[i] = it->second;
      else {
        resolved[i] = LogicalType::VARCHAR;
        unresolved = unresolved || used;
        if (used) guessed.push_back(i);
      }
    }
    if (unresolved) {  // once more: text, or what else makes the statement valid, for what nothing tells the type of
      if (resolved == declared)
        return std::unexpected(UserError("42P18", "could not determine data types of the parameters"));
      std::optional<Error> first;
      for (auto& candidate :
           {LogicalType(LogicalType::VARCHAR), LogicalType(LogicalType::BIGINT), LogicalType(LogicalType::DOUBLE),
            LogicalType(LogicalType::TIMESTAMP), LogicalType(LogicalType::INTERVAL)}) {
        auto types = resolved;
        for (auto i : guessed) types[i] = candidate;
        TW_ASSIGN(auto again, Rewrite(sql, types));
        auto second = ParseOne(again.text);
        if (second->type != duckdb::StatementType::SELECT_STATEMENT)
          second = ToQuery(std::move(second), *frontend_.objects().Current()).query;
        else
          NameColumns(second->Cast<duckdb::SelectStatement>());
        auto made = PrepareStatement(sql, again, std::move(second), types);
        if (made) return made;
        if (!first) first = made.error();
      }
      return std::unexpected(*first);
    }
    p->parameters = std::move(resolved);
    auto& names = p->prepared->GetNames();
    auto& types = p->prepared->GetTypes();
    for (size_t i = 0; i < names.size(); i++)
      p->columns.push_back(
          {names[i], types[i].id() == LogicalTypeId::SQLNULL ? LogicalType(LogicalType::VARCHAR) : types[i], false, 0});
    auto contents = frontend_.objects().Current();
    for (auto id : state.touched) {
      auto object = contents->Find(id);
      if (!object || object->type == ObjectType::kView) continue;
      if (object->stream_only)
        return std::unexpected(
            UserError("0A000", "the rows of source \"{}\" are not kept and cannot be queried", object->name)
                .WithHint("Create a materialized view over it."));
      p->reads.push_back(id);
    }
    p->unstable = IsUnstable(rewritten.text);
    return p;
  }

  /// DuckDB folds now() and the like into a prepared plan, which must not outlive its moment.
  static bool IsUnstable(const std::string& text) {
    auto tokens = Tokenize(text);
    if (!tokens) return false;
    static const std::set<std::string> words = {"now",
                                                "current_timestamp",
                                                "current_date",
                                                "current_time",
                                                "localtime",
                                                "localtimestamp",
                                                "today",
                                                "transaction_timestamp",
                                                "statement_timestamp",
                                                "clock_timestamp",
                                                "get_current_timestamp",
                                                "current_setting",
                                                "tw_current_user",
                                                "age",
                                                "pg_backend_pid"};
    return std::any_of(tokens->begin(), tokens->end(),
                       [](auto& t) { return t.kind == TokenKind::kWord && words.count(t.text); });
  }

  std::shared_ptr<Running> Track(const DuckConnection& connection) {
    auto running = std::make_shared<Running>();
    running->connection = connection;
    std::lock_guard lock(running_mutex_);
    std::erase_if(running_, [](auto& w) { return w.expired(); });
    running_.push_back(running);
    return running;
  }

  FrontendImpl& frontend_;
  SessionSettings settings_;
  /// Counts Interrupt(); streams compare.
  std::shared_ptr<std::atomic<uint64_t>> interrupts_ = std::make_shared<std::atomic<uint64_t>>(0);
  std::mutex running_mutex_;
  std::vector<std::weak_ptr<Running>> running_;  // guarded by running_mutex_
};

std::unique_ptr<Connection> FrontendImpl::Connect() { return std::make_unique<ConnectionImpl>(*this); }

}  // namespace

Schema ToSchema(const catalog::Object& object) {
  Schema schema;
  for (auto& c : object.columns) schema.columns.push_back({c.name, TypeFromText(c.type), c.not_null, c.upstream_id});
  schema.primary_key = object.primary_key;
  return schema;
}

std::vector<catalog::Column> FromColumns(const std::vector<ColumnDef>& columns) {
  std::vector<catalog::Column> out;
  for (auto& c : columns) out.push_back({c.name, TypeToText(c.type), c.not_null, c.upstream_id});
  return out;
}

Result<std::unique_ptr<Frontend>> Frontend::Make(catalog::Catalog& catalog, const FrontendOptions& options) {
  try {
    return std::make_unique<FrontendImpl>(catalog, options);
  } catch (const std::exception& e) {
    return std::unexpected(
        EnvError(ErrorKind::kInternal, "the SQL frontend cannot start: {}", duckdb::ErrorData(e).RawMessage()));
  }
}

Result<std::vector<duckdb::vector<Value>>> Frontend::Run(const std::string& sql,
                                                         std::shared_ptr<dataflow::Snapshot> snapshot) {
  auto connection = Connect();
  TW_ASSIGN(auto prepared, connection->Prepare(sql, {}));
  TW_ASSIGN(auto stream, connection->Execute(*prepared, {}, std::move(snapshot)));
  std::vector<duckdb::vector<Value>> rows;
  while (true) {
    TW_ASSIGN(auto chunk, stream->Next());
    if (!chunk) return rows;
    for (duckdb::idx_t r = 0; r < chunk->size(); r++) {
      duckdb::vector<Value> row;
      for (duckdb::idx_t c = 0; c < chunk->ColumnCount(); c++) row.push_back(chunk->GetValue(c, r));
      rows.push_back(std::move(row));
    }
  }
}

}  // namespace tidewater::sql
