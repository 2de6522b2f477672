// Integers in network byte order, and log sequence numbers as text.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <fmt/format.h>

namespace tidewater::postgres {

static_assert(std::endian::native == std::endian::little);

inline uint16_t ReadU16(const void* p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return __builtin_bswap16(v);
}
inline uint32_t ReadU32(const void* p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return __builtin_bswap32(v);
}
inline uint64_t ReadU64(const void* p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return __builtin_bswap64(v);
}
inline void WriteU64(void* p, uint64_t v) {
  v = __builtin_bswap64(v);
  memcpy(p, &v, 8);
}

/// A position in PostgreSQL's write-ahead log, in bytes.
using Lsn = uint64_t;

/// '16/B374D848', PostgreSQL's pg_lsn.
inline std::string LsnToText(Lsn lsn) { return fmt::format("{:X}/{:X}", lsn >> 32, lsn & 0xffffffff); }
inline std::optional<Lsn> LsnFromText(std::string_view text) {
  uint64_t part[2] = {0, 0};
  size_t digits = 0;
  int which = 0;
  for (char c : text) {
    if (c == '/' && which == 0 && digits > 0) {
      which = 1;
      digits = 0;
      continue;
    }
    int v = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                   : -1;
    if (v < 0 || ++digits > 8) return std::nullopt;
    part[which] = part[which] << 4 | uint64_t(v);
  }
  if (which != 1 || digits == 0) return std::nullopt;
  return part[0] << 32 | part[1];
}

/// µs between 1970-01-01 and 2000-01-01, from which PostgreSQL counts.
constexpr int64_t kEpochOffsetUs = 946'684'800'000'000;
constexpr int32_t kEpochOffsetDays = 10'957;

}  // namespace tidewater::postgres
