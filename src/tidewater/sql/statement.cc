#include "tidewater/sql/statement.h"
#include <algorithm>
#include <set>
#include "tidewater/base/secret.h"
#include "tidewater/sql/tokens.h"

namespace tidewater::sql {
namespace {

using catalog::ObjectType;

/// Recursive descent without recursion: no production of ours nests.
class Parser {
 public:
  Parser(const std::string& text, std::vector<Token> tokens) : text_(text), tokens_(std::move(tokens)) {}

  Result<Statement> Run() {
    Statement s;
    TW_TRY(Parse(s));
    s.text = text_;
    s.sql = Redacted();
    return s;
  }

 private:
  // --- tokens
  const Token& Peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& Take() {
    const Token& t = Peek();
    if (at_ + 1 < tokens_.size()) at_++;
    return t;
  }
  bool Accept(std::string_view word) {
    if (!Peek().Is(word)) return false;
    Take();
    return true;
  }
  /// All of the words, or nothing.
  bool AcceptAll(std::initializer_list<std::string_view> words) {
    size_t i = 0;
    for (auto w : words)
      if (!Peek(i++).Is(w)) return false;
    at_ += words.size();
    return true;
  }
  bool AtEnd() const { return Peek().kind == TokenKind::kEnd; }
  std::unexpected<Error> Unexpected() const { return std::unexpected(SyntaxError(text_, Peek())); }
  Status Expect(std::string_view word) {
    if (!Accept(word)) return Unexpected();
    return {};
  }
  Status ExpectEnd() {
    if (!AtEnd()) return Unexpected();
    return {};
  }
  int Position(size_t offset) const { return CharacterPosition(text_, offset); }
  std::unexpected<Error> Refuse(const std::string& what, const std::string& hint = {}) const {
    return std::unexpected(
        UserError("0A000", "{} is not supported", what).WithHint(hint).WithPosition(Position(tokens_[0].begin)));
  }

  Result<std::string> Word() {
    if (!Peek().IsName()) return Unexpected();
    return Take().text;
  }
  Result<Name> QualifiedName() {
    TW_ASSIGN(auto first, Word());
    if (!Accept(".")) return Name{"", first};
    TW_ASSIGN(auto second, Word());
    if (!Accept(".")) return Name{first, second};
    TW_ASSIGN(auto third, Word());  // database.schema.name: there is one database
    return Name{second, third};
  }
  Result<std::string> String() {
    if (Peek().kind != TokenKind::kString) return Unexpected();
    return Take().text;
  }

  /// The rest of the text, for DuckDB. Empty is an error.
  Status Rest(std::string& query, int& position) {
    if (AtEnd()) return Unexpected();
    query = text_.substr(Peek().begin, tokens_[tokens_.size() - 2].end - Peek().begin);
    position = Position(Peek().begin);
    at_ = tokens_.size() - 1;
    return {};
  }

  /// As Rest, but stops before a last WITH (k = v, ...) at the outermost level, which belongs to the statement around
  /// the query: a query of its own has no WITH behind anything but at its beginning.
  Status QueryBeforeOptions(std::string& query, int& position) {
    if (AtEnd()) return Unexpected();
    size_t first = at_, end = tokens_.size() - 1;
    int depth = 0;
    for (size_t i = first; i + 1 < tokens_.size(); i++) {
      if (tokens_[i].Is("(")) depth++;
      if (tokens_[i].Is(")")) depth--;
      if (depth == 0 && i > first && tokens_[i].Is("with") && tokens_[i + 1].Is("(") && !tokens_[i - 1].Is("as"))
        end = i;
    }
    query = text_.substr(tokens_[first].begin, tokens_[end - 1].end - tokens_[first].begin);
    position = Position(tokens_[first].begin);
    at_ = end;
    if (end == first) return Unexpected();
    return {};
  }

  Status ParseOptions(Options& options) {
    TW_TRY(Expect("("));
    if (Accept(")")) return {};
    do {
      std::string key;
      if (Peek().kind == TokenKind::kString) {
        key = Take().text;
      } else {
        do {
          if (!Peek().IsName() && Peek().kind != TokenKind::kNumber) return Unexpected();
          key += (key.empty() ? "" : ".") + Take().text;
        } while (Accept("."));
      }
      std::transform(key.begin(), key.end(), key.begin(), [](unsigned char c) { return char(std::tolower(c)); });
      int position = Position(Peek().begin);
      TW_TRY(Expect("="));
      std::string value;
      size_t begin = Peek().begin;
      if (Accept("-")) value = "-";
      auto& t = Peek();
      if (t.kind != TokenKind::kString && t.kind != TokenKind::kNumber && !t.IsName()) return Unexpected();
      value += Take().text;
      if (IsSecretOption(key)) secrets_.push_back({begin, tokens_[at_ - 1].end});
      if (!options.emplace(key, value).second)
        return std::unexpected(UserError("42601", "option \"{}\" is given twice", key).WithPosition(position));
    } while (Accept(","));
    return Expect(")");
  }
  Status MaybeWith(Options& options) {
    if (!Accept("with")) return {};
    return ParseOptions(options);
  }

  /// Text between balanced parentheses, the opening one already taken.
  Status Balanced(ColumnList& out) {
    size_t begin = Peek().begin;
    int depth = 1;
    while (true) {
      auto& t = Peek();
      if (t.kind == TokenKind::kEnd) return Unexpected();
      if (t.Is("(")) depth++;
      if (t.Is(")") && --depth == 0) {
        out.text = text_.substr(begin, t.begin - begin);
        out.position = Position(begin);
        Take();
        return {};
      }
      Take();
    }
  }

  bool IfNotExists() { return AcceptAll({"if", "not", "exists"}); }

  // --- statements
  Status Parse(Statement& s) {
    auto& first = Peek();
    if (first.Is("(")) return AsQuery(s);
    if (first.kind != TokenKind::kWord) return Unexpected();
    const std::string word = first.text;
    if (word == "select" || word == "values" || word == "with" || word == "table") return AsQuery(s);
    if (word == "create") return ParseCreate(s);
    if (word == "drop") return ParseDrop(s);
    if (word == "alter") return ParseAlter(s);
    if (word == "show") return ParseShow(s);
    if (word == "describe" || word == "desc") return ParseDescribe(s);
    if (word == "set") return ParseSet(s);
    if (word == "reset") return ParseReset(s);
    if (word == "flush") {
      Take();
      s.node = Flush{};
      s.tag = "FLUSH";
      return ExpectEnd();
    }
    if (word == "explain") return ParseExplain(s);
    if (word == "begin" || word == "start" || word == "commit" || word == "end" || word == "rollback" ||
        word == "abort" || word == "savepoint" || word == "release")
      return ParseTransaction(s);
    if (word == "insert" || word == "update" || word == "delete") return ParseDml(s);
    static const std::set<std::string> ignored = {"discard", "deallocate", "listen", "unlisten", "notify",
                                                  "comment", "grant",      "revoke", "analyze",  "checkpoint"};
    if (ignored.count(word)) {
      std::string tag = word;
      std::transform(tag.begin(), tag.end(), tag.begin(), ::toupper);
      if (word == "discard" || word == "deallocate") {
        if (Peek(1).Is("all") || (word == "deallocate" && Peek(1).Is("prepare") && Peek(2).Is("all"))) tag += " ALL";
      }
      s.node = NoOp{tag};
      s.tag = tag;
      return {};
    }
    static const std::set<std::string> forbidden = {"attach", "detach", "install", "load", "pragma",
                                                    "export", "import", "use",     "copy", "force"};
    if (forbidden.count(word)) {
      std::string upper = word;
      std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
      if (word == "copy") return Refuse("COPY", "Use INSERT, or a source.");
      return std::unexpected(UserError("42501", "{} is not permitted", upper).WithPosition(Position(first.begin)));
    }
    static const std::set<std::string> later = {
        "truncate", "merge",   "declare", "fetch",   "move",     "close", "prepare", "execute",   "vacuum", "lock",
        "do",       "reindex", "cluster", "refresh", "security", "pivot", "from",    "summarize", "call",   "reassign"};
    if (later.count(word)) {
      std::string upper = word;
      std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
      return Refuse(upper, word == "truncate"  ? "Use DELETE without WHERE."
                           : word == "refresh" ? "Materialized views are always fresh."
                                               : "");
    }
    return Unexpected();
  }

  Status AsQuery(Statement& s) {
    s.node = Query{};
    s.tag = "SELECT";
    return {};
  }

  Status ParseCreate(Statement& s) {
    Take();
    bool or_replace = AcceptAll({"or", "replace"});
    if (Peek().Is("temp") || Peek().Is("temporary") || Peek().Is("unlogged")) return Refuse("CREATE TEMPORARY");
    if (Peek().Is("materialized") || Peek().Is("view")) return ParseCreateView(s, or_replace);
    if (or_replace) return Refuse("CREATE OR REPLACE of anything but a view");
    if (Accept("source")) return ParseCreateSource(s);
    if (Accept("table")) return ParseCreateTable(s);
    if (Accept("sink")) return ParseCreateSink(s);
    for (auto what : {"index",  "schema",  "database",  "function",  "type",       "sequence",     "user",
                      "role",   "trigger", "extension", "secret",    "connection", "subscription", "publication",
                      "unique", "macro",   "domain",    "aggregate", "rule",       "foreign"})
      if (Peek().Is(what)) {
        std::string upper = what;
        std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
        return Refuse("CREATE " + upper);
      }
    return Unexpected();
  }

  Status ParseCreateSource(Statement& s) {
    CreateSource c;
    c.if_not_exists = IfNotExists();
    TW_ASSIGN(c.name, QualifiedName());
    if (Accept("(")) TW_TRY(Balanced(c.columns));
    TW_TRY(Expect("with"));
    TW_TRY(ParseOptions(c.options));
    TW_TRY(ExpectEnd());
    s.node = std::move(c);
    s.tag = "CREATE SOURCE";
    return {};
  }

  Status ParseCreateTable(Statement& s) {
    CreateTable c;
    c.if_not_exists = IfNotExists();
    TW_ASSIGN(c.name, QualifiedName());
    if (Peek().Is("as"))
      return Refuse("CREATE TABLE AS", "Create a materialized view, or the table first and INSERT ... SELECT.");
    TW_TRY(Expect("("));
    if (Peek().Is("*") && Peek(1).Is(")")) {
      Take();
      Take();
      c.all_columns = true;
    } else {
      if (Peek().Is(")"))
        return std::unexpected(
            UserError("0A000", "a table needs at least one column").WithPosition(Position(Peek().begin)));
      TW_TRY(Balanced(c.columns));
    }
    TW_TRY(MaybeWith(c.options));
    if (Accept("from")) {
      TW_ASSIGN(auto source, QualifiedName());
      c.source = source;
      TW_TRY(Expect("table"));
      TW_ASSIGN(c.upstream_table, String());
      if (c.options.empty()) TW_TRY(MaybeWith(c.options));
    } else if (c.all_columns) {
      return Unexpected();  // (*) needs FROM source TABLE '...'
    }
    TW_TRY(ExpectEnd());
    s.node = std::move(c);
    s.tag = "CREATE TABLE";
    return {};
  }

  Status ParseCreateView(Statement& s, bool or_replace) {
    CreateView c;
    c.or_replace = or_replace;
    c.materialized = Accept("materialized");
    if (c.materialized && or_replace) return Refuse("CREATE OR REPLACE MATERIALIZED VIEW");
    TW_TRY(Expect("view"));
    c.if_not_exists = IfNotExists();
    TW_ASSIGN(c.name, QualifiedName());
    if (Accept("(")) {
      do {
        TW_ASSIGN(auto column, Word());
        c.column_names.push_back(column);
      } while (Accept(","));
      TW_TRY(Expect(")"));
    }
    TW_TRY(MaybeWith(c.options));
    TW_TRY(Expect("as"));
    TW_TRY(Rest(c.query, c.query_position));
    s.tag = c.materialized ? "CREATE MATERIALIZED VIEW" : "CREATE VIEW";
    s.node = std::move(c);
    return {};
  }

  Status ParseCreateSink(Statement& s) {
    CreateSink c;
    c.if_not_exists = IfNotExists();
    TW_ASSIGN(c.name, QualifiedName());
    if (Accept("from")) {
      TW_ASSIGN(auto from, QualifiedName());
      c.from = from;
    } else {
      TW_TRY(Expect("as"));
      TW_TRY(QueryBeforeOptions(c.query, c.query_position));
    }
    TW_TRY(Expect("with"));
    TW_TRY(ParseOptions(c.options));
    TW_TRY(ExpectEnd());
    s.node = std::move(c);
    s.tag = "CREATE SINK";
    return {};
  }

  Result<ObjectType> Kind() {
    if (Accept("source")) return ObjectType::kSource;
    if (Accept("table")) return ObjectType::kTable;
    if (Accept("sink")) return ObjectType::kSink;
    if (Accept("view")) return ObjectType::kView;
    if (AcceptAll({"materialized", "view"})) return ObjectType::kMaterializedView;
    return Unexpected();
  }

  Status ParseDrop(Statement& s) {
    Take();
    Drop d;
    for (auto what :
         {"index", "schema", "database", "function", "type", "sequence", "user", "role", "trigger", "extension"})
      if (Peek().Is(what)) {
        std::string upper = what;
        std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
        return Refuse("DROP " + upper);
      }
    TW_ASSIGN(d.type, Kind());
    d.if_exists = AcceptAll({"if", "exists"});
    do {
      TW_ASSIGN(auto name, QualifiedName());
      d.names.push_back(name);
    } while (Accept(","));
    if (Accept("cascade"))
      d.cascade = true;
    else
      Accept("restrict");
    TW_TRY(ExpectEnd());
    static const char* tags[] = {"DROP SOURCE", "DROP TABLE", "DROP MATERIALIZED VIEW", "DROP VIEW", "DROP SINK"};
    s.tag = tags[int(d.type)];
    s.node = std::move(d);
    return {};
  }

  Status ParseAlter(Statement& s) {
    Take();
    if (Accept("materialized")) {
      if (!Accept("view")) return Unexpected();
      AlterView a;
      TW_ASSIGN(a.name, QualifiedName());
      if (!Accept("resume")) return Unexpected();
      TW_TRY(ExpectEnd());
      s.node = std::move(a);
      s.tag = "ALTER MATERIALIZED VIEW";
      return {};
    }
    if (!Peek().Is("source")) return Refuse("ALTER of anything but a source or a materialized view");
    Take();
    AlterSource a;
    TW_ASSIGN(a.name, QualifiedName());
    if (!Accept("resume")) {
      bool set = Accept("set");
      bool with = Accept("with");
      if (!set && !with) return Unexpected();
      TW_TRY(ParseOptions(a.options));
    }
    TW_TRY(ExpectEnd());
    s.node = std::move(a);
    s.tag = "ALTER SOURCE";
    return {};
  }

  Status ParseShow(Statement& s) {
    Take();
    Show show;
    s.tag = "SHOW";
    if (Accept("create")) {
      show.kind = ShowKind::kCreate;
      TW_ASSIGN(show.type, Kind());
      TW_ASSIGN(show.name, QualifiedName());
    } else if (Accept("columns")) {
      show.kind = ShowKind::kColumns;
      if (!Accept("from")) TW_TRY(Expect("in"));
      TW_ASSIGN(show.name, QualifiedName());
    } else if (AcceptAll({"materialized", "views"})) {
      show.kind = ShowKind::kMaterializedViews;
    } else if (AcceptAll({"time", "zone"})) {
      show.setting = "timezone";
    } else if (AcceptAll({"transaction", "isolation", "level"})) {
      show.setting = "transaction_isolation";
    } else if (AcceptAll({"session", "authorization"})) {
      show.setting = "session_authorization";
    } else {
      static const std::map<std::string, ShowKind> kinds = {
          {"tables", ShowKind::kTables}, {"sources", ShowKind::kSources}, {"views", ShowKind::kViews},
          {"sinks", ShowKind::kSinks},   {"jobs", ShowKind::kJobs},       {"all", ShowKind::kAll},
          {"errors", ShowKind::kErrors}};
      TW_ASSIGN(auto word, Word());
      auto it = kinds.find(word);
      if (it != kinds.end()) {
        show.kind = it->second;
      } else {
        show.setting = word;
        while (Accept(".")) {
          TW_ASSIGN(auto part, Word());
          show.setting += "." + part;
        }
      }
    }
    TW_TRY(ExpectEnd());
    s.node = std::move(show);
    return {};
  }

  Status ParseDescribe(Statement& s) {
    Take();
    Show show;
    show.kind = ShowKind::kColumns;
    TW_ASSIGN(show.name, QualifiedName());
    TW_TRY(ExpectEnd());
    s.node = std::move(show);
    s.tag = "DESCRIBE";
    return {};
  }

  Result<std::string> SettingName() {
    TW_ASSIGN(auto name, Word());
    while (Accept(".")) {
      TW_ASSIGN(auto part, Word());
      name += "." + part;
    }
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return name;
  }

  Status SettingValue(Set& set) {
    if (Accept("default")) return {};
    std::string value;
    do {
      if (!value.empty()) value += ", ";
      if (Accept("-")) value += "-";
      auto& t = Peek();
      if (t.kind != TokenKind::kString && t.kind != TokenKind::kNumber && !t.IsName()) return Unexpected();
      value += Take().text;
    } while (Accept(","));
    set.value = value;
    return {};
  }

  Status ParseSet(Statement& s) {
    Take();
    Set set;
    s.tag = "SET";
    if (AcceptAll({"session", "characteristics"}) || Peek().Is("transaction") || Peek().Is("constraints") ||
        (Peek().Is("session") && Peek(1).Is("authorization")) || (Peek().Is("role"))) {
      s.node = NoOp{"SET"};
      return {};
    }
    if (Accept("local"))
      set.local = true;
    else if (Peek().Is("session") && Peek(1).IsName())
      Take();
    if (AcceptAll({"time", "zone"})) {
      set.name = "timezone";
      if (!Accept("local")) TW_TRY(SettingValue(set));
    } else if (Accept("names")) {
      set.name = "client_encoding";
      TW_TRY(SettingValue(set));
    } else {
      TW_ASSIGN(set.name, SettingName());
      if (!Accept("=")) TW_TRY(Expect("to"));
      TW_TRY(SettingValue(set));
    }
    TW_TRY(ExpectEnd());
    s.node = std::move(set);
    return {};
  }

  Status ParseReset(Statement& s) {
    Take();
    Set set;
    if (AcceptAll({"time", "zone"})) {
      set.name = "timezone";
    } else {
      TW_ASSIGN(set.name, SettingName());
    }
    TW_TRY(ExpectEnd());
    s.node = std::move(set);
    s.tag = "RESET";
    return {};
  }

  Status ParseExplain(Statement& s) {
    Take();
    Explain e;
    s.tag = "EXPLAIN";
    if (Peek().Is("(") && Peek(1).kind == TokenKind::kWord && !Peek(1).Is("select") && !Peek(1).Is("values") &&
        !Peek(1).Is("with")) {
      Take();
      do {
        TW_ASSIGN(auto option, Word());
        std::string value = "true";
        if (Peek().kind == TokenKind::kWord || Peek().kind == TokenKind::kNumber || Peek().kind == TokenKind::kString)
          value = Take().text;
        if (option == "analyze") e.analyze = value != "false" && value != "off" && value != "0";
        if (option == "format" && value != "text") return Refuse("EXPLAIN (FORMAT " + value + ")");
      } while (Accept(","));
      TW_TRY(Expect(")"));
    }
    if (Accept("analyze")) e.analyze = true;
    Accept("verbose");
    if (Accept("create")) {
      e.view = true;
      if (Accept("sink")) {
        IfNotExists();
        TW_TRY(QualifiedName());
        if (Peek().Is("from")) return Refuse("EXPLAIN CREATE SINK FROM");
        TW_TRY(Expect("as"));
        TW_TRY(QueryBeforeOptions(e.query, e.query_position));
        Options options;
        TW_TRY(MaybeWith(options));
      } else {
        TW_TRY(Expect("materialized"));
        TW_TRY(Expect("view"));
        IfNotExists();
        TW_TRY(QualifiedName());
        if (Accept("(")) {
          ColumnList names;
          TW_TRY(Balanced(names));
        }
        Options options;
        TW_TRY(MaybeWith(options));
        TW_TRY(Expect("as"));
        TW_TRY(Rest(e.query, e.query_position));
      }
      if (e.analyze) return Refuse("EXPLAIN ANALYZE of a view");
    } else {
      if (Peek().Is("insert") || Peek().Is("update") || Peek().Is("delete")) return Refuse("EXPLAIN of a change");
      if (!Peek().Is("select") && !Peek().Is("values") && !Peek().Is("with") && !Peek().Is("table") && !Peek().Is("("))
        return Unexpected();
      TW_TRY(Rest(e.query, e.query_position));
    }
    s.node = std::move(e);
    return {};
  }

  Status TransactionModes(Transaction& t) {
    while (!AtEnd()) {
      if (AcceptAll({"isolation", "level"})) {
        if (!AcceptAll({"read", "committed"}) && !AcceptAll({"read", "uncommitted"}) &&
            !AcceptAll({"repeatable", "read"}) && !Accept("serializable"))
          return Unexpected();
      } else if (AcceptAll({"read", "only"})) {
        t.read_only = true;
      } else if (!AcceptAll({"read", "write"}) && !AcceptAll({"not", "deferrable"}) && !Accept("deferrable") &&
                 !Accept(",")) {
        return Unexpected();
      }
    }
    return {};
  }

  Status ParseTransaction(Statement& s) {
    Transaction t;
    auto word = Take().text;
    auto noise = [&] {
      if (!Accept("work")) Accept("transaction");
    };
    if (word == "begin" || word == "start") {
      if (word == "start")
        TW_TRY(Expect("transaction"));
      else
        noise();
      TW_TRY(TransactionModes(t));
      s.tag = word == "start" ? "START TRANSACTION" : "BEGIN";
    } else if (word == "commit" || word == "end") {
      t.kind = TransactionKind::kCommit;
      if (Peek().Is("prepared")) return Refuse("COMMIT PREPARED");
      noise();
      s.tag = "COMMIT";
    } else if (word == "rollback" || word == "abort") {
      t.kind = TransactionKind::kRollback;
      noise();
      s.tag = "ROLLBACK";
      if (Accept("to")) {
        Accept("savepoint");
        t.kind = TransactionKind::kRollbackTo;
        TW_ASSIGN(t.savepoint, Word());
      }
    } else {
      t.kind = word == "savepoint" ? TransactionKind::kSavepoint : TransactionKind::kRelease;
      if (word == "release") Accept("savepoint");
      TW_ASSIGN(t.savepoint, Word());
      s.tag = word == "savepoint" ? "SAVEPOINT" : "RELEASE";
    }
    TW_TRY(ExpectEnd());
    s.node = std::move(t);
    return {};
  }

  Status ParseDml(Statement& s) {
    Dml d;
    auto word = Take().text;
    if (word == "insert") {
      d.kind = DmlKind::kInsert;
      TW_TRY(Expect("into"));
      s.tag = "INSERT";
    } else if (word == "update") {
      d.kind = DmlKind::kUpdate;
      Accept("only");
      s.tag = "UPDATE";
    } else {
      d.kind = DmlKind::kDelete;
      TW_TRY(Expect("from"));
      Accept("only");
      s.tag = "DELETE";
    }
    TW_ASSIGN(d.table, QualifiedName());
    s.node = std::move(d);
    return {};
  }

  std::string Redacted() const {
    std::string out;
    size_t at = 0;
    for (auto [begin, end] : secrets_) {
      out += text_.substr(at, begin - at) + "'[REDACTED]'";
      at = end;
    }
    return out + text_.substr(at);
  }

  const std::string& text_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::vector<std::pair<size_t, size_t>> secrets_;
};

}  // namespace

Result<std::vector<std::string>> SplitStatements(const std::string& sql) {
  TW_ASSIGN(auto tokens, Tokenize(sql));
  std::vector<std::string> statements;
  size_t first = 0;
  for (size_t i = 0; i < tokens.size(); i++) {
    if (!tokens[i].Is(";") && tokens[i].kind != TokenKind::kEnd) continue;
    if (i > first) statements.push_back(sql.substr(tokens[first].begin, tokens[i - 1].end - tokens[first].begin));
    first = i + 1;
  }
  return statements;
}

Result<Statement> ParseStatement(const std::string& text) {
  TW_ASSIGN(auto tokens, Tokenize(text));
  if (tokens.size() == 1) return std::unexpected(UserError("42601", "the statement is empty"));
  std::string trimmed = text;
  if (tokens.size() > 1 && tokens[tokens.size() - 2].Is(";")) {
    trimmed = text.substr(0, tokens[tokens.size() - 2].begin);
    TW_ASSIGN(tokens, Tokenize(trimmed));
    if (tokens.size() == 1) return std::unexpected(UserError("42601", "the statement is empty"));
  }
  for (size_t i = 0; i < tokens.size(); i++)
    if (tokens[i].Is(";"))
      return std::unexpected(UserError("42601", "cannot insert multiple commands into a prepared statement"));
  return Parser(trimmed, std::move(tokens)).Run();
}

std::string QuoteIdentifier(const std::string& name) {
  static const std::set<std::string> reserved = {"all",
                                                 "analyse",
                                                 "analyze",
                                                 "and",
                                                 "any",
                                                 "array",
                                                 "as",
                                                 "asc",
                                                 "asymmetric",
                                                 "both",
                                                 "case",
                                                 "cast",
                                                 "check",
                                                 "collate",
                                                 "column",
                                                 "constraint",
                                                 "create",
                                                 "current_date",
                                                 "current_role",
                                                 "current_time",
                                                 "current_timestamp",
                                                 "current_user",
                                                 "default",
                                                 "deferrable",
                                                 "desc",
                                                 "distinct",
                                                 "do",
                                                 "else",
                                                 "end",
                                                 "except",
                                                 "false",
                                                 "fetch",
                                                 "for",
                                                 "foreign",
                                                 "from",
                                                 "grant",
                                                 "group",
                                                 "having",
                                                 "in",
                                                 "initially",
                                                 "intersect",
                                                 "into",
                                                 "lateral",
                                                 "leading",
                                                 "limit",
                                                 "localtime",
                                                 "localtimestamp",
                                                 "not",
                                                 "null",
                                                 "offset",
                                                 "on",
                                                 "only",
                                                 "or",
                                                 "order",
                                                 "placing",
                                                 "primary",
                                                 "references",
                                                 "returning",
                                                 "select",
                                                 "session_user",
                                                 "some",
                                                 "symmetric",
                                                 "table",
                                                 "then",
                                                 "to",
                                                 "trailing",
                                                 "true",
                                                 "union",
                                                 "unique",
                                                 "user",
                                                 "using",
                                                 "variadic",
                                                 "when",
                                                 "where",
                                                 "window",
                                                 "with",
                                                 "join",
                                                 "left",
                                                 "right",
                                                 "full",
                                                 "inner",
                                                 "outer",
                                                 "cross",
                                                 "natural",
                                                 "is",
                                                 "isnull",
                                                 "notnull",
                                                 "like",
                                                 "ilike",
                                                 "similar",
                                                 "overlaps",
                                                 "freeze",
                                                 "verbose",
                                                 "binary"};
  bool plain = !name.empty() && (std::islower(static_cast<unsigned char>(name[0])) || name[0] == '_');
  for (unsigned char c : name) plain = plain && (std::islower(c) || std::isdigit(c) || c == '_');
  if (plain && !reserved.count(name) && !IsReservedByDuckDBAlone(name)) return name;
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string QuoteLiteral(const std::string& text) {
  std::string quoted = "'";
  for (char c : text) {
    if (c == '\'') quoted += '\'';
    quoted += c;
  }
  return quoted + '\'';
}

}  // namespace tidewater::sql
