#include "tidewater/sql/literals.h"
#include <regex>
#include "duckdb/parser/expression/list.hpp"
#include "duckdb/parser/expression/type_expression.hpp"
#include "duckdb/parser/parsed_expression_iterator.hpp"
#include "duckdb/parser/query_node.hpp"

namespace tidewater::sql {
namespace {

using duckdb::ExpressionClass;
using duckdb::LogicalType;
using duckdb::LogicalTypeId;
using duckdb::ParsedExpression;
using ParsedPtr = duckdb::unique_ptr<ParsedExpression>;

/// The name and the parameters of a type that the parser left unbound.
const duckdb::TypeExpression* Written(const LogicalType& type) {
  if (!type.IsUnbound()) return nullptr;
  auto& e = duckdb::UnboundType::GetTypeExpression(type);
  return e && e->GetExpressionClass() == ExpressionClass::TYPE ? &e->Cast<duckdb::TypeExpression>() : nullptr;
}

bool IsTimestampTz(const LogicalType& type) {
  if (type.id() == LogicalTypeId::TIMESTAMP_TZ) return true;
  auto written = Written(type);
  return written && duckdb::StringUtil::CIEquals(written->GetTypeName(), "timestamp with time zone");
}

/// The type of the elements of t[]; INVALID for other types.
LogicalType ElementType(const LogicalType& type) {
  if (type.id() == LogicalTypeId::LIST) return duckdb::ListType::GetChildType(type);
  auto written = Written(type);
  if (!written || written->GetTypeName() != "list" || written->GetChildren().size() != 1) return LogicalType::INVALID;
  return LogicalType::UNBOUND(written->GetChildren()[0]->Copy());
}

duckdb::vector<ParsedPtr>* ArrayElements(ParsedExpression& e) {
  if (e.GetExpressionClass() == ExpressionClass::FUNCTION &&
      e.Cast<duckdb::FunctionExpression>().function_name == "list_value")
    return &e.Cast<duckdb::FunctionExpression>().children;
  if (e.GetExpressionType() == duckdb::ExpressionType::ARRAY_CONSTRUCTOR)
    return &e.Cast<duckdb::OperatorExpression>().children;
  return nullptr;
}

void ReadCast(duckdb::CastExpression& cast) {
  auto element = ElementType(cast.cast_type);
  if (element.IsValid()) {
    if (auto elements = ArrayElements(*cast.child))
      for (auto& e : *elements)
        if (!ArrayElements(*e) || ElementType(element).IsValid())
          e = duckdb::make_uniq<duckdb::CastExpression>(element, std::move(e), cast.try_cast);
  }
  if (cast.child->GetExpressionClass() == ExpressionClass::CONSTANT && IsTimestampTz(cast.cast_type)) {
    auto& value = cast.child->Cast<duckdb::ConstantExpression>().value;
    static const std::regex parts(R"(\s*(\d+-\d+-\d+[ T]\d+:\d+)(:\d+(?:\.\d*)?)?\s*([-+]\d.*|[Zz]\s*))");
    std::smatch m;
    if (value.IsNull() || value.type().id() != LogicalTypeId::VARCHAR) return;
    auto text = value.ToString();
    if (std::regex_match(text, m, parts))
      value = duckdb::Value(m[1].str() + (m[2].matched ? m[2].str() : ":00") + m[3].str());
  }
}

void ReadNode(duckdb::QueryNode& node);

void ReadExpression(ParsedExpression& e) {
  if (e.GetExpressionClass() == ExpressionClass::CAST) ReadCast(e.Cast<duckdb::CastExpression>());
  if (e.GetExpressionClass() == ExpressionClass::SUBQUERY)
    ReadNode(*e.Cast<duckdb::SubqueryExpression>().subquery->node);
  duckdb::ParsedExpressionIterator::EnumerateChildren(e, [](ParsedExpression& child) { ReadExpression(child); });
}

void ReadNode(duckdb::QueryNode& node) {
  duckdb::ParsedExpressionIterator::EnumerateQueryNodeChildren(node, [](ParsedPtr& e) { ReadExpression(*e); });
}

}  // namespace

void ReadLiterals(duckdb::SelectStatement& statement) { ReadNode(*statement.node); }

}  // namespace tidewater::sql
