#include "tidewater/pgwire/server/parameter.h"
#include <bit>
#include <cstring>
#include <limits>
#include "duckdb/common/types/timestamp.hpp"
#include "duckdb/common/types/uuid.hpp"
#include "tidewater/pgwire/protocol/frontend.h"
#include "tidewater/pgwire/server/pg_text.h"
#include "tidewater/pgwire/server/pg_type.h"

namespace tidewater::pgwire {
namespace {

using duckdb::LogicalTypeId;
using duckdb::Value;

constexpr int64_t kEpochDays = 10957;
constexpr int64_t kEpochMicros = kEpochDays * 86400 * kMicrosPerSecond;
constexpr int kArrayDimensionsMax = 6;

Error BadText(const LogicalType& type, std::string_view text) {
  return UserError("22P02", "invalid input syntax for type {}: \"{}\"", PgTypeName(PgTypeOf(type).oid),
                   text.substr(0, 200));
}
Error BadBinary(uint32_t oid) {
  return UserError("22P03", "incorrect binary data format for a parameter of type {}", PgTypeName(oid));
}

std::string_view Trim(std::string_view s) {
  while (!s.empty() && std::isspace(uint8_t(s.front()))) s.remove_prefix(1);
  while (!s.empty() && std::isspace(uint8_t(s.back()))) s.remove_suffix(1);
  return s;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = char(std::tolower(uint8_t(c)));
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

Result<Value> Bytes(std::string_view bytes) {
  return Value::BLOB(reinterpret_cast<duckdb::const_data_ptr_t>(bytes.data()), bytes.size());
}

Result<Value> ByteaFromText(std::string_view text) {
  auto bad = [&] { return std::unexpected(BadText(LogicalType::BLOB, text)); };
  std::string out;
  if (text.starts_with("\\x")) {
    auto hex = text.substr(2);
    if (hex.size() % 2 != 0) return bad();
    for (size_t i = 0; i < hex.size(); i += 2) {
      int high = HexDigit(hex[i]), low = HexDigit(hex[i + 1]);
      if (high < 0 || low < 0) return bad();
      out.push_back(char(high << 4 | low));
    }
    return Bytes(out);
  }
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '\\') {
      out.push_back(text[i]);
    } else if (i + 1 < text.size() && text[i + 1] == '\\') {
      out.push_back('\\');
      i++;
    } else {
      if (i + 3 >= text.size()) return bad();
      int v = 0;
      for (size_t k = i + 1; k <= i + 3; k++) {
        if (text[k] < '0' || text[k] > '7') return bad();
        v = v * 8 + (text[k] - '0');
      }
      if (v > 255) return bad();
      out.push_back(char(v));
      i += 3;
    }
  }
  return Bytes(out);
}

Result<Value> BooleanFromText(std::string_view text) {
  auto word = duckdb::StringUtil::Lower(std::string(Trim(text)));
  auto prefix_of = [&](std::string_view full, size_t least) { return word.size() >= least && full.starts_with(word); };
  if (prefix_of("true", 1) || prefix_of("yes", 1) || word == "on" || word == "1") return Value::BOOLEAN(true);
  if (prefix_of("false", 1) || prefix_of("no", 1) || prefix_of("off", 2) || word == "0") return Value::BOOLEAN(false);
  return std::unexpected(BadText(LogicalType::BOOLEAN, text));
}

Result<Value> TimestampTzFromText(std::string_view text, const TimeZone& zone) {
  auto trimmed = Trim(text);
  if (trimmed == "infinity") return Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(duckdb::timestamp_t::infinity()));
  if (trimmed == "-infinity") return Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(duckdb::timestamp_t::ninfinity()));
  duckdb::timestamp_t instant;
  bool has_offset = false;
  duckdb::string_t name("",
                        0);  // its default constructor leaves it undefined, and nothing sets it where no zone is named
  auto result =
      duckdb::Timestamp::TryConvertTimestampTZ(trimmed.data(), trimmed.size(), instant, true, has_offset, name);
  if (result != duckdb::TimestampCastResult::SUCCESS) return std::unexpected(BadText(LogicalType::TIMESTAMP_TZ, text));
  const TimeZone* local = has_offset ? nullptr : &zone;
  std::shared_ptr<const TimeZone> named;
  if (name.GetSize() > 0) {
    named = TimeZone::Find(name.GetString());
    if (!named) return std::unexpected(UserError("22023", "time zone \"{}\" not recognized", name.GetString()));
    local = named.get();
  }
  if (local && Value::IsFinite(instant)) {
    int64_t seconds = instant.value / kMicrosPerSecond, rest = instant.value % kMicrosPerSecond;
    if (rest < 0) rest += kMicrosPerSecond, seconds--;
    instant.value = local->ToUtc(seconds) * kMicrosPerSecond + rest;
  }
  return Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(instant));
}

Result<Value> Cast(Value value, const LogicalType& target, std::string_view shown) {
  if (value.type() == target) return value;
  bool from_text = value.type().id() == LogicalTypeId::VARCHAR;
  Value out;
  std::string message;
  if (value.DefaultTryCastAs(target, out, &message, true)) return out;
  if (from_text && !target.IsNumeric()) return std::unexpected(BadText(target, shown));
  // A number that the type cannot hold is another error than text that is no number.
  Value wide;
  if (target.IsNumeric() && (!from_text || value.DefaultTryCastAs(LogicalType::DOUBLE, wide, nullptr, true))) {
    bool integer = target.IsIntegral() && from_text && shown.find_first_of(".eE") != shown.npos;
    if (!integer) {
      return std::unexpected(UserError("22003", "value \"{}\" is out of range for type {}", shown.substr(0, 200),
                                       PgTypeName(PgTypeOf(target).oid)));
    }
  }
  return std::unexpected(BadText(target, shown));
}

/// numeric's value in a decimal type: never rounded in silence.
Result<Value> NumericTo(std::string text, const LogicalType& target) {
  if (target.id() == LogicalTypeId::DECIMAL) {
    auto point = text.find('.');
    size_t scale = duckdb::DecimalType::GetScale(target);
    bool plain = text.find_first_of("eE") == text.npos;
    if (plain && point != text.npos && text.size() - point - 1 > scale &&
        text.find_first_not_of('0', point + 1 + scale) != text.npos) {
      return std::unexpected(UserError("22003", "numeric value {} does not fit numeric({},{}) exactly",
                                       text.substr(0, 200), duckdb::DecimalType::GetWidth(target), scale)
                                 .WithHint("Write $n::text::numeric(p,s) with a scale that holds the value."));
    }
  }
  std::string shown = text;
  return Cast(Value(std::move(text)), target, shown);
}

Result<Value> FromText(std::string_view text, const LogicalType& target, const TimeZone& zone, int depth);

/// '{1,NULL,"a b",{…}}'. A list in a list is what braces within braces are.
Result<Value> ArrayFromText(std::string_view& rest, std::string_view whole, const LogicalType& list,
                            const TimeZone& zone, int depth) {
  auto bad = [&] {
    return std::unexpected(UserError("22P02", "malformed array literal: \"{}\"", whole.substr(0, 200)));
  };
  auto space = [&] {
    while (!rest.empty() && std::isspace(uint8_t(rest.front()))) rest.remove_prefix(1);
  };
  if (depth > kArrayDimensionsMax)
    return std::unexpected(UserError("54000", "an array has more than {} dimensions", kArrayDimensionsMax));
  auto& element_type = duckdb::ListType::GetChildType(list);
  duckdb::vector<Value> elements;
  space();
  if (!rest.starts_with('{')) return bad();
  rest.remove_prefix(1);
  space();
  if (rest.starts_with('}')) {
    rest.remove_prefix(1);
    return Value::LIST(element_type, std::move(elements));
  }
  while (true) {
    space();
    if (rest.empty()) return bad();
    if (rest.front() == '{') {
      if (element_type.id() != LogicalTypeId::LIST) return bad();
      TW_ASSIGN(auto inner, ArrayFromText(rest, whole, element_type, zone, depth + 1));
      elements.push_back(std::move(inner));
    } else {
      std::string item;
      bool quoted = rest.front() == '"';
      if (quoted) {
        rest.remove_prefix(1);
        while (true) {
          if (rest.empty()) return bad();
          char c = rest.front();
          rest.remove_prefix(1);
          if (c == '"') break;
          if (c == '\\') {
            if (rest.empty()) return bad();
            c = rest.front();
            rest.remove_prefix(1);
          }
          item.push_back(c);
        }
      } else {
        while (!rest.empty() && rest.front() != ',' && rest.front() != '}') {
          char c = rest.front();
          if (c == '{' || c == '"') return bad();
          rest.remove_prefix(1);
          if (c == '\\') {
            if (rest.empty()) return bad();
            c = rest.front();
            rest.remove_prefix(1);
          }
          item.push_back(c);
        }
        item = Trim(item);
        if (item.empty()) return bad();
      }
      if (!quoted && duckdb::StringUtil::CIEquals(item, "null")) {
        elements.emplace_back(element_type);
      } else {
        if (element_type.id() == LogicalTypeId::LIST) return bad();
        TW_ASSIGN(auto value, FromText(item, element_type, zone, depth));
        elements.push_back(std::move(value));
      }
    }
    space();
    if (rest.empty()) return bad();
    char next = rest.front();
    rest.remove_prefix(1);
    if (next == '}') break;
    if (next != ',') return bad();
  }
  return Value::LIST(element_type, std::move(elements));
}

Result<Value> FromText(std::string_view text, const LogicalType& target, const TimeZone& zone, int depth) {
  switch (target.id()) {
    case LogicalTypeId::VARCHAR: {
      Value out{std::string(text)};
      if (target.HasAlias()) out.Reinterpret(target);
      return out;
    }
    case LogicalTypeId::BLOB:
      return ByteaFromText(text);
    case LogicalTypeId::BOOLEAN:
      return BooleanFromText(text);
    case LogicalTypeId::TIMESTAMP_TZ:
      return TimestampTzFromText(text, zone);
    case LogicalTypeId::LIST: {
      auto rest = text;
      TW_ASSIGN(auto out, ArrayFromText(rest, text, target, zone, depth + 1));
      if (!Trim(rest).empty())
        return std::unexpected(UserError("22P02", "malformed array literal: \"{}\"", text.substr(0, 200)));
      return out;
    }
    case LogicalTypeId::UUID: {
      // Clients also send it without hyphens.
      duckdb::hugeint_t uuid;
      if (!duckdb::UUID::FromString(std::string(Trim(text)), uuid)) return std::unexpected(BadText(target, text));
      return Value::UUID(uuid);
    }
    case LogicalTypeId::DECIMAL:
      return NumericTo(std::string(Trim(text)), target);
    default: {
      std::string trimmed(Trim(text));
      return Cast(Value(trimmed), target, trimmed);
    }
  }
}

template <class T>
bool Take(std::string_view& bytes, T& out) {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(&out, bytes.data(), sizeof out);
  bytes.remove_prefix(sizeof out);
  if constexpr (sizeof(T) == 2) out = T(__builtin_bswap16(uint16_t(out)));
  if constexpr (sizeof(T) == 4) out = T(__builtin_bswap32(uint32_t(out)));
  if constexpr (sizeof(T) == 8) out = T(__builtin_bswap64(uint64_t(out)));
  return true;
}

Result<Value> FromBinary(uint32_t oid, std::string_view bytes, const LogicalType& target, const TimeZone& zone);

Result<Value> ArrayFromBinary(uint32_t oid, std::string_view bytes, const LogicalType& target, const TimeZone& zone) {
  auto bad = [&] { return std::unexpected(BadBinary(oid)); };
  int32_t dimensions, has_null;
  uint32_t element_oid;
  if (!Take(bytes, dimensions) || !Take(bytes, has_null) || !Take(bytes, element_oid)) return bad();
  if (dimensions < 0 || dimensions > kArrayDimensionsMax) return bad();
  std::vector<size_t> sizes;
  for (int i = 0; i < dimensions; i++) {
    int32_t size, lower;
    if (!Take(bytes, size) || !Take(bytes, lower) || size < 0) return bad();
    sizes.push_back(size_t(size));
  }
  if (target.id() != LogicalTypeId::LIST) return bad();
  // Element type below as many lists as there are dimensions; an empty array has none.
  LogicalType leaf = target;
  for (size_t i = 0; i < std::max<size_t>(sizes.size(), 1); i++) {
    if (leaf.id() != LogicalTypeId::LIST) return bad();
    LogicalType child = duckdb::ListType::GetChildType(leaf);
    leaf = child;
  }
  if (leaf.id() == LogicalTypeId::LIST && !sizes.empty()) return bad();
  if (sizes.empty()) return Value::LIST(duckdb::ListType::GetChildType(target), {});
  // Every element takes four bytes at least, so the product cannot ask for more than was sent.
  size_t total = 1;
  for (auto size : sizes) {
    if (size > 0 && total > bytes.size() / 4 / size + 1) return bad();
    total *= size;
  }
  if (total > bytes.size() / 4) return bad();
  duckdb::vector<Value> values;
  for (size_t i = 0; i < total; i++) {
    int32_t size;
    if (!Take(bytes, size) || size < -1 || (size > 0 && size_t(size) > bytes.size())) return bad();
    if (size == -1) {
      values.emplace_back(leaf);
      continue;
    }
    TW_ASSIGN(auto value, FromBinary(element_oid, bytes.substr(0, size_t(size)), leaf, zone));
    bytes.remove_prefix(size_t(size));
    values.push_back(std::move(value));
  }
  if (!bytes.empty()) return bad();
  // Fold from the innermost dimension outwards.
  LogicalType type = leaf;
  for (size_t d = sizes.size(); d-- > 0;) {
    duckdb::vector<Value> folded;
    if (sizes[d] == 0) return Value::LIST(duckdb::ListType::GetChildType(target), {});
    for (size_t i = 0; i < values.size(); i += sizes[d]) {
      duckdb::vector<Value> part(values.begin() + int64_t(i), values.begin() + int64_t(i + sizes[d]));
      folded.push_back(Value::LIST(type, std::move(part)));
    }
    values = std::move(folded);
    type = LogicalType::LIST(type);
  }
  return values[0];
}

Result<Value> FromBinary(uint32_t oid, std::string_view bytes, const LogicalType& target, const TimeZone& zone) {
  auto bad = [&] { return std::unexpected(BadBinary(oid)); };
  auto rest = bytes;
  Value natural;
  switch (oid) {
    case 16: {
      if (bytes.size() != 1) return bad();
      natural = Value::BOOLEAN(bytes[0] != 0);
      break;
    }
    case 17: {
      TW_ASSIGN(natural, Bytes(bytes));
      break;
    }
    case 20:
    case 21:
    case 23:
    case 26: {
      int64_t v64;
      int32_t v32;
      int16_t v16;
      if (oid == 20) {
        if (!Take(rest, v64)) return bad();
        natural = Value::BIGINT(v64);
      } else if (oid == 21) {
        if (!Take(rest, v16)) return bad();
        natural = Value::SMALLINT(v16);
      } else {
        if (!Take(rest, v32)) return bad();
        natural = oid == 26 ? Value::BIGINT(uint32_t(v32)) : Value::INTEGER(v32);
      }
      if (!rest.empty()) return bad();
      break;
    }
    case 700: {
      uint32_t v;
      if (!Take(rest, v) || !rest.empty()) return bad();
      natural = Value::FLOAT(std::bit_cast<float>(v));
      break;
    }
    case 701: {
      uint64_t v;
      if (!Take(rest, v) || !rest.empty()) return bad();
      natural = Value::DOUBLE(std::bit_cast<double>(v));
      break;
    }
    case 0:
    case 705:
    case 18:
    case 19:
    case 25:
    case 114:
    case 1042:
    case 1043:
      return FromText(bytes, target, zone, 0);
    case 3802:
      if (bytes.empty() || bytes[0] != 1) return bad();
      return FromText(bytes.substr(1), target, zone, 0);
    case 1082: {
      int32_t v;
      if (!Take(rest, v) || !rest.empty()) return bad();
      bool infinite = v == std::numeric_limits<int32_t>::max() || v == std::numeric_limits<int32_t>::min();
      if (!infinite && v > std::numeric_limits<int32_t>::max() - int32_t(kEpochDays) - 1) {
        return std::unexpected(UserError("22008", "date out of range"));
      }
      natural = Value::DATE(infinite ? (v > 0 ? duckdb::date_t::infinity() : duckdb::date_t::ninfinity())
                                     : duckdb::date_t(v + int32_t(kEpochDays)));
      break;
    }
    case 1083: {
      int64_t v;
      if (!Take(rest, v) || !rest.empty() || v < 0 || v > 86400 * kMicrosPerSecond) return bad();
      natural = Value::TIME(duckdb::dtime_t(v));
      break;
    }
    case 1266: {
      int64_t v;
      int32_t west;
      if (!Take(rest, v) || !Take(rest, west) || !rest.empty() || v < 0 || v > 86400 * kMicrosPerSecond) return bad();
      if (west <= -16 * 3600 || west >= 16 * 3600) return bad();
      natural = Value::TIMETZ(duckdb::dtime_tz_t(duckdb::dtime_t(v), -west));
      break;
    }
    case 1114:
    case 1184: {
      int64_t v, since_1970;
      if (!Take(rest, v) || !rest.empty()) return bad();
      duckdb::timestamp_t t;
      if (v == std::numeric_limits<int64_t>::max()) {
        t = duckdb::timestamp_t::infinity();
      } else if (v == std::numeric_limits<int64_t>::min()) {
        t = duckdb::timestamp_t::ninfinity();
      } else if (__builtin_add_overflow(v, kEpochMicros, &since_1970)) {
        return std::unexpected(UserError("22008", "timestamp out of range"));
      } else {
        t = duckdb::timestamp_t(since_1970);
      }
      natural = oid == 1114 ? Value::TIMESTAMP(t) : Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(t));
      break;
    }
    case 1186: {
      int64_t micros;
      int32_t days, months;
      if (!Take(rest, micros) || !Take(rest, days) || !Take(rest, months) || !rest.empty()) return bad();
      natural = Value::INTERVAL(months, days, micros);
      break;
    }
    case 1562: {
      int32_t bits;
      if (!Take(rest, bits) || bits < 0 || rest.size() != (size_t(bits) + 7) / 8) return bad();
      std::string text;
      for (size_t i = 0; i < size_t(bits); i++) text.push_back(uint8_t(rest[i / 8]) >> (7 - i % 8) & 1 ? '1' : '0');
      return Cast(Value(text), target, text);
    }
    case 1700: {
      auto text = NumericFromBinary(bytes);
      if (!text) return bad();
      if (target.id() == LogicalTypeId::VARCHAR) return Value(*text);
      return NumericTo(std::move(*text), target);
    }
    case 2950: {
      if (bytes.size() != 16) return bad();
      natural = Value::UUID(duckdb::UUID::FromBlob(reinterpret_cast<duckdb::const_data_ptr_t>(bytes.data())));
      break;
    }
    default:
      if (ElementOid(oid)) return ArrayFromBinary(oid, bytes, target, zone);
      return std::unexpected(
          EnvError(ErrorKind::kUnsupported, "binary parameters of the type with OID {} are not supported", oid));
  }
  return Cast(natural, target, natural.ToString());
}

}  // namespace

Result<Value> DecodeParameter(uint32_t oid, bool binary, std::string_view bytes, const LogicalType& target,
                              const TimeZone& zone) {
  auto type = target;
  if (type.id() == LogicalTypeId::SQLNULL || type.id() == LogicalTypeId::UNKNOWN || type.id() == LogicalTypeId::ANY) {
    type = TypeOfOid(oid);
    if (type.id() == LogicalTypeId::SQLNULL) type = LogicalType::VARCHAR;
  }
  bool text_inside = !binary || oid == 25 || oid == 1043 || oid == 1042 || oid == 114 || oid == 3802 || oid == 0;
  if (text_inside) {
    if (auto at = InvalidUtf8At(bytes)) {
      // jsonb's binary form begins with a version byte, which is valid UTF-8.
      return std::unexpected(
          UserError("22021", "invalid byte sequence for encoding \"UTF8\": 0x{:02x}", uint8_t(bytes[*at])));
    }
  }
  try {
    return binary ? FromBinary(oid, bytes, type, zone) : FromText(bytes, type, zone, 0);
  } catch (std::exception& e) {
    return std::unexpected(BadText(type, binary ? "(binary)" : bytes));
  }
}

}  // namespace tidewater::pgwire
