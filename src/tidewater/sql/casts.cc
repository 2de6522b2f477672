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

std::string_view Trim(const string_t& text) {
  std::string_view s(text.GetData(), text.GetSize());
  while (!s.empty() && IsBlank(s.front())) s.remove_prefix(1);
  while (!s.empty() && IsBlank(s.back())) s.remove_suffix(1);
  return s;
}

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

struct DecimalCastData : duckdb::BoundCastData {
  explicit DecimalCastData(BoundCastInfo info) : theirs(std::move(info)) {}
  BoundCastInfo theirs;
  duckdb::unique_ptr<BoundCastData> Copy() const override { return duckdb::make_uniq<DecimalCastData>(theirs.Copy()); }
};

/// DuckDB's own cast, which does not tell what is no number from what is too large for the type.
bool ToDecimal(Vector& source, Vector& result, idx_t count, CastParameters& parameters) {
  auto& theirs = parameters.cast_data->Cast<DecimalCastData>().theirs;
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
  return BoundCastInfo(ToDecimal, duckdb::make_uniq<DecimalCastData>(
                                      duckdb::DefaultCasts::GetDefaultCastFunction(input, source, target)));
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
}

}  // namespace tidewater::sql
