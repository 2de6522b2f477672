#include "tidewater/sources/nexmark/nexmark.h"
#include <charconv>
#include <thread>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/mutex.h"
#include "tidewater/sources/api/source.h"
#include "tidewater/sources/nexmark/generator.h"

namespace tidewater {
namespace {
using nexmark::Generator;
using nexmark::Options;

class NexmarkSource final : public Source {
 public:
  NexmarkSource(const Options& options, WakeEngine wake)
      : options_(options), generator_(options), schema_(nexmark::TableSchema(options.table)), wake_(std::move(wake)) {}
  ~NexmarkSource() override { Stop(); }

  Result<Schema> Describe(const std::string&) override { return schema_; }

  Status AddTable(const SourceTable& table) override {
    for (uint32_t column : table.needed)
      if (column >= schema_.columns.size())
        return std::unexpected(EnvError(ErrorKind::kInternal, "nexmark has no column {}", column));
    table_ = table.id;
    wanted_.assign(schema_.columns.size(), table.needed.empty());
    for (uint32_t column : table.needed) wanted_[column] = true;
    return {};
  }
  Status RemoveTable(ObjectId table) override {
    if (table_ == table) table_.reset();
    return {};
  }

  Status Start(const std::string& offset) override {
    uint64_t next = 0;
    if (!offset.empty()) {
      auto [end, error] = std::from_chars(offset.data(), offset.data() + offset.size(), next);
      if (error != std::errc() || end != offset.data() + offset.size())
        return std::unexpected(EnvError(ErrorKind::kCorrupt, "not an offset of a nexmark source: '{}'", offset));
    }
    {
      MutexLock lock(mutex_);
      next_ = first_ = next;
      state_ = SourceState::kStreaming;
      start_us_ = MonotonicMicros();
      stopping_ = false;
    }
    if (options_.min_event_gap_ns > 0 && wake_ && !pacer_.joinable()) {
      pacer_ = std::thread([this] { Pace(); });
    } else if (wake_) {
      wake_();
    }
    return {};
  }

  /// The next `max_rows` events of all types, whatever their number of rows here: so sources of the three tables with
  /// the same options that are polled in turn are always at the same event.
  std::optional<SourceBatch> Poll(size_t max_rows) override {
    if (!table_ || max_rows == 0) return std::nullopt;
    uint64_t from, to;
    {
      MutexLock lock(mutex_);
      if (state_ != SourceState::kStreaming) return std::nullopt;
      from = next_;
      to = std::min<uint64_t>(Due(), from + max_rows);
      if (to <= from) return std::nullopt;
      next_ = to;
    }
    SourceBatch batch;
    uint64_t row = RowsBefore(options_.table, from), end = RowsBefore(options_.table, to);
    batch.changes.reserve((end - row + STANDARD_VECTOR_SIZE - 1) / STANDARD_VECTOR_SIZE);
    while (row < end) {
      auto count = std::min<uint64_t>(end - row, STANDARD_VECTOR_SIZE);
      ChangeChunk change;
      change.table = *table_;
      change.rows = generator_.Make(row, count, wanted_);
      batch.changes.push_back(std::move(change));
      row += count;
    }
    batch.offset = std::to_string(to);
    batch.events = to - from;
    if (options_.min_event_gap_ns > 0) batch.commit_time_us = WallMicros();
    return batch;
  }

  void Confirm(const std::string&) override {}

  SourceStatus GetStatus() override {
    MutexLock lock(mutex_);
    SourceStatus status;
    status.state = state_;
    status.position = std::to_string(next_);
    return status;
  }

  Status Alter(const std::map<std::string, std::string>&) override {
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "a nexmark source cannot be altered"));
  }

  void Stop() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      state_ = SourceState::kStopped;
    }
    changed_.NotifyAll();
    if (pacer_.joinable()) pacer_.join();
  }

  Status DropUpstream() override { return {}; }

 private:
  /// Events that may have been handed over by now.
  uint64_t Due() const REQUIRES(mutex_) {
    if (options_.min_event_gap_ns == 0) return options_.event_num;
    auto elapsed_us = uint64_t(MonotonicMicros() - start_us_);
    auto due = first_ + uint64_t(__uint128_t(elapsed_us) * 1000 / options_.min_event_gap_ns);
    return std::min(due, options_.event_num);
  }
  /// The pacing thread: wakes the engine every few milliseconds while events fall due.
  void Pace() {
    auto gap = std::chrono::nanoseconds(std::max<uint64_t>(options_.min_event_gap_ns, 5'000'000));
    MutexLock lock(mutex_);
    while (!stopping_ && next_ < options_.event_num) {
      changed_.WaitFor(mutex_, gap);
      if (stopping_ || Due() <= next_) continue;
      lock.Unlock();
      wake_();
      lock.Lock();
    }
  }

  // Constant after construction.
  const Options options_;
  const Generator generator_;
  const Schema schema_;
  const WakeEngine wake_;
  // Of the engine's thread.
  std::optional<ObjectId> table_;
  std::vector<bool> wanted_;
  std::thread pacer_;
  Mutex mutex_;
  CondVar changed_;
  SourceState state_ GUARDED_BY(mutex_) = SourceState::kStarting;
  uint64_t next_ GUARDED_BY(mutex_) = 0, first_ GUARDED_BY(mutex_) = 0;
  int64_t start_us_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace

void RegisterNexmark() {
  SourceConnector c;
  c.name = "nexmark";
  c.validate = [](const std::map<std::string, std::string>& with) -> Status {
    TW_TRY(nexmark::ParseOptions(with));
    return {};
  };
  c.make = [](SourceOptions options) -> Result<std::unique_ptr<Source>> {
    TW_ASSIGN(auto parsed, nexmark::ParseOptions(options.options));
    if (options.replay) parsed.min_event_gap_ns = 0;
    return std::make_unique<NexmarkSource>(parsed, std::move(options.wake));
  };
  c.stream_only = true;
  c.fixed_schema = [](const std::map<std::string, std::string>& with) -> Result<Schema> {
    TW_ASSIGN(auto parsed, nexmark::ParseOptions(with));
    return nexmark::TableSchema(parsed.table);
  };
  SourceRegistry::Get().Register(std::move(c));
}

}  // namespace tidewater
