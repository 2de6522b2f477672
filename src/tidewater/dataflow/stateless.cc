// Filter, project, union all, values; rows that fail, and chunks that share their vectors.
#include <cstring>
#include "tidewater/dataflow/operator.h"

namespace tidewater::dataflow {
using duckdb::idx_t;
using duckdb::SelectionVector;
using duckdb::Vector;

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

void EvaluateRows(const DeltaChunk& chunk, const Operator& op, const std::vector<uint32_t>& key, StepContext& context,
                  const std::function<void(const DeltaChunk&)>& evaluate) {
  EvaluateHalving(
      uint32_t(chunk.size()),
      [&](uint32_t from, uint32_t n) {
        if (n == chunk.size()) return evaluate(chunk);
        SelectionVector sel(n);
        for (uint32_t i = 0; i < n; i++) sel.set_index(i, from + i);
        evaluate(SliceChunk(chunk, sel, n));
      },
      [&](uint32_t row, const std::string& message) {
        context.Fail(op, message, *chunk.rows, row, key, chunk.weight(row));
      });
}

namespace {

/// Of a row that failed, so much is kept.
constexpr size_t kErrorValueBytesMax = 1000, kErrorRowBytesMax = 8000;

/// The first bytes of a text, whole characters; " ..." tells that there was more.
std::string Head(const char* data, size_t size, size_t most) {
  if (size <= most) return std::string(data, size);
  while (most > 0 && (static_cast<unsigned char>(data[most]) & 0xc0) == 0x80) most--;
  return std::string(data, most) + " ...";
}

std::string ValueText(const Vector& column, idx_t row) {
  if (column.GetType().InternalType() != duckdb::PhysicalType::VARCHAR ||
      column.GetType().id() == duckdb::LogicalTypeId::BIT || column.GetType().id() == duckdb::LogicalTypeId::BIGNUM) {
    auto text = column.GetValue(row).ToString();
    return Head(text.data(), text.size(), kErrorValueBytesMax);
  }
  duckdb::UnifiedVectorFormat format;
  const_cast<Vector&>(column).ToUnifiedFormat(row + 1, format);
  auto at = format.sel->get_index(row);
  if (!format.validity.RowIsValid(at)) return "NULL";
  auto& text = reinterpret_cast<const duckdb::string_t*>(format.data)[at];
  if (column.GetType().id() != duckdb::LogicalTypeId::BLOB)
    return Head(text.GetData(), text.GetSize(), kErrorValueBytesMax);
  auto size = std::min<size_t>(text.GetSize(), kErrorValueBytesMax / 4);
  auto head = duckdb::Value::BLOB(duckdb::const_data_ptr_cast(text.GetData()), size).ToString();
  return size < text.GetSize() ? head + " ..." : head;
}

}  // namespace

void StepContext::Take(uint64_t bytes, const Operator& op) {
  output_bytes += bytes;
  if (output_bytes > output_bytes_max)
    throw duckdb::OutOfMemoryException(
        "the rows that a %s makes in one step take more than %llu MB: it multiplies the rows it gets", op.name,
        output_bytes_max >> 20);
}

void StepContext::Fail(const Operator& op, std::string message, const DataChunk& rows, idx_t row,
                       const std::vector<uint32_t>& key, int64_t weight) {
  std::string key_text, row_text;
  for (size_t k = 0; k < key.size(); k++) key_text += (k ? ", " : "") + ValueText(rows.data[key[k]], row);
  if (key.size() > 1) key_text = "(" + key_text + ")";
  for (idx_t c = 0; c < rows.ColumnCount(); c++) row_text += (c ? ", " : "") + ValueText(rows.data[c], row);
  errors.push_back({op.view, op.node, Head(message.data(), message.size(), kErrorRowBytesMax),
                    Head(key_text.data(), key_text.size(), kErrorRowBytesMax),
                    Head(row_text.data(), row_text.size(), kErrorRowBytesMax), weight});
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
      : Operator(view, n.id, "filter", n.types),
        selector_(client, Pointers(n.expressions)),
        error_key_(ErrorKey(*n.inputs[0])) {}
  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext& context) override {
    Compactor compactor(types, out);
    for (auto& chunk : inputs[0]->chunks) {
      EvaluateRows(chunk, *this, error_key_, context, [&](const DeltaChunk& c) {
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
  const std::vector<uint32_t> error_key_;
};

class ProjectOp : public Operator {
 public:
  ProjectOp(ObjectId view, const PlanNode& n, duckdb::ClientContext& client)
      : Operator(view, n.id, "project", n.types),
        projector_(client, Pointers(n.expressions)),
        error_key_(ErrorKey(*n.inputs[0])) {}
  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext& context) override {
    for (auto& chunk : inputs[0]->chunks) {
      EvaluateRows(chunk, *this, error_key_, context, [&](const DeltaChunk& c) {
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
  const std::vector<uint32_t> error_key_;
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
