#include "tidewater/pgwire/server/pg_type.h"
#include <string_view>

namespace tidewater::pgwire {
namespace {

using duckdb::LogicalTypeId;

struct Known {
  uint32_t oid, array_oid;
  int16_t bytes;
  const char* name;   ///< as format_type prints it
  const char* alias;  ///< the engine's alias type of that name, or nullptr
};

constexpr Known kTypes[] = {
    {16, 1000, 1, "boolean", nullptr},
    {17, 1001, -1, "bytea", nullptr},
    {18, 1002, 1, "\"char\"", "char"},
    {19, 1003, 64, "name", "name"},
    {20, 1016, 8, "bigint", nullptr},
    {21, 1005, 2, "smallint", nullptr},
    {23, 1007, 4, "integer", nullptr},
    {24, 1008, 4, "regproc", "regproc"},
    {25, 1009, -1, "text", nullptr},
    {26, 1028, 4, "oid", "oid"},
    {28, 1011, 4, "xid", "xid"},
    {114, 199, -1, "json", nullptr},
    {700, 1021, 4, "real", nullptr},
    {701, 1022, 8, "double precision", nullptr},
    {1042, 1014, -1, "character", "bpchar"},
    {1043, 1015, -1, "character varying", "varchar"},
    {1082, 1182, 4, "date", nullptr},
    {1083, 1183, 8, "time without time zone", nullptr},
    {1114, 1115, 8, "timestamp without time zone", nullptr},
    {1184, 1185, 8, "timestamp with time zone", nullptr},
    {1186, 1187, 16, "interval", nullptr},
    {1266, 1270, 12, "time with time zone", nullptr},
    {1562, 1563, -1, "bit varying", nullptr},
    {1700, 1231, -1, "numeric", nullptr},
    {2205, 2210, 4, "regclass", "regclass"},
    {2206, 2211, 4, "regtype", "regtype"},
    {2950, 2951, 16, "uuid", nullptr},
    {3802, 3807, -1, "jsonb", "jsonb"},
    {4089, 4090, 4, "regnamespace", "regnamespace"},
};

const Known* Find(uint32_t oid) {
  for (auto& t : kTypes) {
    if (t.oid == oid) return &t;
  }
  return nullptr;
}

bool SameName(std::string_view a, std::string_view b) {
  return a.size() == b.size() && duckdb::StringUtil::CIEquals(std::string(a), std::string(b));
}

uint32_t OidOf(const LogicalType& type) {
  if (type.HasAlias()) {
    auto alias = type.GetAlias();
    if (SameName(alias, "json")) return 114;
    for (auto& t : kTypes) {
      // A four-byte OID type must also be an integer by storage, or its binary form would lie.
      bool fits = t.bytes != 4 || type.IsIntegral();
      if (t.alias && SameName(alias, t.alias) && fits) return t.oid;
    }
  }
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
      return 16;
    case LogicalTypeId::TINYINT:
    case LogicalTypeId::UTINYINT:
    case LogicalTypeId::SMALLINT:
      return 21;
    case LogicalTypeId::USMALLINT:
    case LogicalTypeId::INTEGER:
      return 23;
    case LogicalTypeId::UINTEGER:
    case LogicalTypeId::BIGINT:
      return 20;
    case LogicalTypeId::UBIGINT:
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UHUGEINT:
    case LogicalTypeId::DECIMAL:
      return 1700;
    case LogicalTypeId::FLOAT:
      return 700;
    case LogicalTypeId::DOUBLE:
      return 701;
    case LogicalTypeId::BLOB:
      return 17;
    case LogicalTypeId::BIT:
      return 1562;
    case LogicalTypeId::DATE:
      return 1082;
    case LogicalTypeId::TIME:
    case LogicalTypeId::TIME_NS:
      return 1083;
    case LogicalTypeId::TIME_TZ:
      return 1266;
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
    case LogicalTypeId::TIMESTAMP_NS:
      return 1114;
    case LogicalTypeId::TIMESTAMP_TZ:
      return 1184;
    case LogicalTypeId::INTERVAL:
      return 1186;
    case LogicalTypeId::UUID:
      return 2950;
    case LogicalTypeId::STRUCT:
    case LogicalTypeId::MAP:
    case LogicalTypeId::UNION:
      return 114;
    default:
      return 25;
  }
}

}  // namespace

PgType PgTypeOf(const LogicalType& type) {
  if (type.id() == LogicalTypeId::LIST || type.id() == LogicalTypeId::ARRAY) {
    const LogicalType* element = &type;
    while (true) {
      if (element->id() == LogicalTypeId::LIST) {
        element = &duckdb::ListType::GetChildType(*element);
      } else if (element->id() == LogicalTypeId::ARRAY) {
        element = &duckdb::ArrayType::GetChildType(*element);
      } else {
        break;
      }
    }
    auto inner = PgTypeOf(*element);
    return {ArrayOid(inner.oid), -1, inner.modifier};
  }
  PgType out;
  out.oid = OidOf(type);
  if (auto* known = Find(out.oid)) out.bytes = known->bytes;
  if (type.id() == LogicalTypeId::DECIMAL) {
    out.modifier = int32_t(duckdb::DecimalType::GetWidth(type)) << 16 | duckdb::DecimalType::GetScale(type);
    out.modifier += 4;
  }
  return out;
}

std::string PgTypeName(uint32_t oid) {
  if (auto* known = Find(oid)) return known->name;
  if (auto element = ElementOid(oid)) return PgTypeName(element) + "[]";
  return "unknown";
}

LogicalType TypeOfOid(uint32_t oid) {
  if (auto element = ElementOid(oid)) {
    auto type = TypeOfOid(element);
    return type.id() == LogicalTypeId::SQLNULL ? type : LogicalType::LIST(type);
  }
  switch (oid) {
    case 16:
      return LogicalType::BOOLEAN;
    case 17:
      return LogicalType::BLOB;
    case 20:
      return LogicalType::BIGINT;
    case 21:
      return LogicalType::SMALLINT;
    case 23:
      return LogicalType::INTEGER;
    case 26:
    case 2205:
      return LogicalType::BIGINT;
    case 114:
    case 3802:
      return LogicalType::JSON();
    case 700:
      return LogicalType::FLOAT;
    case 701:
      return LogicalType::DOUBLE;
    case 18:
    case 19:
    case 25:
    case 1042:
    case 1043:
      return LogicalType::VARCHAR;
    case 1082:
      return LogicalType::DATE;
    case 1083:
      return LogicalType::TIME;
    case 1114:
      return LogicalType::TIMESTAMP;
    case 1184:
      return LogicalType::TIMESTAMP_TZ;
    case 1186:
      return LogicalType::INTERVAL;
    case 1266:
      return LogicalType::TIME_TZ;
    case 1562:
      return LogicalType::BIT;
    case 1700:
      return LogicalType::DECIMAL(38, 10);
    case 2950:
      return LogicalType::UUID;
    default:
      return LogicalType::SQLNULL;
  }
}

uint32_t ElementOid(uint32_t array_oid) {
  for (auto& t : kTypes) {
    if (t.array_oid == array_oid) return t.oid;
  }
  return 0;
}

uint32_t ArrayOid(uint32_t element_oid) {
  auto* known = Find(element_oid);
  return known ? known->array_oid : 1009;
}

bool IsJson(const LogicalType& type) {
  if (type.id() != LogicalTypeId::VARCHAR || !type.HasAlias()) return false;
  auto oid = OidOf(type);
  return oid == 114 || oid == 3802;
}

}  // namespace tidewater::pgwire
