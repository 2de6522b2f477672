#include "tidewater/pgwire/server/row_encoder.h"
#include <algorithm>
#include <bit>
#include <limits>
#include "duckdb/common/types/bit.hpp"
#include "duckdb/common/types/uuid.hpp"
#include "tidewater/pgwire/protocol/frontend.h"
#include "tidewater/pgwire/server/pg_text.h"
#include "tidewater/pgwire/server/pg_type.h"

namespace tidewater::pgwire {
namespace {

using duckdb::LogicalTypeId;
using duckdb::PhysicalType;
using duckdb::Value;

constexpr int64_t kEpochDays = 10957;  // 2000-01-01, PostgreSQL's day zero
constexpr int64_t kEpochMicros = kEpochDays * 86400 * kMicrosPerSecond;
constexpr size_t kMessageMax = size_t{1} << 30;
constexpr int kArrayDimensionsMax = 6;

__int128 Wide(duckdb::hugeint_t v) { return __int128(v.upper) << 64 | v.lower; }

bool IsArray(const LogicalType& type) { return type.id() == LogicalTypeId::LIST || type.id() == LogicalTypeId::ARRAY; }
bool IsNested(const LogicalType& type) {
  switch (type.InternalType()) {
    case PhysicalType::LIST:
    case PhysicalType::ARRAY:
    case PhysicalType::STRUCT:
      return true;
    default:
      return false;
  }
}

template <class T>
const T& At(const void* data, size_t i) {
  return static_cast<const T*>(data)[i];
}

__int128 DecimalAt(const LogicalType& type, const void* data, size_t i) {
  switch (type.InternalType()) {
    case PhysicalType::INT16:
      return At<int16_t>(data, i);
    case PhysicalType::INT32:
      return At<int32_t>(data, i);
    case PhysicalType::INT64:
      return At<int64_t>(data, i);
    default:
      return Wide(At<duckdb::hugeint_t>(data, i));
  }
}

duckdb::string_t EnumAt(const LogicalType& type, const void* data, size_t i) {
  uint64_t position = type.InternalType() == PhysicalType::UINT8    ? At<uint8_t>(data, i)
                      : type.InternalType() == PhysicalType::UINT16 ? At<uint16_t>(data, i)
                                                                    : At<uint32_t>(data, i);
  return duckdb::EnumType::GetString(type, position);
}

/// Infinite dates and timestamps as text; whether it was one.
template <class T>
bool AppendInfinity(std::string& out, T v) {
  if (duckdb::Value::IsFinite(v)) return false;
  out += v == T::infinity() ? "infinity" : "-infinity";
  return true;
}

void AppendTimestampText(std::string& out, duckdb::timestamp_t v, int digits, const TimeZone* zone) {
  if (!AppendInfinity(out, v)) AppendTimestamp(out, v.value, digits, zone);
}

/// A value without children, at position `i` of its vector's data.
void AppendScalarText(std::string& out, const LogicalType& type, const void* data, size_t i, const TimeZone& zone) {
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
      out.push_back(At<bool>(data, i) ? 't' : 'f');
      break;
    case LogicalTypeId::TINYINT:
      AppendInteger(out, At<int8_t>(data, i));
      break;
    case LogicalTypeId::SMALLINT:
      AppendInteger(out, At<int16_t>(data, i));
      break;
    case LogicalTypeId::INTEGER:
      AppendInteger(out, At<int32_t>(data, i));
      break;
    case LogicalTypeId::BIGINT:
      AppendInteger(out, At<int64_t>(data, i));
      break;
    case LogicalTypeId::UTINYINT:
      AppendInteger(out, At<uint8_t>(data, i));
      break;
    case LogicalTypeId::USMALLINT:
      AppendInteger(out, At<uint16_t>(data, i));
      break;
    case LogicalTypeId::UINTEGER:
      AppendInteger(out, At<uint32_t>(data, i));
      break;
    case LogicalTypeId::UBIGINT:
      AppendUnsigned128(out, At<uint64_t>(data, i));
      break;
    case LogicalTypeId::HUGEINT:
      AppendDecimal(out, Wide(At<duckdb::hugeint_t>(data, i)), 0);
      break;
    case LogicalTypeId::UHUGEINT: {
      auto v = At<duckdb::uhugeint_t>(data, i);
      AppendUnsigned128(out, static_cast<unsigned __int128>(v.upper) << 64 | v.lower);
      break;
    }
    case LogicalTypeId::DECIMAL:
      AppendDecimal(out, DecimalAt(type, data, i), duckdb::DecimalType::GetScale(type));
      break;
    case LogicalTypeId::FLOAT:
      AppendFloat4(out, At<float>(data, i));
      break;
    case LogicalTypeId::DOUBLE:
      AppendFloat8(out, At<double>(data, i));
      break;
    case LogicalTypeId::VARCHAR: {
      auto& s = At<duckdb::string_t>(data, i);
      out.append(s.GetData(), s.GetSize());
      break;
    }
    case LogicalTypeId::BLOB: {
      auto& s = At<duckdb::string_t>(data, i);
      AppendBytea(out, {s.GetData(), s.GetSize()});
      break;
    }
    case LogicalTypeId::BIT:
      out += duckdb::Bit::ToString(duckdb::bitstring_t(At<duckdb::string_t>(data, i)));
      break;
    case LogicalTypeId::DATE: {
      auto v = At<duckdb::date_t>(data, i);
      if (!AppendInfinity(out, v)) AppendDate(out, v.days);
      break;
    }
    case LogicalTypeId::TIME: {
      auto v = At<duckdb::dtime_t>(data, i).micros;
      AppendTime(out, v / kMicrosPerSecond, v % kMicrosPerSecond, 6);
      break;
    }
    case LogicalTypeId::TIME_NS: {
      auto v = At<int64_t>(data, i);
      AppendTime(out, v / 1'000'000'000, v % 1'000'000'000, 9);
      break;
    }
    case LogicalTypeId::TIME_TZ: {
      auto v = At<duckdb::dtime_tz_t>(data, i);
      AppendTime(out, v.time().micros / kMicrosPerSecond, v.time().micros % kMicrosPerSecond, 6);
      AppendOffset(out, v.offset());
      break;
    }
    case LogicalTypeId::TIMESTAMP:
      AppendTimestampText(out, At<duckdb::timestamp_t>(data, i), 6, nullptr);
      break;
    case LogicalTypeId::TIMESTAMP_TZ:
      AppendTimestampText(out, At<duckdb::timestamp_t>(data, i), 6, &zone);
      break;
    case LogicalTypeId::TIMESTAMP_SEC:
      AppendTimestampText(out, At<duckdb::timestamp_t>(data, i), 0, nullptr);
      break;
    case LogicalTypeId::TIMESTAMP_MS:
      AppendTimestampText(out, At<duckdb::timestamp_t>(data, i), 3, nullptr);
      break;
    case LogicalTypeId::TIMESTAMP_NS:
      AppendTimestampText(out, At<duckdb::timestamp_t>(data, i), 9, nullptr);
      break;
    case LogicalTypeId::INTERVAL: {
      auto& v = At<duckdb::interval_t>(data, i);
      AppendInterval(out, v.months, v.days, v.micros);
      break;
    }
    case LogicalTypeId::UUID: {
      char text[duckdb::UUID::STRING_SIZE];
      duckdb::UUID::ToString(At<duckdb::hugeint_t>(data, i), text);
      out.append(text, sizeof text);
      break;
    }
    case LogicalTypeId::ENUM: {
      auto s = EnumAt(type, data, i);
      out.append(s.GetData(), s.GetSize());
      break;
    }
    default: {
      // Types that PostgreSQL has no counterpart of, as DuckDB prints them.
      duckdb::Vector one(type, duckdb::data_ptr_cast(const_cast<void*>(data)));
      out += one.GetValue(i).ToString();
    }
  }
}

int64_t MicrosSince2000(int64_t value, int64_t multiply, int64_t divide) {
  // Floor, so that instants before 1970 do not move forward.
  if (divide > 1) return (value >= 0 ? value : value - divide + 1) / divide - kEpochMicros;
  int64_t out;
  if (__builtin_mul_overflow(value, multiply, &out) || __builtin_sub_overflow(out, kEpochMicros, &out)) {
    return value > 0 ? std::numeric_limits<int64_t>::max() : std::numeric_limits<int64_t>::min();
  }
  return out;
}

void AppendScalarBinary(std::string& out, const LogicalType& type, const void* data, size_t i, const TimeZone& zone) {
  auto timestamp = [&](int64_t multiply, int64_t divide) {
    auto v = At<duckdb::timestamp_t>(data, i);
    PutInt64(out, Value::IsFinite(v)                     ? MicrosSince2000(v.value, multiply, divide)
                  : v == duckdb::timestamp_t::infinity() ? std::numeric_limits<int64_t>::max()
                                                         : std::numeric_limits<int64_t>::min());
  };
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
      out.push_back(At<bool>(data, i) ? 1 : 0);
      break;
    case LogicalTypeId::TINYINT:
      PutInt16(out, At<int8_t>(data, i));
      break;
    case LogicalTypeId::UTINYINT:
      PutInt16(out, At<uint8_t>(data, i));
      break;
    case LogicalTypeId::SMALLINT:
      PutInt16(out, At<int16_t>(data, i));
      break;
    case LogicalTypeId::USMALLINT:
      PutInt32(out, At<uint16_t>(data, i));
      break;
    case LogicalTypeId::INTEGER:
      PutInt32(out, At<int32_t>(data, i));
      break;
    case LogicalTypeId::UINTEGER:
      if (type.HasAlias() && PgTypeOf(type).bytes == 4) {
        PutInt32(out, int32_t(At<uint32_t>(data, i)));
      } else {
        PutInt64(out, At<uint32_t>(data, i));
      }
      break;
    case LogicalTypeId::BIGINT:
      if (type.HasAlias() && PgTypeOf(type).bytes == 4) {
        PutInt32(out, int32_t(At<int64_t>(data, i)));
      } else {
        PutInt64(out, At<int64_t>(data, i));
      }
      break;
    case LogicalTypeId::UBIGINT:
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UHUGEINT:
    case LogicalTypeId::DECIMAL: {
      std::string text;
      AppendScalarText(text, type, data, i, zone);
      AppendNumericBinary(out, text);
      break;
    }
    case LogicalTypeId::FLOAT:
      PutInt32(out, std::bit_cast<int32_t>(At<float>(data, i)));
      break;
    case LogicalTypeId::DOUBLE:
      PutInt64(out, std::bit_cast<int64_t>(At<double>(data, i)));
      break;
    case LogicalTypeId::BLOB: {
      auto& s = At<duckdb::string_t>(data, i);
      out.append(s.GetData(), s.GetSize());
      break;
    }
    case LogicalTypeId::BIT: {
      auto text = duckdb::Bit::ToString(duckdb::bitstring_t(At<duckdb::string_t>(data, i)));
      PutInt32(out, int32_t(text.size()));
      for (size_t k = 0; k < text.size(); k += 8) {
        uint8_t byte = 0;
        for (size_t b = k; b < k + 8; b++) byte = uint8_t(byte << 1 | (b < text.size() && text[b] == '1'));
        out.push_back(char(byte));
      }
      break;
    }
    case LogicalTypeId::DATE: {
      auto v = At<duckdb::date_t>(data, i);
      PutInt32(out, Value::IsFinite(v)                ? int32_t(v.days - kEpochDays)
                    : v == duckdb::date_t::infinity() ? std::numeric_limits<int32_t>::max()
                                                      : std::numeric_limits<int32_t>::min());
      break;
    }
    case LogicalTypeId::TIME:
      PutInt64(out, At<int64_t>(data, i));
      break;
    case LogicalTypeId::TIME_NS:
      PutInt64(out, At<int64_t>(data, i) / 1000);
      break;
    case LogicalTypeId::TIME_TZ: {
      auto v = At<duckdb::dtime_tz_t>(data, i);
      PutInt64(out, v.time().micros);
      PutInt32(out, -v.offset());
      break;
    }
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_TZ:
      timestamp(1, 1);
      break;
    case LogicalTypeId::TIMESTAMP_SEC:
      timestamp(kMicrosPerSecond, 1);
      break;
    case LogicalTypeId::TIMESTAMP_MS:
      timestamp(1000, 1);
      break;
    case LogicalTypeId::TIMESTAMP_NS:
      timestamp(1, 1000);
      break;
    case LogicalTypeId::INTERVAL: {
      auto& v = At<duckdb::interval_t>(data, i);
      PutInt64(out, v.micros);
      PutInt32(out, v.days);
      PutInt32(out, v.months);
      break;
    }
    case LogicalTypeId::UUID: {
      uint8_t bytes[16];
      duckdb::UUID::ToBlob(At<duckdb::hugeint_t>(data, i), bytes);
      out.append(reinterpret_cast<const char*>(bytes), sizeof bytes);
      break;
    }
    default:
      if (type.HasAlias() && PgTypeOf(type).oid == 3802) out.push_back(1);  // jsonb's version
      AppendScalarText(out, type, data, i, zone);
  }
}

/// Calls f(type, data) with the value's bytes as a vector of one.
template <class F>
void WithScalar(const Value& value, F&& f) {
  duckdb::Vector one(value);
  f(value.type(), static_cast<const void*>(duckdb::ConstantVector::GetData(one)));
}

void AppendJson(std::string& out, const Value& value, const TimeZone& zone);

void AppendJsonMembers(std::string& out, const duckdb::vector<Value>& items, const TimeZone& zone) {
  for (size_t i = 0; i < items.size(); i++) {
    if (i > 0) out.push_back(',');
    AppendJson(out, items[i], zone);
  }
}

void AppendJson(std::string& out, const Value& value, const TimeZone& zone) {
  if (value.IsNull()) {
    out += "null";
    return;
  }
  auto& type = value.type();
  switch (type.id()) {
    case LogicalTypeId::LIST:
    case LogicalTypeId::ARRAY:
      out.push_back('[');
      AppendJsonMembers(out,
                        IsArray(type) && type.id() == LogicalTypeId::LIST ? duckdb::ListValue::GetChildren(value)
                                                                          : duckdb::ArrayValue::GetChildren(value),
                        zone);
      out.push_back(']');
      return;
    case LogicalTypeId::STRUCT: {
      auto& children = duckdb::StructValue::GetChildren(value);
      bool unnamed = duckdb::StructType::IsUnnamed(type);
      out.push_back('{');
      for (size_t i = 0; i < children.size(); i++) {
        if (i > 0) out.push_back(',');
        AppendJsonString(out, unnamed ? fmt::format("f{}", i + 1) : duckdb::StructType::GetChildName(type, i));
        out.push_back(':');
        AppendJson(out, children[i], zone);
      }
      out.push_back('}');
      return;
    }
    case LogicalTypeId::MAP: {
      out.push_back('{');
      bool first = true;
      for (auto& entry : duckdb::MapValue::GetChildren(value)) {
        auto& pair = duckdb::StructValue::GetChildren(entry);
        std::string key;
        AppendValueText(key, pair[0], zone);
        if (!first) out.push_back(',');
        first = false;
        AppendJsonString(out, key);
        out.push_back(':');
        AppendJson(out, pair[1], zone);
      }
      out.push_back('}');
      return;
    }
    case LogicalTypeId::UNION:
      AppendJson(out, duckdb::UnionValue::GetValue(value), zone);
      return;
    case LogicalTypeId::BOOLEAN:
      out += value.GetValue<bool>() ? "true" : "false";
      return;
    default:
      break;
  }
  std::string text;
  AppendValueText(text, value, zone);
  bool bare = IsJson(type) || (type.IsNumeric() && (std::isdigit(uint8_t(text.back()))));
  if (bare) {
    out += text;
  } else {
    if (type.id() == LogicalTypeId::TIMESTAMP || type.id() == LogicalTypeId::TIMESTAMP_TZ) {
      std::replace(text.begin(), text.end(), ' ', 'T');
    }
    AppendJsonString(out, text);
  }
}

const duckdb::vector<Value>& ElementsOf(const Value& value) {
  return value.type().id() == LogicalTypeId::LIST ? duckdb::ListValue::GetChildren(value)
                                                  : duckdb::ArrayValue::GetChildren(value);
}

/// An element between the braces of an array, quoted where array_in would otherwise read it differently.
void AppendArrayElement(std::string& out, std::string_view text) {
  bool quote = text.empty() || (text.size() == 4 && duckdb::StringUtil::CIEquals(std::string(text), "null"));
  for (char c : text) quote |= c == '"' || c == '\\' || c == '{' || c == '}' || c == ',' || std::isspace(uint8_t(c));
  if (!quote) {
    out.append(text);
    return;
  }
  out.push_back('"');
  for (char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  out.push_back('"');
}

void AppendArrayText(std::string& out, const Value& value, const TimeZone& zone) {
  out.push_back('{');
  bool first = true;
  for (auto& element : ElementsOf(value)) {
    if (!first) out.push_back(',');
    first = false;
    if (element.IsNull()) {
      out += "NULL";
    } else if (IsArray(element.type())) {
      AppendArrayText(out, element, zone);
    } else {
      std::string text;
      AppendValueText(text, element, zone);
      AppendArrayElement(out, text);
    }
  }
  out.push_back('}');
}

bool AppendValueBinary(std::string& out, const Value& value, const TimeZone& zone);

/// Collects the leaves of an array whose sub-arrays must all have the sizes in `sizes`, found along the first path.
bool CollectLeaves(const Value& value, size_t depth, std::vector<size_t>& sizes, std::vector<const Value*>& leaves) {
  auto& elements = ElementsOf(value);
  if (depth == sizes.size()) sizes.push_back(elements.size());
  if (elements.size() != sizes[depth]) return false;
  for (auto& element : elements) {
    if (IsArray(element.type())) {
      if (element.IsNull() || !CollectLeaves(element, depth + 1, sizes, leaves)) return false;
    } else {
      leaves.push_back(&element);
    }
  }
  return true;
}

bool AppendArrayBinary(std::string& out, const Value& value, const TimeZone& zone) {
  std::vector<size_t> sizes;
  std::vector<const Value*> leaves;
  if (!CollectLeaves(value, 0, sizes, leaves) || sizes.size() > kArrayDimensionsMax) return false;
  if (leaves.empty()) sizes.clear();
  PutInt32(out, int32_t(sizes.size()));
  PutInt32(out, std::any_of(leaves.begin(), leaves.end(), [](auto* v) { return v->IsNull(); }));
  PutInt32(out, int32_t(ElementOid(PgTypeOf(value.type()).oid)));
  for (auto size : sizes) {
    PutInt32(out, int32_t(size));
    PutInt32(out, 1);  // lower bound
  }
  for (auto* leaf : leaves) {
    if (leaf->IsNull()) {
      PutInt32(out, -1);
      continue;
    }
    size_t at = out.size();
    PutInt32(out, 0);
    if (!AppendValueBinary(out, *leaf, zone)) return false;
    PatchInt32(out, at, int32_t(out.size() - at - 4));
  }
  return true;
}

bool AppendValueBinary(std::string& out, const Value& value, const TimeZone& zone) {
  auto& type = value.type();
  if (IsArray(type)) return AppendArrayBinary(out, value, zone);
  if (IsNested(type)) {
    AppendValueText(out, value, zone);
    return true;
  }
  WithScalar(value, [&](auto& t, auto* data) { AppendScalarBinary(out, t, data, 0, zone); });
  return true;
}

}  // namespace

std::vector<ColumnDescription> DescribeColumns(const std::vector<ColumnDef>& columns,
                                               const std::vector<int16_t>& formats) {
  std::vector<ColumnDescription> out;
  for (size_t i = 0; i < columns.size(); i++) {
    auto type = PgTypeOf(columns[i].type);
    out.push_back({columns[i].name, type.oid, type.bytes, type.modifier, int16_t(FormatOf(formats, i))});
  }
  return out;
}

void AppendValueText(std::string& out, const Value& value, const TimeZone& zone) {
  auto& type = value.type();
  if (IsArray(type)) {
    AppendArrayText(out, value, zone);
  } else if (type.id() == LogicalTypeId::STRUCT || type.id() == LogicalTypeId::MAP ||
             type.id() == LogicalTypeId::UNION) {
    AppendJson(out, value, zone);
  } else if (IsNested(type)) {
    out += value.ToString();
  } else {
    WithScalar(value, [&](auto& t, auto* data) { AppendScalarText(out, t, data, 0, zone); });
  }
}

Status EncodeRows(DataChunk& chunk, size_t begin, size_t end, const std::vector<int16_t>& formats, const TimeZone& zone,
                  std::string& out) {
  size_t columns = chunk.ColumnCount();
  std::vector<duckdb::UnifiedVectorFormat> data(columns);
  std::vector<char> nested(columns), binary(columns);
  for (size_t c = 0; c < columns; c++) {
    chunk.data[c].ToUnifiedFormat(chunk.size(), data[c]);
    nested[c] = IsNested(chunk.data[c].GetType());
    binary[c] = FormatOf(formats, c) == 1;
  }
  for (size_t row = begin; row < end; row++) {
    size_t message = out.size();
    out.push_back('D');
    PutInt32(out, 0);
    PutInt16(out, int16_t(uint16_t(columns)));
    for (size_t c = 0; c < columns; c++) {
      auto i = data[c].sel->get_index(row);
      if (!data[c].validity.RowIsValid(i)) {
        PutInt32(out, -1);
        continue;
      }
      size_t field = out.size();
      PutInt32(out, 0);
      auto& type = chunk.data[c].GetType();
      if (nested[c]) {
        auto value = chunk.data[c].GetValue(row);
        if (!binary[c]) {
          AppendValueText(out, value, zone);
        } else if (!AppendValueBinary(out, value, zone)) {
          out.resize(message);
          return std::unexpected(
              UserError("2202E", "a nested list whose inner lists differ in length has no binary form"));
        }
      } else if (binary[c]) {
        AppendScalarBinary(out, type, data[c].data, i, zone);
      } else {
        AppendScalarText(out, type, data[c].data, i, zone);
      }
      size_t bytes = out.size() - field - 4;
      if (out.size() - message > kMessageMax) {
        out.resize(message);
        return std::unexpected(UserError("54000", "a row is longer than {} bytes", kMessageMax));
      }
      PatchInt32(out, field, int32_t(bytes));
    }
    PatchInt32(out, message + 1, int32_t(out.size() - message - 1));
  }
  return {};
}

}  // namespace tidewater::pgwire
