// The plan of a view: few node kinds with DuckDB's bound expressions inside. SQL is lowered to it (sql/), operators are
// built from it (circuit.h). Stored in the catalog in an encoding of our own (sql/plan_codec.h).
//
// In every expression a BoundReferenceExpression(i) names column i of the node's input row. For a join's residual the
// input row is all columns of the left child followed by all columns of the right child.
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "duckdb.hpp"
#include "duckdb/planner/expression.hpp"
#include "tidewater/base/ids.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::dataflow {

using ExpressionPtr = duckdb::unique_ptr<duckdb::Expression>;

enum class NodeKind { kScan, kFilter, kProject, kJoin, kAggregate, kDistinct, kUnionAll, kValues };
enum class JoinType { kInner, kLeft };
enum class AggregateKind { kCountStar, kCount, kSum, kAvg, kMin, kMax };

/// One aggregate of an Aggregate node. NULL arguments are skipped; sum, avg, min, max of nothing are NULL, counts 0.
struct AggregateCall {
  AggregateKind kind = AggregateKind::kCountStar;
  ExpressionPtr argument;  ///< null for count(*)
  ExpressionPtr filter;    ///< boolean, null when absent
  bool distinct = false;
  /// sum: HUGEINT for integers (PostgreSQL says numeric; the lowering casts afterwards), DECIMAL(38,s), DOUBLE. avg:
  /// DOUBLE for doubles and integers alike or DECIMAL as the lowering decides. count: BIGINT. min, max: the argument's
  /// type.
  LogicalType type;
};

struct PlanNode {
  NodeKind kind;
  /// Stable within its view: numbered in post-order by the lowering, part of the encoding; names the operator's state.
  int id = 0;
  std::vector<std::unique_ptr<PlanNode>> inputs;
  /// Output columns.
  Types types;
  std::vector<std::string> names;

  // kScan: columns `columns` of relation `relation` (a table, a stream-only source or a view), in that order.
  ObjectId relation = 0;
  std::vector<uint32_t> columns;
  // kFilter: rows for which every predicate is true. kProject: one expression per output column.
  std::vector<ExpressionPtr> expressions;
  // kJoin: left_keys[i] = right_keys[i] (SQL equality, NULL matches nothing; where null_equal[i], IS NOT DISTINCT
  // FROM), over the left respectively right input row, and `residual` (may be null) over both. Output: the columns
  // `output` of the concatenated row.
  JoinType join_type = JoinType::kInner;
  std::vector<ExpressionPtr> left_keys, right_keys;
  std::vector<bool> null_equal;
  ExpressionPtr residual;
  std::vector<uint32_t> output;
  // kAggregate: output is the groups, then the aggregates. Without groups: exactly one row, always.
  std::vector<ExpressionPtr> groups;
  std::vector<AggregateCall> aggregates;
  // kValues: constant rows (SELECT without FROM), each of `types`.
  std::vector<duckdb::vector<duckdb::Value>> rows;

  // Derived by Derive() bottom-up:
  bool append_only = false;  ///< no retraction can come out
  std::vector<std::vector<uint32_t>>
      unique_keys;  ///< each: output columns that identify a row (weight at most 1); minimal first
};

/// What Derive needs to know of a scanned relation.
struct RelationInfo {
  ObjectId id = 0;
  std::string name;
  std::vector<std::string> names;
  Types types;
  std::vector<std::vector<uint32_t>> unique_keys;
  bool append_only = false;
};

/// Fills append_only and unique_keys of the tree. `lookup` returns the relation of a kScan.
void Derive(PlanNode& node, const std::function<RelationInfo(ObjectId)>& lookup);

/// An indented tree, a line a node, as EXPLAIN shows it. `name_of` names relations.
std::string ToText(const PlanNode& node, const std::function<std::string(ObjectId)>& name_of);

}  // namespace tidewater::dataflow
