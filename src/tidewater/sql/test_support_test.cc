#include "tidewater/sql/test_support.h"
#include <algorithm>
#include <set>
#include <gtest/gtest.h>
#include "duckdb/execution/expression_executor.hpp"
#include "duckdb/planner/expression/list.hpp"
#include "duckdb/planner/expression_iterator.hpp"

namespace tidewater::sql {
namespace {

using dataflow::AggregateKind;
using dataflow::ExpressionPtr;
using dataflow::NodeKind;
using duckdb::Value;

void Bind(ExpressionPtr& e, const Row& row) {
  if (e->GetExpressionClass() == duckdb::ExpressionClass::BOUND_REF) {
    auto& ref = e->Cast<duckdb::BoundReferenceExpression>();
    EXPECT_EQ(row.at(ref.index).type(), ref.return_type);
    e = duckdb::make_uniq<duckdb::BoundConstantExpression>(row.at(ref.index));
    return;
  }
  duckdb::ExpressionIterator::EnumerateChildren(*e, [&](ExpressionPtr& c) { Bind(c, row); });
}

Value Eval(duckdb::ClientContext& context, const ExpressionPtr& e, const Row& row) {
  auto copy = e->Copy();
  Bind(copy, row);
  auto value = duckdb::ExpressionExecutor::EvaluateScalar(context, *copy);
  EXPECT_EQ(value.type(), e->return_type);
  return value;
}
bool True(const Value& v) { return !v.IsNull() && v.GetValue<bool>(); }

std::string Line(const Row& row) {
  std::string out;
  for (auto& v : row) out += (out.empty() ? "" : " | ") + v.ToString();
  return out;
}

Value Aggregate(duckdb::ClientContext& context, const dataflow::AggregateCall& call, const Rows& rows) {
  std::vector<Value> values;
  std::set<std::string> seen;
  for (auto& r : rows) {
    if (call.filter && !True(Eval(context, call.filter, r))) continue;
    Value v = call.argument ? Eval(context, call.argument, r) : Value::BOOLEAN(true);
    if (v.IsNull() || (call.distinct && !seen.insert(v.ToString()).second)) continue;
    values.push_back(v);
  }
  if (call.kind == AggregateKind::kCount || call.kind == AggregateKind::kCountStar)
    return Value::BIGINT(int64_t(values.size()));
  if (values.empty()) return Value(call.type);
  if (call.kind == AggregateKind::kMin || call.kind == AggregateKind::kMax) {
    auto best = values[0];
    for (auto& v : values)
      if (call.kind == AggregateKind::kMin ? v < best : v > best) best = v;
    return best;
  }
  if (call.type.id() == duckdb::LogicalTypeId::DOUBLE) {
    double sum = 0;
    for (auto& v : values) sum += v.GetValue<double>();
    return Value::DOUBLE(call.kind == AggregateKind::kSum ? sum : sum / double(values.size()));
  }
  EXPECT_EQ(call.kind, AggregateKind::kSum);
  duckdb::hugeint_t sum(0);
  auto wide = call.type.id() == duckdb::LogicalTypeId::DECIMAL ? call.type : LogicalType(LogicalType::HUGEINT);
  for (auto& v : values) sum += v.DefaultCastAs(wide).GetValueUnsafe<duckdb::hugeint_t>();
  if (call.type.id() == duckdb::LogicalTypeId::DECIMAL)
    return Value::DECIMAL(sum, 38, duckdb::DecimalType::GetScale(call.type));
  return Value::HUGEINT(sum);
}

Rows Join(duckdb::ClientContext& context, const dataflow::PlanNode& node, const Rows& left, const Rows& right) {
  Rows out;
  auto keys = [&](const std::vector<ExpressionPtr>& expressions, const Row& row) {
    Row key;
    for (auto& e : expressions) key.push_back(Eval(context, e, row));
    return key;
  };
  std::multimap<std::string, const Row*> index;
  auto text = [&](const Row& key) -> std::optional<std::string> {
    for (size_t i = 0; i < key.size(); i++)
      if (key[i].IsNull() && !node.null_equal[i]) return std::nullopt;
    return Line(key);
  };
  for (auto& r : right)
    if (auto k = text(keys(node.right_keys, r))) index.emplace(*k, &r);
  auto emit = [&](const Row& both) {
    Row row;
    for (auto o : node.output) row.push_back(both[o]);
    out.push_back(row);
  };
  for (auto& l : left) {
    bool matched = false;
    if (auto k = text(keys(node.left_keys, l))) {
      auto [a, b] = index.equal_range(*k);
      for (auto it = a; it != b; ++it) {
        Row both = l;
        both.insert(both.end(), it->second->begin(), it->second->end());
        if (node.residual && !True(Eval(context, node.residual, both))) continue;
        matched = true;
        emit(both);
      }
    }
    if (!matched && node.join_type == dataflow::JoinType::kLeft) {
      Row both = l;
      for (auto& t : node.inputs[1]->types) both.push_back(Value(t));
      emit(both);
    }
  }
  return out;
}

}  // namespace

Rows Evaluate(duckdb::ClientContext& context, const dataflow::PlanNode& node, const MemorySnapshot& snapshot) {
  std::vector<Rows> in;
  for (auto& i : node.inputs) in.push_back(Evaluate(context, *i, snapshot));
  Rows out;
  switch (node.kind) {
    case NodeKind::kScan:
      for (auto& r : snapshot.rows.at(node.relation)) {
        out.emplace_back();
        for (auto c : node.columns) out.back().push_back(r[c]);
      }
      break;
    case NodeKind::kFilter:
      for (auto& r : in[0])
        if (std::all_of(node.expressions.begin(), node.expressions.end(),
                        [&](auto& e) { return True(Eval(context, e, r)); }))
          out.push_back(r);
      break;
    case NodeKind::kProject:
      for (auto& r : in[0]) {
        out.emplace_back();
        for (auto& e : node.expressions) out.back().push_back(Eval(context, e, r));
      }
      break;
    case NodeKind::kJoin:
      out = Join(context, node, in[0], in[1]);
      break;
    case NodeKind::kAggregate: {
      std::map<std::string, std::pair<Row, Rows>> groups;
      if (node.groups.empty()) groups[""];
      for (auto& r : in[0]) {
        Row key;
        for (auto& g : node.groups) key.push_back(Eval(context, g, r));
        auto& group = groups[Line(key)];
        group.first = key;
        group.second.push_back(r);
      }
      for (auto& [text, group] : groups) {
        out.push_back(group.first);
        for (auto& a : node.aggregates) out.back().push_back(Aggregate(context, a, group.second));
      }
      break;
    }
    case NodeKind::kDistinct: {
      std::set<std::string> seen;
      for (auto& r : in[0])
        if (seen.insert(Line(r)).second) out.push_back(r);
      break;
    }
    case NodeKind::kUnionAll:
      for (auto& i : in) out.insert(out.end(), i.begin(), i.end());
      break;
    case NodeKind::kValues:
      out = node.rows;
      break;
  }
  for (auto& r : out) {
    EXPECT_EQ(r.size(), node.types.size());
    for (size_t c = 0; c < r.size(); c++)
      EXPECT_EQ(r[c].type(), node.types[c]) << "column " << c << " of node " << node.id;
  }
  return out;
}

std::vector<std::string> Sorted(const Rows& rows) {
  std::vector<std::string> lines;
  for (auto& r : rows) lines.push_back(Line(r));
  std::sort(lines.begin(), lines.end());
  return lines;
}

catalog::ObjectPtr AddRelation(catalog::Catalog& catalog, Frontend& frontend, const std::string& name,
                               const std::string& columns, catalog::ObjectType type, bool stream_only) {
  auto schema = frontend.ResolveColumns({columns, 1});
  if (!schema) {
    ADD_FAILURE() << schema.error().ToString();
    return nullptr;
  }
  catalog::Object o;
  o.id = catalog.NextId();
  o.type = type;
  o.name = name;
  o.columns = FromColumns(schema->columns);
  o.primary_key = o.store_key = schema->primary_key;
  o.stream_only = stream_only;
  o.sql = "CREATE TABLE " + name + " (" + columns + ")";
  auto status = catalog.Add(o);
  EXPECT_TRUE(status) << (status ? "" : status.error().ToString());
  return catalog.Current()->Find(o.id);
}

const char* const kPersonColumns =
    "id BIGINT, name VARCHAR, \"emailAddress\" VARCHAR, \"creditCard\" VARCHAR, city VARCHAR, state VARCHAR, "
    "\"dateTime\" TIMESTAMP(3), extra VARCHAR";
const char* const kAuctionColumns =
    "id BIGINT, \"itemName\" VARCHAR, description VARCHAR, \"initialBid\" BIGINT, reserve BIGINT, \"dateTime\" "
    "TIMESTAMP(3), expires TIMESTAMP(3), "
    "seller BIGINT, category BIGINT, extra VARCHAR";
const char* const kBidColumns =
    "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, \"dateTime\" TIMESTAMP(3), extra "
    "VARCHAR";

const std::vector<std::pair<std::string, std::string>>& NexmarkQueries() {
  static const std::vector<std::pair<std::string, std::string>> queries = {
      {"q0", "SELECT auction, bidder, price, `dateTime`, extra FROM bid"},
      {"q1", "SELECT auction, bidder, 0.908 * price as price, `dateTime`, extra FROM bid"},
      {"q2", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"},
      {"q3", R"(SELECT P.name, P.city, P.state, A.id
FROM auction AS A INNER JOIN person AS P on A.seller = P.id
WHERE A.category = 10 and (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA'))"},
      {"q4", R"(SELECT Q.category, AVG(Q.final)
FROM (
    SELECT MAX(B.price) AS final, A.category
    FROM auction A, bid B
    WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires
    GROUP BY A.id, A.category
) Q
GROUP BY Q.category)"},
      {"q17", R"(SELECT
     auction,
     DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') as `day`,
     count(*) AS total_bids,
     count(*) filter (where price < 10000) AS rank1_bids,
     count(*) filter (where price >= 10000 and price < 1000000) AS rank2_bids,
     count(*) filter (where price >= 1000000) AS rank3_bids,
     min(price) AS min_price,
     max(price) AS max_price,
     avg(price) AS avg_price,
     sum(price) AS sum_price
FROM bid
GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'))"},
      {"q20", R"(SELECT
    auction, bidder, price, channel, url, B.`dateTime`, B.extra,
    `itemName`, description, `initialBid`, reserve, A.`dateTime`, expires, seller, category, A.extra
FROM bid AS B INNER JOIN auction AS A on B.auction = A.id
WHERE A.category = 10)"},
      {"q21", R"(SELECT
    auction, bidder, price, channel,
    CASE
        WHEN lower(channel) = 'apple' THEN '0'
        WHEN lower(channel) = 'google' THEN '1'
        WHEN lower(channel) = 'facebook' THEN '2'
        WHEN lower(channel) = 'baidu' THEN '3'
        ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2)
        END
    AS channel_id FROM bid
    where REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) is not null or
          lower(channel) in ('apple', 'google', 'facebook', 'baidu'))"},
      {"q22", R"(SELECT
    auction, bidder, price, channel,
    SPLIT_INDEX(url, '/', 3) as dir1,
    SPLIT_INDEX(url, '/', 4) as dir2,
    SPLIT_INDEX(url, '/', 5) as dir3 FROM bid)"}};
  return queries;
}

}  // namespace tidewater::sql
