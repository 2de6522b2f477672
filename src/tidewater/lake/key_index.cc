#include "tidewater/lake/key_index.h"
#include <algorithm>
#include <cstring>
#include "tidewater/base/check.h"

namespace tidewater::lake {
namespace {

using duckdb::PhysicalType;

uint64_t Mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ull;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ull;
  x ^= x >> 32;
  return x;
}

bool IsIntegerLike(const LogicalType& type) {
  switch (type.id()) {
    case duckdb::LogicalTypeId::INTEGER:
    case duckdb::LogicalTypeId::BIGINT:
    case duckdb::LogicalTypeId::DATE:
    case duckdb::LogicalTypeId::TIME:
    case duckdb::LogicalTypeId::TIMESTAMP:
    case duckdb::LogicalTypeId::TIMESTAMP_TZ:
    case duckdb::LogicalTypeId::TIMESTAMP_NS:
      return true;
    default:
      return false;
  }
}

template <class T>
void EncodeInts(const duckdb::UnifiedVectorFormat& format, size_t count, KeyBatch* out) {
  auto* data = duckdb::UnifiedVectorFormat::GetData<T>(format);
  if (format.validity.AllValid()) {
    for (size_t i = 0; i < count; i++) out->ints[i] = uint64_t(int64_t(data[format.sel->get_index(i)]));
    return;
  }
  out->nulls.resize(count);
  for (size_t i = 0; i < count; i++) {
    auto row = format.sel->get_index(i);
    out->nulls[i] = !format.validity.RowIsValid(row);
    out->ints[i] = out->nulls[i] ? 0 : uint64_t(int64_t(data[row]));
  }
}

}  // namespace

KeyCodec::KeyCodec(Types types) : types_(std::move(types)) {
  integer_ = types_.size() == 1 && IsIntegerLike(types_[0]);
}

bool KeyCodec::CanBeKey(const LogicalType& type) {
  return !type.IsNested() && duckdb::TypeIsConstantSize(type.InternalType())
             ? true
             : type.InternalType() == PhysicalType::VARCHAR;
}

void KeyCodec::Encode(DataChunk& rows, const std::vector<uint32_t>& columns, KeyBatch* out) const {
  TW_CHECK_EQ(columns.size(), types_.size());
  size_t count = rows.size();
  out->count = count;
  out->hashes.resize(count);
  out->nulls.clear();
  if (integer_) {
    out->ints.resize(count);
    duckdb::UnifiedVectorFormat format;
    rows.data[columns[0]].ToUnifiedFormat(count, format);
    if (types_[0].InternalType() == PhysicalType::INT32)
      EncodeInts<int32_t>(format, count, out);
    else
      EncodeInts<int64_t>(format, count, out);
    for (size_t i = 0; i < count; i++) out->hashes[i] = Mix(out->ints[i]);
    return;
  }
  // Per column: one byte "is there", then the value: fixed width, or 4 bytes of length and the bytes.
  std::vector<duckdb::UnifiedVectorFormat> formats(columns.size());
  std::vector<size_t> widths(columns.size());
  for (size_t c = 0; c < columns.size(); c++) {
    rows.data[columns[c]].ToUnifiedFormat(count, formats[c]);
    auto physical = types_[c].InternalType();
    widths[c] = physical == PhysicalType::VARCHAR ? 0 : duckdb::GetTypeIdSize(physical);
  }
  out->bytes.clear();
  out->offsets.resize(count + 1);
  for (size_t i = 0; i < count; i++) {
    out->offsets[i] = out->bytes.size();
    for (size_t c = 0; c < columns.size(); c++) {
      auto& f = formats[c];
      auto row = f.sel->get_index(i);
      bool valid = f.validity.RowIsValid(row);
      out->bytes.push_back(valid);
      if (!valid) continue;
      if (widths[c]) {
        out->bytes.append(reinterpret_cast<const char*>(f.data) + row * widths[c], widths[c]);
      } else {
        auto& s = duckdb::UnifiedVectorFormat::GetData<duckdb::string_t>(f)[row];
        uint32_t length = s.GetSize();
        out->bytes.append(reinterpret_cast<const char*>(&length), 4);
        out->bytes.append(s.GetData(), length);
      }
    }
  }
  TW_CHECK_LT(out->bytes.size(), size_t(1) << 32);
  out->offsets[count] = out->bytes.size();
  for (size_t i = 0; i < count; i++) {
    auto key = out->Bytes(i);
    out->hashes[i] = duckdb::Hash(key.data(), key.size());
  }
}

std::string KeyCodec::Describe(DataChunk& rows, const std::vector<uint32_t>& columns, size_t row) {
  std::string text;
  for (auto c : columns) text += (text.empty() ? "" : ", ") + rows.data[c].GetValue(row).ToString();
  return "(" + text + ")";
}

KeyIndex::KeyIndex(bool integer_keys) : integer_(integer_keys) { Clear(); }

void KeyIndex::Clear() {
  size_ = stored_bytes_ = live_bytes_ = block_used_ = block_size_ = 0;
  null_key_ = RowLocation();
  blocks_.clear();
  ints_ = {};
  bytes_ = {};
  mask_ = 0;
  Grow(1024);
}

size_t KeyIndex::memory_bytes() const {
  return ints_.capacity() * sizeof(IntSlot) + bytes_.capacity() * sizeof(ByteSlot) + stored_bytes_;
}

void KeyIndex::Reserve(size_t keys) {
  size_t capacity = mask_ + 1;
  while (capacity * 3 / 4 < keys) capacity *= 2;
  if (capacity > mask_ + 1) Grow(capacity);
}

void KeyIndex::Prefetch(const KeyBatch& keys, size_t i) const {
  size_t slot = keys.hashes[i] & mask_;
  __builtin_prefetch(integer_ ? static_cast<const void*>(&ints_[slot]) : &bytes_[slot]);
}

size_t KeyIndex::FindInt(uint64_t key, uint64_t hash) const {
  size_t slot = hash & mask_;
  while (Used(ints_[slot].location) && ints_[slot].key != key) slot = (slot + 1) & mask_;
  return slot;
}

size_t KeyIndex::FindBytes(std::string_view key, uint64_t hash) const {
  size_t slot = hash & mask_;
  for (;; slot = (slot + 1) & mask_) {
    auto& s = bytes_[slot];
    if (!Used(s.location)) return slot;
    if (s.hash != hash) continue;
    uint32_t length;
    std::memcpy(&length, s.key, 4);
    if (length == key.size() && std::memcmp(s.key + 4, key.data(), length) == 0) return slot;
  }
}

RowLocation* KeyIndex::Find(const KeyBatch& keys, size_t i) {
  if (integer_) {
    if (keys.IsNull(i)) return null_key_.valid() ? &null_key_ : nullptr;
    auto& slot = ints_[FindInt(keys.ints[i], keys.hashes[i])];
    return Used(slot.location) ? &slot.location : nullptr;
  }
  auto& slot = bytes_[FindBytes(keys.Bytes(i), keys.hashes[i])];
  return Used(slot.location) ? &slot.location : nullptr;
}

RowLocation* KeyIndex::FindOrAdd(const KeyBatch& keys, size_t i) {
  if (integer_ && keys.IsNull(i)) {
    if (!null_key_.valid()) size_++;
    return &null_key_;
  }
  if ((size_ + 1) * 4 > (mask_ + 1) * 3) Grow((mask_ + 1) * 2);
  if (integer_) {
    auto& slot = ints_[FindInt(keys.ints[i], keys.hashes[i])];
    if (!Used(slot.location)) {
      slot.key = keys.ints[i];
      size_++;
    }
    return &slot.location;
  }
  auto key = keys.Bytes(i);
  auto& slot = bytes_[FindBytes(key, keys.hashes[i])];
  if (!Used(slot.location)) {
    slot.hash = keys.hashes[i];
    slot.key = Store(key);
    size_++;
  }
  return &slot.location;
}

template <class Slot, class HashOf>
void KeyIndex::CloseGap(std::vector<Slot>& slots, size_t hole, HashOf hash_of) {
  // Moves back every following entry of the run whose home is not between the hole and itself.
  for (size_t next = (hole + 1) & mask_; Used(slots[next].location); next = (next + 1) & mask_) {
    size_t home = hash_of(slots[next]) & mask_;
    if (((next - home) & mask_) >= ((next - hole) & mask_)) {
      slots[hole] = slots[next];
      hole = next;
    }
  }
  slots[hole].location = RowLocation();
}

RowLocation KeyIndex::Remove(const KeyBatch& keys, size_t i) {
  RowLocation old;
  if (integer_) {
    if (keys.IsNull(i)) {
      std::swap(old, null_key_);
      size_ -= old.valid();
      return old;
    }
    size_t slot = FindInt(keys.ints[i], keys.hashes[i]);
    old = ints_[slot].location;
    if (!Used(old)) return old;
    size_--;
    CloseGap(ints_, slot, [](const IntSlot& s) { return Mix(s.key); });
    return old;
  }
  size_t slot = FindBytes(keys.Bytes(i), keys.hashes[i]);
  old = bytes_[slot].location;
  if (!Used(old)) return old;
  size_--;
  live_bytes_ -= 4 + keys.Bytes(i).size();
  CloseGap(bytes_, slot, [](const ByteSlot& s) { return s.hash; });
  return old;
}

const char* KeyIndex::Store(std::string_view key) {
  size_t need = 4 + key.size();
  if (block_used_ + need > block_size_) {
    // Where most of what is stored belongs to keys that are gone, the rest moves together instead.
    if (stored_bytes_ > (64 << 10) && live_bytes_ * 2 < stored_bytes_) CompactBytes();
  }
  if (block_used_ + need > block_size_) {
    block_size_ = std::max<size_t>(need, std::clamp<size_t>(stored_bytes_, 4096, 1 << 20));
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(block_size_));
    stored_bytes_ += block_size_;
    block_used_ = 0;
  }
  char* at = blocks_.back().get() + block_used_;
  uint32_t length = key.size();
  std::memcpy(at, &length, 4);
  std::memcpy(at + 4, key.data(), length);
  block_used_ += need;
  live_bytes_ += need;
  return at;
}

void KeyIndex::CompactBytes() {
  auto old = std::move(blocks_);
  blocks_.clear();
  stored_bytes_ = live_bytes_ = block_used_ = block_size_ = 0;
  for (auto& s : bytes_) {
    if (!Used(s.location)) continue;
    uint32_t length;
    std::memcpy(&length, s.key, 4);
    s.key = Store({s.key + 4, length});
  }
}

void KeyIndex::Grow(size_t capacity) {
  size_t mask = capacity - 1;
  std::swap(mask, mask_);
  if (integer_) {
    std::vector<IntSlot> old(capacity);
    old.swap(ints_);
    for (auto& s : old) {
      if (!Used(s.location)) continue;
      size_t slot = Mix(s.key) & mask_;
      while (Used(ints_[slot].location)) slot = (slot + 1) & mask_;
      ints_[slot] = s;
    }
    return;
  }
  std::vector<ByteSlot> old(capacity);
  old.swap(bytes_);
  for (auto& s : old) {
    if (!Used(s.location)) continue;
    size_t slot = s.hash & mask_;
    while (Used(bytes_[slot].location)) slot = (slot + 1) & mask_;
    bytes_[slot] = s;
  }
}

}  // namespace tidewater::lake
