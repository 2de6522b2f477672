// links: state
// Objects of the state log. Checksums are made right first, or nothing behind them would be reached.
#include "tidewater/state/segment.h"
#include <cstring>
#include <xxhash.h>

using namespace tidewater::state;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size >= kSegmentHeaderBytes) {
    uint64_t index_bytes, object_bytes = size;
    std::memcpy(bytes.data() + 48, &object_bytes, 8);
    std::memcpy(&index_bytes, bytes.data() + 56, 8);
    if (index_bytes <= size - kSegmentHeaderBytes) {
      uint64_t hash = XXH64(bytes.data(), kSegmentHeaderBytes - 8, 0);
      hash = XXH64(bytes.data() + kSegmentHeaderBytes, index_bytes, hash);
      std::memcpy(bytes.data() + kSegmentHeaderBytes - 8, &hash, 8);
    }
  }
  (void)IsIncomplete(bytes, size);
  SegmentHeader header;
  std::vector<IndexEntry> entries;
  if (!ParseHead(bytes, size, "x", header, entries)) return 0;
  for (auto& e : entries) {
    std::string_view stored = std::string_view(bytes).substr(e.offset, e.stored_bytes);
    e.hash = XXH64(stored.data(), stored.size(), 0);
    (void)DecodePayload(e, stored, "x");
  }
  return 0;
}
