#include "tidewater/state/state_log.h"
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <sys/wait.h>
#include <unistd.h>
#include <gtest/gtest.h>
#include "tidewater/io/faulty_store.h"
#include "tidewater/io/memory_store.h"
#include "tidewater/state/segment.h"

namespace tidewater::state {
namespace {
namespace fs = std::filesystem;
using Streams = std::map<std::string, std::string>;

/// What a stream would be after replay: "B<payload>" and "D<payload>" strung together.
Streams Replayed(StateLog& log, const std::string& prefix = "") {
  Streams out;
  CheckpointId last = 0;
  auto status = log.Replay(prefix, [&](Record&& r) -> Status {
    EXPECT_GE(r.checkpoint, last);
    last = r.checkpoint;
    EXPECT_TRUE(r.kind == RecordKind::kDelta || !out.contains(r.stream)) << r.stream;
    out[r.stream] += (r.kind == RecordKind::kBase ? "B" : "D") + r.payload;
    return {};
  });
  EXPECT_TRUE(status) << status.error().ToString();
  return out;
}

std::unique_ptr<StateLog> OpenLog(std::shared_ptr<io::ObjectStore> store) {
  auto log = StateLog::Open(std::move(store));
  EXPECT_TRUE(log) << log.error().ToString();
  return log ? std::move(*log) : nullptr;
}

struct Rec {
  std::string stream;
  RecordKind kind;
  std::string payload;
};
constexpr auto B = RecordKind::kBase;
constexpr auto D = RecordKind::kDelta;
constexpr auto X = RecordKind::kDrop;

Status CommitNow(StateLog& log, CheckpointId id, std::vector<Rec> records) {
  auto segment = std::make_unique<SegmentBuilder>(id);
  for (auto& r : records) segment->Add(r.stream, r.kind, r.payload);
  Status outcome = std::unexpected(EnvError(ErrorKind::kInternal, "done was not called"));
  log.Commit(std::move(segment), [&](Status s) { outcome = s; });
  (void)log.Flush();
  return outcome;
}

/// Waits for the cleaning thread.
template <class F>
bool Eventually(F f) {
  for (int i = 0; i < 500; i++) {
    if (f()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(StateLogTest, ReplaysNewestBaseAndDeltas) {
  auto store = io::NewMemoryStore();
  std::string big(100'000, 'x');
  {
    auto log = OpenLog(store);
    EXPECT_EQ(log->last(), 0u);
    EXPECT_EQ(log->generation(), 1u);
    ASSERT_TRUE(CommitNow(*log, 1, {{"a/1", B, "1"}, {"b", B, big}, {"only", D, "x"}}));
    ASSERT_TRUE(CommitNow(*log, 2, {{"a/1", D, "2"}, {"a/2", B, ""}}));
    ASSERT_TRUE(CommitNow(*log, 3, {}));
    ASSERT_TRUE(CommitNow(*log, 5, {{"b", B, "new"}, {"a/1", D, "3"}, {"only", D, "y"}}));
    EXPECT_EQ(log->last(), 5u);
  }
  auto log = OpenLog(store);
  EXPECT_EQ(log->last(), 5u);
  EXPECT_EQ(log->generation(), 2u);
  EXPECT_EQ(Replayed(*log), (Streams{{"a/1", "B1D2D3"}, {"a/2", "B"}, {"b", "Bnew"}, {"only", "DxDy"}}));
  EXPECT_EQ(Replayed(*log, "a/"), (Streams{{"a/1", "B1D2D3"}, {"a/2", "B"}}));
  EXPECT_GE(log->log_bytes(), log->live_bytes());
}

TEST(StateLogTest, TheLastRecordOfACheckpointWins) {
  auto store = io::NewMemoryStore();
  {
    auto log = OpenLog(store);
    ASSERT_TRUE(CommitNow(*log, 1, {{"s", B, "old"}, {"s", D, "d"}, {"s", B, "new"}, {"s", D, "e"}, {"t", B, "t"}}));
    ASSERT_TRUE(CommitNow(*log, 2, {{"t", D, "u"}, {"t", X, ""}, {"s", D, "f"}}));
  }
  EXPECT_EQ(Replayed(*OpenLog(store)), (Streams{{"s", "BnewDeDf"}}));
}

TEST(StateLogTest, CompressesWhereItHelps) {
  auto store = io::NewMemoryStore();
  std::mt19937_64 random(1);
  std::string noise, text(200'000, 'a');
  for (int i = 0; i < 10'000; i++) noise += char(random());
  {
    auto log = OpenLog(store);
    ASSERT_TRUE(CommitNow(*log, 1, {{"text", B, text}, {"noise", B, noise}}));
    EXPECT_LT(log->live_bytes(), 12'000u);
    EXPECT_GE(log->live_bytes(), noise.size());
  }
  EXPECT_EQ(Replayed(*OpenLog(store)), (Streams{{"text", "B" + text}, {"noise", "B" + noise}}));
}

TEST(StateLogTest, DroppedStreamsStayDropped) {
  auto store = io::NewMemoryStore();
  auto log = OpenLog(store);
  ASSERT_TRUE(CommitNow(*log, 1, {{"keep", B, "k"}, {"gone", B, "g"}}));
  ASSERT_TRUE(CommitNow(*log, 2, {{"gone", D, "h"}}));
  ASSERT_TRUE(CommitNow(*log, 3, {{"gone", X, ""}}));
  ASSERT_TRUE(CommitNow(*log, 4, {{"again", B, "1"}}));
  // The drop outlives cleaning as long as "gone" has a record beside "keep".
  EXPECT_TRUE(Eventually([&] { return !store->Stat("log/0000000000000003.seg"); }));
  EXPECT_TRUE(store->Stat("log/0000000000000004.seg"));
  log = OpenLog(store);
  EXPECT_EQ(Replayed(*log), (Streams{{"keep", "Bk"}, {"again", "B1"}}));
  // A new stream of the same name, without a base.
  ASSERT_TRUE(CommitNow(*log, 5, {{"gone", D, "new"}}));
  log = OpenLog(store);
  EXPECT_EQ(Replayed(*log), (Streams{{"keep", "Bk"}, {"again", "B1"}, {"gone", "Dnew"}}));
  ASSERT_TRUE(CommitNow(*log, 6, {{"keep", B, "K"}, {"again", B, "2"}}));
  ASSERT_TRUE(CommitNow(*log, 7, {{"gone", D, "er"}}));
  EXPECT_TRUE(Eventually([&] { return !store->Stat("log/0000000000000004.seg"); }));
  log = OpenLog(store);
  EXPECT_EQ(Replayed(*log), (Streams{{"keep", "BK"}, {"again", "B2"}, {"gone", "DnewDer"}}));
}

TEST(StateLogTest, DeletesDeadSegments) {
  auto store = io::NewMemoryStore();
  auto log = OpenLog(store);
  for (CheckpointId i = 1; i <= 50; i++)
    ASSERT_TRUE(CommitNow(*log, i, {{"s", B, std::string(1000, char('a' + i % 26))}}));
  EXPECT_TRUE(Eventually([&] { return store->List("log/")->size() == 2; }));  // the fence and the newest
  EXPECT_LT(log->log_bytes(), 1000u);
  EXPECT_LT(log->live_bytes(), log->log_bytes());
}

TEST(StateLogTest, AnOvertakenProcessGetsAConflict) {
  auto store = io::NewMemoryStore();
  auto old = OpenLog(store);
  ASSERT_TRUE(CommitNow(*old, 1, {{"s", B, "1"}}));
  auto now = OpenLog(store);
  EXPECT_GT(now->generation(), old->generation());
  EXPECT_EQ(CommitNow(*old, 2, {{"s", D, "lost"}}).error().kind, ErrorKind::kConflict);
  EXPECT_EQ(CommitNow(*old, 3, {{"s", D, "lost"}}).error().kind, ErrorKind::kConflict);
  ASSERT_TRUE(CommitNow(*now, 2, {{"s", D, "2"}}));
  EXPECT_EQ(Replayed(*OpenLog(store)), (Streams{{"s", "B1D2"}}));
}

TEST(StateLogTest, ManyOpenAtOnce) {
  auto store = io::NewMemoryStore();
  ASSERT_TRUE(CommitNow(*OpenLog(store), 1, {{"s", B, "1"}}));
  std::vector<std::unique_ptr<StateLog>> logs(6);
  std::vector<std::thread> threads;
  for (auto& log : logs) threads.emplace_back([&] { log = OpenLog(store); });
  for (auto& t : threads) t.join();
  std::set<uint64_t> generations;
  int won = 0;
  for (auto& log : logs) {
    generations.insert(log->generation());
    won += CommitNow(*log, 2, {{"s", D, "2"}}).has_value();
  }
  EXPECT_EQ(generations.size(), logs.size());
  EXPECT_EQ(won, 1);
}

TEST(StateLogTest, IgnoresAHalfWrittenLastSegment) {
  auto store = io::NewMemoryStore();
  {
    auto log = OpenLog(store);
    ASSERT_TRUE(CommitNow(*log, 1, {{"s", B, "1"}}));
    ASSERT_TRUE(CommitNow(*log, 2, {{"s", D, std::string(5000, 'x')}}));
  }
  std::string key = "log/0000000000000003.seg";
  std::string whole = *store->Get(key);
  for (size_t cut : {size_t{0}, size_t{10}, kSegmentHeaderBytes, whole.size() - 1}) {
    ASSERT_TRUE(store->Put(key, whole.substr(0, cut)));
    auto log = OpenLog(store);
    EXPECT_EQ(log->last(), 1u);
    EXPECT_EQ(Replayed(*log), (Streams{{"s", "B1"}}));
    log.reset();
    auto objects = *store->List("log/");
    for (auto& o : objects)
      if (o.key >= key) {
        ASSERT_TRUE(store->Delete(o.key));
      }
  }
}

TEST(StateLogTest, NamesTheDamagedObject) {
  auto store = io::NewMemoryStore();
  {
    auto log = OpenLog(store);
    ASSERT_TRUE(CommitNow(*log, 1, {{"s", B, std::string(300, 'b')}}));
    ASSERT_TRUE(CommitNow(*log, 2, {{"s", D, "some delta"}}));
    ASSERT_TRUE(CommitNow(*log, 3, {{"s", D, "another"}}));
  }
  std::string key = "log/0000000000000003.seg";
  std::string whole = *store->Get(key);
  auto expect_corrupt = [&](const char* what) {
    auto log = StateLog::Open(store);
    Status status = log ? (*log)->Replay("", [](Record&&) { return Status(); }) : std::unexpected(log.error());
    ASSERT_FALSE(status) << what;
    EXPECT_TRUE(status.error().kind == ErrorKind::kCorrupt || status.error().kind == ErrorKind::kUnsupported) << what;
    EXPECT_NE(status.error().message.find("log/"), std::string::npos) << status.error().message;
  };
  for (size_t i = 0; i < whole.size(); i++) {
    std::string bad = whole;
    bad[i] ^= 0x10;
    ASSERT_TRUE(store->Put(key, bad));
    expect_corrupt(("byte " + std::to_string(i)).c_str());
  }
  ASSERT_TRUE(store->Put(key, whole.substr(0, whole.size() - 1)));
  expect_corrupt("cut in the middle of the log");
  ASSERT_TRUE(store->Delete(key));
  expect_corrupt("a lost delta");
  ASSERT_TRUE(store->Put(key, whole));
  ASSERT_TRUE(store->Delete("log/0000000000000002.seg"));
  expect_corrupt("a lost base");
}

TEST(StateLogTest, MergesOldSegments) {
  auto store = io::NewMemoryStore();
  Streams expected;
  CheckpointId id = 0;
  std::mt19937 random(3);
  for (int round = 0; round < 4; round++) {
    auto log = OpenLog(store);
    EXPECT_EQ(Replayed(*log), expected);
    for (int i = 0; i < 150; i++) {
      std::string stream = "s" + std::to_string(random() % 20);
      std::string payload = std::to_string(++id);
      auto kind = random() % 40;
      if (kind == 0) expected.erase(stream);
      if (kind == 1) expected[stream] = "B" + payload;
      if (kind > 1) expected[stream] += "D" + payload;
      ASSERT_TRUE(CommitNow(*log, id, {{stream, kind == 0 ? X : kind == 1 ? B : D, kind ? payload : ""}}));
    }
    EXPECT_TRUE(Eventually([&] { return store->List("log/")->size() < 100; })) << store->List("log/")->size();
  }
  auto log = OpenLog(store);
  EXPECT_EQ(Replayed(*log), expected);
  EXPECT_EQ(log->last(), id);
}

TEST(StateLogTest, WritesInOrderAndCallsBack) {
  auto store = io::NewMemoryStore();
  auto log = OpenLog(store);
  std::vector<CheckpointId> done;
  for (CheckpointId i = 1; i <= 100; i++) {
    auto segment = std::make_unique<SegmentBuilder>(i);
    segment->Add("s", D, "x");
    EXPECT_GT(segment->bytes(), 0u);
    log->Commit(std::move(segment), [&done, i](Status s) {
      EXPECT_TRUE(s);
      done.push_back(i);
    });
  }
  ASSERT_TRUE(log->Flush());
  ASSERT_EQ(done.size(), 100u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(log->last(), 100u);
}

/// Commits until the store fails or `n` checkpoints are in; returns the last confirmed.
CheckpointId CommitMany(StateLog& log, CheckpointId id, int n, uint64_t seed,
                        std::map<CheckpointId, Streams>& history) {
  std::mt19937_64 random(seed ^ id);
  CheckpointId confirmed = id;
  for (int i = 0; i < n; i++) {
    Streams next = history[confirmed];
    std::string stream = "s" + std::to_string(random() % 6);
    std::string payload = std::to_string(random() % 1000);
    auto kind = random() % 8;
    if (kind == 0) next.erase(stream);
    if (kind == 1) next[stream] = "B" + payload;
    if (kind > 1) next[stream] += "D" + payload;
    history[confirmed + 1] = next;
    if (!CommitNow(log, confirmed + 1, {{stream, kind == 0 ? X : kind == 1 ? B : D, kind ? payload : ""}})) break;
    confirmed++;
  }
  return confirmed;
}

/// The store dies at each of its writes in turn, cleaning and merging included; what was confirmed is always there.
TEST(StateLogTest, SurvivesACrashAtEveryWrite) {
  for (uint64_t at = 1; at < 170; at++) {
    auto inner = io::NewMemoryStore();
    std::map<CheckpointId, Streams> history;
    CheckpointId confirmed = 0;
    for (uint64_t life = 0; life < 3; life++) {
      auto store = std::make_shared<io::FaultyStore>(inner, at, io::FaultyStore::Mode::kCrash, at + life * 3);
      auto log = StateLog::Open(store);
      if (!log) continue;
      CheckpointId last = (*log)->last();
      ASSERT_GE(last, confirmed);
      ASSERT_LE(last, confirmed + 1);
      ASSERT_EQ(Replayed(**log), history[last]) << "write " << at << " life " << life;
      confirmed = CommitMany(**log, last, 90, at * 3 + life, history);
    }
    auto log = OpenLog(inner);
    ASSERT_TRUE(log);
    ASSERT_LE(confirmed, log->last());
    ASSERT_EQ(Replayed(*log), history[log->last()]) << "write " << at;
  }
}

/// Answers get lost; the log stops with an error and the next one goes on.
TEST(StateLogTest, SurvivesAnUnreliableStore) {
  auto inner = io::NewMemoryStore();
  std::map<CheckpointId, Streams> history;
  CheckpointId confirmed = 0;
  for (uint64_t life = 0; life < 200; life++) {
    auto store = std::make_shared<io::FaultyStore>(inner, life, io::FaultyStore::Mode::kRandom, 1);
    auto log = StateLog::Open(store);
    if (!log) continue;
    CheckpointId last = (*log)->last();
    ASSERT_GE(last, confirmed);
    ASSERT_EQ(Replayed(**log), history[last]) << "life " << life;
    confirmed = CommitMany(**log, last, 40, life, history);
  }
  EXPECT_GT(confirmed, 200u);
}

/// A child writes checkpoints to a local folder and is killed; every checkpoint it saw confirmed is there.
TEST(StateLogTest, SurvivesKill) {
  std::string folder = fs::temp_directory_path() / "tidewater-log-XXXXXX";
  mkdtemp(folder.data());
  CheckpointId last = 0;
  for (int round = 0; round < 12; round++) {
    int pipe_fd[2];
    ASSERT_EQ(pipe(pipe_fd), 0);
    pid_t child = fork();
    if (child == 0) {
      close(pipe_fd[0]);
      const char* points[] = {"checkpoint.before_write:5", "checkpoint.after_write:9"};
      if (round % 3 < 2) setenv("TIDEWATER_FAULT", points[round % 3], 1);
      auto log = StateLog::Open(*io::OpenStore(folder));
      if (!log) _exit(1);
      for (CheckpointId id = (*log)->last() + 1;; id++) {
        auto segment = std::make_unique<SegmentBuilder>(id);
        segment->Add("count", B, std::to_string(id));
        segment->Add("all", D, std::to_string(id) + ",");
        (*log)->Commit(std::move(segment), [&, id](Status s) {
          if (!s) {
            fprintf(stderr, "%s\n", s.error().ToString().c_str());
            _exit(2);
          }
          if (write(pipe_fd[1], &id, sizeof id) != sizeof id) _exit(3);
        });
        (void)(*log)->Flush();
      }
    }
    close(pipe_fd[1]);
    CheckpointId confirmed = last, id;
    int n = 0;
    while (read(pipe_fd[0], &id, sizeof id) == sizeof id) {
      confirmed = id;
      if (++n == 30 + round) kill(child, SIGKILL);
    }
    close(pipe_fd[0]);
    int status;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    auto log = OpenLog(*io::OpenStore(folder));
    ASSERT_TRUE(log);
    EXPECT_GE(log->last(), confirmed);
    EXPECT_LE(log->last(), confirmed + 1);
    last = log->last();
    std::string all;
    for (CheckpointId i = 1; i <= last; i++) all += "D" + std::to_string(i) + ",";
    EXPECT_EQ(Replayed(*log), (Streams{{"all", all}, {"count", "B" + std::to_string(last)}}));
  }
  fs::remove_all(folder);
}

TEST(SegmentTest, Keys) {
  uint64_t first, last;
  EXPECT_EQ(SegmentKey(7, 7), "log/0000000000000007.seg");
  ASSERT_TRUE(ParseSegmentKey(SegmentKey(64, 127), first, last));
  EXPECT_EQ(first, 64u);
  EXPECT_EQ(last, 127u);
  for (auto key : {"log/7.seg", "log/0000000000000007", "log/000000000000000x.seg", "log/.seg",
                   "log/0000000000000009-0000000000000007.seg", "log/0000000000000007-0000000000000007.seg"})
    EXPECT_FALSE(ParseSegmentKey(key, first, last)) << key;
}

}  // namespace
}  // namespace tidewater::state
