// BlockMemory: where the rows of full blocks lie, under the one memory budget of the process.
//
// Extents of whole pages out of large slabs. An extent that is sealed never changes again: when the process comes near
// its budget, a thread writes the oldest sealed extents into a scratch file and maps the file's pages in their place.
// Addresses stay, so readers notice nothing but a page fault; what is read often stays in the kernel's page cache, and
// what is not costs disk alone. The scratch file has no name, and no recovery reads it: durable state is the state log.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include "tidewater/base/result.h"

namespace tidewater {

struct MemoryStats {
  uint64_t budget = 0;         ///< bytes; 0: none
  uint64_t resident = 0;       ///< of the process, as last measured
  uint64_t allocated = 0;      ///< bytes of extents in use
  uint64_t spilled = 0;        ///< bytes of those that lie in the scratch file
  uint64_t spilled_total = 0;  ///< bytes ever written to it
  /// Above the budget, and nothing is left that could leave memory (indexes and aggregate states stay).
  bool exhausted = false;
  /// Why the scratch file could not take more.
  std::optional<Error> error;
};

/// One per process. Any thread.
class BlockMemory {
 public:
  static BlockMemory& Get();

  /// Sets the budget, and where the scratch file goes as long as nothing lies in one (a directory that exists or can be
  /// made). 0 turns eviction off. kIo when no file can be made there.
  Status SetBudget(uint64_t bytes, const std::string& directory);

  /// At least `bytes`, aligned to a page; contents are undefined. Near the budget the caller first evicts
  /// twice as much itself.
  uint8_t* Allocate(size_t bytes);
  /// `bytes` as given to Allocate.
  void Free(uint8_t* extent, size_t bytes);
  /// The contents are final: the extent may leave memory.
  void Seal(uint8_t* extent, size_t bytes);

  /// Writes sealed extents out until `bytes` have left memory or none is left; returns how many did.
  uint64_t Evict(uint64_t bytes);

  MemoryStats Stats();

 private:
  BlockMemory();
  struct Impl;
  Impl* impl_;  // never deleted: blocks may outlive main
};

/// Bytes of memory that this process may use: the smaller of the machine's and its control group's.
uint64_t MachineMemoryBytes();

}  // namespace tidewater
