// The events of the Nexmark benchmark as Apache Beam and Flink define them, column by column.
//
// Of every 50 events the first is a person, the next three are auctions, the other 46 are bids. A value is a function
// of (options, event number, column): any column of any range of events can be made alone, in any order, on any thread.
//
// Distributions follow the Flink generator (github.com/nexmark/nexmark, package generator.model), with two deviations:
// the first and last letter of a random text is never the space that Flink would trim away, and prices have 24 bits of
// randomness. The random numbers themselves are our own, so single events differ from Flink's.
#pragma once
#include <cstdint>
#include <vector>
#include "tidewater/sources/nexmark/options.h"
#include "tidewater/types/delta_batch.h"
#include "tidewater/types/schema.h"

namespace tidewater::nexmark {

constexpr uint64_t kPersonsOf50 = 1, kAuctionsOf50 = 3, kBidsOf50 = 46, kProportions = 50;
constexpr int64_t kFirstPersonId = 1000, kFirstAuctionId = 1000, kFirstCategoryId = 10, kCategories = 5;

/// person: id, name, email_address, credit_card, city, state, date_time, extra.
/// auction: id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra.
/// bid: auction, bidder, price, channel, url, date_time, extra.
/// Ids and prices (cents) are BIGINT, times TIMESTAMP in whole milliseconds, the rest VARCHAR.
Schema TableSchema(Table table);

/// How many rows of `table` lie among the events [0, event).
uint64_t RowsBefore(Table table, uint64_t event);

/// Any thread; holds no state but the options.
class Generator {
 public:
  explicit Generator(const Options& options);

  /// Rows first_row .. first_row + count - 1 of the table (count in 1..STANDARD_VECTOR_SIZE) as a new chunk with all
  /// columns; those with wanted[i] false are constant NULL vectors. Long texts lie in one heap block per column, or in
  /// static memory.
  std::unique_ptr<DataChunk> Make(uint64_t first_row, duckdb::idx_t count, const std::vector<bool>& wanted) const;

  /// Event time of an event, ms since 1970.
  int64_t TimeMs(uint64_t event) const;

 private:
  Options options_;
  Types types_;
  uint64_t seed_;
};

}  // namespace tidewater::nexmark
