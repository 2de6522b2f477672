#include "tidewater/state/wal.h"
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sys/wait.h>
#include <unistd.h>
#include <gtest/gtest.h>
#include "tidewater/state/state_log.h"

namespace tidewater::state {
namespace {
namespace fs = std::filesystem;
using Entries = std::map<uint64_t, std::string>;

class WalTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string uri = GetParam();
    if (uri == "local") {
      folder_ = fs::temp_directory_path() / "tidewater-wal-XXXXXX";
      uri = mkdtemp(folder_.data());
    }
    store_ = *io::OpenStore(uri);
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }
  std::unique_ptr<WriteAheadLog> Open() {
    auto wal = WriteAheadLog::Open(store_, ++generation_);
    EXPECT_TRUE(wal) << wal.error().ToString();
    return wal ? std::move(*wal) : nullptr;
  }
  static Entries Replayed(WriteAheadLog& wal, uint64_t after = 0) {
    Entries out;
    auto status = wal.Replay(after, [&](uint64_t n, std::string&& payload) -> Status {
      out[n] = payload;
      return {};
    });
    EXPECT_TRUE(status) << status.error().ToString();
    return out;
  }
  /// Appends and waits.
  static Status AppendNow(WriteAheadLog& wal, const std::string& payload) {
    std::mutex m;
    std::condition_variable cv;
    std::optional<Status> outcome;
    wal.Append(payload, [&](Status s) {
      std::lock_guard lock(m);
      outcome = s;
      cv.notify_all();
    });
    std::unique_lock lock(m);
    cv.wait(lock, [&] { return outcome.has_value(); });
    return *outcome;
  }
  std::vector<std::string> Files() {
    std::vector<std::string> keys;
    auto objects = *store_->List("wal/");
    for (auto& o : objects)
      if (o.key.ends_with(".wal")) keys.push_back(o.key);
    return keys;
  }

  std::string folder_;
  std::shared_ptr<io::ObjectStore> store_;
  uint64_t generation_ = 0;
};

TEST_P(WalTest, ReplaysWhatWasAppended) {
  {
    auto wal = Open();
    EXPECT_EQ(Replayed(*wal), Entries{});
    EXPECT_EQ(wal->next_sequence(), 1u);
    EXPECT_EQ(wal->Append("one", nullptr), 1u);
    EXPECT_EQ(wal->Append("", nullptr), 2u);
    ASSERT_TRUE(AppendNow(*wal, std::string(100'000, 'x')));
  }
  for (int i = 0; i < 3; i++) {
    auto wal = Open();
    EXPECT_EQ(Replayed(*wal), (Entries{{1, "one"}, {2, ""}, {3, std::string(100'000, 'x')}}));
    EXPECT_EQ(Replayed(*wal, 2).size(), 1u);
    EXPECT_EQ(wal->next_sequence(), 4u);
    EXPECT_EQ(Files().size(), 1u);
  }
  auto wal = Open();
  (void)Replayed(*wal, 3);
  ASSERT_TRUE(AppendNow(*wal, "four"));
  wal.reset();
  EXPECT_EQ(Replayed(*Open(), 3), (Entries{{4, "four"}}));
}

TEST_P(WalTest, NumbersGoOnWhenEverythingIsTruncated) {
  auto wal = Open();
  EXPECT_EQ(Replayed(*wal, 41), Entries{});
  EXPECT_EQ(wal->Append("x", nullptr), 42u);
}

TEST_P(WalTest, DeletesWhatACheckpointCovers) {
  auto wal = Open();
  for (int i = 0; i < 40; i++) ASSERT_TRUE(AppendNow(*wal, std::string(1'000'000, 'x')));
  EXPECT_GE(Files().size(), 3u);
  wal->Truncate(39);
  for (int i = 0; i < 500 && Files().size() > 1; i++) usleep(10'000);
  EXPECT_EQ(Files().size(), 1u);
  wal.reset();
  wal = Open();
  auto rest = Replayed(*wal, 39);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest.begin()->first, 40u);
  wal->Truncate(40);
  for (int i = 0; i < 500 && Files().size() > 0; i++) usleep(10'000);
  EXPECT_EQ(Files().size(), 0u);
}

TEST_P(WalTest, AnOvertakenProcessGetsAConflict) {
  auto old = Open();
  ASSERT_TRUE(AppendNow(*old, "1"));
  auto now = Open();
  EXPECT_EQ(AppendNow(*old, "lost").error().kind, ErrorKind::kConflict);
  EXPECT_EQ(AppendNow(*old, "lost").error().kind, ErrorKind::kConflict);
  EXPECT_EQ(Replayed(*now), (Entries{{1, "1"}}));
  ASSERT_TRUE(AppendNow(*now, "2"));
  EXPECT_EQ(WriteAheadLog::Open(store_, 1).error().kind, ErrorKind::kConflict);
  EXPECT_EQ(Replayed(*Open()), (Entries{{1, "1"}, {2, "2"}}));
}

TEST_P(WalTest, ATornTailEndsTheLog) {
  {
    auto wal = Open();
    for (auto text : {"one", "two", "three"}) ASSERT_TRUE(AppendNow(*wal, text));
  }
  auto files = Files();
  std::string key = files.back();
  std::string whole = *store_->Get(key);
  auto marker = *store_->Get("wal/generation");
  for (size_t cut = 0; cut <= whole.size(); cut += 3) {
    for (auto& f : Files()) ASSERT_TRUE(f == key || files.size() > 1 || store_->Delete(f));
    ASSERT_TRUE(store_->Put("wal/generation", marker));
    ASSERT_TRUE(store_->Put(key, whole.substr(0, cut) + (cut % 2 ? std::string(30, '\0') : "")));
    if (files.size() > 1) break;  // one object per group: only the last can be torn
    auto wal = Open();
    auto got = Replayed(*wal);
    EXPECT_EQ(got.size(), cut == whole.size() ? 3u : cut < 39 ? 0u : cut < 62 ? 1u : 2u) << cut;
    for (auto& [n, payload] : got) EXPECT_EQ(payload, n == 1 ? "one" : n == 2 ? "two" : "three");
  }
}

TEST_P(WalTest, AHoleIsCorrupt) {
  {
    auto wal = Open();
    (void)Replayed(*wal, 9);
    ASSERT_TRUE(AppendNow(*wal, "ten"));
  }
  auto wal = Open();
  EXPECT_EQ(wal->Replay(8, [](uint64_t, std::string&&) { return Status(); }).error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(Replayed(*wal, 9), (Entries{{10, "ten"}}));
}

INSTANTIATE_TEST_SUITE_P(Stores, WalTest, testing::Values("local", "memory:"),
                         [](auto& info) { return std::string(info.param, 5); });

TEST(WalFormatTest, DamageBeforeTheTailIsCorrupt) {
  std::string bytes = WalHeader(3);
  AppendWalFrame(1, "one", bytes);
  AppendWalFrame(2, "two", bytes);
  std::vector<WalEntry> entries;
  ASSERT_TRUE(ParseWal(bytes, 3, "x", false, entries));
  EXPECT_EQ(entries.size(), 2u);
  for (size_t i = 0; i < bytes.size(); i++) {
    std::string bad = bytes;
    bad[i] ^= 1;
    entries.clear();
    auto status = ParseWal(bad, 3, "wal/x", false, entries);
    ASSERT_FALSE(status) << i;
    EXPECT_NE(status.error().message.find("wal/x"), std::string::npos);
  }
  AppendWalFrame(4, "four", bytes);
  entries.clear();
  EXPECT_FALSE(ParseWal(bytes, 3, "x", true, entries));
}

/// A child appends to a local log and is killed; what it saw confirmed is there, in order.
TEST(WalKillTest, SurvivesKill) {
  std::string folder = fs::temp_directory_path() / "tidewater-wal-XXXXXX";
  mkdtemp(folder.data());
  uint64_t last = 0;
  for (uint64_t round = 1; round <= 12; round++) {
    int pipe_fd[2];
    ASSERT_EQ(pipe(pipe_fd), 0);
    pid_t child = fork();
    if (child == 0) {
      close(pipe_fd[0]);
      if (round % 2) setenv("TIDEWATER_FAULT", "wal.before_sync:7", 1);
      auto wal = WriteAheadLog::Open(*io::OpenStore(folder), 2 * round);
      if (!wal || !(*wal)->Replay(0, [](uint64_t, std::string&&) { return Status(); })) _exit(1);
      for (;;) {
        uint64_t next = (*wal)->next_sequence();
        (*wal)->Append("entry " + std::to_string(next), [&, next](Status s) {
          if (!s || write(pipe_fd[1], &next, sizeof next) != sizeof next) _exit(2);
        });
        if (next % 3 == 0) usleep(1000);
      }
    }
    close(pipe_fd[1]);
    uint64_t confirmed = last, n;
    int count = 0;
    while (read(pipe_fd[0], &n, sizeof n) == sizeof n) {
      EXPECT_EQ(n, ++confirmed);
      if (++count == 60) kill(child, SIGKILL);
    }
    close(pipe_fd[0]);
    int status;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    auto wal = WriteAheadLog::Open(*io::OpenStore(folder), 2 * round + 1);
    ASSERT_TRUE(wal) << wal.error().ToString();
    last = 0;
    auto replay = (*wal)->Replay(0, [&](uint64_t sequence, std::string&& payload) -> Status {
      EXPECT_EQ(sequence, ++last);
      EXPECT_EQ(payload, "entry " + std::to_string(sequence));
      return {};
    });
    ASSERT_TRUE(replay);
    EXPECT_GE(last, confirmed);
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace tidewater::state
