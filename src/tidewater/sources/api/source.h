// What a source connector is to the engine. Connectors know nothing of the engine, of each other, or of SQL.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/base/secret.h"
#include "tidewater/types/change.h"
#include "tidewater/types/schema.h"

namespace tidewater {

/// A row that no column type can hold: goes to the error table, with the hint to declare the column's type.
struct RejectedRow {
  ObjectId table = 0;
  std::string key;  ///< the primary key as text
  std::string column;
  std::string value;  ///< as text, cut at 1,000 characters
  std::string message;
  std::string hint;
  bool resolved = false;  ///< true: the upstream row of that key is gone or fits now; remove its entry
};

/// A piece of the stream: a whole number of upstream transactions, unless `continues` is set.
struct SourceBatch {
  std::vector<ChangeChunk> changes;
  std::vector<RejectedRow> rejected;
  /// Tables whose initial load is complete with this batch: from the end of this epoch on they are visible.
  std::vector<ObjectId> loaded;
  /// Resume position after this batch, opaque to the engine, checkpointed with the state that holds these changes. It
  /// includes the progress of initial loads.
  std::string offset;
  /// The transaction goes on in the next batch: the epoch must not end here.
  bool continues = false;
  /// Upstream commit time of the newest transaction inside, µs since 1970 by the upstream's clock; 0 when unknown.
  int64_t commit_time_us = 0;
  /// For generators: how many events the batch stands for (rows may be fewer). 0 = number of rows.
  uint64_t events = 0;
  uint64_t RowCount() const {
    uint64_t n = 0;
    for (auto& c : changes) n += c.rows->size();
    return n;
  }
};

enum class SourceState { kStarting, kLoading, kStreaming, kRetrying, kFailed, kStopped };
std::string ToString(SourceState state);

/// What SHOW SOURCES and the metrics say of a source.
struct SourceStatus {
  SourceState state = SourceState::kStarting;
  /// kRetrying: the reason, the attempt and when the next comes. kFailed: the reason, with the statement that resolves
  /// it as HINT.
  std::optional<Error> error;
  uint64_t retries = 0;
  std::string position;    ///< e.g. the LSN up to which changes were handed over
  int64_t lag_bytes = -1;  ///< behind the upstream's write position; -1 unknown
  int64_t lag_us = -1;
  struct Load {
    ObjectId table;
    std::string name;
    uint64_t rows_done = 0;
    uint64_t rows_estimated = 0;
    bool complete = false;
  };
  std::vector<Load> loads;  ///< for SHOW JOBS
};

/// A table that takes part of the source's stream.
struct SourceTable {
  ObjectId id = 0;
  std::string upstream_name;  ///< 'public.orders'
  Schema schema;              ///< as stored in Tidewater
  std::map<std::string, std::string> options;
  /// Columns the plans need (positions), for connectors that can leave out the rest; empty = all. Left-out columns are
  /// constant NULL vectors.
  std::vector<uint32_t> needed;
};

/// One connected upstream. Poll, Confirm and Alter come from the engine's thread; what may wait for the upstream
/// (Describe, AddTable, RemoveTable, Start, Stop, DropUpstream) from the thread of the statement that needs it, one
/// statement at a time. The connector owns its own threads.
class Source {
 public:
  virtual ~Source() = default;
  /// Columns and key of an upstream table, for `CREATE TABLE t (*) FROM source TABLE '...'`. Errors: 42P01 no
  /// such table, 0A000 a type without counterpart or REPLICA IDENTITY NOTHING, connection errors.
  virtual Result<Schema> Describe(const std::string& upstream_table) = 0;
  /// Checks `table` (exists, key, types fit) and adds it to the running stream, its initial load first. Idempotent
  /// after a restart.
  virtual Status AddTable(const SourceTable& table) = 0;
  virtual Status RemoveTable(ObjectId table) = 0;
  /// Starts or resumes. `offset` is what the last checkpoint recorded, empty at the very first start. Tables were added
  /// before.
  virtual Status Start(const std::string& offset) = 0;
  /// The next piece if one is there, at most about `max_rows` rows. Never blocks. Errors do not surface here but in
  /// GetStatus().
  virtual std::optional<SourceBatch> Poll(size_t max_rows) = 0;
  /// Everything up to `offset` is durable: the upstream may forget it.
  virtual void Confirm(const std::string& offset) = 0;
  /// Any thread.
  virtual SourceStatus GetStatus() = 0;
  /// Wakes a kFailed source after ALTER SOURCE with the new options (a changed password, ...).
  virtual Status Alter(const std::map<std::string, std::string>& options) = 0;
  /// Stops threads; what was created upstream stays.
  virtual void Stop() = 0;
  /// After Stop, for DROP SOURCE: removes the slot and the publication if this source created them.
  virtual Status DropUpstream() = 0;
};

/// Called by connectors from any thread when Poll has something new, so that the engine need not spin.
using WakeEngine = std::function<void()>;

struct SourceOptions {
  ObjectId id = 0;
  std::string name;
  std::map<std::string, std::string> options;  ///< the WITH clause, secrets in clear: never log
  WakeEngine wake;
  /// It reads again what another source with these options has handed over, for a view that comes later: everything is
  /// due at once.
  bool replay = false;
};

/// A connector by its name in `WITH (connector = '...')`.
struct SourceConnector {
  std::string name;
  /// Checks names and values of the options without connecting. Errors name the option (22023).
  std::function<Status(const std::map<std::string, std::string>&)> validate;
  std::function<Result<std::unique_ptr<Source>>(SourceOptions)> make;
  /// A source whose rows the engine does not store: views read the stream itself (nexmark). `fixed_schema` then gives
  /// its columns from the options.
  bool stream_only = false;
  std::function<Result<Schema>(const std::map<std::string, std::string>&)> fixed_schema;
};

/// The connectors of this program. Filled once, in cli/, before the engine starts.
class SourceRegistry {
 public:
  static SourceRegistry& Get();
  void Register(SourceConnector connector);
  /// 22023 with the known names when there is none of that name.
  Result<const SourceConnector*> Find(const std::string& name) const;

 private:
  std::map<std::string, SourceConnector> connectors_;
};

}  // namespace tidewater
