// HashIndex: 32-bit key hash -> first row of a chain. Open addressing over 8-byte slots.
//
// The slot of a hash is given by its top bits, so growing keeps the order of slots and walks memory forwards. Keys
// whose 32-bit hashes collide share a chain: who walks it compares keys. Slots are never removed; a chain may be empty.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>
#include "tidewater/state/row_store.h"

namespace tidewater::state {

class HashIndex {
 public:
  static constexpr RowId kEmptySlot = kNoRow;
  static constexpr RowId kEndOfChain = kNoRow - 1;
  struct Slot {
    uint32_t hash;
    RowId head;
  };

  HashIndex() { Reset(6); }

  void Prefetch(uint32_t hash) const { __builtin_prefetch(&slots_[hash >> shift_]); }
  /// First row of the hash's chain, kEndOfChain when there is none.
  RowId Head(uint32_t hash) const {
    for (uint64_t i = hash >> shift_;; i = (i + 1) & mask_) {
      const Slot& s = slots_[i];
      if (s.head == kEmptySlot) return kEndOfChain;
      if (s.hash == hash) return s.head;
    }
  }
  /// The head to read and write; valid until the next call of Reserve.
  RowId& HeadForUpdate(uint32_t hash) {
    for (uint64_t i = hash >> shift_;; i = (i + 1) & mask_) {
      Slot& s = slots_[i];
      if (s.head == kEmptySlot) {
        s.hash = hash;
        s.head = kEndOfChain;
        used_++;
        return s.head;
      }
      if (s.hash == hash) return s.head;
    }
  }
  /// Makes room for `n` more hashes.
  void Reserve(uint64_t n) {
    while ((used_ + n) * 8 > slots_.size() * 5) Grow();
  }
  /// Takes the rows of block `b`, whose hashes these are, out of their chains.
  void RemoveBlock(const RowStore& store, uint32_t b, std::vector<uint32_t> hashes) {
    // Each chain is walked once.
    std::sort(hashes.begin(), hashes.end());
    hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
    for (auto hash : hashes) {
      RowId* at = &HeadForUpdate(hash);
      while (*at < kEndOfChain) {
        auto& next = store.GetBlock(BlockOf(*at)).next[OffsetOf(*at)];
        if (BlockOf(*at) == b) {
          *at = next;
        } else {
          at = &next;
        }
      }
    }
  }
  void Clear() { Reset(6); }
  uint64_t Bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  void Reset(uint32_t bits) {
    slots_.assign(uint64_t{1} << bits, Slot{0, kEmptySlot});
    mask_ = slots_.size() - 1;
    shift_ = 32 - bits;
    used_ = 0;
  }
  void Grow() {
    auto old = std::move(slots_);
    Reset(33 - shift_);
    for (auto& s : old) {
      if (s.head == kEmptySlot) continue;
      uint64_t i = s.hash >> shift_;
      while (slots_[i].head != kEmptySlot) i = (i + 1) & mask_;
      slots_[i] = s;
      used_++;
    }
  }

  std::vector<Slot> slots_;
  uint64_t mask_ = 0;
  uint32_t shift_ = 0;
  uint64_t used_ = 0;
};

}  // namespace tidewater::state
