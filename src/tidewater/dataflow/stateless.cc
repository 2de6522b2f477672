// Filter, project, union all, values; evaluation of expressions with errors kept apart.
#include <cstring>
#include "duckdb/common/error_data.hpp"
#include "duckdb/execution/expression_executor.hpp"
#include "duckdb/planner/expression/bound_conjunction_expression.hpp"
#include "duckdb/planner/expression/bound_reference_expression.hpp"
#include "tidewater/dataflow/operator.h"

namespace tidewater::dataflow {
using duckdb::idx_t;
using duckdb::SelectionVector;
using duckdb::Vector;

Projector::Projector(duckdb::ClientContext& client, const std::vector<const duckdb::Expression*>& expressions)
    : client_(client), expressions_(expressions) {
  for (auto* e : expressions_) {
    types_.push_back(e->return_type);
    references_only_ &= e->GetExpressionClass() == duckdb::ExpressionClass::BOUND_REF;
  }
}

void Projector::Run(DataChunk& in, DataChunk& out) {
  out.InitializeEmpty(types_);
  if (!references_only_ && !executor_) {
    executor_ = std::make_unique<duckdb::ExpressionExecutor>(client_);
    for (auto* e : expressions_) executor_->AddExpression(*e);
  }
  if (executor_) executor_->SetChunk(&in);
  try {
    for (idx_t i = 0; i < expressions_.size(); i++) {
      auto& e = *expressions_[i];
      if (e.GetExpressionClass() == duckdb::ExpressionClass::BOUND_REF) {
        out.data[i].Reference(in.data[e.Cast<duckdb::BoundReferenceExpression>().index]);
        continue;
      }
      Vector result(types_[i]);
      auto own = result.GetBuffer().get();
      executor_->ExecuteExpression(i, result);
      // An expression may hand out a vector of its own intermediate state, which its next execution overwrites.
      if (result.GetVectorType() == duckdb::VectorType::CONSTANT_VECTOR) {
        Vector constant(result.GetValue(0));
        out.data[i].Reference(constant);
      } else if (result.GetBuffer().get() != own) {
        Vector copy(types_[i]);
        duckdb::VectorOperations::Copy(result, copy, in.size(), 0, 0);
        out.data[i].Reference(copy);
      } else {
        out.data[i].Reference(result);
      }
    }
  } catch (...) {
    executor_.reset();
    throw;
  }
  out.SetCardinality(in.size());
}

Selector::Selector(duckdb::ClientContext& client, const std::vector<const duckdb::Expression*>& predicates)
    : client_(client), predicates_(predicates) {
  if (predicates.size() > 1) {
    auto all = duckdb::make_uniq<duckdb::BoundConjunctionExpression>(duckdb::ExpressionType::CONJUNCTION_AND);
    for (auto* p : predicates) all->children.push_back(p->Copy());
    conjunction_ = std::move(all);
  }
}

uint32_t Selector::Run(DataChunk& in, SelectionVector& sel) {
  if (!executor_) {
    executor_ = std::make_unique<duckdb::ExpressionExecutor>(client_);
    executor_->AddExpression(conjunction_ ? *conjunction_ : *predicates_[0]);
  }
  try {
    return uint32_t(executor_->SelectExpression(in, sel));
  } catch (...) {
    executor_.reset();
    throw;
  }
}

DeltaChunk ShareChunk(const DeltaChunk& c, const std::vector<uint32_t>& columns, const Types& types) {
  DeltaChunk out;
  out.rows = std::make_unique<DataChunk>();
  out.rows->InitializeEmpty(types);
  for (size_t i = 0; i < columns.size(); i++) out.rows->data[i].Reference(c.rows->data[columns[i]]);
  out.rows->SetCardinality(c.size());
  out.weights = c.weights;
  return out;
}

DeltaChunk ShareChunk(const DeltaChunk& c) {
  DeltaChunk out;
  out.rows = std::make_unique<DataChunk>();
  out.rows->InitializeEmpty(c.rows->GetTypes());
  out.rows->Reference(*c.rows);
  out.weights = c.weights;
  return out;
}

DeltaChunk SliceChunk(const DeltaChunk& chunk, const SelectionVector& sel, uint32_t n) {
  DeltaChunk out;
  out.rows = std::make_unique<DataChunk>();
  out.rows->InitializeEmpty(chunk.rows->GetTypes());
  // The selection vector's memory is shared by reference count, unless it is the caller's own array.
  for (idx_t c = 0; c < chunk.rows->ColumnCount(); c++) out.rows->data[c].Slice(chunk.rows->data[c], sel, n);
  out.rows->SetCardinality(n);
  if (!chunk.weights.empty()) {
    out.weights.resize(n);
    for (uint32_t i = 0; i < n; i++) out.weights[i] = chunk.weights[sel.get_index(i)];
  }
  return out;
}

void Compactor::Add(const DeltaChunk& chunk, const SelectionVector& sel, uint32_t n) {
  if (n == 0) return;
  if (n > STANDARD_VECTOR_SIZE / 8) {
    out_.chunks.push_back(SliceChunk(chunk, sel, n));
    return;
  }
  if (pending_.rows && pending_.size() + n > STANDARD_VECTOR_SIZE) Flush();
  if (!pending_.rows) {
    pending_.rows = std::make_unique<DataChunk>();
    pending_.rows->Initialize(duckdb::Allocator::DefaultAllocator(), types_);
  }
  idx_t before = pending_.size();
  pending_.rows->Append(*chunk.rows, false, const_cast<SelectionVector*>(&sel), n);
  if (!chunk.weights.empty() && pending_.weights.empty()) pending_.weights.assign(before, 1);
  if (!chunk.weights.empty() || !pending_.weights.empty())
    for (uint32_t i = 0; i < n; i++) pending_.weights.push_back(chunk.weight(sel.get_index(i)));
}

void Compactor::Flush() {
  if (pending_.rows && pending_.size() > 0) out_.chunks.push_back(std::move(pending_));
  pending_ = DeltaChunk();
}

void EvaluateRows(const DeltaChunk& chunk, const Operator& op, StepContext& context,
                  const std::function<void(const DeltaChunk&)>& evaluate) {
  auto is_evaluation_error = [](const std::exception& e, std::string& message) {
    duckdb::ErrorData data(e);
    message = data.RawMessage();
    switch (data.Type()) {
      case duckdb::ExceptionType::INTERNAL:
      case duckdb::ExceptionType::FATAL:
      case duckdb::ExceptionType::OUT_OF_MEMORY:
      case duckdb::ExceptionType::INTERRUPT:
        return false;
      default:
        return true;
    }
  };
  std::string message;
  try {
    evaluate(chunk);
    return;
  } catch (std::exception& e) {
    if (!is_evaluation_error(e, message)) throw;
  }
  for (idx_t r = 0; r < chunk.size(); r++) {
    SelectionVector sel(1);
    sel.set_index(0, r);
    auto one = SliceChunk(chunk, sel, 1);
    try {
      evaluate(one);
    } catch (std::exception& e) {
      if (!is_evaluation_error(e, message)) throw;
      std::string row;
      for (idx_t c = 0; c < chunk.rows->ColumnCount(); c++)
        row += (c ? ", " : "") + chunk.rows->GetValue(c, r).ToString();
      context.errors.push_back({op.view, op.node, message, row, chunk.weight(r)});
    }
  }
}

namespace {

std::vector<const duckdb::Expression*> Pointers(const std::vector<ExpressionPtr>& list) {
  std::vector<const duckdb::Expression*> out;
  for (auto& e : list) out.push_back(e.get());
  return out;
}

class FilterOp : public Operator {
 public:
  FilterOp(ObjectId view, const PlanNode& n, duckdb::ClientContext& client)
      : Operator(view, n.id, "filter", n.types), selector_(client, Pointers(n.expressions)) {}
  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext& context) override {
    Compactor compactor(types, out);
    for (auto& chunk : inputs[0]->chunks) {
      EvaluateRows(chunk, *this, context, [&](const DeltaChunk& c) {
        SelectionVector sel(STANDARD_VECTOR_SIZE);
        uint32_t n = selector_.Run(*c.rows, sel);
        if (n == c.size() && n > STANDARD_VECTOR_SIZE / 8) {
          out.chunks.push_back(ShareChunk(c));
        } else {
          compactor.Add(c, sel, n);
        }
      });
    }
  }

 private:
  Selector selector_;
};

class ProjectOp : public Operator {
 public:
  ProjectOp(ObjectId view, const PlanNode& n, duckdb::ClientContext& client)
      : Operator(view, n.id, "project", n.types), projector_(client, Pointers(n.expressions)) {}
  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext& context) override {
    for (auto& chunk : inputs[0]->chunks) {
      EvaluateRows(chunk, *this, context, [&](const DeltaChunk& c) {
        DeltaChunk result;
        result.rows = std::make_unique<DataChunk>();
        projector_.Run(*c.rows, *result.rows);
        result.weights = c.weights;
        out.chunks.push_back(std::move(result));
      });
    }
  }

 private:
  Projector projector_;
};

class UnionAllOp : public Operator {
 public:
  UnionAllOp(ObjectId view, const PlanNode& n) : Operator(view, n.id, "union all", n.types) {}
  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext&) override {
    for (auto* in : inputs) {
      for (auto& c : in->chunks) {
        out.chunks.push_back(ShareChunk(c));
      }
    }
  }
};

/// Constant rows: out once, in the view's first step. What was emitted is part of the state.
class ValuesOp : public Operator {
 public:
  ValuesOp(ObjectId view, const PlanNode& n, uint32_t worker)
      : Operator(view, n.id, "values", n.types), done_(worker != 0) {
    rows_.types = types;
    for (auto& row : n.rows) rows_.AppendRow(row);
  }
  bool NeedsStep() const override { return !done_; }
  void Step(const std::vector<const DeltaBatch*>&, DeltaBatch& out, StepContext&) override {
    if (done_) return;
    done_ = changed_ = true;
    out.Append(std::move(rows_));
  }
  std::vector<std::string> StateNames() const override { return {"values"}; }
  bool StateChanged(const std::string&, uint32_t) const override { return changed_; }
  bool Checkpoint(const std::string&, uint32_t, bool, state::ByteWriter& out) override {
    out.Put<uint8_t>(done_);
    changed_ = false;
    return false;
  }
  Status Restore(const std::string&, uint32_t, bool, state::ByteReader& in) override {
    bool was = in.Get<uint8_t>();
    done_ = done_ || was;
    return {};
  }
  void Absorb(Operator& other, uint32_t, uint32_t) override {
    done_ = done_ || static_cast<ValuesOp&>(other).done_;
    changed_ = true;
  }

 private:
  DeltaBatch rows_;
  bool done_;
  bool changed_ = false;
};

}  // namespace

std::unique_ptr<Operator> MakeFilter(ObjectId view, const PlanNode& n, duckdb::ClientContext& client) {
  return std::make_unique<FilterOp>(view, n, client);
}
std::unique_ptr<Operator> MakeProject(ObjectId view, const PlanNode& n, duckdb::ClientContext& client) {
  return std::make_unique<ProjectOp>(view, n, client);
}
std::unique_ptr<Operator> MakeUnionAll(ObjectId view, const PlanNode& n) {
  return std::make_unique<UnionAllOp>(view, n);
}
std::unique_ptr<Operator> MakeValues(ObjectId view, const PlanNode& n, uint32_t worker) {
  return std::make_unique<ValuesOp>(view, n, worker);
}

}  // namespace tidewater::dataflow
