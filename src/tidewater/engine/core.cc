#include "tidewater/engine/core.h"
#include <unistd.h>
#include "tidewater/base/block_memory.h"
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/fault.h"
#include "tidewater/base/log.h"

namespace tidewater::engine {

using duckdb::idx_t;

namespace {

/// How soon sources are looked at again while sinks hold too much: nobody tells when they have committed.
constexpr int64_t kSinksFullWaitUs = 20'000;

}  // namespace

Error StoppingError() { return Error{ErrorKind::kUnavailable, "57P01", "the engine is shutting down", {}, {}, 0}; }
Error CancelledError() {
  return Error{ErrorKind::kCancelled, "57014", "canceling statement due to user request", {}, {}, 0};
}

Core::Core(EngineOptions options) : options_(std::move(options)) { step_rows_ = options_.min_step_rows; }

Core::~Core() {
  Stop(false);
  // Their threads call back into this object.
  log_.reset();
  wal_.reset();
  if (options_.memory_bytes) (void)BlockMemory::Get().SetBudget(0, {});
}

Status Core::Start() {
  {
    std::lock_guard lock(mutex_);
    stop_ = false;
    stopped_ = false;
  }
  last_checkpoint_us_ = MonotonicMicros();
  for (auto& [id, source] : sources_) {
    if (!source.started) continue;
    // A source that cannot start shows why in SHOW SOURCES; everything else goes on.
    if (auto started = StartSource(source); !started)
      log::error("source {}: {}", source.name, started.error().ToString());
  }
  thread_ = std::thread([this] { Loop(); });
  return {};
}

void Core::Stop(bool last_checkpoint) {
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      stop_checkpoint_ = last_checkpoint;
    }
    Wake();
    thread_.join();
    if (last_checkpoint) {
      if (auto flushed = log_->Flush(); !flushed)
        log::error("the last checkpoint failed: {}", flushed.error().ToString());
      HandleDurable();
    }
  }
  for (auto& [id, source] : sources_)
    if (source.source) source.source->Stop();
  for (auto& [id, runtime] : backfills_)
    for (auto& [stream, reader] : runtime.readers) reader.source->Stop();
  backfills_.clear();
  for (auto& [id, sink] : sinks_)
    if (sink.sink) sink.sink->Stop();
  sinks_.clear();
  sources_.clear();
  if (!crash_notes_path_.empty()) crash_note::Uninstall(last_checkpoint);
  crash_notes_path_.clear();
}

void Core::Wake() {
  if (woken_.exchange(true)) return;
  std::lock_guard lock(mutex_);
  wake_.notify_one();
}

Status Core::OnEngine(const std::function<Status()>& work, bool any_time) {
  std::future<Status> done;
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || stop_) return std::unexpected(StoppingError());
    auto request = std::make_unique<Request>();
    request->work = &work;
    request->any_time = any_time;
    any_time_asked_ |= any_time;
    done = request->done.get_future();
    requests_.push_back(std::move(request));
    wake_.notify_one();
  }
  return done.get();
}

Status Core::Write(WriteDeltas deltas, std::future<Status>& durable) {
  std::future<Status> published;
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || stop_) return std::unexpected(StoppingError());
    auto write = std::make_unique<PendingWrite>();
    write->deltas = std::move(deltas);
    published = write->published.get_future();
    durable = write->durable.get_future();
    writes_.push_back(std::move(write));
    wake_.notify_one();
  }
  return published.get();
}

Epoch Core::LastWrite(ObjectId table) const {
  auto it = last_write_.find(table);
  return it == last_write_.end() ? 0 : it->second;
}

void Core::FailWaiters(const Error& error) {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  for (auto& request : requests_) request->done.set_value(std::unexpected(error));
  for (auto& write : writes_) {
    write->published.set_value(std::unexpected(error));
    write->durable.set_value(std::unexpected(error));
  }
  requests_.clear();
  writes_.clear();
  changed_cond_.notify_all();
}

void Core::Fatal(const std::string& what) {
  // Nothing that follows could be trusted, and nothing acknowledged is lost: recovery starts from the last checkpoint.
  spdlog::critical("engine stops the process: {}", what);
  spdlog::shutdown();
  _exit(70);
}

bool Core::AnyOpen() const {
  for (auto& [id, source] : sources_)
    if (source.open) return true;
  return false;
}

void Core::RunRequests(bool at_boundary) {
  std::deque<std::unique_ptr<Request>> taken;
  {
    std::lock_guard lock(mutex_);
    if (at_boundary) {
      taken.swap(requests_);
    } else {
      auto rest = std::stable_partition(requests_.begin(), requests_.end(), [](auto& r) { return !r->any_time; });
      std::move(rest, requests_.end(), std::back_inserter(taken));
      requests_.erase(rest, requests_.end());
    }
  }
  for (auto& request : taken) {
    Status done;
    try {
      done = (*request->work)();
    } catch (const std::exception& e) {
      done = std::unexpected(sql::FromException(e));
    }
    request->done.set_value(std::move(done));
  }
}

void Core::TakeWrites(std::vector<std::unique_ptr<PendingWrite>>& taken) {
  {
    std::lock_guard lock(mutex_);
    for (auto& write : writes_) taken.push_back(std::move(write));
    writes_.clear();
  }
  for (auto& write : taken) {
    auto* promise = new std::promise<Status>(std::move(write->durable));
    wal_applied_ = wal_->Append(EncodeWrite(write->deltas), [this, promise](Status status) {
      if (!status) {
        // Its rows are visible already and will not survive: the loop ends the process.
        std::lock_guard lock(mutex_);
        wal_failure_ = status.error();
        wake_.notify_one();
      }
      promise->set_value(std::move(status));
      delete promise;
    });
    for (auto& [table, delta] : write->deltas) {
      last_step_rows_ += delta.rows();
      circuit_->Push(table, std::move(delta));
      pushed_ = true;
    }
  }
}

bool Core::SinksFull() {
  uint64_t bytes = 0, most = 0;
  const SinkRuntime* largest = nullptr;
  for (auto& [id, sink] : sinks_) {
    auto held = sink.sink ? sink.sink->GetStatus().log_bytes : 0;
    bytes += held;
    if (held > most) {
      most = held;
      largest = &sink;
    }
  }
  bool full = bytes > options_.sink_log_bytes_max;
  if (full) {
    // What a commit interval holds back would never become less.
    CheckpointId durable = 0;
    {
      std::lock_guard lock(mutex_);
      durable = durable_;
    }
    for (auto& [id, sink] : sinks_)
      if (sink.sink) (void)sink.sink->WaitCommitted(durable, 0);
  }
  if (full != sinks_full_) {
    sinks_full_ = full;
    if (full)
      log::warn("sources wait: bytes={} are held for sinks that have not committed, more than {}; most for sink={}",
                bytes, options_.sink_log_bytes_max, largest->name);
    else
      log::info("sources go on: bytes={} are held for sinks", bytes);
  }
  return full;
}

bool Core::PollSources() {
  bool any_open = AnyOpen();
  // The second: until the disk has taken what went before.
  if (!any_open && (SinksFull() || (!CheckpointPossible() && CheckpointFull()))) return false;
  bool more = false;
  for (auto& [id, source] : sources_) {
    if (!source.started || source.unread || (any_open && !source.open)) continue;
    bool stream = source.connector->stream_only;
    size_t rows = 0;
    while (rows < step_rows_) {
      auto batch = source.source->Poll(step_rows_ - rows);
      if (!batch) break;
      more = true;
      size_t batch_rows = batch->RowCount();
      rows += std::max<size_t>({batch_rows, size_t(batch->events), 1});
      source.rows += batch_rows;
      source.events += batch->events ? batch->events : batch_rows;
      source.rows_metric->Increment(double(batch->events ? batch->events : batch_rows));
      source.open = batch->continues;
      if (source.offset != batch->offset) {
        source.offset = std::move(batch->offset);
        offsets_changed_ = true;
      }
      source.epoch_commit_time_us = std::max(source.epoch_commit_time_us, batch->commit_time_us);
      for (auto& change : batch->changes) {
        // A table that was dropped may still come for a while.
        if (change.rows->size() == 0 || !circuit_->Contains(change.table)) continue;
        pushed_ = true;
        if (stream) {
          DeltaBatch delta;
          delta.types = change.rows->GetTypes();
          DeltaChunk chunk;
          chunk.rows = std::move(change.rows);
          delta.chunks.push_back(std::move(chunk));
          circuit_->Push(change.table, std::move(delta));
        } else {
          circuit_->Push(std::move(change));
        }
      }
      if (!batch->rejected.empty()) {
        DeltaBatch delta;
        for (auto& row : batch->rejected) {
          if (!circuit_->Contains(row.table)) continue;
          auto name = NameOf(row.table);
          errors_.Resolve(name, row.key, delta);
          if (row.resolved) continue;
          source.rejected++;
          errors_.Add({name, "source", row.key, row.column, row.value, row.message, row.hint}, 1, delta);
        }
        if (!delta.empty()) {
          circuit_->Push(error_table_, Consolidate(delta));
          pushed_ = true;
        }
      }
      for (auto table : batch->loaded)
        if (source.loading.erase(table)) {
          loaded_now_.push_back(table);
          offsets_changed_ = true;
        }
    }
    last_step_rows_ += rows;
  }
  return more;
}

void Core::HandToSink(SinkRuntime& sink, DeltaBatch rows) {
  auto count = rows.rows();
  if (count == 0) return;
  sink.rows += count;
  sink.rows_metric->Increment(double(count));
  changed_ = true;
  if (sink.keeps_log) {
    state::EncodeBatch(rows, sink.log);
  }
  if (sink.sink) sink.sink->Append(next_checkpoint_, std::move(rows));
}

void Core::LoadSink(SinkRuntime& sink, CheckpointId id) {
  std::shared_ptr<const dataflow::Snapshot> snapshot = circuit_->Pin();
  sink.content = id;
  sink.sink->Load(id, snapshot->Rows(sink.input), [snapshot, input = sink.input, types = sink.types] {
    DeltaBatch all;
    all.types = types;
    std::vector<uint32_t> columns;
    for (uint32_t c = 0; c < types.size(); c++) columns.push_back(c);
    for (uint64_t part = 0, parts = snapshot->Parts(input); part < parts; part++) {
      uint64_t resume = 0;
      for (bool more = true; more;) {
        DeltaChunk chunk;
        chunk.rows = std::make_unique<DataChunk>();
        chunk.rows->InitializeEmpty(types);
        more = snapshot->Scan(input, part, resume, columns, *chunk.rows);
        if (chunk.rows->size() > 0) all.chunks.push_back(std::move(chunk));
      }
    }
    return all;
  });
}

void Core::CollectForSinks() {
  for (auto& [id, sink] : sinks_)
    if (auto& rows = circuit_->Output(sink.input); !rows.empty()) sink.pending.push_back(Copy(rows));
}

void Core::HandToSinks() {
  for (auto& [id, sink] : sinks_)
    for (auto& rows : std::exchange(sink.pending, {})) HandToSink(sink, std::move(rows));
}

std::string Core::NameOf(ObjectId id) const {
  if (auto object = catalog_.Current()->Find(id)) return object->name;
  if (auto it = new_names_.find(id); it != new_names_.end()) return it->second;
  return std::to_string(id);
}

void Core::CollectEvaluationErrors() {
  std::set<ObjectId> views;
  for (auto& e : circuit_->TakeErrors()) {
    if (!circuit_->Contains(e.view)) continue;  // dropped since
    auto& [pending, rows] = pending_errors_[e.view];
    rows += e.weight;
    auto it =
        pending
            .try_emplace({"", std::to_string(e.node), std::move(e.key), "", std::move(e.row), std::move(e.message), ""})
            .first;
    if ((it->second += e.weight) == 0) pending.erase(it);
    views.insert(e.view);
  }
  for (auto view : views) {
    auto failing = pending_errors_[view].rows;
    if (!backfills_.contains(view)) failing += int64_t(errors_.Count(NameOf(view)));
    if (failing > int64_t(options_.error_rows_max))
      circuit_->Freeze(view, fmt::format("more than {} of its rows fail", options_.error_rows_max));
  }
}

void Core::StepEvaluationErrors() {
  // The error table's own change is a step of its own in the same epoch; views on the error table may fail in turn.
  for (int round = 0; round < 3; round++) {
    DeltaBatch delta;
    for (auto it = pending_errors_.begin(); it != pending_errors_.end();) {
      if (backfills_.contains(it->first)) {  // nobody sees its rows yet
        ++it;
        continue;
      }
      auto name = NameOf(it->first);
      for (auto& [entry, weight] : it->second.entries) {
        auto named = entry;
        named.object = name;
        errors_.Add(named, weight, delta);
      }
      it = pending_errors_.erase(it);
    }
    if (delta.empty()) return;
    circuit_->Push(error_table_, std::move(delta));
    circuit_->Step(epoch_);
    AfterStep();
  }
}

void Core::AfterStep() {
  CollectForSinks();
  CollectEvaluationErrors();
  TakeFaults();
}

void Core::TakeFaults() {
  auto contents = catalog_.Current();
  for (auto& fault : circuit_->TakeFaults()) {
    auto view = contents->Find(fault.view);
    auto cause = contents->Find(fault.cause);
    std::string reason;
    if (cause && fault.cause != fault.view)
      reason = fmt::format("it stands on \"{}\", which is frozen", cause->name);
    else if (fault.node >= 0)
      reason = fmt::format("{}in operator {}: {}", fault.memory ? "out of memory " : "", fault.node, fault.message);
    else
      reason = fault.message;
    catalog::Freeze freeze{std::move(reason), circuit_->published(), fault.cause};
    if (view)
      RecordFreeze(*view, std::move(freeze));
    else
      early_freezes_.emplace(fault.view, std::move(freeze));
  }
}

void Core::RecordFreeze(const catalog::Object& view, catalog::Freeze freeze) {
  log::error("materialized view {} is frozen at epoch {}: {}", view.name, freeze.epoch, freeze.reason);
  auto frozen = view;
  frozen.freeze = std::move(freeze);
  auto replaced = catalog_.Replace(std::move(frozen));
  TW_CHECK(replaced.has_value(), "{}", replaced.error().ToString());
  pending_errors_.erase(view.id);
  for (auto& [id, sink] : sinks_)
    if (sink.input == view.id) sink.pending.clear();
  PauseUnreadStreams();
  changed_ = true;
}

void Core::StepNow() {
  auto begun = MonotonicMicros();
  if (!epoch_begun_us_) epoch_begun_us_ = begun;
  circuit_->Step(epoch_);
  static auto& seconds = metrics::Seconds("tidewater_step_seconds", "Duration of one step through all operators");
  static auto& steps = metrics::Counter("tidewater_steps_total", "Steps run");
  last_step_took_us_ = MonotonicMicros() - begun;
  seconds.Observe(double(last_step_took_us_) / 1e6);
  steps.Increment();
  pushed_ = false;
  stepped_ = true;
  changed_ = true;
  AfterStep();
}

void Core::PublishNow() {
  if (stepped_) {
    StepEvaluationErrors();
    circuit_->Publish(epoch_);
    TakeFaults();
    HandToSinks();
    static auto& seconds =
        metrics::Seconds("tidewater_epoch_seconds", "From the first step of an epoch until it is visible");
    if (epoch_begun_us_) seconds.Observe(double(MonotonicMicros() - std::exchange(epoch_begun_us_, 0)) / 1e6);
    epoch_++;
    stepped_ = false;
    auto now = WallMicros();
    for (auto& [id, source] : sources_) {
      if (!source.epoch_commit_time_us) continue;
      source.freshness_metric->Observe(double(std::max<int64_t>(0, now - source.epoch_commit_time_us)) / 1e6);
      source.checkpoint_commit_time_us = std::max(source.checkpoint_commit_time_us, source.epoch_commit_time_us);
      source.epoch_commit_time_us = 0;
    }
  }
  if (!loaded_now_.empty()) {
    std::lock_guard lock(mutex_);
    for (auto table : loaded_now_) loading_.erase(table);
    loaded_now_.clear();
    changed_cond_.notify_all();
  }
}

void Core::RefreshMetrics() {
  static auto& memory = metrics::Gauge("tidewater_state_memory_bytes", "Memory of operator state and stored relations");
  static auto& log_bytes = metrics::Gauge("tidewater_state_log_bytes", "Bytes that recovery would read");
  static auto& live_bytes = metrics::Gauge("tidewater_state_log_live_bytes", "Bytes of live records in the state log");
  static auto& published = metrics::Gauge("tidewater_epoch", "The published epoch");
  static auto& error_rows = metrics::Gauge("tidewater_error_rows", "Rows in tidewater_errors");
  static auto& frozen_views =
      metrics::Gauge("tidewater_frozen_views", "Materialized views that stopped and wait for ALTER ... RESUME");
  memory.Set(double(circuit_->MemoryBytes()));
  log_bytes.Set(double(log_->log_bytes()));
  live_bytes.Set(double(log_->live_bytes()));
  published.Set(double(circuit_->published()));
  error_rows.Set(double(errors_.Count()));
  size_t frozen = 0;
  auto contents = catalog_.Current();
  for (auto& [id, object] : contents->objects()) frozen += object->freeze.has_value();
  frozen_views.Set(double(frozen));
  EngineReport report;
  report.epoch = circuit_->published();
  report.generation = log_->generation();
  report.memory_bytes = circuit_->MemoryBytes();
  report.log_bytes = log_->log_bytes();
  report.live_bytes = log_->live_bytes();
  report.errors = errors_.Count();
  report.checkpoint = durable_;
  for (auto& [id, source] : sources_) {
    SourceReport r{id, source.name, source.connector->name, {}, source.rows, source.events, source.rejected};
    if (source.source) r.status = source.source->GetStatus();
    for (auto& load : r.status.loads)
      if (load.name.empty()) load.name = NameOf(load.table);
    metrics::Labels labels{{"source", source.name}};
    metrics::Gauge("tidewater_source_lag_bytes", "Bytes behind the upstream's write position", labels)
        .Set(double(r.status.lag_bytes));
    metrics::Gauge("tidewater_source_up", "1 while the source streams or loads", labels)
        .Set(r.status.state == SourceState::kStreaming || r.status.state == SourceState::kLoading);
    metrics::Gauge("tidewater_source_retries", "Connection attempts after failures", labels)
        .Set(double(r.status.retries));
    metrics::Gauge("tidewater_source_rejected_rows", "Rows that went to the error table", labels)
        .Set(double(source.rejected));
    report.sources.push_back(std::move(r));
  }
  for (auto& [id, sink] : sinks_) {
    SinkReport r;
    r.id = id;
    r.name = sink.name;
    r.connector = sink.connector_name;
    if (auto input = catalog_.Current()->Find(sink.input)) {
      if (!input->hidden) r.input = input->name;
      if (input->freeze) r.frozen = input->freeze->reason;
    }
    r.rows = sink.rows;
    if (sink.sink) r.status = sink.sink->GetStatus();
    if (sink.start_error) {
      r.status.state = SinkState::kFailed;
      r.status.error = sink.start_error;
    }
    metrics::Labels labels{{"sink", sink.name}};
    metrics::Gauge("tidewater_sink_log_rows", "Rows handed over and not yet committed", labels)
        .Set(double(r.status.log_rows));
    metrics::Gauge("tidewater_sink_log_bytes", "Memory held for what is handed over and not yet committed", labels)
        .Set(double(r.status.log_bytes));
    metrics::Gauge("tidewater_sink_last_commit_seconds", "Duration of the last commit", labels)
        .Set(double(r.status.last_commit_ms) / 1e3);
    metrics::Gauge("tidewater_sink_retries", "Failed attempts to commit or connect", labels)
        .Set(double(r.status.retries));
    if (r.status.commits > sink.commits_seen) {
      sink.commits_metric->Increment(double(r.status.commits - sink.commits_seen));
      sink.commits_seen = r.status.commits;
    }
    report.sinks.push_back(std::move(r));
  }
  for (auto& [id, runtime] : backfills_)
    report.backfills.push_back({id, runtime.name, runtime.backfill->rows_done(), runtime.backfill->rows_total()});
  std::lock_guard lock(mutex_);
  report.checkpoint = durable_;
  report_ = std::move(report);
}

EngineReport Core::Report() {
  EngineReport report;
  // Statuses are read on the engine's thread, where sources and sinks come and go.
  auto read = OnEngine(
      [&] {
        RefreshMetrics();
        std::lock_guard lock(mutex_);
        report = report_;
        return Status{};
      },
      true);
  if (!read) {
    std::lock_guard lock(mutex_);
    report = report_;
  }
  return report;
}

void Core::Loop() {
  crash_note::HandlerStack handler_stack;
  try {
    bool more = false;
    std::vector<std::unique_ptr<PendingWrite>> writes;
    while (true) {
      {
        std::unique_lock lock(mutex_);
        auto asked = [&] {
          return stop_ || !requests_.empty() || !writes_.empty() || !durable_events_.empty() || wal_failure_;
        };
        if (!more) {
          int64_t wait_us = 1'000'000;
          if (sinks_full_) wait_us = kSinksFullWaitUs;
          if (changed_ && CheckpointPossible())
            wait_us = std::clamp<int64_t>(
                last_checkpoint_us_ + options_.checkpoint_interval_ms * 1000 - MonotonicMicros(), 0, wait_us);
          wake_.wait_for(lock, std::chrono::microseconds(wait_us), [&] { return asked() || woken_.load(); });
        }
        // Under a trickle of small transactions a step for each would cost more than it serves.
        if (!stop_ && last_step_rows_ < options_.min_step_rows) {
          auto rest = last_step_us_ + options_.min_step_interval_us - MonotonicMicros();
          if (rest > 0 && rest <= options_.min_step_interval_us)
            wake_.wait_for(lock, std::chrono::microseconds(rest), asked);
        }
        if (stop_) break;
        any_time_asked_ = false;
      }
      woken_.store(false);
      HandleDurable();

      last_step_rows_ = 0;
      RunRequests(!AnyOpen());
      if (!AnyOpen()) TakeWrites(writes);
      more = PollSources();
      if (pushed_) {
        last_step_us_ = MonotonicMicros();
        StepNow();
      }
      if (!AnyOpen()) {
        auto epoch = epoch_;
        PublishNow();
        // The writers still hold the write lock for us.
        for (auto& write : writes)
          for (auto& [table, delta] : write->deltas) last_write_[table] = epoch;
        for (auto& write : writes) write->published.set_value({});
        writes.clear();
        more |= RunBackfills();
      }
      step_rows_ = more && last_step_rows_ >= step_rows_ ? std::min(step_rows_ * 2, options_.max_step_rows)
                                                         : options_.min_step_rows;

      auto now = MonotonicMicros();
      if (CheckpointPossible() && CheckpointDue(now)) TakeCheckpoint();
      if (now - last_refresh_us_ >= 1'000'000) {
        last_refresh_us_ = now;
        RefreshMetrics();
      }
    }
    // In the middle of an upstream transaction there is no prefix to record: the upstream sends it again.
    if (stop_checkpoint_ && !AnyOpen() && (changed_ || offsets_changed_)) TakeCheckpoint();
    for (auto& write : writes) write->published.set_value(std::unexpected(StoppingError()));
  } catch (const std::exception& e) {
    Fatal(e.what());
  }
  FailWaiters(StoppingError());
}

}  // namespace tidewater::engine
