// Kills a process that inserts, updates and deletes at random moments, half of them at named fault points, and looks
// whether everything acknowledged is there, once, and nothing that was not sent.
//
//   crash_test [--rounds N] [--seed N]        and by itself: crash_test --child DIR ACKS ROUND
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include "harness.h"
#include "tidewater/base/check.h"
#include "tidewater/base/log.h"

namespace tidewater::test {
namespace {

constexpr int kWriters = 3;
/// Where a crash hurts most; passing the point the n-th time kills.
constexpr const char* kFaultPoints[] = {"engine.checkpoint_begin", "engine.checkpoint_built",
                                        "engine.checkpoint_durable", "engine.confirmed"};

std::unique_ptr<engine::Engine> Open(const std::string& dir) {
  engine::EngineOptions options;
  options.state = dir;
  options.checkpoint_interval_ms = 20;
  auto opened = engine::Engine::Open(options);
  TW_CHECK(opened.has_value(), "{}", opened.error().ToString());
  auto started = (*opened)->Start();
  TW_CHECK(started.has_value(), "{}", started.error().ToString());
  return std::move(*opened);
}

/// Writer w of round r works on keys r * 1000000 + w * 100000 + n. Before a transaction n it notes "b", after its end
/// "a".
int Child(const std::string& dir, const std::string& acks, int round) {
  auto engine = Open(dir);
  int fd = open(acks.c_str(), O_WRONLY | O_APPEND | O_CREAT, 0600);
  auto note = [&](const std::string& line) { TW_CHECK(write(fd, line.data(), line.size()) == ssize_t(line.size())); };
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; w++) {
    writers.emplace_back([&, w] {
      auto session = engine::OpenSession(*engine, {});
      for (int n = 0;; n++) {
        int key = round * 1000000 + w * 100000 + n;
        note(fmt::format("b {} {}\n", key, w));
        if (w == 0) {
          MustRun(*session, fmt::format("INSERT INTO t VALUES ({}, {}, 'one')", key, n % 10));
        } else if (w == 1) {
          // All of it or nothing: the row, its change, and a row of the table without key.
          MustRun(*session, "BEGIN");
          MustRun(*session, fmt::format("INSERT INTO t VALUES ({}, {}, 'two')", key, n % 10));
          MustRun(*session, fmt::format("UPDATE t SET s = 'changed' WHERE id = {}", key));
          MustRun(*session, fmt::format("INSERT INTO u VALUES ({})", key));
          MustRun(*session, "COMMIT");
        } else {
          MustRun(*session, fmt::format("INSERT INTO t VALUES ({}, {}, 'three')", key, n % 10));
          note(fmt::format("d {} {}\n", key, w));
          MustRun(*session, fmt::format("DELETE FROM t WHERE id = {}", key));
        }
        note(fmt::format("a {} {}\n", key, w));
      }
    });
  }
  for (auto& t : writers) t.join();
  return 0;
}

int Parent(const char* self, int rounds, uint64_t seed) {
  TempDir dir;
  auto state = dir.path() + "/state", acks = dir.path() + "/acks";
  std::mt19937_64 random(seed);
  {
    auto engine = Open(state);
    auto session = engine::OpenSession(*engine, {});
    MustRun(*session, "CREATE TABLE t (id INT PRIMARY KEY, k INT, s VARCHAR)");
    MustRun(*session, "CREATE TABLE u (id INT)");
    MustRun(*session, "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(id) AS ids FROM t GROUP BY k");
  }
  size_t acknowledged = 0;
  for (int round = 1; round <= rounds; round++) {
    bool at_point = round % 2 == 0;
    auto point = fmt::format("{}:{}", kFaultPoints[random() % std::size(kFaultPoints)], 1 + random() % 20);
    auto pid = fork();
    TW_CHECK(pid >= 0);
    if (pid == 0) {
      if (at_point) setenv("TIDEWATER_FAULT", point.c_str(), 1);
      auto number = std::to_string(round);
      execl(self, self, "--child", state.c_str(), acks.c_str(), number.c_str(), nullptr);
      _exit(127);
    }
    // A child that waits for its fault point gets a kill as well, should it never pass there.
    std::this_thread::sleep_for(std::chrono::milliseconds(at_point ? 3000 : 300 + random() % 1200));
    kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    TW_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "round {}: the child ended by itself, status {}",
             round, status);

    std::set<int> begun, deleting, done;
    std::map<int, int> writer_of;
    std::ifstream in(acks);
    char what;
    int key, writer;
    while (in >> what >> key >> writer) {
      writer_of[key] = writer;
      (what == 'b' ? begun : what == 'd' ? deleting : done).insert(key);
    }
    auto engine = Open(state);
    auto session = engine::OpenSession(*engine, {});
    std::map<int, std::string> rows;
    for (auto& row : MustRun(*session, "SELECT id, s FROM t").rows)
      TW_CHECK(rows.emplace(std::stoi(row[0]), row[1]).second, "row {} is there twice", row[0]);
    std::multiset<int> u_rows;
    for (auto& row : MustRun(*session, "SELECT id FROM u").rows) u_rows.insert(std::stoi(row[0]));
    for (auto& [id, s] : rows) TW_CHECK(begun.contains(id), "row {} was never sent", id);
    for (auto id : begun) {
      bool there = rows.contains(id), acked = done.contains(id);
      int w = writer_of[id];
      if (w == 0) {
        TW_CHECK(there || !acked, "round {}: acknowledged row {} is lost", round, id);
      } else if (w == 1) {
        TW_CHECK(there || !acked, "round {}: acknowledged transaction {} is lost", round, id);
        TW_CHECK(u_rows.count(id) == (there ? 1 : 0), "round {}: transaction {} is there in part", round, id);
        TW_CHECK(!there || rows[id] == "changed", "round {}: transaction {} is there in part", round, id);
      } else {
        TW_CHECK(!(there && acked), "round {}: row {} came back after its acknowledged DELETE", round, id);
        TW_CHECK(there || deleting.contains(id) || !acked, "round {}: row {} is lost", round, id);
      }
    }
    auto view = Sorted(MustRun(*session, "SELECT k, n, ids FROM v"));
    auto batch = Sorted(MustRun(*session, "SELECT k, count(*), sum(id) FROM t GROUP BY k"));
    TW_CHECK(view == batch, "round {}: the view differs from its query", round);
    acknowledged = done.size();
    printf("round %d: killed %s, %zu acknowledged, %zu rows\n", round, at_point ? point.c_str() : "at random",
           acknowledged, rows.size());
    fflush(stdout);
    session.reset();
    if (random() % 2) engine->Abandon();
  }
  TW_CHECK(acknowledged > 0, "nothing was ever acknowledged");
  printf("ok\n");
  return 0;
}

}  // namespace
}  // namespace tidewater::test

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::warn);
  if (argc == 5 && !strcmp(argv[1], "--child")) return tidewater::test::Child(argv[2], argv[3], atoi(argv[4]));
  int rounds = 10;
  uint64_t seed = 1;
  for (int i = 1; i + 1 < argc; i++) {
    if (!strcmp(argv[i], "--rounds")) rounds = atoi(argv[i + 1]);
    if (!strcmp(argv[i], "--seed")) seed = strtoull(argv[i + 1], nullptr, 10);
  }
  return tidewater::test::Parent("/proc/self/exe", rounds, seed);
}
