#include "tidewater/pgwire/server/time_zone.h"
#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>

namespace tidewater::pgwire {
namespace {

constexpr int64_t kDay = 86400;
constexpr size_t kTzifBytesMax = size_t{1} << 20;

template <class T>
T BigEndian(std::string_view bytes, size_t at) {
  T v;
  std::memcpy(&v, bytes.data() + at, sizeof v);
  if constexpr (sizeof v == 8) return T(__builtin_bswap64(uint64_t(v)));
  return T(__builtin_bswap32(uint32_t(v)));
}

bool IsLeap(int64_t y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; }

bool IsName(const std::string& name) {
  if (name.empty() || name.size() > 100 || name.front() == '/' || name.find("..") != name.npos) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return std::isalnum(uint8_t(c)) || c == '/' || c == '_' || c == '-' || c == '+'; });
}

/// [+-]h[h][:mm[:ss]] off the front of `text`, in seconds.
std::optional<int> TakeTime(std::string_view& text) {
  int sign = 1;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    sign = text[0] == '-' ? -1 : 1;
    text.remove_prefix(1);
  }
  int parts[3] = {0, 0, 0};
  for (int i = 0; i < 3; i++) {
    if (i > 0) {
      if (text.empty() || text[0] != ':') break;
      text.remove_prefix(1);
    }
    size_t digits = 0;
    while (digits < text.size() && digits < 3 && std::isdigit(uint8_t(text[digits]))) digits++;
    if (digits == 0) return std::nullopt;
    std::from_chars(text.data(), text.data() + digits, parts[i]);
    text.remove_prefix(digits);
  }
  if (parts[0] > 167 || parts[1] > 59 || parts[2] > 59) return std::nullopt;
  return sign * (parts[0] * 3600 + parts[1] * 60 + parts[2]);
}

bool TakeZoneName(std::string_view& text) {
  size_t n = 0;
  if (!text.empty() && text[0] == '<') {
    n = text.find('>');
    if (n == text.npos) return false;
    text.remove_prefix(n + 1);
    return true;
  }
  while (n < text.size() && std::isalpha(uint8_t(text[n]))) n++;
  text.remove_prefix(n);
  return n >= 3;
}

std::optional<int> TakeNumber(std::string_view& text, int max) {
  int v = 0;
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), v);
  if (parsed.ec != std::errc() || v < 0 || v > max) return std::nullopt;
  text.remove_prefix(size_t(parsed.ptr - text.data()));
  return v;
}

bool Take(std::string_view& text, char c) {
  if (text.empty() || text[0] != c) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

int64_t DaysFromCivil(int64_t year, int month, int day) {
  // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, eras have 400 years.
  year -= month <= 2;
  int64_t era = (year >= 0 ? year : year - 399) / 400;
  int64_t year_of_era = year - era * 400;
  int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

void CivilFromDays(int64_t days, int64_t& year, int& month, int& day) {
  days += 719468;
  int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  int64_t doe = days - era * 146097;
  int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  int64_t mp = (5 * doy + 2) / 153;
  day = int(doy - (153 * mp + 2) / 5 + 1);
  month = int(mp < 10 ? mp + 3 : mp - 9);
  year = yoe + era * 400 + (month <= 2);
}

int64_t TimeZone::Change::In(int64_t year) const {
  int64_t days = 0;
  switch (kind) {
    case Kind::kMonthWeekDay: {
      int64_t first = DaysFromCivil(year, month, 1);
      int64_t weekday = ((first + 4) % 7 + 7) % 7;  // 1970-01-01 was a Thursday
      days = first + (day - weekday + 7) % 7 + 7 * (week - 1);
      int64_t next = month == 12 ? DaysFromCivil(year + 1, 1, 1) : DaysFromCivil(year, month + 1, 1);
      if (days >= next) days -= 7;
      break;
    }
    case Kind::kJulianNoLeap:
      days = DaysFromCivil(year, 1, 1) + day - 1 + (IsLeap(year) && day >= 60);
      break;
    case Kind::kDayOfYear:
      days = DaysFromCivil(year, 1, 1) + day;
      break;
  }
  return days * kDay + time_s;
}

int32_t TimeZone::Rule::OffsetAt(int64_t utc_s) const {
  if (!has_daylight) return standard;
  int64_t local = utc_s + standard, year;
  int month, day;
  CivilFromDays(local / kDay - (local % kDay < 0), year, month, day);
  int64_t from = start.In(year) - standard, to = end.In(year) - daylight;
  bool inside = from < to ? utc_s >= from && utc_s < to : utc_s >= from || utc_s < to;
  return inside ? daylight : standard;
}

std::optional<TimeZone::Rule> TimeZone::ParseRule(std::string_view text) {
  Rule rule;
  if (!TakeZoneName(text)) return std::nullopt;
  auto standard = TakeTime(text);
  if (!standard) return std::nullopt;
  rule.standard = -*standard;  // POSIX counts west of UTC
  if (text.empty()) return rule;
  if (!TakeZoneName(text)) return std::nullopt;
  rule.has_daylight = true;
  rule.daylight = rule.standard + 3600;
  if (!text.empty() && text[0] != ',') {
    auto daylight = TakeTime(text);
    if (!daylight) return std::nullopt;
    rule.daylight = -*daylight;
  }
  for (auto* change : {&rule.start, &rule.end}) {
    if (!Take(text, ',')) return std::nullopt;
    if (Take(text, 'M')) {
      auto month = TakeNumber(text, 12);
      auto week = month && Take(text, '.') ? TakeNumber(text, 5) : std::nullopt;
      auto day = week && Take(text, '.') ? TakeNumber(text, 6) : std::nullopt;
      if (!day || *month < 1 || *week < 1) return std::nullopt;
      *change = {Change::Kind::kMonthWeekDay, *month, *week, *day, 7200};
    } else {
      auto kind = Take(text, 'J') ? Change::Kind::kJulianNoLeap : Change::Kind::kDayOfYear;
      auto day = TakeNumber(text, 365);
      if (!day) return std::nullopt;
      *change = {kind, 0, 0, *day, 7200};
    }
    if (Take(text, '/')) {
      auto time = TakeTime(text);
      if (!time) return std::nullopt;
      change->time_s = *time;
    }
  }
  return text.empty() ? std::optional(rule) : std::nullopt;
}

std::shared_ptr<const TimeZone> TimeZone::FromTzif(std::string_view bytes) {
  constexpr size_t kHeader = 44;
  if (bytes.size() > kTzifBytesMax) return nullptr;
  struct Counts {
    uint64_t utc, std, leap, times, types, chars;
  };
  auto read = [](std::string_view b) -> std::optional<Counts> {
    if (b.size() < kHeader || b.substr(0, 4) != "TZif" || b[4] < '2') return std::nullopt;
    Counts c{};
    uint64_t* fields[] = {&c.utc, &c.std, &c.leap, &c.times, &c.types, &c.chars};
    for (size_t i = 0; i < 6; i++) {
      *fields[i] = BigEndian<uint32_t>(b, 20 + 4 * i);
      if (*fields[i] > kTzifBytesMax) return std::nullopt;
    }
    return c;
  };
  auto old = read(bytes);
  if (!old) return nullptr;
  uint64_t skip = kHeader + old->times * 5 + old->types * 6 + old->chars + old->leap * 8 + old->std + old->utc;
  if (skip > bytes.size()) return nullptr;
  bytes.remove_prefix(skip);
  auto counts = read(bytes);
  if (!counts || counts->types == 0) return nullptr;
  uint64_t indexes = kHeader + counts->times * 8, types = indexes + counts->times;
  uint64_t end = types + counts->types * 6 + counts->chars + counts->leap * 12 + counts->std + counts->utc;
  if (end > bytes.size()) return nullptr;

  auto zone = std::make_shared<TimeZone>();
  auto offset = [&](size_t type) { return BigEndian<int32_t>(bytes, types + type * 6); };
  zone->first_offset_ = offset(0);
  for (size_t i = 0; i < counts->times; i++) {
    size_t type = uint8_t(bytes[indexes + i]);
    if (type >= counts->types) return nullptr;
    zone->transitions_.push_back(BigEndian<int64_t>(bytes, kHeader + i * 8));
    zone->offsets_.push_back(offset(type));
  }
  if (!std::is_sorted(zone->transitions_.begin(), zone->transitions_.end())) return nullptr;
  auto footer = bytes.substr(end);
  if (footer.size() > 2 && footer.front() == '\n' && footer.back() == '\n') {
    zone->rule_ = ParseRule(footer.substr(1, footer.size() - 2));
    if (!zone->rule_) return nullptr;
  }
  return zone;
}

std::shared_ptr<const TimeZone> TimeZone::Utc() {
  static const auto utc = std::make_shared<const TimeZone>();
  return utc;
}

std::shared_ptr<const TimeZone> TimeZone::Find(const std::string& name) {
  for (auto* utc : {"UTC", "utc", "Utc", "GMT", "Z", "Etc/UTC"}) {
    if (name == utc) return Utc();
  }
  if (!IsName(name) && name.find(':') == name.npos) return nullptr;
  if (!name.empty() && (name[0] == '+' || name[0] == '-')) {
    std::string_view rest = name;
    auto offset = TakeTime(rest);
    if (!offset || !rest.empty()) return nullptr;
    auto fixed = std::make_shared<TimeZone>();
    fixed->first_offset_ = *offset;
    return fixed;
  }
  if (!IsName(name)) return nullptr;
  std::ifstream file("/usr/share/zoneinfo/" + name, std::ios::binary);
  if (!file) return nullptr;
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  return file.bad() ? nullptr : FromTzif(bytes);
}

int32_t TimeZone::OffsetAt(int64_t utc_s) const {
  if (rule_ && (transitions_.empty() || utc_s >= transitions_.back())) return rule_->OffsetAt(utc_s);
  auto after = std::upper_bound(transitions_.begin(), transitions_.end(), utc_s);
  return after == transitions_.begin() ? first_offset_ : offsets_[size_t(after - transitions_.begin()) - 1];
}

int64_t TimeZone::ToUtc(int64_t local_s) const {
  int32_t before = OffsetAt(local_s - kDay), after = OffsetAt(local_s + kDay);
  if (OffsetAt(local_s - after) == after) return local_s - after;
  return local_s - before;
}

}  // namespace tidewater::pgwire
