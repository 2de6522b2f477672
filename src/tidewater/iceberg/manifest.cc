#include "tidewater/iceberg/manifest.h"
#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include "tidewater/avro/container.h"
#include "tidewater/base/check.h"
#include "tidewater/iceberg/json_codec.h"
#include "tidewater/iceberg/values.h"

namespace tidewater::iceberg {
namespace {

// ---- schemas that we write
// -------------------------------------------------------------------------------------------

Json Required(int id, const char* name, Json type) {
  return {{"name", name}, {"type", std::move(type)}, {"field-id", id}};
}
Json Optional(int id, const char* name, Json type) {
  return {{"name", name}, {"type", Json::array({"null", std::move(type)})}, {"default", nullptr}, {"field-id", id}};
}
Json IdMap(int key_id, int value_id, const char* value) {
  Json item = {{"type", "record"},
               {"name", fmt::format("k{}_v{}", key_id, value_id)},
               {"fields", Json::array({Required(key_id, "key", "int"), Required(value_id, "value", value)})}};
  return {{"type", "array"}, {"logicalType", "map"}, {"items", std::move(item)}};
}
Json List(int element_id, Json element) {
  return {{"type", "array"}, {"items", std::move(element)}, {"element-id", element_id}};
}

/// Avro names are letters, digits and '_'; what is not becomes _xHEX, as the reference implementation does.
std::string AvroName(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    unsigned char c = static_cast<unsigned char>(name[i]);
    if (c < 0x80 && (std::isalpha(c) || c == '_' || (i > 0 && std::isdigit(c))))
      out += char(c);
    else if (std::isdigit(c))
      out += fmt::format("_{}", char(c));
    else
      out += fmt::format("_x{:X}", c);
  }
  return out.empty() ? "_" : out;
}

int DecimalBytes(int precision) {
  int bytes = 1;
  __int128 limit = 1;
  for (int i = 0; i < precision; ++i) limit *= 10;
  while (bytes < 16 && ((__int128(1) << (8 * bytes - 1)) - 1) < limit - 1) ++bytes;
  return bytes;
}

Json PartitionAvroType(const Field& f) {
  switch (f.type.kind) {
    case TypeKind::kBoolean:
      return "boolean";
    case TypeKind::kInt:
      return "int";
    case TypeKind::kDate:
      return {{"type", "int"}, {"logicalType", "date"}};
    case TypeKind::kLong:
      return "long";
    case TypeKind::kTime:
      return {{"type", "long"}, {"logicalType", "time-micros"}};
    case TypeKind::kTimestamp:
      return {{"type", "long"}, {"logicalType", "timestamp-micros"}, {"adjust-to-utc", false}};
    case TypeKind::kTimestampTz:
      return {{"type", "long"}, {"logicalType", "timestamp-micros"}, {"adjust-to-utc", true}};
    case TypeKind::kTimestampNs:
      return {{"type", "long"}, {"logicalType", "timestamp-nanos"}, {"adjust-to-utc", false}};
    case TypeKind::kTimestampTzNs:
      return {{"type", "long"}, {"logicalType", "timestamp-nanos"}, {"adjust-to-utc", true}};
    case TypeKind::kFloat:
      return "float";
    case TypeKind::kDouble:
      return "double";
    case TypeKind::kString:
      return "string";
    case TypeKind::kUuid:
      return {{"type", "fixed"}, {"name", fmt::format("uuid_{}", f.id)}, {"size", 16}, {"logicalType", "uuid"}};
    case TypeKind::kFixed:
      return {{"type", "fixed"}, {"name", fmt::format("fixed_{}", f.id)}, {"size", f.type.length}};
    case TypeKind::kDecimal:
      return {{"type", "fixed"},
              {"name", fmt::format("decimal_{}", f.id)},
              {"size", DecimalBytes(f.type.precision)},
              {"logicalType", "decimal"},
              {"precision", f.type.precision},
              {"scale", f.type.scale}};
    default:
      return "bytes";
  }
}

std::string BuildManifestAvroSchema(const Type& partition, int version) {
  Json partition_fields = Json::array();
  for (const Field& f : partition.fields)
    partition_fields.push_back(Optional(f.id, AvroName(f.name).c_str(), PartitionAvroType(f)));
  Json data_file = Json::array({
      Required(134, "content", "int"),
      Required(100, "file_path", "string"),
      Required(101, "file_format", "string"),
      Required(102, "partition", {{"type", "record"}, {"name", "r102"}, {"fields", std::move(partition_fields)}}),
      Required(103, "record_count", "long"),
      Required(104, "file_size_in_bytes", "long"),
      Optional(108, "column_sizes", IdMap(117, 118, "long")),
      Optional(109, "value_counts", IdMap(119, 120, "long")),
      Optional(110, "null_value_counts", IdMap(121, 122, "long")),
      Optional(137, "nan_value_counts", IdMap(138, 139, "long")),
      Optional(125, "lower_bounds", IdMap(126, 127, "bytes")),
      Optional(128, "upper_bounds", IdMap(129, 130, "bytes")),
      Optional(131, "key_metadata", "bytes"),
      Optional(132, "split_offsets", List(133, "long")),
      Optional(135, "equality_ids", List(136, "int")),
      Optional(140, "sort_order_id", "int"),
  });
  if (version >= 3) data_file.push_back(Optional(142, "first_row_id", "long"));
  data_file.push_back(Optional(143, "referenced_data_file", "string"));
  if (version >= 3) {
    data_file.push_back(Optional(144, "content_offset", "long"));
    data_file.push_back(Optional(145, "content_size_in_bytes", "long"));
  }
  Json entry = {
      {"type", "record"},
      {"name", "manifest_entry"},
      {"fields", Json::array({Required(0, "status", "int"), Optional(1, "snapshot_id", "long"),
                              Optional(3, "sequence_number", "long"), Optional(4, "file_sequence_number", "long"),
                              Required(2, "data_file",
                                       {{"type", "record"}, {"name", "r2"}, {"fields", std::move(data_file)}})})}};
  return Dump(entry);
}

/// The ones of unpartitioned tables are needed with every commit.
std::string ManifestAvroSchema(const Type& partition, int version) {
  static const std::string unpartitioned_v2 = BuildManifestAvroSchema(Type::Struct({}), 2);
  static const std::string unpartitioned_v3 = BuildManifestAvroSchema(Type::Struct({}), 3);
  if (!partition.fields.empty()) return BuildManifestAvroSchema(partition, version);
  return version >= 3 ? unpartitioned_v3 : unpartitioned_v2;
}

std::string ManifestListAvroSchema(int version) {
  Json summary = {
      {"type", "record"},
      {"name", "r508"},
      {"fields", Json::array({Required(509, "contains_null", "boolean"), Optional(518, "contains_nan", "boolean"),
                              Optional(510, "lower_bound", "bytes"), Optional(511, "upper_bound", "bytes")})}};
  Json fields = Json::array({
      Required(500, "manifest_path", "string"),
      Required(501, "manifest_length", "long"),
      Required(502, "partition_spec_id", "int"),
      Required(517, "content", "int"),
      Required(515, "sequence_number", "long"),
      Required(516, "min_sequence_number", "long"),
      Required(503, "added_snapshot_id", "long"),
      Required(504, "added_files_count", "int"),
      Required(505, "existing_files_count", "int"),
      Required(506, "deleted_files_count", "int"),
      Required(512, "added_rows_count", "long"),
      Required(513, "existing_rows_count", "long"),
      Required(514, "deleted_rows_count", "long"),
      Optional(507, "partitions", List(508, std::move(summary))),
      Optional(519, "key_metadata", "bytes"),
  });
  if (version >= 3) fields.push_back(Optional(520, "first_row_id", "long"));
  return Dump({{"type", "record"}, {"name", "manifest_file"}, {"fields", std::move(fields)}});
}

// ---- encoding
// ----------------------------------------------------------------------------------------------------------

void OptionalLong(avro::Encoder& e, const std::optional<int64_t>& v) {
  e.Branch(v ? 1 : 0);
  if (v) e.Long(*v);
}

void OptionalBytes(avro::Encoder& e, std::string_view v) {
  e.Branch(v.empty() ? 0 : 1);
  if (!v.empty()) e.Bytes(v);
}

void Counts(avro::Encoder& e, const ColumnCounts& counts) {
  e.Branch(counts.empty() ? 0 : 1);
  if (counts.empty()) return;
  e.Items(counts.size());
  for (auto [id, v] : counts) {
    e.Int(id);
    e.Long(v);
  }
  e.End();
}

void Bounds(avro::Encoder& e, const ColumnBounds& bounds) {
  e.Branch(bounds.empty() ? 0 : 1);
  if (bounds.empty()) return;
  e.Items(bounds.size());
  for (const auto& [id, v] : bounds) {
    e.Int(id);
    e.Bytes(v);
  }
  e.End();
}

template <class T>
void Longs(avro::Encoder& e, const std::vector<T>& values) {
  e.Branch(values.empty() ? 0 : 1);
  if (values.empty()) return;
  e.Items(values.size());
  for (T v : values) e.Long(v);
  e.End();
}

Status PartitionValue(avro::Encoder& e, const Type& type, const std::optional<std::string>& value) {
  e.Branch(value ? 1 : 0);
  if (!value) return {};
  const std::string& v = *value;
  auto sized = [&](size_t n) -> Status {
    if (v.size() == n) return {};
    return std::unexpected(
        EnvError(ErrorKind::kInternal, "a partition value of {} bytes for type {}", v.size(), type.ToString()));
  };
  switch (type.kind) {
    case TypeKind::kBoolean:
      TW_TRY(sized(1));
      e.Boolean(v[0] != 0);
      return {};
    case TypeKind::kInt:
    case TypeKind::kDate: {
      TW_TRY(sized(4));
      int32_t n;
      std::memcpy(&n, v.data(), 4);
      e.Int(n);
      return {};
    }
    case TypeKind::kLong:
    case TypeKind::kTime:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
    case TypeKind::kTimestampNs:
    case TypeKind::kTimestampTzNs: {
      // A value written before the source column was widened from int has four bytes.
      if (v.size() == 4) {
        int32_t n;
        std::memcpy(&n, v.data(), 4);
        e.Long(n);
        return {};
      }
      TW_TRY(sized(8));
      int64_t n;
      std::memcpy(&n, v.data(), 8);
      e.Long(n);
      return {};
    }
    case TypeKind::kFloat:
      TW_TRY(sized(4));
      e.Fixed(v);
      return {};
    case TypeKind::kDouble:
      if (v.size() == 4) {
        float f;
        std::memcpy(&f, v.data(), 4);
        e.Fixed(DoubleValue(f));
        return {};
      }
      TW_TRY(sized(8));
      e.Fixed(v);
      return {};
    case TypeKind::kUuid:
      TW_TRY(sized(16));
      e.Fixed(v);
      return {};
    case TypeKind::kFixed:
      TW_TRY(sized(size_t(type.length)));
      e.Fixed(v);
      return {};
    case TypeKind::kDecimal: {
      size_t n = size_t(DecimalBytes(type.precision));
      if (v.empty() || v.size() > n) TW_TRY(sized(n));
      e.Fixed(std::string(n - v.size(), (uint8_t(v[0]) & 0x80) ? '\xFF' : '\0') + v);
      return {};
    }
    default:
      e.Bytes(v);
      return {};
  }
}

std::string UpperCase(std::string s) {
  std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return char(std::toupper(c)); });
  return s;
}

std::string LowerCase(std::string s) {
  std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return s;
}

Status EncodeDataFile(avro::Encoder& e, const DataFile& f, const Type& partition, int version) {
  e.Int(int(f.content));
  e.Bytes(f.path);
  e.Bytes(UpperCase(f.format));
  if (f.partition.size() != partition.fields.size())
    return std::unexpected(EnvError(ErrorKind::kInternal, "{} partition values for {} partition fields",
                                    f.partition.size(), partition.fields.size()));
  for (size_t i = 0; i < partition.fields.size(); ++i)
    TW_TRY(PartitionValue(e, partition.fields[i].type, f.partition[i]));
  e.Long(f.record_count);
  e.Long(f.file_size_bytes);
  Counts(e, f.column_sizes);
  Counts(e, f.value_counts);
  Counts(e, f.null_value_counts);
  Counts(e, f.nan_value_counts);
  Bounds(e, f.lower_bounds);
  Bounds(e, f.upper_bounds);
  OptionalBytes(e, f.key_metadata);
  Longs(e, f.split_offsets);
  Longs(e, f.equality_ids);
  OptionalLong(e, f.sort_order_id ? std::optional<int64_t>(*f.sort_order_id) : std::nullopt);
  if (version >= 3) OptionalLong(e, f.content == FileContent::kData ? f.first_row_id : std::nullopt);
  OptionalBytes(e, f.referenced_data_file);
  if (version >= 3) {
    OptionalLong(e, f.content_offset);
    OptionalLong(e, f.content_size_bytes);
  }
  return {};
}

/// Widens the summaries of the partition fields by one file.
Status Summarize(const Type& partition, const PartitionTuple& tuple, std::vector<FieldSummary>* out) {
  for (size_t i = 0; i < tuple.size(); ++i) {
    FieldSummary& s = (*out)[i];
    const Type& type = partition.fields[i].type;
    if (!tuple[i]) {
      s.contains_null = true;
      continue;
    }
    const std::string& v = *tuple[i];
    if ((type.kind == TypeKind::kFloat && v.size() == 4) || (type.kind == TypeKind::kDouble && v.size() == 8)) {
      double d = 0;
      float f = 0;
      if (v.size() == 4)
        std::memcpy(&f, v.data(), 4), d = f;
      else
        std::memcpy(&d, v.data(), 8);
      if (!s.contains_nan) s.contains_nan = false;
      if (d != d) {
        s.contains_nan = true;
        continue;
      }
    }
    if (!s.lower_bound) {
      s.lower_bound = s.upper_bound = v;
      continue;
    }
    TW_ASSIGN(int below, CompareValues(type, v, *s.lower_bound));
    if (below < 0) s.lower_bound = v;
    TW_ASSIGN(int above, CompareValues(type, v, *s.upper_bound));
    if (above > 0) s.upper_bound = v;
  }
  return {};
}

// ---- decoding
// ----------------------------------------------------------------------------------------------------------

/// Fields of writers that left out the field ids are found by name.
int FieldId(const avro::RecordField& f, const std::map<std::string_view, int>& names) {
  if (f.id >= 0) return f.id;
  auto it = names.find(f.name);
  return it == names.end() ? -1 : it->second;
}

const std::map<std::string_view, int> kEntryNames = {
    {"status", 0}, {"snapshot_id", 1}, {"data_file", 2}, {"sequence_number", 3}, {"file_sequence_number", 4}};
const std::map<std::string_view, int> kDataFileNames = {{"content", 134},           {"file_path", 100},
                                                        {"file_format", 101},       {"partition", 102},
                                                        {"record_count", 103},      {"file_size_in_bytes", 104},
                                                        {"column_sizes", 108},      {"value_counts", 109},
                                                        {"null_value_counts", 110}, {"nan_value_counts", 137},
                                                        {"lower_bounds", 125},      {"upper_bounds", 128},
                                                        {"key_metadata", 131},      {"split_offsets", 132},
                                                        {"equality_ids", 135},      {"sort_order_id", 140},
                                                        {"first_row_id", 142},      {"referenced_data_file", 143},
                                                        {"content_offset", 144},    {"content_size_in_bytes", 145}};
const std::map<std::string_view, int> kListNames = {{"manifest_path", 500},
                                                    {"manifest_length", 501},
                                                    {"partition_spec_id", 502},
                                                    {"content", 517},
                                                    {"sequence_number", 515},
                                                    {"min_sequence_number", 516},
                                                    {"added_snapshot_id", 503},
                                                    {"added_files_count", 504},
                                                    {"existing_files_count", 505},
                                                    {"deleted_files_count", 506},
                                                    {"added_rows_count", 512},
                                                    {"existing_rows_count", 513},
                                                    {"deleted_rows_count", 514},
                                                    {"partitions", 507},
                                                    {"key_metadata", 519},
                                                    {"first_row_id", 520},
                                                    {"added_data_files_count", 504},
                                                    {"existing_data_files_count", 505},
                                                    {"deleted_data_files_count", 506}};
const std::map<std::string_view, int> kSummaryNames = {
    {"contains_null", 509}, {"contains_nan", 518}, {"lower_bound", 510}, {"upper_bound", 511}};

std::optional<int64_t> ReadLong(avro::Decoder& d, const avro::Node& declared) {
  const avro::Node& node = d.Branch(declared);
  switch (node.kind) {
    case avro::Kind::kNull:
      return std::nullopt;
    case avro::Kind::kInt:
    case avro::Kind::kLong:
      return d.Long();
    default:
      d.Fail("a number was expected");
      return std::nullopt;
  }
}

std::optional<int> ReadInt(avro::Decoder& d, const avro::Node& declared) {
  auto v = ReadLong(d, declared);
  if (!v) return std::nullopt;
  if (*v < INT32_MIN || *v > INT32_MAX) {
    d.Fail("a number of 32 bits was expected");
    return std::nullopt;
  }
  return int(*v);
}

std::optional<bool> ReadBool(avro::Decoder& d, const avro::Node& declared) {
  const avro::Node& node = d.Branch(declared);
  if (node.kind == avro::Kind::kNull) return std::nullopt;
  if (node.kind != avro::Kind::kBoolean) {
    d.Fail("a boolean was expected");
    return std::nullopt;
  }
  return d.Boolean();
}

std::optional<std::string_view> ReadBytes(avro::Decoder& d, const avro::Node& declared) {
  const avro::Node& node = d.Branch(declared);
  switch (node.kind) {
    case avro::Kind::kNull:
      return std::nullopt;
    case avro::Kind::kString:
    case avro::Kind::kBytes:
      return d.Bytes();
    case avro::Kind::kFixed:
      return d.Fixed(node.fixed_size);
    default:
      d.Fail("text or bytes were expected");
      return std::nullopt;
  }
}

std::string ReadString(avro::Decoder& d, const avro::Node& declared) {
  return std::string(ReadBytes(d, declared).value_or(""));
}

/// Calls `pair(key_node, value_node)` for each entry of a map in its array form.
template <class F>
void ReadIdMap(avro::Decoder& d, const avro::Node& declared, F pair) {
  const avro::Node& node = d.Branch(declared);
  if (node.kind == avro::Kind::kNull) return;
  if (node.kind != avro::Kind::kArray || node.items->kind != avro::Kind::kRecord || node.items->fields.size() != 2)
    return d.Fail("a map in its array form was expected");
  d.Items([&] { pair(*node.items->fields[0].type, *node.items->fields[1].type); });
}

ColumnCounts ReadCounts(avro::Decoder& d, const avro::Node& declared) {
  ColumnCounts out;
  ReadIdMap(d, declared, [&](const avro::Node& k, const avro::Node& v) {
    int key = ReadInt(d, k).value_or(-1);
    if (auto value = ReadLong(d, v)) out.emplace_back(key, *value);
  });
  if (!std::is_sorted(out.begin(), out.end())) std::sort(out.begin(), out.end());
  return out;
}

ColumnBounds ReadBounds(avro::Decoder& d, const avro::Node& declared) {
  ColumnBounds out;
  ReadIdMap(d, declared, [&](const avro::Node& k, const avro::Node& v) {
    int key = ReadInt(d, k).value_or(-1);
    if (auto value = ReadBytes(d, v)) out.emplace_back(key, std::string(*value));
  });
  if (!std::is_sorted(out.begin(), out.end())) std::sort(out.begin(), out.end());
  return out;
}

template <class F>
void ReadList(avro::Decoder& d, const avro::Node& declared, F item) {
  const avro::Node& node = d.Branch(declared);
  if (node.kind == avro::Kind::kNull) return;
  if (node.kind != avro::Kind::kArray) return d.Fail("a list was expected");
  d.Items([&] { item(*node.items); });
}

std::optional<std::string> ReadPartitionValue(avro::Decoder& d, const avro::Node& declared) {
  const avro::Node& node = d.Branch(declared);
  switch (node.kind) {
    case avro::Kind::kNull:
      return std::nullopt;
    case avro::Kind::kBoolean:
      return BoolValue(d.Boolean());
    case avro::Kind::kInt:
      return IntValue(d.Int());
    case avro::Kind::kLong:
      return LongValue(d.Long());
    case avro::Kind::kFloat:
      return std::string(d.Fixed(4));
    case avro::Kind::kDouble:
      return std::string(d.Fixed(8));
    case avro::Kind::kString:
    case avro::Kind::kBytes:
    case avro::Kind::kFixed: {
      std::string_view v = node.kind == avro::Kind::kFixed ? d.Fixed(node.fixed_size) : d.Bytes();
      if (node.logical_type != "decimal") return std::string(v);
      while (v.size() > 1 &&
             ((v[0] == '\0' && !(uint8_t(v[1]) & 0x80)) || (uint8_t(v[0]) == 0xFF && (uint8_t(v[1]) & 0x80))))
        v.remove_prefix(1);
      return std::string(v);
    }
    default:
      d.Fail("a partition value of this type is not known");
      return std::nullopt;
  }
}

PartitionTuple ReadPartition(avro::Decoder& d, const avro::Node& declared, const PartitionSpec& spec) {
  PartitionTuple out(spec.fields.size());
  const avro::Node& node = d.Branch(declared);
  if (node.kind != avro::Kind::kRecord) {
    d.Fail("a partition record was expected");
    return out;
  }
  for (size_t i = 0; i < node.fields.size() && d.ok(); ++i) {
    auto value = ReadPartitionValue(d, *node.fields[i].type);
    size_t at = i;
    if (node.fields[i].id >= 0) {
      for (at = 0; at < spec.fields.size() && spec.fields[at].field_id != node.fields[i].id; ++at) {
      }
    }
    if (at < out.size()) out[at] = std::move(value);
  }
  return out;
}

void ReadDataFile(avro::Decoder& d, const avro::Node& declared, const PartitionSpec& spec, DataFile* f) {
  const avro::Node& node = d.Branch(declared);
  if (node.kind != avro::Kind::kRecord) return d.Fail("a data file was expected");
  for (const avro::RecordField& field : node.fields) {
    if (!d.ok()) return;
    const avro::Node& t = *field.type;
    switch (FieldId(field, kDataFileNames)) {
      case 134: {
        int content = ReadInt(d, t).value_or(0);
        if (content < 0 || content > 2) return d.Fail("a file content of another kind");
        f->content = FileContent(content);
        break;
      }
      case 100:
        f->path = ReadString(d, t);
        break;
      case 101:
        f->format = LowerCase(ReadString(d, t));
        break;
      case 102:
        f->partition = ReadPartition(d, t, spec);
        break;
      case 103:
        f->record_count = ReadLong(d, t).value_or(0);
        break;
      case 104:
        f->file_size_bytes = ReadLong(d, t).value_or(0);
        break;
      case 108:
        f->column_sizes = ReadCounts(d, t);
        break;
      case 109:
        f->value_counts = ReadCounts(d, t);
        break;
      case 110:
        f->null_value_counts = ReadCounts(d, t);
        break;
      case 137:
        f->nan_value_counts = ReadCounts(d, t);
        break;
      case 125:
        f->lower_bounds = ReadBounds(d, t);
        break;
      case 128:
        f->upper_bounds = ReadBounds(d, t);
        break;
      case 131:
        f->key_metadata = ReadString(d, t);
        break;
      case 132:
        ReadList(d, t, [&](const avro::Node& item) { f->split_offsets.push_back(ReadLong(d, item).value_or(0)); });
        break;
      case 135:
        ReadList(d, t, [&](const avro::Node& item) { f->equality_ids.push_back(ReadInt(d, item).value_or(0)); });
        break;
      case 140:
        f->sort_order_id = ReadInt(d, t);
        break;
      case 142:
        f->first_row_id = ReadLong(d, t);
        break;
      case 143:
        f->referenced_data_file = ReadString(d, t);
        break;
      case 144:
        f->content_offset = ReadLong(d, t);
        break;
      case 145:
        f->content_size_bytes = ReadLong(d, t);
        break;
      default:
        d.Skip(t);
    }
  }
  if (f->record_count < 0 || f->file_size_bytes < 0) d.Fail("a negative size of a data file");
}

/// Runs `read` for every record of a container.
template <class F>
Status ForEachRecord(avro::Reader& reader, F read) {
  const avro::Node& root = reader.schema().root();
  if (root.kind != avro::Kind::kRecord)
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "an Avro file that does not hold records"));
  while (true) {
    TW_ASSIGN(auto block, reader.Next());
    if (!block) return {};
    avro::Decoder d(block->data);
    for (int64_t i = 0; i < block->records && d.ok(); ++i) read(d, root);
    TW_TRY(d.status());
  }
}

std::string Find(const std::map<std::string, std::string>& m, const char* key) {
  auto it = m.find(key);
  return it == m.end() ? std::string() : it->second;
}

}  // namespace

Result<EncodedManifest> EncodeManifest(const std::vector<ManifestEntry>& entries, bool is_deletes, const Schema& schema,
                                       const PartitionSpec& spec, int version) {
  TW_CHECK(version == 2 || version == 3, "format version {}", version);
  Type partition = spec.PartitionType(schema);
  EncodedManifest out;
  ManifestFile& m = out.file;
  m.spec_id = spec.id;
  m.is_deletes = is_deletes;
  m.partitions.resize(partition.fields.size());
  int64_t min_sequence = INT64_MAX;
  avro::Writer writer(ManifestAvroSchema(partition, version),
                      {{"schema", SchemaToJson(schema)},
                       {"schema-id", std::to_string(schema.id)},
                       {"partition-spec", PartitionFieldsToJson(spec)},
                       {"partition-spec-id", std::to_string(spec.id)},
                       {"format-version", std::to_string(version)},
                       {"content", is_deletes ? "deletes" : "data"}},
                      avro::Codec::kDeflate);
  for (const ManifestEntry& entry : entries) {
    const DataFile& f = *entry.file;
    TW_CHECK((f.content != FileContent::kData) == is_deletes, "content {} in a manifest of {}", int(f.content),
             is_deletes ? "deletes" : "data");
    TW_CHECK(entry.status == EntryStatus::kAdded || (entry.sequence_number && entry.file_sequence_number), "{}",
             f.path);
    avro::Encoder& e = writer.record();
    e.Int(int(entry.status));
    OptionalLong(e, entry.snapshot_id);
    OptionalLong(e, entry.sequence_number);
    OptionalLong(e, entry.file_sequence_number);
    TW_TRY(EncodeDataFile(e, f, partition, version));
    writer.EndRecord();
    int* files = entry.status == EntryStatus::kAdded      ? &m.added_files
                 : entry.status == EntryStatus::kExisting ? &m.existing_files
                                                          : &m.deleted_files;
    int64_t* rows = entry.status == EntryStatus::kAdded      ? &m.added_rows
                    : entry.status == EntryStatus::kExisting ? &m.existing_rows
                                                             : &m.deleted_rows;
    ++*files;
    *rows += f.record_count;
    if (entry.IsLive()) {
      if (entry.sequence_number) min_sequence = std::min(min_sequence, *entry.sequence_number);
      if (!is_deletes && !f.first_row_id) out.rows_without_id += f.record_count;
    }
    TW_TRY(Summarize(partition, f.partition, &m.partitions));
  }
  // Numbers to be inherited are larger than all that are known.
  m.min_sequence_number = min_sequence != INT64_MAX ? min_sequence : kInheritSequence;
  out.bytes = writer.Finish();
  m.length_bytes = int64_t(out.bytes.size());
  return out;
}

Result<std::vector<ManifestEntry>> DecodeManifest(std::string_view bytes, const ManifestFile& manifest) {
  TW_ASSIGN(avro::Reader reader, avro::Reader::Open(bytes));
  PartitionSpec spec;
  if (std::string text = Find(reader.metadata(), "partition-spec"); !text.empty()) {
    TW_ASSIGN(spec, ParsePartitionSpecJson(text));
  }
  std::vector<ManifestEntry> out;
  int64_t next_row_id = manifest.first_row_id.value_or(0);
  bool bad_status = false;
  TW_TRY(ForEachRecord(reader, [&](avro::Decoder& d, const avro::Node& root) {
    ManifestEntry entry;
    auto file = std::make_shared<DataFile>();
    file->spec_id = manifest.spec_id;
    for (const avro::RecordField& field : root.fields) {
      if (!d.ok()) return;
      const avro::Node& t = *field.type;
      switch (FieldId(field, kEntryNames)) {
        case 0: {
          int status = ReadInt(d, t).value_or(-1);
          if (status < 0 || status > 2) return d.Fail("an entry status of another kind");
          entry.status = EntryStatus(status);
          break;
        }
        case 1:
          entry.snapshot_id = ReadLong(d, t);
          break;
        case 2:
          ReadDataFile(d, t, spec, file.get());
          break;
        case 3:
          entry.sequence_number = ReadLong(d, t);
          break;
        case 4:
          entry.file_sequence_number = ReadLong(d, t);
          break;
        default:
          d.Skip(t);
      }
    }
    if (!d.ok()) return;
    if ((file->content != FileContent::kData) != manifest.is_deletes) bad_status = true;
    if (!entry.snapshot_id) entry.snapshot_id = manifest.added_snapshot_id;
    if (!entry.sequence_number) entry.sequence_number = manifest.sequence_number;
    if (!entry.file_sequence_number) entry.file_sequence_number = manifest.sequence_number;
    if (manifest.is_deletes || !manifest.first_row_id) {
      file->first_row_id.reset();
    } else if (!file->first_row_id && entry.IsLive()) {
      file->first_row_id = next_row_id;
      if (__builtin_add_overflow(next_row_id, file->record_count, &next_row_id)) return d.Fail("row ids overflow");
    }
    entry.file = std::move(file);
    out.push_back(std::move(entry));
  }));
  if (bad_status)
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "manifest {} mixes data and delete files", manifest.path));
  return out;
}

std::string EncodeManifestList(const std::vector<ManifestFile>& manifests, const Snapshot& snapshot, int version) {
  std::map<std::string, std::string> metadata = {
      {"snapshot-id", std::to_string(snapshot.id)},
      {"parent-snapshot-id", snapshot.parent_id ? std::to_string(*snapshot.parent_id) : "null"},
      {"sequence-number", std::to_string(snapshot.sequence_number)},
      {"format-version", std::to_string(version)}};
  if (version >= 3) metadata["first-row-id"] = std::to_string(snapshot.first_row_id.value_or(0));
  avro::Writer writer(ManifestListAvroSchema(version), metadata, avro::Codec::kDeflate);
  for (const ManifestFile& m : manifests) {
    TW_CHECK(version < 3 || m.is_deletes || m.first_row_id, "manifest {} without first_row_id", m.path);
    avro::Encoder& e = writer.record();
    e.Bytes(m.path);
    e.Long(m.length_bytes);
    e.Int(m.spec_id);
    e.Int(m.is_deletes ? 1 : 0);
    e.Long(m.sequence_number);
    e.Long(m.min_sequence_number);
    e.Long(m.added_snapshot_id);
    for (int n : {m.added_files, m.existing_files, m.deleted_files}) e.Int(std::max(n, 0));
    for (int64_t n : {m.added_rows, m.existing_rows, m.deleted_rows}) e.Long(std::max<int64_t>(n, 0));
    e.Branch(1);
    e.Items(m.partitions.size());
    for (const FieldSummary& s : m.partitions) {
      e.Boolean(s.contains_null);
      e.Branch(s.contains_nan ? 1 : 0);
      if (s.contains_nan) e.Boolean(*s.contains_nan);
      for (const auto& bound : {s.lower_bound, s.upper_bound}) {
        e.Branch(bound ? 1 : 0);
        if (bound) e.Bytes(*bound);
      }
    }
    e.End();
    OptionalBytes(e, m.key_metadata);
    if (version >= 3) OptionalLong(e, m.is_deletes ? std::nullopt : m.first_row_id);
    writer.EndRecord();
  }
  return writer.Finish();
}

Result<std::vector<ManifestFile>> DecodeManifestList(std::string_view bytes) {
  TW_ASSIGN(avro::Reader reader, avro::Reader::Open(bytes));
  std::vector<ManifestFile> out;
  TW_TRY(ForEachRecord(reader, [&](avro::Decoder& d, const avro::Node& root) {
    ManifestFile m;
    m.added_files = m.existing_files = m.deleted_files = -1;
    m.added_rows = m.existing_rows = m.deleted_rows = -1;
    for (const avro::RecordField& field : root.fields) {
      if (!d.ok()) return;
      const avro::Node& t = *field.type;
      switch (FieldId(field, kListNames)) {
        case 500:
          m.path = ReadString(d, t);
          break;
        case 501:
          m.length_bytes = ReadLong(d, t).value_or(0);
          break;
        case 502:
          m.spec_id = ReadInt(d, t).value_or(0);
          break;
        case 517:
          m.is_deletes = ReadInt(d, t).value_or(0) == 1;
          break;
        case 515:
          m.sequence_number = ReadLong(d, t).value_or(0);
          break;
        case 516:
          m.min_sequence_number = ReadLong(d, t).value_or(0);
          break;
        case 503:
          m.added_snapshot_id = ReadLong(d, t).value_or(0);
          break;
        case 504:
          m.added_files = ReadInt(d, t).value_or(-1);
          break;
        case 505:
          m.existing_files = ReadInt(d, t).value_or(-1);
          break;
        case 506:
          m.deleted_files = ReadInt(d, t).value_or(-1);
          break;
        case 512:
          m.added_rows = ReadLong(d, t).value_or(-1);
          break;
        case 513:
          m.existing_rows = ReadLong(d, t).value_or(-1);
          break;
        case 514:
          m.deleted_rows = ReadLong(d, t).value_or(-1);
          break;
        case 507:
          ReadList(d, t, [&](const avro::Node& item) {
            const avro::Node& node = d.Branch(item);
            if (node.kind != avro::Kind::kRecord) return d.Fail("a field summary was expected");
            FieldSummary s;
            for (const avro::RecordField& f : node.fields) {
              switch (FieldId(f, kSummaryNames)) {
                case 509:
                  s.contains_null = ReadBool(d, *f.type).value_or(false);
                  break;
                case 518:
                  s.contains_nan = ReadBool(d, *f.type);
                  break;
                case 510:
                  if (auto v = ReadBytes(d, *f.type)) s.lower_bound = std::string(*v);
                  break;
                case 511:
                  if (auto v = ReadBytes(d, *f.type)) s.upper_bound = std::string(*v);
                  break;
                default:
                  d.Skip(*f.type);
              }
            }
            m.partitions.push_back(std::move(s));
          });
          break;
        case 519:
          m.key_metadata = ReadString(d, t);
          break;
        case 520:
          m.first_row_id = ReadLong(d, t);
          break;
        default:
          d.Skip(t);
      }
    }
    if (d.ok()) out.push_back(std::move(m));
  }));
  return out;
}

Result<FileAccess::ManifestList> ReadManifestList(FileAccess& files, const Snapshot& snapshot) {
  if (snapshot.manifest_list.empty()) {
    // v1 without a list: what the list would say is unknown.
    auto list = std::make_shared<std::vector<ManifestFile>>();
    for (const std::string& path : snapshot.manifests) {
      ManifestFile m;
      m.path = path;
      m.added_snapshot_id = snapshot.id;
      m.added_files = m.existing_files = m.deleted_files = -1;
      m.added_rows = m.existing_rows = m.deleted_rows = -1;
      list->push_back(std::move(m));
    }
    return list;
  }
  if (snapshot.key_id)
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "encrypted Iceberg tables are not supported"));
  if (auto cached = files.CachedList(snapshot.manifest_list)) return cached;
  TW_ASSIGN(std::string bytes, files.Get(snapshot.manifest_list));
  TW_ASSIGN(auto decoded, DecodeManifestList(bytes));
  FileAccess::ManifestList list = std::make_shared<const std::vector<ManifestFile>>(std::move(decoded));
  files.CacheList(snapshot.manifest_list, list);
  return list;
}

Result<FileAccess::Manifest> ReadManifest(FileAccess& files, const ManifestFile& manifest) {
  if (!manifest.key_metadata.empty())
    return std::unexpected(EnvError(ErrorKind::kUnsupported, "encrypted Iceberg tables are not supported"));
  if (auto cached = files.CachedManifest(manifest.path)) return cached;
  TW_ASSIGN(std::string bytes, files.Get(manifest.path));
  TW_ASSIGN(auto decoded, DecodeManifest(bytes, manifest));
  FileAccess::Manifest entries = std::make_shared<const std::vector<ManifestEntry>>(std::move(decoded));
  files.CacheManifest(manifest.path, entries);
  return entries;
}

}  // namespace tidewater::iceberg
