// Operators: one instance per plan node and worker. Each turns the deltas of its inputs in one step into the delta of
// its output.
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "tidewater/dataflow/circuit.h"
#include "tidewater/dataflow/plan.h"
#include "tidewater/state/arrangement.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::dataflow {

/// Large state is written in records of about this size.
constexpr uint64_t kRecordBytes = 8 << 20;

/// What an operator may use during a step. One per worker.
struct StepContext {
  duckdb::ClientContext* client = nullptr;
  state::StepNumber step = 0;
  uint32_t worker = 0;
  uint32_t workers = 1;
  std::vector<Circuit::EvaluationError> errors;
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
  virtual uint64_t StateRows() const { return 0; }
  virtual uint64_t StateBytes() const { return 0; }

  const ObjectId view;
  const int node;
  const std::string name;
  const Types types;
  uint64_t rows_in = 0, rows_out = 0, cpu_ns = 0;
};

/// Evaluates a list of expressions over chunks. Results outlive the next call.
class Projector {
 public:
  Projector(duckdb::ClientContext& client, const std::vector<const duckdb::Expression*>& expressions);
  /// `out` gets one column per expression and in.size() rows. Plain references share the input's vectors. Throws what
  /// evaluation throws.
  void Run(DataChunk& in, DataChunk& out);
  bool references_only() const { return references_only_; }
  const Types& types() const { return types_; }

 private:
  duckdb::ClientContext& client_;
  std::vector<const duckdb::Expression*> expressions_;
  Types types_;
  bool references_only_ = true;
  std::unique_ptr<duckdb::ExpressionExecutor> executor_;
};

/// Selects the rows for which all predicates are true.
class Selector {
 public:
  Selector(duckdb::ClientContext& client, const std::vector<const duckdb::Expression*>& predicates);
  /// Number of selected rows; `sel` receives them ascending. Throws what evaluation throws.
  uint32_t Run(DataChunk& in, duckdb::SelectionVector& sel);

 private:
  duckdb::ClientContext& client_;
  std::vector<const duckdb::Expression*> predicates_;
  std::unique_ptr<duckdb::ExpressionExecutor> executor_;
  duckdb::unique_ptr<duckdb::Expression> conjunction_;
};

/// Calls `evaluate` with the chunk; where that throws an evaluation error, calls it again row by row, and records and
/// drops the rows that fail. `evaluate` must have no effect before it throws.
void EvaluateRows(const DeltaChunk& chunk, const Operator& op, StepContext& context,
                  const std::function<void(const DeltaChunk&)>& evaluate);

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
