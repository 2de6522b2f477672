#include "tidewater/state/wal.h"
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/fault.h"
#include "tidewater/base/log.h"
#include "tidewater/base/metrics.h"
#include "tidewater/io/local_store.h"
#include "tidewater/state/state_log.h"

namespace tidewater::state {
namespace {
constexpr uint32_t kMagic = 0x4c575754;  // "TWWL"
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 16;
constexpr size_t kFrameBytes = 4 + 8 + 8;
/// An appended file of this size is closed and another one begun.
constexpr uint64_t kMaxFileBytes = 16u << 20;
constexpr const char* kGenerationKey = "wal/generation";
constexpr int kOpenAttempts = 20;

template <class T>
T Read(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
void Write(T v, std::string& out) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

uint64_t FrameHash(uint64_t sequence, std::string_view payload) {
  return XXH64(payload.data(), payload.size(), sequence ^ uint64_t(payload.size()) << 40);
}
}  // namespace

std::string WalHeader(uint64_t generation) {
  std::string out;
  Write(kMagic, out);
  Write(kVersion, out);
  Write(generation, out);
  return out;
}

void AppendWalFrame(uint64_t sequence, std::string_view payload, std::string& out) {
  TW_CHECK_LE(payload.size(), size_t{UINT32_MAX});
  Write(uint32_t(payload.size()), out);
  Write(sequence, out);
  Write(FrameHash(sequence, payload), out);
  out.append(payload);
}

Status ParseWal(std::string_view bytes, uint64_t generation, const std::string& object, bool torn,
                std::vector<WalEntry>& entries) {
  auto damaged = [&](const char* what) -> Status {
    if (torn) return {};
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "write-ahead log object \"{}\" is damaged: {}", object, what));
  };
  if (bytes.size() < kHeaderBytes) return damaged("shorter than its header");
  if (Read<uint32_t>(bytes.data()) != kMagic || Read<uint64_t>(bytes.data() + 8) != generation)
    return damaged("header");
  if (Read<uint32_t>(bytes.data() + 4) != kVersion)
    return std::unexpected(
        EnvError(ErrorKind::kUnsupported, "write-ahead log object \"{}\" has another format version", object));
  bytes.remove_prefix(kHeaderBytes);
  while (!bytes.empty()) {
    if (bytes.size() < kFrameBytes) return damaged("an entry is cut off");
    auto size = Read<uint32_t>(bytes.data());
    auto sequence = Read<uint64_t>(bytes.data() + 4);
    if (bytes.size() - kFrameBytes < size) return damaged("an entry is cut off");
    std::string_view payload = bytes.substr(kFrameBytes, size);
    if (Read<uint64_t>(bytes.data() + 12) != FrameHash(sequence, payload)) return damaged("checksum of an entry");
    if (!entries.empty() && sequence != entries.back().sequence + 1)
      return std::unexpected(EnvError(ErrorKind::kCorrupt,
                                      "write-ahead log object \"{}\": entry {} follows {}: entries are missing", object,
                                      sequence, entries.back().sequence));
    entries.push_back({sequence, std::string(payload)});
    bytes.remove_prefix(kFrameBytes + size);
  }
  return {};
}

namespace {
std::string WalKey(uint64_t generation, uint64_t first) {
  return fmt::format("wal/{:010}-{:016}.wal", generation, first);
}

bool ParseWalKey(std::string_view key, uint64_t& generation) {
  if (!key.starts_with("wal/") || !key.ends_with(".wal") || key.size() != WalKey(0, 0).size()) return false;
  auto [end, error] = std::from_chars(key.data() + 4, key.data() + 14, generation);
  return error == std::errc() && end == key.data() + 14;
}

class WalImpl final : public WriteAheadLog {
 public:
  WalImpl(std::shared_ptr<io::ObjectStore> store, uint64_t generation)
      : store_(std::move(store)), root_(store_->LocalRoot()), generation_(generation) {}

  ~WalImpl() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
    if (fd_ >= 0) close(fd_);
  }

  /// Makes this generation the only writer, then moves what the last one left into a file of its own. Until the marker
  /// names this generation as the base, the files of the one before stay as they are: a crash in between changes
  /// nothing.
  Status Start() {
    TW_ASSIGN(uint64_t base, Claim());
    TW_TRY(ReadGeneration(base));
    if (!recovered_.empty()) {
      std::string bytes = WalHeader(generation_);
      for (auto& e : recovered_) AppendWalFrame(e.sequence, e.payload, bytes);
      std::string key = WalKey(generation_, recovered_.front().sequence);
      TW_TRY(store_->Put(key, bytes));
      files_.push_back({key, recovered_.back().sequence});
      next_ = recovered_.back().sequence + 1;
    }
    std::string marker = Marker(generation_, generation_);
    TW_ASSIGN(tag_, store_->PutIfMatch(kGenerationKey, marker, tag_));
    TW_ASSIGN(auto objects, store_->List("wal/"));
    for (auto& o : objects) {
      uint64_t generation;
      if (ParseWalKey(o.key, generation) && generation < generation_) TW_TRY(store_->Delete(o.key));
    }
    thread_ = std::thread([this] { Loop(); });
    return {};
  }

  uint64_t Append(std::string payload, std::function<void(Status)> done) override {
    std::lock_guard lock(mutex_);
    if (!recovered_.empty()) std::vector<WalEntry>().swap(recovered_);
    queue_.push_back({next_, std::move(payload), std::move(done)});
    wake_.notify_one();
    return next_++;
  }

  Status Replay(uint64_t after, const std::function<Status(uint64_t, std::string&&)>& visit) override {
    if (!recovered_.empty() && recovered_.front().sequence > after + 1)
      return std::unexpected(EnvError(ErrorKind::kCorrupt,
                                      "the write-ahead log at {} begins with entry {}, but entry {} is the next",
                                      store_->Uri(), recovered_.front().sequence, after + 1));
    for (auto& e : recovered_)
      if (e.sequence > after) TW_TRY(visit(e.sequence, std::string(e.payload)));
    std::lock_guard lock(mutex_);
    next_ = std::max(next_, after + 1);
    return {};
  }

  void Truncate(uint64_t sequence) override {
    std::lock_guard lock(mutex_);
    truncate_ = std::max(truncate_, sequence);
    wake_.notify_one();
  }

  uint64_t next_sequence() const override {
    std::lock_guard lock(mutex_);
    return next_;
  }

 private:
  struct Item {
    uint64_t sequence;
    std::string payload;
    std::function<void(Status)> done;
  };
  struct File {
    std::string key;
    uint64_t last;
  };

  Error Overtaken() const {
    return EnvError(ErrorKind::kConflict, "another process has taken over the state at {}", store_->Uri());
  }

  /// "<generation that may write> <generation whose files hold the entries>"
  static std::string Marker(uint64_t generation, uint64_t base) { return fmt::format("{} {}\n", generation, base); }

  static bool ParseMarker(std::string_view text, uint64_t& generation, uint64_t& base) {
    const char* end = text.data() + text.size();
    auto a = std::from_chars(text.data(), end, generation);
    if (a.ec != std::errc() || a.ptr == end || *a.ptr != ' ') return false;
    auto b = std::from_chars(a.ptr + 1, end, base);
    return b.ec == std::errc() && b.ptr + 1 == end && *b.ptr == '\n';
  }

  /// Writes our generation into the marker; returns the one whose files are to be read.
  Result<uint64_t> Claim() {
    for (int attempt = 0; attempt < kOpenAttempts; attempt++) {
      auto seen = store_->GetWithTag(kGenerationKey);
      if (!seen && seen.error().kind != ErrorKind::kNotFound) return std::unexpected(seen.error());
      if (!seen) {
        auto put = store_->PutIfAbsent(kGenerationKey, Marker(generation_, 0));
        if (!put && put.error().kind != ErrorKind::kAlreadyExists) return std::unexpected(put.error());
        if (put) {
          TW_ASSIGN(auto mine, store_->GetWithTag(kGenerationKey));
          if (mine.first != Marker(generation_, 0)) continue;
          tag_ = mine.second;
          return 0;
        }
        continue;
      }
      uint64_t generation, base;
      if (!ParseMarker(seen->first, generation, base))
        return std::unexpected(EnvError(ErrorKind::kCorrupt, "\"{}\" at {} is damaged", kGenerationKey, store_->Uri()));
      if (generation >= generation_) return std::unexpected(Overtaken());
      auto put = store_->PutIfMatch(kGenerationKey, Marker(generation_, base), seen->second);
      if (put) {
        tag_ = *put;
        return base;
      }
      if (put.error().kind != ErrorKind::kCommitFailed) return std::unexpected(put.error());
    }
    return std::unexpected(Overtaken());
  }

  Status ReadGeneration(uint64_t base) {
    TW_ASSIGN(auto objects, store_->List(fmt::format("wal/{:010}-", base)));
    for (size_t i = 0; i < objects.size(); i++) {
      TW_ASSIGN(std::string bytes, store_->Get(objects[i].key));
      TW_TRY(ParseWal(bytes, base, objects[i].key, i + 1 == objects.size(), recovered_));
    }
    return {};
  }

  void Loop() {
    auto& seconds = metrics::Seconds("tidewater_wal_sync_seconds", "Writing one group of the write-ahead log");
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty() || truncate_ > truncated_; });
      if (stopping_ && queue_.empty()) return;
      std::deque<Item> group = std::exchange(queue_, {});
      uint64_t truncate = truncate_;
      lock.unlock();
      if (!group.empty()) {
        int64_t begin = MonotonicMicros();
        if (failure_) failure_ = WriteGroup(group);
        seconds.Observe(double(MonotonicMicros() - begin) / 1e6);
        for (auto& item : group)
          if (item.done) item.done(failure_);
        group.clear();
      }
      if (truncate > truncated_) Remove(truncate);
      lock.lock();
      truncated_ = truncate;
    }
  }

  Status WriteGroup(const std::deque<Item>& group) {
    uint64_t first = group.front().sequence, last = group.back().sequence;
    std::string frames;
    for (auto& item : group) AppendWalFrame(item.sequence, item.payload, frames);
    if (root_) {
      TW_TRY(AppendToFile(first, frames));
      files_.back().last = last;
    } else {
      FaultPoint("wal.before_sync");
      TW_TRY(store_->Put(WalKey(generation_, first), WalHeader(generation_) + frames));
      files_.push_back({WalKey(generation_, first), last});
    }
    // Whoever takes over writes the marker before it reads our files: if it is still ours, the entries will be read.
    TW_ASSIGN(auto marker, store_->Get(kGenerationKey));
    if (marker != Marker(generation_, generation_)) return std::unexpected(Overtaken());
    return {};
  }

  Status AppendToFile(uint64_t first, std::string_view frames) {
    bool begun = fd_ < 0;
    std::string key = begun ? WalKey(generation_, first) : files_.back().key;
    std::string path = *root_ + "/" + key;
    auto failed = [&](const char* what) {
      return std::unexpected(EnvError(ErrorKind::kIo, "could not {} \"{}\": {}", what, path, std::strerror(errno)));
    };
    std::string header;
    if (begun) {
      fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
      if (fd_ < 0) return failed("create");
      files_.push_back({key, first});
      file_bytes_ = 0;
      header = WalHeader(generation_);
    }
    for (std::string_view part : {std::string_view(header), frames}) {
      while (!part.empty()) {
        ssize_t n = write(fd_, part.data(), part.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("write");
        part.remove_prefix(size_t(n));
        file_bytes_ += size_t(n);
      }
    }
    FaultPoint("wal.before_sync");
    if (fdatasync(fd_) != 0) return failed("sync");
    if (begun) TW_TRY(io::SyncFolder(*root_ + "/wal"));
    if (file_bytes_ >= kMaxFileBytes) CloseFile();
    return {};
  }

  void CloseFile() {
    close(fd_);
    fd_ = -1;
  }

  /// Deletes the files whose entries are all covered. A file that stays behind is removed at the next start.
  void Remove(uint64_t sequence) {
    while (!files_.empty() && files_.front().last <= sequence) {
      bool open = fd_ >= 0 && files_.size() == 1;
      // A small file goes on: a new one would cost a sync of the folder.
      if (open && file_bytes_ < kMaxFileBytes / 16) return;
      if (open) CloseFile();
      auto status = store_->Delete(files_.front().key);
      if (!status) {
        log::warn("write-ahead log: could not delete a file error=\"{}\"", status.error().ToString());
        return;
      }
      files_.pop_front();
    }
  }

  const std::shared_ptr<io::ObjectStore> store_;
  const std::optional<std::string> root_;
  const uint64_t generation_;

  std::string tag_;  ///< of the marker, while starting
  // Only the log's thread, once it runs.
  std::deque<File> files_;  ///< oldest first; where a file is open, it is the last
  int fd_ = -1;
  uint64_t file_bytes_ = 0;
  Status failure_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_.
  std::deque<Item> queue_;
  std::vector<WalEntry> recovered_;
  uint64_t next_ = 1;
  uint64_t truncate_ = 0;
  uint64_t truncated_ = 0;
  bool stopping_ = false;

  std::thread thread_;
};
}  // namespace

Result<std::unique_ptr<WriteAheadLog>> WriteAheadLog::Open(std::shared_ptr<io::ObjectStore> store,
                                                           uint64_t generation) {
  auto wal = std::make_unique<WalImpl>(std::move(store), generation);
  TW_TRY(wal->Start());
  return wal;
}

}  // namespace tidewater::state
