#include <algorithm>
#include <type_traits>
#include "duckdb.hpp"
#include "duckdb/common/types/decimal.hpp"
#include "duckdb/common/types/hugeint.hpp"
#include "duckdb/common/vector_operations/binary_executor.hpp"
#include "duckdb/function/aggregate_function.hpp"
#include "duckdb/function/scalar_function.hpp"
#include "duckdb/planner/expression.hpp"
#include "tidewater/sql/bridge.h"
#include "tidewater/sql/exact_sums.h"
#include "tidewater/sql/functions.h"
#include "tidewater/sql/override.h"
#include "tidewater/sql/override.h"

namespace tidewater::sql {
namespace {

using duckdb::AggregateFunction;
using duckdb::DataChunk;
using duckdb::ExpressionState;
using duckdb::hugeint_t;
using duckdb::idx_t;
using duckdb::ScalarFunction;
using duckdb::Vector;
using i128 = __int128;
using u128 = unsigned __int128;

constexpr uint8_t kDivisionScale = 16;

[[noreturn]] void DivisionByZero() {
  ThrowThroughDuckDB(UserError("22012", "division by zero"), duckdb::ExceptionType::OUT_OF_RANGE);
}
[[noreturn]] void OutOfRange(const char* type) {
  ThrowThroughDuckDB(UserError("22003", "{} out of range", type), duckdb::ExceptionType::OUT_OF_RANGE);
}

i128 ToNative(hugeint_t v) { return (i128(v.upper) << 64) | i128(u128(v.lower)); }
hugeint_t FromNative(i128 v) {
  hugeint_t out;
  out.lower = uint64_t(u128(v));
  out.upper = int64_t(v >> 64);
  return out;
}

i128 PowerOfTen(int n) {
  i128 p = 1;
  for (int i = 0; i < n; i++) p *= 10;
  return p;
}
const i128 kMaxDecimal = PowerOfTen(38) - 1;

/// a * 10^digits / b, rounded half away from zero; 22003 beyond 38 digits.
i128 DivideDecimal(i128 a, i128 b, int digits) {
  if (b == 0) DivisionByZero();
  bool negative = (a < 0) != (b < 0);
  u128 n = a < 0 ? u128(0) - u128(a) : u128(a), d = b < 0 ? u128(0) - u128(b) : u128(b);
  u128 quotient, remainder;
  u128 scale = digits <= 38 ? u128(PowerOfTen(digits)) : 0;
  u128 scaled;
  if (scale && !__builtin_mul_overflow(n, scale, &scaled)) {
    quotient = scaled / d;
    remainder = scaled % d;
  } else {  // digit by digit: a remainder times ten fits while the divisor has at most 37 digits
    quotient = n / d;
    remainder = n % d;
    for (int i = 0; i < digits; i++) {
      u128 next;
      if (__builtin_mul_overflow(remainder, u128(10), &next) || quotient > u128(kMaxDecimal)) OutOfRange("numeric");
      quotient = quotient * 10 + next / d;
      remainder = next % d;
    }
  }
  if (remainder >= d - remainder) quotient++;
  if (quotient > u128(kMaxDecimal)) OutOfRange("numeric");
  return negative ? -i128(quotient) : i128(quotient);
}

template <class T>
const char* IntegerName() {
  if constexpr (sizeof(T) <= 2) return "smallint";
  if constexpr (sizeof(T) == 4) return "integer";
  return sizeof(T) == 8 ? "bigint" : "numeric";
}

template <class T>
void IntegerDivide(DataChunk& in, ExpressionState&, Vector& out) {
  duckdb::BinaryExecutor::Execute<T, T, T>(in.data[0], in.data[1], out, in.size(), [](T a, T b) -> T {
    if (b == T(0)) DivisionByZero();
    if constexpr (std::is_integral_v<T>) {
      if (b == T(-1)) {
        if (a == std::numeric_limits<T>::min()) OutOfRange(IntegerName<T>());
        return T(-a);
      }
      return T(a / b);
    } else {
      return FromNative(ToNative(a) / ToNative(b));
    }
  });
}

template <class T>
void IntegerModulo(DataChunk& in, ExpressionState&, Vector& out) {
  duckdb::BinaryExecutor::Execute<T, T, T>(in.data[0], in.data[1], out, in.size(), [](T a, T b) -> T {
    if (b == T(0)) DivisionByZero();
    if constexpr (std::is_integral_v<T>) {
      return b == T(-1) ? T(0) : T(a % b);
    } else {
      return FromNative(ToNative(a) % ToNative(b));
    }
  });
}

template <class T>
void FloatDivide(DataChunk& in, ExpressionState&, Vector& out) {
  duckdb::BinaryExecutor::Execute<T, T, T>(in.data[0], in.data[1], out, in.size(), [](T a, T b) {
    if (b == 0) DivisionByZero();
    return a / b;
  });
}

uint8_t ScaleOf(const LogicalType& type) {
  return type.id() == duckdb::LogicalTypeId::DECIMAL ? duckdb::DecimalType::GetScale(type) : uint8_t(0);
}

struct DigitsData : duckdb::FunctionData {
  explicit DigitsData(int d) : digits(d) {}
  int digits;
  duckdb::unique_ptr<FunctionData> Copy() const override { return duckdb::make_uniq<DigitsData>(digits); }
  bool Equals(const FunctionData& other) const override { return digits == other.Cast<DigitsData>().digits; }
};

duckdb::unique_ptr<duckdb::FunctionData> BindDecimalDivide(
    duckdb::ClientContext&, ScalarFunction& function,
    duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>& arguments) {
  auto a = ScaleOf(arguments[0]->return_type), b = ScaleOf(arguments[1]->return_type);
  auto scale = std::max({kDivisionScale, a, b});
  function.arguments[0] = LogicalType::DECIMAL(38, a);
  function.arguments[1] = LogicalType::DECIMAL(38, b);
  function.return_type = LogicalType::DECIMAL(38, scale);
  return duckdb::make_uniq<DigitsData>(scale - a + b);
}

int Digits(ExpressionState& state) {
  return state.expr.Cast<duckdb::BoundFunctionExpression>().bind_info->Cast<DigitsData>().digits;
}

void DecimalDivide(DataChunk& in, ExpressionState& state, Vector& out) {
  int digits = Digits(state);
  duckdb::BinaryExecutor::Execute<hugeint_t, hugeint_t, hugeint_t>(
      in.data[0], in.data[1], out, in.size(),
      [&](hugeint_t a, hugeint_t b) { return FromNative(DivideDecimal(ToNative(a), ToNative(b), digits)); });
}

// --- Decimal + - * %.

struct DecimalShape {
  int width, scale;
  bool integer;
};
DecimalShape ShapeOf(const LogicalType& type) {
  uint8_t width = 38, scale = 0;
  if (!type.GetDecimalProperties(width, scale))
    ThrowThroughDuckDB(UserError("42883", "operator does not exist for type {}", type.ToString()));
  return {width, scale,
          type.IsIntegral() && type.id() != duckdb::LogicalTypeId::HUGEINT &&
              type.id() != duckdb::LogicalTypeId::UHUGEINT && type.id() != duckdb::LogicalTypeId::UBIGINT};
}

hugeint_t Checked(i128 v) {
  if (v > kMaxDecimal || v < -kMaxDecimal) OutOfRange("numeric");
  return FromNative(v);
}

enum class DecimalOp { kAdd, kSubtract, kMultiply, kModulo };

template <DecimalOp kOp, class A, class B, class R>
void DecimalBinary(DataChunk& in, ExpressionState&, Vector& out) {
  duckdb::BinaryExecutor::Execute<A, B, R>(in.data[0], in.data[1], out, in.size(), [](A a, B b) -> R {
    auto x = [&] {
      if constexpr (std::is_same_v<A, hugeint_t>)
        return ToNative(a);
      else
        return i128(a);
    }();
    auto y = [&] {
      if constexpr (std::is_same_v<B, hugeint_t>)
        return ToNative(b);
      else
        return i128(b);
    }();
    if constexpr (kOp == DecimalOp::kModulo) {
      if (y == 0) DivisionByZero();
      if constexpr (std::is_same_v<R, hugeint_t>)
        return FromNative(x % y);
      else
        return R(x % y);
    } else if constexpr (std::is_same_v<R, hugeint_t>) {
      i128 r;
      bool overflow = kOp == DecimalOp::kAdd        ? __builtin_add_overflow(x, y, &r)
                      : kOp == DecimalOp::kSubtract ? __builtin_sub_overflow(x, y, &r)
                                                    : __builtin_mul_overflow(x, y, &r);
      if (overflow) OutOfRange("numeric");
      return Checked(r);
    } else {  // a result of at most 18 digits cannot overflow
      return kOp == DecimalOp::kAdd ? R(a + b) : kOp == DecimalOp::kSubtract ? R(a - b) : R(a * b);
    }
  });
}

/// Products of 64-bit values never leave 38 digits.
template <class A, class B>
void WideProduct(DataChunk& in, ExpressionState&, Vector& out) {
  duckdb::BinaryExecutor::Execute<A, B, hugeint_t>(in.data[0], in.data[1], out, in.size(),
                                                   [](A a, B b) { return FromNative(i128(a) * i128(b)); });
}

template <DecimalOp kOp>
duckdb::unique_ptr<duckdb::FunctionData> BindDecimalBinary(
    duckdb::ClientContext&, ScalarFunction& function,
    duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>& arguments) {
  auto data = duckdb::make_uniq<BoundAs>();
  for (auto& a : arguments)
    data->types.push_back(a->return_type.id() == duckdb::LogicalTypeId::UNKNOWN ? LogicalType::DECIMAL(38, 10)
                                                                                : a->return_type);
  auto a = ShapeOf(data->types[0]), b = ShapeOf(data->types[1]);
  constexpr int kNarrow = 18;  // digits of an int64 decimal
  if constexpr (kOp == DecimalOp::kMultiply) {
    int scale = a.scale + b.scale, width = std::min(38, a.width + b.width);
    if (scale > 38)
      ThrowThroughDuckDB(UserError("22003",
                                   "the product of numeric({},{}) and numeric({},{}) needs more than 38 digits",
                                   a.width, a.scale, b.width, b.scale)
                             .WithHint("Cast an operand to a numeric of smaller scale, or to double precision."));
    function.return_type = LogicalType::DECIMAL(uint8_t(width), uint8_t(scale));
    auto narrow = [&](const DecimalShape& s) { return s.integer || s.width <= kNarrow; };
    auto side = [&](const DecimalShape& s, bool wide) {
      return wide        ? LogicalType::DECIMAL(38, uint8_t(s.scale))
             : s.integer ? LogicalType(LogicalType::BIGINT)
                         : LogicalType::DECIMAL(kNarrow, uint8_t(s.scale));
    };
    bool wide = !narrow(a) || !narrow(b);
    function.arguments = {side(a, wide), side(b, wide)};
    if (wide)
      function.SetFunctionCallback(DecimalBinary<kOp, hugeint_t, hugeint_t, hugeint_t>);
    else if (width <= kNarrow)
      function.SetFunctionCallback(width > 9   ? DecimalBinary<kOp, int64_t, int64_t, int64_t>
                                   : width > 4 ? DecimalBinary<kOp, int64_t, int64_t, int32_t>
                                               : DecimalBinary<kOp, int64_t, int64_t, int16_t>);
    else
      function.SetFunctionCallback(WideProduct<int64_t, int64_t>);
  } else {
    int scale = std::max(a.scale, b.scale), whole = std::max(a.width - a.scale, b.width - b.scale);
    int width = std::min(38, whole + scale + (kOp == DecimalOp::kModulo ? 0 : 1));
    auto computed = LogicalType::DECIMAL(uint8_t(width <= kNarrow ? kNarrow : 38), uint8_t(scale));
    function.arguments = {computed, computed};
    function.return_type =
        LogicalType::DECIMAL(uint8_t(width <= kNarrow ? std::max(width, 10) : width), uint8_t(scale));
    if (width <= kNarrow)
      function.SetFunctionCallback(DecimalBinary<kOp, int64_t, int64_t, int64_t>);
    else
      function.SetFunctionCallback(DecimalBinary<kOp, hugeint_t, hugeint_t, hugeint_t>);
  }
  return data;
}

/// tw_average(sum, count): NULL where nothing was counted. The lowering makes averages of it.
duckdb::unique_ptr<duckdb::FunctionData> BindAverage(
    duckdb::ClientContext&, ScalarFunction& function,
    duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>& arguments) {
  auto& type = arguments[0]->return_type;
  auto scale = ScaleOf(type);
  auto result = std::max(kDivisionScale, scale);
  function.arguments[0] =
      type.id() == duckdb::LogicalTypeId::DECIMAL ? LogicalType::DECIMAL(38, scale) : LogicalType(LogicalType::HUGEINT);
  function.return_type = LogicalType::DECIMAL(38, result);
  return duckdb::make_uniq<DigitsData>(result - scale);
}

void Average(DataChunk& in, ExpressionState& state, Vector& out) {
  int digits = Digits(state);
  duckdb::BinaryExecutor::ExecuteWithNulls<hugeint_t, int64_t, hugeint_t>(
      in.data[0], in.data[1], out, in.size(), [&](hugeint_t sum, int64_t count, duckdb::ValidityMask& mask, idx_t row) {
        if (count == 0) {
          mask.SetInvalid(row);
          return hugeint_t(0);
        }
        return FromNative(DivideDecimal(ToNative(sum), count, digits));
      });
}

// --- Aggregates, for ad-hoc queries; views use the dataflow's own.

/// DuckDB aligns aggregate states to 8 bytes only.
using i128_in_state __attribute__((aligned(8))) = i128;

struct SumState {
  i128_in_state sum;
  uint64_t count;
};

template <class T>
i128 Widen(T v) {
  if constexpr (std::is_same_v<T, hugeint_t>)
    return ToNative(v);
  else
    return v;
}

struct SumBase {
  template <class STATE>
  static void Initialize(STATE& s) {
    s.sum = 0;
    s.count = 0;
  }
  static void Add(SumState& s, i128 v, uint64_t n) {
    if (__builtin_add_overflow(s.sum, v, &s.sum)) OutOfRange("numeric");
    s.count += n;
  }
  template <class INPUT, class STATE, class OP>
  static void Operation(STATE& s, const INPUT& v, duckdb::AggregateUnaryInput&) {
    Add(s, Widen(v), 1);
  }
  template <class INPUT, class STATE, class OP>
  static void ConstantOperation(STATE& s, const INPUT& v, duckdb::AggregateUnaryInput&, idx_t n) {
    i128 product;
    if (__builtin_mul_overflow(Widen(v), i128(n), &product)) OutOfRange("numeric");
    Add(s, product, n);
  }
  template <class STATE, class OP>
  static void Combine(const STATE& from, STATE& to, duckdb::AggregateInputData&) {
    Add(to, from.sum, from.count);
  }
  static bool IgnoreNull() { return true; }
};
struct SumToBigint : SumBase {
  template <class T, class STATE>
  static void Finalize(STATE& s, T& target, duckdb::AggregateFinalizeData& data) {
    if (s.count == 0) return data.ReturnNull();
    if (s.sum > std::numeric_limits<int64_t>::max() || s.sum < std::numeric_limits<int64_t>::min())
      OutOfRange("bigint");
    target = int64_t(s.sum);
  }
};
struct SumToDecimal : SumBase {
  template <class T, class STATE>
  static void Finalize(STATE& s, T& target, duckdb::AggregateFinalizeData& data) {
    if (s.count == 0) return data.ReturnNull();
    if (s.sum > kMaxDecimal || s.sum < -kMaxDecimal) OutOfRange("numeric");
    target = FromNative(s.sum);
  }
};
struct AverageOp : SumBase {
  template <class T, class STATE>
  static void Finalize(STATE& s, T& target, duckdb::AggregateFinalizeData& data) {
    if (s.count == 0) return data.ReturnNull();
    int digits = data.input.bind_data ? data.input.bind_data->Cast<DigitsData>().digits : kDivisionScale;
    target = FromNative(DivideDecimal(s.sum, i128(s.count), digits));
  }
};

template <class INPUT, class RESULT, class OP>
AggregateFunction MakeAggregate(const LogicalType& input, const LogicalType& result) {
  return AggregateFunction::UnaryAggregate<SumState, INPUT, RESULT, OP>(input, result);
}

duckdb::unique_ptr<duckdb::FunctionData> BindDecimalAverage(
    duckdb::ClientContext&, AggregateFunction& function,
    duckdb::vector<duckdb::unique_ptr<duckdb::Expression>>& arguments) {
  auto scale = ScaleOf(arguments[0]->return_type);
  auto input = LogicalType::DECIMAL(38, scale);
  auto result = std::max(kDivisionScale, scale);
  auto name = function.name;
  function = MakeAggregate<hugeint_t, hugeint_t, AverageOp>(input, LogicalType::DECIMAL(38, result));
  function.name = name;
  return duckdb::make_uniq<DigitsData>(result - scale);
}

template <class T>
void AddInteger(duckdb::ScalarFunctionSet& divide, duckdb::ScalarFunctionSet& modulo, duckdb::ScalarFunctionSet& mod,
                const LogicalType& type) {
  for (auto* set : {&divide, &modulo, &mod}) {
    ScalarFunction f({type, type}, type, set == &divide ? IntegerDivide<T> : IntegerModulo<T>);
    f.SetErrorMode(duckdb::FunctionErrors::CAN_THROW_RUNTIME_ERROR);
    set->AddFunction(std::move(f));
  }
}

}  // namespace

void RegisterArithmetic(duckdb::ExtensionLoader& loader) {
  RegisterExactSums(loader);
  duckdb::ScalarFunctionSet divide("/"), modulo("%"), mod("mod");
  AddInteger<int8_t>(divide, modulo, mod, LogicalType::TINYINT);
  AddInteger<int16_t>(divide, modulo, mod, LogicalType::SMALLINT);
  AddInteger<int32_t>(divide, modulo, mod, LogicalType::INTEGER);
  AddInteger<int64_t>(divide, modulo, mod, LogicalType::BIGINT);
  AddInteger<hugeint_t>(divide, modulo, mod, LogicalType::HUGEINT);
  auto throwing = [](ScalarFunction f) {
    f.SetErrorMode(duckdb::FunctionErrors::CAN_THROW_RUNTIME_ERROR);
    return f;
  };
  divide.AddFunction(
      throwing(ScalarFunction({LogicalType::FLOAT, LogicalType::FLOAT}, LogicalType::FLOAT, FloatDivide<float>)));
  divide.AddFunction(
      throwing(ScalarFunction({LogicalType::DOUBLE, LogicalType::DOUBLE}, LogicalType::DOUBLE, FloatDivide<double>)));
  divide.AddFunction(throwing(ScalarFunction({duckdb::LogicalTypeId::DECIMAL, duckdb::LogicalTypeId::DECIMAL},
                                             duckdb::LogicalTypeId::DECIMAL, DecimalDivide, BindDecimalDivide)));
  ScalarFunction decimal_modulo({duckdb::LogicalTypeId::DECIMAL, duckdb::LogicalTypeId::DECIMAL},
                                duckdb::LogicalTypeId::DECIMAL, nullptr, BindDecimalBinary<DecimalOp::kModulo>);
  modulo.AddFunction(throwing(decimal_modulo));
  mod.AddFunction(throwing(decimal_modulo));
  auto decimal = [&](const char* name, duckdb::bind_scalar_function_t bind) {
    loader.RegisterFunction(
        throwing(ScalarFunction(name, {duckdb::LogicalTypeId::DECIMAL, duckdb::LogicalTypeId::DECIMAL},
                                duckdb::LogicalTypeId::DECIMAL, nullptr, bind)));
  };
  decimal("+", BindDecimalBinary<DecimalOp::kAdd>);
  decimal("-", BindDecimalBinary<DecimalOp::kSubtract>);
  decimal("*", BindDecimalBinary<DecimalOp::kMultiply>);
  loader.RegisterFunction(std::move(divide));
  loader.RegisterFunction(std::move(modulo));
  loader.RegisterFunction(std::move(mod));

  duckdb::ScalarFunctionSet average("tw_average");
  average.AddFunction(throwing(ScalarFunction({duckdb::LogicalTypeId::DECIMAL, LogicalType::BIGINT},
                                              duckdb::LogicalTypeId::DECIMAL, Average, BindAverage)));
  average.AddFunction(throwing(ScalarFunction({LogicalType::HUGEINT, LogicalType::BIGINT},
                                              LogicalType::DECIMAL(38, kDivisionScale), Average, BindAverage)));
  loader.RegisterFunction(std::move(average));

  auto numeric = LogicalType::DECIMAL(38, 0), averaged = LogicalType::DECIMAL(38, kDivisionScale);
  duckdb::AggregateFunctionSet sum("sum");
  sum.AddFunction(MakeAggregate<int8_t, int64_t, SumToBigint>(LogicalType::TINYINT, LogicalType::BIGINT));
  sum.AddFunction(MakeAggregate<int16_t, int64_t, SumToBigint>(LogicalType::SMALLINT, LogicalType::BIGINT));
  sum.AddFunction(MakeAggregate<int32_t, int64_t, SumToBigint>(LogicalType::INTEGER, LogicalType::BIGINT));
  sum.AddFunction(MakeAggregate<int64_t, hugeint_t, SumToDecimal>(LogicalType::BIGINT, numeric));
  sum.AddFunction(MakeAggregate<hugeint_t, hugeint_t, SumToDecimal>(LogicalType::HUGEINT, numeric));
  OverrideAggregates(loader, std::move(sum));
  duckdb::AggregateFunctionSet avg("avg");
  avg.AddFunction(MakeAggregate<int8_t, hugeint_t, AverageOp>(LogicalType::TINYINT, averaged));
  avg.AddFunction(MakeAggregate<int16_t, hugeint_t, AverageOp>(LogicalType::SMALLINT, averaged));
  avg.AddFunction(MakeAggregate<int32_t, hugeint_t, AverageOp>(LogicalType::INTEGER, averaged));
  avg.AddFunction(MakeAggregate<int64_t, hugeint_t, AverageOp>(LogicalType::BIGINT, averaged));
  avg.AddFunction(MakeAggregate<hugeint_t, hugeint_t, AverageOp>(LogicalType::HUGEINT, averaged));
  AggregateFunction decimal_average({duckdb::LogicalTypeId::DECIMAL}, duckdb::LogicalTypeId::DECIMAL, nullptr, nullptr,
                                    nullptr, nullptr, nullptr, duckdb::FunctionNullHandling::DEFAULT_NULL_HANDLING,
                                    nullptr, BindDecimalAverage);
  avg.AddFunction(std::move(decimal_average));
  OverrideAggregates(loader, std::move(avg));
}

}  // namespace tidewater::sql
