#include "tidewater/iceberg/puffin.h"
#include <gtest/gtest.h>
#include <random>

namespace tidewater::iceberg {
namespace {

PositionSet Random(std::mt19937_64& rng, int shape) {
  PositionSet set;
  std::vector<uint64_t> values;
  if (shape % 4 == 1) {
    for (uint64_t i = 0; i < 20000; ++i) values.push_back(i + 100);  // runs
  }
  if (shape % 4 == 2) {
    for (int i = 0; i < 50000; ++i) values.push_back(rng() % 200000);  // bitsets
  }
  for (int i = 0; i < 300; ++i) values.push_back(rng() % (shape % 4 == 3 ? (1ull << 40) : 1000000));
  set.AddMany(values.data(), values.size());
  return set;
}

TEST(DeletionVector, RoundTripsThroughTheBlob) {
  std::mt19937_64 rng(7);
  for (int i = 0; i < 20; ++i) {
    PositionSet set = Random(rng, i);
    auto back = PositionSet::FromBlob(set.ToBlob());
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, set);
    EXPECT_EQ(back->Cardinality(), set.ToVector().size());
  }
  auto empty = PositionSet::FromBlob(PositionSet().ToBlob());
  ASSERT_TRUE(empty);
  EXPECT_TRUE(empty->Empty());
}

TEST(DeletionVector, RankCountsWhatIsBelow) {
  PositionSet set;
  for (uint64_t v : {0ull, 5ull, 9ull, (1ull << 32) + 3}) set.Add(v);
  EXPECT_EQ(set.Rank(0), 0u);
  EXPECT_EQ(set.Rank(1), 1u);
  EXPECT_EQ(set.Rank(9), 2u);
  EXPECT_EQ(set.Rank(1ull << 32), 3u);
  EXPECT_EQ(set.Rank((1ull << 32) + 4), 4u);
  EXPECT_TRUE(set.Contains((1ull << 32) + 3));
  EXPECT_FALSE(set.Contains(3));
}

TEST(DeletionVector, RefusesDamage) {
  std::mt19937_64 rng(11);
  std::string blob = Random(rng, 1).ToBlob();
  for (size_t n = 0; n < blob.size(); n += 7) EXPECT_FALSE(PositionSet::FromBlob(std::string_view(blob).substr(0, n)));
  for (int i = 0; i < 200; ++i) {
    std::string bad = blob;
    bad[rng() % bad.size()] ^= char(1 << (rng() % 8));
    EXPECT_FALSE(PositionSet::FromBlob(bad));
  }
}

TEST(Puffin, FooterTellsWhereVectorsLie) {
  PuffinWriter writer;
  PositionSet a, b;
  a.Add(1);
  b.Add(70000);
  PuffinBlob first = writer.AddDeletionVector(a, "s3://w/a.parquet");
  PuffinBlob second = writer.AddDeletionVector(b, "s3://w/b.parquet");
  std::string file = writer.Finish();
  EXPECT_EQ(first.offset, 4u);
  auto blobs = ReadPuffinFooter(file);
  ASSERT_TRUE(blobs) << blobs.error().message;
  ASSERT_EQ(blobs->size(), 2u);
  EXPECT_EQ((*blobs)[1].offset, second.offset);
  EXPECT_EQ((*blobs)[1].properties.at("referenced-data-file"), "s3://w/b.parquet");
  EXPECT_EQ((*blobs)[1].properties.at("cardinality"), "1");
  auto back = PositionSet::FromBlob(std::string_view(file).substr(second.offset, second.length));
  ASSERT_TRUE(back);
  EXPECT_TRUE(back->Contains(70000));
  for (size_t n = 0; n < file.size(); ++n) EXPECT_FALSE(ReadPuffinFooter(std::string_view(file).substr(0, n)));
}

}  // namespace
}  // namespace tidewater::iceberg
