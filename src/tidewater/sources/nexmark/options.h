// The options of `connector = 'nexmark'`, by RisingWave's names.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include "tidewater/base/result.h"

namespace tidewater::nexmark {

enum class Table { kPerson, kAuction, kBid };

struct Options {
  Table table = Table::kBid;            ///< nexmark.table.type = 'Person' | 'Auction' | 'Bid'
  uint64_t event_num = ~uint64_t{0};    ///< nexmark.event.num: events of all three types together
  uint64_t split_num = 1;               ///< nexmark.split.num: accepted; the events do not depend on it
  uint64_t min_event_gap_ns = 100'000;  ///< nexmark.min.event.gap.in.ns: wall time between events; 0 = as fast as read
  uint64_t event_rate = 10'000;         ///< nexmark.event.rate: events per second of event time
  int64_t base_time_ms = 1'436'918'400'000;  ///< nexmark.base.time: of event 0, ms since 1970; 2015-07-15 as in Beam
  uint64_t seed = 0;                         ///< nexmark.seed
  uint64_t active_people = 1000;             ///< nexmark.active.people
  uint64_t in_flight_auctions = 100;         ///< nexmark.in.flight.auctions
  uint64_t hot_auction_ratio = 2;    ///< nexmark.hot.auction.ratio: a bid is for the hot auction with 1 - 1/ratio
  uint64_t hot_seller_ratio = 4;     ///< nexmark.hot.seller.ratio
  uint64_t hot_bidder_ratio = 4;     ///< nexmark.hot.bidder.ratio
  uint64_t hot_channel_ratio = 2;    ///< nexmark.hot.channel.ratio
  uint64_t avg_person_bytes = 200;   ///< nexmark.avg.person.byte.size
  uint64_t avg_auction_bytes = 500;  ///< nexmark.avg.auction.byte.size
  uint64_t avg_bid_bytes = 100;      ///< nexmark.avg.bid.byte.size
};

/// Reads a WITH clause. Keys that do not start with "nexmark." are left to others. Errors name the option (22023).
Result<Options> ParseOptions(const std::map<std::string, std::string>& with);

}  // namespace tidewater::nexmark
