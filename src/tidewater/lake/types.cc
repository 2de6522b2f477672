#include "tidewater/lake/types.h"
#include <algorithm>

namespace tidewater::lake {
namespace {

using duckdb::LogicalTypeId;
using iceberg::Type;
using iceberg::TypeKind;

Error NoCounterpart(const LogicalType& type, std::string hint) {
  return EnvError(ErrorKind::kUnsupported, "type {} has no counterpart in Iceberg", type.ToString())
      .WithHint(std::move(hint));
}

}  // namespace

Result<LogicalType> StorageType(const LogicalType& type, int format_version) {
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
    case LogicalTypeId::INTEGER:
    case LogicalTypeId::BIGINT:
    case LogicalTypeId::FLOAT:
    case LogicalTypeId::DOUBLE:
    case LogicalTypeId::DATE:
    case LogicalTypeId::TIME:
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_TZ:
    case LogicalTypeId::UUID:
    case LogicalTypeId::BLOB:
      return LogicalType(type.id());
    case LogicalTypeId::VARCHAR:
    case LogicalTypeId::ENUM:
      return LogicalType::VARCHAR;
    case LogicalTypeId::DECIMAL:
      return LogicalType::DECIMAL(duckdb::DecimalType::GetWidth(type), duckdb::DecimalType::GetScale(type));
    case LogicalTypeId::TINYINT:
    case LogicalTypeId::SMALLINT:
    case LogicalTypeId::UTINYINT:
    case LogicalTypeId::USMALLINT:
      return LogicalType::INTEGER;
    case LogicalTypeId::UINTEGER:
      return LogicalType::BIGINT;
    case LogicalTypeId::UBIGINT:
      return LogicalType::DECIMAL(20, 0);
    case LogicalTypeId::HUGEINT:
      return LogicalType::DECIMAL(38, 0);
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
      return LogicalType::TIMESTAMP;
    case LogicalTypeId::TIMESTAMP_NS:
      if (format_version >= 3) return LogicalType::TIMESTAMP_NS;
      return std::unexpected(
          NoCounterpart(type, "Cast the column to timestamp, or use format-version = 3, which has nanoseconds."));
    case LogicalTypeId::LIST: {
      TW_ASSIGN(auto child, StorageType(duckdb::ListType::GetChildType(type), format_version));
      return LogicalType::LIST(child);
    }
    case LogicalTypeId::ARRAY: {
      TW_ASSIGN(auto child, StorageType(duckdb::ArrayType::GetChildType(type), format_version));
      return LogicalType::LIST(child);
    }
    case LogicalTypeId::MAP: {
      TW_ASSIGN(auto key, StorageType(duckdb::MapType::KeyType(type), format_version));
      TW_ASSIGN(auto value, StorageType(duckdb::MapType::ValueType(type), format_version));
      return LogicalType::MAP(key, value);
    }
    case LogicalTypeId::STRUCT: {
      duckdb::child_list_t<LogicalType> children;
      for (auto& [name, child] : duckdb::StructType::GetChildTypes(type)) {
        if (name.empty())
          return std::unexpected(NoCounterpart(type, "Give every field of the struct a name, or cast it to text."));
        TW_ASSIGN(auto t, StorageType(child, format_version));
        children.emplace_back(name, t);
      }
      return LogicalType::STRUCT(children);
    }
    default:
      return std::unexpected(NoCounterpart(type, "Cast the column to text in the view, or leave it out."));
  }
}

Result<Type> ToIcebergType(const LogicalType& type) {
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
      return Type::Of(TypeKind::kBoolean);
    case LogicalTypeId::INTEGER:
      return Type::Of(TypeKind::kInt);
    case LogicalTypeId::BIGINT:
      return Type::Of(TypeKind::kLong);
    case LogicalTypeId::FLOAT:
      return Type::Of(TypeKind::kFloat);
    case LogicalTypeId::DOUBLE:
      return Type::Of(TypeKind::kDouble);
    case LogicalTypeId::DATE:
      return Type::Of(TypeKind::kDate);
    case LogicalTypeId::TIME:
      return Type::Of(TypeKind::kTime);
    case LogicalTypeId::TIMESTAMP:
      return Type::Of(TypeKind::kTimestamp);
    case LogicalTypeId::TIMESTAMP_TZ:
      return Type::Of(TypeKind::kTimestampTz);
    case LogicalTypeId::TIMESTAMP_NS:
      return Type::Of(TypeKind::kTimestampNs);
    case LogicalTypeId::UUID:
      return Type::Of(TypeKind::kUuid);
    case LogicalTypeId::BLOB:
      return Type::Of(TypeKind::kBinary);
    case LogicalTypeId::VARCHAR:
      return Type::Of(TypeKind::kString);
    case LogicalTypeId::DECIMAL:
      return Type::Decimal(duckdb::DecimalType::GetWidth(type), duckdb::DecimalType::GetScale(type));
    case LogicalTypeId::LIST: {
      TW_ASSIGN(auto child, ToIcebergType(duckdb::ListType::GetChildType(type)));
      return Type::List(0, std::move(child), false);
    }
    case LogicalTypeId::MAP: {
      TW_ASSIGN(auto key, ToIcebergType(duckdb::MapType::KeyType(type)));
      TW_ASSIGN(auto value, ToIcebergType(duckdb::MapType::ValueType(type)));
      return Type::Map(0, std::move(key), 0, std::move(value), false);
    }
    case LogicalTypeId::STRUCT: {
      std::vector<iceberg::Field> fields;
      for (auto& [name, child] : duckdb::StructType::GetChildTypes(type)) {
        iceberg::Field f;
        f.name = name;
        TW_ASSIGN(f.type, ToIcebergType(child));
        fields.push_back(std::move(f));
      }
      return Type::Struct(std::move(fields));
    }
    default:
      return std::unexpected(NoCounterpart(type, "Cast the column to text in the view, or leave it out."));
  }
}

Result<LogicalType> FromIcebergType(const Type& type) {
  switch (type.kind) {
    case TypeKind::kBoolean:
      return LogicalType::BOOLEAN;
    case TypeKind::kInt:
      return LogicalType::INTEGER;
    case TypeKind::kLong:
      return LogicalType::BIGINT;
    case TypeKind::kFloat:
      return LogicalType::FLOAT;
    case TypeKind::kDouble:
      return LogicalType::DOUBLE;
    case TypeKind::kDecimal:
      return LogicalType::DECIMAL(type.precision, type.scale);
    case TypeKind::kDate:
      return LogicalType::DATE;
    case TypeKind::kTime:
      return LogicalType::TIME;
    case TypeKind::kTimestamp:
      return LogicalType::TIMESTAMP;
    case TypeKind::kTimestampTz:
      return LogicalType::TIMESTAMP_TZ;
    case TypeKind::kTimestampNs:
      return LogicalType::TIMESTAMP_NS;
    case TypeKind::kString:
      return LogicalType::VARCHAR;
    case TypeKind::kUuid:
      return LogicalType::UUID;
    case TypeKind::kBinary:
      return LogicalType::BLOB;
    case TypeKind::kStruct: {
      duckdb::child_list_t<LogicalType> children;
      for (auto& f : type.fields) {
        TW_ASSIGN(auto t, FromIcebergType(f.type));
        children.emplace_back(f.name, t);
      }
      return LogicalType::STRUCT(children);
    }
    case TypeKind::kList: {
      TW_ASSIGN(auto t, FromIcebergType(type.fields.at(0).type));
      return LogicalType::LIST(t);
    }
    case TypeKind::kMap: {
      TW_ASSIGN(auto key, FromIcebergType(type.fields.at(0).type));
      TW_ASSIGN(auto value, FromIcebergType(type.fields.at(1).type));
      return LogicalType::MAP(key, value);
    }
    default:
      return std::unexpected(
          EnvError(ErrorKind::kUnsupported, "columns of type {} cannot be written", type.ToString()));
  }
}

Result<iceberg::Schema> NewTableSchema(const Schema& view, const std::vector<uint32_t>& key, int format_version) {
  iceberg::Schema schema;
  // Ids only tell the fields apart until the catalog assigns its own.
  for (uint32_t i = 0; i < view.columns.size(); i++) {
    auto& c = view.columns[i];
    iceberg::Field f;
    f.name = c.name;
    auto storage = StorageType(c.type, format_version);
    if (!storage) return std::unexpected(std::move(storage).error().WithDetail(fmt::format("column \"{}\"", c.name)));
    TW_ASSIGN(f.type, ToIcebergType(*storage));
    f.required = c.not_null && std::find(key.begin(), key.end(), i) != key.end();
    schema.fields.push_back(std::move(f));
  }
  int last_id = 0;
  iceberg::AssignFreshIds(&schema.fields, &last_id);
  bool identifies = !key.empty();
  for (auto k : key) {
    auto& f = schema.fields[k];
    identifies &=
        f.required && f.type.IsPrimitive() && f.type.kind != TypeKind::kFloat && f.type.kind != TypeKind::kDouble;
  }
  if (identifies)
    for (auto k : key) schema.identifier_field_ids.push_back(schema.fields[k].id);
  return schema;
}

namespace {
Result<FileColumn> ToFileColumn(const iceberg::Field& field, std::string name) {
  FileColumn c;
  c.name = std::move(name);
  c.field_id = field.id;
  TW_ASSIGN(c.type, FromIcebergType(field.type));
  static const char* const kMapNames[] = {"key", "value"};
  for (size_t i = 0; i < field.type.fields.size(); i++) {
    auto& child = field.type.fields[i];
    std::string child_name = field.type.kind == TypeKind::kList  ? "element"
                             : field.type.kind == TypeKind::kMap ? kMapNames[i]
                                                                 : child.name;
    TW_ASSIGN(auto column, ToFileColumn(child, std::move(child_name)));
    c.children.push_back(std::move(column));
  }
  return c;
}
}  // namespace

Result<std::vector<FileColumn>> FileColumns(const iceberg::Schema& schema) {
  std::vector<FileColumn> columns;
  for (auto& f : schema.fields) {
    TW_ASSIGN(auto c, ToFileColumn(f, f.name));
    columns.push_back(std::move(c));
  }
  return columns;
}

bool Widens(const LogicalType& from, const LogicalType& to) {
  if (from == to) return true;
  auto id = to.id();
  switch (from.id()) {
    case LogicalTypeId::INTEGER:
      return id == LogicalTypeId::BIGINT || id == LogicalTypeId::DOUBLE ||
             (id == LogicalTypeId::DECIMAL &&
              duckdb::DecimalType::GetWidth(to) - duckdb::DecimalType::GetScale(to) >= 10);
    case LogicalTypeId::BIGINT:
      return id == LogicalTypeId::DECIMAL &&
             duckdb::DecimalType::GetWidth(to) - duckdb::DecimalType::GetScale(to) >= 19;
    case LogicalTypeId::FLOAT:
      return id == LogicalTypeId::DOUBLE;
    case LogicalTypeId::DECIMAL:
      return id == LogicalTypeId::DECIMAL && duckdb::DecimalType::GetScale(to) >= duckdb::DecimalType::GetScale(from) &&
             duckdb::DecimalType::GetWidth(to) - duckdb::DecimalType::GetScale(to) >=
                 duckdb::DecimalType::GetWidth(from) - duckdb::DecimalType::GetScale(from);
    case LogicalTypeId::LIST:
      return id == LogicalTypeId::LIST &&
             Widens(duckdb::ListType::GetChildType(from), duckdb::ListType::GetChildType(to));
    default:
      return false;
  }
}

}  // namespace tidewater::lake
