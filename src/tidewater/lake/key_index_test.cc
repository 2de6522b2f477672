#include "tidewater/lake/key_index.h"
#include <gtest/gtest.h>
#include <map>
#include <random>
#include "tidewater/base/clock.h"

namespace tidewater::lake {
namespace {

using duckdb::Value;

/// Random puts and removals, against a map, with rows of `types` made by `make` from a small number.
void CompareWithMap(const Types& types, const std::function<duckdb::vector<Value>(int)>& make, uint32_t seed) {
  std::mt19937 random(seed);
  KeyCodec codec(types);
  KeyIndex index(codec.is_integer());
  std::map<int, RowLocation> expected;
  std::vector<uint32_t> columns(types.size());
  for (size_t i = 0; i < columns.size(); i++) columns[i] = i;
  for (int round = 0; round < 60; round++) {
    DataChunk chunk;
    chunk.Initialize(duckdb::Allocator::DefaultAllocator(), types);
    std::vector<int> ids;
    size_t n = 1 + random() % STANDARD_VECTOR_SIZE;
    for (size_t i = 0; i < n; i++) {
      ids.push_back(random() % 5000);
      auto values = make(ids.back());
      for (size_t c = 0; c < values.size(); c++) chunk.SetValue(c, i, values[c]);
    }
    chunk.SetCardinality(n);
    KeyBatch keys;
    codec.Encode(chunk, columns, &keys);
    for (size_t i = 0; i < n; i++) {
      auto it = expected.find(ids[i]);
      if (random() % 3 == 0) {
        auto old = index.Remove(keys, i);
        ASSERT_EQ(old.valid(), it != expected.end());
        if (it != expected.end()) {
          ASSERT_EQ(old, it->second);
          expected.erase(it);
        }
      } else {
        auto* location = index.FindOrAdd(keys, i);
        ASSERT_EQ(location->valid(), it != expected.end());
        if (it != expected.end()) ASSERT_EQ(*location, it->second);
        *location = {uint32_t(random() % 1000), uint32_t(random())};
        expected[ids[i]] = *location;
      }
    }
    ASSERT_EQ(index.size(), expected.size());
    for (size_t i = 0; i < n; i++) {
      auto* found = index.Find(keys, i);
      ASSERT_EQ(found != nullptr, expected.contains(ids[i]));
      if (found) ASSERT_EQ(*found, expected[ids[i]]);
    }
  }
}

TEST(KeyIndex, IntegersAgreeWithAMap) {
  CompareWithMap(
      {LogicalType::BIGINT},
      [](int n) {
        return duckdb::vector<Value>{n == 0 ? Value(LogicalType::BIGINT) : Value::BIGINT(int64_t(n) << 30)};
      },
      1);
  CompareWithMap({LogicalType::INTEGER}, [](int n) { return duckdb::vector<Value>{Value::INTEGER(-n)}; }, 2);
  CompareWithMap({LogicalType::DATE}, [](int n) { return duckdb::vector<Value>{Value::DATE(duckdb::date_t(n))}; }, 3);
}

TEST(KeyIndex, BytesAgreeWithAMap) {
  CompareWithMap(
      {LogicalType::VARCHAR},
      [](int n) { return duckdb::vector<Value>{Value(std::string(n % 40, 'x') + std::to_string(n))}; }, 4);
  CompareWithMap(
      {LogicalType::INTEGER, LogicalType::VARCHAR},
      [](int n) {
        return duckdb::vector<Value>{n % 7 ? Value::INTEGER(n / 10) : Value(LogicalType::INTEGER),
                                     Value(std::to_string(n))};
      },
      5);
  CompareWithMap(
      {LogicalType::UUID}, [](int n) { return duckdb::vector<Value>{Value::UUID(duckdb::hugeint_t(n))}; }, 6);
  CompareWithMap(
      {LogicalType::DECIMAL(12, 2)}, [](int n) { return duckdb::vector<Value>{Value::DECIMAL(int64_t(n), 12, 2)}; }, 7);
}

TEST(KeyIndex, BytesOfRemovedKeysAreUsedAgain) {
  KeyCodec codec({LogicalType::VARCHAR});
  KeyIndex index(false);
  size_t settled = 0;
  for (int round = 0; round < 400; round++) {
    DataChunk chunk;
    chunk.Initialize(duckdb::Allocator::DefaultAllocator(), {LogicalType::VARCHAR});
    for (int i = 0; i < STANDARD_VECTOR_SIZE; i++)
      chunk.SetValue(0, i, Value(fmt::format("a key of the round {} number {}", round, i)));
    chunk.SetCardinality(STANDARD_VECTOR_SIZE);
    KeyBatch keys;
    codec.Encode(chunk, {0}, &keys);
    for (size_t i = 0; i < keys.count; i++) *index.FindOrAdd(keys, i) = {1, uint32_t(i)};
    for (size_t i = 0; i < keys.count; i++) index.Remove(keys, i);
    if (round == 20) settled = index.memory_bytes();
  }
  EXPECT_EQ(index.size(), 0u);
  EXPECT_LE(index.memory_bytes(), settled * 2);
}

TEST(KeyIndex, ThreeMillionIntegers) {
  constexpr size_t kKeys = 3'000'000;
  KeyCodec codec({LogicalType::BIGINT});
  KeyIndex index(true);
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), {LogicalType::BIGINT});
  auto* data = duckdb::FlatVector::GetData<int64_t>(chunk.data[0]);
  auto started = MonotonicMicros();
  KeyBatch keys;
  for (size_t at = 0; at < kKeys; at += STANDARD_VECTOR_SIZE) {
    size_t n = std::min<size_t>(STANDARD_VECTOR_SIZE, kKeys - at);
    for (size_t i = 0; i < n; i++) data[i] = at + i;
    chunk.SetCardinality(n);
    codec.Encode(chunk, {0}, &keys);
    for (size_t i = 0; i < n; i++) {
      if (i + 8 < n) index.Prefetch(keys, i + 8);
      *index.FindOrAdd(keys, i) = {0, uint32_t(at + i)};
    }
  }
  fmt::print("{} keys: {} ms, {} MB\n", kKeys, (MonotonicMicros() - started) / 1000, index.memory_bytes() >> 20);
  EXPECT_EQ(index.size(), kKeys);
}

}  // namespace
}  // namespace tidewater::lake
