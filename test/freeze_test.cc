// What happens when the code of one view fails: an internal error, a failed check, memory, a crash of the process. That
// view and what stands on it stop, everything else goes on, also over restarts, and RESUME brings it back.
//
// Each test runs in processes of its own. The functions that misbehave do so for the argument 13 and while `misbehave`
// is set.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <fstream>
#include "duckdb/main/extension/extension_loader.hpp"
#include "harness.h"
#include "tidewater/base/check.h"
#include "tidewater/base/log.h"
#include "tidewater/sinks/blackhole/blackhole.h"

namespace tidewater::test {
namespace {

bool misbehave = true;

int Deep(volatile int* depth) {
  volatile char frame[4096];
  frame[0] = char(*depth);
  *depth = *depth + 1;
  return *depth < 1 << 30 ? Deep(depth) + frame[0] : 0;
}

void AddFunction(duckdb::ExtensionLoader& loader, const char* name, void (*fail)()) {
  auto run = [fail](DataChunk& args, duckdb::ExpressionState&, duckdb::Vector& result) {
    duckdb::UnaryExecutor::Execute<int32_t, int32_t>(args.data[0], result, args.size(), [fail](int32_t x) {
      if (x == 13 && misbehave) fail();
      return x + 1;
    });
  };
  loader.RegisterFunction(duckdb::ScalarFunction(name, {LogicalType::INTEGER}, LogicalType::INTEGER, run));
}

void AddFunctions(duckdb::DatabaseInstance& db) {
  duckdb::ExtensionLoader loader(db, "test");
  AddFunction(loader, "test_internal", [] { throw duckdb::InternalException("thirteen"); });
  AddFunction(loader, "test_check", [] { TW_CHECK_EQ(13, 12); });
  AddFunction(loader, "test_memory", [] { throw std::bad_alloc(); });
  AddFunction(loader, "test_row", [] { throw duckdb::InvalidInputException("a row's own matter"); });
  AddFunction(loader, "test_crash", [] { *static_cast<volatile int*>(nullptr) = 1; });
  AddFunction(loader, "test_overflow", [] {
    volatile int depth = 0;
    Deep(&depth);
  });
}

struct Db {
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<engine::Session> session;

  explicit Db(const std::string& state, engine::EngineOptions options = {}) {
    options.state = state;
    options.extend = AddFunctions;
    auto opened = engine::Engine::Open(options);
    TW_CHECK(opened.has_value(), "{}", opened.error().ToString());
    engine = std::move(*opened);
    auto started = engine->Start();
    TW_CHECK(started.has_value(), "{}", started.error().ToString());
    session = engine::OpenSession(*engine, {});
  }
  ~Db() { session.reset(); }
  std::vector<std::string> operator()(const std::string& sql) { return Sorted(MustRun(*session, sql)); }
  Error Fail(const std::string& sql) {
    auto result = Run(*session, sql);
    EXPECT_FALSE(result.has_value()) << sql;
    return result ? Error{} : result.error();
  }
  /// name|state of all materialized views.
  std::vector<std::string> States() {
    std::vector<std::string> out;
    for (auto& row : MustRun(*session, "SHOW MATERIALIZED VIEWS").rows) out.push_back(row[0] + "|" + row[1]);
    return out;
  }
  std::string Reason(const std::string& view) {
    for (auto& row : MustRun(*session, "SHOW MATERIALIZED VIEWS").rows)
      if (row[0] == view) return row[3];
    return "?";
  }
};

using Lines = std::vector<std::string>;

engine::EngineOptions Workers(int workers) {
  engine::EngineOptions options;
  options.workers = workers;
  return options;
}

/// Runs `work` in a process of its own: the signal that ended it, 0 when all was well there, -1 when not.
int InChild(const std::function<void()>& work) {
  fflush(nullptr);
  pid_t child = fork();
  if (child == 0) {
    rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    work();
    fflush(nullptr);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) == 0 ? 0 : -1;
}

/// That a process which runs `work` ends with that signal (0: by itself, all well).
void ExpectEnd(int signal, const std::function<void()>& work) {
  int ended = InChild(work);
  EXPECT_EQ(ended, signal);
}

class FreezeTest : public ::testing::Test {
 protected:
  std::string State() const { return dir_.path() + "/state"; }
  TempDir dir_;
};

/// A table, a view that fails for 13, one on it, one beside it.
void MakeViews(Db& db, const std::string& function) {
  db("CREATE TABLE t (id INT PRIMARY KEY, x INT)");
  db("CREATE MATERIALIZED VIEW v AS SELECT id, " + function + "(x) AS y FROM t");
  db("CREATE MATERIALIZED VIEW above AS SELECT y, count(*) AS n FROM v GROUP BY y");
  db("CREATE VIEW plain AS SELECT y FROM v WHERE y > 2");
  db("CREATE MATERIALIZED VIEW beside AS SELECT count(*) AS n, sum(x) AS s FROM t");
  db("INSERT INTO t VALUES (1, 1), (2, 2), (3, 2)");
}

class FaultTest : public FreezeTest, public ::testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(FaultTest, StopsOneViewAndWhatStandsOnIt) {
  auto [function, message] = GetParam();
  ExpectEnd(0, [&, function = std::string(function), message = std::string(message)] {
    Db db(State());
    MakeViews(db, function);
    db("CREATE SINK k FROM v WITH (connector = 'blackhole')");
    EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
    db("INSERT INTO t VALUES (4, 4), (13, 13), (5, 5)");
    db("INSERT INTO t VALUES (6, 6)");
    db("DELETE FROM t WHERE id = 1");
    EXPECT_EQ(db("SELECT * FROM beside"), (Lines{"6|32"}));
    EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
    EXPECT_NE(db.Reason("v").find(message), std::string::npos) << db.Reason("v");
    EXPECT_EQ(db.Reason("above"), "it stands on \"v\", which is frozen");
    // They keep what they showed last.
    EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
    auto notices = db.session->TakeNotices();
    ASSERT_EQ(notices.size(), 1u);
    EXPECT_EQ(notices[0].severity, "WARNING");
    EXPECT_NE(notices[0].message.find("\"v\" is frozen"), std::string::npos) << notices[0].message;
    EXPECT_EQ(db("SELECT * FROM above"), (Lines{"2|1", "3|2"}));
    db.session->TakeNotices();
    // Together with what lives: both epochs are said. Plain views are what they read.
    db("SELECT * FROM plain, beside");
    notices = db.session->TakeNotices();
    ASSERT_EQ(notices.size(), 1u);
    EXPECT_NE(notices[0].message.find("the others' as of epoch"), std::string::npos) << notices[0].message;
    db("SELECT * FROM beside");
    EXPECT_TRUE(db.session->TakeNotices().empty());
    EXPECT_EQ(MustRun(*db.session, "SHOW SINKS").rows[0][3], "frozen");
    // Nothing new may stand on them.
    EXPECT_EQ(db.Fail("CREATE MATERIALIZED VIEW more AS SELECT * FROM plain").sqlstate, "55000");
    EXPECT_EQ(db.Fail("CREATE SINK more FROM above WITH (connector = 'blackhole')").sqlstate, "55000");
    EXPECT_EQ(db.Fail("ALTER MATERIALIZED VIEW above RESUME").sqlstate, "55000");
    // As long as the row is there it cannot be filled; it stays as it is.
    EXPECT_NE(db.Fail("ALTER MATERIALIZED VIEW v RESUME").message.find(message), std::string::npos);
    EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
    EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
    db("DELETE FROM t WHERE x = 13");
    db("ALTER MATERIALIZED VIEW v RESUME");
    EXPECT_EQ(db.States(), (Lines{"v|ready", "above|ready", "beside|ready"}));
    EXPECT_EQ(db("SELECT * FROM v"), (Lines{"2|3", "3|3", "4|5", "5|6", "6|7"}));
    EXPECT_EQ(db("SELECT * FROM above"), (Lines{"3|2", "5|1", "6|1", "7|1"}));
    db("INSERT INTO t VALUES (7, 2)");
    db("DELETE FROM t WHERE id = 6");
    EXPECT_EQ(db("SELECT * FROM above"), (Lines{"3|3", "5|1", "6|1"}));
    EXPECT_EQ(MustRun(*db.session, "SHOW SINKS").rows[0][3], "running");
    // Again, and gone.
    db("INSERT INTO t VALUES (13, 13)");
    EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
    db("DROP SINK k");
    db("DROP VIEW plain");
    db("DROP MATERIALIZED VIEW v CASCADE");
    EXPECT_EQ(db.States(), (Lines{"beside|ready"}));
    EXPECT_EQ(db.Fail("CREATE MATERIALIZED VIEW v AS SELECT " + function + "(x) AS y FROM t").sqlstate,
              function == "test_memory" ? "53200" : "XX000");
    EXPECT_EQ(db.States(), (Lines{"beside|ready"}));
    EXPECT_EQ(db("SELECT * FROM beside"), (Lines{"6|28"}));
  });
}

INSTANTIATE_TEST_SUITE_P(Faults, FaultTest,
                         ::testing::Values(std::pair("test_internal", "thirteen"),
                                           std::pair("test_check", "check failed"), std::pair("test_memory", "memory")),
                         [](auto& info) { return std::string(info.param.first); });

TEST_F(FreezeTest, StaysOverRestartsWithOtherWorkers) {
  ExpectEnd(0, [&] {
    for (int workers : {1, 3}) {
      auto state = State() + std::to_string(workers);
      {
        Db db(state, Workers(workers));
        MakeViews(db, "test_internal");
        db("INSERT INTO t VALUES (13, 13)");
        EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
      }
      for (int again : {workers, 4, 1}) {
        Db db(state, Workers(again));
        EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
        EXPECT_NE(db.Reason("v").find("thirteen"), std::string::npos) << db.Reason("v");
        EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
        EXPECT_EQ(db("SELECT * FROM v WHERE id = 2"), (Lines{"2|3"}));
        EXPECT_EQ(db("SELECT * FROM above"), (Lines{"2|1", "3|2"}));
      }
      misbehave = false;
      {
        Db db(state, Workers(workers));
        db("ALTER MATERIALIZED VIEW v RESUME");
        EXPECT_EQ(db.States(), (Lines{"v|ready", "above|ready", "beside|ready"}));
      }
      {
        Db db(state, Workers(2));
        EXPECT_EQ(db("SELECT * FROM v"), (Lines{"13|14", "1|2", "2|3", "3|3"}));
        db("INSERT INTO t VALUES (4, 1)");
        EXPECT_EQ(db("SELECT * FROM above"), (Lines{"14|1", "2|2", "3|2"}));
      }
      misbehave = true;
    }
  });
}

// An epoch of several steps, of which a later one fails: nothing of the epoch is seen in the view.
TEST_F(FreezeTest, GoesBackToThePublishedEpoch) {
  engine::EngineOptions slow;
  slow.checkpoint_interval_ms = 1'000'000;
  ExpectEnd(0, [&] {
    Db db(State(), slow);
    MakeViews(db, "test_internal");
    db("FLUSH");
    misbehave = false;
    db("INSERT INTO t VALUES (4, 4)");
    db("UPDATE t SET x = 7 WHERE id = 2");
    db("DELETE FROM t WHERE id = 3");
    db("INSERT INTO t VALUES (3, 8)");
    db("INSERT INTO t VALUES (13, 13)");
    db("INSERT INTO t VALUES (5, 5)");
    EXPECT_EQ(db("SELECT * FROM v"), (Lines{"13|14", "1|2", "2|8", "3|9", "4|5", "5|6"}));
    db.session.reset();
    db.engine->Abandon();
  });
  ExpectEnd(0, [&] {
    for (int workers : {1, 2}) {
      Db db(State(), Workers(workers));
      EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
      EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
      EXPECT_EQ(db("SELECT * FROM above"), (Lines{"2|1", "3|2"}));
      EXPECT_EQ(db("SELECT * FROM beside"), (Lines{"6|38"}));
    }
  });
}

TEST_F(FreezeTest, TooManyFailingRows) {
  ExpectEnd(0, [&] {
    engine::EngineOptions options;
    options.error_rows_max = 100;
    Db db(State(), options);
    MakeViews(db, "test_row");
    db("INSERT INTO t SELECT i, 13 FROM generate_series(100, 199) g(i)");
    EXPECT_EQ(db.States(), (Lines{"v|incomplete", "above|incomplete", "beside|ready"}));
    EXPECT_EQ(db("SELECT count(*) FROM tidewater_errors"), (Lines{"100"}));
    db("INSERT INTO t VALUES (13, 13), (14, 14)");
    EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
    EXPECT_EQ(db.Reason("v"), "more than 100 of its rows fail");
    EXPECT_EQ(db("SELECT count(*) FROM tidewater_errors"), (Lines{"100"}));
    EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
    EXPECT_NE(db.Fail("CREATE MATERIALIZED VIEW w AS SELECT test_row(x) AS y FROM t").message.find("more than 100"),
              std::string::npos);
    EXPECT_EQ(db.Fail("ALTER MATERIALIZED VIEW v RESUME").sqlstate, "XX000");
    db("DELETE FROM t WHERE id > 150");
    db("ALTER MATERIALIZED VIEW v RESUME");
    EXPECT_EQ(db.States(), (Lines{"v|incomplete", "above|incomplete", "beside|ready"}));
    EXPECT_EQ(db("SELECT object, count(*) FROM tidewater_errors GROUP BY object"), (Lines{"v|52"}));
    EXPECT_EQ(db("SELECT * FROM v"), (Lines{"14|15", "1|2", "2|3", "3|3"}));
    db("DELETE FROM t WHERE x = 13");
    EXPECT_EQ(db("SELECT count(*) FROM tidewater_errors"), (Lines{"0"}));
    EXPECT_EQ(db.States(), (Lines{"v|ready", "above|ready", "beside|ready"}));
  });
}

TEST_F(FreezeTest, ByHand) {
  ExpectEnd(0, [&] {
    {
      Db db(State());
      MakeViews(db, "test_internal");
    }
    {
      engine::EngineOptions options;
      options.freeze = {"v"};
      Db db(State(), options);
      EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
      EXPECT_EQ(db.Reason("v"), "it was named by --freeze");
      db("INSERT INTO t VALUES (13, 13)");
      EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
    }
    Db db(State());
    EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
    db("DELETE FROM t WHERE id = 13");
    db("ALTER MATERIALIZED VIEW v RESUME");
    EXPECT_EQ(db.States(), (Lines{"v|ready", "above|ready", "beside|ready"}));
    db("ALTER MATERIALIZED VIEW v RESUME");
    EXPECT_EQ(db.session->TakeNotices().at(0).message, "materialized view \"v\" is not frozen");
    EXPECT_EQ(db.Fail("ALTER MATERIALIZED VIEW t RESUME").sqlstate, "42809");
    EXPECT_EQ(db.Fail("ALTER MATERIALIZED VIEW nobody RESUME").sqlstate, "42P01");
  });
}

class CrashTest : public FreezeTest, public ::testing::WithParamInterface<std::tuple<const char*, int>> {};

// A row whose evaluation crashes the process comes back with every restart. The third start leaves the view alone.
TEST_P(CrashTest, TheThirdStartComesUp) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP();
#endif
  auto [function, workers] = GetParam();
  engine::EngineOptions options;
  options.workers = workers;
  options.checkpoint_interval_ms = 1'000'000;
  ExpectEnd(0, [&, function = std::string(function)] {
    Db db(State(), options);
    MakeViews(db, function);
    db("FLUSH");
    misbehave = false;
    db("INSERT INTO t SELECT i, i FROM generate_series(10, 20) g(i)");
    db.session.reset();
    db.engine->Abandon();
  });
  ExpectEnd(SIGSEGV, [&] { Db db(State(), options); });
  ExpectEnd(SIGSEGV, [&] { Db db(State(), options); });
  ExpectEnd(0, [&] {
    {
      Db db(State(), options);
      EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
      EXPECT_NE(db.Reason("v").find("the process crashed again and again (signal 11) in operator"), std::string::npos)
          << db.Reason("v");
      EXPECT_EQ(db("SELECT * FROM v"), (Lines{"1|2", "2|3", "3|3"}));
      EXPECT_EQ(db("SELECT * FROM beside"), (Lines{"14|170"}));
      db("INSERT INTO t VALUES (100, 1)");
      EXPECT_EQ(db("SELECT * FROM beside"), (Lines{"15|171"}));
    }
    Db db(State(), options);
    EXPECT_EQ(db.States(), (Lines{"v|frozen", "above|frozen", "beside|ready"}));
    misbehave = false;
    db("ALTER MATERIALIZED VIEW v RESUME");
    EXPECT_EQ(db.States(), (Lines{"v|ready", "above|ready", "beside|ready"}));
    EXPECT_EQ(db("SELECT count(*) FROM v"), (Lines{"15"}));
  });
}

INSTANTIATE_TEST_SUITE_P(Crashes, CrashTest,
                         ::testing::Combine(::testing::Values("test_crash", "test_overflow"), ::testing::Values(1, 2)),
                         [](auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::to_string(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace tidewater::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  spdlog::set_level(spdlog::level::critical);
  tidewater::RegisterBlackhole();
  return RUN_ALL_TESTS();
}
