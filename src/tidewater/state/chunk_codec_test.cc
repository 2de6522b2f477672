#include "tidewater/state/chunk_codec.h"
#include <random>
#include <gtest/gtest.h>
#include "duckdb/main/connection.hpp"
#include "duckdb/main/database.hpp"

namespace tidewater::state {
namespace {
using duckdb::idx_t;
using duckdb::Value;

/// What `sql` selects, chunk by chunk, as DuckDB's own vectors.
std::vector<std::unique_ptr<DataChunk>> Select(const std::string& sql) {
  static duckdb::DuckDB db(nullptr);
  static duckdb::Connection con(db);
  auto result = con.SendQuery(sql);
  EXPECT_FALSE(result->HasError()) << result->GetError();
  std::vector<std::unique_ptr<DataChunk>> chunks;
  while (auto chunk = result->Fetch()) {
    if (chunk->size() == 0) break;
    chunks.push_back(std::unique_ptr<DataChunk>(chunk.release()));
  }
  return chunks;
}

void ExpectSame(DataChunk& a, DataChunk& b) {
  ASSERT_EQ(a.size(), b.size());
  ASSERT_EQ(a.GetTypes(), b.GetTypes());
  for (idx_t c = 0; c < a.ColumnCount(); c++)
    for (idx_t r = 0; r < a.size(); r++) {
      Value x = a.GetValue(c, r), y = b.GetValue(c, r);
      ASSERT_TRUE(Value::NotDistinctFrom(x, y) || x.ToString() == y.ToString())
          << a.data[c].GetType().ToString() << " row " << r << ": " << x.ToString() << " vs " << y.ToString();
    }
}

std::string RoundTrip(DataChunk& chunk) {
  ByteWriter w;
  EncodeChunk(chunk, w);
  ByteReader r(w.bytes);
  DataChunk back;
  auto status = DecodeChunk(r, chunk.GetTypes(), back);
  EXPECT_TRUE(status) << status.error().ToString();
  EXPECT_TRUE(r.ok && r.done());
  if (status) {
    back.Verify();
    ExpectSame(chunk, back);
  }
  return w.bytes;
}

/// No prefix of the bytes, and no single damaged byte, does more than fail.
void Damage(const std::string& bytes, const Types& types) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; i++) {
    size_t cut = bytes.size() < 300 ? size_t(i) % bytes.size() : random() % bytes.size();
    std::string part = bytes.substr(0, cut);
    ByteReader r(part);
    DataChunk back;
    auto status = DecodeChunk(r, types, back);
    ASSERT_FALSE(status) << "cut at " << cut << " of " << bytes.size();
    EXPECT_EQ(status.error().kind, ErrorKind::kCorrupt);
  }
  for (int i = 0; i < 300; i++) {
    std::string bad = bytes;
    bad[random() % bad.size()] = char(random());
    ByteReader r(bad);
    DataChunk back;
    (void)DecodeChunk(r, types, back);
  }
}

TEST(ChunkCodecTest, AllTypes) {
  auto chunks = Select("SELECT * FROM test_all_types()");
  ASSERT_EQ(chunks.size(), 1u);
  auto bytes = RoundTrip(*chunks[0]);
  Damage(bytes, chunks[0]->GetTypes());
}

TEST(ChunkCodecTest, EachTypeAlone) {
  auto all = Select("SELECT * FROM test_all_types()");
  for (idx_t c = 0; c < all[0]->ColumnCount(); c++) {
    DataChunk one;
    one.InitializeEmpty({all[0]->data[c].GetType()});
    one.data[0].Reference(all[0]->data[c]);
    one.SetCardinality(all[0]->size());
    SCOPED_TRACE(one.data[0].GetType().ToString());
    Damage(RoundTrip(one), one.GetTypes());
  }
}

TEST(ChunkCodecTest, ManyRows) {
  auto chunks = Select(
      "SELECT i, i::TINYINT % 3, CASE WHEN i % 7 <> 0 THEN i * 1.5::DOUBLE END, CASE WHEN i % 3 = 0 THEN "
      "repeat('x', i % 40) || i END, i % 2 = 0, [i, NULL, i + 1][:i % 4], {'a': i::VARCHAR, 'b': [i]}, "
      "MAP {i: 'v' || i}, [i, i + 1]::BIGINT[2], [['a', NULL], [i::VARCHAR]], NULL FROM (SELECT (range % 100)::INT i "
      "FROM "
      "range(5000))");
  ASSERT_EQ(chunks.size(), 3u);
  for (auto& c : chunks) RoundTrip(*c);
}

TEST(ChunkCodecTest, ConstantDictionaryAndSequenceVectors) {
  auto chunk = Select(
      "SELECT i, 's' || i, [i, i], {'a': i, 'b': 'long enough for the heap ' || i}, [i]::INT[1] FROM (SELECT CASE WHEN "
      "range % 5 <> 0 THEN range::INT END i FROM range(2000))");
  duckdb::SelectionVector sel(STANDARD_VECTOR_SIZE);
  for (idx_t i = 0; i < 700; i++) sel.set_index(i, (i * 37) % 2000);
  chunk[0]->Slice(sel, 700);
  EXPECT_EQ(chunk[0]->data[0].GetVectorType(), duckdb::VectorType::DICTIONARY_VECTOR);
  RoundTrip(*chunk[0]);

  auto source = Select("SELECT * FROM test_all_types()");
  for (idx_t row = 0; row < source[0]->size(); row++) {
    DataChunk constant;
    constant.InitializeEmpty(source[0]->GetTypes());
    for (idx_t c = 0; c < constant.ColumnCount(); c++) constant.data[c].Reference(source[0]->GetValue(c, row));
    constant.SetCardinality(1500);
    RoundTrip(constant);
  }

  DataChunk sequence;
  sequence.InitializeEmpty({LogicalType::BIGINT});
  sequence.data[0].Sequence(10, 3, 1000);
  sequence.SetCardinality(1000);
  RoundTrip(sequence);
}

TEST(ChunkCodecTest, NullsHideNothing) {
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), {LogicalType::BIGINT, LogicalType::VARCHAR});
  for (idx_t i = 0; i < 10; i++) {
    duckdb::FlatVector::GetData<int64_t>(chunk.data[0])[i] = 0x4141414141414141;
    duckdb::FlatVector::GetData<duckdb::string_t>(chunk.data[1])[i] = duckdb::string_t("AAAAAAAA", 8);
    duckdb::FlatVector::SetNull(chunk.data[0], i, true);
    duckdb::FlatVector::SetNull(chunk.data[1], i, true);
  }
  chunk.SetCardinality(10);
  EXPECT_EQ(RoundTrip(chunk).find('A'), std::string::npos);
}

TEST(ChunkCodecTest, EmptyChunks) {
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(),
                   {LogicalType::BIGINT, LogicalType::VARCHAR, LogicalType::LIST(LogicalType::INTEGER)});
  RoundTrip(chunk);
  DataChunk none;
  none.SetCardinality(5);
  ByteWriter w;
  EncodeChunk(none, w);
  ByteReader r(w.bytes);
  DataChunk back;
  ASSERT_TRUE(DecodeChunk(r, {}, back));
  EXPECT_EQ(back.size(), 5u);
}

TEST(ChunkCodecTest, RefusesOtherTypesAndHugeCounts) {
  auto chunks = Select("SELECT [1, 2], true");
  ByteWriter w;
  EncodeChunk(*chunks[0], w);
  for (Types types : {Types{LogicalType::INTEGER}, Types{LogicalType::UUID, LogicalType::UUID}, Types{}}) {
    ByteReader r(w.bytes);
    DataChunk back;
    EXPECT_FALSE(DecodeChunk(r, types, back));
  }
  ByteWriter huge;
  huge.Put<uint32_t>(1);
  huge.Put<uint16_t>(1);
  huge.Put<uint8_t>(0);
  huge.Put<uint32_t>(UINT32_MAX);
  huge.PutRaw("xxxxxxxx", 8);
  ByteReader r(huge.bytes);
  DataChunk back;
  EXPECT_FALSE(DecodeChunk(r, {LogicalType::LIST(LogicalType::UUID)}, back));
}

TEST(ChunkCodecTest, Batches) {
  DeltaBatch batch;
  batch.types = {LogicalType::INTEGER, LogicalType::VARCHAR};
  batch.AppendRow({Value::INTEGER(1), Value("a")});
  ByteWriter plain;
  EncodeBatch(batch, plain);
  batch.AppendRow({Value::INTEGER(2), Value()}, -3);
  batch.AppendRow({Value(LogicalType::INTEGER), Value("c")}, 2);
  ByteWriter w;
  EncodeBatch(batch, w);
  for (auto* bytes : {&plain.bytes, &w.bytes}) {
    ByteReader r(*bytes);
    auto back = DecodeBatch(r, batch.types);
    ASSERT_TRUE(back) << back.error().ToString();
    EXPECT_TRUE(r.done());
    EXPECT_EQ(back->chunks[0].all_inserts(), bytes == &plain.bytes);
  }
  ByteReader r(w.bytes);
  auto back = DecodeBatch(r, batch.types);
  ExpectSame(*batch.chunks[0].rows, *back->chunks[0].rows);
  EXPECT_EQ(back->chunks[0].weights, batch.chunks[0].weights);
  for (size_t cut = 0; cut < w.bytes.size(); cut++) {
    std::string part = w.bytes.substr(0, cut);
    ByteReader torn(part);
    EXPECT_FALSE(DecodeBatch(torn, batch.types)) << cut;
  }
}

TEST(ChunkCodecTest, Changes) {
  Types types = {LogicalType::INTEGER, LogicalType::VARCHAR};
  ChangeChunk change;
  change.table = 42;
  change.rows = std::make_unique<DataChunk>();
  change.rows->Initialize(duckdb::Allocator::DefaultAllocator(), types);
  for (idx_t i = 0; i < 3; i++) {
    change.rows->SetValue(0, i, Value::INTEGER(int(i)));
    change.rows->SetValue(1, i, Value());
  }
  change.rows->SetCardinality(3);
  change.ops = {ChangeOp::kUpsert, ChangeOp::kMove, ChangeOp::kTruncate};
  change.unchanged = {{0, 1}, {2, 1}};
  ByteWriter w;
  EncodeChange(change, w);
  ByteReader r(w.bytes);
  auto back = DecodeChange(r, types);
  ASSERT_TRUE(back) << back.error().ToString();
  EXPECT_TRUE(r.done());
  EXPECT_EQ(back->table, 42u);
  EXPECT_EQ(back->ops, change.ops);
  EXPECT_EQ(back->unchanged, change.unchanged);
  ExpectSame(*back->rows, *change.rows);
  for (size_t cut = 0; cut < w.bytes.size(); cut++) {
    std::string part = w.bytes.substr(0, cut);
    ByteReader torn(part);
    EXPECT_FALSE(DecodeChange(torn, types)) << cut;
  }
}

}  // namespace
}  // namespace tidewater::state
