#include "tidewater/sinks/iceberg/iceberg_sink.h"
#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/fault.h"
#include "tidewater/base/log.h"
#include "tidewater/base/metrics.h"
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/rest_client.h"
#include "tidewater/iceberg/scan.h"
#include "tidewater/lake/table_writer.h"
#include "tidewater/lake/types.h"
#include "tidewater/lake/warehouse.h"

namespace tidewater {
namespace {

std::optional<uint64_t> ToNumber(std::string_view text) {
  uint64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

std::optional<SinkStamp> StampOf(const iceberg::Snapshot& snapshot, const std::string& uuid) {
  auto get = [&](const char* key) -> std::string {
    auto it = snapshot.summary.find(key);
    return it == snapshot.summary.end() ? std::string() : it->second;
  };
  if (get(kStampSink) != uuid) return std::nullopt;
  auto generation = ToNumber(get(kStampGeneration)), checkpoint = ToNumber(get(kStampCheckpoint));
  if (!generation || !checkpoint) return std::nullopt;
  return SinkStamp{*generation, *checkpoint, snapshot.id};
}

/// Whether trying again may help.
bool IsTransient(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUnavailable:
    case ErrorKind::kIo:
    case ErrorKind::kCommitFailed:
    case ErrorKind::kCommitStateUnknown:
      return true;
    default:
      return false;
  }
}

/// Whether waiting may help a sink that has not come up: as above, or somebody grants access, or brings back a table or
/// bucket. Later such errors stop the sink: the table that it has indexed is no longer what it knew.
bool MayPass(const Error& error) {
  return IsTransient(error.kind) || error.kind == ErrorKind::kAuthentication || error.kind == ErrorKind::kNotFound ||
         error.sqlstate == "42P01";
}

Error WithDefaultHint(Error error) {
  if (!error.hint.empty()) return error;
  switch (error.kind) {
    case ErrorKind::kAuthentication:
      error.hint = "Correct the credentials, then drop and create the sink, or restart.";
      break;
    case ErrorKind::kConflict:
      error.hint =
          "Another writer changed the table in a way that this sink cannot follow: resolve it there, then restart.";
      break;
    case ErrorKind::kNotFound:
      error.hint = "The table or one of its files is gone: restore it, or drop the sink.";
      break;
    default:
      break;
  }
  return error;
}

class IcebergSink : public Sink {
 public:
  IcebergSink(SinkOptions options, IcebergSinkConfig config, CatalogOpener open)
      : options_(std::move(options)),
        config_(std::move(config)),
        open_(std::move(open)),
        commits_metric_(metrics::Counter("tidewater_sink_commits_total", "Commits of a sink", Labels())),
        rows_metric_(metrics::Counter("tidewater_sink_rows_total", "Rows written by a sink", Labels())),
        data_files_metric_(FilesMetric("data")),
        delete_files_metric_(FilesMetric("deletes")),
        removed_files_metric_(metrics::Counter("tidewater_sink_files_removed_total",
                                               "Files taken out of the table by a sink's commits", Labels())),
        seconds_metric_(metrics::Seconds("tidewater_sink_commit_seconds", "Duration of a sink's commits", Labels())),
        index_metric_(metrics::Gauge("tidewater_sink_index_bytes", "Memory of a sink's primary-key index", Labels())) {}
  ~IcebergSink() override { Stop(); }

  Status Start() override {
    if (!options_.recovered) {
      auto status = Connect();
      if (!status) {
        if (!IsTransient(status.error().kind)) return std::unexpected(WithDefaultHint(std::move(status).error()));
        NoteRetry(status.error());
      }
    }
    thread_ = std::thread([this] { Run(); });
    return {};
  }

  void Load(CheckpointId id, uint64_t rows, std::function<DeltaBatch()> make) override {
    std::lock_guard lock(mutex_);
    if (status_.committed > 0) return;
    content_ = Content{id, rows, std::move(make)};
    status_.log_rows += rows;
  }

  void Append(CheckpointId id, DeltaBatch rows) override {
    auto bytes = MemoryBytes(rows);
    std::lock_guard lock(mutex_);
    if (id <= status_.committed || rows.empty()) return;
    TW_CHECK(log_.empty() || log_.back().id <= id, "checkpoint {} after {}", id, log_.back().id);
    status_.log_rows += rows.rows();
    status_.log_bytes += bytes;
    log_.push_back({id, std::move(rows), bytes});
  }

  void CheckpointDurable(CheckpointId id, int64_t) override {
    std::lock_guard lock(mutex_);
    if (id <= durable_) return;
    durable_ = id;
    durable_since_commit_++;
    AdvanceIdle();
    wake_.notify_all();
  }

  SinkStatus GetStatus() override {
    std::lock_guard lock(mutex_);
    return status_;
  }

  Status WaitCommitted(CheckpointId id, int64_t timeout_ms) override {
    std::unique_lock lock(mutex_);
    wanted_ = std::max(wanted_, id);
    wake_.notify_all();
    bool done = committed_changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] {
      return status_.committed >= id || status_.state == SinkState::kFailed || status_.state == SinkState::kStopped;
    });
    if (status_.committed >= id) return {};
    if (status_.state == SinkState::kFailed && status_.error) return std::unexpected(*status_.error);
    if (done) return std::unexpected(EnvError(ErrorKind::kCancelled, "sink {} is stopped", options_.name));
    auto error = EnvError(ErrorKind::kUnavailable, "sink {} has committed up to checkpoint {}, not yet {}",
                          options_.name, status_.committed, id);
    if (status_.error) error.detail = status_.error->ToString();
    return std::unexpected(std::move(error));
  }

  void Stop() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      wake_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
    std::lock_guard lock(mutex_);
    if (status_.state != SinkState::kFailed) status_.state = SinkState::kStopped;
    committed_changed_.notify_all();
  }

 private:
  struct LogEntry {
    CheckpointId id;
    DeltaBatch rows;
    uint64_t bytes;
  };

  struct Content {
    CheckpointId id;
    uint64_t rows;
    std::function<DeltaBatch()> make;
  };

  metrics::Labels Labels() const { return {{"sink", options_.name}}; }

  prometheus::Counter& FilesMetric(const std::string& content) const {
    auto labels = Labels();
    labels["content"] = content;
    return metrics::Counter("tidewater_sink_files_total", "Files put into the table by a sink's commits", labels);
  }

  // --- the sink's thread (Start() of a new sink calls Connect() before there is one) ---

  void Run() {
    auto status = Serve();
    std::lock_guard lock(mutex_);
    if (!status && !stop_) {
      status_.state = SinkState::kFailed;
      status_.error = WithDefaultHint(std::move(status).error());
      log::error("sink failed sink={} error=\"{}\" hint=\"{}\"", options_.name, status_.error->ToString(),
                 status_.error->hint);
    }
    committed_changed_.notify_all();
  }

  Status Serve() {
    while (!writer_) {
      if (Stopping()) return {};
      auto status = table_.metadata ? PrepareWriter() : Connect();
      if (status) continue;
      if (!MayPass(status.error())) return status;
      table_ = {};  // the next attempt starts from a fresh look
      NoteRetry(status.error());
      Pause();
    }
    pause_ms_ = 0;
    NoteRunning();
    for (;;) {
      CheckpointId target = 0;
      std::vector<const DeltaBatch*> rows;
      std::optional<Content> content;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || HasWork(); });
        if (stop_) return {};
        content = content_;
        target = content ? content->id : durable_;
        // What the content contains stays in the log until it is committed: an older process may prove quicker.
        for (auto& entry : log_)
          if (entry.id <= target && !content) rows.push_back(&entry.rows);
        durable_since_commit_ = 0;
      }
      DeltaBatch all;
      if (content) {
        all = content->make();
        rows = {&all};
      }
      TW_TRY(Commit(target, std::move(rows)));
    }
  }

  /// Loads or creates the table and looks where this sink's commits ended.
  Status Connect() {
    TW_ASSIGN(catalog_, open_(config_, options_.state_dir));
    auto table = catalog_->LoadTable(config_.table);
    if (!table && table.error().kind == ErrorKind::kNotFound) {
      if (options_.established)
        return std::unexpected(
            EnvError(ErrorKind::kNotFound, "Iceberg table {}, to which this sink delivered, is gone",
                     config_.table.ToString())
                .WithHint("Restore it, or drop the sink and create it again: a new sink begins with all rows."));
      if (!config_.create_table)
        return std::unexpected(UserError("42P01", "Iceberg table {} does not exist", config_.table.ToString())
                                   .WithHint("Create it, or use create_table_if_not_exists = 'true'."));
      TW_ASSIGN(auto schema, lake::NewTableSchema(options_.input, config_.key, config_.format_version));
      iceberg::TableSpec spec;
      spec.schema = std::move(schema);
      spec.properties = {{iceberg::kPropFormatVersion, std::to_string(config_.format_version)},
                         {iceberg::kPropDeleteAfterCommit, "true"},
                         {iceberg::kPropPreviousVersionsMax, "50"},
                         {"write.parquet.compression-codec", "zstd"}};
      auto made = catalog_->CreateNamespace(config_.table.ns, {});
      if (!made && made.error().kind != ErrorKind::kAlreadyExists) return made;
      table = catalog_->CreateTable(config_.table, spec);
      if (!table && table.error().kind == ErrorKind::kAlreadyExists) table = catalog_->LoadTable(config_.table);
    }
    if (!table) return std::unexpected(std::move(table).error());
    TW_TRY(CheckTable(*table));
    table_ = std::move(*table);
    auto stamp = FindStamp(*table_.metadata, options_.uuid);
    TW_TRY(CheckGeneration(stamp));
    if (stamp) NoteCommitted(stamp->checkpoint, stamp->snapshot_id);
    return {};
  }

  /// Builds the writer and its index for table_.
  Status PrepareWriter() {
    auto started = MonotonicMicros();
    auto options = WriterOptions();
    TW_ASSIGN(auto writer, lake::TableWriter::Make(table_, options_.input, options));
    if (auto indexed = writer->Rebuild(table_); !indexed) {
      auto error = std::move(indexed).error();
      // A file that went meanwhile was replaced in a newer snapshot.
      if (error.kind == ErrorKind::kNotFound) error.kind = ErrorKind::kUnavailable;
      return std::unexpected(std::move(error));
    }
    schema_id_ = table_.metadata->current_schema_id;
    indexed_snapshot_ = table_.metadata->current_snapshot_id;
    writer_ = std::move(writer);
    log::info("sink indexed sink={} keys={} bytes={} ms={}", options_.name, writer_->index_keys(),
              writer_->index_bytes(), (MonotonicMicros() - started) / 1000);
    return {};
  }

  lake::TableWriterOptions WriterOptions() const {
    lake::TableWriterOptions options;
    options.upsert = config_.upsert;
    options.drop_retractions = config_.force_append_only;
    options.key = config_.key;
    options.target_file_bytes = config_.target_file_bytes;
    return options;
  }

  Status CheckTable(const iceberg::Table& table) {
    TW_ASSIGN(auto writer, lake::TableWriter::Make(table, options_.input, WriterOptions()));
    return {};
  }

  Status CheckGeneration(const std::optional<SinkStamp>& stamp) {
    if (!stamp || stamp->generation <= options_.generation) return {};
    return std::unexpected(EnvError(ErrorKind::kConflict,
                                    "a newer process (generation {}) commits to {}; this one has {}", stamp->generation,
                                    config_.table.ToString(), options_.generation)
                               .WithHint("Two processes run on copies of one state: stop this one."));
  }

  /// Commits all of `rows` (checkpoints up to `target`), whatever it takes. Returns only what cannot be retried.
  Status Commit(CheckpointId target, std::vector<const DeltaBatch*> rows) {
    if (rows.empty()) return {};
    auto started = MonotonicMicros();
    std::optional<iceberg::TableChange> change;
    std::set<int64_t> attempts;
    int lost_races = 0;
    bool refresh = false;
    for (;;) {
      if (Stopping()) return {};
      auto status = Attempt(target, rows, change, attempts, refresh);
      if (status) break;
      auto& error = status.error();
      if (!IsTransient(error.kind)) return status;
      if (error.kind == ErrorKind::kCommitFailed && ++lost_races > config_.commit_retries) return status;
      NoteRetry(error);
      refresh = true;
      // A lost race is decided: the next attempt on the new base may come at once.
      if (error.kind == ErrorKind::kCommitFailed && lost_races < 3) continue;
      Pause();
    }
    if (change) {
      data_files_metric_.Increment(double(change->added_data.size()));
      delete_files_metric_.Increment(double(change->added_deletes.size()));
      removed_files_metric_.Increment(double(change->removed_data.size() + change->removed_deletes.size()));
    }
    pause_ms_ = 0;
    auto ms = (MonotonicMicros() - started) / 1000;
    seconds_metric_.Observe(double(MonotonicMicros() - started) / 1e6);
    commits_metric_.Increment();
    index_metric_.Set(writer_ ? writer_->index_bytes() : 0);
    NoteRunning();
    NoteCommitted(target, indexed_snapshot_.value_or(0), ms);
    return {};
  }

  /// One attempt; success also when an earlier attempt turns out to have counted.
  Status Attempt(CheckpointId target, std::vector<const DeltaBatch*>& rows, std::optional<iceberg::TableChange>& change,
                 std::set<int64_t>& attempts, bool refresh) {
    if (refresh) {
      TW_ASSIGN(bool counted, Refresh(target, rows, change, attempts));
      if (counted) return {};
    }
    if (!writer_) TW_TRY(PrepareWriter());
    if (!change) {
      FaultPoint("sink.before_data_files");
      auto prefix = fmt::format("tw-{}-{}-{}", options_.generation, target, iceberg::NewUuid().substr(0, 8));
      auto before = writer_->rows_written();
      auto prepared = writer_->Prepare(table_, rows, prefix);
      if (!prepared) {
        writer_.reset();  // the index may be half-way: it is built again
        return std::unexpected(std::move(prepared).error());
      }
      change = std::move(*prepared);
      rows_metric_.Increment(double(writer_->rows_written() - before));
      {
        std::lock_guard lock(mutex_);
        status_.rows_written += writer_->rows_written() - before;
      }
      FaultPoint("sink.after_data_files");
    }
    if (change->added_data.empty() && change->added_deletes.empty() && change->removed_data.empty()) return {};
    Stamp(target, *change);
    auto prepared = iceberg::PrepareCommit(table_, *change);
    if (!prepared) return std::unexpected(std::move(prepared).error());
    attempts.insert(prepared->snapshot_id());
    FaultPoint("sink.before_commit");
    auto result = prepared->Commit(*catalog_);
    if (!result) return std::unexpected(std::move(result).error());
    FaultPoint("sink.after_commit");
    Adopt(std::move(result->table));
    if (!result->garbage.empty()) table_.files->DeleteAll(result->garbage);
    return {};
  }

  void Stamp(CheckpointId target, iceberg::TableChange& change) {
    auto generation = std::to_string(options_.generation), checkpoint = std::to_string(target);
    change.summary = {{kStampSink, options_.uuid}, {kStampGeneration, generation}, {kStampCheckpoint, checkpoint}};
    change.set_properties = {{kStampProperty + options_.uuid, generation + ":" + checkpoint}};
    if (!config_.expire_snapshots) return;
    iceberg::ExpirePolicy policy;
    policy.keep_last = config_.keep_snapshots;
    policy.max_age_ms = config_.keep_snapshots_ms;
    policy.only_with_summary = {{kStampSink, options_.uuid}};
    change.expire = policy;
  }

  /// The table after a commit of ours: the index is already there.
  void Adopt(iceberg::Table table) {
    table_ = std::move(table);
    indexed_snapshot_ = table_.metadata->current_snapshot_id;
    // Somebody may have changed the schema without a snapshot: columns are matched again.
    if (table_.metadata->current_schema_id != schema_id_) writer_.reset();
  }

  /// Loads the table and follows what others did to it. True when a commit of ours up to `target` is there.
  Result<bool> Refresh(CheckpointId target, std::vector<const DeltaBatch*>& rows,
                       std::optional<iceberg::TableChange>& change, std::set<int64_t>& attempts) {
    TW_ASSIGN(auto table, catalog_->LoadTable(config_.table));
    if (table.metadata->table_uuid != table_.metadata->table_uuid)
      return std::unexpected(
          EnvError(ErrorKind::kConflict, "table {} was dropped and created again", config_.table.ToString())
              .WithHint("Drop the sink and create it again for the new table."));
    auto stamp = FindStamp(*table.metadata, options_.uuid);
    TW_TRY(CheckGeneration(stamp));
    // What was prepared is void. Its files can only go when no request for them can still land: the head has moved on.
    auto forget = [&] {
      bool may_land = !attempts.empty() && table.metadata->current_snapshot_id == indexed_snapshot_;
      if (change && !may_land) lake::TableWriter::Abandon(table, *change);
      change.reset();
      attempts.clear();
      writer_.reset();
    };
    if (stamp && stamp->checkpoint > committed()) {
      if (stamp->checkpoint == target && attempts.contains(stamp->snapshot_id)) {
        // Ours, and perhaps others behind it.
        bool last = table.metadata->current_snapshot_id == stamp->snapshot_id;
        Adopt(std::move(table));
        if (!last) writer_.reset();
        return true;
      }
      // Of an older process, landed late: what it holds is done, the rest is prepared anew.
      forget();
      table_ = std::move(table);
      NoteCommitted(stamp->checkpoint, stamp->snapshot_id);
      std::lock_guard lock(mutex_);
      rows.clear();
      for (auto& entry : log_)
        if (entry.id <= target) rows.push_back(&entry.rows);
      return rows.empty();
    }
    if (table.metadata->current_snapshot_id != indexed_snapshot_) TW_TRY(Follow(table, forget));
    if (table.metadata->current_schema_id != schema_id_) forget();
    table_ = std::move(table);
    indexed_snapshot_ = table_.metadata->current_snapshot_id;
    return false;
  }

  /// Other writers' snapshots since indexed_snapshot_: appended rows join the index, anything else means building it
  /// again.
  Status Follow(const iceberg::Table& table, const std::function<void()>& forget) {
    auto& meta = *table.metadata;
    if (!meta.current_snapshot_id) {
      return std::unexpected(EnvError(ErrorKind::kConflict, "table {} was rolled back to before its first snapshot",
                                      config_.table.ToString()));
    }
    auto delta = iceberg::SnapshotsSince(meta, *meta.current_snapshot_id, indexed_snapshot_);
    if (!delta) {
      if (delta.error().kind != ErrorKind::kNotFound) return std::unexpected(std::move(delta).error());
      if (indexed_snapshot_ && meta.FindSnapshot(*indexed_snapshot_))
        return std::unexpected(EnvError(ErrorKind::kConflict, "table {} was rolled back behind snapshot {}",
                                        config_.table.ToString(), *indexed_snapshot_)
                                   .WithHint("Roll forward to that snapshot, or drop the sink and create it again."));
      forget();
      return {};
    }
    if (!config_.upsert || !writer_) return {};
    for (auto& snapshot : delta->snapshots) {
      TW_ASSIGN(auto changes, iceberg::ChangesOf(*table.files, snapshot));
      if (!changes.removed_data.empty() || !changes.added_deletes.empty() || !changes.removed_deletes.empty()) {
        log::info("sink builds its index again: another writer replaced or deleted files sink={} snapshot={}",
                  options_.name, snapshot.id);
        forget();
        return {};
      }
      auto status = writer_->IndexForeign(table, changes.added_data);
      if (!status) {
        forget();
        return status;
      }
    }
    return {};
  }

  // --- state shared with other threads ---

  bool Stopping() {
    std::lock_guard lock(mutex_);
    return stop_;
  }
  CheckpointId committed() {
    std::lock_guard lock(mutex_);
    return status_.committed;
  }

  bool HasWork() const {
    if (content_) return content_->id <= durable_;
    if (log_.empty() || log_.front().id > durable_) return false;
    return durable_since_commit_ >= config_.commit_interval ||
           (wanted_ > status_.committed && wanted_ <= durable_ && log_.front().id <= wanted_);
  }

  /// Nothing to commit up to the durable checkpoint: then it is committed.
  void AdvanceIdle() {
    if (!indexed_once_ || content_ || (!log_.empty() && log_.front().id <= durable_)) return;
    status_.committed = std::max(status_.committed, durable_);
    committed_changed_.notify_all();
  }

  void NoteRunning() {
    std::lock_guard lock(mutex_);
    indexed_once_ = true;
    status_.state = SinkState::kRunning;
    status_.error.reset();
    AdvanceIdle();
  }

  void NoteRetry(const Error& error) {
    log::warn("sink tries again sink={} error=\"{}\"", options_.name, error.ToString());
    std::lock_guard lock(mutex_);
    status_.state = SinkState::kRetrying;
    status_.error = error;
    status_.retries++;
  }

  void NoteCommitted(CheckpointId id, int64_t snapshot_id, std::optional<int64_t> duration_ms = std::nullopt) {
    std::deque<LogEntry> done;  // freed outside of the lock
    {
      std::lock_guard lock(mutex_);
      while (!log_.empty() && log_.front().id <= id) {
        status_.log_rows -= log_.front().rows.rows();
        status_.log_bytes -= log_.front().bytes;
        done.push_back(std::move(log_.front()));
        log_.pop_front();
      }
      // Nothing is committed before the content.
      if (auto content = std::exchange(content_, std::nullopt)) status_.log_rows -= content->rows;
      status_.committed = std::max(status_.committed, id);
      status_.snapshot_id = snapshot_id;
      if (duration_ms) {
        status_.commits++;
        status_.last_commit_ms = *duration_ms;
      }
      AdvanceIdle();
      committed_changed_.notify_all();
    }
  }

  /// Waits before the next attempt: from 100 ms, doubling up to 10 s.
  void Pause() {
    pause_ms_ = std::clamp<int64_t>(pause_ms_ * 2, 100, 10'000);
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::chrono::milliseconds(pause_ms_), [&] { return stop_; });
  }

  // Constant after construction.
  const SinkOptions options_;
  const IcebergSinkConfig config_;
  const CatalogOpener open_;
  prometheus::Counter& commits_metric_;
  prometheus::Counter& rows_metric_;
  prometheus::Counter& data_files_metric_;
  prometheus::Counter& delete_files_metric_;
  prometheus::Counter& removed_files_metric_;
  prometheus::Histogram& seconds_metric_;
  prometheus::Gauge& index_metric_;

  // Owned by the sink's thread.
  std::shared_ptr<iceberg::Catalog> catalog_;
  iceberg::Table table_;
  std::unique_ptr<lake::TableWriter> writer_;
  int schema_id_ = -1;
  std::optional<int64_t> indexed_snapshot_;  ///< the index knows the table as of here
  int64_t pause_ms_ = 0;

  std::thread thread_;

  // Guarded by mutex_.
  std::mutex mutex_;
  std::condition_variable wake_, committed_changed_;
  std::deque<LogEntry> log_;  ///< ascending ids; the thread reads entries up to durable_ without the lock
  std::optional<Content> content_;
  CheckpointId durable_ = 0, wanted_ = 0;
  uint64_t durable_since_commit_ = 0;
  bool stop_ = false;
  bool indexed_once_ = false;
  SinkStatus status_;
};

}  // namespace

std::optional<SinkStamp> FindStamp(const iceberg::TableMetadata& metadata, const std::string& uuid) {
  std::optional<SinkStamp> newest;
  uint64_t generation = 0;
  auto take = [&](const std::optional<SinkStamp>& stamp) {
    if (!stamp) return;
    if (!newest || stamp->checkpoint > newest->checkpoint) newest = stamp;
    generation = std::max(generation, stamp->generation);
  };
  for (auto& snapshot : metadata.snapshots) take(StampOf(snapshot, uuid));
  auto it = metadata.properties.find(kStampProperty + uuid);
  if (it != metadata.properties.end()) {
    std::string_view text = it->second;
    auto colon = text.find(':');
    if (colon != std::string_view::npos) {
      auto stamped = ToNumber(text.substr(0, colon)), checkpoint = ToNumber(text.substr(colon + 1));
      if (stamped && checkpoint) take(SinkStamp{*stamped, *checkpoint, 0});
    }
  }
  if (newest) newest->generation = generation;
  return newest;
}

Result<std::shared_ptr<iceberg::Catalog>> OpenSinkCatalog(const IcebergSinkConfig& config,
                                                          const std::string& state_dir) {
  if (config.rest_catalog) {
    iceberg::RestClientOptions options;
    options.uri = config.catalog_uri;
    options.warehouse = config.warehouse;
    options.token = config.catalog_token;
    options.credential = config.catalog_credential;
    options.oauth2_server_uri = config.oauth2_server_uri;
    if (!config.catalog_scope.empty()) options.scope = config.catalog_scope;
    options.store_options = config.store_options;
    return iceberg::OpenRestCatalog(std::move(options));
  }
  auto uri = config.warehouse.empty() ? lake::DefaultWarehouse(state_dir) : config.warehouse;
  TW_ASSIGN(auto catalog, lake::OpenWarehouse(uri, config.store_options));
  return std::shared_ptr<iceberg::Catalog>(std::move(catalog));
}

Result<std::unique_ptr<Sink>> MakeIcebergSink(SinkOptions options, CatalogOpener open) {
  TW_ASSIGN(auto config, ParseIcebergSinkOptions(options.options, options.input));
  if (!config.upsert && !config.force_append_only && !options.append_only_input)
    return std::unexpected(
        UserError("0A000", "an append-only sink cannot take a view whose rows can change")
            .WithHint("Use type = 'upsert' with a primary key, or force_append_only = 'true' to drop "
                      "updates and deletes."));
  return std::make_unique<IcebergSink>(std::move(options), std::move(config), std::move(open));
}

void RegisterIcebergSink() {
  SinkConnector connector;
  connector.name = "iceberg";
  connector.validate = [](const std::map<std::string, std::string>& options, const Schema& input) -> Status {
    TW_ASSIGN(auto config, ParseIcebergSinkOptions(options, input));
    return {};
  };
  connector.make = [](SinkOptions options) { return MakeIcebergSink(std::move(options)); };
  SinkRegistry::Get().Register(std::move(connector));
}

}  // namespace tidewater
