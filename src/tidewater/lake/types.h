// Which DuckDB type stands for which Iceberg type, in both directions.
#pragma once
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/iceberg/schema.h"
#include "tidewater/lake/parquet_writer.h"
#include "tidewater/types/schema.h"

namespace tidewater::lake {

/// The type in which a column of a view is written: the type itself where Iceberg has it, else the next wider one
/// (smallint as integer, unsigned integers as the next larger signed one, ubigint as decimal(20,0), hugeint as
/// decimal(38,0), enum and JSON as text, timestamp(0) and (3) as microseconds, fixed-size arrays as lists).
/// kUnsupported, with a hint, where nothing fits: intervals, time with time zone, bit strings, unions, and nanoseconds
/// below format version 3.
Result<LogicalType> StorageType(const LogicalType& type, int format_version);

/// A type that StorageType() returned; ids of nested fields are 0.
Result<iceberg::Type> ToIcebergType(const LogicalType& storage_type);
/// The type in which a column of a table is read and written. kUnsupported for variant, geometry, geography, unknown.
Result<LogicalType> FromIcebergType(const iceberg::Type& type);

/// The schema of a new table for the columns of a view; ids are 0. Primary key columns (`key`, positions) that cannot
/// be null become required, and the identifier fields if all of them are and Iceberg allows their types.
Result<iceberg::Schema> NewTableSchema(const Schema& view, const std::vector<uint32_t>& key, int format_version);

/// The columns of a data file of that schema, nested ids included.
Result<std::vector<FileColumn>> FileColumns(const iceberg::Schema& schema);

/// Whether every value of a storage type fits a table's type exactly.
bool Widens(const LogicalType& from, const LogicalType& to);

}  // namespace tidewater::lake
