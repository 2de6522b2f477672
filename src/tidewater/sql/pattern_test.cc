#include "tidewater/sql/pattern.h"
#include <gtest/gtest.h>
#include <random>

namespace tidewater::sql {
namespace {

TEST(Pattern, SimpleShapesEqualTheEngine) {
  std::mt19937 random(7);
  struct Case {
    const char* pattern;
    bool simple;
  };
  for (auto& c : std::initializer_list<Case>{{"(&|^)ab=([^&]*)", true},
                                             {"ab", true},
                                             {"ab$", true},
                                             {"[&=]ab", true},
                                             {"ab=([^&]*)&", true},
                                             {"ab=([ab]+)&(=*)", false},
                                             {"(^|&)ab", false},
                                             {"a(b)(=[^&]*)", true},
                                             {"ab=[^&]", false},
                                             {"ab=([^a]*)&", false},
                                             {"ab|b", false},
                                             {"a+b", false},
                                             {"(?i)ab", false},
                                             {"ab=?", false},
                                             {"(a|b)=", false}}) {
    Pattern p(c.pattern);
    EXPECT_EQ(p.simple(), c.simple) << c.pattern;
    duckdb_re2::RE2 engine(c.pattern);
    for (int i = 0; i < 3000; i++) {
      std::string text;
      for (size_t n = random() % 14; n > 0; n--) text += "aabb&=="[random() % 7];
      int count = p.groups() + 1;
      std::string_view ours[8];
      duckdb_re2::StringPiece theirs[8];
      bool a = p.Match(text, ours, count);
      bool b = engine.Match(text, 0, text.size(), duckdb_re2::RE2::UNANCHORED, theirs, count);
      ASSERT_EQ(a, b) << c.pattern << " on " << text;
      EXPECT_EQ(p.Matches(text), b);
      for (int g = 0; a && g < count; g++) {
        ASSERT_EQ(ours[g], std::string_view(theirs[g].data(), theirs[g].size()))
            << c.pattern << " on " << text << " group " << g;
        ASSERT_EQ(ours[g].data() == nullptr, theirs[g].data() == nullptr)
            << c.pattern << " on " << text << " group " << g;
      }
    }
  }
}

}  // namespace
}  // namespace tidewater::sql
