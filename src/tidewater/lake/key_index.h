// The primary-key index: which row of which data file holds a key.
//
// Two forms. A key of one integer-like column (integers, dates, times, timestamps) is its 8 bytes, kept in the slot
// itself. Every other key is encoded to bytes, which are kept and compared: a hash decides nothing. Rows are compared
// by their bits, NULL equals NULL. One thread.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/types/delta_batch.h"

namespace tidewater::lake {

struct RowLocation {
  uint32_t file = kNone;
  uint32_t position = 0;
  static constexpr uint32_t kNone = ~0u;
  bool valid() const { return file != kNone; }
  bool operator==(const RowLocation&) const = default;
};

/// The keys of some rows, encoded, with their hashes.
struct KeyBatch {
  size_t count = 0;
  std::vector<uint64_t> hashes;
  // Integer form.
  std::vector<uint64_t> ints;
  /// Empty when no key is NULL.
  std::vector<uint8_t> nulls;
  // Byte form: key i is bytes[offsets[i], offsets[i + 1]).
  std::string bytes;
  std::vector<uint32_t> offsets;

  std::string_view Bytes(size_t i) const {
    return std::string_view(bytes).substr(offsets[i], offsets[i + 1] - offsets[i]);
  }
  bool IsNull(size_t i) const { return !nulls.empty() && nulls[i]; }
};

class KeyCodec {
 public:
  /// `types` are storage types (lake/types.h), not nested.
  explicit KeyCodec(Types types);
  bool is_integer() const { return integer_; }
  static bool CanBeKey(const LogicalType& type);
  /// `columns[i]` are the positions in `rows` of the key's columns, in key order.
  void Encode(DataChunk& rows, const std::vector<uint32_t>& columns, KeyBatch* out) const;
  /// Key i of a batch for an error message: values in key order.
  static std::string Describe(DataChunk& rows, const std::vector<uint32_t>& columns, size_t row);

 private:
  Types types_;
  bool integer_ = false;
};

/// Open addressing, linear probing, at most 3/4 full; a removal closes the gap, so there are no tombstones.
class KeyIndex {
 public:
  explicit KeyIndex(bool integer_keys);

  /// Where the key is, to be read or overwritten, valid until the next insertion or removal; null when it is absent.
  RowLocation* Find(const KeyBatch& keys, size_t i);
  /// The same, adding the key with an invalid location when it is absent. The caller gives it a valid one at once.
  RowLocation* FindOrAdd(const KeyBatch& keys, size_t i);
  /// Where the key was; invalid when it was absent.
  RowLocation Remove(const KeyBatch& keys, size_t i);
  /// Brings the slot of key i into the cache; call a few keys ahead of the others.
  void Prefetch(const KeyBatch& keys, size_t i) const;

  void Reserve(size_t keys);
  void Clear();
  size_t size() const { return size_; }
  size_t memory_bytes() const;

 private:
  struct IntSlot {
    uint64_t key;
    RowLocation location;
  };
  struct ByteSlot {
    uint64_t hash;
    const char* key;  ///< length (4 bytes), bytes; in blocks_
    RowLocation location;
  };
  static bool Used(const RowLocation& l) { return l.file != RowLocation::kNone; }
  size_t FindInt(uint64_t key, uint64_t hash) const;
  size_t FindBytes(std::string_view key, uint64_t hash) const;
  void Grow(size_t capacity);
  const char* Store(std::string_view key);
  void CompactBytes();
  template <class Slot, class HashOf>
  void CloseGap(std::vector<Slot>& slots, size_t hole, HashOf hash_of);

  bool integer_;
  size_t size_ = 0;
  size_t mask_ = 0;
  std::vector<IntSlot> ints_;
  std::vector<ByteSlot> bytes_;
  RowLocation null_key_;  ///< of the NULL key in integer form
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t block_used_ = 0, block_size_ = 0, stored_bytes_ = 0, live_bytes_ = 0;
};

}  // namespace tidewater::lake
