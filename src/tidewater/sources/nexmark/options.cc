#include "tidewater/sources/nexmark/options.h"
#include <algorithm>
#include <charconv>
#include <limits>

namespace tidewater::nexmark {
namespace {

struct Number {
  const char* name;
  uint64_t Options::* field;
  uint64_t min, max;
};

constexpr uint64_t kMaxSize = 100'000;
// Event numbers times 16 slots stay within 64 bits, and event times within a TIMESTAMP.
constexpr uint64_t kMaxEvents = uint64_t{1} << 48;
constexpr Number kNumbers[] = {
    {"nexmark.event.num", &Options::event_num, 0, kMaxEvents},
    {"nexmark.split.num", &Options::split_num, 1, 1'000'000},
    {"nexmark.min.event.gap.in.ns", &Options::min_event_gap_ns, 0, 1'000'000'000'000},
    {"nexmark.event.rate", &Options::event_rate, 1, 1'000'000'000},
    {"nexmark.seed", &Options::seed, 0, std::numeric_limits<uint64_t>::max()},
    {"nexmark.active.people", &Options::active_people, 1, 1'000'000'000},
    {"nexmark.in.flight.auctions", &Options::in_flight_auctions, 1, 1'000'000'000},
    {"nexmark.hot.auction.ratio", &Options::hot_auction_ratio, 1, 1'000'000},
    {"nexmark.hot.seller.ratio", &Options::hot_seller_ratio, 1, 1'000'000},
    {"nexmark.hot.bidder.ratio", &Options::hot_bidder_ratio, 1, 1'000'000},
    {"nexmark.hot.channel.ratio", &Options::hot_channel_ratio, 1, 1'000'000},
    {"nexmark.avg.person.byte.size", &Options::avg_person_bytes, 0, kMaxSize},
    {"nexmark.avg.auction.byte.size", &Options::avg_auction_bytes, 0, kMaxSize},
    {"nexmark.avg.bid.byte.size", &Options::avg_bid_bytes, 0, kMaxSize},
};

Result<uint64_t> ParseNumber(const std::string& name, const std::string& text, uint64_t min, uint64_t max) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max)
    return std::unexpected(UserError("22023", "option \"{}\" must be a whole number from {} to {}, not '{}'", name, min,
                                     max, text.substr(0, 100)));
  return value;
}

}  // namespace

Result<Options> ParseOptions(const std::map<std::string, std::string>& with) {
  Options options;
  options.event_num = kMaxEvents;
  bool has_table = false;
  for (auto& [name, value] : with) {
    if (!name.starts_with("nexmark.")) continue;
    if (name == "nexmark.table.type") {
      std::string type = value;
      std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
      if (type == "person") {
        options.table = Table::kPerson;
      } else if (type == "auction") {
        options.table = Table::kAuction;
      } else if (type == "bid") {
        options.table = Table::kBid;
      } else {
        return std::unexpected(UserError("22023", "option \"{}\" must be 'Person', 'Auction' or 'Bid', not '{}'", name,
                                         value.substr(0, 100)));
      }
      has_table = true;
      continue;
    }
    if (name == "nexmark.base.time") {
      TW_ASSIGN(uint64_t ms, ParseNumber(name, value, 0, 100'000'000'000'000));
      options.base_time_ms = int64_t(ms);
      continue;
    }
    auto number = std::find_if(std::begin(kNumbers), std::end(kNumbers), [&](auto& n) { return n.name == name; });
    if (number == std::end(kNumbers))
      return std::unexpected(UserError("22023", "unknown option \"{}\" of connector 'nexmark'", name));
    TW_ASSIGN(options.*number->field, ParseNumber(name, value, number->min, number->max));
  }
  if (!has_table)
    return std::unexpected(
        UserError("22023", "option \"nexmark.table.type\" is missing").WithHint("One of 'Person', 'Auction', 'Bid'."));
  return options;
}

}  // namespace tidewater::nexmark
