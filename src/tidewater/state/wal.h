// The bytes of a file of the write-ahead log: docs/formats/state-log.md. Apart for the fuzzer.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::state {

struct WalEntry {
  uint64_t sequence = 0;
  std::string payload;
};

std::string WalHeader(uint64_t generation);
void AppendWalFrame(uint64_t sequence, std::string_view payload, std::string& out);
/// Appends the entries of a file, whose numbers follow each other. A frame that is cut off or damaged ends the file: an
/// error (kCorrupt, naming `object`), or, where the tail may be `torn`, the end.
Status ParseWal(std::string_view bytes, uint64_t generation, const std::string& object, bool torn,
                std::vector<WalEntry>& entries);

}  // namespace tidewater::state
