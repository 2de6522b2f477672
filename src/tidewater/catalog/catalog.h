// The catalog: what users created. Names, columns, plans and dependencies as text and numbers; no DuckDB, no rows.
//
// Contents are immutable versions: a reader takes Current() and keeps it as long as it likes; a writer replaces it.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"
#include "tidewater/base/secret.h"

namespace tidewater::catalog {

enum class ObjectType : uint8_t { kSource, kTable, kMaterializedView, kView, kSink };
/// "source", "table", "materialized view", "view", "sink": as messages and SHOW say it.
const char* ToString(ObjectType type);

struct Column {
  std::string name;
  std::string type;  ///< TypeToText (types/schema.h)
  bool not_null = false;
  int upstream_id = 0;  ///< PostgreSQL attnum, 0 when there is none
  bool operator==(const Column&) const = default;
};

constexpr const char* kDefaultSchema = "public";

/// Why and since when a materialized view takes no part any more. It keeps the rows of that epoch.
struct Freeze {
  std::string reason;
  uint64_t epoch = 0;
  ObjectId cause = 0;  ///< the view that stopped first: this one, or one that it stands on
  bool operator==(const Freeze&) const = default;
};

struct Object {
  ObjectId id = 0;
  ObjectType type = ObjectType::kTable;
  std::string schema = kDefaultSchema;
  std::string name;
  /// Of sources: the columns of a stream-only source, else empty. Of sinks: the columns it is given.
  std::vector<Column> columns;
  std::vector<uint32_t> primary_key;  ///< positions in `columns`, in key order
  /// The statement that created it, secrets replaced by [REDACTED] (sql::Statement::sql).
  std::string sql;
  /// WITH options without secrets; names in lower case.
  std::map<std::string, std::string> options;
  /// WITH options that IsSecretOption. Encoded, so that a restart has them; never printed.
  std::map<std::string, Secret> secrets;
  /// Views: the text of the query, as PlanView takes it. A plain view is expanded from it.
  std::string query;
  /// Views: dataflow plan (sql::EncodePlan). Sinks made `AS SELECT` have a hidden materialized view instead, named in
  /// `input`.
  std::string plan;
  /// Objects it reads or belongs to (table -> source, view -> relations, sink -> relation).
  std::vector<ObjectId> depends_on;
  /// Tables from a source: that source (0 = plain table) and the upstream's name of the table.
  ObjectId source = 0;
  std::string upstream_table;
  /// Sinks: the relation it delivers.
  ObjectId input = 0;
  /// A source whose rows are not kept: only views may read it.
  bool stream_only = false;
  /// Of a sink AS SELECT: its view, hidden from SHOW and queries and dropped with it.
  bool hidden = false;
  /// Materialized views.
  std::optional<Freeze> freeze;
  /// Columns by which a stored relation finds rows in Snapshot::Lookup (Circuit::StoreKey, set by the engine after
  /// AddView or AddTable); empty = none. Not encoded: it follows from the circuit.
  std::vector<uint32_t> store_key;

  bool is_relation() const {
    return type == ObjectType::kTable || type == ObjectType::kMaterializedView || type == ObjectType::kView ||
           (type == ObjectType::kSource && !columns.empty());
  }
  /// options and secrets in one map, in clear: for the connector, never to be logged.
  std::map<std::string, std::string> ClearOptions() const;
  std::string QualifiedName() const { return schema + "." + name; }
};

using ObjectPtr = std::shared_ptr<const Object>;

/// One version of the contents.
class Contents {
 public:
  uint64_t version() const { return version_; }
  /// All objects by id, which is the order of creation (an object depends on smaller ids only).
  const std::map<ObjectId, ObjectPtr>& objects() const { return objects_; }
  ObjectPtr Find(ObjectId id) const;
  /// By exact name; nullptr when there is none. All kinds share one namespace.
  ObjectPtr Find(const std::string& schema, const std::string& name) const;
  /// Objects that directly depend on `id`, in order of creation.
  std::vector<ObjectPtr> Dependents(ObjectId id) const;
  /// What dropping `id` drops, dependents first, `id` last. Without `cascade`: 2BP01 with DETAIL naming the dependents
  /// when there are any that are not hidden.
  Result<std::vector<ObjectPtr>> PlanDrop(ObjectId id, bool cascade) const;

 private:
  friend class Catalog;
  uint64_t version_ = 1;
  ObjectId next_id_ = 1;
  std::map<ObjectId, ObjectPtr> objects_;
  std::map<std::string, ObjectId> by_name_;  ///< "schema.name" in lower case
};

/// Any thread.
class Catalog {
 public:
  Catalog();
  std::shared_ptr<const Contents> Current() const;
  /// Grows with every change.
  uint64_t version() const { return Current()->version(); }
  /// A new id, never given again (also not after a restart that had it encoded).
  ObjectId NextId();
  /// 42P07 when the name is taken, 42710 with a hint when a name that differs in case only is taken (DuckDB takes
  /// both for one), 42704 when a dependency is missing.
  Status Add(Object object);
  /// Replaces the object of that id; name and type stay.
  Status Replace(Object object);
  /// Removes exactly these.
  void Remove(const std::vector<ObjectId>& ids);

  /// JSON, secrets in clear: belongs into the state log only.
  std::string Encode() const;
  /// Replaces the contents. kCorrupt when the text is none of ours.
  Status Decode(const std::string& text);

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Contents> current_;  // guarded by mutex_
};

}  // namespace tidewater::catalog
