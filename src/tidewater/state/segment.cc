#include "tidewater/state/segment.h"
#include <charconv>
#include <cstring>
#include <lz4.h>
#include <xxhash.h>
#include "tidewater/base/check.h"

namespace tidewater::state {
namespace {
constexpr uint32_t kMagic = 0x47535754;  // "TWSG"
constexpr uint16_t kVersion = 1;
constexpr size_t kEntryBytes = 8 + 1 + 1 + 2 + 4 + 8 + 8 + 8;
/// LZ4 cannot do better than one byte for 255.
constexpr uint64_t kMaxRatio = 255;

Error Corrupt(const std::string& object, const char* what) {
  return EnvError(ErrorKind::kCorrupt, "state log object \"{}\" is damaged: {}", object, what);
}

/// Little-endian fields at a moving place; the caller has checked that there is room.
struct Cursor {
  const char* p;
  template <class T>
  T Get() {
    T v;
    std::memcpy(&v, p, sizeof v);
    p += sizeof v;
    return v;
  }
};
struct Filler {
  char* p;
  template <class T>
  void Put(T v) {
    std::memcpy(p, &v, sizeof v);
    p += sizeof v;
  }
};

/// The checksum covers the header up to itself, and the index.
uint64_t HeadHash(std::string_view head) {
  uint64_t of_header = XXH64(head.data(), kSegmentHeaderBytes - 8, 0);
  return XXH64(head.data() + kSegmentHeaderBytes, head.size() - kSegmentHeaderBytes, of_header);
}

struct RawHeader {
  uint32_t magic;
  uint16_t version;
  SegmentHeader h;
  uint64_t hash;
};

RawHeader ReadHeader(std::string_view head) {
  RawHeader r;
  Cursor c{head.data()};
  r.magic = c.Get<uint32_t>();
  r.version = c.Get<uint16_t>();
  c.Get<uint16_t>();
  r.h.first = c.Get<uint64_t>();
  r.h.last = c.Get<uint64_t>();
  r.h.generation = c.Get<uint64_t>();
  r.h.writer = c.Get<uint64_t>();
  r.h.checkpoint = c.Get<uint64_t>();
  r.h.object_bytes = c.Get<uint64_t>();
  r.h.index_bytes = c.Get<uint64_t>();
  r.h.entries = c.Get<uint32_t>();
  c.Get<uint32_t>();
  r.hash = c.Get<uint64_t>();
  return r;
}
}  // namespace

SegmentWriter::SegmentWriter(std::vector<IndexEntry> entries, uint64_t expected_bytes) : entries_(std::move(entries)) {
  for (auto& e : entries_) {
    TW_CHECK_LE(e.stream.size(), kMaxStreamName);
    index_bytes_ += kEntryBytes + e.stream.size();
  }
  bytes_.reserve(kSegmentHeaderBytes + index_bytes_ + expected_bytes);
  bytes_.resize(kSegmentHeaderBytes + index_bytes_);
}

void SegmentWriter::Append(std::string_view payload) {
  auto& e = entries_[next_];
  e.raw_bytes = payload.size();
  e.codec = Codec::kRaw;
  // Below this LZ4 has nothing to find; above its limit it takes nothing.
  if (payload.size() >= 64 && payload.size() <= LZ4_MAX_INPUT_SIZE) {
    size_t at = bytes_.size();
    int bound = LZ4_compressBound(int(payload.size()));
    int n = 0;
    bytes_.resize_and_overwrite(at + size_t(bound), [&](char* p, size_t) {
      n = LZ4_compress_default(payload.data(), p + at, int(payload.size()), bound);
      return at + size_t(std::max(n, 0));
    });
    bool helps = n > 0 && size_t(n) < payload.size() - payload.size() / 16;
    e.codec = helps ? Codec::kLz4 : Codec::kRaw;
    if (helps) {
      e.stored_bytes = uint64_t(n);
      e.offset = at;
      e.hash = XXH64(bytes_.data() + at, size_t(n), 0);
      next_++;
      return;
    }
    bytes_.resize(at);
  }
  e.stored_bytes = payload.size();
  e.hash = XXH64(payload.data(), payload.size(), 0);
  AppendStored(payload);
}

void SegmentWriter::AppendStored(std::string_view stored) {
  auto& e = entries_[next_++];
  TW_CHECK_EQ(e.stored_bytes, stored.size());
  e.offset = bytes_.size();
  bytes_.append(stored);
}

std::string SegmentWriter::Finish(SegmentHeader& header) {
  TW_CHECK_EQ(next_, entries_.size());
  header.object_bytes = bytes_.size();
  header.index_bytes = index_bytes_;
  header.entries = uint32_t(entries_.size());
  Filler f{bytes_.data()};
  f.Put(kMagic);
  f.Put(kVersion);
  f.Put(uint16_t{0});
  for (uint64_t v : {header.first, header.last, header.generation, header.writer, header.checkpoint,
                     header.object_bytes, header.index_bytes})
    f.Put(v);
  f.Put(header.entries);
  f.Put(uint32_t{0});
  char* hash_at = f.p;
  f.p += 8;
  for (auto& e : entries_) {
    f.Put(e.checkpoint);
    f.Put(uint8_t(e.kind));
    f.Put(uint8_t(e.codec));
    f.Put(uint16_t(e.stream.size()));
    f.Put(e.ordinal);
    f.Put(e.raw_bytes);
    f.Put(e.stored_bytes);
    f.Put(e.hash);
    std::memcpy(f.p, e.stream.data(), e.stream.size());
    f.p += e.stream.size();
  }
  uint64_t hash = HeadHash(std::string_view(bytes_).substr(0, kSegmentHeaderBytes + index_bytes_));
  std::memcpy(hash_at, &hash, 8);
  return std::move(bytes_);
}

bool IsIncomplete(std::string_view head, uint64_t size) {
  if (size < kSegmentHeaderBytes || head.size() < kSegmentHeaderBytes) return true;
  RawHeader r = ReadHeader(head);
  return r.magic == kMagic && r.h.object_bytes > size;
}

Result<uint64_t> HeadBytes(std::string_view head, uint64_t size, const std::string& object) {
  if (head.size() < kSegmentHeaderBytes) return std::unexpected(Corrupt(object, "shorter than its header"));
  RawHeader r = ReadHeader(head);
  if (r.magic != kMagic) return std::unexpected(Corrupt(object, "not a segment"));
  if (r.version != kVersion)
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "state log object \"{}\" has format version {}, not {}",
                                    object, r.version, kVersion));
  if (r.h.object_bytes != size) return std::unexpected(Corrupt(object, "its length differs from its header"));
  if (r.h.index_bytes > size - kSegmentHeaderBytes || r.h.entries > r.h.index_bytes / kEntryBytes)
    return std::unexpected(Corrupt(object, "index size"));
  return kSegmentHeaderBytes + r.h.index_bytes;
}

Status ParseHead(std::string_view head, uint64_t size, const std::string& object, SegmentHeader& header,
                 std::vector<IndexEntry>& entries) {
  TW_ASSIGN(uint64_t head_bytes, HeadBytes(head, size, object));
  if (head.size() < head_bytes) return std::unexpected(Corrupt(object, "shorter than its index"));
  head = head.substr(0, head_bytes);
  RawHeader r = ReadHeader(head);
  if (r.hash != HeadHash(head)) return std::unexpected(Corrupt(object, "checksum of the index"));
  if (r.h.first > r.h.last) return std::unexpected(Corrupt(object, "range"));
  header = r.h;
  entries.clear();
  entries.reserve(header.entries);
  Cursor c{head.data() + kSegmentHeaderBytes};
  const char* end = head.data() + head.size();
  uint64_t offset = head_bytes;
  for (uint32_t i = 0; i < header.entries; i++) {
    if (size_t(end - c.p) < kEntryBytes) return std::unexpected(Corrupt(object, "index"));
    IndexEntry e;
    e.checkpoint = c.Get<uint64_t>();
    auto kind = c.Get<uint8_t>();
    auto codec = c.Get<uint8_t>();
    auto name = c.Get<uint16_t>();
    e.ordinal = c.Get<uint32_t>();
    e.raw_bytes = c.Get<uint64_t>();
    e.stored_bytes = c.Get<uint64_t>();
    e.hash = c.Get<uint64_t>();
    e.offset = offset;
    if (kind > uint8_t(RecordKind::kDrop) || codec > uint8_t(Codec::kLz4) || name > kMaxStreamName ||
        size_t(end - c.p) < name || e.stored_bytes > size - offset)
      return std::unexpected(Corrupt(object, "index entry"));
    bool sizes_fit = codec == uint8_t(Codec::kRaw)
                         ? e.raw_bytes == e.stored_bytes
                         : e.raw_bytes <= LZ4_MAX_INPUT_SIZE && e.raw_bytes / kMaxRatio <= e.stored_bytes;
    if (!sizes_fit) return std::unexpected(Corrupt(object, "record size"));
    e.kind = RecordKind(kind);
    e.codec = Codec(codec);
    e.stream.assign(c.p, name);
    c.p += name;
    offset += e.stored_bytes;
    entries.push_back(std::move(e));
  }
  if (c.p != end || offset != size) return std::unexpected(Corrupt(object, "index"));
  return {};
}

Status CheckPayload(const IndexEntry& entry, std::string_view stored, const std::string& object) {
  if (stored.size() != entry.stored_bytes) return std::unexpected(Corrupt(object, "a record is cut off"));
  if (XXH64(stored.data(), stored.size(), 0) != entry.hash)
    return std::unexpected(Corrupt(object, "checksum of a record").WithDetail("stream " + entry.stream));
  return {};
}

Result<std::string> DecodePayload(const IndexEntry& entry, std::string_view stored, const std::string& object) {
  TW_TRY(CheckPayload(entry, stored, object));
  if (entry.codec == Codec::kRaw) return std::string(stored);
  std::string raw;
  int n = -1;
  raw.resize_and_overwrite(entry.raw_bytes, [&](char* p, size_t) {
    n = LZ4_decompress_safe(stored.data(), p, int(stored.size()), int(entry.raw_bytes));
    return size_t(std::max(n, 0));
  });
  if (n < 0 || uint64_t(n) != entry.raw_bytes) return std::unexpected(Corrupt(object, "compressed record"));
  return raw;
}

std::string SegmentKey(uint64_t first, uint64_t last) {
  return first == last ? fmt::format("log/{:016}.seg", first) : fmt::format("log/{:016}-{:016}.seg", first, last);
}

bool ParseSegmentKey(std::string_view key, uint64_t& first, uint64_t& last) {
  if (!key.starts_with("log/") || !key.ends_with(".seg")) return false;
  std::string_view name = key.substr(4, key.size() - 8);
  auto number = [](std::string_view text, uint64_t& n) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    return error == std::errc() && end == text.data() + text.size();
  };
  size_t dash = name.find('-');
  if (!number(name.substr(0, dash), first)) return false;
  last = first;
  if (dash != name.npos && !number(name.substr(dash + 1), last)) return false;
  return first <= last && SegmentKey(first, last) == key;
}

}  // namespace tidewater::state
