#include "tidewater/state/row_store.h"
#include <cstring>
#include "duckdb/common/serializer/binary_deserializer.hpp"
#include "duckdb/common/serializer/binary_serializer.hpp"
#include "duckdb/common/serializer/memory_stream.hpp"
#include "tidewater/base/block_memory.h"

namespace tidewater::state {
using duckdb::PhysicalType;
using duckdb::sel_t;
using duckdb::string_t;
using duckdb::UnifiedVectorFormat;
using duckdb::Vector;

namespace {
/// Bounds the pause that one cleaning makes between two steps.
constexpr size_t kBlocksPerCleaning = 16;
constexpr uint32_t kHeapChunk = 64 * 1024;

template <class F>
void DispatchWidth(uint32_t width, F&& f) {
  switch (width) {
    case 1:
      f(uint8_t{});
      break;
    case 2:
      f(uint16_t{});
      break;
    case 4:
      f(uint32_t{});
      break;
    case 8:
      f(uint64_t{});
      break;
    default:
      f(duckdb::uhugeint_t{});
      break;
  }
}
}  // namespace

std::string EncodeNested(const duckdb::Value& value) {
  duckdb::MemoryStream stream(duckdb::Allocator::DefaultAllocator());
  duckdb::BinarySerializer::Serialize(value, stream);
  return std::string(reinterpret_cast<const char*>(stream.GetData()), stream.GetPosition());
}
duckdb::Value DecodeNested(const LogicalType& type, std::string_view bytes) {
  duckdb::MemoryStream stream(duckdb::data_ptr_cast(const_cast<char*>(bytes.data())), bytes.size());
  duckdb::BinaryDeserializer d(stream);
  d.Begin();
  auto v = duckdb::Value::Deserialize(d);
  d.End();
  return v.type() == type ? v : v.DefaultCastAs(type);
}

RowLayout::RowLayout(const Types& types) {
  for (auto& t : types) {
    ColumnLayout c;
    c.type = t;
    c.physical = t.InternalType();
    switch (c.physical) {
      case PhysicalType::VARCHAR:
        c.kind = ColumnKind::kString;
        c.width = sizeof(string_t);
        break;
      case PhysicalType::LIST:
      case PhysicalType::STRUCT:
      case PhysicalType::ARRAY:
        c.kind = ColumnKind::kNested;
        c.width = sizeof(string_t);
        break;
      default:
        c.kind = ColumnKind::kFixed;
        c.width = uint32_t(duckdb::GetTypeIdSize(c.physical));
        break;
    }
    columns.push_back(std::move(c));
  }
}

Types RowLayout::GetTypes() const {
  Types t;
  for (auto& c : columns) t.push_back(c.type);
  return t;
}

Block::Block(const RowLayout& layout, uint32_t capacity)
    : capacity(capacity), next(std::make_unique_for_overwrite<RowId[]>(capacity)), layout_(layout) {
  uint64_t size = 0;
  std::vector<uint64_t> offsets;
  for (auto& c : layout.columns) {
    size = (size + 15) & ~uint64_t{15};
    offsets.push_back(size);
    size += uint64_t(capacity) * c.width;
  }
  bytes_ = capacity * sizeof(RowId);
  auto* memory = size ? Allocate(size) : nullptr;
  for (auto o : offsets) columns_.push_back(memory + o);
  validity_ = std::make_unique<std::atomic<std::atomic<uint64_t>*>[]>(layout.columns.size());
}

Block::~Block() {
  for (size_t i = 0; i < columns_.size(); i++) delete[] validity_[i].load();
  delete[] deaths_.load();
  delete[] weights_.load();
  for (auto [at, size] : memory_) {
    if (capacity == kBlockRows)
      BlockMemory::Get().Free(at, size);
    else
      delete[] at;
  }
}

uint8_t* Block::Allocate(size_t bytes) {
  auto* at = capacity == kBlockRows ? BlockMemory::Get().Allocate(bytes) : new uint8_t[bytes];
  memory_.emplace_back(at, bytes);
  bytes_ += bytes;
  return at;
}

void Block::Seal() {
  if (capacity < kBlockRows || sealed_) return;
  sealed_ = true;
  for (auto [at, size] : memory_) BlockMemory::Get().Seal(at, size);
}

void Block::SetNull(uint32_t c, uint32_t row) {
  auto* mask = validity_[c].load(std::memory_order_relaxed);
  if (!mask) {
    uint32_t words = (capacity + 63) / 64;
    mask = new std::atomic<uint64_t>[words];
    for (uint32_t i = 0; i < words; i++) mask[i].store(~uint64_t{0}, std::memory_order_relaxed);
    bytes_ += words * 8;
    validity_[c].store(mask, std::memory_order_release);
  }
  mask[row >> 6].fetch_and(~(uint64_t{1} << (row & 63)), std::memory_order_relaxed);
}

void Block::SetDeath(uint32_t row, StepNumber step) {
  auto* d = deaths_.load(std::memory_order_relaxed);
  if (!d) {
    d = new std::atomic<StepNumber>[capacity];
    for (uint32_t i = 0; i < capacity; i++) d[i].store(kNeverStep, std::memory_order_relaxed);
    bytes_ += capacity * 8;
    deaths_.store(d, std::memory_order_release);
  }
  d[row].store(step, std::memory_order_relaxed);
}

void Block::SetWeight(uint32_t row, int64_t weight) {
  auto* w = weights_.load(std::memory_order_relaxed);
  if (!w) {
    w = new int64_t[capacity];
    for (uint32_t i = 0; i < capacity; i++) w[i] = 1;
    bytes_ += capacity * 8;
    weights_.store(w, std::memory_order_release);
  }
  w[row] = weight;
}

char* Block::AllocateString(uint32_t size) {
  if (heap_left_ < size) {
    // Small blocks (the first of a store) get small heaps; large strings get their own.
    uint32_t want = std::min<uint32_t>(kHeapChunk, std::max<uint32_t>(1024, capacity * 32));
    uint32_t chunk = std::max(want, size);
    auto* at = reinterpret_cast<char*>(Allocate(chunk));
    if (chunk - size < heap_left_) return at;  // keep the fuller remainder
    heap_at_ = at;
    heap_left_ = chunk;
  }
  char* p = heap_at_;
  heap_at_ += size;
  heap_left_ -= size;
  return p;
}

ProbeColumns::ProbeColumns(DataChunk& chunk, const RowLayout& layout) : formats(layout.columns.size()) {
  for (uint32_t c = 0; c < formats.size(); c++) {
    if (layout.columns[c].kind == ColumnKind::kNested) {
      auto blob = std::make_unique<Vector>(LogicalType::BLOB, std::max<duckdb::idx_t>(chunk.size(), 1));
      for (duckdb::idx_t r = 0; r < chunk.size(); r++) {
        auto value = chunk.data[c].GetValue(r);
        if (value.IsNull()) {
          duckdb::FlatVector::SetNull(*blob, r, true);
        } else {
          duckdb::FlatVector::GetData<string_t>(*blob)[r] =
              duckdb::StringVector::AddStringOrBlob(*blob, EncodeNested(value));
        }
      }
      blob->ToUnifiedFormat(chunk.size(), formats[c]);
      encoded.push_back(std::move(blob));
    } else {
      chunk.data[c].ToUnifiedFormat(chunk.size(), formats[c]);
    }
  }
}

RowStore::RowStore(const Types& types) : layout_(std::make_shared<RowLayout>(types)) {}

uint64_t RowStore::Bytes() const {
  uint64_t n = 0;
  for (auto* b : raw_)
    if (b) n += b->Bytes();
  return n;
}

Block& RowStore::Tail(StepNumber step) {
  if (tail_ == kNoRow || raw_[tail_]->count == raw_[tail_]->capacity) {
    Block* old = tail_ == kNoRow ? nullptr : raw_[tail_];
    // The first block starts small and is replaced by a larger one as it fills: most stores hold few rows.
    bool grow = old && old->capacity < kBlockRows;
    if (!grow) {
      uint32_t capacity = raw_.empty() ? 64 : kBlockRows;
      auto* layout = layout_.get();
      std::shared_ptr<Block> block(new Block(*layout, capacity), [keep = layout_](Block* b) { delete b; });
      std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        tail_ = free_.back();
        free_.pop_back();
        blocks_[tail_] = std::move(block);
        raw_[tail_] = blocks_[tail_].get();
      } else {
        tail_ = uint32_t(blocks_.size());
        TW_CHECK(tail_ < (kNoRow >> kBlockBits) - 1, "a state part exceeds {} blocks", tail_);
        blocks_.push_back(std::move(block));
        raw_.push_back(blocks_[tail_].get());
        if (PartOf(tail_) >= logs_.size()) logs_.resize(PartOf(tail_) + 1);
      }
    } else {
      std::shared_ptr<Block> block(new Block(*layout_, std::min(kBlockRows, old->capacity * 4)),
                                   [keep = layout_](Block* b) { delete b; });
      DataChunk all;
      Types types = layout_->GetTypes();
      block->count = old->count;
      for (uint32_t c = 0; c < layout_->columns.size(); c++) {
        auto& l = layout_->columns[c];
        std::memcpy(block->ColumnData(c), old->ColumnData(c), size_t(old->count) * l.width);
        for (uint32_t r = 0; r < old->count; r++) {
          if (!old->IsValid(c, r)) {
            block->SetNull(c, r);
          } else if (l.kind != ColumnKind::kFixed) {
            auto& s = old->Column<string_t>(c)[r];
            if (!s.IsInlined()) {
              char* p = block->AllocateString(uint32_t(s.GetSize()));
              std::memcpy(p, s.GetData(), s.GetSize());
              block->Column<string_t>(c)[r] = string_t(p, uint32_t(s.GetSize()));
            }
          }
        }
      }
      std::memcpy(block->next.get(), old->next.get(), size_t(old->count) * sizeof(RowId));
      for (uint32_t r = 0; r < old->count; r++) {
        if (old->Death(r) != kNeverStep) block->SetDeath(r, old->Death(r));
        if (old->Weight(r) != 1) block->SetWeight(r, old->Weight(r));
      }
      block->published = old->published.load();
      block->logged = old->logged;
      block->dead = old->dead;
      block->before_step = old->before_step;
      block->before_count = old->before_count;
      std::lock_guard lock(mutex_);
      replaced_.push_back(blocks_[tail_]);
      blocks_[tail_] = std::move(block);
      raw_[tail_] = blocks_[tail_].get();
    }
  }
  Block& b = *raw_[tail_];
  if (b.before_step != step) {
    b.before_step = step;
    b.before_count = b.count;
  }
  return b;
}

void RowStore::AppendToBlock(Block& block, DataChunk& chunk, std::vector<UnifiedVectorFormat>& formats,
                             const sel_t* sel, uint32_t from, uint32_t n) {
  uint32_t at = block.count;
  for (uint32_t c = 0; c < layout_->columns.size(); c++) {
    auto& l = layout_->columns[c];
    auto& f = formats[c];
    auto source = [&](uint32_t i) { return f.sel->get_index(sel ? sel[from + i] : from + i); };
    if (!f.validity.AllValid())
      for (uint32_t i = 0; i < n; i++)
        if (!f.validity.RowIsValid(source(i))) block.SetNull(c, at + i);
    if (l.kind == ColumnKind::kFixed) {
      DispatchWidth(l.width, [&](auto tag) {
        using T = decltype(tag);
        auto* src = reinterpret_cast<const T*>(f.data);
        auto* dst = block.Column<T>(c) + at;
        if (!sel && !f.sel->IsSet()) {
          std::memcpy(dst, src + from, n * sizeof(T));
        } else {
          for (uint32_t i = 0; i < n; i++) dst[i] = src[source(i)];
        }
      });
    } else if (l.kind == ColumnKind::kString) {
      auto* src = reinterpret_cast<const string_t*>(f.data);
      auto* dst = block.Column<string_t>(c) + at;
      bool nulls = !f.validity.AllValid();
      for (uint32_t i = 0; i < n; i++) {
        auto s = source(i);
        if (nulls && !f.validity.RowIsValid(s)) {
          dst[i] = string_t(uint32_t(0));
          continue;
        }
        const string_t& v = src[s];
        if (v.IsInlined()) {
          dst[i] = v;
        } else {
          auto size = uint32_t(v.GetSize());
          char* p = block.AllocateString(size);
          std::memcpy(p, v.GetData(), size);
          dst[i] = string_t(p, size);
        }
      }
    } else {
      auto* dst = block.Column<string_t>(c) + at;
      for (uint32_t i = 0; i < n; i++) {
        auto row = sel ? sel[from + i] : from + i;
        auto value = chunk.data[c].GetValue(row);
        if (value.IsNull()) {
          block.SetNull(c, at + i);
          dst[i] = string_t(uint32_t(0));
          continue;
        }
        auto bytes = EncodeNested(value);
        if (bytes.size() <= string_t::INLINE_LENGTH) {
          dst[i] = string_t(bytes.data(), uint32_t(bytes.size()));
        } else {
          char* p = block.AllocateString(uint32_t(bytes.size()));
          std::memcpy(p, bytes.data(), bytes.size());
          dst[i] = string_t(p, uint32_t(bytes.size()));
        }
      }
    }
  }
  block.count = at + n;
}

void RowStore::Append(DataChunk& chunk, const sel_t* sel, uint32_t n, const int64_t* weights, StepNumber step,
                      RowId* ids) {
  if (n == 0) return;
  std::vector<UnifiedVectorFormat> formats(layout_->columns.size());
  for (uint32_t c = 0; c < formats.size(); c++) chunk.data[c].ToUnifiedFormat(chunk.size(), formats[c]);
  uint32_t done = 0;
  while (done < n) {
    Block& b = Tail(step);
    uint32_t k = std::min(n - done, b.capacity - b.count);
    uint32_t at = b.count;
    auto& log = Log(tail_);
    if (b.count == b.logged) log.touched.push_back(tail_);
    if (b.count == b.published.load(std::memory_order_relaxed)) unpublished_.push_back(tail_);
    AppendToBlock(b, chunk, formats, sel, done, k);
    for (uint32_t i = 0; i < k; i++) ids[done + i] = MakeRowId(tail_, at + i);
    if (weights)
      for (uint32_t i = 0; i < k; i++)
        if (weights[done + i] != 1) b.SetWeight(at + i, weights[done + i]);
    if (b.count == b.capacity) b.Seal();
    done += k;
  }
  rows_ += n;
}

RowId RowStore::AppendOne(DataChunk& chunk, std::vector<UnifiedVectorFormat>& formats, uint32_t row, StepNumber step) {
  Block& b = Tail(step);
  auto& log = Log(tail_);
  if (b.count == b.logged) log.touched.push_back(tail_);
  if (b.count == b.published.load(std::memory_order_relaxed)) unpublished_.push_back(tail_);
  rows_++;
  uint32_t at = b.count;
  AppendToBlock(b, chunk, formats, nullptr, row, 1);
  if (b.count == b.capacity) b.Seal();
  return MakeRowId(tail_, at);
}

void RowStore::Gather(uint32_t c, const RowId* ids, uint32_t n, Vector& out) const {
  auto& l = layout_->columns[c];
  out.SetVectorType(duckdb::VectorType::FLAT_VECTOR);
  auto& mask = duckdb::FlatVector::Validity(out);
  if (l.kind == ColumnKind::kNested) {
    for (uint32_t i = 0; i < n; i++) {
      Block& b = GetBlock(BlockOf(ids[i]));
      auto o = OffsetOf(ids[i]);
      if (!b.IsValid(c, o)) {
        duckdb::FlatVector::SetNull(out, i, true);
      } else {
        auto& s = b.Column<string_t>(c)[o];
        out.SetValue(i, DecodeNested(l.type, {s.GetData(), s.GetSize()}));
      }
    }
    return;
  }
  DispatchWidth(l.width, [&](auto tag) {
    using T = decltype(tag);
    auto* dst = reinterpret_cast<T*>(duckdb::FlatVector::GetData(out));
    for (uint32_t i = 0; i < n; i++) {
      Block& b = GetBlock(BlockOf(ids[i]));
      auto o = OffsetOf(ids[i]);
      dst[i] = b.Column<T>(c)[o];
      if (b.HasNulls(c) && !b.IsValid(c, o)) mask.SetInvalid(i);
    }
  });
}

void RowStore::Kill(RowId id, StepNumber step) {
  Block& b = GetBlock(BlockOf(id));
  auto o = OffsetOf(id);
  b.SetDeath(o, step);
  b.dead++;
  dead_++;
  auto& log = Log(BlockOf(id));
  if (o < b.logged) log.deaths.push_back(id);
}

bool RowStore::Equals(RowId id, uint32_t c, const UnifiedVectorFormat& v, uint32_t row) const {
  auto& l = layout_->columns[c];
  Block& b = GetBlock(BlockOf(id));
  auto o = OffsetOf(id);
  auto s = v.sel->get_index(row);
  bool valid = b.IsValid(c, o);
  if (valid != v.validity.RowIsValid(s)) return false;
  if (!valid) return true;
  switch (l.kind) {
    case ColumnKind::kFixed: {
      bool equal = false;
      DispatchWidth(l.width, [&](auto tag) {
        using T = decltype(tag);
        equal = std::memcmp(&b.Column<T>(c)[o], &reinterpret_cast<const T*>(v.data)[s], sizeof(T)) == 0;
      });
      return equal;
    }
    case ColumnKind::kString:
    case ColumnKind::kNested:
      return b.Column<string_t>(c)[o] == reinterpret_cast<const string_t*>(v.data)[s];
  }
  return false;
}

void RowStore::Publish() {
  for (auto b : unpublished_)
    if (raw_[b]) raw_[b]->published.store(raw_[b]->count, std::memory_order_release);
  unpublished_.clear();
  std::lock_guard lock(mutex_);
  replaced_.clear();
}

void RowStore::RollBack(StepNumber published) {
  for (auto* block : raw_) {
    if (!block) continue;
    auto& b = *block;
    auto visible = b.published.load();
    for (uint32_t r = 0; r < visible && b.HasDeaths(); r++) {
      if (b.Death(r) == kNeverStep || b.Death(r) <= published) continue;
      b.SetDeath(r, kNeverStep);
      b.dead--;
      dead_--;
    }
    for (uint32_t r = visible; r < b.count; r++) {
      if (b.Death(r) == kNeverStep) {
        b.dead++;
        dead_++;
      }
      b.SetDeath(r, published);
    }
  }
  for (auto& log : logs_) log.changed = true;
}

std::vector<BlockView> RowStore::Views() const {
  std::lock_guard lock(mutex_);
  std::vector<BlockView> views;
  views.resize(blocks_.size());
  for (size_t i = 0; i < blocks_.size(); i++) {
    uint32_t published = blocks_[i] ? blocks_[i]->published.load(std::memory_order_acquire) : 0;
    if (published > 0) views[i] = {blocks_[i], published};
  }
  return views;
}

std::vector<uint32_t> RowStore::Cleanable() const {
  std::vector<uint32_t> out;
  if (dead_ * 4 < rows_ || dead_ < kBlockRows) return out;
  for (uint32_t b = 0; b < raw_.size() && out.size() < kBlocksPerCleaning; b++)
    if (raw_[b] && b != tail_ && raw_[b]->dead * 2 >= raw_[b]->count) out.push_back(b);
  return out;
}

void RowStore::Free(uint32_t b) {
  rows_ -= raw_[b]->count;
  dead_ -= raw_[b]->dead;
  auto& log = Log(b);
  log.freed.push_back(b);
  std::erase_if(log.deaths, [&](RowId id) { return BlockOf(id) == b; });
  std::erase(log.touched, b);
  std::erase(unpublished_, b);
  std::lock_guard lock(mutex_);
  replaced_.push_back(std::move(blocks_[b]));
  raw_[b] = nullptr;
  free_.push_back(b);
}

void RowStore::EncodeRows(uint32_t b, uint32_t from, uint32_t to, ByteWriter& out) {
  Block& block = *raw_[b];
  duckdb::SelectionVector sel(kBlockRows);
  uint32_t n = 0;
  for (uint32_t r = from; r < to; r++)
    if (block.Death(r) == kNeverStep) sel.set_index(n++, r);
  out.Put<uint32_t>(b);
  out.Put<uint32_t>(from);
  out.Put<uint32_t>(to);
  out.Put<uint32_t>(n);
  if (n == 0) return;
  if (n < to - from) {
    for (uint32_t i = 0; i < n; i++) out.Put<uint16_t>(uint16_t(sel.get_index(i)));
  }
  bool weights = block.HasWeights();
  out.Put<uint8_t>(weights);
  if (weights)
    for (uint32_t i = 0; i < n; i++) out.Put<int64_t>(block.Weight(uint32_t(sel.get_index(i))));
  DataChunk chunk;
  Types types = layout_->GetTypes();
  chunk.InitializeEmpty(types);
  bool all = n == to && from == 0;
  for (uint32_t c = 0; c < types.size(); c++) {
    Vector column(types[c], nullptr);
    ReadColumn(block, layout_->columns[c], c, to, column);
    if (!all) column.Slice(sel, n);
    chunk.data[c].Reference(column);
  }
  chunk.SetCardinality(n);
  EncodeChunk(chunk, out);
}

uint64_t RowStore::LiveBytes(uint32_t part) const {
  uint64_t n = 0;
  for (uint32_t b = part << kPartBits; b < std::min((part + 1) << kPartBits, BlockCount()); b++)
    if (auto* block = raw_[b]) n += block->Bytes() * (block->count - block->dead) / block->capacity;
  return n;
}

uint64_t RowStore::UnloggedBytes() const {
  uint64_t n = 0;
  for (auto& log : logs_) {
    n += log.deaths.size() * sizeof(RowId);
    for (auto b : log.touched) n += raw_[b]->Bytes() * (raw_[b]->count - raw_[b]->logged) / raw_[b]->capacity;
  }
  return n;
}

// Layout: u32 freed blocks and their numbers; u32 deaths and their row ids; u32 segments, each: block, from, to, n
// alive [u16 offsets unless all], weights, chunk. A base says everything anew, so it has neither frees nor deaths.
bool RowStore::Encode(uint32_t part, bool base, ByteWriter& out, uint64_t max_bytes) {
  auto& log = logs_[part];
  if (base) {
    log.freed.clear();
    log.deaths.clear();
    log.touched.clear();
    for (uint32_t b = part << kPartBits; b < std::min((part + 1) << kPartBits, BlockCount()); b++) {
      if (!raw_[b]) continue;
      raw_[b]->logged = 0;
      if (raw_[b]->count > 0) log.touched.push_back(b);
    }
  }
  out.Put<uint32_t>(uint32_t(log.freed.size()));
  out.PutRaw(log.freed.data(), log.freed.size() * sizeof(uint32_t));
  out.Put<uint32_t>(uint32_t(log.deaths.size()));
  out.PutRaw(log.deaths.data(), log.deaths.size() * sizeof(RowId));
  log.freed.clear();
  log.deaths.clear();
  uint32_t n = 0;
  uint64_t bytes = out.bytes.size();
  for (; n < log.touched.size() && bytes < max_bytes; n++) {
    Block& block = *raw_[log.touched[n]];
    bytes += block.Bytes() * (block.count - block.logged) / block.capacity + 64;
  }
  out.bytes.reserve(bytes);
  out.Put<uint32_t>(n);
  for (uint32_t i = 0; i < n; i++) {
    Block& block = *raw_[log.touched[i]];
    EncodeRows(log.touched[i], block.logged, block.count, out);
    block.logged = block.count;
  }
  log.touched.erase(log.touched.begin(), log.touched.begin() + n);
  log.changed = !log.touched.empty();
  return log.changed;
}

Status RowStore::Restore(uint32_t part, ByteReader& in, bool base) {
  auto corrupt = [] {
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "a state record of a row store is damaged"));
  };
  if (part >= 1u << (21 - kPartBits)) return corrupt();
  if (part >= logs_.size()) logs_.resize(part + 1);
  auto drop = [&](uint32_t b) {
    if (b >= raw_.size() || !raw_[b]) return;
    rows_ -= raw_[b]->count;
    dead_ -= raw_[b]->dead;
    raw_[b] = nullptr;
    blocks_[b].reset();
  };
  if (base)
    for (uint32_t b = part << kPartBits; b < (part + 1) << kPartBits; b++) drop(b);
  auto frees = in.Get<uint32_t>();
  for (uint32_t i = 0; i < frees && in.ok; i++) drop(in.Get<uint32_t>());
  auto deaths = in.Get<uint32_t>();
  for (uint32_t i = 0; i < deaths && in.ok; i++) {
    auto id = in.Get<RowId>();
    if (!in.ok || BlockOf(id) >= raw_.size() || !raw_[BlockOf(id)] || OffsetOf(id) >= raw_[BlockOf(id)]->count)
      return corrupt();
    Block& block = *raw_[BlockOf(id)];
    if (block.Death(OffsetOf(id)) == kNeverStep) {
      block.SetDeath(OffsetOf(id), 0);
      block.dead++;
      dead_++;
    }
  }
  auto segments = in.Get<uint32_t>();
  Types types = layout_->GetTypes();
  for (uint32_t s = 0; s < segments && in.ok; s++) {
    auto b = in.Get<uint32_t>();
    auto from = in.Get<uint32_t>(), to = in.Get<uint32_t>(), n = in.Get<uint32_t>();
    if (!in.ok || from > to || to > kBlockRows || n > to - from || PartOf(b) != part) return corrupt();
    if (b >= raw_.size()) {
      raw_.resize(b + 1);
      blocks_.resize(b + 1);
    }
    if (!raw_[b] || raw_[b]->capacity < kBlockRows) {
      if (!raw_[b]) {
        blocks_[b] = std::shared_ptr<Block>(new Block(*layout_, kBlockRows), [keep = layout_](Block* p) { delete p; });
        raw_[b] = blocks_[b].get();
      }
    }
    Block& block = *raw_[b];
    if (block.count != from) return corrupt();
    std::vector<uint16_t> offsets(n);
    bool all = n == to - from;
    for (uint32_t i = 0; i < n; i++) offsets[i] = all ? uint16_t(from + i) : (n ? in.Get<uint16_t>() : 0);
    DataChunk chunk;
    std::vector<int64_t> weights;
    if (n > 0) {
      if (in.Get<uint8_t>())
        for (uint32_t i = 0; i < n; i++) weights.push_back(in.Get<int64_t>());
      TW_TRY(DecodeChunk(in, types, chunk));
      if (chunk.size() != n) return corrupt();
    }
    std::vector<UnifiedVectorFormat> formats(types.size());
    if (n > 0)
      for (uint32_t c = 0; c < types.size(); c++) chunk.data[c].ToUnifiedFormat(n, formats[c]);
    uint32_t next = 0;
    uint32_t r = from;
    while (r < to) {
      if (next < n && offsets[next] == r) {
        uint32_t run = 1;
        while (next + run < n && offsets[next + run] == r + run) run++;
        AppendToBlock(block, chunk, formats, nullptr, next, run);
        if (!weights.empty())
          for (uint32_t i = 0; i < run; i++)
            if (weights[next + i] != 1) block.SetWeight(r + i, weights[next + i]);
        next += run;
        r += run;
      } else {
        // A row that died before it was logged: its place is kept, its value never read.
        for (uint32_t c = 0; c < types.size(); c++) block.SetNull(c, r);
        for (uint32_t c = 0; c < types.size(); c++)
          std::memset(block.ColumnData(c) + size_t(r) * layout_->columns[c].width, 0, layout_->columns[c].width);
        block.count = r + 1;
        block.SetDeath(r, 0);
        block.dead++;
        dead_++;
        r++;
      }
    }
    if (next != n || block.count != to) return corrupt();
    if (block.count == block.capacity) block.Seal();
    rows_ += to - from;
    block.logged = block.count;
  }
  if (!in.ok) return corrupt();
  return {};
}

void RowStore::Restored() {
  // Appending goes on in the last block that is not full.
  free_.clear();
  tail_ = kNoRow;
  for (uint32_t b = 0; b < raw_.size(); b++) {
    if (!raw_[b])
      free_.push_back(b);
    else if (raw_[b]->count < raw_[b]->capacity)
      tail_ = b;
    if (raw_[b]) raw_[b]->published.store(raw_[b]->count);
  }
}

void ReadColumn(const Block& block, const ColumnLayout& l, uint32_t c, uint32_t count, Vector& out) {
  if (l.kind == ColumnKind::kNested) {
    Vector decoded(l.type, std::max<uint32_t>(count, 1));
    for (uint32_t r = 0; r < count; r++) {
      if (!block.IsValid(c, r)) {
        duckdb::FlatVector::SetNull(decoded, r, true);
      } else {
        auto& s = block.Column<string_t>(c)[r];
        decoded.SetValue(r, DecodeNested(l.type, {s.GetData(), s.GetSize()}));
      }
    }
    out.Reference(decoded);
    return;
  }
  Vector flat(l.type, block.ColumnData(c));
  if (block.HasNulls(c)) {
    auto& mask = duckdb::FlatVector::Validity(flat);
    mask.Initialize(STANDARD_VECTOR_SIZE);
    for (uint32_t r = 0; r < count; r++)
      if (!block.IsValid(c, r)) mask.SetInvalid(r);
  }
  out.Reference(flat);
}

void ReadBlock(const Block& block, const RowLayout& layout, uint32_t count, DataChunk& out) {
  out.InitializeEmpty(layout.GetTypes());
  for (uint32_t c = 0; c < layout.columns.size(); c++) {
    Vector column(layout.columns[c].type, nullptr);
    ReadColumn(block, layout.columns[c], c, count, column);
    out.data[c].Reference(column);
  }
  out.SetCardinality(count);
}

}  // namespace tidewater::state
