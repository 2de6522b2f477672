// links: state
// Whatever decodes can be encoded again and decodes to the same bytes.
#include "tidewater/state/chunk_codec.h"
#include <cstdlib>

using namespace tidewater;
using namespace tidewater::state;

static Types TypesOf(uint8_t choice) {
  auto list = LogicalType::LIST(LogicalType::VARCHAR);
  auto structure = LogicalType::STRUCT({{"a", LogicalType::INTEGER}, {"b", list}});
  switch (choice % 6) {
    case 0:
      return {LogicalType::INTEGER, LogicalType::VARCHAR};
    case 1:
      return {list, LogicalType::BOOLEAN, LogicalType::HUGEINT};
    case 2:
      return {structure, LogicalType::MAP(LogicalType::BIGINT, structure)};
    case 3:
      return {LogicalType::ARRAY(LogicalType::LIST(LogicalType::DOUBLE), 3), LogicalType::BLOB};
    case 4:
      return {LogicalType::UNION({{"n", LogicalType::SMALLINT}, {"s", LogicalType::VARCHAR}})};
    default:
      return {};
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  Types types = TypesOf(data[0]);
  std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  ByteReader in(bytes);
  if (data[1] % 3 == 0) {
    DataChunk chunk;
    if (!DecodeChunk(in, types, chunk)) return 0;
    ByteWriter once, twice;
    EncodeChunk(chunk, once);
    ByteReader again(once.bytes);
    DataChunk copy;
    if (!DecodeChunk(again, types, copy) || !again.done()) std::abort();
    EncodeChunk(copy, twice);
    if (once.bytes != twice.bytes) std::abort();
  } else if (data[1] % 3 == 1) {
    auto batch = DecodeBatch(in, types);
    if (!batch) return 0;
    ByteWriter out;
    EncodeBatch(*batch, out);
  } else {
    auto change = DecodeChange(in, types);
    if (!change) return 0;
    ByteWriter out;
    EncodeChange(*change, out);
  }
  return 0;
}
