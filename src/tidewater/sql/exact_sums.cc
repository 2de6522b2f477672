#include "tidewater/sql/exact_sums.h"
#include "duckdb/function/aggregate_function.hpp"
#include "tidewater/base/exact_sum.h"
#include "tidewater/sql/override.h"

namespace tidewater::sql {
namespace {

struct State {
  ExactSum* sum;
  int64_t n;
};

template <bool kAverage>
struct SumOperation {
  template <class STATE>
  static void Initialize(STATE& state) {
    state.sum = nullptr;
    state.n = 0;
  }
  template <class INPUT, class STATE, class OP>
  static void Add(STATE& state, const INPUT& input, int64_t weight) {
    if (!state.sum) state.sum = new ExactSum();
    state.sum->Add(double(input), weight);
    state.n += weight;
  }
  template <class INPUT, class STATE, class OP>
  static void Operation(STATE& state, const INPUT& input, duckdb::AggregateUnaryInput&) {
    Add<INPUT, STATE, OP>(state, input, 1);
  }
  template <class INPUT, class STATE, class OP>
  static void ConstantOperation(STATE& state, const INPUT& input, duckdb::AggregateUnaryInput&, duckdb::idx_t count) {
    Add<INPUT, STATE, OP>(state, input, int64_t(count));
  }
  template <class STATE, class OP>
  static void Combine(const STATE& source, STATE& target, duckdb::AggregateInputData&) {
    if (!source.sum) return;
    if (!target.sum) target.sum = new ExactSum();
    target.sum->Merge(*source.sum);
    target.n += source.n;
  }
  template <class T, class STATE>
  static void Finalize(STATE& state, T& target, duckdb::AggregateFinalizeData& data) {
    if (state.n == 0) {
      data.ReturnNull();
      return;
    }
    double value = state.sum->Value();
    target = T(kAverage ? value / double(state.n) : value);
  }
  template <class STATE>
  static void Destroy(STATE& state, duckdb::AggregateInputData&) {
    delete state.sum;
    state.sum = nullptr;
  }
  static bool IgnoreNull() { return true; }
};

template <bool kAverage>
void Register(duckdb::ExtensionLoader& loader, const char* name) {
  duckdb::AggregateFunctionSet set(name);
  auto f = duckdb::AggregateFunction::UnaryAggregateDestructor<State, double, double, SumOperation<kAverage>>(
      LogicalType::DOUBLE, LogicalType::DOUBLE);
  f.SetOrderDependent(duckdb::AggregateOrderDependent::NOT_ORDER_DEPENDENT);
  set.AddFunction(std::move(f));
  OverrideAggregates(loader, std::move(set));
}

}  // namespace

void RegisterExactSums(duckdb::ExtensionLoader& loader) {
  Register<false>(loader, "sum");
  Register<true>(loader, "avg");
}

}  // namespace tidewater::sql
