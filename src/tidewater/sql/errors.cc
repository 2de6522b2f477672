#include "tidewater/sql/errors.h"
#include <algorithm>
#include <map>
#include <regex>
#include "tidewater/sql/frontend.h"
#include "tidewater/sql/tokens.h"

namespace tidewater::sql {
namespace {

using duckdb::ExceptionType;

std::string Extra(const duckdb::ErrorData& e, const char* key) {
  auto it = e.ExtraInfo().find(key);
  return it == e.ExtraInfo().end() ? std::string() : it->second;
}

/// The text between the first pair of quotes, else empty.
std::string Quoted(const std::string& text, char quote = '"') {
  auto a = text.find(quote);
  if (a == std::string::npos) return {};
  auto b = text.find(quote, a + 1);
  return b == std::string::npos ? std::string() : text.substr(a + 1, b - a - 1);
}

bool Contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// PostgreSQL's name of a type that DuckDB's messages call INT32 and the like.
std::string TypeName(const std::string& duckdb) {
  static const std::map<std::string, std::string> names = {{"INT8", "smallint"},
                                                           {"INT16", "smallint"},
                                                           {"INT32", "integer"},
                                                           {"INT64", "bigint"},
                                                           {"INT128", "numeric"},
                                                           {"FLOAT", "real"},
                                                           {"DOUBLE", "double precision"},
                                                           {"BOOL", "boolean"},
                                                           {"BOOLEAN", "boolean"},
                                                           {"TIMESTAMP", "timestamp"},
                                                           {"DATE", "date"},
                                                           {"TIME", "time"},
                                                           {"INTERVAL", "interval"},
                                                           {"UUID", "uuid"},
                                                           {"VARCHAR", "text"},
                                                           {"DECIMAL", "numeric"},
                                                           {"INTEGER", "integer"},
                                                           {"BIGINT", "bigint"},
                                                           {"SMALLINT", "smallint"},
                                                           {"TINYINT", "smallint"},
                                                           {"TIMESTAMP_NS", "timestamp"},
                                                           {"HUGEINT", "numeric"},
                                                           {"BLOB", "bytea"},
                                                           {"INTEGER_LITERAL", "integer"},
                                                           {"STRING_LITERAL", "unknown"},
                                                           {"TIMESTAMP WITH TIME ZONE", "timestamp with time zone"},
                                                           {"TIME WITH TIME ZONE", "time with time zone"}};
  if (duckdb.ends_with("[]")) return TypeName(duckdb.substr(0, duckdb.size() - 2)) + "[]";
  auto base = duckdb.substr(0, duckdb.find('('));
  auto it = names.find(base);
  return it == names.end() ? duckdb : it->second;
}

/// "operator does not exist: integer + text", "function lower(integer) does not exist", of a call in DuckDB's messages:
/// f(TYPE, ...).
std::string NoCall(const std::string& call, const char* verdict) {
  auto open = call.find('(');
  if (open == std::string::npos || call.back() != ')') return fmt::format("function {} {}", call, verdict);
  auto name = call.substr(0, open);
  std::vector<std::string> types;
  auto list = call.substr(open + 1, call.size() - open - 2);
  int depth = 0;
  std::string type;
  for (char c : list + ',') {
    if (c == '(' || c == '[') depth++;
    if (c == ')' || c == ']') depth--;
    if (c == ',' && depth == 0) {
      if (!type.empty()) types.push_back(TypeName(type));
      type.clear();
    } else if (c != ' ' || !type.empty()) {
      type += c;
    }
  }
  bool is_operator = !name.empty() && std::none_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c >= 0x80;
  });
  if (is_operator && name.back() == '@' && Contains(name, "~")) name.pop_back();  // ours, see rewrite.h
  if (is_operator && types.size() == 2) return fmt::format("operator {}: {} {} {}", verdict, types[0], name, types[1]);
  if (is_operator && types.size() == 1) return fmt::format("operator {}: {} {}", verdict, name, types[0]);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return fmt::format("function {}({}) {}", name, fmt::join(types, ", "), verdict);
}

struct Case {
  const char* state;
  std::string message;
};

Case Conversion(const std::string& raw) {
  // Of casts.cc, like the next one.
  if (raw.starts_with("invalid input syntax for type") || raw.starts_with("malformed array literal"))
    return {"22P02", raw};
  if (raw.starts_with("value \"") && Contains(raw, "\" is out of range for type")) return {"22003", raw};
  std::smatch m;
  static const std::regex convert("Could not convert string ['\"]([\\s\\S]*)['\"] to ([A-Z0-9_]+)(\\([0-9,]+\\))?");
  if (std::regex_search(raw, m, convert))
    return {"22P02", fmt::format("invalid input syntax for type {}: \"{}\"", TypeName(m[2]), m[1].str())};
  static const std::regex temporal("(?:invalid|date|time|timestamp|interval)[^\"]*field format: \"([^\"]*)\"");
  if (std::regex_search(raw, m, temporal)) {
    auto type = Contains(raw, "timestamp")  ? "timestamp"
                : Contains(raw, "date")     ? "date"
                : Contains(raw, "interval") ? "interval"
                                            : "time";
    return {"22007", fmt::format("invalid input syntax for type {}: \"{}\"", type, m[1].str())};
  }
  if (Contains(raw, "field value out of range")) {
    auto value = Quoted(raw);
    return {"22008", value.empty() ? raw : fmt::format("date/time field value out of range: \"{}\"", value)};
  }
  if (Contains(raw, "out of range") || Contains(raw, "Could not cast value") || Contains(raw, "can't be cast")) {
    static const std::regex range("(?:destination type|to type|to) ([A-Z0-9_]+)");
    if (std::regex_search(raw, m, range)) return {"22003", fmt::format("{} out of range", TypeName(m[1]))};
    return {"22003", raw};
  }
  if (Contains(raw, "Could not convert string")) return {"22P02", raw};
  return {"22023", raw};
}

/// What DuckDB's parser refuses although it understands it.
Case Syntax(const std::string& raw) {
  if (raw == "A CTE needs a SELECT") return {"0A000", "INSERT, UPDATE and DELETE inside WITH are not supported"};
  if (Contains(raw, "SELECT locking clause")) return {"0A000", "FOR UPDATE and FOR SHARE are not supported"};
  if (Contains(raw, "SELECT INTO")) return {"0A000", "SELECT INTO is not supported"};
  return {Contains(raw, "not supported") ? "0A000" : "42601", raw};
}

Case Range(const std::string& raw) {
  std::smatch m;
  static const std::regex overflow("Overflow in (\\w+) of ([A-Z0-9_]+)");
  if (std::regex_search(raw, m, overflow)) return {"22003", fmt::format("{} out of range", TypeName(m[2]))};
  return {"22003", raw};
}

Case Catalog(const duckdb::ErrorData& e, const std::string& raw) {
  auto name = Extra(e, "name"), type = Extra(e, "type");
  if (Contains(raw, "Table with name") || Contains(raw, "View with name") || type == "Table") {
    std::smatch m;
    static const std::regex named("(?:Table|View) with name \"?([^\" ]+)\"? does not exist");
    if (name.empty() && std::regex_search(raw, m, named)) name = m[1];
    return {"42P01", fmt::format("relation \"{}\" does not exist", name)};
  }
  if (Contains(raw, "Function with name")) {
    std::smatch m;
    static const std::regex named("with name \"?([^\" ]+)\"? does not exist");
    if (name.empty() && std::regex_search(raw, m, named)) name = m[1];
    return {"42883", fmt::format("function {} does not exist", name)};
  }
  if (Contains(raw, "Type with name")) {
    std::smatch m;
    static const std::regex named("with name \"?([^\" ]+)\"? does not exist");
    if (name.empty() && std::regex_search(raw, m, named)) name = m[1];
    return {"42704", fmt::format("type \"{}\" does not exist", name)};
  }
  if (Contains(raw, "chema") && Contains(raw, "does not exist")) return {"3F000", raw};
  if (Contains(raw, "Collation")) return {"42704", raw};
  if (Contains(raw, "already exists")) {
    auto column = Contains(raw, "Column with name") ? "42701" : "42P07";
    return {column, raw};
  }
  return {"42704", raw};
}

/// The candidate that DuckDB names (Candidate bindings: "a", "b") for a column, if it is as near as PostgreSQL wants
/// it.
std::string Meant(const std::string& name, const std::string& candidates) {
  auto begin = candidates.find("Candidate bindings");
  if (begin == std::string::npos) return {};
  auto line = candidates.substr(begin, candidates.find('\n', begin) - begin);
  std::string best;
  size_t least = std::min<size_t>(3, name.size() / 2) + 1;
  static const std::regex quoted("\"([^\"]+)\"");
  for (std::sregex_iterator m(line.begin(), line.end(), quoted), end; m != end; ++m) {
    auto candidate = (*m)[1].str();
    if (candidate.size() > 64) continue;
    auto distance = duckdb::StringUtil::LevenshteinDistance(name, candidate);
    if (distance >= least) continue;
    least = distance;
    best = candidate;
  }
  return best;
}

Case Binder(const duckdb::ErrorData& e, const std::string& raw) {
  auto subtype = Extra(e, "error_subtype"), name = Extra(e, "name");
  if (subtype == "COLUMN_NOT_FOUND" || Contains(raw, "not found in FROM clause") ||
      Contains(raw, "does not have a column named")) {
    if (name.empty() || Contains(raw, "does not have a column named")) {
      auto last = raw.rfind('"');
      auto before = last == std::string::npos || last == 0 ? std::string::npos : raw.rfind('"', last - 1);
      name = Contains(raw, "does not have a column named") && before != std::string::npos
                 ? raw.substr(before + 1, last - before - 1)
                 : Quoted(raw);
    }
    return {"42703", fmt::format("column \"{}\" does not exist", name)};
  }
  if (Contains(raw, "Referenced table"))
    return {"42P01", fmt::format("missing FROM-clause entry for table \"{}\"", Quoted(raw))};
  if (Contains(raw, "Ambiguous reference to column"))
    return {"42702", fmt::format("column reference \"{}\" is ambiguous", Quoted(raw))};
  if (subtype == "NO_MATCHING_FUNCTION" || Contains(raw, "No function matches")) {
    auto call = Quoted(raw, '\'');
    return {"42883", NoCall(call.empty() ? name : call, "does not exist")};
  }
  if (Contains(raw, "Could not choose a best candidate function"))
    return {"42725", NoCall(Quoted(raw), "is not unique")};
  if (Contains(raw, "side of join!"))
    return {"42703", fmt::format("column \"{}\" specified in USING clause does not exist in {} table", Quoted(raw),
                                 Contains(raw, "left side") ? "left" : "right")};
  if (Contains(raw, "referenced that exists in the SELECT clause"))
    return {"42703", fmt::format("column \"{}\" does not exist", Quoted(raw))};
  if (Contains(raw, "must appear in the GROUP BY clause"))
    return {"42803", fmt::format("column \"{}\" must appear in the GROUP BY clause or be used in an aggregate function",
                                 Quoted(raw))};
  if (Contains(raw, "cannot contain aggregates")) return {"42803", "aggregate functions are not allowed in WHERE"};
  if (Contains(raw, "cannot contain window")) return {"42P20", raw};
  if (Contains(raw, "Cannot compare values of type") || Contains(raw, "Cannot mix values of type"))
    return {"42804", raw};
  if (Contains(raw, "Could not determine type") || Contains(raw, "parameter")) return {"42P18", raw};
  if (Contains(raw, "does not support the supplied arguments")) {  // a macro of DuckDB
    auto end = raw.find("()");
    auto begin = raw.rfind(' ', end);
    if (end != std::string::npos && begin != std::string::npos)
      return {"42883",
              fmt::format("function {} does not exist with these arguments", raw.substr(begin + 1, end - begin - 1))};
  }
  if (Contains(raw, "Duplicate alias"))
    return {"42712", fmt::format("table name \"{}\" specified more than once", Quoted(raw))};
  if (Contains(raw, "does not exist")) return {"42704", raw};
  if (Contains(raw, "Set operations can only apply to expressions with the same number"))
    return {"42601", "each UNION query must have the same number of columns"};
  return {"42601", raw};
}

}  // namespace

Error Translate(const duckdb::ErrorData& given, const std::string& sql, const Rewritten* rewritten) {
  // Results carry errors as JSON (errors_as_json), which alone keeps the position.
  const bool json = !given.RawMessage().empty() && given.RawMessage()[0] == '{';
  const duckdb::ErrorData e = json ? duckdb::ErrorData(std::runtime_error(given.RawMessage())) : given;
  std::string raw = e.RawMessage(), rest;
  // Behind the first line come candidates and an excerpt of the query, which may hold secrets.
  if (auto line = raw.find('\n'); line != std::string::npos) {
    rest = raw.substr(line + 1);
    raw = raw.substr(0, line);
  }
  Error out;
  out.kind = ErrorKind::kUser;
  if (auto state = Extra(e, "tw_sqlstate"); !state.empty()) {
    out.sqlstate = state;
    out.message = e.RawMessage();
    out.detail = Extra(e, "tw_detail");
    out.hint = Extra(e, "tw_hint");
    if (state == "57014") out.kind = ErrorKind::kCancelled;
  } else {
    Case c{"XX000", raw};
    switch (e.Type()) {
      case ExceptionType::PARSER:
      case ExceptionType::SYNTAX:
        c = Syntax(raw);
        break;
      case ExceptionType::CATALOG:
        c = Catalog(e, raw);
        break;
      case ExceptionType::BINDER:
      case ExceptionType::PLANNER:
        c = Binder(e, raw);
        break;
      case ExceptionType::CONVERSION:
        c = Conversion(raw);
        break;
      case ExceptionType::OUT_OF_RANGE:
        c = Range(raw);
        break;
      case ExceptionType::DIVIDE_BY_ZERO:
        c = {"22012", "division by zero"};
        break;
      case ExceptionType::INVALID_INPUT:
        c = Contains(raw, "Could not convert")                      ? Conversion(raw)
            : Contains(raw, "aggregate") && Contains(raw, "nested") ? Case{"42803", raw}
                                                                    : Case{"22023", raw};
        if (Contains(raw, "Values were not provided")) c = {"08P01", raw};
        break;
      case ExceptionType::MISMATCH_TYPE:
      case ExceptionType::INVALID_TYPE:
        c.state = "42804";
        break;
      case ExceptionType::PARAMETER_NOT_RESOLVED:
      case ExceptionType::PARAMETER_NOT_ALLOWED:
        c = {"42P18", "could not determine data type of parameter"};
        break;
      case ExceptionType::INTERRUPT:
        c = {"57014", "canceling statement due to user request"};
        out.kind = ErrorKind::kCancelled;
        break;
      case ExceptionType::PERMISSION:
        c.state = "42501";
        break;
      case ExceptionType::MISSING_EXTENSION:
      case ExceptionType::AUTOLOAD:
      case ExceptionType::NOT_IMPLEMENTED:
        c.state = "0A000";
        break;
      case ExceptionType::OUT_OF_MEMORY:
        c.state = "53200";
        break;
      case ExceptionType::CONSTRAINT:
        c.state = "23000";
        break;
      case ExceptionType::TRANSACTION:
        c.state = "25000";
        break;
      case ExceptionType::DEPENDENCY:
        c.state = "2BP01";
        break;
      case ExceptionType::IO:
        c.state = "58030";
        out.kind = ErrorKind::kIo;
        break;
      default:
        out.kind = ErrorKind::kInternal;
        break;
    }
    out.sqlstate = c.state;
    out.message = c.message;
    // DuckDB's own hints name its internals and tables that the user cannot know.
    if (auto column = out.sqlstate == "42703" ? Meant(Quoted(out.message), rest) : ""; !column.empty())
      out.hint = fmt::format("Perhaps you meant to reference the column \"{}\".", column);
    auto what = out.message.starts_with("operator") ? "operator" : "function";
    if (out.sqlstate == "42883")
      out.hint = fmt::format(
          "No {} matches the given name and argument types. You might need to add explicit type casts.", what);
    else if (out.sqlstate == "42725")
      out.hint = fmt::format("Could not choose a best candidate {}. You might need to add explicit type casts.", what);
  }
  auto position = Extra(e, "position");
  if (!position.empty() && !sql.empty()) {
    size_t offset = std::strtoull(position.c_str(), nullptr, 10);
    if (rewritten) offset = rewritten->Original(offset);
    if (offset <= sql.size()) out.position = CharacterPosition(sql, offset);
  }
  return out;
}

Error FromDuckDB(const duckdb::ErrorData& error, const std::string& sql) { return Translate(error, sql, nullptr); }
Error FromException(const std::exception& exception, const std::string& sql) {
  return Translate(duckdb::ErrorData(exception), sql, nullptr);
}

}  // namespace tidewater::sql
