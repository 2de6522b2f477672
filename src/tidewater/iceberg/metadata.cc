#include "tidewater/iceberg/metadata.h"
#include <zlib.h>
#include <algorithm>
#include <charconv>
#include <set>
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/iceberg/files.h"
#include "tidewater/iceberg/json_codec.h"

namespace tidewater::iceberg {
namespace {

constexpr size_t kUnzippedMax = 512 << 20;

Error Bad(std::string_view why) { return EnvError(ErrorKind::kCorrupt, "invalid table metadata: {}", why); }

template <class T>
Json ArrayToJson(const std::vector<T>& items) {
  Json out = Json::array();
  for (const T& item : items) out.push_back(ToJson(item));
  return out;
}

Json PropertiesToJson(const Properties& properties) {
  Json out = Json::object();
  for (const auto& [k, v] : properties) out[k] = v;
  return out;
}

Json StatisticsToJson(const std::vector<StatisticsFile>& files) {
  Json out = Json::array();
  for (const StatisticsFile& f : files) {
    Json j = Json::parse(f.json, nullptr, false);
    if (!j.is_discarded()) out.push_back(std::move(j));
  }
  return out;
}

Result<std::vector<StatisticsFile>> StatisticsList(const Json& j, const char* key) {
  std::vector<StatisticsFile> out;
  if (const Json* array = FindArray(j, key)) {
    for (const Json& item : *array) {
      TW_ASSIGN(StatisticsFile f, StatisticsFromJson(item));
      out.push_back(std::move(f));
    }
  }
  return out;
}

Status ParseSchemas(const Json& j, TableMetadata* m) {
  if (const Json* schemas = FindArray(j, "schemas")) {
    for (const Json& s : *schemas) {
      TW_ASSIGN(Schema schema, SchemaFromJson(s));
      m->schemas.push_back(std::move(schema));
    }
    TW_ASSIGN(m->current_schema_id, GetInt(j, "current-schema-id", "table metadata"));
  } else if (const Json* s = FindObject(j, "schema")) {
    TW_ASSIGN(Schema schema, SchemaFromJson(*s));
    m->current_schema_id = schema.id;
    m->schemas.push_back(std::move(schema));
  }
  if (!m->FindSchema(m->current_schema_id)) return std::unexpected(Bad("the current schema is missing"));
  return {};
}

Status ParseSpecs(const Json& j, TableMetadata* m) {
  if (const Json* specs = FindArray(j, "partition-specs")) {
    for (const Json& s : *specs) {
      TW_ASSIGN(PartitionSpec spec, PartitionSpecFromJson(s));
      m->specs.push_back(std::move(spec));
    }
    TW_ASSIGN(m->default_spec_id, GetInt(j, "default-spec-id", "table metadata"));
  } else if (const Json* fields = FindArray(j, "partition-spec")) {
    TW_ASSIGN(PartitionSpec spec, PartitionSpecFromJson(*fields));
    m->specs.push_back(std::move(spec));
  }
  if (!m->FindSpec(m->default_spec_id)) return std::unexpected(Bad("the default partition spec is missing"));
  int highest = 999;
  for (const PartitionSpec& s : m->specs) {
    for (const PartitionField& f : s.fields) highest = std::max(highest, f.field_id);
  }
  m->last_partition_id = FindInt(j, "last-partition-id").value_or(highest);
  return {};
}

Status ParseSortOrders(const Json& j, TableMetadata* m) {
  if (const Json* orders = FindArray(j, "sort-orders")) {
    for (const Json& o : *orders) {
      TW_ASSIGN(SortOrder order, SortOrderFromJson(o));
      m->sort_orders.push_back(std::move(order));
    }
    m->default_sort_order_id = FindInt(j, "default-sort-order-id").value_or(0);
  }
  if (m->sort_orders.empty()) m->sort_orders.emplace_back();
  for (const SortOrder& o : m->sort_orders) {
    if (o.id == m->default_sort_order_id) return {};
  }
  return std::unexpected(Bad("the default sort order is missing"));
}

Status ParseSnapshots(const Json& j, TableMetadata* m) {
  if (const Json* snapshots = FindArray(j, "snapshots")) {
    std::set<int64_t> ids;
    for (const Json& s : *snapshots) {
      TW_ASSIGN(Snapshot snapshot, SnapshotFromJson(s));
      if (!ids.insert(snapshot.id).second) return std::unexpected(Bad("a snapshot id appears twice"));
      m->snapshots.push_back(std::move(snapshot));
    }
  }
  if (auto id = FindLong(j, "current-snapshot-id"); id && *id != -1) m->current_snapshot_id = *id;
  if (m->current_snapshot_id && !m->CurrentSnapshot()) return std::unexpected(Bad("the current snapshot is missing"));
  if (const Json* refs = FindObject(j, "refs")) {
    for (const auto& [name, r] : refs->items()) {
      TW_ASSIGN(SnapshotRef ref, SnapshotRefFromJson(r));
      if (!m->FindSnapshot(ref.snapshot_id)) return std::unexpected(Bad("a reference to a missing snapshot"));
      m->refs[name] = ref;
    }
  }
  if (m->current_snapshot_id) {
    auto [it, added] = m->refs.try_emplace("main");
    if (added) it->second.snapshot_id = *m->current_snapshot_id;
    if (it->second.snapshot_id != *m->current_snapshot_id)
      return std::unexpected(Bad("main is not the current snapshot"));
  } else if (auto it = m->refs.find("main"); it != m->refs.end()) {
    m->current_snapshot_id = it->second.snapshot_id;
  }
  return {};
}

Status ParseLogs(const Json& j, TableMetadata* m) {
  if (const Json* log = FindArray(j, "snapshot-log")) {
    for (const Json& e : *log) {
      SnapshotLogEntry entry;
      TW_ASSIGN(entry.timestamp_ms, GetLong(e, "timestamp-ms", "snapshot log"));
      TW_ASSIGN(entry.snapshot_id, GetLong(e, "snapshot-id", "snapshot log"));
      m->snapshot_log.push_back(entry);
    }
  }
  if (const Json* log = FindArray(j, "metadata-log")) {
    for (const Json& e : *log) {
      MetadataLogEntry entry;
      TW_ASSIGN(entry.timestamp_ms, GetLong(e, "timestamp-ms", "metadata log"));
      TW_ASSIGN(entry.metadata_file, GetString(e, "metadata-file", "metadata log"));
      m->metadata_log.push_back(std::move(entry));
    }
  }
  return {};
}

Result<std::string> Gunzip(std::string_view in) {
  z_stream z{};
  if (inflateInit2(&z, 15 + 16) != Z_OK) return std::unexpected(EnvError(ErrorKind::kInternal, "zlib does not start"));
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = uInt(in.size());
  std::string out(std::min(kUnzippedMax, in.size() * 8 + 1024), '\0');
  int rc = Z_OK;
  while (true) {
    z.next_out = reinterpret_cast<Bytef*>(out.data() + z.total_out);
    z.avail_out = uInt(out.size() - z.total_out);
    rc = inflate(&z, Z_NO_FLUSH);
    if (rc != Z_OK || z.avail_out > 0 || out.size() >= kUnzippedMax) break;
    out.resize(std::min(kUnzippedMax, out.size() * 2));
  }
  out.resize(z.total_out);
  inflateEnd(&z);
  if (rc != Z_STREAM_END) return std::unexpected(Bad("gzip data is damaged, cut off or too large"));
  return out;
}

void CollectIds(const std::vector<Field>& fields, std::vector<int>* out) {
  for (const Field& f : fields) {
    out->push_back(f.id);
    CollectIds(f.type.fields, out);
  }
}

}  // namespace

const Schema* TableMetadata::FindSchema(int id) const {
  for (const Schema& s : schemas) {
    if (s.id == id) return &s;
  }
  return nullptr;
}

const Schema& TableMetadata::CurrentSchema() const {
  const Schema* s = FindSchema(current_schema_id);
  TW_CHECK(s != nullptr, "schema {}", current_schema_id);
  return *s;
}

const PartitionSpec* TableMetadata::FindSpec(int id) const {
  for (const PartitionSpec& s : specs) {
    if (s.id == id) return &s;
  }
  return nullptr;
}

const PartitionSpec& TableMetadata::DefaultSpec() const {
  const PartitionSpec* s = FindSpec(default_spec_id);
  TW_CHECK(s != nullptr, "spec {}", default_spec_id);
  return *s;
}

const Snapshot* TableMetadata::FindSnapshot(int64_t id) const {
  // The ones that are asked for are mostly the latest.
  for (auto it = snapshots.rbegin(); it != snapshots.rend(); ++it) {
    if (it->id == id) return &*it;
  }
  return nullptr;
}

const Snapshot* TableMetadata::CurrentSnapshot() const {
  return current_snapshot_id ? FindSnapshot(*current_snapshot_id) : nullptr;
}

const Snapshot* TableMetadata::RefSnapshot(const std::string& ref) const {
  if (ref == "main") return CurrentSnapshot();
  auto it = refs.find(ref);
  return it == refs.end() ? nullptr : FindSnapshot(it->second.snapshot_id);
}

int64_t TableMetadata::IntProperty(const std::string& key, int64_t fallback) const {
  auto it = properties.find(key);
  if (it == properties.end()) return fallback;
  int64_t v = 0;
  auto [end, ec] = std::from_chars(it->second.data(), it->second.data() + it->second.size(), v);
  return ec == std::errc() && end == it->second.data() + it->second.size() ? v : fallback;
}

bool TableMetadata::BoolProperty(const std::string& key, bool fallback) const {
  auto it = properties.find(key);
  if (it == properties.end()) return fallback;
  std::string v = it->second;
  std::transform(v.begin(), v.end(), v.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return v == "true" ? true : v == "false" ? false : fallback;
}

Json ToJson(const Snapshot& s) {
  Json j = {{"snapshot-id", s.id}, {"timestamp-ms", s.timestamp_ms}, {"summary", PropertiesToJson(s.summary)}};
  if (s.parent_id) j["parent-snapshot-id"] = *s.parent_id;
  if (s.sequence_number > 0) j["sequence-number"] = s.sequence_number;
  if (s.manifest_list.empty())
    j["manifests"] = s.manifests;
  else
    j["manifest-list"] = s.manifest_list;
  if (s.schema_id) j["schema-id"] = *s.schema_id;
  if (s.first_row_id) j["first-row-id"] = *s.first_row_id;
  if (s.added_rows) j["added-rows"] = *s.added_rows;
  if (s.key_id) j["key-id"] = *s.key_id;
  return j;
}

Result<Snapshot> SnapshotFromJson(const Json& j) {
  Snapshot s;
  if (!j.is_object()) return std::unexpected(Bad("a snapshot is no object"));
  TW_ASSIGN(s.id, GetLong(j, "snapshot-id", "snapshot"));
  s.parent_id = FindLong(j, "parent-snapshot-id");
  if (s.parent_id == -1) s.parent_id.reset();
  s.sequence_number = FindLong(j, "sequence-number").value_or(0);
  TW_ASSIGN(s.timestamp_ms, GetLong(j, "timestamp-ms", "snapshot"));
  s.manifest_list = FindString(j, "manifest-list").value_or("");
  if (const Json* manifests = FindArray(j, "manifests")) {
    for (const Json& m : *manifests) {
      if (!m.is_string()) return std::unexpected(Bad("a manifest location is no text"));
      s.manifests.push_back(m.get<std::string>());
    }
  } else if (s.manifest_list.empty()) {
    return std::unexpected(Bad("a snapshot without manifest list"));
  }
  TW_ASSIGN(s.summary, GetProperties(j, "summary", "snapshot"));
  s.schema_id = FindInt(j, "schema-id");
  s.first_row_id = FindLong(j, "first-row-id");
  s.added_rows = FindLong(j, "added-rows");
  s.key_id = FindString(j, "key-id");
  return s;
}

Json ToJson(const SnapshotRef& r) {
  Json j = {{"snapshot-id", r.snapshot_id}, {"type", r.is_branch ? "branch" : "tag"}};
  if (r.min_snapshots_to_keep) j["min-snapshots-to-keep"] = *r.min_snapshots_to_keep;
  if (r.max_snapshot_age_ms) j["max-snapshot-age-ms"] = *r.max_snapshot_age_ms;
  if (r.max_ref_age_ms) j["max-ref-age-ms"] = *r.max_ref_age_ms;
  return j;
}

Result<SnapshotRef> SnapshotRefFromJson(const Json& j) {
  SnapshotRef r;
  if (!j.is_object()) return std::unexpected(Bad("a reference is no object"));
  TW_ASSIGN(r.snapshot_id, GetLong(j, "snapshot-id", "snapshot reference"));
  TW_ASSIGN(std::string type, GetString(j, "type", "snapshot reference"));
  r.is_branch = type != "tag" && type != "TAG";
  r.min_snapshots_to_keep = FindInt(j, "min-snapshots-to-keep");
  r.max_snapshot_age_ms = FindLong(j, "max-snapshot-age-ms");
  r.max_ref_age_ms = FindLong(j, "max-ref-age-ms");
  return r;
}

Result<StatisticsFile> StatisticsFromJson(const Json& j) {
  StatisticsFile f;
  if (!j.is_object()) return std::unexpected(Bad("a statistics file is no object"));
  TW_ASSIGN(f.snapshot_id, GetLong(j, "snapshot-id", "statistics file"));
  TW_ASSIGN(f.path, GetString(j, "statistics-path", "statistics file"));
  f.json = Dump(j);
  return f;
}

Json ToJson(const TableMetadata& m) {
  Json j = Json::parse(m.unknown_fields, nullptr, false);
  if (!j.is_object()) j = Json::object();
  j["format-version"] = m.format_version;
  if (!m.table_uuid.empty()) j["table-uuid"] = m.table_uuid;
  j["location"] = m.location;
  j["last-updated-ms"] = m.last_updated_ms;
  j["last-column-id"] = m.last_column_id;
  j["schemas"] = ArrayToJson(m.schemas);
  j["current-schema-id"] = m.current_schema_id;
  j["partition-specs"] = ArrayToJson(m.specs);
  j["default-spec-id"] = m.default_spec_id;
  j["last-partition-id"] = m.last_partition_id;
  j["sort-orders"] = ArrayToJson(m.sort_orders);
  j["default-sort-order-id"] = m.default_sort_order_id;
  j["properties"] = PropertiesToJson(m.properties);
  if (m.current_snapshot_id)
    j["current-snapshot-id"] = *m.current_snapshot_id;
  else if (m.format_version < 3)
    j["current-snapshot-id"] = -1;
  j["snapshots"] = ArrayToJson(m.snapshots);
  Json refs = Json::object();
  for (const auto& [name, ref] : m.refs) refs[name] = ToJson(ref);
  j["refs"] = std::move(refs);
  j["statistics"] = StatisticsToJson(m.statistics);
  j["partition-statistics"] = StatisticsToJson(m.partition_statistics);
  Json snapshot_log = Json::array();
  for (const SnapshotLogEntry& e : m.snapshot_log)
    snapshot_log.push_back({{"timestamp-ms", e.timestamp_ms}, {"snapshot-id", e.snapshot_id}});
  j["snapshot-log"] = std::move(snapshot_log);
  Json metadata_log = Json::array();
  for (const MetadataLogEntry& e : m.metadata_log)
    metadata_log.push_back({{"timestamp-ms", e.timestamp_ms}, {"metadata-file", e.metadata_file}});
  j["metadata-log"] = std::move(metadata_log);
  if (m.format_version == 1) {
    j["schema"] = ToJson(m.CurrentSchema());
    j["partition-spec"] = ToJson(m.DefaultSpec())["fields"];
  } else {
    j["last-sequence-number"] = m.last_sequence_number;
  }
  if (m.format_version >= 3) j["next-row-id"] = m.next_row_id;
  return j;
}

Result<TableMetadata> MetadataFromJson(Json j) {
  if (!j.is_object()) return std::unexpected(Bad("no object"));
  TableMetadata m;
  TW_ASSIGN(m.format_version, GetInt(j, "format-version", "table metadata"));
  if (m.format_version < 1 || m.format_version > 3)
    return std::unexpected(
        EnvError(ErrorKind::kUnsupported, "format version {} of Iceberg is not supported", m.format_version));
  m.table_uuid = FindString(j, "table-uuid").value_or("");
  if (m.table_uuid.empty() && m.format_version > 1) return std::unexpected(Bad("no table-uuid"));
  TW_ASSIGN(m.location, GetString(j, "location", "table metadata"));
  while (m.location.size() > 1 && m.location.back() == '/') m.location.pop_back();
  if (m.format_version > 1) {
    TW_ASSIGN(m.last_sequence_number, GetLong(j, "last-sequence-number", "table metadata"));
  }
  TW_ASSIGN(m.last_updated_ms, GetLong(j, "last-updated-ms", "table metadata"));
  TW_ASSIGN(m.last_column_id, GetInt(j, "last-column-id", "table metadata"));
  TW_TRY(ParseSchemas(j, &m));
  TW_TRY(ParseSpecs(j, &m));
  TW_TRY(ParseSortOrders(j, &m));
  TW_ASSIGN(m.properties, GetProperties(j, "properties", "table metadata"));
  TW_TRY(ParseSnapshots(j, &m));
  TW_TRY(ParseLogs(j, &m));
  TW_ASSIGN(m.statistics, StatisticsList(j, "statistics"));
  TW_ASSIGN(m.partition_statistics, StatisticsList(j, "partition-statistics"));
  if (m.format_version >= 3) {
    TW_ASSIGN(m.next_row_id, GetLong(j, "next-row-id", "table metadata"));
  }
  for (const char* known : {"format-version",
                            "table-uuid",
                            "location",
                            "last-sequence-number",
                            "last-updated-ms",
                            "last-column-id",
                            "schema",
                            "schemas",
                            "current-schema-id",
                            "partition-spec",
                            "partition-specs",
                            "default-spec-id",
                            "last-partition-id",
                            "properties",
                            "current-snapshot-id",
                            "snapshots",
                            "snapshot-log",
                            "metadata-log",
                            "sort-orders",
                            "default-sort-order-id",
                            "refs",
                            "statistics",
                            "partition-statistics",
                            "next-row-id"})
    j.erase(known);
  m.unknown_fields = Dump(j);
  return m;
}

Result<TableMetadata> ParseMetadataJson(std::string_view text) {
  TW_ASSIGN(Json j, ParseJson(text, "table metadata"));
  return MetadataFromJson(std::move(j));
}

Result<TableMetadata> ParseMetadataFile(std::string_view bytes) {
  if (bytes.starts_with("\x1f\x8b")) {
    TW_ASSIGN(std::string text, Gunzip(bytes));
    return ParseMetadataJson(text);
  }
  return ParseMetadataJson(bytes);
}

std::string MetadataToJson(const TableMetadata& metadata) { return Dump(ToJson(metadata)); }
std::string SnapshotToJson(const Snapshot& snapshot) { return Dump(ToJson(snapshot)); }

Result<TableMetadata> NewTableMetadata(const TableSpec& spec) {
  TableMetadata m;
  m.properties = spec.properties;
  if (auto it = m.properties.find(kPropFormatVersion); it != m.properties.end()) {
    if (it->second != "1" && it->second != "2" && it->second != "3")
      return std::unexpected(UserError("22023", "format-version must be 1, 2 or 3, not \"{}\"", it->second));
    m.format_version = it->second[0] - '0';
    m.properties.erase(it);
  }
  if (spec.schema.MinFormatVersion() > m.format_version)
    return std::unexpected(EnvError(ErrorKind::kUnsupported,
                                    "a column type or default of the schema needs format version 3, the table has {}",
                                    m.format_version));
  m.table_uuid = NewUuid();
  m.location = spec.location;
  while (m.location.size() > 1 && m.location.back() == '/') m.location.pop_back();
  m.last_updated_ms = WallMicros() / 1000;
  Schema schema = WithFreshIds(spec.schema, &m.last_column_id);
  schema.id = 0;
  std::vector<int> before, after;
  CollectIds(spec.schema.fields, &before);
  CollectIds(schema.fields, &after);
  auto renumber = [&](std::vector<int>& ids) -> Status {
    for (int& id : ids) {
      auto it = std::find(before.begin(), before.end(), id);
      if (it == before.end())
        return std::unexpected(
            UserError("22023", "field {} of a partition spec or sort order is not in the schema", id));
      id = after[size_t(it - before.begin())];
    }
    return {};
  };
  PartitionSpec partition = spec.spec;
  partition.id = 0;
  for (PartitionField& f : partition.fields) {
    TW_TRY(renumber(f.source_ids));
    f.field_id = ++m.last_partition_id;
  }
  SortOrder order = spec.sort_order;
  order.id = order.fields.empty() ? 0 : 1;
  for (SortField& f : order.fields) TW_TRY(renumber(f.source_ids));
  m.schemas.push_back(std::move(schema));
  m.specs.push_back(std::move(partition));
  m.default_sort_order_id = order.id;
  m.sort_orders.push_back(std::move(order));
  return m;
}

}  // namespace tidewater::iceberg
