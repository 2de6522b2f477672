#include "tidewater/iceberg/puffin.h"
#include <lz4frame.h>
#include <zlib.h>
#include <algorithm>
#include <cstring>
#include <map>
#include <roaring/roaring.h>
#include "tidewater/base/check.h"
#include "tidewater/iceberg/json_codec.h"

namespace tidewater::iceberg {
namespace {

constexpr std::string_view kPuffinMagic("PFA1", 4);
constexpr std::string_view kVectorMagic("\xD1\xD3\x39\x64", 4);
constexpr size_t kFooterMax = 256 << 20;

Error Bad(std::string_view why) { return EnvError(ErrorKind::kCorrupt, "invalid deletion vector: {}", why); }
Error BadPuffin(std::string_view why) { return EnvError(ErrorKind::kCorrupt, "invalid Puffin file: {}", why); }

struct FreeRoaring {
  void operator()(roaring_bitmap_t* r) const { roaring_bitmap_free(r); }
};
using Bitmap = std::unique_ptr<roaring_bitmap_t, FreeRoaring>;

Bitmap NewBitmap() {
  Bitmap b(roaring_bitmap_create());
  TW_CHECK(b != nullptr, "out of memory");
  return b;
}

template <class T>
void AppendLittle(std::string& s, T v) {
  s.append(reinterpret_cast<const char*>(&v), sizeof v);
}

void AppendBig32(std::string& s, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) s += char(uint8_t(v >> shift));
}

uint32_t Big32(const char* p) {
  return (uint32_t(uint8_t(p[0])) << 24) | (uint32_t(uint8_t(p[1])) << 16) | (uint32_t(uint8_t(p[2])) << 8) |
         uint8_t(p[3]);
}

/// Bytes in order, each read checked.
struct Input {
  std::string_view rest;
  template <class T>
  bool Read(T* v) {
    if (rest.size() < sizeof(T)) return false;
    std::memcpy(v, rest.data(), sizeof(T));
    rest.remove_prefix(sizeof(T));
    return true;
  }
  bool Take(size_t n, std::string_view* out) {
    if (rest.size() < n) return false;
    *out = rest.substr(0, n);
    rest.remove_prefix(n);
    return true;
  }
};

uint16_t Load16(const char* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}

/// The portable format of 32-bit roaring bitmaps (RoaringFormatSpec), read by ourselves: the library's reader trusts
/// what containers say about themselves.
Result<Bitmap> ReadBitmap(Input& in) {
  constexpr uint32_t kCookieNoRuns = 12346, kCookieRuns = 12347;
  uint32_t cookie = 0, containers = 0;
  std::string_view run_flags;
  if (!in.Read(&cookie)) return std::unexpected(Bad("cut off"));
  if ((cookie & 0xFFFF) == kCookieRuns) {
    containers = (cookie >> 16) + 1;
    if (!in.Take((containers + 7) / 8, &run_flags)) return std::unexpected(Bad("cut off"));
  } else if (cookie == kCookieNoRuns) {
    if (!in.Read(&containers)) return std::unexpected(Bad("cut off"));
    if (containers > 65536) return std::unexpected(Bad("too many containers"));
  } else {
    return std::unexpected(Bad("no roaring bitmap"));
  }
  std::string_view descriptions, offsets;
  if (!in.Take(size_t(containers) * 4, &descriptions)) return std::unexpected(Bad("cut off"));
  // The offsets tell what reading in order tells anyway.
  if ((run_flags.empty() || containers >= 4) && !in.Take(size_t(containers) * 4, &offsets))
    return std::unexpected(Bad("cut off"));
  Bitmap bitmap = NewBitmap();
  std::vector<uint32_t> values;
  int last_key = -1;
  for (uint32_t c = 0; c < containers; ++c) {
    uint32_t key = Load16(descriptions.data() + 4 * c);
    uint32_t cardinality = uint32_t(Load16(descriptions.data() + 4 * c + 2)) + 1;
    if (int(key) <= last_key) return std::unexpected(Bad("containers out of order"));
    last_key = int(key);
    uint32_t high = key << 16;
    std::string_view data;
    if (!run_flags.empty() && (uint8_t(run_flags[c / 8]) >> (c % 8)) & 1) {
      uint16_t runs = 0;
      if (!in.Read(&runs) || !in.Take(size_t(runs) * 4, &data)) return std::unexpected(Bad("cut off"));
      uint64_t total = 0;
      int64_t last = -1;
      for (size_t r = 0; r < runs; ++r) {
        uint32_t start = Load16(data.data() + 4 * r), length = Load16(data.data() + 4 * r + 2);
        if (int64_t(start) <= last || start + length > 0xFFFF) return std::unexpected(Bad("runs out of order"));
        last = int64_t(start) + length;
        total += length + 1;
        roaring_bitmap_add_range_closed(bitmap.get(), high + start, high + start + length);
      }
      if (total != cardinality) return std::unexpected(Bad("a container's cardinality is wrong"));
    } else if (cardinality <= 4096) {
      if (!in.Take(size_t(cardinality) * 2, &data)) return std::unexpected(Bad("cut off"));
      values.clear();
      for (size_t i = 0; i < cardinality; ++i) {
        uint32_t v = high + Load16(data.data() + 2 * i);
        if (!values.empty() && v <= values.back()) return std::unexpected(Bad("values out of order"));
        values.push_back(v);
      }
      roaring_bitmap_add_many(bitmap.get(), values.size(), values.data());
    } else {
      if (!in.Take(8192, &data)) return std::unexpected(Bad("cut off"));
      values.clear();
      for (size_t word = 0; word < 1024; ++word) {
        uint64_t bits;
        std::memcpy(&bits, data.data() + 8 * word, 8);
        for (; bits != 0; bits &= bits - 1)
          values.push_back(high + uint32_t(word * 64) + uint32_t(__builtin_ctzll(bits)));
      }
      if (values.size() != cardinality) return std::unexpected(Bad("a container's cardinality is wrong"));
      roaring_bitmap_add_many(bitmap.get(), values.size(), values.data());
    }
  }
  return bitmap;
}

Result<std::string> UnpackFooter(std::string_view packed) {
  LZ4F_dctx* context = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)))
    return std::unexpected(EnvError(ErrorKind::kInternal, "LZ4 does not start"));
  std::string out;
  std::string chunk(64 << 10, '\0');
  size_t hint = 1;
  bool failed = false;
  while (hint != 0 && !failed) {
    size_t produced = chunk.size(), consumed = packed.size();
    hint = LZ4F_decompress(context, chunk.data(), &produced, packed.data(), &consumed, nullptr);
    failed = LZ4F_isError(hint) || (produced == 0 && consumed == 0) || out.size() + produced > kFooterMax;
    if (failed) break;
    out.append(chunk.data(), produced);
    packed.remove_prefix(consumed);
  }
  LZ4F_freeDecompressionContext(context);
  if (failed) return std::unexpected(BadPuffin("the compressed footer is damaged"));
  return out;
}

}  // namespace

/// One 32-bit bitmap per upper half of the positions; files rarely have more than one.
struct PositionSet::Impl {
  std::map<uint32_t, Bitmap> parts;
  roaring_bitmap_t* Part(uint32_t key) {
    Bitmap& b = parts[key];
    if (!b) b = NewBitmap();
    return b.get();
  }
};

PositionSet::PositionSet() : impl_(std::make_unique<Impl>()) {}
PositionSet::PositionSet(const PositionSet& other) : PositionSet() { Union(other); }
PositionSet::PositionSet(PositionSet&& other) noexcept : impl_(std::move(other.impl_)) {
  other.impl_ = std::make_unique<Impl>();
}
PositionSet& PositionSet::operator=(PositionSet other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
PositionSet::~PositionSet() = default;

void PositionSet::Add(uint64_t position) {
  TW_CHECK(position >> 63 == 0, "position {}", position);
  roaring_bitmap_add(impl_->Part(uint32_t(position >> 32)), uint32_t(position));
}

void PositionSet::AddMany(const uint64_t* positions, size_t count) {
  std::vector<uint32_t> low;
  for (size_t i = 0; i < count;) {
    uint32_t key = uint32_t(positions[i] >> 32);
    TW_CHECK(key >> 31 == 0, "position {}", positions[i]);
    low.clear();
    for (; i < count && uint32_t(positions[i] >> 32) == key; ++i) low.push_back(uint32_t(positions[i]));
    roaring_bitmap_add_many(impl_->Part(key), low.size(), low.data());
  }
}

void PositionSet::Union(const PositionSet& other) {
  for (const auto& [key, bitmap] : other.impl_->parts) roaring_bitmap_or_inplace(impl_->Part(key), bitmap.get());
}

bool PositionSet::Contains(uint64_t position) const {
  auto it = impl_->parts.find(uint32_t(position >> 32));
  return it != impl_->parts.end() && roaring_bitmap_contains(it->second.get(), uint32_t(position));
}

uint64_t PositionSet::Cardinality() const {
  uint64_t n = 0;
  for (const auto& [key, bitmap] : impl_->parts) n += roaring_bitmap_get_cardinality(bitmap.get());
  return n;
}

bool PositionSet::Empty() const { return Cardinality() == 0; }

uint64_t PositionSet::Rank(uint64_t position) const {
  uint64_t n = 0;
  for (const auto& [key, bitmap] : impl_->parts) {
    if (key < uint32_t(position >> 32))
      n += roaring_bitmap_get_cardinality(bitmap.get());
    else if (key == uint32_t(position >> 32) && uint32_t(position) > 0)
      n += roaring_bitmap_rank(bitmap.get(), uint32_t(position) - 1);
  }
  return n;
}

std::vector<uint64_t> PositionSet::ToVector() const {
  std::vector<uint64_t> out;
  out.reserve(Cardinality());
  std::vector<uint32_t> low;
  for (const auto& [key, bitmap] : impl_->parts) {
    low.resize(roaring_bitmap_get_cardinality(bitmap.get()));
    roaring_bitmap_to_uint32_array(bitmap.get(), low.data());
    for (uint32_t v : low) out.push_back((uint64_t(key) << 32) | v);
  }
  return out;
}

bool PositionSet::operator==(const PositionSet& other) const { return ToVector() == other.ToVector(); }

std::string PositionSet::ToBlob() const {
  std::string vector(kVectorMagic);
  uint64_t count = 0;
  for (const auto& [key, bitmap] : impl_->parts) count += !roaring_bitmap_is_empty(bitmap.get());
  AppendLittle(vector, count);
  for (const auto& [key, bitmap] : impl_->parts) {
    if (roaring_bitmap_is_empty(bitmap.get())) continue;
    Bitmap packed(roaring_bitmap_copy(bitmap.get()));
    roaring_bitmap_run_optimize(packed.get());
    AppendLittle(vector, key);
    size_t at = vector.size();
    vector.resize(at + roaring_bitmap_portable_size_in_bytes(packed.get()));
    size_t written = roaring_bitmap_portable_serialize(packed.get(), vector.data() + at);
    TW_CHECK_EQ(written, vector.size() - at);
  }
  TW_CHECK(vector.size() < (1u << 31), "a deletion vector of {} bytes", vector.size());
  std::string blob;
  blob.reserve(vector.size() + 8);
  AppendBig32(blob, uint32_t(vector.size()));
  blob += vector;
  AppendBig32(blob, uint32_t(crc32(0, reinterpret_cast<const Bytef*>(vector.data()), uInt(vector.size()))));
  return blob;
}

Result<PositionSet> PositionSet::FromBlob(std::string_view blob) {
  if (blob.size() < 20 || blob.size() >= (1ull << 31)) return std::unexpected(Bad("its size"));
  if (Big32(blob.data()) != blob.size() - 8) return std::unexpected(Bad("its length differs from the blob's"));
  std::string_view vector = blob.substr(4, blob.size() - 8);
  if (!vector.starts_with(kVectorMagic)) return std::unexpected(Bad("the magic is missing"));
  uint32_t crc = uint32_t(crc32(0, reinterpret_cast<const Bytef*>(vector.data()), uInt(vector.size())));
  if (crc != Big32(blob.data() + blob.size() - 4)) return std::unexpected(Bad("the checksum is wrong"));
  Input in{vector.substr(4)};
  uint64_t count = 0;
  in.Read(&count);
  if (count > in.rest.size() / 8) return std::unexpected(Bad("too many bitmaps"));
  PositionSet set;
  int64_t last_key = -1;
  for (uint64_t i = 0; i < count; ++i) {
    uint32_t key = 0;
    if (!in.Read(&key)) return std::unexpected(Bad("cut off"));
    if (int64_t(key) <= last_key || key >> 31) return std::unexpected(Bad("bitmaps out of order"));
    last_key = key;
    TW_ASSIGN(Bitmap bitmap, ReadBitmap(in));
    set.impl_->parts[key] = std::move(bitmap);
  }
  if (!in.rest.empty()) return std::unexpected(Bad("bytes behind its end"));
  return set;
}

PuffinWriter::PuffinWriter() : bytes_(kPuffinMagic) {}

PuffinBlob PuffinWriter::Add(PuffinBlob blob, std::string_view bytes) {
  blob.offset = bytes_.size();
  blob.length = bytes.size();
  bytes_.append(bytes);
  blobs_.push_back(blob);
  return blob;
}

PuffinBlob PuffinWriter::AddDeletionVector(const PositionSet& positions, const std::string& data_file) {
  PuffinBlob blob;
  blob.type = kDeletionVectorBlob;
  blob.fields = {2147483545};  // _pos of position deletes, as the reference implementation writes
  blob.properties = {{kPuffinReferencedDataFile, data_file}, {"cardinality", std::to_string(positions.Cardinality())}};
  return Add(std::move(blob), positions.ToBlob());
}

std::string PuffinWriter::Finish(const std::map<std::string, std::string>& properties) {
  Json blobs = Json::array();
  for (const PuffinBlob& b : blobs_) {
    Json j = {{"type", b.type},
              {"fields", b.fields},
              {"snapshot-id", b.snapshot_id},
              {"sequence-number", b.sequence_number},
              {"offset", b.offset},
              {"length", b.length},
              {"properties", b.properties}};
    if (!b.compression.empty()) j["compression-codec"] = b.compression;
    blobs.push_back(std::move(j));
  }
  Json footer = {{"blobs", std::move(blobs)}, {"properties", {{"created-by", "Tidewater"}}}};
  for (const auto& [k, v] : properties) footer["properties"][k] = v;
  std::string payload = Dump(footer);
  bytes_.append(kPuffinMagic);
  bytes_.append(payload);
  AppendLittle(bytes_, int32_t(payload.size()));
  AppendLittle(bytes_, uint32_t(0));
  bytes_.append(kPuffinMagic);
  return std::move(bytes_);
}

Result<std::vector<PuffinBlob>> ReadPuffinFooter(std::string_view file) {
  if (file.size() < 20 || !file.starts_with(kPuffinMagic) || !file.ends_with(kPuffinMagic))
    return std::unexpected(BadPuffin("the magic is missing"));
  int32_t size;
  uint32_t flags;
  std::memcpy(&size, file.data() + file.size() - 12, 4);
  std::memcpy(&flags, file.data() + file.size() - 8, 4);
  if (size < 0 || size_t(size) + 20 > file.size()) return std::unexpected(BadPuffin("the footer's size"));
  if (flags > 1) return std::unexpected(EnvError(ErrorKind::kUnsupported, "a Puffin file with flags {}", flags));
  size_t footer_at = file.size() - 16 - size_t(size);
  if (file.substr(footer_at, 4) != kPuffinMagic) return std::unexpected(BadPuffin("the footer's magic is missing"));
  std::string_view payload = file.substr(footer_at + 4, size_t(size));
  std::string unpacked;
  if (flags & 1) {
    TW_ASSIGN(unpacked, UnpackFooter(payload));
    payload = unpacked;
  }
  TW_ASSIGN(Json j, ParseJson(payload, "Puffin footer"));
  const Json* list = j.is_object() ? FindArray(j, "blobs") : nullptr;
  if (!list) return std::unexpected(BadPuffin("the footer has no blobs"));
  std::vector<PuffinBlob> out;
  for (const Json& b : *list) {
    if (!b.is_object()) return std::unexpected(BadPuffin("a blob is no object"));
    PuffinBlob blob;
    TW_ASSIGN(blob.type, GetString(b, "type", "Puffin blob"));
    if (const Json* fields = FindArray(b, "fields")) {
      TW_ASSIGN(auto ids, GetInts(*fields, "fields of a Puffin blob"));
      blob.fields.assign(ids.begin(), ids.end());
    }
    TW_ASSIGN(blob.snapshot_id, GetLong(b, "snapshot-id", "Puffin blob"));
    TW_ASSIGN(blob.sequence_number, GetLong(b, "sequence-number", "Puffin blob"));
    TW_ASSIGN(int64_t offset, GetLong(b, "offset", "Puffin blob"));
    TW_ASSIGN(int64_t length, GetLong(b, "length", "Puffin blob"));
    if (offset < 4 || length < 0 || uint64_t(offset) > footer_at || uint64_t(length) > footer_at - uint64_t(offset))
      return std::unexpected(BadPuffin("a blob lies outside of the file"));
    blob.offset = uint64_t(offset);
    blob.length = uint64_t(length);
    blob.compression = FindString(b, "compression-codec").value_or("");
    TW_ASSIGN(blob.properties, GetProperties(b, "properties", "Puffin blob"));
    out.push_back(std::move(blob));
  }
  return out;
}

}  // namespace tidewater::iceberg
