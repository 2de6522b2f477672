#include <unistd.h>
#include <algorithm>
#include "duckdb.hpp"
#include "duckdb/execution/expression_executor_state.hpp"
#include "duckdb/function/scalar_function.hpp"
#include "duckdb/planner/expression/bound_function_expression.hpp"
#include "tidewater/sql/bridge.h"
#include "tidewater/sql/functions.h"
#include "tidewater/sql/pg_types.h"
#include "tidewater/sql/statement.h"

namespace tidewater::sql {
namespace {

using duckdb::DataChunk;
using duckdb::ExpressionState;
using duckdb::ScalarFunction;
using duckdb::Value;
using duckdb::Vector;

struct Env {
  std::shared_ptr<const catalog::Contents> contents;
  const SessionSettings& settings;
  const std::string& database;
  const std::string& version;
};
using Arguments = std::vector<Value>;
using Body = std::function<Value(const Env&, const Arguments&)>;

Value Text(std::string s) { return Value(std::move(s)); }
Value NullText() { return Value(LogicalType::VARCHAR); }

/// A relation by oid, nullptr when there is none. `index`: the oid is that of its primary key's index.
catalog::ObjectPtr Relation(const Env& env, int64_t oid, bool* index = nullptr) {
  if (index) *index = oid >= kIndexOids;
  auto id = oid >= kConstraintOids ? oid - kConstraintOids : oid >= kIndexOids ? oid - kIndexOids : oid - kFirstOid;
  return id > 0 && id < kIndexOids ? env.contents->Find(ObjectId(id)) : nullptr;
}

std::string KeyList(const catalog::Object& o) {
  std::string out;
  for (auto k : o.primary_key) out += (out.empty() ? "" : ", ") + QuoteIdentifier(o.columns[k].name);
  return out;
}

/// "public.orders", "Orders" in quotes, ...: as a regclass literal is written.
int64_t RelationOid(const Env& env, const std::string& text) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '"') {
      for (i++; i < text.size() && text[i] != '"'; i++) parts.back() += text[i];
    } else if (text[i] == '.') {
      parts.emplace_back();
    } else {
      parts.back() += char(std::tolower(static_cast<unsigned char>(text[i])));
    }
  }
  if (!parts.back().empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); }))
    return std::stoll(text.substr(0, 18));
  auto object = env.contents->Find(catalog::kDefaultSchema, parts.back());
  if (parts.size() > 1 && parts[parts.size() - 2] != catalog::kDefaultSchema) object = nullptr;
  if (!object || !object->is_relation() || object->hidden) return 0;
  return OidOf(*object);
}

int64_t TypeOid(const std::string& text) {
  std::string name = text;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  if (name.rfind("pg_catalog.", 0) == 0) name = name.substr(11);
  for (auto& t : PgTypes())
    if (name == t.name || name == t.format) return t.oid;
  if (name == "int") return 23;
  return 0;
}

struct FunctionInfo : duckdb::ScalarFunctionInfo {
  FunctionInfo(catalog::Catalog& c, std::string d, std::string v, Body b)
      : catalog(c), database(std::move(d)), version(std::move(v)), body(std::move(b)) {}
  catalog::Catalog& catalog;
  std::string database, version;
  Body body;
  bool takes_null = false;
};

void Run(DataChunk& in, ExpressionState& state, Vector& out) {
  auto& info =
      static_cast<FunctionInfo&>(state.expr.Cast<duckdb::BoundFunctionExpression>().function.GetExtraFunctionInfo());
  Env env{info.catalog.Current(), ContextState::Get(state.GetContext()).settings, info.database, info.version};
  bool constant = in.AllConstant();
  for (duckdb::idx_t r = 0; r < (constant ? 1 : in.size()); r++) {
    Arguments arguments;
    bool null = false;
    for (duckdb::idx_t c = 0; c < in.ColumnCount(); c++) {
      arguments.push_back(in.data[c].GetValue(r));
      null = null || arguments.back().IsNull();
    }
    auto value = null && !info.takes_null ? Value(out.GetType()) : info.body(env, arguments);
    out.SetValue(r, value.DefaultCastAs(out.GetType()));
  }
  if (constant) out.SetVectorType(duckdb::VectorType::CONSTANT_VECTOR);
}

class Registrar {
 public:
  Registrar(duckdb::ExtensionLoader& loader, catalog::Catalog& catalog, std::string database, std::string version)
      : loader_(loader), catalog_(catalog), database_(std::move(database)), version_(std::move(version)) {}

  /// `types`: a letter an argument, as in pg_columns.inc; the first one is the result's.
  void Add(const char* name, const char* types, Body body, bool takes_null = false) {
    duckdb::vector<LogicalType> arguments;
    for (auto c = types + 1; *c; c++) arguments.push_back(TypeOf(*c));
    ScalarFunction f(name, std::move(arguments), TypeOf(*types), Run);
    auto info = duckdb::make_shared_ptr<FunctionInfo>(catalog_, database_, version_, std::move(body));
    info->takes_null = takes_null;
    f.SetExtraFunctionInfo(std::move(info));
    f.SetStability(duckdb::FunctionStability::CONSISTENT_WITHIN_QUERY);
    f.SetErrorMode(duckdb::FunctionErrors::CAN_THROW_RUNTIME_ERROR);
    if (takes_null) f.SetNullHandling(duckdb::FunctionNullHandling::SPECIAL_HANDLING);
    loader_.RegisterFunction(std::move(f));
  }

 private:
  duckdb::ExtensionLoader& loader_;
  catalog::Catalog& catalog_;
  std::string database_, version_;
};

Value Setting(const Env& env, const std::string& asked, bool missing_ok) {
  std::string name = asked;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  for (auto& [key, value] : env.settings.all) {
    std::string lower = key;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    if (lower == name) return Text(value);
  }
  static const std::map<std::string, std::string> defaults = {
      {"server_version", "15.0"},  {"server_version_num", "150000"},
      {"server_encoding", "UTF8"}, {"client_encoding", "UTF8"},
      {"search_path", "public"},   {"standard_conforming_strings", "on"},
      {"datestyle", "ISO, MDY"},   {"is_superuser", "on"}};
  if (name == "timezone") return Text(env.settings.time_zone);
  if (name == "application_name") return Text(env.settings.application_name);
  if (auto it = defaults.find(name); it != defaults.end()) return Text(it->second);
  if (missing_ok) return NullText();
  ThrowThroughDuckDB(UserError("42704", "unrecognized configuration parameter \"{}\"", asked));
}

}  // namespace

void RegisterSystemFunctions(duckdb::ExtensionLoader& loader, catalog::Catalog& catalog, const std::string& database,
                             const std::string& version) {
  Registrar r(loader, catalog, database, version);
  auto constant = [&](const char* name, const char* types, Value value) {
    r.Add(name, types, [value](const Env&, const Arguments&) { return value; });
  };
  r.Add("version", "t", [](const Env& e, const Arguments&) {
    return Text(e.version.empty() ? "PostgreSQL 15.0 (Tidewater)"
                                  : fmt::format("PostgreSQL 15.0 (Tidewater {})", e.version));
  });
  r.Add("current_database", "t", [](const Env& e, const Arguments&) { return Text(e.database); });
  r.Add("tw_current_user", "t", [](const Env& e, const Arguments&) { return Text(e.settings.user); });
  r.Add("pg_get_userbyid", "tI", [](const Env& e, const Arguments&) { return Text(e.settings.user); });
  r.Add("tw_current_setting", "tt",
        [](const Env& e, const Arguments& a) { return Setting(e, a[0].ToString(), false); });
  r.Add("tw_current_setting", "ttb",
        [](const Env& e, const Arguments& a) { return Setting(e, a[0].ToString(), a[1].GetValue<bool>()); });
  r.Add("set_config", "tttb", [](const Env&, const Arguments& a) { return a[1]; });
  constant("current_schema", "t", Text("public"));
  r.Add("current_schemas", "Tb", [](const Env&, const Arguments& a) {
    duckdb::vector<Value> schemas;
    if (a[0].GetValue<bool>()) schemas.push_back(Text("pg_catalog"));
    schemas.push_back(Text("public"));
    return Value::LIST(LogicalType::VARCHAR, std::move(schemas));
  });
  constant("pg_backend_pid", "i", Value::INTEGER(int32_t(getpid())));
  constant("pg_is_in_recovery", "b", Value::BOOLEAN(false));
  constant("pg_my_temp_schema", "I", Value::BIGINT(0));
  constant("pg_is_other_temp_schema", "bI", Value::BOOLEAN(false));
  for (auto name : {"pg_table_is_visible", "pg_type_is_visible", "pg_function_is_visible", "pg_operator_is_visible",
                    "pg_opclass_is_visible", "pg_collation_is_visible", "pg_ts_config_is_visible",
                    "pg_conversion_is_visible", "pg_statistics_obj_is_visible", "pg_opfamily_is_visible"})
    constant(name, "bI", Value::BOOLEAN(true));
  for (auto name : {"has_table_privilege", "has_schema_privilege", "has_database_privilege", "has_function_privilege",
                    "has_sequence_privilege", "has_tablespace_privilege", "has_language_privilege",
                    "has_server_privilege", "pg_has_role", "has_any_column_privilege"}) {
    constant(name, "btt", Value::BOOLEAN(true));
    constant(name, "bIt", Value::BOOLEAN(true));
    constant(name, "bttt", Value::BOOLEAN(true));
    constant(name, "btIt", Value::BOOLEAN(true));
  }
  r.Add(
      "format_type", "tIi",
      [](const Env&, const Arguments& a) {
        if (a[0].IsNull()) return NullText();
        return Text(FormatType(a[0].GetValue<int64_t>(), a[1].IsNull() ? -1 : a[1].GetValue<int32_t>()));
      },
      true);
  for (auto types : {"ttI", "ttIb"}) r.Add("pg_get_expr", types, [](const Env&, const Arguments& a) { return a[0]; });
  auto viewdef = [](const Env& e, const Arguments& a) {
    auto o = Relation(e, a[0].type().id() == duckdb::LogicalTypeId::VARCHAR ? RelationOid(e, a[0].ToString())
                                                                            : a[0].GetValue<int64_t>());
    return o && !o->query.empty() ? Text(o->query + ";") : NullText();
  };
  for (auto types : {"tI", "tIb", "tIi"}) r.Add("pg_get_viewdef", types, viewdef);
  for (auto types : {"tI", "tIb"})
    r.Add("pg_get_constraintdef", types, [](const Env& e, const Arguments& a) {
      auto o = Relation(e, a[0].GetValue<int64_t>());
      return o ? Text(fmt::format("PRIMARY KEY ({})", KeyList(*o))) : NullText();
    });
  auto indexdef = [](const Env& e, const Arguments& a) {
    auto o = Relation(e, a[0].GetValue<int64_t>());
    if (!o) return NullText();
    int column = a.size() > 1 ? a[1].GetValue<int32_t>() : 0;
    if (column > 0)
      return size_t(column) <= o->primary_key.size() ? Text(o->columns[o->primary_key[size_t(column) - 1]].name)
                                                     : Text("");
    return Text(fmt::format("CREATE UNIQUE INDEX {} ON public.{} USING btree ({})", QuoteIdentifier(o->name + "_pkey"),
                            QuoteIdentifier(o->name), KeyList(*o)));
  };
  for (auto types : {"tI", "tIib"}) r.Add("pg_get_indexdef", types, indexdef);
  for (auto name : {"pg_get_ruledef", "pg_get_triggerdef", "pg_get_functiondef", "pg_get_function_arguments",
                    "pg_get_function_identity_arguments", "pg_get_function_result", "pg_get_partkeydef",
                    "pg_get_statisticsobjdef_columns", "pg_get_statisticsobjdef", "obj_description",
                    "pg_tablespace_location", "pg_get_partition_constraintdef", "pg_get_function_sqlbody"}) {
    constant(name, "tI", NullText());
    constant(name, "tIb", NullText());
  }
  constant("obj_description", "tIt", NullText());
  constant("shobj_description", "tIt", NullText());
  constant("col_description", "tIi", NullText());
  constant("pg_get_serial_sequence", "ttt", NullText());
  constant("pg_encoding_to_char", "ti", Text("UTF8"));
  constant("pg_char_to_encoding", "it", Value::INTEGER(6));
  constant("pg_relation_is_publishable", "bI", Value::BOOLEAN(false));
  for (auto name : {"pg_relation_size", "pg_table_size", "pg_total_relation_size", "pg_indexes_size",
                    "pg_database_size", "pg_tablespace_size"}) {
    constant(name, "II", Value::BIGINT(0));
    constant(name, "It", Value::BIGINT(0));
  }
  r.Add("pg_size_pretty", "tI", [](const Env&, const Arguments& a) {
    auto n = a[0].GetValue<int64_t>();
    const char* units[] = {"bytes", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while ((n >= 10240 || n <= -10240) && unit < 4) {
      n = (n + 512) / 1024;
      unit++;
    }
    return Text(fmt::format("{} {}", n, units[unit]));
  });
  for (auto list : {"iLi", "iTi"}) {
    r.Add("array_upper", list, [](const Env&, const Arguments& a) {
      auto n = duckdb::ListValue::GetChildren(a[0]).size();
      return n && a[1].GetValue<int32_t>() == 1 ? Value::INTEGER(int32_t(n)) : Value(LogicalType::INTEGER);
    });
    r.Add("array_lower", list, [](const Env&, const Arguments& a) {
      return duckdb::ListValue::GetChildren(a[0]).empty() ? Value(LogicalType::INTEGER) : Value::INTEGER(1);
    });
  }
  r.Add("array_remove", "TTt", [](const Env&, const Arguments& a) {
    duckdb::vector<Value> kept;
    for (auto& v : duckdb::ListValue::GetChildren(a[0]))
      if (v.IsNull() || v.ToString() != a[1].ToString()) kept.push_back(v);
    return Value::LIST(LogicalType::VARCHAR, std::move(kept));
  });
  auto known = [](const char* kind, const std::string& text, int64_t oid) {
    if (!oid)
      ThrowThroughDuckDB(
          UserError(std::string(kind) == "relation" ? "42P01" : "42704", "{} \"{}\" does not exist", kind, text));
    return Value::BIGINT(oid);
  };
  r.Add("tw_regclass_oid", "It", [=](const Env& e, const Arguments& a) {
    return known("relation", a[0].ToString(), RelationOid(e, a[0].ToString()));
  });
  r.Add("tw_regtype_oid", "It",
        [=](const Env&, const Arguments& a) { return known("type", a[0].ToString(), TypeOid(a[0].ToString())); });
  constant("tw_regproc_oid", "It", Value::BIGINT(0));
  r.Add("tw_regnamespace_oid", "It", [=](const Env&, const Arguments& a) {
    auto name = a[0].ToString();
    return known("schema", name,
                 name == "public"               ? kPublicOid
                 : name == "pg_catalog"         ? kPgCatalogOid
                 : name == "information_schema" ? kInformationSchemaOid
                                                : 0);
  });
  r.Add("to_regclass", "tt",
        [](const Env& e, const Arguments& a) { return RelationOid(e, a[0].ToString()) ? a[0] : NullText(); });
  r.Add("to_regtype", "tt",
        [](const Env&, const Arguments& a) { return TypeOid(a[0].ToString()) ? a[0] : NullText(); });
  r.Add("tw_regclass", "tI", [](const Env& e, const Arguments& a) {
    bool index;
    auto oid = a[0].GetValue<int64_t>();
    auto o = Relation(e, oid, &index);
    return Text(o ? QuoteIdentifier(o->name + (index ? "_pkey" : "")) : oid == 0 ? "-" : std::to_string(oid));
  });
  r.Add("tw_regtype", "tI",
        [](const Env&, const Arguments& a) { return Text(FormatType(a[0].GetValue<int64_t>(), -1)); });
  r.Add("tw_regnamespace", "tI", [](const Env&, const Arguments& a) {
    auto oid = a[0].GetValue<int64_t>();
    return Text(oid == kPublicOid              ? "public"
                : oid == kPgCatalogOid         ? "pg_catalog"
                : oid == kInformationSchemaOid ? "information_schema"
                                               : std::to_string(oid));
  });
  r.Add("tw_regproc", "tI", [](const Env&, const Arguments& a) {
    auto oid = a[0].GetValue<int64_t>();
    return Text(oid == 750 ? "array_in" : oid == 0 ? "-" : std::to_string(oid));
  });
}

}  // namespace tidewater::sql
