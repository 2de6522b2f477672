// The stream thread: from the connection to pieces in the queue.
#include <algorithm>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/log.h"
#include "tidewater/sources/postgres/postgres_source.h"

namespace tidewater::postgres {
namespace {

/// A larger transaction is cut into several pieces.
constexpr size_t kPieceRows = 4096;
constexpr size_t kPieceBytes = 8 << 20;
constexpr size_t kQueueRows = 512 * 1024;
constexpr size_t kQueueBytes = 64 << 20;
constexpr size_t kUncheckedBytes = 1 << 20;
/// Under load a piece waits for company at most this long.
constexpr int64_t kPieceUs = 2'000;
constexpr int64_t kStatusUs = 1'000'000;
constexpr int64_t kAskUs = 5'000;
/// How often an idle stream records how far it is.
constexpr int64_t kHeartbeatUs = 5'000'000;
constexpr int64_t kFirstBackoffUs = 100'000, kMaxBackoffUs = 10'000'000;
/// Keys of rejected rows are remembered up to here, so that a fitting update takes the row out of the error table.
constexpr size_t kMaxRejected = 10'000;

const Field kNullField{};

}  // namespace

void PostgresSource::StreamMain() {
  while (!stream_interrupt_.stopped()) {
    Lsn before = passed_;
    auto status = RunStream();
    if (stream_interrupt_.stopped()) break;
    if (in_transaction_ || interrupted_lsn_) {
      // The transaction comes again: take only what is missing.
      if (in_transaction_ && !skip_transaction_ && changes_seen_ > 0) {
        interrupted_lsn_ = commit_lsn_;
        changes_to_skip_ = std::max(changes_to_skip_, changes_seen_);
      }
      in_transaction_ = skip_transaction_ = false;
    }
    if (status) {  // a fresh stream was asked for
      std::lock_guard lock(mutex_);
      streaming_ = false;
      restart_stream_ = false;
      continue;
    }
    auto& error = status.error();
    std::unique_lock lock(mutex_);
    streaming_ = false;
    error_ = error;
    if (error.kind == ErrorKind::kUnavailable || error.kind == ErrorKind::kCorrupt) {
      if (passed_ != before) attempt_ = 0;
      attempt_++;
      retries_++;
      int64_t wait = std::min(kMaxBackoffUs, kFirstBackoffUs << std::min(attempt_ - 1, 10));
      next_try_us_ = MonotonicMicros() + wait;
      state_ = SourceState::kRetrying;
      log::warn("source={} retry={} in_ms={} error=\"{}\"", source_.name, attempt_, wait / 1000, error.ToString());
    } else {
      next_try_us_ = std::numeric_limits<int64_t>::max();
      state_ = SourceState::kFailed;
      log::error("source={} failed: {} hint=\"{}\"", source_.name, error.ToString(), error.hint);
    }
    resume_ = false;
    lock.unlock();
    while (!stream_interrupt_.stopped()) {
      {
        std::lock_guard again(mutex_);
        if (resume_ || MonotonicMicros() >= next_try_us_) break;
      }
      stream_interrupt_.WaitSocket(-1, false, false, 50);
    }
    std::lock_guard again(mutex_);
    if (resume_) attempt_ = 0;
    resume_ = false;
  }
}

Status PostgresSource::RunStream() {
  auto opened = Connection::Open(options(), true, stream_interrupt_);
  if (!opened) {
    auto error = opened.error();
    if (error.kind == ErrorKind::kAuthentication)
      error.hint =
          fmt::format("ALTER SOURCE {} SET (password = '...'); or mend it upstream and ALTER SOURCE {} RESUME;",
                      source_.name, source_.name);
    return std::unexpected(error);
  }
  auto c = std::move(*opened);
  TW_TRY(Prepare(*c));
  std::string command =
      fmt::format("START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}",
                  c->Identifier(offset_.slot), LsnToText(offset_.lsn), c->Literal(c->Identifier(offset_.publication)));
  if (binary_) command += ", binary 'true'";
  if (auto status = c->StartReplication(command + ")"); !status) {
    auto error = status.error();
    if (error.sqlstate == "55006") error = std::move(error).WithHint("Another process reads from this slot.");
    return std::unexpected(error);
  }
  {
    std::lock_guard lock(mutex_);
    state_ = SourceState::kStreaming;
    error_.reset();
    streaming_ = true;
    streams_++;
    restart_stream_ = false;
    load_wake_.notify_all();
  }
  log::info("source={} streaming slot={} from={} binary={}", source_.name, offset_.slot, LsnToText(offset_.lsn),
            binary_);
  announce_ = true;
  attention_ = true;
  auto status = Loop(*c);
  // What is wrong with the slot or the publication is found out, and named, by Prepare.
  if (!status && status.error().kind == ErrorKind::kUser && status.error().sqlstate != "0A000")
    status.error().kind = ErrorKind::kUnavailable;
  return status;
}

Status PostgresSource::Prepare(Connection& c) {
  TW_ASSIGN(auto system, c.Query("IDENTIFY_SYSTEM"));
  std::string id = system.at(0).at(0).value_or("");
  if (offset_.system.empty()) offset_.system = id;
  if (offset_.system != id)
    return std::unexpected(UserError("55000",
                                     "this is another PostgreSQL cluster than before (system identifier {}, not {})",
                                     id, offset_.system)
                               .WithHint("DROP the source and create it again to load from the new cluster."));
  TW_ASSIGN(auto level, c.Query("SHOW wal_level"));
  if (level.at(0).at(0) != "logical")
    return std::unexpected(
        UserError("55000", "wal_level is {} upstream, logical decoding needs \"logical\"", level[0][0].value_or(""))
            .WithHint("Run upstream: ALTER SYSTEM SET wal_level = 'logical'; and restart that server."));
  TakeAdded();
  Tables tables;
  {
    std::lock_guard lock(mutex_);
    tables = tables_;
  }
  by_relid_.clear();
  binary_ = !force_text_ && c.version() >= 140000;
  for (auto& [table_id, t] : tables) {
    if (auto status = Resolve(c, *t); !status) {
      auto error = status.error();
      if (error.kind == ErrorKind::kUser)
        error.message = fmt::format("table {}: {}", t->table.upstream_name, error.message);
      if (error.sqlstate == "42P01") error.hint = "DROP TABLE here if it is gone for good.";
      return std::unexpected(error);
    }
    by_relid_[t->upstream.relid] = t;
    for (auto& d : t->decoders) binary_ = binary_ && d.binary();
  }
  TW_TRY(PreparePublication(c));
  TW_TRY(PrepareSlot(c));
  std::lock_guard lock(mutex_);
  for (auto& [table_id, t] : tables) t->taken = true;
  offset_rest_.clear();
  return {};
}

Status PostgresSource::PreparePublication(Connection& c) {
  auto o = options();
  offset_.publication = o.publication;
  std::vector<std::string> names;
  bool fresh = true;
  for (auto& [relid, t] : by_relid_) {
    names.push_back(c.Identifier(t->upstream.schema) + "." + c.Identifier(t->upstream.name));
    fresh = fresh && t->progress.fresh();
  }
  TW_ASSIGN(auto p, ReadPublication(c, o.publication, o.slot));
  if (!p.exists) {
    auto statement = CreatePublicationStatement(c, o.publication, names);
    if (!o.create_publication)
      return std::unexpected(
          UserError("42704", "publication \"{}\" does not exist, and publication.create.enable is false", o.publication)
              .WithHint("Run upstream: " + statement));
    if (!fresh) {
      StartOverAll();
      return std::unexpected(
          UserError("42704", "publication \"{}\" was dropped upstream: changes are lost", o.publication)
              .WithHint(
                  fmt::format("ALTER SOURCE {} RESUME; creates it again and loads the tables anew.", source_.name)));
    }
    {
      std::lock_guard lock(mutex_);
      publication_ours_ = true;  // even if the answer never comes
    }
    TW_TRY(CreatePublication(c, o.publication, o.slot, names));
    p.ours = true;
    log::info("source={} created publication={}", source_.name, o.publication);
  } else {
    if (!p.complete)
      return std::unexpected(
          UserError("55000", "publication \"{}\" does not publish all of insert, update, delete and truncate",
                    o.publication)
              .WithHint(
                  fmt::format("Run upstream: ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
                              c.Identifier(o.publication))));
    std::optional<Error> missing;
    for (auto& [relid, t] : by_relid_) {
      if (p.tables.contains({t->upstream.schema, t->upstream.name})) continue;
      auto statement = AddTableStatement(c, o.publication, t->upstream);
      if (p.ours && t->progress.fresh()) {
        TW_TRY(c.Execute(statement));
        t->added_to_publication = true;
        continue;
      }
      if (!t->progress.fresh()) StartOver(*t);
      if (!missing)
        missing = UserError("55000", "publication \"{}\" misses table \"{}\"", o.publication, t->upstream.FullName())
                      .WithHint("Run upstream: " + statement + " Then here: ALTER SOURCE " + source_.name + " RESUME;");
    }
    if (missing) return std::unexpected(*missing);
  }
  offset_.publication_ours = p.ours;
  std::lock_guard lock(mutex_);
  publication_ours_ = p.ours;
  return {};
}

Status PostgresSource::PrepareSlot(Connection& c) {
  auto o = options();
  offset_.slot = o.slot;
  bool fresh = std::all_of(by_relid_.begin(), by_relid_.end(), [](auto& e) { return e.second->progress.fresh(); });
  TW_ASSIGN(auto slot, ReadSlot(c, o.slot));
  auto lost = [&](std::string what) {
    StartOverAll();
    return std::unexpected(UserError("42704", "replication slot \"{}\" {}: changes are lost", o.slot, what)
                               .WithHint(fmt::format("ALTER SOURCE {} RESUME; starts over with a new slot and "
                                                     "loads the tables anew; or DROP the source.",
                                                     source_.name)));
  };
  bool ours = offset_.slot_ours;
  if (!slot.exists) {
    if (!fresh) return lost("does not exist any more");
    if (offset_.lsn) StartOverAll();  // what the lost slot had sent already goes
    {
      std::lock_guard lock(mutex_);
      slot_ours_ = true;  // even if the answer never comes
    }
    TW_TRY(c.Query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", {o.slot}));
    TW_ASSIGN(slot, ReadSlot(c, o.slot));
    if (!slot.exists)
      return std::unexpected(EnvError(ErrorKind::kUnavailable, "replication slot \"{}\" vanished", o.slot));
    ours = true;
    offset_.lsn = 0;
    log::info("source={} created slot={} at={}", source_.name, o.slot, LsnToText(slot.confirmed));
  } else {
    if (slot.plugin != "pgoutput" || slot.database != o.database)
      return std::unexpected(UserError("55000",
                                       "replication slot \"{}\" is for plugin {} in database {}, not pgoutput in {}",
                                       o.slot, slot.plugin, slot.database, o.database)
                                 .WithHint("Choose another slot.name."));
    if (slot.lost && !fresh) return lost("lost WAL that it needs (max_slot_wal_keep_size)");
    if (slot.lost)
      return std::unexpected(
          UserError("55000", "replication slot \"{}\" lost WAL that it needs", o.slot)
              .WithHint(
                  fmt::format("Run upstream: SELECT pg_drop_replication_slot('{}'); then here: ALTER SOURCE {} RESUME;",
                              o.slot, source_.name)));
    // The slot is only ever moved by what a checkpoint of ours holds.
    if (offset_.lsn && slot.confirmed > offset_.lsn && slot.confirmed > confirmed_) {
      if (!fresh) return lost(fmt::format("is at {}, ahead of {}", LsnToText(slot.confirmed), LsnToText(offset_.lsn)));
      StartOverAll();
      offset_.lsn = 0;
    }
    if (offset_.lsn == 0 && offset_.publication_ours && !ours)
      ours = true;  // created, and killed before the first checkpoint
  }
  if (offset_.lsn == 0) {
    offset_.lsn = slot.confirmed;
    passed_ = slot.confirmed;
    interrupted_lsn_ = changes_to_skip_ = 0;
  }
  offset_.slot_ours = ours;
  std::lock_guard lock(mutex_);
  slot_ours_ = ours;
  return {};
}

void PostgresSource::StartOver(TableState& t) {
  {
    std::lock_guard lock(mutex_);
    t.progress.phase = TableOffset::kLoading;
    t.progress.truncate = true;
    t.progress.bound.clear();
    t.progress.repair.clear();
    t.progress.rows = 0;
    t.load++;
    offset_rest_.clear();
  }
  t.touches.Clear();
  // What is recorded must say so before anything else happens.
  Piece piece;
  piece.batch.offset = OffsetText();
  if (open_.rows == 0 && !interrupted_lsn_) PushPiece(std::move(piece));
}

void PostgresSource::StartOverAll() {
  for (auto& [relid, t] : by_relid_) StartOver(*t);
}

Status PostgresSource::SendStatus(Connection& c, bool ask) {
  char message[34];
  Lsn flush = confirmed_;
  message[0] = 'r';
  WriteU64(message + 1, std::max<Lsn>(passed_, flush));
  WriteU64(message + 9, flush);
  WriteU64(message + 17, flush);
  WriteU64(message + 25, uint64_t(WallMicros() - kEpochOffsetUs));
  message[33] = ask;
  if (PQputCopyData(c.raw(), message, sizeof message) != 1 || PQflush(c.raw()) < 0)
    return std::unexpected(c.LastError());
  status_sent_us_ = MonotonicMicros();
  if (ask) asked_us_ = status_sent_us_;
  return {};
}

Status PostgresSource::Loop(Connection& c) {
  uint32_t count = 0;
  size_t unchecked_bytes = 0;
  TW_TRY(SendStatus(c, true));
  int64_t heartbeat_us = MonotonicMicros();
  while (true) {
    if (stream_interrupt_.stopped()) return std::unexpected(EnvError(ErrorKind::kCancelled, "stopped"));
    if (++count % 256 == 0 || unchecked_bytes > kUncheckedBytes || stalled_) {
      unchecked_bytes = 0;
      if (MonotonicMicros() - status_sent_us_ > kStatusUs) TW_TRY(SendStatus(c, false));
      bool full;
      {
        std::lock_guard lock(mutex_);
        full = queued_rows_ >= kQueueRows || queued_bytes_ >= kQueueBytes;
      }
      stalled_ = full;
      if (full) {
        stream_interrupt_.WaitSocket(-1, false, false, 100);
        continue;
      }
    }
    char* buffer = nullptr;
    int n = PQgetCopyData(c.raw(), &buffer, 1);
    if (n > 0) {
      auto status = OnMessage(c, {buffer, size_t(n)});
      PQfreemem(buffer);
      TW_TRY(status);
      unchecked_bytes += size_t(n);
      if (std::exchange(look_, false)) {
        TW_ASSIGN(bool leave, Asked());
        if (leave) return {};
      }
      continue;
    }
    if (n == -2) return std::unexpected(c.LastError());
    if (n == -1) {
      auto* result = PQgetResult(c.raw());
      auto error = result && PQresultStatus(result) == PGRES_FATAL_ERROR
                       ? ErrorOf(result)
                       : EnvError(ErrorKind::kUnavailable, "PostgreSQL ended the stream");
      PQclear(result);
      return std::unexpected(error);
    }
    // Nothing more for the moment.
    int64_t now = MonotonicMicros();
    bool waiting = false;
    if (!in_transaction_ && !interrupted_lsn_) {
      if (passed_ > offset_.lsn && (now - heartbeat_us > kHeartbeatUs)) {
        heartbeat_us = now;
        offset_.lsn = passed_;
        announce_ = true;
      }
      OnBoundary(true);
      TW_ASSIGN(bool leave, Asked());
      if (leave) return {};
      {
        std::lock_guard lock(mutex_);
        waiting = (!chunks_.empty() && chunks_.front().high > passed_) || wanted_ > passed_;
      }
    }
    if (now - status_sent_us_ > kStatusUs || (waiting && now - asked_us_ > kAskUs)) TW_TRY(SendStatus(c, waiting));
    int timeout_ms = waiting ? 5 : int(std::clamp<int64_t>((kStatusUs - (now - status_sent_us_)) / 1000, 1, 1000));
    stream_interrupt_.WaitSocket(PQsocket(c.raw()), true, false, timeout_ms);
    if (!PQconsumeInput(c.raw())) return std::unexpected(c.LastError());
  }
}

/// Between transactions: whether a fresh stream is wanted, or why the load cannot go on.
Result<bool> PostgresSource::Asked() {
  std::lock_guard lock(mutex_);
  if (!load_error_) return restart_stream_;
  auto error = *std::exchange(load_error_, {});
  error.kind = ErrorKind::kUnsupported;  // waits for a statement
  return std::unexpected(error);
}

Status PostgresSource::OnMessage(Connection& c, std::span<const char> bytes) {
  TW_ASSIGN(auto m, DecodeReplication(bytes));
  if (m.type == ReplicationMessage::kData) return OnPgoutput(c, m.data);
  if (!in_transaction_ && !interrupted_lsn_ && m.end > passed_) {
    passed_ = m.end;
    if (wanted_) load_wake_.notify_all();
  }
  if (m.reply_now) return SendStatus(c, false);
  return {};
}

Status PostgresSource::OnPgoutput(Connection& c, std::span<const char> bytes) {
  TW_ASSIGN(auto* m, decoder_.Decode(bytes));
  switch (m->type) {
    case PgoutputMessage::kInsert:
    case PgoutputMessage::kUpdate:
    case PgoutputMessage::kDelete: {
      if (skip_transaction_ || ++changes_seen_ <= changes_to_skip_) return {};
      auto it = by_relid_.find(m->relation);
      if (it == by_relid_.end()) return {};
      open_.bytes += bytes.size();
      TW_TRY(OnChange(*it->second, *m));
      if (open_.rows >= kPieceRows || open_.bytes >= kPieceBytes) Publish(true);
      return {};
    }
    case PgoutputMessage::kTruncate:
      if (skip_transaction_ || ++changes_seen_ <= changes_to_skip_) return {};
      for (auto relid : m->truncated)
        if (auto it = by_relid_.find(relid); it != by_relid_.end()) PutTruncate(*it->second, true);
      return {};
    case PgoutputMessage::kRelation:
      return OnRelation(c, *m);
    case PgoutputMessage::kBegin:
      in_transaction_ = true;
      xid_ = m->xid;
      commit_lsn_ = m->commit_lsn;
      changes_seen_ = 0;
      skip_transaction_ = m->commit_lsn < offset_.lsn;
      if (skip_transaction_) return {};
      if (interrupted_lsn_ && interrupted_lsn_ != m->commit_lsn)
        return std::unexpected(EnvError(ErrorKind::kInternal,
                                        "the transaction at {} did not come again, but the one at {}",
                                        LsnToText(interrupted_lsn_), LsnToText(m->commit_lsn)));
      if (!interrupted_lsn_) changes_to_skip_ = 0;
      return {};
    case PgoutputMessage::kCommit:
      in_transaction_ = false;
      if (std::exchange(skip_transaction_, false)) return {};
      interrupted_lsn_ = changes_to_skip_ = 0;
      offset_.lsn = m->end_lsn;
      passed_ = std::max<Lsn>(passed_, m->end_lsn);
      if (open_.rows || !open_.batch.rejected.empty() || open_continued_) {
        open_.batch.commit_time_us = std::max(open_.batch.commit_time_us, m->commit_time + kEpochOffsetUs);
        OnBoundary(false);
      } else if (attention_.load(std::memory_order_relaxed)) {
        OnBoundary(false);
      }
      return {};
    default:
      return {};
  }
}

void PostgresSource::OnBoundary(bool drained) {
  if (interrupted_lsn_) return;
  bool attention = attention_.exchange(false, std::memory_order_acq_rel);
  if (attention) {
    TakeAdded();
    for (auto& [relid, t] : by_relid_)
      if (t->progress.truncate) PutTruncate(*t, false);
  }
  bool content = open_.rows || !open_.batch.rejected.empty() || open_continued_;
  if ((content && (drained || open_continued_ || open_.rows >= kPieceRows || open_.bytes >= kPieceBytes ||
                   MonotonicMicros() - open_.started_us > kPieceUs)) ||
      (announce_ && drained)) {
    Publish(false);
  }
  if (attention) HandOverChunks();
  look_ = look_ || attention;
}

void PostgresSource::TakeAdded() {
  std::vector<std::shared_ptr<TableState>> added;
  std::lock_guard lock(mutex_);
  added.swap(added_);
  if (added.empty() && by_relid_.size() <= tables_.size() &&
      std::all_of(by_relid_.begin(), by_relid_.end(), [&](auto& e) { return tables_.contains(e.second->table.id); }))
    return;
  for (auto& t : added) {
    if (!tables_.contains(t->table.id)) continue;
    if (t->before_publication) {
      restart_stream_ = true;  // which puts it into the publication and takes it
      continue;
    }
    by_relid_[t->upstream.relid] = t;
    t->taken = true;
    for (auto& d : t->decoders)
      if (!d.binary() && binary_) restart_stream_ = true;  // text for all from now on
    announce_ = true;
  }
  std::erase_if(by_relid_, [&](auto& e) { return !tables_.contains(e.second->table.id); });
  offset_rest_.clear();
  load_wake_.notify_all();
}

std::string PostgresSource::OffsetText() {
  if (offset_rest_.empty()) {
    std::lock_guard lock(mutex_);
    offset_.tables.clear();
    for (auto& [id, t] : tables_)
      if (t->progress.relid) offset_.tables[id] = t->progress;
    offset_rest_ = offset_.EncodeRest();
  }
  return Offset::EncodeLsn(offset_.lsn) + offset_rest_;
}

void PostgresSource::Publish(bool continues) {
  open_.batch.continues = continues;
  open_.batch.offset = OffsetText();
  open_continued_ = continues;
  if (!continues) announce_ = false;
  PushPiece(std::exchange(open_, Piece{}));
  piece_++;
}

void PostgresSource::PushPiece(Piece piece) {
  {
    std::lock_guard lock(mutex_);
    queued_rows_ += piece.rows;
    queued_bytes_ += piece.bytes;
    if (piece.batch.commit_time_us) last_commit_us_ = piece.batch.commit_time_us;
    pieces_.push_back(std::move(piece));
  }
  if (source_.wake) source_.wake();
}

ChangeChunk& PostgresSource::OpenChunk(TableState& t, size_t rows) {
  if (t.piece == piece_ && t.writer.bound()) {
    auto& open = open_.batch.changes[t.open];
    if (open.rows->size() + rows <= STANDARD_VECTOR_SIZE) return open;
  }
  if (open_.batch.changes.empty()) open_.started_us = MonotonicMicros();
  ChangeChunk chunk;
  chunk.table = t.table.id;
  chunk.rows = std::make_unique<DataChunk>();
  chunk.rows->Initialize(duckdb::Allocator::DefaultAllocator(), t.types);
  t.writer.Bind(*chunk.rows);
  t.piece = piece_;
  t.open = open_.batch.changes.size();
  return open_.batch.changes.emplace_back(std::move(chunk));
}

// ---- rows

bool PostgresSource::PutKey(TableState& t, ChangeOp op, const Tuple& row) {
  auto& chunk = OpenChunk(t, 2);
  auto at = chunk.rows->size();
  for (uint32_t c = 0; c < t.types.size(); c++) {
    if (!t.is_key[c]) {
      t.writer.PutNull(c, at);
    } else if (auto* why = t.writer.Put(c, at, row[size_t(t.wire[c])])) {
      // A key that cannot be held was never in the table.
      auto text = t.decoders[c].Text(row[size_t(t.wire[c])]);
      if (op == ChangeOp::kDelete || op == ChangeOp::kMove) Unreject(t, open_.batch, text);
      (void)why;
      return false;
    }
  }
  chunk.rows->SetCardinality(at + 1);
  chunk.ops.push_back(op);
  open_.rows++;
  if (t.loading()) {
    key_bytes_.clear();
    AppendKey(*chunk.rows, at, t.key, key_bytes_);
    t.touches.Add(xid_, TouchLog::kGone, key_bytes_);
  }
  if (!t.progress.rejected.empty()) Unreject(t, open_.batch, KeyText(*chunk.rows, at, t.key));
  return true;
}

/// Writes the row in fields_; `moved`: a kMove of its old key stands right before.
void PostgresSource::PutUpsert(TableState& t, bool moved) {
  auto& chunk = OpenChunk(t, 1);
  auto at = chunk.rows->size();
  unchanged_.clear();
  const char* why = nullptr;
  uint32_t c = 0;
  for (; c < t.types.size(); c++) {
    if (fields_[c]->kind == Field::kUnchanged) [[unlikely]]
      unchanged_.push_back(c);
    why = t.writer.Put(c, at, *fields_[c]);
    if (why) [[unlikely]]
      break;
  }
  bool rejected_before =
      !t.progress.rejected.empty() && !why && t.progress.rejected.contains(KeyText(*chunk.rows, at, t.key));
  if (!why && !unchanged_.empty() && (rejected_before || moved_from_rejected_)) {
    c = unchanged_[0];
    why = "the row is in the error table, and PostgreSQL did not send this large, unchanged value again";
  }
  if (why) [[unlikely]] {
    // The row leaves the table: a delete of its key takes its place.
    if (moved) chunk.ops.back() = ChangeOp::kDelete;
    std::string key;
    for (uint32_t k = 0; k < t.types.size(); k++) {
      if (!t.is_key[k]) {
        t.writer.PutNull(k, at);
      } else if (t.writer.Put(k, at, *fields_[k])) {
        Reject(t, open_.batch, k, why, t.decoders[c].Text(*fields_[c]), t.decoders[k].Text(*fields_[k]));
        return;
      }
    }
    Reject(t, open_.batch, c, why, t.decoders[c].Text(*fields_[c]), KeyText(*chunk.rows, at, t.key));
    chunk.rows->SetCardinality(at + 1);
    chunk.ops.push_back(ChangeOp::kDelete);
    open_.rows++;
    if (t.loading()) {
      key_bytes_.clear();
      AppendKey(*chunk.rows, at, t.key, key_bytes_);
      t.touches.Add(xid_, TouchLog::kGone, key_bytes_);
    }
    return;
  }
  for (auto column : unchanged_) chunk.unchanged.emplace_back(uint32_t(at), column);
  chunk.rows->SetCardinality(at + 1);
  chunk.ops.push_back(ChangeOp::kUpsert);
  open_.rows++;
  if (t.loading()) {
    key_bytes_.clear();
    AppendKey(*chunk.rows, at, t.key, key_bytes_);
    t.touches.Add(xid_, moved ? TouchLog::kMovedHere : TouchLog::kWritten, key_bytes_, unchanged_);
    if (moved && !unchanged_.empty()) {
      // The old row may not have been loaded yet, and this key's place may have been: read the row again at the end.
      auto key = KeyForUpstream(*chunk.rows, at, t.key);
      std::lock_guard lock(mutex_);
      t.progress.repair.insert(key);
      t.repair_xids[key] = xid_;
      offset_rest_.clear();
    }
  }
  if (rejected_before) Unreject(t, open_.batch, KeyText(*chunk.rows, at, t.key));
}

Status PostgresSource::OnChange(TableState& t, const PgoutputMessage& m) {
  auto corrupt = [&](const char* what) {
    return std::unexpected(
        EnvError(ErrorKind::kCorrupt, "pgoutput: a change of table {} {}", t.table.upstream_name, what));
  };
  if (t.wire_width == 0) return corrupt("came before its description");
  bool has_old = m.type != PgoutputMessage::kInsert && m.old_kind != 0;
  if (has_old && m.old_row.size() != t.wire_width) return corrupt("has another number of columns");
  moved_from_rejected_ = false;
  if (m.type == PgoutputMessage::kDelete) {
    PutKey(t, ChangeOp::kDelete, m.old_row);
    return {};
  }
  if (m.new_row.size() != t.wire_width) return corrupt("has another number of columns");
  bool moved = false;
  for (size_t c = 0; c < t.wire.size(); c++) {
    if (t.wire[c] < 0) [[unlikely]] {
      fields_[c] = &kNullField;
      continue;
    }
    auto* f = &m.new_row[size_t(t.wire[c])];
    if (has_old) [[unlikely]] {
      auto& old = m.old_row[size_t(t.wire[c])];
      if (f->kind == Field::kUnchanged && (m.old_kind == 'O' || t.is_key[c]) && old.kind != Field::kNull &&
          old.kind != Field::kUnchanged)
        f = &old;
      if (t.is_key[c]) moved = moved || f->kind != old.kind || f->view() != old.view();
    }
    fields_[c] = f;
  }
  if (moved) {
    OpenChunk(t, 2);
    auto rejected = t.progress.rejected.size();
    moved = PutKey(t, ChangeOp::kMove, m.old_row);
    moved_from_rejected_ = t.progress.rejected.size() != rejected || !moved;
  }
  PutUpsert(t, moved);
  return {};
}

void PostgresSource::PutTruncate(TableState& t, bool upstream) {
  auto& chunk = OpenChunk(t, 1);
  auto at = chunk.rows->size();
  for (uint32_t c = 0; c < t.types.size(); c++) t.writer.PutNull(c, at);
  chunk.rows->SetCardinality(at + 1);
  chunk.ops.push_back(ChangeOp::kTruncate);
  open_.rows++;
  if (t.loading() && upstream) t.touches.Add(xid_, TouchLog::kTruncated, {});
  auto rejected = t.progress.rejected;
  for (auto& key : rejected) Unreject(t, open_.batch, key);
  std::lock_guard lock(mutex_);
  t.progress.truncate = false;
  t.progress.repair.clear();
  t.repair_xids.clear();
  offset_rest_.clear();
}

void PostgresSource::Reject(TableState& t, SourceBatch& batch, uint32_t column, const char* why,
                            const std::string& value, const std::string& key) {
  Unreject(t, batch, key);
  RejectedRow r;
  auto& def = t.table.schema.columns[column];
  r.table = t.table.id;
  r.key = key;
  r.column = def.name;
  r.value = value.substr(0, 1000);
  r.message = fmt::format("value does not fit {}: {}", TypeToText(def.type), why);
  r.hint = def.type.id() == duckdb::LogicalTypeId::VARCHAR
               ? "Set REPLICA IDENTITY FULL upstream, or update the column."
               : fmt::format(
                     "Create the table with an explicit column list and declare \"{}\" as a type that holds it, e.g. "
                     "VARCHAR.",
                     def.name);
  if (value.empty()) r.hint = "Update this column upstream, or set REPLICA IDENTITY FULL, to have the value sent.";
  batch.rejected.push_back(std::move(r));
  if (t.progress.rejected.size() >= kMaxRejected) return;
  std::lock_guard lock(mutex_);
  t.progress.rejected.insert(key);
  offset_rest_.clear();
}

void PostgresSource::Unreject(TableState& t, SourceBatch& batch, const std::string& key) {
  if (!t.progress.rejected.contains(key)) return;
  RejectedRow r;
  r.table = t.table.id;
  r.key = key;
  r.resolved = true;
  batch.rejected.push_back(std::move(r));
  std::lock_guard lock(mutex_);
  t.progress.rejected.erase(key);
  offset_rest_.clear();
}

// ---- the shape of tables

Status PostgresSource::OnRelation(Connection& stream, const PgoutputMessage& m) {
  auto it = by_relid_.find(m.relation);
  if (it == by_relid_.end()) return {};
  auto& t = *it->second;
  // 1. The columns' places, by the names that are known; by asking the catalog when one is not.
  auto place = [&]() -> bool {
    t.wire.assign(t.attnums.size(), -1);
    int last = 0;
    bool sure = true;  // columns come in the order of their attnums
    for (size_t i = 0; i < m.columns.size(); i++) {
      auto alias = t.aliases.find(std::string(m.columns[i].name));
      sure = sure && alias != t.aliases.end() && alias->second > last;
      if (alias == t.aliases.end()) continue;
      last = alias->second;
      for (size_t c = 0; c < t.attnums.size(); c++)
        if (t.attnums[c] == alias->second) t.wire[c] = int(i);
    }
    return sure && std::find(t.wire.begin(), t.wire.end(), -1) == t.wire.end();
  };
  auto same_types = [&] {
    for (size_t c = 0; c < t.wire.size(); c++) {
      auto* column = t.upstream.Find(t.attnums[c]);
      if (t.wire[c] >= 0 && column && column->type != m.columns[size_t(t.wire[c])].type) return false;
    }
    return true;
  };
  if (!place() || !same_types()) {
    TW_TRY(RefreshTable(t));
    place();
    for (size_t c = 0; c < t.attnums.size(); c++) {
      if (t.wire[c] < 0 && t.upstream.Find(t.attnums[c]))
        return std::unexpected(UserError("0A000", "column \"{}\" of table \"{}\" is not in the change stream",
                                         t.table.schema.columns[c].name, t.upstream.FullName())
                                   .WithHint(fmt::format("Publication \"{}\" must publish all columns of the table.",
                                                         offset_.publication)));
    }
    // The stream may be older than the catalog: what it says of a type counts.
    for (size_t c = 0; c < t.wire.size(); c++) {
      if (t.wire[c] < 0) continue;
      auto type = m.columns[size_t(t.wire[c])].type;
      auto* column = t.upstream.Find(t.attnums[c]);
      if (column && column->type == type) continue;
      if (!t.pg_types.Find(type)) {
        Interrupt interrupt;
        TW_ASSIGN(auto c2, OpenForStatement(interrupt));
        TW_TRY(ReadTypes(*c2, {type}, t.pg_types));
      }
      t.decoders[c] =
          ColumnDecoder(t.pg_types.Kind(type), t.pg_types.Kind(t.pg_types.Element(type)), t.types[c], check_utf8_);
    }
  }
  if (m.replica_identity != 'f') {
    for (auto k : t.key)
      if (t.wire[k] >= 0 && !m.columns[size_t(t.wire[k])].key)
        return std::unexpected(
            UserError("0A000", "the REPLICA IDENTITY of table \"{}\" was changed and lacks the key column \"{}\"",
                      t.upstream.FullName(), t.table.schema.columns[k].name)
                .WithHint(fmt::format(
                    "Run upstream: ALTER TABLE {} REPLICA IDENTITY DEFAULT; then here: ALTER SOURCE {} RESUME;",
                    t.upstream.FullName(), source_.name)));
  }
  t.wire_width = m.columns.size();
  fields_.resize(std::max(fields_.size(), t.attnums.size()));
  if (binary_) {
    for (auto& d : t.decoders) {
      if (d.binary()) continue;
      force_text_ = true;
      return std::unexpected(EnvError(ErrorKind::kUnavailable,
                                      "a column of table \"{}\" changed its type: starting again in text form",
                                      t.upstream.FullName()));
    }
  }
  return {};
}

/// Reads the table's shape again over a connection of its own: this one is streaming.
Status PostgresSource::RefreshTable(TableState& t) {
  Interrupt interrupt;
  TW_ASSIGN(auto c, OpenForStatement(interrupt));
  auto relid = t.upstream.relid;
  auto table = ReadTable(*c, relid, t.pg_types);
  if (!table && table.error().sqlstate == "42P01") return {};  // dropped since; the stream still tells its past
  if (!table) return std::unexpected(table.error());
  t.upstream = std::move(*table);
  for (auto& column : t.upstream.columns) t.aliases[column.name] = column.attnum;
  BuildDecoders(*c, t);
  return {};
}

// ---- chunks of the initial load

void PostgresSource::HandOverChunks() {
  while (true) {
    LoadedChunk chunk;
    {
      std::lock_guard lock(mutex_);
      if (chunks_.empty()) return;
      if (chunks_.front().high > passed_) {
        attention_ = true;
        return;
      }
      chunk = std::move(chunks_.front());
      chunks_.pop_front();
    }
    if (open_.rows || !open_.batch.rejected.empty() || open_continued_) Publish(false);
    HandOver(std::move(chunk));
    load_wake_.notify_all();
  }
}

void PostgresSource::HandOver(LoadedChunk chunk) {
  std::shared_ptr<TableState> state;
  {
    std::lock_guard lock(mutex_);
    auto it = tables_.find(chunk.table);
    if (it != tables_.end() && it->second->load == chunk.load && it->second->loading()) state = it->second;
  }
  auto prune = [&] {
    for (auto& [relid, t] : by_relid_)
      if (t->loading()) t->touches.Prune(chunk.snapshot);
  };
  if (chunk.only_snapshot || !state) return prune();
  auto& t = *state;
  auto verdicts = t.touches.Unseen(chunk.snapshot);
  std::string key;
  auto verdict_of = [&](const std::string& bytes) -> const TouchLog::Verdict* {
    static const TouchLog::Verdict dropped{true, {}};
    auto it = verdicts.keys.find(bytes);
    if (it != verdicts.keys.end()) return &it->second;
    return verdicts.all_dropped ? &dropped : nullptr;
  };
  size_t bytes_per_row = chunk.bytes / std::max<size_t>(chunk.row_count, 1) + 1;
  Piece piece;
  for (auto& rows : chunk.rows) {
    ChangeChunk out;
    out.table = chunk.table;
    auto n = rows->size();
    if (!verdicts.empty() || !t.progress.rejected.empty()) {
      duckdb::SelectionVector kept(n);
      duckdb::idx_t count = 0;
      for (duckdb::idx_t i = 0; i < n; i++) {
        key.clear();
        AppendKey(*rows, i, t.key, key);
        auto* verdict = verdict_of(key);
        if (verdict && verdict->drop) continue;
        if (!t.progress.rejected.empty()) Unreject(t, piece.batch, KeyText(*rows, i, t.key));
        if (verdict) {
          for (uint32_t c = 0; c < t.types.size(); c++)
            if (!t.is_key[c] && !std::binary_search(verdict->current.begin(), verdict->current.end(), c))
              out.unchanged.emplace_back(uint32_t(count), c);
        }
        kept.set_index(count++, i);
      }
      if (count < n) {
        rows->Slice(kept, count);
        rows->Flatten();
      }
      n = count;
    }
    if (n == 0) continue;
    out.ops.assign(n, ChangeOp::kUpsert);
    out.rows = std::move(rows);
    piece.rows += n;
    piece.bytes += n * bytes_per_row;
    piece.batch.changes.push_back(std::move(out));
    if (piece.rows >= kPieceRows) {
      piece.batch.offset = OffsetText();
      PushPiece(std::exchange(piece, Piece{}));
    }
  }
  for (auto& rejected : chunk.rejected) {
    auto* verdict = rejected.key.empty() ? nullptr : verdict_of(rejected.key);
    if (verdict && verdict->drop) continue;
    auto column = uint32_t(t.table.schema.Find(rejected.row.column));
    Reject(t, piece.batch, column, rejected.row.message.c_str(), rejected.row.value, rejected.row.key);
  }
  {
    std::lock_guard lock(mutex_);
    auto& p = t.progress;
    p.rows += chunk.row_count;
    if (!chunk.repaired.empty()) {
      t.repairs_done++;
      for (auto& k : chunk.repaired) {
        auto xid = t.repair_xids.find(k);
        if (xid != t.repair_xids.end() && !chunk.snapshot.Sees(xid->second)) continue;  // moved here since: once more
        if (xid != t.repair_xids.end()) t.repair_xids.erase(xid);
        p.repair.erase(k);
      }
    } else if (!chunk.bound.empty()) {
      p.bound = chunk.bound;
    }
    if (chunk.last || p.phase == TableOffset::kRepairing)
      p.phase = p.repair.empty() ? TableOffset::kLoaded : TableOffset::kRepairing;
    if (p.phase == TableOffset::kLoaded) {
      p.bound.clear();
      piece.batch.loaded.push_back(chunk.table);
    }
    offset_rest_.clear();
  }
  if (!t.loading()) {
    t.touches.Clear();
    log::info("source={} table={} loaded rows={}", source_.name, t.table.upstream_name, t.progress.rows);
  }
  piece.batch.offset = OffsetText();
  PushPiece(std::move(piece));
  prune();
}

}  // namespace tidewater::postgres
