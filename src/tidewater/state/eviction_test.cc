// Rows leave memory under a budget and are found again.
#include <filesystem>
#include <fstream>
#include <random>
#include <unistd.h>
#include <gtest/gtest.h>
#include "tidewater/base/block_memory.h"
#include "tidewater/state/arrangement.h"

namespace tidewater::state {
namespace {

uint64_t Resident() {
  std::ifstream in("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

TEST(Eviction, RowsBeyondTheBudgetLeaveMemoryAndAreFound) {
  auto directory =
      (std::filesystem::temp_directory_path() / ("tidewater_eviction_" + std::to_string(getpid()))).string();
  auto& memory = BlockMemory::Get();
  constexpr uint64_t kRoom = 64 << 20;
  uint64_t budget = Resident() + kRoom;
  ASSERT_TRUE(memory.SetBudget(budget, directory));
  Types types{LogicalType::BIGINT, LogicalType::VARCHAR};
  Arrangement a(types, {0});
  constexpr uint64_t kRows = 2'000'000;  // 100 bytes each, index and all
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), types);
  auto text = [](uint64_t i) { return "the value of row number " + std::to_string(i) + ", some bytes of it"; };
  std::vector<uint64_t> hashes;
  uint64_t most = 0;
  for (uint64_t i = 0; i < kRows; i += STANDARD_VECTOR_SIZE) {
    chunk.Reset();
    auto n = uint32_t(std::min<uint64_t>(STANDARD_VECTOR_SIZE, kRows - i));
    for (uint32_t r = 0; r < n; r++) {
      duckdb::FlatVector::GetData<int64_t>(chunk.data[0])[r] = int64_t(i + r);
      duckdb::FlatVector::GetData<duckdb::string_t>(chunk.data[1])[r] =
          duckdb::StringVector::AddString(chunk.data[1], text(i + r));
    }
    chunk.SetCardinality(n);
    HashColumns(chunk, {0}, hashes);
    a.Insert(chunk, nullptr, n, nullptr, hashes, 1);
    if (i % (64 * STANDARD_VECTOR_SIZE) == 0) most = std::max(most, Resident());
  }
  EXPECT_GT(a.Bytes(), 2 * kRoom);
  EXPECT_GT(memory.Stats().spilled, kRoom / 2);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep what is freed
  EXPECT_LT(most, budget + kRoom / 2);
#endif
  std::mt19937_64 random(7);
  for (int probe = 0; probe < 2000; probe++) {
    uint64_t i = random() % kRows;
    chunk.Reset();
    chunk.SetValue(0, 0, duckdb::Value::BIGINT(int64_t(i)));
    chunk.SetCardinality(1);
    HashColumns(chunk, {0}, hashes);
    std::vector<duckdb::UnifiedVectorFormat> keys(1);
    chunk.data[0].ToUnifiedFormat(1, keys[0]);
    RowId id = a.Find(keys, 0, hashes[0]);
    ASSERT_NE(id, kNoRow) << i;
    duckdb::Vector v(LogicalType::VARCHAR, 1);
    a.store().Gather(1, &id, 1, v);
    ASSERT_EQ(v.GetValue(0).ToString(), text(i));
  }
  ASSERT_TRUE(memory.SetBudget(0, ""));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace tidewater::state
