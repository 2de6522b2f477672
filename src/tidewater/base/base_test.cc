#include <gtest/gtest.h>
#include <algorithm>
#include <random>
#include "tidewater/base/exact_sum.h"
#include "tidewater/base/secret.h"

namespace tidewater {
TEST(ExactSum, OrderAndRetractionDoNotMatter) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; round++) {
    std::vector<double> values;
    for (int i = 0; i < 100; i++) values.push_back(std::ldexp(double(int64_t(random())), int(random() % 1800) - 950));
    ExactSum a, b;
    for (auto v : values) a.Add(v);
    std::shuffle(values.begin(), values.end(), random);
    for (auto v : values) b.Add(v, 3);
    for (auto v : values) b.Add(v, -2);
    EXPECT_EQ(a.Value(), b.Value());
    for (auto v : values) a.Add(v, -1);
    EXPECT_EQ(a.Value(), 0.0);
    std::vector<int64_t> words;
    b.Write(words);
    ExactSum c;
    EXPECT_EQ(c.Read(words.data(), words.size()), words.size());
    EXPECT_EQ(c.Value(), b.Value());
  }
}
TEST(ExactSum, RoundsOnce) {
  ExactSum s;
  for (double v : {1e100, 1.0, -1e100}) s.Add(v);
  EXPECT_EQ(s.Value(), 1.0);
  ExactSum t;
  t.Add(0.1, 10);
  EXPECT_EQ(t.Value(), 1.0);
  ExactSum u;
  u.Add(std::numeric_limits<double>::denorm_min(), 3);
  EXPECT_EQ(u.Value(), 3 * std::numeric_limits<double>::denorm_min());
  ExactSum w;
  w.Add(std::numeric_limits<double>::infinity());
  w.Add(1);
  EXPECT_TRUE(std::isinf(w.Value()));
  w.Add(-std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(w.Value()));
  ExactSum one;
  one.Add(-3.25);
  EXPECT_EQ(one.Value(), -3.25);
}
TEST(Secret, NeverPrints) {
  EXPECT_EQ(fmt::format("{}", Secret("hunter2")), "[REDACTED]");
  EXPECT_TRUE(IsSecretOption("s3.secret.key"));
  EXPECT_FALSE(IsSecretOption("hostname"));
}
}  // namespace tidewater
