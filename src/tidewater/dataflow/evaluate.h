// Evaluation of DuckDB's bound expressions over rows, and what becomes of a row for which one fails.
//
// What a row gives depends on the row alone, never on its neighbours, on the order of predicates, or on what an
// executor learned from earlier rows. The rule, for AND in a condition (a filter's predicates, a join's residual, an
// aggregate's FILTER, WHEN): not true as soon as one operand is not true, else a failure if one fails; OR: true as soon
// as one is true, else a failure if one fails. As values they obey SQL's three-valued logic in the same way: false
// decides an AND, true an OR, whatever fails beside it. CASE and COALESCE look no further than they must; everything
// else evaluates its arguments from left to right, and the first that fails is the failure.
//
// Vectorized execution gives the same wherever it does not throw. Where it throws, the chunk is halved until single
// rows remain, and those are evaluated by the rule.
#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include "duckdb/execution/expression_executor.hpp"
#include "tidewater/types/delta_batch.h"

namespace tidewater::dataflow {

/// An expression failed for a row: the row's own matter. Whatever else evaluation throws (an internal error, memory) is
/// not a row's and passes through as it is.
class RowError : public std::exception {
 public:
  explicit RowError(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// Evaluates a list of expressions over chunks. Results outlive the next call.
class Projector {
 public:
  Projector(duckdb::ClientContext& client, const std::vector<const duckdb::Expression*>& expressions);
  /// `out` gets one column per expression and in.size() rows. Plain references share the input's vectors. RowError
  /// where an expression fails; of a single row, with the message of the first one that does.
  void Run(DataChunk& in, DataChunk& out);
  bool references_only() const { return references_only_; }
  const Types& types() const { return types_; }

 private:
  void RunVectorized(DataChunk& in, DataChunk& out);

  duckdb::ClientContext& client_;
  std::vector<const duckdb::Expression*> expressions_;
  Types types_;
  bool references_only_ = true;
  std::unique_ptr<duckdb::ExpressionExecutor> executor_;
};

/// Selects the rows for which all predicates are true.
class Selector {
 public:
  Selector(duckdb::ClientContext& client, const std::vector<const duckdb::Expression*>& predicates);
  /// Number of selected rows; `sel` receives them ascending. RowError where the condition fails for a row.
  uint32_t Run(DataChunk& in, duckdb::SelectionVector& sel);

 private:
  duckdb::ClientContext& client_;
  duckdb::unique_ptr<duckdb::Expression> owned_;
  const duckdb::Expression* condition_;
  std::unique_ptr<duckdb::ExpressionExecutor> executor_;
};

/// Calls `evaluate` with the rows [from, from + n) of a chunk, all at first; where that throws a RowError, with halves,
/// and calls `failed` for single rows that throw still. `evaluate` must have no effect before it throws.
void EvaluateHalving(uint32_t n, const std::function<void(uint32_t from, uint32_t n)>& evaluate,
                     const std::function<void(uint32_t row, const std::string& message)>& failed);

}  // namespace tidewater::dataflow
