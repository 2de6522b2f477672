#include "tidewater/sinks/iceberg/options.h"
#include <algorithm>
#include <charconv>
#include "tidewater/lake/key_index.h"
#include "tidewater/lake/types.h"

namespace tidewater {
namespace {

std::string Trim(std::string text) {
  auto space = [](char c) { return c == ' ' || c == '\t' || c == '\n'; };
  while (!text.empty() && space(text.back())) text.pop_back();
  size_t at = 0;
  while (at < text.size() && space(text[at])) at++;
  return text.substr(at);
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t at = 0;
  for (;;) {
    size_t end = text.find(separator, at);
    parts.push_back(Trim(text.substr(at, end == std::string::npos ? end : end - at)));
    if (end == std::string::npos) return parts;
    at = end + 1;
  }
}

/// Reads options one by one and remembers which were read: the rest is unknown.
class Reader {
 public:
  explicit Reader(const std::map<std::string, std::string>& options) : left_(options) {}

  /// Empty when it is not there.
  std::string Text(const std::string& name, std::string fallback = {}) {
    auto it = left_.find(name);
    if (it == left_.end()) return fallback;
    std::string value = it->second;
    left_.erase(it);
    return value;
  }
  Result<bool> Bool(const std::string& name, bool fallback) {
    auto value = Text(name);
    std::transform(value.begin(), value.end(), value.begin(), ::tolower);
    if (value.empty()) return fallback;
    if (value == "true" || value == "t" || value == "1") return true;
    if (value == "false" || value == "f" || value == "0") return false;
    return std::unexpected(UserError("22023", "option {} must be true or false, not \"{}\"", name, value));
  }
  Result<int64_t> Number(const std::string& name, int64_t fallback, int64_t min, int64_t max) {
    auto value = Text(name);
    if (value.empty()) return fallback;
    int64_t n = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc() || end != value.data() + value.size() || n < min || n > max)
      return std::unexpected(
          UserError("22023", "option {} must be a number from {} to {}, not \"{}\"", name, min, max, value));
    return n;
  }
  Status Done() const {
    if (left_.empty()) return {};
    return std::unexpected(UserError("22023", "unknown option {} of an Iceberg sink", left_.begin()->first));
  }

 private:
  std::map<std::string, std::string> left_;
};

}  // namespace

Result<IcebergSinkConfig> ParseIcebergSinkOptions(const std::map<std::string, std::string>& options,
                                                  const Schema& input) {
  Reader reader(options);
  IcebergSinkConfig c;
  reader.Text("connector");

  auto type = reader.Text("type");
  if (type == "upsert") {
    c.upsert = true;
  } else if (type != "append-only") {
    return std::unexpected(UserError("22023", "option type must be 'upsert' or 'append-only', not '{}'", type));
  }
  TW_ASSIGN(c.force_append_only, reader.Bool("force_append_only", false));
  if (c.force_append_only && c.upsert)
    return std::unexpected(UserError("22023", "force_append_only needs type = 'append-only'"));

  auto key = reader.Text("primary_key");
  if (c.upsert) {
    if (Trim(key).empty()) {
      c.key = input.primary_key;
    } else {
      for (auto& name : Split(key, ',')) {
        int at = input.Find(name);
        if (at < 0)
          return std::unexpected(UserError("42703", "primary_key names \"{}\", which is no column of the view", name));
        if (std::find(c.key.begin(), c.key.end(), uint32_t(at)) != c.key.end())
          return std::unexpected(UserError("42701", "primary_key names \"{}\" twice", name));
        c.key.push_back(at);
      }
    }
    if (c.key.empty())
      return std::unexpected(UserError("22023", "an upsert sink needs a primary key, and the view has none")
                                 .WithHint("Name its columns: primary_key = 'a, b'."));
  }

  auto database = reader.Text("database.name");
  c.table.name = Trim(reader.Text("table.name"));
  if (c.table.name.empty()) return std::unexpected(UserError("22023", "option table.name is missing"));
  if (Trim(database).empty()) return std::unexpected(UserError("22023", "option database.name is missing"));
  c.table.ns = Split(database, '.');
  for (auto& level : c.table.ns)
    if (level.empty())
      return std::unexpected(UserError("22023", "option database.name has an empty part: \"{}\"", database));

  TW_ASSIGN(c.create_table, reader.Bool("create_table_if_not_exists", false));
  TW_ASSIGN(int64_t version, reader.Number("format-version", 0, 2, 3));
  TW_ASSIGN(int64_t version2, reader.Number("format_version", 0, 2, 3));
  if (version && version2 && version != version2)
    return std::unexpected(UserError("22023", "format-version and format_version differ"));
  if (version || version2) c.format_version = version ? version : version2;

  reader.Text("catalog.name");
  auto catalog = reader.Text("catalog.type", "embedded");
  c.catalog_uri = reader.Text("catalog.uri");
  c.catalog_credential = Secret(reader.Text("catalog.credential"));
  c.catalog_token = Secret(reader.Text("catalog.token"));
  c.oauth2_server_uri = reader.Text("catalog.oauth2_server_uri");
  c.catalog_scope = reader.Text("catalog.scope");
  if (catalog == "rest") {
    c.rest_catalog = true;
    if (c.catalog_uri.empty()) return std::unexpected(UserError("22023", "catalog.type = 'rest' needs catalog.uri"));
  } else if (catalog == "embedded" || catalog == "storage") {
    // The embedded catalog is a storage catalog: nothing but files, decided by conditional puts.
    if (!c.catalog_uri.empty() || !c.catalog_credential.empty() || !c.catalog_token.empty())
      return std::unexpected(
          UserError("22023", "catalog.uri, catalog.credential and catalog.token need catalog.type = 'rest'"));
  } else {
    return std::unexpected(
        UserError("22023", "catalog.type must be 'embedded', 'storage' or 'rest', not '{}'", catalog));
  }
  c.warehouse = reader.Text("warehouse.path");
  if (catalog == "storage" && c.warehouse.empty())
    return std::unexpected(UserError("22023", "catalog.type = 'storage' needs warehouse.path"));

  static const std::pair<const char*, const char*> kStoreOptions[] = {
      {"s3.endpoint", "s3.endpoint"},           {"s3.region", "s3.region"},
      {"s3.access.key", "s3.access-key-id"},    {"s3.secret.key", "s3.secret-access-key"},
      {"s3.session.token", "s3.session-token"}, {"s3.path.style.access", "s3.path-style-access"},
  };
  for (auto& [option, store_option] : kStoreOptions)
    if (auto value = reader.Text(option); !value.empty()) c.store_options[store_option] = value;

  TW_ASSIGN(int64_t interval, reader.Number("commit_checkpoint_interval", 1, 1, 1'000'000));
  c.commit_interval = interval;
  TW_ASSIGN(c.commit_retries, reader.Number("commit_retry_num", c.commit_retries, 0, 1'000'000));
  TW_ASSIGN(c.expire_snapshots, reader.Bool("enable_snapshot_expiration", true));
  TW_ASSIGN(c.keep_snapshots, reader.Number("snapshot_expiration_retain_last", c.keep_snapshots, 1, 1'000'000));
  TW_ASSIGN(c.keep_snapshots_ms,
            reader.Number("snapshot_expiration_max_age_millis", c.keep_snapshots_ms, 0, int64_t(1) << 50));
  TW_ASSIGN(int64_t target_mb, reader.Number("target_file_size_mb", 128, 1, 2048));
  c.target_file_bytes = uint64_t(target_mb) << 20;
  TW_TRY(reader.Done());

  for (auto& column : input.columns) {
    auto storage = lake::StorageType(column.type, c.format_version);
    if (!storage)
      return std::unexpected(std::move(storage).error().WithDetail(fmt::format("column \"{}\"", column.name)));
  }
  for (auto k : c.key) {
    auto& column = input.columns.at(k);
    if (!lake::KeyCodec::CanBeKey(column.type))
      return std::unexpected(UserError("42P16", "column \"{}\" of type {} cannot be part of a primary key", column.name,
                                       column.type.ToString()));
  }
  return c;
}

}  // namespace tidewater
