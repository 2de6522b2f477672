// Which PostgreSQL type a column or parameter has on the wire (pg_type.dat of PostgreSQL 15).
#pragma once
#include <cstdint>
#include <string>
#include "tidewater/types/delta_batch.h"

namespace tidewater::pgwire {

struct PgType {
  uint32_t oid = 25;
  int16_t bytes = -1;  ///< pg_type.typlen
  int32_t modifier = -1;
};

/// Total: types without counterpart are text. Unsigned integers go one width up, the 128-bit ones and ubigint to
/// numeric; lists of any depth are arrays of their element's type; structs, maps and unions are json.
PgType PgTypeOf(const LogicalType& type);
/// The type's name as PostgreSQL prints it in messages: "integer", "timestamp with time zone".
std::string PgTypeName(uint32_t oid);
/// What a parameter declared with this OID is to the engine; SQLNULL (unknown) for 0, 705 and OIDs without counterpart.
LogicalType TypeOfOid(uint32_t oid);
/// Element type of an array type, 0 for others; and the other way round.
uint32_t ElementOid(uint32_t array_oid);
uint32_t ArrayOid(uint32_t element_oid);
/// VARCHAR by storage, named JSON or jsonb.
bool IsJson(const LogicalType& type);

}  // namespace tidewater::pgwire
