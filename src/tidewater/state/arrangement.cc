#include "tidewater/state/arrangement.h"
#include <algorithm>
#include <cstring>
#include "duckdb/common/vector_operations/vector_operations.hpp"

namespace tidewater::state {
using duckdb::PhysicalType;
using duckdb::sel_t;
using duckdb::UnifiedVectorFormat;

void HashColumns(DataChunk& chunk, const std::vector<uint32_t>& columns, std::vector<uint64_t>& hashes) {
  auto n = chunk.size();
  hashes.resize(n);
  duckdb::Vector out(LogicalType::HASH, duckdb::data_ptr_cast(hashes.data()));
  if (columns.empty()) {
    std::fill(hashes.begin(), hashes.end(), 0x9e3779b97f4a7c15ull);
    return;
  }
  bool first = true;
  for (auto c : columns) {
    if (first) {
      duckdb::VectorOperations::Hash(chunk.data[c], out, n);
      first = false;
    } else {
      duckdb::VectorOperations::CombineHash(out, chunk.data[c], n);
    }
    // A constant input gives a constant hash vector; the next column needs it flat, and so do we.
    if (out.GetVectorType() == duckdb::VectorType::CONSTANT_VECTOR) out.Flatten(n);
  }
  auto* data = duckdb::FlatVector::GetData<uint64_t>(out);
  if (data != hashes.data()) std::memcpy(hashes.data(), data, n * sizeof(uint64_t));
}

Arrangement::Arrangement(const Types& types, std::vector<uint32_t> key, bool indexed)
    : store_(types), key_(std::move(key)), indexed_(indexed) {
  int64_key_ = key_.size() == 1 && (types[key_[0]].InternalType() == PhysicalType::INT64 ||
                                    types[key_[0]].InternalType() == PhysicalType::UINT64);
}

void Arrangement::Link(const RowId* ids, uint32_t n, const uint32_t* hashes) {
  index_.Reserve(n);
  for (uint32_t i = 0; i < n; i++) {
    if (i + 8 < n) index_.Prefetch(hashes[i + 8]);
    RowId& head = index_.HeadForUpdate(hashes[i]);
    store_.GetBlock(BlockOf(ids[i])).next[OffsetOf(ids[i])] = head;
    head = ids[i];
  }
}

void Arrangement::Insert(DataChunk& chunk, const sel_t* sel, uint32_t n, const int64_t* weights,
                         const std::vector<uint64_t>& hashes, StepNumber step, std::vector<RowId>* inserted) {
  ids_.resize(n);
  std::unique_lock lock(lookup_mutex);
  store_.Append(chunk, sel, n, weights, step, ids_.data());
  if (inserted) *inserted = ids_;
  if (!indexed_) return;
  index_hashes_.resize(n);
  for (uint32_t i = 0; i < n; i++) index_hashes_[i] = IndexHash(hashes[sel ? sel[i] : i]);
  Link(ids_.data(), n, index_hashes_.data());
}

bool Arrangement::KeyEquals(RowId id, const std::vector<UnifiedVectorFormat>& keys, uint32_t row) const {
  Block& b = store_.GetBlock(BlockOf(id));
  auto o = OffsetOf(id);
  for (size_t j = 0; j < key_.size(); j++) {
    auto c = key_[j];
    if (!NotDistinct(b, store_.layout().columns[c], c, o, keys[j], row)) return false;
  }
  return true;
}

uint32_t Arrangement::Probe(const std::vector<UnifiedVectorFormat>& keys, const std::vector<uint64_t>& hashes,
                            const sel_t* sel, uint32_t from, uint32_t n, size_t most, Matches& out) const {
  RowId heads[STANDARD_VECTOR_SIZE];
  constexpr uint32_t kAhead = 12;
  for (uint32_t i = from; i < std::min(n, from + kAhead); i++) index_.Prefetch(IndexHash(hashes[sel ? sel[i] : i]));
  for (uint32_t i = from; i < n; i++) {
    if (i + kAhead < n) index_.Prefetch(IndexHash(hashes[sel ? sel[i + kAhead] : i + kAhead]));
    heads[i] = index_.Head(IndexHash(hashes[sel ? sel[i] : i]));
  }
  auto prefetch_row = [&](uint32_t i) {
    if (heads[i] >= HashIndex::kEndOfChain) return;
    Block& b = store_.GetBlock(BlockOf(heads[i]));
    __builtin_prefetch(&b.next[OffsetOf(heads[i])]);
    auto c = key_.empty() ? 0 : key_[0];
    __builtin_prefetch(b.ColumnData(c) + size_t(OffsetOf(heads[i])) * store_.layout().columns[c].width);
  };
  for (uint32_t i = from; i < std::min(n, from + kAhead); i++) prefetch_row(i);
  for (uint32_t i = from; i < n; i++) {
    if (out.size() >= most) return i;
    if (i + kAhead < n) prefetch_row(i + kAhead);
    uint32_t row = sel ? sel[i] : i;
    if (int64_key_) {
      auto s = keys[0].sel->get_index(row);
      if (!keys[0].validity.RowIsValid(s)) {
        for (RowId id = heads[i]; id < HashIndex::kEndOfChain;) {
          Block& b = store_.GetBlock(BlockOf(id));
          if (KeyEquals(id, keys, row) && store_.Alive(id)) {
            out.probe.push_back(row);
            out.rows.push_back(id);
          }
          id = b.next[OffsetOf(id)];
        }
        continue;
      }
      uint64_t value = reinterpret_cast<const uint64_t*>(keys[0].data)[s];
      uint32_t c = key_[0];
      for (RowId id = heads[i]; id < HashIndex::kEndOfChain;) {
        Block& b = store_.GetBlock(BlockOf(id));
        auto o = OffsetOf(id);
        if (b.Column<uint64_t>(c)[o] == value && (!b.HasNulls(c) || b.IsValid(c, o)) &&
            (!b.HasDeaths() || b.Death(o) == kNeverStep)) {
          out.probe.push_back(row);
          out.rows.push_back(id);
        }
        id = b.next[o];
      }
    } else {
      for (RowId id = heads[i]; id < HashIndex::kEndOfChain;) {
        Block& b = store_.GetBlock(BlockOf(id));
        if (store_.Alive(id) && KeyEquals(id, keys, row)) {
          out.probe.push_back(row);
          out.rows.push_back(id);
        }
        id = b.next[OffsetOf(id)];
      }
    }
  }
  return n;
}

RowId Arrangement::Find(const std::vector<UnifiedVectorFormat>& keys, uint32_t row, uint64_t hash) const {
  for (RowId id = index_.Head(IndexHash(hash)); id < HashIndex::kEndOfChain;) {
    if (store_.Alive(id) && KeyEquals(id, keys, row)) return id;
    id = store_.GetBlock(BlockOf(id)).next[OffsetOf(id)];
  }
  return kNoRow;
}

RowId Arrangement::InsertOne(DataChunk& chunk, std::vector<UnifiedVectorFormat>& formats, uint32_t row, uint64_t hash,
                             StepNumber step) {
  std::unique_lock lock(lookup_mutex);
  RowId id = store_.AppendOne(chunk, formats, row, step);
  uint32_t h = IndexHash(hash);
  if (indexed_) Link(&id, 1, &h);
  return id;
}

void Arrangement::Kill(RowId id, StepNumber step) { store_.Kill(id, step); }

void Arrangement::Remove(DataChunk& chunk, const ProbeColumns& columns, uint32_t row, int64_t weight, uint64_t hash,
                         StepNumber step, const std::function<void(RowId, RowId)>& moved) {
  TW_CHECK(indexed_, "a retraction reached an append-only arrangement");
  for (RowId id = index_.Head(IndexHash(hash)); id < HashIndex::kEndOfChain && weight > 0;) {
    Block& b = store_.GetBlock(BlockOf(id));
    RowId next = b.next[OffsetOf(id)];
    if (store_.Alive(id)) {
      bool equal = true;
      for (uint32_t c = 0; c < columns.formats.size() && equal; c++)
        equal = store_.Equals(id, c, columns.formats[c], row);
      if (equal) {
        int64_t have = b.Weight(OffsetOf(id));
        store_.Kill(id, step);
        if (have > weight) {
          int64_t left = have - weight;
          sel_t sel = row;
          RowId fresh;
          uint32_t h = IndexHash(hash);
          std::unique_lock lock(lookup_mutex);
          store_.Append(chunk, &sel, 1, &left, step, &fresh);
          Link(&fresh, 1, &h);
          if (moved) moved(id, fresh);
        }
        weight -= std::min(have, weight);
      }
    }
    id = next;
  }
  TW_CHECK(weight == 0, "a retraction of weight {} found no stored row", weight);
}

void Arrangement::Apply(const DeltaBatch& batch, StepNumber step) {
  std::vector<uint64_t> hashes;
  std::vector<sel_t> positive;
  std::vector<int64_t> weights;
  for (auto& c : batch.chunks) {
    if (indexed_) HashColumns(*c.rows, key_, hashes);
    if (c.all_inserts()) {
      Insert(*c.rows, nullptr, uint32_t(c.size()), nullptr, hashes, step);
      continue;
    }
    positive.clear();
    weights.clear();
    for (uint32_t i = 0; i < c.size(); i++) {
      if (c.weights[i] > 0) {
        positive.push_back(i);
        weights.push_back(c.weights[i]);
      }
    }
    if (!positive.empty()) Insert(*c.rows, positive.data(), uint32_t(positive.size()), weights.data(), hashes, step);
  }
  for (auto& c : batch.chunks) {
    if (c.all_inserts()) continue;
    bool any = false;
    for (auto w : c.weights) any |= w < 0;
    if (!any) continue;
    HashColumns(*c.rows, key_, hashes);
    ProbeColumns columns(*c.rows, store_.layout());
    for (uint32_t i = 0; i < c.size(); i++)
      if (c.weights[i] < 0) Remove(*c.rows, columns, i, -c.weights[i], hashes[i], step);
  }
}

void Arrangement::Clean(StepNumber step, const std::function<void(RowId, RowId)>& moved) {
  auto blocks = store_.Cleanable();
  if (blocks.empty()) return;
  cleanings_++;
  std::vector<uint64_t> hashes;
  for (auto b : blocks) {
    Block& block = store_.GetBlock(b);
    DataChunk chunk;
    ReadBlock(block, store_.layout(), block.count, chunk);
    std::unique_lock lock(lookup_mutex);
    if (indexed_) {
      HashColumns(chunk, key_, hashes);
      index_hashes_.clear();
      for (auto h : hashes) index_hashes_.push_back(IndexHash(h));
      index_.RemoveBlock(store_, b, index_hashes_);
    }
    std::vector<sel_t> live;
    std::vector<int64_t> weights;
    for (uint32_t r = 0; r < block.count; r++)
      if (block.Death(r) == kNeverStep) {
        live.push_back(r);
        weights.push_back(block.Weight(r));
      }
    if (!live.empty()) {
      ids_.resize(live.size());
      store_.Append(chunk, live.data(), uint32_t(live.size()), block.HasWeights() ? weights.data() : nullptr, step,
                    ids_.data());
      if (indexed_) {
        index_hashes_.resize(live.size());
        for (size_t i = 0; i < live.size(); i++) index_hashes_[i] = IndexHash(hashes[live[i]]);
        Link(ids_.data(), uint32_t(live.size()), index_hashes_.data());
      }
      if (moved)
        for (size_t i = 0; i < live.size(); i++) moved(MakeRowId(b, live[i]), ids_[i]);
    }
    store_.Free(b);
  }
}

void Arrangement::Restored() {
  store_.Restored();
  index_.Clear();
  if (!indexed_) return;
  Types types = store_.layout().GetTypes();
  std::vector<uint64_t> hashes;
  for (uint32_t b = 0; b < store_.BlockCount(); b++) {
    Block* block = store_.BlockOrNull(b);
    if (!block || block->count == 0) continue;
    DataChunk chunk;
    chunk.InitializeEmpty(types);
    for (auto c : key_) {
      duckdb::Vector v(types[c], nullptr);
      ReadColumn(*block, store_.layout().columns[c], c, block->count, v);
      chunk.data[c].Reference(v);
    }
    chunk.SetCardinality(block->count);
    HashColumns(chunk, key_, hashes);
    // Dead rows are linked too: cleaning expects every row of a block in its chain.
    ids_.resize(block->count);
    index_hashes_.resize(block->count);
    for (uint32_t r = 0; r < block->count; r++) {
      ids_[r] = MakeRowId(b, r);
      index_hashes_[r] = IndexHash(hashes[r]);
    }
    Link(ids_.data(), block->count, index_hashes_.data());
  }
}

}  // namespace tidewater::state
