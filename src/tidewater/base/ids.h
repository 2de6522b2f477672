// Numbers that name things. Strong enough by name; plain integers so that they serialize as they are.
#pragma once
#include <cstdint>
namespace tidewater {
/// A created object (source, table, view, sink, ...). Never used again after a DROP.
using ObjectId = uint32_t;
/// Counts epochs from 1 over the whole life of the state; never goes back, also not over restarts.
using Epoch = uint64_t;
constexpr Epoch kNeverEpoch = ~Epoch{0};
/// Counts checkpoints from 1.
using CheckpointId = uint64_t;
}  // namespace tidewater
