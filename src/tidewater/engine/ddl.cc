// CREATE, DROP, ALTER. Each runs on its session's thread up to the change itself, which happens on the engine's thread
// between epochs and is durable before it is acknowledged. A statement that fails leaves nothing behind.
#include <random>
#include "tidewater/engine/core.h"
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/log.h"
#include "tidewater/sql/plan_codec.h"

namespace tidewater::engine {

using catalog::Object;
using catalog::ObjectPtr;
using catalog::ObjectType;

namespace {

/// A backfill's share of the engine's thread between two steps.
constexpr uint64_t kBackfillShareRows = 8192;
constexpr int64_t kBackfillShareUs = 5'000, kBackfillShareMaxUs = 100'000;
/// When a view has looked for changes this often without reaching the present, its last piece is fed in one go.
constexpr uint32_t kBackfillRoundsMax = 12;

Result<std::unique_lock<std::timed_mutex>> LockTimed(std::timed_mutex& mutex, const Cancelled& cancelled) {
  std::unique_lock lock(mutex, std::defer_lock);
  while (!lock.try_lock_for(std::chrono::milliseconds(50)))
    if (cancelled && cancelled()) return std::unexpected(CancelledError());
  return lock;
}

std::string NewUuid() {
  std::random_device random;
  auto word = [&] { return uint32_t(random()); };
  auto a = word(), b = word(), c = word(), d = word();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:04x}{:08x}", a, b >> 16, b & 0xfff, (c >> 16 & 0x3fff) | 0x8000,
                     c & 0xffff, d);
}

/// Splits WITH options into plain ones and secrets.
void SetOptions(Object& object, const sql::Options& options) {
  for (auto& [name, value] : options) {
    if (IsSecretOption(name)) {
      object.secrets.emplace(name, Secret(value));
    } else {
      object.options.emplace(name, value);
    }
  }
}

Result<std::string> ConnectorOf(const sql::Options& options) {
  auto it = options.find("connector");
  if (it == options.end())
    return std::unexpected(
        UserError("22023", "the option \"connector\" is missing").WithHint("WITH (connector = '...')"));
  return it->second;
}

}  // namespace

Result<std::unique_lock<std::timed_mutex>> Core::LockWrites(const Cancelled& cancelled) {
  return LockTimed(write_mutex_, cancelled);
}
Result<std::unique_lock<std::timed_mutex>> Core::LockDdl(const Cancelled& cancelled) {
  return LockTimed(ddl_mutex_, cancelled);
}

std::set<ObjectId> Core::LoadingBelow(const std::vector<ObjectId>& relations) const {
  std::set<ObjectId> loading, out, seen;
  {
    std::lock_guard lock(mutex_);
    if (loading_.empty()) return out;
    loading = loading_;
  }
  auto contents = catalog_.Current();
  std::vector<ObjectId> todo = relations;
  while (!todo.empty()) {
    auto id = todo.back();
    todo.pop_back();
    if (!seen.insert(id).second) continue;
    if (loading.contains(id)) out.insert(id);
    if (auto object = contents->Find(id); object && object->type != ObjectType::kTable)
      for (auto below : object->depends_on) todo.push_back(below);
  }
  return out;
}

Status Core::CheckLoaded(const std::vector<ObjectId>& relations) const {
  auto loading = LoadingBelow(relations);
  if (loading.empty()) return {};
  auto table = catalog_.Current()->Find(*loading.begin());
  return std::unexpected(UserError("55000", "table \"{}\" is in its initial load", table ? table->name : "?")
                             .WithHint("Its rows become visible together when the load is complete: see SHOW JOBS."));
}

Status Core::WaitLoaded(const std::vector<ObjectId>& relations, std::unique_lock<std::timed_mutex>& ddl,
                        const Cancelled& cancelled) {
  while (!LoadingBelow(relations).empty()) {
    ddl.unlock();
    {
      std::unique_lock lock(mutex_);
      if (stopped_) return std::unexpected(StoppingError());
      changed_cond_.wait_for(lock, std::chrono::milliseconds(100));
    }
    if (cancelled && cancelled()) return std::unexpected(CancelledError());
    TW_ASSIGN(ddl, LockDdl(cancelled));
  }
  return {};
}

Status Core::MakeErrorTable() {
  Object object;
  object.id = catalog_.NextId();
  object.type = ObjectType::kTable;
  object.name = kErrorTable;
  auto schema = ErrorTable::TableSchema();
  object.columns = sql::FromColumns(schema.columns);
  object.sql = "-- made by Tidewater: rows that could not be held or evaluated";
  circuit_->AddTable(object.id, schema);
  error_table_ = object.id;
  object.store_key = circuit_->StoreKey(object.id);
  changed_ = true;
  return catalog_.Add(std::move(object));
}

Result<Core::SourceRuntime> Core::MakeSource(const Object& object, bool replay) {
  SourceRuntime runtime;
  runtime.id = object.id;
  runtime.name = object.name;
  TW_ASSIGN(auto connector, ConnectorOf(object.ClearOptions()));
  TW_ASSIGN(runtime.connector, SourceRegistry::Get().Find(connector));
  SourceOptions options;
  options.id = object.id;
  options.name = object.name;
  options.options = object.ClearOptions();
  options.wake = [this] { Wake(); };
  options.replay = replay;
  TW_ASSIGN(runtime.source, runtime.connector->make(std::move(options)));
  metrics::Labels labels{{"source", object.name}};
  runtime.rows_metric = &metrics::Counter("tidewater_source_rows_total", "Rows or events taken from a source", labels);
  runtime.freshness_metric =
      &metrics::Seconds("tidewater_freshness_seconds", "From the upstream's commit until views show it", labels);
  return runtime;
}

SourceTable Core::MakeSourceTable(const Object& table) const {
  SourceTable out;
  out.id = table.id;
  out.upstream_name = table.upstream_table;
  out.schema = sql::ToSchema(table);
  out.options = table.options;
  return out;
}

/// Starts a source at its offset, its tables first. The engine's thread, or before it runs.
Status Core::StartSource(SourceRuntime& source) {
  auto contents = catalog_.Current();
  auto object = contents->Find(source.id);
  if (source.connector->stream_only) {
    SourceTable table;
    table.id = source.id;
    table.schema = sql::ToSchema(*object);
    table.needed = circuit_->NeededColumns(source.id);
    TW_TRY(source.source->AddTable(table));
  } else {
    for (auto& [id, candidate] : contents->objects())
      if (candidate->type == ObjectType::kTable && candidate->source == source.id)
        if (auto added = source.source->AddTable(MakeSourceTable(*candidate)); !added)
          log::error("source {}: table {}: {}", source.name, candidate->name, added.error().ToString());
  }
  source.started = true;
  return source.source->Start(source.offset);
}

void Core::PauseUnreadStreams() {
  auto contents = catalog_.Current();
  for (auto& [id, source] : sources_) {
    auto readers = contents->Dependents(id);
    source.unread = source.connector->stream_only &&
                    std::all_of(readers.begin(), readers.end(), [](auto& r) { return r->freeze.has_value(); });
  }
}

std::vector<ObjectPtr> Core::FrozenBelow(const std::vector<ObjectId>& relations) const {
  std::vector<ObjectPtr> out;
  auto contents = catalog_.Current();
  std::set<ObjectId> seen;
  std::vector<ObjectId> todo = relations;
  while (!todo.empty()) {
    auto object = contents->Find(todo.back());
    todo.pop_back();
    if (!object || !seen.insert(object->id).second) continue;
    if (object->freeze) out.push_back(object);
    // What a view stores was computed from what it reads; a plain view is what it reads.
    if (object->type == ObjectType::kView)
      for (auto below : object->depends_on) todo.push_back(below);
  }
  return out;
}

Status Core::CheckNotFrozen(const std::vector<ObjectId>& relations) const {
  auto frozen = FrozenBelow(relations);
  if (frozen.empty()) return {};
  return std::unexpected(UserError("55000", "materialized view \"{}\" is frozen", frozen[0]->name)
                             .WithDetail(frozen[0]->freeze->reason)
                             .WithHint(fmt::format("ALTER MATERIALIZED VIEW {} RESUME; fills it anew.",
                                                   sql::QuoteIdentifier(frozen[0]->name))));
}

Status Core::CheckSchema(const sql::Name& name) {
  if (name.SchemaOrDefault() == catalog::kDefaultSchema) return {};
  return std::unexpected(UserError("3F000", "schema \"{}\" does not exist", name.schema)
                             .WithHint(fmt::format("All objects are in schema \"{}\".", catalog::kDefaultSchema)));
}

Status Core::AttachSink(SinkRuntime& sink, const Object& object, bool recovered) {
  auto contents = catalog_.Current();
  auto input = contents->Find(object.input);
  if (!input) return std::unexpected(EnvError(ErrorKind::kCorrupt, "sink \"{}\" has lost its input", object.name));
  TW_ASSIGN(auto connector_name, ConnectorOf(object.options));
  TW_ASSIGN(auto* connector, SinkRegistry::Get().Find(connector_name));
  auto info = frontend_->Describe(object.input);
  SinkOptions options;
  options.id = object.id;
  options.name = object.name;
  options.uuid = sink.uuid;
  options.options = object.ClearOptions();
  options.input = sql::ToSchema(*input);
  if (options.input.primary_key.empty() && !info.unique_keys.empty())
    options.input.primary_key = info.unique_keys.front();
  options.generation = log_->generation();
  options.append_only_input = info.append_only;
  options.state_dir = options_.state;
  options.recovered = recovered;
  options.established = recovered && !sink.content;
  sink.connector_name = connector_name;
  sink.keeps_log = connector->keeps_log;
  sink.types = options.input.GetTypes();
  metrics::Labels labels{{"sink", object.name}};
  sink.rows_metric = &metrics::Counter("tidewater_sink_rows_total", "Row changes handed to a sink", labels);
  sink.commits_metric = &metrics::Counter("tidewater_sink_commits_total", "Commits of a sink", labels);
  TW_ASSIGN(sink.sink, connector->make(std::move(options)));
  return sink.sink->Start();
}

Status Core::CreateSource(const sql::CreateSource& statement, const std::string& sql_text, const Cancelled& cancelled) {
  TW_TRY(CheckSchema(statement.name));
  TW_ASSIGN(auto ddl, LockDdl(cancelled));
  Object object;
  object.type = ObjectType::kSource;
  object.schema = statement.name.SchemaOrDefault();
  object.name = statement.name.name;
  object.sql = sql_text;
  if (catalog_.Current()->Find(object.schema, object.name)) {
    if (statement.if_not_exists) return {};
    return std::unexpected(UserError("42P07", "relation \"{}\" already exists", object.name));
  }
  SetOptions(object, statement.options);
  TW_ASSIGN(auto connector_name, ConnectorOf(statement.options));
  TW_ASSIGN(auto* connector, SourceRegistry::Get().Find(connector_name));
  TW_TRY(connector->validate(statement.options));
  object.stream_only = connector->stream_only;
  if (connector->stream_only) {
    TW_ASSIGN(auto schema, connector->fixed_schema(statement.options));
    object.columns = sql::FromColumns(schema.columns);
  }
  if (!statement.columns.empty())
    return std::unexpected(UserError("0A000", "a source of connector '{}' takes no column list", connector_name)
                               .WithHint("Columns are named in CREATE TABLE ... FROM this source."));
  object.id = catalog_.NextId();
  TW_ASSIGN(auto runtime, MakeSource(object));
  auto source = runtime.source;
  if (!object.stream_only) {
    TW_TRY(source->Start(""));
    runtime.started = true;
  }

  CheckpointId checkpoint = 0;
  auto create = [&]() -> Status {
    TW_ASSIGN(auto writes, LockWrites(cancelled));
    return OnEngine([&]() -> Status {
      if (object.stream_only) circuit_->AddStream(object.id, sql::ToSchema(object).GetTypes());
      if (auto added = catalog_.Add(object); !added) {
        if (object.stream_only) circuit_->Drop(object.id);
        return added;
      }
      sources_.emplace(object.id, std::move(runtime));
      checkpoint = TakeCheckpoint();
      return {};
    });
  };
  if (auto created = create(); !created) {
    source->Stop();
    return created;
  }
  return WaitDurable(checkpoint, nullptr);
}

Status Core::CreateTable(const sql::CreateTable& statement, const std::string& sql_text, const Cancelled& cancelled) {
  TW_TRY(CheckSchema(statement.name));
  TW_ASSIGN(auto ddl, LockDdl(cancelled));
  Object object;
  object.type = ObjectType::kTable;
  object.schema = statement.name.SchemaOrDefault();
  object.name = statement.name.name;
  object.sql = sql_text;
  auto contents = catalog_.Current();
  if (contents->Find(object.schema, object.name)) {
    if (statement.if_not_exists) return {};
    return std::unexpected(UserError("42P07", "relation \"{}\" already exists", object.name));
  }
  Schema schema;
  std::shared_ptr<Source> source;
  if (!statement.all_columns) {
    TW_ASSIGN(schema, frontend_->ResolveColumns(statement.columns));
  }
  if (statement.source) {
    auto upstream = contents->Find(statement.source->SchemaOrDefault(), statement.source->name);
    if (!upstream) return std::unexpected(UserError("42P01", "source \"{}\" does not exist", statement.source->name));
    if (upstream->type != ObjectType::kSource)
      return std::unexpected(UserError("42809", "\"{}\" is not a source", statement.source->name));
    if (upstream->stream_only)
      return std::unexpected(UserError("0A000", "rows of source \"{}\" are not stored", upstream->name)
                                 .WithHint("Create a materialized view over it."));
    object.source = upstream->id;
    object.depends_on = {upstream->id};
    object.upstream_table = statement.upstream_table;
    TW_TRY(OnEngine([&]() -> Status {
      source = sources_.at(upstream->id).source;
      return {};
    }));
    if (statement.all_columns) {
      TW_ASSIGN(schema, source->Describe(statement.upstream_table));
    }
  } else if (statement.all_columns) {
    return std::unexpected(UserError("42601", "CREATE TABLE (*) needs FROM a source"));
  }
  if (!statement.source && !statement.options.empty())
    return std::unexpected(UserError("22023", "a plain table takes no WITH options")
                               .WithHint("CREATE SOURCE first, then CREATE TABLE ... FROM it."));
  object.columns = sql::FromColumns(schema.columns);
  object.primary_key = schema.primary_key;
  SetOptions(object, statement.options);
  object.id = catalog_.NextId();

  TW_TRY(OnEngine([&]() -> Status {
    circuit_->AddTable(object.id, schema);
    object.store_key = circuit_->StoreKey(object.id);
    new_names_[object.id] = object.name;
    if (source) {
      sources_.at(object.source).loading.insert(object.id);
      std::lock_guard lock(mutex_);
      loading_.insert(object.id);
    }
    // Pins from now on know the relation: only then may anybody find its name.
    stepped_ = true;
    PublishNow();
    return {};
  }));
  CheckpointId checkpoint = 0;
  std::unique_lock<std::timed_mutex> writes;
  auto create = [&]() -> Status {
    // This may wait for the network, not so the engine.
    if (source) TW_TRY(source->AddTable(MakeSourceTable(object)));
    TW_ASSIGN(writes, LockWrites(cancelled));
    return OnEngine([&]() -> Status {
      TW_TRY(catalog_.Add(object));
      new_names_.erase(object.id);
      changed_ = true;
      checkpoint = TakeCheckpoint();
      return {};
    });
  };
  if (auto created = create(); !created) {
    if (source) (void)source->RemoveTable(object.id);
    TW_TRY(OnEngine([&]() -> Status {
      if (source) {
        sources_.at(object.source).loading.erase(object.id);
        std::lock_guard lock(mutex_);
        loading_.erase(object.id);
      }
      new_names_.erase(object.id);
      circuit_->Drop(object.id);
      return {};
    }));
    return created;
  }
  // With the write lock: no row is logged of a table that recovery would not know.
  return WaitDurable(checkpoint, nullptr);
}

std::optional<DeltaBatch> Core::NextOfStream(ObjectId stream, std::map<ObjectId, SourceRuntime>& readers) {
  auto& source = sources_.at(stream);
  if (!source.started || source.events == 0) return std::nullopt;
  auto it = readers.find(stream);
  if (it == readers.end()) {
    auto object = catalog_.Current()->Find(stream);
    auto reader = MakeSource(*object, true);
    TW_CHECK(reader.has_value(), "{}", reader.error().ToString());
    it = readers.emplace(stream, std::move(*reader)).first;
    auto started = StartSource(it->second);
    TW_CHECK(started.has_value(), "{}", started.error().ToString());
  }
  auto& reader = it->second;
  while (reader.events < source.events) {
    auto batch = reader.source->Poll(std::min<uint64_t>(source.events - reader.events, options_.max_step_rows));
    if (!batch) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    reader.events += batch->events ? batch->events : batch->RowCount();
    DeltaBatch out;
    for (auto& change : batch->changes) {
      if (change.rows->size() == 0) continue;
      out.types = change.rows->GetTypes();
      DeltaChunk chunk;
      chunk.rows = std::move(change.rows);
      out.chunks.push_back(std::move(chunk));
    }
    if (!out.empty()) return out;
  }
  TW_CHECK_EQ(reader.events, source.events);
  return std::nullopt;
}

Status Core::AddView(const Object& view, bool stored) {
  return circuit_->AddView(
      view.id, [&](duckdb::ClientContext& context) { return frontend_->LoadPlan(view, context); }, stored);
}

Status Core::StartBackfill(Object& view, ObjectId sink) {
  TW_TRY(AddView(view, sink == 0));
  if (sink) {
    circuit_->KeepOutput(view.id, true);
  } else {
    view.store_key = circuit_->StoreKey(view.id);
  }
  // Streams that run already must send the columns that only this view needs from the same event on. What the view
  // reads through stored views was taken there.
  for (auto below : view.depends_on) {
    auto it = sources_.find(below);
    if (it == sources_.end() || !it->second.connector->stream_only || !it->second.started) continue;
    SourceTable table;
    table.id = below;
    table.schema = sql::ToSchema(*catalog_.Current()->Find(below));
    table.needed = circuit_->NeededColumns(below);
    if (auto added = it->second.source->AddTable(table); !added) {
      circuit_->Drop(view.id);
      return added;
    }
  }
  auto& runtime = backfills_[view.id];
  runtime.name = new_names_[view.id] = view.name;
  runtime.sink = sink;
  runtime.backfill = circuit_->BeginBackfill(
      view.id, [this, &runtime](ObjectId stream) { return NextOfStream(stream, runtime.readers); });
  // Rows that stand without any input, such as the count of nothing, are there from now on.
  if (sink) HandToSink(sinks_.at(sink), Copy(circuit_->Output(view.id)));
  return {};
}

Status Core::ShareBackfill(ObjectId view, BackfillRuntime& runtime, uint64_t rows) {
  auto shared = runtime.backfill->Share(rows);
  if (shared && runtime.sink) HandToSink(sinks_.at(runtime.sink), Copy(circuit_->Output(view)));
  CollectEvaluationErrors();
  if (shared) {
    runtime.ready = *shared;
    // Too many of these end it as well.
    if (auto failed = runtime.backfill->Share(0); !failed) shared = std::move(failed);
  }
  if (!shared) {
    auto error = std::move(shared.error());
    error.message = fmt::format("\"{}\" cannot be filled: {}", runtime.name, error.message);
    return std::unexpected(std::move(error));
  }
  changed_ = true;
  return {};
}

bool Core::RunBackfills() {
  // Every share makes state: as with sources, not more than checkpoints can take away.
  if (backfills_.empty() || (!CheckpointPossible() && CheckpointFull())) return false;
  bool more = false;
  std::vector<std::pair<ObjectId, Error>> failed;
  for (auto& [id, runtime] : backfills_) {
    // Under load a view gets as long as the step before took, and twice as long with each round that left something to
    // do, so that it gets there in the end.
    auto longest = std::clamp<int64_t>(last_step_took_us_ << std::min<uint32_t>(runtime.backfill->rounds() - 1, 6),
                                       kBackfillShareUs, kBackfillShareMaxUs);
    auto end = MonotonicMicros() + longest;
    Status shared;
    do {
      shared = ShareBackfill(id, runtime, kBackfillShareRows);
    } while (shared && !runtime.ready && MonotonicMicros() < end);
    if (!shared) {
      failed.emplace_back(id, std::move(shared.error()));
      continue;
    }
    more |= !runtime.ready;
    if (runtime.ready || runtime.backfill->rounds() > kBackfillRoundsMax) {
      std::lock_guard lock(mutex_);
      if (backfilled_.insert(id).second) changed_cond_.notify_all();
    }
  }
  for (auto& [id, error] : failed) {
    AbandonBackfill(id);
    std::lock_guard lock(mutex_);
    backfill_failures_.emplace(id, std::move(error));
    changed_cond_.notify_all();
  }
  return more;
}

Status Core::WaitBackfill(ObjectId view, const Cancelled& cancelled) {
  Error error = CancelledError();
  {
    std::unique_lock lock(mutex_);
    while (!backfilled_.contains(view)) {
      if (auto failure = backfill_failures_.extract(view); !failure.empty())
        return std::unexpected(std::move(failure.mapped()));
      if (stopped_) return std::unexpected(StoppingError());
      if (cancelled && cancelled()) break;
      changed_cond_.wait_for(lock, std::chrono::milliseconds(100));
    }
    if (backfilled_.contains(view)) return {};
  }
  TW_TRY(OnEngine([&] {
    AbandonBackfill(view);
    return Status{};
  }));
  return std::unexpected(std::move(error));
}

Status Core::FinishBackfill(ObjectId view) {
  auto it = backfills_.find(view);
  if (it == backfills_.end()) {  // it failed after it was ready
    std::lock_guard lock(mutex_);
    auto failure = backfill_failures_.extract(view);
    return std::unexpected(failure.empty() ? CancelledError() : std::move(failure.mapped()));
  }
  auto& runtime = it->second;
  do {
    if (auto shared = ShareBackfill(view, runtime, options_.max_step_rows); !shared) {
      AbandonBackfill(view);
      return shared;
    }
  } while (!runtime.ready);
  runtime.backfill->Finish();
  for (auto& [stream, reader] : runtime.readers) reader.source->Stop();
  backfills_.erase(view);
  std::lock_guard lock(mutex_);
  backfilled_.erase(view);
  return {};
}

void Core::AbandonBackfill(ObjectId view) {
  auto it = backfills_.find(view);
  if (it == backfills_.end()) return;
  for (auto& [stream, reader] : it->second.readers) reader.source->Stop();
  pending_errors_.erase(view);
  new_names_.erase(view);
  backfills_.erase(it);
  circuit_->Drop(view);
  stepped_ = true;
  PublishNow();
  std::lock_guard lock(mutex_);
  backfilled_.erase(view);
}

Status Core::StartStreamsOf(const Object& view) {
  for (auto below : view.depends_on) {
    auto it = sources_.find(below);
    if (it == sources_.end() || !it->second.connector->stream_only || it->second.started) continue;
    TW_TRY(StartSource(it->second));
  }
  PauseUnreadStreams();
  return {};
}

Status Core::CreateView(const sql::CreateView& statement, const std::string& sql_text, const Cancelled& cancelled) {
  TW_TRY(CheckSchema(statement.name));
  if (!statement.options.empty())
    return std::unexpected(
        UserError("22023", "unrecognized parameter \"{}\"", statement.options.begin()->first)
            .WithDetail(fmt::format("A {}view takes no WITH options.", statement.materialized ? "materialized " : "")));
  TW_ASSIGN(auto ddl, LockDdl(cancelled));
  Object object;
  object.type = statement.materialized ? ObjectType::kMaterializedView : ObjectType::kView;
  object.schema = statement.name.SchemaOrDefault();
  object.name = statement.name.name;
  object.sql = sql_text;
  object.query = statement.query;
  auto in_statement = [&](Error error) {
    if (error.position) error.position += statement.query_position - 1;
    return std::unexpected(std::move(error));
  };
  auto existing = [&]() { return catalog_.Current()->Find(object.schema, object.name); };
  if (auto found = existing()) {
    if (statement.if_not_exists) return {};
    if (!(statement.or_replace && found->type == ObjectType::kView))
      return std::unexpected(UserError("42P07", "relation \"{}\" already exists", object.name));
  }

  if (!statement.materialized) {
    auto described = frontend_->DescribeView(statement.query, statement.column_names);
    if (!described) return in_statement(std::move(described.error()));
    object.columns = sql::FromColumns(described->columns);
    object.depends_on = described->depends_on;
    auto found = existing();
    object.id = found ? found->id : catalog_.NextId();
    TW_ASSIGN(auto writes, LockWrites(cancelled));
    CheckpointId checkpoint = 0;
    TW_TRY(OnEngine([&]() -> Status {
      TW_TRY(found ? catalog_.Replace(object) : catalog_.Add(object));
      checkpoint = TakeCheckpoint();
      return {};
    }));
    return WaitDurable(checkpoint, nullptr);
  }

  std::optional<sql::ViewPlan> plan;
  while (true) {
    auto planned = frontend_->PlanView(statement.query, statement.column_names);
    if (!planned) return in_statement(std::move(planned.error()));
    plan = std::move(*planned);
    TW_TRY(CheckNotFrozen(plan->depends_on));
    if (LoadingBelow(plan->depends_on).empty()) break;
    TW_TRY(WaitLoaded(plan->depends_on, ddl, cancelled));
    if (existing()) return std::unexpected(UserError("42P07", "relation \"{}\" already exists", object.name));
  }
  object.columns = sql::FromColumns(plan->columns);
  object.depends_on = plan->depends_on;
  TW_ASSIGN(object.plan, sql::EncodePlan(*plan->plan));
  object.id = catalog_.NextId();
  TW_TRY(OnEngine([&] { return StartBackfill(object, 0); }));
  TW_TRY(WaitBackfill(object.id, cancelled));
  auto writes = LockWrites(cancelled);
  CheckpointId checkpoint = 0;
  TW_TRY(OnEngine([&]() -> Status {
    if (!writes) {
      AbandonBackfill(object.id);
      return std::unexpected(writes.error());
    }
    TW_TRY(FinishBackfill(object.id));
    stepped_ = changed_ = true;
    // Pins from now on see its rows: only then may anybody find its name.
    PublishNow();
    new_names_.erase(object.id);
    if (auto early = early_freezes_.extract(object.id); !early.empty()) object.freeze = early.mapped();
    auto made = catalog_.Add(object);
    if (made) {
      made = StartStreamsOf(object);
      if (!made) catalog_.Remove({object.id});
    }
    if (!made) {
      circuit_->Drop(object.id);
      PublishNow();
      return made;
    }
    checkpoint = TakeCheckpoint();
    return {};
  }));
  return WaitDurable(checkpoint, nullptr);
}

Status Core::CreateSink(const sql::CreateSink& statement, const std::string& sql_text, const Cancelled& cancelled) {
  TW_TRY(CheckSchema(statement.name));
  TW_ASSIGN(auto ddl, LockDdl(cancelled));
  Object object;
  object.type = ObjectType::kSink;
  object.schema = statement.name.SchemaOrDefault();
  object.name = statement.name.name;
  object.sql = sql_text;
  auto taken = [&]() { return catalog_.Current()->Find(object.schema, object.name) != nullptr; };
  if (taken()) {
    if (statement.if_not_exists) return {};
    return std::unexpected(UserError("42P07", "relation \"{}\" already exists", object.name));
  }
  SetOptions(object, statement.options);
  TW_ASSIGN(auto connector_name, ConnectorOf(statement.options));
  TW_ASSIGN(auto* connector, SinkRegistry::Get().Find(connector_name));

  // AS SELECT: a view of its own, whose rows are not kept.
  std::optional<Object> hidden;
  std::optional<sql::ViewPlan> plan;
  ObjectPtr input;
  Schema input_schema;
  while (true) {
    std::vector<ObjectId> reads;
    if (statement.from) {
      input = catalog_.Current()->Find(statement.from->SchemaOrDefault(), statement.from->name);
      if (!input)
        return std::unexpected(UserError("42P01", "relation \"{}\" does not exist", statement.from->ToString()));
      if (input->type != ObjectType::kTable && input->type != ObjectType::kMaterializedView)
        return std::unexpected(
            UserError("42809", "\"{}\" is not a table or materialized view", input->name)
                .WithHint(fmt::format("CREATE SINK {} AS SELECT ... FROM {} ...", object.name, input->name)));
      reads = {input->id};
      input_schema = sql::ToSchema(*input);
    } else {
      auto planned = frontend_->PlanView(statement.query);
      if (!planned) {
        auto error = std::move(planned.error());
        if (error.position) error.position += statement.query_position - 1;
        return std::unexpected(std::move(error));
      }
      plan = std::move(*planned);
      reads = plan->depends_on;
      input_schema = {plan->columns, {}};
    }
    TW_TRY(CheckNotFrozen(reads));
    if (LoadingBelow(reads).empty()) break;
    TW_TRY(WaitLoaded(reads, ddl, cancelled));
    if (taken()) return std::unexpected(UserError("42P07", "relation \"{}\" already exists", object.name));
  }
  SinkRuntime runtime;
  runtime.uuid = NewUuid();
  runtime.name = object.name;
  if (plan) {
    hidden.emplace();
    hidden->id = catalog_.NextId();
    hidden->type = ObjectType::kMaterializedView;
    hidden->schema = object.schema;
    hidden->name = "__sink_" + object.name;
    hidden->hidden = true;
    hidden->query = statement.query;
    hidden->columns = sql::FromColumns(plan->columns);
    hidden->depends_on = plan->depends_on;
    TW_ASSIGN(hidden->plan, sql::EncodePlan(*plan->plan));
    object.input = hidden->id;
    if (!plan->plan->unique_keys.empty()) input_schema.primary_key = plan->plan->unique_keys.front();
  } else {
    object.input = input->id;
    if (auto info = frontend_->Describe(input->id); input_schema.primary_key.empty() && !info.unique_keys.empty())
      input_schema.primary_key = info.unique_keys.front();
  }
  TW_TRY(connector->validate(statement.options, input_schema));
  object.id = catalog_.NextId();
  object.depends_on = {object.input};
  object.columns = sql::FromColumns(input_schema.columns);
  runtime.id = object.id;
  runtime.input = object.input;

  // The hidden view is in the catalog before the sink asks for it, and away again when the sink cannot be made.
  if (hidden) {
    TW_ASSIGN(auto writes, LockWrites(cancelled));
    TW_TRY(catalog_.Add(*hidden));
  }
  auto undo = [&] {
    if (hidden) catalog_.Remove({hidden->id});
  };
  if (auto attached = AttachSink(runtime, object, false); !attached) {
    if (runtime.sink) runtime.sink->Stop();
    undo();
    return attached;
  }
  CheckpointId checkpoint = 0;
  if (!hidden) {
    // Not before: the sink may have waited for its target.
    auto writes = LockWrites(cancelled);
    auto made = OnEngine([&]() -> Status {
      if (!writes) return std::unexpected(writes.error());
      TW_TRY(catalog_.Add(object));
      auto& sink = sinks_[object.id] = std::move(runtime);
      circuit_->KeepOutput(object.input, true);
      LoadSink(sink, next_checkpoint_);
      checkpoint = TakeCheckpoint();
      return {};
    });
    if (!made) {
      if (runtime.sink) runtime.sink->Stop();
      return made;
    }
    return WaitDurable(checkpoint, nullptr);
  }

  std::shared_ptr<Sink> removed;
  auto made = OnEngine([&]() -> Status {
    runtime.filling = true;
    sinks_[object.id] = std::move(runtime);
    auto started = StartBackfill(*hidden, object.id);
    if (!started) removed = RemoveSink(object.id);
    return started;
  });
  if (made) {
    made = WaitBackfill(hidden->id, cancelled);
    auto relocked = LockWrites(made ? cancelled : nullptr);
    if (made && !relocked) made = std::unexpected(relocked.error());
    auto finished = OnEngine([&]() -> Status {
      if (made) made = catalog_.Add(object);
      if (!made) {
        AbandonBackfill(hidden->id);
        removed = RemoveSink(object.id);
        return {};
      }
      if (made = FinishBackfill(hidden->id); !made) {
        catalog_.Remove({object.id});
        removed = RemoveSink(object.id);
        return {};
      }
      new_names_.erase(hidden->id);
      auto& filled = sinks_.at(object.id);
      filled.filling = false;
      filled.content = next_checkpoint_;
      stepped_ = true;
      PublishNow();
      if (auto started = StartStreamsOf(*hidden); !started) log::error("{}", started.error().ToString());
      checkpoint = TakeCheckpoint();
      return {};
    });
    if (!finished) made = finished;
  }
  if (!made) {
    if (removed) removed->Stop();
    undo();
    return made;
  }
  return WaitDurable(checkpoint, nullptr);
}

std::shared_ptr<Sink> Core::RemoveSink(ObjectId id) {
  auto it = sinks_.find(id);
  if (it == sinks_.end()) return nullptr;
  auto removed = it->second.sink;
  for (auto checkpoint : it->second.logged) dropped_streams_.push_back(SinkStream(id, checkpoint));
  auto input = it->second.input;
  bool kept = it->second.filling;  // its view is not there any more
  sinks_.erase(it);
  for (auto& [other_id, other] : sinks_) kept |= other.input == input;
  if (!kept) circuit_->KeepOutput(input, false);
  return removed;
}

void Core::RemoveObject(const Object& object, std::vector<std::function<std::string()>>& upstream) {
  switch (object.type) {
    case ObjectType::kSink:
      if (auto sink = RemoveSink(object.id))
        upstream.push_back([sink] {
          sink->Stop();
          return std::string();
        });
      break;
    case ObjectType::kMaterializedView:
      circuit_->Drop(object.id);
      break;
    case ObjectType::kTable: {
      if (object.source) {
        auto& source = sources_.at(object.source);
        source.loading.erase(object.id);
        {
          std::lock_guard lock(mutex_);
          loading_.erase(object.id);
          changed_cond_.notify_all();
        }
        upstream.push_back([source = source.source, id = object.id, name = object.name] {
          auto removed = source->RemoveTable(id);
          return removed ? std::string()
                         : fmt::format("table \"{}\" is still in the upstream's publication: {}", name,
                                       removed.error().ToString());
        });
      }
      circuit_->Drop(object.id);
      break;
    }
    case ObjectType::kSource: {
      auto it = sources_.find(object.id);
      if (it == sources_.end()) break;
      upstream.push_back([source = it->second.source, name = object.name] {
        source->Stop();
        auto dropped = source->DropUpstream();
        return dropped ? std::string()
                       : fmt::format("what source \"{}\" created upstream may still be there: {}", name,
                                     dropped.error().ToString());
      });
      if (object.stream_only) circuit_->Drop(object.id);
      sources_.erase(it);
      break;
    }
    case ObjectType::kView:
      break;
  }
  DeltaBatch forgotten;
  errors_.Forget(object.name, forgotten);
  if (!forgotten.empty()) {
    circuit_->Push(error_table_, std::move(forgotten));
    pushed_ = true;
  }
}

Status Core::Drop(const sql::Drop& statement, const Cancelled& cancelled, std::vector<std::string>& warnings) {
  TW_ASSIGN(auto ddl, LockDdl(cancelled));
  auto contents = catalog_.Current();
  std::vector<ObjectPtr> all;
  std::set<ObjectId> seen;
  for (auto& name : statement.names) {
    auto object = contents->Find(name.SchemaOrDefault(), name.name);
    if (!object || object->hidden) {
      if (statement.if_exists) {
        warnings.push_back(
            fmt::format("{} \"{}\" does not exist, skipping", catalog::ToString(statement.type), name.ToString()));
        continue;
      }
      auto state = statement.type == ObjectType::kTable || statement.type == ObjectType::kView ||
                           statement.type == ObjectType::kMaterializedView
                       ? "42P01"
                       : "42704";
      return std::unexpected(
          UserError(state, "{} \"{}\" does not exist", catalog::ToString(statement.type), name.ToString()));
    }
    if (object->type != statement.type) {
      std::string kind = catalog::ToString(object->type);
      for (auto& c : kind) c = char(std::toupper(c));
      return std::unexpected(
          UserError("42809", "\"{}\" is not a {}", object->name, catalog::ToString(statement.type))
              .WithHint(fmt::format("Use DROP {} to remove a {}.", kind, catalog::ToString(object->type))));
    }
    if (object->id == error_table_)
      return std::unexpected(UserError("42501", "table \"{}\" belongs to the system", object->name));
    TW_ASSIGN(auto dropped, contents->PlanDrop(object->id, statement.cascade));
    for (auto& d : dropped)
      if (seen.insert(d->id).second) all.push_back(d);
  }
  if (all.empty()) return {};
  // Dependents have larger ids than what they stand on, whatever names they were found by.
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a->id > b->id; });
  // A sink AS SELECT takes its hidden view along.
  for (size_t i = 0; i < all.size(); i++)
    if (all[i]->type == ObjectType::kSink)
      if (auto input = contents->Find(all[i]->input); input && input->hidden && seen.insert(input->id).second)
        all.push_back(input);
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a->id > b->id; });

  TW_ASSIGN(auto writes, LockWrites(cancelled));
  CheckpointId checkpoint = 0;
  std::vector<std::function<std::string()>> upstream;
  TW_TRY(OnEngine([&]() -> Status {
    std::vector<ObjectId> ids;
    for (auto& object : all) ids.push_back(object->id);
    catalog_.Remove(ids);
    // Sinks AS SELECT have a larger id than their view: dependents always come first.
    for (auto& object : all) RemoveObject(*object, upstream);
    PauseUnreadStreams();
    if (pushed_) StepNow();
    stepped_ = true;
    PublishNow();
    checkpoint = TakeCheckpoint();
    return {};
  }));
  for (auto& object : all) last_write_.erase(object->id);
  // Rows may be written again; the upstream may take its time.
  writes.unlock();
  for (auto& work : upstream)
    if (auto warning = work(); !warning.empty()) warnings.push_back(std::move(warning));
  return WaitDurable(checkpoint, nullptr);
}

Status Core::AlterSource(const sql::AlterSource& statement, const Cancelled& cancelled) {
  TW_ASSIGN(auto ddl, LockDdl(cancelled));
  auto object = catalog_.Current()->Find(statement.name.SchemaOrDefault(), statement.name.name);
  if (!object || object->type != ObjectType::kSource)
    return std::unexpected(UserError("42704", "source \"{}\" does not exist", statement.name.ToString()));
  auto altered = *object;
  for (auto& [name, value] : statement.options) {
    if (IsSecretOption(name)) {
      altered.secrets.insert_or_assign(name, Secret(value));
    } else {
      altered.options.insert_or_assign(name, value);
    }
  }
  auto options = altered.ClearOptions();
  if (options["connector"] != object->ClearOptions()["connector"])
    return std::unexpected(UserError("22023", "the connector of a source cannot be altered"));
  CheckpointId checkpoint = 0;
  TW_TRY(OnEngine([&]() -> Status {
    auto& source = sources_.at(altered.id);
    TW_TRY(source.connector->validate(options));
    TW_TRY(source.source->Alter(options));
    TW_TRY(catalog_.Replace(altered));
    checkpoint = TakeCheckpoint();
    return {};
  }));
  return WaitDurable(checkpoint, nullptr);
}

Status Core::ResumeView(const sql::AlterView& statement, const Cancelled& cancelled,
                        std::vector<std::string>& warnings) {
  TW_ASSIGN(auto ddl, LockDdl(cancelled));
  auto view = catalog_.Current()->Find(statement.name.SchemaOrDefault(), statement.name.name);
  if (!view || view->hidden)
    return std::unexpected(UserError("42P01", "materialized view \"{}\" does not exist", statement.name.ToString()));
  if (view->type != ObjectType::kMaterializedView)
    return std::unexpected(UserError("42809", "\"{}\" is not a materialized view", view->name));
  if (!view->freeze) {
    warnings.push_back(fmt::format("materialized view \"{}\" is not frozen", view->name));
    return {};
  }
  auto cause = view->freeze->cause;
  TW_TRY(ResumeOne(*view, ddl, cancelled));
  // Views that stand on it have larger ids.
  auto before = catalog_.Current();
  for (auto& [id, other] : before->objects()) {
    if (id <= view->id || other->hidden) continue;
    auto now = catalog_.Current()->Find(id);
    if (!now || !now->freeze || now->freeze->cause == id ||
        (now->freeze->cause != cause && now->freeze->cause != view->id))
      continue;
    if (!FrozenBelow(now->depends_on).empty()) continue;
    if (auto resumed = ResumeOne(*now, ddl, cancelled); !resumed) {
      if (resumed.error().kind == ErrorKind::kCancelled) return resumed;
      warnings.push_back(
          fmt::format("materialized view \"{}\" stays frozen: {}", now->name, resumed.error().ToString()));
    }
  }
  return {};
}

Status Core::ResumeOne(const Object& view, std::unique_lock<std::timed_mutex>& ddl, const Cancelled& cancelled) {
  TW_TRY(CheckNotFrozen(view.depends_on));
  TW_TRY(WaitLoaded(view.depends_on, ddl, cancelled));
  auto filled = view;
  filled.freeze.reset();
  filled.id = catalog_.NextId();
  TW_TRY(OnEngine([&] { return StartBackfill(filled, 0); }));
  TW_TRY(WaitBackfill(filled.id, cancelled));
  auto writes = LockWrites(cancelled);
  CheckpointId checkpoint = 0;
  TW_TRY(OnEngine([&]() -> Status {
    if (!writes) {
      AbandonBackfill(filled.id);
      return std::unexpected(writes.error());
    }
    TW_TRY(FinishBackfill(filled.id));
    DeltaBatch forgotten;
    errors_.Forget(view.name, forgotten);
    if (!forgotten.empty()) circuit_->Push(error_table_, std::move(forgotten));
    circuit_->Replace(view.id, filled.id);
    new_names_.erase(filled.id);
    if (auto pending = pending_errors_.extract(filled.id); !pending.empty()) {
      pending.key() = view.id;
      pending_errors_.insert(std::move(pending));
    }
    filled.id = view.id;
    TW_TRY(catalog_.Replace(filled));
    TW_TRY(StartStreamsOf(filled));
    StepNow();
    PublishNow();
    checkpoint = TakeCheckpoint();
    log::info("materialized view {} is filled anew and goes on", view.name);
    return {};
  }));
  return WaitDurable(checkpoint, nullptr);
}

}  // namespace tidewater::engine
