#include "tidewater/iceberg/schema.h"
#include <gtest/gtest.h>
#include "tidewater/iceberg/partition.h"
#include "tidewater/iceberg/values.h"

namespace tidewater::iceberg {
namespace {

Field F(std::string name, Type type, bool required = false) {
  Field f;
  f.name = std::move(name);
  f.type = std::move(type);
  f.required = required;
  return f;
}

TEST(IcebergSchema, JsonRoundTripsEveryType) {
  const char* json = R"j({"type":"struct","schema-id":3,"identifier-field-ids":[1],"fields":[
    {"id":1,"name":"id","required":true,"type":"long","doc":"the key"},
    {"id":2,"name":"d","required":false,"type":"decimal(38,10)"},
    {"id":3,"name":"f","required":false,"type":"fixed[16]"},
    {"id":4,"name":"l","required":false,"type":{"type":"list","element-id":5,"element-required":true,"element":"string"}},
    {"id":6,"name":"m","required":false,"type":{"type":"map","key-id":7,"key":"string","value-id":8,"value-required":false,"value":"timestamptz"}},
    {"id":9,"name":"s","required":false,"type":{"type":"struct","fields":[{"id":10,"name":"x","required":false,"type":"uuid"}]}},
    {"id":11,"name":"g","required":false,"type":"geography(OGC:CRS84, spherical)"},
    {"id":12,"name":"n","required":false,"type":"timestamptz_ns","initial-default":"2020-01-01T00:00:00+00:00"},
    {"id":13,"name":"v","required":false,"type":"variant"},{"id":14,"name":"u","required":false,"type":"unknown"}]
})j";
  auto schema = ParseSchemaJson(json);
  ASSERT_TRUE(schema) << schema.error().message;
  EXPECT_EQ(schema->id, 3);
  EXPECT_EQ(schema->FindById(2)->type, Type::Decimal(38, 10));
  EXPECT_EQ(schema->FindByName("s.x")->id, 10);
  EXPECT_EQ(schema->FindByName("l.element")->id, 5);
  EXPECT_EQ(schema->HighestFieldId(), 14);
  EXPECT_EQ(schema->MinFormatVersion(), 3);
  auto again = ParseSchemaJson(SchemaToJson(*schema));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->SameAs(*schema));
  EXPECT_EQ(SchemaToJson(*again), SchemaToJson(*schema));
}

TEST(IcebergSchema, RefusesWhatIsNoSchema) {
  EXPECT_FALSE(ParseSchemaJson("[]"));
  EXPECT_FALSE(ParseSchemaJson(R"j({"type":"struct","fields":[{"id":1,"name":"a","type":"decimal(39,0)"}]})j"));
  EXPECT_FALSE(ParseSchemaJson(
      R"j({"type":"struct","fields":[{"id":1,"name":"a","type":"int"},{"id":1,"name":"b","type":"int"}]})j"));
  std::string deep = "\"int\"";
  for (int i = 0; i < 200; ++i)
    deep = R"j({"type":"list","element-id":1,"element-required":false,"element":)j" + deep + "}";
  EXPECT_FALSE(ParseSchemaJson(R"j({"type":"struct","fields":[{"id":1,"name":"a","type":)j" + deep + "}]}"));
}

TEST(IcebergSchema, UpdatesKeepFieldIds) {
  Schema base;
  base.fields = {F("id", Type::Of(TypeKind::kInt), true), F("name", Type::Of(TypeKind::kString))};
  int last = 0;
  base = WithFreshIds(base, &last);
  base.identifier_field_ids = {1};
  SchemaUpdate u(base, last, 2);
  EXPECT_TRUE(u.RenameColumn(2, "title"));
  EXPECT_TRUE(u.WidenType(1, Type::Of(TypeKind::kLong)));
  EXPECT_FALSE(u.WidenType(2, Type::Of(TypeKind::kInt)));
  EXPECT_TRUE(u.AddColumn(0, F("tags", Type::List(0, Type::Of(TypeKind::kString), false))));
  EXPECT_EQ(u.last_added_id(), 3);
  EXPECT_EQ(u.last_column_id(), 4);
  EXPECT_EQ(u.AddColumn(0, F("title", Type::Of(TypeKind::kInt))).error().sqlstate, "42701");
  EXPECT_FALSE(u.AddColumn(0, F("must", Type::Of(TypeKind::kInt), true)));
  EXPECT_FALSE(u.AddColumn(0, F("nanos", Type::Of(TypeKind::kTimestampNs))));
  EXPECT_TRUE(u.DropColumn(1));
  EXPECT_FALSE(u.DropColumn(4));  // an element is no column
  EXPECT_EQ(u.schema().FindByName("title")->id, 2);
  EXPECT_EQ(u.schema().FindById(4)->name, "element");
  EXPECT_TRUE(u.schema().identifier_field_ids.empty());
}

TEST(IcebergValues, BinaryForms) {
  EXPECT_EQ(DecimalValue(0), std::string(1, '\0'));
  EXPECT_EQ(DecimalValue(1420), "\x05\x8C");
  EXPECT_EQ(DecimalValue(-1), "\xFF");
  EXPECT_EQ(DecimalValue(128), std::string("\x00\x80", 2));
  EXPECT_EQ(DecimalValue(-129), "\xFF\x7F");
  EXPECT_EQ(IntValue(34), std::string("\x22\0\0\0", 4));
  EXPECT_EQ(UuidValue(1).size(), 16u);
  Type dec = Type::Decimal(38, 0);
  for (__int128 a : {__int128(-1000000), __int128(-129), __int128(-1), __int128(0), __int128(127), __int128(128),
                     __int128(1) << 100}) {
    for (__int128 b : {__int128(-1000000), __int128(-129), __int128(-1), __int128(0), __int128(127), __int128(128),
                       __int128(1) << 100}) {
      EXPECT_EQ(*CompareValues(dec, DecimalValue(a), DecimalValue(b)), a < b ? -1 : a > b);
    }
  }
  EXPECT_EQ(*CompareValues(Type::Of(TypeKind::kDouble), DoubleValue(-0.0), DoubleValue(0.0)), -1);
  EXPECT_EQ(*CompareValues(Type::Of(TypeKind::kLong), IntValue(-5), LongValue(3)), -1);
  EXPECT_FALSE(CompareValues(Type::Of(TypeKind::kLong), "x", LongValue(3)));
}

TEST(IcebergValues, TruncationKeepsBounds) {
  EXPECT_EQ(TruncateLower("äöü", 2, true), "äö");
  EXPECT_EQ(*TruncateUpper("abcdef", 3, true), "abd");
  EXPECT_EQ(*TruncateUpper("abc", 3, true), "abc");
  EXPECT_EQ(*TruncateUpper("ab\xF4\x8F\xBF\xBF\xF4\x8F\xBF\xBF", 3, true), "ac");
  EXPECT_EQ(*TruncateUpper("\xED\x9F\xBF\xED\x9F\xBF", 1, true), "\xEE\x80\x80");  // the surrogates are skipped
  EXPECT_FALSE(TruncateUpper("\xFF\xFF\xFF", 2, false));
  EXPECT_EQ(*TruncateUpper("a\xFFz", 2, false), "b");
}

TEST(IcebergPartition, JsonRoundTrips) {
  auto spec =
      ParsePartitionSpecJson(R"j({"spec-id":1,"fields":[{"source-id":4,"field-id":1000,"name":"d","transform":"day"},
    {"source-ids":[1,2],"field-id":1001,"name":"b","transform":"bucket[16]"},{"source-id":1,"field-id":1002,"name":"z","transform":"zorder"}]})j");
  ASSERT_TRUE(spec);
  EXPECT_FALSE(spec->IsUnpartitioned());
  EXPECT_EQ(spec->fields[1].source_ids, (std::vector<int>{1, 2}));
  EXPECT_FALSE(spec->fields[2].transform.IsKnown());
  EXPECT_EQ(PartitionSpecToJson(*ParsePartitionSpecJson(PartitionSpecToJson(*spec))), PartitionSpecToJson(*spec));
}

}  // namespace
}  // namespace tidewater::iceberg
