// links: state
// Files of the write-ahead log: as they come, and behind a header and entries that are right.
#include "tidewater/state/wal.h"
#include <cstdlib>

using namespace tidewater::state;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (bool torn : {false, true}) {
    std::vector<WalEntry> entries;
    (void)ParseWal(bytes, 3, "x", torn, entries);
    std::string good = WalHeader(3);
    AppendWalFrame(7, bytes, good);
    AppendWalFrame(8, "", good);
    entries.clear();
    if (!ParseWal(good, 3, "x", torn, entries) || entries.size() != 2 || entries[0].payload != bytes) std::abort();
    entries.clear();
    (void)ParseWal(good + bytes, 3, "x", torn, entries);
    if (entries.size() < 2) std::abort();
  }
  return 0;
}
