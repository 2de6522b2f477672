#include "tidewater/state/state_log.h"
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <unordered_map>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/fault.h"
#include "tidewater/base/log.h"
#include "tidewater/base/metrics.h"
#include "tidewater/state/segment.h"

namespace tidewater::state {
namespace {
constexpr uint64_t kMaxQueuedBytes = 256u << 20;
/// How much of an object is asked for before its index size is known.
constexpr uint64_t kHeadGuess = 32u << 10;
/// Records are read in runs: a hole smaller than kMaxGap is read along, a run ends at kMaxRun.
constexpr uint64_t kMaxGap = 64u << 10;
constexpr uint64_t kMaxRun = 64u << 20;
/// Segments are merged in aligned groups of 64, 4096 and 262144 numbers, so that two ranges never overlap halfway.
constexpr uint64_t kGroup = 64;
constexpr int kGroupLevels = 3;
constexpr size_t kMergeAtLeast = 16;
constexpr uint64_t kMaxMergeBytes = 64u << 20;
/// A fence stops a process that was overtaken; one of this age, and not among the newest, has nobody left to stop.
constexpr int64_t kFenceMaxAgeMs = 7LL * 24 * 3600 * 1000;
constexpr size_t kFencesKept = 16;
constexpr int kOpenAttempts = 20;

struct StreamState;
using Stream = std::pair<const std::string, StreamState>;
struct Segment;

struct Entry {
  IndexEntry at;  ///< `at.stream` is empty: the name is the stream's
  Stream* stream = nullptr;
  Segment* segment = nullptr;
  bool live = true;
};

struct Segment {
  SegmentHeader header;
  std::string key;
  std::vector<std::unique_ptr<Entry>> entries;
  size_t live = 0;
  bool fence = false;
};

/// A stream's records that count, oldest first: a base or a drop where there is one, then deltas.
struct StreamState {
  std::vector<Entry*> live;
  /// All its records in objects that exist, dead ones too.
  size_t existing = 0;
  /// The last ordinal as of the newest record queued, which may not be durable yet.
  uint32_t ordinal = 0;
};

bool Opens(RecordKind kind) { return kind != RecordKind::kDelta; }
uint32_t OrdinalOf(RecordKind kind, uint32_t previous) {
  return kind == RecordKind::kBase ? 1 : kind == RecordKind::kDrop ? 0 : previous + 1;
}

/// The only entry of a fence: a drop of the stream without a name. No other object is that small but not empty.
IndexEntry FenceEntry() {
  IndexEntry e;
  e.kind = RecordKind::kDrop;
  return e;
}
const uint64_t kFenceBytes = [] {
  SegmentHeader header;
  SegmentWriter writer({FenceEntry()});
  writer.Append({});
  return writer.Finish(header).size();
}();

class StateLogImpl final : public StateLog {
 public:
  explicit StateLogImpl(std::shared_ptr<io::ObjectStore> store)
      : store_(std::move(store)), writer_(uint64_t(std::random_device{}()) << 32 | std::random_device{}()) {}

  ~StateLogImpl() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_writer_.notify_all();
    wake_cleaner_.notify_all();
    if (writer_thread_.joinable()) writer_thread_.join();
    if (cleaner_thread_.joinable()) cleaner_thread_.join();
  }

  Status Start() {
    for (int attempt = 0;; attempt++) {
      auto status = TryStart();
      if (status) break;
      // Another process opens, cleans or writes at the same time: look again.
      bool moved = status.error().kind == ErrorKind::kNotFound || status.error().kind == ErrorKind::kAlreadyExists;
      if (!moved || attempt == kOpenAttempts) return status;
    }
    writer_thread_ = std::thread([this] { WriteLoop(); });
    cleaner_thread_ = std::thread([this] { CleanLoop(); });
    return {};
  }

  uint64_t generation() const override { return generation_; }
  CheckpointId last() const override {
    std::lock_guard lock(mutex_);
    return last_;
  }

  Status Replay(const std::string& prefix, const std::function<Status(Record&&)>& visit) override {
    for (auto& [number, segment] : segments_) {
      std::vector<const Entry*> wanted;
      for (auto& e : segment->entries)
        if (e->live && e->at.kind != RecordKind::kDrop && e->stream->first.starts_with(prefix))
          wanted.push_back(e.get());
      auto read = ReadStored(segment->key, wanted, [&](const Entry& e, std::string_view stored) -> Status {
        TW_ASSIGN(std::string payload, DecodePayload(e.at, stored, segment->key));
        return visit({e.at.checkpoint, e.stream->first, e.at.kind, std::move(payload)});
      });
      TW_TRY(read);
    }
    return {};
  }

  void Commit(std::unique_ptr<SegmentBuilder> segment, std::function<void(Status)> done) override {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return queued_bytes_ <= kMaxQueuedBytes; });
    TW_CHECK(segment->id() > queued_checkpoint_, "checkpoint {} after {}", segment->id(), queued_checkpoint_);
    queued_checkpoint_ = segment->id();
    Job job;
    job.checkpoint = segment->id();
    job.done = std::move(done);
    job.bytes = segment->bytes();
    job.records = std::move(*segment).Take();
    Prune(job.records);
    for (auto& r : job.records) {
      auto& s = streams_[r.stream];
      TW_CHECK(!r.stream.empty(), "a stream needs a name");
      s.ordinal = OrdinalOf(r.kind, s.ordinal);
      job.ordinals.push_back(s.ordinal);
    }
    queued_bytes_ += job.bytes;
    queue_.push_back(std::move(job));
    wake_writer_.notify_one();
  }

  Status Flush() override {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return queue_.empty() && !writing_; });
    return failure_;
  }

  uint64_t log_bytes() const override {
    std::lock_guard lock(mutex_);
    return log_bytes_;
  }
  uint64_t live_bytes() const override {
    std::lock_guard lock(mutex_);
    return live_bytes_;
  }

 private:
  struct Job {
    CheckpointId checkpoint = 0;
    uint64_t bytes = 0;
    std::vector<Record> records;
    std::vector<uint32_t> ordinals;
    std::function<void(Status)> done;
  };

  /// Takes away what a later record of the same segment replaces.
  static void Prune(std::vector<Record>& records) {
    std::unordered_map<std::string_view, size_t> opens;
    for (size_t i = 0; i < records.size(); i++)
      if (Opens(records[i].kind)) opens[records[i].stream] = i;
    std::vector<bool> kept(records.size());
    for (size_t i = 0; i < records.size(); i++) {
      auto it = opens.find(records[i].stream);
      kept[i] = it == opens.end() || it->second <= i;
    }
    size_t n = 0;
    for (size_t i = 0; i < records.size(); i++) {
      if (!kept[i]) continue;
      if (n != i) records[n] = std::move(records[i]);
      n++;
    }
    records.resize(n);
  }

  // ---- recovery ----

  Status TryStart() {
    segments_.clear();
    streams_.clear();
    old_fences_.clear();
    contained_.clear();
    log_bytes_ = live_bytes_ = 0;
    generation_ = last_ = 0;
    TW_ASSIGN(auto objects, store_->List("log/"));

    struct Found {
      io::ObjectInfo object;
      uint64_t first, last;
    };
    std::vector<Found> found;
    for (auto& o : objects) {
      uint64_t first, last;
      if (ParseSegmentKey(o.key, first, last)) found.push_back({o, first, last});
    }
    std::sort(found.begin(), found.end(),
              [](auto& a, auto& b) { return std::tie(a.first, b.last) < std::tie(b.first, a.last); });

    // A merged object stands for all objects within its range.
    std::vector<Found> chosen;
    std::vector<io::ObjectInfo> fences;
    for (auto& f : found) {
      if (f.object.size == kFenceBytes) fences.push_back(f.object);
      if (chosen.empty() || f.first > chosen.back().last) {
        chosen.push_back(f);
      } else if (f.last <= chosen.back().last) {
        if (f.object.size != kFenceBytes) contained_.push_back(f.object.key);
      } else {
        return std::unexpected(EnvError(ErrorKind::kCorrupt, "state log objects \"{}\" and \"{}\" overlap",
                                        chosen.back().object.key, f.object.key));
      }
    }
    for (size_t i = 0; i + kFencesKept < fences.size(); i++)
      if (fences[i].modified_ms + kFenceMaxAgeMs < WallMicros() / 1000) old_fences_.push_back(fences[i].key);

    std::vector<Head> heads(chosen.size());
    TW_TRY(ReadHeads(chosen, heads));
    uint64_t next = 1;
    for (size_t i = 0; i < chosen.size(); i++) {
      auto& f = chosen[i];
      if (heads[i].incomplete) {
        if (i + 1 < chosen.size())
          return std::unexpected(EnvError(ErrorKind::kCorrupt, "state log object \"{}\" is cut off", f.object.key));
        log::warn("state log: removing the half-written segment object={}", f.object.key);
        TW_TRY(store_->Delete(f.object.key));
        continue;
      }
      if (heads[i].header.first != f.first || heads[i].header.last != f.last)
        return std::unexpected(
            EnvError(ErrorKind::kCorrupt, "state log object \"{}\" bears another's name", f.object.key));
      next = f.last + 1;
      Admit(heads[i].header, f.object.key, std::move(heads[i].entries));
    }
    TW_TRY(CheckNothingMissing());
    return TakeOver(next);
  }

  /// The records of every stream that count follow each other without a gap.
  Status CheckNothingMissing() const {
    for (auto& [name, s] : streams_) {
      uint32_t previous = 0;
      for (auto* e : s.live) {
        if (e->at.ordinal != OrdinalOf(e->at.kind, previous))
          return std::unexpected(
              EnvError(ErrorKind::kCorrupt, "state log: an object before \"{}\" is missing", e->segment->key)
                  .WithDetail("stream " + name));
        previous = e->at.ordinal;
      }
    }
    return {};
  }

  struct Head {
    bool incomplete = false;
    SegmentHeader header;
    std::vector<IndexEntry> entries;
  };

  /// Reads the indexes, several at a time: on a bucket each costs a round trip.
  template <class Found>
  Status ReadHeads(const std::vector<Found>& chosen, std::vector<Head>& heads) {
    std::vector<Status> outcomes(chosen.size());
    std::atomic<size_t> next{0};
    auto work = [&] {
      for (size_t i; (i = next++) < chosen.size();) outcomes[i] = ReadHead(chosen[i].object, heads[i]);
    };
    std::vector<std::thread> threads;
    for (size_t t = 0; t < std::min<size_t>(8, chosen.size() / 8); t++) threads.emplace_back(work);
    work();
    for (auto& t : threads) t.join();
    for (auto& o : outcomes) TW_TRY(o);
    return {};
  }

  Status ReadHead(const io::ObjectInfo& object, Head& out) {
    TW_ASSIGN(std::string head, store_->GetRange(object.key, 0, kHeadGuess));
    if (IsIncomplete(head, object.size)) {
      out.incomplete = true;
      return {};
    }
    TW_ASSIGN(uint64_t needed, HeadBytes(head, object.size, object.key));
    if (needed > head.size()) {
      TW_ASSIGN(std::string rest, store_->GetRange(object.key, head.size(), needed - head.size()));
      head += rest;
    }
    return ParseHead(head, object.size, object.key, out.header, out.entries);
  }

  /// Publishes the next generation in a segment without records. Whoever holds an older one will find its next number
  /// taken.
  Status TakeOver(uint64_t number) {
    SegmentHeader header;
    header.first = header.last = number;
    header.generation = generation_ + 1;
    header.writer = writer_;
    header.checkpoint = last_;
    SegmentWriter writer({FenceEntry()});
    writer.Append({});
    std::string bytes = writer.Finish(header);
    std::string key = SegmentKey(number, number);
    TW_TRY(PutOwn(key, bytes));
    queued_checkpoint_ = opened_at_ = last_;
    Admit(header, key, writer.entries());
    started_ = true;
    return {};
  }

  /// Adds a durable object to the picture.
  void Admit(const SegmentHeader& header, const std::string& key, std::vector<IndexEntry> entries) {
    auto segment = std::make_unique<Segment>();
    segment->header = header;
    segment->key = key;
    segment->fence = entries.size() == 1 && entries[0].stream.empty();
    if (!started_) generation_ = std::max(generation_, header.generation);
    last_ = std::max(last_, header.checkpoint);
    if (segment->fence) entries.clear();
    for (auto& index : entries) {
      auto& stream = *streams_.try_emplace(index.stream).first;
      auto& s = stream.second;
      auto e = std::make_unique<Entry>();
      e->at = std::move(index);
      std::string().swap(e->at.stream);
      e->stream = &stream;
      e->segment = segment.get();
      if (Opens(e->at.kind))
        for (auto* old : std::exchange(s.live, {})) Kill(*old);
      if (!started_) s.ordinal = e->at.ordinal;
      s.live.push_back(e.get());
      s.existing++;
      segment->live++;
      live_bytes_ += e->at.stored_bytes;
      segment->entries.push_back(std::move(e));
      Settle(stream);
    }
    log_bytes_ += header.object_bytes;
    segments_[header.first] = std::move(segment);
  }

  void Kill(Entry& e) {
    e.live = false;
    e.segment->live--;
    live_bytes_ -= e.at.stored_bytes;
  }

  /// A drop is needed as long as there is an older record that it hides.
  void Settle(Stream& stream) {
    auto& s = stream.second;
    if (s.live.empty() || s.live[0]->at.kind != RecordKind::kDrop || s.existing > s.live.size()) return;
    Kill(*s.live[0]);
    s.live.erase(s.live.begin());
  }

  /// The object of these records is gone.
  void Forget(std::vector<std::unique_ptr<Entry>> entries) {
    for (auto& e : entries) {
      auto& stream = *e->stream;
      TW_CHECK(!e->live, "a live record of stream {} was deleted", stream.first);
      stream.second.existing--;
      Settle(stream);
      // The name stays while queued records may still count from its ordinal.
      if (stream.second.existing == 0 && stream.second.ordinal == 0 && queue_.empty() && !writing_)
        streams_.erase(stream.first);
    }
  }

  // ---- reading records ----

  /// Visits the stored bytes of `wanted`, which lie in the object in this order.
  Status ReadStored(const std::string& key, const std::vector<const Entry*>& wanted,
                    const std::function<Status(const Entry&, std::string_view)>& visit) {
    for (size_t i = 0; i < wanted.size();) {
      uint64_t begin = wanted[i]->at.offset;
      uint64_t end = begin + wanted[i]->at.stored_bytes;
      size_t j = i + 1;
      for (; j < wanted.size(); j++) {
        auto& at = wanted[j]->at;
        if (at.offset > end + kMaxGap || at.offset + at.stored_bytes > begin + kMaxRun) break;
        end = at.offset + at.stored_bytes;
      }
      TW_ASSIGN(std::string run, store_->GetRange(key, begin, end - begin));
      for (; i < j; i++) {
        auto& at = wanted[i]->at;
        uint64_t from = std::min<uint64_t>(at.offset - begin, run.size());
        TW_TRY(visit(*wanted[i], std::string_view(run).substr(from, at.stored_bytes)));
      }
    }
    return {};
  }

  // ---- writing: the log's thread ----

  void WriteLoop() {
    auto& seconds = metrics::Seconds("tidewater_state_log_write_seconds", "Compressing and writing one checkpoint");
    auto& written = metrics::Counter("tidewater_state_log_written_bytes_total", "Bytes of checkpoints written");
    auto& log_size = metrics::Gauge("tidewater_state_log_bytes", "Bytes of the state log");
    auto& live_size = metrics::Gauge("tidewater_state_log_live_bytes", "Bytes of the records that recovery would read");
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_writer_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Job job = std::move(queue_.front());
      queue_.pop_front();
      writing_ = true;
      Status status = failure_;
      if (status) {
        uint64_t number = segments_.rbegin()->second->header.last + 1;
        lock.unlock();
        int64_t begin = MonotonicMicros();
        SegmentHeader header;
        std::vector<IndexEntry> index;
        status = Write(job, number, header, index);
        seconds.Observe(double(MonotonicMicros() - begin) / 1e6);
        lock.lock();
        if (status) {
          Admit(header, SegmentKey(number, number), std::move(index));
          written.Increment(double(header.object_bytes));
          log_size.Set(double(log_bytes_));
          live_size.Set(double(live_bytes_));
        } else {
          failure_ = status;
        }
      }
      queued_bytes_ -= job.bytes;
      room_.notify_all();
      lock.unlock();
      if (job.done) job.done(status);
      job = {};
      lock.lock();
      writing_ = false;
      idle_.notify_all();
      wake_cleaner_.notify_one();
    }
  }

  Status Write(Job& job, uint64_t number, SegmentHeader& header, std::vector<IndexEntry>& index) {
    std::vector<IndexEntry> entries;
    entries.reserve(job.records.size());
    for (size_t i = 0; i < job.records.size(); i++) {
      auto& r = job.records[i];
      IndexEntry e;
      e.checkpoint = job.checkpoint;
      e.kind = r.kind;
      e.stream = std::move(r.stream);
      e.ordinal = job.ordinals[i];
      entries.push_back(std::move(e));
    }
    SegmentWriter writer(std::move(entries), job.bytes + job.bytes / 128 + (1 << 16));
    for (auto& r : job.records) {
      writer.Append(r.payload);
      std::string().swap(r.payload);  // gives the memory back
    }
    header.first = header.last = number;
    header.generation = generation_;
    header.writer = writer_;
    header.checkpoint = job.checkpoint;
    std::string bytes = writer.Finish(header);
    index = writer.entries();
    FaultPoint("checkpoint.before_write");
    auto status = PutOwn(SegmentKey(number, number), bytes);
    if (!status && status.error().kind == ErrorKind::kAlreadyExists)
      return std::unexpected(
          EnvError(ErrorKind::kConflict, "another process has taken over the state at {}", store_->Uri())
              .WithDetail(SegmentKey(number, number) + " exists: " + status.error().message));
    TW_TRY(status);
    FaultPoint("checkpoint.after_write");
    return {};
  }

  /// PutIfAbsent; an object that is there already but is ours was written by an attempt whose answer got lost.
  Status PutOwn(const std::string& key, const std::string& bytes) {
    auto status = store_->PutIfAbsent(key, bytes);
    if (status || status.error().kind != ErrorKind::kAlreadyExists) return status;
    auto there = store_->GetRange(key, 0, kSegmentHeaderBytes);
    if (there && *there == std::string_view(bytes).substr(0, kSegmentHeaderBytes)) return {};
    return status;
  }

  // ---- cleaning: a thread of its own, from the first commit on ----

  void CleanLoop() {
    std::unique_lock lock(mutex_);
    uint64_t merged_up_to = 0;
    for (;;) {
      wake_cleaner_.wait(lock, [&] { return stopping_ || HasWork(merged_up_to); });
      if (stopping_) return;
      uint64_t newest = segments_.rbegin()->second->header.last;
      lock.unlock();
      auto status = Clean(newest / kGroup > merged_up_to);
      lock.lock();
      merged_up_to = newest / kGroup;
      if (!status) {
        log::warn("state log: cleaning failed, trying again later error=\"{}\"", status.error().ToString());
        wake_cleaner_.wait_for(lock, std::chrono::seconds(10), [&] { return stopping_; });
      }
    }
  }

  bool HasWork(uint64_t merged_up_to) const {
    if (queued_checkpoint_ == 0 || !committed() || !failure_) return false;
    if (!contained_.empty() || !old_fences_.empty()) return true;
    auto& newest = *segments_.rbegin()->second;
    if (newest.header.last / kGroup > merged_up_to) return true;
    return std::any_of(segments_.begin(), segments_.end(), [&](auto& s) { return IsDead(*s.second); });
  }

  bool committed() const { return segments_.rbegin()->second->header.checkpoint > opened_at_; }

  /// Without live records, and not needed as the newest object or as a fence.
  bool IsDead(const Segment& s) const { return s.live == 0 && !s.fence && &s != segments_.rbegin()->second.get(); }

  Status Clean(bool merge) {
    std::vector<std::string> keys;
    {
      std::lock_guard lock(mutex_);
      keys = contained_;
      keys.insert(keys.end(), old_fences_.begin(), old_fences_.end());
    }
    for (auto& key : keys) TW_TRY(store_->Delete(key));
    {
      std::lock_guard lock(mutex_);
      for (auto& key : old_fences_) {
        uint64_t first, last;
        auto it = ParseSegmentKey(key, first, last) ? segments_.find(first) : segments_.end();
        if (it == segments_.end() || it->second->key != key) continue;
        log_bytes_ -= it->second->header.object_bytes;
        segments_.erase(it);
      }
      contained_.clear();
      old_fences_.clear();
    }
    TW_TRY(DeleteDead());
    if (!merge) return {};
    for (int level = 1; level <= kGroupLevels; level++) MergeGroups(level);
    return {};
  }

  Status DeleteDead() {
    for (;;) {
      std::string key;
      uint64_t first = 0;
      {
        std::lock_guard lock(mutex_);
        for (auto& [number, s] : segments_)
          if (IsDead(*s)) {
            key = s->key;
            first = number;
            break;
          }
      }
      if (key.empty()) return {};
      TW_TRY(store_->Delete(key));
      std::lock_guard lock(mutex_);
      auto it = segments_.find(first);
      auto segment = std::move(it->second);
      segments_.erase(it);
      log_bytes_ -= segment->header.object_bytes;
      Forget(std::move(segment->entries));
    }
  }

  void MergeGroups(int level) {
    uint64_t size = 1;
    for (int i = 0; i < level; i++) size *= kGroup;
    for (uint64_t group = 0;;) {
      std::vector<uint64_t> members;
      {
        std::lock_guard lock(mutex_);
        uint64_t newest = segments_.rbegin()->first;
        auto it = segments_.lower_bound(group * size);
        if (it == segments_.end()) return;
        group = it->first / size;
        if ((group + 1) * size > newest || stopping_) return;
        uint64_t bytes = 0;
        for (; it != segments_.end() && it->first / size == group; ++it) {
          if (it->second->fence) continue;
          members.push_back(it->first);
          for (auto& e : it->second->entries)
            if (e->live) bytes += e->at.stored_bytes;
        }
        if (members.size() < kMergeAtLeast || bytes > kMaxMergeBytes) members.clear();
      }
      if (!members.empty()) {
        auto status = Merge(members, group * size, (group + 1) * size - 1);
        // What is there stays readable; the next start sorts it out.
        if (!status) log::warn("state log: could not merge segments error=\"{}\"", status.error().ToString());
      }
      group++;
    }
  }

  /// Replaces objects by one that holds their live records.
  Status Merge(const std::vector<uint64_t>& members, uint64_t first, uint64_t last) {
    SegmentHeader header;
    header.first = first;
    header.last = last;
    header.writer = writer_;
    // Entries die meanwhile but are not freed: only this thread does that.
    std::vector<std::pair<std::string, std::vector<const Entry*>>> parts;
    std::vector<IndexEntry> index;
    {
      std::lock_guard lock(mutex_);
      for (auto number : members) {
        auto& s = *segments_.at(number);
        header.generation = std::max(header.generation, s.header.generation);
        header.checkpoint = std::max(header.checkpoint, s.header.checkpoint);
        parts.push_back({s.key, {}});
        for (auto& e : s.entries) {
          if (!e->live) continue;
          parts.back().second.push_back(e.get());
          index.push_back(e->at);
          index.back().stream = e->stream->first;
        }
      }
    }
    SegmentWriter writer(std::move(index));
    for (auto& [key, entries] : parts) {
      auto read = ReadStored(key, entries, [&](const Entry& e, std::string_view stored) -> Status {
        TW_TRY(CheckPayload(e.at, stored, key));
        writer.AppendStored(stored);
        return {};
      });
      TW_TRY(read);
    }
    std::string bytes = writer.Finish(header);
    std::string key = SegmentKey(first, last);
    TW_TRY(PutOwn(key, bytes));

    // From here on the merged object counts; what it was made of is garbage even if it stays for a while.
    auto merged = std::make_unique<Segment>();
    merged->header = header;
    merged->key = key;
    std::vector<std::unique_ptr<Segment>> replaced;
    {
      std::lock_guard lock(mutex_);
      size_t n = 0;
      for (auto number : members) {
        auto node = segments_.extract(number);
        auto& s = *node.mapped();
        log_bytes_ -= s.header.object_bytes;
        auto& part = parts[replaced.size()].second;
        size_t k = 0;
        for (auto& e : s.entries) {
          if (k == part.size() || part[k] != e.get()) continue;
          k++;
          e->at.offset = writer.entries()[n++].offset;
          e->segment = merged.get();
          merged->live += e->live;
          merged->entries.push_back(std::move(e));
        }
        std::erase(s.entries, nullptr);
        replaced.push_back(std::move(node.mapped()));
      }
      log_bytes_ += header.object_bytes;
      // A fence of that number keeps its object, but has nothing more to say.
      if (auto it = segments_.find(first); it != segments_.end()) log_bytes_ -= it->second->header.object_bytes;
      segments_[first] = std::move(merged);
    }
    for (auto& s : replaced) {
      TW_TRY(store_->Delete(s->key));
      std::lock_guard lock(mutex_);
      Forget(std::move(s->entries));
    }
    return {};
  }

  const std::shared_ptr<io::ObjectStore> store_;
  const uint64_t writer_;
  // Constant after Start.
  uint64_t generation_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable wake_writer_, wake_cleaner_, room_, idle_;
  // Guarded by mutex_ once the threads run.
  std::map<uint64_t, std::unique_ptr<Segment>> segments_;  ///< by first number; the newest is always there
  std::unordered_map<std::string, StreamState> streams_;
  std::vector<std::string> contained_;   ///< objects that a merged one replaced before a crash
  std::vector<std::string> old_fences_;  ///< to be deleted
  uint64_t log_bytes_ = 0;
  uint64_t live_bytes_ = 0;
  CheckpointId last_ = 0;
  CheckpointId opened_at_ = 0;
  CheckpointId queued_checkpoint_ = 0;
  std::deque<Job> queue_;
  uint64_t queued_bytes_ = 0;
  Status failure_;
  bool started_ = false;
  bool writing_ = false;
  bool stopping_ = false;

  std::thread writer_thread_;
  std::thread cleaner_thread_;
};
}  // namespace

void SegmentBuilder::Add(std::string stream, RecordKind kind, std::string payload) {
  bytes_ += stream.size() + payload.size();
  records_.push_back({id_, std::move(stream), kind, std::move(payload)});
}

Result<std::unique_ptr<StateLog>> StateLog::Open(std::shared_ptr<io::ObjectStore> store) {
  auto log = std::make_unique<StateLogImpl>(std::move(store));
  TW_TRY(log->Start());
  return log;
}

}  // namespace tidewater::state
