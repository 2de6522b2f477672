// A bound parameter's bytes as a value of the engine.
#pragma once
#include <string_view>
#include "tidewater/base/result.h"
#include "tidewater/pgwire/server/time_zone.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::pgwire {

/// `oid`: how the client wrote it (what it declared, or what ParameterDescription told it); the value comes out as
/// `target`. 22P02 for text that the type cannot read, 22P03 for malformed binary, 22003 out of range, 22021 for broken
/// UTF-8, 0A000 for a binary form that is not known.
Result<duckdb::Value> DecodeParameter(uint32_t oid, bool binary, std::string_view bytes, const LogicalType& target,
                                      const TimeZone& zone);

}  // namespace tidewater::pgwire
