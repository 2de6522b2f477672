// GROUP BY and DISTINCT: one fixed-size state per group, changed in place; at the end of a step each touched group
// retracts what it said before and says what is true now.
//
// count, sum and avg take retractions back by arithmetic (sums of doubles exactly, see ExactSum). min and max run along
// when the input only appends; else an ordered multiset of the group's values gives the next one. A DISTINCT aggregate
// counts each value of a group and passes on the first and the last.
//
// A row for which a group or an argument fails is left out of all of its group. A group of which a result does not fit
// its type has an error instead of its row, as long as that is so.
#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include "duckdb/common/types/decimal.hpp"
#include "duckdb/common/types/interval.hpp"
#include "duckdb/function/create_sort_key.hpp"
#include "duckdb/planner/expression/bound_case_expression.hpp"
#include "duckdb/planner/expression/bound_constant_expression.hpp"
#include "tidewater/base/check.h"
#include "tidewater/base/exact_sum.h"
#include "tidewater/dataflow/group_table.h"
#include "tidewater/dataflow/operator.h"

namespace tidewater::dataflow {
using duckdb::idx_t;
using duckdb::PhysicalType;
using duckdb::sel_t;
using duckdb::SelectionVector;
using duckdb::string_t;
using duckdb::UnifiedVectorFormat;
using duckdb::Vector;
using state::BlockOf;
using state::PartOf;
using state::RowId;
using int128 = __int128;
using uint128 = unsigned __int128;

namespace {

/// What stands for a group outside.
enum class Said : uint64_t { kNothing = 0, kRow = 1, kError = 2 };

struct Header {
  int64_t weight;         ///< rows of the group
  uint64_t touched_step;  ///< last step that changed it
  uint64_t checkpoint;    ///< last checkpoint interval in which it became dirty
  Said said;
};
static_assert(sizeof(Header) == 32);

/// A sum of more than 128 bits: sum + wraps * 2^128.
struct SumState {
  int128 sum;
  int64_t n;
  int64_t wraps;

  void Add(int128 value) {
    if (__builtin_add_overflow(sum, value, &sum)) wraps += value < 0 ? -1 : 1;
  }
  void Add(int128 value, int64_t weight) {
    int128 product;
    if (!__builtin_mul_overflow(value, int128(weight), &product)) return Add(product);
    // value = high * 2^64 + low: the products of both fit.
    int128 high = (value >> 64) * weight, low = int128(uint64_t(value)) * weight;
    wraps += int64_t((high - int64_t(high)) >> 64);
    Add(int128(uint128(high) << 64));
    Add(low);
  }
};
static_assert(sizeof(SumState) == 32);
struct DoubleState {
  double value;  ///< of the exact sum, set at the end of a step
  int64_t n;
  uint32_t slot;  ///< of the exact sum, plus one
};
struct MinMaxState {
  uint128 order;  ///< order-preserving image of the value
  uint64_t has;
};
struct StringState {
  uint32_t slot;  ///< of the string, plus one
  uint32_t has;
};

/// Order-preserving maps of fixed-width values to unsigned 128 bits, and back.
uint128 ToOrder(const LogicalType& type, const uint8_t* p) {
  auto load = [&](auto v) {
    std::memcpy(&v, p, sizeof v);
    return v;
  };
  constexpr uint64_t kSign = uint64_t{1} << 63;
  if (type.id() == duckdb::LogicalTypeId::TIME_TZ) {
    auto time = load(duckdb::dtime_tz_t{});
    return uint128(time.sort_key()) << 64 | time.bits;
  }
  switch (type.InternalType()) {
    case PhysicalType::BOOL:
    case PhysicalType::UINT8:
      return load(uint8_t{});
    case PhysicalType::UINT16:
      return load(uint16_t{});
    case PhysicalType::UINT32:
      return load(uint32_t{});
    case PhysicalType::UINT64:
      return load(uint64_t{});
    case PhysicalType::INT8:
      return uint64_t(int64_t(load(int8_t{}))) ^ kSign;
    case PhysicalType::INT16:
      return uint64_t(int64_t(load(int16_t{}))) ^ kSign;
    case PhysicalType::INT32:
      return uint64_t(int64_t(load(int32_t{}))) ^ kSign;
    case PhysicalType::INT64:
      return uint64_t(load(int64_t{})) ^ kSign;
    case PhysicalType::INT128: {
      auto h = load(duckdb::hugeint_t{});
      return uint128(uint64_t(h.upper) ^ kSign) << 64 | h.lower;
    }
    case PhysicalType::UINT128: {
      auto h = load(duckdb::uhugeint_t{});
      return uint128(h.upper) << 64 | h.lower;
    }
    case PhysicalType::FLOAT: {
      float f = load(float{});
      if (std::isnan(f)) return ~uint32_t{0};
      if (f == 0) f = 0;
      auto u = std::bit_cast<uint32_t>(f);
      return u >> 31 ? ~u : u | 0x80000000u;
    }
    case PhysicalType::DOUBLE: {
      double f = load(double{});
      if (std::isnan(f)) return ~uint64_t{0};
      if (f == 0) f = 0;
      auto u = std::bit_cast<uint64_t>(f);
      return u >> 63 ? ~u : u | kSign;
    }
    default:
      throw duckdb::InternalException("min and max of type %s", type.ToString());
  }
}
void FromOrder(const LogicalType& type, uint128 order, uint8_t* p) {
  auto store = [&](auto v) { std::memcpy(p, &v, sizeof v); };
  constexpr uint64_t kSign = uint64_t{1} << 63;
  auto low = uint64_t(order);
  if (type.id() == duckdb::LogicalTypeId::TIME_TZ) return store(low);
  switch (type.InternalType()) {
    case PhysicalType::BOOL:
    case PhysicalType::UINT8:
      store(uint8_t(low));
      break;
    case PhysicalType::UINT16:
      store(uint16_t(low));
      break;
    case PhysicalType::UINT32:
      store(uint32_t(low));
      break;
    case PhysicalType::UINT64:
      store(low);
      break;
    case PhysicalType::INT8:
      store(int8_t(low ^ kSign));
      break;
    case PhysicalType::INT16:
      store(int16_t(low ^ kSign));
      break;
    case PhysicalType::INT32:
      store(int32_t(low ^ kSign));
      break;
    case PhysicalType::INT64:
      store(int64_t(low ^ kSign));
      break;
    case PhysicalType::INT128: {
      duckdb::hugeint_t h;
      h.upper = int64_t(uint64_t(order >> 64) ^ kSign);
      h.lower = low;
      store(h);
      break;
    }
    case PhysicalType::UINT128: {
      duckdb::uhugeint_t h;
      h.upper = uint64_t(order >> 64);
      h.lower = low;
      store(h);
      break;
    }
    case PhysicalType::FLOAT: {
      auto u = uint32_t(low);
      store(u == ~uint32_t{0} ? std::numeric_limits<float>::quiet_NaN()
                              : std::bit_cast<float>(u >> 31 ? u & 0x7fffffffu : ~u));
      break;
    }
    case PhysicalType::DOUBLE:
      store(low == ~uint64_t{0} ? std::numeric_limits<double>::quiet_NaN()
                                : std::bit_cast<double>(low >> 63 ? low & ~kSign : ~low));
      break;
    default:
      break;
  }
}

int128 ToInt128(PhysicalType type, const uint8_t* data, idx_t i) {
  switch (type) {
    case PhysicalType::BOOL:
    case PhysicalType::UINT8:
      return reinterpret_cast<const uint8_t*>(data)[i];
    case PhysicalType::INT8:
      return reinterpret_cast<const int8_t*>(data)[i];
    case PhysicalType::UINT16:
      return reinterpret_cast<const uint16_t*>(data)[i];
    case PhysicalType::INT16:
      return reinterpret_cast<const int16_t*>(data)[i];
    case PhysicalType::UINT32:
      return reinterpret_cast<const uint32_t*>(data)[i];
    case PhysicalType::INT32:
      return reinterpret_cast<const int32_t*>(data)[i];
    case PhysicalType::UINT64:
      return reinterpret_cast<const uint64_t*>(data)[i];
    case PhysicalType::INT64:
      return reinterpret_cast<const int64_t*>(data)[i];
    case PhysicalType::INT128: {
      auto h = reinterpret_cast<const duckdb::hugeint_t*>(data)[i];
      return int128(h.upper) << 64 | h.lower;
    }
    default:
      throw duckdb::InternalException("sum and avg of physical type %d", int(type));
  }
}

int128 PowerOfTen(int n) {
  int128 p = 1;
  while (n-- > 0) p *= 10;
  return p;
}

bool IsNested(PhysicalType type) {
  return type == PhysicalType::LIST || type == PhysicalType::ARRAY || type == PhysicalType::STRUCT;
}

/// Order-preserving images of values of any type, as bytes: DuckDB's sort key, then the value itself (equal intervals
/// and floats may differ in bits: the smallest of these stands for all), then the length of that.
std::vector<std::string> EncodeOrdered(Vector& values, idx_t n) {
  Vector keys(LogicalType::BLOB, std::max<idx_t>(n, 1));
  duckdb::CreateSortKeyHelpers::CreateSortKey(
      values, n, duckdb::OrderModifiers(duckdb::OrderType::ASCENDING, duckdb::OrderByNullType::NULLS_LAST), keys);
  UnifiedVectorFormat f;
  keys.ToUnifiedFormat(n, f);
  std::vector<std::string> out(n);
  for (idx_t i = 0; i < n; i++) {
    auto value = values.GetValue(i);
    if (value.IsNull()) continue;
    auto payload = state::EncodeNested(value);
    auto size = uint32_t(payload.size());
    out[i] = reinterpret_cast<const string_t*>(f.data)[f.sel->get_index(i)].GetString() + payload;
    out[i].append(reinterpret_cast<const char*>(&size), sizeof size);
  }
  return out;
}
duckdb::Value DecodeOrdered(const LogicalType& type, std::string_view bytes) {
  uint32_t size;
  TW_CHECK(bytes.size() >= sizeof size, "{} bytes", bytes.size());
  std::memcpy(&size, bytes.data() + bytes.size() - sizeof size, sizeof size);
  TW_CHECK(bytes.size() - sizeof size >= size, "{} bytes", bytes.size());
  return state::DecodeNested(type, bytes.substr(bytes.size() - sizeof size - size, size));
}

enum class Slot { kCount, kSum, kDouble, kMinMax, kString };

using OrderKey = std::pair<RowId, uint128>;
using StringKey = std::pair<RowId, std::string>;

struct Call {
  AggregateKind kind;
  Slot slot;
  uint32_t offset;  ///< in the state
  std::unique_ptr<Projector> argument;
  LogicalType argument_type;
  LogicalType type;
  std::unique_ptr<Selector> filter;
  std::unique_ptr<GroupTable> distinct;  ///< (group keys, value) -> count
  std::vector<RowId> gone;               ///< of it, whose count came to 0 in this step
  bool ordered = false;                  ///< min, max over retractable input
  bool encoded = false;                  ///< kString of a type that is not text: see EncodeOrdered
  std::map<OrderKey, int64_t> values;
  std::map<StringKey, int64_t> strings;
  std::map<uint32_t, std::vector<OrderKey>> dirty_values;  ///< by part of the group
  std::map<uint32_t, std::vector<StringKey>> dirty_strings;
};

/// About the bytes of one ordered value in the log.
constexpr uint64_t kOrderedBytes = 28;

/// The entries of the groups of a part.
template <class Map>
auto RangeOf(Map& map, uint32_t part) {
  auto bound = [&](uint32_t p) {
    auto block = uint64_t(p) << state::kPartBits;
    if (block > state::BlockOf(state::kNoRow)) return map.end();
    return map.lower_bound({state::MakeRowId(uint32_t(block), 0), {}});
  };
  return std::pair(bound(part), bound(part + 1));
}

class AggregateOp : public Operator {
 public:
  AggregateOp(ObjectId view, const PlanNode& n, duckdb::ClientContext& client, uint32_t worker)
      : Operator(view, n.id, n.kind == NodeKind::kDistinct ? "distinct" : "aggregate", n.types) {
    std::vector<const duckdb::Expression*> groups;
    if (n.kind == NodeKind::kDistinct) {
      for (uint32_t c = 0; c < n.types.size(); c++) {
        column_references_.push_back(duckdb::make_uniq<duckdb::BoundReferenceExpression>(n.types[c], c));
        groups.push_back(column_references_.back().get());
      }
    } else {
      for (auto& g : n.groups) groups.push_back(g.get());
    }
    global_ = groups.empty();
    first_row_ = global_ && worker == 0;
    for (auto* g : groups) key_types_.push_back(g->return_type);
    if (global_) key_types_.push_back(LogicalType::BOOLEAN);
    group_count_ = uint32_t(groups.size());
    group_projector_ = std::make_unique<Projector>(client, groups);
    append_only_ = n.inputs[0]->append_only;
    error_key_ = ErrorKey(*n.inputs[0]);
    for (uint32_t i = 0; i < group_count_; i++) all_groups_.push_back(i);
    uint32_t offset = sizeof(Header);
    auto place = [&](uint32_t size, uint32_t align) {
      offset = (offset + align - 1) / align * align;
      uint32_t at = offset;
      offset += size;
      return at;
    };
    for (auto& a : n.aggregates) {
      auto call = std::make_unique<Call>();
      call->kind = a.kind;
      call->type = a.type;
      const duckdb::Expression* argument = a.argument.get();
      if (argument) call->argument_type = argument->return_type;
      auto physical = a.argument ? call->argument_type.InternalType() : PhysicalType::INVALID;
      if (a.filter && a.argument && a.argument->GetExpressionClass() != duckdb::ExpressionClass::BOUND_REF) {
        // The argument of a row that the filter leaves out is not to be evaluated. NULLs are left out as well.
        auto null = duckdb::make_uniq<duckdb::BoundConstantExpression>(duckdb::Value(call->argument_type));
        filtered_arguments_.push_back(
            duckdb::make_uniq<duckdb::BoundCaseExpression>(a.filter->Copy(), a.argument->Copy(), std::move(null)));
        argument = filtered_arguments_.back().get();
      } else if (a.filter) {
        call->filter = std::make_unique<Selector>(client, std::vector<const duckdb::Expression*>{a.filter.get()});
      }
      if (argument)
        call->argument = std::make_unique<Projector>(client, std::vector<const duckdb::Expression*>{argument});
      switch (a.kind) {
        case AggregateKind::kCountStar:
        case AggregateKind::kCount:
          call->slot = Slot::kCount;
          call->offset = place(8, 8);
          break;
        case AggregateKind::kSum:
        case AggregateKind::kAvg:
          if (physical == PhysicalType::DOUBLE || physical == PhysicalType::FLOAT) {
            call->slot = Slot::kDouble;
            call->offset = place(sizeof(DoubleState), 8);
          } else {
            call->slot = Slot::kSum;
            call->offset = place(sizeof(SumState), 16);
          }
          break;
        case AggregateKind::kMin:
        case AggregateKind::kMax:
          call->ordered = !append_only_;
          call->encoded = physical == PhysicalType::INTERVAL || IsNested(physical);
          if (physical == PhysicalType::VARCHAR || call->encoded) {
            call->slot = Slot::kString;
            call->offset = place(sizeof(StringState), 8);
          } else {
            call->slot = Slot::kMinMax;
            call->offset = place(sizeof(MinMaxState), 16);
          }
          break;
      }
      // min and max do not care how often a value stands there.
      if (a.distinct && a.argument && a.kind != AggregateKind::kMin && a.kind != AggregateKind::kMax) {
        Types types = key_types_;
        types.push_back(call->argument_type);
        call->distinct = std::make_unique<GroupTable>(types, uint32_t(sizeof(int64_t)));
      }
      calls_.push_back(std::move(call));
    }
    state_size_ = (offset + 15) / 16 * 16;
    groups_ = std::make_unique<GroupTable>(key_types_, state_size_);
  }

  bool NeedsStep() const override { return first_row_; }

  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext& context) override {
    step_ = context.step;
    if (first_row_) {
      first_row_ = false;
      DataChunk keys;
      MakeGlobalKey(keys, 1);
      state::HashColumns(keys, AllKeys(), hashes_);
      RowId id;
      groups_->FindOrCreate(keys, hashes_, step_, &id);
      Touch(id);
    }
    for (auto& chunk : inputs[0]->chunks)
      EvaluateRows(chunk, *this, error_key_, context, [&](const DeltaChunk& c) { Update(c); });
    Emit(out, context);
    RemoveEmpty();
    for (auto slot : freed_strings_) free_strings_.push_back(slot);
    freed_strings_.clear();
    touched_.clear();
    old_states_.clear();
  }

  std::vector<std::string> StateNames() const override {
    std::vector<std::string> names{"groups"};
    for (size_t i = 0; i < calls_.size(); i++) {
      if (calls_[i]->distinct) names.push_back("distinct" + std::to_string(i));
      if (calls_[i]->ordered) names.push_back("ordered" + std::to_string(i));
    }
    return names;
  }

  uint32_t StateParts(const std::string& name) const override {
    // The ordered values of a group belong to the group's part.
    return name[0] == 'd' ? CallOf(name).distinct->Parts() : groups_->Parts();
  }

  bool StateChanged(const std::string& name, uint32_t part) const override {
    if (name == "groups") return groups_->Changed(part);
    auto& call = CallOf(name);
    if (name[0] == 'd') return call.distinct->Changed(part);
    return call.dirty_values.contains(part) || call.dirty_strings.contains(part);
  }

  uint64_t LiveBytes(const std::string& name, uint32_t part) const override {
    if (name == "groups") return groups_->LiveBytes(part);
    auto& call = CallOf(name);
    if (name[0] == 'd') return call.distinct->LiveBytes(part);
    return (call.values.size() + call.strings.size()) * kOrderedBytes / groups_->Parts();
  }

  uint64_t UnloggedBytes() const override {
    uint64_t n = groups_->UnloggedBytes();
    for (auto& c : calls_) {
      if (c->distinct) n += c->distinct->UnloggedBytes();
      for (auto& [part, keys] : c->dirty_values) n += keys.size() * kOrderedBytes;
      for (auto& [part, keys] : c->dirty_strings) n += keys.size() * kOrderedBytes;
    }
    return n;
  }

  bool Checkpoint(const std::string& name, uint32_t part, bool base, state::ByteWriter& out) override {
    if (name == "groups") {
      auto ids = groups_->Encode(part, base, out);
      for (auto id : ids) {
        uint8_t* s = groups_->State(id);
        out.PutRaw(s, state_size_);
        for (auto& call : calls_) {
          if (call->slot == Slot::kDouble) {
            auto& d = *reinterpret_cast<DoubleState*>(s + call->offset);
            std::vector<int64_t> words;
            if (d.slot) sums_[d.slot - 1].Write(words);
            out.Put<uint32_t>(uint32_t(words.size()));
            out.PutRaw(words.data(), words.size() * 8);
          } else if (call->slot == Slot::kString) {
            auto& t = *reinterpret_cast<StringState*>(s + call->offset);
            out.PutString(t.slot ? std::string_view(strings_[t.slot - 1]) : std::string_view());
          }
        }
      }
      checkpoint_++;
      return false;
    }
    auto& call = CallOf(name);
    if (name[0] == 'd') {
      auto ids = call.distinct->Encode(part, base, out);
      for (auto id : ids) out.PutRaw(call.distinct->State(id), 8);
      return false;
    }
    auto write = [&](auto& map, auto& dirty_parts, auto put_key) {
      auto dirty = std::exchange(dirty_parts[part], {});
      dirty_parts.erase(part);
      auto put = [&](auto& key, int64_t weight) {
        out.Put<RowId>(key.first);
        put_key(key.second);
        out.Put<int64_t>(weight);
      };
      if (base) {
        auto [begin, end] = RangeOf(map, part);
        out.Put<uint64_t>(uint64_t(std::distance(begin, end)));
        for (auto it = begin; it != end; ++it) put(it->first, it->second);
      } else {
        std::sort(dirty.begin(), dirty.end());
        dirty.erase(std::unique(dirty.begin(), dirty.end()), dirty.end());
        out.Put<uint64_t>(dirty.size());
        for (auto& key : dirty) {
          auto it = map.find(key);
          put(key, it == map.end() ? 0 : it->second);
        }
      }
    };
    if (call.slot == Slot::kString) {
      write(call.strings, call.dirty_strings, [&](const std::string& s) { out.PutString(s); });
    } else {
      write(call.values, call.dirty_values, [&](uint128 v) { out.Put<uint128>(v); });
    }
    return false;
  }

  Status Restore(const std::string& name, uint32_t part, bool base, state::ByteReader& in) override {
    auto corrupt = [] {
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "a state record of an aggregate is damaged"));
    };
    if (name == "groups") {
      if (base && part < groups_->Parts())
        groups_->ForEach(part, [&](RowId id) {
          uint8_t* s = groups_->State(id);
          for (auto& call : calls_) ReleaseExtras(*call, s);
          std::memset(s, 0, state_size_);
        });
      TW_ASSIGN(auto ids, groups_->Restore(part, in, base));
      for (auto id : ids) {
        uint8_t* s = groups_->State(id);
        for (auto& call : calls_) ReleaseExtras(*call, s);
        auto raw = in.GetRaw(state_size_);
        if (!in.ok) return corrupt();
        std::memcpy(s, raw.data(), state_size_);
        auto& header = *reinterpret_cast<Header*>(s);
        header.touched_step = 0;
        header.checkpoint = 0;
        for (auto& call : calls_) {
          if (call->slot == Slot::kDouble) {
            auto words = in.Get<uint32_t>();
            if (words > 1000) return corrupt();
            auto bytes = in.GetRaw(size_t(words) * 8);
            if (!in.ok) return corrupt();
            auto& d = *reinterpret_cast<DoubleState*>(s + call->offset);
            d.slot = 0;
            if (words) {
              std::vector<int64_t> buffer(words);
              std::memcpy(buffer.data(), bytes.data(), bytes.size());
              d.slot = NewSum();
              if (sums_[d.slot - 1].Read(buffer.data(), words) != words) return corrupt();
            }
          } else if (call->slot == Slot::kString) {
            auto& t = *reinterpret_cast<StringState*>(s + call->offset);
            auto text = in.GetString();
            if (!in.ok) return corrupt();
            t.slot = t.has ? NewString(std::string(text)) : 0;
          }
        }
      }
      return {};
    }
    auto& call = CallOf(name);
    if (name[0] == 'd') {
      TW_ASSIGN(auto ids, call.distinct->Restore(part, in, base));
      for (auto id : ids) {
        auto raw = in.GetRaw(8);
        if (!in.ok) return corrupt();
        std::memcpy(call.distinct->State(id), raw.data(), 8);
      }
      return {};
    }
    auto n = in.Get<uint64_t>();
    if (base) {
      auto drop = [&](auto& map) {
        auto [begin, end] = RangeOf(map, part);
        map.erase(begin, end);
      };
      drop(call.values);
      drop(call.strings);
    }
    for (uint64_t i = 0; i < n && in.ok; i++) {
      auto id = in.Get<RowId>();
      if (in.ok && PartOf(BlockOf(id)) != part) return corrupt();
      auto set = [&](auto& map, auto&& key) {
        auto weight = in.Get<int64_t>();
        if (!in.ok) return;
        if (weight == 0)
          map.erase({id, key});
        else
          map[{id, key}] = weight;
      };
      if (call.slot == Slot::kString)
        set(call.strings, std::string(in.GetString()));
      else
        set(call.values, in.Get<uint128>());
    }
    return in.ok ? Status{} : corrupt();
  }

  void Restored() override {
    groups_->Restored();
    for (auto& c : calls_)
      if (c->distinct) c->distinct->Restored();
    // The single row of a global aggregate came out in its first step already.
    groups_->ForEach([&](RowId) { first_row_ = false; });
  }

  void Absorb(Operator& other_base, uint32_t worker, uint32_t workers) override {
    auto& other = static_cast<AggregateOp&>(other_base);
    std::map<RowId, RowId> moved;
    AbsorbTable(*other.groups_, *groups_, key_types_, group_count_, worker, workers, [&](RowId from, RowId to) {
      moved[from] = to;
      uint8_t* s = groups_->State(to);
      std::memcpy(s, other.groups_->State(from), state_size_);
      auto& header = *reinterpret_cast<Header*>(s);
      header.touched_step = header.checkpoint = 0;
      groups_->MarkDirty(to);
      for (auto& call : calls_) {
        if (call->slot == Slot::kDouble) {
          auto& d = *reinterpret_cast<DoubleState*>(s + call->offset);
          if (d.slot) {
            auto from_slot = d.slot;
            d.slot = NewSum();
            sums_[d.slot - 1] = other.sums_[from_slot - 1];
          }
        } else if (call->slot == Slot::kString) {
          auto& t = *reinterpret_cast<StringState*>(s + call->offset);
          if (t.slot) t.slot = NewString(other.strings_[t.slot - 1]);
        }
      }
      first_row_ = false;
    });
    for (size_t i = 0; i < calls_.size(); i++) {
      auto& mine = *calls_[i];
      auto& theirs = *other.calls_[i];
      if (mine.distinct) {
        Types types = key_types_;
        types.push_back(mine.argument_type);
        AbsorbTable(*theirs.distinct, *mine.distinct, types, group_count_, worker, workers, [&](RowId from, RowId to) {
          std::memcpy(mine.distinct->State(to), theirs.distinct->State(from), 8);
          mine.distinct->MarkDirty(to);
        });
      }
      for (auto& [key, weight] : theirs.values) {
        auto it = moved.find(key.first);
        if (it == moved.end()) continue;
        mine.values[{it->second, key.second}] = weight;
        mine.dirty_values[PartOf(BlockOf(it->second))].push_back({it->second, key.second});
      }
      for (auto& [key, weight] : theirs.strings) {
        auto it = moved.find(key.first);
        if (it == moved.end()) continue;
        mine.strings[{it->second, key.second}] = weight;
        mine.dirty_strings[PartOf(BlockOf(it->second))].push_back({it->second, key.second});
      }
    }
  }

  void Publish(state::StepNumber step) override {
    groups_->Clean(step, [&](RowId from, RowId to) {
      for (auto& c : calls_) {
        if (!c->ordered) continue;
        Rename(c->values, c->dirty_values, from, to);
        Rename(c->strings, c->dirty_strings, from, to);
      }
    });
    for (auto& c : calls_)
      if (c->distinct) c->distinct->Clean(step);
  }

  uint64_t StateRows() const override { return groups_->rows(); }
  uint64_t StateBytes() const override {
    uint64_t n = groups_->Bytes() + sums_.size() * 128;
    for (auto& s : strings_) n += sizeof s + s.capacity();
    for (auto& c : calls_) {
      if (c->distinct) n += c->distinct->Bytes();
      n += c->values.size() * 80 + c->strings.size() * 112;
    }
    return n;
  }

 private:
  template <class F>
  static void AbsorbTable(GroupTable& from, GroupTable& to, const Types& types, uint32_t group_columns, uint32_t worker,
                          uint32_t workers, F&& f) {
    std::vector<RowId> ids;
    from.ForEach([&](RowId id) { ids.push_back(id); });
    std::vector<uint32_t> all(types.size()), groups(std::max<uint32_t>(group_columns, 1));
    for (uint32_t i = 0; i < all.size(); i++) all[i] = i;
    for (uint32_t i = 0; i < groups.size(); i++) groups[i] = i;
    std::vector<uint64_t> group_hashes, hashes;
    for (size_t at = 0; at < ids.size(); at += STANDARD_VECTOR_SIZE) {
      auto n = uint32_t(std::min<size_t>(STANDARD_VECTOR_SIZE, ids.size() - at));
      DataChunk keys;
      keys.Initialize(duckdb::Allocator::DefaultAllocator(), types);
      for (uint32_t c = 0; c < types.size(); c++) from.Gather(c, ids.data() + at, n, keys.data[c]);
      keys.SetCardinality(n);
      state::HashColumns(keys, groups, group_hashes);
      SelectionVector sel(n);
      std::vector<RowId> kept;
      for (uint32_t i = 0; i < n; i++) {
        bool here = group_columns == 0 ? worker == 0 : state::WorkerOf(group_hashes[i], workers) == worker;
        if (!here) continue;
        sel.set_index(kept.size(), i);
        kept.push_back(ids[at + i]);
      }
      if (kept.empty()) continue;
      keys.Slice(sel, kept.size());
      keys.Flatten();
      state::HashColumns(keys, all, hashes);
      std::vector<RowId> made(kept.size());
      to.FindOrCreate(keys, hashes, 0, made.data());
      for (size_t i = 0; i < kept.size(); i++) f(kept[i], made[i]);
    }
  }

  const std::vector<uint32_t>& AllKeys() {
    if (all_keys_.empty())
      for (uint32_t i = 0; i < key_types_.size(); i++) all_keys_.push_back(i);
    return all_keys_;
  }
  void MakeGlobalKey(DataChunk& keys, idx_t n) {
    keys.InitializeEmpty(key_types_);
    Vector constant(duckdb::Value::BOOLEAN(true));
    keys.data[0].Reference(constant);
    keys.SetCardinality(n);
  }
  Call& CallOf(const std::string& name) const {
    return *calls_[std::stoul(name.substr(name.find_first_of("0123456789")))];
  }

  uint32_t NewSum() {
    if (!free_sums_.empty()) {
      auto slot = free_sums_.back();
      free_sums_.pop_back();
      sums_[slot - 1] = ExactSum();
      return slot;
    }
    sums_.emplace_back();
    return uint32_t(sums_.size());
  }
  uint32_t NewString(std::string s) {
    if (!free_strings_.empty()) {
      auto slot = free_strings_.back();
      free_strings_.pop_back();
      strings_[slot - 1] = std::move(s);
      return slot;
    }
    strings_.push_back(std::move(s));
    return uint32_t(strings_.size());
  }
  void ReleaseExtras(Call& call, uint8_t* s) {
    if (call.slot == Slot::kDouble) {
      auto& d = *reinterpret_cast<DoubleState*>(s + call.offset);
      if (d.slot) free_sums_.push_back(d.slot);
      d.slot = 0;
    } else if (call.slot == Slot::kString) {
      auto& t = *reinterpret_cast<StringState*>(s + call.offset);
      if (t.slot) free_strings_.push_back(t.slot);
      t.slot = 0;
    }
  }

  void Touch(RowId id) {
    uint8_t* s = groups_->State(id);
    auto& header = *reinterpret_cast<Header*>(s);
    if (header.touched_step == step_) return;
    touched_.push_back(id);
    old_states_.insert(old_states_.end(), s, s + state_size_);
    header.touched_step = step_;
    if (header.checkpoint != checkpoint_) {
      header.checkpoint = checkpoint_;
      groups_->MarkDirty(id);
    }
  }

  void Update(const DeltaChunk& c) {
    DataChunk& in = *c.rows;
    auto n = uint32_t(in.size());
    // Everything that can fail for a row comes first.
    DataChunk keys;
    if (global_) {
      MakeGlobalKey(keys, n);
    } else {
      group_projector_->Run(in, keys);
    }
    std::vector<DataChunk> arguments(calls_.size());
    std::vector<SelectionVector> filters(calls_.size());
    std::vector<uint32_t> filtered(calls_.size(), n);
    for (size_t i = 0; i < calls_.size(); i++) {
      if (calls_[i]->filter) {
        filters[i].Initialize(STANDARD_VECTOR_SIZE);
        filtered[i] = calls_[i]->filter->Run(in, filters[i]);
      }
      if (calls_[i]->argument) calls_[i]->argument->Run(in, arguments[i]);
    }

    state::HashColumns(keys, AllKeys(), hashes_);
    ids_.resize(n);
    groups_->FindOrCreate(keys, hashes_, step_, ids_.data());
    pointers_.resize(n);
    const int64_t* weights = c.weights.empty() ? nullptr : c.weights.data();
    for (uint32_t i = 0; i < n; i++) {
      Touch(ids_[i]);
      pointers_[i] = groups_->State(ids_[i]);
      reinterpret_cast<Header*>(pointers_[i])->weight += weights ? weights[i] : 1;
    }
    for (size_t i = 0; i < calls_.size(); i++) {
      auto& call = *calls_[i];
      const sel_t* sel = call.filter ? filters[i].data() : nullptr;
      UpdateCall(call, keys, arguments[i], sel, filtered[i], weights);
    }
  }

  void UpdateCall(Call& call, DataChunk& keys, DataChunk& argument, const sel_t* sel, uint32_t n,
                  const int64_t* weights) {
    UnifiedVectorFormat f;
    if (call.argument) argument.data[0].ToUnifiedFormat(keys.size(), f);
    bool all_valid = !call.argument || f.validity.AllValid();
    std::vector<int64_t> effective;
    std::vector<sel_t> kept;
    if (call.distinct) {
      // Rows whose value comes for the first time, or goes for the last, keep a weight of +1 or -1.
      std::vector<sel_t> valid;
      for (uint32_t i = 0; i < n; i++) {
        uint32_t row = sel ? sel[i] : i;
        if (all_valid || f.validity.RowIsValid(f.sel->get_index(row))) valid.push_back(row);
      }
      if (valid.empty()) return;
      Types types = key_types_;
      types.push_back(call.argument_type);
      DataChunk pairs;
      pairs.InitializeEmpty(types);
      for (size_t k = 0; k < key_types_.size(); k++) pairs.data[k].Reference(keys.data[k]);
      pairs.data[key_types_.size()].Reference(argument.data[0]);
      pairs.SetCardinality(keys.size());
      SelectionVector valid_sel(valid.data());
      pairs.Slice(valid_sel, valid.size());
      pairs.Flatten();
      std::vector<uint32_t> all(types.size());
      for (uint32_t i = 0; i < all.size(); i++) all[i] = i;
      std::vector<uint64_t> hashes;
      state::HashColumns(pairs, all, hashes);
      std::vector<RowId> ids(valid.size());
      call.distinct->FindOrCreate(pairs, hashes, step_, ids.data());
      effective.assign(keys.size(), 0);
      for (size_t i = 0; i < valid.size(); i++) {
        auto& count = *reinterpret_cast<int64_t*>(call.distinct->State(ids[i]));
        int64_t before = count;
        count += weights ? weights[valid[i]] : 1;
        call.distinct->MarkDirty(ids[i]);
        if (count == 0) call.gone.push_back(ids[i]);
        int64_t change = int64_t(count > 0) - int64_t(before > 0);
        if (change == 0) continue;
        effective[valid[i]] = change;
        kept.push_back(valid[i]);
      }
      sel = kept.data();
      n = uint32_t(kept.size());
      weights = effective.data();
    }
    auto each = [&](auto&& update) {
      for (uint32_t i = 0; i < n; i++) {
        uint32_t row = sel ? sel[i] : i;
        idx_t s = call.argument ? f.sel->get_index(row) : 0;
        if (!all_valid && !f.validity.RowIsValid(s)) continue;
        update(pointers_[row] + call.offset, ids_[row], s, weights ? weights[row] : 1);
      }
    };
    switch (call.slot) {
      case Slot::kCount:
        each([](uint8_t* p, RowId, idx_t, int64_t w) { *reinterpret_cast<int64_t*>(p) += w; });
        break;
      case Slot::kSum: {
        auto physical = call.argument_type.InternalType();
        if (physical == PhysicalType::INT64) {
          auto* data = reinterpret_cast<const int64_t*>(f.data);
          each([&](uint8_t* p, RowId, idx_t s, int64_t w) {
            auto& state = *reinterpret_cast<SumState*>(p);
            state.Add(int128(data[s]) * w);
            state.n += w;
          });
        } else if (physical == PhysicalType::INT32) {
          auto* data = reinterpret_cast<const int32_t*>(f.data);
          each([&](uint8_t* p, RowId, idx_t s, int64_t w) {
            auto& state = *reinterpret_cast<SumState*>(p);
            state.Add(int128(data[s]) * w);
            state.n += w;
          });
        } else {
          each([&](uint8_t* p, RowId, idx_t s, int64_t w) {
            auto& state = *reinterpret_cast<SumState*>(p);
            state.Add(ToInt128(physical, f.data, s), w);
            state.n += w;
          });
        }
        break;
      }
      case Slot::kDouble: {
        bool single = call.argument_type.InternalType() == PhysicalType::FLOAT;
        each([&](uint8_t* p, RowId, idx_t s, int64_t w) {
          auto& state = *reinterpret_cast<DoubleState*>(p);
          if (!state.slot) state.slot = NewSum();
          sums_[state.slot - 1].Add(
              single ? double(reinterpret_cast<const float*>(f.data)[s]) : reinterpret_cast<const double*>(f.data)[s],
              w);
          state.n += w;
        });
        break;
      }
      case Slot::kMinMax: {
        auto width = duckdb::GetTypeIdSize(call.argument_type.InternalType());
        bool min = call.kind == AggregateKind::kMin;
        each([&](uint8_t* p, RowId id, idx_t s, int64_t w) {
          uint128 order = ToOrder(call.argument_type, f.data + s * width);
          if (call.ordered) {
            Count(call.values, call.dirty_values, OrderKey{id, order}, w);
          } else {
            auto& state = *reinterpret_cast<MinMaxState*>(p);
            if (!state.has || (min ? order < state.order : order > state.order)) state.order = order;
            state.has = 1;
          }
        });
        break;
      }
      case Slot::kString: {
        std::vector<std::string> encoded;
        if (call.encoded) {
          auto& values = argument.data[0];
          values.Flatten(keys.size());
          values.ToUnifiedFormat(keys.size(), f);
          encoded = EncodeOrdered(values, keys.size());
        }
        auto* data = reinterpret_cast<const string_t*>(f.data);
        bool min = call.kind == AggregateKind::kMin;
        each([&](uint8_t* p, RowId id, idx_t s, int64_t w) {
          auto value =
              call.encoded ? std::string_view(encoded[s]) : std::string_view(data[s].GetData(), data[s].GetSize());
          if (call.ordered) {
            Count(call.strings, call.dirty_strings, StringKey{id, std::string(value)}, w);
          } else {
            auto& state = *reinterpret_cast<StringState*>(p);
            bool better = !state.has || (min ? value < strings_[state.slot - 1] : value > strings_[state.slot - 1]);
            if (!better) return;
            if (state.slot) freed_strings_.push_back(state.slot);
            state.slot = NewString(std::string(value));
            state.has = 1;
          }
        });
        break;
      }
    }
  }

  template <class Map, class Key>
  static void Count(Map& map, std::map<uint32_t, std::vector<Key>>& dirty, Key key, int64_t w) {
    auto [it, fresh] = map.try_emplace(key, 0);
    it->second += w;
    if (it->second == 0) map.erase(it);
    dirty[PartOf(BlockOf(key.first))].push_back(std::move(key));
  }

  /// Gives the ordered values of a group that moved to its new id.
  template <class Map, class Key>
  static void Rename(Map& map, std::map<uint32_t, std::vector<Key>>& dirty, RowId from, RowId to) {
    for (auto it = map.lower_bound({from, {}}); it != map.end() && it->first.first == from;) {
      auto node = map.extract(it++);
      dirty[PartOf(BlockOf(from))].push_back(node.key());
      node.key().first = to;
      dirty[PartOf(BlockOf(to))].push_back(node.key());
      map.insert(std::move(node));
    }
  }

  /// Groups without rows, and distinct values that nobody has any more, go.
  void RemoveEmpty() {
    for (auto id : touched_) {
      uint8_t* s = groups_->State(id);
      if (global_ || reinterpret_cast<Header*>(s)->weight != 0) continue;
      for (auto& call : calls_) ReleaseExtras(*call, s);
      groups_->Kill(id, step_);
    }
    for (auto& call : calls_) {
      std::sort(call->gone.begin(), call->gone.end());
      call->gone.erase(std::unique(call->gone.begin(), call->gone.end()), call->gone.end());
      for (auto id : call->gone)
        if (*reinterpret_cast<int64_t*>(call->distinct->State(id)) == 0) call->distinct->Kill(id, step_);
      call->gone.clear();
    }
  }

  /// Derives what states cache: the smallest or greatest value, the rounded sum.
  void Refresh(RowId id) {
    uint8_t* s = groups_->State(id);
    for (auto& c : calls_) {
      if (c->slot == Slot::kDouble) {
        auto& d = *reinterpret_cast<DoubleState*>(s + c->offset);
        d.value = d.slot ? sums_[d.slot - 1].Value() : 0;
      } else if (c->ordered && c->slot == Slot::kMinMax) {
        auto& m = *reinterpret_cast<MinMaxState*>(s + c->offset);
        auto it =
            c->kind == AggregateKind::kMin ? c->values.lower_bound({id, 0}) : c->values.upper_bound({id, ~uint128{0}});
        if (c->kind == AggregateKind::kMax) it = it == c->values.begin() ? c->values.end() : std::prev(it);
        m.has = it != c->values.end() && it->first.first == id;
        m.order = m.has ? it->first.second : 0;
      } else if (c->ordered && c->slot == Slot::kString) {
        auto& t = *reinterpret_cast<StringState*>(s + c->offset);
        auto it = c->kind == AggregateKind::kMin ? c->strings.lower_bound({id, std::string()})
                                                 : c->strings.lower_bound({id + 1, std::string()});
        if (c->kind == AggregateKind::kMax) it = it == c->strings.begin() ? c->strings.end() : std::prev(it);
        bool has = it != c->strings.end() && it->first.first == id;
        if (has && t.has && strings_[t.slot - 1] == it->first.second) continue;
        if (t.slot) freed_strings_.push_back(t.slot);
        t.slot = has ? NewString(it->first.second) : 0;
        t.has = has;
      }
    }
  }

  /// The results of the call for some groups. Where one does not fit its type, `failures` of the group says so, unless
  /// it said something before.
  void Finalize(const Call& call, uint8_t* const* states, uint32_t n, Vector& out, std::vector<std::string>& failures) {
    auto set_null = [&](uint32_t i) { duckdb::FlatVector::SetNull(out, i, true); };
    auto out_of_range = [&](uint32_t i) {
      failures.resize(n);
      if (failures[i].empty())
        failures[i] = fmt::format("{} is out of range for type {}", call.kind == AggregateKind::kAvg ? "avg" : "sum",
                                  call.type.ToString());
      set_null(i);
    };
    auto store_int = [&](uint32_t i, int128 v) {
      switch (out.GetType().InternalType()) {
        case PhysicalType::INT128: {
          duckdb::hugeint_t h;
          h.upper = int64_t(v >> 64);
          h.lower = uint64_t(v);
          duckdb::FlatVector::GetData<duckdb::hugeint_t>(out)[i] = h;
          break;
        }
        case PhysicalType::INT64:
          if (v != int64_t(v)) return out_of_range(i);
          duckdb::FlatVector::GetData<int64_t>(out)[i] = int64_t(v);
          break;
        case PhysicalType::INT32:
          if (v != int32_t(v)) return out_of_range(i);
          duckdb::FlatVector::GetData<int32_t>(out)[i] = int32_t(v);
          break;
        case PhysicalType::INT16:
          if (v != int16_t(v)) return out_of_range(i);
          duckdb::FlatVector::GetData<int16_t>(out)[i] = int16_t(v);
          break;
        case PhysicalType::DOUBLE:
          duckdb::FlatVector::GetData<double>(out)[i] = double(v);
          break;
        default:
          out_of_range(i);
      }
    };
    auto scale_of = [](const LogicalType& t) {
      return t.id() == duckdb::LogicalTypeId::DECIMAL ? int(duckdb::DecimalType::GetScale(t)) : 0;
    };
    static const int128 kDecimalLimit = PowerOfTen(38);
    for (uint32_t i = 0; i < n; i++) {
      uint8_t* p = states[i] + call.offset;
      switch (call.slot) {
        case Slot::kCount:
          duckdb::FlatVector::GetData<int64_t>(out)[i] = *reinterpret_cast<int64_t*>(p);
          break;
        case Slot::kSum: {
          auto& s = *reinterpret_cast<SumState*>(p);
          if (s.n <= 0) {
            set_null(i);
          } else if (s.wraps != 0) {
            out_of_range(i);
          } else if (call.kind == AggregateKind::kSum) {
            if (call.type.id() == duckdb::LogicalTypeId::DECIMAL && (s.sum >= kDecimalLimit || s.sum <= -kDecimalLimit))
              out_of_range(i);
            else
              store_int(i, s.sum);
          } else if (call.type.id() == duckdb::LogicalTypeId::DECIMAL) {
            int shift = scale_of(call.type) - scale_of(call.argument_type);
            int128 up = PowerOfTen(std::max(shift, 0)), down = PowerOfTen(std::max(-shift, 0)) * s.n;
            int128 q = s.sum / down, r = s.sum % down;
            int128 high, rest = r * up;
            // Half away from zero, as PostgreSQL's numeric.
            int128 fraction = rest / down, left = rest % down;
            if (2 * (left < 0 ? -left : left) >= down) fraction += s.sum < 0 ? -1 : 1;
            if (__builtin_mul_overflow(q, up, &high))
              out_of_range(i);
            else
              store_int(i, high + fraction);
          } else {
            duckdb::FlatVector::GetData<double>(out)[i] =
                double(s.sum) / double(s.n) / double(PowerOfTen(scale_of(call.argument_type)));
          }
          break;
        }
        case Slot::kDouble: {
          auto& d = *reinterpret_cast<DoubleState*>(p);
          if (d.n <= 0) {
            set_null(i);
            break;
          }
          double v = call.kind == AggregateKind::kSum ? d.value : d.value / double(d.n);
          if (out.GetType().InternalType() == PhysicalType::FLOAT)
            duckdb::FlatVector::GetData<float>(out)[i] = float(v);
          else
            duckdb::FlatVector::GetData<double>(out)[i] = v;
          break;
        }
        case Slot::kMinMax: {
          auto& m = *reinterpret_cast<MinMaxState*>(p);
          if (!m.has)
            set_null(i);
          else
            FromOrder(out.GetType(), m.order,
                      duckdb::FlatVector::GetData(out) + i * duckdb::GetTypeIdSize(out.GetType().InternalType()));
          break;
        }
        case Slot::kString: {
          auto& t = *reinterpret_cast<StringState*>(p);
          if (!t.has)
            set_null(i);
          else if (call.encoded)
            out.SetValue(i, DecodeOrdered(call.type, strings_[t.slot - 1]));
          else
            duckdb::FlatVector::GetData<string_t>(out)[i] =
                duckdb::StringVector::AddStringOrBlob(out, strings_[t.slot - 1]);
          break;
        }
      }
    }
  }

  void Emit(DeltaBatch& out, StepContext& context) {
    for (auto id : touched_) Refresh(id);
    for (size_t at = 0; at < touched_.size(); at += STANDARD_VECTOR_SIZE) {
      auto n = uint32_t(std::min<size_t>(STANDARD_VECTOR_SIZE, touched_.size() - at));
      std::vector<uint8_t*> old_states(n), new_states(n);
      for (uint32_t i = 0; i < n; i++) {
        old_states[i] = old_states_.data() + (at + i) * state_size_;
        new_states[i] = groups_->State(touched_[at + i]);
      }
      DataChunk before, after;
      std::vector<std::string> old_failures, new_failures;
      Fill(before, touched_.data() + at, old_states.data(), n, old_failures);
      Fill(after, touched_.data() + at, new_states.data(), n, new_failures);
      SelectionVector minus(n), plus(n);
      uint32_t minus_n = 0, plus_n = 0;
      std::vector<bool> same(n, true);
      for (size_t c = group_count_; c < types.size(); c++) {
        UnifiedVectorFormat a, b;
        before.data[c].ToUnifiedFormat(n, a);
        after.data[c].ToUnifiedFormat(n, b);
        bool nested = IsNested(types[c].InternalType());
        for (uint32_t i = 0; i < n; i++)
          if (same[i])
            same[i] = nested ? state::EncodeNested(before.data[c].GetValue(i)) ==
                                   state::EncodeNested(after.data[c].GetValue(i))
                             : SameBits(types[c], a, b, i);
      }
      for (uint32_t i = 0; i < n; i++) {
        auto before_said = reinterpret_cast<Header*>(old_states[i])->said;
        auto& header = *reinterpret_cast<Header*>(new_states[i]);
        bool fails = !new_failures.empty() && !new_failures[i].empty();
        header.said = !global_ && header.weight <= 0 ? Said::kNothing : fails ? Said::kError : Said::kRow;
        if (before_said == Said::kRow && header.said == Said::kRow && same[i]) continue;
        if (before_said == Said::kRow) minus.set_index(minus_n++, i);
        if (before_said == Said::kError) context.Fail(*this, old_failures[i], before, i, all_groups_, -1);
        if (header.said == Said::kRow) plus.set_index(plus_n++, i);
        if (header.said == Said::kError) context.Fail(*this, new_failures[i], after, i, all_groups_, 1);
      }
      auto put = [&](DataChunk& rows, SelectionVector& sel, uint32_t count, int64_t weight) {
        if (count == 0) return;
        DeltaChunk c;
        c.rows = std::make_unique<DataChunk>();
        c.rows->InitializeEmpty(types);
        c.rows->Reference(rows);
        if (count < n) c.rows->Slice(sel, count);
        c.rows->SetCardinality(count);
        if (weight != 1) c.weights.assign(count, weight);
        out.chunks.push_back(std::move(c));
      };
      put(before, minus, minus_n, -1);
      put(after, plus, plus_n, 1);
    }
  }

  static bool SameBits(const LogicalType& type, const UnifiedVectorFormat& a, const UnifiedVectorFormat& b,
                       uint32_t i) {
    bool valid = a.validity.RowIsValid(a.sel->get_index(i));
    if (valid != b.validity.RowIsValid(b.sel->get_index(i))) return false;
    if (!valid) return true;
    auto physical = type.InternalType();
    auto x = a.sel->get_index(i), y = b.sel->get_index(i);
    if (physical == PhysicalType::VARCHAR)
      return reinterpret_cast<const string_t*>(a.data)[x] == reinterpret_cast<const string_t*>(b.data)[y];
    auto width = duckdb::GetTypeIdSize(physical);
    return std::memcmp(a.data + x * width, b.data + y * width, width) == 0;
  }

  void Fill(DataChunk& rows, const RowId* ids, uint8_t* const* states, uint32_t n, std::vector<std::string>& failures) {
    rows.InitializeEmpty(types);
    for (uint32_t c = 0; c < group_count_; c++) {
      Vector v(types[c]);
      groups_->Gather(c, ids, n, v);
      rows.data[c].Reference(v);
    }
    for (size_t i = 0; i < calls_.size(); i++) {
      Vector v(types[group_count_ + i]);
      Finalize(*calls_[i], states, n, v, failures);
      rows.data[group_count_ + i].Reference(v);
    }
    rows.SetCardinality(n);
  }

  std::vector<duckdb::unique_ptr<duckdb::Expression>> column_references_, filtered_arguments_;
  std::vector<uint32_t> error_key_;  ///< columns of the input that name a row in errors
  bool global_ = false;
  bool first_row_ = false;
  bool append_only_ = false;
  Types key_types_;
  uint32_t group_count_ = 0;
  std::unique_ptr<Projector> group_projector_;
  std::vector<std::unique_ptr<Call>> calls_;
  uint32_t state_size_ = 0;
  std::unique_ptr<GroupTable> groups_;
  std::deque<ExactSum> sums_;
  std::vector<uint32_t> free_sums_;
  std::deque<std::string> strings_;
  std::vector<uint32_t> free_strings_, freed_strings_;
  uint64_t checkpoint_ = 1;
  // Of the current step.
  state::StepNumber step_ = 0;
  std::vector<RowId> touched_;
  std::vector<uint8_t> old_states_;
  std::vector<uint64_t> hashes_;
  std::vector<RowId> ids_;
  std::vector<uint8_t*> pointers_;
  std::vector<uint32_t> all_keys_;
  std::vector<uint32_t> all_groups_;  ///< columns of the output
};

}  // namespace

std::unique_ptr<Operator> MakeAggregate(ObjectId view, const PlanNode& n, duckdb::ClientContext& client,
                                        uint32_t worker) {
  return std::make_unique<AggregateOp>(view, n, client, worker);
}

}  // namespace tidewater::dataflow
