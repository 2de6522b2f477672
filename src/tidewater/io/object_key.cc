#include "tidewater/io/object_key.h"
#include <xxhash.h>

namespace tidewater::io {
namespace {
bool BadPart(std::string_view part) { return part.empty() || part == "." || part == ".."; }
}  // namespace

Status CheckKey(std::string_view key) {
  bool bad = key.find('\0') != key.npos || key.size() > 1024;
  for (size_t begin = 0; !bad && begin <= key.size();) {
    size_t end = std::min(key.find('/', begin), key.size());
    bad = BadPart(key.substr(begin, end - begin));
    begin = end + 1;
  }
  if (bad) return std::unexpected(EnvError(ErrorKind::kInternal, "\"{}\" is not a valid object key", key));
  return {};
}

Status CheckPrefix(std::string_view prefix) {
  if (prefix.empty()) return {};
  // What follows the last '/' may be the beginning of any name.
  return CheckKey(std::string(prefix) + "x");
}

std::string ContentTag(std::string_view bytes) {
  XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}-{}", h.high64, h.low64, bytes.size());
}

}  // namespace tidewater::io
