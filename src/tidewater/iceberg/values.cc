#include "tidewater/iceberg/values.h"
#include <bit>
#include <cmath>
#include <cstring>

namespace tidewater::iceberg {
namespace {

static_assert(std::endian::native == std::endian::little);

template <class T>
std::string Raw(T v) {
  return std::string(reinterpret_cast<const char*>(&v), sizeof v);
}

template <class T>
T Load(std::string_view s) {
  T v;
  std::memcpy(&v, s.data(), sizeof v);
  return v;
}

template <class T>
int Compare3(T a, T b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

/// The order of IEEE 754 totalOrder, NaN last.
template <class T>
int CompareFloats(T a, T b) {
  if (std::isnan(a) || std::isnan(b)) return int(std::isnan(a)) - int(std::isnan(b));
  if (a == b) return int(std::signbit(b)) - int(std::signbit(a));
  return a < b ? -1 : 1;
}

bool IsContinuation(char c) { return (uint8_t(c) & 0xC0) == 0x80; }

/// Bytes of the first `count` code points.
size_t PrefixBytes(std::string_view s, size_t count) {
  size_t i = 0;
  while (i < s.size() && count > 0) {
    ++i;
    while (i < s.size() && IsContinuation(s[i])) ++i;
    --count;
  }
  return i;
}

void AppendUtf8(std::string& s, uint32_t cp) {
  if (cp < 0x80) {
    s += char(cp);
  } else if (cp < 0x800) {
    s += char(0xC0 | (cp >> 6));
    s += char(0x80 | (cp & 63));
  } else if (cp < 0x10000) {
    s += char(0xE0 | (cp >> 12));
    s += char(0x80 | ((cp >> 6) & 63));
    s += char(0x80 | (cp & 63));
  } else {
    s += char(0xF0 | (cp >> 18));
    s += char(0x80 | ((cp >> 12) & 63));
    s += char(0x80 | ((cp >> 6) & 63));
    s += char(0x80 | (cp & 63));
  }
}

uint32_t CodePoint(std::string_view c) {
  uint8_t b = uint8_t(c[0]);
  uint32_t cp = b < 0x80 ? b : b < 0xE0 ? b & 0x1F : b < 0xF0 ? b & 0x0F : b & 0x07;
  for (size_t i = 1; i < c.size(); ++i) cp = (cp << 6) | (uint8_t(c[i]) & 0x3F);
  return cp;
}

}  // namespace

std::string BoolValue(bool v) { return std::string(1, v ? '\1' : '\0'); }
std::string IntValue(int32_t v) { return Raw(v); }
std::string LongValue(int64_t v) { return Raw(v); }
std::string FloatValue(float v) { return Raw(v); }
std::string DoubleValue(double v) { return Raw(v); }

std::string DecimalValue(__int128 unscaled) {
  std::string s;
  for (int i = 15; i >= 0; --i) s += char(uint8_t(unscaled >> (8 * i)));
  // Leading bytes that only repeat the sign carry nothing.
  size_t skip = 0;
  while (skip < 15 && ((s[skip] == '\0' && !(uint8_t(s[skip + 1]) & 0x80)) ||
                       (uint8_t(s[skip]) == 0xFF && (uint8_t(s[skip + 1]) & 0x80))))
    ++skip;
  return s.substr(skip);
}

std::string UuidValue(unsigned __int128 v) {
  std::string s;
  for (int i = 15; i >= 0; --i) s += char(uint8_t(v >> (8 * i)));
  return s;
}

std::string TruncateLower(std::string_view value, size_t length, bool is_string) {
  return std::string(value.substr(0, is_string ? PrefixBytes(value, length) : length));
}

std::optional<std::string> TruncateUpper(std::string_view value, size_t length, bool is_string) {
  size_t n = is_string ? PrefixBytes(value, length) : std::min(length, value.size());
  if (n >= value.size()) return std::string(value);
  std::string s(value.substr(0, n));
  while (!s.empty()) {
    if (!is_string) {
      if (uint8_t(s.back()) != 0xFF) {
        s.back() = char(uint8_t(s.back()) + 1);
        return s;
      }
      s.pop_back();
      continue;
    }
    size_t start = s.size() - 1;
    while (start > 0 && IsContinuation(s[start])) --start;
    uint32_t cp = CodePoint(std::string_view(s).substr(start)) + 1;
    s.resize(start);
    if (cp >= 0xD800 && cp <= 0xDFFF) cp = 0xE000;
    if (cp <= 0x10FFFF) {
      AppendUtf8(s, cp);
      return s;
    }
  }
  return std::nullopt;
}

Result<int> CompareValues(const Type& type, std::string_view a, std::string_view b) {
  auto sized = [&](size_t n) { return a.size() == n && b.size() == n; };
  auto bad = [&] {
    return std::unexpected(
        EnvError(ErrorKind::kCorrupt, "a value of {} and {} bytes for type {}", a.size(), b.size(), type.ToString()));
  };
  switch (type.kind) {
    case TypeKind::kBoolean:
      if (!sized(1)) return bad();
      return Compare3(a[0] != 0, b[0] != 0);
    case TypeKind::kInt:
    case TypeKind::kDate:
      if (!sized(4)) return bad();
      return Compare3(Load<int32_t>(a), Load<int32_t>(b));
    case TypeKind::kLong:
    case TypeKind::kTime:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
    case TypeKind::kTimestampNs:
    case TypeKind::kTimestampTzNs: {
      // A bound written before int became long has four bytes.
      auto load = [](std::string_view s) { return s.size() == 4 ? int64_t(Load<int32_t>(s)) : Load<int64_t>(s); };
      if ((a.size() != 8 && a.size() != 4) || (b.size() != 8 && b.size() != 4)) return bad();
      return Compare3(load(a), load(b));
    }
    case TypeKind::kFloat:
      if (!sized(4)) return bad();
      return CompareFloats(Load<float>(a), Load<float>(b));
    case TypeKind::kDouble: {
      auto load = [](std::string_view s) { return s.size() == 4 ? double(Load<float>(s)) : Load<double>(s); };
      if ((a.size() != 8 && a.size() != 4) || (b.size() != 8 && b.size() != 4)) return bad();
      return CompareFloats(load(a), load(b));
    }
    case TypeKind::kDecimal: {
      if (a.empty() || b.empty() || a.size() > 16 || b.size() > 16) return bad();
      auto load = [](std::string_view s) {
        __int128 v = int8_t(s[0]);
        for (size_t i = 1; i < s.size(); ++i) v = (v << 8) | uint8_t(s[i]);
        return v;
      };
      return Compare3(load(a), load(b));
    }
    default: {
      int c = a.compare(b);  // char_traits compares as unsigned bytes
      return c < 0 ? -1 : c > 0 ? 1 : 0;
    }
  }
}

}  // namespace tidewater::iceberg
