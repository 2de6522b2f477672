// Pattern: a compiled regular expression with captures. Patterns of a simple shape run without the regular expression
// engine.
#pragma once
#include <bitset>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "re2/re2.h"

namespace tidewater::sql {

/// Thread-safe after construction. Copies share the program.
class Pattern {
 public:
  /// RE2's syntax, which PostgreSQL's and Java's share where it matters. Throws (through DuckDB) 2201B for a broken
  /// pattern.
  explicit Pattern(const std::string& pattern, bool case_insensitive = false);

  const std::string& text() const { return text_; }
  int groups() const { return re_->NumberOfCapturingGroups(); }
  bool Matches(std::string_view input) const;
  /// The leftmost match: group 0 is the whole. A group without part in the match has a null data pointer. `out` holds
  /// count entries.
  bool Match(std::string_view input, std::string_view* out, int count) const;
  /// For tests: whether the pattern runs without RE2.
  bool simple() const { return simple_; }

 private:
  using Set = std::bitset<256>;
  /// One step of a simple pattern, after its literal was found.
  struct Step {
    enum Kind { kLiteral, kSet, kOpen, kClose, kEnd } kind;
    std::string literal;
    Set set;
    enum Times { kOne, kStar, kPlus } times = kOne;
    int group = 0;
  };
  void Compile();
  bool MatchSimple(std::string_view input, std::string_view* out, int count) const;

  std::string text_;
  std::shared_ptr<duckdb_re2::RE2> re_;
  std::string required_;  ///< occurs in every match; empty = unknown
  // The shape (X|^)literal rest, X one of a few characters; both parts around the literal may be missing.
  bool simple_ = false;
  bool has_prefix_ = false, prefix_or_start_ = false;
  int prefix_group_ = 0;  ///< 0 = not captured
  Set prefix_;
  std::vector<Step> steps_;  ///< the first one is the literal
};

}  // namespace tidewater::sql
