#include "tidewater/engine/show.h"
#include <set>

namespace tidewater::engine {

using catalog::ObjectType;
using duckdb::Value;
using sql::ShowKind;
using Rows = std::vector<duckdb::vector<Value>>;

namespace {

const char* ToString(SinkState state) {
  switch (state) {
    case SinkState::kStarting:
      return "starting";
    case SinkState::kRunning:
      return "running";
    case SinkState::kRetrying:
      return "retrying";
    case SinkState::kFailed:
      return "failed";
    case SinkState::kStopped:
      return "stopped";
  }
  return "unknown";
}

Value Text(const std::optional<Error>& error) {
  if (!error) return Value(LogicalType::VARCHAR);
  return Value(error->hint.empty() ? error->ToString() : error->ToString() + " HINT: " + error->hint);
}
Value Known(int64_t number) { return number < 0 ? Value(LogicalType::BIGINT) : Value::BIGINT(number); }

Result<catalog::ObjectPtr> FindObject(Core& core, const sql::Name& name) {
  auto object = core.catalog().Current()->Find(name.SchemaOrDefault(), name.name);
  if (!object || object->hidden)
    return std::unexpected(UserError("42P01", "relation \"{}\" does not exist", name.ToString()));
  return object;
}

}  // namespace

std::vector<std::pair<std::string, uint64_t>> IncompleteBelow(Core& core, const std::vector<ObjectId>& relations) {
  std::vector<std::pair<std::string, uint64_t>> out;
  if (core.errors().Count() == 0) return out;
  auto contents = core.catalog().Current();
  std::set<ObjectId> seen;
  std::vector<ObjectId> todo = relations;
  while (!todo.empty()) {
    auto id = todo.back();
    todo.pop_back();
    auto object = contents->Find(id);
    if (!object || !seen.insert(id).second) continue;
    if (auto count = core.errors().Count(object->name)) out.emplace_back(object->name, count);
    for (auto below : object->depends_on) todo.push_back(below);
  }
  return out;
}

std::vector<ColumnDef> ShowColumns(const sql::Show& show) {
  auto text = LogicalType::VARCHAR, number = LogicalType::BIGINT;
  switch (show.kind) {
    case ShowKind::kTables:
      return {{"name", text}, {"source", text}, {"upstream_table", text}, {"state", text}, {"errors", number}};
    case ShowKind::kSources:
      return {{"name", text},      {"connector", text},      {"state", text},       {"error", text},
              {"retries", number}, {"position", text},       {"lag_bytes", number}, {"lag_ms", number},
              {"rows", number},    {"rejected_rows", number}};
    case ShowKind::kMaterializedViews:
      return {{"name", text}, {"state", text}, {"errors", number}, {"reason", text}};
    case ShowKind::kViews:
      return {{"name", text}};
    case ShowKind::kSinks:
      return {{"name", text},
              {"connector", text},
              {"input", text},
              {"state", text},
              {"error", text},
              {"retries", number},
              {"committed_checkpoint", number},
              {"commits", number},
              {"rows_written", number},
              {"log_rows", number},
              {"log_bytes", number},
              {"snapshot_id", number},
              {"last_commit_ms", number}};
    case ShowKind::kJobs:
      return {{"id", number}, {"job", text}, {"rows_done", number}, {"rows_estimated", number}, {"progress", text}};
    case ShowKind::kCreate:
      return {{"name", text}, {"create_sql", text}};
    case ShowKind::kColumns:
      return {{"column_name", text}, {"data_type", text}, {"is_nullable", text}, {"key", text}};
    case ShowKind::kErrors:
      return ErrorTable::TableSchema().columns;
    case ShowKind::kAll:
    case ShowKind::kSetting:
      return {};
  }
  return {};
}

Result<Rows> ShowRows(Core& core, const sql::Show& show) {
  Rows rows;
  auto contents = core.catalog().Current();
  auto each = [&](ObjectType type, auto&& visit) {
    for (auto& [id, object] : contents->objects())
      if (object->type == type && !object->hidden) visit(*object);
  };
  switch (show.kind) {
    case ShowKind::kTables:
      each(ObjectType::kTable, [&](const catalog::Object& t) {
        auto source = contents->Find(t.source);
        rows.push_back({Value(t.name), source ? Value(source->name) : Value(LogicalType::VARCHAR),
                        source ? Value(t.upstream_table) : Value(LogicalType::VARCHAR),
                        Value(core.CheckLoaded({t.id}) ? "ready" : "loading"),
                        Value::BIGINT(int64_t(core.errors().Count(t.name)))});
      });
      break;
    case ShowKind::kMaterializedViews:
      each(ObjectType::kMaterializedView, [&](const catalog::Object& v) {
        uint64_t errors = 0;
        for (auto& [name, count] : IncompleteBelow(core, {v.id})) errors += count;
        rows.push_back({Value(v.name),
                        Value(v.freeze ? "frozen"
                              : errors ? "incomplete"
                                       : "ready"),
                        Value::BIGINT(int64_t(core.errors().Count(v.name))),
                        v.freeze ? Value(v.freeze->reason) : Value(LogicalType::VARCHAR)});
      });
      break;
    case ShowKind::kViews:
      each(ObjectType::kView, [&](const catalog::Object& v) { rows.push_back({Value(v.name)}); });
      break;
    case ShowKind::kSources:
      for (auto& s : core.Report().sources)
        rows.push_back({Value(s.name), Value(s.connector), Value(tidewater::ToString(s.status.state)),
                        Text(s.status.error), Value::BIGINT(int64_t(s.status.retries)), Value(s.status.position),
                        Known(s.status.lag_bytes), Known(s.status.lag_us < 0 ? -1 : s.status.lag_us / 1000),
                        Value::BIGINT(int64_t(s.events)), Value::BIGINT(int64_t(s.rejected))});
      break;
    case ShowKind::kSinks:
      for (auto& s : core.Report().sinks)
        rows.push_back({Value(s.name), Value(s.connector),
                        s.input.empty() ? Value(LogicalType::VARCHAR) : Value(s.input),
                        Value(s.frozen.empty() ? ToString(s.status.state) : "frozen"),
                        s.frozen.empty() ? Text(s.status.error) : Value("its input is frozen: " + s.frozen),
                        Value::BIGINT(int64_t(s.status.retries)), Value::BIGINT(int64_t(s.status.committed)),
                        Value::BIGINT(int64_t(s.status.commits)), Value::BIGINT(int64_t(s.status.rows_written)),
                        Value::BIGINT(int64_t(s.status.log_rows)), Value::BIGINT(int64_t(s.status.log_bytes)),
                        Value::BIGINT(s.status.snapshot_id), Value::BIGINT(s.status.last_commit_ms)});
      break;
    case ShowKind::kJobs: {
      auto report = core.Report();
      auto add = [&](ObjectId id, std::string job, uint64_t done, uint64_t total) {
        auto percent =
            total ? fmt::format("{:.1f}%", std::min(100.0, 100.0 * double(done) / double(total))) : std::string("?");
        rows.push_back({Value::BIGINT(id), Value(std::move(job)), Value::BIGINT(int64_t(done)),
                        Value::BIGINT(int64_t(total)), Value(percent)});
      };
      for (auto& s : report.sources)
        for (auto& load : s.status.loads)
          if (!load.complete)
            add(load.table, fmt::format("initial load of {} from {}", load.name, s.name), load.rows_done,
                load.rows_estimated);
      for (auto& b : report.backfills) add(b.id, fmt::format("backfill of {}", b.name), b.rows_done, b.rows_total);
      break;
    }
    case ShowKind::kCreate: {
      TW_ASSIGN(auto object, FindObject(core, show.name));
      if (object->type != show.type)
        return std::unexpected(UserError("42809", "\"{}\" is not a {}", object->name, catalog::ToString(show.type)));
      rows.push_back({Value(object->name), Value(object->sql)});
      break;
    }
    case ShowKind::kColumns: {
      TW_ASSIGN(auto object, FindObject(core, show.name));
      for (uint32_t i = 0; i < object->columns.size(); i++) {
        auto& c = object->columns[i];
        bool key = std::find(object->primary_key.begin(), object->primary_key.end(), i) != object->primary_key.end();
        rows.push_back(
            {Value(c.name), Value(c.type), Value(c.not_null ? "NO" : "YES"), Value(key ? "primary key" : "")});
      }
      break;
    }
    case ShowKind::kErrors: {
      auto snapshot = core.Pin();
      TW_ASSIGN(auto object, FindObject(core, {"", kErrorTable}));
      TW_ASSIGN(auto read, core.frontend().Run(std::string("SELECT * FROM ") + kErrorTable + " ORDER BY ALL",
                                               std::move(snapshot)));
      rows = std::move(read);
      break;
    }
    case ShowKind::kAll:
    case ShowKind::kSetting:
      break;
  }
  return rows;
}

}  // namespace tidewater::engine
