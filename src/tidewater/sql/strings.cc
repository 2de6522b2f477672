#include <algorithm>
#include <cstring>
#include <optional>
#include "duckdb.hpp"
#include "duckdb/common/types/date.hpp"
#include "duckdb/common/types/time.hpp"
#include "duckdb/common/types/timestamp.hpp"
#include "duckdb/common/vector_operations/vector_operations.hpp"
#include "duckdb/execution/expression_executor.hpp"
#include "duckdb/function/scalar_function.hpp"
#include "duckdb/planner/expression/bound_function_expression.hpp"
#include "tidewater/sql/bridge.h"
#include "tidewater/sql/functions.h"
#include "tidewater/sql/pattern.h"
#include "tidewater/sql/statement.h"

namespace tidewater::sql {
namespace {

using duckdb::DataChunk;
using duckdb::ExpressionState;
using duckdb::FlatVector;
using duckdb::FunctionData;
using duckdb::idx_t;
using duckdb::ScalarFunction;
using duckdb::string_t;
using duckdb::StringVector;
using duckdb::timestamp_t;
using duckdb::UnifiedVectorFormat;
using duckdb::Vector;
using Arguments = duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>;

std::string_view View(const string_t& s) { return {s.GetData(), s.GetSize()}; }

ScalarFunction Throwing(ScalarFunction f) {
  f.SetErrorMode(duckdb::FunctionErrors::CAN_THROW_RUNTIME_ERROR);
  return f;
}

/// The value of an argument that is constant at planning time; nullopt when it is not or is NULL.
std::optional<std::string> ConstantText(duckdb::ClientContext& context, const duckdb::Expression& e) {
  if (e.HasParameter() || !e.IsFoldable()) return std::nullopt;
  auto value = duckdb::ExpressionExecutor::EvaluateScalar(context, e);
  if (value.IsNull()) return std::nullopt;
  return value.GetValue<std::string>();
}

/// What was compiled of a constant argument at planning time: T must be made from a string and copied cheaply.
template <class T>
struct Compiled : FunctionData {
  std::optional<std::string> source;  ///< nullopt: not constant
  std::optional<T> value;
  duckdb::unique_ptr<FunctionData> Copy() const override {
    auto copy = duckdb::make_uniq<Compiled>();
    copy->source = source;
    copy->value = value;
    return copy;
  }
  bool Equals(const FunctionData& other) const override { return source == other.Cast<Compiled>().source; }
};

template <class T, int kArgument, auto kMake>
duckdb::unique_ptr<FunctionData> BindCompiled(duckdb::ClientContext& context, ScalarFunction&, Arguments& arguments) {
  auto data = duckdb::make_uniq<Compiled<T>>();
  if (arguments.size() > size_t(kArgument)) data->source = ConstantText(context, *arguments[kArgument]);
  if (data->source) data->value = kMake(*data->source);
  return data;
}

/// The constant's compilation, or one for each differing row, the last one kept.
template <class T, auto kMake>
class PerRow {
 public:
  explicit PerRow(ExpressionState& state)
      : data_(state.expr.Cast<duckdb::BoundFunctionExpression>().bind_info->Cast<Compiled<T>>()) {}
  const T& Get(const string_t& source) {
    if (data_.value) return *data_.value;
    if (!last_source_ || std::string_view(*last_source_) != View(source)) {
      last_source_ = source.GetString();
      last_.emplace(kMake(*last_source_));
    }
    return *last_;
  }

 private:
  Compiled<T>& data_;
  std::optional<std::string> last_source_;
  std::optional<T> last_;
};

// --- Regular expressions.

Pattern MakePattern(const std::string& text) { return Pattern(text); }
Pattern MakePatternIgnoringCase(const std::string& text) { return Pattern(text, true); }

template <auto kMake, bool kNegated>
void RegexOperator(DataChunk& in, ExpressionState& state, Vector& out) {
  PerRow<Pattern, kMake> patterns(state);
  duckdb::BinaryExecutor::Execute<string_t, string_t, bool>(
      in.data[0], in.data[1], out, in.size(),
      [&](const string_t& s, const string_t& p) { return patterns.Get(p).Matches(View(s)) != kNegated; });
}

/// REGEXP_EXTRACT(text, pattern [, group]) as in Flink: NULL without a match, group 0 is the whole match. (Flink's
/// group defaults to 0.)
void RegexpExtract(DataChunk& in, ExpressionState& state, Vector& out) {
  PerRow<Pattern, MakePattern> patterns(state);
  auto n = in.size();
  UnifiedVectorFormat text, pattern, group;
  in.data[0].ToUnifiedFormat(n, text);
  in.data[1].ToUnifiedFormat(n, pattern);
  if (in.ColumnCount() > 2) in.data[2].ToUnifiedFormat(n, group);
  bool constant = in.AllConstant();
  out.SetVectorType(duckdb::VectorType::FLAT_VECTOR);
  auto result = FlatVector::GetData<string_t>(out);
  auto& mask = FlatVector::Validity(out);
  constexpr int kMax = 32;
  std::string_view groups[kMax];
  for (idx_t i = 0; i < (constant ? 1 : n); i++) {
    auto t = text.sel->get_index(i), p = pattern.sel->get_index(i);
    int g = 0;
    bool valid = text.validity.RowIsValid(t) && pattern.validity.RowIsValid(p);
    if (in.ColumnCount() > 2) {
      auto k = group.sel->get_index(i);
      valid = valid && group.validity.RowIsValid(k);
      if (valid) g = UnifiedVectorFormat::GetData<int32_t>(group)[k];
    }
    if (valid) {
      auto& compiled = patterns.Get(UnifiedVectorFormat::GetData<string_t>(pattern)[p]);
      valid = g >= 0 && g <= compiled.groups() && g < kMax &&
              compiled.Match(View(UnifiedVectorFormat::GetData<string_t>(text)[t]), groups, g + 1) && groups[g].data();
    }
    if (valid)
      result[i] = StringVector::AddString(out, groups[g].data(), groups[g].size());
    else
      mask.SetInvalid(i);
  }
  if (constant) out.SetVectorType(duckdb::VectorType::CONSTANT_VECTOR);
}

/// regexp_match(text, pattern [, flags]): the groups of the first match, or the whole match where there are no groups;
/// NULL without one.
template <auto kMake>
void RegexpMatch(DataChunk& in, ExpressionState& state, Vector& out) {
  PerRow<Pattern, kMake> patterns(state);
  for (idx_t i = 0; i < in.size(); i++) {
    auto text = in.data[0].GetValue(i), pattern = in.data[1].GetValue(i);
    if (text.IsNull() || pattern.IsNull()) {
      out.SetValue(i, duckdb::Value(out.GetType()));
      continue;
    }
    auto subject = text.GetValue<std::string>(), source = pattern.GetValue<std::string>();
    Pattern compiled = in.ColumnCount() > 2 && in.data[2].GetValue(i).ToString().find('i') != std::string::npos
                           ? MakePatternIgnoringCase(source)
                           : patterns.Get(string_t(source.data(), uint32_t(source.size())));
    std::string_view groups[32];
    int count = std::min(compiled.groups(), 31);
    if (!compiled.Match(subject, groups, count + 1)) {
      out.SetValue(i, duckdb::Value(out.GetType()));
      continue;
    }
    duckdb::vector<duckdb::Value> values;
    for (int g = count ? 1 : 0; g <= count; g++)
      values.push_back(groups[g].data() ? duckdb::Value(std::string(groups[g])) : duckdb::Value(LogicalType::VARCHAR));
    out.SetValue(i, duckdb::Value::LIST(LogicalType::VARCHAR, std::move(values)));
  }
  if (in.AllConstant()) out.SetVectorType(duckdb::VectorType::CONSTANT_VECTOR);
}

// --- Splitting.

/// SPLIT_INDEX(text, delimiter, index) as in Flink: pieces count from 0, empty ones too; NULL beyond the last.
void SplitIndex(DataChunk& in, ExpressionState&, Vector& out) {
  auto n = in.size();
  UnifiedVectorFormat text, delimiter, index;
  in.data[0].ToUnifiedFormat(n, text);
  in.data[1].ToUnifiedFormat(n, delimiter);
  in.data[2].ToUnifiedFormat(n, index);
  bool constant = in.AllConstant();
  out.SetVectorType(duckdb::VectorType::FLAT_VECTOR);
  auto result = FlatVector::GetData<string_t>(out);
  auto& mask = FlatVector::Validity(out);
  auto texts = UnifiedVectorFormat::GetData<string_t>(text),
       delimiters = UnifiedVectorFormat::GetData<string_t>(delimiter);
  auto indexes = UnifiedVectorFormat::GetData<int32_t>(index);
  for (idx_t i = 0; i < (constant ? 1 : n); i++) {
    auto t = text.sel->get_index(i), d = delimiter.sel->get_index(i), k = index.sel->get_index(i);
    if (!text.validity.RowIsValid(t) || !delimiter.validity.RowIsValid(d) || !index.validity.RowIsValid(k) ||
        indexes[k] < 0) {
      mask.SetInvalid(i);
      continue;
    }
    auto s = View(texts[t]), by = View(delimiters[d]);
    if (s.empty() || by.empty()) {
      // Nothing to split: the text itself is piece 0, except that an empty text has none.
      if (!s.empty() && indexes[k] == 0)
        result[i] = StringVector::AddString(out, s.data(), s.size());
      else
        mask.SetInvalid(i);
      continue;
    }
    const char *at = s.data(), *end = at + s.size();
    auto find = [&](const char* from) {
      auto hit = by.size() == 1 ? std::memchr(from, by[0], size_t(end - from))
                                : memmem(from, size_t(end - from), by.data(), by.size());
      return static_cast<const char*>(hit);
    };
    bool found = true;
    for (int32_t skip = indexes[k]; found && skip > 0; skip--) {
      auto hit = find(at);
      found = hit != nullptr;
      if (found) at = hit + by.size();
    }
    if (!found) {
      mask.SetInvalid(i);
      continue;
    }
    auto hit = find(at);
    result[i] = StringVector::AddString(out, at, size_t((hit ? hit : end) - at));
  }
  if (constant) out.SetVectorType(duckdb::VectorType::CONSTANT_VECTOR);
}

// --- Timestamps as text.

/// A format compiled to pieces; shared by date_format (Java's letters) and to_char (PostgreSQL's).
struct TimeFormat {
  enum Piece : uint8_t {
    kLiteral,
    kYear4,
    kYear2,
    kYear,
    kMonth2,
    kMonth1,
    kDay2,
    kDay1,
    kHour24,
    kHour24Short,
    kHour12,
    kMinute,
    kSecond,
    kMillis,
    kMicros,
    kAmPm,
    kAmPmLower,
    kDayOfYear,
    kMonthShort,
    kMonthLong,
    kWeekdayShort,
    kWeekdayLong,
    kMonthLongPadded,
    kWeekdayLongPadded,
    kQuarter,
    kIsoWeekday,
    kIsoWeek,
    kIsoYear,
    kWeekday1,
    kEpochSeconds,
    kZone
  };
  struct Part {
    Piece piece;
    std::string literal;
  };
  std::vector<Part> parts;
  bool date_only = true;  ///< no part finer than a day
};

void AddPart(TimeFormat& f, TimeFormat::Piece piece) {
  switch (piece) {
    case TimeFormat::kHour24:
    case TimeFormat::kHour24Short:
    case TimeFormat::kHour12:
    case TimeFormat::kMinute:
    case TimeFormat::kSecond:
    case TimeFormat::kMillis:
    case TimeFormat::kMicros:
    case TimeFormat::kAmPm:
    case TimeFormat::kAmPmLower:
    case TimeFormat::kEpochSeconds:
      f.date_only = false;
      break;
    default:
      break;
  }
  f.parts.push_back({piece, {}});
}
void AddLiteral(TimeFormat& f, char c) {
  if (f.parts.empty() || f.parts.back().piece != TimeFormat::kLiteral) f.parts.push_back({TimeFormat::kLiteral, {}});
  f.parts.back().literal += c;
}

/// Java's SimpleDateFormat, as Flink's DATE_FORMAT takes it.
TimeFormat MakeJavaFormat(const std::string& text) {
  TimeFormat f;
  for (size_t i = 0; i < text.size();) {
    char c = text[i];
    if (c == '\'') {
      size_t close = text.find('\'', i + 1);
      if (close == i + 1) AddLiteral(f, '\'');
      for (size_t k = i + 1; k < std::min(close, text.size()); k++) AddLiteral(f, text[k]);
      i = close == std::string::npos ? text.size() : close + 1;
      continue;
    }
    if (!std::isalpha(static_cast<unsigned char>(c))) {
      AddLiteral(f, c);
      i++;
      continue;
    }
    size_t n = 1;
    while (i + n < text.size() && text[i + n] == c) n++;
    switch (c) {
      case 'y':
      case 'u':
        AddPart(f, n == 2 ? TimeFormat::kYear2 : TimeFormat::kYear4);
        break;
      case 'M':
        AddPart(f, n >= 4   ? TimeFormat::kMonthLong
                   : n == 3 ? TimeFormat::kMonthShort
                   : n == 2 ? TimeFormat::kMonth2
                            : TimeFormat::kMonth1);
        break;
      case 'd':
        AddPart(f, n >= 2 ? TimeFormat::kDay2 : TimeFormat::kDay1);
        break;
      case 'H':
        AddPart(f, n >= 2 ? TimeFormat::kHour24 : TimeFormat::kHour24Short);
        break;
      case 'h':
        AddPart(f, TimeFormat::kHour12);
        break;
      case 'm':
        AddPart(f, TimeFormat::kMinute);
        break;
      case 's':
        AddPart(f, TimeFormat::kSecond);
        break;
      case 'S':
        AddPart(f, n <= 3 ? TimeFormat::kMillis : TimeFormat::kMicros);
        break;
      case 'a':
        AddPart(f, TimeFormat::kAmPm);
        break;
      case 'E':
        AddPart(f, n >= 4 ? TimeFormat::kWeekdayLong : TimeFormat::kWeekdayShort);
        break;
      case 'D':
        AddPart(f, TimeFormat::kDayOfYear);
        break;
      default:
        ThrowThroughDuckDB(UserError("22007", "date_format: the pattern letter \"{}\" is not supported", c),
                           duckdb::ExceptionType::INVALID_INPUT);
    }
    i += n;
  }
  return f;
}

/// to_char's template patterns for timestamps.
TimeFormat MakePostgresFormat(const std::string& text) {
  TimeFormat f;
  using T = TimeFormat;
  struct Word {
    const char* text;
    T::Piece piece, unpadded;
    bool exact_case;
  };
  // Longer words first.
  static const Word words[] = {{"IYYY", T::kIsoYear, T::kIsoYear, false},
                               {"YYYY", T::kYear4, T::kYear, false},
                               {"HH24", T::kHour24, T::kHour24Short, false},
                               {"HH12", T::kHour12, T::kHour12, false},
                               {"Month", T::kMonthLongPadded, T::kMonthLong, true},
                               {"Mon", T::kMonthShort, T::kMonthShort, true},
                               {"Day", T::kWeekdayLongPadded, T::kWeekdayLong, true},
                               {"Dy", T::kWeekdayShort, T::kWeekdayShort, true},
                               {"SSSS", T::kEpochSeconds, T::kEpochSeconds, false},
                               {"DDD", T::kDayOfYear, T::kDayOfYear, false},
                               {"HH", T::kHour12, T::kHour12, false},
                               {"MI", T::kMinute, T::kMinute, false},
                               {"SS", T::kSecond, T::kSecond, false},
                               {"MS", T::kMillis, T::kMillis, false},
                               {"US", T::kMicros, T::kMicros, false},
                               {"YY", T::kYear2, T::kYear2, false},
                               {"MM", T::kMonth2, T::kMonth1, false},
                               {"DD", T::kDay2, T::kDay1, false},
                               {"ID", T::kIsoWeekday, T::kIsoWeekday, false},
                               {"IW", T::kIsoWeek, T::kIsoWeek, false},
                               {"AM", T::kAmPm, T::kAmPm, true},
                               {"PM", T::kAmPm, T::kAmPm, true},
                               {"am", T::kAmPmLower, T::kAmPmLower, true},
                               {"pm", T::kAmPmLower, T::kAmPmLower, true},
                               {"TZ", T::kZone, T::kZone, false},
                               {"D", T::kWeekday1, T::kWeekday1, false},
                               {"Q", T::kQuarter, T::kQuarter, false}};
  bool fill = true;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '"') {
      for (i++; i < text.size() && text[i] != '"'; i++) AddLiteral(f, text[i]);
      i++;
      continue;
    }
    if (i + 1 < text.size() && (text.compare(i, 2, "FM") == 0 || text.compare(i, 2, "fm") == 0)) {
      fill = false;
      i += 2;
      continue;
    }
    const Word* match = nullptr;
    for (auto& w : words) {
      size_t n = std::strlen(w.text);
      if (w.exact_case ? text.compare(i, n, w.text) == 0
                       : i + n <= text.size() && strncasecmp(text.data() + i, w.text, n) == 0) {
        match = &w;
        i += n;
        break;
      }
    }
    if (match) {
      AddPart(f, fill ? match->piece : match->unpadded);
      fill = true;
      continue;
    }
    AddLiteral(f, text[i++]);
  }
  return f;
}

char* PutDigits(char* at, uint32_t value, int digits) {
  for (int i = digits - 1; i >= 0; i--) {
    at[i] = char('0' + value % 10);
    value /= 10;
  }
  return at + digits;
}
char* PutNumber(char* at, int64_t value) {
  auto text = std::to_string(value);
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}
char* PutText(char* at, const char* text, size_t pad = 0) {
  auto n = std::strlen(text);
  std::memcpy(at, text, n);
  for (; n < pad; n++) at[n] = ' ';
  return at + n;
}

/// Upper bound of a formatted timestamp's length.
size_t FormatBound(const TimeFormat& f) {
  size_t n = 0;
  for (auto& p : f.parts) n += p.piece == TimeFormat::kLiteral ? p.literal.size() : 24;
  return n;
}

char* Format(const TimeFormat& f, timestamp_t ts, char* at) {
  static const char* const kMonths[] = {"January", "February", "March",     "April",   "May",      "June",
                                        "July",    "August",   "September", "October", "November", "December"};
  static const char* const kMonthsShort[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  static const char* const kDays[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  static const char* const kDaysShort[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr int64_t kDayMicros = 86'400'000'000;
  int64_t days = ts.value / kDayMicros, micros = ts.value % kDayMicros;
  if (micros < 0) {
    micros += kDayMicros;
    days--;
  }
  int32_t year, month, day;
  duckdb::date_t date{int32_t(days)};
  duckdb::Date::Convert(date, year, month, day);
  auto weekday = [&] { return uint32_t(((days + 4) % 7 + 7) % 7); };
  uint32_t seconds = uint32_t(micros / 1'000'000), fraction = uint32_t(micros % 1'000'000), hour = seconds / 3600;
  for (auto& p : f.parts) {
    switch (p.piece) {
      case TimeFormat::kLiteral:
        std::memcpy(at, p.literal.data(), p.literal.size());
        at += p.literal.size();
        break;
      case TimeFormat::kYear4:
        at = year >= 0 && year <= 9999 ? PutDigits(at, uint32_t(year), 4) : PutNumber(at, year);
        break;
      case TimeFormat::kYear:
        at = PutNumber(at, year);
        break;
      case TimeFormat::kYear2:
        at = PutDigits(at, uint32_t(year < 0 ? -year : year) % 100, 2);
        break;
      case TimeFormat::kMonth2:
        at = PutDigits(at, uint32_t(month), 2);
        break;
      case TimeFormat::kMonth1:
        at = PutNumber(at, month);
        break;
      case TimeFormat::kDay2:
        at = PutDigits(at, uint32_t(day), 2);
        break;
      case TimeFormat::kDay1:
        at = PutNumber(at, day);
        break;
      case TimeFormat::kHour24:
        at = PutDigits(at, hour, 2);
        break;
      case TimeFormat::kHour24Short:
        at = PutNumber(at, hour);
        break;
      case TimeFormat::kHour12:
        at = PutDigits(at, hour % 12 == 0 ? 12 : hour % 12, 2);
        break;
      case TimeFormat::kMinute:
        at = PutDigits(at, seconds / 60 % 60, 2);
        break;
      case TimeFormat::kSecond:
        at = PutDigits(at, seconds % 60, 2);
        break;
      case TimeFormat::kMillis:
        at = PutDigits(at, fraction / 1000, 3);
        break;
      case TimeFormat::kMicros:
        at = PutDigits(at, fraction, 6);
        break;
      case TimeFormat::kAmPm:
        at = PutText(at, hour < 12 ? "AM" : "PM");
        break;
      case TimeFormat::kAmPmLower:
        at = PutText(at, hour < 12 ? "am" : "pm");
        break;
      case TimeFormat::kDayOfYear:
        at = PutDigits(at, uint32_t(duckdb::Date::ExtractDayOfTheYear(date)), 3);
        break;
      case TimeFormat::kMonthShort:
        at = PutText(at, kMonthsShort[month - 1]);
        break;
      case TimeFormat::kMonthLong:
        at = PutText(at, kMonths[month - 1]);
        break;
      case TimeFormat::kMonthLongPadded:
        at = PutText(at, kMonths[month - 1], 9);
        break;
      case TimeFormat::kWeekdayShort:
        at = PutText(at, kDaysShort[weekday()]);
        break;
      case TimeFormat::kWeekdayLong:
        at = PutText(at, kDays[weekday()]);
        break;
      case TimeFormat::kWeekdayLongPadded:
        at = PutText(at, kDays[weekday()], 9);
        break;
      case TimeFormat::kQuarter:
        at = PutNumber(at, (month - 1) / 3 + 1);
        break;
      case TimeFormat::kIsoWeekday:
        at = PutNumber(at, duckdb::Date::ExtractISODayOfTheWeek(date));
        break;
      case TimeFormat::kIsoWeek:
        at = PutDigits(at, uint32_t(duckdb::Date::ExtractISOWeekNumber(date)), 2);
        break;
      case TimeFormat::kIsoYear:
        at = PutNumber(at, duckdb::Date::ExtractISOYearNumber(date));
        break;
      case TimeFormat::kWeekday1:
        at = PutNumber(at, weekday() + 1);
        break;
      case TimeFormat::kEpochSeconds:
        at = PutNumber(at, seconds);
        break;
      case TimeFormat::kZone:
        break;
    }
  }
  return at;
}

template <auto kMake>
void FormatTimestamp(DataChunk& in, ExpressionState& state, Vector& out) {
  PerRow<TimeFormat, kMake> formats(state);
  auto& bind = state.expr.Cast<duckdb::BoundFunctionExpression>().bind_info->Cast<Compiled<TimeFormat>>();
  std::string buffer;
  // Rows of one day have one text, and rows come in order of time mostly.
  bool by_day = bind.value && bind.value->date_only;
  constexpr int64_t kDayMicros = 86'400'000'000;
  int64_t first = 1, last = 0;
  string_t day;
  duckdb::BinaryExecutor::ExecuteWithNulls<timestamp_t, string_t, string_t>(
      in.data[0], in.data[1], out, in.size(),
      [&](timestamp_t ts, const string_t& source, duckdb::ValidityMask& mask, idx_t row) {
        if (by_day && ts.value >= first && ts.value <= last) return day;
        if (!duckdb::Timestamp::IsFinite(ts)) {
          mask.SetInvalid(row);
          return string_t();
        }
        auto& format = formats.Get(source);
        buffer.resize(FormatBound(format) + 1);
        auto end = Format(format, ts, buffer.data());
        day = StringVector::AddString(out, buffer.data(), size_t(end - buffer.data()));
        first = ts.value - ((ts.value % kDayMicros) + kDayMicros) % kDayMicros;
        last = first + kDayMicros - 1;
        return day;
      });
}

// --- Small ones.

void QuoteIdent(DataChunk& in, ExpressionState&, Vector& out) {
  duckdb::UnaryExecutor::Execute<string_t, string_t>(in.data[0], out, in.size(), [&](const string_t& s) {
    return StringVector::AddString(out, QuoteIdentifier(s.GetString()));
  });
}
void QuoteLit(DataChunk& in, ExpressionState&, Vector& out) {
  duckdb::UnaryExecutor::Execute<string_t, string_t>(in.data[0], out, in.size(), [&](const string_t& s) {
    return StringVector::AddString(out, QuoteLiteral(s.GetString()));
  });
}

}  // namespace

void RegisterStrings(duckdb::ExtensionLoader& loader) {
  auto text = LogicalType::VARCHAR, boolean = LogicalType::BOOLEAN;
  auto bind = BindCompiled<Pattern, 1, MakePattern>;
  auto bind_i = BindCompiled<Pattern, 1, MakePatternIgnoringCase>;
  loader.RegisterFunction(
      Throwing(ScalarFunction("~@", {text, text}, boolean, RegexOperator<MakePattern, false>, bind)));
  loader.RegisterFunction(
      Throwing(ScalarFunction("!~@", {text, text}, boolean, RegexOperator<MakePattern, true>, bind)));
  loader.RegisterFunction(
      Throwing(ScalarFunction("~*@", {text, text}, boolean, RegexOperator<MakePatternIgnoringCase, false>, bind_i)));
  loader.RegisterFunction(
      Throwing(ScalarFunction("!~*@", {text, text}, boolean, RegexOperator<MakePatternIgnoringCase, true>, bind_i)));

  duckdb::ScalarFunctionSet extract("regexp_extract");
  extract.AddFunction(Throwing(ScalarFunction({text, text}, text, RegexpExtract, bind)));
  extract.AddFunction(Throwing(ScalarFunction({text, text, LogicalType::INTEGER}, text, RegexpExtract, bind)));
  loader.RegisterFunction(std::move(extract));

  auto list = LogicalType::LIST(text);
  duckdb::ScalarFunctionSet match("regexp_match");
  match.AddFunction(Throwing(ScalarFunction({text, text}, list, RegexpMatch<MakePattern>, bind)));
  match.AddFunction(Throwing(ScalarFunction({text, text, text}, list, RegexpMatch<MakePattern>, bind)));
  loader.RegisterFunction(std::move(match));

  loader.RegisterFunction(ScalarFunction("split_index", {text, text, LogicalType::INTEGER}, text, SplitIndex));
  loader.RegisterFunction(
      Throwing(ScalarFunction("date_format", {LogicalType::TIMESTAMP, text}, text, FormatTimestamp<MakeJavaFormat>,
                              BindCompiled<TimeFormat, 1, MakeJavaFormat>)));
  loader.RegisterFunction(
      Throwing(ScalarFunction("to_char", {LogicalType::TIMESTAMP, text}, text, FormatTimestamp<MakePostgresFormat>,
                              BindCompiled<TimeFormat, 1, MakePostgresFormat>)));
  loader.RegisterFunction(ScalarFunction("quote_ident", {text}, text, QuoteIdent));
  loader.RegisterFunction(ScalarFunction("quote_literal", {text}, text, QuoteLit));
}

}  // namespace tidewater::sql
