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
}  // namespace tidewater
