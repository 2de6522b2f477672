// Time: wall clock for what is recorded, monotonic clock for what is measured, CPU clock for benchmarks.
#pragma once
#include <cstdint>
#include <ctime>

namespace tidewater {
inline int64_t ClockNs(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return int64_t(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}
inline int64_t WallMicros() { return ClockNs(CLOCK_REALTIME) / 1000; }
inline int64_t MonotonicMicros() { return ClockNs(CLOCK_MONOTONIC) / 1000; }
inline int64_t ProcessCpuMicros() { return ClockNs(CLOCK_PROCESS_CPUTIME_ID) / 1000; }
}  // namespace tidewater
