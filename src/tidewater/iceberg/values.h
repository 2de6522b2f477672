// Single values in binary form (spec, appendix D): bounds of columns and partition values.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/schema.h"

namespace tidewater::iceberg {

std::string BoolValue(bool v);
std::string IntValue(int32_t v);   ///< int; date (days from 1970-01-01)
std::string LongValue(int64_t v);  ///< long; time (µs), timestamp(tz) (µs from 1970), timestamp(tz)_ns (ns)
std::string FloatValue(float v);
std::string DoubleValue(double v);
std::string DecimalValue(__int128 unscaled);  ///< big-endian two's complement, fewest bytes
std::string UuidValue(unsigned __int128 v);   ///< 16 bytes big-endian
// string, binary, fixed: the bytes themselves.

/// Shortens a lower bound of a string (in code points) or binary (in bytes). Valid UTF-8 stays valid.
std::string TruncateLower(std::string_view value, size_t length, bool is_string);
/// Shortens an upper bound and makes it greater again; nullopt when no greater value of that length exists (then write
/// none).
std::optional<std::string> TruncateUpper(std::string_view value, size_t length, bool is_string);

/// -1, 0, 1 in the order of the type. kCorrupt when a length does not fit the type.
Result<int> CompareValues(const Type& type, std::string_view a, std::string_view b);

}  // namespace tidewater::iceberg
