#include "tidewater/sql/tokens.h"
#include <algorithm>
#include <cctype>

namespace tidewater::sql {
namespace {

constexpr size_t kMaxText = size_t{16} << 20;

bool IsWordStart(unsigned char c) { return std::isalpha(c) || c == '_' || c >= 0x80; }
bool IsWordPart(unsigned char c) { return IsWordStart(c) || std::isdigit(c) || c == '$'; }

void AppendUtf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xC0 | c >> 6);
    out += char(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += char(0xE0 | c >> 12);
    out += char(0x80 | (c >> 6 & 63));
    out += char(0x80 | (c & 63));
  } else {
    out += char(0xF0 | c >> 18);
    out += char(0x80 | (c >> 12 & 63));
    out += char(0x80 | (c >> 6 & 63));
    out += char(0x80 | (c & 63));
  }
}

class Lexer {
 public:
  explicit Lexer(std::string_view sql) : sql_(sql) {}

  Result<std::vector<Token>> Run() {
    if (sql_.size() > kMaxText)
      return std::unexpected(UserError("54000", "the statement is longer than {} bytes", kMaxText));
    std::vector<Token> tokens;
    while (true) {
      TW_TRY(SkipBlanks());
      Token t;
      t.begin = at_;
      if (at_ >= sql_.size()) {
        t.end = at_;
        tokens.push_back(t);
        return tokens;
      }
      TW_TRY(Next(t));
      t.end = at_;
      tokens.push_back(std::move(t));
    }
  }

 private:
  char Peek(size_t ahead = 0) const { return at_ + ahead < sql_.size() ? sql_[at_ + ahead] : '\0'; }

  std::unexpected<Error> Unterminated(const char* what, size_t begin) const {
    auto near = std::string(sql_.substr(begin, 40));
    return std::unexpected(UserError("42601", "unterminated {} at or near \"{}\"", what, near)
                               .WithPosition(CharacterPosition(sql_, begin)));
  }

  Status SkipBlanks() {
    while (at_ < sql_.size()) {
      if (std::isspace(static_cast<unsigned char>(sql_[at_]))) {
        at_++;
      } else if (Peek() == '-' && Peek(1) == '-') {
        while (at_ < sql_.size() && sql_[at_] != '\n') at_++;
      } else if (Peek() == '/' && Peek(1) == '*') {
        size_t begin = at_;
        int depth = 0;
        do {
          if (at_ + 1 >= sql_.size()) return Unterminated("/* comment", begin);
          if (Peek() == '/' && Peek(1) == '*') {
            depth++;
            at_ += 2;
          } else if (Peek() == '*' && Peek(1) == '/') {
            depth--;
            at_ += 2;
          } else {
            at_++;
          }
        } while (depth > 0);
      } else {
        break;
      }
    }
    return {};
  }

  Status Next(Token& t) {
    unsigned char c = sql_[at_];
    if (c == '\'') return Quoted(t, TokenKind::kString, false);
    if (c == '"' || c == '`') return Quoted(t, TokenKind::kQuotedWord, false);  // `x` is Flink's way to quote a name
    if ((c == 'e' || c == 'E') && Peek(1) == '\'') {
      at_++;
      return Quoted(t, TokenKind::kString, true);
    }
    if (c == '$') {
      if (std::isdigit(static_cast<unsigned char>(Peek(1)))) {
        t.kind = TokenKind::kParameter;
        at_++;
        while (std::isdigit(static_cast<unsigned char>(Peek()))) t.text += sql_[at_++];
        return {};
      }
      return DollarQuoted(t);
    }
    if (IsWordStart(c)) {
      t.kind = TokenKind::kWord;
      while (at_ < sql_.size() && IsWordPart(sql_[at_]))
        t.text += char(std::tolower(static_cast<unsigned char>(sql_[at_++])));
      return {};
    }
    if (std::isdigit(c) || (c == '.' && std::isdigit(static_cast<unsigned char>(Peek(1))))) {
      t.kind = TokenKind::kNumber;
      while (at_ < sql_.size()) {
        unsigned char d = sql_[at_];
        bool exponent_sign =
            (d == '+' || d == '-') && !t.text.empty() && (t.text.back() == 'e' || t.text.back() == 'E');
        if (!std::isalnum(d) && d != '.' && d != '_' && !exponent_sign) break;
        t.text += char(d);
        at_++;
      }
      return {};
    }
    t.kind = TokenKind::kSymbol;
    t.text = char(c);
    at_++;
    if (c == ':' && Peek() == ':') {
      t.text = "::";
      at_++;
    }
    return {};
  }

  Status Quoted(Token& t, TokenKind kind, bool escapes) {
    size_t begin = at_;
    char quote = sql_[at_++];
    t.kind = kind;
    while (true) {
      if (at_ >= sql_.size()) return Unterminated(quote != '\'' ? "quoted identifier" : "quoted string", begin);
      char c = sql_[at_++];
      if (c == quote) {
        if (Peek() != quote) break;
        at_++;
      } else if (c == '\\' && escapes) {
        Escape(t.text);
        continue;
      }
      t.text += c;
    }
    if (kind == TokenKind::kQuotedWord && t.text.empty())
      return std::unexpected(UserError("42601", "zero-length delimited identifier at or near \"\"\"\"")
                                 .WithPosition(CharacterPosition(sql_, begin)));
    return {};
  }

  void Escape(std::string& out) {
    char c = Peek();
    if (c) at_++;
    auto digits = [&](size_t max, auto is_digit, uint32_t base, uint32_t value) {
      for (size_t i = 0; i < max && is_digit(static_cast<unsigned char>(Peek())); i++) {
        unsigned char d = sql_[at_++];
        value = value * base + (std::isdigit(d) ? d - '0' : (std::tolower(d) - 'a') + 10);
      }
      return value;
    };
    auto hex = [](unsigned char d) { return std::isxdigit(d) != 0; };
    auto octal = [](unsigned char d) { return d >= '0' && d <= '7'; };
    switch (c) {
      case 'n':
        out += '\n';
        break;
      case 't':
        out += '\t';
        break;
      case 'r':
        out += '\r';
        break;
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'x':
        out += char(digits(2, hex, 16, 0));
        break;
      case 'u':
        AppendUtf8(out, digits(4, hex, 16, 0));
        break;
      case 'U':
        AppendUtf8(out, digits(8, hex, 16, 0) & 0x1FFFFF);
        break;
      case '0':
      case '1':
      case '2':
      case '3':
      case '4':
      case '5':
      case '6':
      case '7':
        out += char(digits(2, octal, 8, uint32_t(c - '0')));
        break;
      default:
        if (c) out += c;
    }
  }

  Status DollarQuoted(Token& t) {
    size_t begin = at_, tag_end = at_ + 1;
    while (tag_end < sql_.size() && IsWordPart(sql_[tag_end]) && sql_[tag_end] != '$') tag_end++;
    if (tag_end >= sql_.size() || sql_[tag_end] != '$') {
      t.kind = TokenKind::kSymbol;
      t.text = "$";
      at_++;
      return {};
    }
    auto tag = sql_.substr(begin, tag_end + 1 - begin);
    auto close = sql_.find(tag, tag_end + 1);
    if (close == std::string_view::npos) return Unterminated("dollar-quoted string", begin);
    t.kind = TokenKind::kString;
    t.text = sql_.substr(tag_end + 1, close - tag_end - 1);
    at_ = close + tag.size();
    return {};
  }

  std::string_view sql_;
  size_t at_ = 0;
};

}  // namespace

Result<std::vector<Token>> Tokenize(std::string_view sql) { return Lexer(sql).Run(); }

bool IsReservedByDuckDBAlone(std::string_view word) {
  // DuckDB's keywords of the kinds reserved, function and type names, less PostgreSQL's of the same kinds.
  static constexpr std::string_view kWords[] = {
      "anti",        "asof",       "at",      "by",   "describe", "glob",      "lambda", "pivot",  "pivot_longer",
      "pivot_wider", "positional", "qualify", "semi", "show",     "summarize", "unpack", "unpivot"};
  return std::find(std::begin(kWords), std::end(kWords), word) != std::end(kWords);
}

int CharacterPosition(std::string_view sql, size_t offset) {
  int position = 1;
  for (size_t i = 0; i < offset && i < sql.size(); i++)
    if ((static_cast<unsigned char>(sql[i]) & 0xC0) != 0x80) position++;
  return position;
}

Error SyntaxError(std::string_view sql, const Token& token) {
  int position = CharacterPosition(sql, token.begin);
  if (token.kind == TokenKind::kEnd) return UserError("42601", "syntax error at end of input").WithPosition(position);
  return UserError("42601", "syntax error at or near \"{}\"", sql.substr(token.begin, token.end - token.begin))
      .WithPosition(position);
}

}  // namespace tidewater::sql
