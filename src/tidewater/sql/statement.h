// Statements: one SQL text cut into statements, and each parsed as far as this project's own grammar goes. Queries
// inside stay text: DuckDB parses them (sql/frontend.h). Needs no catalog and no connection.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/catalog/catalog.h"

namespace tidewater::sql {

struct Name {
  std::string schema;  ///< empty = not written (the default schema)
  std::string name;
  std::string SchemaOrDefault() const { return schema.empty() ? catalog::kDefaultSchema : schema; }
  std::string ToString() const { return schema.empty() ? name : schema + "." + name; }
};

/// WITH (key = value, ...): names in lower case, dots kept; values without their quotes.
using Options = std::map<std::string, std::string>;

/// A column list as it was written: text between the parentheses, for Frontend::ResolveColumns.
struct ColumnList {
  std::string text;
  int position = 0;  ///< 1-based, of the text in the statement
  bool empty() const { return text.empty(); }
};

struct CreateSource {
  bool if_not_exists = false;
  Name name;
  ColumnList columns;  ///< empty when none was written
  Options options;
};
/// FROM a source, or a plain table.
struct CreateTable {
  bool if_not_exists = false;
  Name name;
  bool all_columns = false;  ///< (*): the source says which
  ColumnList columns;        ///< else
  std::optional<Name> source;
  std::string upstream_table;
  Options options;
};
struct CreateView {
  bool if_not_exists = false;
  bool or_replace = false;  ///< plain views only
  bool materialized = false;
  Name name;
  std::vector<std::string> column_names;  ///< CREATE VIEW v (a, b) AS ...; empty = as the query names them
  std::string query;
  int query_position = 1;  ///< 1-based, of the query in the statement: add it to the position of its errors, minus 1
  Options options;
};
struct CreateSink {
  bool if_not_exists = false;
  Name name;
  std::optional<Name> from;
  std::string query;  ///< AS SELECT, when `from` is empty
  int query_position = 1;
  Options options;
};
struct Drop {
  catalog::ObjectType type = catalog::ObjectType::kTable;
  bool if_exists = false;
  bool cascade = false;
  std::vector<Name> names;
};
struct AlterSource {
  Name name;
  Options options;  ///< new values; empty: only wake the source
};
/// ALTER MATERIALIZED VIEW name RESUME: a frozen view is filled anew and goes on.
struct AlterView {
  Name name;
};
enum class ShowKind {
  kTables,
  kSources,
  kMaterializedViews,
  kViews,
  kSinks,
  kJobs,
  kAll,
  kSetting,
  kCreate,
  kColumns,
  kErrors
};
/// kAll: all settings. kSetting: `setting`, lower case. kCreate: the statement that made `name`, of kind `type`.
/// kColumns: DESCRIBE or SHOW COLUMNS FROM `name`.
struct Show {
  ShowKind kind = ShowKind::kSetting;
  std::string setting;
  Name name;
  catalog::ObjectType type = catalog::ObjectType::kTable;
};
struct Set {
  std::string name;                  ///< lower case; "TIME ZONE" is "timezone"
  std::optional<std::string> value;  ///< nullopt: RESET, or SET ... TO DEFAULT; name "all" for RESET ALL
  bool local = false;                ///< SET LOCAL: until the end of the transaction
};
struct Flush {};
/// EXPLAIN of a query; of a view's dataflow where `view` (CREATE MATERIALIZED VIEW ... AS query).
struct Explain {
  bool analyze = false;
  bool view = false;
  std::string query;
  int query_position = 1;
};
enum class TransactionKind { kBegin, kCommit, kRollback, kSavepoint, kRelease, kRollbackTo };
struct Transaction {
  TransactionKind kind = TransactionKind::kBegin;
  bool read_only = false;
  std::string savepoint;
};
enum class DmlKind { kInsert, kUpdate, kDelete };
/// The whole statement as text: Frontend::PrepareDml.
struct Dml {
  DmlKind kind = DmlKind::kInsert;
  Name table;  ///< the target
};
/// SELECT, VALUES, WITH, TABLE: Connection::Prepare.
struct Query {};
/// Understood and without effect, e.g. DEALLOCATE, DISCARD, LISTEN, COMMENT, GRANT; `tag` is the command tag.
struct NoOp {
  std::string tag;
};
/// DECLARE, FETCH and CLOSE of SQL-level cursors, later.

struct Statement {
  std::variant<Query, CreateSource, CreateTable, CreateView, CreateSink, Drop, AlterSource, AlterView, Show, Set, Flush,
               Explain, Transaction, Dml, NoOp>
      node;
  /// The text without surrounding blanks and comments. As written, so with secrets: for execution only, never to be
  /// kept or printed.
  std::string text;
  /// The text with the values of secret options replaced by '[REDACTED]': for the catalog, logs and SHOW.
  std::string sql;
  /// PostgreSQL's command tag without counts: "SELECT", "CREATE TABLE", ...
  std::string tag;
};

/// The non-empty statements of a text, each without its semicolon. 42601 with position for an unterminated quote or
/// comment.
Result<std::vector<std::string>> SplitStatements(const std::string& sql);

/// Parses one statement. 42601 with position ("syntax error at or near ..."); 0A000 or 42501 for what is refused (COPY,
/// ATTACH, INSTALL, LOAD, PRAGMA, EXPORT, ...).
Result<Statement> ParseStatement(const std::string& text);

/// The name as an identifier in SQL: quoted where it must be.
std::string QuoteIdentifier(const std::string& name);
std::string QuoteLiteral(const std::string& text);

}  // namespace tidewater::sql
