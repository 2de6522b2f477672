// DataChunks and DeltaBatches as bytes, for the state log, the write-ahead log and sink logs. Compression is the log's
// work.
#pragma once
#include <string>
#include <string_view>
#include "tidewater/base/result.h"
#include "tidewater/types/change.h"
#include "tidewater/types/delta_batch.h"

namespace tidewater::state {

/// Little-endian primitives over a growing string.
struct ByteWriter {
  std::string bytes;
  template <class T>
  void Put(T v) {
    bytes.append(reinterpret_cast<const char*>(&v), sizeof v);
  }
  void PutString(std::string_view s) {
    Put<uint32_t>(uint32_t(s.size()));
    bytes.append(s);
  }
  void PutRaw(const void* p, size_t n) { bytes.append(static_cast<const char*>(p), n); }
};
/// Reads what ByteWriter wrote; after a read beyond the end `ok` is false and values are zero.
struct ByteReader {
  const char* p;
  const char* end;
  bool ok = true;
  explicit ByteReader(std::string_view s) : p(s.data()), end(s.data() + s.size()) {}
  template <class T>
  T Get() {
    T v{};
    if (size_t(end - p) < sizeof v) {
      ok = false;
      return v;
    }
    __builtin_memcpy(&v, p, sizeof v);
    p += sizeof v;
    return v;
  }
  std::string_view GetRaw(size_t n) {
    if (size_t(end - p) < n) {
      ok = false;
      return {};
    }
    std::string_view s(p, n);
    p += n;
    return s;
  }
  std::string_view GetString() { return GetRaw(Get<uint32_t>()); }
  bool done() const { return p == end; }
};

/// All rows (at most STANDARD_VECTOR_SIZE) and columns of the chunk, whose vectors may be of any kind. Fixed-width
/// columns are copied as they lie; strings as lengths and bytes; nested types child by child. Types are not part of it.
/// A cell without a value must be NULL: a string under a valid bit is read.
void EncodeChunk(DataChunk& chunk, ByteWriter& out);
/// Into `chunk`, which is initialized with `types` by the call; all vectors come out flat. kCorrupt when the bytes do
/// not fit the types; memory stays within a small multiple of the bytes and one empty chunk. Text is not checked to be
/// UTF-8: callers read bytes that a checksum covers.
Status DecodeChunk(ByteReader& in, const Types& types, DataChunk& chunk);

void EncodeBatch(const DeltaBatch& batch, ByteWriter& out);
Result<DeltaBatch> DecodeBatch(ByteReader& in, const Types& types);
void EncodeChange(const ChangeChunk& change, ByteWriter& out);
Result<ChangeChunk> DecodeChange(ByteReader& in, const Types& types);

}  // namespace tidewater::state
