// ObjectStore: the only door to where bytes are kept. Local disk, S3, memory, and a faulty twin for tests.
//
// Keys are relative to the store's root, use '/', never start with it, and never contain "..". Objects are immutable
// once put, unless replaced whole.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::io {

struct ObjectInfo {
  std::string key;
  uint64_t size = 0;
  int64_t modified_ms = 0;
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;
  /// The URI of the root as other programs use it: "file:///..." or "s3://bucket/prefix". No trailing '/'. No
  /// credentials.
  virtual std::string Uri() const = 0;
  /// The folder that holds the objects as plain files under their keys; nothing where the store is not a local disk.
  virtual std::optional<std::string> LocalRoot() const { return std::nullopt; }
  /// Durable when it returns (fsync of file and folder; PUT answered). Replaces what is there. Whole or not there.
  virtual Status Put(const std::string& key, std::string_view bytes) = 0;
  /// Durable create that fails with kAlreadyExists when the key exists (link(2) / If-None-Match: *). Atomic between
  /// processes.
  virtual Status PutIfAbsent(const std::string& key, std::string_view bytes) = 0;
  /// Replaces the object only if its current content's tag is `etag` (kCommitFailed otherwise). Local: a lock file and
  /// rename.
  virtual Result<std::string> PutIfMatch(const std::string& key, std::string_view bytes, const std::string& etag) = 0;
  /// The object and a tag for PutIfMatch. kNotFound when absent.
  virtual Result<std::pair<std::string, std::string>> GetWithTag(const std::string& key) = 0;
  /// kNotFound when absent.
  virtual Result<std::string> Get(const std::string& key) = 0;
  /// Bytes [offset, offset + length); fewer, or none, where the object ends before. kNotFound when absent.
  virtual Result<std::string> GetRange(const std::string& key, uint64_t offset, uint64_t length) = 0;
  virtual Result<ObjectInfo> Stat(const std::string& key) = 0;
  /// Keys that start with `prefix` (which may end inside a name), recursive, sorted.
  virtual Result<std::vector<ObjectInfo>> List(const std::string& prefix) = 0;
  /// Absent is no error.
  virtual Status Delete(const std::string& key) = 0;
};

/// Opens "DIR", "file:///DIR", "s3://bucket/prefix" (options or environment: s3.endpoint, s3.region, s3.access-key-id,
/// s3.secret-access-key, s3.session-token, s3.path-style-access; AWS_* variables where options are silent) or "memory:"
/// (a new, empty one at each call).
Result<std::shared_ptr<ObjectStore>> OpenStore(const std::string& uri,
                                               const std::map<std::string, std::string>& options = {});

}  // namespace tidewater::io
