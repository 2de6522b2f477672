// Operators: one instance per plan node and worker. Each turns the deltas of its inputs in one step into the delta of
// its output.
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "tidewater/dataflow/circuit.h"
#include "tidewater/dataflow/evaluate.h"
#include "tidewater/dataflow/plan.h"
#include "tidewater/state/arrangement.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::dataflow {

/// Large state is written in records of about this size.
constexpr uint64_t kRecordBytes = 8 << 20;

class Operator;

/// What an operator may use during a step. One per worker.
struct StepContext {
  duckdb::ClientContext* client = nullptr;
  state::StepNumber step = 0;
  uint32_t worker = 0;
  uint32_t workers = 1;
  std::vector<Circuit::EvaluationError> errors;
  /// Memory that the outputs of one pass may take, and what the operators so far made.
  uint64_t output_bytes_max = ~uint64_t{0}, output_bytes = 0;

  /// Counts memory of an operator's output before it is made. Throws DuckDB's OutOfMemoryException where that is too
  /// much.
  void Take(uint64_t bytes, const Operator& op);
  /// Records that row `row` of `rows`, named by its columns `key`, failed (weight < 0: that a row which failed is
  /// gone).
  void Fail(const Operator& op, std::string message, const DataChunk& rows, duckdb::idx_t row,
            const std::vector<uint32_t>& key, int64_t weight);
};

/// The contract of every operator. Output weights and rows are exactly the change of the operator's batch result; state
/// lives in arrangements and group tables only.
class Operator {
 public:
  Operator(ObjectId view, int node, std::string name, Types types)
      : view(view), node(node), name(std::move(name)), types(std::move(types)) {}
  virtual ~Operator() = default;

  /// `inputs[i]` is the whole delta of input i in this step. Appends to `out.chunks`.
  virtual void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext& context) = 0;
  /// Whether Step must be called although all inputs are empty.
  virtual bool NeedsStep() const { return false; }

  // --- The state log. State lies in streams: names below the operator's own, e.g. "left" (none for stateless ones),
  // each in parts, so that writing a part anew stays small.
  virtual std::vector<std::string> StateNames() const { return {}; }
  virtual uint32_t StateParts(const std::string&) const { return 1; }
  virtual bool StateChanged(const std::string&, uint32_t /*part*/) const { return false; }
  /// About the bytes that a kBase of the part takes.
  virtual uint64_t LiveBytes(const std::string&, uint32_t /*part*/) const { return 0; }
  /// About the bytes that the next Checkpoints take together.
  virtual uint64_t UnloggedBytes() const { return 0; }
  /// Everything changed since the last call, or with `base` everything. Returns true when a further record, a kDelta,
  /// must follow at once: large state goes out in pieces.
  virtual bool Checkpoint(const std::string&, uint32_t /*part*/, bool /*base*/, state::ByteWriter&) { return false; }
  virtual Status Restore(const std::string&, uint32_t /*part*/, bool /*base*/, state::ByteReader&) { return {}; }
  /// After the last Restore.
  virtual void Restored() {}
  /// Takes over from `other` (the same operator of a run with another number of workers) what belongs to `worker` of
  /// `workers`.
  virtual void Absorb(Operator& /*other*/, uint32_t /*worker*/, uint32_t /*workers*/) {}

  /// Between two epochs: readers may see what is there, and what is mostly dead may be rewritten.
  virtual void Publish(state::StepNumber /*step*/) {}
  /// About the most rows that one row in makes of itself.
  virtual uint64_t Expansion() const { return 1; }
  virtual uint64_t StateRows() const { return 0; }
  virtual uint64_t StateBytes() const { return 0; }

  ObjectId view;
  const int node;
  const std::string name;
  const Types types;
  uint64_t rows_in = 0, rows_out = 0, cpu_ns = 0;
};

/// Calls `evaluate` with the chunk; where a row of it fails, with those parts of it that do not, and records the rows
/// that do as errors of the operator. `key` are the columns that name a row. `evaluate` must have no effect before it
/// throws a RowError.
void EvaluateRows(const DeltaChunk& chunk, const Operator& op, const std::vector<uint32_t>& key, StepContext& context,
                  const std::function<void(const DeltaChunk&)>& evaluate);

/// Columns by which an error names a row of the node's output: its smallest key, where one is known.
inline std::vector<uint32_t> ErrorKey(const PlanNode& node) {
  return node.unique_keys.empty() ? std::vector<uint32_t>{} : node.unique_keys[0];
}

/// The same rows, or some of their columns, sharing the vectors.
DeltaChunk ShareChunk(const DeltaChunk& chunk);
DeltaChunk ShareChunk(const DeltaChunk& chunk, const std::vector<uint32_t>& columns, const Types& types);
/// Makes a chunk of the rows `sel[0..n)` of `chunk`, sharing its vectors.
DeltaChunk SliceChunk(const DeltaChunk& chunk, const duckdb::SelectionVector& sel, uint32_t n);
/// Collects small chunks into full ones, copying.
class Compactor {
 public:
  explicit Compactor(const Types& types, DeltaBatch& out) : types_(types), out_(out) {}
  ~Compactor() { Flush(); }
  /// Appends the rows sel[0..n) of `chunk`: by copy when they are few, else by slice.
  void Add(const DeltaChunk& chunk, const duckdb::SelectionVector& sel, uint32_t n);
  void Flush();

 private:
  const Types& types_;
  DeltaBatch& out_;
  DeltaChunk pending_;
};

/// Inserts into `to` the live rows of `from` that belong to `worker`.
void AbsorbArrangement(state::Arrangement& from, state::Arrangement& to, uint32_t worker, uint32_t workers);

std::unique_ptr<Operator> MakeFilter(ObjectId view, const PlanNode& node, duckdb::ClientContext& client);
std::unique_ptr<Operator> MakeProject(ObjectId view, const PlanNode& node, duckdb::ClientContext& client);
std::unique_ptr<Operator> MakeJoin(ObjectId view, const PlanNode& node, duckdb::ClientContext& client);
/// kAggregate, and kDistinct as an aggregate of all columns without calls.
std::unique_ptr<Operator> MakeAggregate(ObjectId view, const PlanNode& node, duckdb::ClientContext& client,
                                        uint32_t worker);
std::unique_ptr<Operator> MakeUnionAll(ObjectId view, const PlanNode& node);
std::unique_ptr<Operator> MakeValues(ObjectId view, const PlanNode& node, uint32_t worker);

}  // namespace tidewater::dataflow
