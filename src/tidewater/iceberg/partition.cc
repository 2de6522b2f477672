#include "tidewater/iceberg/partition.h"
#include "tidewater/iceberg/json_codec.h"

namespace tidewater::iceberg {
namespace {

Error Bad(std::string_view what, std::string_view why) {
  return EnvError(ErrorKind::kCorrupt, "invalid {}: {}", what, why);
}

Result<std::vector<int>> SourceIds(const Json& j, std::string_view what) {
  if (const Json* ids = FindArray(j, "source-ids")) return GetInts(*ids, what);
  TW_ASSIGN(int id, GetInt(j, "source-id", what));
  return std::vector<int>{id};
}

void PutSourceIds(Json& j, const std::vector<int>& ids) {
  if (ids.size() == 1)
    j["source-id"] = ids[0];
  else
    j["source-ids"] = ids;
}

Json FieldsToJson(const PartitionSpec& spec) {
  Json fields = Json::array();
  for (const PartitionField& f : spec.fields) {
    Json j = {{"field-id", f.field_id}, {"name", f.name}, {"transform", f.transform.text}};
    PutSourceIds(j, f.source_ids);
    fields.push_back(std::move(j));
  }
  return fields;
}

}  // namespace

bool Transform::IsKnown() const {
  for (std::string_view name : {"identity", "year", "month", "day", "hour", "void"}) {
    if (text == name) return true;
  }
  return text.starts_with("bucket[") || text.starts_with("truncate[");
}

Type Transform::ResultType(const Type& source) const {
  if (text.starts_with("bucket[") || text == "year" || text == "month" || text == "hour")
    return Type::Of(TypeKind::kInt);
  // The spec says int; every implementation writes a date, which has the same bytes.
  if (text == "day") return Type::Of(TypeKind::kDate);
  return source;
}

bool PartitionSpec::IsUnpartitioned() const {
  for (const PartitionField& f : fields) {
    if (f.transform.text != "void") return false;
  }
  return true;
}

bool PartitionSpec::SameFields(const PartitionSpec& other) const {
  if (fields.size() != other.fields.size()) return false;
  for (size_t i = 0; i < fields.size(); ++i) {
    const PartitionField &a = fields[i], &b = other.fields[i];
    if (a.source_ids != b.source_ids || a.transform != b.transform || a.name != b.name) return false;
  }
  return true;
}

Type PartitionSpec::PartitionType(const Schema& schema) const {
  std::vector<Field> out;
  for (const PartitionField& f : fields) {
    const Field* source = f.source_ids.empty() ? nullptr : schema.FindById(f.source_ids[0]);
    Field field;
    field.id = f.field_id;
    field.name = f.name;
    field.type = f.transform.ResultType(source ? source->type : Type::Of(TypeKind::kBinary));
    out.push_back(std::move(field));
  }
  return Type::Struct(std::move(out));
}

Json ToJson(const PartitionSpec& spec) { return {{"spec-id", spec.id}, {"fields", FieldsToJson(spec)}}; }

Result<PartitionSpec> PartitionSpecFromJson(const Json& j) {
  PartitionSpec spec;
  const Json* fields = j.is_array() ? &j : nullptr;
  if (j.is_object()) {
    spec.id = FindInt(j, "spec-id").value_or(0);
    fields = FindArray(j, "fields");
  }
  if (!fields) return std::unexpected(Bad("partition spec", "no fields"));
  int next_id = 1000;
  for (const Json& f : *fields) {
    if (!f.is_object()) return std::unexpected(Bad("partition spec", "a field is no object"));
    PartitionField field;
    TW_ASSIGN(field.source_ids, SourceIds(f, "partition field"));
    field.field_id = FindInt(f, "field-id").value_or(next_id);
    next_id = std::max(next_id, field.field_id) + 1;
    TW_ASSIGN(field.name, GetString(f, "name", "partition field"));
    TW_ASSIGN(field.transform.text, GetString(f, "transform", "partition field"));
    spec.fields.push_back(std::move(field));
  }
  return spec;
}

Json ToJson(const SortOrder& order) {
  Json fields = Json::array();
  for (const SortField& f : order.fields) {
    Json j = {{"transform", f.transform.text},
              {"direction", f.ascending ? "asc" : "desc"},
              {"null-order", f.nulls_first ? "nulls-first" : "nulls-last"}};
    PutSourceIds(j, f.source_ids);
    fields.push_back(std::move(j));
  }
  return {{"order-id", order.id}, {"fields", std::move(fields)}};
}

Result<SortOrder> SortOrderFromJson(const Json& j) {
  SortOrder order;
  if (!j.is_object()) return std::unexpected(Bad("sort order", "no object"));
  order.id = FindInt(j, "order-id").value_or(0);
  const Json* fields = FindArray(j, "fields");
  if (!fields) return std::unexpected(Bad("sort order", "no fields"));
  for (const Json& f : *fields) {
    if (!f.is_object()) return std::unexpected(Bad("sort order", "a field is no object"));
    SortField field;
    TW_ASSIGN(field.source_ids, SourceIds(f, "sort field"));
    TW_ASSIGN(field.transform.text, GetString(f, "transform", "sort field"));
    TW_ASSIGN(std::string direction, GetString(f, "direction", "sort field"));
    TW_ASSIGN(std::string nulls, GetString(f, "null-order", "sort field"));
    field.ascending = direction != "desc";
    field.nulls_first = nulls != "nulls-last";
    order.fields.push_back(std::move(field));
  }
  return order;
}

Result<PartitionSpec> ParsePartitionSpecJson(std::string_view json) {
  TW_ASSIGN(Json j, ParseJson(json, "partition spec"));
  return PartitionSpecFromJson(j);
}
std::string PartitionSpecToJson(const PartitionSpec& spec) { return Dump(ToJson(spec)); }
std::string PartitionFieldsToJson(const PartitionSpec& spec) { return Dump(FieldsToJson(spec)); }
Result<SortOrder> ParseSortOrderJson(std::string_view json) {
  TW_ASSIGN(Json j, ParseJson(json, "sort order"));
  return SortOrderFromJson(j);
}
std::string SortOrderToJson(const SortOrder& order) { return Dump(ToJson(order)); }

}  // namespace tidewater::iceberg
