#include "tidewater/types/delta_batch.h"
#include <map>
#include <unordered_map>

namespace tidewater {
using duckdb::idx_t;

namespace {
uint64_t MemoryBytes(duckdb::Vector& vector, idx_t capacity) {
  /// The vector, the headers of its buffers, and the cache of them that a chunk keeps.
  constexpr uint64_t kVectorBytes = 512;
  uint64_t bytes = kVectorBytes + capacity / 8;
  auto type = vector.GetType().InternalType();
  switch (type) {
    case duckdb::PhysicalType::STRUCT:
      for (auto& child : duckdb::StructVector::GetEntries(vector)) bytes += MemoryBytes(*child, capacity);
      return bytes;
    case duckdb::PhysicalType::ARRAY:
      return bytes + MemoryBytes(duckdb::ArrayVector::GetEntry(vector),
                                 capacity * duckdb::ArrayType::GetSize(vector.GetType()));
    case duckdb::PhysicalType::LIST:
      bytes += MemoryBytes(duckdb::ListVector::GetEntry(vector), duckdb::ListVector::GetListCapacity(vector));
      break;
    case duckdb::PhysicalType::VARCHAR:
      if (auto heap = vector.GetAuxiliary(); heap && heap->GetBufferType() == duckdb::VectorBufferType::STRING_BUFFER)
        bytes += heap->Cast<duckdb::VectorStringBuffer>().GetStringAllocator().AllocationSize();
      break;
    default:
      break;
  }
  return bytes + capacity * duckdb::GetTypeIdSize(type);
}
}  // namespace

DeltaBatch Copy(const DeltaBatch& batch) {
  DeltaBatch out;
  out.types = batch.types;
  for (auto& c : batch.chunks) {
    if (c.size() == 0) continue;
    DeltaChunk copy;
    copy.rows = std::make_unique<DataChunk>();
    copy.rows->Initialize(duckdb::Allocator::DefaultAllocator(), c.rows->GetTypes(), c.size());
    c.rows->Copy(*copy.rows);
    copy.weights = c.weights;
    out.chunks.push_back(std::move(copy));
  }
  return out;
}

uint64_t MemoryBytes(const DeltaBatch& batch) {
  uint64_t bytes = batch.types.size() * sizeof(LogicalType) + batch.chunks.capacity() * sizeof(DeltaChunk);
  for (auto& c : batch.chunks) {
    bytes += sizeof(DataChunk) + c.weights.capacity() * sizeof(int64_t);
    for (auto& vector : c.rows->data) bytes += MemoryBytes(vector, c.rows->GetCapacity());
  }
  return bytes;
}

void DeltaBatch::AppendRow(const duckdb::vector<duckdb::Value>& values, int64_t weight) {
  if (chunks.empty() || chunks.back().size() == STANDARD_VECTOR_SIZE) {
    DeltaChunk c;
    c.rows = std::make_unique<DataChunk>();
    c.rows->Initialize(duckdb::Allocator::DefaultAllocator(), types);
    chunks.push_back(std::move(c));
  }
  auto& c = chunks.back();
  idx_t row = c.size();
  for (idx_t i = 0; i < values.size(); i++) c.rows->SetValue(i, row, values[i]);
  c.rows->SetCardinality(row + 1);
  if (c.weights.empty() && weight != 1) c.weights.assign(row, 1);
  if (!c.weights.empty() || weight != 1) c.weights.push_back(weight);
}

DeltaBatch Consolidate(const DeltaBatch& batch) {
  struct Entry {
    duckdb::vector<duckdb::Value> values;
    int64_t weight = 0;
  };
  std::unordered_map<std::string, size_t> seen;
  std::vector<Entry> entries;
  for (auto& c : batch.chunks) {
    for (idx_t r = 0; r < c.size(); r++) {
      std::string key;
      duckdb::vector<duckdb::Value> values;
      for (idx_t i = 0; i < c.rows->ColumnCount(); i++) {
        values.push_back(c.rows->GetValue(i, r));
        if (values.back().IsNull()) {
          key += "N";
        } else {
          auto text = values.back().ToString();
          key += std::to_string(text.size()) + ":" + text;
        }
      }
      auto [it, fresh] = seen.emplace(std::move(key), entries.size());
      if (fresh) entries.push_back({std::move(values), 0});
      entries[it->second].weight += c.weight(r);
    }
  }
  DeltaBatch out;
  out.types = batch.types;
  for (auto& e : entries)
    if (e.weight != 0) out.AppendRow(e.values, e.weight);
  return out;
}

}  // namespace tidewater
