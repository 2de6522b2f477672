#include "tidewater/iceberg/schema.h"
#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <fmt/format.h>
#include "tidewater/iceberg/json_codec.h"

namespace tidewater::iceberg {
namespace {

constexpr int kFieldIdMax = 2147483447;  // above are the metadata columns
constexpr int kDepthMax = 50;

const std::map<std::string_view, TypeKind> kNames = {{"boolean", TypeKind::kBoolean},
                                                     {"int", TypeKind::kInt},
                                                     {"long", TypeKind::kLong},
                                                     {"float", TypeKind::kFloat},
                                                     {"double", TypeKind::kDouble},
                                                     {"date", TypeKind::kDate},
                                                     {"time", TypeKind::kTime},
                                                     {"timestamp", TypeKind::kTimestamp},
                                                     {"timestamptz", TypeKind::kTimestampTz},
                                                     {"string", TypeKind::kString},
                                                     {"uuid", TypeKind::kUuid},
                                                     {"binary", TypeKind::kBinary},
                                                     {"unknown", TypeKind::kUnknown},
                                                     {"timestamp_ns", TypeKind::kTimestampNs},
                                                     {"timestamptz_ns", TypeKind::kTimestampTzNs},
                                                     {"variant", TypeKind::kVariant}};

std::string_view Trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

std::optional<int> Number(std::string_view s) {
  s = Trim(s);
  int v = 0;
  auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (ec != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return v;
}

/// The text between `open` and the closing last character, when `text` is NAME + open + … + close.
std::optional<std::string_view> Inside(std::string_view text, std::string_view name, char open, char close) {
  if (!text.starts_with(name)) return std::nullopt;
  text = Trim(text.substr(name.size()));
  if (text.size() < 2 || text.front() != open || text.back() != close) return std::nullopt;
  return text.substr(1, text.size() - 2);
}

template <class F>
void Visit(const std::vector<Field>& fields, F&& f) {
  for (const Field& field : fields) {
    f(field);
    Visit(field.type.fields, f);
  }
}

template <class F>
void VisitMutable(std::vector<Field>& fields, F&& f) {
  for (Field& field : fields) {
    f(field);
    VisitMutable(field.type.fields, f);
  }
}

const Field* Find(const std::vector<Field>& fields, int id) {
  for (const Field& f : fields) {
    if (f.id == id) return &f;
    if (const Field* inner = Find(f.type.fields, id)) return inner;
  }
  return nullptr;
}

Field* FindMutable(std::vector<Field>& fields, int id) { return const_cast<Field*>(Find(fields, id)); }

const Field* FindName(const std::vector<Field>& fields, std::string_view name) {
  for (const Field& f : fields) {
    if (f.name == name) return &f;
    if (name.size() > f.name.size() && name.starts_with(f.name) && name[f.name.size()] == '.') {
      if (const Field* inner = FindName(f.type.fields, name.substr(f.name.size() + 1))) return inner;
    }
  }
  return nullptr;
}

/// The list of fields that holds `id` itself, or null.
std::vector<Field>* Holder(std::vector<Field>& fields, int id) {
  for (Field& f : fields) {
    if (f.id == id) return &fields;
    if (auto* inner = Holder(f.type.fields, id)) return inner;
  }
  return nullptr;
}

/// The kind of the type that holds `id`: struct for the top level.
TypeKind HolderKind(const std::vector<Field>& fields, int id, TypeKind kind) {
  for (const Field& f : fields) {
    if (f.id == id) return kind;
    if (Find(f.type.fields, id)) return HolderKind(f.type.fields, id, f.type.kind);
  }
  return TypeKind::kUnknown;
}

Error Bad(std::string_view why) { return EnvError(ErrorKind::kCorrupt, "invalid Iceberg schema: {}", why); }

Json TypeToJson(const Type& type);

Json FieldToJson(const Field& f) {
  Json j = {{"id", f.id}, {"name", f.name}, {"required", f.required}, {"type", TypeToJson(f.type)}};
  if (!f.doc.empty()) j["doc"] = f.doc;
  for (auto [key, value] :
       {std::pair("initial-default", &f.initial_default), std::pair("write-default", &f.write_default)}) {
    if (!*value) continue;
    Json v = Json::parse(**value, nullptr, false);
    if (!v.is_discarded()) j[key] = std::move(v);
  }
  return j;
}

Json TypeToJson(const Type& type) {
  switch (type.kind) {
    case TypeKind::kStruct: {
      Json fields = Json::array();
      for (const Field& f : type.fields) fields.push_back(FieldToJson(f));
      return {{"type", "struct"}, {"fields", std::move(fields)}};
    }
    case TypeKind::kList: {
      const Field& e = type.fields[0];
      return {
          {"type", "list"}, {"element-id", e.id}, {"element-required", e.required}, {"element", TypeToJson(e.type)}};
    }
    case TypeKind::kMap: {
      const Field &k = type.fields[0], &v = type.fields[1];
      return {{"type", "map"},
              {"key-id", k.id},
              {"key", TypeToJson(k.type)},
              {"value-id", v.id},
              {"value-required", v.required},
              {"value", TypeToJson(v.type)}};
    }
    default:
      return type.ToString();
  }
}

Result<std::vector<Field>> FieldsFromJson(const Json& j, int depth);

Result<Type> TypeFromJson(const Json& j, int depth) {
  if (depth > kDepthMax) return std::unexpected(Bad("nested too deeply"));
  if (j.is_string()) return ParsePrimitiveType(j.get_ref<const std::string&>());
  if (!j.is_object()) return std::unexpected(Bad("a type is neither text nor object"));
  TW_ASSIGN(std::string kind, GetString(j, "type", "type"));
  if (kind == "struct") {
    TW_ASSIGN(auto fields, FieldsFromJson(j, depth + 1));
    return Type::Struct(std::move(fields));
  }
  if (kind == "list") {
    TW_ASSIGN(int id, GetInt(j, "element-id", "list type"));
    if (!j.contains("element")) return std::unexpected(Bad("a list without element"));
    TW_ASSIGN(Type element, TypeFromJson(j["element"], depth + 1));
    return Type::List(id, std::move(element), FindBool(j, "element-required", false));
  }
  if (kind == "map") {
    TW_ASSIGN(int key_id, GetInt(j, "key-id", "map type"));
    TW_ASSIGN(int value_id, GetInt(j, "value-id", "map type"));
    if (!j.contains("key") || !j.contains("value")) return std::unexpected(Bad("a map without key or value"));
    TW_ASSIGN(Type key, TypeFromJson(j["key"], depth + 1));
    TW_ASSIGN(Type value, TypeFromJson(j["value"], depth + 1));
    return Type::Map(key_id, std::move(key), value_id, std::move(value), FindBool(j, "value-required", false));
  }
  return ParsePrimitiveType(kind);
}

Result<std::vector<Field>> FieldsFromJson(const Json& j, int depth) {
  const Json* array = FindArray(j, "fields");
  if (!array) return std::unexpected(Bad("a struct without fields"));
  std::vector<Field> out;
  out.reserve(array->size());
  for (const Json& f : *array) {
    if (!f.is_object() || !f.contains("type")) return std::unexpected(Bad("a field without a type"));
    Field field;
    TW_ASSIGN(field.id, GetInt(f, "id", "field"));
    TW_ASSIGN(field.name, GetString(f, "name", "field"));
    field.required = FindBool(f, "required", false);
    TW_ASSIGN(field.type, TypeFromJson(f["type"], depth));
    field.doc = FindString(f, "doc").value_or("");
    if (auto d = f.find("initial-default"); d != f.end() && !d->is_null()) field.initial_default = Dump(*d);
    if (auto d = f.find("write-default"); d != f.end() && !d->is_null()) field.write_default = Dump(*d);
    out.push_back(std::move(field));
  }
  return out;
}

void AssignStruct(std::vector<Field>& fields, int* last_id, std::map<int, int>* renumbered);

void AssignNested(Type& type, int* last_id, std::map<int, int>* renumbered) {
  if (!type.fields.empty()) AssignStruct(type.fields, last_id, renumbered);
}

void AssignStruct(std::vector<Field>& fields, int* last_id, std::map<int, int>* renumbered) {
  for (Field& f : fields) {
    int id = ++*last_id;
    if (f.id > 0) (*renumbered)[f.id] = id;
    f.id = id;
  }
  for (Field& f : fields) AssignNested(f.type, last_id, renumbered);
}

}  // namespace

bool Type::operator==(const Type&) const = default;
bool Field::operator==(const Field&) const = default;

Type Type::Of(TypeKind kind) {
  Type t;
  t.kind = kind;
  return t;
}

Type Type::Decimal(int precision, int scale) {
  Type t = Of(TypeKind::kDecimal);
  t.precision = precision;
  t.scale = scale;
  return t;
}

Type Type::Fixed(int length) {
  Type t = Of(TypeKind::kFixed);
  t.length = length;
  return t;
}

Type Type::Struct(std::vector<Field> fields) {
  Type t = Of(TypeKind::kStruct);
  t.fields = std::move(fields);
  return t;
}

Type Type::List(int element_id, Type element, bool element_required) {
  Type t = Of(TypeKind::kList);
  Field f;
  f.id = element_id;
  f.name = "element";
  f.required = element_required;
  f.type = std::move(element);
  t.fields.push_back(std::move(f));
  return t;
}

Type Type::Map(int key_id, Type key, int value_id, Type value, bool value_required) {
  Type t = Of(TypeKind::kMap);
  Field k, v;
  k.id = key_id;
  k.name = "key";
  k.required = true;
  k.type = std::move(key);
  v.id = value_id;
  v.name = "value";
  v.required = value_required;
  v.type = std::move(value);
  t.fields.push_back(std::move(k));
  t.fields.push_back(std::move(v));
  return t;
}

std::string Type::ToString() const {
  switch (kind) {
    case TypeKind::kDecimal:
      return fmt::format("decimal({}, {})", precision, scale);
    case TypeKind::kFixed:
      return fmt::format("fixed[{}]", length);
    case TypeKind::kGeometry:
      return parameters.empty() ? "geometry" : "geometry(" + parameters + ")";
    case TypeKind::kGeography:
      return parameters.empty() ? "geography" : "geography(" + parameters + ")";
    case TypeKind::kStruct: {
      std::string s = "struct<";
      for (const Field& f : fields) {
        if (s.size() > 7) s += ", ";
        s += fmt::format("{}: {}: {} {}", f.id, f.name, f.required ? "required" : "optional", f.type.ToString());
      }
      return s + ">";
    }
    case TypeKind::kList:
      return "list<" + fields[0].type.ToString() + ">";
    case TypeKind::kMap:
      return "map<" + fields[0].type.ToString() + ", " + fields[1].type.ToString() + ">";
    default:
      for (const auto& [name, k] : kNames) {
        if (k == kind) return std::string(name);
      }
      return "unknown";
  }
}

Result<Type> ParsePrimitiveType(std::string_view text) {
  text = Trim(text);
  if (auto it = kNames.find(text); it != kNames.end()) return Type::Of(it->second);
  if (auto args = Inside(text, "decimal", '(', ')')) {
    size_t comma = args->find(',');
    if (comma != std::string_view::npos) {
      auto p = Number(args->substr(0, comma)), s = Number(args->substr(comma + 1));
      if (p && s && *p >= 1 && *p <= 38 && *s >= 0 && *s <= *p) return Type::Decimal(*p, *s);
    }
  }
  if (auto args = Inside(text, "fixed", '[', ']')) {
    auto n = Number(*args);
    if (n && *n >= 0) return Type::Fixed(*n);
  }
  for (auto [name, kind] : {std::pair("geometry", TypeKind::kGeometry), std::pair("geography", TypeKind::kGeography)}) {
    if (text == name) return Type::Of(kind);
    if (auto args = Inside(text, name, '(', ')')) {
      Type t = Type::Of(kind);
      t.parameters = *args;
      return t;
    }
  }
  return std::unexpected(Bad(fmt::format("unknown type \"{}\"", text.substr(0, 100))));
}

const Field* Schema::FindById(int field_id) const { return Find(fields, field_id); }
const Field* Schema::FindByName(std::string_view full_name) const { return FindName(fields, full_name); }

int Schema::HighestFieldId() const {
  int highest = 0;
  Visit(fields, [&](const Field& f) { highest = std::max(highest, f.id); });
  return highest;
}

bool Schema::SameAs(const Schema& other) const {
  return fields == other.fields && identifier_field_ids == other.identifier_field_ids;
}

int Schema::MinFormatVersion() const {
  int version = 1;
  Visit(fields, [&](const Field& f) {
    if ((f.type.kind >= TypeKind::kUnknown && f.type.kind <= TypeKind::kGeography) || f.initial_default ||
        f.write_default)
      version = 3;
  });
  return version;
}

Json ToJson(const Schema& schema) {
  Json j = TypeToJson(Type::Struct(schema.fields));
  j["schema-id"] = schema.id;
  if (!schema.identifier_field_ids.empty()) j["identifier-field-ids"] = schema.identifier_field_ids;
  return j;
}

Result<Schema> SchemaFromJson(const Json& j) {
  if (!j.is_object()) return std::unexpected(Bad("no object"));
  Schema schema;
  schema.id = FindInt(j, "schema-id").value_or(0);
  TW_ASSIGN(schema.fields, FieldsFromJson(j, 1));
  if (const Json* ids = FindArray(j, "identifier-field-ids")) {
    TW_ASSIGN(schema.identifier_field_ids, GetInts(*ids, "identifier-field-ids"));
  }
  std::set<int> seen;
  bool unique = true, in_range = true;
  Visit(schema.fields, [&](const Field& f) {
    unique &= seen.insert(f.id).second;
    in_range &= f.id <= kFieldIdMax;
  });
  if (!unique) return std::unexpected(Bad("a field id appears twice"));
  if (!in_range) return std::unexpected(Bad("a field id in the reserved range"));
  for (int id : schema.identifier_field_ids) {
    if (!seen.contains(id)) return std::unexpected(Bad(fmt::format("identifier field {} is not in the schema", id)));
  }
  return schema;
}

Result<Schema> ParseSchemaJson(std::string_view text) {
  TW_ASSIGN(Json j, ParseJson(text, "schema"));
  return SchemaFromJson(j);
}

std::string SchemaToJson(const Schema& schema) { return Dump(ToJson(schema)); }

void AssignFreshIds(std::vector<Field>* fields, int* last_id) {
  std::map<int, int> renumbered;
  AssignStruct(*fields, last_id, &renumbered);
}

Schema WithFreshIds(const Schema& schema, int* last_id) {
  Schema out = schema;
  std::map<int, int> renumbered;
  AssignStruct(out.fields, last_id, &renumbered);
  for (int& id : out.identifier_field_ids) {
    if (auto it = renumbered.find(id); it != renumbered.end()) id = it->second;
  }
  return out;
}

bool CanPromote(const Type& from, const Type& to, int format_version) {
  if (from == to) return true;
  if (from.kind == TypeKind::kInt && to.kind == TypeKind::kLong) return true;
  if (from.kind == TypeKind::kFloat && to.kind == TypeKind::kDouble) return true;
  if (from.kind == TypeKind::kDecimal && to.kind == TypeKind::kDecimal)
    return to.scale == from.scale && to.precision >= from.precision;
  if (format_version >= 3) {
    if (from.kind == TypeKind::kUnknown && to.IsPrimitive()) return true;
    if (from.kind == TypeKind::kDate && (to.kind == TypeKind::kTimestamp || to.kind == TypeKind::kTimestampNs))
      return true;
  }
  return false;
}

SchemaUpdate::SchemaUpdate(Schema base, int last_column_id, int format_version)
    : schema_(std::move(base)), last_column_id_(last_column_id), format_version_(format_version) {
  schema_.id = -1;
}

Status SchemaUpdate::AddColumn(int parent_id, Field field) {
  std::vector<Field>* fields = &schema_.fields;
  if (parent_id != 0) {
    Field* parent = FindMutable(schema_.fields, parent_id);
    if (!parent) return std::unexpected(EnvError(ErrorKind::kNotFound, "field {} is not in the schema", parent_id));
    Type* type = &parent->type;
    if (type->kind == TypeKind::kList)
      type = &type->fields[0].type;
    else if (type->kind == TypeKind::kMap)
      type = &type->fields[1].type;
    if (type->kind != TypeKind::kStruct)
      return std::unexpected(
          EnvError(ErrorKind::kUnsupported, "column \"{}\" is no struct: it takes no fields", parent->name));
    fields = &type->fields;
  }
  for (const Field& f : *fields) {
    if (f.name == field.name) return std::unexpected(UserError("42701", "column \"{}\" already exists", field.name));
  }
  if (field.required && !field.initial_default)
    return std::unexpected(EnvError(ErrorKind::kUnsupported,
                                    "a required column \"{}\" cannot be added: older rows have no value for it",
                                    field.name));
  Schema probe;
  probe.fields = {field};
  if (probe.MinFormatVersion() > format_version_)
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "type {} of column \"{}\" needs format version 3",
                                    field.type.ToString(), field.name));
  std::vector<Field> one{std::move(field)};
  last_added_id_ = last_column_id_ + 1;
  AssignFreshIds(&one, &last_column_id_);
  fields->push_back(std::move(one[0]));
  return {};
}

Status SchemaUpdate::DropColumn(int field_id) {
  if (HolderKind(schema_.fields, field_id, TypeKind::kStruct) != TypeKind::kStruct)
    return std::unexpected(EnvError(ErrorKind::kNotFound, "field {} is no column of the schema", field_id));
  std::vector<Field>* holder = Holder(schema_.fields, field_id);
  auto it = std::find_if(holder->begin(), holder->end(), [&](const Field& f) { return f.id == field_id; });
  std::set<int> gone{field_id};
  Visit(it->type.fields, [&](const Field& f) { gone.insert(f.id); });
  std::erase_if(schema_.identifier_field_ids, [&](int id) { return gone.contains(id); });
  holder->erase(it);
  return {};
}

Status SchemaUpdate::RenameColumn(int field_id, std::string name) {
  if (HolderKind(schema_.fields, field_id, TypeKind::kStruct) != TypeKind::kStruct)
    return std::unexpected(EnvError(ErrorKind::kNotFound, "field {} is no column of the schema", field_id));
  std::vector<Field>* holder = Holder(schema_.fields, field_id);
  Field* target = nullptr;
  for (Field& f : *holder) {
    if (f.id == field_id)
      target = &f;
    else if (f.name == name)
      return std::unexpected(UserError("42701", "column \"{}\" already exists", name));
  }
  target->name = std::move(name);
  return {};
}

Status SchemaUpdate::WidenType(int field_id, Type type) {
  Field* f = FindMutable(schema_.fields, field_id);
  if (!f) return std::unexpected(EnvError(ErrorKind::kNotFound, "field {} is not in the schema", field_id));
  if (!CanPromote(f->type, type, format_version_))
    return std::unexpected(EnvError(ErrorKind::kUnsupported,
                                    "column \"{}\" cannot change from {} to {} without rewriting the table", f->name,
                                    f->type.ToString(), type.ToString()));
  if (f->type.IsPrimitive()) f->type = std::move(type);
  return {};
}

Status SchemaUpdate::MakeOptional(int field_id) {
  Field* f = FindMutable(schema_.fields, field_id);
  if (!f) return std::unexpected(EnvError(ErrorKind::kNotFound, "field {} is not in the schema", field_id));
  f->required = false;
  std::erase(schema_.identifier_field_ids, field_id);
  return {};
}

Status SchemaUpdate::SetIdentifierFields(std::vector<int> field_ids) {
  for (int id : field_ids) {
    const Field* f = schema_.FindById(id);
    if (!f) return std::unexpected(EnvError(ErrorKind::kNotFound, "field {} is not in the schema", id));
    if (!f->type.IsPrimitive() || !f->required || f->type.kind == TypeKind::kFloat || f->type.kind == TypeKind::kDouble)
      return std::unexpected(EnvError(
          ErrorKind::kUnsupported, "column \"{}\" cannot identify rows: it must be required, and no float", f->name));
  }
  schema_.identifier_field_ids = std::move(field_ids);
  return {};
}

}  // namespace tidewater::iceberg
