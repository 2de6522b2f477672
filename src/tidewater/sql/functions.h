// Functions: what PostgreSQL (and, where Nexmark needs it, Flink) says differently from DuckDB. Inside sql/ only.
//
// Registered into the instance, so that queries and views use the same. To add one: write it in the file of its kind,
// register it there, and give it cases in functions_test.cc.
#pragma once
#include "duckdb/function/function.hpp"
#include "duckdb/main/extension/extension_loader.hpp"
#include "tidewater/catalog/catalog.h"

namespace tidewater::sql {

/// Bind data of a function whose result type does not follow from the types of the arguments it ends up with. The plan
/// encoding keeps the types it was bound with and binds it with them again.
struct BoundAs : duckdb::FunctionData {
  duckdb::vector<duckdb::LogicalType> types;
  duckdb::unique_ptr<FunctionData> Copy() const override {
    auto copy = duckdb::make_uniq<BoundAs>();
    copy->types = types;
    return copy;
  }
  bool Equals(const FunctionData& other) const override { return types == other.Cast<BoundAs>().types; }
};

/// Division, remainder, averages and sums with PostgreSQL's types and errors (arithmetic.cc).
///   integer / integer truncates and keeps the wider type; x / 0 and x % 0 are 22012.
///   numeric +, -, * numeric keep every digit up to 38 (DuckDB stops at 18), then 22003.
///   numeric / numeric is DECIMAL(38, max(16, scales)), rounded half away from zero.
///   sum(smallint, integer) is BIGINT, sum(bigint) DECIMAL(38,0), avg of integers and decimals DECIMAL(38, max(16,
///   scale)).
void RegisterArithmetic(duckdb::ExtensionLoader& loader);

/// Text to integers and numerics (casts.cc): only what PostgreSQL 15 reads as one (22P02), 22003 where it does not fit.
void RegisterCasts(duckdb::ExtensionLoader& loader);

/// Regular expressions, splitting and formatting (strings.cc): ~ ~* !~ !~*, regexp_match, regexp_extract (Flink: NULL
/// without a match), split_index (Flink), date_format (Flink), to_char of timestamps, quote_ident, quote_literal, ...
void RegisterStrings(duckdb::ExtensionLoader& loader);

/// Functions that answer questions about the session and the catalog (system_functions.cc).
void RegisterSystemFunctions(duckdb::ExtensionLoader& loader, catalog::Catalog& catalog, const std::string& database,
                             const std::string& version);

}  // namespace tidewater::sql
