// Core: the inside of the engine. The engine's thread owns what is not marked; sessions reach it through OnEngine and
// Write.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>
#include "tidewater/base/crash_note.h"
#include "tidewater/base/ids.h"
#include "tidewater/base/metrics.h"
#include "tidewater/base/result.h"
#include "tidewater/catalog/catalog.h"
#include "tidewater/dataflow/circuit.h"
#include "tidewater/engine/engine.h"
#include "tidewater/engine/error_table.h"
#include "tidewater/io/object_store.h"
#include "tidewater/sinks/api/sink.h"
#include "tidewater/sources/api/source.h"
#include "tidewater/sql/frontend.h"
#include "tidewater/state/chunk_codec.h"
#include "tidewater/state/state_log.h"

namespace tidewater::engine {

/// Exact changes of tables, as one transaction makes them.
using WriteDeltas = std::map<ObjectId, DeltaBatch>;

/// Says whether the statement that waits has been cancelled.
using Cancelled = std::function<bool()>;

/// 57P01: the engine stops.
Error StoppingError();
/// 57014: the user cancelled the statement.
Error CancelledError();
/// Stream of the state log with the deltas of one checkpoint that a sink has not committed.
std::string SinkStream(ObjectId sink, CheckpointId id);

class Core {
 public:
  explicit Core(EngineOptions options);
  ~Core();

  // --- Life. One thread.
  Status Open();
  Status Start();
  void Stop(bool last_checkpoint);

  // --- For sessions, any thread.
  const EngineOptions& options() const { return options_; }
  catalog::Catalog& catalog() { return catalog_; }
  sql::Frontend& frontend() { return *frontend_; }
  std::shared_ptr<dataflow::Snapshot> Pin() { return circuit_->Pin(); }
  /// The newest durable checkpoint's rows (read_mode = 'durable'); the first call turns the pinning on and waits for a
  /// checkpoint.
  Result<std::shared_ptr<dataflow::Snapshot>> PinDurable(const Cancelled& cancelled);

  /// Runs `work` on the engine's thread at an epoch boundary and returns its outcome. 57P01 when the engine stops.
  /// `any_time`: also in the middle of an upstream transaction, for work that only looks.
  Status OnEngine(const std::function<Status()>& work, bool any_time = false);

  /// Held from the read of a row change until its deltas are published, and by DDL while it changes the catalog.
  std::timed_mutex& write_mutex() { return write_mutex_; }
  /// Logs and applies one transaction as part of one epoch; returns when it is published. `durable` becomes ready when
  /// it may be acknowledged. REQUIRES: write_mutex held.
  Status Write(WriteDeltas deltas, std::future<Status>& durable);
  /// The epoch in which a Write last changed the table. REQUIRES: write_mutex held.
  Epoch LastWrite(ObjectId table) const;

  // DDL. `warnings` gets what the user should know besides.
  Status CreateSource(const sql::CreateSource& statement, const std::string& sql, const Cancelled& cancelled);
  Status CreateTable(const sql::CreateTable& statement, const std::string& sql, const Cancelled& cancelled);
  Status CreateView(const sql::CreateView& statement, const std::string& sql, const Cancelled& cancelled);
  Status CreateSink(const sql::CreateSink& statement, const std::string& sql, const Cancelled& cancelled);
  Status Drop(const sql::Drop& statement, const Cancelled& cancelled, std::vector<std::string>& warnings);
  Status AlterSource(const sql::AlterSource& statement, const Cancelled& cancelled);
  /// ALTER MATERIALIZED VIEW ... RESUME, and with it the views that are frozen because this one is.
  Status ResumeView(const sql::AlterView& statement, const Cancelled& cancelled, std::vector<std::string>& warnings);
  Status Flush(const Cancelled& cancelled, std::vector<std::string>& warnings);

  /// 55000 when one of the relations, or what it reads, is a table in its initial load.
  Status CheckLoaded(const std::vector<ObjectId>& relations) const;
  /// Frozen views among what the objects are or read, each once.
  std::vector<catalog::ObjectPtr> FrozenBelow(const std::vector<ObjectId>& relations) const;
  EngineReport Report();
  ErrorTable& errors() { return errors_; }
  bool IsErrorTable(ObjectId id) const { return id == error_table_; }

 private:
  struct SourceRuntime {
    ObjectId id = 0;
    std::string name;
    const SourceConnector* connector = nullptr;
    std::shared_ptr<Source> source;  ///< shared with the statement that works on it upstream
    std::string offset;
    bool started = false;        ///< Start was called; a stream-only source waits for its first view
    bool unread = false;         ///< stream-only, and no view reads it any more: not polled
    bool open = false;           ///< in the middle of an upstream transaction
    std::set<ObjectId> loading;  ///< tables whose initial load is not complete
    uint64_t rows = 0, events = 0, rejected = 0;
    int64_t epoch_commit_time_us = 0;       ///< newest in the epoch that is open
    int64_t checkpoint_commit_time_us = 0;  ///< newest since the last checkpoint
    prometheus::Counter* rows_metric = nullptr;
    prometheus::Histogram* freshness_metric = nullptr;
  };
  struct SinkRuntime {
    ObjectId id = 0;
    ObjectId input = 0;
    std::string name, uuid, connector_name;
    bool keeps_log = true;
    std::shared_ptr<Sink> sink;        ///< shared with a FLUSH that waits for it: a DROP may come meanwhile
    std::optional<Error> start_error;  ///< why there is no `sink`: its deltas then wait in the state log alone
    Types types;
    std::vector<DeltaBatch> pending;  ///< of the open epoch
    state::ByteWriter log;            ///< encoded deltas since the last checkpoint
    std::deque<CheckpointId> logged;  ///< checkpoints whose deltas lie in the state log
    /// Until the sink has committed it: the checkpoint as of which it has the whole content of its input, by Load or,
    /// where the input's rows are not kept, by its deltas. 0: none.
    CheckpointId content = 0;
    /// Its hidden view is being filled: it commits nothing, as long as it can hold that much.
    bool filling = false;
    uint64_t rows = 0;
    uint64_t commits_seen = 0;
    prometheus::Counter* rows_metric = nullptr;
    prometheus::Counter* commits_metric = nullptr;
  };
  /// A view that is being filled. Not in the catalog yet.
  struct BackfillRuntime {
    std::string name;
    std::unique_ptr<dataflow::Backfill> backfill;
    std::map<ObjectId, SourceRuntime> readers;  ///< of the streams that it reads
    ObjectId sink = 0;                          ///< gets what comes out, where the rows are not kept
    bool ready = false;                         ///< so near to the present that it may finish; see WaitBackfill
  };
  struct PendingErrors {
    std::map<ErrorEntry, int64_t> entries;
    int64_t rows = 0;  ///< sum of the weights
  };
  struct CheckpointInfo {
    std::map<ObjectId, std::string> offsets;
    uint64_t wal_sequence = 0;
    int64_t commit_time_us = 0;
    int64_t begun_us = 0;
    uint64_t bytes = 0;
    std::shared_ptr<dataflow::Snapshot> snapshot;
  };
  struct Request {
    const std::function<Status()>* work;
    bool any_time = false;
    std::promise<Status> done;
  };
  struct PendingWrite {
    WriteDeltas deltas;
    std::promise<Status> published;
    std::promise<Status> durable;
  };

  // core.cc: the loop
  void Loop();
  void Wake();
  void RunRequests(bool at_boundary);
  void TakeWrites(std::vector<std::unique_ptr<PendingWrite>>& taken);
  /// Whether sinks hold more than they may; they are then asked to commit.
  bool SinksFull();
  bool PollSources();
  bool AnyOpen() const;
  void StepNow();
  void PublishNow();
  /// What the last step changed waits for the end of the epoch.
  void CollectForSinks();
  void HandToSinks();
  void HandToSink(SinkRuntime& sink, DeltaBatch rows);
  /// Has the sink take the content of its input as of `id`.
  void LoadSink(SinkRuntime& sink, CheckpointId id);
  /// Of an object in the catalog or on its way there.
  std::string NameOf(ObjectId id) const;
  /// What the last step said of rows that fail waits for the end of the epoch; a view that has too many of them
  /// freezes.
  void CollectEvaluationErrors();
  void AfterStep();
  /// Brings the error table up to date, in steps of the open epoch.
  void StepEvaluationErrors();
  /// Records in the catalog which views the circuit froze.
  void TakeFaults();
  void RecordFreeze(const catalog::Object& view, catalog::Freeze freeze);
  void RefreshMetrics();
  [[noreturn]] void Fatal(const std::string& what);
  void FailWaiters(const Error& error);

  // checkpoint.cc
  bool CheckpointPossible() const;
  bool CheckpointDue(int64_t now_us) const;
  /// Whether the next checkpoint has options_.checkpoint_bytes to write.
  bool CheckpointFull() const;
  CheckpointId TakeCheckpoint();
  void HandleDurable();
  Status WaitDurable(CheckpointId id, const Cancelled& cancelled);
  std::string EncodeEngineRecord() const;
  struct Restored {
    Epoch epoch = 0;
    uint64_t wal_sequence = 0;
    struct SourceState {
      std::string offset;
      bool started;
      std::vector<ObjectId> loading;
      uint64_t rows, events;
    };
    struct SinkState {
      std::string uuid;
      std::vector<CheckpointId> logged;
      bool content;  ///< may not have committed its input's content
    };
    std::map<ObjectId, SourceState> sources;
    std::map<ObjectId, SinkState> sinks;
    ObjectId error_table = 0;
  };
  static Result<Restored> DecodeEngineRecord(const std::string& payload);
  /// Sets the memory budget and finds the directory for what leaves memory.
  Status MakeScratch();
  /// Memory that what one pass of the circuit puts out may take.
  uint64_t PassBytesMax() const;
  /// Has a crash leave a note (base/crash_note.h), and reads those of earlier ones.
  Status OpenCrashNotes();
  Status Recover();
  /// Adds a stored view to the circuit, frozen where it has to be: says why then.
  std::optional<catalog::Freeze> RecoverView(const catalog::Object& view, Epoch epoch);
  Status ReplayWal(uint64_t after);
  Status ReplaySinkLogs(const Restored& restored);
  static std::string EncodeWrite(const WriteDeltas& deltas);
  Result<WriteDeltas> DecodeWrite(const std::string& payload) const;

  // ddl.cc
  Status MakeErrorTable();
  Result<std::unique_lock<std::timed_mutex>> LockWrites(const Cancelled& cancelled);
  /// Waits until no table that the relations stand on is in its initial load; with the DDL lock released meanwhile.
  Status WaitLoaded(const std::vector<ObjectId>& relations, std::unique_lock<std::timed_mutex>& ddl,
                    const Cancelled& cancelled);
  Result<std::unique_lock<std::timed_mutex>> LockDdl(const Cancelled& cancelled);
  std::set<ObjectId> LoadingBelow(const std::vector<ObjectId>& relations) const;
  Result<SourceRuntime> MakeSource(const catalog::Object& object, bool replay = false);
  SourceTable MakeSourceTable(const catalog::Object& table) const;
  Status StartSource(SourceRuntime& source);
  Status StartStreamsOf(const catalog::Object& view);
  void PauseUnreadStreams();
  /// Makes and starts the connector's sink of a created object. Not yet known to the loop.
  Status AttachSink(SinkRuntime& sink, const catalog::Object& object, bool recovered);
  /// Adds the operators of a view, from its stored plan. Engine's thread.
  Status AddView(const catalog::Object& view, bool stored);
  /// Adds the operators of a view and begins to fill it; its output goes to `sink` where the rows are not kept.
  /// Engine's thread. Then WaitBackfill, FinishBackfill.
  Status StartBackfill(catalog::Object& view, ObjectId sink);
  /// Gives the views that are being filled their share. Between two epochs. Whether there is more to do.
  bool RunBackfills();
  Status ShareBackfill(ObjectId view, BackfillRuntime& runtime, uint64_t rows);
  /// Until little is missing. When it cannot be, the view is gone.
  Status WaitBackfill(ObjectId view, const Cancelled& cancelled);
  /// Feeds what is still missing and lets the view take part. Engine's thread, at an epoch boundary. A view that cannot
  /// be filled is gone.
  Status FinishBackfill(ObjectId view);
  /// Removes the view and what it left. Engine's thread.
  void AbandonBackfill(ObjectId view);
  /// What a running stream has sent and `readers` have not given yet, piece by piece.
  std::optional<DeltaBatch> NextOfStream(ObjectId stream, std::map<ObjectId, SourceRuntime>& readers);
  /// Fills a frozen view anew beside its rows and puts it in its place.
  Status ResumeOne(const catalog::Object& view, std::unique_lock<std::timed_mutex>& ddl, const Cancelled& cancelled);
  /// 55000 when one of the objects is, or stands on, a frozen view.
  Status CheckNotFrozen(const std::vector<ObjectId>& relations) const;
  /// 3F000 when the name is of a schema that does not exist.
  static Status CheckSchema(const sql::Name& name);
  /// Engine's thread. The caller stops what it returns, on its own thread: that may wait for the target.
  std::shared_ptr<Sink> RemoveSink(ObjectId id);
  /// Engine's thread. `upstream` gets what is to be done outside, on the statement's thread; it returns a warning or
  /// "".
  void RemoveObject(const catalog::Object& object, std::vector<std::function<std::string()>>& upstream);

  // Constant after Open().
  EngineOptions options_;
  std::string query_scratch_;                    ///< where ad-hoc queries spill; DuckDB makes and removes it
  std::string crash_notes_path_;                 ///< empty: none
  std::map<ObjectId, crash_note::Note> blamed_;  ///< objects that crashed the process again and again
  std::shared_ptr<io::ObjectStore> store_;
  std::unique_ptr<state::StateLog> log_;
  std::unique_ptr<state::WriteAheadLog> wal_;
  catalog::Catalog catalog_;
  std::unique_ptr<sql::Frontend> frontend_;
  std::unique_ptr<dataflow::Circuit> circuit_;
  ObjectId error_table_ = 0;

  ErrorTable errors_;  ///< locks itself

  // The engine's thread.
  std::map<ObjectId, SourceRuntime> sources_;
  std::map<ObjectId, SinkRuntime> sinks_;
  std::map<ObjectId, BackfillRuntime> backfills_;
  std::map<ObjectId, std::string> new_names_;          ///< of tables and views that are not in the catalog yet
  std::map<ObjectId, catalog::Freeze> early_freezes_;  ///< of views that are not in the catalog yet
  /// Of the open epoch, and of views that are being filled: by view, without its name.
  std::map<ObjectId, PendingErrors> pending_errors_;
  Epoch epoch_ = 1;  ///< the open one
  bool pushed_ = false, stepped_ = false;
  bool changed_ = false, offsets_changed_ = false;
  bool sinks_full_ = false;
  std::vector<ObjectId> loaded_now_;
  std::vector<std::string> dropped_streams_;  ///< of the state log, to be ended by the next checkpoint
  CheckpointId next_checkpoint_ = 1;
  std::map<CheckpointId, CheckpointInfo> in_flight_;
  uint64_t wal_applied_ = 0;
  uint64_t catalog_version_saved_ = 0;
  int64_t last_checkpoint_us_ = 0, last_step_us_ = 0, last_step_took_us_ = 0, last_refresh_us_ = 0;
  int64_t epoch_begun_us_ = 0;  ///< first step of the open epoch; 0: none yet
  size_t step_rows_ = 0, last_step_rows_ = 0;
  std::thread thread_;

  // Shared, guarded by mutex_.
  mutable std::mutex mutex_;
  std::condition_variable wake_;          ///< the engine's thread waits here
  std::condition_variable changed_cond_;  ///< sessions wait here for durable_ and loading_
  std::deque<std::unique_ptr<Request>> requests_;
  std::deque<std::unique_ptr<PendingWrite>> writes_;
  std::deque<std::pair<CheckpointId, Status>> durable_events_;
  bool any_time_asked_ = false;
  std::optional<Error> wal_failure_;
  CheckpointId durable_ = 0;
  std::shared_ptr<dataflow::Snapshot> durable_snapshot_;
  std::set<ObjectId> loading_;
  std::set<ObjectId> backfilled_;                ///< views whose backfill is ready to finish
  std::map<ObjectId, Error> backfill_failures_;  ///< views whose backfill failed; they are gone
  bool stop_ = false, stop_checkpoint_ = false, stopped_ = true;
  EngineReport report_;

  std::atomic<bool> woken_{false};
  std::atomic<bool> pin_durable_{false};

  std::timed_mutex write_mutex_;
  std::map<ObjectId, Epoch> last_write_;  ///< guarded by write_mutex_
  std::timed_mutex ddl_mutex_;
};

}  // namespace tidewater::engine
