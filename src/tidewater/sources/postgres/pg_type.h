// PostgreSQL's types: what they are on the wire, and their counterpart here.
#pragma once
#include <map>
#include <string>
#include "tidewater/types/delta_batch.h"

namespace tidewater::postgres {

/// How a value of a type looks in binary form; kOther only has its text form.
enum class PgKind {
  kBool,
  kInt2,
  kInt4,
  kInt8,
  kOid,
  kFloat4,
  kFloat8,
  kNumeric,
  kText,
  kJsonb,
  kBytea,
  kDate,
  kTime,
  kTimeTz,
  kTimestamp,
  kTimestampTz,
  kInterval,
  kUuid,
  kArray,
  kOther,
};

/// A row of pg_type, as far as needed.
struct PgType {
  uint32_t oid = 0;
  std::string name;
  char type = 'b';      ///< typtype: 'b' base, 'c' composite, 'd' domain, 'e' enum, 'r' range, 'm' multirange
  char category = 'U';  ///< typcategory: 'A' array
  uint32_t base = 0;    ///< of a domain
  int32_t base_typmod = -1;
  uint32_t element = 0;  ///< of an array
};

/// The types that were looked up, by oid. Domains are followed, to a depth.
class PgTypes {
 public:
  void Add(PgType type) { types_[type.oid] = std::move(type); }
  const PgType* Find(uint32_t oid) const {
    auto it = types_.find(oid);
    return it == types_.end() ? nullptr : &it->second;
  }
  /// The type under all domains; changes `typmod` to the domain's. 0 when a type is not known.
  uint32_t Base(uint32_t oid, int32_t& typmod) const;
  PgKind Kind(uint32_t oid) const;
  uint32_t Element(uint32_t oid) const;
  /// The counterpart: numeric(p,s) is DECIMAL(p,s), numeric DECIMAL(38,10), one-dimensional arrays LIST, what has no
  /// counterpart VARCHAR with PostgreSQL's text.
  LogicalType Natural(uint32_t oid, int32_t typmod) const;

 private:
  std::map<uint32_t, PgType> types_;
};

}  // namespace tidewater::postgres
