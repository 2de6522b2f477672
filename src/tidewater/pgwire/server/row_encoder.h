// Chunks as DataRow messages, in text or binary by column.
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/pgwire/protocol/backend.h"
#include "tidewater/pgwire/server/time_zone.h"
#include "tidewater/types/schema.h"

namespace tidewater::pgwire {

/// RowDescription of columns; `formats` as Bind gives them: empty, one for all, or one per column.
std::vector<ColumnDescription> DescribeColumns(const std::vector<ColumnDef>& columns,
                                               const std::vector<int16_t>& formats);

/// Appends one DataRow per row in [begin, end). 54000 when a row is longer than a message can be, 2202E for a ragged
/// nested list in binary; rows before the failing one were appended.
Status EncodeRows(DataChunk& chunk, size_t begin, size_t end, const std::vector<int16_t>& formats, const TimeZone& zone,
                  std::string& out);

/// One value that is not NULL, as text; for arrays, json and tests.
void AppendValueText(std::string& out, const duckdb::Value& value, const TimeZone& zone);

}  // namespace tidewater::pgwire
