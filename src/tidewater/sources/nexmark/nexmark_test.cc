#include <cmath>
#include <gtest/gtest.h>
#include "tidewater/sources/api/source.h"
#include "tidewater/sources/nexmark/generator.h"
#include "tidewater/sources/nexmark/nexmark.h"

namespace tidewater::nexmark {
namespace {
using duckdb::string_t;

using With = std::map<std::string, std::string>;

std::unique_ptr<Source> MakeSource(With with, const std::string& offset = "", std::vector<uint32_t> needed = {},
                                   bool replay = false) {
  RegisterNexmark();
  auto connector = SourceRegistry::Get().Find("nexmark");
  EXPECT_TRUE(connector);
  SourceOptions options;
  with.emplace("nexmark.min.event.gap.in.ns", "0");
  options.options = with;
  options.replay = replay;
  auto source = (*connector)->make(options);
  EXPECT_TRUE(source) << source.error().message;
  SourceTable table;
  table.id = 7;
  table.schema = (*connector)->fixed_schema(with).value();
  table.needed = needed;
  EXPECT_TRUE((*source)->AddTable(table));
  EXPECT_TRUE((*source)->Start(offset));
  return std::move(*source);
}

/// All rows as text, a line each.
std::vector<std::string> Drain(Source& source, size_t events_a_poll) {
  std::vector<std::string> lines;
  while (auto batch = source.Poll(events_a_poll)) {
    for (auto& change : batch->changes) {
      EXPECT_EQ(change.table, 7u);
      EXPECT_TRUE(change.ops.empty());
      EXPECT_GT(change.rows->size(), 0u);
      change.rows->Verify();
      for (duckdb::idx_t r = 0; r < change.rows->size(); r++) {
        std::string line;
        for (duckdb::idx_t c = 0; c < change.rows->ColumnCount(); c++)
          line += change.rows->GetValue(c, r).ToString() + "|";
        lines.push_back(line);
      }
    }
  }
  return lines;
}

struct Sample {
  explicit Sample(Table table, duckdb::idx_t rows) {
    options.table = table;
    Generator generator(options);
    std::vector<bool> all(TableSchema(table).columns.size(), true);
    for (duckdb::idx_t row = 0; row < rows; row += STANDARD_VECTOR_SIZE)
      chunks.push_back(generator.Make(row, std::min<duckdb::idx_t>(STANDARD_VECTOR_SIZE, rows - row), all));
  }
  template <class T, class F>
  void Each(int column, F f) {
    duckdb::idx_t row = 0;
    for (auto& chunk : chunks) {
      auto* data = duckdb::FlatVector::GetData<T>(chunk->data[column]);
      for (duckdb::idx_t i = 0; i < chunk->size(); i++) f(row++, data[i]);
    }
  }
  Options options;
  std::vector<std::unique_ptr<DataChunk>> chunks;
};

double MeanLength(Sample& sample, int column) {
  double sum = 0, n = 0;
  sample.Each<string_t>(column, [&](auto, string_t s) { sum += s.GetSize(), n++; });
  return sum / n;
}

TEST(NexmarkOptions, ErrorsNameTheOption) {
  auto missing = ParseOptions({});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().sqlstate, "22023");
  EXPECT_NE(missing.error().message.find("nexmark.table.type"), std::string::npos);
  for (With bad :
       {With{{"nexmark.table.type", "Bids"}}, With{{"nexmark.table.type", "Bid"}, {"nexmark.event.num", "-1"}},
        With{{"nexmark.table.type", "Bid"}, {"nexmark.event.num", "1e6"}},
        With{{"nexmark.table.type", "Bid"}, {"nexmark.event.rate", "0"}},
        With{{"nexmark.table.type", "Bid"}, {"nexmark.evnt.num", "1"}}}) {
    auto r = ParseOptions(bad);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().sqlstate, "22023");
    EXPECT_NE(r.error().message.find(bad.size() == 1 ? "nexmark.table.type" : bad.begin()->first), std::string::npos);
  }
  auto good = ParseOptions({{"connector", "nexmark"}, {"nexmark.table.type", "auction"}, {"nexmark.event.num", "300"}});
  ASSERT_TRUE(good);
  EXPECT_EQ(good->table, Table::kAuction);
  EXPECT_EQ(good->event_num, 300u);
}

TEST(NexmarkGenerator, RowsBefore) {
  for (uint64_t event = 0; event < 500; event++) {
    uint64_t rest = event % 50;
    auto step = [&](Table t) { return RowsBefore(t, event + 1) - RowsBefore(t, event); };
    EXPECT_EQ(step(Table::kPerson), rest == 0 ? 1u : 0u);
    EXPECT_EQ(step(Table::kAuction), rest >= 1 && rest <= 3 ? 1u : 0u);
    EXPECT_EQ(step(Table::kBid), rest >= 4 ? 1u : 0u);
  }
  EXPECT_EQ(RowsBefore(Table::kBid, 3'000'000), 2'760'000u);
}

TEST(NexmarkSource, SameRowsWhateverTheBatches) {
  for (auto type : {"Person", "Auction", "Bid"}) {
    With with{{"nexmark.table.type", type}, {"nexmark.event.num", "12345"}};
    auto whole = Drain(*MakeSource(with), 1'000'000);
    EXPECT_EQ(whole, Drain(*MakeSource(with), 777)) << type;
    EXPECT_EQ(whole, Drain(*MakeSource(with), 1)) << type;
    // From the middle on.
    auto first = MakeSource(with);
    std::string offset;
    size_t rows = 0;
    for (int i = 0; i < 3; i++) {
      auto batch = first->Poll(1111);
      EXPECT_EQ(batch->events, 1111u);
      offset = batch->offset, rows += batch->RowCount();
    }
    EXPECT_EQ(offset, "3333");
    EXPECT_EQ(first->GetStatus().position, "3333");
    auto rest = Drain(*MakeSource(with, offset), 5000);
    EXPECT_TRUE(std::equal(whole.begin() + long(rows), whole.end(), rest.begin(), rest.end())) << type;
    with["nexmark.seed"] = "1";
    EXPECT_NE(whole, Drain(*MakeSource(with), 5000)) << type;
  }
  EXPECT_FALSE(MakeSource({{"nexmark.table.type", "Bid"}})->Start("x1"));
}

TEST(NexmarkSource, ColumnsThatAreNotNeededAreNull) {
  With with{{"nexmark.table.type", "Bid"}, {"nexmark.event.num", "5000"}};
  auto whole = MakeSource(with)->Poll(5000);
  auto some = MakeSource(with, "", {5, 0})->Poll(5000);
  for (size_t c = 0; c < 7; c++) {
    auto& chunk = *some->changes[0].rows;
    if (c == 0 || c == 5) {
      EXPECT_EQ(chunk.GetValue(c, 100), whole->changes[0].rows->GetValue(c, 100));
    } else {
      EXPECT_EQ(chunk.data[c].GetVectorType(), duckdb::VectorType::CONSTANT_VECTOR);
      EXPECT_TRUE(chunk.GetValue(c, 100).IsNull());
    }
  }
}

TEST(NexmarkSource, PacingFollowsTheGap) {
  // One event a second: at most the first few are due.
  With with{{"nexmark.table.type", "Bid"}, {"nexmark.min.event.gap.in.ns", "1000000000"}};
  auto source = MakeSource(with);
  EXPECT_FALSE(source->Poll(1'000'000));
  // A microsecond: some are, after a moment.
  with["nexmark.min.event.gap.in.ns"] = "1000";
  source = MakeSource(with);
  uint64_t events = 0;
  for (int i = 0; i < 1000 && events < 1000; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (auto batch = source->Poll(1'000'000)) events += batch->events;
  }
  EXPECT_GE(events, 1000u);
}

TEST(NexmarkSource, WhatIsReadAgainIsNotPaced) {
  With with{{"nexmark.table.type", "Bid"}, {"nexmark.min.event.gap.in.ns", "1000000000"}};
  auto source = MakeSource(with, "", {}, true);
  auto batch = source->Poll(100'000);
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->events, 100'000u);
}

// The distributions, as the Flink generator and the crate nexmark 0.2.0 define them (except for texts of the crate,
// which have fixed lengths where Flink's vary).

TEST(NexmarkGenerator, Bids) {
  constexpr int kRows = 200'000;
  Sample bids(Table::kBid, kRows);
  // Half of the bids are for the hot auction: the first of the last 100; the other half for the last 100, the newest
  // and 10 ahead.
  int hot = 0;
  bids.Each<int64_t>(0, [&](auto row, int64_t auction) {
    int64_t last = int64_t(row / 46) * 3 + 2, id = auction - 1000;
    hot += id == last / 100 * 100;
    EXPECT_GE(id, std::max<int64_t>(0, std::min(last - 100, last / 100 * 100)));
    EXPECT_LE(id, last + 10);
  });
  EXPECT_NEAR(double(hot) / kRows, 0.5 + 0.5 / 111 * 0.98, 0.01);
  // Three quarters by the hot bidder: the second of the last 100 people; the others by the 1,000 newest and 10 ahead.
  hot = 0;
  bids.Each<int64_t>(1, [&](auto row, int64_t bidder) {
    int64_t last = int64_t(row / 46), id = bidder - 1000;
    hot += id == last / 100 * 100 + 1;
    EXPECT_GE(id, std::max<int64_t>(0, last - 999));
    EXPECT_LE(id, last + 10);
  });
  EXPECT_NEAR(double(hot) / kRows, 0.75, 0.01);
  // log10(price / 100) is uniform in [0, 6).
  double sum = 0, squares = 0;
  bids.Each<int64_t>(2, [&](auto, int64_t price) {
    EXPECT_GE(price, 100);
    EXPECT_LE(price, 100'000'000);
    double x = std::log10(double(price) / 100) / 6;
    sum += x, squares += x * x;
  });
  EXPECT_NEAR(sum / kRows, 0.5, 0.005);
  EXPECT_NEAR(squares / kRows - sum / kRows * sum / kRows, 1.0 / 12, 0.002);
  // Half of the channels are the four hot ones; nine in ten of the other URLs have a channel_id.
  std::map<std::string, int> channels;
  bids.Each<string_t>(3, [&](auto, string_t s) { channels[s.GetString()]++; });
  for (auto name : {"Google", "Facebook", "Baidu", "Apple"}) EXPECT_NEAR(channels[name] / double(kRows), 0.125, 0.005);
  EXPECT_GT(channels.size(), 9'900u);
  EXPECT_LE(channels.size(), 10'004u);
  int with_id = 0;
  bids.Each<string_t>(4, [&](auto, string_t s) {
    auto url = s.GetString();
    EXPECT_TRUE(url.starts_with("https://www.nexmark.com/"));
    EXPECT_EQ(std::count(url.begin(), url.end(), '/'), 6);
    EXPECT_NE(url.find("/item.htm?query=1"), std::string::npos);
    with_id += url.find("&channel_id=") != std::string::npos;
  });
  EXPECT_NEAR(double(with_id) / kRows, 0.45, 0.01);
  // 10,000 events a second, whole milliseconds.
  bids.Each<int64_t>(5, [&](auto row, int64_t us) {
    uint64_t event = row / 46 * 50 + 4 + row % 46;
    EXPECT_EQ(us, (1'436'918'400'000 + int64_t(event) / 10) * 1000);
  });
  EXPECT_NEAR(MeanLength(bids, 6), 100 - 32 - 0.5, 0.2);
  std::vector<double> letters(26);
  double n = 0;
  bids.Each<string_t>(6, [&](auto, string_t s) {
    EXPECT_GE(s.GetSize(), 54u);
    EXPECT_LT(s.GetSize(), 82u);
    for (char c : s.GetString()) {
      ASSERT_TRUE(c >= 'a' && c <= 'z') << int(c);
      letters[c - 'a']++, n++;
    }
  });
  for (double count : letters) EXPECT_NEAR(count / n, 1 / 26.0, 0.0005);
}

TEST(NexmarkGenerator, Auctions) {
  constexpr int kRows = 60'000;
  Sample auctions(Table::kAuction, kRows);
  auctions.Each<int64_t>(0, [&](auto row, int64_t id) { EXPECT_EQ(id, 1000 + int64_t(row)); });
  EXPECT_NEAR(MeanLength(auctions, 1), 11, 0.1);
  EXPECT_NEAR(MeanLength(auctions, 2), 51, 0.5);
  double spaces = 0, inner = 0;
  auctions.Each<string_t>(2, [&](auto, string_t s) {
    auto text = s.GetString();
    EXPECT_NE(text.front(), ' ');
    EXPECT_NE(text.back(), ' ');
    for (char c : text) ASSERT_TRUE((c >= 'a' && c <= 'z') || c == ' ') << int(c);
    spaces += double(std::count(text.begin(), text.end(), ' '));
    inner += double(text.size()) - 2;
  });
  EXPECT_NEAR(spaces / inner, 1 / 13.0, 0.001);
  std::vector<int64_t> initial, times;
  auctions.Each<int64_t>(3, [&](auto, int64_t v) { initial.push_back(v); });
  auctions.Each<int64_t>(4, [&](auto row, int64_t v) { EXPECT_GE(v, initial[row] + 100); });
  auctions.Each<int64_t>(5, [&](auto, int64_t v) { times.push_back(v); });
  // 1 to 2 * horizon ms, the horizon being the time of 100 * 50 / 3 events: 166 or 167 ms.
  double sum = 0;
  auctions.Each<int64_t>(6, [&](auto row, int64_t v) {
    int64_t ms = (v - times[row]) / 1000;
    EXPECT_GE(ms, 1);
    EXPECT_LE(ms, 334);
    sum += double(ms);
  });
  EXPECT_NEAR(sum / kRows, 167, 2);
  int hot = 0;
  auctions.Each<int64_t>(7, [&](auto row, int64_t seller) { hot += seller - 1000 == int64_t(row / 3) / 100 * 100; });
  EXPECT_NEAR(double(hot) / kRows, 0.75, 0.01);
  std::map<int64_t, int> categories;
  auctions.Each<int64_t>(8, [&](auto, int64_t c) { categories[c]++; });
  ASSERT_EQ(categories.size(), 5u);
  for (auto& [category, count] : categories) {
    EXPECT_TRUE(category >= 10 && category < 15);
    EXPECT_NEAR(double(count) / kRows, 0.2, 0.01);
  }
  EXPECT_NEAR(MeanLength(auctions, 1) + MeanLength(auctions, 2) + MeanLength(auctions, 9) + 48, 500, 2);
}

TEST(NexmarkGenerator, People) {
  constexpr int kRows = 50'000;
  Sample people(Table::kPerson, kRows);
  people.Each<int64_t>(0, [&](auto row, int64_t id) { EXPECT_EQ(id, 1000 + int64_t(row)); });
  std::map<std::string, int> names, cities, states;
  people.Each<string_t>(1, [&](auto, string_t s) { names[s.GetString()]++; });
  people.Each<string_t>(4, [&](auto, string_t s) { cities[s.GetString()]++; });
  people.Each<string_t>(5, [&](auto, string_t s) { states[s.GetString()]++; });
  EXPECT_EQ(names.size(), 99u);
  EXPECT_EQ(cities.size(), 10u);
  EXPECT_EQ(states.size(), 6u);
  for (auto& [state, count] : states) EXPECT_NEAR(double(count) / kRows, 1 / 6.0, 0.01) << state;
  people.Each<string_t>(2, [&](auto, string_t s) {
    auto email = s.GetString();
    EXPECT_NE(email.find('@'), std::string::npos);
    EXPECT_TRUE(email.ends_with(".com"));
  });
  people.Each<string_t>(3, [&](auto, string_t s) {
    auto card = s.GetString();
    ASSERT_EQ(card.size(), 19u);
    for (size_t i = 0; i < 19; i++) EXPECT_TRUE(i % 5 == 4 ? card[i] == ' ' : isdigit(card[i]));
  });
  double size = 8;
  for (int column : {1, 2, 3, 4, 5, 7}) size += MeanLength(people, column);
  EXPECT_NEAR(size, 200, 1);
}

}  // namespace
}  // namespace tidewater::nexmark
