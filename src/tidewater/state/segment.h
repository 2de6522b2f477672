// The bytes of one object of the state log: docs/formats/state-log.md.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/state/state_log.h"

namespace tidewater::state {

struct SegmentHeader {
  /// The numbers of the log that this object stands for: one, or the range that was merged into it.
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t generation = 0;
  /// Random per opening of the log: tells our own object from another writer's.
  uint64_t writer = 0;
  /// Newest checkpoint of the log when this was written.
  CheckpointId checkpoint = 0;
  uint64_t object_bytes = 0;
  uint64_t index_bytes = 0;
  uint32_t entries = 0;
};

enum class Codec : uint8_t { kRaw = 0, kLz4 = 1 };

/// Where and what a record is.
struct IndexEntry {
  CheckpointId checkpoint = 0;
  std::string stream;
  RecordKind kind = RecordKind::kBase;
  Codec codec = Codec::kRaw;
  /// 1 for a base, 0 for a drop, one more for each delta behind it: a lost object shows as a gap.
  uint32_t ordinal = 0;
  uint64_t raw_bytes = 0;
  uint64_t stored_bytes = 0;
  /// xxHash64 of the stored bytes.
  uint64_t hash = 0;
  /// Of the stored bytes within the object.
  uint64_t offset = 0;
};

constexpr size_t kSegmentHeaderBytes = 80;
constexpr size_t kMaxStreamName = 4096;

/// Writes an object: the index goes before the payloads, so its size is fixed by the constructor.
class SegmentWriter {
 public:
  /// `entries`: stream names decide the size of the index; the rest is filled by the calls of Append, one per entry in
  /// order. `expected_bytes`: of all payloads, at most, to make room once.
  explicit SegmentWriter(std::vector<IndexEntry> entries, uint64_t expected_bytes = 0);
  /// Compresses where it helps.
  void Append(std::string_view payload);
  /// Takes bytes that are stored already, as the entry tells.
  void AppendStored(std::string_view stored);
  /// Writes header and index. Fills object_bytes, index_bytes and entries of `header`.
  std::string Finish(SegmentHeader& header);
  const std::vector<IndexEntry>& entries() const { return entries_; }

 private:
  std::vector<IndexEntry> entries_;
  size_t next_ = 0;
  size_t index_bytes_ = 0;
  std::string bytes_;
};

/// Whether `head`, the first bytes of an object, is at least a header and promises more than `size` bytes: a write that
/// never ended.
bool IsIncomplete(std::string_view head, uint64_t size);
/// How many bytes header and index take, from a prefix that holds the header. kCorrupt names `object`.
Result<uint64_t> HeadBytes(std::string_view head, uint64_t size, const std::string& object);
/// Header and index; `head` holds at least HeadBytes.
Status ParseHead(std::string_view head, uint64_t size, const std::string& object, SegmentHeader& header,
                 std::vector<IndexEntry>& entries);
/// Checks and decompresses a record.
Result<std::string> DecodePayload(const IndexEntry& entry, std::string_view stored, const std::string& object);
/// Only checks.
Status CheckPayload(const IndexEntry& entry, std::string_view stored, const std::string& object);

/// "log/<first>.seg" or "log/<first>-<last>.seg".
std::string SegmentKey(uint64_t first, uint64_t last);
/// The range that a key names, false when it is not a segment's.
bool ParseSegmentKey(std::string_view key, uint64_t& first, uint64_t& last);

}  // namespace tidewater::state
