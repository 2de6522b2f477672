#include <algorithm>
#include <charconv>
#include "duckdb.hpp"
#include "duckdb/common/operator/cast_operators.hpp"
#include "duckdb/common/types/decimal.hpp"
#include "duckdb/common/vector_operations/unary_executor.hpp"
#include "duckdb/function/cast/cast_function_set.hpp"
#include "duckdb/function/cast_rules.hpp"
#include "tidewater/base/result.h"
#include "tidewater/sql/functions.h"
#include "tidewater/sql/pg_types.h"

namespace tidewater::sql {
namespace {

using duckdb::BindCastInput;
using duckdb::BoundCastInfo;
using duckdb::CastParameters;
using duckdb::idx_t;
using duckdb::string_t;
using duckdb::Vector;

/// As PostgreSQL's isspace in the C locale.
bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view Trim(std::string_view s) {
  while (!s.empty() && IsBlank(s.front())) s.remove_prefix(1);
  while (!s.empty() && IsBlank(s.back())) s.remove_suffix(1);
  return s;
}

std::string_view Trim(const string_t& text) { return Trim(std::string_view(text.GetData(), text.GetSize())); }

/// What errors.cc gives a SQLSTATE by its first words.
std::string Malformed(const string_t& text, const std::string& type) {
  return fmt::format("invalid input syntax for type {}: \"{}\"", type, text.GetString());
}
std::string TooLarge(const string_t& text, const std::string& type) {
  return fmt::format("value \"{}\" is out of range for type {}", text.GetString(), type);
}
std::string NameOf(const LogicalType& type) {
  auto pg = ToPg(type);
  return FormatType(pg.oid, pg.modifier);
}

/// Blanks, a sign, digits, blanks: DuckDB also takes fractions, exponents and underscores.
template <class T>
bool ToInteger(Vector& source, Vector& result, idx_t count, CastParameters& parameters) {
  bool all = true;
  duckdb::UnaryExecutor::ExecuteWithNulls<string_t, T>(
      source, result, count, [&](string_t text, duckdb::ValidityMask& mask, idx_t row) {
        auto digits = Trim(text);
        if (digits.starts_with('+') && digits.size() > 1 && IsDigit(digits[1])) digits.remove_prefix(1);
        T value = 0;
        auto end = digits.data() + digits.size();
        auto [at, error] = std::from_chars(digits.data(), end, value);
        if (error == std::errc() && at == end) return value;
        auto type = NameOf(result.GetType());
        bool large = error == std::errc::result_out_of_range && at == end;
        duckdb::HandleCastError::AssignError(large ? TooLarge(text, type) : Malformed(text, type), parameters);
        mask.SetInvalid(row);
        all = false;
        return T(0);
      });
  return all;
}

/// [sign] digits [. digits] [e [sign] digits], with at least one digit before the exponent.
bool IsNumber(std::string_view s) {
  size_t at = 0;
  auto digits = [&] {
    size_t begin = at;
    while (at < s.size() && IsDigit(s[at])) at++;
    return at - begin;
  };
  auto sign = [&] {
    if (at < s.size() && (s[at] == '+' || s[at] == '-')) at++;
  };
  sign();
  auto whole = digits();
  size_t fraction = 0;
  if (at < s.size() && s[at] == '.') {
    at++;
    fraction = digits();
  }
  if (whole + fraction == 0) return false;
  if (at < s.size() && (s[at] == 'e' || s[at] == 'E')) {
    at++;
    sign();
    if (digits() == 0) return false;
  }
  return at == s.size();
}

struct TheirCast : duckdb::BoundCastData {
  explicit TheirCast(BoundCastInfo info) : theirs(std::move(info)) {}
  BoundCastInfo theirs;
  duckdb::unique_ptr<BoundCastData> Copy() const override { return duckdb::make_uniq<TheirCast>(theirs.Copy()); }
};

/// DuckDB's own cast, which does not tell what is no number from what is too large for the type.
bool ToDecimal(Vector& source, Vector& result, idx_t count, CastParameters& parameters) {
  auto& theirs = parameters.cast_data->Cast<TheirCast>().theirs;
  std::string ignored;
  CastParameters inner(parameters, theirs.cast_data.get(), parameters.local_state);
  inner.error_message = &ignored;
  if (theirs.function(source, result, count, inner)) return true;
  duckdb::UnifiedVectorFormat given, made;
  source.ToUnifiedFormat(count, given);
  result.ToUnifiedFormat(count, made);
  for (idx_t i = 0; i < count; i++) {
    auto from = given.sel->get_index(i);
    if (!given.validity.RowIsValid(from) || made.validity.RowIsValid(made.sel->get_index(i))) continue;
    auto& text = duckdb::UnifiedVectorFormat::GetData<string_t>(given)[from];
    auto type = NameOf(result.GetType());
    duckdb::HandleCastError::AssignError(IsNumber(Trim(text)) ? TooLarge(text, type) : Malformed(text, "numeric"),
                                         parameters);
    break;
  }
  return false;
}

BoundCastInfo BindToDecimal(BindCastInput& input, const LogicalType& source, const LogicalType& target) {
  return BoundCastInfo(
      ToDecimal, duckdb::make_uniq<TheirCast>(duckdb::DefaultCasts::GetDefaultCastFunction(input, source, target)));
}

/// An array literal of PostgreSQL as DuckDB writes lists: '{1,NULL,"a b",{...}}' becomes '["1", NULL, "a b", [...]]'.
/// What does not begin with a brace stays as it is; false when what does is malformed.
bool ToListText(std::string_view text, std::string& out) {
  out.clear();
  if (!text.starts_with('{')) {
    out = text;
    return true;
  }
  int depth = 0;
  bool want_item = false;  // behind a comma
  size_t at = 0;
  auto blanks = [&] {
    while (at < text.size() && IsBlank(text[at])) at++;
  };
  auto quote = [&](std::string_view item) {
    out += '"';
    for (char c : item) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    out += '"';
  };
  do {
    blanks();
    if (at == text.size()) return false;
    char c = text[at];
    if (c == '{') {
      at++;
      depth++;
      out += '[';
      blanks();
      want_item = at < text.size() && text[at] != '}';
      continue;
    }
    if (c != '}' || want_item) {
      std::string item;
      bool quoted = c == '"';
      if (quoted) at++;
      while (true) {
        if (at == text.size()) return false;
        c = text[at];
        if (quoted ? c == '"' : c == ',' || c == '}') break;
        if (!quoted && (c == '{' || c == '"')) return false;
        if (c == '\\' && ++at == text.size()) return false;
        item += text[at++];
      }
      if (quoted) at++;
      auto bare = Trim(std::string_view(item));
      if (!quoted && bare.empty()) return false;
      if (!quoted && duckdb::StringUtil::CIEquals(std::string(bare), "null"))
        out += "NULL";
      else
        quote(quoted ? std::string_view(item) : bare);
      want_item = false;
    }
    // Behind an item: the end of its array and of those around it, or a comma.
    for (blanks(); at < text.size() && text[at] == '}'; blanks()) {
      at++;
      out += ']';
      if (--depth == 0) break;
    }
    if (depth > 0) {
      if (at == text.size() || text[at] != ',') return false;
      at++;
      out += ", ";
      want_item = true;
    }
  } while (depth > 0);
  blanks();
  return at == text.size();
}

bool ToList(Vector& source, Vector& result, idx_t count, CastParameters& parameters) {
  Vector texts(LogicalType::VARCHAR, std::max<idx_t>(count, 1));
  bool all = true;
  std::string list;
  duckdb::UnaryExecutor::ExecuteWithNulls<string_t, string_t>(
      source, texts, count, [&](string_t text, duckdb::ValidityMask& mask, idx_t row) {
        if (ToListText(Trim(text), list)) return duckdb::StringVector::AddString(texts, list);
        duckdb::HandleCastError::AssignError(fmt::format("malformed array literal: \"{}\"", text.GetString()),
                                             parameters);
        mask.SetInvalid(row);
        all = false;
        return string_t();
      });
  auto& theirs = parameters.cast_data->Cast<TheirCast>().theirs;
  CastParameters inner(parameters, theirs.cast_data.get(), parameters.local_state);
  return theirs.function(texts, result, count, inner) && all;
}

BoundCastInfo BindToList(BindCastInput& input, const LogicalType& source, const LogicalType& target) {
  auto theirs = duckdb::DefaultCasts::GetDefaultCastFunction(input, source, target);
  auto init = theirs.init_local_state;
  return BoundCastInfo(ToList, duckdb::make_uniq<TheirCast>(std::move(theirs)), init);
}

}  // namespace

void RegisterCasts(duckdb::ExtensionLoader& loader) {
  auto add = [&](const LogicalType& target, auto cast) {
    loader.RegisterCastFunction(LogicalType::VARCHAR, target, std::move(cast),
                                duckdb::CastRules::ImplicitCast(LogicalType::VARCHAR, target));
  };
  add(LogicalType::SMALLINT, BoundCastInfo(ToInteger<int16_t>));
  add(LogicalType::INTEGER, BoundCastInfo(ToInteger<int32_t>));
  add(LogicalType::BIGINT, BoundCastInfo(ToInteger<int64_t>));
  add(LogicalType(duckdb::LogicalTypeId::DECIMAL), &BindToDecimal);
  add(LogicalType::LIST(LogicalType::ANY), &BindToList);
}

}  // namespace tidewater::sql
