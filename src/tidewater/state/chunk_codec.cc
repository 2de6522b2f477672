#include "tidewater/state/chunk_codec.h"
#include <algorithm>
#include <cstring>
#include "tidewater/base/check.h"
#include "duckdb/common/vector_operations/vector_operations.hpp"

// A chunk is: rows (u32), columns (u16), then each column. A column is a validity mask and values:
//   mask    u8 0: no NULLs; u8 1: ceil(rows / 8) bytes, bit i of byte i / 8 is set where row i is valid
//   fixed   rows values of the type's width; zero where NULL
//   string  rows lengths (u32, 0 where NULL), then the bytes of all
//   struct  each child as a column of as many rows (union, variant: their struct)
//   list    rows lengths (u32, 0 where NULL), then the child as a column of as many rows as the lengths add up to (map
//   too) array   the child as a column of rows * array size rows
// Every row of every type takes at least one byte, so the bytes at hand bound what a decoder allocates.

namespace tidewater::state {
namespace {
using duckdb::ArrayType;
using duckdb::ArrayVector;
using duckdb::FlatVector;
using duckdb::idx_t;
using duckdb::ListType;
using duckdb::ListVector;
using duckdb::LogicalTypeId;
using duckdb::PhysicalType;
using duckdb::string_t;
using duckdb::StringVector;
using duckdb::StructVector;
using duckdb::UnifiedVectorFormat;
using duckdb::ValidityMask;
using duckdb::Vector;

bool IsNested(PhysicalType type) {
  return type == PhysicalType::STRUCT || type == PhysicalType::LIST || type == PhysicalType::ARRAY;
}

/// Room for n bytes at the end of `s`, not initialized.
char* Grow(std::string& s, size_t n) {
  size_t old = s.size();
  s.resize_and_overwrite(old + n, [&](char*, size_t) { return old + n; });
  return s.data() + old;
}

bool RowValid(const UnifiedVectorFormat& f, idx_t i) { return f.validity.RowIsValid(f.sel->get_index(i)); }

/// Whether row i lies at position i.
bool IsFlat(const UnifiedVectorFormat& f) { return !f.sel->IsSet(); }

/// Writes the mask; returns whether there are NULLs.
bool PutValidity(const UnifiedVectorFormat& f, idx_t rows, ByteWriter& out) {
  bool nulls = false;
  if (!f.validity.AllValid())
    for (idx_t i = 0; i < rows && !nulls; i++) nulls = !RowValid(f, i);
  out.Put<uint8_t>(nulls);
  if (!nulls) return false;
  size_t bytes = (rows + 7) / 8;
  auto* mask = reinterpret_cast<uint8_t*>(Grow(out.bytes, bytes));
  if (IsFlat(f)) {
    std::memcpy(mask, f.validity.GetData(), bytes);
    if (rows % 8) mask[bytes - 1] &= uint8_t((1u << (rows % 8)) - 1);
  } else {
    std::memset(mask, 0, bytes);
    for (idx_t i = 0; i < rows; i++) mask[i / 8] |= uint8_t(RowValid(f, i) << (i % 8));
  }
  return true;
}

template <class T>
void GatherFixed(const UnifiedVectorFormat& f, idx_t rows, char* out) {
  auto* data = reinterpret_cast<const T*>(f.data);
  for (idx_t i = 0; i < rows; i++) std::memcpy(out + i * sizeof(T), data + f.sel->get_index(i), sizeof(T));
}

void PutFixed(const UnifiedVectorFormat& f, idx_t rows, size_t width, bool nulls, ByteWriter& out) {
  char* to = Grow(out.bytes, rows * width);
  if (rows == 0) return;
  if (IsFlat(f)) {
    std::memcpy(to, f.data, rows * width);
  } else {
    switch (width) {
      case 1:
        GatherFixed<uint8_t>(f, rows, to);
        break;
      case 2:
        GatherFixed<uint16_t>(f, rows, to);
        break;
      case 4:
        GatherFixed<uint32_t>(f, rows, to);
        break;
      case 8:
        GatherFixed<uint64_t>(f, rows, to);
        break;
      case 16:
        GatherFixed<duckdb::uhugeint_t>(f, rows, to);
        break;
      default:
        TW_CHECK(false, "width {}", width);
    }
  }
  // What lies under a NULL is anything: not into files.
  if (nulls)
    for (idx_t i = 0; i < rows; i++)
      if (!RowValid(f, i)) std::memset(to + i * width, 0, width);
}

void PutStrings(const UnifiedVectorFormat& f, idx_t rows, bool nulls, ByteWriter& out) {
  auto* data = reinterpret_cast<const string_t*>(f.data);
  size_t lengths_at = out.bytes.size();
  size_t total = 0;
  Grow(out.bytes, rows * 4);
  for (idx_t i = 0; i < rows; i++) {
    idx_t at = f.sel->get_index(i);
    uint32_t n = nulls && !f.validity.RowIsValid(at) ? 0 : data[at].GetSize();
    std::memcpy(out.bytes.data() + lengths_at + i * 4, &n, 4);
    total += n;
  }
  char* to = Grow(out.bytes, total);
  for (idx_t i = 0; i < rows; i++) {
    idx_t at = f.sel->get_index(i);
    if (nulls && !f.validity.RowIsValid(at)) continue;
    auto n = data[at].GetSize();
    std::memcpy(to, data[at].GetData(), n);
    to += n;
  }
}

void PutColumn(Vector& v, idx_t rows, ByteWriter& out);

/// `v` and all below it is flat.
void PutNested(Vector& v, idx_t rows, ByteWriter& out) {
  auto& validity = FlatVector::Validity(v);
  switch (v.GetType().InternalType()) {
    case PhysicalType::STRUCT:
      for (auto& child : StructVector::GetEntries(v)) PutColumn(*child, rows, out);
      break;
    case PhysicalType::LIST: {
      auto* entries = FlatVector::GetData<duckdb::list_entry_t>(v);
      idx_t total = 0;
      for (idx_t i = 0; i < rows; i++) {
        idx_t n = validity.RowIsValid(i) ? entries[i].length : 0;
        if (n > 0) TW_CHECK_EQ(entries[i].offset, total);
        TW_CHECK_LE(n, idx_t{UINT32_MAX});
        out.Put<uint32_t>(uint32_t(n));
        total += n;
      }
      PutColumn(ListVector::GetEntry(v), total, out);
      break;
    }
    default:
      PutColumn(ArrayVector::GetEntry(v), rows * ArrayType::GetSize(v.GetType()), out);
  }
}

void PutColumn(Vector& v, idx_t rows, ByteWriter& out) {
  UnifiedVectorFormat f;
  v.ToUnifiedFormat(rows, f);
  bool nulls = PutValidity(f, rows, out);
  auto physical = v.GetType().InternalType();
  if (physical == PhysicalType::VARCHAR) return PutStrings(f, rows, nulls, out);
  if (IsNested(physical)) return PutNested(v, rows, out);
  PutFixed(f, rows, duckdb::GetTypeIdSize(physical), nulls, out);
}

Error Corrupt(const char* what) { return EnvError(ErrorKind::kCorrupt, "encoded rows are damaged: {}", what); }

/// The fewest bytes that a row of this type takes.
uint64_t MinBytes(const LogicalType& type) {
  uint64_t sum = 0;
  switch (type.InternalType()) {
    case PhysicalType::VARCHAR:
    case PhysicalType::LIST:
      return 4;
    case PhysicalType::STRUCT:
      for (auto& child : duckdb::StructType::GetChildTypes(type)) sum += MinBytes(child.second);
      return std::max<uint64_t>(sum, 1);
    case PhysicalType::ARRAY:
      return MinBytes(ArrayType::GetChildType(type)) * ArrayType::GetSize(type);
    default:
      return duckdb::GetTypeIdSize(type.InternalType());
  }
}

bool Fits(const ByteReader& in, uint64_t rows, const LogicalType& type) {
  return rows <= uint64_t(in.end - in.p) / MinBytes(type);
}

Status GetValidity(ByteReader& in, Vector& v, idx_t rows) {
  auto flag = in.Get<uint8_t>();
  if (!in.ok || flag > 1) return std::unexpected(Corrupt("validity"));
  if (flag == 0) return {};
  auto bytes = in.GetRaw((rows + 7) / 8);
  if (!in.ok) return std::unexpected(Corrupt("validity"));
  auto& mask = FlatVector::Validity(v);
  mask.Initialize(std::max<idx_t>(mask.Capacity(), rows));
  std::memcpy(mask.GetData(), bytes.data(), bytes.size());
  // Behind the last row everything counts as valid.
  if (rows % 8) reinterpret_cast<uint8_t*>(mask.GetData())[bytes.size() - 1] |= uint8_t(0xff << (rows % 8));
  return {};
}

Status GetStrings(ByteReader& in, Vector& v, idx_t rows) {
  auto lengths = in.GetRaw(rows * 4);
  if (!in.ok) return std::unexpected(Corrupt("string lengths"));
  auto length = [&](idx_t i) {
    uint32_t n;
    std::memcpy(&n, lengths.data() + i * 4, 4);
    return n;
  };
  uint64_t total = 0;
  for (idx_t i = 0; i < rows; i++) total += length(i);
  auto bytes = in.GetRaw(total);
  if (!in.ok) return std::unexpected(Corrupt("strings"));
  auto* data = FlatVector::GetData<string_t>(v);
  auto& validity = FlatVector::Validity(v);
  const char* from = bytes.data();
  if (total <= string_t::INLINE_LENGTH || total > UINT32_MAX / 2) {
    for (idx_t i = 0; i < rows; i++) {
      uint32_t n = length(i);
      if (!validity.RowIsValid(i) && n != 0) return std::unexpected(Corrupt("a NULL string has bytes"));
      data[i] = StringVector::AddStringOrBlob(v, from, n);
      from += n;
    }
    return {};
  }
  // One copy of all bytes; the strings point into it.
  string_t heap = StringVector::EmptyString(v, total);
  char* to = heap.GetDataWriteable();
  std::memcpy(to, from, total);
  for (idx_t i = 0; i < rows; i++) {
    uint32_t n = length(i);
    if (!validity.RowIsValid(i) && n != 0) return std::unexpected(Corrupt("a NULL string has bytes"));
    data[i] = string_t(to, n);
    to += n;
  }
  return {};
}

template <class T>
bool AllBelow(Vector& v, idx_t rows, idx_t limit) {
  auto* data = FlatVector::GetDataUnsafe<T>(v);
  auto& validity = FlatVector::Validity(v);
  for (idx_t i = 0; i < rows; i++)
    if (validity.RowIsValid(i) && data[i] >= limit) return false;
  return true;
}

/// Values whose bits DuckDB trusts.
bool ValuesValid(Vector& v, idx_t rows) {
  auto physical = v.GetType().InternalType();
  if (physical == PhysicalType::BOOL) return AllBelow<uint8_t>(v, rows, 2);
  if (v.GetType().id() != LogicalTypeId::ENUM) return true;
  idx_t size = duckdb::EnumType::GetSize(v.GetType());
  if (physical == PhysicalType::UINT8) return AllBelow<uint8_t>(v, rows, size);
  if (physical == PhysicalType::UINT16) return AllBelow<uint16_t>(v, rows, size);
  return AllBelow<uint32_t>(v, rows, size);
}

Status GetColumn(ByteReader& in, Vector& v, idx_t rows);

Status GetNested(ByteReader& in, Vector& v, idx_t rows) {
  auto& type = v.GetType();
  switch (type.InternalType()) {
    case PhysicalType::STRUCT: {
      auto& children = StructVector::GetEntries(v);
      for (auto& child : children) TW_TRY(GetColumn(in, *child, rows));
      if (type.id() == LogicalTypeId::UNION && !AllBelow<uint8_t>(*children[0], rows, children.size() - 1))
        return std::unexpected(Corrupt("union tag"));
      return {};
    }
    case PhysicalType::LIST: {
      uint64_t total = 0;
      auto* entries = FlatVector::GetData<duckdb::list_entry_t>(v);
      auto& validity = FlatVector::Validity(v);
      for (idx_t i = 0; i < rows; i++) {
        auto n = in.Get<uint32_t>();
        if (!validity.RowIsValid(i) && n != 0) return std::unexpected(Corrupt("a NULL list has elements"));
        entries[i] = {total, n};
        total += n;
      }
      if (!in.ok || !Fits(in, total, ListType::GetChildType(type))) return std::unexpected(Corrupt("list lengths"));
      ListVector::Reserve(v, total);
      ListVector::SetListSize(v, total);
      return GetColumn(in, ListVector::GetEntry(v), total);
    }
    default:
      return GetColumn(in, ArrayVector::GetEntry(v), rows * ArrayType::GetSize(type));
  }
}

Status GetColumn(ByteReader& in, Vector& v, idx_t rows) {
  if (!Fits(in, rows, v.GetType())) return std::unexpected(Corrupt("too few bytes"));
  TW_TRY(GetValidity(in, v, rows));
  auto physical = v.GetType().InternalType();
  if (physical == PhysicalType::VARCHAR) return GetStrings(in, v, rows);
  if (IsNested(physical)) return GetNested(in, v, rows);
  auto raw = in.GetRaw(rows * duckdb::GetTypeIdSize(physical));
  if (!in.ok) return std::unexpected(Corrupt("values"));
  if (!raw.empty()) std::memcpy(FlatVector::GetData(v), raw.data(), raw.size());
  if (!ValuesValid(v, rows)) return std::unexpected(Corrupt("a value out of its type's range"));
  return {};
}

Status DecodeInto(ByteReader& in, const Types& types, DataChunk& chunk) {
  auto rows = in.Get<uint32_t>();
  auto columns = in.Get<uint16_t>();
  if (!in.ok || rows > STANDARD_VECTOR_SIZE || columns != types.size()) return std::unexpected(Corrupt("chunk header"));
  uint64_t least = 0;
  for (auto& type : types) least += MinBytes(type);
  if (rows * least > uint64_t(in.end - in.p)) return std::unexpected(Corrupt("too few bytes"));
  chunk.Destroy();
  chunk.Initialize(duckdb::Allocator::DefaultAllocator(), types);
  for (auto& column : chunk.data) TW_TRY(GetColumn(in, column, rows));
  chunk.SetCardinality(rows);
  return {};
}
}  // namespace

void EncodeChunk(DataChunk& chunk, ByteWriter& out) {
  idx_t rows = chunk.size();
  TW_CHECK_LE(rows, idx_t{STANDARD_VECTOR_SIZE});
  out.Put<uint32_t>(uint32_t(rows));
  out.Put<uint16_t>(uint16_t(chunk.ColumnCount()));
  for (auto& column : chunk.data) {
    if (!IsNested(column.GetType().InternalType())) {
      PutColumn(column, rows, out);
      continue;
    }
    // A copy makes nested values flat and their lists contiguous, whatever they were.
    Vector flat(column.GetType(), std::max<idx_t>(rows, 1));
    duckdb::VectorOperations::Copy(column, flat, rows, 0, 0);
    PutColumn(flat, rows, out);
  }
}

Status DecodeChunk(ByteReader& in, const Types& types, DataChunk& chunk) {
  try {
    return DecodeInto(in, types, chunk);
  } catch (const std::exception& e) {
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "encoded rows could not be read: {}", e.what()));
  }
}

void EncodeBatch(const DeltaBatch& batch, ByteWriter& out) {
  out.Put<uint32_t>(uint32_t(batch.chunks.size()));
  for (auto& c : batch.chunks) {
    out.Put<uint8_t>(!c.all_inserts());
    EncodeChunk(*c.rows, out);
    if (c.all_inserts()) continue;
    TW_CHECK_EQ(c.weights.size(), c.size());
    out.PutRaw(c.weights.data(), c.weights.size() * sizeof(int64_t));
  }
}

Result<DeltaBatch> DecodeBatch(ByteReader& in, const Types& types) {
  DeltaBatch batch;
  batch.types = types;
  auto chunks = in.Get<uint32_t>();
  for (uint32_t i = 0; i < chunks; i++) {
    auto weighted = in.Get<uint8_t>();
    if (!in.ok || weighted > 1) return std::unexpected(Corrupt("batch header"));
    DeltaChunk c;
    c.rows = std::make_unique<DataChunk>();
    TW_TRY(DecodeChunk(in, types, *c.rows));
    if (weighted) {
      auto raw = in.GetRaw(c.size() * sizeof(int64_t));
      if (!in.ok) return std::unexpected(Corrupt("weights"));
      c.weights.resize(c.size());
      if (!raw.empty()) std::memcpy(c.weights.data(), raw.data(), raw.size());
    }
    batch.chunks.push_back(std::move(c));
  }
  if (!in.ok) return std::unexpected(Corrupt("batch header"));
  return batch;
}

void EncodeChange(const ChangeChunk& change, ByteWriter& out) {
  TW_CHECK(change.ops.empty() || change.ops.size() == change.rows->size(), "{} ops for {} rows", change.ops.size(),
           change.rows->size());
  out.Put<uint32_t>(change.table);
  EncodeChunk(*change.rows, out);
  out.Put<uint8_t>(!change.ops.empty());
  for (auto op : change.ops) out.Put<uint8_t>(uint8_t(op));
  out.Put<uint32_t>(uint32_t(change.unchanged.size()));
  for (auto [row, column] : change.unchanged) {
    out.Put<uint32_t>(row);
    out.Put<uint32_t>(column);
  }
}

Result<ChangeChunk> DecodeChange(ByteReader& in, const Types& types) {
  ChangeChunk change;
  change.table = in.Get<uint32_t>();
  change.rows = std::make_unique<DataChunk>();
  TW_TRY(DecodeChunk(in, types, *change.rows));
  idx_t rows = change.rows->size();
  auto has_ops = in.Get<uint8_t>();
  if (!in.ok || has_ops > 1) return std::unexpected(Corrupt("change header"));
  for (idx_t i = 0; has_ops && i < rows; i++) {
    auto op = in.Get<uint8_t>();
    if (!in.ok || op > uint8_t(ChangeOp::kTruncate)) return std::unexpected(Corrupt("change operation"));
    change.ops.push_back(ChangeOp(op));
  }
  auto unchanged = in.Get<uint32_t>();
  if (!in.ok || unchanged > uint64_t(in.end - in.p) / 8) return std::unexpected(Corrupt("unchanged columns"));
  for (uint32_t i = 0; i < unchanged; i++) {
    auto row = in.Get<uint32_t>();
    auto column = in.Get<uint32_t>();
    if (row >= rows || column >= types.size()) return std::unexpected(Corrupt("unchanged columns"));
    change.unchanged.emplace_back(row, column);
  }
  return change;
}

}  // namespace tidewater::state
