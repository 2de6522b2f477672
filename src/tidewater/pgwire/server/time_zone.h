// Offsets of a time zone, read from the system's tz database (RFC 8536), for timestamptz as text.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidewater::pgwire {

/// Immutable; seconds since 1970 and seconds east of UTC throughout.
class TimeZone {
 public:
  /// Nothing when the name is unknown or its file is malformed. "UTC", "GMT" and fixed offsets such as "+02:00" need no
  /// file.
  static std::shared_ptr<const TimeZone> Find(const std::string& name);
  static std::shared_ptr<const TimeZone> Utc();
  /// The bytes of a TZif file, version 2 or later.
  static std::shared_ptr<const TimeZone> FromTzif(std::string_view bytes);

  int32_t OffsetAt(int64_t utc_s) const;
  /// The instant of a local time. In a gap the offset before it counts, of an ambiguous time the later instant, as in
  /// PostgreSQL.
  int64_t ToUtc(int64_t local_s) const;

 private:
  /// One half of a POSIX TZ rule: when a change happens each year.
  struct Change {
    enum class Kind { kMonthWeekDay, kJulianNoLeap, kDayOfYear } kind = Kind::kDayOfYear;
    int month = 0, week = 0, day = 0;
    int time_s = 7200;
    /// Local seconds since 1970, by the clock before the change.
    int64_t In(int64_t year) const;
  };
  struct Rule {
    int32_t standard = 0;
    bool has_daylight = false;
    int32_t daylight = 0;
    Change start, end;
    int32_t OffsetAt(int64_t utc_s) const;
  };
  static std::optional<Rule> ParseRule(std::string_view text);

  int32_t first_offset_ = 0;
  std::vector<int64_t> transitions_;
  std::vector<int32_t> offsets_;  ///< from transitions_[i] on
  std::optional<Rule> rule_;      ///< after the last transition
};

/// Days since 1970-01-01 of a proleptic Gregorian date, and back.
int64_t DaysFromCivil(int64_t year, int month, int day);
void CivilFromDays(int64_t days, int64_t& year, int& month, int& day);

}  // namespace tidewater::pgwire
