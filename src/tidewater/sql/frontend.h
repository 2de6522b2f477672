// Frontend: the one DuckDB instance of the process, seen as a SQL frontend over our catalog and snapshots.
//
// Plans views into dataflow plans; prepares and runs queries against a dataflow::Snapshot. Its database is attached as
// FrontendOptions::database with our own catalog inside, so that unqualified names resolve to catalog::Catalog objects.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>
#include "duckdb.hpp"
#include "tidewater/base/result.h"
#include "tidewater/catalog/catalog.h"
#include "tidewater/dataflow/circuit.h"
#include "tidewater/dataflow/plan.h"
#include "tidewater/sql/statement.h"
#include "tidewater/types/schema.h"

namespace tidewater::sql {

struct FrontendOptions {
  std::string database = "dev";
  uint64_t memory_limit_bytes = uint64_t{1} << 30;
  /// Threads of DuckDB's own pool, for ad-hoc queries.
  int threads = 2;
  std::string temp_directory;  ///< where big queries spill; empty = no spilling
  std::string version;         ///< what version() and SHOW server_version say behind PostgreSQL's; may be empty
};

/// Catalog columns in the engine's form, and back.
Schema ToSchema(const catalog::Object& object);
std::vector<catalog::Column> FromColumns(const std::vector<ColumnDef>& columns);

struct ViewPlan {
  std::unique_ptr<dataflow::PlanNode> plan;  ///< numbered and Derive()d
  std::vector<ColumnDef> columns;            ///< names unique (42701 otherwise)
  std::vector<ObjectId> depends_on;          ///< relations and plain views it reads, ascending
};

/// Rows of one execution. Holds its snapshot until destroyed. One thread at a time.
class QueryStream {
 public:
  virtual ~QueryStream() = default;
  /// 1 to STANDARD_VECTOR_SIZE rows, nullptr at the end.
  virtual Result<std::unique_ptr<DataChunk>> Next() = 0;
};

/// A prepared query or DML. Belongs to the Connection that made it, which must outlive it.
class Prepared {
 public:
  virtual ~Prepared() = default;
  /// One per $n; VARCHAR where nothing tells.
  std::vector<LogicalType> parameters;
  /// Rows that Execute gives. For DML these are not the client's: see PrepareDml.
  std::vector<ColumnDef> columns;
  /// Relations it reads, ascending (stored ones; pg_catalog none).
  std::vector<ObjectId> reads;
};

/// DML as a query whose rows say what to change. The engine runs it on the newest snapshot and pushes the outcome.
struct PreparedDml {
  DmlKind kind = DmlKind::kInsert;
  ObjectId table = 0;
  /// Rows of the query, n = number of the table's columns.
  /// INSERT: n columns, the new row (column order of the table, cast to its types, left-out columns NULL).
  /// UPDATE: 2n columns, the old row and the new row. DELETE: n columns, the old row.
  std::unique_ptr<Prepared> query;
  /// INSERT ... ON CONFLICT DO NOTHING: rows whose key is there already are dropped.
  /// DO UPDATE SET every non-key column = EXCLUDED's: upsert. Other forms are refused (0A000).
  enum class OnConflict { kError, kNothing, kUpsert } on_conflict = OnConflict::kError;
  /// RETURNING: one column of the affected row (new, for DELETE old) each; empty = no RETURNING. Only plain columns and
  /// *.
  std::vector<uint32_t> returning;
};

/// Settings of a session that queries see.
struct SessionSettings {
  std::string user = "tidewater";
  std::string time_zone = "UTC";
  std::string application_name;
  /// Name -> value of all settings, for current_setting() and pg_settings; optional.
  std::map<std::string, std::string> all;
};

/// One per session. One thread at a time, Interrupt() excepted.
class Connection {
 public:
  virtual ~Connection() = default;
  virtual void Apply(const SessionSettings& settings) = 0;
  /// `declared`: types the client named; SQLNULL = unknown. Only queries (SELECT, VALUES, WITH, TABLE).
  virtual Result<std::unique_ptr<Prepared>> Prepare(const std::string& sql,
                                                    const std::vector<LogicalType>& declared) = 0;
  virtual Result<PreparedDml> PrepareDml(const std::string& sql, const std::vector<LogicalType>& declared) = 0;
  /// Runs on `snapshot` (may be null if the query reads no stored relation). Several streams may be open at once.
  /// Parameters are cast to Prepared::parameters (22P02 ...).
  virtual Result<std::unique_ptr<QueryStream>> Execute(Prepared& prepared, const std::vector<duckdb::Value>& parameters,
                                                       std::shared_ptr<dataflow::Snapshot> snapshot) = 0;
  /// DuckDB's plan of a query as text; `analyze` runs it.
  virtual Result<std::string> ExplainQuery(const std::string& sql, bool analyze,
                                           std::shared_ptr<dataflow::Snapshot> snapshot) = 0;
  /// Any thread: what runs ends with 57014.
  virtual void Interrupt() = 0;
};

/// Any thread.
class Frontend {
 public:
  virtual ~Frontend() = default;
  /// `catalog` must outlive it.
  static Result<std::unique_ptr<Frontend>> Make(catalog::Catalog& catalog, const FrontendOptions& options);

  virtual duckdb::DatabaseInstance& db() = 0;
  /// Column list of CREATE TABLE / SOURCE: names folded as PostgreSQL does, types by PostgreSQL's and DuckDB's names,
  /// PRIMARY KEY (which makes NOT NULL) and NOT NULL. 42704 unknown type, 42701 column twice, 0A000 other constraints
  /// and defaults.
  virtual Result<Schema> ResolveColumns(const ColumnList& columns) = 0;
  /// Plans the query of a materialized view or of a sink AS SELECT. `column_names` rename the output, may be empty.
  virtual Result<ViewPlan> PlanView(const std::string& query, const std::vector<std::string>& column_names = {}) = 0;
  /// Columns and dependencies of a plain view's query.
  virtual Result<ViewPlan> DescribeView(const std::string& query,
                                        const std::vector<std::string>& column_names = {}) = 0;
  /// The stored plan of a view, Derive()d against the catalog, its expressions bound in `context`, which has an open
  /// transaction and which no other thread uses meanwhile. XX001 where it cannot be read.
  virtual Result<std::unique_ptr<dataflow::PlanNode>> LoadPlan(const catalog::Object& view,
                                                               duckdb::ClientContext& context) = 0;
  /// ToText with names of the catalog.
  virtual std::string ExplainView(const dataflow::PlanNode& plan) = 0;
  /// What Derive() needs, from the catalog: unique keys by primary key (views: by their stored plan), append-only of
  /// streams.
  virtual dataflow::RelationInfo Describe(ObjectId relation) = 0;

  virtual std::unique_ptr<Connection> Connect() = 0;

  /// Runs a query to its end without parameters; for tests and for internal reads.
  Result<std::vector<duckdb::vector<duckdb::Value>>> Run(const std::string& sql,
                                                         std::shared_ptr<dataflow::Snapshot> snapshot);
};

/// The value in PostgreSQL's text form differs from DuckDB's for a few types (bool t/f, bytea \x...): pgwire's matter,
/// not ours.

/// DuckDB's exception as PostgreSQL would report it: SQLSTATE, message, position.
Error FromDuckDB(const duckdb::ErrorData& error, const std::string& sql = {});
Error FromException(const std::exception& exception, const std::string& sql = {});

}  // namespace tidewater::sql
