#include "tidewater/iceberg/update.h"
#include <algorithm>
#include <set>
#include "tidewater/iceberg/json_codec.h"

namespace tidewater::iceberg {
namespace {

template <class... F>
struct Overload : F... {
  using F::operator()...;
};

Error Refused(std::string text) { return UserError("22023", "{}", text); }
Error Failed(std::string text) { return EnvError(ErrorKind::kCommitFailed, "{}", text); }

/// What "last added" (-1) means within one commit.
struct Applier {
  TableMetadata& m;
  int64_t now_ms;
  int last_schema = -1, last_spec = -1, last_order = -1;
  bool snapshots_removed = false;

  Status operator()(const AssignUuid& u) {
    if (!m.table_uuid.empty() && m.table_uuid != u.uuid) return std::unexpected(Refused("a table keeps its UUID"));
    m.table_uuid = u.uuid;
    return {};
  }

  Status operator()(const UpgradeFormatVersion& u) {
    if (u.version < m.format_version)
      return std::unexpected(
          Refused(fmt::format("format version {} cannot go back to {}", m.format_version, u.version)));
    if (u.version > 3)
      return std::unexpected(
          EnvError(ErrorKind::kUnsupported, "format version {} of Iceberg is not supported", u.version));
    m.format_version = u.version;
    return {};
  }

  Status operator()(const AddSchema& u) {
    if (u.schema.MinFormatVersion() > m.format_version)
      return std::unexpected(Refused("a column type or default needs format version 3"));
    for (const Schema& s : m.schemas) {
      if (s.SameAs(u.schema)) {
        last_schema = s.id;
        return {};
      }
    }
    Schema schema = u.schema;
    int highest = -1;
    for (const Schema& s : m.schemas) highest = std::max(highest, s.id);
    schema.id = std::max(highest + 1, schema.id);
    last_schema = schema.id;
    m.last_column_id = std::max(m.last_column_id, schema.HighestFieldId());
    m.schemas.push_back(std::move(schema));
    return {};
  }

  Status operator()(const SetCurrentSchema& u) {
    int id = u.id == -1 ? last_schema : u.id;
    if (!m.FindSchema(id)) return std::unexpected(Refused(fmt::format("schema {} does not exist", id)));
    m.current_schema_id = id;
    return {};
  }

  Status operator()(const AddPartitionSpec& u) {
    PartitionSpec spec = u.spec;
    for (const PartitionSpec& s : m.specs) {
      if (s.SameFields(spec)) {
        last_spec = s.id;
        return {};
      }
    }
    int highest = -1;
    for (const PartitionSpec& s : m.specs) highest = std::max(highest, s.id);
    spec.id = std::max(highest + 1, spec.id);
    for (PartitionField& f : spec.fields) m.last_partition_id = std::max(m.last_partition_id, f.field_id);
    last_spec = spec.id;
    m.specs.push_back(std::move(spec));
    return {};
  }

  Status operator()(const SetDefaultSpec& u) {
    int id = u.id == -1 ? last_spec : u.id;
    if (!m.FindSpec(id)) return std::unexpected(Refused(fmt::format("partition spec {} does not exist", id)));
    m.default_spec_id = id;
    return {};
  }

  Status operator()(const AddSortOrder& u) {
    SortOrder order = u.order;
    int highest = 0;
    for (const SortOrder& o : m.sort_orders) {
      highest = std::max(highest, o.id);
      if (o.fields == order.fields) {
        last_order = o.id;
        return {};
      }
    }
    order.id = order.fields.empty() ? 0 : std::max(highest + 1, order.id);
    last_order = order.id;
    m.sort_orders.push_back(std::move(order));
    return {};
  }

  Status operator()(const SetDefaultSortOrder& u) {
    int id = u.id == -1 ? last_order : u.id;
    for (const SortOrder& o : m.sort_orders) {
      if (o.id == id) {
        m.default_sort_order_id = id;
        return {};
      }
    }
    return std::unexpected(Refused(fmt::format("sort order {} does not exist", id)));
  }

  Status operator()(const AddSnapshot& u) {
    const Snapshot& s = u.snapshot;
    if (m.FindSnapshot(s.id)) return std::unexpected(Refused(fmt::format("snapshot {} exists already", s.id)));
    if (m.format_version >= 2) {
      if (s.manifest_list.empty()) return std::unexpected(Refused("a snapshot without manifest list"));
      if (s.sequence_number <= m.last_sequence_number && (s.parent_id || s.sequence_number < m.last_sequence_number))
        return std::unexpected(Failed(fmt::format("the snapshot's sequence number {} is behind the table's {}",
                                                  s.sequence_number, m.last_sequence_number)));
    }
    if (m.format_version >= 3) {
      if (!s.first_row_id || !s.added_rows || *s.added_rows < 0)
        return std::unexpected(Refused("a snapshot of a v3 table needs first-row-id and added-rows"));
      if (*s.first_row_id < m.next_row_id)
        return std::unexpected(Failed(
            fmt::format("the snapshot's first-row-id {} is behind the table's {}", *s.first_row_id, m.next_row_id)));
      m.next_row_id = *s.first_row_id + *s.added_rows;
    }
    m.last_sequence_number = std::max(m.last_sequence_number, s.sequence_number);
    m.snapshots.push_back(s);
    return {};
  }

  Status operator()(const SetSnapshotRef& u) {
    if (!m.FindSnapshot(u.ref.snapshot_id))
      return std::unexpected(Refused(fmt::format("snapshot {} does not exist", u.ref.snapshot_id)));
    if (u.name == "main") {
      if (!u.ref.is_branch) return std::unexpected(Refused("main is a branch"));
      if (m.current_snapshot_id != u.ref.snapshot_id) {
        m.current_snapshot_id = u.ref.snapshot_id;
        m.snapshot_log.push_back({now_ms, u.ref.snapshot_id});
      }
    }
    m.refs[u.name] = u.ref;
    return {};
  }

  Status operator()(const RemoveSnapshots& u) {
    std::set<int64_t> gone(u.ids.begin(), u.ids.end());
    if (m.current_snapshot_id && gone.contains(*m.current_snapshot_id))
      return std::unexpected(Refused("the current snapshot cannot be removed"));
    std::erase_if(m.snapshots, [&](const Snapshot& s) { return gone.contains(s.id); });
    std::erase_if(m.refs, [&](const auto& r) { return gone.contains(r.second.snapshot_id); });
    std::erase_if(m.statistics, [&](const StatisticsFile& f) { return gone.contains(f.snapshot_id); });
    std::erase_if(m.partition_statistics, [&](const StatisticsFile& f) { return gone.contains(f.snapshot_id); });
    snapshots_removed = true;
    return {};
  }

  Status operator()(const RemoveSnapshotRef& u) {
    m.refs.erase(u.name);
    if (u.name == "main") m.current_snapshot_id.reset();
    return {};
  }

  Status operator()(const SetLocation& u) {
    m.location = u.location;
    while (m.location.size() > 1 && m.location.back() == '/') m.location.pop_back();
    return {};
  }

  Status operator()(const SetProperties& u) {
    for (const auto& [k, v] : u.properties) m.properties[k] = v;
    return {};
  }

  Status operator()(const RemoveProperties& u) {
    for (const std::string& k : u.keys) m.properties.erase(k);
    return {};
  }

  Status operator()(const SetStatistics& u) {
    auto& list = u.partition ? m.partition_statistics : m.statistics;
    std::erase_if(list, [&](const StatisticsFile& f) { return f.snapshot_id == u.file.snapshot_id; });
    list.push_back(u.file);
    return {};
  }

  Status operator()(const RemoveStatistics& u) {
    auto& list = u.partition ? m.partition_statistics : m.statistics;
    std::erase_if(list, [&](const StatisticsFile& f) { return f.snapshot_id == u.snapshot_id; });
    return {};
  }

  Status operator()(const RemovePartitionSpecs& u) {
    std::set<int> gone(u.ids.begin(), u.ids.end());
    if (gone.contains(m.default_spec_id))
      return std::unexpected(Refused("the default partition spec cannot be removed"));
    std::erase_if(m.specs, [&](const PartitionSpec& s) { return gone.contains(s.id); });
    return {};
  }

  Status operator()(const RemoveSchemas& u) {
    std::set<int> gone(u.ids.begin(), u.ids.end());
    if (gone.contains(m.current_schema_id)) return std::unexpected(Refused("the current schema cannot be removed"));
    std::erase_if(m.schemas, [&](const Schema& s) { return gone.contains(s.id); });
    return {};
  }
};

/// What is left of the history after a removed snapshot would have a hole: only what follows the last hole is kept.
void TrimSnapshotLog(TableMetadata& m) {
  size_t keep_from = 0;
  for (size_t i = 0; i < m.snapshot_log.size(); ++i) {
    if (!m.FindSnapshot(m.snapshot_log[i].snapshot_id)) keep_from = i + 1;
  }
  m.snapshot_log.erase(m.snapshot_log.begin(), m.snapshot_log.begin() + std::ptrdiff_t(keep_from));
}

Status CheckOne(const Requirement& requirement, const TableMetadata* m) {
  if (std::holds_alternative<AssertCreate>(requirement)) {
    if (m) return std::unexpected(Failed("requirement failed: the table exists already"));
    return {};
  }
  if (!m) return std::unexpected(Failed("requirement failed: the table does not exist"));
  auto same = [](const char* what, const auto& expected, const auto& actual) -> Status {
    if (expected == actual) return {};
    return std::unexpected(Failed(fmt::format("requirement failed: {} is {}, expected {}", what, actual, expected)));
  };
  return std::visit(
      Overload{
          [](const AssertCreate&) -> Status { return {}; },
          [&](const AssertTableUuid& r) { return same("the table's UUID", r.uuid, m->table_uuid); },
          [&](const AssertRefSnapshotId& r) -> Status {
            const Snapshot* s = m->RefSnapshot(r.ref);
            std::optional<int64_t> actual;
            if (s) actual = s->id;
            if (actual == r.snapshot_id) return {};
            auto text = [](std::optional<int64_t> id) { return id ? std::to_string(*id) : std::string("absent"); };
            return std::unexpected(Failed(fmt::format("requirement failed: the head of \"{}\" is {}, expected {}",
                                                      r.ref, text(actual), text(r.snapshot_id))));
          },
          [&](const AssertLastAssignedFieldId& r) {
            return same("the last assigned field id", r.id, m->last_column_id);
          },
          [&](const AssertCurrentSchemaId& r) { return same("the current schema", r.id, m->current_schema_id); },
          [&](const AssertLastAssignedPartitionId& r) {
            return same("the last assigned partition id", r.id, m->last_partition_id);
          },
          [&](const AssertDefaultSpecId& r) { return same("the default partition spec", r.id, m->default_spec_id); },
          [&](const AssertDefaultSortOrderId& r) {
            return same("the default sort order", r.id, m->default_sort_order_id);
          }},
      requirement);
}

Json UpdateToJson(const MetadataUpdate& update) {
  return std::visit(
      Overload{
          [](const AssignUuid& u) -> Json { return {{"action", "assign-uuid"}, {"uuid", u.uuid}}; },
          [](const UpgradeFormatVersion& u) -> Json {
            return {{"action", "upgrade-format-version"}, {"format-version", u.version}};
          },
          [](const AddSchema& u) -> Json {
            return {
                {"action", "add-schema"}, {"schema", ToJson(u.schema)}, {"last-column-id", u.schema.HighestFieldId()}};
          },
          [](const SetCurrentSchema& u) -> Json { return {{"action", "set-current-schema"}, {"schema-id", u.id}}; },
          [](const AddPartitionSpec& u) -> Json { return {{"action", "add-spec"}, {"spec", ToJson(u.spec)}}; },
          [](const SetDefaultSpec& u) -> Json { return {{"action", "set-default-spec"}, {"spec-id", u.id}}; },
          [](const AddSortOrder& u) -> Json { return {{"action", "add-sort-order"}, {"sort-order", ToJson(u.order)}}; },
          [](const SetDefaultSortOrder& u) -> Json {
            return {{"action", "set-default-sort-order"}, {"sort-order-id", u.id}};
          },
          [](const AddSnapshot& u) -> Json { return {{"action", "add-snapshot"}, {"snapshot", ToJson(u.snapshot)}}; },
          [](const SetSnapshotRef& u) -> Json {
            Json j = ToJson(u.ref);
            j["action"] = "set-snapshot-ref";
            j["ref-name"] = u.name;
            return j;
          },
          [](const RemoveSnapshots& u) -> Json { return {{"action", "remove-snapshots"}, {"snapshot-ids", u.ids}}; },
          [](const RemoveSnapshotRef& u) -> Json { return {{"action", "remove-snapshot-ref"}, {"ref-name", u.name}}; },
          [](const SetLocation& u) -> Json { return {{"action", "set-location"}, {"location", u.location}}; },
          [](const SetProperties& u) -> Json { return {{"action", "set-properties"}, {"updates", u.properties}}; },
          [](const RemoveProperties& u) -> Json { return {{"action", "remove-properties"}, {"removals", u.keys}}; },
          [](const SetStatistics& u) -> Json {
            Json file = Json::parse(u.file.json, nullptr, false);
            if (u.partition) return {{"action", "set-partition-statistics"}, {"partition-statistics", std::move(file)}};
            return {{"action", "set-statistics"}, {"snapshot-id", u.file.snapshot_id}, {"statistics", std::move(file)}};
          },
          [](const RemoveStatistics& u) -> Json {
            return {{"action", u.partition ? "remove-partition-statistics" : "remove-statistics"},
                    {"snapshot-id", u.snapshot_id}};
          },
          [](const RemovePartitionSpecs& u) -> Json {
            return {{"action", "remove-partition-specs"}, {"spec-ids", u.ids}};
          },
          [](const RemoveSchemas& u) -> Json { return {{"action", "remove-schemas"}, {"schema-ids", u.ids}}; }},
      update);
}

Json RequirementToJson(const Requirement& requirement) {
  return std::visit(
      Overload{[](const AssertCreate&) -> Json { return {{"type", "assert-create"}}; },
               [](const AssertTableUuid& r) -> Json { return {{"type", "assert-table-uuid"}, {"uuid", r.uuid}}; },
               [](const AssertRefSnapshotId& r) -> Json {
                 Json j = {{"type", "assert-ref-snapshot-id"}, {"ref", r.ref}, {"snapshot-id", nullptr}};
                 if (r.snapshot_id) j["snapshot-id"] = *r.snapshot_id;
                 return j;
               },
               [](const AssertLastAssignedFieldId& r) -> Json {
                 return {{"type", "assert-last-assigned-field-id"}, {"last-assigned-field-id", r.id}};
               },
               [](const AssertCurrentSchemaId& r) -> Json {
                 return {{"type", "assert-current-schema-id"}, {"current-schema-id", r.id}};
               },
               [](const AssertLastAssignedPartitionId& r) -> Json {
                 return {{"type", "assert-last-assigned-partition-id"}, {"last-assigned-partition-id", r.id}};
               },
               [](const AssertDefaultSpecId& r) -> Json {
                 return {{"type", "assert-default-spec-id"}, {"default-spec-id", r.id}};
               },
               [](const AssertDefaultSortOrderId& r) -> Json {
                 return {{"type", "assert-default-sort-order-id"}, {"default-sort-order-id", r.id}};
               }},
      requirement);
}

Result<MetadataUpdate> UpdateFromJson(const Json& j) {
  constexpr char kWhat[] = "table update";
  if (!j.is_object()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a table update is no object"));
  TW_ASSIGN(std::string action, GetString(j, "action", kWhat));
  auto object = [&](const char* key) -> Result<const Json*> {
    const Json* o = FindObject(j, key);
    if (!o) return std::unexpected(EnvError(ErrorKind::kCorrupt, "{} {}: \"{}\" is missing", kWhat, action, key));
    return o;
  };
  if (action == "assign-uuid") {
    TW_ASSIGN(std::string uuid, GetString(j, "uuid", kWhat));
    return AssignUuid{std::move(uuid)};
  }
  if (action == "upgrade-format-version") {
    TW_ASSIGN(int version, GetInt(j, "format-version", kWhat));
    return UpgradeFormatVersion{version};
  }
  if (action == "add-schema") {
    TW_ASSIGN(const Json* o, object("schema"));
    TW_ASSIGN(Schema schema, SchemaFromJson(*o));
    return AddSchema{std::move(schema)};
  }
  if (action == "set-current-schema") {
    TW_ASSIGN(int id, GetInt(j, "schema-id", kWhat));
    return SetCurrentSchema{id};
  }
  if (action == "add-spec") {
    TW_ASSIGN(const Json* o, object("spec"));
    TW_ASSIGN(PartitionSpec spec, PartitionSpecFromJson(*o));
    return AddPartitionSpec{std::move(spec)};
  }
  if (action == "set-default-spec") {
    TW_ASSIGN(int id, GetInt(j, "spec-id", kWhat));
    return SetDefaultSpec{id};
  }
  if (action == "add-sort-order") {
    TW_ASSIGN(const Json* o, object("sort-order"));
    TW_ASSIGN(SortOrder order, SortOrderFromJson(*o));
    return AddSortOrder{std::move(order)};
  }
  if (action == "set-default-sort-order") {
    TW_ASSIGN(int id, GetInt(j, "sort-order-id", kWhat));
    return SetDefaultSortOrder{id};
  }
  if (action == "add-snapshot") {
    TW_ASSIGN(const Json* o, object("snapshot"));
    TW_ASSIGN(Snapshot snapshot, SnapshotFromJson(*o));
    return AddSnapshot{std::move(snapshot)};
  }
  if (action == "set-snapshot-ref") {
    TW_ASSIGN(std::string name, GetString(j, "ref-name", kWhat));
    TW_ASSIGN(SnapshotRef ref, SnapshotRefFromJson(j));
    return SetSnapshotRef{std::move(name), ref};
  }
  if (action == "remove-snapshots") {
    const Json* ids = FindArray(j, "snapshot-ids");
    RemoveSnapshots u;
    for (const Json& id : ids ? *ids : Json::array()) {
      if (!id.is_number_integer()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a snapshot id is no integer"));
      u.ids.push_back(id.get<int64_t>());
    }
    return u;
  }
  if (action == "remove-snapshot-ref") {
    TW_ASSIGN(std::string name, GetString(j, "ref-name", kWhat));
    return RemoveSnapshotRef{std::move(name)};
  }
  if (action == "set-location") {
    TW_ASSIGN(std::string location, GetString(j, "location", kWhat));
    return SetLocation{std::move(location)};
  }
  if (action == "set-properties") {
    // Early drafts of the protocol called it "updated".
    TW_ASSIGN(Properties p, GetProperties(j, j.contains("updates") ? "updates" : "updated", kWhat));
    return SetProperties{std::move(p)};
  }
  if (action == "remove-properties") {
    RemoveProperties u;
    const Json* keys = FindArray(j, j.contains("removals") ? "removals" : "removed");
    for (const Json& k : keys ? *keys : Json::array()) {
      if (!k.is_string()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a property name is no text"));
      u.keys.push_back(k.get<std::string>());
    }
    return u;
  }
  if (action == "set-statistics" || action == "set-partition-statistics") {
    bool partition = action == "set-partition-statistics";
    TW_ASSIGN(const Json* o, object(partition ? "partition-statistics" : "statistics"));
    TW_ASSIGN(StatisticsFile file, StatisticsFromJson(*o));
    return SetStatistics{std::move(file), partition};
  }
  if (action == "remove-statistics" || action == "remove-partition-statistics") {
    TW_ASSIGN(int64_t id, GetLong(j, "snapshot-id", kWhat));
    return RemoveStatistics{id, action == "remove-partition-statistics"};
  }
  if (action == "remove-partition-specs" || action == "remove-schemas") {
    bool specs = action == "remove-partition-specs";
    const Json* array = FindArray(j, specs ? "spec-ids" : "schema-ids");
    TW_ASSIGN(std::vector<int> ids, GetInts(array ? *array : Json(), kWhat));
    if (specs) return RemovePartitionSpecs{std::move(ids)};
    return RemoveSchemas{std::move(ids)};
  }
  return std::unexpected(
      EnvError(ErrorKind::kUnsupported, "table update \"{}\" is not supported", action.substr(0, 60)));
}

Result<Requirement> RequirementFromJson(const Json& j) {
  constexpr char kWhat[] = "table requirement";
  if (!j.is_object()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "a table requirement is no object"));
  TW_ASSIGN(std::string type, GetString(j, "type", kWhat));
  if (type == "assert-create") return AssertCreate{};
  if (type == "assert-table-uuid") {
    TW_ASSIGN(std::string uuid, GetString(j, "uuid", kWhat));
    return AssertTableUuid{std::move(uuid)};
  }
  if (type == "assert-ref-snapshot-id") {
    TW_ASSIGN(std::string ref, GetString(j, "ref", kWhat));
    return AssertRefSnapshotId{std::move(ref), FindLong(j, "snapshot-id")};
  }
  if (type == "assert-last-assigned-field-id") {
    TW_ASSIGN(int id, GetInt(j, "last-assigned-field-id", kWhat));
    return AssertLastAssignedFieldId{id};
  }
  if (type == "assert-current-schema-id") {
    TW_ASSIGN(int id, GetInt(j, "current-schema-id", kWhat));
    return AssertCurrentSchemaId{id};
  }
  if (type == "assert-last-assigned-partition-id") {
    TW_ASSIGN(int id, GetInt(j, "last-assigned-partition-id", kWhat));
    return AssertLastAssignedPartitionId{id};
  }
  if (type == "assert-default-spec-id") {
    TW_ASSIGN(int id, GetInt(j, "default-spec-id", kWhat));
    return AssertDefaultSpecId{id};
  }
  if (type == "assert-default-sort-order-id") {
    TW_ASSIGN(int id, GetInt(j, "default-sort-order-id", kWhat));
    return AssertDefaultSortOrderId{id};
  }
  return std::unexpected(
      EnvError(ErrorKind::kUnsupported, "table requirement \"{}\" is not supported", type.substr(0, 60)));
}

}  // namespace

Status CheckRequirements(const std::vector<Requirement>& requirements, const TableMetadata* metadata) {
  for (const Requirement& r : requirements) TW_TRY(CheckOne(r, metadata));
  return {};
}

Status ApplyUpdates(const std::vector<MetadataUpdate>& updates, int64_t now_ms, TableMetadata* metadata) {
  TableMetadata m = *metadata;
  Applier applier{m, now_ms};
  for (const MetadataUpdate& u : updates) TW_TRY(std::visit(applier, u));
  if (m.table_uuid.empty()) return std::unexpected(Refused("a table without UUID"));
  if (!m.FindSchema(m.current_schema_id)) return std::unexpected(Refused("a table without current schema"));
  if (!m.FindSpec(m.default_spec_id)) return std::unexpected(Refused("a table without default partition spec"));
  if (m.sort_orders.empty()) m.sort_orders.emplace_back();
  if (applier.snapshots_removed) TrimSnapshotLog(m);
  m.last_updated_ms = std::max(m.last_updated_ms, now_ms);
  *metadata = std::move(m);
  return {};
}

std::vector<std::string> AdvanceMetadataLog(TableMetadata* m, const std::string& replaced_file,
                                            int64_t replaced_updated_ms) {
  std::vector<std::string> fell_out;
  if (!replaced_file.empty()) m->metadata_log.push_back({replaced_updated_ms, replaced_file});
  size_t max = size_t(std::max<int64_t>(1, m->IntProperty(kPropPreviousVersionsMax, 100)));
  if (m->metadata_log.size() > max) {
    auto end = m->metadata_log.end() - std::ptrdiff_t(max);
    for (auto it = m->metadata_log.begin(); it != end; ++it) fell_out.push_back(it->metadata_file);
    m->metadata_log.erase(m->metadata_log.begin(), end);
  }
  return fell_out;
}

std::string CommitRequestToJson(const std::vector<Requirement>& requirements,
                                const std::vector<MetadataUpdate>& updates, const std::string& identifier_json) {
  Json j = {{"requirements", Json::array()}, {"updates", Json::array()}};
  for (const Requirement& r : requirements) j["requirements"].push_back(RequirementToJson(r));
  for (const MetadataUpdate& u : updates) j["updates"].push_back(UpdateToJson(u));
  if (!identifier_json.empty()) j["identifier"] = Json::parse(identifier_json, nullptr, false);
  return Dump(j);
}

Result<CommitRequest> ParseCommitRequest(std::string_view text) {
  TW_ASSIGN(Json j, ParseJson(text, "commit request"));
  if (!j.is_object()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "commit request is no object"));
  CommitRequest request;
  if (const Json* identifier = FindObject(j, "identifier")) request.identifier_json = Dump(*identifier);
  if (const Json* list = FindArray(j, "requirements")) {
    for (const Json& r : *list) {
      TW_ASSIGN(Requirement requirement, RequirementFromJson(r));
      request.requirements.push_back(std::move(requirement));
    }
  }
  if (const Json* list = FindArray(j, "updates")) {
    for (const Json& u : *list) {
      TW_ASSIGN(MetadataUpdate update, UpdateFromJson(u));
      request.updates.push_back(std::move(update));
    }
  }
  return request;
}

}  // namespace tidewater::iceberg
