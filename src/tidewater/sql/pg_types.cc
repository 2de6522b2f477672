#include "tidewater/sql/pg_types.h"
#include <fmt/format.h>
#include "duckdb/common/types/decimal.hpp"

namespace tidewater::sql {

const std::vector<PgType>& PgTypes() {
  static const std::vector<PgType> types = {
      {16, "bool", 1, true, 'b', 'B', true, 0, 1000, 0, "boolean"},
      {17, "bytea", -1, false, 'b', 'U', false, 0, 1001, 0, "bytea"},
      {18, "char", 1, true, 'b', 'Z', false, 0, 1002, 0, "\"char\""},
      {19, "name", 64, false, 'b', 'S', false, 18, 1003, 950, "name"},
      {20, "int8", 8, true, 'b', 'N', false, 0, 1016, 0, "bigint"},
      {21, "int2", 2, true, 'b', 'N', false, 0, 1005, 0, "smallint"},
      {22, "int2vector", -1, false, 'b', 'A', false, 21, 1006, 0, "int2vector"},
      {23, "int4", 4, true, 'b', 'N', false, 0, 1007, 0, "integer"},
      {24, "regproc", 4, true, 'b', 'N', false, 0, 1008, 0, "regproc"},
      {25, "text", -1, false, 'b', 'S', true, 0, 1009, 100, "text"},
      {26, "oid", 4, true, 'b', 'N', true, 0, 1028, 0, "oid"},
      {30, "oidvector", -1, false, 'b', 'A', false, 26, 1013, 0, "oidvector"},
      {114, "json", -1, false, 'b', 'U', false, 0, 199, 0, "json"},
      {142, "xml", -1, false, 'b', 'U', false, 0, 143, 0, "xml"},
      {199, "_json", -1, false, 'b', 'A', false, 114, 0, 0, "json[]"},
      {650, "cidr", -1, false, 'b', 'I', false, 0, 651, 0, "cidr"},
      {700, "float4", 4, true, 'b', 'N', false, 0, 1021, 0, "real"},
      {701, "float8", 8, true, 'b', 'N', true, 0, 1022, 0, "double precision"},
      {705, "unknown", -2, false, 'p', 'X', false, 0, 0, 0, "unknown"},
      {790, "money", 8, true, 'b', 'N', false, 0, 791, 0, "money"},
      {829, "macaddr", 6, false, 'b', 'U', false, 0, 1040, 0, "macaddr"},
      {869, "inet", -1, false, 'b', 'I', true, 0, 1041, 0, "inet"},
      {1000, "_bool", -1, false, 'b', 'A', false, 16, 0, 0, "boolean[]"},
      {1001, "_bytea", -1, false, 'b', 'A', false, 17, 0, 0, "bytea[]"},
      {1003, "_name", -1, false, 'b', 'A', false, 19, 0, 950, "name[]"},
      {1005, "_int2", -1, false, 'b', 'A', false, 21, 0, 0, "smallint[]"},
      {1007, "_int4", -1, false, 'b', 'A', false, 23, 0, 0, "integer[]"},
      {1009, "_text", -1, false, 'b', 'A', false, 25, 0, 100, "text[]"},
      {1015, "_varchar", -1, false, 'b', 'A', false, 1043, 0, 100, "character varying[]"},
      {1016, "_int8", -1, false, 'b', 'A', false, 20, 0, 0, "bigint[]"},
      {1021, "_float4", -1, false, 'b', 'A', false, 700, 0, 0, "real[]"},
      {1022, "_float8", -1, false, 'b', 'A', false, 701, 0, 0, "double precision[]"},
      {1028, "_oid", -1, false, 'b', 'A', false, 26, 0, 0, "oid[]"},
      {1042, "bpchar", -1, false, 'b', 'S', false, 0, 1014, 100, "character"},
      {1043, "varchar", -1, false, 'b', 'S', false, 0, 1015, 100, "character varying"},
      {1082, "date", 4, true, 'b', 'D', false, 0, 1182, 0, "date"},
      {1083, "time", 8, true, 'b', 'D', false, 0, 1183, 0, "time without time zone"},
      {1114, "timestamp", 8, true, 'b', 'D', false, 0, 1115, 0, "timestamp without time zone"},
      {1115, "_timestamp", -1, false, 'b', 'A', false, 1114, 0, 0, "timestamp without time zone[]"},
      {1182, "_date", -1, false, 'b', 'A', false, 1082, 0, 0, "date[]"},
      {1183, "_time", -1, false, 'b', 'A', false, 1083, 0, 0, "time without time zone[]"},
      {1184, "timestamptz", 8, true, 'b', 'D', true, 0, 1185, 0, "timestamp with time zone"},
      {1185, "_timestamptz", -1, false, 'b', 'A', false, 1184, 0, 0, "timestamp with time zone[]"},
      {1186, "interval", 16, false, 'b', 'T', true, 0, 1187, 0, "interval"},
      {1187, "_interval", -1, false, 'b', 'A', false, 1186, 0, 0, "interval[]"},
      {1231, "_numeric", -1, false, 'b', 'A', false, 1700, 0, 0, "numeric[]"},
      {1266, "timetz", 12, false, 'b', 'D', false, 0, 1270, 0, "time with time zone"},
      {1560, "bit", -1, false, 'b', 'V', false, 0, 1561, 0, "bit"},
      {1562, "varbit", -1, false, 'b', 'V', true, 0, 1563, 0, "bit varying"},
      {1700, "numeric", -1, false, 'b', 'N', false, 0, 1231, 0, "numeric"},
      {2205, "regclass", 4, true, 'b', 'N', false, 0, 2210, 0, "regclass"},
      {2206, "regtype", 4, true, 'b', 'N', false, 0, 2211, 0, "regtype"},
      {2249, "record", -1, false, 'p', 'P', false, 0, 2287, 0, "record"},
      {2276, "any", 4, true, 'p', 'P', false, 0, 0, 0, "\"any\""},
      {2277, "anyarray", -1, false, 'p', 'P', false, 0, 0, 0, "anyarray"},
      {2278, "void", 4, true, 'p', 'P', false, 0, 0, 0, "void"},
      {2950, "uuid", 16, false, 'b', 'U', false, 0, 2951, 0, "uuid"},
      {2951, "_uuid", -1, false, 'b', 'A', false, 2950, 0, 0, "uuid[]"},
      {3802, "jsonb", -1, false, 'b', 'U', false, 0, 3807, 0, "jsonb"},
      {3807, "_jsonb", -1, false, 'b', 'A', false, 3802, 0, 0, "jsonb[]"},
  };
  return types;
}

const PgType* FindPgType(int64_t oid) {
  for (auto& t : PgTypes())
    if (t.oid == oid) return &t;
  return nullptr;
}

PgColumnType ToPg(const LogicalType& type) {
  using duckdb::LogicalTypeId;
  if (type.IsJSONType()) return {3802, -1};
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
      return {16, -1};
    case LogicalTypeId::TINYINT:
    case LogicalTypeId::SMALLINT:
    case LogicalTypeId::UTINYINT:
      return {21, -1};
    case LogicalTypeId::INTEGER:
    case LogicalTypeId::USMALLINT:
      return {23, -1};
    case LogicalTypeId::BIGINT:
    case LogicalTypeId::UINTEGER:
      return {20, -1};
    case LogicalTypeId::UBIGINT:
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UHUGEINT:
      return {1700, -1};
    case LogicalTypeId::DECIMAL:
      return {1700, (duckdb::DecimalType::GetWidth(type) << 16 | duckdb::DecimalType::GetScale(type)) + 4};
    case LogicalTypeId::FLOAT:
      return {700, -1};
    case LogicalTypeId::DOUBLE:
      return {701, -1};
    case LogicalTypeId::DATE:
      return {1082, -1};
    case LogicalTypeId::TIME:
      return {1083, -1};
    case LogicalTypeId::TIME_TZ:
      return {1266, -1};
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
    case LogicalTypeId::TIMESTAMP_NS:
      return {1114, -1};
    case LogicalTypeId::TIMESTAMP_TZ:
      return {1184, -1};
    case LogicalTypeId::INTERVAL:
      return {1186, -1};
    case LogicalTypeId::UUID:
      return {2950, -1};
    case LogicalTypeId::BLOB:
      return {17, -1};
    case LogicalTypeId::LIST: {
      auto element = FindPgType(ToPg(duckdb::ListType::GetChildType(type)).oid);
      return {element && element->array && FindPgType(element->array) ? element->array : 1009, -1};
    }
    default:
      return {25, -1};
  }
}

std::string FormatType(int64_t oid, int32_t modifier) {
  auto type = FindPgType(oid);
  if (!type) return oid == 0 ? "-" : "???";
  std::string text = type->format;
  if (modifier < 0) return text;
  if (oid == 1700) return fmt::format("numeric({},{})", (modifier - 4) >> 16, (modifier - 4) & 0xffff);
  if (oid == 1043 || oid == 1042) return fmt::format("{}({})", text, modifier - 4);
  return text;
}

}  // namespace tidewater::sql
