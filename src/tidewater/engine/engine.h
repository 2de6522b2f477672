// Engine: sources -> circuit -> views and sinks, in epochs, with checkpoints; and the recovery from them.
//
// One thread, the engine's, owns the circuit and talks to sources and sinks. Sessions (session.h) run on their callers'
// threads, read pinned snapshots, and hand DDL and row changes to the engine's thread.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/sinks/api/sink.h"
#include "tidewater/sources/api/source.h"

namespace tidewater::engine {

struct EngineOptions {
  /// Where checkpoints live: "DIR", "file:///DIR", "s3://bucket/prefix" or "memory:" (tests).
  std::string state;
  std::map<std::string, std::string> store_options;
  int workers = 1;
  std::string database = "dev";
  int64_t checkpoint_interval_ms = 1000;
  /// A checkpoint is also due when it would add this much; sources wait while two such are on their way already.
  uint64_t checkpoint_bytes = uint64_t{32} << 20;
  /// Rows polled from a source per step: the first step after idling, and the most under load.
  size_t min_step_rows = 2048;
  size_t max_step_rows = 32768;
  /// Small steps are not started more often than this: what arrives meanwhile goes along in one. 0 = at once.
  int64_t min_step_interval_us = 1000;
  /// Budget for the memory of the process (BlockMemory); 0: none.
  uint64_t memory_bytes = 0;
  /// Share of memory and threads for ad-hoc queries.
  uint64_t query_memory_bytes = uint64_t{1} << 30;
  int query_threads = 2;
  /// A local directory for what leaves memory. Empty: "scratch" in a local state's directory, else the system's
  /// directory for temporary files.
  std::string scratch_directory;
  /// Memory that all sinks together hold for what they have not yet committed, beyond which sources are not polled.
  uint64_t sink_log_bytes_max = uint64_t{1} << 30;
  /// Names of materialized views to be frozen before anything is stepped.
  std::vector<std::string> freeze;
  /// Rows of a view that may fail before it is frozen.
  uint64_t error_rows_max = 1'000'000;
  /// Called with the SQL database before anything is planned. For tests: functions that misbehave.
  std::function<void(duckdb::DatabaseInstance&)> extend;
  /// How long FLUSH waits for sinks before it gives a warning instead.
  int64_t flush_sink_timeout_ms = 60'000;
};

struct SourceReport {
  ObjectId id = 0;
  std::string name, connector;
  SourceStatus status;
  uint64_t rows = 0, events = 0, rejected = 0;
};
struct SinkReport {
  ObjectId id = 0;
  std::string name, connector, input;
  std::string frozen;  ///< why its input is, where it is
  SinkStatus status;
  uint64_t rows = 0;
};
/// A view, or the input of a sink, that is being filled.
struct BackfillReport {
  ObjectId id = 0;
  std::string name;
  uint64_t rows_done = 0, rows_total = 0;
};
struct EngineReport {
  Epoch epoch = 0;              ///< published
  CheckpointId checkpoint = 0;  ///< durable
  uint64_t generation = 0;
  uint64_t steps = 0, checkpoints = 0;
  uint64_t memory_bytes = 0, log_bytes = 0, live_bytes = 0;
  uint64_t errors = 0;  ///< rows in the error table
  std::vector<SourceReport> sources;
  std::vector<SinkReport> sinks;
  std::vector<BackfillReport> backfills;
};

class Core;

/// Any thread, Open/Start/Stop excepted (one thread).
class Engine {
 public:
  /// Opens the state, fences off older processes and rebuilds everything from the last checkpoint and the write-ahead
  /// log. Connectors must have been registered. kCorrupt, kIo, kConflict; an unknown connector of a stored source is
  /// 22023.
  static Result<std::unique_ptr<Engine>> Open(EngineOptions options);
  /// Stops as Stop() does.
  ~Engine();

  /// Starts the engine's thread, sources and sinks. Sessions may be opened before, statements wait.
  Status Start();
  /// Ends sessions' statements with 57P01, takes a last checkpoint, stops sources and sinks.
  void Stop();
  /// Stops without a last checkpoint, as a crash would leave things. For tests.
  void Abandon();

  EngineReport Report();
  Core& core() { return *core_; }

 private:
  explicit Engine(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace tidewater::engine
