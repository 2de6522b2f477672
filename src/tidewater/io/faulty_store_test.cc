#include "tidewater/io/faulty_store.h"
#include <gtest/gtest.h>
#include "tidewater/io/memory_store.h"

namespace tidewater::io {
namespace {

TEST(FaultyStoreTest, FailsOnce) {
  auto inner = NewMemoryStore();
  FaultyStore store(inner, 1, FaultyStore::Mode::kFail, 2);
  EXPECT_TRUE(store.Put("a", "1"));
  EXPECT_EQ(store.Put("b", "1").error().kind, ErrorKind::kUnavailable);
  EXPECT_FALSE(inner->Get("b"));
  EXPECT_TRUE(store.Put("b", "1"));
  EXPECT_EQ(store.writes(), 3u);
  EXPECT_FALSE(store.LocalRoot());
}

TEST(FaultyStoreTest, StaysDead) {
  int taken = 0;
  for (uint64_t seed = 0; seed < 32; seed++) {
    auto inner = NewMemoryStore();
    FaultyStore store(inner, seed, FaultyStore::Mode::kCrash, 2);
    EXPECT_TRUE(store.Put("a", "1"));
    EXPECT_FALSE(store.PutIfAbsent("b", "1"));
    EXPECT_FALSE(store.Get("a"));
    EXPECT_FALSE(store.Put("c", "1"));
    EXPECT_FALSE(inner->Get("c"));
    taken += inner->Get("b").has_value();
  }
  EXPECT_GT(taken, 5);
  EXPECT_LT(taken, 27);
}

TEST(FaultyStoreTest, FailsAtRandom) {
  auto inner = NewMemoryStore();
  FaultyStore store(inner, 9, FaultyStore::Mode::kRandom, 1);
  int failed = 0;
  for (int i = 0; i < 400; i++) failed += !store.Put("k" + std::to_string(i), "1");
  EXPECT_GT(failed, 20);
  EXPECT_LT(failed, 100);
  EXPECT_GT(inner->List("k")->size(), size_t(400 - failed));
}

}  // namespace
}  // namespace tidewater::io
