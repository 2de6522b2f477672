// Avro schemas (Avro 1.11 specification, "Schema Declaration") as a tree, with the attributes that Iceberg adds
// (field-id, element-id, …).
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "tidewater/base/result.h"

namespace tidewater::avro {

enum class Kind {
  kNull,
  kBoolean,
  kInt,
  kLong,
  kFloat,
  kDouble,
  kBytes,
  kString,
  kFixed,
  kEnum,
  kArray,
  kMap,
  kRecord,
  kUnion
};

struct Node;

struct RecordField {
  std::string name;
  int id = -1;  ///< "field-id"; -1 when absent
  const Node* type = nullptr;
};

struct Node {
  Kind kind = Kind::kNull;
  std::string name;  ///< record, fixed, enum
  std::string logical_type;
  size_t fixed_size = 0;
  std::vector<RecordField> fields;
  std::vector<const Node*> branches;  ///< union
  const Node* items = nullptr;        ///< array: elements; map: values
};

/// A parsed schema; owns its nodes. Nodes may refer to themselves by name (recursive types).
class Schema {
 public:
  /// kCorrupt for what is no schema; at most 16 MB of text, 64 levels, 100,000 nodes.
  static Result<Schema> Parse(std::string_view json);
  const Node& root() const { return *root_; }

 private:
  std::vector<std::unique_ptr<Node>> nodes_;
  const Node* root_ = nullptr;
};

}  // namespace tidewater::avro
