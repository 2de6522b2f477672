// Circuit: all operators of all views, stepped together. Owned and called by the engine's thread; Pin() and what it
// gives are for any thread.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/dataflow/plan.h"
#include "tidewater/state/state_log.h"
#include "tidewater/types/change.h"
#include "tidewater/types/delta_batch.h"
#include "tidewater/types/schema.h"

namespace tidewater::dataflow {

struct CircuitOptions {
  /// Threads that step shards in parallel; may change at a restart.
  int workers = 1;
  /// What operators may put out in one pass before the view that does so counts as out of memory; 0: no bound.
  uint64_t pass_bytes_max = 0;
};

/// Why a view stopped: an internal error, a failed check or memory that ran out in one of its operators, or the same in
/// a view that it stands on.
struct Fault {
  ObjectId view = 0;
  int node = -1;       ///< operator, -1: its rows
  ObjectId cause = 0;  ///< the view whose operator it was
  bool memory = false;
  std::string message;
};

/// Rows of stored relations as of one epoch. Keeps that epoch readable until destroyed. Any thread.
class Snapshot {
 public:
  virtual ~Snapshot() = default;
  virtual Epoch epoch() const = 0;
  /// Upper bound of the rows of a relation, for the optimizer.
  virtual uint64_t Rows(ObjectId relation) const = 0;
  /// A scan of a relation is cut into parts that threads can take independently: 0 .. Parts()-1 (a part is a block of
  /// at most 2,048 rows).
  virtual uint64_t Parts(ObjectId relation) const = 0;
  /// Sets `out` (initialized by the caller with the types of `columns`) to the visible rows of that part; a row of
  /// weight w stands w times. Vectors may refer to the block's memory, which the snapshot keeps. May give 0 rows; a
  /// part whose repeated rows do not fit goes on with the next call: returns true while more of this part follows
  /// (`resume` starts at 0 and is kept by the caller).
  virtual bool Scan(ObjectId relation, uint64_t part, uint64_t& resume, const std::vector<uint32_t>& columns,
                    DataChunk& out) const = 0;
  /// Point lookup by the store's key (see StoreKey): appends the visible rows with that key, all columns, to `out`.
  virtual void Lookup(ObjectId relation, const duckdb::vector<duckdb::Value>& key, DeltaBatch& out) const = 0;
};

struct OperatorStats {
  ObjectId view = 0;
  int node = 0;
  std::string name;  ///< "join", "aggregate", ...
  uint64_t rows_in = 0, rows_out = 0, state_rows = 0, state_bytes = 0, cpu_us = 0;
};

/// A new view's way to the present: it stands aside of the steps and gets, in shares, what the relations it reads hold
/// as of the published epoch, then how they changed since, until nothing is missing. Between steps only. The epochs it
/// stands on stay pinned. Destroyed before its circuit; unless Finish was called, its view is to be dropped.
class Backfill {
 public:
  virtual ~Backfill() = default;
  /// Feeds about `rows` rows. Output() of the view, where kept, is what this share changed in it. True when the view
  /// stands at the published epoch. XX000 or 53200 when one of its operators, or a view that it reads, stopped: it is
  /// then to be dropped.
  virtual Result<bool> Share(uint64_t rows) = 0;
  /// REQUIRES that Share just returned true: from the next step on the view takes part.
  virtual void Finish() = 0;
  /// How often it looked for changes since it began; 1 during the first pass.
  virtual uint32_t rounds() const = 0;
  /// Of the first pass: rows fed and to be fed (streams not counted).
  virtual uint64_t rows_done() const = 0;
  virtual uint64_t rows_total() const = 0;
};

class Circuit {
 public:
  virtual ~Circuit() = default;
  /// `db` evaluates the bound expressions; each worker has its own ClientContext.
  static std::unique_ptr<Circuit> Make(duckdb::DatabaseInstance& db, const CircuitOptions& options);

  // --- Structure. Between steps only.

  /// A stored relation. With a primary key, rows are unique by it and changes are resolved against the stored rows;
  /// without one it is a multiset that takes kInsert and deltas.
  virtual void AddTable(ObjectId id, const Schema& schema) = 0;
  /// A relation whose rows are not kept (a stream-only source); append-only.
  virtual void AddStream(ObjectId id, const Types& types) = 0;
  /// Gives the plan of a view, Derive()d, with expressions that are bound in `context` alone: what a function keeps of
  /// its context is then used by that context's thread.
  using PlanMaker = std::function<Result<std::unique_ptr<PlanNode>>(duckdb::ClientContext& context)>;
  /// Builds the operators of a view over relations added before. Its rows are kept (for queries and for views on it) if
  /// `stored`. The plan is asked for once per worker. The view starts empty: see BeginBackfill.
  virtual Status AddView(ObjectId id, const PlanMaker& plan, bool stored) = 0;
  /// For a just-added view. Output() of the view, where kept, is then what stands there without any input. `streams`
  /// gives what a stream-only input has sent so far and was not given yet (nullopt: nothing more).
  virtual std::unique_ptr<Backfill> BeginBackfill(
      ObjectId view, std::function<std::optional<DeltaBatch>(ObjectId stream)> streams) = 0;
  /// A view that stopped in an earlier life: its rows are there, nothing changes them.
  virtual void AddFrozenView(ObjectId id, const Types& types) = 0;
  /// A view that stopped takes over the rows and operators of `filled`, which has caught up, and goes on; the id
  /// `filled` is gone. Views that stand on it stay as they are.
  virtual void Replace(ObjectId id, ObjectId filled) = 0;
  /// Removes a relation that no view reads, with its state.
  virtual void Drop(ObjectId id) = 0;
  /// The columns of a relation that some view reads (kScan), or all where `stored`; for connectors that can leave out
  /// the rest.
  virtual std::vector<uint32_t> NeededColumns(ObjectId relation) const = 0;
  virtual bool Contains(ObjectId relation) const = 0;
  /// Columns by which a stored relation finds rows (its primary or derived key); empty when there is none.
  virtual std::vector<uint32_t> StoreKey(ObjectId relation) const = 0;

  // --- One step.

  /// Queues changes for the next step. The order of calls counts per table.
  virtual void Push(ChangeChunk change) = 0;
  /// Queues exact deltas: for tables, each -1 must name a stored row. For streams all weights are 1.
  virtual void Push(ObjectId relation, DeltaBatch delta) = 0;
  /// Runs everything queued through all operators. Results belong to `epoch`, which does not decrease; several steps
  /// may share one. Operators' evaluation errors are collected: see TakeErrors. A view whose operator throws anything
  /// else is frozen, with all that stands on it: it is back at the published epoch, has no output from then on, keeps
  /// nothing but its rows; see TakeFaults.
  virtual void Step(Epoch epoch) = 0;
  /// Freezes a view and all that stands on it at the published epoch, as a fault of an operator does; a view that is
  /// being filled fails at its next Share.
  virtual void Freeze(ObjectId view, const std::string& reason) = 0;
  /// Views that froze since the last call, each once, what others stand on first.
  virtual std::vector<Fault> TakeFaults() = 0;
  /// What the last step changed in a relation (tables after resolution). Valid until the next Step.
  virtual const DeltaBatch& Output(ObjectId relation) = 0;
  /// Asks for Output() of a relation to be kept; without it, outputs nobody reads are not materialized.
  virtual void KeepOutput(ObjectId relation, bool keep) = 0;
  /// Current rows (engine's view, latest step) of a table by primary key: one optional row per key row.
  virtual std::vector<std::optional<duckdb::vector<duckdb::Value>>> Find(ObjectId table, DataChunk& keys) = 0;

  // --- Reading.

  /// Makes everything up to `epoch` visible to Pin at once, and cleans. A snapshot keeps the blocks it sees,
  /// whatever becomes of them.
  virtual void Publish(Epoch epoch) = 0;
  virtual Epoch published() const = 0;
  /// Any thread: all stored relations as of the published epoch.
  virtual std::shared_ptr<Snapshot> Pin() = 0;

  // --- Durability.

  /// Adds one record per changed piece of state to the segment, all streams below "circuit/". Copies; does not wait.
  virtual void Checkpoint(state::SegmentBuilder& segment) = 0;
  /// About the bytes that the next Checkpoint adds.
  virtual uint64_t UnloggedBytes() const = 0;
  /// Before the first step, after the structure stands as it stood at the checkpoint: takes one replayed record. Then
  /// Restored().
  virtual Status Restore(state::Record&& record) = 0;
  virtual Status Restored(Epoch epoch) = 0;

  // --- Being looked at.

  struct EvaluationError {
    ObjectId view;
    int node;
    std::string message;
    std::string key;  ///< what names the row: the values of its key, of a pair those of both sides; may be empty
    std::string row;  ///< its values, long ones cut
    int64_t weight;
  };
  /// Rows, pairs and groups that failed to evaluate since the last call, as a Z-set: weight -1 when what failed is
  /// gone.
  virtual std::vector<EvaluationError> TakeErrors() = 0;
  virtual std::vector<OperatorStats> Stats() const = 0;
  virtual uint64_t MemoryBytes() const = 0;
};

}  // namespace tidewater::dataflow
