#include "tidewater/base/crash_note.h"
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>
#include "tidewater/base/check.h"

namespace tidewater::crash_note {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitizer = true;  // it takes the signals for itself
#else
constexpr bool kSanitizer = false;
#endif

class CrashNote : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kSanitizer) GTEST_SKIP();
    char name[] = "/tmp/crash_note_XXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/notes";
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }
  /// The signal by which a child dies that does `work` with the handler in place; 0 when it ends.
  int Die(const std::function<void()>& work) {
    pid_t child = fork();
    if (child == 0) {
      rlimit none{0, 0};
      setrlimit(RLIMIT_CORE, &none);
      if (!Install(path_)) _exit(3);
      SetCheckpoint(42);
      std::thread([&] {
        HandlerStack stack;
        work();
      }).join();
      Uninstall(true);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  std::string directory_, path_;
};

// Not optimized away, and deep.
int Recurse(volatile int* depth) {
  volatile char frame[4096];
  frame[0] = char(*depth);
  *depth = *depth + 1;
  return *depth < 1 << 30 ? Recurse(depth) + frame[0] : 0;
}

TEST_F(CrashNote, EachSignalLeavesOne) {
  EXPECT_EQ(Die([] {
              WorkingFor work(7, 3);
              *static_cast<volatile int*>(nullptr) = 1;
            }),
            SIGSEGV);
  EXPECT_EQ(Die([] {
              WorkingFor work(8, 0);
              abort();
            }),
            SIGABRT);
  EXPECT_EQ(Die([] {
              WorkingFor outer(9);
              {
                WorkingFor inner(1, 1);
              }
              volatile int zero = 0;
              zero = 100 / zero;
            }),
            SIGFPE);
  EXPECT_EQ(Die([] {
              WorkingFor work(10, 2);
              volatile int depth = 0;
              Recurse(&depth);
            }),
            SIGSEGV);
  EXPECT_EQ(Die([] {
              WorkingFor work(11);
              TW_CHECK(false, "a check");
            }),
            SIGABRT);
  auto notes = Read(path_);
  ASSERT_EQ(notes.size(), 5u);
  std::vector<std::tuple<ObjectId, int32_t, int32_t>> seen;
  for (auto& n : notes) {
    EXPECT_EQ(n.checkpoint, 42u);
    EXPECT_GT(n.wall_time_us, 1'600'000'000'000'000);
    seen.emplace_back(n.object, n.part, n.signal);
  }
  EXPECT_EQ(seen, (std::vector<std::tuple<ObjectId, int32_t, int32_t>>{
                      {7, 3, SIGSEGV}, {8, 0, SIGABRT}, {9, -1, SIGFPE}, {10, 2, SIGSEGV}, {11, -1, SIGABRT}}));
}

TEST_F(CrashNote, NobodysCrashLeavesNone) {
  EXPECT_EQ(Die([] { *static_cast<volatile int*>(nullptr) = 1; }), SIGSEGV);
  EXPECT_TRUE(Read(path_).empty());
  EXPECT_EQ(Die([] {}), 0);
}

TEST_F(CrashNote, WhatIsNoNoteIsPassedOver) {
  std::vector<Note> notes = {{5, 100, 7, 3, SIGSEGV}, {6, 200, 8, -1, SIGABRT}};
  ASSERT_TRUE(Write(path_, notes));
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(20);
  file.put('x');
  file.seekp(0, std::ios::end);
  file.write("tail", 4);
  file.close();
  auto read = Read(path_);
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(read[0].object, 8u);
  EXPECT_TRUE(Read(path_ + ".none").empty());
}

TEST(CrashNoteRule, TwoAtOneCheckpointOrThreeInTenMinutes) {
  const int64_t minute = 60'000'000, now = 100 * minute;
  auto blamed = [&](std::vector<Note> notes) {
    std::vector<ObjectId> out;
    for (auto& n : Blamed(notes, 5, now)) out.push_back(n.object);
    return out;
  };
  EXPECT_TRUE(blamed({}).empty());
  EXPECT_TRUE(blamed({{5, now - minute, 1}, {4, now - minute, 1}, {5, now - minute, 2}}).empty());
  EXPECT_EQ(blamed({{5, 0, 1}, {5, 1, 1}}), std::vector<ObjectId>{1});
  EXPECT_EQ(blamed({{1, now - 3 * minute, 1}, {2, now - 2 * minute, 1}, {4, now - minute, 1}}),
            std::vector<ObjectId>{1});
  EXPECT_TRUE(blamed({{1, now - 30 * minute, 1}, {2, now - 2 * minute, 1}, {4, now - minute, 1}}).empty());
}

TEST(ChecksThrow, OnlyWhileItLives) {
  {
    ChecksThrow checks;
    EXPECT_THROW(TW_CHECK_EQ(1, 2), CheckError);
    try {
      TW_CHECK(false, "of {} rows", 3);
    } catch (const CheckError& e) {
      EXPECT_NE(std::string(e.what()).find("of 3 rows"), std::string::npos) << e.what();
    }
  }
  EXPECT_DEATH(TW_CHECK(false, "gone"), "gone");
}

}  // namespace
}  // namespace tidewater::crash_note
