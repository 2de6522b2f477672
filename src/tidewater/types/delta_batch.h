// DeltaBatch: a Z-set in pieces, the form in which rows travel between operators.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>
#include "duckdb.hpp"
#include "duckdb/common/types/data_chunk.hpp"

namespace tidewater {

using duckdb::DataChunk;
using duckdb::LogicalType;
using Types = duckdb::vector<LogicalType>;

/// Up to STANDARD_VECTOR_SIZE rows with a weight each. A row of weight w stands w times in the multiset; a negative
/// weight takes it away. UPDATE = (-1, old row), (+1, new row). Rows are in no order and may repeat unless the
/// producer says "consolidated" (each distinct row at most once, no weight 0).
struct DeltaChunk {
  std::unique_ptr<DataChunk> rows;
  /// One weight per row; empty means that every row has weight +1 (the append-only fast path).
  std::vector<int64_t> weights;

  duckdb::idx_t size() const { return rows->size(); }
  bool all_inserts() const { return weights.empty(); }
  int64_t weight(duckdb::idx_t i) const { return weights.empty() ? 1 : weights[i]; }
};

/// A list of DeltaChunks of the same types. Chunks may be of any size from 1 to STANDARD_VECTOR_SIZE.
struct DeltaBatch {
  Types types;
  std::vector<DeltaChunk> chunks;

  bool empty() const { return chunks.empty(); }
  duckdb::idx_t rows() const {
    duckdb::idx_t n = 0;
    for (auto& c : chunks) n += c.size();
    return n;
  }
  /// Appends a row of `values`, of `types`, with its weight, to the last chunk or to a new one. For tests and for slow
  /// paths.
  void AppendRow(const duckdb::vector<duckdb::Value>& values, int64_t weight = 1);
  void Append(DeltaBatch&& other) {
    for (auto& c : other.chunks) chunks.push_back(std::move(c));
    other.chunks.clear();
  }
};

/// The same rows in memory of their own, with room for no more than them.
DeltaBatch Copy(const DeltaBatch& batch);

/// Memory that the batch holds, within about a tenth. REQUIRES: vectors are flat, as Copy leaves them.
uint64_t MemoryBytes(const DeltaBatch& batch);

/// The multiset difference in normal form: every distinct row once (SQL "not distinct" on bits, NULL equal to NULL), no
/// zero weights. Order of first appearance. For sinks, tests and boundaries, not for the hot path.
DeltaBatch Consolidate(const DeltaBatch& batch);

}  // namespace tidewater
