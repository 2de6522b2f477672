// Values as PostgreSQL prints them with DateStyle ISO and IntervalStyle postgres, and numeric's binary form.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include "tidewater/pgwire/server/time_zone.h"

namespace tidewater::pgwire {

constexpr int64_t kMicrosPerSecond = 1'000'000;

void AppendInteger(std::string& out, int64_t v);
/// value / 10^scale with exactly `scale` digits behind the point.
void AppendDecimal(std::string& out, __int128 value, unsigned scale);
void AppendUnsigned128(std::string& out, unsigned __int128 v);
/// Shortest digits that read back as the same value.
void AppendFloat4(std::string& out, float v);
void AppendFloat8(std::string& out, double v);
void AppendBytea(std::string& out, std::string_view bytes);
/// Days since 1970-01-01.
void AppendDate(std::string& out, int64_t days);
/// Since midnight; `fraction` behind the second in units of 10^-digits s, trailing zeros dropped.
void AppendTime(std::string& out, int64_t seconds, int64_t fraction, int digits);
/// +02, -03:30, +05:53:28.
void AppendOffset(std::string& out, int32_t seconds_east);
/// Since 1970 in units of 10^-digits s; with `zone`, the local time there and its offset (timestamptz).
void AppendTimestamp(std::string& out, int64_t value, int digits, const TimeZone* zone);
void AppendInterval(std::string& out, int32_t months, int32_t days, int64_t micros);
/// As a JSON string with its quotes.
void AppendJsonString(std::string& out, std::string_view text);

/// numeric's binary form of a decimal number in text ("-12.50"), as numeric_send writes it. REQUIRES: digits, at most
/// one point and a leading minus.
void AppendNumericBinary(std::string& out, std::string_view text);
/// Text of numeric's binary form; nothing when malformed. "NaN", "Infinity" and "-Infinity" are possible.
std::optional<std::string> NumericFromBinary(std::string_view bytes);

}  // namespace tidewater::pgwire
