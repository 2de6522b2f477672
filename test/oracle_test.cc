// The oracle: under random changes every view equals DuckDB's batch result of its own SQL, after each step.
//
//   oracle_test [--seed N] [--steps N] [--workers N] [--verbose]     (without --seed: the fixed list)
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>
#include "harness.h"
#include "tidewater/base/block_memory.h"
#include "tidewater/base/check.h"
#include "tidewater/base/log.h"

namespace tidewater::test {
namespace {

struct View {
  const char* name;
  const char* sql;
};

/// Over t (id key, k, v, d, s), u (no key: k, w, s) and c (k key, name).
constexpr View kViews[] = {
    {"v_filter", "SELECT id, k, v + 1 AS v1, s FROM t WHERE v > 3 OR s IS NULL"},
    {"v_project", "SELECT k, coalesce(s, '-') || 'x' AS sx, v * 2 AS v2 FROM t"},
    {"v_inner", "SELECT t.id, t.v, u.w, u.s FROM t JOIN u ON t.k = u.k"},
    {"v_inner_residual", "SELECT t.id, u.w FROM t JOIN u ON t.k = u.k AND t.v < u.w"},
    {"v_left", "SELECT t.id, t.k, c.name FROM t LEFT JOIN c ON t.k = c.k"},
    {"v_left_many", "SELECT c.k, c.name, u.w FROM c LEFT JOIN u ON c.k = u.k AND u.w > 2"},
    {"v_two_keys", "SELECT t.id, u.w FROM t JOIN u ON t.k = u.k AND t.s = u.s"},
    {"v_self", "SELECT a.id AS aid, b.id AS bid FROM t a JOIN t b ON a.k = b.v"},
    {"v_group",
     "SELECT k, count(*) AS n, count(v) AS nv, sum(v) AS sv, avg(v) AS av, min(v) AS mn, max(v) AS mx FROM t GROUP BY "
     "k"},
    {"v_group_text", "SELECT s, min(s) AS m, max(d) AS md, sum(d) AS sd, count(*) AS n FROM t GROUP BY s"},
    {"v_total", "SELECT count(*) AS n, sum(v) AS sv, min(s) AS ms, max(d) AS xd FROM t"},
    {"v_group_filter",
     "SELECT k, sum(v) FILTER (WHERE v > 4) AS big, count(DISTINCT v) AS dv FROM t GROUP BY k HAVING count(*) > 1"},
    {"v_distinct", "SELECT DISTINCT k, s FROM u"},
    {"v_union", "SELECT k, s FROM t UNION ALL SELECT k, s FROM u"},
    {"v_union_distinct", "SELECT k FROM t UNION SELECT k FROM c"},
    {"v_join_group", "SELECT c.name, sum(t.v) AS sv, count(*) AS n FROM t JOIN c ON t.k = c.k GROUP BY c.name"},
    {"w_on_group", "SELECT n, count(*) AS groups, max(sv) AS m FROM v_group GROUP BY n"},
    {"w_on_join", "SELECT i.id, g.n FROM v_inner i JOIN v_group g ON i.w = g.k"},
    {"w_on_union", "SELECT k, count(*) AS n, count(DISTINCT s) AS ds FROM v_union GROUP BY k"},
    {"w_left_of_group", "SELECT c.k, c.name, g.sv FROM c LEFT JOIN v_group g ON c.k = g.k"},
};

class Oracle {
 public:
  Oracle(uint64_t seed, int workers, bool verbose) : random_(seed), workers_(workers), verbose_(verbose) {}

  void Run(int steps) {
    Open();
    Do("CREATE TABLE t (id INT PRIMARY KEY, k INT, v INT, d DOUBLE, s VARCHAR)");
    Do("CREATE TABLE u (k INT, w BIGINT, s VARCHAR)");
    Do("CREATE TABLE c (k INT PRIMARY KEY, name VARCHAR)");
    // Half of the views see the first rows as a backfill, the other half as changes.
    std::vector<const View*> later;
    for (auto& v : kViews) {
      if (Chance(50) && v.name[0] == 'v' && !Needed(v)) {
        later.push_back(&v);
      } else {
        Create(v);
      }
    }
    for (int step = 0; step < steps; step++) {
      if (!later.empty() && Chance(30)) {
        Create(*later.back());
        later.pop_back();
      }
      if (Chance(25)) {
        Transaction();
      } else {
        auto count = Chance(10) ? Below(300) + 1 : Below(4) + 1;
        Change(count);
      }
      if (Chance(4)) Restart(Chance(50));
      Check(step);
    }
  }

 private:
  uint64_t Below(uint64_t n) { return random_() % n; }
  bool Chance(uint64_t percent) { return Below(100) < percent; }
  static bool Needed(const View& view) {
    for (auto& other : kViews)
      if (strstr(other.sql, view.name)) return true;
    return false;
  }

  void Open() {
    engine::EngineOptions options;
    options.state = dir_.path();
    options.workers = workers_;
    options.min_step_interval_us = 0;
    options.checkpoint_interval_ms = 50;
    // Half of the time everything that can leave memory does so at once.
    options.memory_bytes = Chance(50) ? 1 : 0;
    options.checkpoint_bytes = Chance(50) ? 1000 : 1 << 20;
    auto opened = engine::Engine::Open(options);
    TW_CHECK(opened.has_value(), "{}", opened.error().ToString());
    engine_ = std::move(*opened);
    auto started = engine_->Start();
    TW_CHECK(started.has_value(), "{}", started.error().ToString());
    session_ = engine::OpenSession(*engine_, {});
  }
  void Restart(bool crash) {
    if (verbose_) printf("-- restart%s\n", crash ? " as after a crash" : "");
    session_.reset();
    if (crash) engine_->Abandon();
    engine_.reset();
    if (Chance(30)) workers_ = 1 + int(Below(4));
    Open();
  }
  void Do(const std::string& sql) {
    if (verbose_) printf("%s;\n", sql.c_str());
    MustRun(*session_, sql);
  }
  void Create(const View& v) {
    Do(std::string("CREATE MATERIALIZED VIEW ") + v.name + " AS " + v.sql);
    created_.push_back(&v);
  }

  std::string Int(uint64_t n) { return Chance(8) ? "NULL" : std::to_string(Below(n)); }
  std::string Text() { return Chance(12) ? "NULL" : "'" + std::string(1, char('a' + Below(5))) + "'"; }
  std::string Double() {
    if (Chance(8)) return "NULL";
    static const char* kHard[] = {"1e16", "-1e16", "0.1", "-0.0", "1e300", "-1e300"};
    return Chance(20) ? kHard[Below(6)] : std::to_string(double(Below(1000)) / 8);
  }

  void Change(uint64_t rows) {
    switch (Below(9)) {
      case 0:
      case 1: {
        std::string values;
        for (uint64_t i = 0; i < rows; i++)
          values += fmt::format("{}({}, {}, {}, {}, {})", i ? ", " : "", Below(60 + 2 * rows), Int(8), Int(10),
                                Double(), Text());
        Do("INSERT INTO t VALUES " + values + " ON CONFLICT DO NOTHING");
        return;
      }
      case 2:
      case 3: {
        std::string values;
        for (uint64_t i = 0; i < rows; i++)
          values += fmt::format("{}({}, {}, {})", i ? ", " : "", Int(8), Int(10), Text());
        Do("INSERT INTO u VALUES " + values);
        return;
      }
      case 4: {
        auto k = Below(10);
        Do(fmt::format("INSERT INTO c VALUES ({}, {}) ON CONFLICT (k) DO UPDATE SET name = EXCLUDED.name", k, Text()));
        return;
      }
      case 5:
        Do(fmt::format("UPDATE t SET v = {}, s = {} WHERE id % 7 = {}", Chance(50) ? "v + 1" : Int(10), Text(),
                       Below(7)));
        return;
      case 6:
        Do(fmt::format("UPDATE u SET k = {} WHERE w = {}", Int(8), Below(10)));
        return;
      case 7:
        Do(Chance(5) ? "DELETE FROM t" : fmt::format("DELETE FROM t WHERE id % {} = 0", 3 + Below(9)));
        return;
      case 8:
        Do(Chance(50) ? fmt::format("DELETE FROM u WHERE k = {} AND w < {}", Below(8), Below(10))
                      : fmt::format("DELETE FROM c WHERE k = {}", Below(10)));
        return;
    }
  }
  void Transaction() {
    Do("BEGIN");
    for (auto n = Below(4) + 1; n > 0; n--) Change(Below(3) + 1);
    Do(Chance(80) ? "COMMIT" : "ROLLBACK");
  }

  void Check(int step) {
    for (auto* v : created_) {
      auto view = Sorted(MustRun(*session_, std::string("SELECT * FROM ") + v->name));
      auto batch = Sorted(MustRun(*session_, v->sql));
      if (view == batch) continue;
      std::vector<std::string> missing, extra;
      std::set_difference(batch.begin(), batch.end(), view.begin(), view.end(), std::back_inserter(missing));
      std::set_difference(view.begin(), view.end(), batch.begin(), batch.end(), std::back_inserter(extra));
      printf("step %d: view %s differs (%zu rows, batch %zu): %s\n", step, v->name, view.size(), batch.size(), v->sql);
      for (auto& m : missing) printf("  missing: %s\n", m.c_str());
      for (auto& e : extra) printf("  extra:   %s\n", e.c_str());
      fflush(stdout);
      _exit(1);
    }
  }

  std::mt19937_64 random_;
  int workers_;
  bool verbose_;
  TempDir dir_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<engine::Session> session_;
  std::vector<const View*> created_;
};

}  // namespace
}  // namespace tidewater::test

int main(int argc, char** argv) {
  // Seeds that once failed are added here and stay.
  std::vector<uint64_t> seeds = {1, 2, 3, 4, 5, 6};
  int steps = 120, workers = 0;
  bool verbose = false;
  for (int i = 1; i < argc; i++) {
    std::string arg = argv[i];
    if (arg == "--seed" && i + 1 < argc) seeds = {strtoull(argv[++i], nullptr, 10)};
    if (arg == "--steps" && i + 1 < argc) steps = atoi(argv[++i]);
    if (arg == "--workers" && i + 1 < argc) workers = atoi(argv[++i]);
    if (arg == "--random") seeds = {std::random_device{}()};
    if (arg == "--verbose") verbose = true;
  }
  spdlog::set_level(spdlog::level::warn);
  for (auto seed : seeds) {
    static constexpr int kWorkers[] = {1, 2, 4};
    int w = workers ? workers : kWorkers[seed % 3];
    printf("seed %llu, %d steps, %d workers\n", static_cast<unsigned long long>(seed), steps, w);
    fflush(stdout);
    tidewater::test::Oracle(seed, w, verbose).Run(steps);
  }
  printf("ok, %llu bytes of rows left memory\n",
         static_cast<unsigned long long>(tidewater::BlockMemory::Get().Stats().spilled_total));
  return 0;
}
