#include "tidewater/types/schema.h"
#include <stdexcept>
#include "duckdb/common/types.hpp"

namespace tidewater {
namespace {

/// Recursive descent over the text that LogicalType::ToString writes.
class TypeParser {
 public:
  explicit TypeParser(const std::string& text) : text_(text) {}
  LogicalType Parse() {
    auto type = ParseType(0);
    if (at_ != text_.size()) Fail();
    return type;
  }

 private:
  [[noreturn]] void Fail() { throw std::runtime_error("cannot read the type \"" + text_ + "\""); }
  void Expect(char c) {
    if (at_ >= text_.size() || text_[at_] != c) Fail();
    at_++;
    Spaces();
  }
  void Spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') at_++;
  }
  bool Take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    at_++;
    Spaces();
    return true;
  }
  uint64_t Number() {
    size_t start = at_;
    uint64_t n = 0;
    while (at_ < text_.size() && isdigit(text_[at_]) && at_ - start < 9) n = n * 10 + uint64_t(text_[at_++] - '0');
    if (start == at_) Fail();
    Spaces();
    return n;
  }
  std::string Name() {
    std::string name;
    if (at_ < text_.size() && text_[at_] == '"') {
      for (at_++;; at_++) {
        if (at_ >= text_.size()) Fail();
        if (text_[at_] == '"') {
          if (at_ + 1 < text_.size() && text_[at_ + 1] == '"')
            at_++;
          else
            break;
        }
        name += text_[at_];
      }
      at_++;
    } else {
      while (at_ < text_.size() && (isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_'))
        name += text_[at_++];
    }
    Spaces();
    return name;
  }
  LogicalType ParseType(int depth) {
    if (depth > 32) Fail();
    size_t start = at_;
    std::string name = Name();
    LogicalType type;
    if (name == "STRUCT") {
      Expect('(');
      duckdb::child_list_t<LogicalType> children;
      do {
        auto field = Name();
        children.emplace_back(field, ParseType(depth + 1));
      } while (Take(','));
      Expect(')');
      type = LogicalType::STRUCT(std::move(children));
    } else if (name == "MAP") {
      Expect('(');
      auto key = ParseType(depth + 1);
      Expect(',');
      auto value = ParseType(depth + 1);
      Expect(')');
      type = LogicalType::MAP(key, value);
    } else if (name == "DECIMAL") {
      Expect('(');
      auto width = Number();
      Expect(',');
      auto scale = Number();
      Expect(')');
      if (width > 38 || scale > width) Fail();
      type = LogicalType::DECIMAL(uint8_t(width), uint8_t(scale));
    } else if (name == "JSON") {
      type = LogicalType::JSON();
    } else {
      // TIMESTAMP WITH TIME ZONE and the like: words up to what can follow a type.
      size_t end = text_.find_first_of("[],)(", start);
      if (end == std::string::npos) end = text_.size();
      auto words = text_.substr(start, end - start);
      while (!words.empty() && words.back() == ' ') words.pop_back();
      type = LogicalType(duckdb::TransformStringToLogicalTypeId(words));
      if (type.id() == duckdb::LogicalTypeId::UNBOUND) Fail();
      at_ = end;
    }
    while (Take('[')) {
      if (Take(']')) {
        type = LogicalType::LIST(type);
      } else {
        auto n = Number();
        Expect(']');
        type = LogicalType::ARRAY(type, n);
      }
    }
    return type;
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

std::string TypeToText(const LogicalType& type) { return type.ToString(); }
LogicalType TypeFromText(const std::string& text) { return TypeParser(text).Parse(); }

}  // namespace tidewater
