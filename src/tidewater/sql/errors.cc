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

bool Contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

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
                                                           {"TIMESTAMP_NS", "timestamp"}};
  auto base = duckdb.substr(0, duckdb.find('('));
  auto it = names.find(base);
  return it == names.end() ? duckdb : it->second;
}

struct Case {
  const char* state;
  std::string message;
};

Case Conversion(const std::string& raw) {
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
    std::string text = call.empty() ? name : call;
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return {"42883", fmt::format("function {} does not exist", text)};
  }
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
  // Behind the first line come candidates and an excerpt of the query: hints at best, secrets at worst.
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
        c.state = "42601";
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
    auto begin = rest.find("Did you mean");
    if (begin == std::string::npos) begin = rest.find("Candidate");
    if (begin != std::string::npos && out.sqlstate.substr(0, 2) == "42") {
      auto end = rest.find("\n\n", begin);
      auto line = rest.find("LINE ", begin);
      out.hint = rest.substr(begin, std::min(end, line) - begin);
      while (!out.hint.empty() && std::isspace(static_cast<unsigned char>(out.hint.back()))) out.hint.pop_back();
    }
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
