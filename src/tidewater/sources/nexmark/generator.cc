#include "tidewater/sources/nexmark/generator.h"
#include <array>
#include <cmath>
#include <cstring>
#include <emmintrin.h>
#include <string>
#include "tidewater/base/check.h"

namespace tidewater::nexmark {
using duckdb::FlatVector;
using duckdb::idx_t;
using duckdb::string_t;
using duckdb::Vector;

namespace {

// --- Random numbers: SplitMix64 (Steele, Lea, Flood 2014), entered at any position. Each event owns 16 consecutive
// positions; a column uses one of them, and a text starts a sequence of its own from it.

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
constexpr uint64_t kSlots = 16;

inline uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

enum Slot : uint64_t {
  kBidAuction,
  kBidBidder,
  kBidPrice,
  kBidChannel,
  kBidExtra,
  kItemName,
  kDescription,
  kInitialBid,
  kReserve,
  kExpires,
  kSeller,
  kCategory,
  kAuctionExtra,
  kName = 0,
  kEmailUser,
  kEmailHost,
  kCreditCard,
  kCity,
  kState,
  kPersonExtra,
};

inline uint64_t At(uint64_t base, uint64_t slot) { return Mix(base + slot * kGolden); }
/// Uniform in [0, n), from the low or the high half of r (n below 2^32).
inline uint64_t Low(uint64_t r, uint64_t n) { return ((r & 0xFFFFFFFF) * n) >> 32; }
inline uint64_t High(uint64_t r, uint64_t n) { return ((r >> 32) * n) >> 32; }

// --- Texts. Written 16 bytes at a time: the destination needs kSlack bytes behind the text.

constexpr idx_t kSlack = 32;

/// `length` letters a..z. A 16-bit lane gives two: the high part of lane * 26, then of the remainder * 26.
inline void WriteLetters(uint64_t key, char* out, idx_t length) {
  const __m128i n26 = _mm_set1_epi16(26), a = _mm_set1_epi8('a');
  for (idx_t i = 0; i < length; i += 16, key += 2 * kGolden) {
    __m128i r = _mm_set_epi64x(int64_t(Mix(key + kGolden)), int64_t(Mix(key)));
    __m128i first = _mm_mulhi_epu16(r, n26);
    __m128i second = _mm_mulhi_epu16(_mm_mullo_epi16(r, n26), n26);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_add_epi8(_mm_packus_epi16(first, second), a));
  }
}

/// `length` characters: one in 13 is `delimiter`, the others are letters. A lane in [0, 13 * 26) splits into both
/// draws.
inline void WriteWords(uint64_t key, char* out, idx_t length, char delimiter) {
  const __m128i n = _mm_set1_epi16(13 * 26), n26 = _mm_set1_epi16(26), a = _mm_set1_epi16('a');
  const __m128i twelve = _mm_set1_epi16(12), mark = _mm_set1_epi16(delimiter), reciprocal = _mm_set1_epi16(2521);
  for (idx_t i = 0; i < length; i += 8, key += 2 * kGolden) {
    __m128i r = _mm_set_epi64x(int64_t(Mix(key + kGolden)), int64_t(Mix(key)));
    __m128i v = _mm_mulhi_epu16(r, n);
    __m128i q = _mm_mulhi_epu16(v, reciprocal);  // v / 26, exact for v < 338
    __m128i letter = _mm_add_epi16(_mm_sub_epi16(v, _mm_mullo_epi16(q, n26)), a);
    __m128i is_mark = _mm_cmpeq_epi16(q, twelve);
    __m128i c = _mm_or_si128(_mm_and_si128(is_mark, mark), _mm_andnot_si128(is_mark, letter));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(c, c));
  }
}

constexpr idx_t kMinText = 3;
/// The length of a text of fewer than `max` characters: uniform in [3, max).
inline idx_t TextLength(uint64_t key, idx_t max) { return kMinText + Low(key, max - kMinText); }
/// A text of that length whose first and last characters are letters.
inline idx_t WriteText(uint64_t key, idx_t max, char* out) {
  idx_t length = TextLength(key, max);
  WriteWords(Mix(key), out, length, ' ');
  if (out[0] == ' ') out[0] = char('a' + High(key, 26));
  if (out[length - 1] == ' ') out[length - 1] = char('a' + High(key << 8, 26));
  return length;
}

/// Padding such that an event of `size` bytes so far has `average` bytes on average: average - size, plus or minus a
/// fifth.
struct Padding {
  idx_t min = 0, spread = 1;
  Padding(idx_t size, idx_t average) {
    if (size > average) return;
    idx_t wanted = average - size, delta = (wanted + 2) / 5;
    min = wanted - delta;
    spread = delta == 0 ? 1 : 2 * delta;
  }
  idx_t Length(uint64_t key) const { return min + High(key, spread); }
  idx_t Max() const { return min + spread; }
};

// --- Prices: round(100 * 10^(6 x)), x uniform in [0, 1) with 24 bits, as a product of three table entries.

struct PriceTables {
  std::array<double, 256> high, middle, low;
  PriceTables() {
    for (int i = 0; i < 256; i++) {
      high[i] = 100 * std::pow(10.0, 6.0 * i / 256);
      middle[i] = std::pow(10.0, 6.0 * i / 65536);
      low[i] = std::pow(10.0, 6.0 * i / 16777216);
    }
  }
};
const PriceTables kPrices;

inline int64_t Price(uint64_t r) {
  return int64_t(kPrices.high[r >> 56] * kPrices.middle[(r >> 48) & 255] * kPrices.low[(r >> 40) & 255] + 0.5);
}

// --- Texts that repeat, in static memory.

constexpr const char* kCities[] = {"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland",
                                   "Bend",    "Redmond",     "Seattle",       "Kent",  "Cheyenne"};
constexpr const char* kStates[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
constexpr const char* kFirstNames[] = {"Peter", "Paul",  "Luke",  "John",   "Saul",  "Vicky",
                                       "Kate",  "Julie", "Sarah", "Deiter", "Walter"};
constexpr const char* kLastNames[] = {"Shultz", "Abrams", "Spencer", "White", "Bartels",
                                      "Walton", "Smith",  "Jones",   "Noris"};
constexpr const char* kHotChannels[] = {"Google", "Facebook", "Baidu", "Apple"};
constexpr uint64_t kChannels = 10'000;

/// string_t values of texts that live as long as the process.
class Pool {
 public:
  explicit Pool(std::vector<std::string> texts) : texts_(std::move(texts)) {
    for (auto& t : texts_) values_.emplace_back(t.data(), uint32_t(t.size()));
  }
  string_t operator[](idx_t i) const { return values_[i]; }
  idx_t size() const { return values_.size(); }

 private:
  std::vector<std::string> texts_;
  std::vector<string_t> values_;
};

std::string BaseUrl(uint64_t seed) {
  std::string url = "https://www.nexmark.com/";
  uint64_t key = Mix(seed * kSlots * kGolden + kGolden);
  for (int i = 0; i < 3; i++) {
    char word[8 + kSlack];
    uint64_t k = At(key, i);
    idx_t length = TextLength(k, 5);
    WriteWords(Mix(k), word, length, '_');
    url.append(word, length).append("/");
  }
  return url + "item.htm?query=1";
}

/// The four hot channels first, then channel-0 .. channel-9999, of which nine in ten carry a channel_id in their URL.
struct Channels {
  Pool names, urls;
  Channels() : names(MakeNames()), urls(MakeUrls()) {}
  static std::vector<std::string> MakeNames() {
    std::vector<std::string> names(std::begin(kHotChannels), std::end(kHotChannels));
    for (uint64_t i = 0; i < kChannels; i++) names.push_back("channel-" + std::to_string(i));
    return names;
  }
  static std::vector<std::string> MakeUrls() {
    std::vector<std::string> urls;
    for (uint64_t i = 0; i < std::size(kHotChannels); i++) urls.push_back(BaseUrl(kChannels + i));
    for (uint64_t i = 0; i < kChannels; i++) {
      auto url = BaseUrl(i);
      if (Low(Mix(i + 1), 10) > 0) {
        uint32_t reversed = 0;
        for (int bit = 0; bit < 32; bit++) reversed |= ((i >> bit) & 1) << (31 - bit);
        url += "&channel_id=" + std::to_string(std::abs(int64_t(int32_t(reversed))));
      }
      urls.push_back(std::move(url));
    }
    return urls;
  }
};
const Channels& AllChannels() {
  static const auto* channels = new Channels();
  return *channels;
}

struct People {
  Pool names, cities, states;
  People()
      : names(MakeNames()),
        cities({std::begin(kCities), std::end(kCities)}),
        states({std::begin(kStates), std::end(kStates)}) {}
  static std::vector<std::string> MakeNames() {
    std::vector<std::string> names;
    for (auto first : kFirstNames)
      for (auto last : kLastNames) names.push_back(std::string(first) + " " + last);
    return names;
  }
  string_t Name(uint64_t base) const { return names[Low(At(base, kName), names.size())]; }
  string_t City(uint64_t base) const { return cities[Low(At(base, kCity), cities.size())]; }
  string_t State(uint64_t base) const { return states[Low(At(base, kState), states.size())]; }
};
const People& AllPeople() {
  static const auto* people = new People();
  return *people;
}

constexpr idx_t kMaxEmail = 6 + 1 + 4 + 4, kCreditCardSize = 19, kItemNameMax = 20, kDescriptionMax = 100;

inline idx_t EmailLength(uint64_t base) {
  return TextLength(At(base, kEmailUser), 7) + 1 + TextLength(At(base, kEmailHost), 5) + 4;
}
inline idx_t WriteEmail(uint64_t base, char* out) {
  idx_t n = WriteText(At(base, kEmailUser), 7, out);
  out[n++] = '@';
  n += WriteText(At(base, kEmailHost), 5, out + n);
  std::memcpy(out + n, ".com", 4);
  return n + 4;
}
inline void WriteCreditCard(uint64_t base, char* out) {
  uint64_t r = At(base, kCreditCard);
  for (int i = 0; i < 4; i++) {
    auto digits = uint32_t(((r >> (16 * i)) & 0xFFFF) * 10000 >> 16);
    for (int d = 3; d >= 0; d--, digits /= 10) out[i * 5 + d] = char('0' + digits % 10);
    if (i < 3) out[i * 5 + 4] = ' ';
  }
}

// --- Columns.

/// A block of texts that a vector keeps alive.
class Heap {
 public:
  Heap(Vector& vector, idx_t bytes) {
    auto buffer = duckdb::make_buffer<duckdb::VectorBuffer>(bytes + kSlack);
    at_ = reinterpret_cast<char*>(buffer->GetData());
    duckdb::StringVector::AddBuffer(vector, std::move(buffer));
  }
  char* at() { return at_; }
  string_t Take(idx_t length) {
    string_t s(at_, uint32_t(length));
    at_ += length;
    return s;
  }

 private:
  char* at_;
};

/// What a column loop knows of its rows.
struct Rows {
  idx_t count;
  uint64_t event[STANDARD_VECTOR_SIZE];
  uint64_t base[STANDARD_VECTOR_SIZE];  ///< position of the event's first slot
};

/// The newest person or auction (counted from 0) when an event of epoch `event / 50` is made.
inline uint64_t LastPerson(uint64_t event) { return event / kProportions; }
inline uint64_t LastAuctionOfBid(uint64_t event) { return event / kProportions * kAuctionsOf50 + kAuctionsOf50 - 1; }
/// Ids may run ahead of what exists by so many.
constexpr uint64_t kPersonIdLead = 10, kAuctionIdLead = 10;
/// One id in so many is hot.
constexpr uint64_t kHotGroup = 100;

inline uint64_t AnyPerson(uint64_t event, uint64_t r, uint64_t active_people) {
  uint64_t people = LastPerson(event) + 1;
  uint64_t active = std::min(people, active_people);
  return people - active + High(r, active + kPersonIdLead);
}

}  // namespace

Schema TableSchema(Table table) {
  auto id = LogicalType::BIGINT, text = LogicalType::VARCHAR, time = LogicalType::TIMESTAMP;
  Schema s;
  auto add = [&](const char* name, const LogicalType& type) { s.columns.push_back({name, type, true, 0}); };
  switch (table) {
    case Table::kPerson:
      add("id", id), add("name", text), add("email_address", text), add("credit_card", text), add("city", text);
      add("state", text), add("date_time", time), add("extra", text);
      break;
    case Table::kAuction:
      add("id", id), add("item_name", text), add("description", text), add("initial_bid", id), add("reserve", id);
      add("date_time", time), add("expires", time), add("seller", id), add("category", id), add("extra", text);
      break;
    case Table::kBid:
      add("auction", id), add("bidder", id), add("price", id), add("channel", text), add("url", text);
      add("date_time", time), add("extra", text);
      break;
  }
  return s;
}

uint64_t RowsBefore(Table table, uint64_t event) {
  uint64_t epoch = event / kProportions, rest = event % kProportions;
  switch (table) {
    case Table::kPerson:
      return epoch * kPersonsOf50 + std::min(rest, kPersonsOf50);
    case Table::kAuction:
      return epoch * kAuctionsOf50 + (rest <= kPersonsOf50 ? 0 : std::min(rest - kPersonsOf50, kAuctionsOf50));
    case Table::kBid: {
      constexpr uint64_t before = kPersonsOf50 + kAuctionsOf50;
      return epoch * kBidsOf50 + (rest <= before ? 0 : rest - before);
    }
  }
  return 0;
}

Generator::Generator(const Options& options)
    : options_(options), types_(TableSchema(options.table).GetTypes()), seed_(Mix(options.seed + kGolden)) {}

int64_t Generator::TimeMs(uint64_t event) const {
  return options_.base_time_ms + int64_t(event * 1000 / options_.event_rate);
}

std::unique_ptr<DataChunk> Generator::Make(uint64_t first_row, idx_t count, const std::vector<bool>& wanted) const {
  TW_CHECK(count > 0 && count <= STANDARD_VECTOR_SIZE, "{}", count);
  TW_CHECK_EQ(wanted.size(), types_.size());
  auto chunk = std::make_unique<DataChunk>();
  duckdb::vector<bool> allocate(wanted.begin(), wanted.end());
  chunk->Initialize(duckdb::Allocator::DefaultAllocator(), types_, allocate);
  for (idx_t i = 0; i < types_.size(); i++)
    if (!wanted[i]) chunk->data[i].Reference(duckdb::Value(types_[i]));
  chunk->SetCardinality(count);

  const Options& o = options_;
  uint64_t of50 = o.table == Table::kPerson ? kPersonsOf50 : o.table == Table::kAuction ? kAuctionsOf50 : kBidsOf50;
  uint64_t offset = o.table == Table::kPerson    ? 0
                    : o.table == Table::kAuction ? kPersonsOf50
                                                 : kPersonsOf50 + kAuctionsOf50;
  Rows rows;
  rows.count = count;
  uint64_t epoch = first_row / of50, in_epoch = first_row % of50;
  for (idx_t i = 0; i < count; i++) {
    uint64_t event = epoch * kProportions + offset + in_epoch;
    rows.event[i] = event;
    rows.base[i] = seed_ + event * (kSlots * kGolden);
    if (++in_epoch == of50) in_epoch = 0, epoch++;
  }

  // Each column is one loop over the rows; `f` gives the value of row i.
  auto fill = [&]<class T>(idx_t column, T*, auto&& f) {
    if (!wanted[column]) return;
    T* out = FlatVector::GetData<T>(chunk->data[column]);
    for (idx_t i = 0; i < count; i++) out[i] = f(rows.event[i], rows.base[i]);
  };
  auto integers = [&](idx_t column, auto&& f) { fill(column, static_cast<int64_t*>(nullptr), f); };
  auto pooled = [&](idx_t column, auto&& f) { fill(column, static_cast<string_t*>(nullptr), f); };
  /// `f` writes at most `max` bytes and returns how many.
  auto texts = [&](idx_t column, idx_t max, auto&& f) {
    if (!wanted[column]) return;
    Heap heap(chunk->data[column], max * count);
    fill(column, static_cast<string_t*>(nullptr),
         [&](uint64_t event, uint64_t base) { return heap.Take(f(event, base, heap.at())); });
  };
  auto time = [&](idx_t column) { integers(column, [&](uint64_t event, uint64_t) { return TimeMs(event) * 1000; }); };

  switch (o.table) {
    case Table::kBid: {
      integers(0, [&](uint64_t event, uint64_t base) {
        uint64_t r = At(base, kBidAuction), last = LastAuctionOfBid(event), id;
        if (Low(r, o.hot_auction_ratio) > 0) {
          id = last / kHotGroup * kHotGroup;
        } else {
          uint64_t oldest = last < o.in_flight_auctions ? 0 : last - o.in_flight_auctions;
          id = oldest + High(r, last - oldest + 1 + kAuctionIdLead);
        }
        return int64_t(id) + kFirstAuctionId;
      });
      integers(1, [&](uint64_t event, uint64_t base) {
        uint64_t r = At(base, kBidBidder);
        // The second of a group, so that hot bidders are not the hot sellers.
        uint64_t id = Low(r, o.hot_bidder_ratio) > 0 ? LastPerson(event) / kHotGroup * kHotGroup + 1
                                                     : AnyPerson(event, r, o.active_people);
        return int64_t(id) + kFirstPersonId;
      });
      integers(2, [&](uint64_t, uint64_t base) { return Price(At(base, kBidPrice)); });
      auto& channels = AllChannels();
      auto channel = [&](uint64_t base) -> idx_t {
        uint64_t r = At(base, kBidChannel);
        return Low(r, o.hot_channel_ratio) > 0 ? High(r, std::size(kHotChannels))
                                               : std::size(kHotChannels) + High(r, kChannels);
      };
      pooled(3, [&](uint64_t, uint64_t base) { return channels.names[channel(base)]; });
      pooled(4, [&](uint64_t, uint64_t base) { return channels.urls[channel(base)]; });
      time(5);
      Padding padding(4 * 8, o.avg_bid_bytes);
      texts(6, padding.Max(), [&](uint64_t, uint64_t base, char* out) {
        uint64_t key = At(base, kBidExtra);
        idx_t length = padding.Length(key);
        WriteLetters(key, out, length);
        return length;
      });
      break;
    }
    case Table::kAuction: {
      // The auctions of an epoch are its events 1, 2 and 3.
      integers(0, [&](uint64_t event, uint64_t) {
        return int64_t(event / kProportions * kAuctionsOf50 + event % kProportions - kPersonsOf50) + kFirstAuctionId;
      });
      texts(1, kItemNameMax,
            [&](uint64_t, uint64_t base, char* out) { return WriteText(At(base, kItemName), kItemNameMax, out); });
      texts(2, kDescriptionMax, [&](uint64_t, uint64_t base, char* out) {
        return WriteText(At(base, kDescription), kDescriptionMax, out);
      });
      integers(3, [&](uint64_t, uint64_t base) { return Price(At(base, kInitialBid)); });
      integers(4, [&](uint64_t, uint64_t base) { return Price(At(base, kInitialBid)) + Price(At(base, kReserve)); });
      time(5);
      integers(6, [&](uint64_t event, uint64_t base) {
        // Long enough that about in_flight_auctions are open at any time.
        int64_t now = TimeMs(event);
        int64_t horizon = TimeMs(event + o.in_flight_auctions * kProportions / kAuctionsOf50) - now;
        uint64_t range = std::max<uint64_t>(uint64_t(horizon) * 2, 1);
        uint64_t length = 1 + uint64_t(__uint128_t(At(base, kExpires)) * range >> 64);
        return (now + int64_t(length)) * 1000;
      });
      integers(7, [&](uint64_t event, uint64_t base) {
        uint64_t r = At(base, kSeller);
        uint64_t id = Low(r, o.hot_seller_ratio) > 0 ? LastPerson(event) / kHotGroup * kHotGroup
                                                     : AnyPerson(event, r, o.active_people);
        return int64_t(id) + kFirstPersonId;
      });
      integers(8, [&](uint64_t, uint64_t base) {
        return kFirstCategoryId + int64_t(Low(At(base, kCategory), kCategories));
      });
      texts(9, Padding(6 * 8, o.avg_auction_bytes).Max(), [&](uint64_t, uint64_t base, char* out) {
        idx_t size =
            6 * 8 + TextLength(At(base, kItemName), kItemNameMax) + TextLength(At(base, kDescription), kDescriptionMax);
        uint64_t key = At(base, kAuctionExtra);
        idx_t length = Padding(size, o.avg_auction_bytes).Length(key);
        WriteLetters(key, out, length);
        return length;
      });
      break;
    }
    case Table::kPerson: {
      auto& people = AllPeople();
      integers(0, [&](uint64_t event, uint64_t) { return int64_t(LastPerson(event)) + kFirstPersonId; });
      pooled(1, [&](uint64_t, uint64_t base) { return people.Name(base); });
      texts(2, kMaxEmail, [&](uint64_t, uint64_t base, char* out) { return WriteEmail(base, out); });
      texts(3, kCreditCardSize, [&](uint64_t, uint64_t base, char* out) {
        WriteCreditCard(base, out);
        return kCreditCardSize;
      });
      pooled(4, [&](uint64_t, uint64_t base) { return people.City(base); });
      pooled(5, [&](uint64_t, uint64_t base) { return people.State(base); });
      time(6);
      texts(7, Padding(8, o.avg_person_bytes).Max(), [&](uint64_t, uint64_t base, char* out) {
        idx_t size = 8 + people.Name(base).GetSize() + EmailLength(base) + kCreditCardSize +
                     people.City(base).GetSize() + people.State(base).GetSize();
        uint64_t key = At(base, kPersonExtra);
        idx_t length = Padding(size, o.avg_person_bytes).Length(key);
        WriteLetters(key, out, length);
        return length;
      });
      break;
    }
  }
  return chunk;
}

}  // namespace tidewater::nexmark
