#include <map>
#include "tidewater/sql/bridge.h"
#include "tidewater/sql/pg_types.h"
#include "tidewater/types/schema.h"

namespace tidewater::sql {

LogicalType TypeOf(char letter) {
  switch (letter) {
    case 'I':
      return LogicalType::BIGINT;
    case 'i':
      return LogicalType::INTEGER;
    case 's':
      return LogicalType::SMALLINT;
    case 'b':
      return LogicalType::BOOLEAN;
    case 'd':
      return LogicalType::DOUBLE;
    case 'z':
      return LogicalType::TIMESTAMP_TZ;
    case 'L':
      return LogicalType::LIST(LogicalType::BIGINT);
    case 'T':
      return LogicalType::LIST(LogicalType::VARCHAR);
    default:
      return LogicalType::VARCHAR;
  }
}

namespace {

using catalog::Contents;
using catalog::Object;
using catalog::ObjectType;
using duckdb::Value;
using Row = duckdb::vector<Value>;

/// One row by names of columns; what is not set is 0, false or NULL by its type.
class RowBuilder {
 public:
  explicit RowBuilder(const SystemTable& table) : table_(table) {
    for (auto& t : table.types) {
      if (t.id() == duckdb::LogicalTypeId::BOOLEAN)
        row_.push_back(Value::BOOLEAN(false));
      else if (t.IsIntegral())
        row_.push_back(Value::BIGINT(0).DefaultCastAs(t));
      else
        row_.push_back(Value(t));
    }
  }
  RowBuilder& Set(const char* name, const Value& value) {
    for (size_t i = 0; i < table_.names.size(); i++)
      if (table_.names[i] == name) row_[i] = value.DefaultCastAs(table_.types[i]);
    return *this;
  }
  RowBuilder& Set(const char* name, const std::string& value) { return Set(name, Value(value)); }
  RowBuilder& Set(const char* name, const char* value) { return Set(name, Value(std::string(value))); }
  RowBuilder& Set(const char* name, bool value) { return Set(name, Value::BOOLEAN(value)); }
  RowBuilder& Set(const char* name, int64_t value) { return Set(name, Value::BIGINT(value)); }
  RowBuilder& Set(const char* name, int value) { return Set(name, Value::BIGINT(value)); }
  Row Take() { return std::move(row_); }

 private:
  const SystemTable& table_;
  Row row_;
};

struct Env {
  const SystemTable& table;
  const Contents& contents;
  const SessionSettings& settings;
  const std::string& database;
  std::vector<Row> rows;
  RowBuilder New() const { return RowBuilder(table); }
  void Add(RowBuilder& b) { rows.push_back(b.Take()); }
};

bool Shown(const Object& o) { return o.is_relation() && !o.hidden; }
const char* Kind(const Object& o) {
  switch (o.type) {
    case ObjectType::kMaterializedView:
      return "m";
    case ObjectType::kView:
      return "v";
    case ObjectType::kSource:
      return "f";
    default:
      return "r";
  }
}
template <class F>
void ForRelations(const Contents& contents, const F& f) {
  for (auto& [id, o] : contents.objects())
    if (Shown(*o)) f(*o);
}
/// Views have keys, too (derived ones); only tables declare them.
bool HasKey(const Object& o) { return o.type == ObjectType::kTable && !o.primary_key.empty(); }

void PgClass(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    auto row = e.New();
    row.Set("oid", OidOf(o))
        .Set("relname", o.name)
        .Set("relnamespace", kPublicOid)
        .Set("relowner", kOwnerOid)
        .Set("relkind", Kind(o));
    row.Set("relam", o.type == ObjectType::kTable || o.type == ObjectType::kMaterializedView ? 2 : 0)
        .Set("reltuples", Value::DOUBLE(-1));
    row.Set("relnatts", int64_t(o.columns.size()))
        .Set("relhasindex", HasKey(o))
        .Set("relpersistence", "p")
        .Set("relreplident", "d");
    row.Set("relispopulated", true).Set("relhasrules", o.type == ObjectType::kView);
    e.Add(row);
    if (!HasKey(o)) return;
    auto index = e.New();
    index.Set("oid", kIndexOids + o.id)
        .Set("relname", o.name + "_pkey")
        .Set("relnamespace", kPublicOid)
        .Set("relowner", kOwnerOid);
    index.Set("relkind", "i")
        .Set("relam", 403)
        .Set("relnatts", int64_t(o.primary_key.size()))
        .Set("relpersistence", "p")
        .Set("relreplident", "n");
    index.Set("relispopulated", true).Set("reltuples", Value::DOUBLE(-1));
    e.Add(index);
  });
}

void PgAttribute(Env& e) {
  auto add = [&](int64_t relation, int number, const catalog::Column& c) {
    auto type = ToPg(TypeFromText(c.type));
    auto pg = FindPgType(type.oid);
    auto row = e.New();
    row.Set("attrelid", relation)
        .Set("attname", c.name)
        .Set("atttypid", type.oid)
        .Set("atttypmod", int64_t(type.modifier))
        .Set("attnum", number);
    row.Set("attnotnull", c.not_null)
        .Set("attlen", pg ? pg->length : -1)
        .Set("attbyval", pg && pg->by_value)
        .Set("attislocal", true);
    row.Set("attidentity", "")
        .Set("attgenerated", "")
        .Set("attcollation", pg ? pg->collation : 0)
        .Set("attstorage", "p")
        .Set("attcacheoff", -1);
    row.Set("attstattarget", -1).Set("attcompression", "").Set("attalign", "i");
    e.Add(row);
  };
  ForRelations(e.contents, [&](const Object& o) {
    for (size_t i = 0; i < o.columns.size(); i++) add(OidOf(o), int(i + 1), o.columns[i]);
    if (HasKey(o))
      for (size_t i = 0; i < o.primary_key.size(); i++) add(kIndexOids + o.id, int(i + 1), o.columns[o.primary_key[i]]);
  });
}

Value KeyColumns(const Object& o) {
  duckdb::vector<Value> columns;
  for (auto k : o.primary_key) columns.push_back(Value::BIGINT(k + 1));
  return Value::LIST(LogicalType::BIGINT, std::move(columns));
}

void PgIndex(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (!HasKey(o)) return;
    auto row = e.New();
    row.Set("indexrelid", kIndexOids + o.id).Set("indrelid", OidOf(o)).Set("indnatts", int64_t(o.primary_key.size()));
    row.Set("indnkeyatts", int64_t(o.primary_key.size()))
        .Set("indisunique", true)
        .Set("indisprimary", true)
        .Set("indimmediate", true);
    row.Set("indisvalid", true).Set("indisready", true).Set("indislive", true).Set("indkey", KeyColumns(o));
    e.Add(row);
  });
}

void PgConstraint(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (!HasKey(o)) return;
    auto row = e.New();
    row.Set("oid", kConstraintOids + o.id)
        .Set("conname", o.name + "_pkey")
        .Set("connamespace", kPublicOid)
        .Set("contype", "p");
    row.Set("convalidated", true)
        .Set("conrelid", OidOf(o))
        .Set("conindid", kIndexOids + o.id)
        .Set("conislocal", true)
        .Set("connoinherit", true);
    row.Set("conkey", KeyColumns(o)).Set("confupdtype", " ").Set("confdeltype", " ").Set("confmatchtype", " ");
    e.Add(row);
  });
}

void PgNamespace(Env& e) {
  for (auto& [oid, name] : {std::pair{kPgCatalogOid, "pg_catalog"}, std::pair{kPublicOid, "public"},
                            std::pair{kInformationSchemaOid, "information_schema"}}) {
    auto row = e.New();
    row.Set("oid", oid).Set("nspname", name).Set("nspowner", kOwnerOid);
    e.Add(row);
  }
}

void PgType_(Env& e) {
  for (auto& t : PgTypes()) {
    auto row = e.New();
    row.Set("oid", t.oid)
        .Set("typname", t.name)
        .Set("typnamespace", kPgCatalogOid)
        .Set("typowner", kOwnerOid)
        .Set("typlen", t.length);
    row.Set("typbyval", t.by_value)
        .Set("typtype", std::string(1, t.kind))
        .Set("typcategory", std::string(1, t.category));
    row.Set("typispreferred", t.preferred)
        .Set("typisdefined", true)
        .Set("typdelim", ",")
        .Set("typelem", t.element)
        .Set("typarray", t.array);
    row.Set("typcollation", t.collation).Set("typtypmod", -1).Set("typalign", "i").Set("typstorage", "p");
    // Drivers look for the input function's name to tell arrays apart.
    row.Set("typinput", t.element && t.length == -1 ? int64_t(750) : int64_t(0));
    e.Add(row);
  }
}

void PgAm(Env& e) {
  for (auto& [oid, name, kind] : {std::tuple{2, "heap", "t"}, std::tuple{403, "btree", "i"}}) {
    auto row = e.New();
    row.Set("oid", oid).Set("amname", name).Set("amtype", kind);
    e.Add(row);
  }
}

void PgDatabase(Env& e) {
  auto row = e.New();
  row.Set("oid", kDatabaseOid)
      .Set("datname", e.database)
      .Set("datdba", kOwnerOid)
      .Set("encoding", 6)
      .Set("datcollate", "C")
      .Set("datctype", "C");
  row.Set("datlocprovider", "c").Set("datallowconn", true).Set("datconnlimit", -1).Set("dattablespace", 1663);
  e.Add(row);
}

void PgRoles(Env& e) {
  auto row = e.New();
  row.Set("oid", kOwnerOid).Set("rolname", e.settings.user).Set("usename", e.settings.user).Set("usesysid", kOwnerOid);
  for (auto flag : {"rolsuper", "rolinherit", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication",
                    "rolbypassrls", "usesuper", "usecreatedb"})
    row.Set(flag, true);
  row.Set("rolconnlimit", -1);
  e.Add(row);
}

void PgTablespace(Env& e) {
  auto row = e.New();
  row.Set("oid", 1663).Set("spcname", "pg_default").Set("spcowner", kOwnerOid);
  e.Add(row);
}

void PgCollation(Env& e) {
  for (auto& [oid, name] : {std::pair{100, "default"}, std::pair{950, "C"}, std::pair{951, "POSIX"}}) {
    auto row = e.New();
    row.Set("oid", oid)
        .Set("collname", name)
        .Set("collnamespace", kPgCatalogOid)
        .Set("collowner", kOwnerOid)
        .Set("collprovider", oid == 100 ? "d" : "c");
    row.Set("collisdeterministic", true).Set("collencoding", -1).Set("collcollate", "C").Set("collctype", "C");
    e.Add(row);
  }
}

void PgSettings(Env& e) {
  for (auto& [name, value] : e.settings.all) {
    auto row = e.New();
    row.Set("name", name)
        .Set("setting", value)
        .Set("category", "Tidewater")
        .Set("context", "user")
        .Set("vartype", "string")
        .Set("source", "session");
    row.Set("reset_val", value).Set("boot_val", value).Set("short_desc", "").Set("extra_desc", "");
    e.Add(row);
  }
}

void PgTables(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (o.type != ObjectType::kTable) return;
    auto row = e.New();
    row.Set("schemaname", "public")
        .Set("tablename", o.name)
        .Set("tableowner", e.settings.user)
        .Set("hasindexes", HasKey(o));
    e.Add(row);
  });
}

template <ObjectType kType>
void PgViews(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (o.type != kType) return;
    auto row = e.New();
    row.Set("schemaname", "public")
        .Set("viewname", o.name)
        .Set("matviewname", o.name)
        .Set("viewowner", e.settings.user);
    row.Set("matviewowner", e.settings.user).Set("ispopulated", true).Set("definition", o.query + ";");
    e.Add(row);
  });
}

void PgIndexes(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (!HasKey(o)) return;
    auto row = e.New();
    row.Set("schemaname", "public")
        .Set("tablename", o.name)
        .Set("indexname", o.name + "_pkey")
        .Set("indexdef", "PRIMARY KEY");
    e.Add(row);
  });
}

// --- information_schema.

const char* TableType(const Object& o) {
  switch (o.type) {
    case ObjectType::kView:
      return "VIEW";
    case ObjectType::kMaterializedView:
      return "MATERIALIZED VIEW";
    case ObjectType::kSource:
      return "FOREIGN";
    default:
      return "BASE TABLE";
  }
}
void InfoTables(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    auto row = e.New();
    row.Set("table_catalog", e.database)
        .Set("table_schema", "public")
        .Set("table_name", o.name)
        .Set("table_type", TableType(o));
    row.Set("is_insertable_into", o.type == ObjectType::kTable && !o.source ? "YES" : "NO").Set("is_typed", "NO");
    e.Add(row);
  });
}
void InfoColumns(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    for (size_t i = 0; i < o.columns.size(); i++) {
      auto& c = o.columns[i];
      auto logical = TypeFromText(c.type);
      auto type = ToPg(logical);
      auto pg = FindPgType(type.oid);
      auto row = e.New();
      row.Set("table_catalog", e.database)
          .Set("table_schema", "public")
          .Set("table_name", o.name)
          .Set("column_name", c.name);
      row.Set("ordinal_position", int64_t(i + 1)).Set("is_nullable", c.not_null ? "NO" : "YES");
      row.Set("data_type", pg && pg->element && pg->length == -1 ? "ARRAY" : FormatType(type.oid, -1))
          .Set("udt_catalog", e.database);
      row.Set("udt_schema", "pg_catalog")
          .Set("udt_name", pg ? pg->name : "text")
          .Set("is_updatable", o.type == ObjectType::kTable ? "YES" : "NO");
      row.Set("is_identity", "NO").Set("is_generated", "NEVER");
      for (auto n : {"numeric_precision", "numeric_scale", "character_maximum_length", "datetime_precision"})
        row.Set(n, Value(LogicalType::INTEGER));
      if (logical.id() == duckdb::LogicalTypeId::DECIMAL)
        row.Set("numeric_precision", int(duckdb::DecimalType::GetWidth(logical)))
            .Set("numeric_scale", int(duckdb::DecimalType::GetScale(logical)));
      e.Add(row);
    }
  });
}
void InfoSchemata(Env& e) {
  for (auto name : {"pg_catalog", "public", "information_schema"}) {
    auto row = e.New();
    row.Set("catalog_name", e.database).Set("schema_name", name).Set("schema_owner", e.settings.user);
    e.Add(row);
  }
}
void InfoViews(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (o.type != ObjectType::kView) return;
    auto row = e.New();
    row.Set("table_catalog", e.database)
        .Set("table_schema", "public")
        .Set("table_name", o.name)
        .Set("view_definition", o.query + ";");
    row.Set("check_option", "NONE").Set("is_updatable", "NO").Set("is_insertable_into", "NO");
    e.Add(row);
  });
}
void InfoTableConstraints(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (!HasKey(o)) return;
    auto row = e.New();
    row.Set("constraint_catalog", e.database)
        .Set("constraint_schema", "public")
        .Set("constraint_name", o.name + "_pkey");
    row.Set("table_catalog", e.database)
        .Set("table_schema", "public")
        .Set("table_name", o.name)
        .Set("constraint_type", "PRIMARY KEY");
    row.Set("is_deferrable", "NO").Set("initially_deferred", "NO").Set("enforced", "YES");
    e.Add(row);
  });
}
void InfoKeyColumns(Env& e) {
  ForRelations(e.contents, [&](const Object& o) {
    if (!HasKey(o)) return;
    for (size_t i = 0; i < o.primary_key.size(); i++) {
      auto row = e.New();
      row.Set("constraint_catalog", e.database)
          .Set("constraint_schema", "public")
          .Set("constraint_name", o.name + "_pkey");
      row.Set("table_catalog", e.database).Set("table_schema", "public").Set("table_name", o.name);
      row.Set("column_name", o.columns[o.primary_key[i]].name).Set("ordinal_position", int64_t(i + 1));
      e.Add(row);
    }
  });
}

struct Spec {
  const char* name;
  const char* columns;
};
const Spec kPgTables[] = {
#include "tidewater/sql/pg_columns.inc"
};
const Spec kInformationTables[] = {
    {"tables",
     "table_catalog t table_schema t table_name t table_type t self_referencing_column_name t reference_generation t "
     "is_insertable_into t is_typed t commit_action t"},
    {"columns",
     "table_catalog t table_schema t table_name t column_name t ordinal_position i column_default t is_nullable t "
     "data_type t "
     "character_maximum_length i numeric_precision i numeric_scale i datetime_precision i udt_catalog t udt_schema t "
     "udt_name t is_identity t "
     "is_generated t is_updatable t collation_name t domain_name t"},
    {"schemata", "catalog_name t schema_name t schema_owner t"},
    {"views",
     "table_catalog t table_schema t table_name t view_definition t check_option t is_updatable t is_insertable_into "
     "t"},
    {"table_constraints",
     "constraint_catalog t constraint_schema t constraint_name t table_catalog t table_schema t table_name t "
     "constraint_type t is_deferrable t "
     "initially_deferred t enforced t"},
    {"key_column_usage",
     "constraint_catalog t constraint_schema t constraint_name t table_catalog t table_schema t table_name t "
     "column_name t ordinal_position i "
     "position_in_unique_constraint i"},
    {"referential_constraints",
     "constraint_catalog t constraint_schema t constraint_name t unique_constraint_catalog t unique_constraint_schema "
     "t unique_constraint_name t"},
    {"routines",
     "specific_catalog t specific_schema t specific_name t routine_catalog t routine_schema t routine_name t "
     "routine_type t data_type t"},
};

using Fill = void (*)(Env&);
const std::map<std::string, Fill>& PgFills() {
  static const std::map<std::string, Fill> fills = {{"pg_class", PgClass},
                                                    {"pg_attribute", PgAttribute},
                                                    {"pg_index", PgIndex},
                                                    {"pg_constraint", PgConstraint},
                                                    {"pg_namespace", PgNamespace},
                                                    {"pg_type", PgType_},
                                                    {"pg_am", PgAm},
                                                    {"pg_database", PgDatabase},
                                                    {"pg_roles", PgRoles},
                                                    {"pg_authid", PgRoles},
                                                    {"pg_user", PgRoles},
                                                    {"pg_tablespace", PgTablespace},
                                                    {"pg_collation", PgCollation},
                                                    {"pg_settings", PgSettings},
                                                    {"pg_tables", PgTables},
                                                    {"pg_views", PgViews<ObjectType::kView>},
                                                    {"pg_matviews", PgViews<ObjectType::kMaterializedView>},
                                                    {"pg_indexes", PgIndexes}};
  return fills;
}
const std::map<std::string, Fill>& InformationFills() {
  static const std::map<std::string, Fill> fills = {{"tables", InfoTables},
                                                    {"columns", InfoColumns},
                                                    {"schemata", InfoSchemata},
                                                    {"views", InfoViews},
                                                    {"table_constraints", InfoTableConstraints},
                                                    {"key_column_usage", InfoKeyColumns}};
  return fills;
}

std::vector<SystemTable>* Build() {
  auto tables = new std::vector<SystemTable>;
  auto add = [&](const char* schema, const Spec& spec, const std::map<std::string, Fill>& fills) {
    SystemTable t;
    t.schema = schema;
    t.name = spec.name;
    std::string word, name;
    for (const char* c = spec.columns;; c++) {
      if (*c != ' ' && *c) {
        word += *c;
        continue;
      }
      if (name.empty()) {
        name = word;
      } else {
        t.names.push_back(name);
        t.types.push_back(TypeOf(word[0]));
        name.clear();
      }
      word.clear();
      if (!*c) break;
    }
    tables->push_back(std::move(t));
    auto fill = fills.find(spec.name);
    Fill f = fill == fills.end() ? nullptr : fill->second;
    auto index = tables->size() - 1;
    tables->back().rows = [tables, index, f](const Contents& contents, const SessionSettings& settings,
                                             const std::string& database) {
      Env env{(*tables)[index], contents, settings, database, {}};
      if (f) f(env);
      return std::move(env.rows);
    };
  };
  for (auto& s : kPgTables) add(kPgSchema, s, PgFills());
  for (auto& s : kInformationTables) add(kInformationSchema, s, InformationFills());
  return tables;
}

}  // namespace

const std::vector<SystemTable>& SystemTables() {
  static const std::vector<SystemTable>* tables = Build();  // kept for the life of the process
  return *tables;
}

}  // namespace tidewater::sql
