// Checkpoints and the recovery from them.
//
// Streams of the state log that belong to the engine: "catalog" (JSON), "engine" (epoch, offsets, sinks), and one
// stream "sink/<sink>/<checkpoint>" for the deltas of each checkpoint that a sink has not yet committed. "circuit/..."
// is the circuit's.
#include "tidewater/engine/core.h"
#include <filesystem>
#include <unistd.h>
#include "tidewater/base/block_memory.h"
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/fault.h"
#include "tidewater/base/log.h"

namespace tidewater::engine {

namespace {
/// 2 says of each sink whether it has to take its input's content.
constexpr uint8_t kEngineRecordVersion = 2;
/// Epochs published after the last checkpoint are forgotten by a crash; numbers start this much later, so that none is
/// given twice.
constexpr Epoch kEpochsPerRestart = 10'000'000;
/// Progress that is nothing but an offset is recorded this often.
constexpr int64_t kOffsetOnlyIntervalUs = 10'000'000;
constexpr size_t kCheckpointsInFlightMax = 2;
}  // namespace

std::string SinkStream(ObjectId sink, CheckpointId id) { return fmt::format("sink/{}/{}", sink, id); }

bool Core::CheckpointPossible() const { return in_flight_.size() < kCheckpointsInFlightMax && !AnyOpen(); }

bool Core::CheckpointFull() const {
  auto bytes = circuit_->UnloggedBytes();
  for (auto& [id, sink] : sinks_) bytes += sink.log.bytes.size();
  return bytes >= options_.checkpoint_bytes;
}

bool Core::CheckpointDue(int64_t now_us) const {
  if (changed_ && CheckpointFull()) return true;
  if (changed_) return now_us - last_checkpoint_us_ >= options_.checkpoint_interval_ms * 1000;
  return offsets_changed_ &&
         now_us - last_checkpoint_us_ >= std::max(kOffsetOnlyIntervalUs, options_.checkpoint_interval_ms * 1000);
}

std::string Core::EncodeEngineRecord() const {
  state::ByteWriter out;
  out.Put(kEngineRecordVersion);
  out.Put(epoch_);
  out.Put(wal_applied_);
  out.Put(error_table_);
  out.Put(uint32_t(sources_.size()));
  for (auto& [id, source] : sources_) {
    out.Put(id);
    out.PutString(source.offset);
    out.Put(uint8_t(source.started));
    out.Put(source.rows);
    out.Put(source.events);
    out.Put(uint32_t(source.loading.size()));
    for (auto table : source.loading) out.Put(table);
  }
  out.Put(uint32_t(sinks_.size()));
  for (auto& [id, sink] : sinks_) {
    out.Put(id);
    out.PutString(sink.uuid);
    out.Put(uint8_t(sink.content != 0));
    out.Put(uint32_t(sink.logged.size()));
    for (auto checkpoint : sink.logged) out.Put(checkpoint);
  }
  return std::move(out.bytes);
}

Result<Core::Restored> Core::DecodeEngineRecord(const std::string& payload) {
  state::ByteReader in(payload);
  Restored out;
  auto version = in.Get<uint8_t>();
  if (version < 1 || version > kEngineRecordVersion)
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "engine record of version {}", version));
  out.epoch = in.Get<Epoch>();
  out.wal_sequence = in.Get<uint64_t>();
  out.error_table = in.Get<ObjectId>();
  for (auto n = in.Get<uint32_t>(); n && in.ok; n--) {
    auto id = in.Get<ObjectId>();
    auto& source = out.sources[id];
    source.offset = std::string(in.GetString());
    source.started = in.Get<uint8_t>() != 0;
    source.rows = in.Get<uint64_t>();
    source.events = in.Get<uint64_t>();
    for (auto m = in.Get<uint32_t>(); m && in.ok; m--) source.loading.push_back(in.Get<ObjectId>());
  }
  for (auto n = in.Get<uint32_t>(); n && in.ok; n--) {
    auto id = in.Get<ObjectId>();
    auto& sink = out.sinks[id];
    sink.uuid = std::string(in.GetString());
    sink.content = version >= 2 && in.Get<uint8_t>();
    for (auto m = in.Get<uint32_t>(); m && in.ok; m--) sink.logged.push_back(in.Get<CheckpointId>());
  }
  if (!in.ok || !in.done()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "the engine's record is damaged"));
  return out;
}

CheckpointId Core::TakeCheckpoint() {
  TW_CHECK(!stepped_ && !pushed_, "a checkpoint is taken at an epoch boundary");
  static auto& seconds =
      metrics::Seconds("tidewater_checkpoint_build_seconds", "Time a checkpoint takes from the engine's thread");
  static auto& bytes = metrics::Counter("tidewater_checkpoint_bytes_total", "Bytes of checkpoints before compression");
  auto begun = MonotonicMicros();
  FaultPoint("engine.checkpoint_begin");
  auto id = next_checkpoint_++;
  auto segment = std::make_unique<state::SegmentBuilder>(id);
  circuit_->Checkpoint(*segment);
  auto contents = catalog_.Current();
  if (contents->version() != catalog_version_saved_) {
    segment->Add("catalog", state::RecordKind::kBase, catalog_.Encode());
    catalog_version_saved_ = contents->version();
  }
  for (auto& stream : dropped_streams_) segment->Drop(std::move(stream));
  dropped_streams_.clear();
  CheckpointInfo info;
  for (auto& [sink_id, sink] : sinks_) {
    if (sink.sink) {
      auto committed = sink.sink->GetStatus().committed;
      if (committed >= sink.content) sink.content = 0;
      while (!sink.logged.empty() && sink.logged.front() <= committed) {
        segment->Drop(SinkStream(sink_id, sink.logged.front()));
        sink.logged.pop_front();
      }
    }
    if (!sink.log.bytes.empty()) {
      segment->Add(SinkStream(sink_id, id), state::RecordKind::kBase, std::exchange(sink.log.bytes, {}));
      sink.logged.push_back(id);
    }
  }
  segment->Add("engine", state::RecordKind::kBase, EncodeEngineRecord());
  for (auto& [source_id, source] : sources_) {
    info.offsets[source_id] = source.offset;
    info.commit_time_us = std::max(info.commit_time_us, source.checkpoint_commit_time_us);
    source.checkpoint_commit_time_us = 0;
  }
  info.wal_sequence = wal_applied_;
  info.begun_us = begun;
  info.bytes = segment->bytes();
  if (pin_durable_) info.snapshot = circuit_->Pin();
  bytes.Increment(double(info.bytes));
  in_flight_.emplace(id, std::move(info));
  changed_ = offsets_changed_ = false;
  last_checkpoint_us_ = begun;
  FaultPoint("engine.checkpoint_built");
  log_->Commit(std::move(segment), [this, id](Status status) {
    std::lock_guard lock(mutex_);
    if (status) {
      durable_ = std::max(durable_, id);
      changed_cond_.notify_all();
    }
    durable_events_.emplace_back(id, std::move(status));
    wake_.notify_one();
  });
  seconds.Observe(double(MonotonicMicros() - begun) / 1e6);
  return id;
}

void Core::HandleDurable() {
  std::deque<std::pair<CheckpointId, Status>> events;
  {
    std::lock_guard lock(mutex_);
    events.swap(durable_events_);
    if (wal_failure_) Fatal("the write-ahead log could not be written: " + wal_failure_->ToString());
  }
  static auto& seconds =
      metrics::Seconds("tidewater_checkpoint_seconds", "From the beginning of a checkpoint until it is durable");
  static auto& count = metrics::Counter("tidewater_checkpoints_total", "Durable checkpoints");
  for (auto& [id, status] : events) {
    if (!status) Fatal(fmt::format("checkpoint {} could not be written: {}", id, status.error().ToString()));
    auto it = in_flight_.find(id);
    TW_CHECK(it != in_flight_.end(), "checkpoint {}", id);
    auto info = std::move(it->second);
    in_flight_.erase(it);
    seconds.Observe(double(MonotonicMicros() - info.begun_us) / 1e6);
    count.Increment();
    crash_note::SetCheckpoint(id);
    FaultPoint("engine.checkpoint_durable");
    for (auto& [source_id, offset] : info.offsets)
      if (auto source = sources_.find(source_id); source != sources_.end() && source->second.started)
        source->second.source->Confirm(offset);
    FaultPoint("engine.confirmed");
    for (auto& [sink_id, sink] : sinks_)
      if (sink.sink && (!sink.filling || sinks_full_)) sink.sink->CheckpointDurable(id, info.commit_time_us);
    wal_->Truncate(info.wal_sequence);
    if (info.snapshot) {
      std::lock_guard lock(mutex_);
      durable_snapshot_ = std::move(info.snapshot);
      changed_cond_.notify_all();
    }
  }
}

Status Core::WaitDurable(CheckpointId id, const Cancelled& cancelled) {
  std::unique_lock lock(mutex_);
  while (durable_ < id) {
    if (stopped_) return std::unexpected(StoppingError());
    if (cancelled && cancelled()) return std::unexpected(CancelledError());
    changed_cond_.wait_for(lock, std::chrono::milliseconds(100));
  }
  return {};
}

Result<std::shared_ptr<dataflow::Snapshot>> Core::PinDurable(const Cancelled& cancelled) {
  if (!pin_durable_.exchange(true)) {
    CheckpointId id = 0;
    TW_TRY(OnEngine([&] {
      id = TakeCheckpoint();
      return Status{};
    }));
    TW_TRY(WaitDurable(id, cancelled));
  }
  std::unique_lock lock(mutex_);
  while (!durable_snapshot_) {
    if (stopped_) return std::unexpected(StoppingError());
    changed_cond_.wait_for(lock, std::chrono::milliseconds(100));
  }
  return durable_snapshot_;
}

Status Core::Flush(const Cancelled& cancelled, std::vector<std::string>& warnings) {
  struct Waiting {
    std::string name;
    std::shared_ptr<Sink> sink;
    std::optional<Error> start_error;
  };
  CheckpointId id = 0;
  std::vector<Waiting> waiting;
  TW_TRY(OnEngine([&] {
    id = TakeCheckpoint();
    for (auto& [sink_id, sink] : sinks_)
      if (!sink.filling) waiting.push_back({sink.name, sink.sink, sink.start_error});
    return Status{};
  }));
  TW_TRY(WaitDurable(id, cancelled));
  auto deadline = MonotonicMicros() + options_.flush_sink_timeout_ms * 1000;
  for (auto& [name, sink, error] : waiting) {
    while (sink) {
      auto committed = sink->WaitCommitted(id, 50);
      if (committed) break;
      if (committed.error().kind == ErrorKind::kCancelled) {
        std::lock_guard lock(mutex_);
        if (stop_) return std::unexpected(StoppingError());
        break;  // it was dropped
      }
      if (cancelled && cancelled()) return std::unexpected(CancelledError());
      auto status = sink->GetStatus();
      if (status.state == SinkState::kFailed || MonotonicMicros() > deadline) {
        warnings.push_back(fmt::format("sink \"{}\" has not committed this checkpoint{}", name,
                                       status.error ? ": " + status.error->ToString() : std::string()));
        break;
      }
    }
    if (!sink && error)
      warnings.push_back(fmt::format("sink \"{}\" has not committed this checkpoint: {}", name, error->ToString()));
  }
  return {};
}

std::string Core::EncodeWrite(const WriteDeltas& deltas) {
  state::ByteWriter out;
  out.Put(uint32_t(deltas.size()));
  for (auto& [table, delta] : deltas) {
    out.Put(table);
    state::EncodeBatch(delta, out);
  }
  return std::move(out.bytes);
}

Result<WriteDeltas> Core::DecodeWrite(const std::string& payload) const {
  state::ByteReader in(payload);
  WriteDeltas out;
  auto contents = catalog_.Current();
  for (auto n = in.Get<uint32_t>(); n && in.ok; n--) {
    auto id = in.Get<ObjectId>();
    auto table = contents->Find(id);
    if (!table)
      return std::unexpected(
          EnvError(ErrorKind::kCorrupt, "the write-ahead log names table {}, which is not there", id));
    TW_ASSIGN(auto delta, state::DecodeBatch(in, sql::ToSchema(*table).GetTypes()));
    out.emplace(id, std::move(delta));
  }
  if (!in.ok || !in.done())
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "an entry of the write-ahead log is damaged"));
  return out;
}

Status Core::Open() {
  TW_ASSIGN(store_, io::OpenStore(options_.state, options_.store_options));
  TW_ASSIGN(log_, state::StateLog::Open(store_));
  TW_ASSIGN(wal_, state::WriteAheadLog::Open(store_, log_->generation()));
  TW_TRY(MakeScratch());
  TW_TRY(OpenCrashNotes());
  return Recover();
}

Status Core::OpenCrashNotes() {
  constexpr std::string_view kLocal = "file://";
  auto uri = store_->Uri();
  if (uri.starts_with(kLocal)) {
    crash_notes_path_ = uri.substr(kLocal.size()) + "/crash.notes";
  } else if (uri.starts_with("s3://")) {
    // A bucket takes no note of a dying process: it stays on the machine, where a restart looks.
    crash_notes_path_ =
        fmt::format("{}/tidewater-{:016x}.crash.notes", options_.scratch_directory, std::hash<std::string>{}(uri));
  } else {
    return {};
  }
  auto notes = crash_note::Read(crash_notes_path_);
  for (auto& note : crash_note::Blamed(notes, log_->last(), WallMicros())) blamed_[note.object] = note;
  std::erase_if(notes, [&](auto& n) { return blamed_.contains(n.object); });
  TW_TRY(crash_note::Write(crash_notes_path_, notes));
  TW_TRY(crash_note::Install(crash_notes_path_));
  crash_note::SetCheckpoint(log_->last());
  return {};
}

uint64_t Core::PassBytesMax() const {
  constexpr uint64_t kLeast = 64 << 20;
  return options_.memory_bytes ? std::max(options_.memory_bytes / 4, kLeast) : 0;
}

Status Core::MakeScratch() {
  namespace fs = std::filesystem;
  std::error_code ignored;
  auto& directory = options_.scratch_directory;
  if (directory.empty()) {
    constexpr std::string_view kLocal = "file://";
    auto uri = store_->Uri();
    if (uri.starts_with(kLocal)) {
      directory = uri.substr(kLocal.size()) + "/scratch";
      fs::remove_all(directory, ignored);  // what a killed process left; this one has fenced it off
    } else {
      directory = fs::temp_directory_path(ignored).string();
    }
  }
  query_scratch_ = fmt::format("{}/queries-{}-{}", directory, getpid(), log_->generation());
  if (!options_.memory_bytes) return {};
  return BlockMemory::Get().SetBudget(options_.memory_bytes, directory);
}

Status Core::Recover() {
  crash_note::HandlerStack handler_stack;
  auto begun = MonotonicMicros();
  Restored restored;
  bool found = false;
  TW_TRY(log_->Replay("catalog", [&](state::Record&& record) { return catalog_.Decode(record.payload); }));
  TW_TRY(log_->Replay("engine", [&](state::Record&& record) -> Status {
    TW_ASSIGN(restored, DecodeEngineRecord(record.payload));
    found = true;
    return {};
  }));
  sql::FrontendOptions frontend_options;
  frontend_options.database = options_.database;
  frontend_options.memory_limit_bytes = options_.query_memory_bytes;
  frontend_options.threads = options_.query_threads;
  frontend_options.temp_directory = query_scratch_;
  TW_ASSIGN(frontend_, sql::Frontend::Make(catalog_, frontend_options));
  if (options_.extend) options_.extend(frontend_->db());
  circuit_ = dataflow::Circuit::Make(frontend_->db(), {.workers = options_.workers, .pass_bytes_max = PassBytesMax()});
  next_checkpoint_ = log_->last() + 1;
  {
    std::lock_guard lock(mutex_);
    durable_ = log_->last();
  }

  // A crash may have ended a CREATE SINK between its view and itself.
  std::vector<ObjectId> orphans;
  for (auto& [id, object] : catalog_.Current()->objects())
    if (object->hidden && catalog_.Current()->Dependents(id).empty()) orphans.push_back(id);
  catalog_.Remove(orphans);
  auto stored = catalog_.Current();
  bool newly_frozen = false;
  for (auto& [id, object] : stored->objects()) {
    switch (object->type) {
      case catalog::ObjectType::kSource:
        if (object->stream_only) circuit_->AddStream(id, sql::ToSchema(*object).GetTypes());
        break;
      case catalog::ObjectType::kTable:
      case catalog::ObjectType::kMaterializedView: {
        auto keyed = *object;
        if (object->type == catalog::ObjectType::kTable) {
          circuit_->AddTable(id, sql::ToSchema(*object));
        } else {
          keyed.freeze = RecoverView(*object, restored.epoch);
          newly_frozen |= keyed.freeze != object->freeze;
        }
        keyed.store_key = object->hidden ? std::vector<uint32_t>{} : circuit_->StoreKey(id);
        TW_TRY(catalog_.Replace(std::move(keyed)));
        break;
      }
      default:
        break;
    }
  }
  catalog_version_saved_ = newly_frozen ? 0 : catalog_.version();
  changed_ |= newly_frozen;
  error_table_ = restored.error_table;
  epoch_ = restored.epoch + (found ? kEpochsPerRestart : 1);
  TW_TRY(log_->Replay("circuit/", [&](state::Record&& record) { return circuit_->Restore(std::move(record)); }));
  TW_TRY(circuit_->Restored(epoch_));
  TakeFaults();
  circuit_->Publish(epoch_);
  epoch_++;
  if (!found) {
    TW_TRY(MakeErrorTable());
  } else {
    auto snapshot = circuit_->Pin();
    auto schema = ErrorTable::TableSchema();
    std::vector<uint32_t> columns;
    for (uint32_t i = 0; i < schema.columns.size(); i++) columns.push_back(i);
    DataChunk chunk;
    chunk.Initialize(duckdb::Allocator::DefaultAllocator(), schema.GetTypes());
    for (uint64_t part = 0; part < snapshot->Parts(error_table_); part++) {
      uint64_t resume = 0;
      bool more = true;
      while (more) {
        chunk.Reset();
        more = snapshot->Scan(error_table_, part, resume, columns, chunk);
        for (duckdb::idx_t r = 0; r < chunk.size(); r++) {
          duckdb::vector<duckdb::Value> row;
          for (duckdb::idx_t c = 0; c < chunk.ColumnCount(); c++) row.push_back(chunk.GetValue(c, r));
          errors_.Load(row);
        }
      }
    }
  }

  // Sinks come before the write-ahead log is replayed: what it brings is new to them.
  for (auto& [id, object] : stored->objects()) {
    if (object->type != catalog::ObjectType::kSink) continue;
    auto& sink = sinks_[id];
    sink.id = id;
    sink.input = object->input;
    sink.name = object->name;
    auto state = restored.sinks.find(id);
    if (state == restored.sinks.end())
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "sink \"{}\" has no recorded state", object->name));
    sink.uuid = state->second.uuid;
    sink.logged.assign(state->second.logged.begin(), state->second.logged.end());
    sink.content = state->second.content ? log_->last() : 0;
    // A target that does not answer or refuses is the sink's own to retry. What comes back here are options that the
    // connector does not take: SHOW SINKS says so, and the state log keeps the deltas for a start that does.
    if (auto attached = AttachSink(sink, *object, true); !attached) {
      if (!sink.rows_metric) return attached;  // no such connector, or no such input
      log::error("sink {}: {}", object->name, attached.error().ToString());
      sink.start_error = attached.error();
      sink.sink.reset();
    }
    circuit_->KeepOutput(sink.input, true);
    if (sink.content && sink.sink && !catalog_.Current()->Find(sink.input)->hidden) LoadSink(sink, sink.content);
  }
  TW_TRY(ReplaySinkLogs(restored));
  for (auto& [id, sink] : sinks_)
    if (sink.sink && log_->last()) sink.sink->CheckpointDurable(log_->last(), 0);

  for (auto& [id, object] : stored->objects()) {
    if (object->type != catalog::ObjectType::kSource) continue;
    TW_ASSIGN(auto source, MakeSource(*object));
    auto state = restored.sources.find(id);
    if (state == restored.sources.end())
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "source \"{}\" has no recorded state", object->name));
    source.offset = state->second.offset;
    source.started = state->second.started;
    source.rows = state->second.rows;
    source.events = state->second.events;
    // A crash may have ended a CREATE TABLE before the table was in the catalog: its number is given again.
    for (auto table : state->second.loading)
      if (auto found = stored->Find(table); found && found->source == id) source.loading.insert(table);
    loading_.insert(source.loading.begin(), source.loading.end());
    sources_.emplace(id, std::move(source));
  }
  PauseUnreadStreams();
  TW_TRY(ReplayWal(restored.wal_sequence));
  log::info("recovered checkpoint={} epoch={} objects={} seconds={:.3f}", log_->last(), epoch_,
            stored->objects().size(), double(MonotonicMicros() - begun) / 1e6);
  return {};
}

std::optional<catalog::Freeze> Core::RecoverView(const catalog::Object& view, Epoch epoch) {
  auto freeze = view.freeze;
  if (auto note = blamed_.find(view.id); !freeze && note != blamed_.end())
    freeze = {fmt::format("the process crashed again and again (signal {}) {}", note->second.signal,
                          note->second.part < 0 ? "at its rows" : fmt::format("in operator {}", note->second.part)),
              epoch, view.id};
  if (!freeze && std::find(options_.freeze.begin(), options_.freeze.end(), view.name) != options_.freeze.end())
    freeze = {"it was named by --freeze", epoch, view.id};
  if (auto below = FrozenBelow(view.depends_on); !freeze && !below.empty())
    freeze = {fmt::format("it stands on \"{}\", which is frozen", below[0]->name), epoch, below[0]->freeze->cause};
  if (!freeze) {
    crash_note::WorkingFor work(view.id);
    ChecksThrow checks;
    try {
      auto added = AddView(view, !view.hidden);
      if (added) return std::nullopt;
      freeze = {fmt::format("its stored plan cannot be used: {}", added.error().ToString()), epoch, view.id};
    } catch (const std::exception& e) {
      freeze = {fmt::format("its stored plan cannot be used: {}", sql::FromException(e).message), epoch, view.id};
    }
  }
  if (!view.freeze) log::error("materialized view {} is frozen at epoch {}: {}", view.name, epoch, freeze->reason);
  circuit_->AddFrozenView(view.id, sql::ToSchema(view).GetTypes());
  return freeze;
}

Status Core::ReplayWal(uint64_t after) {
  wal_applied_ = after;
  uint64_t entries = 0;
  TW_TRY(wal_->Replay(after, [&](uint64_t sequence, std::string&& payload) -> Status {
    TW_ASSIGN(auto deltas, DecodeWrite(payload));
    for (auto& [table, delta] : deltas) circuit_->Push(table, std::move(delta));
    // One transaction may delete what the one before inserted: each is a step of its own.
    StepNow();
    wal_applied_ = sequence;
    entries++;
    return {};
  }));
  PublishNow();
  if (entries) log::info("replayed write-ahead log entries={} last={}", entries, wal_applied_);
  return {};
}

Status Core::ReplaySinkLogs(const Restored& restored) {
  std::map<std::pair<CheckpointId, ObjectId>, std::string> records;
  TW_TRY(log_->Replay("sink/", [&](state::Record&& record) -> Status {
    unsigned sink = 0;
    unsigned long long checkpoint = 0;
    if (sscanf(record.stream.c_str(), "sink/%u/%llu", &sink, &checkpoint) != 2)
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "stream \"{}\" of the state log", record.stream));
    if (sinks_.contains(sink))
      records[{checkpoint, sink}] = std::move(record.payload);
    else
      dropped_streams_.push_back(record.stream);  // a crash ended the statement that made it
    return {};
  }));
  for (auto& [key, payload] : records) {
    auto& sink = sinks_.at(key.second);
    if (!sink.sink) continue;
    state::ByteReader in(payload);
    while (!in.done()) {
      TW_ASSIGN(auto batch, state::DecodeBatch(in, sink.types));
      sink.sink->Append(key.first, Copy(batch));  // decoded chunks have room for many more rows
    }
  }
  return {};
}

}  // namespace tidewater::engine
