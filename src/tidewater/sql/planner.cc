#include "tidewater/sql/planner.h"
#include <algorithm>
#include <map>
#include "duckdb/execution/column_binding_resolver.hpp"
#include "duckdb/execution/expression_executor.hpp"
#include "duckdb/function/function_binder.hpp"
#include "duckdb/optimizer/cse_optimizer.hpp"
#include "duckdb/optimizer/cte_inlining.hpp"
#include "duckdb/optimizer/deliminator.hpp"
#include "duckdb/optimizer/filter_pullup.hpp"
#include "duckdb/optimizer/filter_pushdown.hpp"
#include "duckdb/optimizer/join_order/join_order_optimizer.hpp"
#include "duckdb/optimizer/optimizer.hpp"
#include "duckdb/optimizer/rule/equal_or_null_simplification.hpp"
#include "duckdb/optimizer/rule/list.hpp"
#include "duckdb/parser/parser.hpp"
#include "duckdb/parser/statement/select_statement.hpp"
#include "duckdb/planner/expression/list.hpp"
#include "duckdb/planner/expression_iterator.hpp"
#include "duckdb/planner/operator/list.hpp"
#include "duckdb/planner/planner.hpp"
#include "tidewater/base/check.h"
#include "tidewater/sql/bridge.h"
#include "tidewater/sql/literals.h"
#include "tidewater/sql/naming.h"

namespace tidewater::sql {
namespace {

using dataflow::AggregateCall;
using dataflow::AggregateKind;
using dataflow::ExpressionPtr;
using dataflow::NodeKind;
using dataflow::PlanNode;
using duckdb::BoundAggregateExpression;
using duckdb::BoundReferenceExpression;
using duckdb::ClientContext;
using duckdb::ExpressionClass;
using duckdb::ExpressionType;
using duckdb::idx_t;
using duckdb::LogicalOperator;
using duckdb::LogicalOperatorType;
using duckdb::make_uniq;
using NodePtr = std::unique_ptr<PlanNode>;

[[noreturn]] void Refuse(const std::string& what, const std::string& hint = {}) {
  ThrowThroughDuckDB(UserError("0A000", "{} is not supported in a materialized view yet", what).WithHint(hint));
}

// --- Checks on the bound plan, before anything is folded.

void CheckExpression(const duckdb::Expression& e) {
  if (e.GetExpressionClass() == ExpressionClass::BOUND_FUNCTION) {
    auto& f = e.Cast<duckdb::BoundFunctionExpression>();
    switch (f.function.GetStability()) {
      case duckdb::FunctionStability::VOLATILE:
        if (f.function.name == "error") Refuse("a scalar subquery");  // DuckDB's check that it gives one row
        Refuse(fmt::format("the volatile function {}()", f.function.name),
               "Its value would differ each time a row is computed.");
      case duckdb::FunctionStability::CONSISTENT_WITHIN_QUERY:
        Refuse(fmt::format("{}(), which depends on the time or the session,", f.function.name));
      default:
        break;
    }
  }
  if (e.GetExpressionClass() == ExpressionClass::BOUND_PARAMETER)
    ThrowThroughDuckDB(UserError("42P02", "there is no parameter in a materialized view"));
  duckdb::ExpressionIterator::EnumerateChildren(e, CheckExpression);
}

void CheckOperator(LogicalOperator& op) {
  duckdb::LogicalOperatorVisitor::EnumerateExpressions(
      op, [](duckdb::unique_ptr<duckdb::Expression>* e) { CheckExpression(**e); });
  for (auto& c : op.children) CheckOperator(*c);
}

// --- Optimizing: an allow-list. Left out on purpose: statistics_propagation, compressed_materialization, top_n and the
// like (they bake the present contents or batch execution into the plan), in_clause (turns an IN list into a join),
// sum_rewriter (changes overflow), regex_range, build_side and filter pushdown of joins (batch execution),
// common_subplan (makes CTEs that we inline again), column pruning (Prune below does it on our plan).

bool HasCrossProduct(const LogicalOperator& op) {
  if (op.type == LogicalOperatorType::LOGICAL_CROSS_PRODUCT) return true;
  return std::any_of(op.children.begin(), op.children.end(), [](auto& c) { return HasCrossProduct(*c); });
}

duckdb::unique_ptr<LogicalOperator> Optimize(duckdb::Planner& planner, ClientContext& context) {
  auto plan = std::move(planner.plan);
  duckdb::Optimizer optimizer(*planner.binder, context);
  auto& rules = optimizer.rewriter.rules;
  rules.clear();
  auto& rewriter = optimizer.rewriter;
  rules.push_back(make_uniq<duckdb::ConstantOrderNormalizationRule>(rewriter));
  // Nothing volatile or time-dependent is left: CheckOperator refused it.
  rules.push_back(make_uniq<duckdb::ConstantFoldingRule>(rewriter));
  rules.push_back(make_uniq<duckdb::DistributivityRule>(rewriter));
  rules.push_back(make_uniq<duckdb::CaseSimplificationRule>(rewriter));
  rules.push_back(make_uniq<duckdb::ConjunctionSimplificationRule>(rewriter));
  rules.push_back(make_uniq<duckdb::ComparisonSimplificationRule>(rewriter));
  rules.push_back(make_uniq<duckdb::EqualOrNullSimplification>(rewriter));
  optimizer.rewriter.VisitOperator(*plan);

  duckdb::CTEInlining inlining(optimizer);
  plan = inlining.Optimize(std::move(plan));
  duckdb::FilterPullup pullup;
  plan = pullup.Rewrite(std::move(plan));
  {
    duckdb::FilterPushdown pushdown(optimizer);
    duckdb::unordered_set<idx_t> top_bindings;
    pushdown.CheckMarkToSemi(*plan, top_bindings);
    plan = pushdown.Rewrite(std::move(plan));
  }
  duckdb::Deliminator deliminator;
  plan = deliminator.Optimize(std::move(plan));
  // Joins run in the order they were written, except where that order leaves a cross product, as FROM a, b, c may.
  if (HasCrossProduct(*plan)) {
    duckdb::JoinOrderOptimizer join_order(context);
    plan = join_order.Optimize(std::move(plan));
  }
  duckdb::CommonSubExpressionOptimizer common(*planner.binder);
  common.VisitOperator(*plan);
  return plan;
}

// --- Expressions.

ExpressionPtr Ref(const LogicalType& type, idx_t index, const std::string& name = {}) {
  return make_uniq<BoundReferenceExpression>(name, type, index);
}

template <class F>
void ForEachRef(duckdb::Expression& e, const F& f) {
  if (e.GetExpressionClass() == ExpressionClass::BOUND_REF) f(e.Cast<BoundReferenceExpression>());
  duckdb::ExpressionIterator::EnumerateChildren(e, [&](duckdb::Expression& child) { ForEachRef(child, f); });
}

void Shift(duckdb::Expression& e, idx_t by) {
  ForEachRef(e, [&](BoundReferenceExpression& r) { r.index += by; });
}

std::optional<idx_t> AsRef(const duckdb::Expression& e) {
  if (e.GetExpressionClass() != ExpressionClass::BOUND_REF) return std::nullopt;
  return e.Cast<BoundReferenceExpression>().index;
}

ExpressionPtr And(ExpressionPtr a, ExpressionPtr b) {
  if (!a) return b;
  if (!b) return a;
  return make_uniq<duckdb::BoundConjunctionExpression>(ExpressionType::CONJUNCTION_AND, std::move(a), std::move(b));
}

/// Replaces each reference by a copy of what it refers to.
void Substitute(ExpressionPtr& e, const std::vector<ExpressionPtr>& by) {
  if (auto i = AsRef(*e)) {
    auto alias = e->alias;
    e = by[*i]->Copy();
    if (e->alias.empty()) e->alias = alias;
    return;
  }
  duckdb::ExpressionIterator::EnumerateChildren(*e, [&](ExpressionPtr& child) { Substitute(child, by); });
}

// --- Lowering.

class Lowering {
 public:
  explicit Lowering(ClientContext& context) : context_(context) {}

  NodePtr Lower(LogicalOperator& op) {
    switch (op.type) {
      case LogicalOperatorType::LOGICAL_GET:
        return LowerGet(op.Cast<duckdb::LogicalGet>());
      case LogicalOperatorType::LOGICAL_FILTER:
        return LowerFilter(op.Cast<duckdb::LogicalFilter>());
      case LogicalOperatorType::LOGICAL_PROJECTION:
        return LowerProjection(op.Cast<duckdb::LogicalProjection>());
      case LogicalOperatorType::LOGICAL_COMPARISON_JOIN:
      case LogicalOperatorType::LOGICAL_ANY_JOIN:
      case LogicalOperatorType::LOGICAL_CROSS_PRODUCT:
        return LowerJoin(op);
      case LogicalOperatorType::LOGICAL_AGGREGATE_AND_GROUP_BY:
        return LowerAggregate(op.Cast<duckdb::LogicalAggregate>());
      case LogicalOperatorType::LOGICAL_DISTINCT: {
        auto& distinct = op.Cast<duckdb::LogicalDistinct>();
        if (distinct.distinct_type == duckdb::DistinctType::DISTINCT_ON) Refuse("DISTINCT ON");
        return Over(NodeKind::kDistinct, Lower(*op.children[0]));
      }
      case LogicalOperatorType::LOGICAL_UNION:
        return LowerUnion(op);
      case LogicalOperatorType::LOGICAL_EXCEPT:
        Refuse("EXCEPT");
      case LogicalOperatorType::LOGICAL_INTERSECT:
        Refuse("INTERSECT");
      case LogicalOperatorType::LOGICAL_DUMMY_SCAN:
      case LogicalOperatorType::LOGICAL_EXPRESSION_GET:
      case LogicalOperatorType::LOGICAL_EMPTY_RESULT:
      case LogicalOperatorType::LOGICAL_CHUNK_GET:
        return LowerValues(op);
      case LogicalOperatorType::LOGICAL_MATERIALIZED_CTE: {
        auto& cte = op.Cast<duckdb::LogicalMaterializedCTE>();
        ctes_[cte.table_index] = op.children[0].get();
        return Lower(*op.children[1]);
      }
      case LogicalOperatorType::LOGICAL_CTE_REF: {
        auto it = ctes_.find(op.Cast<duckdb::LogicalCTERef>().cte_index);
        if (it == ctes_.end()) Refuse("WITH RECURSIVE");
        return Lower(*it->second);
      }
      case LogicalOperatorType::LOGICAL_RECURSIVE_CTE:
        Refuse("WITH RECURSIVE");
      case LogicalOperatorType::LOGICAL_ORDER_BY:
        Refuse("ORDER BY", "Put ORDER BY into the query that reads the view.");
      case LogicalOperatorType::LOGICAL_LIMIT:
      case LogicalOperatorType::LOGICAL_TOP_N:
        Refuse("LIMIT");
      case LogicalOperatorType::LOGICAL_WINDOW:
        Refuse("a window function (OVER)");
      case LogicalOperatorType::LOGICAL_DELIM_JOIN:
      case LogicalOperatorType::LOGICAL_DELIM_GET:
      case LogicalOperatorType::LOGICAL_DEPENDENT_JOIN:
        Refuse("a correlated subquery");
      case LogicalOperatorType::LOGICAL_UNNEST:
        Refuse("unnest");
      case LogicalOperatorType::LOGICAL_SAMPLE:
        Refuse("TABLESAMPLE");
      case LogicalOperatorType::LOGICAL_PIVOT:
        Refuse("PIVOT");
      case LogicalOperatorType::LOGICAL_ASOF_JOIN:
        Refuse("ASOF JOIN");
      case LogicalOperatorType::LOGICAL_POSITIONAL_JOIN:
        Refuse("POSITIONAL JOIN");
      default:
        Refuse(duckdb::LogicalOperatorToString(op.type));
    }
  }

 private:
  NodePtr Over(NodeKind kind, NodePtr input) {
    auto node = std::make_unique<PlanNode>();
    node->kind = kind;
    node->types = input->types;
    node->names = input->names;
    node->inputs.push_back(std::move(input));
    return node;
  }

  /// Columns `columns` of the input, in that order.
  NodePtr Select(NodePtr input, const std::vector<idx_t>& columns) {
    auto node = Over(NodeKind::kProject, std::move(input));
    auto& in = *node->inputs[0];
    node->types.clear();
    node->names.clear();
    for (auto c : columns) {
      node->expressions.push_back(Ref(in.types[c], c, in.names[c]));
      node->types.push_back(in.types[c]);
      node->names.push_back(in.names[c]);
    }
    return node;
  }

  NodePtr LowerGet(duckdb::LogicalGet& get) {
    auto bind = dynamic_cast<RelationBind*>(get.bind_data.get());
    if (!bind) Refuse(fmt::format("the table function {}()", get.function.name));
    if (bind->system) Refuse("reading system catalogs");
    if (!get.children.empty() || !get.table_filters.filters.empty()) Refuse("this scan");
    auto node = std::make_unique<PlanNode>();
    node->kind = NodeKind::kScan;
    node->relation = bind->object->id;
    std::vector<idx_t> order;
    auto& ids = get.GetColumnIds();
    for (auto& id : ids) {
      // The empty column of count(*): any column has the right number of rows.
      auto column = id.IsVirtualColumn() ? 0 : uint32_t(id.GetPrimaryIndex());
      node->columns.push_back(column);
      node->types.push_back(bind->types[column]);
      node->names.push_back(bind->object->columns[column].name);
    }
    if (get.projection_ids.empty()) return node;
    std::vector<idx_t> projection(get.projection_ids.begin(), get.projection_ids.end());
    return Select(std::move(node), projection);
  }

  NodePtr LowerFilter(duckdb::LogicalFilter& filter) {
    auto node = Over(NodeKind::kFilter, Lower(*filter.children[0]));
    for (auto& e : filter.expressions) node->expressions.push_back(e->Copy());
    if (filter.projection_map.empty()) return node;
    std::vector<idx_t> projection(filter.projection_map.begin(), filter.projection_map.end());
    return Select(std::move(node), projection);
  }

  NodePtr LowerProjection(duckdb::LogicalProjection& projection) {
    auto node = Over(NodeKind::kProject, Lower(*projection.children[0]));
    node->types.clear();
    node->names.clear();
    auto& in = *node->inputs[0];
    for (auto& e : projection.expressions) {
      auto copy = e->Copy();
      auto ref = AsRef(*copy);
      node->types.push_back(copy->return_type);
      node->names.push_back(!copy->alias.empty() ? copy->alias : ref ? in.names[*ref] : copy->GetName());
      node->expressions.push_back(std::move(copy));
    }
    return node;
  }

  NodePtr LowerJoin(LogicalOperator& op) {
    auto type = duckdb::JoinType::INNER;
    auto join =
        op.type == LogicalOperatorType::LOGICAL_CROSS_PRODUCT ? nullptr : static_cast<duckdb::LogicalJoin*>(&op);
    if (join) type = join->join_type;
    switch (type) {
      case duckdb::JoinType::INNER:
      case duckdb::JoinType::LEFT:
      case duckdb::JoinType::RIGHT:
        break;
      case duckdb::JoinType::OUTER:
        Refuse("FULL JOIN");
      case duckdb::JoinType::SINGLE:
        Refuse("a scalar subquery");
      case duckdb::JoinType::MARK:
      case duckdb::JoinType::SEMI:
      case duckdb::JoinType::RIGHT_SEMI:
        Refuse("IN or EXISTS with a subquery", "Write it as a join with SELECT DISTINCT.");
      case duckdb::JoinType::ANTI:
      case duckdb::JoinType::RIGHT_ANTI:
        Refuse("NOT IN or NOT EXISTS with a subquery");
      default:
        Refuse("this kind of join");
    }
    auto node = std::make_unique<PlanNode>();
    node->kind = NodeKind::kJoin;
    node->join_type = type == duckdb::JoinType::INNER ? dataflow::JoinType::kInner : dataflow::JoinType::kLeft;
    auto left = Lower(*op.children[0]), right = Lower(*op.children[1]);
    idx_t nl = left->types.size(), nr = right->types.size();
    ExpressionPtr residual;
    if (op.type == LogicalOperatorType::LOGICAL_COMPARISON_JOIN) {
      auto& comparison = op.Cast<duckdb::LogicalComparisonJoin>();
      if (comparison.predicate) Refuse("this join condition");
      for (auto& condition : comparison.conditions) {
        if (condition.comparison == ExpressionType::COMPARE_EQUAL ||
            condition.comparison == ExpressionType::COMPARE_NOT_DISTINCT_FROM) {
          TW_CHECK(condition.left->return_type == condition.right->return_type, "{} vs {}",
                   condition.left->return_type.ToString(), condition.right->return_type.ToString());
          node->left_keys.push_back(condition.left->Copy());
          node->right_keys.push_back(condition.right->Copy());
          node->null_equal.push_back(condition.comparison == ExpressionType::COMPARE_NOT_DISTINCT_FROM);
        } else {
          auto r = condition.right->Copy();
          Shift(*r, nl);
          residual = And(std::move(residual), make_uniq<duckdb::BoundComparisonExpression>(
                                                  condition.comparison, condition.left->Copy(), std::move(r)));
        }
      }
    } else if (op.type == LogicalOperatorType::LOGICAL_ANY_JOIN) {
      residual = op.Cast<duckdb::LogicalAnyJoin>().condition->Copy();
    }
    std::vector<idx_t> out;
    auto add_side = [&](const duckdb::vector<idx_t>& map, idx_t n, idx_t offset) {
      if (map.empty())
        for (idx_t i = 0; i < n; i++) out.push_back(offset + i);
      else
        for (auto i : map) out.push_back(offset + i);
    };
    static const duckdb::vector<idx_t> kAll;
    add_side(join ? join->left_projection_map : kAll, nl, 0);
    add_side(join ? join->right_projection_map : kAll, nr, nl);
    if (type == duckdb::JoinType::RIGHT) {  // a RIGHT JOIN b = b LEFT JOIN a, columns put back in order
      auto swap = [&](idx_t i) { return i < nl ? i + nr : i - nl; };
      std::swap(left, right);
      std::swap(node->left_keys, node->right_keys);
      if (residual) ForEachRef(*residual, [&](BoundReferenceExpression& r) { r.index = swap(r.index); });
      for (auto& o : out) o = swap(o);
    }
    node->residual = std::move(residual);
    std::vector<std::string> names = left->names;
    names.insert(names.end(), right->names.begin(), right->names.end());
    Types types = left->types;
    types.insert(types.end(), right->types.begin(), right->types.end());
    for (auto o : out) {
      node->output.push_back(uint32_t(o));
      node->types.push_back(types[o]);
      node->names.push_back(names[o]);
    }
    node->inputs.push_back(std::move(left));
    node->inputs.push_back(std::move(right));
    return node;
  }

  /// The position of an equal call among the aggregates, added when there is none.
  static idx_t AddCall(PlanNode& node, AggregateCall call) {
    auto equal = [](const ExpressionPtr& a, const ExpressionPtr& b) { return !a == !b && (!a || a->Equals(*b)); };
    for (idx_t i = 0; i < node.aggregates.size(); i++) {
      auto& a = node.aggregates[i];
      if (a.kind == call.kind && a.distinct == call.distinct && a.type == call.type &&
          equal(a.argument, call.argument) && equal(a.filter, call.filter))
        return node.groups.size() + i;
    }
    node.aggregates.push_back(std::move(call));
    return node.groups.size() + node.aggregates.size() - 1;
  }

  static bool IsInteger(const LogicalType& type) {
    return type.IsIntegral() && type.id() != duckdb::LogicalTypeId::BIGNUM;
  }

  /// Adds what `e` needs to the node and gives its value over the node's output.
  ExpressionPtr LowerCall(PlanNode& node, BoundAggregateExpression& e) {
    auto& name = e.function.name;
    if (e.order_bys && !e.order_bys->orders.empty()) Refuse(fmt::format("{}() with ORDER BY", name));
    auto call = [&](AggregateKind kind, LogicalType type) {
      AggregateCall c;
      c.kind = kind;
      c.type = std::move(type);
      if (!e.children.empty()) c.argument = e.children[0]->Copy();
      if (e.filter) c.filter = e.filter->Copy();
      c.distinct = e.IsDistinct();
      return c;
    };
    auto value = [&](AggregateCall c) {
      auto type = c.type;
      return Ref(type, AddCall(node, std::move(c)));
    };
    if (name == "count_star" && e.children.empty()) return value(call(AggregateKind::kCountStar, LogicalType::BIGINT));
    if (e.children.size() != 1) Refuse(fmt::format("the aggregate {}() with {} arguments", name, e.children.size()));
    auto& argument = e.children[0]->return_type;
    if (name == "count") return value(call(AggregateKind::kCount, LogicalType::BIGINT));
    if (name == "min" || name == "max") {
      if (e.return_type != argument) Refuse(fmt::format("{}() of {}", name, argument.ToString()));
      auto c = call(name == "min" ? AggregateKind::kMin : AggregateKind::kMax, e.return_type);
      c.distinct = false;
      return value(std::move(c));
    }
    if (name == "sum" || name == "avg") {
      bool decimal = argument.id() == duckdb::LogicalTypeId::DECIMAL;
      bool floating = argument.id() == duckdb::LogicalTypeId::DOUBLE;
      if (!decimal && !floating && !IsInteger(argument)) Refuse(fmt::format("{}() of {}", name, argument.ToString()));
      if (floating) return value(call(name == "sum" ? AggregateKind::kSum : AggregateKind::kAvg, LogicalType::DOUBLE));
      auto sum_type = decimal ? LogicalType::DECIMAL(38, duckdb::DecimalType::GetScale(argument))
                              : LogicalType(LogicalType::HUGEINT);
      auto sum = value(call(AggregateKind::kSum, sum_type));
      if (name == "sum") return duckdb::BoundCastExpression::AddCastToType(context_, std::move(sum), e.return_type);
      // avg = sum / count, so that a view which shows several of them keeps each once.
      auto count = value(call(AggregateKind::kCount, LogicalType::BIGINT));
      duckdb::vector<ExpressionPtr> arguments;
      arguments.push_back(std::move(sum));
      arguments.push_back(std::move(count));
      duckdb::ErrorData error;
      auto average = duckdb::FunctionBinder(context_).BindScalarFunction(DEFAULT_SCHEMA, "tw_average",
                                                                         std::move(arguments), error);
      if (error.HasError()) error.Throw();
      return duckdb::BoundCastExpression::AddCastToType(context_, std::move(average), e.return_type);
    }
    Refuse(fmt::format("the aggregate {}()", name));
  }

  NodePtr LowerAggregate(duckdb::LogicalAggregate& op) {
    if (op.grouping_sets.size() > 1 || !op.grouping_functions.empty()) Refuse("GROUPING SETS, ROLLUP or CUBE");
    auto node = std::make_unique<PlanNode>();
    node->kind = NodeKind::kAggregate;
    auto input = Lower(*op.children[0]);
    if (op.grouping_sets.size() == 1 && op.grouping_sets[0].size() != op.groups.size())
      Refuse("GROUPING SETS, ROLLUP or CUBE");
    for (auto& g : op.groups) node->groups.push_back(g->Copy());
    std::vector<ExpressionPtr> values;
    for (auto& e : op.expressions) {
      if (e->GetExpressionClass() != ExpressionClass::BOUND_AGGREGATE) Refuse("this aggregate");
      values.push_back(LowerCall(*node, e->Cast<BoundAggregateExpression>()));
    }
    for (auto& g : node->groups) {
      auto ref = AsRef(*g);
      node->types.push_back(g->return_type);
      node->names.push_back(ref ? input->names[*ref] : g->GetName());
    }
    for (auto& a : node->aggregates) {
      node->types.push_back(a.type);
      static const char* const kNames[] = {"count", "count", "sum", "avg", "min", "max"};
      node->names.push_back(kNames[int(a.kind)]);
    }
    node->inputs.push_back(std::move(input));
    bool plain = values.size() == node->aggregates.size();
    for (idx_t i = 0; plain && i < values.size(); i++) plain = AsRef(*values[i]) == node->groups.size() + i;
    if (plain) return node;
    auto project = Over(NodeKind::kProject, std::move(node));
    auto& in = *project->inputs[0];
    project->types.clear();
    project->names.clear();
    for (idx_t i = 0; i < in.groups.size(); i++) {
      project->expressions.push_back(Ref(in.types[i], i, in.names[i]));
      project->types.push_back(in.types[i]);
      project->names.push_back(in.names[i]);
    }
    for (idx_t i = 0; i < values.size(); i++) {
      project->types.push_back(values[i]->return_type);
      project->names.push_back(op.expressions[i]->Cast<BoundAggregateExpression>().function.name);
      project->expressions.push_back(std::move(values[i]));
    }
    return project;
  }

  NodePtr LowerUnion(LogicalOperator& op) {
    auto& set = op.Cast<duckdb::LogicalSetOperation>();
    auto node = std::make_unique<PlanNode>();
    node->kind = NodeKind::kUnionAll;
    for (auto& c : op.children) node->inputs.push_back(Lower(*c));
    node->types = op.types;
    node->names = node->inputs[0]->names;
    for (auto& i : node->inputs)
      TW_CHECK(i->types == node->types, "{} vs {} columns", i->types.size(), node->types.size());
    if (set.setop_all) return node;
    return Over(NodeKind::kDistinct, std::move(node));
  }

  NodePtr LowerValues(LogicalOperator& op) {
    auto node = std::make_unique<PlanNode>();
    node->kind = NodeKind::kValues;
    node->types = op.types;
    for (size_t i = 0; i < op.types.size(); i++) node->names.push_back(fmt::format("col{}", i));
    if (op.type == LogicalOperatorType::LOGICAL_DUMMY_SCAN) {
      node->rows.push_back({});
      for (auto& t : op.types) node->rows.back().push_back(duckdb::Value(t));
    } else if (op.type == LogicalOperatorType::LOGICAL_EXPRESSION_GET) {
      for (auto& row : op.Cast<duckdb::LogicalExpressionGet>().expressions) {
        node->rows.push_back({});
        for (size_t i = 0; i < row.size(); i++) {
          if (!row[i]->IsFoldable()) Refuse("VALUES that are not constant");
          node->rows.back().push_back(
              duckdb::ExpressionExecutor::EvaluateScalar(context_, *row[i]).DefaultCastAs(op.types[i]));
        }
      }
    } else if (op.type == LogicalOperatorType::LOGICAL_CHUNK_GET) {
      for (auto& row : op.Cast<duckdb::LogicalColumnDataGet>().collection->Rows()) {
        node->rows.push_back({});
        for (size_t i = 0; i < op.types.size(); i++) node->rows.back().push_back(row.GetValue(i));
      }
    }
    return node;
  }

  ClientContext& context_;
  std::map<idx_t, LogicalOperator*> ctes_;
};

// --- Simplifying our plan.

/// Nodes that can be merged into their neighbours are.
NodePtr Simplify(NodePtr node) {
  for (auto& i : node->inputs) i = Simplify(std::move(i));
  if (node->kind == NodeKind::kFilter) {
    auto& in = node->inputs[0];
    if (in->kind == NodeKind::kFilter) {
      for (auto& e : node->expressions) in->expressions.push_back(std::move(e));
      return std::move(in);
    }
    if (in->kind == NodeKind::kJoin && in->join_type == dataflow::JoinType::kInner) {
      for (auto& e : node->expressions) {
        ForEachRef(*e, [&](BoundReferenceExpression& r) { r.index = in->output[r.index]; });
        in->residual = And(std::move(in->residual), std::move(e));
      }
      return std::move(in);
    }
  }
  if (node->kind == NodeKind::kProject) {
    auto& in = node->inputs[0];
    if (in->kind == NodeKind::kProject) {
      // What is computed below may be referred to once only, or it would be computed again and again.
      std::vector<int> uses(in->expressions.size());
      for (auto& e : node->expressions) ForEachRef(*e, [&](BoundReferenceExpression& r) { uses[r.index]++; });
      bool merge = true;
      for (size_t i = 0; i < uses.size(); i++) {
        auto c = in->expressions[i]->GetExpressionClass();
        merge = merge && (uses[i] <= 1 || c == ExpressionClass::BOUND_REF || c == ExpressionClass::BOUND_CONSTANT);
      }
      if (merge) {
        for (auto& e : node->expressions) Substitute(e, in->expressions);
        auto below = std::move(in->inputs[0]);
        node->inputs[0] = std::move(below);
        return Simplify(std::move(node));
      }
    }
    if (in->kind == NodeKind::kUnionAll || in->kind == NodeKind::kAggregate || in->kind == NodeKind::kDistinct ||
        in->kind == NodeKind::kJoin || in->kind == NodeKind::kScan || in->kind == NodeKind::kFilter ||
        in->kind == NodeKind::kProject) {
      bool identity = node->expressions.size() == in->types.size();
      for (size_t i = 0; identity && i < node->expressions.size(); i++) identity = AsRef(*node->expressions[i]) == i;
      if (identity) {
        in->names = node->names;
        return std::move(in);
      }
    }
    bool references = !node->expressions.empty();
    std::set<idx_t> distinct;
    for (auto& e : node->expressions) references = references && AsRef(*e) && distinct.insert(*AsRef(*e)).second;
    if (references && (in->kind == NodeKind::kJoin || in->kind == NodeKind::kScan)) {
      auto& places = in->kind == NodeKind::kJoin ? in->output : in->columns;
      std::vector<uint32_t> chosen;
      for (auto& e : node->expressions) chosen.push_back(places[*AsRef(*e)]);
      places = chosen;
      in->types = node->types;
      in->names = node->names;
      return std::move(in);
    }
  }
  return node;
}

template <class F>
void ForEachInputExpression(PlanNode& aggregate, const F& f) {
  for (auto& g : aggregate.groups) f(g);
  for (auto& a : aggregate.aggregates) {
    if (a.argument) f(a.argument);
    if (a.filter) f(a.filter);
  }
}

/// Projections below aggregates and joins go where what is above can do their work as well.
NodePtr Absorb(NodePtr node) {
  for (auto& i : node->inputs) i = Absorb(std::move(i));
  if (node->kind == NodeKind::kAggregate && node->inputs[0]->kind == NodeKind::kProject) {
    auto& in = node->inputs[0];
    std::vector<int> uses(in->expressions.size());
    ForEachInputExpression(
        *node, [&](ExpressionPtr& e) { ForEachRef(*e, [&](BoundReferenceExpression& r) { uses[r.index]++; }); });
    for (size_t i = 0; i < uses.size(); i++)
      if (uses[i] > 1 && in->expressions[i]->GetExpressionClass() != ExpressionClass::BOUND_REF) return node;
    ForEachInputExpression(*node, [&](ExpressionPtr& e) { Substitute(e, in->expressions); });
    auto below = std::move(in->inputs[0]);
    node->inputs[0] = std::move(below);
    return node;
  }
  if (node->kind == NodeKind::kJoin) {
    for (int side = 0; side < 2; side++) {
      auto& in = node->inputs[size_t(side)];
      if (in->kind != NodeKind::kProject) continue;
      if (!std::all_of(in->expressions.begin(), in->expressions.end(), [](auto& e) { return AsRef(*e).has_value(); }))
        continue;
      auto old_left = node->inputs[0]->types.size();
      auto below = std::move(in->inputs[0]);
      auto project = std::move(in);
      in = std::move(below);
      auto new_left = node->inputs[0]->types.size();
      auto place = [&](idx_t i) -> idx_t {
        if (i < old_left) return side == 0 ? *AsRef(*project->expressions[i]) : i;
        return new_left + (side == 1 ? *AsRef(*project->expressions[i - old_left]) : i - old_left);
      };
      for (auto& e : side == 0 ? node->left_keys : node->right_keys) Substitute(e, project->expressions);
      if (node->residual) ForEachRef(*node->residual, [&](BoundReferenceExpression& r) { r.index = place(r.index); });
      for (auto& o : node->output) o = uint32_t(place(o));
    }
  }
  return node;
}

/// Values and projections of them become values.
NodePtr FoldValues(ClientContext& context, NodePtr node) {
  for (auto& i : node->inputs) i = FoldValues(context, std::move(i));
  if (node->kind != NodeKind::kProject || node->inputs[0]->kind != NodeKind::kValues) return node;
  auto& in = *node->inputs[0];
  node->kind = NodeKind::kValues;
  for (auto& row : in.rows) {
    std::vector<ExpressionPtr> constants;
    for (auto& v : row) constants.push_back(make_uniq<duckdb::BoundConstantExpression>(v));
    node->rows.push_back({});
    for (auto& e : node->expressions) {
      auto copy = e->Copy();
      Substitute(copy, constants);
      node->rows.back().push_back(duckdb::ExpressionExecutor::EvaluateScalar(context, *copy));
    }
  }
  node->expressions.clear();
  node->inputs.clear();
  return node;
}

using Needed = std::set<uint32_t>;

void AddRefs(duckdb::Expression& e, Needed& needed) {
  ForEachRef(e, [&](BoundReferenceExpression& r) { needed.insert(uint32_t(r.index)); });
}
void Remap(duckdb::Expression& e, const std::map<uint32_t, uint32_t>& map) {
  ForEachRef(e, [&](BoundReferenceExpression& r) { r.index = map.at(uint32_t(r.index)); });
}
template <class V>
void Keep(V& values, const std::vector<uint32_t>& kept) {
  V out;
  for (auto k : kept) out.push_back(std::move(values[k]));
  values = std::move(out);
}

/// Leaves out of the node's output what is not needed; gives old position -> new position.
std::map<uint32_t, uint32_t> Prune(PlanNode& node, Needed needed) {
  std::vector<uint32_t> kept(needed.begin(), needed.end());
  auto keep_output = [&] {
    Keep(node.types, kept);
    Keep(node.names, kept);
    std::map<uint32_t, uint32_t> map;
    for (uint32_t i = 0; i < kept.size(); i++) map[kept[i]] = i;
    return map;
  };
  auto keep_all = [&] {
    kept.clear();
    for (uint32_t i = 0; i < node.types.size(); i++) kept.push_back(i);
    return Needed(kept.begin(), kept.end());
  };
  // Rows without columns do not exist in chunks: one column stays.
  if (kept.empty() && !node.types.empty()) kept.push_back(0);
  switch (node.kind) {
    case NodeKind::kScan: {
      Keep(node.columns, kept);
      return keep_output();
    }
    case NodeKind::kProject: {
      Keep(node.expressions, kept);
      Needed below;
      for (auto& e : node.expressions) AddRefs(*e, below);
      auto map = Prune(*node.inputs[0], below);
      for (auto& e : node.expressions) Remap(*e, map);
      return keep_output();
    }
    case NodeKind::kFilter: {
      Needed below(kept.begin(), kept.end());
      for (auto& e : node.expressions) AddRefs(*e, below);
      auto map = Prune(*node.inputs[0], below);
      for (auto& e : node.expressions) Remap(*e, map);
      // A filter gives all of its input's columns.
      node.types = node.inputs[0]->types;
      node.names = node.inputs[0]->names;
      return map;
    }
    case NodeKind::kJoin: {
      auto offset = uint32_t(node.inputs[0]->types.size());
      Keep(node.output, kept);
      Needed left, right;
      auto add = [&](uint32_t i) { i < offset ? left.insert(i) : right.insert(i - offset); };
      for (auto o : node.output) add(o);
      for (auto& e : node.left_keys) AddRefs(*e, left);
      for (auto& e : node.right_keys) AddRefs(*e, right);
      if (node.residual) ForEachRef(*node.residual, [&](BoundReferenceExpression& r) { add(uint32_t(r.index)); });
      auto left_map = Prune(*node.inputs[0], left), right_map = Prune(*node.inputs[1], right);
      auto new_offset = uint32_t(node.inputs[0]->types.size());
      auto place = [&](uint32_t i) { return i < offset ? left_map.at(i) : right_map.at(i - offset) + new_offset; };
      for (auto& e : node.left_keys) Remap(*e, left_map);
      for (auto& e : node.right_keys) Remap(*e, right_map);
      if (node.residual)
        ForEachRef(*node.residual, [&](BoundReferenceExpression& r) { r.index = place(uint32_t(r.index)); });
      for (auto& o : node.output) o = place(o);
      return keep_output();
    }
    case NodeKind::kAggregate: {
      auto groups = uint32_t(node.groups.size());
      kept.clear();
      for (uint32_t i = 0; i < groups; i++) kept.push_back(i);  // groups make the rows: all stay
      std::vector<uint32_t> calls;
      for (uint32_t i = groups; i < node.types.size(); i++)
        if (needed.count(i)) {
          kept.push_back(i);
          calls.push_back(i - groups);
        }
      if (kept.empty()) {
        kept.push_back(0);
        calls.push_back(0);
      }
      Keep(node.aggregates, calls);
      Needed below;
      for (auto& g : node.groups) AddRefs(*g, below);
      for (auto& a : node.aggregates) {
        if (a.argument) AddRefs(*a.argument, below);
        if (a.filter) AddRefs(*a.filter, below);
      }
      auto map = Prune(*node.inputs[0], below);
      for (auto& g : node.groups) Remap(*g, map);
      for (auto& a : node.aggregates) {
        if (a.argument) Remap(*a.argument, map);
        if (a.filter) Remap(*a.filter, map);
      }
      return keep_output();
    }
    case NodeKind::kDistinct: {
      auto all = keep_all();
      Prune(*node.inputs[0], all);
      return keep_output();
    }
    case NodeKind::kUnionAll: {
      // Inputs whose node cannot drop columns (filters, aggregates) get a projection, so that all sides stay alike.
      for (auto& input : node.inputs) {
        auto map = Prune(*input, Needed(kept.begin(), kept.end()));
        bool same = input->types.size() == kept.size();
        for (uint32_t i = 0; same && i < kept.size(); i++) same = map.at(kept[i]) == i;
        if (same) continue;
        auto project = std::make_unique<PlanNode>();
        project->kind = NodeKind::kProject;
        for (auto k : kept) {
          auto place = map.at(k);
          project->expressions.push_back(Ref(input->types[place], place, input->names[place]));
          project->types.push_back(input->types[place]);
          project->names.push_back(input->names[place]);
        }
        project->inputs.push_back(std::move(input));
        input = std::move(project);
      }
      return keep_output();
    }
    case NodeKind::kValues: {
      for (auto& row : node.rows) Keep(row, kept);
      return keep_output();
    }
  }
  return {};
}

void Number(PlanNode& node, int& next) {
  for (auto& i : node.inputs) Number(*i, next);
  node.id = next++;
}

}  // namespace

LoweredView PlanViewQuery(duckdb::Connection& connection, const std::string& sql) {
  auto& context = *connection.context;
  duckdb::Parser parser(context.GetParserOptions());
  parser.ParseQuery(sql);
  if (parser.statements.size() != 1 || parser.statements[0]->type != duckdb::StatementType::SELECT_STATEMENT)
    ThrowThroughDuckDB(UserError("42601", "a view is defined by one SELECT"));
  auto& select = parser.statements[0]->Cast<duckdb::SelectStatement>();
  NameColumns(select);
  ReadLiterals(select);
  duckdb::Planner planner(context);
  planner.CreatePlan(std::move(parser.statements[0]));
  if (!planner.plan) ThrowThroughDuckDB(UserError("42P02", "there is no parameter in a materialized view"));
  CheckOperator(*planner.plan);
  LoweredView view;
  view.names.assign(planner.names.begin(), planner.names.end());
  view.types = planner.types;
  auto plan = Optimize(planner, context);
  plan->ResolveOperatorTypes();
  duckdb::ColumnBindingResolver resolver;
  resolver.VisitOperator(*plan);
  auto node = Lowering(context).Lower(*plan);
  TW_CHECK(node->types == view.types, "{} vs {} columns", node->types.size(), view.types.size());
  // A bare NULL is text, as in PostgreSQL.
  if (std::any_of(view.types.begin(), view.types.end(),
                  [](auto& t) { return t.id() == duckdb::LogicalTypeId::SQLNULL; })) {
    auto project = std::make_unique<PlanNode>();
    project->kind = NodeKind::kProject;
    for (idx_t i = 0; i < view.types.size(); i++) {
      auto ref = Ref(view.types[i], i, node->names[i]);
      if (view.types[i].id() == duckdb::LogicalTypeId::SQLNULL) {
        view.types[i] = LogicalType::VARCHAR;
        ref = duckdb::BoundCastExpression::AddCastToType(context, std::move(ref), view.types[i]);
      }
      project->expressions.push_back(std::move(ref));
    }
    project->types = view.types;
    project->names = node->names;
    project->inputs.push_back(std::move(node));
    node = std::move(project);
  }
  node = FoldValues(context, Absorb(Simplify(std::move(node))));
  Needed all;
  for (uint32_t i = 0; i < node->types.size(); i++) all.insert(i);
  auto map = Prune(*node, all);
  node = Simplify(std::move(node));
  TW_CHECK(node->types == view.types, "{} vs {} columns after pruning", node->types.size(), view.types.size());
  node->names = view.names;
  int next = 0;
  Number(*node, next);
  view.plan = std::move(node);
  return view;
}

}  // namespace tidewater::sql
