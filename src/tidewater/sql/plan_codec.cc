#include "tidewater/sql/plan_codec.h"
#include <bit>
#include <map>
#include <stdexcept>
#include <nlohmann/json.hpp>
#include "duckdb/function/function_binder.hpp"
#include "duckdb/main/client_context.hpp"
#include "duckdb/planner/expression/list.hpp"
#include "duckdb/planner/expression_iterator.hpp"
#include "tidewater/sql/frontend.h"
#include "tidewater/sql/functions.h"
#include "tidewater/types/schema.h"

namespace tidewater::sql {
namespace {

using dataflow::AggregateCall;
using dataflow::AggregateKind;
using dataflow::ExpressionPtr;
using dataflow::NodeKind;
using dataflow::PlanNode;
using duckdb::ExpressionClass;
using duckdb::ExpressionType;
using duckdb::LogicalTypeId;
using duckdb::make_uniq;
using duckdb::Value;
using nlohmann::json;

constexpr int kEncodingVersion = 1;
constexpr int kMaxDepth = 2000;

struct Unsupported : std::runtime_error {
  using runtime_error::runtime_error;
};
struct Corrupt : std::runtime_error {
  using runtime_error::runtime_error;
};
struct Unbound : std::runtime_error {
  using runtime_error::runtime_error;
};

/// Words of the encoding; never renumbered, unlike DuckDB's enums.
template <class T>
struct Words {
  std::vector<std::pair<T, const char*>> pairs;
  const char* To(T value) const {
    for (auto& [v, w] : pairs)
      if (v == value) return w;
    return nullptr;
  }
  T From(const std::string& word) const {
    for (auto& [v, w] : pairs)
      if (word == w) return v;
    throw Corrupt("unknown word \"" + word + "\"");
  }
};

const Words<ExpressionType>& Comparisons() {
  static const Words<ExpressionType> words = {{{ExpressionType::COMPARE_EQUAL, "="},
                                               {ExpressionType::COMPARE_NOTEQUAL, "<>"},
                                               {ExpressionType::COMPARE_LESSTHAN, "<"},
                                               {ExpressionType::COMPARE_GREATERTHAN, ">"},
                                               {ExpressionType::COMPARE_LESSTHANOREQUALTO, "<="},
                                               {ExpressionType::COMPARE_GREATERTHANOREQUALTO, ">="},
                                               {ExpressionType::COMPARE_DISTINCT_FROM, "distinct"},
                                               {ExpressionType::COMPARE_NOT_DISTINCT_FROM, "not distinct"}}};
  return words;
}
const Words<ExpressionType>& Operators() {
  static const Words<ExpressionType> words = {{{ExpressionType::OPERATOR_NOT, "not"},
                                               {ExpressionType::OPERATOR_IS_NULL, "is null"},
                                               {ExpressionType::OPERATOR_IS_NOT_NULL, "is not null"},
                                               {ExpressionType::OPERATOR_COALESCE, "coalesce"},
                                               {ExpressionType::COMPARE_IN, "in"},
                                               {ExpressionType::COMPARE_NOT_IN, "not in"},
                                               {ExpressionType::OPERATOR_TRY, "try"}}};
  return words;
}
const Words<NodeKind>& Kinds() {
  static const Words<NodeKind> words = {{{NodeKind::kScan, "scan"},
                                         {NodeKind::kFilter, "filter"},
                                         {NodeKind::kProject, "project"},
                                         {NodeKind::kJoin, "join"},
                                         {NodeKind::kAggregate, "aggregate"},
                                         {NodeKind::kDistinct, "distinct"},
                                         {NodeKind::kUnionAll, "union all"},
                                         {NodeKind::kValues, "values"}}};
  return words;
}
const Words<AggregateKind>& Aggregates() {
  static const Words<AggregateKind> words = {{{AggregateKind::kCountStar, "count(*)"},
                                              {AggregateKind::kCount, "count"},
                                              {AggregateKind::kSum, "sum"},
                                              {AggregateKind::kAvg, "avg"},
                                              {AggregateKind::kMin, "min"},
                                              {AggregateKind::kMax, "max"}}};
  return words;
}

std::string Hex(const std::string& bytes) {
  static const char* digits = "0123456789abcdef";
  std::string out;
  for (unsigned char c : bytes) {
    out += digits[c >> 4];
    out += digits[c & 15];
  }
  return out;
}
std::string FromHex(const std::string& text) {
  if (text.size() % 2) throw Corrupt("odd number of hex digits");
  auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    throw Corrupt("no hex digit");
  };
  std::string out;
  for (size_t i = 0; i < text.size(); i += 2) out += char(digit(text[i]) << 4 | digit(text[i + 1]));
  return out;
}

json EncodeType(const LogicalType& type) {
  auto text = TypeToText(type);
  if (TypeFromText(text) != type) throw Unsupported("the type " + text);
  return text;
}
LogicalType DecodeType(const json& j) { return TypeFromText(j.get<std::string>()); }

// --- Constants.

json EncodeValue(const Value& v) {
  if (v.IsNull()) return nullptr;
  switch (v.type().id()) {
    case LogicalTypeId::SQLNULL:
      return nullptr;
    case LogicalTypeId::BOOLEAN:
      return v.GetValueUnsafe<bool>();
    case LogicalTypeId::TINYINT:
      return v.GetValueUnsafe<int8_t>();
    case LogicalTypeId::SMALLINT:
      return v.GetValueUnsafe<int16_t>();
    case LogicalTypeId::INTEGER:
      return v.GetValueUnsafe<int32_t>();
    case LogicalTypeId::BIGINT:
      return v.GetValueUnsafe<int64_t>();
    case LogicalTypeId::UTINYINT:
      return v.GetValueUnsafe<uint8_t>();
    case LogicalTypeId::USMALLINT:
      return v.GetValueUnsafe<uint16_t>();
    case LogicalTypeId::UINTEGER:
      return v.GetValueUnsafe<uint32_t>();
    case LogicalTypeId::UBIGINT:
      return v.GetValueUnsafe<uint64_t>();
    case LogicalTypeId::FLOAT:
      return std::bit_cast<uint32_t>(v.GetValueUnsafe<float>());
    case LogicalTypeId::DOUBLE:
      return std::bit_cast<uint64_t>(v.GetValueUnsafe<double>());
    case LogicalTypeId::DATE:
      return v.GetValueUnsafe<duckdb::date_t>().days;
    case LogicalTypeId::TIME:
      return v.GetValueUnsafe<duckdb::dtime_t>().micros;
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
    case LogicalTypeId::TIMESTAMP_NS:
    case LogicalTypeId::TIMESTAMP_TZ:
      return v.GetValueUnsafe<int64_t>();
    case LogicalTypeId::INTERVAL: {
      auto i = v.GetValueUnsafe<duckdb::interval_t>();
      return json::array({i.months, i.days, i.micros});
    }
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UHUGEINT:
    case LogicalTypeId::DECIMAL:
    case LogicalTypeId::UUID:
      return v.ToString();
    case LogicalTypeId::VARCHAR:
      return duckdb::StringValue::Get(v);
    case LogicalTypeId::BLOB:
      return Hex(duckdb::StringValue::Get(v));
    case LogicalTypeId::LIST:
    case LogicalTypeId::ARRAY:
    case LogicalTypeId::STRUCT: {
      auto& children = v.type().id() == LogicalTypeId::LIST    ? duckdb::ListValue::GetChildren(v)
                       : v.type().id() == LogicalTypeId::ARRAY ? duckdb::ArrayValue::GetChildren(v)
                                                               : duckdb::StructValue::GetChildren(v);
      json out = json::array();
      for (auto& c : children) out.push_back(EncodeValue(c));
      return out;
    }
    default:
      throw Unsupported("a constant of type " + v.type().ToString());
  }
}

Value DecodeValue(const json& j, const LogicalType& type, int depth = 0) {
  if (depth > 64) throw Corrupt("a constant is nested too deeply");
  if (j.is_null()) return Value(type);
  switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
      return Value::BOOLEAN(j.get<bool>());
    case LogicalTypeId::TINYINT:
      return Value::TINYINT(j.get<int8_t>());
    case LogicalTypeId::SMALLINT:
      return Value::SMALLINT(j.get<int16_t>());
    case LogicalTypeId::INTEGER:
      return Value::INTEGER(j.get<int32_t>());
    case LogicalTypeId::BIGINT:
      return Value::BIGINT(j.get<int64_t>());
    case LogicalTypeId::UTINYINT:
      return Value::UTINYINT(j.get<uint8_t>());
    case LogicalTypeId::USMALLINT:
      return Value::USMALLINT(j.get<uint16_t>());
    case LogicalTypeId::UINTEGER:
      return Value::UINTEGER(j.get<uint32_t>());
    case LogicalTypeId::UBIGINT:
      return Value::UBIGINT(j.get<uint64_t>());
    case LogicalTypeId::FLOAT:
      return Value::FLOAT(std::bit_cast<float>(j.get<uint32_t>()));
    case LogicalTypeId::DOUBLE:
      return Value::DOUBLE(std::bit_cast<double>(j.get<uint64_t>()));
    case LogicalTypeId::DATE:
      return Value::DATE(duckdb::date_t(j.get<int32_t>()));
    case LogicalTypeId::TIME:
      return Value::TIME(duckdb::dtime_t(j.get<int64_t>()));
    case LogicalTypeId::TIMESTAMP:
      return Value::TIMESTAMP(duckdb::timestamp_t(j.get<int64_t>()));
    case LogicalTypeId::TIMESTAMP_SEC:
      return Value::TIMESTAMPSEC(duckdb::timestamp_sec_t(j.get<int64_t>()));
    case LogicalTypeId::TIMESTAMP_MS:
      return Value::TIMESTAMPMS(duckdb::timestamp_ms_t(j.get<int64_t>()));
    case LogicalTypeId::TIMESTAMP_NS:
      return Value::TIMESTAMPNS(duckdb::timestamp_ns_t(j.get<int64_t>()));
    case LogicalTypeId::TIMESTAMP_TZ:
      return Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(j.get<int64_t>()));
    case LogicalTypeId::INTERVAL: {
      if (!j.is_array() || j.size() != 3) throw Corrupt("an interval has three parts");
      return Value::INTERVAL(j[0].get<int32_t>(), j[1].get<int32_t>(), j[2].get<int64_t>());
    }
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UHUGEINT:
    case LogicalTypeId::DECIMAL:
    case LogicalTypeId::UUID:
      return Value(j.get<std::string>()).DefaultCastAs(type);
    case LogicalTypeId::VARCHAR: {
      Value v(j.get<std::string>());
      v.Reinterpret(type);
      return v;
    }
    case LogicalTypeId::BLOB: {
      auto bytes = FromHex(j.get<std::string>());
      return Value::BLOB(duckdb::const_data_ptr_cast(bytes.data()), bytes.size());
    }
    case LogicalTypeId::LIST:
    case LogicalTypeId::ARRAY: {
      duckdb::vector<Value> children;
      auto child = type.id() == LogicalTypeId::LIST ? duckdb::ListType::GetChildType(type)
                                                    : duckdb::ArrayType::GetChildType(type);
      for (auto& c : j) children.push_back(DecodeValue(c, child, depth + 1));
      if (type.id() == LogicalTypeId::LIST) return Value::LIST(child, std::move(children));
      if (children.size() != duckdb::ArrayType::GetSize(type)) throw Corrupt("an array of another size");
      return Value::ARRAY(child, std::move(children));
    }
    case LogicalTypeId::STRUCT: {
      duckdb::vector<Value> children;
      auto& fields = duckdb::StructType::GetChildTypes(type);
      if (!j.is_array() || j.size() != fields.size()) throw Corrupt("a struct of another size");
      for (size_t i = 0; i < fields.size(); i++) children.push_back(DecodeValue(j[i], fields[i].second, depth + 1));
      return Value::STRUCT(type, std::move(children));
    }
    default:
      throw Corrupt("a constant of type " + type.ToString());
  }
}

// --- Expressions.

json EncodeExpression(const duckdb::Expression& e);

template <class V>
json EncodeAll(const V& expressions) {
  json out = json::array();
  for (auto& e : expressions) out.push_back(EncodeExpression(*e));
  return out;
}

json EncodeExpression(const duckdb::Expression& e) {
  json out;
  switch (e.GetExpressionClass()) {
    case ExpressionClass::BOUND_REF:
      out = {{"ref", e.Cast<duckdb::BoundReferenceExpression>().index}, {"type", EncodeType(e.return_type)}};
      break;
    case ExpressionClass::BOUND_CONSTANT:
      out = {{"const", EncodeValue(e.Cast<duckdb::BoundConstantExpression>().value)},
             {"type", EncodeType(e.return_type)}};
      break;
    case ExpressionClass::BOUND_FUNCTION: {
      auto& f = e.Cast<duckdb::BoundFunctionExpression>();
      if (f.function.HasBindLambdaCallback()) throw Unsupported("the function " + f.function.name + " with a lambda");
      out = {{"fn", f.function.name}, {"args", EncodeAll(f.children)}, {"type", EncodeType(e.return_type)}};
      if (f.is_operator) out["operator"] = true;
      if (auto bound_as = dynamic_cast<BoundAs*>(f.bind_info.get())) {
        json types = json::array();
        for (auto& t : bound_as->types) types.push_back(EncodeType(t));
        out["bound_as"] = std::move(types);
      }
      break;
    }
    case ExpressionClass::BOUND_CAST: {
      auto& c = e.Cast<duckdb::BoundCastExpression>();
      out = {{"cast", EncodeExpression(*c.child)}, {"type", EncodeType(e.return_type)}};
      if (c.try_cast) out["try"] = true;
      break;
    }
    case ExpressionClass::BOUND_COMPARISON: {
      auto& c = e.Cast<duckdb::BoundComparisonExpression>();
      auto word = Comparisons().To(e.GetExpressionType());
      if (!word) throw Unsupported("the comparison " + e.ToString());
      out = {{"cmp", word}, {"left", EncodeExpression(*c.left)}, {"right", EncodeExpression(*c.right)}};
      break;
    }
    case ExpressionClass::BOUND_CONJUNCTION:
      out = {{e.GetExpressionType() == ExpressionType::CONJUNCTION_AND ? "and" : "or",
              EncodeAll(e.Cast<duckdb::BoundConjunctionExpression>().children)}};
      break;
    case ExpressionClass::BOUND_OPERATOR: {
      auto word = Operators().To(e.GetExpressionType());
      if (!word) throw Unsupported("the expression " + e.ToString());
      out = {{"op", word},
             {"args", EncodeAll(e.Cast<duckdb::BoundOperatorExpression>().children)},
             {"type", EncodeType(e.return_type)}};
      break;
    }
    case ExpressionClass::BOUND_CASE: {
      auto& c = e.Cast<duckdb::BoundCaseExpression>();
      json checks = json::array();
      for (auto& check : c.case_checks)
        checks.push_back(json::array({EncodeExpression(*check.when_expr), EncodeExpression(*check.then_expr)}));
      out = {
          {"case", std::move(checks)}, {"else", EncodeExpression(*c.else_expr)}, {"type", EncodeType(e.return_type)}};
      break;
    }
    case ExpressionClass::BOUND_BETWEEN: {
      auto& b = e.Cast<duckdb::BoundBetweenExpression>();
      out = {{"between", EncodeExpression(*b.input)},
             {"lower", EncodeExpression(*b.lower)},
             {"upper", EncodeExpression(*b.upper)},
             {"lower_inclusive", b.lower_inclusive},
             {"upper_inclusive", b.upper_inclusive}};
      break;
    }
    default:
      throw Unsupported("the expression " + e.ToString());
  }
  if (!e.alias.empty()) out["name"] = e.alias;
  return out;
}

class Decoder {
 public:
  explicit Decoder(duckdb::ClientContext& context) : context_(context) {}

  std::unique_ptr<PlanNode> Node(const json& j, int depth = 0) {
    if (depth > kMaxDepth) throw Corrupt("the plan is nested too deeply");
    auto node = std::make_unique<PlanNode>();
    node->kind = Kinds().From(j.at("kind").get<std::string>());
    node->id = j.at("id").get<int>();
    for (auto& i : j.at("inputs")) node->inputs.push_back(Node(i, depth + 1));
    static const std::map<NodeKind, std::pair<size_t, size_t>> kInputs = {
        {NodeKind::kScan, {0, 0}},         {NodeKind::kFilter, {1, 1}},    {NodeKind::kProject, {1, 1}},
        {NodeKind::kJoin, {2, 2}},         {NodeKind::kAggregate, {1, 1}}, {NodeKind::kDistinct, {1, 1}},
        {NodeKind::kUnionAll, {1, 10000}}, {NodeKind::kValues, {0, 0}}};
    auto [least, most] = kInputs.at(node->kind);
    if (node->inputs.size() < least || node->inputs.size() > most) throw Corrupt("a node has a wrong number of inputs");
    for (auto& t : j.at("types")) node->types.push_back(DecodeType(t));
    node->names = j.at("names").get<std::vector<std::string>>();
    if (node->names.size() != node->types.size()) throw Corrupt("names and types differ in number");
    Types input;
    for (auto& i : node->inputs) input.insert(input.end(), i->types.begin(), i->types.end());
    switch (node->kind) {
      case NodeKind::kScan:
        node->relation = j.at("relation").get<ObjectId>();
        node->columns = j.at("columns").get<std::vector<uint32_t>>();
        Expect(node->columns.size() == node->types.size());
        break;
      case NodeKind::kFilter:
        node->expressions = All(j.at("expressions"), input);
        Expect(node->types == input);
        break;
      case NodeKind::kProject:
        node->expressions = All(j.at("expressions"), input);
        Expect(node->expressions.size() == node->types.size());
        for (size_t i = 0; i < node->types.size(); i++) Expect(node->expressions[i]->return_type == node->types[i]);
        break;
      case NodeKind::kJoin: {
        auto type = j.at("join").get<std::string>();
        Expect(type == "inner" || type == "left");
        node->join_type = type == "inner" ? dataflow::JoinType::kInner : dataflow::JoinType::kLeft;
        node->left_keys = All(j.at("left_keys"), node->inputs[0]->types);
        node->right_keys = All(j.at("right_keys"), node->inputs[1]->types);
        node->null_equal = j.at("null_equal").get<std::vector<bool>>();
        Expect(node->left_keys.size() == node->right_keys.size() && node->left_keys.size() == node->null_equal.size());
        for (size_t i = 0; i < node->left_keys.size(); i++)
          Expect(node->left_keys[i]->return_type == node->right_keys[i]->return_type);
        node->residual = Maybe(j, "residual", input);
        node->output = j.at("output").get<std::vector<uint32_t>>();
        Expect(node->output.size() == node->types.size());
        for (size_t i = 0; i < node->output.size(); i++)
          Expect(node->output[i] < input.size() && input[node->output[i]] == node->types[i]);
        break;
      }
      case NodeKind::kAggregate: {
        node->groups = All(j.at("groups"), input);
        for (auto& a : j.at("aggregates")) {
          AggregateCall call;
          call.kind = Aggregates().From(a.at("kind").get<std::string>());
          call.argument = Maybe(a, "argument", input);
          call.filter = Maybe(a, "filter", input);
          call.distinct = a.value("distinct", false);
          call.type = DecodeType(a.at("type"));
          Expect((call.argument == nullptr) == (call.kind == AggregateKind::kCountStar));
          node->aggregates.push_back(std::move(call));
        }
        Expect(node->types.size() == node->groups.size() + node->aggregates.size());
        for (size_t i = 0; i < node->types.size(); i++)
          Expect(node->types[i] == (i < node->groups.size() ? node->groups[i]->return_type
                                                            : node->aggregates[i - node->groups.size()].type));
        break;
      }
      case NodeKind::kDistinct:
        Expect(node->types == input);
        break;
      case NodeKind::kUnionAll:
        for (auto& i : node->inputs) Expect(i->types == node->types);
        break;
      case NodeKind::kValues:
        for (auto& r : j.at("rows")) {
          Expect(r.size() == node->types.size());
          duckdb::vector<Value> row;
          for (size_t i = 0; i < r.size(); i++) row.push_back(DecodeValue(r[i], node->types[i]));
          node->rows.push_back(std::move(row));
        }
        break;
    }
    return node;
  }

 private:
  static void Expect(bool holds) {
    if (!holds) throw Corrupt("the parts of a node do not fit together");
  }

  std::vector<ExpressionPtr> All(const json& j, const Types& input, int depth = 0) {
    std::vector<ExpressionPtr> out;
    for (auto& e : j) out.push_back(Expression(e, input, depth));
    return out;
  }
  ExpressionPtr Maybe(const json& j, const char* key, const Types& input) {
    auto it = j.find(key);
    return it == j.end() ? nullptr : Expression(*it, input, 0);
  }

  ExpressionPtr Expression(const json& j, const Types& input, int depth) {
    auto e = Unnamed(j, input, depth);
    e->alias = j.value("name", "");
    return e;
  }

  ExpressionPtr Unnamed(const json& j, const Types& input, int depth) {
    if (++depth > kMaxDepth) throw Corrupt("an expression is nested too deeply");
    auto children = [&](const json& list) {
      duckdb::vector<ExpressionPtr> out;
      for (auto& c : list) out.push_back(Expression(c, input, depth));
      return out;
    };
    auto type = [&] { return DecodeType(j.at("type")); };
    if (j.contains("ref")) {
      auto index = j["ref"].get<uint64_t>();
      auto t = type();
      if (index >= input.size() || input[index] != t) throw Corrupt("a column reference does not fit");
      return make_uniq<duckdb::BoundReferenceExpression>(t, index);
    }
    if (j.contains("const")) return make_uniq<duckdb::BoundConstantExpression>(DecodeValue(j["const"], type()));
    if (j.contains("fn")) {
      std::vector<LogicalType> bound_as;
      if (j.contains("bound_as"))
        for (auto& t : j["bound_as"]) bound_as.push_back(DecodeType(t));
      return Function(j["fn"].get<std::string>(), children(j.at("args")), type(), j.value("operator", false), bound_as);
    }
    if (j.contains("cast")) {
      // AddCastToType leaves out a cast between equal types, which the encoder never writes.
      return duckdb::BoundCastExpression::AddCastToType(context_, Expression(j["cast"], input, depth), type(),
                                                        j.value("try", false));
    }
    if (j.contains("cmp"))
      return make_uniq<duckdb::BoundComparisonExpression>(Comparisons().From(j["cmp"].get<std::string>()),
                                                          Expression(j.at("left"), input, depth),
                                                          Expression(j.at("right"), input, depth));
    if (j.contains("and") || j.contains("or")) {
      bool is_and = j.contains("and");
      auto e = make_uniq<duckdb::BoundConjunctionExpression>(is_and ? ExpressionType::CONJUNCTION_AND
                                                                    : ExpressionType::CONJUNCTION_OR);
      e->children = children(j[is_and ? "and" : "or"]);
      if (e->children.empty()) throw Corrupt("an empty conjunction");
      return e;
    }
    if (j.contains("op")) {
      auto e = make_uniq<duckdb::BoundOperatorExpression>(Operators().From(j["op"].get<std::string>()), type());
      e->children = children(j.at("args"));
      if (e->children.empty()) throw Corrupt("an operator without operands");
      return e;
    }
    if (j.contains("case")) {
      auto e = make_uniq<duckdb::BoundCaseExpression>(type());
      for (auto& c : j["case"]) {
        duckdb::BoundCaseCheck check;
        check.when_expr = Expression(c.at(0), input, depth);
        check.then_expr = Expression(c.at(1), input, depth);
        e->case_checks.push_back(std::move(check));
      }
      e->else_expr = Expression(j.at("else"), input, depth);
      return e;
    }
    if (j.contains("between"))
      return make_uniq<duckdb::BoundBetweenExpression>(
          Expression(j["between"], input, depth), Expression(j.at("lower"), input, depth),
          Expression(j.at("upper"), input, depth), j.at("lower_inclusive").get<bool>(),
          j.at("upper_inclusive").get<bool>());
    throw Corrupt("an expression of unknown kind");
  }

  ExpressionPtr Function(const std::string& name, duckdb::vector<ExpressionPtr> arguments, const LogicalType& type,
                         bool is_operator, const std::vector<LogicalType>& bound_as) {
    if (!bound_as.empty() && bound_as.size() != arguments.size())
      throw Corrupt("a function has a wrong number of arguments");
    duckdb::vector<ExpressionPtr> real;
    if (!bound_as.empty()) {
      real = std::move(arguments);
      arguments.clear();
      for (auto& t : bound_as)
        arguments.push_back(make_uniq<duckdb::BoundReferenceExpression>(t, 0));  // a NULL constant would fold
    }
    duckdb::ErrorData error;
    auto e = duckdb::FunctionBinder(context_).BindScalarFunction(DEFAULT_SCHEMA, name, std::move(arguments), error,
                                                                 is_operator);
    if (error.HasError())
      throw Unbound("the function " + name + " of a stored plan cannot be bound: " + error.RawMessage());
    if (e->return_type != type)
      throw Unbound("the function " + name + " of a stored plan gives " + e->return_type.ToString() + " instead of " +
                    type.ToString());
    if (!real.empty()) {
      if (e->GetExpressionClass() != ExpressionClass::BOUND_FUNCTION)
        throw Unbound("the function " + name + " of a stored plan is none any more");
      auto& f = e->Cast<duckdb::BoundFunctionExpression>();
      for (size_t i = 0; i < real.size(); i++)
        if (real[i]->return_type != f.children[i]->return_type)
          throw Unbound("the function " + name + " of a stored plan takes other types");
      f.children = std::move(real);
    }
    return e;
  }

  duckdb::ClientContext& context_;
};

json EncodeNode(const PlanNode& node) {
  json out = {{"kind", Kinds().To(node.kind)}, {"id", node.id}, {"names", node.names}};
  json inputs = json::array(), types = json::array();
  for (auto& i : node.inputs) inputs.push_back(EncodeNode(*i));
  for (auto& t : node.types) types.push_back(EncodeType(t));
  out["inputs"] = std::move(inputs);
  out["types"] = std::move(types);
  switch (node.kind) {
    case NodeKind::kScan:
      out["relation"] = node.relation;
      out["columns"] = node.columns;
      break;
    case NodeKind::kFilter:
    case NodeKind::kProject:
      out["expressions"] = EncodeAll(node.expressions);
      break;
    case NodeKind::kJoin:
      out["join"] = node.join_type == dataflow::JoinType::kInner ? "inner" : "left";
      out["left_keys"] = EncodeAll(node.left_keys);
      out["right_keys"] = EncodeAll(node.right_keys);
      out["null_equal"] = node.null_equal;
      if (node.residual) out["residual"] = EncodeExpression(*node.residual);
      out["output"] = node.output;
      break;
    case NodeKind::kAggregate: {
      out["groups"] = EncodeAll(node.groups);
      json calls = json::array();
      for (auto& a : node.aggregates) {
        json call = {{"kind", Aggregates().To(a.kind)}, {"type", EncodeType(a.type)}};
        if (a.argument) call["argument"] = EncodeExpression(*a.argument);
        if (a.filter) call["filter"] = EncodeExpression(*a.filter);
        if (a.distinct) call["distinct"] = true;
        calls.push_back(std::move(call));
      }
      out["aggregates"] = std::move(calls);
      break;
    }
    case NodeKind::kDistinct:
    case NodeKind::kUnionAll:
      break;
    case NodeKind::kValues: {
      json rows = json::array();
      for (auto& row : node.rows) {
        json r = json::array();
        for (auto& v : row) r.push_back(EncodeValue(v));
        rows.push_back(std::move(r));
      }
      out["rows"] = std::move(rows);
      break;
    }
  }
  return out;
}

}  // namespace

Result<std::string> EncodePlan(const PlanNode& plan) {
  try {
    json all = {{"encoding", kEncodingVersion}, {"plan", EncodeNode(plan)}};
    return all.dump();
  } catch (const Unsupported& e) {
    return std::unexpected(UserError("0A000", "{} is not supported in a materialized view yet", e.what()));
  } catch (const std::exception& e) {
    return std::unexpected(EnvError(ErrorKind::kInternal, "a plan cannot be encoded: {}", e.what()));
  }
}

Result<std::unique_ptr<PlanNode>> DecodePlan(duckdb::ClientContext& context, const std::string& text) {
  try {
    auto all = json::parse(text);
    if (all.at("encoding").get<int>() != kEncodingVersion) throw Corrupt("unknown encoding");
    std::unique_ptr<PlanNode> plan;
    auto decode = [&] { plan = Decoder(context).Node(all.at("plan")); };
    if (context.transaction.HasActiveTransaction())
      decode();
    else
      context.RunFunctionInTransaction(decode);
    return plan;
  } catch (const Unbound& e) {
    return std::unexpected(UserError("42883", "{}", e.what()));
  } catch (const duckdb::Exception& e) {
    return std::unexpected(FromException(e));
  } catch (const std::exception& e) {
    return std::unexpected(EnvError(ErrorKind::kCorrupt, "a stored plan cannot be read: {}", e.what()));
  }
}

}  // namespace tidewater::sql
