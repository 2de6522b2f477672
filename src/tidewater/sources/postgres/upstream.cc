#include "tidewater/sources/postgres/upstream.h"
#include <algorithm>

namespace tidewater::postgres {
namespace {

std::string Text(const std::optional<std::string>& v) { return v.value_or(""); }
uint32_t Oid(const std::optional<std::string>& v) { return v ? uint32_t(strtoul(v->c_str(), nullptr, 10)) : 0; }
int Int(const std::optional<std::string>& v) { return v ? atoi(v->c_str()) : 0; }
bool Bool(const std::optional<std::string>& v) { return v && *v == "t"; }

std::vector<int> Ints(const std::string& text) {  // int2vector: "1 3"
  std::vector<int> out;
  auto* p = text.c_str();
  while (*p) {
    char* next;
    long n = strtol(p, &next, 10);
    if (next == p) break;
    out.push_back(int(n));
    p = next;
  }
  return out;
}

constexpr const char* kTableQuery = R"(
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident, greatest(c.reltuples, 0),
       CASE WHEN c.reltuples > 0 THEN pg_table_size(c.oid) / c.reltuples ELSE 0 END, c.relpersistence
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE )";

Result<UpstreamTable> ReadFound(Connection& c, const Rows& rows, PgTypes& types) {
  UpstreamTable t;
  auto& r = rows[0];
  t.relid = Oid(r[0]);
  t.schema = Text(r[1]);
  t.name = Text(r[2]);
  t.kind = Text(r[3])[0];
  t.replica_identity = Text(r[4])[0];
  t.estimated_rows = atof(Text(r[5]).c_str());
  t.bytes_per_row = atof(Text(r[6]).c_str());
  if (t.kind != 'r' && t.kind != 'p')
    return std::unexpected(UserError("0A000", "\"{}\" is not a table: only tables have a change stream", t.FullName()));
  if (Text(r[7]) != "p")
    return std::unexpected(
        UserError("0A000", "table \"{}\" is temporary or unlogged: it has no change stream", t.FullName()));
  auto id = std::to_string(t.relid);
  TW_ASSIGN(auto columns,
            c.Query("SELECT attnum, attname, atttypid, atttypmod, format_type(atttypid, atttypmod), attnotnull, "
                    "attgenerated <> '' FROM pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT "
                    "attisdropped ORDER BY attnum",
                    {id}));
  std::set<uint32_t> oids;
  for (auto& a : columns) {
    t.columns.push_back({Int(a[0]), Text(a[1]), Oid(a[2]), Int(a[3]), Text(a[4]), Bool(a[5]), Bool(a[6])});
    oids.insert(t.columns.back().type);
  }
  TW_ASSIGN(auto indexes, c.Query("SELECT array_to_string(indkey[0:indnkeyatts-1], ' '), indisprimary, indisreplident "
                                  "FROM pg_index WHERE indrelid = $1::oid "
                                  "AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS "
                                  "NULL ORDER BY indexrelid",
                                  {id}));
  for (auto& x : indexes) {
    auto key = Ints(Text(x[0]));
    bool not_null = std::all_of(key.begin(), key.end(), [&](int a) { return t.Find(a) && t.Find(a)->not_null; });
    if (Bool(x[1])) t.primary_key = key;
    if (Bool(x[2])) t.identity_index = key;
    if (not_null) t.unique_keys.push_back(key);
  }
  TW_TRY(ReadTypes(c, oids, types));
  return t;
}

std::string Marker(const std::string& slot) { return "Created by Tidewater for slot " + slot; }

std::string Join(const std::vector<std::string>& list) {
  std::string out;
  for (auto& s : list) out += (out.empty() ? "" : ", ") + s;
  return out;
}

}  // namespace

const UpstreamColumn* UpstreamTable::Find(int attnum) const {
  for (auto& c : columns)
    if (c.attnum == attnum) return &c;
  return nullptr;
}
const UpstreamColumn* UpstreamTable::Find(const std::string& column) const {
  for (auto& c : columns)
    if (c.name == column) return &c;
  return nullptr;
}

std::pair<std::string, std::string> SplitName(const std::string& name, const std::string& default_schema) {
  std::vector<std::string> parts(1);
  bool quoted = false;
  for (size_t i = 0; i < name.size(); i++) {
    if (name[i] == '"') {
      if (quoted && i + 1 < name.size() && name[i + 1] == '"') {
        parts.back() += name[++i];
      } else {
        quoted = !quoted;
      }
    } else if (name[i] == '.' && !quoted && parts.size() == 1) {
      parts.emplace_back();
    } else {
      parts.back() += name[i];
    }
  }
  if (parts.size() == 1) return {default_schema, parts[0]};
  return {parts[0], parts[1]};
}

Result<UpstreamTable> ReadTable(Connection& c, const std::string& schema, const std::string& name, PgTypes& types) {
  TW_ASSIGN(auto rows, c.Query(std::string(kTableQuery) + "n.nspname = $1 AND c.relname = $2", {schema, name}));
  if (rows.empty()) return std::unexpected(UserError("42P01", "table \"{}.{}\" does not exist upstream", schema, name));
  return ReadFound(c, rows, types);
}

Result<UpstreamTable> ReadTable(Connection& c, uint32_t relid, PgTypes& types) {
  TW_ASSIGN(auto rows, c.Query(std::string(kTableQuery) + "c.oid = $1::oid", {std::to_string(relid)}));
  if (rows.empty())
    return std::unexpected(UserError("42P01", "the table with oid {} does not exist upstream any more", relid));
  return ReadFound(c, rows, types);
}

Status ReadTypes(Connection& c, std::set<uint32_t> oids, PgTypes& types) {
  for (int depth = 0; depth < 32 && !oids.empty(); depth++) {
    std::string list;
    for (auto oid : oids)
      if (!types.Find(oid)) list += (list.empty() ? "" : ",") + std::to_string(oid);
    if (list.empty()) break;
    TW_ASSIGN(auto rows,
              c.Query("SELECT oid, typname, typtype, typcategory, typbasetype, typtypmod, typelem FROM pg_type "
                      "WHERE oid IN (" +
                      list + ")"));
    oids.clear();
    for (auto& r : rows) {
      PgType t{Oid(r[0]), Text(r[1]), Text(r[2])[0], Text(r[3])[0], Oid(r[4]), Int(r[5]), Oid(r[6])};
      if (t.base) oids.insert(t.base);
      if (t.category == 'A' && t.element) oids.insert(t.element);
      types.Add(std::move(t));
    }
  }
  return {};
}

Result<std::vector<int>> IdentityOf(const UpstreamTable& t) {
  switch (t.replica_identity) {
    case 'n':
      return std::unexpected(
          UserError("0A000", "table \"{}\" has REPLICA IDENTITY NOTHING: its updates and deletes cannot be followed",
                    t.FullName())
              .WithHint(fmt::format("ALTER TABLE {} REPLICA IDENTITY {};", t.FullName(),
                                    t.primary_key.empty() ? "FULL" : "DEFAULT")));
    case 'i':
      if (!t.identity_index.empty()) return t.identity_index;
      return std::unexpected(
          UserError("0A000", "the index that is the REPLICA IDENTITY of table \"{}\" was dropped", t.FullName())
              .WithHint(fmt::format("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", t.FullName())));
    default:
      if (!t.primary_key.empty()) return t.primary_key;
      return std::unexpected(
          UserError("0A000", "table \"{}\" has no primary key", t.FullName())
              .WithHint(fmt::format("ALTER TABLE {} ADD PRIMARY KEY (…); or name a unique index: ALTER TABLE {} "
                                    "REPLICA IDENTITY USING INDEX …;",
                                    t.FullName(), t.FullName())));
  }
}

Result<Schema> SchemaOf(const UpstreamTable& t, const PgTypes& types) {
  TW_ASSIGN(auto key, IdentityOf(t));
  Schema schema;
  for (auto& c : t.columns)
    if (!c.generated) schema.columns.push_back({c.name, types.Natural(c.type, c.typmod), c.not_null, c.attnum});
  for (int attnum : key) {
    for (size_t i = 0; i < schema.columns.size(); i++)
      if (schema.columns[i].upstream_id == attnum) schema.primary_key.push_back(uint32_t(i));
  }
  if (schema.primary_key.size() != key.size())
    return std::unexpected(UserError(
        "0A000", "the key of table \"{}\" has a generated column, which is not in the change stream", t.FullName()));
  return schema;
}

Result<std::vector<int>> MatchColumns(const SourceTable& table, const UpstreamTable& upstream) {
  std::vector<int> attnums;
  for (auto& c : table.schema.columns) {
    auto* found = c.upstream_id ? upstream.Find(c.upstream_id) : upstream.Find(c.name);
    if (!found)
      return std::unexpected(
          UserError("42703", "column \"{}\" does not exist in upstream table \"{}\"", c.name, upstream.FullName()));
    if (found->generated)
      return std::unexpected(
          UserError("0A000", "column \"{}\" of upstream table \"{}\" is generated: it is not in the change stream",
                    c.name, upstream.FullName())
              .WithHint("Leave it out of the column list and compute it in a view."));
    attnums.push_back(found->attnum);
  }
  if (table.schema.primary_key.empty())
    return std::unexpected(
        UserError("0A000", "table \"{}\" needs a PRIMARY KEY to follow its changes", table.upstream_name));
  std::vector<int> key;
  for (auto i : table.schema.primary_key) key.push_back(attnums.at(i));
  std::sort(key.begin(), key.end());
  auto same = [&](std::vector<int> other) {
    std::sort(other.begin(), other.end());
    return other == key;
  };
  TW_ASSIGN(auto identity, IdentityOf(upstream));
  if (same(identity)) return attnums;
  if (upstream.replica_identity == 'f' && std::any_of(upstream.unique_keys.begin(), upstream.unique_keys.end(), same))
    return attnums;
  std::string names;
  for (int a : identity) names += (names.empty() ? "" : ", ") + upstream.Find(a)->name;
  return std::unexpected(
      UserError("42P16", "the PRIMARY KEY of the table must be the key that identifies rows of \"{}\" upstream",
                upstream.FullName())
          .WithHint("Declare PRIMARY KEY (" + names + ")."));
}

Result<Publication> ReadPublication(Connection& c, const std::string& name, const std::string& slot) {
  Publication p;
  TW_ASSIGN(
      auto rows,
      c.Query("SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, obj_description(oid, 'pg_publication') "
              "FROM pg_publication WHERE pubname = $1",
              {name}));
  if (rows.empty()) return p;
  p.exists = true;
  p.complete = Bool(rows[0][0]);
  p.ours = Text(rows[0][1]) == Marker(slot);
  TW_ASSIGN(auto tables, c.Query("SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1", {name}));
  for (auto& t : tables) p.tables.emplace(Text(t[0]), Text(t[1]));
  return p;
}

std::string CreatePublicationStatement(Connection& c, const std::string& name, const std::vector<std::string>& tables) {
  return "CREATE PUBLICATION " + c.Identifier(name) + (tables.empty() ? "" : " FOR TABLE " + Join(tables)) +
         " WITH (publish_via_partition_root = true);";
}

Status CreatePublication(Connection& c, const std::string& name, const std::string& slot,
                         const std::vector<std::string>& tables) {
  auto sql = CreatePublicationStatement(c, name, tables);
  auto status = c.Execute("BEGIN; " + sql + " COMMENT ON PUBLICATION " + c.Identifier(name) + " IS " +
                          c.Literal(Marker(slot)) + "; COMMIT");
  if (status) return status;
  auto error = status.error();
  [[maybe_unused]] auto rolled_back = c.Execute("ROLLBACK");
  if (error.kind == ErrorKind::kUser)
    error = std::move(error).WithHint("Create it as a user who may, set publication.name, and continue: " + sql);
  return std::unexpected(error);
}

std::string AddTableStatement(Connection& c, const std::string& publication, const UpstreamTable& t) {
  return "ALTER PUBLICATION " + c.Identifier(publication) + " ADD TABLE " + c.Identifier(t.schema) + "." +
         c.Identifier(t.name) + ";";
}

Result<Slot> ReadSlot(Connection& c, const std::string& name) {
  Slot s;
  TW_ASSIGN(auto rows,
            c.Query("SELECT plugin, database, confirmed_flush_lsn, wal_status = 'lost' FROM pg_replication_slots "
                    "WHERE slot_name = $1",
                    {name}));
  if (rows.empty()) return s;
  s.exists = true;
  s.plugin = Text(rows[0][0]);
  s.database = Text(rows[0][1]);
  s.confirmed = LsnFromText(Text(rows[0][2])).value_or(0);
  s.lost = Bool(rows[0][3]);
  return s;
}

}  // namespace tidewater::postgres
