#include "tidewater/sql/statement.h"
#include <gtest/gtest.h>
#include "tidewater/sql/rewrite.h"
#include "tidewater/sql/tokens.h"

namespace tidewater::sql {
namespace {

Statement Parse(const std::string& sql) {
  auto s = ParseStatement(sql);
  EXPECT_TRUE(s) << sql << ": " << (s ? "" : s.error().ToString());
  return s ? *s : Statement{};
}
template <class T>
T As(const std::string& sql, const std::string& tag) {
  auto s = Parse(sql);
  EXPECT_EQ(s.tag, tag);
  EXPECT_TRUE(std::holds_alternative<T>(s.node)) << sql;
  return std::holds_alternative<T>(s.node) ? std::get<T>(s.node) : T{};
}

TEST(Tokens, QuotesCommentsAndPlaces) {
  auto t = *Tokenize(
      "select /* a /* nested */ ; */ 'it''s' -- ; end\n, \"Na\"\"me\", $$a;b$$, $x$ $$ $x$, E'\\n\\x41', $12, `q`;");
  std::vector<std::string> texts;
  for (auto& x : t) texts.push_back(x.text);
  EXPECT_EQ(texts, (std::vector<std::string>{"select", "it's", ",", "Na\"me", ",", "a;b", ",", " $$ ", ",", "\nA", ",",
                                             "12", ",", "q", ";", ""}));
  for (auto bad : {"'x", "\"x", "/* x", "$a$ x", "/* /* */"}) {
    auto r = Tokenize(bad);
    ASSERT_FALSE(r) << bad;
    EXPECT_EQ(r.error().sqlstate, "42601");
    EXPECT_EQ(r.error().position, 1);
  }
  EXPECT_EQ(CharacterPosition("ääx", 4), 3);
}

TEST(Statements, Split) {
  auto s = *SplitStatements("  ;select 1; -- nothing\n;select ';' ; /* x */ select $$;$$ -- last");
  EXPECT_EQ(s, (std::vector<std::string>{"select 1", "select ';'", "select $$;$$"}));
  EXPECT_TRUE(SplitStatements(" -- \n;;")->empty());
  EXPECT_FALSE(SplitStatements("select 'x"));
}

TEST(Statements, CreateSource) {
  auto s = Parse(
      "create source if not exists pg with (connector='postgres-cdc', hostname = '127.0.0.1', Port=5432, "
      "password='swo''fish', database.name=db);");
  auto& c = std::get<CreateSource>(s.node);
  EXPECT_EQ(s.tag, "CREATE SOURCE");
  EXPECT_TRUE(c.if_not_exists);
  EXPECT_EQ(c.name.name, "pg");
  EXPECT_EQ(c.options, (Options{{"connector", "postgres-cdc"},
                                {"hostname", "127.0.0.1"},
                                {"port", "5432"},
                                {"password", "swo'fish"},
                                {"database.name", "db"}}));
  EXPECT_EQ(s.sql.find("fish"), std::string::npos);
  EXPECT_NE(s.sql.find("password='[REDACTED]', database.name"), std::string::npos) << s.sql;
  auto e = As<CreateSource>(
      "CREATE SOURCE nexmark (id BIGINT, x STRUCT(a INT, b DECIMAL(3,1))) WITH ('connector' = 'nexmark')",
      "CREATE SOURCE");
  EXPECT_EQ(e.columns.text, "id BIGINT, x STRUCT(a INT, b DECIMAL(3,1))");
  EXPECT_EQ(e.columns.position, 24);
  EXPECT_FALSE(ParseStatement("create source s with (a=1, A=2)"));
}

TEST(Statements, CreateTable) {
  auto a = As<CreateTable>("CREATE TABLE orders (*) FROM pg TABLE 'public.orders'", "CREATE TABLE");
  EXPECT_TRUE(a.all_columns);
  EXPECT_EQ(a.source->name, "pg");
  EXPECT_EQ(a.upstream_table, "public.orders");
  auto b = As<CreateTable>(
      "create table public.\"Orders\" (id int, v numeric(3,1), primary key (id)) from pg table 'x.y' with (a = true)",
      "CREATE TABLE");
  EXPECT_EQ(b.name.schema, "public");
  EXPECT_EQ(b.name.name, "Orders");
  EXPECT_EQ(b.columns.text, "id int, v numeric(3,1), primary key (id)");
  EXPECT_EQ(b.options.at("a"), "true");
  auto c = As<CreateTable>("create table t (id int primary key)", "CREATE TABLE");
  EXPECT_FALSE(c.source);
  for (auto bad : {"create table t (*)", "create table t (id int", "create table t", "create table t () ",
                   "create table t (a int) from", "create table t (a int) x"})
    EXPECT_FALSE(ParseStatement(bad)) << bad;
  EXPECT_EQ(ParseStatement("create table t as select 1").error().sqlstate, "0A000");
}

TEST(Statements, ViewsAndSinks) {
  auto v = As<CreateView>("CREATE MATERIALIZED VIEW IF NOT EXISTS v (a, \"B\") AS\n SELECT 1, 2 ;",
                          "CREATE MATERIALIZED VIEW");
  EXPECT_TRUE(v.materialized && v.if_not_exists);
  EXPECT_EQ(v.query, "SELECT 1, 2");
  EXPECT_EQ(v.query_position, 55);
  EXPECT_EQ(v.column_names, (std::vector<std::string>{"a", "B"}));
  EXPECT_FALSE(As<CreateView>("create or replace view w as values (1)", "CREATE VIEW").materialized);
  auto s = As<CreateSink>("CREATE SINK s FROM v WITH (connector='iceberg', s3.secret.access.key = 'k')", "CREATE SINK");
  EXPECT_EQ(s.from->name, "v");
  auto q = As<CreateSink>("CREATE SINK s AS WITH a AS (SELECT 1) SELECT * FROM a WITH (connector = 'blackhole')",
                          "CREATE SINK");
  EXPECT_EQ(q.query, "WITH a AS (SELECT 1) SELECT * FROM a");
  EXPECT_EQ(q.options.at("connector"), "blackhole");
  EXPECT_FALSE(ParseStatement("create sink s from v"));
}

TEST(Statements, TheRest) {
  auto d = As<Drop>("drop materialized view if exists a, public.b cascade", "DROP MATERIALIZED VIEW");
  EXPECT_TRUE(d.if_exists && d.cascade);
  EXPECT_EQ(d.names.size(), 2u);
  EXPECT_FALSE(As<Drop>("DROP SOURCE pg RESTRICT", "DROP SOURCE").cascade);
  EXPECT_EQ(As<AlterSource>("alter source pg set (password = 'x')", "ALTER SOURCE").options.size(), 1u);
  EXPECT_EQ(Parse("alter source pg with (password = 'x')").sql, "alter source pg with (password = '[REDACTED]')");
  EXPECT_TRUE(As<AlterSource>("alter source pg resume", "ALTER SOURCE").options.empty());
  EXPECT_EQ(As<Show>("show materialized views", "SHOW").kind, ShowKind::kMaterializedViews);
  EXPECT_EQ(As<Show>("SHOW JOBS", "SHOW").kind, ShowKind::kJobs);
  EXPECT_EQ(As<Show>("show Server_Version", "SHOW").setting, "server_version");
  EXPECT_EQ(As<Show>("show transaction isolation level", "SHOW").setting, "transaction_isolation");
  EXPECT_EQ(As<Show>("show create materialized view v", "SHOW").name.name, "v");
  EXPECT_EQ(As<Show>("describe v", "DESCRIBE").kind, ShowKind::kColumns);
  EXPECT_EQ(*As<Set>("SET read_mode = 'durable'", "SET").value, "durable");
  EXPECT_EQ(*As<Set>("set session search_path to public, pg_catalog", "SET").value, "public, pg_catalog");
  EXPECT_EQ(As<Set>("set time zone 'Europe/Berlin'", "SET").name, "timezone");
  EXPECT_FALSE(As<Set>("reset all", "RESET").value);
  EXPECT_FALSE(As<Set>("set x to default", "SET").value);
  As<Flush>("flush", "FLUSH");
  EXPECT_TRUE(As<Explain>("explain create materialized view v as select 1", "EXPLAIN").view);
  auto x = As<Explain>("explain (analyze, verbose false) select 1", "EXPLAIN");
  EXPECT_TRUE(x.analyze);
  EXPECT_EQ(x.query, "select 1");
  EXPECT_EQ(
      As<Transaction>("start transaction isolation level repeatable read, read only", "START TRANSACTION").read_only,
      true);
  EXPECT_EQ(As<Transaction>("END", "COMMIT").kind, TransactionKind::kCommit);
  EXPECT_EQ(As<Transaction>("rollback to savepoint s", "ROLLBACK").kind, TransactionKind::kRollbackTo);
  EXPECT_EQ(As<Dml>("insert into t values (1) on conflict do nothing", "INSERT").table.name, "t");
  EXPECT_EQ(As<Dml>("delete from only t", "DELETE").kind, DmlKind::kDelete);
  As<Query>("with a as (select 1) select * from a", "SELECT");
  As<Query>("(select 1) union select 2", "SELECT");
  As<NoOp>("discard all", "DISCARD ALL");
}

TEST(Statements, ErrorsSayWhere) {
  auto e = ParseStatement("create tabel x").error();
  EXPECT_EQ(e.sqlstate, "42601");
  EXPECT_EQ(e.message, "syntax error at or near \"tabel\"");
  EXPECT_EQ(e.position, 8);
  EXPECT_EQ(ParseStatement("drop table").error().message, "syntax error at end of input");
  EXPECT_EQ(ParseStatement("foo bar").error().position, 1);
  for (auto refused : {"attach 'x' as y", "install httpfs", "load x", "pragma foo", "export database 'x'"})
    EXPECT_EQ(ParseStatement(refused).error().sqlstate, "42501") << refused;
  for (auto later : {"copy t to 'x'", "truncate t", "create index i on t(a)", "alter table t add c int",
                     "declare c cursor for select 1", "from t"})
    EXPECT_EQ(ParseStatement(later).error().sqlstate, "0A000") << later;
  EXPECT_FALSE(ParseStatement("select 1; select 2"));
}

TEST(Rewrite, PostgresSpellings) {
  auto r = [](const std::string& s) { return RewriteQuery(s)->text; };
  EXPECT_EQ(r("a OPERATOR(pg_catalog.~) '^(x)$' COLLATE pg_catalog.default AND b !~ 'y'"),
            "a ~@ '^(x)$'  AND b !~@ 'y'");
  EXPECT_EQ(r("select `dateTime` /* c */ from pg_catalog.pg_class c"), "select \"dateTime\" from pg_class c");
  EXPECT_EQ(r("'t'::regclass, c.oid::pg_catalog.regclass, x::numeric, cast(y as decimal), z::numeric(3,1)"),
            "tw_regclass_oid('t'), tw_regclass(c.oid), x::DECIMAL(38,10), cast(y as DECIMAL(38,10)), z::numeric(3,1)");
  EXPECT_EQ(r("select current_user, '~', \"a~b\" from generate_series(1, 2) s"),
            "select tw_current_user(), '~', \"a~b\" from generate_series(1, 2) s(s)");
  EXPECT_EQ(RewriteColumns("a numeric, b numeric(3), numeric int")->text,
            "a DECIMAL(38,10), b numeric(3), numeric int");
  auto w = *RewriteQuery("select pg_catalog.f(x), bad");
  EXPECT_EQ(w.Original(w.text.find("bad")), 24u);
}

TEST(Quoting, Identifiers) {
  EXPECT_EQ(QuoteIdentifier("orders"), "orders");
  EXPECT_EQ(QuoteIdentifier("Orders"), "\"Orders\"");
  EXPECT_EQ(QuoteIdentifier("select"), "\"select\"");
  EXPECT_EQ(QuoteIdentifier("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(QuoteLiteral("it's"), "'it''s'");
}

}  // namespace
}  // namespace tidewater::sql
