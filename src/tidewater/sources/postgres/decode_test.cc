// The decoders alone: bytes in, values out, nothing read past the end.
#include <gtest/gtest.h>
#include "tidewater/sources/postgres/copy_binary.h"
#include "tidewater/sources/postgres/offset.h"
#include "tidewater/sources/postgres/row_writer.h"
#include "tidewater/sources/postgres/touch_log.h"

namespace tidewater::postgres {
namespace {

struct Bytes {
  std::string s;
  Bytes& U8(uint8_t v) { return s += char(v), *this; }
  Bytes& U16(uint16_t v) { return U8(uint8_t(v >> 8)).U8(uint8_t(v)); }
  Bytes& U32(uint32_t v) { return U16(uint16_t(v >> 16)).U16(uint16_t(v)); }
  Bytes& U64(uint64_t v) { return U32(uint32_t(v >> 32)).U32(uint32_t(v)); }
  Bytes& Text(const std::string& v) { return s += v, *this; }
  Bytes& Z(const std::string& v) { return s += v, U8(0); }
  operator std::span<const char>() const { return {s.data(), s.size()}; }
};

TEST(Pgoutput, DecodesEveryMessageAndNoPrefixOfIt) {
  std::vector<Bytes> messages;
  messages.push_back(Bytes().Text("B").U64(0x1000).U64(5).U32(77));
  messages.push_back(Bytes().Text("C").U8(0).U64(0x1000).U64(0x1010).U64(5));
  messages.push_back(Bytes().Text("O").U64(1).Z("origin"));
  messages.push_back(Bytes()
                         .Text("R")
                         .U32(9)
                         .Z("public")
                         .Z("t")
                         .Text("d")
                         .U16(2)
                         .U8(1)
                         .Z("id")
                         .U32(23)
                         .U32(~0u)
                         .U8(0)
                         .Z("v")
                         .U32(25)
                         .U32(~0u));
  messages.push_back(Bytes().Text("Y").U32(9).Z("public").Z("mood"));
  messages.push_back(
      Bytes().Text("I").U32(9).Text("N").U16(3).Text("t").U32(1).Text("5").Text("n").Text("b").U32(4).U32(7));
  messages.push_back(Bytes().Text("U").U32(9).Text("N").U16(1).Text("u"));
  messages.push_back(
      Bytes().Text("U").U32(9).Text("K").U16(1).Text("t").U32(1).Text("5").Text("N").U16(1).Text("t").U32(1).Text("6"));
  messages.push_back(Bytes().Text("D").U32(9).Text("O").U16(1).Text("n"));
  messages.push_back(Bytes().Text("T").U32(2).U8(1).U32(9).U32(10));
  messages.push_back(Bytes().Text("M").U8(0).U64(1).Z("prefix").U32(2).Text("ab"));
  PgoutputDecoder decoder;
  for (auto& m : messages) {
    EXPECT_TRUE(decoder.Decode(m)) << m.s[0];
    for (size_t n = 0; n < m.s.size(); n++) {
      std::string cut(m.s.data(), n);  // on the heap, so that a sanitizer sees a read past its end
      EXPECT_FALSE(decoder.Decode(std::span<const char>(cut.data(), n))) << m.s[0] << " cut at " << n;
    }
    auto longer = m.s + "x";
    EXPECT_FALSE(decoder.Decode(std::span<const char>(longer.data(), longer.size()))) << m.s[0];
  }
  auto* insert = *decoder.Decode(messages[5]);
  ASSERT_EQ(insert->new_row.size(), 3u);
  EXPECT_EQ(insert->new_row[0].view(), "5");
  EXPECT_EQ(insert->new_row[1].kind, Field::kNull);
  EXPECT_EQ(insert->new_row[2].kind, Field::kBinary);
  auto* update = *decoder.Decode(messages[7]);
  EXPECT_EQ(update->old_kind, 'K');
  EXPECT_EQ(update->old_row[0].view(), "5");
  EXPECT_EQ(update->new_row[0].view(), "6");
  auto* truncate = *decoder.Decode(messages[9]);
  EXPECT_EQ(truncate->truncated, (std::vector<uint32_t>{9, 10}));
  EXPECT_FALSE(decoder.Decode(Bytes().Text("T").U32(0xffffffff).U8(0)));
  EXPECT_FALSE(decoder.Decode(Bytes().Text("I").U32(9).Text("N").U16(0xffff)));
  EXPECT_FALSE(decoder.Decode(Bytes().Text("?")));
}

TEST(Pgoutput, OuterMessages) {
  auto data = Bytes().Text("w").U64(1).U64(2).U64(3).Text("abc");
  auto m = DecodeReplication(data);
  ASSERT_TRUE(m);
  EXPECT_EQ(std::string_view(m->data.data(), m->data.size()), "abc");
  m = DecodeReplication(Bytes().Text("k").U64(0x55).U64(3).U8(1));
  ASSERT_TRUE(m);
  EXPECT_EQ(m->end, 0x55u);
  EXPECT_TRUE(m->reply_now);
  EXPECT_FALSE(DecodeReplication(Bytes().Text("k").U64(0x55)));
  EXPECT_FALSE(DecodeReplication({}));
}

TEST(CopyBinary, RowsWhereverTheBytesAreCut) {
  Bytes b;
  b.Text("PGCOPY\n").U8(0xff).Text("\r\n").U8(0).U32(0).U32(3).Text("ext");
  for (uint32_t i = 0; i < 50; i++) b.U16(2).U32(4).U32(i).U32(i % 3 ? 3 : ~0u).Text(i % 3 ? "abc" : "");
  b.U16(0xffff);
  for (size_t step : {1u, 2u, 7u, 64u, 100000u}) {
    CopyBinaryDecoder d(2);
    uint32_t rows = 0;
    for (size_t at = 0; at < b.s.size(); at += step) {
      auto piece = b.s.substr(at, step);
      auto status = d.Feed({piece.data(), piece.size()}, [&](const Tuple& row) -> Status {
        EXPECT_EQ(ReadU32(row[0].data), rows);
        EXPECT_EQ(row[1].kind == Field::kNull, rows % 3 == 0);
        rows++;
        return {};
      });
      ASSERT_TRUE(status) << status.error().message;
    }
    EXPECT_EQ(rows, 50u);
    EXPECT_TRUE(d.Finish());
  }
  auto ignore = [](const Tuple&) -> Status { return {}; };
  CopyBinaryDecoder other(3);
  EXPECT_FALSE(other.Feed(b, ignore));
  CopyBinaryDecoder early(2);
  EXPECT_TRUE(early.Feed({b.s.data(), b.s.size() - 1}, ignore));
  EXPECT_FALSE(early.Finish());
  CopyBinaryDecoder nonsense(2);
  EXPECT_FALSE(nonsense.Feed(Bytes().Text("PGCOPY nothing of that kind"), ignore));
}

/// The value of one field, or "! " and why it does not fit.
std::string Decode(PgKind kind, const LogicalType& type, Field::Kind form, const std::string& bytes,
                   PgKind element = PgKind::kOther) {
  std::vector<ColumnDecoder> decoders = {ColumnDecoder(kind, element, type)};
  DataChunk chunk;
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), {type});
  RowWriter writer(&decoders);
  writer.Bind(chunk);
  std::vector<char> exact(bytes.begin(), bytes.end());
  if (auto* why = writer.Put(0, 0, Field{form, uint32_t(exact.size()), exact.data()})) return std::string("! ") + why;
  chunk.SetCardinality(1);
  return chunk.GetValue(0, 0).ToString();
}
std::string Numeric(const LogicalType& type, int16_t weight, uint16_t sign, std::vector<uint16_t> digits) {
  Bytes b;
  b.U16(uint16_t(digits.size())).U16(uint16_t(weight)).U16(sign).U16(0);
  for (auto d : digits) b.U16(d);
  return Decode(PgKind::kNumeric, type, Field::kBinary, b.s);
}
std::string Text(const LogicalType& type, const std::string& text, PgKind kind = PgKind::kOther,
                 PgKind element = PgKind::kOther) {
  return Decode(kind, type, Field::kText, text, element);
}

TEST(ColumnDecoder, Numeric) {
  auto d = LogicalType::DECIMAL(12, 2);
  EXPECT_EQ(Numeric(d, 0, 0, {}), "0.00");
  EXPECT_EQ(Numeric(d, 0, 0, {12, 5000}), "12.50");
  EXPECT_EQ(Numeric(d, 1, 0x4000, {12, 3456, 7800}), "-123456.78");
  EXPECT_EQ(Numeric(d, 2, 0, {99, 9999, 9999, 9900}), "9999999999.99");
  EXPECT_EQ(Numeric(d, 2, 0, {100}).substr(0, 1), "!");
  EXPECT_EQ(Numeric(d, 2, 0, {1}), "100000000.00");
  EXPECT_EQ(Numeric(d, -1, 0, {100}), "0.01");
  EXPECT_EQ(Numeric(d, -1, 0, {10}).substr(0, 1), "!");  // 0.001
  EXPECT_EQ(Numeric(d, -2, 0, {1}).substr(0, 1), "!");
  EXPECT_EQ(Numeric(d, 0, 0xc000, {}).substr(0, 1), "!");  // NaN
  EXPECT_EQ(Numeric(d, 0, 0, {10000}).substr(0, 1), "!");
  EXPECT_EQ(Numeric(d, 30000, 0, {1}).substr(0, 1), "!");
  EXPECT_EQ(Numeric(d, -30000, 0, {1}).substr(0, 1), "!");
  auto whole = LogicalType::DECIMAL(38, 0);
  EXPECT_EQ(Numeric(whole, 9, 0, {99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999}), std::string(38, '9'));
  EXPECT_EQ(Numeric(whole, 9, 0, {100, 0, 0, 0, 0, 0, 0, 0, 0, 0}).substr(0, 1), "!");
  EXPECT_EQ(Numeric(whole, 9, 0, {10}), "10" + std::string(36, '0'));
  auto small = LogicalType::DECIMAL(38, 38);
  EXPECT_EQ(Numeric(small, -1, 0, {9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900}),
            "." + std::string(38, '9'));
  EXPECT_EQ(Numeric(LogicalType::DECIMAL(4, 1), 0, 0x4000, {999, 9000}), "-999.9");

  EXPECT_EQ(Text(d, "12.5"), "12.50");
  EXPECT_EQ(Text(d, "-0.01"), "-0.01");
  EXPECT_EQ(Text(d, "12.500"), "12.50");
  EXPECT_EQ(Text(d, "12.501").substr(0, 1), "!");
  EXPECT_EQ(Text(d, "99999999999").substr(0, 1), "!");
  EXPECT_EQ(Text(d, "NaN").substr(0, 1), "!");
  EXPECT_EQ(Text(d, "").substr(0, 1), "!");
  EXPECT_EQ(Text(d, "1.2.3").substr(0, 1), "!");
  EXPECT_EQ(Text(small, "0." + std::string(38, '9')), "." + std::string(38, '9'));
}

TEST(ColumnDecoder, TimesInBothForms) {
  EXPECT_EQ(Text(LogicalType::DATE, "0044-03-15 BC"), "0044-03-15 (BC)");
  EXPECT_EQ(Text(LogicalType::DATE, "infinity"), "infinity");
  EXPECT_EQ(Text(LogicalType::DATE, "2023-02-29").substr(0, 1), "!");
  EXPECT_EQ(Text(LogicalType::TIMESTAMP, "10000-01-01 00:00:00.5"), "10000-01-01 00:00:00.5");
  EXPECT_EQ(Text(LogicalType::TIMESTAMP, "0001-12-31 23:00:00 BC"), "0001-12-31 (BC) 23:00:00");
  EXPECT_EQ(Text(LogicalType::TIMESTAMP, "294276-01-01 00:00:00").substr(0, 1), "!");
  EXPECT_EQ(Text(LogicalType::TIMESTAMP_TZ, "2024-07-01 12:00:00+02"), "2024-07-01 10:00:00+00");
  EXPECT_EQ(Text(LogicalType::TIME, "24:00:00"), "24:00:00");
  EXPECT_EQ(Text(LogicalType::TIME, "25:00:00").substr(0, 1), "!");
  EXPECT_EQ(Text(LogicalType::INTERVAL, "-1 years -2 mons +3 days -04:05:06.7"),
            "-1 year -2 months 3 days -04:05:06.7");
  EXPECT_EQ(Text(LogicalType::INTERVAL, "100:00:00"), "100:00:00");
  EXPECT_EQ(Text(LogicalType::INTERVAL, "3 weeks").substr(0, 1), "!");
  auto timestamp = [](int64_t us) {
    return Decode(PgKind::kTimestamp, LogicalType::TIMESTAMP, Field::kBinary, Bytes().U64(uint64_t(us)).s);
  };
  EXPECT_EQ(timestamp(0), "2000-01-01 00:00:00");
  EXPECT_EQ(timestamp(std::numeric_limits<int64_t>::max()), "infinity");
  EXPECT_EQ(timestamp(std::numeric_limits<int64_t>::min()), "-infinity");
  EXPECT_EQ(timestamp(std::numeric_limits<int64_t>::max() - 1).substr(0, 1), "!");
  EXPECT_EQ(Decode(PgKind::kTimestamp, LogicalType::TIMESTAMP, Field::kBinary, "1234567").substr(0, 1), "!");
}

TEST(ColumnDecoder, ArraysAndIntegers) {
  auto list = LogicalType::LIST(LogicalType::INTEGER);
  auto text = [&](const std::string& s) { return Text(list, s, PgKind::kArray, PgKind::kInt4); };
  EXPECT_EQ(text("{}"), "[]");
  EXPECT_EQ(text("{1,NULL,-3}"), "[1, NULL, -3]");
  for (auto* bad : {"", "{", "{1", "1}", "{{1},{2}}", "[0:1]={1,2}", "{1,}", "{a}", "{\"1}", "{1}2}", "{\\"})
    EXPECT_EQ(text(bad).substr(0, 1), "!") << bad;
  auto binary = [&](const Bytes& b) { return Decode(PgKind::kArray, list, Field::kBinary, b.s, PgKind::kInt4); };
  EXPECT_EQ(binary(Bytes().U32(0).U32(0).U32(23)), "[]");
  EXPECT_EQ(binary(Bytes().U32(1).U32(1).U32(23).U32(2).U32(1).U32(4).U32(7).U32(~0u)), "[7, NULL]");
  EXPECT_EQ(binary(Bytes().U32(1).U32(1).U32(23).U32(0x7fffffff).U32(1).U32(4).U32(7)).substr(0, 1), "!");
  EXPECT_EQ(binary(Bytes().U32(2).U32(0).U32(23).U32(1).U32(1).U32(1).U32(1).U32(4).U32(7)).substr(0, 1), "!");
  EXPECT_EQ(Decode(PgKind::kInt8, LogicalType::INTEGER, Field::kBinary, Bytes().U64(1ull << 40).s).substr(0, 1), "!");
  EXPECT_EQ(Decode(PgKind::kInt8, LogicalType::INTEGER, Field::kBinary, Bytes().U64(uint64_t(-5)).s), "-5");
  EXPECT_EQ(Text(LogicalType::BIGINT, "9223372036854775808").substr(0, 1), "!");
  EXPECT_EQ(Text(LogicalType::INTEGER, "1.5").substr(0, 1), "!");
}

TEST(Snapshot, SeesWhatPostgresSees) {
  auto s = *Snapshot::Parse("100:110:102,105");
  EXPECT_TRUE(s.Sees(99));
  EXPECT_TRUE(s.Sees(101));
  EXPECT_FALSE(s.Sees(102));
  EXPECT_FALSE(s.Sees(110));
  EXPECT_FALSE(s.Sees(111));
  // Around the wrap of the 32 bits of the stream.
  auto w = *Snapshot::Parse("4294967290:4294967300:4294967298");
  EXPECT_TRUE(w.Sees(uint32_t(4294967295)));
  EXPECT_TRUE(w.Sees(1));
  EXPECT_FALSE(w.Sees(2));
  EXPECT_FALSE(w.Sees(4));
  EXPECT_TRUE(s.AnyInProgress({1, 105}));
  EXPECT_FALSE(s.AnyInProgress({1, 104}));
  for (auto* bad : {"", "1", "1:2", "a:b:", "1:2:x", "1:2:3;"}) EXPECT_FALSE(Snapshot::Parse(bad)) << bad;
}

TEST(TouchLog, UnseenChangesWin) {
  TouchLog log;
  std::vector<uint32_t> first = {1, 2}, second = {2, 3};
  log.Add(1, TouchLog::kWritten, "seen");
  log.Add(5, TouchLog::kWritten, "whole");
  log.Add(5, TouchLog::kWritten, "part", first);
  log.Add(6, TouchLog::kWritten, "part", second);
  log.Add(6, TouchLog::kGone, "gone");
  log.Add(6, TouchLog::kMovedHere, "moved", first);
  log.Add(6, TouchLog::kWritten, "again", first);
  log.Add(6, TouchLog::kWritten, "again");
  log.Add(6, TouchLog::kWritten, "again", first);
  auto v = log.Unseen(*Snapshot::Parse("5:7:5,6"));
  EXPECT_FALSE(v.keys.contains("seen"));
  EXPECT_TRUE(v.keys["whole"].drop);
  EXPECT_FALSE(v.keys["part"].drop);
  EXPECT_EQ(v.keys["part"].current, (std::vector<uint32_t>{2}));
  EXPECT_TRUE(v.keys["gone"].drop);
  EXPECT_TRUE(v.keys["moved"].drop);
  EXPECT_TRUE(v.keys["again"].drop);
  log.Prune(*Snapshot::Parse("6:7:6"));
  EXPECT_EQ(log.size(), 6u);
  log.Add(7, TouchLog::kTruncated, "");
  log.Add(8, TouchLog::kWritten, "after", first);
  v = log.Unseen(*Snapshot::Parse("6:6:"));
  EXPECT_TRUE(v.all_dropped);
  EXPECT_TRUE(v.keys["part"].drop);
  EXPECT_TRUE(v.keys["after"].drop);
  EXPECT_TRUE(log.Unseen(*Snapshot::Parse("9:9:")).empty());
}

TEST(Offset, ComesBackAsItWas) {
  Offset o;
  o.lsn = 0x1234567890;
  o.system = "7312";
  o.slot = "s";
  o.publication = "p \"q\"";
  o.slot_ours = true;
  auto& t = o.tables[3];
  t.relid = 16400;
  t.attnums = {1, 3};
  t.phase = TableOffset::kRepairing;
  t.truncate = true;
  t.bound = {"a b", "é"};
  t.rows = 99;
  t.repair = {{"x", "1"}, {"y", "2"}};
  t.rejected = {"17"};
  auto text = o.Encode();
  auto back = Offset::Decode(text);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->Encode(), text);
  EXPECT_EQ(back->tables[3].repair, t.repair);
  EXPECT_EQ(*Offset::DecodeLsn(text), o.lsn);
  for (auto* bad : {"", "x", "0/0", "0/0 {", "0/0 {}", "0/0 []", "1234567890/0 {}"})
    EXPECT_FALSE(Offset::Decode(bad)) << bad;
}

}  // namespace
}  // namespace tidewater::postgres
