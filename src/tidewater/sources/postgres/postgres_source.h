// The source itself: one thread reads the replication stream (stream.cc), one loads tables (load.cc), the engine's
// thread polls (postgres_source.cc).
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include "tidewater/sources/api/source.h"
#include "tidewater/sources/postgres/connection.h"
#include "tidewater/sources/postgres/offset.h"
#include "tidewater/sources/postgres/row_writer.h"
#include "tidewater/sources/postgres/touch_log.h"
#include "tidewater/sources/postgres/upstream.h"

namespace tidewater::postgres {

/// One chunk of an initial load on its way from the load thread to the stream thread.
struct LoadedChunk {
  ObjectId table = 0;
  uint64_t load = 0;           ///< TableState::load it belongs to
  Snapshot snapshot;           ///< under which it was read
  Lsn high = 0;                ///< the stream must have passed this before the rows are handed over
  bool only_snapshot = false;  ///< nothing was read: only for TouchLog::Prune
  std::vector<std::unique_ptr<DataChunk>> rows;
  struct Rejected {
    std::string key;  ///< as AppendKey gives it; empty when the key itself does not fit
    RejectedRow row;
  };
  std::vector<Rejected> rejected;
  std::vector<std::string> bound;               ///< the last key
  bool last = false;                            ///< nothing lies behind the bound
  std::set<std::vector<std::string>> repaired;  ///< the keys asked for, when this is a repair
  size_t row_count = 0, bytes = 0;
};

/// How a table is read by the load. Never changes; a table whose shape changes gets a new one.
struct LoadPlan {
  uint32_t relid = 0;
  std::string from;                    ///< 'ONLY "public"."orders"'
  std::string columns;                 ///< the select list, one per column of the table
  std::vector<std::string> key_names;  ///< quoted, in key order
  std::vector<std::string> key_types;  ///< as casts write them
  std::vector<uint32_t> key;           ///< columns of the key
  std::vector<ColumnDecoder> decoders;
  std::vector<char> as_text;  ///< columns that come as text
  Types types;
  std::vector<std::string> names;  ///< of the table's columns
  size_t max_chunk_rows = 0;
  std::string schema, name;  ///< of the upstream's table
};

/// A table of the source.
struct TableState {
  explicit TableState(SourceTable t) : table(std::move(t)), writer(&decoders) {}
  const SourceTable table;

  // Written by whoever resolves the table: AddTable before it hands the table over, then the stream thread.
  UpstreamTable upstream;
  PgTypes pg_types;
  std::vector<int> attnums;             ///< per column
  std::vector<uint32_t> key;            ///< columns of the key
  std::vector<char> is_key;             ///< per column
  std::vector<ColumnDecoder> decoders;  ///< per column
  Types types;
  std::map<std::string, int> aliases;  ///< every name that a column has or had -> attnum

  // Guarded by PostgresSource::mutex_; only the stream thread writes once it runs.
  TableOffset progress;
  uint64_t load = 0;  ///< counts how often the load was started over
  double rows_estimated = 0;
  std::shared_ptr<const LoadPlan> plan;
  bool before_publication = false;  ///< added while there was no publication yet
  bool taken = false;               ///< the stream thread applies its changes

  // Of the stream thread.
  std::vector<int> wire;  ///< position of each column in the stream's rows, -1 when it is not there
  size_t wire_width = 0;  ///< columns of the stream's rows, 0 = no Relation message yet
  TouchLog touches;
  std::map<std::vector<std::string>, uint32_t> repair_xids;  ///< who put a key into progress.repair
  RowWriter writer;
  uint64_t piece = 0;  ///< the piece that holds the open chunk
  size_t open = 0;     ///< its position there
  bool loading() const { return progress.phase != TableOffset::kLoaded; }

  // Of the load thread.
  bool barrier = false;                  ///< transactions from before the load are over
  uint64_t load_started = ~uint64_t{0};  ///< the value of `load` that what follows belongs to
  std::vector<std::string> cursor;       ///< the last key read
  bool read_all = false;                 ///< the last chunk is on its way
  size_t chunk_rows = 0;
  uint64_t repairs_handed = 0;                    ///< repairs on their way: those handed over to the stream thread ...
  std::atomic<uint64_t> repairs_done{0};          ///< ... and those that came out there
  std::atomic<bool> added_to_publication{false};  ///< the stream began before the publication had the table
};

class PostgresSource : public Source {
 public:
  PostgresSource(SourceOptions source, Options options);
  ~PostgresSource() override;

  Result<Schema> Describe(const std::string& upstream_table) override;
  Status AddTable(const SourceTable& table) override;
  Status RemoveTable(ObjectId table) override;
  Status Start(const std::string& offset) override;
  std::optional<SourceBatch> Poll(size_t max_rows) override;
  void Confirm(const std::string& offset) override;
  SourceStatus GetStatus() override;
  Status Alter(const std::map<std::string, std::string>& options) override;
  void Stop() override;
  Status DropUpstream() override;

 private:
  struct Piece {
    SourceBatch batch;
    size_t rows = 0, bytes = 0;
    int64_t started_us = 0;
  };
  using Tables = std::map<ObjectId, std::shared_ptr<TableState>>;

  // ---- any thread
  Options options() const;
  Result<std::unique_ptr<Connection>> OpenForStatement(Interrupt& interrupt);
  /// Fills in what the upstream knows of the table. A table known by an offset may have lost columns: they become NULL.
  Status Resolve(Connection& c, TableState& t);
  void BuildDecoders(Connection& c, TableState& t);
  void SetState(SourceState state, std::optional<Error> error = {});

  // ---- the stream thread
  void StreamMain();
  Status RunStream();
  Status Prepare(Connection& c);
  Status PreparePublication(Connection& c);
  Status PrepareSlot(Connection& c);
  Status Loop(Connection& c);
  Result<bool> Asked();
  Status OnMessage(Connection& c, std::span<const char> bytes);
  Status OnPgoutput(Connection& c, std::span<const char> bytes);
  Status OnRelation(Connection& c, const PgoutputMessage& m);
  Status RefreshTable(TableState& t);
  Status OnChange(TableState& t, const PgoutputMessage& m);
  void PutUpsert(TableState& t, bool moved);
  bool PutKey(TableState& t, ChangeOp op, const Tuple& row);
  void PutTruncate(TableState& t, bool upstream);
  void OnBoundary(bool drained);
  /// The chunk that takes the table's next rows, with room for `rows`.
  ChangeChunk& OpenChunk(TableState& t, size_t rows);
  void Reject(TableState& t, SourceBatch& batch, uint32_t column, const char* why, const std::string& value,
              const std::string& key);
  /// The row of that key fits now or is gone.
  void Unreject(TableState& t, SourceBatch& batch, const std::string& key);
  void Publish(bool continues);
  void PushPiece(Piece piece);
  void TakeAdded();
  void HandOverChunks();
  void HandOver(LoadedChunk chunk);
  /// The next load begins with an empty table.
  void StartOver(TableState& t);
  void StartOverAll();
  Status SendStatus(Connection& c, bool ask);
  std::string OffsetText();

  // ---- the load thread
  void LoadMain();
  Status LoadSome(std::unique_ptr<Connection>& c);
  Status Watch(Connection& c);
  Status Barrier(Connection& c, std::vector<std::shared_ptr<TableState>> tables);
  Status LoadChunk(Connection& c, TableState& t);
  Status LoadRepair(Connection& c, TableState& t);
  Status ReadRows(Connection& c, TableState& t, const LoadPlan& plan, const std::string& where, LoadedChunk& chunk);
  Status HandToStream(LoadedChunk chunk);
  Result<Snapshot> CurrentSnapshot(Connection& c);
  Result<Lsn> CurrentLsn(Connection& c);
  Status WaitPassed(Lsn lsn);

  const SourceOptions source_;

  mutable std::mutex mutex_;
  std::condition_variable load_wake_;  ///< the load thread waits here
  // Guarded by mutex_.
  Options options_;
  Tables tables_;
  std::vector<std::shared_ptr<TableState>> added_;  ///< to be taken by the stream thread
  std::deque<Piece> pieces_;
  size_t queued_rows_ = 0, queued_bytes_ = 0;
  std::deque<LoadedChunk> chunks_;
  SourceState state_ = SourceState::kStarting;
  std::optional<Error> error_;
  uint64_t retries_ = 0;
  int64_t next_try_us_ = 0;  ///< monotonic
  Lsn wal_ = 0;              ///< the upstream's write position
  int64_t last_commit_us_ = 0;
  bool resume_ = false;  ///< a statement asks a waiting stream to go on
  std::atomic<bool> started_{false};
  int attempt_ = 0;                             ///< of the retries under way
  std::map<std::string, std::string> altered_;  ///< options changed since the source was made
  bool slot_ours_ = false, publication_ours_ = false;
  uint64_t streams_ = 0;         ///< how often streaming began
  bool restart_stream_ = false;  ///< the load thread wants a fresh stream
  bool streaming_ = false;

  std::atomic<Lsn> confirmed_{0};
  std::atomic<Lsn> passed_{0};          ///< every transaction that committed before was taken from the stream
  std::atomic<Lsn> wanted_{0};          ///< somebody waits for passed_ to get there
  std::atomic<bool> attention_{false};  ///< something for the stream thread to look at between transactions
  std::atomic<bool> stalled_{false};
  std::optional<Error> load_error_;  ///< guarded by mutex_: the load cannot go on

  Interrupt stream_interrupt_, load_interrupt_;
  std::thread stream_thread_, load_thread_;

  // Of the load thread.
  int64_t watched_us_ = 0;
  int watches_ = 0;
  uint64_t segment_bytes_ = 16 << 20;  ///< of the upstream's WAL

  // Of the stream thread.
  Offset offset_;            ///< tables are filled in when it is written
  std::string offset_rest_;  ///< EncodeRest() of what is published; empty = to be written again
  std::map<uint32_t, std::shared_ptr<TableState>> by_relid_;
  PgoutputDecoder decoder_;
  Piece open_;
  uint64_t piece_ = 1;
  bool binary_ = true, force_text_ = false, check_utf8_ = false;
  bool in_transaction_ = false, skip_transaction_ = false;
  uint32_t xid_ = 0;
  Lsn commit_lsn_ = 0;
  uint64_t changes_seen_ = 0;     ///< in this transaction
  uint64_t changes_to_skip_ = 0;  ///< taken before the connection was lost
  Lsn interrupted_lsn_ = 0;       ///< the commit of the transaction they belong to
  int64_t status_sent_us_ = 0, asked_us_ = 0;
  bool announce_ = true;             ///< the next boundary publishes the offset even without rows
  std::vector<uint32_t> unchanged_;  ///< of the row at hand
  std::vector<const Field*> fields_;
  std::string key_bytes_;
  bool moved_from_rejected_ = false;  ///< the row at hand had a key whose row is in the error table
  bool look_ = false;                 ///< somebody may have asked for something: Asked()
  bool open_continued_ = false;       ///< the last piece published ended inside a transaction
};

}  // namespace tidewater::postgres
