#include "tidewater/dataflow/evaluate.h"
#include "duckdb/common/error_data.hpp"
#include "duckdb/planner/expression/list.hpp"
#include "duckdb/planner/expression_iterator.hpp"
#include "tidewater/base/check.h"

namespace tidewater::dataflow {
using duckdb::Expression;
using duckdb::ExpressionClass;
using duckdb::ExpressionType;
using duckdb::idx_t;
using duckdb::SelectionVector;
using duckdb::Value;
using duckdb::Vector;

namespace {

/// Throws a RowError for the exception being handled, or that exception itself where it is not the row's.
[[noreturn]] void RethrowAsRowError() {
  try {
    throw;
  } catch (const RowError&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const CheckError&) {
    throw;
  } catch (const std::exception& e) {
    duckdb::ErrorData data(e);
    switch (data.Type()) {
      case duckdb::ExceptionType::INTERNAL:
      case duckdb::ExceptionType::FATAL:
      case duckdb::ExceptionType::OUT_OF_MEMORY:
      case duckdb::ExceptionType::INTERRUPT:
        throw;
      default:
        throw RowError(data.RawMessage());
    }
  }
}

/// One row, an expression at a time.
class RowEvaluator {
 public:
  RowEvaluator(duckdb::ClientContext& client, DataChunk& row) : client_(client), row_(row) {}

  /// The expression's value; RowError.
  Value Evaluate(const Expression& e) {
    switch (e.GetExpressionClass()) {
      case ExpressionClass::BOUND_REF:
        return row_.GetValue(e.Cast<duckdb::BoundReferenceExpression>().index, 0);
      case ExpressionClass::BOUND_CONSTANT:
        return e.Cast<duckdb::BoundConstantExpression>().value;
      case ExpressionClass::BOUND_CONJUNCTION:
        return EvaluateConjunction(e.Cast<duckdb::BoundConjunctionExpression>());
      case ExpressionClass::BOUND_CASE: {
        auto& choice = e.Cast<duckdb::BoundCaseExpression>();
        for (auto& check : choice.case_checks)
          if (IsTrue(*check.when_expr)) return Evaluate(*check.then_expr);
        return Evaluate(*choice.else_expr);
      }
      case ExpressionClass::BOUND_OPERATOR: {
        auto& children = e.Cast<duckdb::BoundOperatorExpression>().children;
        if (e.GetExpressionType() == ExpressionType::OPERATOR_COALESCE) {
          for (auto& child : children)
            if (auto value = Evaluate(*child); !value.IsNull()) return value;
          return Value(e.return_type);
        }
        if (e.GetExpressionType() == ExpressionType::OPERATOR_TRY) {
          try {
            return Evaluate(*children[0]);
          } catch (const RowError&) {
            return Value(e.return_type);
          }
        }
        return Apply(e);
      }
      default:
        return Apply(e);
    }
  }

  /// The expression as a condition; RowError.
  bool IsTrue(const Expression& e) {
    if (e.GetExpressionClass() != ExpressionClass::BOUND_CONJUNCTION) {
      auto value = Evaluate(e);
      return !value.IsNull() && duckdb::BooleanValue::Get(value);
    }
    bool decides = e.GetExpressionType() == ExpressionType::CONJUNCTION_OR;
    std::optional<RowError> failure;
    for (auto& child : e.Cast<duckdb::BoundConjunctionExpression>().children) {
      try {
        if (IsTrue(*child) == decides) return decides;
      } catch (const RowError& error) {
        if (!failure) failure = error;
      }
    }
    if (failure) throw *failure;
    return !decides;
  }

 private:
  Value EvaluateConjunction(const duckdb::BoundConjunctionExpression& e) {
    bool decides = e.GetExpressionType() == ExpressionType::CONJUNCTION_OR;
    std::optional<RowError> failure;
    bool null = false;
    for (auto& child : e.children) {
      try {
        auto value = Evaluate(*child);
        if (value.IsNull())
          null = true;
        else if (duckdb::BooleanValue::Get(value) == decides)
          return Value::BOOLEAN(decides);
      } catch (const RowError& error) {
        if (!failure) failure = error;
      }
    }
    if (failure) throw *failure;
    return null ? Value(e.return_type) : Value::BOOLEAN(!decides);
  }

  /// A function, cast or comparison of the values of its arguments.
  Value Apply(const Expression& e) {
    auto call = e.Copy();
    duckdb::ExpressionIterator::EnumerateChildren(*call, [&](duckdb::unique_ptr<Expression>& child) {
      child = duckdb::make_uniq<duckdb::BoundConstantExpression>(Evaluate(*child));
    });
    try {
      return duckdb::ExpressionExecutor::EvaluateScalar(client_, *call, true);
    } catch (...) {
      RethrowAsRowError();
    }
  }

  duckdb::ClientContext& client_;
  DataChunk& row_;
};

}  // namespace

Projector::Projector(duckdb::ClientContext& client, const std::vector<const Expression*>& expressions)
    : client_(client), expressions_(expressions) {
  for (auto* e : expressions_) {
    types_.push_back(e->return_type);
    references_only_ &= e->GetExpressionClass() == ExpressionClass::BOUND_REF;
  }
}

void Projector::Run(DataChunk& in, DataChunk& out) {
  out.InitializeEmpty(types_);
  try {
    RunVectorized(in, out);
  } catch (...) {
    executor_.reset();
    if (in.size() != 1) RethrowAsRowError();
    try {
      RethrowAsRowError();
    } catch (const RowError&) {
    }
    RowEvaluator row(client_, in);
    for (idx_t i = 0; i < expressions_.size(); i++) {
      Vector constant(row.Evaluate(*expressions_[i]));
      out.data[i].Reference(constant);
    }
  }
  out.SetCardinality(in.size());
}

void Projector::RunVectorized(DataChunk& in, DataChunk& out) {
  if (!references_only_ && !executor_) {
    executor_ = std::make_unique<duckdb::ExpressionExecutor>(client_);
    for (auto* e : expressions_) executor_->AddExpression(*e);
  }
  if (executor_) executor_->SetChunk(&in);
  for (idx_t i = 0; i < expressions_.size(); i++) {
    auto& e = *expressions_[i];
    if (e.GetExpressionClass() == ExpressionClass::BOUND_REF) {
      out.data[i].Reference(in.data[e.Cast<duckdb::BoundReferenceExpression>().index]);
      continue;
    }
    Vector result(types_[i]);
    auto own = result.GetBuffer().get();
    executor_->ExecuteExpression(i, result);
    // An expression may hand out a vector of its own intermediate state, which its next execution overwrites.
    if (result.GetVectorType() == duckdb::VectorType::CONSTANT_VECTOR) {
      Vector constant(result.GetValue(0));
      out.data[i].Reference(constant);
    } else if (result.GetBuffer().get() != own) {
      Vector copy(types_[i]);
      duckdb::VectorOperations::Copy(result, copy, in.size(), 0, 0);
      out.data[i].Reference(copy);
    } else {
      out.data[i].Reference(result);
    }
  }
}

Selector::Selector(duckdb::ClientContext& client, const std::vector<const Expression*>& predicates)
    : client_(client), condition_(predicates[0]) {
  if (predicates.size() == 1) return;
  auto all = duckdb::make_uniq<duckdb::BoundConjunctionExpression>(ExpressionType::CONJUNCTION_AND);
  for (auto* p : predicates) all->children.push_back(p->Copy());
  owned_ = std::move(all);
  condition_ = owned_.get();
}

uint32_t Selector::Run(DataChunk& in, SelectionVector& sel) {
  try {
    if (!executor_) {
      executor_ = std::make_unique<duckdb::ExpressionExecutor>(client_);
      executor_->AddExpression(*condition_);
    }
    return uint32_t(executor_->SelectExpression(in, sel));
  } catch (...) {
    executor_.reset();
    if (in.size() != 1) RethrowAsRowError();
    try {
      RethrowAsRowError();
    } catch (const RowError&) {
    }
    sel.set_index(0, 0);
    return RowEvaluator(client_, in).IsTrue(*condition_);
  }
}

void EvaluateHalving(uint32_t n, const std::function<void(uint32_t, uint32_t)>& evaluate,
                     const std::function<void(uint32_t, const std::string&)>& failed) {
  std::function<void(uint32_t, uint32_t)> run = [&](uint32_t from, uint32_t count) {
    std::string message;
    try {
      return evaluate(from, count);
    } catch (const RowError& error) {
      message = error.what();
    }
    if (count == 1) return failed(from, message);
    run(from, count / 2);
    run(from + count / 2, count - count / 2);
  };
  if (n > 0) run(0, n);
}

}  // namespace tidewater::dataflow
