// Types, fields and schemas of the Iceberg table spec (section "Schemas and Data Types", appendix C for the JSON form).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::iceberg {

enum class TypeKind {
  kBoolean,
  kInt,
  kLong,
  kFloat,
  kDouble,
  kDecimal,
  kDate,
  kTime,
  kTimestamp,
  kTimestampTz,
  kString,
  kUuid,
  kFixed,
  kBinary,
  // since v3
  kUnknown,
  kTimestampNs,
  kTimestampTzNs,
  kVariant,
  kGeometry,
  kGeography,
  kStruct,
  kList,
  kMap,
};

struct Field;

struct Type {
  TypeKind kind = TypeKind::kUnknown;
  int precision = 0;          ///< decimal: 1..38
  int scale = 0;              ///< decimal
  int length = 0;             ///< fixed: bytes
  std::string parameters;     ///< geometry, geography: what stands between the parentheses, empty for the defaults
  std::vector<Field> fields;  ///< struct: its fields; list: one field "element"; map: "key" (required) and "value"

  bool IsPrimitive() const { return kind < TypeKind::kStruct; }
  bool operator==(const Type&) const;

  static Type Of(TypeKind kind);
  static Type Decimal(int precision, int scale);
  static Type Fixed(int length);
  static Type Struct(std::vector<Field> fields);
  static Type List(int element_id, Type element, bool element_required);
  static Type Map(int key_id, Type key, int value_id, Type value, bool value_required);
  /// As in the JSON form of a primitive type ("decimal(38, 10)"), and "struct<1: a: int, …>" for people.
  std::string ToString() const;
};

struct Field {
  int id = 0;  ///< from 1, never used again within a table
  std::string name;
  bool required = false;
  Type type;
  std::string doc;
  /// JSON text of single values (appendix D); only for v3.
  std::optional<std::string> initial_default;
  std::optional<std::string> write_default;
  bool operator==(const Field&) const;
};

struct Schema {
  int id = 0;
  std::vector<Field> fields;
  std::vector<int> identifier_field_ids;

  /// Any depth; null when absent.
  const Field* FindById(int field_id) const;
  /// A full name, nested ones with dots ("a.b", "list.element", "map.value"). Case-sensitive. Null when absent.
  const Field* FindByName(std::string_view full_name) const;
  int HighestFieldId() const;
  /// Same fields and identifier fields, whatever the schema id.
  bool SameAs(const Schema&) const;
  /// The least format version that can hold these types and defaults.
  int MinFormatVersion() const;
};

/// "int", "decimal(9, 2)", "fixed[16]", …
Result<Type> ParsePrimitiveType(std::string_view text);
Result<Schema> ParseSchemaJson(std::string_view json);
std::string SchemaToJson(const Schema&);

/// Gives every field an id from `*last_id + 1` on, all fields of a struct before those of its children. For fields that
/// came without ids, or with ids of another table.
void AssignFreshIds(std::vector<Field>* fields, int* last_id);
/// The same for a whole schema: identifier_field_ids follow.
Schema WithFreshIds(const Schema&, int* last_id);

/// Whether a column may change from one type to the other without rewriting files (spec, "Schema Evolution").
bool CanPromote(const Type& from, const Type& to, int format_version);

/// Changes to a schema, each by field id; applied in the order given, the result has a schema id of -1.
class SchemaUpdate {
 public:
  SchemaUpdate(Schema base, int last_column_id, int format_version);
  /// `field`'s ids are ignored and assigned. `parent_id` 0 adds to the top level; else a struct, or a list or map of
  /// structs. Errors: name taken (kUser 42701); required without an initial default (kUnsupported).
  Status AddColumn(int parent_id, Field field);
  /// Drops it from the identifier fields too.
  Status DropColumn(int field_id);
  Status RenameColumn(int field_id, std::string name);
  /// kUnsupported when the change is no promotion.
  Status WidenType(int field_id, Type type);
  Status MakeOptional(int field_id);
  Status SetIdentifierFields(std::vector<int> field_ids);

  const Schema& schema() const { return schema_; }
  int last_column_id() const { return last_column_id_; }
  /// The id that the latest AddColumn gave.
  int last_added_id() const { return last_added_id_; }

 private:
  Schema schema_;
  int last_column_id_;
  int format_version_;
  int last_added_id_ = 0;
};

}  // namespace tidewater::iceberg
