#include "tidewater/sources/postgres/postgres_source.h"
#include <algorithm>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/log.h"
#include "tidewater/sources/postgres/connector.h"

namespace tidewater::postgres {

PostgresSource::PostgresSource(SourceOptions source, Options options)
    : source_(std::move(source)), options_(std::move(options)) {
  if (options_.slot.empty()) options_.slot = Options::DefaultSlot(source_.name, source_.id);
}

PostgresSource::~PostgresSource() { Stop(); }

Options PostgresSource::options() const {
  std::lock_guard lock(mutex_);
  return options_;
}

void PostgresSource::SetState(SourceState state, std::optional<Error> error) {
  std::lock_guard lock(mutex_);
  state_ = state;
  error_ = std::move(error);
  streaming_ = state == SourceState::kStreaming;
}

/// A connection for one statement of a user, who does not wait for ever.
Result<std::unique_ptr<Connection>> PostgresSource::OpenForStatement(Interrupt& interrupt) {
  TW_ASSIGN(auto c, Connection::Open(options(), false, interrupt));
  TW_TRY(c->Execute("SET statement_timeout = '30s'"));
  return c;
}

Result<Schema> PostgresSource::Describe(const std::string& upstream_table) {
  Interrupt interrupt;
  TW_ASSIGN(auto c, OpenForStatement(interrupt));
  auto [schema, name] = SplitName(upstream_table, options().schema);
  PgTypes types;
  TW_ASSIGN(auto table, ReadTable(*c, schema, name, types));
  return SchemaOf(table, types);
}

Status PostgresSource::Resolve(Connection& c, TableState& t) {
  auto known = [&] {
    std::lock_guard lock(mutex_);
    return t.progress;
  }();
  std::string schema_option = options().schema;
  if (known.relid) {
    TW_ASSIGN(t.upstream, ReadTable(c, known.relid, t.pg_types));
  } else {
    auto [schema, name] = SplitName(t.table.upstream_name, schema_option);
    TW_ASSIGN(t.upstream, ReadTable(c, schema, name, t.pg_types));
  }
  if (known.attnums.size() == t.table.schema.columns.size() && known.relid) {
    t.attnums = known.attnums;
  } else {
    TW_ASSIGN(t.attnums, MatchColumns(t.table, t.upstream));
  }
  t.types = t.table.schema.GetTypes();
  t.key = t.table.schema.primary_key;
  t.is_key.assign(t.attnums.size(), 0);
  for (auto k : t.key) t.is_key[k] = 1;
  for (auto& column : t.upstream.columns) t.aliases[column.name] = column.attnum;
  for (auto k : t.key)
    if (!t.upstream.Find(t.attnums[k]))
      return std::unexpected(
          UserError("42703", "a key column of upstream table \"{}\" was dropped", t.upstream.FullName())
              .WithHint("DROP TABLE and create it again."));
  BuildDecoders(c, t);
  return {};
}

void PostgresSource::BuildDecoders(Connection& c, TableState& t) {
  bool check_utf8 = c.Parameter("server_encoding") == "SQL_ASCII";
  auto plan = std::make_shared<LoadPlan>();
  t.decoders.clear();
  plan->relid = t.upstream.relid;
  plan->from =
      (t.upstream.kind == 'p' ? "" : "ONLY ") + c.Identifier(t.upstream.schema) + "." + c.Identifier(t.upstream.name);
  plan->types = t.types;
  plan->key = t.key;
  for (size_t i = 0; i < t.attnums.size(); i++) {
    auto* column = t.upstream.Find(t.attnums[i]);
    auto kind = column ? t.pg_types.Kind(column->type) : PgKind::kOther;
    auto element = column ? t.pg_types.Kind(t.pg_types.Element(column->type)) : PgKind::kOther;
    auto& decoder = t.decoders.emplace_back(kind, element, t.types[i], check_utf8);
    plan->names.push_back(t.table.schema.columns[i].name);
    plan->as_text.push_back(!decoder.binary());
    plan->columns += i ? ", " : "";
    plan->columns += !column ? "NULL::text" : c.Identifier(column->name) + (decoder.binary() ? "" : "::text");
  }
  plan->decoders = t.decoders;
  for (auto k : t.key) {
    auto* column = t.upstream.Find(t.attnums[k]);
    plan->key_names.push_back(c.Identifier(column->name));
    plan->key_types.push_back(column->type_name);
  }
  constexpr double kChunkBytes = 32 << 20;
  size_t rows = options().load_chunk_rows;
  if (t.upstream.bytes_per_row > 0)
    rows = std::min(rows, size_t(std::max(64.0, kChunkBytes / t.upstream.bytes_per_row)));
  plan->max_chunk_rows = std::max<size_t>(rows, 1);
  plan->schema = t.upstream.schema;
  plan->name = t.upstream.name;
  t.writer.Unbind();
  t.piece = 0;
  t.wire_width = 0;
  std::lock_guard lock(mutex_);
  t.plan = plan;
  t.rows_estimated = t.upstream.estimated_rows;
  t.progress.relid = t.upstream.relid;
  t.progress.attnums = t.attnums;
}

Status PostgresSource::AddTable(const SourceTable& table) {
  auto state = std::make_shared<TableState>(table);
  {
    std::lock_guard lock(mutex_);
    if (tables_.count(table.id)) return {};
    if (!started_) {
      // What the upstream says of it comes with the first connection: a restart must not depend on the upstream.
      tables_[table.id] = state;
      return {};
    }
  }
  Interrupt interrupt;
  TW_ASSIGN(auto c, OpenForStatement(interrupt));
  TW_TRY(Resolve(*c, *state));
  auto o = options();
  TW_ASSIGN(auto publication, ReadPublication(*c, o.publication, o.slot));
  auto& up = state->upstream;
  state->before_publication = !publication.exists;
  if (publication.exists && !publication.tables.contains({up.schema, up.name})) {
    auto statement = AddTableStatement(*c, o.publication, up);
    if (!publication.ours)
      return std::unexpected(UserError("55000",
                                       "publication \"{}\" misses table \"{}\", and this source did not create it",
                                       o.publication, up.FullName())
                                 .WithHint("Run upstream: " + statement));
    TW_TRY(c->Execute(statement));
    state->added_to_publication = true;
  }
  std::lock_guard lock(mutex_);
  tables_[table.id] = state;
  added_.push_back(state);
  attention_ = true;
  if (state_ == SourceState::kFailed) resume_ = true;
  stream_interrupt_.Wake();
  load_wake_.notify_all();
  return {};
}

Status PostgresSource::RemoveTable(ObjectId id) {
  std::shared_ptr<const LoadPlan> plan;
  bool reachable, ours;
  {
    std::lock_guard lock(mutex_);
    auto it = tables_.find(id);
    if (it == tables_.end()) return {};
    if (it->second->taken) plan = it->second->plan;
    tables_.erase(it);
    std::erase_if(chunks_, [&](auto& chunk) { return chunk.table == id; });
    attention_ = true;
    reachable = state_ == SourceState::kStreaming;
    ours = publication_ours_;
    if (state_ == SourceState::kFailed) resume_ = true;
    stream_interrupt_.Wake();
    load_wake_.notify_all();
  }
  if (!started_ || !reachable || !ours || !plan) return {};
  // Only spares the upstream work: a table that stays in the publication is ignored.
  Interrupt interrupt;
  auto c = OpenForStatement(interrupt);
  if (!c) return {};
  auto o = options();
  if (auto status = (*c)->Execute("ALTER PUBLICATION " + (*c)->Identifier(o.publication) + " DROP TABLE " +
                                  (*c)->Identifier(plan->schema) + "." + (*c)->Identifier(plan->name));
      !status)
    log::warn("source={} publication={} table={} not dropped: {}", source_.name, o.publication, plan->name,
              status.error().message);
  return {};
}

Status PostgresSource::Start(const std::string& offset) {
  Status probe;
  if (offset.empty() && tables_.empty()) {
    // CREATE SOURCE: who wrote the statement should hear of a wrong option at once. After a restart it is only a log
    // line.
    Interrupt interrupt;
    if (auto c = OpenForStatement(interrupt); !c) probe = std::unexpected(c.error());
  }
  std::lock_guard lock(mutex_);
  TW_CHECK(!started_);
  if (!offset.empty()) {
    TW_ASSIGN(offset_, Offset::Decode(offset));
    if (!offset_.slot.empty()) options_.slot = offset_.slot;
    if (!offset_.publication.empty()) options_.publication = offset_.publication;
    for (auto& [id, progress] : offset_.tables)
      if (auto it = tables_.find(id); it != tables_.end()) it->second->progress = progress;
    confirmed_ = offset_.lsn;
    passed_ = offset_.lsn;
    slot_ours_ = offset_.slot_ours;
    publication_ours_ = offset_.publication_ours;
  }
  started_ = true;
  stream_thread_ = std::thread([this] { StreamMain(); });
  load_thread_ = std::thread([this] { LoadMain(); });
  return probe;
}

std::optional<SourceBatch> PostgresSource::Poll(size_t max_rows) {
  std::optional<SourceBatch> out;
  {
    std::lock_guard lock(mutex_);
    size_t rows = 0;
    while (!pieces_.empty() && (!out || rows + pieces_.front().rows <= max_rows)) {
      auto piece = std::move(pieces_.front());
      pieces_.pop_front();
      rows += piece.rows;
      queued_rows_ -= piece.rows;
      queued_bytes_ -= piece.bytes;
      if (!out) {
        out = std::move(piece.batch);
        continue;
      }
      auto& b = piece.batch;
      std::move(b.changes.begin(), b.changes.end(), std::back_inserter(out->changes));
      std::move(b.rejected.begin(), b.rejected.end(), std::back_inserter(out->rejected));
      out->loaded.insert(out->loaded.end(), b.loaded.begin(), b.loaded.end());
      out->offset = std::move(b.offset);
      out->continues = b.continues;
      out->commit_time_us = std::max(out->commit_time_us, b.commit_time_us);
    }
  }
  if (out && stalled_.load(std::memory_order_acquire)) stream_interrupt_.Wake();
  return out;
}

void PostgresSource::Confirm(const std::string& offset) {
  auto lsn = Offset::DecodeLsn(offset);
  if (lsn && *lsn > confirmed_.load()) confirmed_ = *lsn;
}

SourceStatus PostgresSource::GetStatus() {
  std::lock_guard lock(mutex_);
  SourceStatus s;
  s.state = state_;
  s.error = error_;
  if (state_ == SourceState::kRetrying && error_) {
    s.error->detail += fmt::format("{}attempt {}, next in {:.1f} s", s.error->detail.empty() ? "" : "; ", attempt_,
                                   double(std::max<int64_t>(0, next_try_us_ - MonotonicMicros())) / 1e6);
  }
  s.retries = retries_;
  Lsn passed = passed_;
  if (passed) s.position = LsnToText(passed);
  if (passed && wal_) {
    s.lag_bytes = wal_ > passed ? int64_t(wal_ - passed) : 0;
    s.lag_us = s.lag_bytes == 0 ? 0 : last_commit_us_ ? std::max<int64_t>(0, WallMicros() - last_commit_us_) : -1;
  }
  for (auto& [id, t] : tables_) {
    SourceStatus::Load load{id, t->table.upstream_name, t->progress.rows, uint64_t(t->rows_estimated), !t->loading()};
    load.rows_estimated = load.complete ? load.rows_done : std::max(load.rows_estimated, load.rows_done);
    if (!load.complete && s.state == SourceState::kStreaming) s.state = SourceState::kLoading;
    s.loads.push_back(load);
  }
  return s;
}

Status PostgresSource::Alter(const std::map<std::string, std::string>& changed) {
  std::lock_guard lock(mutex_);
  auto all = source_.options;
  for (auto& [name, value] : altered_) all[name] = value;
  for (auto& [name, value] : changed) all[name] = value;
  TW_ASSIGN(auto parsed, Options::Parse(all));
  if (parsed.slot.empty()) parsed.slot = options_.slot;
  if (parsed.slot != options_.slot || parsed.publication != options_.publication)
    return std::unexpected(UserError("0A000", "slot.name and publication.name of a source cannot be changed")
                               .WithHint("DROP the source and create it again."));
  for (auto& [name, value] : changed) altered_[name] = value;
  options_ = std::move(parsed);
  resume_ = true;
  stream_interrupt_.Wake();
  load_wake_.notify_all();
  return {};
}

void PostgresSource::Stop() {
  stream_interrupt_.Stop();
  load_interrupt_.Stop();
  {
    std::lock_guard lock(mutex_);
    load_wake_.notify_all();
  }
  if (stream_thread_.joinable()) stream_thread_.join();
  if (load_thread_.joinable()) load_thread_.join();
  std::lock_guard lock(mutex_);
  state_ = SourceState::kStopped;
}

Status PostgresSource::DropUpstream() {
  auto o = options();
  bool slot, publication;
  {
    std::lock_guard lock(mutex_);
    slot = slot_ours_;
    publication = publication_ours_;
  }
  if (!slot && !publication) return {};
  auto by_hand =
      fmt::format("Run upstream:{}{}", slot ? fmt::format(" SELECT pg_drop_replication_slot('{}');", o.slot) : "",
                  publication ? fmt::format(" DROP PUBLICATION \"{}\";", o.publication) : "");
  auto drop = [&]() -> Status {
    Interrupt interrupt;
    TW_ASSIGN(auto c, OpenForStatement(interrupt));
    for (int64_t deadline = MonotonicMicros() + 10'000'000; slot;) {
      // The server may take a moment to notice that the stream has ended.
      auto status = c->Query(
          "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", {o.slot});
      if (status) break;
      if (status.error().sqlstate != "55006" || MonotonicMicros() > deadline) return std::unexpected(status.error());
      interrupt.WaitSocket(-1, false, false, 50);
    }
    if (publication) TW_TRY(c->Execute("DROP PUBLICATION IF EXISTS " + c->Identifier(o.publication)));
    return {};
  };
  auto status = drop();
  if (!status) return std::unexpected(std::move(status.error()).WithHint(by_hand));
  std::lock_guard lock(mutex_);
  slot_ours_ = publication_ours_ = false;
  return {};
}

}  // namespace tidewater::postgres

namespace tidewater {
SourceConnector PostgresCdcConnector() {
  SourceConnector c;
  c.name = "postgres-cdc";
  c.validate = [](const std::map<std::string, std::string>& options) -> Status {
    TW_TRY(postgres::Options::Parse(options));
    return {};
  };
  c.make = [](SourceOptions options) -> Result<std::unique_ptr<Source>> {
    TW_ASSIGN(auto parsed, postgres::Options::Parse(options.options));
    return std::make_unique<postgres::PostgresSource>(std::move(options), std::move(parsed));
  };
  return c;
}
}  // namespace tidewater
