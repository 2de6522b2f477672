// PostgreSQL's numbers and names for types. Inside sql/ only; the wire protocol has its own table.
#pragma once
#include <cstdint>
#include <string>
#include <vector>
#include "tidewater/catalog/catalog.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::sql {

struct PgType {
  int64_t oid;
  const char* name;
  int length;
  bool by_value;
  char kind, category;
  bool preferred;
  int64_t element, array, collation;
  const char* format;  ///< as format_type says it
};
const std::vector<PgType>& PgTypes();
const PgType* FindPgType(int64_t oid);

struct PgColumnType {
  int64_t oid;
  int32_t modifier;
};
/// The type that a client sees for a column of that type. Types without counterpart are text.
PgColumnType ToPg(const LogicalType& type);
/// format_type(oid, modifier).
std::string FormatType(int64_t oid, int32_t modifier);

/// Object ids above PostgreSQL's own: relations, their primary key's index and its constraint, and the schemas.
inline constexpr int64_t kFirstOid = 16384, kIndexOids = 1'000'000'000, kConstraintOids = 1'500'000'000;
inline constexpr int64_t kPgCatalogOid = 11, kPublicOid = 2200, kInformationSchemaOid = 13000, kOwnerOid = 10,
                         kDatabaseOid = 16000;
inline int64_t OidOf(const catalog::Object& o) { return kFirstOid + o.id; }

}  // namespace tidewater::sql
