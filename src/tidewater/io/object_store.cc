#include "tidewater/io/object_store.h"
#include "tidewater/io/local_store.h"
#include "tidewater/io/memory_store.h"
#include "tidewater/io/s3_store.h"

namespace tidewater::io {

Result<std::shared_ptr<ObjectStore>> OpenStore(const std::string& uri,
                                               const std::map<std::string, std::string>& options) {
  if (uri == "memory:") return NewMemoryStore();
  if (uri.starts_with("file:")) {
    // RFC 8089: file:/a, file:///a and file://localhost/a name the same file.
    std::string path = uri.substr(5);
    if (path.starts_with("//localhost/")) path = path.substr(11);
    if (path.starts_with("//")) path = path.substr(2);
    if (!path.starts_with("/"))
      return std::unexpected(UserError("22023", "\"{}\" does not name an absolute local path", uri));
    return OpenLocalStore(path);
  }
  if (uri.starts_with("s3://")) return OpenS3Store(uri, options);
  size_t scheme = uri.find("://");
  if (scheme != uri.npos)
    return std::unexpected(UserError("0A000", "storage \"{}://\" is not supported", uri.substr(0, scheme))
                               .WithHint("Use a local folder, \"file:///...\" or \"s3://bucket/prefix\"."));
  if (uri.empty()) return std::unexpected(UserError("22023", "a storage location must not be empty"));
  return OpenLocalStore(uri);
}

}  // namespace tidewater::io
