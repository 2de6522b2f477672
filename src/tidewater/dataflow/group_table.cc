#include "tidewater/dataflow/group_table.h"
#include <algorithm>
#include <numeric>
#include <utility>

namespace tidewater::dataflow {
using duckdb::PhysicalType;
using duckdb::UnifiedVectorFormat;
using state::Block;
using state::BlockOf;
using state::HashIndex;
using state::IndexHash;
using state::kBlockRows;
using state::kNoRow;
using state::OffsetOf;
using state::RowId;

GroupTable::GroupTable(const Types& key_types, uint32_t state_size) : state_size_(state_size), store_(key_types) {
  int64_key_ = key_types.size() == 1 && key_types[0].InternalType() == PhysicalType::INT64;
}

void GroupTable::MakeStates(uint32_t block) {
  if (block < states_.size() && states_[block]) return;
  dirty_.resize(store_.Parts());
  states_.resize(store_.BlockCount());
  states_[block] = std::make_unique<uint8_t[]>(size_t(state_size_) * kBlockRows);
}

void GroupTable::FindOrCreate(DataChunk& keys, const std::vector<uint64_t>& hashes, state::StepNumber step,
                              RowId* ids) {
  auto n = uint32_t(keys.size());
  auto width = uint32_t(store_.layout().columns.size());
  state::ProbeColumns columns(keys, store_.layout());
  RowId heads[STANDARD_VECTOR_SIZE];
  constexpr uint32_t kAhead = 12;
  for (uint32_t i = 0; i < std::min(n, kAhead); i++) index_.Prefetch(IndexHash(hashes[i]));
  for (uint32_t i = 0; i < n; i++) {
    if (i + kAhead < n) index_.Prefetch(IndexHash(hashes[i + kAhead]));
    heads[i] = index_.Head(IndexHash(hashes[i]));
  }
  auto prefetch_row = [&](uint32_t i) {
    if (heads[i] >= HashIndex::kEndOfChain) return;
    Block& b = store_.GetBlock(BlockOf(heads[i]));
    if (width > 0) __builtin_prefetch(b.ColumnData(0) + size_t(OffsetOf(heads[i])) * store_.layout().columns[0].width);
    __builtin_prefetch(State(heads[i]), 1);
  };
  for (uint32_t i = 0; i < std::min(n, kAhead); i++) prefetch_row(i);
  auto find = [&](RowId id, uint32_t row) {
    while (id < HashIndex::kEndOfChain) {
      Block& b = store_.GetBlock(BlockOf(id));
      auto o = OffsetOf(id);
      bool same = b.Death(o) == state::kNeverStep;
      for (uint32_t c = 0; c < width && same; c++)
        same = state::NotDistinct(b, store_.layout().columns[c], c, o, columns.formats[c], row);
      if (same) return id;
      id = b.next[o];
    }
    return kNoRow;
  };
  uint32_t missing = 0;
  if (int64_key_ && columns.formats[0].validity.AllValid()) {
    auto& f = columns.formats[0];
    auto* data = reinterpret_cast<const int64_t*>(f.data);
    for (uint32_t i = 0; i < n; i++) {
      if (i + kAhead < n) prefetch_row(i + kAhead);
      int64_t value = data[f.sel->get_index(i)];
      RowId id = heads[i];
      while (id < HashIndex::kEndOfChain) {
        Block& b = store_.GetBlock(BlockOf(id));
        auto o = OffsetOf(id);
        if (b.Column<int64_t>(0)[o] == value && b.IsValid(0, o) && b.Death(o) == state::kNeverStep) break;
        id = b.next[OffsetOf(id)];
      }
      ids[i] = id < HashIndex::kEndOfChain ? id : kNoRow;
      missing += ids[i] == kNoRow;
    }
  } else {
    for (uint32_t i = 0; i < n; i++) {
      if (i + kAhead < n) prefetch_row(i + kAhead);
      ids[i] = find(heads[i], i);
      missing += ids[i] == kNoRow;
    }
  }
  if (missing == 0) return;
  index_.Reserve(missing);
  std::vector<UnifiedVectorFormat> formats(width);
  for (uint32_t c = 0; c < width; c++) keys.data[c].ToUnifiedFormat(n, formats[c]);
  for (uint32_t i = 0; i < n; i++) {
    if (ids[i] != kNoRow) continue;
    RowId& head = index_.HeadForUpdate(IndexHash(hashes[i]));
    ids[i] = find(head, i);  // an earlier row of this chunk may have made it
    if (ids[i] != kNoRow) continue;
    ids[i] = store_.AppendOne(keys, formats, i, step);
    MakeStates(BlockOf(ids[i]));
    store_.GetBlock(BlockOf(ids[i])).next[OffsetOf(ids[i])] = head;
    head = ids[i];
  }
}

uint64_t GroupTable::LiveBytes(uint32_t part) const {
  auto blocks = std::min((part + 1) << state::kPartBits, store_.BlockCount()) - (part << state::kPartBits);
  return store_.LiveBytes(part) + uint64_t(blocks) * kBlockRows * state_size_;
}

uint64_t GroupTable::UnloggedBytes() const {
  uint64_t n = store_.UnloggedBytes();
  for (auto& part : dirty_) n += part.size() * (sizeof(RowId) + state_size_);
  return n;
}

std::vector<RowId> GroupTable::Encode(uint32_t part, bool base, state::ByteWriter& out) {
  store_.Encode(part, base, out);
  auto ids = std::exchange(dirty_[part], {});
  if (base) {
    ids.clear();
    ForEach(part, [&](RowId id) { ids.push_back(id); });
  } else {
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    // Some may have gone since they were marked, their block too.
    std::erase_if(ids, [&](RowId id) {
      auto* block = store_.BlockOrNull(BlockOf(id));
      return !block || OffsetOf(id) >= block->count || !store_.Alive(id);
    });
  }
  out.Put<uint32_t>(uint32_t(ids.size()));
  out.PutRaw(ids.data(), ids.size() * sizeof(RowId));
  return ids;
}

Result<std::vector<RowId>> GroupTable::Restore(uint32_t part, state::ByteReader& in, bool base) {
  TW_TRY(store_.Restore(part, in, base));
  dirty_.resize(store_.Parts());
  auto n = in.Get<uint32_t>();
  auto raw = in.GetRaw(size_t(n) * sizeof(RowId));
  if (!in.ok) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a state record of a group table is damaged"));
  std::vector<RowId> ids(n);
  std::memcpy(ids.data(), raw.data(), raw.size());
  for (auto id : ids)
    if (BlockOf(id) >= store_.BlockCount() || state::PartOf(BlockOf(id)) != part || !store_.BlockOrNull(BlockOf(id)) ||
        OffsetOf(id) >= store_.GetBlock(BlockOf(id)).count)
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "a state record of a group table is damaged"));
  for (auto id : ids) MakeStates(BlockOf(id));
  return ids;
}

void GroupTable::Restored() {
  store_.Restored();
  index_.Clear();
  std::vector<uint64_t> hashes;
  for (uint32_t b = 0; b < store_.BlockCount(); b++) {
    auto* block = store_.BlockOrNull(b);
    // What an earlier block of this number left is not a new group's state.
    if (b < states_.size() && states_[b]) {
      if (!block)
        states_[b].reset();
      else
        std::memset(states_[b].get() + size_t(block->count) * state_size_, 0,
                    size_t(kBlockRows - block->count) * state_size_);
    }
    if (!block || block->count == 0) continue;
    DataChunk keys;
    HashBlock(*block, hashes, keys);
    // Dead ones are linked too: cleaning expects every row of a block in its chain.
    index_.Reserve(block->count);
    for (uint32_t r = 0; r < block->count; r++) {
      RowId& head = index_.HeadForUpdate(IndexHash(hashes[r]));
      block->next[r] = head;
      head = state::MakeRowId(b, r);
    }
  }
}

void GroupTable::HashBlock(const Block& block, std::vector<uint64_t>& hashes, DataChunk& keys) const {
  state::ReadBlock(block, store_.layout(), block.count, keys);
  std::vector<uint32_t> all(keys.ColumnCount());
  std::iota(all.begin(), all.end(), 0);
  state::HashColumns(keys, all, hashes);
}

void GroupTable::Clean(state::StepNumber step, const std::function<void(RowId, RowId)>& moved) {
  for (auto b : store_.Cleanable()) {
    Block& block = store_.GetBlock(b);
    DataChunk keys;
    std::vector<uint64_t> hashes;
    HashBlock(block, hashes, keys);
    std::vector<uint32_t> index_hashes;
    for (auto h : hashes) index_hashes.push_back(IndexHash(h));
    index_.RemoveBlock(store_, b, index_hashes);
    std::vector<duckdb::sel_t> live;
    for (uint32_t r = 0; r < block.count; r++)
      if (block.Death(r) == state::kNeverStep) live.push_back(r);
    std::vector<RowId> ids(live.size());
    store_.Append(keys, live.data(), uint32_t(live.size()), nullptr, step, ids.data());
    index_.Reserve(live.size());
    for (size_t i = 0; i < live.size(); i++) {
      MakeStates(BlockOf(ids[i]));
      RowId& head = index_.HeadForUpdate(index_hashes[live[i]]);
      store_.GetBlock(BlockOf(ids[i])).next[OffsetOf(ids[i])] = head;
      head = ids[i];
      auto from = state::MakeRowId(b, live[i]);
      std::memcpy(State(ids[i]), State(from), state_size_);
      MarkDirty(ids[i]);
      if (moved) moved(from, ids[i]);
    }
    store_.Free(b);
    states_[b].reset();
  }
  store_.Publish();
}

}  // namespace tidewater::dataflow
