// Cancelling what runs: by a client's CancelRequest, by statement_timeout, by the server's stop.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include "tidewater/engine/session.h"

namespace tidewater::pgwire {

/// The statement that a connection runs, if any. Any thread may cancel; a cancel that comes between statements does
/// nothing.
class RunningStatement {
 public:
  enum class Reason { kNone, kRequest, kTimeout };
  void Begin(engine::Session* session) {
    std::lock_guard lock(mutex_);
    session_ = session;
    reason_ = Reason::kNone;
  }
  /// Why it was cancelled meanwhile.
  Reason End() {
    std::lock_guard lock(mutex_);
    session_ = nullptr;
    return reason_;
  }
  void Cancel(Reason reason) {
    std::lock_guard lock(mutex_);
    if (!session_) return;
    if (reason_ == Reason::kNone) reason_ = reason;
    session_->Cancel();
  }

 private:
  std::mutex mutex_;
  engine::Session* session_ = nullptr;
  Reason reason_ = Reason::kNone;
};

/// Which connection a CancelRequest means: process id and secret key, as BackendKeyData told the client.
class CancelRegistry {
 public:
  struct Key {
    uint32_t process_id = 0, secret = 0;
  };
  Key Add(RunningStatement* statement);
  void Remove(Key key);
  /// Does nothing when the key is not known.
  void Cancel(Key key);
  void CancelAll();

 private:
  std::mutex mutex_;
  std::map<uint32_t, std::pair<uint32_t, RunningStatement*>> entries_;
};

/// One thread that cancels statements when their time is over; started with the first one.
class StatementTimer {
 public:
  ~StatementTimer();
  /// Returns a ticket for Disarm.
  uint64_t Arm(int64_t timeout_ms, RunningStatement* statement);
  /// After it returns, the statement is not touched any more.
  void Disarm(uint64_t ticket);

 private:
  void Loop();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::pair<int64_t, uint64_t>, RunningStatement*> due_;  ///< (monotonic µs, ticket)
  std::map<uint64_t, int64_t> deadlines_;
  uint64_t next_ticket_ = 1;
  bool stop_ = false;
  std::thread thread_;
};

/// "5s", "1500", "2min": milliseconds as PostgreSQL reads such a setting; 0 (off) when it is empty or malformed.
int64_t ParseTimeoutMs(const std::string& text);

}  // namespace tidewater::pgwire
