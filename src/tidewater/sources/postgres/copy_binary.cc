#include "tidewater/sources/postgres/copy_binary.h"

namespace tidewater::postgres {
namespace {
Error Corrupt(const char* what) { return EnvError(ErrorKind::kCorrupt, "COPY binary: {}", what); }
constexpr char kSignature[11] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', '\377', '\r', '\n', '\0'};
constexpr size_t kHeaderBytes = sizeof(kSignature) + 8;
}  // namespace

Result<size_t> CopyBinaryDecoder::Next(std::span<const char> bytes) {
  has_row_ = false;
  if (bytes.empty()) return 0;
  const char* p = bytes.data();
  const char* end = p + bytes.size();
  if (!header_seen_) [[unlikely]] {
    if (bytes.size() < kHeaderBytes) return 0;
    if (memcmp(p, kSignature, sizeof kSignature) != 0) return std::unexpected(Corrupt("no signature"));
    uint32_t flags = ReadU32(p + sizeof kSignature);
    if (flags & 0xffff0000) return std::unexpected(Corrupt("critical flags that are not known"));
    size_t extension = ReadU32(p + sizeof kSignature + 4);
    if (extension > 65536) return std::unexpected(Corrupt("header extension too long"));
    if (bytes.size() < kHeaderBytes + extension) return 0;
    header_seen_ = true;
    return kHeaderBytes + extension;
  }
  if (trailer_seen_) return std::unexpected(Corrupt("bytes behind the trailer"));
  if (bytes.size() < 2) return 0;
  uint16_t count = ReadU16(p);
  p += 2;
  if (count == 0xffff) {
    trailer_seen_ = true;
    return 2;
  }
  if (count != row_.size()) return std::unexpected(Corrupt("a row has another number of columns"));
  for (auto& f : row_) {
    if (end - p < 4) [[unlikely]] {
      if (bytes.size() > max_row_bytes_) return std::unexpected(Corrupt("row too long"));
      return 0;
    }
    int32_t size = int32_t(ReadU32(p));
    p += 4;
    if (size < 0) {
      if (size != -1) [[unlikely]]
        return std::unexpected(Corrupt("negative length"));
      f = Field{};
      continue;
    }
    if (end - p < size) [[unlikely]] {
      if (size_t(p - bytes.data()) + size_t(size) > max_row_bytes_) return std::unexpected(Corrupt("row too long"));
      return 0;
    }
    f.kind = Field::kBinary;
    f.size = uint32_t(size);
    f.data = p;
    p += size;
  }
  has_row_ = true;
  return size_t(p - bytes.data());
}

Status CopyBinaryDecoder::Finish() const {
  if (!trailer_seen_ || !rest_.empty()) return std::unexpected(Corrupt("it ends early"));
  return {};
}

}  // namespace tidewater::postgres
