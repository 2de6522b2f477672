#include "tidewater/catalog/catalog.h"
#include <gtest/gtest.h>

namespace tidewater::catalog {
namespace {

Object Make(Catalog& catalog, ObjectType type, const std::string& name, std::vector<ObjectId> depends_on = {}) {
  Object o;
  o.id = catalog.NextId();
  o.type = type;
  o.name = name;
  o.columns = {{"id", "BIGINT", true, 1}, {"v", "VARCHAR", false, 2}};
  o.primary_key = {0};
  o.depends_on = std::move(depends_on);
  return o;
}

TEST(Catalog, AddFindAndNames) {
  Catalog c;
  auto v0 = c.version();
  ASSERT_TRUE(c.Add(Make(c, ObjectType::kTable, "orders")));
  EXPECT_GT(c.version(), v0);
  EXPECT_TRUE(c.Current()->Find("public", "orders"));
  EXPECT_FALSE(c.Current()->Find("public", "Orders"));
  auto twice = c.Add(Make(c, ObjectType::kMaterializedView, "orders"));
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().sqlstate, "42P07");
  EXPECT_EQ(twice.error().message, "relation \"orders\" already exists");
  auto cased = c.Add(Make(c, ObjectType::kTable, "ORDERS"));
  ASSERT_FALSE(cased);
  EXPECT_EQ(cased.error().sqlstate, "42710");
  EXPECT_FALSE(cased.error().hint.empty());
}

TEST(Catalog, DropFollowsDependencies) {
  Catalog c;
  ASSERT_TRUE(c.Add(Make(c, ObjectType::kSource, "pg")));                   // 1
  ASSERT_TRUE(c.Add(Make(c, ObjectType::kTable, "t", {1})));                // 2
  ASSERT_TRUE(c.Add(Make(c, ObjectType::kMaterializedView, "v", {2})));     // 3
  ASSERT_TRUE(c.Add(Make(c, ObjectType::kMaterializedView, "w", {3, 2})));  // 4
  auto hidden = Make(c, ObjectType::kMaterializedView, "s$view", {2});
  hidden.hidden = true;
  ASSERT_TRUE(c.Add(hidden));  // 5
  auto sink = Make(c, ObjectType::kSink, "s", {5});
  sink.input = 5;
  ASSERT_TRUE(c.Add(sink));  // 6
  auto restricted = c.Current()->PlanDrop(2, false);
  ASSERT_FALSE(restricted);
  EXPECT_EQ(restricted.error().sqlstate, "2BP01");
  EXPECT_EQ(restricted.error().detail,
            "materialized view v depends on table t\nmaterialized view w depends on materialized view v\nsink s "
            "depends on table t");
  auto cascade = c.Current()->PlanDrop(2, true);
  ASSERT_TRUE(cascade);
  std::vector<ObjectId> ids;
  for (auto& o : *cascade) ids.push_back(o->id);
  EXPECT_EQ(ids, (std::vector<ObjectId>{6, 5, 4, 3, 2}));
  auto own = c.Current()->PlanDrop(6, false);
  ASSERT_TRUE(own);
  EXPECT_EQ(own->size(), 2u);  // the sink and its hidden view
}

TEST(Catalog, EncodingKeepsEverything) {
  Catalog c;
  auto o = Make(c, ObjectType::kSource, "pg");
  o.options = {{"hostname", "127.0.0.1"}};
  o.secrets = {{"password", Secret("swordfish")}};
  o.sql = "CREATE SOURCE pg WITH (password='[REDACTED]')";
  ASSERT_TRUE(c.Add(o));
  ASSERT_TRUE(c.Add(Make(c, ObjectType::kTable, "t", {1})));
  c.Remove({2});
  Catalog d;
  ASSERT_TRUE(d.Decode(c.Encode()));
  auto copy = d.Current()->Find("public", "pg");
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->ClearOptions().at("password"), "swordfish");
  EXPECT_EQ(copy->columns, o.columns);
  EXPECT_EQ(d.NextId(), 3u);  // the id of the dropped table does not come back
  EXPECT_EQ(d.Encode().size(), d.Encode().size());
  for (auto bad : {"", "{}", "[]", "{\"encoding\":9}", "{\"encoding\":1,\"next_id\":1,\"objects\":[{}]}"}) {
    Catalog e;
    auto status = e.Decode(bad);
    ASSERT_FALSE(status) << bad;
    EXPECT_EQ(status.error().kind, ErrorKind::kCorrupt);
  }
}

}  // namespace
}  // namespace tidewater::catalog
