#include <gtest/gtest.h>
#include "tidewater/types/delta_batch.h"
#include "tidewater/types/schema.h"

namespace tidewater {
TEST(Types, TextRoundTrip) {
  for (const LogicalType& t : std::vector<LogicalType>{
           LogicalType::BIGINT, LogicalType::DECIMAL(12, 2), LogicalType::TIMESTAMP_TZ, LogicalType::TIMESTAMP,
           LogicalType::VARCHAR, LogicalType::LIST(LogicalType::LIST(LogicalType::DECIMAL(38, 10))),
           LogicalType::JSON(), LogicalType::UUID,
           LogicalType::STRUCT({{"a b", LogicalType::INTEGER}, {"c", LogicalType::LIST(LogicalType::TIME_TZ)}}),
           LogicalType::HUGEINT, LogicalType::MAP(LogicalType::VARCHAR, LogicalType::DOUBLE),
           LogicalType::ARRAY(LogicalType::FLOAT, 3), LogicalType::INTERVAL})
    EXPECT_EQ(TypeFromText(TypeToText(t)), t) << TypeToText(t);
  EXPECT_THROW(TypeFromText("BIGINT["), std::exception);
  EXPECT_THROW(TypeFromText("nonsense"), std::exception);
}

TEST(DeltaBatch, ConsolidateCancels) {
  DeltaBatch b;
  b.types = {LogicalType::INTEGER, LogicalType::VARCHAR};
  b.AppendRow({duckdb::Value::INTEGER(1), duckdb::Value("x")});
  b.AppendRow({duckdb::Value::INTEGER(2), duckdb::Value(LogicalType::VARCHAR)}, 2);
  b.AppendRow({duckdb::Value::INTEGER(1), duckdb::Value("x")}, -1);
  b.AppendRow({duckdb::Value::INTEGER(2), duckdb::Value(LogicalType::VARCHAR)});
  auto c = Consolidate(b);
  ASSERT_EQ(c.rows(), 1u);
  EXPECT_EQ(c.chunks[0].weight(0), 3);
}

TEST(DeltaBatch, MemoryOfCopies) {
  using duckdb::Value;
  auto bytes = [](Types types, size_t rows, const duckdb::vector<Value>& row) {
    DeltaBatch b;
    b.types = std::move(types);
    for (size_t i = 0; i < rows; i++) b.AppendRow(row);
    return MemoryBytes(Copy(b));
  };
  auto expect = [](uint64_t bytes, uint64_t least) {
    EXPECT_GE(bytes, least);
    EXPECT_LE(bytes, least + least / 4 + 3000);
  };
  expect(bytes({LogicalType::BIGINT, LogicalType::BIGINT}, 2000, {Value::BIGINT(1), Value::BIGINT(2)}), 2000 * 16);
  expect(bytes({LogicalType::VARCHAR}, 1000, {Value(std::string(1000, 'x'))}), 1000 * 1016);
  auto list = Value::LIST(LogicalType::VARCHAR, std::vector<Value>(10, Value(std::string(100, 'x'))));
  EXPECT_GE(bytes({LogicalType::LIST(LogicalType::VARCHAR)}, 100, {list}), 100u * 10 * 116);
  auto point = Value::STRUCT({{"x", Value::DOUBLE(1)}, {"y", Value::DOUBLE(2)}});
  expect(bytes({point.type()}, 2000, {point}), 2000 * 16);
  // One row does not hold the room of a whole vector.
  EXPECT_LE(bytes({LogicalType::BIGINT, LogicalType::VARCHAR}, 1, {Value::BIGINT(1), Value("short")}), 3000u);
}
}  // namespace tidewater
