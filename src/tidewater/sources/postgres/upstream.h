// What the upstream's catalog says: tables, keys, publication, slot. Each function is a few queries on one connection.
#pragma once
#include <set>
#include <string>
#include <vector>
#include "tidewater/sources/api/source.h"
#include "tidewater/sources/postgres/column_decoder.h"
#include "tidewater/sources/postgres/connection.h"
#include "tidewater/sources/postgres/offset.h"
#include "tidewater/sources/postgres/pg_type.h"

namespace tidewater::postgres {

struct UpstreamColumn {
  int attnum = 0;
  std::string name;
  uint32_t type = 0;
  int32_t typmod = -1;
  std::string type_name;  ///< as SQL writes it: 'numeric(12,2)'
  bool not_null = false;
  bool generated = false;  ///< never in the stream
};

struct UpstreamTable {
  uint32_t relid = 0;
  std::string schema, name;
  char kind = 'r';              ///< pg_class.relkind
  char replica_identity = 'd';  ///< 'd', 'n', 'f', 'i'
  double estimated_rows = 0;
  double bytes_per_row = 0;  ///< on disk, 0 when unknown
  std::vector<UpstreamColumn> columns;
  std::vector<int> primary_key;     ///< attnums in key order
  std::vector<int> identity_index;  ///< of REPLICA IDENTITY USING INDEX
  std::vector<std::vector<int>>
      unique_keys;  ///< attnums of every valid unique index over NOT NULL columns, the primary key too

  const UpstreamColumn* Find(int attnum) const;
  const UpstreamColumn* Find(const std::string& column) const;
  std::string FullName() const { return schema + "." + name; }
};

/// 'orders', 'public.orders', '"My schema"."T"' in its parts.
std::pair<std::string, std::string> SplitName(const std::string& name, const std::string& default_schema);

/// 42P01 when there is none; 0A000 for what is not a table. Adds the types met to `types`.
Result<UpstreamTable> ReadTable(Connection& c, const std::string& schema, const std::string& name, PgTypes& types);
Result<UpstreamTable> ReadTable(Connection& c, uint32_t relid, PgTypes& types);
/// Looks up `oids` and what they are made of.
Status ReadTypes(Connection& c, std::set<uint32_t> oids, PgTypes& types);

/// The attnums that identify a row in the stream, or 0A000 with the ALTER TABLE that gives the table an identity.
Result<std::vector<int>> IdentityOf(const UpstreamTable& table);
Result<Schema> SchemaOf(const UpstreamTable& table, const PgTypes& types);

/// The attnum of every column of `table`: as recorded, else by upstream_id, else by name. Errors: 42703 no such column,
/// 0A000 a generated column, 42P16 a key that does not identify rows upstream.
Result<std::vector<int>> MatchColumns(const SourceTable& table, const UpstreamTable& upstream);

struct Publication {
  bool exists = false;
  bool ours = false;     ///< created by this source, as its comment says
  bool complete = true;  ///< publishes inserts, updates, deletes and truncates
  std::set<std::pair<std::string, std::string>> tables;
};
Result<Publication> ReadPublication(Connection& c, const std::string& name, const std::string& slot);
Status CreatePublication(Connection& c, const std::string& name, const std::string& slot,
                         const std::vector<std::string>& tables);
std::string AddTableStatement(Connection& c, const std::string& publication, const UpstreamTable& table);
/// 'CREATE PUBLICATION …' for a user to run.
std::string CreatePublicationStatement(Connection& c, const std::string& name, const std::vector<std::string>& tables);

struct Slot {
  bool exists = false;
  bool lost = false;  ///< the server removed WAL that it needed
  std::string plugin;
  std::string database;
  Lsn confirmed = 0;
};
Result<Slot> ReadSlot(Connection& c, const std::string& name);

}  // namespace tidewater::postgres
