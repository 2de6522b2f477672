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
    t_ = AddRelation(catalog_, *frontend_, "t",
                     "id BIGINT PRIMARY KEY, g INTEGER, x NUMERIC(12,2), d DOUBLE PRECISION, s TEXT, b SMALLINT");
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
      people.push_back({Value::BIGINT(i), text("p" + std::to_string(i)), text("e"), text("c"), text("city"),
                        text(states[i % 4]), ts(i), text("x")});
    auto& auctions = snapshot_->rows[auction_->id];
    for (int64_t i = 0; i < 60; i++)
      auctions.push_back({Value::BIGINT(i), text("item"), text("desc"), Value::BIGINT(1), Value::BIGINT(2), ts(i),
                          ts(i + 30), Value::BIGINT(i % 25), Value::BIGINT(10 + i % 5), text("x")});
    auto& bids = snapshot_->rows[bid_->id];
    const char* channels[] = {"Google", "Apple", "channel-7", "other", "Baidu"};
    const char* urls[] = {"https://www.nexmark.com/a/b/item.htm?query=1", "channel_id=5",
                          "https://x/y/z/w/v?q=1&channel_id=77&z=1", "xchannel_id=3", ""};
    for (int64_t i = 0; i < 700; i++)
      bids.push_back({Value::BIGINT(i % 61 * 41), Value::BIGINT(i % 7), Value::BIGINT((i * 7919) % 2000000),
                      text(channels[i % 5]), i % 11 == 0 ? Value(LogicalType::VARCHAR) : text(urls[i * 7 / 3 % 5]),
                      ts(i * 1000), text("extra")});
    for (int64_t i = 0; i < 300; i++)
      bids.push_back({Value::BIGINT(i % 60), Value::BIGINT(3), Value::BIGINT(i * 31), text("Apple"),
                      text("u/a/b/c/d/e"), ts(i % 100), text("")});
    auto& t = snapshot_->rows[t_->id];
    auto null = [](const LogicalType& type) { return Value(type); };
    for (int64_t i = 0; i < 250; i++)
      t.push_back({Value::BIGINT(i), i % 13 == 0 ? null(LogicalType::INTEGER) : Value::INTEGER(int32_t(i % 10)),
                   i % 17 == 0 ? null(LogicalType::DECIMAL(12, 2)) : Value::DECIMAL(int64_t(i * 101 - 5000), 12, 2),
                   Value::DOUBLE(double(i) / 4),
                   i % 7 == 0 ? null(LogicalType::VARCHAR) : text("s" + std::to_string(i % 30)),
                   Value::SMALLINT(int16_t(i - 100))});
    snapshot_->keys[t_->id] = {0};
    auto& u = snapshot_->rows[u_->id];
    for (int32_t i = 0; i < 120; i++)
      u.push_back({Value::INTEGER(i % 12), Value::BIGINT(i / 12 * 3), text("n" + std::to_string(i))});
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

  /// The view's plan gives what the query gives, in types and in rows; and so does the plan read back from its stored
  /// form.
  void SameAsQuery(const std::string& sql) {
    SCOPED_TRACE(sql);
    auto view = Plan(sql);
    if (!view.plan) return;
    auto connection = frontend_->Connect();
    auto prepared = connection->Prepare(sql, {});
    ASSERT_TRUE(prepared) << prepared.error().ToString();
    ASSERT_EQ((*prepared)->columns.size(), view.columns.size());
    for (size_t i = 0; i < view.columns.size(); i++)
      EXPECT_EQ((*prepared)->columns[i].type.ToString(), view.columns[i].type.ToString()) << i;
    duckdb::Connection context(frontend_->db());
    context.BeginTransaction();
    EXPECT_EQ(Sorted(Evaluate(*context.context, *view.plan, *snapshot_)), Sorted(Run(sql)))
        << frontend_->ExplainView(*view.plan);
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
           "SELECT g, sum(x), avg(x), sum(x) / 3, avg(g) FILTER (WHERE id > 5), count(DISTINCT s), sum(DISTINCT g) "
           "FROM t GROUP BY g",
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
           "SELECT CASE WHEN g > 5 THEN 'high' WHEN g IS NULL THEN 'none' ELSE s END, coalesce(s, 'null'), nullif(g, "
           "3), upper(s) || '!' FROM t",
           "SELECT id FROM t WHERE s IN ('s1', 's2', 's3', 's4', 's5', 's6', 's7', 's8', 's9', 's10') OR g NOT IN (1, "
           "2)",
           "SELECT id FROM t WHERE s LIKE 's1%' AND s NOT LIKE '%5' AND s ~ '^s[0-9]$'",
           "SELECT id, id BETWEEN 5 AND 10, g::text, x::int, s::text FROM t",
           "SELECT id FROM t WHERE x BETWEEN 1 AND 100.5 AND NOT (g = 3)",
           "SELECT id / 7, id % 7, x / 7, x * 2, x + 1, x - 0.5, d / 3, b / 7::smallint, g * 2, -g, abs(b) FROM t",
           "SELECT max(x) - min(x), sum(x * 2), avg(x + 1) FROM t WHERE g = 2",
           "SELECT x FROM (SELECT g + 1 AS x, s FROM t) q WHERE x > 5 AND s > 's1'",
           "SELECT a, a + 1 FROM (SELECT g * g AS a FROM t) q",
           "SELECT g, g AS h, 1 AS one FROM t",
           "SELECT u.*, t.g FROM u JOIN t ON u.t_id = t.id WHERE t.g = 3 AND u.k = 4",
           "SELECT date_trunc('hour', `dateTime`), extract(year FROM `dateTime`), to_char(`dateTime`, 'YYYY-MM-DD "
           "HH24:MI:SS') FROM person",
           "SELECT split_part(name, 'p', 2), length(name), substring(name FROM 2 FOR 1), position('1' IN name), "
           "trim(name), replace(name, 'p', 'q') FROM person",
           "SELECT g, count(*) FILTER (WHERE s IS NULL), min(x) FILTER (WHERE d > 10) FROM t GROUP BY g",
           "SELECT 1 FROM t",
           "SELECT NULL, id FROM t",
           "SELECT id FROM t WHERE false",
           "SELECT id FROM t WHERE 1 = 1",
           "SELECT g, s, count(*) FROM t GROUP BY 1, 2",
           "SELECT round(x, 1), round(d), floor(d), ceil(x), greatest(g, b), least(id, 3) FROM t",
           "SELECT id FROM t WHERE g > 3 AND g > 4 AND (s = 'a' OR s = 'b' OR s IS NULL)",
           "SELECT count(*) FROM (SELECT DISTINCT g FROM t) q",
           "SELECT * FROM (SELECT id, g FROM t WHERE g = 1) a JOIN (SELECT k, count(*) AS n FROM u GROUP BY k) b ON "
           "a.g = b.k",
       })
    SameAsQuery(sql);
}

TEST_F(FrontendTest, Values) {
  for (auto [expression, value] : std::vector<std::pair<std::string, std::string>>{
           {"7 / 2", "3"},
           {"-7 / 2", "-3"},
           {"7 % -3", "1"},
           {"1 / 3.0", "0.3333333333333333"},
           {"2.0 / 3", "0.6666666666666667"},
           {"-2.0 / 3", "-0.6666666666666667"},
           {"1::numeric / 3", "0.3333333333333333"},
           {"10 / 4::float8", "2.5"},
           {"0.908 * 100::bigint", "90.800"},
           {"99999999999.99 * 99999999999.99", "9999999999998000000000.0001"},
           {"'a_b' LIKE 'a\\_b'", "true"},
           {"'axb' LIKE 'a\\_b'", "false"},
           {"mod(10, 4)", "2"},
           {"5.5 % 2", "1.5"},
           {"regexp_extract('a=1&channel_id=77&b', '(&|^)channel_id=([^&]*)', 2)", "77"},
           {"regexp_extract('xchannel_id=77', '(&|^)channel_id=([^&]*)', 2)", "NULL"},
           {"regexp_extract('channel_id=', '(&|^)channel_id=([^&]*)', 2)", ""},
           {"regexp_extract('channel_id=5', '(&|^)channel_id=([^&]*)', 1)", ""},
           {"regexp_extract('foobar', 'o(.)', 1)", "o"},
           {"regexp_match('foobarbequebaz', '(bar)(beque)')", "[bar, beque]"},
           {"'abc' ~ 'b'", "true"},
           {"'abc' ~* 'B'", "true"},
           {"'abc' !~ 'B'", "true"},
           {"regexp_replace('foobarbaz', 'b..', 'X')", "fooXbaz"},
           {"regexp_replace('foobarbaz', 'b(..)', 'X\\1Y', 'g')", "fooXarYXazY"},
           {"split_index('https://a/b/c', '/', 3)", "b"},
           {"split_index('https://a/b/c', '/', 1)", ""},
           {"split_index('https://a/b/c', '/', 9)", "NULL"},
           {"split_index('a::b::c', '::', 2)", "c"},
           {"split_part('a,b,c', ',', 2)", "b"},
           {"date_format(timestamp '2015-07-05 03:04:05.678', 'yyyy-MM-dd')", "2015-07-05"},
           {"date_format(timestamp '2015-07-05 03:04:05.678', 'yyyy-MM-dd HH:mm:ss.SSS')", "2015-07-05 03:04:05.678"},
           {"to_char(timestamp '2015-07-05 15:04:05.678', 'YYYY-MM-DD HH24:MI:SS.US')", "2015-07-05 15:04:05.678000"},
           {"to_char(timestamp '2015-07-05 15:04:05', 'FMDD Mon YYYY HH12:MI AM')", "5 Jul 2015 03:04 PM"},
           {"to_char(timestamp '2015-07-05 15:04:05', '\"Q\"Q FMMonth Dy')", "Q3 July Sun"},
           {"to_char(timestamp '1960-02-29 00:00:00', 'YYYY-MM-DD DDD')", "1960-02-29 060"},
           {"date_trunc('month', timestamp '2015-07-05 15:04:05')", "2015-07-01 00:00:00"},
           {"(select sum(g) from t)::text || pg_typeof((select sum(id) from t))", "1035decimal(38,0)"},
           {"current_user", "tidewater"},
           {"current_database()", "dev"},
           {"current_schema()", "public"},
           {"quote_ident('Select')", "\"Select\""},
           {"to_regclass('t')", "t"},
           {"to_regclass('nothing')", "NULL"},
           {"pg_size_pretty(123456::bigint)", "121 kB"},
           {"current_setting('server_version')", "15.0"},
           {"(select string_agg(s::text, ',') from generate_series(1, 3) s)", "1,2,3"},
           {"1.5::int", "2"},
           {"E' \\t-12\\n'::int", "-12"},
           {"'+5'::bigint", "5"},
           {"' 1.25e1 '::numeric(4,2)", "12.50"},
           {"try_cast('x' AS int)", "NULL"},
           {"try_cast('99' AS numeric(2,1))", "NULL"},
           {"timestamptz '2024-07-01 12:00+00' = '2024-07-01 12:00:00+00'::timestamptz", "true"},
           {"'2024-07-01 14:00 +02'::timestamptz = '2024-07-01 12:00:00+00'::timestamptz", "true"},
           {"'2024-07-01T12:00Z'::timestamptz = '2024-07-01 12:00:00+00'::timestamptz", "true"},
           {"ARRAY[1.5,'NaN']::double precision[]", "[1.5, nan]"},
           {"ARRAY[ARRAY[1,2],ARRAY[3,'4']]::bigint[][]", "[[1, 2], [3, 4]]"},
           {"(select ARRAY[1,'2']::text[])", "[1, 2]"},
           {"(information_schema._pg_expandarray(ARRAY[7,8])).n", "1"},
           {"(information_schema._pg_expandarray(ARRAY[7,8])).x", "7"},
           {"'2020-01-01'::date + 1", "2020-01-02"},
           {"null::numeric", "NULL"},
           {"'x' = any(array['x','y'])", "true"},
           {"format_type(1700, 786438)", "numeric(12,2)"},
       })
    EXPECT_EQ(One(expression), value) << expression;
}

TEST_F(FrontendTest, ErrorsAreThoseOfPostgreSQL) {
  struct Expected {
    const char *sql, *state, *message;
    int position;
  };
  for (auto& x : std::initializer_list<Expected>{
           {"SELECT * FROM nothing", "42P01", "relation \"nothing\" does not exist", 15},
           {"SELECT * FROM public.nothing", "42P01", "relation \"nothing\" does not exist", 15},
           {"SELECT * FROM \"T\"", "42P01", "relation \"T\" does not exist", 15},
           {"SELECT nope FROM t", "42703", "column \"nope\" does not exist", 8},
           {"SELECT t.nope FROM t", "42703", "column \"nope\" does not exist", 8},
           {"SELECT z.id FROM t", "42P01", "missing FROM-clause entry for table \"z\"", 8},
           {"SELECT id FROM t a, t b", "42702", "column reference \"id\" is ambiguous", 8},
           {"SELECT nope(1)", "42883", "function nope does not exist", 8},
           {"SELECT sum(s) FROM t", "42883", "function sum(text) does not exist", 8},
           {"SELECT true + 1", "42883", "operator does not exist: boolean + integer", 13},
           {"SELECT s ~ 1 FROM t", "42883", "operator does not exist: text ~ integer", 10},
           {"SELECT 1 + 'x'", "42725", "operator is not unique: integer + unknown", 10},
           {"SELECT (SELECT nope FROM t)", "42703", "column \"nope\" does not exist", -1},
           {"SELECT * FROM t JOIN u USING (nope)", "42703",
            "column \"nope\" specified in USING clause does not exist in left table", -1},
           {"SELECT 1 FOR UPDATE", "0A000", "FOR UPDATE and FOR SHARE are not supported", -1},
           {"SELECT * INTO x FROM t", "0A000", "SELECT INTO is not supported", -1},
           {"WITH x AS (DELETE FROM t RETURNING id) SELECT * FROM x", "0A000",
            "INSERT, UPDATE and DELETE inside WITH are not supported", -1},
           {"SELECT split_part(1)", "42883", nullptr, 8},
           {"SELECT FROM WHERE", "42601", "syntax error at or near \"WHERE\"", 13},
           {"SELECT g, id FROM t GROUP BY g", "42803",
            "column \"id\" must appear in the GROUP BY clause or be used in an aggregate function", 11},
           {"SELECT 'abc'::int", "22P02", "invalid input syntax for type integer: \"abc\"", -1},
           {"SELECT s::int FROM t WHERE s IS NOT NULL", "22P02", nullptr, -1},
           {"SELECT '1.5'::int", "22P02", "invalid input syntax for type integer: \"1.5\"", -1},
           {"SELECT '1e3'::bigint", "22P02", "invalid input syntax for type bigint: \"1e3\"", -1},
           {"SELECT '1_0'::smallint", "22P02", "invalid input syntax for type smallint: \"1_0\"", -1},
           {"SELECT '+-1'::int", "22P02", "invalid input syntax for type integer: \"+-1\"", -1},
           {"SELECT ''::int", "22P02", "invalid input syntax for type integer: \"\"", -1},
           {"SELECT '40000'::smallint", "22003", "value \"40000\" is out of range for type smallint", -1},
           {"SELECT '99999999999x'::int", "22P02", "invalid input syntax for type integer: \"99999999999x\"", -1},
           {"SELECT '12345'::numeric(4,2)", "22003", "value \"12345\" is out of range for type numeric(4,2)", -1},
           {"SELECT 'twelve'::numeric(4,2)", "22P02", "invalid input syntax for type numeric: \"twelve\"", -1},
           {"SELECT '2024-07-01 12+'::timestamptz", "22007", nullptr, -1},
           {"SELECT 1 / 0", "22012", "division by zero", -1},
           {"SELECT id / 0 FROM t", "22012", "division by zero", -1},
           {"SELECT id % 0 FROM t", "22012", "division by zero", -1},
           {"SELECT 1.0 / 0", "22012", "division by zero", -1},
           {"SELECT 1::float8 / 0", "22012", "division by zero", -1},
           {"SELECT 2147483647::int + 1::int", "22003", "integer out of range", -1},
           {"SELECT 9223372036854775807::bigint + 1::bigint", "22003", "bigint out of range", -1},
           {"SELECT 300000::int::smallint", "22003", "smallint out of range", -1},
           {"SELECT '2020-13-01'::date", "22008", "date/time field value out of range: \"2020-13-01\"", -1},
           {"SELECT * FROM read_csv('/etc/passwd')", "42501", nullptr, -1},
           {"SELECT * FROM '/etc/passwd.parquet'", "42501", nullptr, -1},
           {"SELECT * FROM read_text('/etc/passwd')", "42501", nullptr, -1},
           {"SELECT * FROM glob('/etc/*')", "42501", nullptr, -1},
           {"SELECT 'x' ~ '('", "2201B", nullptr, -1},
           {"SELECT x::nosuch FROM t", "42704", "type \"nosuch\" does not exist", -1},
           {"SELECT current_setting('no.such')", "42704", "unrecognized configuration parameter \"no.such\"", -1},
           {"SELECT 1 UNION SELECT 1, 2", "42601", nullptr, -1},
           {"SELECT * FROM t WHERE count(*) > 1", "42803", "aggregate functions are not allowed in WHERE", -1},
       }) {
    auto e = ErrorOf(x.sql);
    EXPECT_EQ(e.sqlstate, x.state) << x.sql << ": " << e.message;
    if (x.message) {
      EXPECT_EQ(e.message, x.message) << x.sql;
    }
    if (x.position >= 0) {
      EXPECT_EQ(e.position, x.position) << x.sql;
    }
    EXPECT_EQ(e.message.find('\n'), std::string::npos) << e.message;
    EXPECT_EQ(e.hint.find("Did you mean"), std::string::npos) << e.hint;
    EXPECT_EQ(e.hint.find("Candidate"), std::string::npos) << e.hint;
  }
  EXPECT_EQ(ErrorOf("SELECT noet FROM u").hint, "Perhaps you meant to reference the column \"note\".");
  EXPECT_EQ(ErrorOf("SELECT u.noet FROM u").hint, "Perhaps you meant to reference the column \"note\".");
  EXPECT_EQ(ErrorOf("SELECT nope FROM t").hint, "");
  auto connection = frontend_->Connect();
  EXPECT_EQ(connection->ExplainQuery("SELECT nope FROM t", false, snapshot_).error().position, 8);
  EXPECT_EQ(connection->PrepareDml("INSERT INTO t (id, nope) VALUES (1, 2)", {}).error().position, 20);
  EXPECT_EQ(connection->PrepareDml("UPDATE t SET nope = 1", {}).error().position, 14);
  EXPECT_EQ(connection->PrepareDml("INSERT INTO nowhere VALUES (1)", {}).error().position, 13);
}

TEST_F(FrontendTest, NamesThatOnlyDuckDBReserves) {
  const char* words[] = {"anti",   "asof",  "at",           "by",          "describe",   "glob",
                         "lambda", "pivot", "pivot_longer", "pivot_wider", "positional", "qualify",
                         "semi",   "show",  "summarize",    "unpack",      "unpivot"};
  for (std::string w : words) {
    auto columns = frontend_->ResolveColumns({w + " int, x int, PRIMARY KEY (" + w + ")", 1});
    ASSERT_TRUE(columns) << w << ": " << columns.error().ToString();
    EXPECT_EQ(columns->columns[0].name, w);
    for (auto sql :
         {"SELECT {0} FROM (SELECT id AS {0} FROM t) x WHERE {0} = 1 AND x.{0} > 0",
          "SELECT count(DISTINCT {0}) FROM (SELECT id AS {0} FROM t WHERE id = 3) x GROUP BY {0} ORDER BY {0} DESC",
          "WITH {0} AS (SELECT 1 AS {0}) SELECT {0}.{0} FROM {0}",
          "SELECT CASE WHEN {0} < 2 THEN {0} ELSE -{0} END FROM (SELECT 1 AS {0}) AS {0}"}) {
      auto rows = frontend_->Run(fmt::format(fmt::runtime(sql), w), snapshot_);
      ASSERT_TRUE(rows) << w << " in " << sql << ": " << rows.error().ToString();
      EXPECT_EQ(rows->at(0).at(0).ToString(), "1") << w << " in " << sql;
    }
  }
  // What these words mean to DuckDB and to PostgreSQL goes on.
  EXPECT_EQ(One("list_transform([1, 2], lambda x: x + 1)"), "[2, 3]");
  EXPECT_EQ(One("timestamp '2024-01-01' AT TIME ZONE 'UTC' = '2024-01-01 00:00:00+00'::timestamptz"), "true");
  EXPECT_EQ(One("at AT TIME ZONE 'UTC' IS NULL FROM (SELECT timestamp '2024-01-01' AS at) x"), "false");
  EXPECT_EQ(Run("SELECT id FROM t QUALIFY row_number() OVER (ORDER BY id) = 1").size(), 1u);
  EXPECT_EQ(Run("SELECT id FROM t SEMI JOIN (SELECT 1 AS id) o USING (id)").size(), 1u);
}

TEST_F(FrontendTest, VarcharIsNotText) {
  auto prepared =
      frontend_->Connect()->Prepare("SELECT 'a'::varchar, s::character varying(3) AS x, CAST(s AS text), s FROM t", {});
  ASSERT_TRUE(prepared) << prepared.error().ToString();
  std::vector<std::string> columns;
  for (auto& c : (*prepared)->columns) columns.push_back(c.name + " " + (c.type.HasAlias() ? c.type.GetAlias() : ""));
  EXPECT_EQ(columns, (std::vector<std::string>{"varchar varchar", "x varchar", "s ", "s "}));
  prepared = frontend_->Connect()->Prepare("SELECT unnest({'a': 1, 'b': 2}), 'x'::varchar", {});
  ASSERT_TRUE(prepared) << prepared.error().ToString();
  for (auto& c : (*prepared)->columns)
    EXPECT_TRUE(!c.type.HasAlias() || c.type.id() == duckdb::LogicalTypeId::VARCHAR) << c.name;
}

TEST_F(FrontendTest, ViewsRefuseWhatTheyCannotKeep) {
  for (auto [sql, part] : std::vector<std::pair<std::string, std::string>>{
           {"SELECT * FROM t ORDER BY id", "ORDER BY"},
           {"SELECT * FROM t LIMIT 3", "LIMIT"},
           {"SELECT row_number() OVER (ORDER BY id) FROM t", "window function"},
           {"SELECT * FROM t WHERE id IN (SELECT t_id FROM u)", "IN or EXISTS"},
           {"SELECT * FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id)", "subquery"},
           {"SELECT (SELECT max(k) FROM u) FROM t", "scalar subquery"},
           {"SELECT * FROM t FULL JOIN u ON t.id = u.t_id", "FULL JOIN"},
           {"SELECT random() FROM t", "volatile function random()"},
           {"SELECT id, now() FROM t", "depends on the time"},
           {"SELECT id FROM t WHERE d > extract(epoch FROM current_timestamp)", "depends on the time"},
           {"SELECT median(d) FROM t", "aggregate median()"},
           {"SELECT string_agg(s, ',') FROM t", "string_agg"},
           {"SELECT g FROM t EXCEPT SELECT k FROM u", "EXCEPT"},
           {"SELECT g, s, count(*) FROM t GROUP BY ROLLUP (g, s)", "ROLLUP"},
           {"SELECT DISTINCT ON (g) g, id FROM t", "DISTINCT ON"},
           {"SELECT * FROM range(3)", "table function"},
           {"SELECT * FROM pg_class", "system catalogs"},
           {"WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
            "RECURSIVE"},
           {"SELECT unnest([1, 2]) FROM t", "unnest"},
           {"SELECT list_transform([1, 2], lambda x: x + id) FROM t", "lambda"},
       }) {
    auto e = ViewError(sql);
    EXPECT_EQ(e.sqlstate, "0A000") << sql << ": " << e.message;
    EXPECT_NE(e.message.find(part), std::string::npos) << sql << ": " << e.message;
  }
  EXPECT_EQ(ViewError("SELECT $1::int FROM t").sqlstate, "42P02");
  EXPECT_EQ(ViewError("SELECT nope FROM t").position, 8);
  EXPECT_EQ(ViewError("SELECT * FROM t; SELECT 1").sqlstate, "42601");
}

TEST_F(FrontendTest, ViewColumnsAndDependencies) {
  auto view = Plan("SELECT t.id, u.k AS \"Key\", t.id FROM t JOIN u ON t.id = u.t_id");
  ASSERT_EQ(view.columns.size(), 3u);
  EXPECT_EQ(view.columns[1].name, "Key");
  EXPECT_EQ(view.columns[2].name, "id_1");
  EXPECT_EQ(view.depends_on, (std::vector<ObjectId>{t_->id, u_->id}));
  auto named = frontend_->PlanView("SELECT id, g FROM t", {"a", "b"});
  ASSERT_TRUE(named);
  EXPECT_EQ(named->columns[1].name, "b");
  EXPECT_EQ(frontend_->PlanView("SELECT id, g FROM t", {"a", "a"}).error().sqlstate, "42701");
  EXPECT_EQ(frontend_->PlanView("SELECT id FROM t", {"a", "b"}).error().sqlstate, "42601");
  // Keys: the join with u keeps u's key; grouping makes one.
  EXPECT_EQ(view.plan->unique_keys.size(), 1u);
  EXPECT_EQ(Plan("SELECT g, sum(id) FROM t GROUP BY g").plan->unique_keys[0], (std::vector<uint32_t>{0}));
  EXPECT_EQ(Plan("SELECT s, id FROM t WHERE g > 1").plan->unique_keys[0], (std::vector<uint32_t>{1}));
  EXPECT_EQ(Plan("SELECT count(*) FROM t").plan->unique_keys[0], (std::vector<uint32_t>{}));
}

TEST_F(FrontendTest, PlainViewsAndViewsOnViews) {
  catalog::Object v;
  v.id = catalog_.NextId();
  v.type = catalog::ObjectType::kView;
  v.name = "big";
  v.query = "SELECT id, g FROM t WHERE g > 5";
  auto described = frontend_->DescribeView(v.query);
  ASSERT_TRUE(described);
  v.columns = FromColumns(described->columns);
  v.depends_on = described->depends_on;
  ASSERT_TRUE(catalog_.Add(v));
  EXPECT_EQ(Run("SELECT count(*) FROM big")[0][0].ToString(),
            Run("SELECT count(*) FROM t WHERE g > 5")[0][0].ToString());
  auto over = Plan("SELECT g, count(*) AS n FROM big GROUP BY g");
  EXPECT_EQ(over.depends_on, (std::vector<ObjectId>{t_->id, v.id}));
  catalog::Object m;
  m.id = catalog_.NextId();
  m.type = catalog::ObjectType::kMaterializedView;
  m.name = "counts";
  m.columns = FromColumns(over.columns);
  m.plan = *EncodePlan(*over.plan);
  m.depends_on = over.depends_on;
  m.query = "SELECT g, count(*) AS n FROM big GROUP BY g";
  ASSERT_TRUE(catalog_.Add(m));
  duckdb::Connection connection(frontend_->db());
  connection.BeginTransaction();
  auto loaded = frontend_->LoadPlan(m, *connection.context);
  ASSERT_TRUE(loaded) << loaded.error().ToString();
  EXPECT_EQ(frontend_->ExplainView(**loaded), "Aggregate by [g]: count(*) key (g)\n  Filter (g > 5)\n    Scan t [g]\n");
  EXPECT_EQ(frontend_->Describe(m.id).unique_keys[0], (std::vector<uint32_t>{0}));
  auto top = Plan("SELECT n FROM counts WHERE g = 7");
  EXPECT_EQ(frontend_->ExplainView(*top.plan),
            "Project [n]\n  Filter (g = 7) key (g)\n    Scan counts [g, n] key (g)\n");
}

TEST_F(FrontendTest, NamelessColumnsAreNamedAsInPostgreSQL) {
  const char* sql =
      "SELECT count(*), sum(g), 1, 'x'::text, g::int, CASE WHEN g > 1 THEN 2 END, coalesce(g, 1), g + 1, max(g) AS m, "
      "extract(year FROM now()), "
      "current_user, (SELECT max(k) FROM u), exists(SELECT 1) FROM t GROUP BY g";
  auto c = frontend_->Connect();
  auto p = c->Prepare(sql, {});
  ASSERT_TRUE(p) << p.error().ToString();
  std::string names;
  for (auto& column : (*p)->columns) names += column.name + " ";
  EXPECT_EQ(names, "count sum ?column? text g case coalesce ?column? m extract current_user max exists ");
  auto view = Plan("SELECT count(*), g FROM t GROUP BY g");
  EXPECT_EQ(view.columns[0].name, "count");
  EXPECT_EQ(Run("SELECT count FROM (SELECT count(*) FROM t) q")[0][0].ToString(), "250");
}

TEST_F(FrontendTest, StreamsAreForViewsOnly) {
  auto s = AddRelation(catalog_, *frontend_, "events", "id BIGINT, v TEXT", catalog::ObjectType::kSource, true);
  auto e = ErrorOf("SELECT * FROM events");
  EXPECT_EQ(e.sqlstate, "0A000");
  auto view = Plan("SELECT v FROM events WHERE id > 3");
  EXPECT_TRUE(view.plan->append_only);
  EXPECT_FALSE(Plan("SELECT v, count(*) FROM events GROUP BY v").plan->append_only);
}

TEST_F(FrontendTest, ParametersAreTypedAndChecked) {
  auto c = frontend_->Connect();
  auto p = c->Prepare("SELECT id, g + $2 FROM t WHERE id = $1", {});
  ASSERT_TRUE(p) << p.error().ToString();
  ASSERT_EQ((*p)->parameters.size(), 2u);
  EXPECT_EQ((*p)->parameters[0], LogicalType::BIGINT);
  EXPECT_EQ((*p)->parameters[1], LogicalType::BIGINT);
  EXPECT_EQ((*p)->reads, (std::vector<ObjectId>{t_->id}));
  for (int i = 1; i < 30; i += 5) {
    auto s = c->Execute(**p, {Value::INTEGER(i), Value("10")}, snapshot_);
    ASSERT_TRUE(s) << s.error().ToString();
    auto chunk = (*s)->Next();
    ASSERT_TRUE(chunk && *chunk);
    EXPECT_EQ((*chunk)->size(), 1u);
    EXPECT_EQ((*chunk)->GetValue(0, 0).ToString(), std::to_string(i));
    EXPECT_FALSE(*(*s)->Next());
  }
  EXPECT_GE(snapshot_->lookups.load(), 6);  // by the key, not by scanning
  auto bad = c->Execute(**p, {Value("x"), Value::INTEGER(1)}, snapshot_);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().sqlstate, "22P02");
  EXPECT_EQ(c->Execute(**p, {Value::INTEGER(1)}, snapshot_).error().sqlstate, "08P01");
  auto text = c->Prepare("SELECT $1", {});
  ASSERT_TRUE(text) << text.error().ToString();
  EXPECT_EQ((*text)->parameters[0], LogicalType::VARCHAR);
  EXPECT_EQ((*text)->columns[0].type, LogicalType::VARCHAR);
  auto declared = c->Prepare("SELECT $1 + 1, $2", {LogicalType::INTEGER, LogicalType::SQLNULL});
  ASSERT_TRUE(declared) << declared.error().ToString();
  EXPECT_EQ((*declared)->parameters[0], LogicalType::INTEGER);
  auto null = c->Prepare("SELECT NULL AS n", {});
  EXPECT_EQ((*null)->columns[0].type, LogicalType::VARCHAR);
  auto s = c->Execute(**null, {}, nullptr);
  EXPECT_EQ((**(*s)->Next()).data[0].GetType(), LogicalType::VARCHAR);
  EXPECT_EQ(c->Prepare("SELECT nope FROM t WHERE id = $1", {}).error().position, 8);
  EXPECT_EQ(c->Prepare("WITH x AS (SELECT 1) INSERT INTO t SELECT 1", {}).error().sqlstate, "0A000");
}

TEST_F(FrontendTest, PointReadsAndScansAgree) {
  snapshot_->lookups = snapshot_->scans = 0;
  EXPECT_EQ(Run("SELECT s, id FROM t WHERE id = 42").size(), 1u);
  EXPECT_EQ(Run("SELECT note FROM u WHERE t_id = 3 AND k = 4 AND note <> 'x'").size(), 1u);
  EXPECT_EQ(Run("SELECT * FROM t WHERE id = 100000").size(), 0u);
  EXPECT_EQ(Run("SELECT * FROM t WHERE id = NULL").size(), 0u);
  EXPECT_EQ(Run("SELECT count(*) FROM t WHERE id = 7")[0][0].ToString(), "1");
  EXPECT_EQ(snapshot_->scans.load(), 0);
  EXPECT_EQ(Run("SELECT * FROM u WHERE k = 4").size(), 10u);
  EXPECT_EQ(Run("SELECT * FROM t WHERE id = g").size(), 9u);
  EXPECT_GT(snapshot_->scans.load(), 0);
}

TEST_F(FrontendTest, StreamsOverlapAndStop) {
  auto c = frontend_->Connect();
  auto p = c->Prepare("SELECT a.id FROM t a, t b, t c", {});
  ASSERT_TRUE(p);
  auto first = c->Execute(**p, {}, snapshot_);
  ASSERT_TRUE(first);
  ASSERT_TRUE(*(*first)->Next());
  auto second = c->Execute(**p, {}, snapshot_);  // while the first one is open
  ASSERT_TRUE(second) << second.error().ToString();
  ASSERT_TRUE(*(*second)->Next());
  ASSERT_TRUE(*(*first)->Next());
  c->Interrupt();
  auto stopped = [](QueryStream& s) {
    for (int i = 0; i < 100000; i++) {
      auto chunk = s.Next();
      if (!chunk) return chunk.error().sqlstate;
      if (!*chunk) return std::string("end");
    }
    return std::string("never");
  };
  EXPECT_EQ(stopped(**first), "57014");
  first->reset();
  p->reset();
  second->reset();
  auto again = c->Prepare("SELECT 1", {});
  ASSERT_TRUE(again);
  auto s = c->Execute(**again, {}, nullptr);
  ASSERT_TRUE(s);
  EXPECT_TRUE(*(*s)->Next());
}

TEST_F(FrontendTest, NowMoves) {
  auto c = frontend_->Connect();
  auto p = c->Prepare("SELECT now()", {});
  ASSERT_TRUE(p);
  auto read = [&] {
    auto s = c->Execute(**p, {}, nullptr);
    return (**(*s)->Next()).GetValue(0, 0).ToString();
  };
  auto a = read();
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_NE(a, read());
}

TEST_F(FrontendTest, SessionSettings) {
  auto c = frontend_->Connect();
  SessionSettings settings;
  settings.user = "ada";
  settings.time_zone = "America/New_York";
  settings.all = {{"read_mode", "durable"}};
  c->Apply(settings);
  auto p = c->Prepare(
      "SELECT current_user, current_setting('read_mode'), to_timestamp(0)::text, current_setting('timezone'), usename "
      "FROM pg_user",
      {});
  ASSERT_TRUE(p) << p.error().ToString();
  auto s = c->Execute(**p, {}, nullptr);
  auto chunk = (*s)->Next();
  ASSERT_TRUE(chunk && *chunk);
  EXPECT_EQ((*chunk)->GetValue(0, 0).ToString(), "ada");
  EXPECT_EQ((*chunk)->GetValue(1, 0).ToString(), "durable");
  EXPECT_EQ((*chunk)->GetValue(2, 0).ToString().substr(0, 19), "1969-12-31 19:00:00");
  EXPECT_EQ((*chunk)->GetValue(4, 0).ToString(), "ada");
}

TEST_F(FrontendTest, Dml) {
  auto c = frontend_->Connect();
  auto rows = [&](const std::string& sql, std::vector<Value> parameters = {}) -> Rows {
    auto d = c->PrepareDml(sql, {});
    EXPECT_TRUE(d) << sql << ": " << (d ? "" : d.error().ToString());
    if (!d) return {};
    auto s = c->Execute(*d->query, parameters, snapshot_);
    EXPECT_TRUE(s) << sql << ": " << (s ? "" : s.error().ToString());
    Rows out;
    while (s) {
      auto chunk = (*s)->Next();
      if (!chunk || !*chunk) break;
      for (duckdb::idx_t r = 0; r < (*chunk)->size(); r++) {
        out.emplace_back();
        for (duckdb::idx_t k = 0; k < (*chunk)->ColumnCount(); k++) out.back().push_back((*chunk)->GetValue(k, r));
      }
    }
    return out;
  };
  EXPECT_EQ(Sorted(rows("INSERT INTO u VALUES (1, 2, 'x'), (3, 4, NULL), (5, 6, DEFAULT)")),
            (std::vector<std::string>{"1 | 2 | x", "3 | 4 | NULL", "5 | 6 | NULL"}));
  EXPECT_EQ(
      Sorted(rows("INSERT INTO u (note, t_id, k) VALUES ($1, $2, $3)", {Value("n"), Value("7"), Value::INTEGER(8)})),
      (std::vector<std::string>{"8 | 7 | n"}));
  EXPECT_EQ(Sorted(rows("INSERT INTO u (k, t_id) SELECT g, id FROM t WHERE id = 5")),
            (std::vector<std::string>{"5 | 5 | NULL"}));
  EXPECT_EQ(Sorted(rows("UPDATE u SET note = note || '!', k = k + 1 WHERE k = 4 AND t_id = 3")),
            (std::vector<std::string>{"4 | 3 | n16 | 5 | 3 | n16!"}));
  EXPECT_EQ(Sorted(rows("UPDATE u AS x SET note = t.s FROM t WHERE t.id = x.t_id AND x.k = 4 AND x.t_id = 3")),
            (std::vector<std::string>{"4 | 3 | n16 | 4 | 3 | s3"}));
  EXPECT_EQ(rows("DELETE FROM u WHERE k = 4").size(), 10u);
  EXPECT_EQ(rows("DELETE FROM u USING t WHERE t.g = u.k AND u.t_id = 3").size(), 10u);
  EXPECT_EQ(rows("DELETE FROM u").size(), 120u);
  auto p = c->PrepareDml(
      "INSERT INTO u VALUES ($1, $2, $3) ON CONFLICT (k, t_id) DO UPDATE SET note = EXCLUDED.note RETURNING note, *",
      {});
  ASSERT_TRUE(p) << p.error().ToString();
  EXPECT_EQ(p->on_conflict, PreparedDml::OnConflict::kUpsert);
  EXPECT_EQ(p->returning, (std::vector<uint32_t>{2, 0, 1, 2}));
  EXPECT_EQ(p->query->parameters,
            (std::vector<LogicalType>{LogicalType::INTEGER, LogicalType::BIGINT, LogicalType::VARCHAR}));
  EXPECT_EQ(c->PrepareDml("INSERT INTO u VALUES (1, 2, 'x') ON CONFLICT DO NOTHING", {})->on_conflict,
            PreparedDml::OnConflict::kNothing);
  for (auto [sql, state] : std::vector<std::pair<std::string, std::string>>{
           {"INSERT INTO nothing VALUES (1)", "42P01"},
           {"INSERT INTO u VALUES (1, 2, 'x', 4)", "42601"},
           {"INSERT INTO u (k, t_id) VALUES (1)", "42601"},
           {"INSERT INTO u (k, nope) VALUES (1, 2)", "42703"},
           {"INSERT INTO u (k, k) VALUES (1, 2)", "42701"},
           {"INSERT INTO u (k, t_id) SELECT 1", "42601"},
           {"UPDATE u SET nope = 1", "42703"},
           {"UPDATE u SET k = 1, k = 2", "42601"},
           {"DELETE FROM u WHERE nope", "42703"},
           {"INSERT INTO u VALUES (1, 2, 'x') ON CONFLICT (note) DO NOTHING", "42P10"},
           {"INSERT INTO u VALUES (1, 2, 'x') ON CONFLICT (k, t_id) DO UPDATE SET note = 'y'", "0A000"},
           {"INSERT INTO pg_class VALUES (1)", "42P01"},
       }) {
    auto d = c->PrepareDml(sql, {});
    ASSERT_FALSE(d) << sql;
    EXPECT_EQ(d.error().sqlstate, state) << sql << ": " << d.error().message;
  }
}

TEST_F(FrontendTest, ColumnLists) {
  auto schema =
      frontend_->ResolveColumns({"Id BIGINT, \"Name\" varchar(20) NOT NULL, n numeric, m numeric(12,2), ts "
                                 "timestamptz, t3 timestamp(3), j jsonb, b bytea, a int[], u uuid, "
                                 "r real, f double precision, c char(3), PRIMARY KEY (id, \"Name\")",
                                 1});
  ASSERT_TRUE(schema) << schema.error().ToString();
  EXPECT_EQ(schema->columns[0].name, "id");
  EXPECT_EQ(schema->columns[1].name, "Name");
  EXPECT_TRUE(schema->columns[0].not_null);
  EXPECT_EQ(schema->columns[2].type, LogicalType::DECIMAL(38, 10));
  EXPECT_EQ(schema->columns[4].type, LogicalType::TIMESTAMP_TZ);
  EXPECT_EQ(schema->columns[5].type, LogicalType::TIMESTAMP);
  EXPECT_TRUE(schema->columns[6].type.IsJSONType());
  EXPECT_EQ(schema->primary_key, (std::vector<uint32_t>{0, 1}));
  for (auto [text, state] :
       std::vector<std::pair<std::string, std::string>>{{"a nosuch", "42704"},
                                                        {"a int, a int", "42701"},
                                                        {"a int, \"A\" int", "42701"},
                                                        {"a int default 3", "0A000"},
                                                        {"a int check (a > 1)", "0A000"},
                                                        {"a int unique", "0A000"},
                                                        {"a int references b", "0A000"},
                                                        {"a int, primary key (b)", "42703"},
                                                        {"a int primary key, b int primary key", "42P16"},
                                                        {"a int) AS SELECT (1", "42601"}}) {
    auto r = frontend_->ResolveColumns({text, 1});
    ASSERT_FALSE(r) << text;
    EXPECT_EQ(r.error().sqlstate, state) << text << ": " << r.error().message;
  }
}

TEST_F(FrontendTest, BrokenPlansAreRefused) {
  auto good = *EncodePlan(*Plan("SELECT g, sum(x) FROM t WHERE s LIKE 'a%' GROUP BY g").plan);
  duckdb::Connection context(frontend_->db());
  ASSERT_TRUE(DecodePlan(*context.context, good));
  // Every cut, and every changed byte, gives an error or another plan, never a crash.
  for (size_t i = 0; i < good.size(); i += 3) EXPECT_FALSE(DecodePlan(*context.context, good.substr(0, i)));
  for (size_t i = 0; i < good.size(); i += 5) {
    auto bad = good;
    bad[i] = char(bad[i] ^ 1);
    auto r = DecodePlan(*context.context, bad);
    if (!r) {
      EXPECT_NE(r.error().kind, ErrorKind::kInternal) << r.error().message;
    }
  }
}

TEST_F(FrontendTest, PsqlCommands) {
  struct Query {
    const char *command, *sql;
  };
  static const Query queries[] = {
#include "tidewater/sql/psql_queries.inc"
  };
  for (auto& q : queries) {
    auto rows = frontend_->Run(q.sql, snapshot_);
    EXPECT_TRUE(rows) << q.command << ": " << (rows ? "" : rows.error().ToString()) << "\n" << q.sql;
  }
  auto rows = Run(queries[0].sql);  // \d
  EXPECT_EQ(Sorted(rows),
            (std::vector<std::string>{"public | auction | table | tidewater", "public | bid | table | tidewater",
                                      "public | person | table | tidewater", "public | t | table | tidewater",
                                      "public | u | table | tidewater"}));
  EXPECT_EQ(Sorted(Run("SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull FROM pg_attribute a WHERE "
                       "a.attrelid = 't'::regclass")),
            (std::vector<std::string>{"b | smallint | false", "d | double precision | false", "g | integer | false",
                                      "id | bigint | true", "s | text | false", "x | numeric(12,2) | false"}));
  EXPECT_EQ(One("pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'u'::regclass"),
            "PRIMARY KEY (k, t_id)");
  EXPECT_EQ(One("column_name FROM information_schema.columns WHERE table_name = 'u' AND ordinal_position = 2"), "t_id");
  EXPECT_EQ(One("count(*) FROM information_schema.tables"), "5");
}

}  // namespace
}  // namespace tidewater::sql
