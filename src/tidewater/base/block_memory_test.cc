#include "tidewater/base/block_memory.h"
#include <atomic>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>
#include <unistd.h>
#include <vector>
#include <gtest/gtest.h>

namespace tidewater {
namespace {

struct BlockMemoryTest : testing::Test {
  void SetUp() override {
    directory = (std::filesystem::temp_directory_path() / ("tidewater_blocks_" + std::to_string(getpid()))).string();
    std::filesystem::create_directories(directory);
  }
  void TearDown() override {
    ASSERT_TRUE(memory.SetBudget(0, ""));
    EXPECT_TRUE(std::filesystem::is_empty(directory)) << "the scratch file has a name";
    std::filesystem::remove_all(directory);
  }
  BlockMemory& memory = BlockMemory::Get();
  std::string directory;
};

constexpr size_t kBytes = 300'000;

void Fill(uint8_t* at, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t i = 0; i + 8 <= kBytes; i += 8) {
    uint64_t v = random();
    std::memcpy(at + i, &v, 8);
  }
}
bool Holds(const uint8_t* at, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t i = 0; i + 8 <= kBytes; i += 8) {
    uint64_t v = random();
    if (std::memcmp(at + i, &v, 8) != 0) return false;
  }
  return true;
}

/// A large extent's place goes back to the system; what comes there next is smaller, and something else lies behind it.
TEST_F(BlockMemoryTest, PlacesOfLargeExtentsAreTakenByOthers) {
  ASSERT_TRUE(memory.SetBudget(uint64_t{1} << 40, directory));
  constexpr size_t kLarge = size_t{48} << 20, kPiece = kLarge / 4;
  auto* kept = memory.Allocate(kBytes);  // so that the queue keeps its stale entries
  memory.Seal(kept, kBytes);
  auto* also = memory.Allocate(kBytes);
  memory.Seal(also, kBytes);
  auto* large = memory.Allocate(kLarge);
  memory.Seal(large, kLarge);
  memory.Free(large, kLarge);
  std::vector<uint8_t*> pieces;
  bool taken = false;
  for (int i = 0; i < 16 && !taken; i++) {
    pieces.push_back(memory.Allocate(kPiece));
    taken = pieces.back() == large;
  }
  EXPECT_TRUE(taken);
  memory.Seal(pieces.back(), kPiece);
  memory.Evict(~uint64_t{0});
  // The others are not sealed: they can be written.
  for (size_t i = 0; i + 1 < pieces.size(); i++) std::memset(pieces[i], int(i), kPiece);
  for (auto* at : pieces) memory.Free(at, kPiece);
  memory.Free(kept, kBytes);
  memory.Free(also, kBytes);
}

TEST_F(BlockMemoryTest, EvictedExtentsReadTheSame) {
  ASSERT_TRUE(memory.SetBudget(uint64_t{1} << 40, directory));
  auto before = memory.Stats();
  std::vector<uint8_t*> extents;
  for (uint64_t i = 0; i < 20; i++) {
    extents.push_back(memory.Allocate(kBytes));
    Fill(extents[i], i);
    if (i < 15) memory.Seal(extents[i], kBytes);
  }
  auto evicted = memory.Evict(~uint64_t{0});
  EXPECT_GE(evicted, 15 * kBytes);
  EXPECT_EQ(memory.Stats().spilled - before.spilled, evicted);
  for (uint64_t i = 0; i < 20; i++) EXPECT_TRUE(Holds(extents[i], i)) << i;
  EXPECT_EQ(memory.Evict(~uint64_t{0}), 0u) << "what is not sealed stays";
  // Freed places are used again, empty of the file's pages.
  memory.Free(extents[3], kBytes);
  auto* again = memory.Allocate(kBytes);
  Fill(again, 99);
  EXPECT_TRUE(Holds(again, 99));
  EXPECT_TRUE(Holds(extents[2], 2));
  EXPECT_TRUE(Holds(extents[4], 4));
  extents[3] = again;
  for (auto* e : extents) memory.Free(e, kBytes);
  EXPECT_EQ(memory.Stats().allocated, before.allocated);
  EXPECT_EQ(memory.Stats().spilled, before.spilled);
}

TEST_F(BlockMemoryTest, ReadersGoOnWhileExtentsLeave) {
  ASSERT_TRUE(memory.SetBudget(uint64_t{1} << 40, directory));
  std::vector<uint8_t*> extents;
  for (uint64_t i = 0; i < 64; i++) {
    extents.push_back(memory.Allocate(kBytes));
    Fill(extents[i], i);
    memory.Seal(extents[i], kBytes);
  }
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, read{0};
  std::thread reader([&] {
    while (!stop)
      for (uint64_t i = 0; i < 64; i++, read++) wrong += !Holds(extents[i], i);
  });
  while (read < 64) std::this_thread::yield();
  while (memory.Evict(1) > 0) std::this_thread::yield();
  int at = read;
  while (read < at + 64) std::this_thread::yield();
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0);
  for (auto* e : extents) memory.Free(e, kBytes);
}

TEST_F(BlockMemoryTest, ADirectoryThatCannotBeMadeIsTold) {
  auto status = memory.SetBudget(uint64_t{1} << 40, "/proc/no_such_place");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("/proc/no_such_place"), std::string::npos);
}

TEST(MachineMemory, IsThere) { EXPECT_GT(MachineMemoryBytes(), uint64_t{64} << 20); }

}  // namespace
}  // namespace tidewater
