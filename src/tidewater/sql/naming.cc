#include "tidewater/sql/naming.h"
#include "duckdb/parser/expression/list.hpp"
#include "duckdb/parser/expression/type_expression.hpp"
#include "duckdb/parser/query_node/cte_node.hpp"
#include "duckdb/parser/query_node/select_node.hpp"
#include "duckdb/parser/query_node/set_operation_node.hpp"
#include "duckdb/parser/tableref/joinref.hpp"
#include "duckdb/parser/tableref/subqueryref.hpp"
#include "tidewater/sql/pg_types.h"

namespace tidewater::sql {
namespace {

constexpr int kMaxDepth = 200;
constexpr const char* kNameless = "?column?";

/// "text", "int4", ...: the type of a cast, which the parser may not have resolved.
std::string TypeName(const duckdb::LogicalType& type) {
  if (!type.IsUnbound()) {
    auto pg = FindPgType(ToPg(type).oid);
    return pg ? pg->name : kNameless;
  }
  auto text = duckdb::StringUtil::Lower(type.ToString());
  std::erase(text, '"');
  text = text.substr(0, text.find('('));
  static const std::pair<const char*, const char*> others[] = {
      {"varchar", "text"},        {"int", "int4"},   {"double", "float8"}, {"float", "float4"}, {"decimal", "numeric"},
      {"timestamp", "timestamp"}, {"string", "text"}};
  for (auto& [ours, theirs] : others)
    if (text == ours) return theirs;
  for (auto& pg : PgTypes())
    if (text == pg.name || text == pg.format) return pg.name;
  return kNameless;
}

std::string NameOf(const duckdb::ParsedExpression& e) {
  using duckdb::ExpressionClass;
  switch (e.GetExpressionClass()) {
    case ExpressionClass::FUNCTION: {
      auto& f = e.Cast<duckdb::FunctionExpression>();
      if (f.is_operator) return kNameless;
      if (f.function_name == "count_star") return "count";
      if (f.function_name == "date_part") return "extract";
      if (f.function_name == "list_value") return "array";
      if (f.function_name == "regexp_full_match") return kNameless;
      if (f.function_name.rfind("tw_reg", 0) == 0) return f.function_name.substr(3, f.function_name.find('_', 3) - 3);
      return f.function_name.rfind("tw_", 0) == 0 ? f.function_name.substr(3) : f.function_name;
    }
    case ExpressionClass::WINDOW:
      return e.Cast<duckdb::WindowExpression>().function_name;
    case ExpressionClass::CAST: {
      auto& cast = e.Cast<duckdb::CastExpression>();
      auto& child = *cast.child;
      if (child.GetExpressionClass() == ExpressionClass::COLUMN_REF)
        return child.Cast<duckdb::ColumnRefExpression>().GetColumnName();
      if (child.GetExpressionClass() == ExpressionClass::FUNCTION ||
          child.GetExpressionClass() == ExpressionClass::OPERATOR ||
          child.GetExpressionClass() == ExpressionClass::CAST) {
        auto name = NameOf(child);
        if (name != kNameless) return name;
      }
      return TypeName(cast.cast_type);
    }
    case ExpressionClass::CASE:
      return "case";
    case ExpressionClass::OPERATOR:
      if (e.GetExpressionType() == duckdb::ExpressionType::OPERATOR_COALESCE) return "coalesce";
      if (e.GetExpressionType() == duckdb::ExpressionType::ARRAY_CONSTRUCTOR) return "array";
      return kNameless;
    case ExpressionClass::SUBQUERY: {
      auto& s = e.Cast<duckdb::SubqueryExpression>();
      if (s.subquery_type == duckdb::SubqueryType::EXISTS) return "exists";
      if (s.subquery_type != duckdb::SubqueryType::SCALAR ||
          s.subquery->node->type != duckdb::QueryNodeType::SELECT_NODE)
        return kNameless;
      auto& list = s.subquery->node->Cast<duckdb::SelectNode>().select_list;
      if (list.size() != 1) return kNameless;
      if (!list[0]->alias.empty()) return list[0]->alias;
      if (list[0]->GetExpressionClass() == ExpressionClass::COLUMN_REF)
        return list[0]->Cast<duckdb::ColumnRefExpression>().GetColumnName();
      return NameOf(*list[0]);
    }
    default:
      return kNameless;
  }
}

void NameNode(duckdb::QueryNode& node, int depth);

void NameRef(duckdb::TableRef& ref, int depth) {
  if (depth > kMaxDepth) return;
  if (ref.type == duckdb::TableReferenceType::SUBQUERY) {
    NameNode(*ref.Cast<duckdb::SubqueryRef>().subquery->node, depth + 1);
  } else if (ref.type == duckdb::TableReferenceType::JOIN) {
    auto& join = ref.Cast<duckdb::JoinRef>();
    NameRef(*join.left, depth + 1);
    NameRef(*join.right, depth + 1);
  }
}

void NameNode(duckdb::QueryNode& node, int depth) {
  if (depth > kMaxDepth) return;
  for (auto& cte : node.cte_map.map) NameNode(*cte.second->query->node, depth + 1);
  switch (node.type) {
    case duckdb::QueryNodeType::SELECT_NODE: {
      auto& select = node.Cast<duckdb::SelectNode>();
      if (select.from_table) NameRef(*select.from_table, depth + 1);
      for (auto& e : select.select_list) {
        auto c = e->GetExpressionClass();
        if (!e->alias.empty() || c == duckdb::ExpressionClass::COLUMN_REF || c == duckdb::ExpressionClass::STAR)
          continue;
        auto name = NameOf(*e);
        // Inside, a name that means nothing helps nobody, and DuckDB's own keeps several apart.
        if (depth == 0 || name != kNameless) e->SetAlias(name);
      }
      break;
    }
    case duckdb::QueryNodeType::SET_OPERATION_NODE: {
      auto& set = node.Cast<duckdb::SetOperationNode>();
      for (auto& c : set.children) NameNode(*c, depth);
      break;
    }
    default:
      break;
  }
}

/// A cast to a type that is written as varchar or character varying in `text`; DuckDB's parser calls it as it calls
/// text.
bool IsCastToVarchar(const duckdb::ParsedExpression& e, const std::string& text) {
  if (e.GetExpressionClass() != duckdb::ExpressionClass::CAST) return false;
  auto& type = e.Cast<duckdb::CastExpression>().cast_type;
  if (!type.IsUnbound()) return false;
  auto& written = duckdb::UnboundType::GetTypeExpression(type);
  if (!written || !written->GetQueryLocation().IsValid() ||
      written->GetExpressionClass() != duckdb::ExpressionClass::TYPE ||
      written->Cast<duckdb::TypeExpression>().GetTypeName() != "VARCHAR")
    return false;
  auto place = text.substr(std::min<size_t>(written->GetQueryLocation().GetIndex(), text.size()), 9);
  place = duckdb::StringUtil::Lower(place);
  return place.starts_with("varchar") || place.starts_with("character");
}

}  // namespace

std::vector<size_t> NameVarchars(duckdb::SelectStatement& statement, const std::string& text) {
  std::vector<size_t> places;
  if (statement.node->type != duckdb::QueryNodeType::SELECT_NODE) return places;
  auto& list = statement.node->Cast<duckdb::SelectNode>().select_list;
  for (size_t i = 0; i < list.size(); i++) {
    if (list[i]->GetExpressionClass() == duckdb::ExpressionClass::STAR)
      return places;  // those behind it have no place yet
    if (!IsCastToVarchar(*list[i], text)) continue;
    if (list[i]->alias.empty() && NameOf(*list[i]) == "text") list[i]->SetAlias("varchar");
    places.push_back(i);
  }
  return places;
}

void NameColumns(duckdb::SelectStatement& statement) {
  NameNode(*statement.node, 0);
  // A bare NULL is text in PostgreSQL, INTEGER in DuckDB. (In a UNION the other side gives the type.)
  if (statement.node->type != duckdb::QueryNodeType::SELECT_NODE) return;
  for (auto& e : statement.node->Cast<duckdb::SelectNode>().select_list) {
    if (e->GetExpressionClass() != duckdb::ExpressionClass::CONSTANT ||
        !e->Cast<duckdb::ConstantExpression>().value.IsNull())
      continue;
    auto alias = e->alias;
    e = duckdb::make_uniq<duckdb::CastExpression>(LogicalType(LogicalType::VARCHAR), std::move(e));
    e->SetAlias(alias);
  }
}

}  // namespace tidewater::sql
