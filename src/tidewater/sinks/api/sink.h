// What a sink connector is to the engine.
//
// The engine's checkpoint keeps, per sink, the deltas that the sink has not yet committed (its log). The order is
// always: deltas of checkpoint C are appended to the log -> checkpoint C is durable -> the sink commits everything up
// to C -> the engine drops the log up to C at its next checkpoint. After a crash the engine hands over the log again,
// and the sink finds in the other system (the stamp in the snapshot summary) what was already committed.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/types/delta_batch.h"
#include "tidewater/types/schema.h"

namespace tidewater {

enum class SinkState { kStarting, kRunning, kRetrying, kFailed, kStopped };

struct SinkStatus {
  SinkState state = SinkState::kStarting;
  std::optional<Error> error;
  uint64_t retries = 0;
  CheckpointId committed = 0;  ///< everything up to this checkpoint is in the other system
  uint64_t rows_written = 0;
  uint64_t commits = 0;
  int64_t snapshot_id = 0;     ///< Iceberg: of the last commit
  int64_t last_commit_ms = 0;  ///< duration of the last commit
  uint64_t log_rows = 0;       ///< handed over and not yet committed
  uint64_t log_bytes = 0;      ///< memory that these rows hold
};

struct SinkOptions {
  ObjectId id = 0;
  std::string name;
  /// Stable over restarts, new for each CREATE SINK: part of the stamp in the snapshot summary.
  std::string uuid;
  std::map<std::string, std::string> options;  ///< the WITH clause, secrets in clear: never log
  Schema input;  ///< columns of the view; primary_key is the one derived from the plan, or empty
  /// Grows by one at every start of the engine: an older process must not commit after a newer one did.
  uint64_t generation = 0;
  /// Whether the input can contain retractions.
  bool append_only_input = false;
  std::string state_dir;  ///< `--state`, where the embedded catalog's warehouse lives by default
  /// The sink is not being created but comes back with the engine.
  bool recovered = false;
  /// It has committed the content of its input before: a target that is missing was taken away, and is not made anew.
  bool established = false;
};

/// One sink. Commit work happens on the sink's own thread; the engine's thread only hands over.
class Sink {
 public:
  virtual ~Sink() = default;
  /// Connects, creates or checks the target table, finds the last committed checkpoint of this sink there and starts
  /// the thread. Transient failures are not returned here but retried and shown in GetStatus(). A recovered sink does
  /// all of that on its thread and returns no failure: what was refused may be granted again, so it tries again with
  /// pauses; only what no time can cure makes it kFailed. What is appended meanwhile waits in the sink.
  virtual Status Start() = 0;
  /// The whole content of the input as of checkpoint `id`, `rows` rows, instead of everything appended up to there.
  /// Comes once, before any Append: from CREATE SINK, and again at recovery as long as the engine does not know that it
  /// was committed; a sink that finds any commit of its own in the target lets it be. `make` gives it on any thread,
  /// any number of times; what it gives refers to memory that `make` holds. It is committed on its own, as `id`.
  virtual void Load(CheckpointId id, uint64_t rows, std::function<DeltaBatch()> make) = 0;
  /// The consolidated-enough deltas of checkpoint `id` (several calls with the same id add up; within one id a row may
  /// come as -1 and +1 in any order). During recovery the engine replays the ids it holds in order; ids the target
  /// already has are skipped by the sink.
  virtual void Append(CheckpointId id, DeltaBatch rows) = 0;
  /// Checkpoint `id` is durable where recovery will read: everything appended up to it may be committed.
  virtual void CheckpointDurable(CheckpointId id, int64_t commit_time_us) = 0;
  /// Any thread.
  virtual SinkStatus GetStatus() = 0;
  /// Asks to commit everything up to `id` as soon as it is durable, whatever interval the user set, and waits for that.
  /// kUnavailable: not yet after `timeout_ms`; kCancelled: the sink was stopped; else the error that keeps it. Any
  /// thread, also after Stop().
  virtual Status WaitCommitted(CheckpointId id, int64_t timeout_ms) = 0;
  virtual void Stop() = 0;
};

struct SinkConnector {
  std::string name;
  std::function<Status(const std::map<std::string, std::string>&, const Schema& input)> validate;
  std::function<Result<std::unique_ptr<Sink>>(SinkOptions)> make;
  /// False where rows are thrown away: the engine then keeps no log of them in its checkpoints.
  bool keeps_log = true;
};

class SinkRegistry {
 public:
  static SinkRegistry& Get();
  void Register(SinkConnector connector);
  Result<const SinkConnector*> Find(const std::string& name) const;

 private:
  std::map<std::string, SinkConnector> connectors_;
};

}  // namespace tidewater
