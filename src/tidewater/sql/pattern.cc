#include "tidewater/sql/pattern.h"
#include <cstring>
#include <optional>
#include "tidewater/sql/bridge.h"

namespace tidewater::sql {
namespace {

bool IsPlain(unsigned char c) { return c < 0x80 && !std::strchr("\\^$.|?*+()[]{}", c) && c >= 0x20; }
bool IsQuantifier(char c) { return c == '*' || c == '+' || c == '?' || c == '{'; }

}  // namespace

Pattern::Pattern(const std::string& pattern, bool case_insensitive) : text_(pattern) {
  duckdb_re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_case_sensitive(!case_insensitive);
  re_ = std::make_shared<duckdb_re2::RE2>(pattern, options);
  if (!re_->ok())
    ThrowThroughDuckDB(UserError("2201B", "invalid regular expression: {}", re_->error()),
                       duckdb::ExceptionType::INVALID_INPUT);
  if (!case_insensitive) Compile();
}

// Reads the pattern as prefix, literal and steps; gives up (simple_ stays false) at the first thing outside that shape.
void Pattern::Compile() {
  const std::string& p = text_;
  size_t at = 0;
  int group = 0;
  auto literal = [&] {
    std::string out;
    while (at < p.size() && IsPlain(p[at]) && (at + 1 >= p.size() || !IsQuantifier(p[at + 1]))) out += p[at++];
    return out;
  };
  // [abc], [^abc], without ranges and escapes; `whole_characters`: negated sets of bytes would cut UTF-8 characters.
  auto set = [&](bool whole_characters) -> std::optional<Set> {
    Set s;
    at++;
    bool negated = at < p.size() && p[at] == '^';
    if (negated) at++;
    size_t first = at;
    while (at < p.size() && (p[at] != ']' || at == first)) {
      unsigned char c = p[at];
      if (c == '\\' || c == '-' || c == '[' || c >= 0x80) return std::nullopt;
      s.set(c);
      at++;
    }
    if (at >= p.size() || (negated && whole_characters)) return std::nullopt;
    at++;
    return negated ? ~s : s;
  };
  // (x|^) or (^|x)
  if (p.size() >= 5 && p[0] == '(' && p[2] == '|' && p[4] == ')') {
    char a = p[1], b = p[3];
    if (b != '^') std::swap(a, b);
    if (b == '^' && IsPlain(a) &&
        p[1] != '^') {  // "(^|x)" prefers the start: its capture differs at offset 0, so RE2 takes it
      has_prefix_ = prefix_or_start_ = true;
      prefix_.set(static_cast<unsigned char>(a));
      prefix_group_ = ++group;
      at = 5;
    }
  } else if (p.size() >= 2 && p[0] == '[') {
    auto s = set(true);
    if (s && (at >= p.size() || !IsQuantifier(p[at]))) {
      has_prefix_ = true;
      prefix_ = *s;
    } else {
      at = 0;
    }
  }
  auto first = literal();
  if (first.empty()) return;
  bool alternatives = p.find('|', at) != std::string::npos;
  if (!alternatives && p.find("(?") == std::string::npos) required_ = first;
  steps_.push_back({Step::kLiteral, first, {}, Step::kOne, 0});
  std::vector<int> open;
  while (at < p.size()) {
    Step step;
    if (p[at] == '(') {
      if (at + 1 < p.size() && p[at + 1] == '?') return;
      at++;
      open.push_back(++group);
      step.kind = Step::kOpen;
      step.group = group;
    } else if (p[at] == ')') {
      if (open.empty() || (at + 1 < p.size() && IsQuantifier(p[at + 1]))) return;
      at++;
      step.kind = Step::kClose;
      step.group = open.back();
      open.pop_back();
    } else if (p[at] == '$' && at + 1 == p.size()) {
      at++;
      step.kind = Step::kEnd;
    } else if (p[at] == '[') {
      auto s = set(false);
      if (!s) return;
      step.kind = Step::kSet;
      step.set = *s;
      if (at < p.size() && (p[at] == '*' || p[at] == '+')) {
        step.times = p[at] == '*' ? Step::kStar : Step::kPlus;
        at++;
      } else if (s->test(0x80)) {
        return;  // one character of a negated set may be several bytes
      }
      if (at < p.size() && IsQuantifier(p[at])) return;
    } else {
      step.kind = Step::kLiteral;
      step.literal = literal();
      if (step.literal.empty()) return;
    }
    steps_.push_back(std::move(step));
  }
  // Greedy without going back is exact only if what follows a repeated set cannot begin inside it.
  for (size_t i = 0; i < steps_.size(); i++) {
    if (steps_[i].kind != Step::kSet || steps_[i].times == Step::kOne) continue;
    for (size_t j = i + 1; j < steps_.size(); j++) {
      auto& next = steps_[j];
      if (next.kind == Step::kOpen || next.kind == Step::kClose) continue;
      if (next.kind == Step::kLiteral && steps_[i].set.test(static_cast<unsigned char>(next.literal[0]))) return;
      if (next.kind == Step::kSet && ((steps_[i].set & next.set).any() || next.times == Step::kStar)) return;
      break;
    }
  }
  simple_ = true;
}

bool Pattern::MatchSimple(std::string_view input, std::string_view* out, int count) const {
  const std::string& literal = steps_[0].literal;
  const char *begin = input.data(), *end = begin + input.size(), *from = begin;
  while (true) {
    auto found = static_cast<const char*>(memmem(from, size_t(end - from), literal.data(), literal.size()));
    if (!found) return false;
    from = found + 1;
    const char* start = found;
    for (int i = 1; i < count; i++) out[i] = {};
    if (has_prefix_) {
      if (found > begin && prefix_.test(static_cast<unsigned char>(found[-1]))) {
        start = found - 1;
        if (prefix_group_ && prefix_group_ < count) out[prefix_group_] = {start, 1};
      } else if (found == begin && prefix_or_start_) {
        if (prefix_group_ < count) out[prefix_group_] = {start, 0};
      } else {
        continue;
      }
    }
    const char* at = found + literal.size();
    bool matched = true;
    for (size_t i = 1; matched && i < steps_.size(); i++) {
      auto& s = steps_[i];
      switch (s.kind) {
        case Step::kLiteral:
          matched = size_t(end - at) >= s.literal.size() && !std::memcmp(at, s.literal.data(), s.literal.size());
          at += matched ? s.literal.size() : 0;
          break;
        case Step::kSet: {
          const char* first = at;
          if (s.times == Step::kOne) {
            if (at < end && s.set.test(static_cast<unsigned char>(*at))) at++;
          } else {
            while (at < end && s.set.test(static_cast<unsigned char>(*at))) at++;
          }
          matched = s.times == Step::kStar || at > first;
          break;
        }
        case Step::kOpen:
          if (s.group < count) out[s.group] = {at, 0};
          break;
        case Step::kClose:
          if (s.group < count) out[s.group] = {out[s.group].data(), size_t(at - out[s.group].data())};
          break;
        case Step::kEnd:
          matched = at == end;
          break;
      }
    }
    if (!matched) continue;
    if (count > 0) out[0] = {start, size_t(at - start)};
    return true;
  }
}

bool Pattern::Matches(std::string_view input) const {
  if (simple_) return MatchSimple(input, nullptr, 0);
  return Match(input, nullptr, 0);
}

bool Pattern::Match(std::string_view input, std::string_view* out, int count) const {
  if (simple_) return MatchSimple(input, out, count);
  if (!required_.empty() && !memmem(input.data(), input.size(), required_.data(), required_.size())) return false;
  constexpr int kMax = 32;
  duckdb_re2::StringPiece groups[kMax];
  count = std::min(count, kMax);
  duckdb_re2::StringPiece text(input.data(), input.size());
  if (!re_->Match(text, 0, input.size(), duckdb_re2::RE2::UNANCHORED, groups, std::min(count, this->groups() + 1)))
    return false;
  for (int i = 0; i < count; i++)
    out[i] = i <= this->groups() ? std::string_view(groups[i].data(), groups[i].size()) : std::string_view();
  return true;
}

}  // namespace tidewater::sql
