#include "tidewater/sources/postgres/column_decoder.h"
#include <charconv>
#include "duckdb/common/types/date.hpp"
#include "duckdb/common/types/interval.hpp"
#include "duckdb/common/types/time.hpp"
#include "duckdb/common/types/timestamp.hpp"
#include "duckdb/common/types/uuid.hpp"

namespace tidewater::postgres {
namespace {

using duckdb::data_ptr_t;
using duckdb::hugeint_t;
using duckdb::idx_t;
using duckdb::LogicalTypeId;
using duckdb::PhysicalType;
using duckdb::Vector;

#define TW_DECODE(name)                                                                                   \
  [[maybe_unused]] const char* name(const ColumnDecoder& d, const char* p, uint32_t size, Vector& vector, \
                                    data_ptr_t data, idx_t row)

constexpr const char* kLength = "the binary form has another length";
constexpr const char* kRange = "out of the range of the column's type";
constexpr const char* kSyntax = "its text is not of the column's type";
constexpr const char* kExact = "more digits than the column's type holds";

template <class T>
T& Cell(data_ptr_t data, idx_t row) {
  return reinterpret_cast<T*>(data)[row];
}

// ---- integers, floats, booleans

template <class Wire>
Wire ReadInt(const char* p) {
  if constexpr (sizeof(Wire) == 2)
    return Wire(ReadU16(p));
  else if constexpr (sizeof(Wire) == 4)
    return Wire(ReadU32(p));
  else
    return Wire(ReadU64(p));
}

template <class Wire, class Target>
TW_DECODE(BinaryInt) {
  if (size != sizeof(Wire)) return kLength;
  auto v = ReadInt<Wire>(p);
  if (!std::in_range<Target>(v)) return kRange;
  Cell<Target>(data, row) = Target(v);
  return nullptr;
}

template <class Wire>
ColumnDecoder::Function BinaryIntTo(LogicalTypeId target) {
  switch (target) {
    case LogicalTypeId::TINYINT:
      return BinaryInt<Wire, int8_t>;
    case LogicalTypeId::SMALLINT:
      return BinaryInt<Wire, int16_t>;
    case LogicalTypeId::INTEGER:
      return BinaryInt<Wire, int32_t>;
    case LogicalTypeId::BIGINT:
      return BinaryInt<Wire, int64_t>;
    case LogicalTypeId::UTINYINT:
      return BinaryInt<Wire, uint8_t>;
    case LogicalTypeId::USMALLINT:
      return BinaryInt<Wire, uint16_t>;
    case LogicalTypeId::UINTEGER:
      return BinaryInt<Wire, uint32_t>;
    case LogicalTypeId::UBIGINT:
      return BinaryInt<Wire, uint64_t>;
    default:
      return nullptr;
  }
}

template <class Target>
TW_DECODE(TextInt) {
  Target v;
  auto r = std::from_chars(p, p + size, v);
  if (r.ec == std::errc::result_out_of_range) return kRange;
  if (r.ec != std::errc() || r.ptr != p + size) return kSyntax;
  Cell<Target>(data, row) = v;
  return nullptr;
}

TW_DECODE(BinaryBool) {
  if (size != 1) return kLength;
  Cell<bool>(data, row) = *p != 0;
  return nullptr;
}
TW_DECODE(TextBool) {
  if (size != 1 || (*p != 't' && *p != 'f')) return kSyntax;
  Cell<bool>(data, row) = *p == 't';
  return nullptr;
}

template <class Wire, class Target>
TW_DECODE(BinaryFloat) {
  if (size != sizeof(Wire)) return kLength;
  Wire v;
  if constexpr (sizeof(Wire) == 4) {
    v = std::bit_cast<float>(ReadU32(p));
  } else {
    v = std::bit_cast<double>(ReadU64(p));
  }
  Cell<Target>(data, row) = Target(v);
  return nullptr;
}
template <class Target>
TW_DECODE(TextFloat) {
  Target v;
  auto r = std::from_chars(p, p + size, v);
  if (r.ec == std::errc::result_out_of_range) return kRange;
  if (r.ec != std::errc() || r.ptr != p + size) return kSyntax;
  Cell<Target>(data, row) = v;
  return nullptr;
}

// ---- decimals

using uint128 = unsigned __int128;

constexpr auto kPow10 = [] {
  std::array<uint128, 39> a{};
  a[0] = 1;
  for (size_t i = 1; i < a.size(); i++) a[i] = a[i - 1] * 10;
  return a;
}();
constexpr uint64_t kPow10Small[5] = {1, 10, 100, 1000, 10000};

const char* StoreDecimal(const ColumnDecoder& d, uint128 value, bool negative, data_ptr_t data, idx_t row) {
  if (value >= kPow10[d.width()]) return kRange;
  if (d.width() <= 4) {
    Cell<int16_t>(data, row) = int16_t(negative ? -int64_t(value) : int64_t(value));
  } else if (d.width() <= 9) {
    Cell<int32_t>(data, row) = int32_t(negative ? -int64_t(value) : int64_t(value));
  } else if (d.width() <= 18) {
    Cell<int64_t>(data, row) = negative ? -int64_t(value) : int64_t(value);
  } else {
    __int128 v = negative ? -__int128(value) : __int128(value);
    Cell<hugeint_t>(data, row) = hugeint_t(int64_t(v >> 64), uint64_t(v));
  }
  return nullptr;
}

/// numeric on the wire: digits of base 10,000, the first worth 10000^weight.
TW_DECODE(BinaryDecimal) {
  if (size < 8) return kLength;
  uint32_t count = ReadU16(p);
  int weight = int16_t(ReadU16(p + 2));
  uint16_t sign = ReadU16(p + 4);
  if (sign == 0xc000) return "NaN has no place in DECIMAL";
  if (sign == 0xd000 || sign == 0xf000) return "infinity has no place in DECIMAL";
  if (size != 8 + 2 * count || (sign != 0 && sign != 0x4000)) return kLength;
  p += 8;
  uint128 value = 0;
  int exponent = 4 * weight + d.scale();  // of ten, that the digit is worth in units of the last place
  for (uint32_t i = 0; i < count; i++, exponent -= 4) {
    uint64_t digit = ReadU16(p + 2 * i);
    if (digit > 9999) return kLength;
    if (exponent >= 0) {
      if (value >= kPow10[34]) return kRange;
      value = value * 10000 + digit;
    } else if (exponent > -4) {
      if (digit % kPow10Small[-exponent]) return kExact;
      if (value >= kPow10[34 - exponent]) return kRange;
      value = value * kPow10Small[4 + exponent] + digit / kPow10Small[-exponent];
    } else if (digit) {
      return kExact;
    }
  }
  exponent += 4;  // of the last digit taken
  if (value && exponent > 0 && count) {
    if (exponent > 38 || value >= kPow10[38 - exponent]) return kRange;
    value *= kPow10[exponent];
  }
  return StoreDecimal(d, value, sign == 0x4000, data, row);
}

TW_DECODE(TextDecimal) {
  auto* end = p + size;
  bool negative = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) p++;
  uint128 value = 0;
  int fraction = -1;  // digits seen behind the point
  bool any = false;
  for (; p < end; p++) {
    if (*p == '.' && fraction < 0) {
      fraction = 0;
      continue;
    }
    if (*p < '0' || *p > '9') return any ? kSyntax : "not a finite number";
    any = true;
    if (fraction >= 0 && fraction == d.scale()) {
      if (*p != '0') return kExact;
      continue;
    }
    if (value >= kPow10[37]) return kRange;
    value = value * 10 + uint64_t(*p - '0');
    if (fraction >= 0) fraction++;
  }
  if (!any) return kSyntax;
  int missing = d.scale() - std::max(fraction, 0);
  if (value && missing > 0) {
    if (value >= kPow10[38 - missing]) return kRange;
    value *= kPow10[missing];
  }
  return StoreDecimal(d, value, negative, data, row);
}

// ---- text and bytes

const char* StoreText(const ColumnDecoder& d, const char* p, uint32_t size, Vector& vector, data_ptr_t data,
                      idx_t row) {
  if (d.check_utf8() && !duckdb::Value::StringIsValid(p, size)) return "not valid UTF-8";
  Cell<duckdb::string_t>(data, row) = size <= duckdb::string_t::INLINE_LENGTH
                                          ? duckdb::string_t(p, size)
                                          : duckdb::StringVector::AddStringOrBlob(vector, p, size);
  return nullptr;
}
TW_DECODE(AnyText) { return StoreText(d, p, size, vector, data, row); }
TW_DECODE(BinaryJsonb) {
  if (size < 1 || *p != 1) return "a version of jsonb that is not known";
  return StoreText(d, p + 1, size - 1, vector, data, row);
}
TW_DECODE(BinaryBytes) {
  Cell<duckdb::string_t>(data, row) = size <= duckdb::string_t::INLINE_LENGTH
                                          ? duckdb::string_t(p, size)
                                          : duckdb::StringVector::AddStringOrBlob(vector, p, size);
  return nullptr;
}
int HexDigit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}
TW_DECODE(TextBytes) {
  if (size < 2 || size % 2 || p[0] != '\\' || p[1] != 'x') return kSyntax;
  auto out = duckdb::StringVector::EmptyString(vector, (size - 2) / 2);
  auto* to = out.GetDataWriteable();
  for (uint32_t i = 2; i < size; i += 2) {
    int high = HexDigit(p[i]), low = HexDigit(p[i + 1]);
    if (high < 0 || low < 0) return kSyntax;
    *to++ = char(high << 4 | low);
  }
  out.Finalize();
  Cell<duckdb::string_t>(data, row) = out;
  return nullptr;
}

// ---- dates and times

const char* StoreTimestamp(int64_t us_2000, data_ptr_t data, idx_t row) {
  int64_t us;
  if (us_2000 == std::numeric_limits<int64_t>::max()) {
    us = duckdb::timestamp_t::infinity().value;
  } else if (us_2000 == std::numeric_limits<int64_t>::min()) {
    us = duckdb::timestamp_t::ninfinity().value;
  } else if (__builtin_add_overflow(us_2000, kEpochOffsetUs, &us) || us == duckdb::timestamp_t::infinity().value) {
    return kRange;
  }
  Cell<int64_t>(data, row) = us;
  return nullptr;
}
TW_DECODE(BinaryTimestamp) {
  if (size != 8) return kLength;
  return StoreTimestamp(int64_t(ReadU64(p)), data, row);
}
TW_DECODE(BinaryDate) {
  if (size != 4) return kLength;
  int32_t days = int32_t(ReadU32(p));
  if (days == std::numeric_limits<int32_t>::max()) {
    Cell<duckdb::date_t>(data, row) = duckdb::date_t::infinity();
  } else if (days == std::numeric_limits<int32_t>::min()) {
    Cell<duckdb::date_t>(data, row) = duckdb::date_t::ninfinity();
  } else {
    if (__builtin_add_overflow(days, kEpochOffsetDays, &days) || days == duckdb::date_t::infinity().days) return kRange;
    Cell<duckdb::date_t>(data, row) = duckdb::date_t(days);
  }
  return nullptr;
}
TW_DECODE(BinaryTime) {
  if (size != 8) return kLength;
  int64_t us = int64_t(ReadU64(p));
  if (us < 0 || us > duckdb::Interval::MICROS_PER_DAY) return kRange;
  Cell<int64_t>(data, row) = us;
  return nullptr;
}
TW_DECODE(BinaryTimeTz) {
  if (size != 12) return kLength;
  int64_t us = int64_t(ReadU64(p));
  int32_t west = int32_t(ReadU32(p + 8));
  if (us < 0 || us > duckdb::Interval::MICROS_PER_DAY || west > duckdb::dtime_tz_t::MAX_OFFSET ||
      west < duckdb::dtime_tz_t::MIN_OFFSET)
    return kRange;
  Cell<duckdb::dtime_tz_t>(data, row) = duckdb::dtime_tz_t(duckdb::dtime_t(us), -west);
  return nullptr;
}
TW_DECODE(BinaryInterval) {
  if (size != 16) return kLength;
  auto& v = Cell<duckdb::interval_t>(data, row);
  v.micros = int64_t(ReadU64(p));
  v.days = int32_t(ReadU32(p + 8));
  v.months = int32_t(ReadU32(p + 12));
  return nullptr;
}
TW_DECODE(BinaryUuid) {
  if (size != 16) return kLength;
  Cell<hugeint_t>(data, row) = duckdb::BaseUUID::FromBlob(reinterpret_cast<duckdb::const_data_ptr_t>(p));
  return nullptr;
}
TW_DECODE(TextUuid) {
  hugeint_t v;
  if (!duckdb::BaseUUID::FromString(std::string(p, size), v)) return kSyntax;
  Cell<hugeint_t>(data, row) = v;
  return nullptr;
}

/// Reads the ISO texts of dates and times ("DateStyle ISO") piece by piece.
struct TimeText {
  const char* p;
  const char* end;
  bool Char(char c) {
    if (p == end || *p != c) return false;
    p++;
    return true;
  }
  bool Number(int64_t& v, size_t min_digits, size_t max_digits, size_t* digits = nullptr) {
    auto* start = p;
    v = 0;
    while (p < end && *p >= '0' && *p <= '9' && size_t(p - start) < max_digits) v = v * 10 + (*p++ - '0');
    if (digits) *digits = size_t(p - start);
    return size_t(p - start) >= min_digits;
  }
  bool Date(int64_t& y, int64_t& m, int64_t& d) {
    return Number(y, 4, 7) && Char('-') && Number(m, 2, 2) && Char('-') && Number(d, 2, 2);
  }
  /// HH:MM:SS[.ffffff], hours without a limit.
  bool Time(int64_t& us) {
    int64_t h, m, s, f = 0;
    size_t digits = 6;
    if (!Number(h, 2, 10) || !Char(':') || !Number(m, 2, 2) || !Char(':') || !Number(s, 2, 2)) return false;
    if (Char('.')) {
      if (!Number(f, 1, 6, &digits)) return false;
      for (; digits < 6; digits++) f *= 10;
    }
    if (m > 59 || s > 60) return false;
    return !__builtin_mul_overflow(h, int64_t(3'600'000'000), &us) &&
           !__builtin_add_overflow(us, (m * 60 + s) * 1'000'000 + f, &us);
  }
  /// ±HH[:MM[:SS]], in seconds east.
  bool Zone(int64_t& seconds) {
    bool west = false;
    if (Char('-'))
      west = true;
    else if (!Char('+'))
      return false;
    int64_t h, m = 0, s = 0;
    if (!Number(h, 2, 2)) return false;
    if (Char(':') && !Number(m, 2, 2)) return false;
    if (Char(':') && !Number(s, 2, 2)) return false;
    seconds = (h * 60 + m) * 60 + s;
    if (west) seconds = -seconds;
    return true;
  }
  bool Bc() {
    if (end - p == 3 && memcmp(p, " BC", 3) == 0) {
      p = end;
      return true;
    }
    return false;
  }
};

/// Declared as another type than its own, a value takes DuckDB's cast of its text.
TW_DECODE(TextByCast) {
  if (!duckdb::Value::StringIsValid(p, size)) return "not valid UTF-8";
  duckdb::Value result;
  std::string error;
  try {
    if (!duckdb::Value(std::string(p, size)).DefaultTryCastAs(d.target(), result, &error, true)) return kSyntax;
  } catch (const std::exception&) {
    return kSyntax;
  }
  vector.SetValue(row, result);
  return nullptr;
}

bool Is(const char* p, uint32_t size, std::string_view word) { return std::string_view(p, size) == word; }

TW_DECODE(TextDate) {
  if (Is(p, size, "infinity")) return Cell<duckdb::date_t>(data, row) = duckdb::date_t::infinity(), nullptr;
  if (Is(p, size, "-infinity")) return Cell<duckdb::date_t>(data, row) = duckdb::date_t::ninfinity(), nullptr;
  TimeText t{p, p + size};
  int64_t y, m, dd;
  duckdb::date_t date;
  if (!t.Date(y, m, dd)) return kSyntax;
  if (t.Bc()) y = 1 - y;
  if (t.p != t.end) return TextByCast(d, p, size, vector, data, row);
  if (!duckdb::Date::TryFromDate(int32_t(y), int32_t(m), int32_t(dd), date)) return kRange;
  Cell<duckdb::date_t>(data, row) = date;
  return nullptr;
}

TW_DECODE(TextTimestamp) {
  if (Is(p, size, "infinity")) return Cell<int64_t>(data, row) = duckdb::timestamp_t::infinity().value, nullptr;
  if (Is(p, size, "-infinity")) return Cell<int64_t>(data, row) = duckdb::timestamp_t::ninfinity().value, nullptr;
  TimeText t{p, p + size};
  int64_t y, m, dd, us = 0, zone = 0;
  duckdb::date_t date;
  if (!t.Date(y, m, dd)) return kSyntax;
  if (t.Char(' ') && !t.Time(us)) {
    t.p = t.p - 1;  // "2000-01-01 BC"
    us = 0;
  }
  if (t.p < t.end && (*t.p == '+' || *t.p == '-') && !t.Zone(zone)) return kSyntax;
  if (t.Bc()) y = 1 - y;
  if (t.p != t.end) return TextByCast(d, p, size, vector, data, row);
  if (!duckdb::Date::TryFromDate(int32_t(y), int32_t(m), int32_t(dd), date)) return kRange;
  int64_t v;
  if (__builtin_mul_overflow(int64_t(date.days), duckdb::Interval::MICROS_PER_DAY, &v) ||
      __builtin_add_overflow(v, us - zone * 1'000'000, &v) || !duckdb::Timestamp::IsFinite(duckdb::timestamp_t(v)))
    return kRange;
  Cell<int64_t>(data, row) = v;
  return nullptr;
}

TW_DECODE(TextTime) {
  TimeText t{p, p + size};
  int64_t us;
  if (!t.Time(us) || t.p != t.end) return TextByCast(d, p, size, vector, data, row);
  if (us > duckdb::Interval::MICROS_PER_DAY) return kRange;
  Cell<int64_t>(data, row) = us;
  return nullptr;
}

TW_DECODE(TextTimeTz) {
  TimeText t{p, p + size};
  int64_t us, zone;
  if (!t.Time(us) || !t.Zone(zone) || t.p != t.end) return TextByCast(d, p, size, vector, data, row);
  if (us > duckdb::Interval::MICROS_PER_DAY || std::abs(zone) > duckdb::dtime_tz_t::MAX_OFFSET) return kRange;
  Cell<duckdb::dtime_tz_t>(data, row) = duckdb::dtime_tz_t(duckdb::dtime_t(us), int32_t(zone));
  return nullptr;
}

/// "1 year 2 mons -3 days +04:05:06.789" (IntervalStyle postgres).
TW_DECODE(TextInterval) {
  duckdb::interval_t v{0, 0, 0};
  TimeText t{p, p + size};
  bool any = false;
  while (t.p < t.end) {
    if (any && !t.Char(' ')) return kSyntax;
    any = true;
    bool negative = t.Char('-');
    if (!negative) t.Char('+');
    auto* start = t.p;
    int64_t n;
    if (!t.Number(n, 1, 10)) return kSyntax;
    if (t.p < t.end && *t.p == ':') {
      t.p = start;
      int64_t us;
      if (!t.Time(us)) return kRange;
      v.micros = negative ? -us : us;
      continue;
    }
    if (!t.Char(' ')) return kSyntax;
    auto* unit = t.p;
    while (t.p < t.end && *t.p != ' ') t.p++;
    std::string_view word(unit, size_t(t.p - unit));
    if (negative) n = -n;
    int32_t* to = &v.months;
    if (word == "year" || word == "years")
      n *= 12;
    else if (word == "day" || word == "days")
      to = &v.days;
    else if (word != "mon" && word != "mons")
      return kSyntax;
    int64_t sum = *to + n;
    if (!std::in_range<int32_t>(sum)) return kRange;
    *to = int32_t(sum);
  }
  if (!any) return kSyntax;
  Cell<duckdb::interval_t>(data, row) = v;
  return nullptr;
}

// ---- arrays

/// Makes room for `count` elements behind those of the list vector and gives their place.
idx_t GrowList(Vector& vector, idx_t count) {
  idx_t at = duckdb::ListVector::GetListSize(vector);
  duckdb::ListVector::Reserve(vector, at + count);
  return at;
}

TW_DECODE(BinaryArray) {
  if (size < 12) return kLength;
  uint32_t dims = ReadU32(p);
  auto& entry = Cell<duckdb::list_entry_t>(data, row);
  entry = {duckdb::ListVector::GetListSize(vector), 0};
  if (dims == 0) return size == 12 ? nullptr : kLength;
  if (dims > 1) return "an array of several dimensions";
  if (size < 20) return kLength;
  uint32_t count = ReadU32(p + 12);
  if (ReadU32(p + 16) != 1) return "an array that does not start at 1";
  auto* end = p + size;
  p += 20;
  if (count > size_t(end - p) / 4) return kLength;
  idx_t at = GrowList(vector, count);
  auto& child = duckdb::ListVector::GetEntry(vector);
  auto child_data = duckdb::FlatVector::GetData(child);
  for (uint32_t i = 0; i < count; i++) {
    if (end - p < 4) return kLength;
    int32_t n = int32_t(ReadU32(p));
    p += 4;
    if (n == -1) {
      duckdb::FlatVector::SetNull(child, at + i, true);
      continue;
    }
    if (n < 0 || end - p < n) return kLength;
    duckdb::FlatVector::Validity(child).SetValid(at + i);
    Field f{Field::kBinary, uint32_t(n), p};
    if (auto* why = d.element().Decode(f, child, child_data, at + i)) return why;
    p += n;
  }
  if (p != end) return kLength;
  duckdb::ListVector::SetListSize(vector, at + count);
  entry = {at, count};
  return nullptr;
}

/// {1,NULL,"a \"quoted\" one"}; the delimiter is a comma for every type but box.
TW_DECODE(TextArray) {
  auto& entry = Cell<duckdb::list_entry_t>(data, row);
  idx_t at = duckdb::ListVector::GetListSize(vector);
  entry = {at, 0};
  if (size && *p == '[') return "an array that does not start at 1";
  auto* end = p + size;
  if (size < 2 || p[0] != '{' || end[-1] != '}') return kSyntax;
  p++, end--;
  if (p == end) return nullptr;
  auto& child = duckdb::ListVector::GetEntry(vector);
  idx_t count = 0;
  std::string text;
  while (true) {
    if (p < end && *p == '{') return "an array of several dimensions";
    text.clear();
    bool quoted = p < end && *p == '"';
    if (quoted) {
      for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\' && ++p == end) return kSyntax;
        text += *p;
      }
      if (p == end) return kSyntax;
      p++;
    } else {
      for (; p < end && *p != ','; p++) {
        if (*p == '\\' && ++p == end) return kSyntax;
        text += *p;
      }
    }
    duckdb::ListVector::Reserve(vector, at + count + 1);
    if (!quoted && text == "NULL") {
      duckdb::FlatVector::SetNull(child, at + count, true);
    } else {
      duckdb::FlatVector::Validity(child).SetValid(at + count);
      Field f{Field::kText, uint32_t(text.size()), text.data()};
      if (auto* why = d.element().Decode(f, child, duckdb::FlatVector::GetData(child), at + count)) return why;
    }
    count++;
    if (p == end) break;
    if (*p != ',') return kSyntax;
    p++;
  }
  duckdb::ListVector::SetListSize(vector, at + count);
  entry = {at, count};
  return nullptr;
}

ColumnDecoder::Function BinaryFunction(PgKind kind, const LogicalType& target) {
  auto id = target.id();
  switch (kind) {
    case PgKind::kBool:
      return id == LogicalTypeId::BOOLEAN ? BinaryBool : nullptr;
    case PgKind::kInt2:
      return BinaryIntTo<int16_t>(id);
    case PgKind::kInt4:
      return BinaryIntTo<int32_t>(id);
    case PgKind::kInt8:
      return BinaryIntTo<int64_t>(id);
    case PgKind::kOid:
      return BinaryIntTo<uint32_t>(id);
    case PgKind::kFloat4:
      return id == LogicalTypeId::FLOAT    ? BinaryFloat<float, float>
             : id == LogicalTypeId::DOUBLE ? BinaryFloat<float, double>
                                           : nullptr;
    case PgKind::kFloat8:
      return id == LogicalTypeId::DOUBLE ? BinaryFloat<double, double> : nullptr;
    case PgKind::kNumeric:
      return id == LogicalTypeId::DECIMAL ? BinaryDecimal : nullptr;
    case PgKind::kText:
      return id == LogicalTypeId::VARCHAR ? AnyText : nullptr;
    case PgKind::kJsonb:
      return id == LogicalTypeId::VARCHAR ? BinaryJsonb : nullptr;
    case PgKind::kBytea:
      return id == LogicalTypeId::BLOB ? BinaryBytes : nullptr;
    case PgKind::kDate:
      return id == LogicalTypeId::DATE ? BinaryDate : nullptr;
    case PgKind::kTime:
      return id == LogicalTypeId::TIME ? BinaryTime : nullptr;
    case PgKind::kTimeTz:
      return id == LogicalTypeId::TIME_TZ ? BinaryTimeTz : nullptr;
    case PgKind::kTimestamp:
      return id == LogicalTypeId::TIMESTAMP ? BinaryTimestamp : nullptr;
    case PgKind::kTimestampTz:
      return id == LogicalTypeId::TIMESTAMP_TZ ? BinaryTimestamp : nullptr;
    case PgKind::kInterval:
      return id == LogicalTypeId::INTERVAL ? BinaryInterval : nullptr;
    case PgKind::kUuid:
      return id == LogicalTypeId::UUID ? BinaryUuid : nullptr;
    case PgKind::kArray:
    case PgKind::kOther:
      return nullptr;
  }
  return nullptr;
}

ColumnDecoder::Function TextFunction(const LogicalType& target) {
  switch (target.id()) {
    case LogicalTypeId::BOOLEAN:
      return TextBool;
    case LogicalTypeId::TINYINT:
      return TextInt<int8_t>;
    case LogicalTypeId::SMALLINT:
      return TextInt<int16_t>;
    case LogicalTypeId::INTEGER:
      return TextInt<int32_t>;
    case LogicalTypeId::BIGINT:
      return TextInt<int64_t>;
    case LogicalTypeId::UTINYINT:
      return TextInt<uint8_t>;
    case LogicalTypeId::USMALLINT:
      return TextInt<uint16_t>;
    case LogicalTypeId::UINTEGER:
      return TextInt<uint32_t>;
    case LogicalTypeId::UBIGINT:
      return TextInt<uint64_t>;
    case LogicalTypeId::FLOAT:
      return TextFloat<float>;
    case LogicalTypeId::DOUBLE:
      return TextFloat<double>;
    case LogicalTypeId::DECIMAL:
      return TextDecimal;
    case LogicalTypeId::VARCHAR:
      return AnyText;
    case LogicalTypeId::BLOB:
      return TextBytes;
    case LogicalTypeId::DATE:
      return TextDate;
    case LogicalTypeId::TIME:
      return TextTime;
    case LogicalTypeId::TIME_TZ:
      return TextTimeTz;
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_TZ:
      return TextTimestamp;
    case LogicalTypeId::INTERVAL:
      return TextInterval;
    case LogicalTypeId::UUID:
      return TextUuid;
    default:
      return TextByCast;
  }
}

}  // namespace

std::string ColumnDecoder::Text(const Field& field) const {
  constexpr uint32_t kMax = 1000;
  if (field.kind == Field::kNull || field.kind == Field::kUnchanged) return "";
  if (field.kind == Field::kText || kind_ == PgKind::kText) {
    uint32_t n = std::min(field.size, kMax);
    while (n < field.size && n > 0 && (field.data[n] & 0xc0) == 0x80) n--;  // do not cut a character
    std::string out(field.data, n);
    if (check_utf8_ && !duckdb::Value::StringIsValid(out.data(), out.size()))
      for (auto& c : out)
        if (c & 0x80) c = '?';
    return out;
  }
  if (kind_ == PgKind::kNumeric && field.size >= 8) {
    int count = ReadU16(field.data), weight = int16_t(ReadU16(field.data + 2)),
        scale = ReadU16(field.data + 6) & 0x3fff;
    switch (ReadU16(field.data + 4)) {
      case 0xc000:
        return "NaN";
      case 0xd000:
        return "Infinity";
      case 0xf000:
        return "-Infinity";
      case 0:
        break;
      case 0x4000:
        break;
      default:
        return "";
    }
    if (field.size != 8 + 2 * uint32_t(count)) return "";
    std::string out = ReadU16(field.data + 4) ? "-" : "";
    auto digit = [&](int i) { return i >= 0 && i < count ? int(ReadU16(field.data + 8 + 2 * i)) : 0; };
    if (weight < 0) out += "0";
    for (int i = 0; i <= weight && out.size() < kMax; i++)
      out += i == 0 ? fmt::format("{}", digit(i)) : fmt::format("{:04}", digit(i));
    std::string fraction;
    for (int i = weight + 1; int(fraction.size()) < std::min(scale, int(kMax)); i++)
      fraction += fmt::format("{:04}", digit(i));
    fraction.resize(size_t(std::min(scale, int(kMax))));
    return (scale ? out + "." + fraction : out).substr(0, kMax);
  }
  std::string hex = "\\x";
  for (uint32_t i = 0; i < std::min(field.size, kMax / 2 - 1); i++)
    hex += fmt::format("{:02x}", uint8_t(field.data[i]));
  return hex;
}

ColumnDecoder::ColumnDecoder(PgKind kind, PgKind element, const LogicalType& target, bool check_utf8)
    : kind_(kind), target_(target), check_utf8_(check_utf8) {
  binary_ = BinaryFunction(kind, target);
  text_ = TextFunction(target);
  if (target.id() == LogicalTypeId::DECIMAL) target.GetDecimalProperties(width_, scale_);
  if (target.id() == LogicalTypeId::LIST && kind == PgKind::kArray) {
    element_ =
        std::make_shared<ColumnDecoder>(element, PgKind::kOther, duckdb::ListType::GetChildType(target), check_utf8);
    binary_ = element_->binary() ? BinaryArray : nullptr;
    text_ = TextArray;
  }
}

}  // namespace tidewater::postgres
