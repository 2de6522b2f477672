// Arrangement: an indexed Z-set, key -> rows with weights. The state of joins, tables and views.
//
// Owned by one worker's thread. A reader that holds BlockViews of store() and a step number sees the rows born before
// its views were taken and not dead at that step. Point lookups of other threads take `lookup_mutex` shared; the writer
// takes it exclusively while it changes the index.
#pragma once
#include <cmath>
#include <cstring>
#include <functional>
#include <shared_mutex>
#include <string>
#include <vector>
#include "duckdb/common/types/interval.hpp"
#include "tidewater/state/hash_index.h"
#include "tidewater/state/row_store.h"

namespace tidewater::state {

/// Pairs of probe row and stored row.
struct Matches {
  std::vector<duckdb::sel_t> probe;
  std::vector<RowId> rows;
  void clear() {
    probe.clear();
    rows.clear();
  }
  size_t size() const { return rows.size(); }
};

/// Hashes of the rows of a chunk over some of its columns: 64 bits, equal for SQL-equal values. The top half indexes,
/// the low byte names the shard.
void HashColumns(DataChunk& chunk, const std::vector<uint32_t>& columns, std::vector<uint64_t>& hashes);
inline uint32_t IndexHash(uint64_t hash) { return uint32_t(hash >> 32); }
constexpr uint32_t kShards = 256;
inline uint32_t ShardOf(uint64_t hash) { return uint32_t(hash & (kShards - 1)); }
/// Shards go to workers in equal runs.
inline uint32_t WorkerOf(uint64_t hash, uint32_t workers) { return ShardOf(hash) * workers / kShards; }

/// SQL's IS NOT DISTINCT FROM of a stored value and a probe's: bits, except floats (-0.0 = 0.0, NaN = NaN) and
/// intervals (1 month = 30 days); NULL is not distinct from NULL. Nested probes are in their stored form.
inline bool NotDistinct(const Block& b, const ColumnLayout& l, uint32_t c, uint32_t o,
                        const duckdb::UnifiedVectorFormat& f, uint32_t row) {
  auto s = f.sel->get_index(row);
  bool valid = b.IsValid(c, o);
  if (valid != f.validity.RowIsValid(s)) return false;
  if (!valid) return true;
  auto same = [&]<class T>(T) { return b.Column<T>(c)[o] == reinterpret_cast<const T*>(f.data)[s]; };
  auto same_float = [&]<class T>(T) {
    T x = b.Column<T>(c)[o], y = reinterpret_cast<const T*>(f.data)[s];
    return x == y || (std::isnan(x) && std::isnan(y));
  };
  switch (l.physical) {
    case duckdb::PhysicalType::INT64:
    case duckdb::PhysicalType::UINT64:
      return same(uint64_t{});
    case duckdb::PhysicalType::INT32:
    case duckdb::PhysicalType::UINT32:
      return same(uint32_t{});
    case duckdb::PhysicalType::DOUBLE:
      return same_float(double{});
    case duckdb::PhysicalType::FLOAT:
      return same_float(float{});
    case duckdb::PhysicalType::INTERVAL:
      return duckdb::Interval::Equals(b.Column<duckdb::interval_t>(c)[o],
                                      reinterpret_cast<const duckdb::interval_t*>(f.data)[s]);
    case duckdb::PhysicalType::VARCHAR:
    case duckdb::PhysicalType::LIST:
    case duckdb::PhysicalType::STRUCT:
    case duckdb::PhysicalType::ARRAY:
      return same(duckdb::string_t{});
    default:
      return std::memcmp(b.ColumnData(c) + size_t(o) * l.width, f.data + size_t(s) * l.width, l.width) == 0;
  }
}

class Arrangement {
 public:
  /// `key`: columns of the stored row that find it. Without `indexed`, rows can only be appended and scanned.
  Arrangement(const Types& types, std::vector<uint32_t> key, bool indexed = true);

  RowStore& store() { return store_; }
  const RowStore& store() const { return store_; }
  const std::vector<uint32_t>& key() const { return key_; }
  bool indexed() const { return indexed_; }

  /// Adds rows of `chunk` (columns in layout order; row i of n is sel[i], or i): a row of weight w > 0 is w new rows of
  /// the multiset. hashes[row] is HashColumns over the key, by chunk row.
  void Insert(DataChunk& chunk, const duckdb::sel_t* sel, uint32_t n, const int64_t* weights,
              const std::vector<uint64_t>& hashes, StepNumber step, std::vector<RowId>* inserted = nullptr);
  /// Takes `weight` (> 0) off a stored row that equals chunk row `row` bit by bit in all columns. REQUIRES that it is
  /// there: anything else is our own bug and stops the process. A row of greater weight is replaced: `moved` hears of
  /// it.
  void Remove(DataChunk& chunk, const ProbeColumns& columns, uint32_t row, int64_t weight, uint64_t hash,
              StepNumber step, const std::function<void(RowId, RowId)>& moved = {});
  /// Applies a whole batch, insertions first, so that a row may come and go within it in any order.
  void Apply(const DeltaBatch& batch, StepNumber step);

  /// All live rows whose key equals that of chunk row sel[i] (or i), for from <= i < n, until there are `most` or more:
  /// returns the i to go on with, n at the end. `probe_keys[j]` is compared with key column j by SQL equality; rows
  /// with a NULL key must have been left out by the caller unless NULLs are to match NULLs.
  uint32_t Probe(const std::vector<duckdb::UnifiedVectorFormat>& probe_keys, const std::vector<uint64_t>& hashes,
                 const duckdb::sel_t* sel, uint32_t from, uint32_t n, size_t most, Matches& out) const;
  /// The one live row of that key, or kNoRow. For arrangements whose key is unique.
  RowId Find(const std::vector<duckdb::UnifiedVectorFormat>& probe_keys, uint32_t row, uint64_t hash) const;
  void Kill(RowId id, StepNumber step);
  /// Adds one row of weight 1 whose columns are prepared.
  RowId InsertOne(DataChunk& chunk, std::vector<duckdb::UnifiedVectorFormat>& formats, uint32_t row, uint64_t hash,
                  StepNumber step);
  /// First row of the hash's chain; go on with store().GetBlock(...).next. For readers that hold lookup_mutex.
  RowId Head(uint64_t hash) const { return index_.Head(IndexHash(hash)); }
  bool KeyEquals(RowId id, const std::vector<duckdb::UnifiedVectorFormat>& keys, uint32_t row) const;
  void PrefetchHead(uint64_t hash) const { index_.Prefetch(IndexHash(hash)); }
  /// Grows when rows moved: a reader whose views are older cannot rely on the index.
  uint64_t cleanings() const { return cleanings_; }

  /// Rewrites blocks that are mostly dead. Between steps. `moved` (may be empty) hears of every live row's old and new
  /// address.
  void Clean(StepNumber step, const std::function<void(RowId, RowId)>& moved = {});
  void Publish() { store_.Publish(); }
  /// RowStore::RollBack. Dead rows stay in the index.
  void RollBack(StepNumber published) { store_.RollBack(published); }

  uint64_t Bytes() const { return store_.Bytes() + index_.Bytes(); }

  /// State log records (RowStore::Encode) and back; Restored() rebuilds the index after the last record.
  void Restored();

  mutable std::shared_mutex lookup_mutex;

 private:
  void Link(const RowId* ids, uint32_t n, const uint32_t* hashes);

  RowStore store_;
  std::vector<uint32_t> key_;
  bool indexed_;
  bool int64_key_;  ///< a single key column of 8 bytes compared as bits
  HashIndex index_;
  std::atomic<uint64_t> cleanings_{0};
  std::vector<RowId> ids_;  // scratch
  std::vector<uint32_t> index_hashes_;
};

}  // namespace tidewater::state
