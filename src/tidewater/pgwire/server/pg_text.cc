#include "tidewater/pgwire/server/pg_text.h"
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <vector>
#include <fmt/format.h>
#include "tidewater/pgwire/protocol/backend.h"

namespace tidewater::pgwire {
namespace {

void AppendPadded(std::string& out, int64_t v, int width) {
  fmt::format_int text(v);
  for (int i = int(text.size()); i < width; i++) out.push_back('0');
  out.append(text.data(), text.size());
}

int64_t Power10(int n) {
  int64_t p = 1;
  while (n-- > 0) p *= 10;
  return p;
}

/// Digits and exponent of the shortest form, then fixed between 1e-4 and 10^fixed_below as PostgreSQL does.
template <class T>
void AppendFloat(std::string& out, T v, int fixed_below) {
  if (std::isnan(v)) {
    out += "NaN";
    return;
  }
  if (std::isinf(v)) {
    out += v < 0 ? "-Infinity" : "Infinity";
    return;
  }
  char text[64];
  auto end = std::to_chars(text, text + sizeof text, v, std::chars_format::scientific).ptr;
  char* p = text;
  if (*p == '-') out.push_back(*p++);
  char* e = std::find(p, end, 'e');
  std::array<char, 40> digits;
  size_t n = 0;
  for (char* c = p; c != e; c++) {
    if (*c != '.') digits[n++] = *c;
  }
  int exponent = 0;
  std::from_chars(e[1] == '+' ? e + 2 : e + 1, end, exponent);
  if (exponent < -4 || exponent >= fixed_below) {
    out.push_back(digits[0]);
    if (n > 1) out.append(1, '.').append(digits.data() + 1, n - 1);
    out.append(exponent < 0 ? "e-" : "e+");
    AppendPadded(out, std::abs(exponent), 2);
  } else if (exponent < 0) {
    out.append("0.").append(size_t(-exponent - 1), '0').append(digits.data(), n);
  } else {
    size_t whole = size_t(exponent) + 1;
    out.append(digits.data(), std::min(n, whole));
    if (n < whole) out.append(whole - n, '0');
    if (n > whole) out.append(1, '.').append(digits.data() + whole, n - whole);
  }
}

void AppendFraction(std::string& out, int64_t fraction, int digits) {
  if (fraction == 0) return;
  while (fraction % 10 == 0) {
    fraction /= 10;
    digits--;
  }
  out.push_back('.');
  AppendPadded(out, fraction, digits);
}

}  // namespace

void AppendInteger(std::string& out, int64_t v) {
  fmt::format_int text(v);
  out.append(text.data(), text.size());
}

void AppendUnsigned128(std::string& out, unsigned __int128 v) {
  if (v >> 64 == 0) {
    fmt::format_int text{uint64_t(v)};
    out.append(text.data(), text.size());
    return;
  }
  char text[40];
  char* p = text + sizeof text;
  for (; v != 0; v /= 10) *--p = char('0' + int(v % 10));
  out.append(p, size_t(text + sizeof text - p));
}

void AppendDecimal(std::string& out, __int128 value, unsigned scale) {
  if (value < 0) out.push_back('-');
  auto magnitude = value < 0 ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  size_t begin = out.size();
  AppendUnsigned128(out, magnitude);
  if (scale == 0) return;
  size_t digits = out.size() - begin;
  if (digits <= scale) out.insert(begin, scale + 1 - digits, '0');
  out.insert(out.size() - scale, 1, '.');
}

void AppendFloat4(std::string& out, float v) { AppendFloat(out, v, 6); }
void AppendFloat8(std::string& out, double v) { AppendFloat(out, v, 15); }

void AppendBytea(std::string& out, std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  out += "\\x";
  for (char c : bytes) {
    out.push_back(kHex[uint8_t(c) >> 4]);
    out.push_back(kHex[uint8_t(c) & 15]);
  }
}

static void AppendCivil(std::string& out, int64_t year, int month, int day) {
  AppendPadded(out, year > 0 ? year : 1 - year, 4);
  out.push_back('-');
  AppendPadded(out, month, 2);
  out.push_back('-');
  AppendPadded(out, day, 2);
}

void AppendDate(std::string& out, int64_t days) {
  int64_t year;
  int month, day;
  CivilFromDays(days, year, month, day);
  AppendCivil(out, year, month, day);
  if (year <= 0) out += " BC";
}

void AppendTime(std::string& out, int64_t seconds, int64_t fraction, int digits) {
  AppendPadded(out, seconds / 3600, 2);
  out.push_back(':');
  AppendPadded(out, seconds / 60 % 60, 2);
  out.push_back(':');
  AppendPadded(out, seconds % 60, 2);
  AppendFraction(out, fraction, digits);
}

void AppendOffset(std::string& out, int32_t seconds_east) {
  out.push_back(seconds_east < 0 ? '-' : '+');
  int32_t s = std::abs(seconds_east);
  AppendPadded(out, s / 3600, 2);
  if (s % 3600 != 0) out.push_back(':'), AppendPadded(out, s / 60 % 60, 2);
  if (s % 60 != 0) out.push_back(':'), AppendPadded(out, s % 60, 2);
}

void AppendTimestamp(std::string& out, int64_t value, int digits, const TimeZone* zone) {
  int64_t unit = Power10(digits);
  int64_t seconds = value / unit, fraction = value % unit;
  if (fraction < 0) fraction += unit, seconds--;
  int32_t offset = zone ? zone->OffsetAt(seconds) : 0;
  seconds += offset;
  int64_t days = seconds / 86400, in_day = seconds % 86400;
  if (in_day < 0) in_day += 86400, days--;
  int64_t year;
  int month, day;
  CivilFromDays(days, year, month, day);
  AppendCivil(out, year, month, day);
  out.push_back(' ');
  AppendTime(out, in_day, fraction, digits);
  if (zone) AppendOffset(out, offset);
  if (year <= 0) out += " BC";
}

void AppendInterval(std::string& out, int32_t months, int32_t days, int64_t micros) {
  bool empty = true, after_negative = false;
  auto part = [&](int64_t v, const char* unit) {
    if (v == 0) return;
    if (!empty) out.push_back(' ');
    if (after_negative && v > 0) out.push_back('+');
    AppendInteger(out, v);
    out.append(1, ' ').append(unit);
    if (v != 1) out.push_back('s');
    after_negative = v < 0;
    empty = false;
  };
  part(months / 12, "year");
  part(months % 12, "mon");
  part(days, "day");
  if (!empty && micros == 0) return;
  if (!empty) out.push_back(' ');
  if (micros < 0) {
    out.push_back('-');
  } else if (after_negative) {
    out.push_back('+');
  }
  uint64_t magnitude = micros < 0 ? -uint64_t(micros) : uint64_t(micros);
  AppendTime(out, int64_t(magnitude / kMicrosPerSecond), int64_t(magnitude % kMicrosPerSecond), 6);
}

void AppendJsonString(std::string& out, std::string_view text) {
  out.push_back('"');
  for (char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (uint8_t(c) < 0x20) {
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", int(c));
        } else {
          out.push_back(c);
        }
    }
  }
  out.push_back('"');
}

void AppendNumericBinary(std::string& out, std::string_view text) {
  bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  auto point = std::min(text.find('.'), text.size());
  auto whole = text.substr(0, point);
  auto fraction = point < text.size() ? text.substr(point + 1) : std::string_view();
  // Groups of four decimal digits, aligned at the point.
  size_t lead = (4 - whole.size() % 4) % 4;
  std::string digits(lead, '0');
  digits.append(whole).append(fraction);
  digits.append((4 - fraction.size() % 4) % 4, '0');
  std::vector<int16_t> groups;
  groups.reserve(digits.size() / 4);
  for (size_t i = 0; i < digits.size(); i += 4) {
    int16_t g = 0;
    for (size_t k = i; k < i + 4; k++) g = int16_t(g * 10 + (digits[k] - '0'));
    groups.push_back(g);
  }
  int weight = int((whole.size() + lead) / 4) - 1;
  size_t first = 0;
  while (first < groups.size() && groups[first] == 0) first++, weight--;
  while (groups.size() > first && groups.back() == 0) groups.pop_back();
  if (first == groups.size()) weight = 0, negative = false;
  PutInt16(out, int16_t(groups.size() - first));
  PutInt16(out, int16_t(weight));
  PutInt16(out, negative ? 0x4000 : 0);
  PutInt16(out, int16_t(fraction.size()));
  for (size_t i = first; i < groups.size(); i++) PutInt16(out, groups[i]);
}

std::optional<std::string> NumericFromBinary(std::string_view bytes) {
  if (bytes.size() < 8) return std::nullopt;
  auto field = [&](size_t i) { return int16_t(uint8_t(bytes[2 * i]) << 8 | uint8_t(bytes[2 * i + 1])); };
  int count = field(0), weight = field(1), scale = field(3);
  uint16_t sign = uint16_t(field(2));
  if (sign == 0xC000) return "NaN";
  if (sign == 0xD000) return "Infinity";
  if (sign == 0xF000) return "-Infinity";
  if ((sign != 0 && sign != 0x4000) || count < 0 || scale < 0 || bytes.size() != 8 + 2 * size_t(count))
    return std::nullopt;
  auto group = [&](int i) { return i >= 0 && i < count ? int(field(size_t(4 + i))) : 0; };
  for (int i = 0; i < count; i++) {
    if (group(i) < 0 || group(i) > 9999) return std::nullopt;
  }
  std::string out = sign ? "-" : "";
  if (weight < 0) out.push_back('0');
  for (int i = 0; i <= weight; i++) AppendPadded(out, group(i), i == 0 ? 1 : 4);
  if (scale > 0) {
    out.push_back('.');
    size_t begin = out.size();
    for (int i = weight + 1; out.size() < begin + size_t(scale); i++) AppendPadded(out, group(i), 4);
    out.resize(begin + size_t(scale));
  }
  return out;
}

}  // namespace tidewater::pgwire
