#include "tidewater/sinks/blackhole/blackhole.h"
#include <gtest/gtest.h>
#include "tidewater/sinks/api/sink.h"

namespace tidewater {
namespace {

TEST(Blackhole, CountsAndForgets) {
  RegisterBlackhole();
  auto connector = SinkRegistry::Get().Find("blackhole");
  ASSERT_TRUE(connector);
  EXPECT_TRUE((*connector)->validate({{"connector", "blackhole"}}, {}));
  auto bad = (*connector)->validate({{"connector", "blackhole"}, {"topic", "t"}}, {});
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("topic"), std::string::npos);

  auto sink = (*connector)->make({}).value();
  ASSERT_TRUE(sink->Start());
  DeltaBatch rows;
  rows.types = {LogicalType::BIGINT};
  for (int i = 0; i < 3; i++) rows.AppendRow({duckdb::Value::BIGINT(i)});
  sink->Append(1, std::move(rows));
  EXPECT_EQ(sink->GetStatus().log_rows, 3u);
  EXPECT_FALSE(sink->WaitCommitted(1, 1));
  sink->CheckpointDurable(1, 0);
  EXPECT_TRUE(sink->WaitCommitted(1, 1));
  EXPECT_EQ(sink->GetStatus().rows_written, 3u);
  EXPECT_EQ(sink->GetStatus().log_rows, 0u);
  // After a crash the engine hands over what was committed: it is not counted again.
  DeltaBatch again;
  again.types = {LogicalType::BIGINT};
  again.AppendRow({duckdb::Value::BIGINT(0)});
  sink->Append(1, std::move(again));
  EXPECT_EQ(sink->GetStatus().log_rows, 0u);
  sink->Stop();
  EXPECT_EQ(sink->GetStatus().state, SinkState::kStopped);
}

}  // namespace
}  // namespace tidewater
