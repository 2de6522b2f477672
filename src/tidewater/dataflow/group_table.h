// GroupTable: key -> a fixed-size state that is changed in place. The state of aggregates and of DISTINCT.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <vector>
#include "tidewater/state/arrangement.h"

namespace tidewater::dataflow {

class GroupTable {
 public:
  GroupTable(const Types& key_types, uint32_t state_size);

  /// The group of each row of `keys` (all columns), made where it is missing with a zeroed state. `hashes` is
  /// HashColumns of all columns.
  void FindOrCreate(DataChunk& keys, const std::vector<uint64_t>& hashes, state::StepNumber step, state::RowId* ids);
  uint8_t* State(state::RowId id) {
    return states_[state::BlockOf(id)].get() + size_t(state::OffsetOf(id)) * state_size_;
  }
  /// The group goes. Its key may come back as another group, from the next step on.
  void Kill(state::RowId id, state::StepNumber step) { store_.Kill(id, step); }
  /// Rewrites blocks that are mostly dead; `moved` hears of every group's old and new id. Between steps.
  void Clean(state::StepNumber step, const std::function<void(state::RowId, state::RowId)>& moved = {});
  /// The state will be changed: it is written with the next checkpoint.
  void MarkDirty(state::RowId id) { dirty_[state::PartOf(state::BlockOf(id))].push_back(id); }
  void Gather(uint32_t column, const state::RowId* ids, uint32_t n, duckdb::Vector& out) const {
    store_.Gather(column, ids, n, out);
  }
  uint64_t rows() const { return store_.live_rows(); }
  uint64_t Bytes() const {
    return store_.Bytes() + index_.Bytes() + store_.BlockCount() * size_t(state_size_) * state::kBlockRows;
  }
  uint32_t state_size() const { return state_size_; }

  // --- State log, in the parts of the keys' store.
  uint32_t Parts() const { return store_.Parts(); }
  bool Changed(uint32_t part) const { return store_.Changed(part) || !dirty_[part].empty(); }
  uint64_t LiveBytes(uint32_t part) const;
  uint64_t UnloggedBytes() const;
  /// Keys of the part made since the last call (base: all) and the ids of the dirty groups (base: all); the caller
  /// writes their states.
  std::vector<state::RowId> Encode(uint32_t part, bool base, state::ByteWriter& out);
  /// The other way; returns the ids whose states follow.
  Result<std::vector<state::RowId>> Restore(uint32_t part, state::ByteReader& in, bool base);
  void Restored();
  template <class F>
  void ForEach(F&& f) {
    for (uint32_t part = 0; part < Parts(); part++) ForEach(part, f);
  }
  /// The live groups of a part.
  template <class F>
  void ForEach(uint32_t part, F&& f) {
    auto end = std::min((part + 1) << state::kPartBits, store_.BlockCount());
    for (uint32_t b = part << state::kPartBits; b < end; b++)
      if (auto* block = store_.BlockOrNull(b))
        for (uint32_t r = 0; r < block->count; r++)
          if (block->Death(r) == state::kNeverStep) f(state::MakeRowId(b, r));
  }

 private:
  void MakeStates(uint32_t block);
  /// Hashes of all keys of a block.
  void HashBlock(const state::Block& block, std::vector<uint64_t>& hashes, DataChunk& keys) const;

  uint32_t state_size_;
  state::RowStore store_;
  state::HashIndex index_;
  bool int64_key_;
  std::vector<std::unique_ptr<uint8_t[]>> states_;  ///< by block
  std::vector<std::vector<state::RowId>> dirty_;    ///< by part
};

}  // namespace tidewater::dataflow
