#include "tidewater/dataflow/plan.h"
#include <algorithm>
#include <fmt/format.h>
#include "duckdb/planner/expression/list.hpp"
#include "duckdb/planner/expression_iterator.hpp"

namespace tidewater::dataflow {
namespace {

using Key = std::vector<uint32_t>;
constexpr size_t kMaxKeys = 8;

/// Sorted, without duplicates and without keys that contain another; smallest first.
void Normalize(std::vector<Key>& keys) {
  for (auto& k : keys) {
    std::sort(k.begin(), k.end());
    k.erase(std::unique(k.begin(), k.end()), k.end());
  }
  std::sort(keys.begin(), keys.end(),
            [](const Key& a, const Key& b) { return std::pair(a.size(), a) < std::pair(b.size(), b); });
  std::vector<Key> minimal;
  for (auto& k : keys) {
    bool contains = std::any_of(minimal.begin(), minimal.end(),
                                [&](const Key& m) { return std::includes(k.begin(), k.end(), m.begin(), m.end()); });
    if (!contains && minimal.size() < kMaxKeys) minimal.push_back(k);
  }
  keys = std::move(minimal);
}

/// The keys whose columns all appear in `output` (output[i] = input column), in terms of output positions.
std::vector<Key> MapKeys(const std::vector<Key>& keys, const std::vector<std::optional<uint32_t>>& output) {
  std::vector<Key> mapped;
  for (auto& key : keys) {
    Key m;
    bool complete = true;
    for (auto column : key) {
      auto it = std::find(output.begin(), output.end(), std::optional<uint32_t>(column));
      complete = complete && it != output.end();
      if (!complete) break;
      m.push_back(uint32_t(it - output.begin()));
    }
    if (complete) mapped.push_back(std::move(m));
  }
  return mapped;
}

std::optional<uint32_t> AsColumn(const duckdb::Expression& e) {
  if (e.GetExpressionClass() != duckdb::ExpressionClass::BOUND_REF) return std::nullopt;
  return uint32_t(e.Cast<duckdb::BoundReferenceExpression>().index);
}

/// Whether a side's key columns determine at most one row of it.
bool KeysAreUnique(const std::vector<ExpressionPtr>& keys, const std::vector<Key>& unique_keys) {
  Key columns;
  for (auto& k : keys)
    if (auto c = AsColumn(*k)) columns.push_back(*c);
  std::sort(columns.begin(), columns.end());
  return std::any_of(unique_keys.begin(), unique_keys.end(),
                     [&](const Key& u) { return std::includes(columns.begin(), columns.end(), u.begin(), u.end()); });
}

void DeriveJoin(PlanNode& node) {
  auto &left = *node.inputs[0], &right = *node.inputs[1];
  auto offset = uint32_t(left.types.size());
  node.append_only = node.join_type == JoinType::kInner && left.append_only && right.append_only;
  std::vector<Key> keys, right_keys = right.unique_keys;
  for (auto& k : right_keys)
    for (auto& c : k) c += offset;
  if (KeysAreUnique(node.right_keys, right.unique_keys)) keys = left.unique_keys;
  if (node.join_type == JoinType::kInner && KeysAreUnique(node.left_keys, left.unique_keys))
    keys.insert(keys.end(), right_keys.begin(), right_keys.end());
  for (auto& l : left.unique_keys)
    for (auto& r : right_keys) {
      Key both = l;
      both.insert(both.end(), r.begin(), r.end());
      keys.push_back(std::move(both));
    }
  std::vector<std::optional<uint32_t>> output(node.output.begin(), node.output.end());
  node.unique_keys = MapKeys(keys, output);
  if (node.join_type != JoinType::kInner) return;
  // Equal columns of both sides stand for each other: a key that names one holds with the other as well.
  auto more = keys;
  for (size_t i = 0; i < node.left_keys.size(); i++) {
    auto l = AsColumn(*node.left_keys[i]), r = AsColumn(*node.right_keys[i]);
    if (!l || !r) continue;
    auto count = more.size();
    for (size_t k = 0; k < count && more.size() < 4 * kMaxKeys; k++) {
      auto a = more[k], b = more[k];
      std::replace(a.begin(), a.end(), *l, *r + offset);
      std::replace(b.begin(), b.end(), *r + offset, *l);
      more.push_back(a);
      more.push_back(b);
    }
  }
  auto mapped = MapKeys(more, output);
  node.unique_keys.insert(node.unique_keys.end(), mapped.begin(), mapped.end());
}

/// The expression with its column references named after `names`.
std::string Render(const duckdb::Expression& expression, const std::vector<std::string>& names) {
  auto copy = expression.Copy();
  std::function<void(duckdb::unique_ptr<duckdb::Expression>&)> name = [&](duckdb::unique_ptr<duckdb::Expression>& e) {
    if (auto column = AsColumn(*e)) {
      auto text = *column < names.size() ? names[*column] : fmt::format("#{}", *column);
      // A constant of an unquoted look prints as just the name.
      e = duckdb::make_uniq<duckdb::BoundColumnRefExpression>(text, e->return_type, duckdb::ColumnBinding(0, *column));
      return;
    }
    e->alias.clear();
    duckdb::ExpressionIterator::EnumerateChildren(*e, name);
  };
  name(copy);
  return copy->ToString();
}

std::string Join(const std::vector<std::string>& parts) {
  std::string out;
  for (auto& p : parts) out += (out.empty() ? "" : ", ") + p;
  return out;
}

std::string RenderAll(const std::vector<ExpressionPtr>& expressions, const std::vector<std::string>& names,
                      const char* between) {
  std::string out;
  for (auto& e : expressions) out += (out.empty() ? "" : between) + Render(*e, names);
  return out;
}

std::string RenderAggregate(const AggregateCall& call, const std::vector<std::string>& names) {
  static const char* const kNames[] = {"count", "count", "sum", "avg", "min", "max"};
  std::string out = kNames[int(call.kind)];
  out += call.argument ? fmt::format("({}{})", call.distinct ? "DISTINCT " : "", Render(*call.argument, names)) : "(*)";
  if (call.filter) out += fmt::format(" FILTER ({})", Render(*call.filter, names));
  return out;
}

void Write(const PlanNode& node, const std::function<std::string(ObjectId)>& name_of, int depth, std::string& out) {
  out.append(size_t(depth) * 2, ' ');
  std::vector<std::string> in;
  for (auto& i : node.inputs) in.insert(in.end(), i->names.begin(), i->names.end());
  switch (node.kind) {
    case NodeKind::kScan:
      out += fmt::format("Scan {} [{}]", name_of(node.relation), Join(node.names));
      break;
    case NodeKind::kFilter:
      out += fmt::format("Filter {}", RenderAll(node.expressions, in, " AND "));
      break;
    case NodeKind::kProject: {
      std::vector<std::string> parts;
      for (size_t i = 0; i < node.expressions.size(); i++) {
        auto text = Render(*node.expressions[i], in);
        parts.push_back(text == node.names[i] ? text : fmt::format("{} AS {}", text, node.names[i]));
      }
      out += fmt::format("Project [{}]", Join(parts));
      break;
    }
    case NodeKind::kJoin: {
      std::vector<std::string> conditions, columns;
      auto &l = node.inputs[0]->names, &r = node.inputs[1]->names;
      for (size_t i = 0; i < node.left_keys.size(); i++)
        conditions.push_back(fmt::format("{} {} {}", Render(*node.left_keys[i], l),
                                         node.null_equal[i] ? "IS NOT DISTINCT FROM" : "=",
                                         Render(*node.right_keys[i], r)));
      for (auto c : node.output) columns.push_back(in[c]);
      out += fmt::format("{} on [{}]", node.join_type == JoinType::kInner ? "InnerJoin" : "LeftJoin", Join(conditions));
      if (node.residual) out += fmt::format(" where {}", Render(*node.residual, in));
      out += fmt::format(" -> [{}]", Join(columns));
      break;
    }
    case NodeKind::kAggregate: {
      std::vector<std::string> calls;
      for (auto& a : node.aggregates) calls.push_back(RenderAggregate(a, in));
      out += fmt::format("Aggregate by [{}]: {}", RenderAll(node.groups, in, ", "), Join(calls));
      break;
    }
    case NodeKind::kDistinct:
      out += "Distinct";
      break;
    case NodeKind::kUnionAll:
      out += "UnionAll";
      break;
    case NodeKind::kValues:
      out += fmt::format("Values {} row{}", node.rows.size(), node.rows.size() == 1 ? "" : "s");
      break;
  }
  if (node.append_only) out += " append-only";
  if (!node.unique_keys.empty()) {
    std::vector<std::string> columns;
    for (auto c : node.unique_keys[0]) columns.push_back(node.names[c]);
    out += fmt::format(" key ({})", Join(columns));
  }
  out += '\n';
  for (auto& i : node.inputs) Write(*i, name_of, depth + 1, out);
}

}  // namespace

void Derive(PlanNode& node, const std::function<RelationInfo(ObjectId)>& lookup) {
  for (auto& i : node.inputs) Derive(*i, lookup);
  node.unique_keys.clear();
  node.append_only = false;
  switch (node.kind) {
    case NodeKind::kScan: {
      auto relation = lookup(node.relation);
      node.append_only = relation.append_only;
      node.unique_keys = MapKeys(relation.unique_keys, {node.columns.begin(), node.columns.end()});
      break;
    }
    case NodeKind::kFilter:
      node.append_only = node.inputs[0]->append_only;
      node.unique_keys = node.inputs[0]->unique_keys;
      break;
    case NodeKind::kProject: {
      node.append_only = node.inputs[0]->append_only;
      std::vector<std::optional<uint32_t>> output;
      for (auto& e : node.expressions) output.push_back(AsColumn(*e));
      node.unique_keys = MapKeys(node.inputs[0]->unique_keys, output);
      break;
    }
    case NodeKind::kJoin:
      DeriveJoin(node);
      break;
    case NodeKind::kAggregate: {
      Key groups;
      for (uint32_t i = 0; i < node.groups.size(); i++) groups.push_back(i);
      node.unique_keys.push_back(groups);
      // Groups that contain a key of the input are determined by it.
      std::vector<std::optional<uint32_t>> output;
      for (auto& e : node.groups) output.push_back(AsColumn(*e));
      for (auto& k : MapKeys(node.inputs[0]->unique_keys, output)) node.unique_keys.push_back(k);
      break;
    }
    case NodeKind::kDistinct: {
      node.append_only = node.inputs[0]->append_only;
      node.unique_keys = node.inputs[0]->unique_keys;
      Key all;
      for (uint32_t i = 0; i < node.types.size(); i++) all.push_back(i);
      node.unique_keys.push_back(all);
      break;
    }
    case NodeKind::kUnionAll:
      node.append_only = std::all_of(node.inputs.begin(), node.inputs.end(), [](auto& i) { return i->append_only; });
      break;
    case NodeKind::kValues:
      node.append_only = true;
      if (node.rows.size() <= 1) node.unique_keys.push_back({});
      break;
  }
  Normalize(node.unique_keys);
}

std::string ToText(const PlanNode& node, const std::function<std::string(ObjectId)>& name_of) {
  std::string out;
  Write(node, name_of, 0, out);
  return out;
}

}  // namespace tidewater::dataflow
