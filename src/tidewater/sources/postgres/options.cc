#include "tidewater/sources/postgres/options.h"
#include <algorithm>
#include <charconv>

namespace tidewater::postgres {
namespace {

constexpr size_t kMaxName = 63;  // NAMEDATALEN - 1

Error Bad(const std::string& option, const std::string& why) {
  return UserError("22023", "option \"{}\" of connector 'postgres-cdc' {}", option, why);
}

Result<bool> Boolean(const std::string& option, std::string value) {
  std::transform(value.begin(), value.end(), value.begin(), ::tolower);
  if (value == "true" || value == "on" || value == "1") return true;
  if (value == "false" || value == "off" || value == "0") return false;
  return std::unexpected(Bad(option, fmt::format("must be true or false, not '{}'", value)));
}

Result<long> Number(const std::string& option, const std::string& value, long min, long max) {
  long n = 0;
  auto r = std::from_chars(value.data(), value.data() + value.size(), n);
  if (r.ec != std::errc() || r.ptr != value.data() + value.size() || n < min || n > max)
    return std::unexpected(Bad(option, fmt::format("must be a number from {} to {}, not '{}'", min, max, value)));
  return n;
}

}  // namespace

Result<Options> Options::Parse(const std::map<std::string, std::string>& options) {
  Options o;
  for (auto& [name, value] : options) {
    if (name == "connector") {
    } else if (name == "hostname") {
      o.host = value;
    } else if (name == "port") {
      TW_ASSIGN([[maybe_unused]] long port, Number(name, value, 1, 65535));
      o.port = value;
    } else if (name == "username") {
      o.user = value;
    } else if (name == "password") {
      o.password = Secret(value);
    } else if (name == "database.name") {
      o.database = value;
    } else if (name == "slot.name") {
      if (value.empty() || value.size() > kMaxName ||
          value.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
        return std::unexpected(
            Bad(name, fmt::format("must have 1 to 63 of a-z, 0-9 and _, as PostgreSQL demands, not '{}'", value)));
      o.slot = value;
    } else if (name == "publication.name") {
      if (value.empty() || value.size() > kMaxName) return std::unexpected(Bad(name, "must have 1 to 63 bytes"));
      o.publication = value;
    } else if (name == "publication.create.enable") {
      TW_ASSIGN(o.create_publication, Boolean(name, value));
    } else if (name == "schema.name") {
      if (value.empty()) return std::unexpected(Bad(name, "must not be empty"));
      o.schema = value;
    } else if (name == "ssl.mode") {
      static const std::map<std::string, std::string> modes = {
          {"disabled", "disable"}, {"disable", "disable"}, {"preferred", "prefer"},    {"prefer", "prefer"},
          {"required", "require"}, {"require", "require"}, {"verify-ca", "verify-ca"}, {"verify-full", "verify-full"}};
      auto it = modes.find(value);
      if (it == modes.end())
        return std::unexpected(
            Bad(name, fmt::format("must be disabled, preferred, required, verify-ca or verify-full, not '{}'", value)));
      o.ssl_mode = it->second;
    } else if (name == "ssl.root.cert") {
      o.ssl_root_cert = value;
    } else if (name == "load.chunk.rows") {
      TW_ASSIGN(long rows, Number(name, value, 1, 1'000'000));
      o.load_chunk_rows = size_t(rows);
    } else if (name == "transactional") {
      TW_ASSIGN(bool on, Boolean(name, value));
      if (!on) return std::unexpected(Bad(name, "cannot be false: transactions always stay whole"));
    } else {
      return std::unexpected(Bad(name, "is not known"));
    }
  }
  for (auto& [name, value] : {std::pair<const char*, const std::string&>{"hostname", o.host},
                              {"username", o.user},
                              {"database.name", o.database}})
    if (value.empty()) return std::unexpected(Bad(name, "is missing"));
  return o;
}

std::string Options::DefaultSlot(const std::string& source, ObjectId id) {
  std::string name;
  for (char c : source) {
    c = char(::tolower(c));
    name += (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '_';
  }
  return fmt::format("tidewater_{}_{}", name.substr(0, 40), id);
}

}  // namespace tidewater::postgres
