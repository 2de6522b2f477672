#include "tidewater/sql/frontend.h"
#include <gtest/gtest.h>
#include "tidewater/sql/plan_codec.h"
#include "tidewater/sql/test_support.h"

namespace tidewater::sql {
namespace {

using duckdb::Value;

class FrontendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = Frontend::Make(catalog_, {});
    ASSERT_TRUE(made) << made.error().ToString();
    frontend_ = std::move(*made);
    person_ = AddRelation(catalog_, *frontend_, "person", kPersonColumns);
    auction_ = AddRelation(catalog_, *frontend_, "auction", kAuctionColumns);
    bid_ = AddRelation(catalog_, *frontend_, "bid", kBidColumns);
    t_ = AddRelation(catalog_, *frontend_, "t", "id BIGINT PRIMARY KEY, g INTEGER, x NUMERIC(12,2), d DOUBLE PRECISION, s TEXT, b SMALLINT");
    u_ = AddRelation(catalog_, *frontend_, "u", "k INTEGER, t_id BIGINT, note TEXT, PRIMARY KEY (k, t_id)");
    Fill();
  }

  void Fill() {
    snapshot_ = std::make_shared<MemorySnapshot>();
    auto ts = [](int64_t s) { return Value::TIMESTAMP(duckdb::timestamp_t(1436918400000000 + s * 1000000)); };
    auto text = [](std::string s) { return Value(std::move(s)); };
    auto& people = snapshot_->rows[person_->id];
    const char* states[] = {"OR", "ID", "CA", "WA"};
    for (int64_t i = 0; i < 20; i++)
      people.push_back({Value::BIGINT(i), text("p" + std::to_string(i)), text("e"), text("c"), text("city"), text(states[i % 4]), ts(i), text("x")});
    auto& auctions = snapshot_->rows[auction_->id];
    for (int64_t i = 0; i < 60; i++)
      auctions.push_back({Value::BIGINT(i), text("item"), text("desc"), Value::BIGINT(1), Value::BIGINT(2), ts(i), ts(i + 30), Value::BIGINT(i % 25),
                          Value::BIGINT(10 + i % 5), text("x")});
    auto& bids = snapshot_->rows[bid_->id];
    const char* channels[] = {"Google", "Apple", "channel-7", "other", "Baidu"};
    const char* urls[] = {"https://www.nexmark.com/a/b/item.htm?query=1", "channel_id=5", "https://x/y/z/w/v?q=1&channel_id=77&z=1", "xchannel_id=3", ""};
    for (int64_t i = 0; i < 700; i++)
      bids.push_back({Value::BIGINT(i % 61 * 41), Value::BIGINT(i % 7), Value::BIGINT((i * 7919) % 2000000), text(channels[i % 5]),
                      i % 11 == 0 ? Value(LogicalType::VARCHAR) : text(urls[i * 7 / 3 % 5]), ts(i * 1000), text("extra")});
    for (int64_t i = 0; i < 300; i++)
      bids.push_back({Value::BIGINT(i % 60), Value::BIGINT(3), Value::BIGINT(i * 31), text("Apple"), text("u/a/b/c/d/e"), ts(i % 100), text("")});
    auto& t = snapshot_->rows[t_->id];
    auto null = [](const LogicalType& type) { return Value(type); };
    for (int64_t i = 0; i < 250; i++)
      t.push_back({Value::BIGINT(i), i % 13 == 0 ? null(LogicalType::INTEGER) : Value::INTEGER(int32_t(i % 10)),
                   i % 17 == 0 ? null(LogicalType::DECIMAL(12, 2)) : Value::DECIMAL(int64_t(i * 101 - 5000), 12, 2), Value::DOUBLE(double(i) / 4),
                   i % 7 == 0 ? null(LogicalType::VARCHAR) : text("s" + std::to_string(i % 30)), Value::SMALLINT(int16_t(i - 100))});
    snapshot_->keys[t_->id] = {0};
    auto& u = snapshot_->rows[u_->id];
    for (int32_t i = 0; i < 120; i++) u.push_back({Value::INTEGER(i % 12), Value::BIGINT(i / 12 * 3), text("n" + std::to_string(i))});
    snapshot_->keys[u_->id] = {0, 1};
  }

  std::unique_ptr<Frontend> frontend_;
  catalog::Catalog catalog_;
  catalog::ObjectPtr person_, auction_, bid_, t_, u_;
  std::shared_ptr<MemorySnapshot> snapshot_;

  ViewPlan Plan(const std::string& sql) {
    auto plan = frontend_->PlanView(sql);
    EXPECT_TRUE(plan) << sql << ": " << (plan ? "" : plan.error().ToString());
    return plan ? std::move(*plan) : ViewPlan{};
  }
  Rows Run(const std::string& sql) {
    auto rows = frontend_->Run(sql, snapshot_);
    EXPECT_TRUE(rows) << sql << ": " << (rows ? "" : rows.error().ToString());
    return rows ? *rows : Rows{};
  }
  std::string One(const std::string& expression) {
    auto rows = frontend_->Run("SELECT " + expression, snapshot_);
    if (!rows) return rows.error().sqlstate + " " + rows.error().message;
    return rows->at(0).at(0).ToString();
  }
  Error ErrorOf(const std::string& sql) {
    auto rows = frontend_->Run(sql, snapshot_);
    EXPECT_FALSE(rows) << sql;
    return rows ? Error{} : rows.error();
  }
  Error ViewError(const std::string& sql) {
    auto plan = frontend_->PlanView(sql);
    EXPECT_FALSE(plan) << sql;
    return plan ? Error{} : plan.error();
  }

  /// The view's plan gives what the query gives, in types and in rows; and so does the plan read back from its stored form.
  void SameAsQuery(const std::string& sql) {
    SCOPED_TRACE(sql);
    auto view = Plan(sql);
    if (!view.plan) return;
    auto connection = frontend_->Connect();
    auto prepared = connection->Prepare(sql, {});
    ASSERT_TRUE(prepared) << prepared.error().ToString();
    ASSERT_EQ((*prepared)->columns.size(), view.columns.size());
    for (size_t i = 0; i < view.columns.size(); i++) EXPECT_EQ((*prepared)->columns[i].type.ToString(), view.columns[i].type.ToString()) << i;
    duckdb::Connection context(frontend_->db());
    context.BeginTransaction();
    EXPECT_EQ(Sorted(Evaluate(*context.context, *view.plan, *snapshot_)), Sorted(Run(sql))) << frontend_->ExplainView(*view.plan);
    auto text = EncodePlan(*view.plan);
    ASSERT_TRUE(text);
    auto decoded = DecodePlan(*context.context, *text);
    ASSERT_TRUE(decoded) << decoded.error().ToString();
    auto again = EncodePlan(**decoded);
    ASSERT_TRUE(again);
    EXPECT_EQ(*text, *again);
  }
};

TEST_F(FrontendTest, NexmarkQueriesPlanAsWritten) {
  for (auto& [name, sql] : NexmarkQueries()) {
    SCOPED_TRACE(name);
    SameAsQuery(sql);
    auto view = Plan(sql);
    if (view.plan) printf("%s\n%s\n", name.c_str(), frontend_->ExplainView(*view.plan).c_str());
  }
}

TEST_F(FrontendTest, ViewsEqualQueries) {
  for (auto sql : {
           "SELECT 1 AS a, 'x' AS b",
           "VALUES (1, 'a'), (2, NULL)",
           "SELECT * FROM t",
           "SELECT count(*) FROM t",
           "SELECT count(*), count(g), sum(g), avg(g), min(s), max(d), sum(b), avg(b), sum(id), avg(id) FROM t",
           "SELECT g, sum(x), avg(x), sum(x) / 3, avg(g) FILTER (WHERE id > 5), count(DISTINCT s), sum(DISTINCT g) FROM t GROUP BY g",
           "SELECT g, count(*) FROM t GROUP BY g HAVING count(*) > 3 AND g IS NOT NULL",
           "SELECT DISTINCT g, b / 50 FROM t",
           "SELECT DISTINCT g FROM t WHERE id % 2 = 0",
           "SELECT t.id, u.note FROM t JOIN u ON t.id = u.t_id",
           "SELECT t.id, u.note FROM t LEFT JOIN u ON t.id = u.t_id",
           "SELECT t.id, u.note, u.k FROM u RIGHT JOIN t ON t.id = u.t_id AND u.k > 3",
           "SELECT t.id, u.note FROM t LEFT JOIN u ON t.id = u.t_id AND t.g > 4 WHERE u.note IS NULL",
           "SELECT a.id, b.id FROM t a JOIN t b ON a.g = b.g AND a.id < b.id",
           "SELECT a.id, b.id FROM t a JOIN t b ON a.g IS NOT DISTINCT FROM b.g WHERE a.id < 20 AND b.id < 20",
           "SELECT a.id, u.k FROM t a, u WHERE a.g = u.k",
           "SELECT a.id, u.k, b.id FROM t a, u, t b WHERE a.g = u.k AND u.t_id = b.id",
           "SELECT a.id, b.id FROM t a, t b, u WHERE a.id = u.k AND b.id = u.t_id",
           "SELECT a.k, b.k FROM u a CROSS JOIN u b WHERE a.k + b.k = 3",
           "SELECT s FROM t WHERE g = 1 UNION ALL SELECT note FROM u",
           "SELECT g FROM t UNION SELECT k FROM u",
           "SELECT x FROM (SELECT g AS x, s FROM t UNION ALL SELECT k, note FROM u) q WHERE x > 3",
           "WITH a AS (SELECT g, sum(x) AS total FROM t GROUP BY g) SELECT p.g, q.total FROM a p JOIN a q ON p.g = q.g",
           "WITH a AS MATERIALIZED (SELECT id, g FROM t WHERE id < 50) SELECT p.id FROM a p JOIN a q ON p.id = q.g",
           "SELECT CASE WHEN g > 5 THEN 'high' WHEN g IS NULL THEN 'none' ELSE s END, coalesce(s, 'null'), nullif(g, 3), upper(s) || '!' FROM t",
           "SELECT id FROM t WHERE s IN ('s1', 's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9', 's10') OR g NOT IN (1, 2)",
           "SELECT id FROM t WHERE s LIKE 's1%' AND s NOT LIKE '%5' AND s ~ '^s[0-9]$'",
           "SELECT id, id BETWEEN 5 AND 10, g::text, x::int, s::text FROM t",
           "SELECT id FROM t WHERE x BETWEEN 1 AND 100.5 AND NOT (g = 3)",
           "SELECT id / 7, id % 7, x / 7, x * 2, x + 1, x - 0.5, d / 3, b / 7::smallint, g * 2, -g, abs(b) FROM t",
           "SELECT max(x) - min(x), sum(x * 2), avg(x + 1) FROM t WHERE g = 2",
           "SELECT x FROM (SELECT g + 1 AS x, s FROM t) q WHERE x > 5 AND s > 's1'",
           "SELECT a, a + 1 FROM (SELECT g * g AS a FROM t) q",
           "SELECT g, g AS h, 1 AS one FROM t",
           "SELECT u.*, t.g FROM u JOIN t ON u.t_id = t.id WHERE t.g = 3 AND u.k = 4",
           "SELECT date_trunc('hour', `dateTime`), extract(year FROM `dateTime`), to_char(`dateTime`, 'YYYY-MM-DD HH24:MI:SS') FROM person",
           "SELECT split_part(name, 'p', 2), length(name), substring(name FROM 2 FOR 1), position('1' IN name), trim(name), replace(name, 'p', 'q') FROM person",
           "SELECT g, count(*) FILTER (WHERE s IS NULL), min(x) FILTER (WHERE d > 10) FROM t GROUP BY g",
           "SELECT 1 FROM t",
           "SELECT id FROM t WHERE false",
           "SELECT id FROM t WHERE 1 = 1",
           "SELECT g, s, count(*) FROM t GROUP BY 1, 2",
           "SELECT round(x, 1), round(d), floor(d), ceil(x), greatest(g, b), least(id, 3) FROM t",
           "SELECT id FROM t WHERE g > 3 AND g > 4 AND (s = 'a' OR s = 'b' OR s IS NULL)",
           "SELECT count(*) FROM (SELECT DISTINCT g FROM t) q",
           "SELECT * FROM (SELECT id, g FROM t WHERE g = 1) a JOIN (SELECT k, count(*) AS n FROM u GROUP BY k) b ON a.g = b.k",
       })
    SameAsQuery(sql);
}

}  // namespace
}  // namespace tidewater::sql
