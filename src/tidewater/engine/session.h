// Session: what one client connection does with the engine. The wire protocol above it knows no SQL; this knows no
// bytes.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/types/delta_batch.h"
#include "tidewater/types/schema.h"

namespace tidewater::engine {

class Engine;

/// A parsed statement with its parameters' and result's types: what Parse and Describe need.
class Statement {
 public:
  virtual ~Statement() = default;
  /// One per $n. Parameters whose type nothing tells are VARCHAR (PostgreSQL's "text").
  std::vector<LogicalType> parameters;
  /// Empty for statements without rows. For SELECT as planned; may be empty until Execute for SHOW-like ones? No:
  /// always filled.
  std::vector<ColumnDef> columns;
  bool empty = false;  ///< the empty query string
  /// SELECT, INSERT, CREATE TABLE, ... : the command tag without counts.
  std::string tag;
};

/// Rows of one execution, pulled chunk by chunk. Pins its epoch until destroyed.
class Cursor {
 public:
  virtual ~Cursor() = default;
  std::vector<ColumnDef> columns;
  /// The next chunk (flat or not, 1 to STANDARD_VECTOR_SIZE rows), nullptr at the end. Errors in the middle are
  /// possible.
  virtual Result<std::unique_ptr<DataChunk>> Next() = 0;
  /// Valid after the end: "SELECT 3", "INSERT 0 2", "UPDATE 1", "CREATE_TABLE" is spelled as PostgreSQL spells it
  /// ("CREATE TABLE").
  virtual std::string CommandTag() = 0;
};

/// 'I' idle, 'T' in a transaction, 'E' in a failed one (protocol: ReadyForQuery).
enum class TransactionStatus : char { kIdle = 'I', kActive = 'T', kFailed = 'E' };

struct Notice {
  std::string severity = "NOTICE";  ///< NOTICE, WARNING, INFO
  std::string sqlstate = "00000";
  std::string message, detail, hint;
};

/// Used by one thread at a time, Cancel() excepted.
class Session {
 public:
  virtual ~Session() = default;
  /// The statements of a simple query, comments and empty ones dropped. 42601 with position on a syntax error in any of
  /// them.
  virtual Result<std::vector<std::string>> Split(const std::string& sql) = 0;
  /// `declared`: types of parameters that the client named; SQLNULL = unknown.
  virtual Result<std::unique_ptr<Statement>> Prepare(const std::string& sql, std::vector<LogicalType> declared) = 0;
  virtual Result<std::unique_ptr<Cursor>> Execute(Statement& statement, std::vector<duckdb::Value> parameters) = 0;
  /// From any thread: the running Execute or Next ends with 57014.
  virtual void Cancel() = 0;
  virtual TransactionStatus transaction_status() const = 0;
  /// An error in a simple-query batch or before Sync marks an open transaction failed.
  virtual void Fail() = 0;
  /// Notices since the last call, oldest first.
  virtual std::vector<Notice> TakeNotices() = 0;
  /// Session settings that the protocol reports (ParameterStatus): name and value, e.g. TimeZone, client_encoding.
  virtual std::string Setting(const std::string& name) const = 0;
  virtual Status Set(const std::string& name, const std::string& value) = 0;
};

struct SessionOptions {
  std::string user = "tidewater";
  std::string database = "dev";
  std::string application_name;
};

/// Opens a session. Any thread.
std::unique_ptr<Session> OpenSession(Engine& engine, const SessionOptions& options);

}  // namespace tidewater::engine
