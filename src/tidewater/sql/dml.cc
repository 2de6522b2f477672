#include "tidewater/sql/dml.h"
#include <algorithm>
#include "duckdb/parser/expression/list.hpp"
#include "duckdb/parser/query_node/select_node.hpp"
#include "duckdb/parser/result_modifier.hpp"
#include "duckdb/parser/statement/delete_statement.hpp"
#include "duckdb/parser/statement/insert_statement.hpp"
#include "duckdb/parser/statement/update_statement.hpp"
#include "duckdb/parser/tableref/list.hpp"
#include "tidewater/sql/bridge.h"
#include "tidewater/types/schema.h"

namespace tidewater::sql {
namespace {

using duckdb::make_uniq;
using duckdb::ParsedExpression;
using ParsedPtr = duckdb::unique_ptr<ParsedExpression>;

[[noreturn]] void Fail(const Error& e) { ThrowThroughDuckDB(e); }

catalog::ObjectPtr Target(const catalog::Contents& contents, const std::string& schema, const std::string& name,
                          const char* verb) {
  if (!schema.empty() && schema != catalog::kDefaultSchema)
    Fail(UserError("42P01", "relation \"{}.{}\" does not exist", schema, name));
  auto object = contents.Find(catalog::kDefaultSchema, name);
  if (!object || object->hidden) Fail(UserError("42P01", "relation \"{}\" does not exist", name));
  if (object->type != catalog::ObjectType::kTable)
    Fail(UserError("42809", "cannot {} {} \"{}\"", verb, ToString(object->type), name));
  if (object->source) {
    auto source = contents.Find(object->source);
    Fail(UserError("42809", "cannot {} table \"{}\": its rows come from source \"{}\"", verb, name,
                   source ? source->name : "?")
             .WithHint("Change the row in the upstream database: the change arrives by itself."));
  }
  return object;
}

uint32_t Column(const catalog::Object& table, const std::string& name) {
  for (uint32_t i = 0; i < table.columns.size(); i++)
    if (duckdb::StringUtil::CIEquals(table.columns[i].name, name)) return i;
  Fail(UserError("42703", "column \"{}\" of relation \"{}\" does not exist", name, table.name));
}

ParsedPtr Null() { return make_uniq<duckdb::ConstantExpression>(duckdb::Value()); }
ParsedPtr CastTo(const catalog::Column& column, ParsedPtr e) {
  if (e->GetExpressionType() == duckdb::ExpressionType::VALUE_DEFAULT) e = Null();
  auto cast = make_uniq<duckdb::CastExpression>(TypeFromText(column.type), std::move(e));
  cast->SetAlias(column.name);
  return cast;
}

std::vector<uint32_t> Returning(const catalog::Object& table, const duckdb::vector<ParsedPtr>& list) {
  std::vector<uint32_t> out;
  for (auto& e : list) {
    if (e->GetExpressionClass() == duckdb::ExpressionClass::STAR) {
      for (uint32_t i = 0; i < table.columns.size(); i++) out.push_back(i);
    } else if (e->GetExpressionClass() == duckdb::ExpressionClass::COLUMN_REF) {
      out.push_back(Column(table, e->Cast<duckdb::ColumnRefExpression>().GetColumnName()));
    } else {
      Fail(UserError("0A000", "RETURNING of expressions is not supported").WithHint("RETURNING takes columns and *."));
    }
  }
  return out;
}

/// DO UPDATE SET c = excluded.c for every column outside the key is an upsert.
bool IsUpsert(const catalog::Object& table, const duckdb::OnConflictInfo& info) {
  if (!info.set_info || info.condition || info.set_info->condition) return false;
  std::vector<bool> set(table.columns.size());
  for (auto k : table.primary_key) set[k] = true;
  for (size_t i = 0; i < info.set_info->columns.size(); i++) {
    auto& e = *info.set_info->expressions[i];
    if (e.GetExpressionClass() != duckdb::ExpressionClass::COLUMN_REF) return false;
    auto& ref = e.Cast<duckdb::ColumnRefExpression>();
    auto column = Column(table, info.set_info->columns[i]);
    if (ref.column_names.size() != 2 || !duckdb::StringUtil::CIEquals(ref.column_names[0], "excluded") ||
        Column(table, ref.column_names[1]) != column)
      return false;
    set[column] = true;
  }
  return std::all_of(set.begin(), set.end(), [](bool b) { return b; });
}

PreparedDml::OnConflict Conflict(const catalog::Object& table, const duckdb::OnConflictInfo* info) {
  using OnConflict = PreparedDml::OnConflict;
  if (!info || info->action_type == duckdb::OnConflictAction::THROW) return OnConflict::kError;
  if (!info->indexed_columns.empty()) {
    std::vector<uint32_t> target;
    for (auto& c : info->indexed_columns) target.push_back(Column(table, c));
    auto key = table.primary_key;
    std::sort(target.begin(), target.end());
    std::sort(key.begin(), key.end());
    if (target != key)
      Fail(UserError("42P10", "there is no unique or exclusion constraint matching the ON CONFLICT specification"));
  }
  if (info->action_type == duckdb::OnConflictAction::NOTHING) return OnConflict::kNothing;
  if (table.primary_key.empty())
    Fail(UserError("42P10", "there is no unique or exclusion constraint matching the ON CONFLICT specification"));
  if (info->action_type == duckdb::OnConflictAction::REPLACE || IsUpsert(table, *info)) return OnConflict::kUpsert;
  Fail(UserError("0A000", "this form of ON CONFLICT DO UPDATE is not supported")
           .WithHint("Set every column outside the key to its EXCLUDED value, or use DO NOTHING."));
}

DmlQuery Insert(duckdb::InsertStatement& s, const catalog::Contents& contents) {
  DmlQuery q;
  q.kind = DmlKind::kInsert;
  q.table = Target(contents, s.schema, s.table, "insert into");
  auto& table = *q.table;
  if (s.column_order != duckdb::InsertColumnOrder::INSERT_BY_POSITION)
    Fail(UserError("0A000", "INSERT BY NAME is not supported"));
  q.on_conflict = Conflict(table, s.on_conflict_info.get());
  q.returning = Returning(table, s.returning_list);
  std::vector<uint32_t> target;
  for (auto& c : s.columns) {
    auto column = Column(table, c);
    if (std::find(target.begin(), target.end(), column) != target.end())
      Fail(UserError("42701", "column \"{}\" specified more than once", c));
    target.push_back(column);
  }
  if (target.empty())
    for (uint32_t i = 0; i < table.columns.size(); i++) target.push_back(i);
  auto node = make_uniq<duckdb::SelectNode>();
  node->cte_map = s.cte_map.Copy();
  auto values = s.default_values ? nullptr : s.GetValuesList().get();
  if (values || s.default_values) {
    auto list = make_uniq<duckdb::ExpressionListRef>();
    list->alias = "inserted";
    for (auto& c : table.columns) list->expected_names.push_back(c.name);
    size_t rows = s.default_values ? 1 : values->values.size();
    for (size_t r = 0; r < rows; r++) {
      duckdb::vector<ParsedPtr> row(table.columns.size());
      if (!s.default_values) {
        auto& from = values->values[r];
        if (from.size() > target.size()) Fail(UserError("42601", "INSERT has more expressions than target columns"));
        if (from.size() < target.size() && !s.columns.empty())
          Fail(UserError("42601", "INSERT has more target columns than expressions"));
        for (size_t i = 0; i < from.size(); i++) row[target[i]] = std::move(from[i]);
      }
      for (size_t i = 0; i < row.size(); i++) row[i] = CastTo(table.columns[i], row[i] ? std::move(row[i]) : Null());
      list->values.push_back(std::move(row));
    }
    node->from_table = std::move(list);
    node->select_list.push_back(make_uniq<duckdb::StarExpression>());
  } else {
    q.source_columns = target.size();
    q.explicit_columns = !s.columns.empty();
    q.source = duckdb::unique_ptr_cast<duckdb::SQLStatement, duckdb::SelectStatement>(s.select_statement->Copy());
    auto sub = make_uniq<duckdb::SubqueryRef>(std::move(s.select_statement), "inserted");
    for (size_t i = 0; i < target.size(); i++) sub->column_name_alias.push_back(fmt::format("tw_c{}", i));
    for (uint32_t c = 0; c < table.columns.size(); c++) {
      auto place = std::find(target.begin(), target.end(), c);
      node->select_list.push_back(CastTo(
          table.columns[c], place == target.end() ? Null()
                                                  : make_uniq<duckdb::ColumnRefExpression>(
                                                        fmt::format("tw_c{}", place - target.begin()), "inserted")));
    }
    node->from_table = std::move(sub);
  }
  q.query = make_uniq<duckdb::SelectStatement>();
  q.query->node = std::move(node);
  return q;
}

duckdb::unique_ptr<duckdb::TableRef> Cross(duckdb::unique_ptr<duckdb::TableRef> a,
                                           duckdb::unique_ptr<duckdb::TableRef> b) {
  auto join = make_uniq<duckdb::JoinRef>(duckdb::JoinRefType::CROSS);
  join->left = std::move(a);
  join->right = std::move(b);
  return join;
}

/// With other tables joined in, a row may match several times: it changes once, by any of its matches.
void OncePerRow(duckdb::SelectNode& node, const catalog::Object& table, const std::string& alias) {
  if (table.primary_key.empty())
    Fail(UserError("0A000", "changing a table without a primary key through a join is not supported"));
  auto distinct = make_uniq<duckdb::DistinctModifier>();
  for (auto k : table.primary_key)
    distinct->distinct_on_targets.push_back(make_uniq<duckdb::ColumnRefExpression>(table.columns[k].name, alias));
  node.modifiers.push_back(std::move(distinct));
}

std::pair<catalog::ObjectPtr, std::string> TargetOf(duckdb::TableRef& ref, const catalog::Contents& contents,
                                                    const char* verb) {
  if (ref.type != duckdb::TableReferenceType::BASE_TABLE) Fail(UserError("0A000", "this target is not supported"));
  auto& base = ref.Cast<duckdb::BaseTableRef>();
  auto table = Target(contents, base.schema_name, base.table_name, verb);
  return {table, base.alias.empty() ? base.table_name : base.alias};
}

DmlQuery Update(duckdb::UpdateStatement& s, const catalog::Contents& contents) {
  DmlQuery q;
  q.kind = DmlKind::kUpdate;
  std::string alias;
  std::tie(q.table, alias) = TargetOf(*s.table, contents, "update");
  auto& table = *q.table;
  q.returning = Returning(table, s.returning_list);
  auto node = make_uniq<duckdb::SelectNode>();
  node->cte_map = s.cte_map.Copy();
  std::vector<ParsedPtr> changed(table.columns.size());
  for (size_t i = 0; i < s.set_info->columns.size(); i++) {
    auto column = Column(table, s.set_info->columns[i]);
    if (changed[column])
      Fail(UserError("42601", "multiple assignments to same column \"{}\"", table.columns[column].name));
    changed[column] = std::move(s.set_info->expressions[i]);
  }
  for (auto& c : table.columns) node->select_list.push_back(make_uniq<duckdb::ColumnRefExpression>(c.name, alias));
  for (size_t i = 0; i < table.columns.size(); i++)
    node->select_list.push_back(
        CastTo(table.columns[i], changed[i] ? std::move(changed[i])
                                            : make_uniq<duckdb::ColumnRefExpression>(table.columns[i].name, alias)));
  node->from_table = std::move(s.table);
  if (s.from_table) {
    OncePerRow(*node, table, alias);
    node->from_table = Cross(std::move(node->from_table), std::move(s.from_table));
  }
  if (s.set_info->condition) node->where_clause = std::move(s.set_info->condition);
  q.query = make_uniq<duckdb::SelectStatement>();
  q.query->node = std::move(node);
  return q;
}

DmlQuery Delete(duckdb::DeleteStatement& s, const catalog::Contents& contents) {
  DmlQuery q;
  q.kind = DmlKind::kDelete;
  std::string alias;
  std::tie(q.table, alias) = TargetOf(*s.table, contents, "delete from");
  auto& table = *q.table;
  q.returning = Returning(table, s.returning_list);
  auto node = make_uniq<duckdb::SelectNode>();
  node->cte_map = s.cte_map.Copy();
  for (auto& c : table.columns) node->select_list.push_back(make_uniq<duckdb::ColumnRefExpression>(c.name, alias));
  node->from_table = std::move(s.table);
  if (!s.using_clauses.empty()) OncePerRow(*node, table, alias);
  for (auto& u : s.using_clauses) node->from_table = Cross(std::move(node->from_table), std::move(u));
  node->where_clause = std::move(s.condition);
  q.query = make_uniq<duckdb::SelectStatement>();
  q.query->node = std::move(node);
  return q;
}

}  // namespace

DmlQuery ToQuery(duckdb::unique_ptr<duckdb::SQLStatement> statement, const catalog::Contents& contents) {
  DmlQuery q;
  switch (statement->type) {
    case duckdb::StatementType::INSERT_STATEMENT:
      q = Insert(statement->Cast<duckdb::InsertStatement>(), contents);
      break;
    case duckdb::StatementType::UPDATE_STATEMENT:
      q = Update(statement->Cast<duckdb::UpdateStatement>(), contents);
      break;
    case duckdb::StatementType::DELETE_STATEMENT:
      q = Delete(statement->Cast<duckdb::DeleteStatement>(), contents);
      break;
    default:
      Fail(UserError("42601", "INSERT, UPDATE or DELETE is expected"));
  }
  q.query->named_param_map = statement->named_param_map;
  if (q.source) q.source->named_param_map = statement->named_param_map;
  return q;
}

}  // namespace tidewater::sql
