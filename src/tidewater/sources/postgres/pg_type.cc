#include "tidewater/sources/postgres/pg_type.h"

namespace tidewater::postgres {
namespace {
constexpr int kMaxDomainDepth = 32;
}

uint32_t PgTypes::Base(uint32_t oid, int32_t& typmod) const {
  for (int depth = 0; depth < kMaxDomainDepth; depth++) {
    auto* t = Find(oid);
    if (!t) return oid < 16384 ? oid : 0;
    if (t->type != 'd') return oid;
    oid = t->base;
    typmod = t->base_typmod;
  }
  return 0;
}

PgKind PgTypes::Kind(uint32_t oid) const {
  int32_t typmod = -1;
  oid = Base(oid, typmod);
  switch (oid) {
    case 16:
      return PgKind::kBool;
    case 17:
      return PgKind::kBytea;
    case 18:
    case 19:
    case 25:
    case 114:
    case 142:
    case 1042:
    case 1043:
      return PgKind::kText;
    case 20:
      return PgKind::kInt8;
    case 21:
      return PgKind::kInt2;
    case 23:
      return PgKind::kInt4;
    case 26:
      return PgKind::kOid;
    case 700:
      return PgKind::kFloat4;
    case 701:
      return PgKind::kFloat8;
    case 1082:
      return PgKind::kDate;
    case 1083:
      return PgKind::kTime;
    case 1114:
      return PgKind::kTimestamp;
    case 1184:
      return PgKind::kTimestampTz;
    case 1186:
      return PgKind::kInterval;
    case 1266:
      return PgKind::kTimeTz;
    case 1700:
      return PgKind::kNumeric;
    case 2950:
      return PgKind::kUuid;
    case 3802:
      return PgKind::kJsonb;
    default:
      break;
  }
  auto* t = Find(oid);
  if (!t) return PgKind::kOther;
  if (t->type == 'e' || (t->type == 'b' && t->name == "citext")) return PgKind::kText;
  if (t->category == 'A' && t->element) return PgKind::kArray;
  return PgKind::kOther;
}

uint32_t PgTypes::Element(uint32_t oid) const {
  int32_t typmod = -1;
  auto* t = Find(Base(oid, typmod));
  return t && t->category == 'A' ? t->element : 0;
}

LogicalType PgTypes::Natural(uint32_t oid, int32_t typmod) const {
  uint32_t base = Base(oid, typmod);
  switch (Kind(base)) {
    case PgKind::kBool:
      return LogicalType::BOOLEAN;
    case PgKind::kInt2:
      return LogicalType::SMALLINT;
    case PgKind::kInt4:
      return LogicalType::INTEGER;
    case PgKind::kInt8:
    case PgKind::kOid:
      return LogicalType::BIGINT;
    case PgKind::kFloat4:
      return LogicalType::FLOAT;
    case PgKind::kFloat8:
      return LogicalType::DOUBLE;
    case PgKind::kNumeric: {
      if (typmod < 4) return LogicalType::DECIMAL(38, 10);
      int precision = (typmod - 4) >> 16 & 0xffff;
      int scale = (((typmod - 4) & 0x7ff) ^ 1024) - 1024;
      if (scale < 0) precision -= scale, scale = 0;
      precision = std::min(std::max(precision, scale), 38);
      return LogicalType::DECIMAL(uint8_t(precision), uint8_t(std::min(scale, 38)));
    }
    case PgKind::kBytea:
      return LogicalType::BLOB;
    case PgKind::kDate:
      return LogicalType::DATE;
    case PgKind::kTime:
      return LogicalType::TIME;
    case PgKind::kTimeTz:
      return LogicalType::TIME_TZ;
    case PgKind::kTimestamp:
      return LogicalType::TIMESTAMP;
    case PgKind::kTimestampTz:
      return LogicalType::TIMESTAMP_TZ;
    case PgKind::kInterval:
      return LogicalType::INTERVAL;
    case PgKind::kUuid:
      return LogicalType::UUID;
    case PgKind::kArray:
      return LogicalType::LIST(Natural(Element(base), typmod));
    case PgKind::kText:
    case PgKind::kJsonb:
    case PgKind::kOther:
      return LogicalType::VARCHAR;
  }
  return LogicalType::VARCHAR;
}

}  // namespace tidewater::postgres
