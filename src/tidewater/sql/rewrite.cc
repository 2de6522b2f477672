#include "tidewater/sql/rewrite.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include "tidewater/sql/bridge.h"
#include "tidewater/sql/statement.h"
#include "tidewater/sql/tokens.h"

namespace tidewater::sql {
namespace {

class Rewriter {
 public:
  Rewriter(const std::string& sql, std::vector<Token> tokens) : sql_(sql), tokens_(std::move(tokens)) {}

  Rewritten Query() {
    while (tokens_[at_].kind != TokenKind::kEnd)
      if (!Special()) Copy();
    return std::move(out_);
  }

  Rewritten Columns() {
    while (tokens_[at_].kind != TokenKind::kEnd) {
      bool after_name = at_ > 0 && tokens_[at_ - 1].IsName() && (at_ < 2 || tokens_[at_ - 2].Is(","));
      if (after_name && IsNumeric(at_) && !Peek(1).Is("("))
        Replace(1, "DECIMAL(38,10)");
      else if (tokens_[at_].text == "pg_catalog" && Peek(1).Is("."))
        Skip(2);
      else if (IsLostName() && (at_ == 0 || Before()->Is(",") || Before()->Is("(")))
        Replace(1, ForceQuote(tokens_[at_].text));
      else
        Copy();
    }
    return std::move(out_);
  }

 private:
  const Token& Peek(size_t ahead) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token* Before() const { return at_ > 0 ? &tokens_[at_ - 1] : nullptr; }
  bool IsNumeric(size_t i) const {
    return tokens_[i].kind == TokenKind::kWord &&
           (tokens_[i].text == "numeric" || tokens_[i].text == "decimal" || tokens_[i].text == "dec");
  }

  /// The blanks before token at_: as written, or one blank where a comment stood.
  void Gap() {
    size_t begin = at_ > 0 ? tokens_[at_ - 1].end : 0, end = tokens_[at_].begin;
    auto gap = sql_.substr(begin, end - begin);
    bool blank = gap.find_first_not_of(" \t\r\n\f\v") == std::string::npos;
    out_.text += blank ? gap : " ";
  }
  void Mark() { out_.pieces.emplace_back(out_.text.size(), tokens_[at_].begin); }

  void Copy() {
    Gap();
    Mark();
    auto& t = tokens_[at_];
    if (at_ == expanded_)
      out_.text += ", lambda x, n: {'x': x, 'n': n}))";
    else if (t.kind == TokenKind::kQuotedWord && sql_[t.begin] == '`')
      out_.text += ForceQuote(t.text);
    else
      out_.text += sql_.substr(t.begin, t.end - t.begin);
    if (at_ == series_alias_) out_.text += "(" + sql_.substr(t.begin, t.end - t.begin) + ")";
    if (at_ == like_pattern_) out_.text += " ESCAPE '\\'";
    at_++;
  }
  void Replace(size_t count, const std::string& with) {
    Gap();
    Mark();
    out_.text += with;
    at_ += count;
    // Keeps what follows from growing together with the replacement.
    if (tokens_[at_].begin == tokens_[at_ - 1].end && !with.empty() && !tokens_[at_].Is(")") && !tokens_[at_].Is("(") &&
        !tokens_[at_].Is(".") && !tokens_[at_].Is(",") && !tokens_[at_].Is("::"))
      out_.text += ' ';
  }
  /// The parenthesis that closes the one at token i, or the end.
  size_t Closing(size_t i) const {
    int depth = 0;
    for (; tokens_[i].kind != TokenKind::kEnd; i++) {
      if (tokens_[i].Is("(")) depth++;
      if (tokens_[i].Is(")") && --depth == 0) break;
    }
    return i;
  }

  /// "generate_series(...) s" names the column as well as the table.
  void NoteSeriesAlias() {
    size_t i = Closing(at_ + 1);
    auto next = [&](size_t k) -> const Token& { return tokens_[std::min(k, tokens_.size() - 1)]; };
    size_t alias = i + 1;
    if (next(alias).Is("as")) alias++;
    static const std::set<std::string> words = {
        "where", "on",   "order", "group",   "having", "limit", "offset", "union",  "join",   "left",      "right",
        "inner", "full", "cross", "natural", "as",     "from",  "with",   "window", "except", "intersect", "using",
        "and",   "or",   "fetch", "for",     "then",   "end",   "else",   "when",   "is",     "in"};
    bool named = next(alias).kind == TokenKind::kQuotedWord ||
                 (next(alias).kind == TokenKind::kWord && !words.count(next(alias).text));
    if (named && !next(alias + 1).Is("(")) series_alias_ = alias;
  }

  void Skip(size_t count) {
    Gap();
    at_ += count;
  }

  static std::string ForceQuote(const std::string& name) {
    std::string out = "\"";
    for (char c : name) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + '"';
  }

  bool IsLostName() const {
    return tokens_[at_].kind == TokenKind::kWord && IsReservedByDuckDBAlone(tokens_[at_].text);
  }

  /// Whether a name or an operand comes next by what stands before it. None of the words that DuckDB reserves begins
  /// anything of PostgreSQL's there, so that such a word is a name.
  bool ExpectsName() const {
    auto before = Before();
    if (!before) return false;
    if (before->kind == TokenKind::kSymbol) return !before->Is(")") && !before->Is("]") && !before->Is("::");
    static const std::set<std::string> words = {
        "select", "distinct", "from",  "join",   "only", "where",     "and",   "or",      "not",      "on",
        "having", "by",       "when",  "then",   "else", "case",      "like",  "ilike",   "between",  "as",
        "with",   "into",     "using", "update", "set",  "returning", "table", "lateral", "recursive"};
    return before->kind == TokenKind::kWord && words.count(before->text);
  }

  /// A column or table by a name that DuckDB reserves. What DuckDB itself begins with such a word where a name may
  /// stand is left alone: lambda x: ..., (PIVOT t ON ...), (DESCRIBE t), UNPACK(...).
  bool ReservedName() {
    if (!IsLostName() || (!ExpectsName() && !Peek(1).Is("."))) return false;
    auto& word = tokens_[at_].text;
    auto& next = Peek(1);
    if (word == "unpack" && next.Is("(")) return false;
    bool begins = word == "lambda" || (Before() && Before()->Is("("));
    if (begins && word != "at" && word != "by" && next.IsName() && !IsBehindName(next)) return false;
    Replace(1, ForceQuote(word));
    return true;
  }
  /// Words that may follow an operand.
  static bool IsBehindName(const Token& t) {
    static const std::set<std::string> words = {"as",      "from", "and",     "or",    "is",    "in",   "not",
                                                "between", "like", "ilike",   "asc",   "desc",  "then", "else",
                                                "end",     "when", "order",   "at",    "where", "join", "group",
                                                "using",   "on",   "collate", "limit", "nulls"};
    return t.kind == TokenKind::kWord && words.count(t.text);
  }

  /// The run of adjacent operator characters at token i.
  std::string Operator(size_t i, size_t& count) const {
    static const char* const kCharacters = "+-*/<>=~!@#%^&|?";
    std::string op;
    count = 0;
    while (tokens_[i + count].kind == TokenKind::kSymbol && tokens_[i + count].text.size() == 1 &&
           std::strchr(kCharacters, tokens_[i + count].text[0]) &&
           (count == 0 || tokens_[i + count].begin == tokens_[i + count - 1].end)) {
      op += tokens_[i + count].text;
      count++;
    }
    return op;
  }

  bool EndsOperand(const Token* t) const {
    if (!t) return false;
    return t->kind == TokenKind::kString || t->kind == TokenKind::kNumber || t->kind == TokenKind::kParameter ||
           t->kind == TokenKind::kQuotedWord || t->Is(")") || t->Is("]") ||
           (t->kind == TokenKind::kWord && t->text != "select" && t->text != "where" && t->text != "and" &&
            t->text != "or" && t->text != "not" && t->text != "when" && t->text != "then" && t->text != "else" &&
            t->text != "on" && t->text != "having");
  }

  static const std::string* RegexOperator(const std::string& op) {
    static const std::map<std::string, std::string> names = {
        {"~", "~@"}, {"~*", "~*@"}, {"!~", "!~@"}, {"!~*", "!~*@"}};
    auto it = names.find(op);
    return it == names.end() ? nullptr : &it->second;
  }

  /// Rewrites what starts at this token, if anything does.
  bool Special() {
    auto& t = tokens_[at_];
    if (t.kind == TokenKind::kSymbol) {
      size_t count;
      auto op = Operator(at_, count);
      if (count == 0) return false;
      auto ours = EndsOperand(Before()) ? RegexOperator(op) : nullptr;
      // A sign may follow an operator without a blank: "~-1" is no operator of PostgreSQL.
      if (ours) {
        Replace(count, *ours);
        return true;
      }
      for (size_t i = 0; i < count; i++) Copy();
      return true;
    }
    if (t.kind == TokenKind::kString) return CastOfLiteral();
    if (!t.IsName()) return false;
    if (ReservedName()) return true;
    bool dotted = Before() && Before()->Is(".") && at_ != unprefixed_;
    if (!dotted && CastOfColumn()) return true;
    if (t.text == "pg_catalog" && Peek(1).Is(".") && !dotted) {
      Skip(2);
      unprefixed_ = at_;
      return true;
    }
    if (t.text == "information_schema" && Peek(1).Is(".") && !dotted) {
      if (Peek(2).Is("_pg_expandarray") && Peek(3).Is("(")) {  // a row (x, n) for each element, JDBC asks for it
        expanded_ = Closing(at_ + 3);
        Replace(4, "unnest(list_transform(");
        return true;
      }
      Replace(1, kInformationSchema);
      return true;
    }
    if (t.kind != TokenKind::kWord || dotted) return false;
    if (t.text == "operator" && Peek(1).Is("(")) return OperatorClause();
    if (t.text == "collate") return Collate();
    if (t.text == "generate_series" && Peek(1).Is("(")) NoteSeriesAlias();
    // PostgreSQL's LIKE escapes with a backslash unless told otherwise; DuckDB's does not.
    if ((t.text == "like" || t.text == "ilike") && Peek(1).kind == TokenKind::kString &&
        Peek(1).text.find('\\') != std::string::npos && !Peek(2).Is("escape"))
      like_pattern_ = at_ + 1;
    if (IsNumeric(at_) && !Peek(1).Is("(") && Before() &&
        (Before()->Is("::") || (Before()->Is("as") && Peek(1).Is(")")))) {
      Replace(1, "DECIMAL(38,10)");
      return true;
    }
    if (t.text == "current_setting" && Peek(1).Is("(")) {  // DuckDB binds its own by name, before ours
      Replace(1, "tw_current_setting");
      return true;
    }
    static const std::map<std::string, std::string> keywords = {
        {"current_user", "tw_current_user()"},     {"session_user", "tw_current_user()"},
        {"current_role", "tw_current_user()"},     {"user", "tw_current_user()"},
        {"current_catalog", "current_database()"}, {"current_schema", "current_schema()"}};
    auto it = keywords.find(t.text);
    if (it != keywords.end() && !Peek(1).Is("(") && !Peek(1).Is(".") && !(Before() && Before()->Is("as"))) {
      Replace(1, it->second);
      return true;
    }
    return false;
  }

  static bool IsRegType(const std::string& name) {
    return name == "regclass" || name == "regtype" || name == "regproc" || name == "regnamespace";
  }

  /// c.oid::regclass and its like: the name behind the number.
  bool CastOfColumn() {
    size_t n = 1;
    while (n < 5 && Peek(n).Is(".") && Peek(n + 1).IsName()) n += 2;
    if (!Peek(n).Is("::")) return false;
    size_t type = Peek(n + 1).text == "pg_catalog" && Peek(n + 2).Is(".") ? n + 3 : n + 1;
    if (!IsRegType(Peek(type).text)) return false;
    std::string column;
    for (size_t i = 0; i < n; i++) column += sql_.substr(Peek(i).begin, Peek(i).end - Peek(i).begin);
    Replace(type + 1, "tw_" + Peek(type).text + "(" + column + ")");
    return true;
  }

  bool CastOfLiteral() {
    if (!Peek(1).Is("::")) return false;
    size_t type = Peek(2).text == "pg_catalog" && Peek(3).Is(".") ? 4 : 2;
    auto& name = Peek(type).text;
    if (!IsRegType(name)) return false;
    Replace(type + 1, "tw_" + name + "_oid(" + QuoteLiteral(tokens_[at_].text) + ")");
    return true;
  }

  /// OPERATOR ( [schema .] op )
  bool OperatorClause() {
    size_t i = at_ + 2;
    if (tokens_[i].IsName() && tokens_[std::min(i + 1, tokens_.size() - 1)].Is(".")) i += 2;
    size_t count;
    auto op = Operator(i, count);
    if (count == 0 || !tokens_[i + count].Is(")")) return false;
    auto ours = RegexOperator(op);
    Replace(i + count + 1 - at_, ours ? *ours : op);
    return true;
  }

  /// COLLATE [pg_catalog .] ("default" | "C" | "POSIX"): text compares as C anyway.
  bool Collate() {
    size_t i = 1;
    if (Peek(1).text == "pg_catalog" && Peek(2).Is(".")) i = 3;
    static const std::set<std::string> same = {"default", "C", "c", "POSIX", "posix", "ucs_basic"};
    if (!Peek(i).IsName() || !same.count(Peek(i).text)) return false;
    Skip(i + 1);
    return true;
  }

  const std::string& sql_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  size_t like_pattern_ = SIZE_MAX;  ///< token that gets ESCAPE '\\' behind it
  size_t expanded_ = SIZE_MAX;      ///< token that ends the argument of _pg_expandarray
  size_t unprefixed_ = SIZE_MAX;    ///< token that lost its "pg_catalog."
  size_t series_alias_ = SIZE_MAX;  ///< token that gets a column alias of the same name
  Rewritten out_;
};

}  // namespace

size_t Rewritten::Original(size_t offset) const {
  size_t original = offset;
  for (auto& [here, there] : pieces) {
    if (here > offset) break;
    original = there + (offset - here);
  }
  return original;
}

Result<Rewritten> RewriteQuery(const std::string& sql) {
  TW_ASSIGN(auto tokens, Tokenize(sql));
  return Rewriter(sql, std::move(tokens)).Query();
}

Result<Rewritten> RewriteColumns(const std::string& columns) {
  TW_ASSIGN(auto tokens, Tokenize(columns));
  return Rewriter(columns, std::move(tokens)).Columns();
}

}  // namespace tidewater::sql
