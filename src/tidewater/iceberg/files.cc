#include "tidewater/iceberg/files.h"
#include <random>
#include "tidewater/base/log.h"
#include "tidewater/base/mutex.h"
#include "tidewater/iceberg/manifest.h"

namespace tidewater::iceberg {
namespace {

/// Least recently used first out; the weight of an entry is how many items it holds, at least one.
template <class T>
class Cache {
 public:
  std::shared_ptr<const std::vector<T>> Find(const std::string& key) {
    auto it = map_.find(key);
    if (it == map_.end()) return nullptr;
    order_.splice(order_.begin(), order_, it->second);
    return it->second->second;
  }

  void Put(const std::string& key, std::shared_ptr<const std::vector<T>> value) {
    Erase(key);
    weight_ += Weight(*value);
    order_.emplace_front(key, std::move(value));
    map_[key] = order_.begin();
    Trim();
  }

  void Erase(const std::string& key) {
    auto it = map_.find(key);
    if (it == map_.end()) return;
    weight_ -= Weight(*it->second->second);
    order_.erase(it->second);
    map_.erase(it);
  }

  void SetMax(size_t max) {
    max_ = max;
    Trim();
  }

 private:
  static size_t Weight(const std::vector<T>& items) { return items.size() + 1; }
  void Trim() {
    while (weight_ > max_ && !order_.empty()) Erase(std::string(order_.back().first));
  }

  using Item = std::pair<std::string, std::shared_ptr<const std::vector<T>>>;
  std::list<Item> order_;
  std::unordered_map<std::string, typename std::list<Item>::iterator> map_;
  size_t weight_ = 0;
  size_t max_ = 200000;
};

uint64_t Random64() {
  thread_local std::mt19937_64 engine = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return engine();
}

}  // namespace

struct FileAccess::Impl {
  std::map<std::string, std::string> options;
  bool open_foreign = false;
  Mutex mutex;
  /// Roots end with '/'. Stores are never removed: Resolve hands out plain pointers.
  std::map<std::string, std::shared_ptr<io::ObjectStore>> stores GUARDED_BY(mutex);
  Cache<ManifestFile> lists GUARDED_BY(mutex);
  Cache<ManifestEntry> manifests GUARDED_BY(mutex);
};

FileAccess::FileAccess(std::shared_ptr<io::ObjectStore> store) : impl_(std::make_unique<Impl>()) {
  std::string root = Normalize(store->Uri()) + "/";
  impl_->stores[root] = std::move(store);
}

FileAccess::FileAccess(std::map<std::string, std::string> options, std::shared_ptr<io::ObjectStore> store)
    : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  impl_->open_foreign = true;
  if (store) {
    std::string root = Normalize(store->Uri()) + "/";
    impl_->stores[root] = std::move(store);
  }
}

FileAccess::~FileAccess() = default;

std::string FileAccess::Normalize(std::string_view location) {
  if (location.starts_with("/")) return "file://" + std::string(location);
  if (location.starts_with("file:") && !location.starts_with("file://"))
    return "file://" + std::string(location.substr(5));
  for (std::string_view scheme : {"s3a://", "s3n://"}) {
    if (location.starts_with(scheme)) return "s3://" + std::string(location.substr(scheme.size()));
  }
  return std::string(location);
}

Result<FileAccess::Resolved> FileAccess::Resolve(std::string_view location) {
  std::string uri = Normalize(location);
  MutexLock lock(impl_->mutex);
  Resolved best{nullptr, {}};
  size_t best_size = 0;
  for (const auto& [root, store] : impl_->stores) {
    if (uri.size() > root.size() && root.size() > best_size && uri.starts_with(root)) {
      best = {store.get(), uri.substr(root.size())};
      best_size = root.size();
    }
  }
  if (best.store) return best;
  if (!impl_->open_foreign)
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "\"{}\" lies outside of the warehouse", location));
  // A bucket is opened as a whole, a local file by its folder.
  size_t scheme = uri.find("://");
  size_t end = uri.starts_with("file://") ? uri.rfind('/') : scheme == uri.npos ? uri.npos : uri.find('/', scheme + 3);
  if (end == uri.npos || end + 1 >= uri.size() || end <= scheme + 3)
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "\"{}\" names no object", location));
  TW_ASSIGN(auto store, io::OpenStore(uri.substr(0, end), impl_->options));
  best = {store.get(), uri.substr(end + 1)};
  impl_->stores[uri.substr(0, end + 1)] = std::move(store);
  return best;
}

Result<std::string> FileAccess::Get(std::string_view location) {
  TW_ASSIGN(Resolved r, Resolve(location));
  return r.store->Get(r.key);
}

Result<std::string> FileAccess::GetRange(std::string_view location, uint64_t offset, uint64_t length) {
  TW_ASSIGN(Resolved r, Resolve(location));
  return r.store->GetRange(r.key, offset, length);
}

Status FileAccess::Put(std::string_view location, std::string_view bytes) {
  TW_ASSIGN(Resolved r, Resolve(location));
  return r.store->Put(r.key, bytes);
}

Status FileAccess::PutIfAbsent(std::string_view location, std::string_view bytes) {
  TW_ASSIGN(Resolved r, Resolve(location));
  return r.store->PutIfAbsent(r.key, bytes);
}

Status FileAccess::Delete(std::string_view location) {
  TW_ASSIGN(Resolved r, Resolve(location));
  return r.store->Delete(r.key);
}

size_t FileAccess::DeleteAll(const std::vector<std::string>& locations) {
  size_t failed = 0;
  std::string last;
  for (const std::string& location : locations) {
    Forget(location);
    if (Status s = Delete(location); !s) {
      ++failed;
      last = s.error().message;
    }
  }
  if (failed > 0)
    log::warn("iceberg: {} of {} files could not be deleted and are orphans now: {}", failed, locations.size(), last);
  return failed;
}

FileAccess::ManifestList FileAccess::CachedList(const std::string& location) {
  MutexLock lock(impl_->mutex);
  return impl_->lists.Find(location);
}

void FileAccess::CacheList(const std::string& location, ManifestList list) {
  MutexLock lock(impl_->mutex);
  impl_->lists.Put(location, std::move(list));
}

FileAccess::Manifest FileAccess::CachedManifest(const std::string& location) {
  MutexLock lock(impl_->mutex);
  return impl_->manifests.Find(location);
}

void FileAccess::CacheManifest(const std::string& location, Manifest manifest) {
  MutexLock lock(impl_->mutex);
  impl_->manifests.Put(location, std::move(manifest));
}

void FileAccess::Forget(const std::string& location) {
  MutexLock lock(impl_->mutex);
  impl_->lists.Erase(location);
  impl_->manifests.Erase(location);
}

void FileAccess::SetCacheLimits(size_t manifest_entries_max, size_t list_entries_max) {
  MutexLock lock(impl_->mutex);
  impl_->manifests.SetMax(manifest_entries_max);
  impl_->lists.SetMax(list_entries_max);
}

std::string NewUuid() {
  uint64_t a = (Random64() & ~0xF000ull) | 0x4000ull;
  uint64_t b = (Random64() & ~(0xC0ull << 56)) | (0x80ull << 56);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xFFFF, a & 0xFFFF, b >> 48,
                     b & 0xFFFFFFFFFFFFull);
}

int64_t NewSnapshotId() {
  int64_t id = 0;
  while (id == 0) id = int64_t(Random64() >> 1);
  return id;
}

}  // namespace tidewater::iceberg
