#include <gtest/gtest.h>
#include "duckdb.hpp"
#include "tidewater/sql/exact_sums.h"

namespace tidewater::sql {
TEST(ExactSums, OrderDoesNotMatter) {
  duckdb::DuckDB db(nullptr);
  duckdb::ExtensionLoader loader(*db.instance, "tidewater");
  RegisterExactSums(loader);
  duckdb::Connection con(db);
  con.Query(
      "create table t as select case i % 3 when 0 then 1e300 when 1 then 1.0 else -1e300 end d, i % 2 g, i from "
      "range(3000) r(i)");
  for (auto order : {"i", "d", "-d", "hash(i)"}) {
    auto r = con.Query(std::string("select sum(d), avg(d), count(*) from (select * from t order by ") + order + ")");
    ASSERT_FALSE(r->HasError()) << r->GetError();
    EXPECT_EQ(r->GetValue(0, 0).GetValue<double>(), 1000.0);
    EXPECT_EQ(r->GetValue(1, 0).GetValue<double>(), 1000.0 / 3000);
  }
  auto r = con.Query("select g, sum(d), sum(d) filter (where i < 0), sum(1.5::double) from t group by g order by g");
  ASSERT_FALSE(r->HasError()) << r->GetError();
  EXPECT_EQ(r->GetValue(1, 0).GetValue<double>(), 500.0);
  EXPECT_TRUE(r->GetValue(2, 0).IsNull());
  EXPECT_EQ(r->GetValue(3, 1).GetValue<double>(), 2250.0);
  r = con.Query("select sum(f), avg(f) from (select 0.5::float f from range(3))");
  ASSERT_FALSE(r->HasError()) << r->GetError();
  EXPECT_EQ(r->GetValue(0, 0).GetValue<double>(), 1.5);
}
}  // namespace tidewater::sql
