#include "tidewater/lake/parquet_writer.h"
#include <gtest/gtest.h>
#include "tidewater/base/clock.h"
#include "tidewater/iceberg/values.h"
#include "tidewater/lake/duck.h"
#include "tidewater/lake/types.h"

namespace tidewater::lake {
namespace {

using duckdb::Value;

std::string Bound(const iceberg::ColumnBounds& bounds, int id) {
  for (auto& [field, value] : bounds)
    if (field == id) return value;
  return "absent";
}
int64_t Count(const iceberg::ColumnCounts& counts, int id) {
  for (auto& [field, value] : counts)
    if (field == id) return value;
  return -1;
}

TEST(ParquetFile, MetricsOfEveryType) {
  auto list = LogicalType::LIST(LogicalType::INTEGER);
  std::vector<FileColumn> columns = {
      {"b", LogicalType::BOOLEAN, 1, {}},
      {"i", LogicalType::INTEGER, 2, {}},
      {"l", LogicalType::BIGINT, 3, {}},
      {"d9", LogicalType::DECIMAL(4, 2), 4, {}},
      {"d18", LogicalType::DECIMAL(18, 4), 5, {}},
      {"d38", LogicalType::DECIMAL(38, 10), 6, {}},
      {"s", LogicalType::VARCHAR, 7, {}},
      {"bin", LogicalType::BLOB, 8, {}},
      {"u", LogicalType::UUID, 9, {}},
      {"dt", LogicalType::DATE, 10, {}},
      {"ts", LogicalType::TIMESTAMP_TZ, 11, {}},
      {"f", LogicalType::DOUBLE, 12, {}},
      {"nulls", LogicalType::INTEGER, 13, {}},
      {"list", list, 14, {{"element", LogicalType::INTEGER, 15, {}}}},
  };
  Types types;
  for (auto& c : columns) types.push_back(c.type);
  ParquetOptions options;
  options.row_group_rows = 2048;
  auto file = ParquetFile::Create(columns, options);
  ASSERT_TRUE(file.has_value()) << file.error().ToString();
  for (int c = 0; c < 5; c++) {
    DataChunk chunk;
    chunk.Initialize(duckdb::Allocator::DefaultAllocator(), types);
    for (int i = 0; i < 1000; i++) {
      int n = c * 1000 + i - 2500;
      chunk.SetValue(0, i, Value::BOOLEAN(n > 0));
      chunk.SetValue(1, i, Value::INTEGER(n));
      chunk.SetValue(2, i, i % 10 ? Value::BIGINT(int64_t(n) << 32) : Value(LogicalType::BIGINT));
      chunk.SetValue(3, i, Value::DECIMAL(int16_t(n), 4, 2));
      chunk.SetValue(4, i, Value::DECIMAL(int64_t(n) * 1000, 18, 4));
      chunk.SetValue(5, i,
                     Value::DECIMAL(duckdb::hugeint_t(n) * duckdb::hugeint_t(int64_t(10'000'000'000'000)), 38, 10));
      chunk.SetValue(6, i, Value(std::string("a string of some length ") + std::to_string(n + 5000)));
      chunk.SetValue(7, i, Value::BLOB(duckdb::const_data_ptr_cast(&n), 4));
      chunk.SetValue(8, i, Value::UUID(duckdb::hugeint_t(n)));
      chunk.SetValue(9, i, Value::DATE(duckdb::date_t(n)));
      chunk.SetValue(10, i, Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(n * 1'000'000ll)));
      chunk.SetValue(11, i, Value::DOUBLE(n / 2.0));
      chunk.SetValue(12, i, Value(LogicalType::INTEGER));
      chunk.SetValue(13, i, Value::LIST(LogicalType::INTEGER, {Value::INTEGER(n), Value(LogicalType::INTEGER)}));
    }
    chunk.SetCardinality(1000);
    ASSERT_TRUE((*file)->Append(chunk).has_value());
  }
  auto finished = (*file)->Finish();
  ASSERT_TRUE(finished.has_value()) << finished.error().ToString();
  auto& f = finished->file;
  EXPECT_EQ(f.record_count, 5000);
  EXPECT_EQ(f.file_size_bytes, int64_t(finished->bytes.size()));
  EXPECT_EQ(f.split_offsets.size(), 2u);  // 3,000 rows, 2,000 rows
  EXPECT_EQ(f.split_offsets[0], 4);
  using namespace iceberg;
  EXPECT_EQ(Bound(f.lower_bounds, 1), BoolValue(false));
  EXPECT_EQ(Bound(f.upper_bounds, 1), BoolValue(true));
  EXPECT_EQ(Bound(f.lower_bounds, 2), IntValue(-2500));
  EXPECT_EQ(Bound(f.upper_bounds, 2), IntValue(2499));
  EXPECT_EQ(Bound(f.lower_bounds, 3), LongValue(int64_t(-2499) << 32));
  EXPECT_EQ(Count(f.null_value_counts, 3), 500);
  EXPECT_EQ(Count(f.value_counts, 3), 5000);
  EXPECT_EQ(Bound(f.lower_bounds, 4), DecimalValue(-2500));
  EXPECT_EQ(Bound(f.upper_bounds, 5), DecimalValue(2499000));
  EXPECT_EQ(Bound(f.lower_bounds, 6), DecimalValue(__int128(-2500) * 10'000'000'000'000));
  EXPECT_EQ(Bound(f.upper_bounds, 6), DecimalValue(__int128(2499) * 10'000'000'000'000));
  EXPECT_EQ(Bound(f.lower_bounds, 7), "a string of some");
  EXPECT_EQ(Bound(f.upper_bounds, 7), "a string of somf");
  EXPECT_EQ(Bound(f.upper_bounds, 8).size(), 4u);
  EXPECT_EQ(Bound(f.lower_bounds, 9).size(), 16u);
  EXPECT_EQ(Bound(f.lower_bounds, 10), IntValue(-2500));
  EXPECT_EQ(Bound(f.upper_bounds, 11), LongValue(2499'000'000));
  EXPECT_EQ(Bound(f.lower_bounds, 12), DoubleValue(-1250));
  EXPECT_EQ(Bound(f.lower_bounds, 13), "absent");
  EXPECT_EQ(Count(f.null_value_counts, 13), 5000);
  EXPECT_EQ(Bound(f.lower_bounds, 15), "absent");
  EXPECT_GT(Count(f.column_sizes, 15), 0);

  MemoryFile memory(finished->bytes);
  auto con = Connect();
  auto result = con->Query(
      "SELECT count(*), sum(i), count(l), max(s), sum(list[1]), min(file_row_number), max(file_row_number) FROM "
      "read_parquet('" +
      memory.path() + "', file_row_number = true)");
  ASSERT_FALSE(result->HasError()) << result->GetError();
  EXPECT_EQ(result->GetValue(0, 0).GetValue<int64_t>(), 5000);
  EXPECT_EQ(result->GetValue(1, 0).GetValue<int64_t>(), -2500);
  EXPECT_EQ(result->GetValue(2, 0).GetValue<int64_t>(), 4500);
  EXPECT_EQ(result->GetValue(4, 0).GetValue<int64_t>(), -2500);
  EXPECT_EQ(result->GetValue(6, 0).GetValue<int64_t>(), 4999);
  result = con->Query("SELECT list(field_id ORDER BY field_id) FILTER (field_id IS NOT NULL) FROM parquet_schema('" +
                      memory.path() + "')");
  ASSERT_FALSE(result->HasError()) << result->GetError();
  EXPECT_EQ(result->GetValue(0, 0).ToString(), "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]");
}

TEST(ParquetFile, NoRows) {
  auto file = ParquetFile::Create({{"i", LogicalType::INTEGER, 1, {}}});
  ASSERT_TRUE(file.has_value());
  auto finished = (*file)->Finish();
  ASSERT_TRUE(finished.has_value()) << finished.error().ToString();
  EXPECT_EQ(finished->file.record_count, 0);
}

/// What the initial load costs: 3,000,000 rows of bigint, int, numeric(12,2), text, timestamptz.
TEST(ParquetFile, SpeedOfALoad) {
  std::vector<FileColumn> columns = {{"id", LogicalType::BIGINT, 1, {}},
                                     {"n", LogicalType::INTEGER, 2, {}},
                                     {"amount", LogicalType::DECIMAL(12, 2), 3, {}},
                                     {"note", LogicalType::VARCHAR, 4, {}},
                                     {"at", LogicalType::TIMESTAMP_TZ, 5, {}}};
  Types types;
  for (auto& c : columns) types.push_back(c.type);
  auto made = ParquetFile::Create(columns);
  ASSERT_TRUE(made.has_value());
  auto& file = **made;
  constexpr int64_t kRows = 500'000;
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), types);
  auto started = ProcessCpuMicros();
  int64_t filling = 0;
  for (int64_t at = 0; at < kRows; at += STANDARD_VECTOR_SIZE) {
    auto fill_started = ProcessCpuMicros();
    size_t n = std::min<int64_t>(STANDARD_VECTOR_SIZE, kRows - at);
    chunk.Reset();
    for (size_t i = 0; i < n; i++) {
      int64_t id = at + i;
      duckdb::FlatVector::GetData<int64_t>(chunk.data[0])[i] = id;
      duckdb::FlatVector::GetData<int32_t>(chunk.data[1])[i] = id * 7919 % 100000;
      duckdb::FlatVector::GetData<int64_t>(chunk.data[2])[i] = id * 104729 % 10000000;
      duckdb::FlatVector::GetData<duckdb::string_t>(chunk.data[3])[i] =
          duckdb::StringVector::AddString(chunk.data[3], fmt::format("note number {} of the load", id * 31 % 1000000));
      duckdb::FlatVector::GetData<int64_t>(chunk.data[4])[i] = 1'700'000'000'000'000 + id * 1'000'003;
    }
    chunk.SetCardinality(n);
    filling += ProcessCpuMicros() - fill_started;
    ASSERT_TRUE(file.Append(chunk).has_value());
  }
  auto finished = file.Finish();
  ASSERT_TRUE(finished.has_value());
  auto cpu = ProcessCpuMicros() - started - filling;
  fmt::print("{} rows: {} ms of CPU, {:.0f} rows per CPU-second, {} bytes\n", kRows, cpu / 1000, kRows * 1e6 / cpu,
             finished->bytes.size());
}

}  // namespace
}  // namespace tidewater::lake
