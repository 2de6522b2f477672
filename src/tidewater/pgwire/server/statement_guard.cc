#include "tidewater/pgwire/server/statement_guard.h"
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include "tidewater/base/clock.h"
#include "tidewater/pgwire/protocol/scram.h"

namespace tidewater::pgwire {

CancelRegistry::Key CancelRegistry::Add(RunningStatement* statement) {
  std::lock_guard lock(mutex_);
  while (true) {
    Key key;
    auto random = RandomBytes(sizeof key);
    std::memcpy(&key, random.data(), sizeof key);
    key.process_id &= 0x7fffffff;
    if (key.process_id == 0 || !entries_.emplace(key.process_id, std::pair(key.secret, statement)).second) continue;
    return key;
  }
}

void CancelRegistry::Remove(Key key) {
  std::lock_guard lock(mutex_);
  entries_.erase(key.process_id);
}

void CancelRegistry::Cancel(Key key) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(key.process_id);
  if (found == entries_.end() || found->second.first != key.secret) return;
  found->second.second->Cancel(RunningStatement::Reason::kRequest);
}

void CancelRegistry::CancelAll() {
  std::lock_guard lock(mutex_);
  for (auto& [id, entry] : entries_) entry.second->Cancel(RunningStatement::Reason::kRequest);
}

StatementTimer::~StatementTimer() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

uint64_t StatementTimer::Arm(int64_t timeout_ms, RunningStatement* statement) {
  std::lock_guard lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { Loop(); });
  uint64_t ticket = next_ticket_++;
  int64_t deadline = MonotonicMicros() + timeout_ms * 1000;
  due_[{deadline, ticket}] = statement;
  deadlines_[ticket] = deadline;
  wake_.notify_all();
  return ticket;
}

void StatementTimer::Disarm(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  auto found = deadlines_.find(ticket);
  if (found == deadlines_.end()) return;
  due_.erase({found->second, ticket});
  deadlines_.erase(found);
}

void StatementTimer::Loop() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (due_.empty()) {
      wake_.wait(lock);
      continue;
    }
    auto first = due_.begin();
    int64_t wait_us = first->first.first - MonotonicMicros();
    if (wait_us > 0) {
      wake_.wait_for(lock, std::chrono::microseconds(wait_us));
      continue;
    }
    first->second->Cancel(RunningStatement::Reason::kTimeout);
    deadlines_.erase(first->first.second);
    due_.erase(first);
  }
}

int64_t ParseTimeoutMs(const std::string& text) {
  double number = 0;
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc()) return 0;
  std::string_view unit(parsed.ptr, size_t(text.data() + text.size() - parsed.ptr));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  struct {
    std::string_view name;
    double ms;
  } units[] = {{"", 1}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"min", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};
  for (auto& u : units) {
    double ms = std::ceil(number * u.ms);
    if (unit == u.name) return ms > 0 && ms < 2147483647.0 ? int64_t(ms) : 0;
  }
  return 0;
}

}  // namespace tidewater::pgwire
