#include "tidewater/base/mutex.h"
#include "tidewater/io/memory_store.h"
#include "tidewater/base/clock.h"
#include "tidewater/io/object_key.h"

namespace tidewater::io {
namespace {
class MemoryStore final : public ObjectStore {
 public:
  std::string Uri() const override { return "memory:"; }

  Status Put(const std::string& key, std::string_view bytes) override {
    TW_TRY(CheckKey(key));
    MutexLock lock(mutex_);
    objects_[key] = {std::string(bytes), WallMicros() / 1000};
    return {};
  }

  Status PutIfAbsent(const std::string& key, std::string_view bytes) override {
    TW_TRY(CheckKey(key));
    MutexLock lock(mutex_);
    if (!objects_.try_emplace(key, Object{std::string(bytes), WallMicros() / 1000}).second)
      return std::unexpected(EnvError(ErrorKind::kAlreadyExists, "\"{}\" exists", key));
    return {};
  }

  Result<std::string> PutIfMatch(const std::string& key, std::string_view bytes, const std::string& etag) override {
    TW_TRY(CheckKey(key));
    MutexLock lock(mutex_);
    auto it = objects_.find(key);
    if (it == objects_.end() || ContentTag(it->second.bytes) != etag)
      return std::unexpected(EnvError(ErrorKind::kCommitFailed, "\"{}\" was changed by another writer", key));
    it->second = {std::string(bytes), WallMicros() / 1000};
    return ContentTag(bytes);
  }

  Result<std::pair<std::string, std::string>> GetWithTag(const std::string& key) override {
    TW_ASSIGN(std::string bytes, Get(key));
    std::string tag = ContentTag(bytes);
    return std::pair(std::move(bytes), std::move(tag));
  }

  Result<std::string> Get(const std::string& key) override { return GetRange(key, 0, ~uint64_t{0}); }

  Result<std::string> GetRange(const std::string& key, uint64_t offset, uint64_t length) override {
    TW_TRY(CheckKey(key));
    MutexLock lock(mutex_);
    auto it = objects_.find(key);
    if (it == objects_.end()) return Missing(key);
    if (offset >= it->second.bytes.size()) return std::string();
    return it->second.bytes.substr(offset, length);
  }

  Result<ObjectInfo> Stat(const std::string& key) override {
    TW_TRY(CheckKey(key));
    MutexLock lock(mutex_);
    auto it = objects_.find(key);
    if (it == objects_.end()) return Missing(key);
    return ObjectInfo{key, it->second.bytes.size(), it->second.modified_ms};
  }

  Result<std::vector<ObjectInfo>> List(const std::string& prefix) override {
    TW_TRY(CheckPrefix(prefix));
    MutexLock lock(mutex_);
    std::vector<ObjectInfo> out;
    for (auto it = objects_.lower_bound(prefix); it != objects_.end() && it->first.starts_with(prefix); ++it)
      out.push_back({it->first, it->second.bytes.size(), it->second.modified_ms});
    return out;
  }

  Status Delete(const std::string& key) override {
    TW_TRY(CheckKey(key));
    MutexLock lock(mutex_);
    objects_.erase(key);
    return {};
  }

 private:
  struct Object {
    std::string bytes;
    int64_t modified_ms;
  };
  static std::unexpected<Error> Missing(const std::string& key) {
    return std::unexpected(EnvError(ErrorKind::kNotFound, "\"{}\" does not exist", key));
  }

  Mutex mutex_;
  std::map<std::string, Object> objects_ GUARDED_BY(mutex_);
};
}  // namespace

std::shared_ptr<ObjectStore> NewMemoryStore() { return std::make_shared<MemoryStore>(); }

}  // namespace tidewater::io
