// The load thread: reads the initial rows of tables in chunks by key order, and watches the upstream.
//
// A chunk is read in a transaction of its own under one snapshot; the WAL position taken after it tells the stream
// thread from where on its transactions contain everything that the snapshot saw (touch_log.h says how they meet).
#include <algorithm>
#include "tidewater/base/clock.h"
#include "tidewater/base/log.h"
#include "tidewater/sources/postgres/copy_binary.h"
#include "tidewater/sources/postgres/postgres_source.h"

namespace tidewater::postgres {
namespace {
constexpr size_t kChunksInFlight = 2;
constexpr size_t kFirstChunkRows = 256;  // until it is known how wide the rows are
constexpr size_t kChunkBytes = 32 << 20;
constexpr size_t kRepairKeys = 500;
constexpr int64_t kWatchUs = 1'000'000;
constexpr int kWatchesPerPublicationCheck = 5;
constexpr Lsn kWalPage = 8192, kShortPageHeader = 24, kLongPageHeader = 40;

Error Stopped() { return EnvError(ErrorKind::kCancelled, "stopped"); }
}  // namespace

void PostgresSource::LoadMain() {
  std::unique_ptr<Connection> c;
  int failures = 0;
  while (!load_interrupt_.stopped()) {
    {
      std::unique_lock lock(mutex_);
      if (!streaming_) {
        load_wake_.wait_for(lock, std::chrono::milliseconds(100));
        continue;
      }
    }
    auto status = LoadSome(c);
    if (status) {
      failures = 0;
      continue;
    }
    c.reset();
    if (load_interrupt_.stopped()) break;
    auto& error = status.error();
    log::warn("source={} load: {}", source_.name, error.ToString());
    std::unique_lock lock(mutex_);
    if (error.kind == ErrorKind::kUser || error.kind == ErrorKind::kAuthentication ||
        error.kind == ErrorKind::kUnsupported) {
      load_error_ = error;  // the stream thread takes it from here
      attention_ = true;
      stream_interrupt_.Wake();
    }
    for (auto& [id, t] : tables_) t->load_started = ~uint64_t{0};
    load_wake_.wait_for(lock, std::chrono::milliseconds(std::min(100 << std::min(failures++, 6), 5000)));
  }
}

Status PostgresSource::LoadSome(std::unique_ptr<Connection>& c) {
  if (!c) {
    TW_ASSIGN(c, Connection::Open(options(), false, load_interrupt_));
    TW_TRY(c->Execute(
        "SET enable_seqscan = off; SET enable_sort = off; SET jit = off; SET max_parallel_workers_per_gather = 0"));
    TW_ASSIGN(auto segment, c->Query("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"));
    segment_bytes_ = std::max<uint64_t>(strtoull(segment.at(0).at(0).value_or("").c_str(), nullptr, 10), kWalPage);
    watched_us_ = 0;
  }
  if (MonotonicMicros() - watched_us_ >= kWatchUs) TW_TRY(Watch(*c));
  std::vector<std::shared_ptr<TableState>> new_ones;
  std::shared_ptr<TableState> next;
  bool repair = false;
  {
    std::lock_guard lock(mutex_);
    for (auto& [id, t] : tables_) {
      if (!t->taken || !t->plan || !t->loading()) continue;
      if (t->load_started != t->load) {
        t->load_started = t->load;
        t->barrier = false;
        t->read_all = t->progress.phase != TableOffset::kLoading;
        t->cursor = t->progress.bound;
        t->chunk_rows = kFirstChunkRows;
        t->repairs_handed = t->repairs_done;
        std::erase_if(chunks_, [&](auto& chunk) { return chunk.table == id && !chunk.only_snapshot; });
      }
      if (!t->barrier) new_ones.push_back(t);
      if (next || !new_ones.empty()) continue;
      if (!t->read_all) {
        next = t;
      } else if (t->progress.phase == TableOffset::kRepairing && t->repairs_done == t->repairs_handed) {
        next = t;
        repair = true;
      }
    }
  }
  if (!new_ones.empty()) return Barrier(*c, std::move(new_ones));
  if (next) return repair ? LoadRepair(*c, *next) : LoadChunk(*c, *next);
  std::unique_lock lock(mutex_);
  load_wake_.wait_for(lock, std::chrono::milliseconds(200));
  return {};
}

Status PostgresSource::Watch(Connection& c) {
  watched_us_ = MonotonicMicros();
  TW_ASSIGN(auto rows, c.Query("SELECT pg_current_wal_flush_lsn()"));
  auto lsn = LsnFromText(rows.at(0).at(0).value_or(""));
  std::string publication, slot;
  std::set<std::pair<std::string, std::string>> names;
  {
    std::lock_guard lock(mutex_);
    if (lsn) wal_ = *lsn;
    if (++watches_ % kWatchesPerPublicationCheck) return {};
    publication = options_.publication;
    slot = options_.slot;
    for (auto& [id, t] : tables_)
      if (t->taken && t->plan) names.emplace(t->plan->schema, t->plan->name);
  }
  TW_ASSIGN(auto p, ReadPublication(c, publication, slot));
  bool missing = !p.exists || !std::includes(p.tables.begin(), p.tables.end(), names.begin(), names.end());
  if (!missing) return {};
  std::lock_guard lock(mutex_);
  restart_stream_ = true;  // which looks more closely and says what is wrong
  attention_ = true;
  stream_interrupt_.Wake();
  return {};
}

Result<Snapshot> PostgresSource::CurrentSnapshot(Connection& c) {
  TW_ASSIGN(auto rows, c.Query("SELECT pg_current_snapshot()"));
  auto s = Snapshot::Parse(rows.at(0).at(0).value_or(""));
  if (!s) return std::unexpected(EnvError(ErrorKind::kCorrupt, "unreadable pg_snapshot"));
  return *s;
}

Result<Lsn> PostgresSource::CurrentLsn(Connection& c) {
  TW_ASSIGN(auto rows, c.Query("SELECT pg_current_wal_insert_lsn()"));
  auto lsn = LsnFromText(rows.at(0).at(0).value_or(""));
  if (!lsn) return std::unexpected(EnvError(ErrorKind::kCorrupt, "unreadable pg_lsn"));
  // Between pages the insert position stands behind the next page's header, where the stream of an idle server never
  // gets.
  uint64_t header = *lsn % segment_bytes_ == kLongPageHeader ? kLongPageHeader : kShortPageHeader;
  if (*lsn % kWalPage == header) return *lsn - header;
  return *lsn;
}

Status PostgresSource::WaitPassed(Lsn lsn) {
  std::unique_lock lock(mutex_);
  wanted_ = lsn;
  stream_interrupt_.Wake();
  while (passed_ < lsn) {
    if (load_interrupt_.stopped()) return std::unexpected(Stopped());
    load_wake_.wait_for(lock, std::chrono::milliseconds(20));
  }
  wanted_ = 0;
  return {};
}

/// Before the first chunk of a table every transaction must be over that began before its changes were followed: such
/// a one could have committed unseen by the stream and still be invisible to a snapshot.
Status PostgresSource::Barrier(Connection& c, std::vector<std::shared_ptr<TableState>> tables) {
  TW_ASSIGN(auto first, CurrentSnapshot(c));
  int64_t started_us = MonotonicMicros(), told_us = started_us;
  for (int round = 0;; round++) {
    TW_ASSIGN(auto now, CurrentSnapshot(c));
    if (!now.AnyInProgress(first.in_progress())) break;
    if (MonotonicMicros() - told_us > 5'000'000) {
      told_us = MonotonicMicros();
      log::info("source={} load waits for transactions that run upstream since before it", source_.name);
    }
    LoadedChunk only;
    only.only_snapshot = true;
    only.snapshot = now;
    TW_TRY(HandToStream(std::move(only)));
    load_interrupt_.WaitSocket(-1, false, false, std::min(5 << std::min(round, 7), 500));
    if (load_interrupt_.stopped()) return std::unexpected(Stopped());
    if (MonotonicMicros() - watched_us_ >= kWatchUs) TW_TRY(Watch(c));
  }
  bool fresh_stream = false;
  for (auto& t : tables) fresh_stream = fresh_stream || t->added_to_publication.exchange(false);
  if (fresh_stream) {
    // A walsender that decoded one of those transactions may hold on to the publication as it was before.
    TW_ASSIGN(Lsn lsn, CurrentLsn(c));
    TW_TRY(WaitPassed(lsn));
    std::unique_lock lock(mutex_);
    auto before = streams_;
    restart_stream_ = true;
    attention_ = true;
    stream_interrupt_.Wake();
    while (streams_ == before) {
      if (load_interrupt_.stopped()) return std::unexpected(Stopped());
      load_wake_.wait_for(lock, std::chrono::milliseconds(20));
    }
  }
  for (auto& t : tables) t->barrier = true;
  return {};
}

Status PostgresSource::HandToStream(LoadedChunk chunk) {
  std::unique_lock lock(mutex_);
  while (chunks_.size() >= kChunksInFlight) {
    if (load_interrupt_.stopped()) return std::unexpected(Stopped());
    load_wake_.wait_for(lock, std::chrono::milliseconds(20));
  }
  chunks_.push_back(std::move(chunk));
  attention_ = true;
  stream_interrupt_.Wake();
  return {};
}

Status PostgresSource::LoadChunk(Connection& c, TableState& t) {
  std::shared_ptr<const LoadPlan> plan;
  LoadedChunk chunk;
  {
    std::lock_guard lock(mutex_);
    plan = t.plan;
    chunk.load = t.load;
  }
  chunk.table = t.table.id;
  size_t limit = std::min(t.chunk_rows, plan->max_chunk_rows);
  std::string names, texts, behind;
  for (size_t i = 0; i < plan->key.size(); i++) {
    names += (i ? ", " : "") + plan->key_names[i];
    texts += (i ? ", " : "") + plan->key_names[i] + "::text";
  }
  auto key_value = [&](const std::vector<std::string>& key) {
    std::string out = "ROW(";
    for (size_t i = 0; i < key.size(); i++) out += (i ? ", " : "") + c.Literal(key[i]) + "::" + plan->key_types[i];
    return out + ")";
  };
  if (!t.cursor.empty()) behind = "ROW(" + names + ") > " + key_value(t.cursor);
  // The lock, the one every SELECT takes, comes before the snapshot: a rewrite of the table in between would show it
  // empty.
  TW_ASSIGN(auto begun, c.Query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE " + plan->from +
                                " IN ACCESS SHARE MODE; SELECT pg_current_snapshot()"));
  auto snapshot = Snapshot::Parse(begun.at(0).at(0).value_or(""));
  if (!snapshot) return std::unexpected(EnvError(ErrorKind::kCorrupt, "unreadable pg_snapshot"));
  chunk.snapshot = *snapshot;
  TW_ASSIGN(auto bound, c.Query("SELECT " + texts + " FROM " + plan->from + (behind.empty() ? "" : " WHERE " + behind) +
                                " ORDER BY " + names + fmt::format(" OFFSET {} LIMIT 1", limit - 1)));
  std::string where = behind;
  if (bound.empty()) {
    chunk.last = true;
  } else {
    for (auto& v : bound[0]) chunk.bound.push_back(v.value_or(""));
    where += (where.empty() ? "" : " AND ") + ("ROW(" + names + ") <= ") + key_value(chunk.bound);
  }
  TW_TRY(ReadRows(c, t, *plan, where, chunk));
  TW_TRY(c.Execute("COMMIT"));
  TW_ASSIGN(chunk.high, CurrentLsn(c));
  if (chunk.row_count) {
    size_t rows = kChunkBytes / (chunk.bytes / chunk.row_count + 1);
    t.chunk_rows = std::clamp<size_t>(rows, 64, plan->max_chunk_rows);
  }
  t.cursor = chunk.bound;
  t.read_all = chunk.last;
  return HandToStream(std::move(chunk));
}

Status PostgresSource::LoadRepair(Connection& c, TableState& t) {
  std::shared_ptr<const LoadPlan> plan;
  LoadedChunk chunk;
  {
    std::lock_guard lock(mutex_);
    plan = t.plan;
    chunk.load = t.load;
    for (auto& key : t.progress.repair)
      if (chunk.repaired.size() < kRepairKeys) chunk.repaired.insert(key);
  }
  chunk.table = t.table.id;
  std::string where;
  for (size_t i = 0; i < plan->key.size(); i++) where += (i ? ", " : "(") + plan->key_names[i];
  where += ") IN (";
  bool first = true;
  for (auto& key : chunk.repaired) {
    where += first ? "(" : ", (";
    first = false;
    for (size_t i = 0; i < key.size(); i++) where += (i ? ", " : "") + c.Literal(key[i]) + "::" + plan->key_types[i];
    where += ")";
  }
  where += ")";
  TW_ASSIGN(auto begun, c.Query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE " + plan->from +
                                " IN ACCESS SHARE MODE; SELECT pg_current_snapshot()"));
  auto snapshot = Snapshot::Parse(begun.at(0).at(0).value_or(""));
  if (!snapshot) return std::unexpected(EnvError(ErrorKind::kCorrupt, "unreadable pg_snapshot"));
  chunk.snapshot = *snapshot;
  TW_TRY(ReadRows(c, t, *plan, where, chunk));
  TW_TRY(c.Execute("COMMIT"));
  TW_ASSIGN(chunk.high, CurrentLsn(c));
  t.repairs_handed++;
  return HandToStream(std::move(chunk));
}

Status PostgresSource::ReadRows(Connection& c, TableState& t, const LoadPlan& plan, const std::string& where,
                                LoadedChunk& chunk) {
  RowWriter writer(&plan.decoders);
  CopyBinaryDecoder decoder(plan.decoders.size());
  std::vector<uint32_t> as_text;
  for (uint32_t i = 0; i < plan.as_text.size(); i++)
    if (plan.as_text[i]) as_text.push_back(i);
  duckdb::idx_t at = STANDARD_VECTOR_SIZE;
  Tuple fixed;
  auto columns = uint32_t(plan.decoders.size());
  auto on_row = [&](const Tuple& wire) -> Status {
    const Tuple* row = &wire;
    if (!as_text.empty()) {
      fixed = wire;
      for (auto i : as_text)
        if (fixed[i].kind == Field::kBinary) fixed[i].kind = Field::kText;
      row = &fixed;
    }
    if (at == STANDARD_VECTOR_SIZE) {
      if (writer.bound()) writer.chunk().SetCardinality(at);
      auto rows = std::make_unique<DataChunk>();
      rows->Initialize(duckdb::Allocator::DefaultAllocator(), plan.types);
      writer.Bind(*rows);
      chunk.rows.push_back(std::move(rows));
      at = 0;
    }
    chunk.row_count++;
    for (uint32_t i = 0; i < columns; i++) {
      auto* why = writer.Put(i, at, (*row)[i]);
      if (!why) [[likely]]
        continue;
      LoadedChunk::Rejected rejected;
      rejected.row.column = plan.names[i];
      rejected.row.value = plan.decoders[i].Text((*row)[i]);
      rejected.row.message = why;
      bool key_fits = true;
      for (auto k : plan.key) key_fits = key_fits && !writer.Put(k, at, (*row)[k]);
      if (key_fits) {
        AppendKey(writer.chunk(), at, plan.key, rejected.key);
        rejected.row.key = KeyText(writer.chunk(), at, plan.key);
      } else {
        rejected.row.key = plan.decoders[plan.key[0]].Text((*row)[plan.key[0]]);
      }
      chunk.rejected.push_back(std::move(rejected));
      return {};
    }
    at++;
    return {};
  };
  TW_TRY(c.CopyOut("COPY (SELECT " + plan.columns + " FROM " + plan.from + (where.empty() ? "" : " WHERE " + where) +
                       ") TO STDOUT (FORMAT binary)",
                   [&](std::span<const char> bytes) {
                     chunk.bytes += bytes.size();
                     return decoder.Feed(bytes, on_row);
                   }));
  if (writer.bound()) writer.chunk().SetCardinality(at);
  return decoder.Finish();
}

}  // namespace tidewater::postgres
