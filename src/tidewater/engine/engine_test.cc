// The engine with a source and a sink that the tests hold in their hands.
#include "tidewater/engine/engine.h"
#include <gtest/gtest.h>
#include <algorithm>
#include <filesystem>
#include <mutex>
#include <thread>
#include "tidewater/base/log.h"
#include "tidewater/engine/session.h"

namespace tidewater::engine {
namespace {

using duckdb::Value;

/// What a "hand" source hands over next; survives restarts of the engine, as an upstream does.
struct Upstream {
  std::mutex mutex;
  std::vector<std::function<SourceBatch()>> batches;  ///< batch i ends at offset i + 1
  size_t handed = 0;
  std::string started_at = "never", confirmed;
  std::map<std::string, ObjectId> tables;
  bool dropped = false;
  bool answers = true, asked = false;  ///< AddTable
  WakeEngine wake;
};
Upstream* g_upstream = nullptr;

Schema HandSchema() { return {{{"id", LogicalType::INTEGER, true, 1}, {"v", LogicalType::INTEGER, false, 2}}, {0}}; }

class HandSource final : public Source {
 public:
  explicit HandSource(WakeEngine wake) { g_upstream->wake = std::move(wake); }
  Result<Schema> Describe(const std::string& name) override {
    if (name == "missing") return std::unexpected(UserError("42P01", "upstream has no table \"missing\""));
    return HandSchema();
  }
  Status AddTable(const SourceTable& table) override {
    if (table.upstream_name == "refused") return std::unexpected(UserError("0A000", "refused"));
    std::unique_lock lock(g_upstream->mutex);
    g_upstream->asked = true;
    while (!g_upstream->answers) {
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      lock.lock();
    }
    g_upstream->tables[table.upstream_name] = table.id;
    return {};
  }
  Status RemoveTable(ObjectId) override { return {}; }
  Status Start(const std::string& offset) override {
    std::lock_guard lock(g_upstream->mutex);
    g_upstream->started_at = offset;
    g_upstream->handed = offset.empty() ? 0 : std::stoul(offset);
    return {};
  }
  std::optional<SourceBatch> Poll(size_t) override {
    std::lock_guard lock(g_upstream->mutex);
    if (g_upstream->handed >= g_upstream->batches.size()) return std::nullopt;
    auto batch = g_upstream->batches[g_upstream->handed++]();
    batch.offset = std::to_string(g_upstream->handed);
    return batch;
  }
  void Confirm(const std::string& offset) override {
    std::lock_guard lock(g_upstream->mutex);
    g_upstream->confirmed = offset;
  }
  SourceStatus GetStatus() override {
    SourceStatus status;
    status.state = SourceState::kStreaming;
    return status;
  }
  Status Alter(const std::map<std::string, std::string>&) override { return {}; }
  void Stop() override {
    std::lock_guard lock(g_upstream->mutex);
    g_upstream->wake = nullptr;
  }
  Status DropUpstream() override {
    g_upstream->dropped = true;
    return {};
  }
};

/// What a "hand" sink was given, and what it says is committed.
struct Downstream {
  std::mutex mutex;
  std::map<CheckpointId, std::vector<std::string>> rows;  ///< of this life of the engine
  std::map<CheckpointId, uint64_t> bytes;
  CheckpointId durable = 0, committed = 0;
  bool commits = true;
  bool waits_to_be_asked = false;  ///< commits only what WaitCommitted asks for
  bool reachable = true;
  bool knows_options = true;
  bool answers = true, asked = false;  ///< Start() of a sink
  bool established = false;            ///< what the last one that was made was told
  bool stops = true;                   ///< Stop() returns
  std::vector<std::string> All() {
    std::lock_guard lock(mutex);
    std::vector<std::string> out;
    for (auto& [id, lines] : rows) out.insert(out.end(), lines.begin(), lines.end());
    std::sort(out.begin(), out.end());
    return out;
  }
};
Downstream* g_downstream = nullptr;

class HandSink final : public Sink {
 public:
  explicit HandSink(bool recovered) : recovered_(recovered) {}
  Status Start() override {
    std::unique_lock lock(g_downstream->mutex);
    g_downstream->asked = true;
    for (int ms = 0; !g_downstream->answers && ms < 3000; ms++) {
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      lock.lock();
    }
    g_downstream->answers = true;
    g_downstream->rows.clear();
    g_downstream->bytes.clear();
    if (!recovered_ && !g_downstream->reachable) return std::unexpected(Refused());
    return {};
  }
  void Load(CheckpointId id, uint64_t, std::function<DeltaBatch()> make) override {
    {
      std::lock_guard lock(g_downstream->mutex);
      if (g_downstream->committed) return;
    }
    Append(id, Copy(make()));
    content_ = id;
  }
  void Append(CheckpointId id, DeltaBatch rows) override {
    std::lock_guard lock(g_downstream->mutex);
    if (id <= g_downstream->committed || id <= content_) return;
    g_downstream->bytes[id] += MemoryBytes(rows);
    for (auto& c : rows.chunks)
      for (duckdb::idx_t r = 0; r < c.size(); r++) {
        std::string line = c.weight(r) > 0 ? "+" : "-";
        for (duckdb::idx_t i = 0; i < c.rows->ColumnCount(); i++)
          line += (i ? "|" : "") + c.rows->GetValue(i, r).ToString();
        g_downstream->rows[id].push_back(line);
      }
  }
  void CheckpointDurable(CheckpointId id, int64_t) override {
    std::lock_guard lock(g_downstream->mutex);
    g_downstream->durable = id;
    if (g_downstream->commits && g_downstream->reachable && !g_downstream->waits_to_be_asked)
      g_downstream->committed = id;
  }
  SinkStatus GetStatus() override {
    std::lock_guard lock(g_downstream->mutex);
    SinkStatus status;
    status.committed = g_downstream->committed;
    for (auto& [id, bytes] : g_downstream->bytes)
      if (id > status.committed) status.log_bytes += bytes;
    status.state = SinkState::kRunning;
    if (!g_downstream->reachable) {
      status.state = SinkState::kRetrying;
      status.error = Refused();
      status.retries = 1;
    }
    return status;
  }
  Status WaitCommitted(CheckpointId id, int64_t timeout_ms) override {
    for (int64_t ms = 0; ms <= timeout_ms; ms++) {
      {
        std::lock_guard lock(g_downstream->mutex);
        if (stopped_) return std::unexpected(EnvError(ErrorKind::kCancelled, "stopped"));
        if (g_downstream->commits && g_downstream->reachable && g_downstream->durable >= id)
          g_downstream->committed = g_downstream->durable;
        if (g_downstream->committed >= id) return {};
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return std::unexpected(EnvError(ErrorKind::kUnavailable, "not yet"));
  }
  void Stop() override {
    std::unique_lock lock(g_downstream->mutex);
    for (int ms = 0; !g_downstream->stops && ms < 3000; ms++) {
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      lock.lock();
    }
    g_downstream->stops = true;
    stopped_ = true;
  }

 private:
  static Error Refused() { return EnvError(ErrorKind::kAuthentication, "go away"); }
  const bool recovered_;
  CheckpointId content_ = 0;
  bool stopped_ = false;
};

void RegisterHands() {
  SourceConnector source;
  source.name = "hand";
  source.validate = [](const std::map<std::string, std::string>&) { return Status{}; };
  source.make = [](SourceOptions options) -> Result<std::unique_ptr<Source>> {
    return std::make_unique<HandSource>(options.wake);
  };
  SourceRegistry::Get().Register(source);
  SinkConnector sink;
  sink.name = "hand";
  sink.validate = [](const std::map<std::string, std::string>&, const Schema&) { return Status{}; };
  sink.make = [](SinkOptions options) -> Result<std::unique_ptr<Sink>> {
    if (!g_downstream->knows_options) return std::unexpected(UserError("22023", "unknown option \"colour\""));
    g_downstream->established = options.established;
    return std::make_unique<HandSink>(options.recovered);
  };
  SinkRegistry::Get().Register(sink);
}

class EngineTest : public testing::Test {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::warn);
    RegisterHands();
    g_upstream = &upstream_;
    g_downstream = &downstream_;
    auto pattern = (std::filesystem::temp_directory_path() / "tidewater_engine_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    Open();
  }
  void TearDown() override {
    session_.reset();
    engine_.reset();
    std::filesystem::remove_all(dir_);
  }
  void Open() {
    EngineOptions options;
    options.state = dir_;
    options.checkpoint_interval_ms = interval_ms_;
    options.min_step_interval_us = 0;
    options.sink_log_bytes_max = sink_log_bytes_max_;
    options.flush_sink_timeout_ms = flush_sink_timeout_ms_;
    auto opened = Engine::Open(options);
    ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
    engine_ = std::move(*opened);
    auto started = engine_->Start();
    ASSERT_TRUE(started.has_value());
    session_ = OpenSession(*engine_, {});
  }
  void Crash() {
    session_.reset();
    engine_->Abandon();
    engine_.reset();
    Open();
  }

  /// Rows as sorted "a|b" lines; an error as "SQLSTATE: message".
  std::vector<std::string> Query(const std::string& sql) { return QueryIn(*session_, sql); }
  static std::vector<std::string> QueryIn(Session& session, const std::string& sql) {
    auto statement = session.Prepare(sql, {});
    if (!statement) return {statement.error().sqlstate + ": " + statement.error().message};
    auto cursor = session.Execute(**statement, {});
    if (!cursor) return {cursor.error().sqlstate + ": " + cursor.error().message};
    std::vector<std::string> out;
    while (true) {
      auto chunk = (*cursor)->Next();
      if (!chunk) return {chunk.error().sqlstate + ": " + chunk.error().message};
      if (!*chunk) break;
      for (duckdb::idx_t r = 0; r < (*chunk)->size(); r++) {
        std::string line;
        for (duckdb::idx_t c = 0; c < (*chunk)->ColumnCount(); c++)
          line += (c ? "|" : "") + (*chunk)->GetValue(c, r).ToString();
        out.push_back(line);
      }
    }
    std::sort(out.begin(), out.end());
    return out;
  }
  using Lines = std::vector<std::string>;
  void Do(const std::string& sql) { EXPECT_EQ(Query(sql), Lines{}) << sql; }
  template <class F>
  static bool Eventually(F&& f, int seconds = 5) {
    for (int i = 0; i < seconds * 100; i++) {
      if (f()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  struct Change {
    ChangeOp op;
    int id;
    std::optional<int> v;
  };
  void Hand(const std::string& table, std::vector<Change> changes, bool continues = false, bool loaded = false,
            std::vector<RejectedRow> rejected = {}) {
    WakeEngine wake;
    {
      std::lock_guard lock(upstream_.mutex);
      upstream_.batches.push_back([this, table, changes, continues, loaded, rejected] {
        SourceBatch batch;
        auto id = upstream_.tables.at(table);
        if (!changes.empty()) {
          ChangeChunk chunk;
          chunk.table = id;
          chunk.rows = std::make_unique<DataChunk>();
          chunk.rows->Initialize(duckdb::Allocator::DefaultAllocator(), HandSchema().GetTypes());
          duckdb::idx_t r = 0;
          for (auto& c : changes) {
            chunk.rows->SetValue(0, r, Value::INTEGER(c.id));
            chunk.rows->SetValue(1, r, c.v ? Value::INTEGER(*c.v) : Value(LogicalType::INTEGER));
            chunk.ops.push_back(c.op);
            r++;
          }
          chunk.rows->SetCardinality(r);
          batch.changes.push_back(std::move(chunk));
        }
        batch.continues = continues;
        if (loaded) batch.loaded.push_back(id);
        batch.rejected = rejected;
        for (auto& row : batch.rejected) row.table = id;
        return batch;
      });
      wake = upstream_.wake;
    }
    if (wake) wake();
  }

  int interval_ms_ = 20, flush_sink_timeout_ms_ = 200;
  uint64_t sink_log_bytes_max_ = 1 << 20;
  std::string dir_;
  Upstream upstream_;
  Downstream downstream_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
};

constexpr auto kUpsert = ChangeOp::kUpsert;
constexpr auto kDelete = ChangeOp::kDelete;

TEST_F(EngineTest, LoadsThenShows) {
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  Do("CREATE TABLE t (*) FROM s TABLE 'up'");
  Hand("up", {{kUpsert, 1, 10}, {kUpsert, 2, 20}});
  EXPECT_EQ(Query("SELECT * FROM t").at(0).substr(0, 5), "55000");
  // A view waits until the load is complete.
  auto other = OpenSession(*engine_, {});
  std::thread creator(
      [&] { EXPECT_EQ(QueryIn(*other, "CREATE MATERIALIZED VIEW v AS SELECT sum(v) AS s FROM t"), Lines{}); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(Query("SELECT * FROM v").at(0).substr(0, 5), "42P01");
  Hand("up", {{kUpsert, 3, 30}}, false, true);
  creator.join();
  EXPECT_EQ(Query("SELECT * FROM v"), Lines{"60"});
  EXPECT_EQ(Query("SELECT * FROM t"), (Lines{"1|10", "2|20", "3|30"}));
  Hand("up", {{kDelete, 1, {}}, {kUpsert, 2, 21}});
  EXPECT_TRUE(Eventually([&] { return Query("SELECT * FROM v") == Lines{"51"}; }));
  EXPECT_EQ(Query("INSERT INTO t VALUES (9, 9)").at(0).substr(0, 5), "42809");
}

TEST_F(EngineTest, CancelsAWaitingCreate) {
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  Do("CREATE TABLE t (*) FROM s TABLE 'up'");
  auto other = OpenSession(*engine_, {});
  std::thread creator(
      [&] { EXPECT_EQ(QueryIn(*other, "CREATE MATERIALIZED VIEW v AS SELECT * FROM t").at(0).substr(0, 5), "57014"); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  other->Cancel();
  creator.join();
  // The DDL lock is free again.
  Do("DROP TABLE t");
}

TEST_F(EngineTest, TransactionsStayWhole) {
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  Do("CREATE TABLE t (*) FROM s TABLE 'up'");
  Hand("up", {}, false, true);
  ASSERT_TRUE(Eventually([&] { return Query("SELECT * FROM t").empty(); }));
  Do("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t");
  Hand("up", {{kUpsert, 1, 1}}, true);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(Query("SELECT * FROM v"), Lines{"0"});
  Hand("up", {{kUpsert, 2, 2}}, true);
  Hand("up", {{kUpsert, 3, 3}}, false);
  EXPECT_TRUE(Eventually([&] { return Query("SELECT * FROM v") == Lines{"3"}; }));
}

TEST_F(EngineTest, ResumesFromTheConfirmedOffset) {
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  Do("CREATE TABLE t (*) FROM s TABLE 'up'");
  Hand("up", {{kUpsert, 1, 1}}, false, true);
  ASSERT_TRUE(Eventually([&] { return Query("SELECT * FROM t") == Lines{"1|1"}; }));
  Do("CREATE MATERIALIZED VIEW v AS SELECT sum(v) AS s FROM t");
  Do("FLUSH");
  ASSERT_TRUE(Eventually([&] {
    std::lock_guard lock(upstream_.mutex);
    return upstream_.confirmed == "1";
  }));
  Hand("up", {{kUpsert, 1, 5}, {kUpsert, 2, 2}});
  ASSERT_TRUE(Eventually([&] { return Query("SELECT * FROM v") == Lines{"7"}; }));
  Crash();
  EXPECT_TRUE(upstream_.started_at == "1" || upstream_.started_at == "2") << upstream_.started_at;
  EXPECT_GE(std::stoi(upstream_.started_at), std::stoi(upstream_.confirmed));
  EXPECT_TRUE(Eventually([&] { return Query("SELECT * FROM v") == Lines{"7"}; }));
  EXPECT_EQ(Query("SELECT * FROM t"), (Lines{"1|5", "2|2"}));
}

TEST_F(EngineTest, FailedCreatesLeaveNothing) {
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  EXPECT_EQ(Query("CREATE TABLE t (*) FROM s TABLE 'missing'").at(0).substr(0, 5), "42P01");
  EXPECT_EQ(Query("CREATE TABLE t (*) FROM s TABLE 'refused'").at(0).substr(0, 5), "0A000");
  EXPECT_EQ(Query("CREATE TABLE t (*) FROM nowhere TABLE 'up'").at(0).substr(0, 5), "42P01");
  EXPECT_EQ(Query("SELECT * FROM t").at(0).substr(0, 5), "42P01");
  Do("CREATE TABLE t (*) FROM s TABLE 'up'");
  EXPECT_EQ(Query("DROP SOURCE s").at(0).substr(0, 5), "2BP01");
  Do("DROP SOURCE s CASCADE");
  EXPECT_TRUE(upstream_.dropped);
  Crash();
  EXPECT_EQ(Query("SELECT * FROM t").at(0).substr(0, 5), "42P01");
}

TEST_F(EngineTest, RejectedRowsComeAndGo) {
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  Do("CREATE TABLE t (*) FROM s TABLE 'up'");
  RejectedRow bad;
  bad.key = "7";
  bad.column = "v";
  bad.value = "1e99";
  bad.message = "out of range";
  bad.hint = "declare v as DOUBLE";
  Hand("up", {{kUpsert, 1, 1}}, false, true, {bad});
  ASSERT_TRUE(Eventually(
      [&] { return Query("SELECT object, row_key, message FROM tidewater_errors") == Lines{"t|7|out of range"}; }));
  Query("SELECT * FROM t");
  auto notices = session_->TakeNotices();
  ASSERT_FALSE(notices.empty());
  EXPECT_EQ(notices[0].severity, "WARNING");
  Do("FLUSH");
  Crash();
  EXPECT_EQ(Query("SELECT object, row_key, value FROM tidewater_errors"), Lines{"t|7|1e99"});
  bad.resolved = true;
  Hand("up", {{kUpsert, 7, 7}}, false, false, {bad});
  EXPECT_TRUE(Eventually([&] { return Query("SELECT count(*) FROM tidewater_errors") == Lines{"0"}; }));
  // What is still on its way when the table is dropped would stay for ever.
  Do("DROP TABLE t");
  bad.resolved = false;
  Hand("up", {{kUpsert, 8, 8}}, false, false, {bad});
  ASSERT_TRUE(Eventually([&] {
    std::lock_guard lock(upstream_.mutex);
    return upstream_.handed == upstream_.batches.size();
  }));
  Do("FLUSH");
  EXPECT_EQ(Query("SELECT count(*) FROM tidewater_errors"), Lines{"0"});
}

TEST_F(EngineTest, SinksGetContentThenChanges) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Query("INSERT INTO t VALUES (1, 1), (2, 2)");
  Do("CREATE SINK k FROM t WITH (connector = 'hand')");
  EXPECT_EQ(downstream_.All(), (Lines{"+1|1", "+2|2"}));
  Query("UPDATE t SET v = 3 WHERE id = 1");
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), (Lines{"+1|1", "+1|3", "+2|2", "-1|1"}));
  // The second checkpoint's rows lie under another id than the first's.
  EXPECT_EQ(downstream_.rows.size(), 2u);
}

TEST_F(EngineTest, SinkAsSelectHasAViewOfItsOwn) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Query("INSERT INTO t VALUES (1, 1), (2, 2)");
  Do("CREATE SINK k AS SELECT v * 10 AS x FROM t WITH (connector = 'hand')");
  EXPECT_EQ(downstream_.All(), (Lines{"+10", "+20"}));
  Query("DELETE FROM t WHERE id = 2");
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), (Lines{"+10", "+20", "-20"}));
  Crash();
  Query("INSERT INTO t VALUES (5, 5)");
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), (Lines{"+50"}));
  Do("DROP SINK k");
  Do("DROP TABLE t");
}

TEST_F(EngineTest, ViewsAreFilledWhileRowsChange) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, g INT, v INT)");
  Do("INSERT INTO t SELECT i, i % 5000, i % 97 FROM generate_series(0, 299999) AS s(i)");
  constexpr auto kView = "SELECT a.g, count(*) AS n, sum(b.v) AS s FROM t a JOIN t b ON a.id = b.id GROUP BY a.g";
  std::atomic<bool> stop{false};
  std::atomic<int> changes{0};
  std::thread writer([&] {
    auto session = OpenSession(*engine_, {});
    for (int i = 0; !stop; i++) {
      auto id = std::to_string(i * 7919 % 300000);
      auto result = QueryIn(*session, i % 3 == 0   ? "DELETE FROM t WHERE id = " + id
                                      : i % 3 == 1 ? "UPDATE t SET v = v + 1, g = g + 1 WHERE id = " + id
                                                   : "INSERT INTO t VALUES (" + std::to_string(300000 + i) + ", 7, 1)");
      EXPECT_TRUE(result.empty()) << result[0];
      changes++;
    }
  });
  auto before = changes.load();
  Do(std::string("CREATE MATERIALIZED VIEW w AS ") + kView);
  auto during = changes - before;
  Do(std::string("CREATE SINK k AS ") + kView + " WITH (connector = 'hand')");
  stop = true;
  writer.join();
  EXPECT_GT(during, 3) << "the engine stood still";
  EXPECT_EQ(Query("SELECT * FROM w ORDER BY 1"), Query(std::string(kView) + " ORDER BY 1"));
  Do("FLUSH");
  std::map<std::string, int> net;
  for (auto& line : downstream_.All()) net[line.substr(1)] += line[0] == '+' ? 1 : -1;
  std::erase_if(net, [](auto& entry) { return entry.second == 0; });
  Lines sunk;
  for (auto& [line, n] : net) sunk.push_back(line);
  auto expected = Query(kView);
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(sunk, expected);
  Crash();
  EXPECT_EQ(Query("SELECT * FROM w ORDER BY 1"), Query(std::string(kView) + " ORDER BY 1"));
}

TEST_F(EngineTest, AStatementThatIsCancelledLeavesNoView) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Do("INSERT INTO t SELECT i, i FROM generate_series(0, 199999) AS s(i)");
  for (std::string statement : {"CREATE MATERIALIZED VIEW w AS SELECT a.v / 10 AS k, count(*) FROM t a JOIN t b ON a.v "
                                "/ 50 = b.v / 50 GROUP BY 1",
                                "CREATE SINK w AS SELECT a.v / 10 AS k, count(*) AS n FROM t a JOIN t b ON a.v / 50 = "
                                "b.v / 50 GROUP BY 1 WITH (connector = 'hand')"}) {
    auto other = OpenSession(*engine_, {});
    std::thread cancel([&] {
      ASSERT_TRUE(Eventually([&] { return !engine_->Report().backfills.empty(); }));
      EXPECT_EQ(QueryIn(*other, "SHOW JOBS").size(), 1u);
      QueryIn(*other, "FLUSH");  // does not wait for what is not there yet
      EXPECT_TRUE(other->TakeNotices().empty());
      session_->Cancel();
    });
    EXPECT_EQ(Query(statement), Lines{"57014: canceling statement due to user request"});
    cancel.join();
    EXPECT_EQ(Query("SHOW MATERIALIZED VIEWS"), Lines{});
    EXPECT_EQ(Query("SHOW SINKS"), Lines{});
    EXPECT_TRUE(engine_->Report().backfills.empty());
  }
  // A crash in the middle leaves nothing either, in the state log too.
  std::thread never([&] {
    auto session = OpenSession(*engine_, {});
    QueryIn(*session,
            "CREATE MATERIALIZED VIEW w AS SELECT a.v / 10 AS k, count(*) FROM t a JOIN t b ON a.v / 50 = b.v / 50 "
            "GROUP BY 1");
  });
  ASSERT_TRUE(Eventually([&] { return !engine_->Report().backfills.empty(); }));
  Do("FLUSH");
  engine_->Abandon();
  never.join();
  Crash();
  EXPECT_EQ(Query("SHOW MATERIALIZED VIEWS"), Lines{});
  Do("CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM t");
  EXPECT_EQ(Query("SELECT * FROM w"), Lines{"200000"});
  Crash();
  EXPECT_EQ(Query("SELECT * FROM w"), Lines{"200000"});
}

TEST_F(EngineTest, ASinkBeginsWithTheContentOfItsInput) {
  downstream_.commits = false;
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Query("INSERT INTO t VALUES (1, 1), (2, 2)");
  Query("DELETE FROM t WHERE id = 1");
  Do("CREATE SINK k FROM t WITH (connector = 'hand')");
  Query("INSERT INTO t VALUES (3, 3)");
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), (Lines{"+2|2", "+3|3"}));
  // It has committed nothing: it begins again, with what is there by now, and nothing twice.
  Query("UPDATE t SET v = 22 WHERE id = 2");
  Crash();
  Query("DELETE FROM t WHERE id = 3");
  Do("FLUSH");
  std::map<std::string, int> net;
  for (auto& line : downstream_.All()) net[line.substr(1)] += line[0] == '+' ? 1 : -1;
  std::erase_if(net, [](auto& entry) { return entry.second == 0; });
  EXPECT_EQ(net, (std::map<std::string, int>{{"2|22", 1}}));
}

TEST_F(EngineTest, ASinkGetsTheRowsThatStandWithoutInput) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Do("CREATE SINK k AS SELECT count(*) AS n FROM t WITH (connector = 'hand')");
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), Lines{"+0"});
  Query("INSERT INTO t VALUES (1, 1)");
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), (Lines{"+0", "+1", "-0"}));
}

TEST_F(EngineTest, ASinkAsSelectIsEstablishedOnceItHasCommitted) {
  downstream_.commits = false;
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Query("INSERT INTO t VALUES (1, 1)");
  Do("CREATE SINK k AS SELECT v FROM t WITH (connector = 'hand')");
  Do("FLUSH");
  Crash();
  EXPECT_FALSE(downstream_.established);
  EXPECT_EQ(downstream_.All(), Lines{"+1"});
  downstream_.commits = true;
  Do("FLUSH");
  Do("FLUSH");
  Crash();
  EXPECT_TRUE(downstream_.established);
  EXPECT_EQ(downstream_.All(), Lines{});
}

TEST_F(EngineTest, NothingWaitsForASinkThatStarts) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  for (std::string what : {"FROM t", "AS SELECT id, v FROM t"}) {
    {
      std::lock_guard lock(downstream_.mutex);
      downstream_.answers = downstream_.asked = false;
    }
    auto other = OpenSession(*engine_, {});
    std::thread create(
        [&] { EXPECT_EQ(QueryIn(*other, "CREATE SINK k " + what + " WITH (connector = 'hand')"), Lines{}); });
    EXPECT_TRUE(Eventually([&] {
      std::lock_guard lock(downstream_.mutex);
      return downstream_.asked;
    }));
    Do("INSERT INTO t VALUES (1, 1)");
    {
      std::lock_guard lock(downstream_.mutex);
      EXPECT_FALSE(downstream_.answers) << what;
      downstream_.answers = true;
    }
    create.join();
    Do("FLUSH");
    EXPECT_EQ(downstream_.All(), Lines{"+1|1"});
    Do("DROP SINK k");
    Do("DELETE FROM t");
    downstream_.committed = 0;
  }
}

TEST_F(EngineTest, NothingWaitsForASinkThatStops) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Do("CREATE SINK k FROM t WITH (connector = 'hand')");
  {
    std::lock_guard lock(downstream_.mutex);
    downstream_.stops = false;
  }
  auto other = OpenSession(*engine_, {});
  std::thread drop([&] { EXPECT_EQ(QueryIn(*other, "DROP SINK k"), Lines{}); });
  EXPECT_TRUE(Eventually([&] { return Query("SHOW SINKS").empty(); }));
  Do("INSERT INTO t VALUES (1, 1)");
  EXPECT_EQ(Query("SELECT * FROM t"), Lines{"1|1"});
  {
    std::lock_guard lock(downstream_.mutex);
    EXPECT_FALSE(downstream_.stops);
    downstream_.stops = true;
  }
  drop.join();
}

TEST_F(EngineTest, ATableTakesRowsOnceItIsDurable) {
  interval_ms_ = 1'000'000;
  Crash();
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Do("INSERT INTO t SELECT i, i FROM generate_series(0, 999999) AS s(i)");
  // The checkpoint of this takes long, for it holds the rows of t: the log of inserted rows is quicker.
  auto other = OpenSession(*engine_, {});
  auto before = engine_->Report().checkpoint;
  std::thread create([&] { EXPECT_EQ(QueryIn(*other, "CREATE TABLE u (id INT PRIMARY KEY)"), Lines{}); });
  EXPECT_TRUE(Eventually([&] { return Query("INSERT INTO u VALUES (1)").empty(); }));
  EXPECT_GT(engine_->Report().checkpoint, before);
  create.join();
  Crash();
  EXPECT_EQ(Query("SELECT * FROM u"), Lines{"1"});
}

TEST_F(EngineTest, ATableThatACrashKeptFromBeingMadeIsNotLoading) {
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  auto other = OpenSession(*engine_, {});
  {
    std::lock_guard lock(upstream_.mutex);
    upstream_.answers = false;
  }
  std::thread never([&] { QueryIn(*other, "CREATE TABLE t (*) FROM s TABLE 'up'"); });
  ASSERT_TRUE(Eventually([&] {
    std::lock_guard lock(upstream_.mutex);
    return upstream_.asked;
  }));
  Do("FLUSH");
  engine_->Abandon();
  {
    std::lock_guard lock(upstream_.mutex);
    upstream_.answers = true;
  }
  never.join();
  Crash();
  // Its number is given again.
  Do("CREATE TABLE u (id INT PRIMARY KEY)");
  EXPECT_EQ(Query("SELECT * FROM u"), Lines{});
}

TEST_F(EngineTest, UncommittedSinkLogsSurviveACrash) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Query("INSERT INTO t VALUES (1, 1)");
  Do("CREATE SINK k FROM t WITH (connector = 'hand')");
  Do("FLUSH");
  {
    std::lock_guard lock(downstream_.mutex);
    downstream_.commits = false;
  }
  Query("INSERT INTO t VALUES (2, 2)");
  Do("FLUSH");
  Query("UPDATE t SET v = 22 WHERE id = 2");
  Crash();
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), (Lines{"+2|2", "+2|22", "-2|2"}));
  // Once committed, it is not handed over again.
  downstream_.commits = true;
  Do("FLUSH");
  ASSERT_TRUE(Eventually([&] {
    std::lock_guard lock(downstream_.mutex);
    return downstream_.committed == downstream_.durable;
  }));
  Query("INSERT INTO t VALUES (3, 3)");
  Do("FLUSH");
  Crash();
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), Lines{});
}

TEST_F(EngineTest, FlushAsksSinksToCommit) {
  downstream_.waits_to_be_asked = true;
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  Do("CREATE SINK k FROM t WITH (connector = 'hand')");
  Query("INSERT INTO t VALUES (1, 1)");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  auto committed = [&] {
    std::lock_guard lock(downstream_.mutex);
    return downstream_.committed;
  };
  EXPECT_EQ(committed(), 0u);
  session_->TakeNotices();
  Do("FLUSH");
  EXPECT_TRUE(session_->TakeNotices().empty());
  EXPECT_GT(committed(), 0u);

  // A sink that does not get there is named; one that is dropped is not waited for.
  downstream_.commits = false;
  Do("FLUSH");
  auto notices = session_->TakeNotices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].message, "sink \"k\" has not committed this checkpoint");
  flush_sink_timeout_ms_ = 60'000;
  Crash();
  std::thread flush([&] { Do("FLUSH"); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  auto other = OpenSession(*engine_, {});
  EXPECT_EQ(QueryIn(*other, "DROP SINK k"), Lines{});
  flush.join();
  EXPECT_TRUE(session_->TakeNotices().empty());
}

TEST_F(EngineTest, SinksThatCannotStartGetTheirDeltasLater) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
  downstream_.reachable = false;
  EXPECT_EQ(Query("CREATE SINK k FROM t WITH (connector = 'hand')"), Lines{"28P01: go away"});
  downstream_.reachable = true;
  downstream_.commits = false;
  Do("CREATE SINK k FROM t WITH (connector = 'hand')");
  Query("INSERT INTO t VALUES (1, 1)");
  Do("FLUSH");

  // The target refuses at the restart: what the log held, and what comes since, waits in the sink.
  downstream_.reachable = false;
  downstream_.commits = true;
  Crash();
  Query("INSERT INTO t VALUES (2, 2)");
  session_->TakeNotices();
  Do("FLUSH");
  auto notices = session_->TakeNotices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].message, "sink \"k\" has not committed this checkpoint: go away");
  EXPECT_EQ(Query("SHOW SINKS").at(0).substr(0, 24), "k|hand|t|retrying|go awa");
  EXPECT_EQ(downstream_.committed, 0u);
  EXPECT_EQ(downstream_.All(), (Lines{"+1|1", "+2|2"}));

  // A connector that does not take the options any more makes no sink: the state log alone keeps the deltas.
  downstream_.knows_options = false;
  Crash();
  Query("INSERT INTO t VALUES (3, 3)");
  Do("FLUSH");
  notices = session_->TakeNotices();
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0].message, "sink \"k\" has not committed this checkpoint: unknown option \"colour\"");
  EXPECT_EQ(Query("SHOW SINKS").at(0).substr(0, 24), "k|hand|t|failed|unknown ");
  downstream_.knows_options = downstream_.reachable = true;
  Crash();
  Do("FLUSH");
  EXPECT_TRUE(session_->TakeNotices().empty());
  EXPECT_EQ(downstream_.All(), (Lines{"+1|1", "+2|2", "+3|3"}));
  Crash();
  Do("FLUSH");
  EXPECT_EQ(downstream_.All(), Lines{});
}

TEST_F(EngineTest, SourcesWaitForFullSinks) {
  sink_log_bytes_max_ = 100'000;
  Crash();
  Do("CREATE SOURCE s WITH (connector = 'hand')");
  Do("CREATE TABLE t (*) FROM s TABLE 'up'");
  Hand("up", {}, false, true);
  ASSERT_TRUE(Eventually([&] { return Query("SELECT * FROM t").empty(); }));
  downstream_.commits = false;
  Do("CREATE SINK k FROM t WITH (connector = 'hand')");
  constexpr int kBatches = 30, kRows = 1500;
  for (int b = 0; b < kBatches; b++) {
    std::vector<Change> changes;
    for (int i = 0; i < kRows; i++) changes.push_back({kUpsert, b * kRows + i, i});
    Hand("up", changes);
  }
  auto handed = [&] {
    std::lock_guard lock(upstream_.mutex);
    return upstream_.handed;
  };
  auto held = [&] {
    for (auto& sink : engine_->Report().sinks) return sink.status.log_bytes;
    return uint64_t{0};
  };
  ASSERT_TRUE(Eventually([&] { return held() > 100'000; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  auto stopped_at = handed();
  EXPECT_LT(stopped_at, upstream_.batches.size());
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  EXPECT_EQ(handed(), stopped_at);
  EXPECT_LT(held(), 300'000u);
  // A sink that commits when it is asked is asked.
  {
    std::lock_guard lock(downstream_.mutex);
    downstream_.commits = downstream_.waits_to_be_asked = true;
  }
  EXPECT_TRUE(
      Eventually([&] { return Query("SELECT count(*) FROM t") == Lines{std::to_string(kBatches * kRows)}; }, 30));
  EXPECT_EQ(downstream_.All().size(), size_t{kBatches * kRows});
}

TEST_F(EngineTest, ReadsAsOfTheLastCheckpoint) {
  interval_ms_ = 1'000'000;
  Crash();
  Do("CREATE TABLE t (id INT PRIMARY KEY)");
  Query("INSERT INTO t VALUES (1)");
  auto durable = OpenSession(*engine_, {});
  QueryIn(*durable, "SET read_mode = 'durable'");
  EXPECT_EQ(QueryIn(*durable, "SELECT * FROM t"), Lines{"1"});
  Query("INSERT INTO t VALUES (2)");
  EXPECT_EQ(QueryIn(*durable, "SELECT * FROM t"), Lines{"1"});
  Do("FLUSH");
  EXPECT_TRUE(Eventually([&] { return QueryIn(*durable, "SELECT * FROM t") == (Lines{"1", "2"}); }));
}

TEST_F(EngineTest, WritersDoNotLoseEachOther) {
  Do("CREATE TABLE t (id INT PRIMARY KEY, n INT)");
  Query("INSERT INTO t VALUES (1, 0)");
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; w++)
    writers.emplace_back([&] {
      auto session = OpenSession(*engine_, {});
      for (int i = 0; i < 25; i++) EXPECT_EQ(QueryIn(*session, "UPDATE t SET n = n + 1"), Lines{});
    });
  for (auto& t : writers) t.join();
  EXPECT_EQ(Query("SELECT n FROM t"), Lines{"100"});
  Crash();
  EXPECT_EQ(Query("SELECT n FROM t"), Lines{"100"});
}

TEST_F(EngineTest, StatementsEndWhenTheEngineStops) {
  Do("CREATE TABLE t (id INT)");
  engine_->Stop();
  EXPECT_EQ(Query("INSERT INTO t VALUES (1)").at(0).substr(0, 5), "57P01");
  EXPECT_EQ(Query("CREATE TABLE u (id INT)").at(0).substr(0, 5), "57P01");
}

}  // namespace
}  // namespace tidewater::engine
