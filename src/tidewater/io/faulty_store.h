// A store that fails on purpose: for tests of what happens between two writes.
#pragma once
#include <atomic>
#include <memory>
#include "tidewater/io/object_store.h"

namespace tidewater::io {

/// Passes everything on to another store until its n-th operation that writes (Put, PutIfAbsent, PutIfMatch, Delete;
/// from 1). Never a local folder, so that all writes come through here. Thread-safe.
class FaultyStore final : public ObjectStore {
 public:
  enum class Mode {
    kFail,   ///< that operation does nothing and fails with kUnavailable; the next ones work
    kCrash,  ///< that operation and all after it, reads too, fail with kIo, as if the process had died; half of them by
             ///< `seed` have taken effect before
    kRandom,  ///< from that operation on one in eight operations fails with kUnavailable, half of these after taking
              ///< effect
  };
  FaultyStore(std::shared_ptr<ObjectStore> inner, uint64_t seed, Mode mode, uint64_t at)
      : inner_(std::move(inner)), seed_(seed), mode_(mode), at_(at) {}

  /// Writes seen so far, to learn how many there are to fail.
  uint64_t writes() const { return writes_; }
  bool crashed() const { return crashed_; }

  std::string Uri() const override { return inner_->Uri(); }
  Status Put(const std::string& key, std::string_view bytes) override;
  Status PutIfAbsent(const std::string& key, std::string_view bytes) override;
  Result<std::string> PutIfMatch(const std::string& key, std::string_view bytes, const std::string& etag) override;
  Result<std::pair<std::string, std::string>> GetWithTag(const std::string& key) override;
  Result<std::string> Get(const std::string& key) override;
  Result<std::string> GetRange(const std::string& key, uint64_t offset, uint64_t length) override;
  Result<ObjectInfo> Stat(const std::string& key) override;
  Result<std::vector<ObjectInfo>> List(const std::string& prefix) override;
  Status Delete(const std::string& key) override;

 private:
  enum class Fate { kPass, kFailBefore, kFailAfter };
  Fate NextWrite();
  Error Failure() const;
  template <class F>
  auto Write(F operation) -> decltype(operation());
  template <class F>
  auto Read(F operation) -> decltype(operation());

  const std::shared_ptr<ObjectStore> inner_;
  const uint64_t seed_;
  const Mode mode_;
  const uint64_t at_;
  std::atomic<uint64_t> writes_{0};
  std::atomic<bool> crashed_{false};
};

}  // namespace tidewater::io
