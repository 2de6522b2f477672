// FileAccess: Iceberg speaks of locations (URIs), the object store of keys. This maps one to the other and keeps what
// is immutable.
#pragma once
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>
#include "tidewater/base/result.h"
#include "tidewater/io/object_store.h"

namespace tidewater::iceberg {

struct ManifestFile;
struct ManifestEntry;

/// Thread-safe. One per warehouse or per credentials; shared by the tables in it.
class FileAccess {
 public:
  /// `store` holds everything under its Uri(). Locations outside are opened by `io::OpenStore` with `options` when they
  /// are first met (whole bucket, or the root of the file system); without options they are refused (kUnsupported).
  explicit FileAccess(std::shared_ptr<io::ObjectStore> store);
  explicit FileAccess(std::map<std::string, std::string> options, std::shared_ptr<io::ObjectStore> store = nullptr);
  ~FileAccess();

  /// "file:///x", "file:/x", "/x" are one; so are "s3://", "s3a://", "s3n://".
  static std::string Normalize(std::string_view location);
  struct Resolved {
    io::ObjectStore* store;
    std::string key;
  };
  Result<Resolved> Resolve(std::string_view location);

  Result<std::string> Get(std::string_view location);
  Result<std::string> GetRange(std::string_view location, uint64_t offset, uint64_t length);
  Status Put(std::string_view location, std::string_view bytes);
  Status PutIfAbsent(std::string_view location, std::string_view bytes);
  Status Delete(std::string_view location);
  /// Goes on after failures, which are logged: what is left behind is an orphan, not an error. Returns how many failed.
  size_t DeleteAll(const std::vector<std::string>& locations);

  using ManifestList = std::shared_ptr<const std::vector<ManifestFile>>;
  using Manifest = std::shared_ptr<const std::vector<ManifestEntry>>;
  // Caches of decoded manifests and manifest lists by location, bounded by what they hold (entries), least recently
  // used first out.
  ManifestList CachedList(const std::string& location);
  void CacheList(const std::string& location, ManifestList list);
  Manifest CachedManifest(const std::string& location);
  void CacheManifest(const std::string& location, Manifest manifest);
  void Forget(const std::string& location);
  /// Default: 200,000 manifest entries, 200,000 manifest list entries.
  void SetCacheLimits(size_t manifest_entries_max, size_t list_entries_max);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// 32 hexadecimal digits with dashes, version 4.
std::string NewUuid();
/// A positive random 63-bit number.
int64_t NewSnapshotId();

}  // namespace tidewater::iceberg
