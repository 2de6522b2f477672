#include "tidewater/iceberg/json_codec.h"
#include <limits>

namespace tidewater::iceberg {
namespace {

constexpr int kDepthMax = 100;

bool TooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDepthMax) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

Error Missing(std::string_view what, const char* key, const char* kind) {
  return EnvError(ErrorKind::kCorrupt, "{}: \"{}\" is missing or no {}", what, key, kind);
}

}  // namespace

Result<Json> ParseJson(std::string_view text, std::string_view what) {
  if (TooDeep(text)) return std::unexpected(EnvError(ErrorKind::kCorrupt, "{} is nested too deeply", what));
  Json j = Json::parse(text, nullptr, false);
  if (j.is_discarded()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "{} is not valid JSON", what));
  return j;
}

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::optional<std::string> FindString(const Json& object, const char* key) {
  auto it = object.find(key);
  if (it == object.end() || !it->is_string()) return std::nullopt;
  return it->get<std::string>();
}

std::optional<int64_t> FindLong(const Json& object, const char* key) {
  auto it = object.find(key);
  if (it == object.end() || !it->is_number_integer()) return std::nullopt;
  if (it->is_number_unsigned() && it->get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max()))
    return std::nullopt;
  return it->get<int64_t>();
}

std::optional<int> FindInt(const Json& object, const char* key) {
  auto v = FindLong(object, key);
  if (!v || *v < std::numeric_limits<int>::min() || *v > std::numeric_limits<int>::max()) return std::nullopt;
  return int(*v);
}

bool FindBool(const Json& object, const char* key, bool fallback) {
  auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : fallback;
}

Result<std::string> GetString(const Json& object, const char* key, std::string_view what) {
  auto v = FindString(object, key);
  if (!v) return std::unexpected(Missing(what, key, "text"));
  return *std::move(v);
}

Result<int64_t> GetLong(const Json& object, const char* key, std::string_view what) {
  auto v = FindLong(object, key);
  if (!v) return std::unexpected(Missing(what, key, "integer"));
  return *v;
}

Result<int> GetInt(const Json& object, const char* key, std::string_view what) {
  auto v = FindInt(object, key);
  if (!v) return std::unexpected(Missing(what, key, "32-bit integer"));
  return *v;
}

const Json* FindArray(const Json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_array() ? &*it : nullptr;
}

const Json* FindObject(const Json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_object() ? &*it : nullptr;
}

Result<Properties> GetProperties(const Json& object, const char* key, std::string_view what) {
  Properties out;
  auto it = object.find(key);
  if (it == object.end() || it->is_null()) return out;
  if (!it->is_object()) return std::unexpected(Missing(what, key, "object"));
  for (const auto& [k, v] : it->items()) {
    if (v.is_string())
      out[k] = v.get<std::string>();
    else if (v.is_null())
      continue;
    else if (v.is_primitive())
      out[k] = Dump(v);  // some writers put numbers and booleans here
    else
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "{}: \"{}\" holds more than text", what, key));
  }
  return out;
}

Result<std::vector<int>> GetInts(const Json& array, std::string_view what) {
  std::vector<int> out;
  if (!array.is_array()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "{} is no list", what));
  for (const Json& v : array) {
    if (!v.is_number_integer())
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "{} holds more than integers", what));
    int64_t n = v.get<int64_t>();
    if (n < std::numeric_limits<int>::min() || n > std::numeric_limits<int>::max())
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "{} holds {}", what, n));
    out.push_back(int(n));
  }
  return out;
}

}  // namespace tidewater::iceberg
