// RowStore: rows in append-only columnar blocks of 2,048, the memory under every arrangement and every group table.
//
// One thread writes. Other threads read what was published, through BlockView. A column lies in one array per block (a
// DuckDB flat vector's layout), so a chunk is appended with a copy per column and a query scans a block without
// conversion. Strings of more than 12 bytes lie in the block's heap. Nested values are stored as their serialized
// bytes.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>
#include "tidewater/base/check.h"
#include "tidewater/state/chunk_codec.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::state {

constexpr uint32_t kBlockBits = 11;
constexpr uint32_t kBlockRows = 1u << kBlockBits;
static_assert(kBlockRows == STANDARD_VECTOR_SIZE);

/// The state log knows a store in parts of this many blocks (2^19 rows), so that writing a part anew stays small.
constexpr uint32_t kPartBits = 8;
inline uint32_t PartOf(uint32_t block) { return block >> kPartBits; }

/// Address of a row: block number and offset. Stable until cleaning moves the row.
using RowId = uint32_t;
constexpr RowId kNoRow = ~0u;
inline RowId MakeRowId(uint32_t block, uint32_t offset) { return block << kBlockBits | offset; }
inline uint32_t BlockOf(RowId id) { return id >> kBlockBits; }
inline uint32_t OffsetOf(RowId id) { return id & (kBlockRows - 1); }

/// Counts the steps of a circuit; births and deaths of rows are told in it.
using StepNumber = uint64_t;
constexpr StepNumber kNeverStep = ~StepNumber{0};

enum class ColumnKind : uint8_t { kFixed, kString, kNested };

struct ColumnLayout {
  LogicalType type;
  duckdb::PhysicalType physical;
  ColumnKind kind;
  uint32_t width;  ///< bytes per value in the column's array
};

struct RowLayout {
  std::vector<ColumnLayout> columns;
  RowLayout() = default;
  explicit RowLayout(const Types& types);
  Types GetTypes() const;
};

/// One block. `count` rows are written; readers see the first `published` of them.
class Block {
 public:
  Block(const RowLayout& layout, uint32_t capacity);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  template <class T>
  T* Column(uint32_t c) const {
    return reinterpret_cast<T*>(columns_[c]);
  }
  uint8_t* ColumnData(uint32_t c) const { return columns_[c]; }
  bool IsValid(uint32_t c, uint32_t row) const {
    auto* mask = validity_[c].load(std::memory_order_acquire);
    return !mask || (mask[row >> 6].load(std::memory_order_relaxed) >> (row & 63) & 1);
  }
  bool HasNulls(uint32_t c) const { return validity_[c].load(std::memory_order_acquire) != nullptr; }
  void SetNull(uint32_t c, uint32_t row);

  StepNumber Death(uint32_t row) const {
    auto* d = deaths_.load(std::memory_order_acquire);
    return d ? d[row].load(std::memory_order_relaxed) : kNeverStep;
  }
  bool HasDeaths() const { return deaths_.load(std::memory_order_acquire) != nullptr; }
  void SetDeath(uint32_t row, StepNumber step);
  int64_t Weight(uint32_t row) const {
    auto* w = weights_.load(std::memory_order_acquire);
    return w ? w[row] : 1;
  }
  bool HasWeights() const { return weights_.load(std::memory_order_acquire) != nullptr; }
  void SetWeight(uint32_t row, int64_t weight);

  /// Room for `size` bytes in the block's heap.
  char* AllocateString(uint32_t size);
  /// The block is full: columns and heap never change again and may leave memory (BlockMemory). Deaths, weights and
  /// chains stay.
  void Seal();

  uint64_t Bytes() const { return bytes_; }

  const uint32_t capacity;
  uint32_t count = 0;
  std::atomic<uint32_t> published{0};
  uint32_t logged = 0;  ///< rows that the state log has (or that died before it had them)
  uint32_t dead = 0;
  StepNumber before_step = 0;  ///< `before_count` is the count at the start of that step
  uint32_t before_count = 0;
  bool in_free_list = false;
  const std::unique_ptr<RowId[]> next;  ///< chain of the hash index

 private:
  uint8_t* Allocate(size_t bytes);

  const RowLayout& layout_;
  /// Full-size blocks lie in BlockMemory, the smaller ones that a store begins with on the heap.
  std::vector<std::pair<uint8_t*, size_t>> memory_;
  std::vector<uint8_t*> columns_;
  std::unique_ptr<std::atomic<std::atomic<uint64_t>*>[]> validity_;
  std::atomic<std::atomic<StepNumber>*> deaths_{nullptr};
  std::atomic<int64_t*> weights_{nullptr};
  char* heap_at_ = nullptr;
  uint32_t heap_left_ = 0;
  uint64_t bytes_ = 0;
  bool sealed_ = false;
};

/// A block as a reader sees it.
struct BlockView {
  std::shared_ptr<Block> block;
  uint32_t count = 0;
};

/// A chunk's columns made ready for comparing with stored rows: unified formats, nested columns in their stored form.
struct ProbeColumns {
  ProbeColumns(DataChunk& chunk, const RowLayout& layout);
  std::vector<duckdb::UnifiedVectorFormat> formats;
  std::vector<std::unique_ptr<duckdb::Vector>> encoded;
};

class RowStore {
 public:
  explicit RowStore(const Types& types);

  const RowLayout& layout() const { return *layout_; }
  uint64_t rows() const { return rows_; }
  uint64_t live_rows() const { return rows_ - dead_; }
  uint64_t Bytes() const;

  Block& GetBlock(uint32_t b) const { return *raw_[b]; }
  uint32_t BlockCount() const { return uint32_t(raw_.size()); }
  /// nullptr where the block number is free.
  Block* BlockOrNull(uint32_t b) const { return raw_[b]; }

  /// Appends `n` rows of `chunk` (row i is chunk row sel[i], or i when sel is null; columns in layout order). `ids`
  /// receives their addresses. `weights` may be null (all 1), else weights[i] is that of row i.
  void Append(DataChunk& chunk, const duckdb::sel_t* sel, uint32_t n, const int64_t* weights, StepNumber step,
              RowId* ids);

  /// The same for one row whose columns are prepared.
  RowId AppendOne(DataChunk& chunk, std::vector<duckdb::UnifiedVectorFormat>& formats, uint32_t row, StepNumber step);

  /// Copies column `c` of the rows `ids` into out[0..n). Strings refer to the block's heap: valid while the block
  /// lives.
  void Gather(uint32_t c, const RowId* ids, uint32_t n, duckdb::Vector& out) const;

  bool Alive(RowId id) const { return GetBlock(BlockOf(id)).Death(OffsetOf(id)) == kNeverStep; }
  /// As of before step `step`, the current one.
  bool AliveBefore(RowId id, StepNumber step) const {
    Block& b = GetBlock(BlockOf(id));
    if (b.before_step == step && OffsetOf(id) >= b.before_count) return false;
    return b.Death(OffsetOf(id)) >= step;
  }
  void Kill(RowId id, StepNumber step);

  /// Bit equality of stored row `id`, column `c`, and row `row` of a vector in unified format. NULL equals NULL.
  bool Equals(RowId id, uint32_t c, const duckdb::UnifiedVectorFormat& v, uint32_t row) const;

  /// Makes all rows visible to readers and returns nothing; called between steps by the writer.
  void Publish();
  /// Takes back what happened since the last Publish, which was after step `published`. The log of all parts must be
  /// written anew (Encode as base).
  void RollBack(StepNumber published);
  /// What readers take: by block number, the block with its published count; no block where nothing is published. Any
  /// thread, under the circuit's pin lock.
  std::vector<BlockView> Views() const;

  /// Blocks that are worth rewriting: more than half dead, not the one that is appended to. Some of them, to bound the
  /// pause.
  std::vector<uint32_t> Cleanable() const;
  /// Forgets a block (its rows are moved or dead); readers keep theirs alive. The number is used again.
  void Free(uint32_t b);

  // --- State log. A store is logged in Parts() streams, each for its own range of blocks.
  uint32_t Parts() const { return uint32_t(logs_.size()); }
  bool Changed(uint32_t part) const { return logs_[part].changed; }
  /// About the bytes of Encode as a kBase.
  uint64_t LiveBytes(uint32_t part) const;
  /// About the bytes that the next Encodes of all parts will take as kDelta.
  uint64_t UnloggedBytes() const;
  /// Rows of the part appended and deaths since the last call (kDelta), or everything alive in it (kBase), as bytes for
  /// Restore. Ends after about `max_bytes` and returns true when more follows, to be fetched as kDelta before anything
  /// changes.
  bool Encode(uint32_t part, bool base, ByteWriter& out, uint64_t max_bytes = ~uint64_t{0});
  Status Restore(uint32_t part, ByteReader& in, bool base);
  /// After the last Restore.
  void Restored();

 private:
  /// What a part's next Encode has to tell.
  struct PartLog {
    bool changed = false;
    std::vector<RowId> deaths;      ///< of rows that are logged
    std::vector<uint32_t> freed;    ///< blocks
    std::vector<uint32_t> touched;  ///< blocks with unlogged rows
  };

  Block& Tail(StepNumber step);
  /// The log of the part that the block belongs to, which changes.
  PartLog& Log(uint32_t block) {
    auto& log = logs_[PartOf(block)];
    log.changed = true;
    return log;
  }
  void AppendToBlock(Block& block, DataChunk& chunk, std::vector<duckdb::UnifiedVectorFormat>& formats,
                     const duckdb::sel_t* sel, uint32_t from, uint32_t n);
  void EncodeRows(uint32_t b, uint32_t from, uint32_t to, ByteWriter& out);

  std::shared_ptr<RowLayout> layout_;
  mutable std::mutex mutex_;  ///< guards the vectors below against Views()
  std::vector<std::shared_ptr<Block>> blocks_;
  std::vector<Block*> raw_;
  std::vector<uint32_t> free_;
  uint32_t tail_ = kNoRow;
  uint64_t rows_ = 0, dead_ = 0;
  std::vector<uint32_t> unpublished_;
  std::vector<std::shared_ptr<Block>> replaced_;  ///< kept until Publish: rows of this step may refer to their heaps
  std::vector<PartLog> logs_;                     ///< by part
};

/// Sets up a flat vector of `type` over the first rows of a block's column, for reading; `count` rows. Nested columns
/// are decoded into the vector.
void ReadColumn(const Block& block, const ColumnLayout& layout, uint32_t c, uint32_t count, duckdb::Vector& out);

/// The first `count` rows of a block as a chunk that refers to it.
void ReadBlock(const Block& block, const RowLayout& layout, uint32_t count, DataChunk& out);

/// The stored form of a nested value, and back.
std::string EncodeNested(const duckdb::Value& value);
duckdb::Value DecodeNested(const LogicalType& type, std::string_view bytes);

}  // namespace tidewater::state
