#include "tidewater/sinks/blackhole/blackhole.h"
#include <chrono>
#include "tidewater/base/mutex.h"
#include "tidewater/sinks/api/sink.h"

namespace tidewater {
namespace {

class BlackholeSink final : public Sink {
 public:
  Status Start() override {
    MutexLock lock(mutex_);
    status_.state = SinkState::kRunning;
    return {};
  }
  void Load(CheckpointId, uint64_t rows, std::function<DeltaBatch()>) override {
    MutexLock lock(mutex_);
    status_.log_rows += rows;
  }
  void Append(CheckpointId id, DeltaBatch rows) override {
    MutexLock lock(mutex_);
    if (id <= status_.committed) return;
    status_.log_rows += rows.rows();
  }
  void CheckpointDurable(CheckpointId id, int64_t) override {
    {
      MutexLock lock(mutex_);
      status_.committed = id;
      status_.commits++;
      // Rows of the next checkpoint may be among them already: counted a moment early.
      status_.rows_written += std::exchange(status_.log_rows, 0);
    }
    committed_.NotifyAll();
  }
  SinkStatus GetStatus() override {
    MutexLock lock(mutex_);
    return status_;
  }
  Status WaitCommitted(CheckpointId id, int64_t timeout_ms) override {
    MutexLock lock(mutex_);
    auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (status_.committed < id && status_.state != SinkState::kStopped && committed_.WaitUntil(mutex_, end)) {
    }
    if (status_.committed >= id) return {};
    if (status_.state == SinkState::kStopped)
      return std::unexpected(EnvError(ErrorKind::kCancelled, "the sink is stopped"));
    return std::unexpected(EnvError(ErrorKind::kUnavailable, "checkpoint {} is not durable yet", id));
  }
  void Stop() override {
    MutexLock lock(mutex_);
    status_.state = SinkState::kStopped;
    committed_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar committed_;
  SinkStatus status_ GUARDED_BY(mutex_);
};

}  // namespace

void RegisterBlackhole() {
  SinkConnector c;
  c.name = "blackhole";
  c.keeps_log = false;
  c.validate = [](const std::map<std::string, std::string>& with, const Schema&) -> Status {
    for (auto& [name, value] : with)
      if (name != "connector" && name != "type")
        return std::unexpected(UserError("22023", "unknown option \"{}\" of connector 'blackhole'", name));
    return {};
  };
  c.make = [](SinkOptions) -> Result<std::unique_ptr<Sink>> { return std::make_unique<BlackholeSink>(); };
  SinkRegistry::Get().Register(std::move(c));
}

}  // namespace tidewater
