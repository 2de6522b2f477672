#include "tidewater/avro/container.h"
#include <gtest/gtest.h>

namespace tidewater::avro {
namespace {

constexpr char kSchema[] = R"({"type":"record","name":"r","fields":[
  {"name":"a","type":"long","field-id":7},
  {"name":"b","type":["null","string"],"default":null,"field-id":8},
  {"name":"m","type":{"type":"array","logicalType":"map","items":{"type":"record","name":"k1_v2","fields":[
     {"name":"key","type":"int","field-id":1},{"name":"value","type":"long","field-id":2}]}},"field-id":9},
  {"name":"again","type":["null","k1_v2"],"field-id":10}]})";

std::string Write(Codec codec, int records) {
  Writer w(kSchema, {{"k", "v"}}, codec);
  for (int i = 0; i < records; ++i) {
    Encoder& e = w.record();
    e.Long(i - 5);
    e.Branch(i % 2);
    if (i % 2) e.Bytes("text " + std::to_string(i));
    e.Items(2);
    for (int k = 0; k < 2; ++k) {
      e.Int(k);
      e.Long(int64_t(i) << 40);
    }
    e.End();
    e.Branch(0);
    w.EndRecord();
  }
  return w.Finish();
}

TEST(AvroContainer, RoundTripsThroughEveryCodec) {
  for (Codec codec : {Codec::kNull, Codec::kDeflate, Codec::kZstd}) {
    for (int records : {0, 1, 10000}) {
      std::string file = Write(codec, records);
      auto reader = Reader::Open(file);
      ASSERT_TRUE(reader) << reader.error().message;
      EXPECT_EQ(reader->metadata().at("k"), "v");
      const Node& root = reader->schema().root();
      ASSERT_EQ(root.fields.size(), 4u);
      EXPECT_EQ(root.fields[2].id, 9);
      EXPECT_EQ(root.fields[3].type->branches[1], root.fields[2].type->items);
      int seen = 0;
      while (true) {
        auto block = reader->Next();
        ASSERT_TRUE(block) << block.error().message;
        if (!*block) break;
        Decoder d((*block)->data);
        for (int64_t i = 0; i < (*block)->records; ++i, ++seen) {
          EXPECT_EQ(d.Long(), seen - 5);
          const Node& b = d.Branch(*root.fields[1].type);
          EXPECT_EQ(b.kind, seen % 2 ? Kind::kString : Kind::kNull);
          if (seen % 2) {
            EXPECT_EQ(d.Bytes(), "text " + std::to_string(seen));
          }
          d.Skip(*root.fields[2].type);
          d.Skip(*root.fields[3].type);
          ASSERT_TRUE(d.ok());
        }
        EXPECT_EQ(d.remaining(), 0u);
      }
      EXPECT_EQ(seen, records);
    }
  }
}

TEST(AvroContainer, RefusesEveryTruncation) {
  std::string file = Write(Codec::kDeflate, 3);
  for (size_t n = 0; n < file.size(); ++n) {
    auto reader = Reader::Open(std::string_view(file).substr(0, n));
    if (!reader) continue;
    auto block = reader->Next();
    if (block && !*block) continue;  // cut exactly behind the header
    EXPECT_FALSE(block) << n;
  }
}

TEST(AvroBinary, NumbersKeepTheirEdges) {
  for (int64_t v :
       {INT64_MIN, INT64_MIN + 1, int64_t(-1), int64_t(0), int64_t(1), int64_t(63), int64_t(64), INT64_MAX}) {
    std::string s;
    Encoder(&s).Long(v);
    Decoder d(s);
    EXPECT_EQ(d.Long(), v);
    EXPECT_TRUE(d.ok());
  }
  Decoder too_long(std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10));
  too_long.Long();
  EXPECT_FALSE(too_long.ok());
}

TEST(AvroSchema, RefusesDepthAndUnknownNames) {
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += R"({"type":"array","items":)";
  deep += "\"int\"";
  for (int i = 0; i < 1000; ++i) deep += "}";
  EXPECT_FALSE(Schema::Parse(deep));
  EXPECT_FALSE(Schema::Parse("\"nothing\""));
  EXPECT_FALSE(Schema::Parse("{"));
  // A type that contains itself parses; skipping data along it is bounded.
  auto recursive = Schema::Parse(R"({"type":"record","name":"n","fields":[{"name":"next","type":["null","n"]}]})");
  ASSERT_TRUE(recursive);
  std::string data(100000, '\x02');
  Decoder d(data);
  d.Skip(recursive->root());
  EXPECT_FALSE(d.ok());
}

}  // namespace
}  // namespace tidewater::avro
