#include "tidewater/avro/schema.h"
#include <map>
#include <nlohmann/json.hpp>

namespace tidewater::avro {
namespace {

using nlohmann::json;

constexpr size_t kTextMax = 16 << 20;
constexpr int kDepthMax = 64;
constexpr size_t kNodesMax = 100000;

const std::map<std::string, Kind, std::less<>> kPrimitives = {
    {"null", Kind::kNull},   {"boolean", Kind::kBoolean}, {"int", Kind::kInt},     {"long", Kind::kLong},
    {"float", Kind::kFloat}, {"double", Kind::kDouble},   {"bytes", Kind::kBytes}, {"string", Kind::kString}};

struct Builder {
  std::vector<std::unique_ptr<Node>>& nodes;
  std::map<std::string, const Node*> named;

  Error Bad(std::string_view why) { return EnvError(ErrorKind::kCorrupt, "invalid Avro schema: {}", why); }

  Result<Node*> New(Kind kind) {
    if (nodes.size() >= kNodesMax) return std::unexpected(Bad("too many types"));
    nodes.push_back(std::make_unique<Node>());
    nodes.back()->kind = kind;
    return nodes.back().get();
  }

  static std::string Text(const json& j, const char* key) {
    auto it = j.find(key);
    return it != j.end() && it->is_string() ? it->get<std::string>() : std::string();
  }

  void Name(Node* node, const json& j, const std::string& scope) {
    node->name = Text(j, "name");
    std::string space = j.contains("namespace") ? Text(j, "namespace") : scope;
    named[node->name] = node;
    if (!space.empty()) named[space + "." + node->name] = node;
  }

  Result<const Node*> Build(const json& j, const std::string& scope, int depth) {
    if (depth > kDepthMax) return std::unexpected(Bad("nested too deeply"));
    if (j.is_string()) {
      const auto& name = j.get_ref<const std::string&>();
      if (auto p = kPrimitives.find(name); p != kPrimitives.end()) return New(p->second);
      if (auto n = named.find(name); n != named.end()) return n->second;
      if (auto n = named.find(scope + "." + name); n != named.end()) return n->second;
      return std::unexpected(Bad("unknown type " + name.substr(0, 100)));
    }
    if (j.is_array()) {
      TW_ASSIGN(Node * node, New(Kind::kUnion));
      for (const json& branch : j) {
        TW_ASSIGN(const Node* b, Build(branch, scope, depth + 1));
        if (b->kind == Kind::kUnion) return std::unexpected(Bad("union within a union"));
        node->branches.push_back(b);
      }
      return node;
    }
    if (!j.is_object()) return std::unexpected(Bad("a type is neither text, list nor object"));
    auto type = j.find("type");
    if (type == j.end()) return std::unexpected(Bad("an object without \"type\""));
    if (!type->is_string()) return Build(*type, scope, depth + 1);
    const auto& name = type->get_ref<const std::string&>();
    if (name == "record" || name == "error") return Record(j, scope, depth);
    if (name == "array" || name == "map") {
      TW_ASSIGN(Node * node, New(name == "array" ? Kind::kArray : Kind::kMap));
      node->logical_type = Text(j, "logicalType");
      auto items = j.find(name == "array" ? "items" : "values");
      if (items == j.end()) return std::unexpected(Bad(name + " without items"));
      TW_ASSIGN(node->items, Build(*items, scope, depth + 1));
      return node;
    }
    if (name == "fixed") {
      TW_ASSIGN(Node * node, New(Kind::kFixed));
      Name(node, j, scope);
      node->logical_type = Text(j, "logicalType");
      auto size = j.find("size");
      if (size == j.end() || !size->is_number_unsigned() || size->get<uint64_t>() > (1u << 30))
        return std::unexpected(Bad("fixed without a size"));
      node->fixed_size = size->get<size_t>();
      return node;
    }
    if (name == "enum") {
      TW_ASSIGN(Node * node, New(Kind::kEnum));
      Name(node, j, scope);
      return node;
    }
    if (auto p = kPrimitives.find(name); p != kPrimitives.end()) {
      TW_ASSIGN(Node * node, New(p->second));
      node->logical_type = Text(j, "logicalType");
      return node;
    }
    return Build(*type, scope, depth + 1);
  }

  Result<const Node*> Record(const json& j, const std::string& scope, int depth) {
    TW_ASSIGN(Node * node, New(Kind::kRecord));
    Name(node, j, scope);
    std::string inner = j.contains("namespace") ? Text(j, "namespace") : scope;
    auto fields = j.find("fields");
    if (fields == j.end() || !fields->is_array()) return std::unexpected(Bad("record without fields"));
    for (const json& f : *fields) {
      if (!f.is_object() || !f.contains("type")) return std::unexpected(Bad("a field without a type"));
      RecordField field;
      field.name = Text(f, "name");
      if (auto id = f.find("field-id"); id != f.end() && id->is_number_integer()) field.id = id->get<int>();
      TW_ASSIGN(field.type, Build(f["type"], inner, depth + 1));
      node->fields.push_back(std::move(field));
    }
    return node;
  }
};

}  // namespace

Result<Schema> Schema::Parse(std::string_view text) {
  if (text.size() > kTextMax)
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "Avro schema of {} bytes", text.size()));
  json j = json::parse(text, nullptr, false);
  if (j.is_discarded()) return std::unexpected(EnvError(ErrorKind::kCorrupt, "Avro schema is no JSON"));
  Schema schema;
  Builder builder{schema.nodes_, {}};
  TW_ASSIGN(schema.root_, builder.Build(j, "", 0));
  return schema;
}

}  // namespace tidewater::avro
