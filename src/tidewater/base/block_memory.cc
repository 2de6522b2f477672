#include "tidewater/base/block_memory.h"
#include <cerrno>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <malloc.h>
#include <map>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <vector>
#include "tidewater/base/check.h"
#include "tidewater/base/log.h"
#include "tidewater/base/metrics.h"
#include "tidewater/base/mutex.h"

namespace tidewater {
namespace {
constexpr size_t kPage = 4096;
constexpr size_t kSlab = size_t{32} << 20;
/// Freed memory beyond this goes back to the system at once.
constexpr size_t kFreeKept = size_t{32} << 20;
/// The lock is let go after each of these, so that allocations do not wait for long.
constexpr uint64_t kEvictAtOnce = uint64_t{4} << 20;
/// So much may be allocated before memory is measured again, the thread's own rounds apart.
constexpr size_t kMeasureEvery = size_t{16} << 20;
constexpr auto kSampleInterval = std::chrono::milliseconds(50);
/// When there was nothing to evict.
constexpr auto kRestInterval = std::chrono::milliseconds(1000);

size_t Pages(size_t bytes) { return (bytes + kPage - 1) & ~(kPage - 1); }

/// Resident bytes of the process: proc_pid_statm(5), second field, in pages.
uint64_t ResidentBytes() {
  std::ifstream in("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

/// The number in a control group file; nothing for "max" or a missing file.
std::optional<uint64_t> ReadLimit(const std::string& path) {
  std::ifstream in(path);
  uint64_t n = 0;
  if (in >> n) return n;
  return std::nullopt;
}
}  // namespace

uint64_t MachineMemoryBytes() {
  uint64_t bytes = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  // cgroups(7): a line "0::PATH" names the group of version 2; a limit of any group above counts too.
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    bool v2 = line.starts_with("0::");
    auto memory = line.find(":memory:");
    if (!v2 && memory == std::string::npos) continue;
    std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    std::filesystem::path path = v2 ? line.substr(3) : line.substr(memory + 8);
    for (;; path = path.parent_path()) {
      auto limit = ReadLimit(root + path.string() + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
      if (limit && *limit > 0) bytes = std::min(bytes, *limit);
      if (!path.has_relative_path()) break;
    }
  }
  return bytes;
}

struct BlockMemory::Impl {
  struct Extent {
    uint64_t offset;  ///< in the scratch file
    size_t bytes;
    bool sealed = false;
    bool spilled = false;
  };

  Mutex mutex;
  std::unordered_map<uint8_t*, Extent> extents GUARDED_BY(mutex);
  std::map<size_t, std::vector<std::pair<uint8_t*, uint64_t>>> free_extents GUARDED_BY(mutex);  ///< by size
  /// These two may name extents that were freed, and others that begin at the same place since.
  std::deque<uint8_t*> sealed GUARDED_BY(mutex);   ///< oldest first, and never spilled
  std::deque<uint8_t*> spilled GUARDED_BY(mutex);  ///< the clock's hand is at the front
  uint8_t* slab GUARDED_BY(mutex) = nullptr;
  size_t slab_left GUARDED_BY(mutex) = 0;
  uint64_t slab_offset GUARDED_BY(mutex) = 0, next_offset GUARDED_BY(mutex) = 0;
  size_t free_bytes GUARDED_BY(mutex) = 0;
  size_t stale GUARDED_BY(mutex) = 0;  ///< entries of `sealed` and `spilled` whose extent was freed, at most

  int file GUARDED_BY(mutex) = -1;
  uint64_t budget GUARDED_BY(mutex) = 0;
  bool over GUARDED_BY(mutex) = false;  ///< resident memory was above High() when last measured
  size_t since_measured GUARDED_BY(mutex) = 0;
  MemoryStats stats GUARDED_BY(mutex);
  std::thread thread GUARDED_BY(mutex);
  CondVar stop;

  uint64_t High() const REQUIRES(mutex) { return budget - budget / 10; }
  uint64_t Low() const REQUIRES(mutex) { return budget - budget / 5; }

  static void* Map(void* at, size_t bytes) {
    void* p = mmap(at, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return p;
  }

  std::pair<uint8_t*, uint64_t> Take(size_t bytes) REQUIRES(mutex) {
    if (auto it = free_extents.find(bytes); it != free_extents.end() && !it->second.empty()) {
      auto found = it->second.back();
      it->second.pop_back();
      free_bytes -= std::min(free_bytes, bytes);
      return found;
    }
    if (bytes > kSlab / 4) {
      auto* p = static_cast<uint8_t*>(Map(nullptr, bytes));
      auto offset = next_offset;
      next_offset += bytes;
      return {p, offset};
    }
    if (slab_left < bytes) {
      // What is left of the old slab was never touched: it costs address space only.
      slab = static_cast<uint8_t*>(Map(nullptr, kSlab));
      madvise(slab, kSlab, MADV_HUGEPAGE);
      slab_left = kSlab;
      slab_offset = next_offset;
      next_offset += kSlab;
    }
    auto found = std::pair(slab, slab_offset);
    slab += bytes;
    slab_offset += bytes;
    slab_left -= bytes;
    return found;
  }

  /// One extent into the file. False, with stats.error set, when it could not be written or mapped.
  bool Spill(uint8_t* at, Extent& extent) REQUIRES(mutex) {
    auto bytes = extent.bytes;
    auto fail = [&](const char* what) REQUIRES(mutex) {
      stats.error = EnvError(ErrorKind::kIo, "rows cannot leave memory: {} of the scratch file failed: {}", what,
                             std::strerror(errno))
                        .WithHint("Give the scratch directory more room, or the process a larger --memory.");
      return false;
    };
    for (size_t done = 0; done < bytes;) {
      auto n = pwrite(file, at + done, bytes - done, off_t(extent.offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return fail("a write");
      done += size_t(n);
    }
    // Replaces the pages in one go: a reader sees the same bytes before and after.
    void* p = mmap(at, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, off_t(extent.offset));
    if (p == MAP_FAILED) return fail("a mapping");
    extent.spilled = true;
    stats.error.reset();
    stats.spilled += bytes;
    stats.spilled_total += bytes;
    return true;
  }

  /// Writes sealed extents out, oldest first; returns the bytes that left memory. The caller holds the lock.
  uint64_t EvictLocked(uint64_t want) REQUIRES(mutex) {
    uint64_t done = 0;
    if (file < 0) return 0;
    while (done < want && !sealed.empty()) {
      auto* at = sealed.front();
      auto it = extents.find(at);
      if (it != extents.end() && it->second.sealed && !it->second.spilled) {
        if (!Spill(at, it->second)) return done;
        spilled.push_back(at);
        done += it->second.bytes;
      }
      sealed.pop_front();
    }
    return done;
  }

  /// Takes the pages of the next `n` spilled extents off the process: they are in the file.
  void TakePages(size_t n) REQUIRES(mutex) {
    for (n = std::min(n, spilled.size()); n > 0; n--) {
      auto* at = spilled.front();
      spilled.pop_front();
      auto it = extents.find(at);
      if (it == extents.end() || !it->second.spilled) continue;
      madvise(at, it->second.bytes, MADV_DONTNEED);
      spilled.push_back(at);
    }
  }

  /// A sealed extent was freed: its queue entry goes when half of them have nothing behind them any more.
  void ForgetStale() REQUIRES(mutex) {
    if (++stale * 2 < sealed.size() + spilled.size()) return;
    std::erase_if(sealed, [&](auto* at) REQUIRES(mutex) {
      auto it = extents.find(at);
      return it == extents.end() || !it->second.sealed || it->second.spilled;
    });
    std::erase_if(spilled, [&](auto* at) REQUIRES(mutex) {
      auto it = extents.find(at);
      return it == extents.end() || !it->second.spilled;
    });
    stale = 0;
  }

  void Loop() {
    static auto& resident_metric = metrics::Gauge("tidewater_memory_resident_bytes", "Resident memory of the process");
    static auto& budget_metric = metrics::Gauge("tidewater_memory_budget_bytes", "Memory budget (--memory)");
    static auto& spilled_metric =
        metrics::Gauge("tidewater_memory_spilled_bytes", "Bytes of rows that lie in the scratch file");
    static auto& written_metric =
        metrics::Counter("tidewater_memory_spilled_bytes_total", "Bytes of rows written to the scratch file");
    static auto& exhausted_metric = metrics::Gauge(
        "tidewater_memory_exhausted", "1 while memory is above the budget and nothing is left that could leave it");
    uint64_t counted = 0;
    bool told = false;
    while (true) {
      uint64_t limit, high, low;
      {
        MutexLock lock(mutex);
        auto rest = stats.exhausted ? kRestInterval : kSampleInterval;
        auto end = std::chrono::steady_clock::now() + rest;
        while (budget != 0 && stop.WaitUntil(mutex, end)) {
        }
        if (budget == 0) return;
        limit = budget;
        high = High();
        low = Low();
      }
      uint64_t resident = ResidentBytes();
      bool exhausted = false;
      if (resident > high) {
        while (resident > low) {
          MutexLock lock(mutex);
          auto done = EvictLocked(std::min(resident - low, kEvictAtOnce));
          if (done == 0) break;
          resident -= std::min(resident, done);
        }
        for (int eighth = 0; eighth < 8 && resident > low; eighth++) {
          {
            MutexLock lock(mutex);
            TakePages(spilled.size() / 8 + 1);
          }
          resident = ResidentBytes();
        }
        if (resident > high) {
          malloc_trim(0);
          resident = ResidentBytes();
          exhausted = resident > limit;
        }
      }
      MutexLock lock(mutex);
      over = resident > high;
      stats.resident = resident;
      stats.exhausted = exhausted;
      if (exhausted != told) {
        told = exhausted;
        if (told)
          log::warn("memory is above its budget and nothing is left to evict resident={} budget={}{}", resident, limit,
                    stats.error ? " error=" + stats.error->message : "");
        else
          log::info("memory is within its budget again resident={} budget={}", resident, limit);
      }
      resident_metric.Set(double(resident));
      budget_metric.Set(double(limit));
      spilled_metric.Set(double(stats.spilled));
      exhausted_metric.Set(exhausted);
      if (stats.spilled_total > counted) written_metric.Increment(double(stats.spilled_total - counted));
      counted = stats.spilled_total;
    }
  }
};

BlockMemory::BlockMemory() : impl_(new Impl) {}

BlockMemory& BlockMemory::Get() {
  static BlockMemory memory;
  return memory;
}

Status BlockMemory::SetBudget(uint64_t bytes, const std::string& directory) {
  MutexLock lock(impl_->mutex);
  if (bytes && (impl_->file < 0 || impl_->stats.spilled == 0)) {
    std::error_code ignored;
    std::filesystem::create_directories(directory, ignored);
    int fd = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
      auto path = directory + "/tidewater-scratch-XXXXXX";
      fd = mkostemp(path.data(), O_CLOEXEC);
      if (fd >= 0) unlink(path.c_str());
    }
    if (fd < 0)
      return std::unexpected(
          EnvError(ErrorKind::kIo, "no scratch file can be made in \"{}\": {}", directory, std::strerror(errno)));
    if (impl_->file >= 0) close(impl_->file);
    impl_->file = fd;
  }
  impl_->budget = impl_->stats.budget = bytes;
  if (bytes && !impl_->thread.joinable()) impl_->thread = std::thread([impl = impl_] { impl->Loop(); });
  if (!bytes && impl_->thread.joinable()) {
    auto thread = std::move(impl_->thread);
    impl_->stop.NotifyAll();
    lock.Unlock();
    thread.join();
    lock.Lock();
    impl_->over = false;
  }
  return {};
}

uint8_t* BlockMemory::Allocate(size_t bytes) {
  bytes = Pages(bytes);
  MutexLock lock(impl_->mutex);
  impl_->since_measured += bytes;
  if (impl_->budget && impl_->since_measured > kMeasureEvery) {
    impl_->since_measured = 0;
    impl_->over = ResidentBytes() > impl_->High();
  }
  if (impl_->over) impl_->EvictLocked(2 * bytes);
  auto [at, offset] = impl_->Take(bytes);
  impl_->extents.emplace(at, Impl::Extent{offset, bytes});
  impl_->stats.allocated += bytes;
  return at;
}

void BlockMemory::Seal(uint8_t* extent, size_t bytes) {
  MutexLock lock(impl_->mutex);
  auto& e = impl_->extents.at(extent);
  TW_CHECK(!e.sealed && e.bytes == Pages(bytes), "an extent is sealed once");
  e.sealed = true;
  impl_->sealed.push_back(extent);
}

void BlockMemory::Free(uint8_t* extent, size_t bytes) {
  bytes = Pages(bytes);
  auto& m = *impl_;
  MutexLock lock(m.mutex);
  auto it = m.extents.find(extent);
  TW_CHECK(it != m.extents.end(), "an extent is freed once");
  auto e = it->second;
  m.extents.erase(it);
  m.stats.allocated -= bytes;
  if (e.sealed) m.ForgetStale();
  if (e.spilled) {
    m.stats.spilled -= bytes;
    fallocate(m.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(e.offset), off_t(bytes));
  }
  if (bytes > kSlab / 4) {
    munmap(extent, bytes);
    return;
  }
  if (e.spilled) {
    Impl::Map(extent, bytes);
  } else if (m.free_bytes + bytes > kFreeKept) {
    madvise(extent, bytes, MADV_DONTNEED);
  } else {
    m.free_bytes += bytes;
  }
  m.free_extents[bytes].emplace_back(extent, e.offset);
}

uint64_t BlockMemory::Evict(uint64_t bytes) {
  MutexLock lock(impl_->mutex);
  return impl_->EvictLocked(bytes);
}

MemoryStats BlockMemory::Stats() {
  MutexLock lock(impl_->mutex);
  return impl_->stats;
}

}  // namespace tidewater
