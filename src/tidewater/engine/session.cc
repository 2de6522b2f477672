#include "tidewater/engine/session.h"
#include <algorithm>
#include "tidewater/base/check.h"
#include "tidewater/engine/core.h"
#include "tidewater/engine/show.h"
#include "tidewater/engine/write_set.h"

namespace tidewater::engine {
namespace {

using duckdb::Value;
using Rows = std::vector<duckdb::vector<Value>>;

struct SettingInfo {
  const char* name;  ///< as the protocol reports it
  const char* value;
};
/// What clients ask for and set. Where a value has no effect here, clients may still set it.
constexpr SettingInfo kSettings[] = {
    {"application_name", ""},
    {"bytea_output", "hex"},
    {"check_function_bodies", "on"},
    {"client_encoding", "UTF8"},
    {"client_min_messages", "notice"},
    {"datestyle", "ISO, MDY"},
    {"default_transaction_isolation", "repeatable read"},
    {"default_transaction_read_only", "off"},
    {"extra_float_digits", "1"},
    {"idle_in_transaction_session_timeout", "0"},
    {"in_hot_standby", "off"},
    {"integer_datetimes", "on"},
    {"intervalstyle", "postgres"},
    {"is_superuser", "on"},
    {"lock_timeout", "0"},
    {"max_identifier_length", "63"},
    {"read_mode", "latest"},
    {"row_security", "on"},
    {"search_path", "\"$user\", public"},
    {"server_encoding", "UTF8"},
    {"server_version", "15.0"},
    {"server_version_num", "150000"},
    {"session_authorization", "tidewater"},
    {"standard_conforming_strings", "on"},
    {"statement_timeout", "0"},
    {"synchronize_seqscans", "on"},
    {"timezone", "UTC"},
    {"transaction_isolation", "repeatable read"},
    {"transaction_read_only", "off"},
    {"work_mem", "4MB"},
};
constexpr const char* kReadOnly[] = {"server_version",       "server_version_num", "server_encoding",
                                     "integer_datetimes",    "is_superuser",       "in_hot_standby",
                                     "max_identifier_length"};

std::string Lower(std::string text) {
  for (auto& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

Error FailedTransaction() {
  return UserError("25P02", "current transaction is aborted, commands ignored until end of transaction block");
}
Error NotInBlock(const std::string& what) {
  return UserError("25001", "{} cannot run inside a transaction block", what);
}

struct PreparedStatement final : Statement {
  sql::Statement parsed;
  std::unique_ptr<sql::Prepared> query;
  std::optional<sql::PreparedDml> dml;
};

/// Rows that are there already.
class RowsCursor final : public Cursor {
 public:
  RowsCursor(std::vector<ColumnDef> defs, Rows rows, std::string tag) : rows_(std::move(rows)), tag_(std::move(tag)) {
    columns = std::move(defs);
  }
  Result<std::unique_ptr<DataChunk>> Next() override {
    if (next_ >= rows_.size()) return nullptr;
    Types types;
    for (auto& c : columns) types.push_back(c.type);
    auto chunk = std::make_unique<DataChunk>();
    chunk->Initialize(duckdb::Allocator::DefaultAllocator(), types);
    duckdb::idx_t n = 0;
    for (; next_ < rows_.size() && n < STANDARD_VECTOR_SIZE; next_++, n++)
      for (duckdb::idx_t c = 0; c < columns.size(); c++) chunk->SetValue(c, n, rows_[next_][c]);
    chunk->SetCardinality(n);
    return chunk;
  }
  std::string CommandTag() override { return tag_; }

 private:
  Rows rows_;
  size_t next_ = 0;
  std::string tag_;
};

/// RETURNING's rows.
class BatchCursor final : public Cursor {
 public:
  BatchCursor(std::vector<ColumnDef> defs, DeltaBatch rows, std::string tag)
      : rows_(std::move(rows)), tag_(std::move(tag)) {
    columns = std::move(defs);
  }
  Result<std::unique_ptr<DataChunk>> Next() override {
    if (next_ >= rows_.chunks.size()) return nullptr;
    return std::move(rows_.chunks[next_++].rows);
  }
  std::string CommandTag() override { return tag_; }

 private:
  DeltaBatch rows_;
  size_t next_ = 0;
  std::string tag_;
};

class SessionImpl final : public Session {
 public:
  SessionImpl(Core& core, const SessionOptions& options)
      : core_(core), options_(options), connection_(core.frontend().Connect()) {
    for (auto& s : kSettings) settings_[s.name] = s.value;
    settings_["application_name"] = options.application_name;
    settings_["session_authorization"] = options.user;
    ApplySettings();
  }

  Result<std::vector<std::string>> Split(const std::string& text) override { return sql::SplitStatements(text); }

  Result<std::unique_ptr<Statement>> Prepare(const std::string& text, std::vector<LogicalType> declared) override {
    auto out = std::make_unique<PreparedStatement>();
    TW_ASSIGN(auto parts, sql::SplitStatements(text));
    if (parts.empty()) {
      out->empty = true;
      return out;
    }
    if (parts.size() > 1)
      return std::unexpected(UserError("42601", "cannot insert multiple commands into a prepared statement"));
    TW_ASSIGN(out->parsed, sql::ParseStatement(parts[0]));
    auto& parsed = out->parsed;
    out->tag = parsed.tag;
    // As in PostgreSQL: a failed transaction accepts nothing but its end, and says so before the statement is planned.
    if (status_ == TransactionStatus::kFailed && !std::holds_alternative<sql::Transaction>(parsed.node))
      return std::unexpected(FailedTransaction());
    if (std::holds_alternative<sql::Query>(parsed.node)) {
      TW_ASSIGN(out->query, connection_->Prepare(parsed.text, declared));
      out->parameters = out->query->parameters;
      out->columns = out->query->columns;
    } else if (std::holds_alternative<sql::Dml>(parsed.node)) {
      TW_ASSIGN(out->dml, connection_->PrepareDml(parsed.text, declared));
      out->parameters = out->dml->query->parameters;
      auto table = core_.catalog().Current()->Find(out->dml->table);
      if (!table)
        return std::unexpected(
            UserError("42P01", "relation \"{}\" does not exist", std::get<sql::Dml>(parsed.node).table.ToString()));
      TW_TRY(CheckWritable(*table));
      auto schema = sql::ToSchema(*table);
      for (auto c : out->dml->returning) out->columns.push_back(schema.columns[c]);
    } else if (auto* show = std::get_if<sql::Show>(&parsed.node)) {
      if (show->kind == sql::ShowKind::kSetting) {
        out->columns = {{DisplayName(show->setting), LogicalType::VARCHAR}};
      } else if (show->kind == sql::ShowKind::kAll) {
        out->columns = {{"name", LogicalType::VARCHAR}, {"setting", LogicalType::VARCHAR}};
      } else {
        out->columns = ShowColumns(*show);
      }
    } else if (std::holds_alternative<sql::Explain>(parsed.node)) {
      out->columns = {{"QUERY PLAN", LogicalType::VARCHAR}};
    }
    return out;
  }

  Result<std::unique_ptr<Cursor>> Execute(Statement& statement, std::vector<Value> parameters) override {
    cancelled_.store(false);
    auto& prepared = static_cast<PreparedStatement&>(statement);
    if (prepared.empty) return std::make_unique<RowsCursor>(std::vector<ColumnDef>{}, Rows{}, "");
    if (auto* transaction = std::get_if<sql::Transaction>(&prepared.parsed.node))
      return Transact(*transaction, prepared.tag);
    if (status_ == TransactionStatus::kFailed) return std::unexpected(FailedTransaction());
    auto result = Dispatch(prepared, std::move(parameters));
    if (!result) Fail();
    return result;
  }

  void Cancel() override {
    cancelled_.store(true);
    connection_->Interrupt();
  }
  TransactionStatus transaction_status() const override { return status_; }
  void Fail() override {
    if (status_ == TransactionStatus::kActive) status_ = TransactionStatus::kFailed;
  }
  std::vector<Notice> TakeNotices() override { return std::exchange(notices_, {}); }
  std::string Setting(const std::string& name) const override {
    auto it = settings_.find(Lower(name));
    return it == settings_.end() ? std::string() : it->second;
  }
  Status Set(const std::string& name, const std::string& value) override { return SetOne(Lower(name), value); }

 private:
  /// Pulls a query's rows, and keeps what the query stands on.
  class QueryCursor final : public Cursor {
   public:
    QueryCursor(SessionImpl& session, const sql::Prepared& prepared, std::unique_ptr<sql::QueryStream> stream)
        : session_(session), stream_(std::move(stream)) {
      columns = prepared.columns;
    }
    Result<std::unique_ptr<DataChunk>> Next() override {
      if (session_.cancelled_.load()) return Failed(CancelledError());
      auto chunk = stream_->Next();
      if (!chunk) return Failed(std::move(chunk.error()));
      if (*chunk) rows_ += (*chunk)->size();
      return chunk;
    }
    std::string CommandTag() override { return "SELECT " + std::to_string(rows_); }

   private:
    std::unexpected<Error> Failed(Error error) {
      session_.Fail();
      return std::unexpected(std::move(error));
    }
    SessionImpl& session_;
    std::unique_ptr<sql::QueryStream> stream_;
    uint64_t rows_ = 0;
  };
  friend class QueryCursor;

  Cancelled IsCancelled() {
    return [this] { return cancelled_.load(); };
  }

  Result<std::unique_ptr<Cursor>> Done(const std::string& tag) {
    return std::make_unique<RowsCursor>(std::vector<ColumnDef>{}, Rows{}, tag);
  }

  Status CheckWritable(const catalog::Object& table) const {
    if (core_.IsErrorTable(table.id))
      return std::unexpected(UserError("42501", "table \"{}\" belongs to the system", table.name));
    if (table.type != catalog::ObjectType::kTable)
      return std::unexpected(UserError("42809", "cannot change {} \"{}\"", catalog::ToString(table.type), table.name));
    if (table.source)
      return std::unexpected(UserError("42809", "cannot change table \"{}\": its rows come from a source", table.name)
                                 .WithHint("Change the row in the upstream database; the change arrives by itself."));
    return {};
  }

  /// What the next statement reads: the transaction's snapshot with its own writes, or the newest epoch.
  Result<std::shared_ptr<dataflow::Snapshot>> SnapshotForRead() {
    if (status_ == TransactionStatus::kActive) {
      if (!snapshot_) {
        TW_ASSIGN(snapshot_, NewestSnapshot());
      }
      return writes_.Over(snapshot_);
    }
    return NewestSnapshot();
  }
  Result<std::shared_ptr<dataflow::Snapshot>> NewestSnapshot() {
    if (settings_["read_mode"] == "durable") return core_.PinDurable(IsCancelled());
    return core_.Pin();
  }

  void Notify(const std::vector<ObjectId>& reads, Epoch epoch) {
    auto frozen = core_.FrozenBelow(reads);
    for (auto& view : frozen)
      notices_.push_back(
          {"WARNING", "01000",
           reads.size() > frozen.size()
               ? fmt::format(
                     "materialized view \"{}\" is frozen: its rows are as of epoch {}, the others' as of epoch {}",
                     view->name, view->freeze->epoch, epoch)
               : fmt::format("materialized view \"{}\" is frozen: its rows are as of epoch {}, now is epoch {}",
                             view->name, view->freeze->epoch, epoch),
           view->freeze->reason,
           fmt::format("ALTER MATERIALIZED VIEW {} RESUME; fills it anew.", sql::QuoteIdentifier(view->name))});
    for (auto& [name, count] : IncompleteBelow(core_, reads))
      notices_.push_back({"WARNING", "01000",
                          fmt::format("\"{}\" is incomplete: {} row{} could not be held or evaluated", name, count,
                                      count == 1 ? "" : "s"),
                          "",
                          fmt::format("SELECT * FROM {} WHERE object = {};", kErrorTable, sql::QuoteLiteral(name))});
  }

  Result<std::unique_ptr<Cursor>> Dispatch(PreparedStatement& prepared, std::vector<Value> parameters) {
    auto& node = prepared.parsed.node;
    if (std::holds_alternative<sql::Query>(node)) return RunQuery(prepared, parameters);
    if (std::holds_alternative<sql::Dml>(node)) return RunDmlStatement(prepared, parameters);
    if (auto* show = std::get_if<sql::Show>(&node)) return RunShow(prepared, *show);
    if (auto* explain = std::get_if<sql::Explain>(&node)) return RunExplain(prepared, *explain);
    if (auto* set = std::get_if<sql::Set>(&node)) {
      TW_TRY(RunSet(*set));
      return Done(prepared.tag);
    }
    if (std::holds_alternative<sql::NoOp>(node)) return Done(prepared.tag);
    // What follows changes the catalog at once and for all, so it cannot be taken back by ROLLBACK.
    if (status_ == TransactionStatus::kActive) return std::unexpected(NotInBlock(prepared.tag));
    auto& text = prepared.parsed.sql;
    std::vector<std::string> warnings;
    Status status;
    if (auto* s = std::get_if<sql::CreateSource>(&node)) {
      status = core_.CreateSource(*s, text, IsCancelled());
    } else if (auto* t = std::get_if<sql::CreateTable>(&node)) {
      status = core_.CreateTable(*t, text, IsCancelled());
    } else if (auto* v = std::get_if<sql::CreateView>(&node)) {
      status = core_.CreateView(*v, text, IsCancelled());
    } else if (auto* k = std::get_if<sql::CreateSink>(&node)) {
      status = core_.CreateSink(*k, text, IsCancelled());
    } else if (auto* d = std::get_if<sql::Drop>(&node)) {
      status = core_.Drop(*d, IsCancelled(), warnings);
    } else if (auto* a = std::get_if<sql::AlterSource>(&node)) {
      status = core_.AlterSource(*a, IsCancelled());
    } else if (auto* r = std::get_if<sql::AlterView>(&node)) {
      status = core_.ResumeView(*r, IsCancelled(), warnings);
    } else if (std::holds_alternative<sql::Flush>(node)) {
      status = core_.Flush(IsCancelled(), warnings);
    } else {
      status = std::unexpected(UserError("0A000", "{} is not supported", prepared.tag));
    }
    for (auto& w : warnings)
      notices_.push_back({std::holds_alternative<sql::Drop>(node) ? "NOTICE" : "WARNING", "00000", w, "", ""});
    TW_TRY(std::move(status));
    return Done(prepared.tag);
  }

  Result<std::unique_ptr<Cursor>> RunQuery(PreparedStatement& prepared, const std::vector<Value>& parameters) {
    TW_TRY(core_.CheckLoaded(prepared.query->reads));
    TW_ASSIGN(auto snapshot, SnapshotForRead());
    Notify(prepared.query->reads, snapshot->epoch());
    TW_ASSIGN(auto stream, connection_->Execute(*prepared.query, parameters, std::move(snapshot)));
    return std::make_unique<QueryCursor>(*this, *prepared.query, std::move(stream));
  }

  Result<std::unique_ptr<Cursor>> RunDmlStatement(PreparedStatement& prepared, const std::vector<Value>& parameters) {
    auto& dml = *prepared.dml;
    TW_TRY(core_.CheckLoaded(dml.query->reads));
    bool in_transaction = status_ == TransactionStatus::kActive;
    std::unique_lock write_lock(core_.write_mutex(), std::defer_lock);
    if (in_transaction && read_only_)
      return std::unexpected(UserError("25006", "cannot execute {} in a read-only transaction", prepared.tag));
    if (!in_transaction) {
      while (!write_lock.try_lock_for(std::chrono::milliseconds(50)))
        if (cancelled_.load()) return std::unexpected(CancelledError());
    }
    auto table = core_.catalog().Current()->Find(dml.table);
    if (!table) return std::unexpected(UserError("42P01", "the table of this statement does not exist any more"));
    TW_TRY(CheckWritable(*table));
    std::shared_ptr<dataflow::Snapshot> snapshot;
    if (in_transaction) {
      TW_ASSIGN(snapshot, SnapshotForRead());
    } else {
      snapshot = core_.Pin();
    }
    DmlOutcome outcome;
    {
      TW_ASSIGN(auto stream, connection_->Execute(*dml.query, parameters, snapshot));
      TW_ASSIGN(outcome, RunDml(dml, *table, *stream, *snapshot, IsCancelled()));
    }
    if (outcome.delta.rows() > 0) {
      if (in_transaction) {
        writes_.Add(*table, outcome.delta);
      } else {
        WriteDeltas deltas;
        deltas.emplace(table->id, std::move(outcome.delta));
        std::future<Status> durable;
        TW_TRY(core_.Write(std::move(deltas), durable));
        // Others may write while this entry is on its way to the disk.
        write_lock.unlock();
        TW_TRY(durable.get());
      }
    }
    auto tag = fmt::format("{}{} {}", prepared.tag, dml.kind == sql::DmlKind::kInsert ? " 0" : "", outcome.affected);
    return std::make_unique<BatchCursor>(prepared.columns, std::move(outcome.returning), std::move(tag));
  }

  Result<std::unique_ptr<Cursor>> RunShow(PreparedStatement& prepared, const sql::Show& show) {
    Rows rows;
    if (show.kind == sql::ShowKind::kSetting) {
      auto it = settings_.find(show.setting);
      if (it == settings_.end())
        return std::unexpected(UserError("42704", "unrecognized configuration parameter \"{}\"", show.setting));
      rows.push_back({Value(it->second)});
    } else if (show.kind == sql::ShowKind::kAll) {
      for (auto& [name, value] : settings_) rows.push_back({Value(DisplayName(name)), Value(value)});
    } else {
      TW_ASSIGN(rows, ShowRows(core_, show));
    }
    return std::make_unique<RowsCursor>(prepared.columns, std::move(rows), "SHOW");
  }

  Result<std::unique_ptr<Cursor>> RunExplain(PreparedStatement& prepared, const sql::Explain& explain) {
    std::string text;
    if (explain.view) {
      auto plan = core_.frontend().PlanView(explain.query);
      if (!plan) {
        auto error = std::move(plan.error());
        if (error.position) error.position += explain.query_position - 1;
        return std::unexpected(std::move(error));
      }
      text = core_.frontend().ExplainView(*plan->plan);
    } else {
      TW_ASSIGN(auto snapshot, SnapshotForRead());
      TW_ASSIGN(text, connection_->ExplainQuery(explain.query, explain.analyze, std::move(snapshot)));
    }
    Rows rows;
    size_t from = 0;
    while (from < text.size()) {
      auto end = text.find('\n', from);
      if (end == std::string::npos) end = text.size();
      rows.push_back({Value(text.substr(from, end - from))});
      from = end + 1;
    }
    return std::make_unique<RowsCursor>(prepared.columns, std::move(rows), "EXPLAIN");
  }

  // --- Transactions.

  void EndTransaction() {
    status_ = TransactionStatus::kIdle;
    snapshot_.reset();
    writes_ = {};
    savepoints_.clear();
    read_only_ = false;
    for (auto& [name, value] : local_settings_) settings_[name] = value;
    if (!local_settings_.empty()) ApplySettings();
    local_settings_.clear();
  }

  void Warn(const std::string& sqlstate, const std::string& message) {
    notices_.push_back({"WARNING", sqlstate, message, "", ""});
  }

  Result<std::unique_ptr<Cursor>> Transact(const sql::Transaction& statement, const std::string& tag) {
    using Kind = sql::TransactionKind;
    switch (statement.kind) {
      case Kind::kBegin:
        if (status_ == TransactionStatus::kFailed) return std::unexpected(FailedTransaction());
        if (status_ == TransactionStatus::kActive) {
          Warn("25001", "there is already a transaction in progress");
        } else {
          status_ = TransactionStatus::kActive;
          read_only_ = statement.read_only;
        }
        return Done(tag);
      case Kind::kCommit: {
        if (status_ == TransactionStatus::kIdle) Warn("25P01", "there is no transaction in progress");
        if (status_ == TransactionStatus::kFailed) {
          EndTransaction();
          return Done("ROLLBACK");
        }
        auto committed = Commit();
        EndTransaction();
        TW_TRY(std::move(committed));
        return Done(tag);
      }
      case Kind::kRollback:
        if (status_ == TransactionStatus::kIdle) Warn("25P01", "there is no transaction in progress");
        EndTransaction();
        return Done(tag);
      case Kind::kSavepoint:
        if (status_ == TransactionStatus::kFailed) return std::unexpected(FailedTransaction());
        if (status_ == TransactionStatus::kIdle)
          return std::unexpected(UserError("25P01", "SAVEPOINT can only be used in transaction blocks"));
        savepoints_.emplace_back(statement.savepoint, writes_);
        return Done(tag);
      case Kind::kRelease:
      case Kind::kRollbackTo: {
        bool release = statement.kind == Kind::kRelease;
        if (release && status_ == TransactionStatus::kFailed) return std::unexpected(FailedTransaction());
        if (status_ == TransactionStatus::kIdle)
          return std::unexpected(UserError("25P01", "{} can only be used in transaction blocks",
                                           release ? "RELEASE SAVEPOINT" : "ROLLBACK TO SAVEPOINT"));
        auto it = std::find_if(savepoints_.rbegin(), savepoints_.rend(),
                               [&](auto& s) { return s.first == statement.savepoint; });
        if (it == savepoints_.rend()) {
          Fail();
          return std::unexpected(UserError("3B001", "savepoint \"{}\" does not exist", statement.savepoint));
        }
        auto at = size_t(savepoints_.rend() - it) - 1;
        if (release) {
          savepoints_.resize(at);
        } else {
          writes_ = savepoints_[at].second;
          savepoints_.resize(at + 1);
          status_ = TransactionStatus::kActive;
        }
        return Done(tag);
      }
    }
    return Done(tag);
  }

  Status Commit() {
    auto deltas = writes_.Deltas();
    if (deltas.empty()) return {};
    std::unique_lock write_lock(core_.write_mutex(), std::defer_lock);
    while (!write_lock.try_lock_for(std::chrono::milliseconds(50)))
      if (cancelled_.load()) return std::unexpected(CancelledError());
    auto contents = core_.catalog().Current();
    for (auto& [id, delta] : deltas)
      if (!contents->Find(id))
        return std::unexpected(UserError("42P01", "a table of this transaction does not exist any more"));
    auto newest = core_.Pin();
    auto base = snapshot_->epoch();
    TW_TRY(writes_.Validate(*newest, [&](ObjectId table) { return core_.LastWrite(table) > base; }));
    std::future<Status> durable;
    TW_TRY(core_.Write(std::move(deltas), durable));
    write_lock.unlock();
    return durable.get();
  }

  // --- Settings.

  static std::string DisplayName(const std::string& name) {
    if (name == "timezone") return "TimeZone";
    if (name == "datestyle") return "DateStyle";
    if (name == "intervalstyle") return "IntervalStyle";
    return name;
  }

  void ApplySettings() {
    sql::SessionSettings applied;
    applied.user = options_.user;
    applied.time_zone = settings_["timezone"];
    applied.application_name = settings_["application_name"];
    for (auto& [name, value] : settings_) applied.all[DisplayName(name)] = value;
    connection_->Apply(applied);
  }

  Status SetOne(const std::string& name, const std::string& value) {
    auto it = settings_.find(name);
    // A name with a dot is the application's own, as in PostgreSQL.
    if (it == settings_.end() && name.find('.') == std::string::npos)
      return std::unexpected(UserError("42704", "unrecognized configuration parameter \"{}\"", name));
    for (auto fixed : kReadOnly)
      if (name == fixed) return std::unexpected(UserError("55P02", "parameter \"{}\" cannot be changed", name));
    auto invalid = [&] {
      return std::unexpected(UserError("22023", "invalid value for parameter \"{}\": \"{}\"", name, value));
    };
    auto lower = Lower(value);
    std::string kept = value;
    if (name == "client_encoding") {
      if (lower != "utf8" && lower != "utf-8" && lower != "unicode") return invalid();
      kept = "UTF8";
    } else if (name == "read_mode") {
      if (lower != "latest" && lower != "durable") return invalid();
      kept = lower;
    } else if (name == "standard_conforming_strings") {
      if (lower != "on" && lower != "true") return invalid();
      kept = "on";
    } else if (name == "timezone") {
      if (value.empty()) return invalid();
    }
    auto before = it == settings_.end() ? std::string() : it->second;
    settings_[name] = kept;
    if (name == "timezone") {
      // DuckDB knows which zones there are.
      if (lower != "utc" && lower != "gmt") {
        auto known = core_.frontend().Run(
            "SELECT 1 FROM pg_timezone_names() WHERE lower(name) = " + sql::QuoteLiteral(lower), nullptr);
        if (known && known->empty()) {
          settings_[name] = before;
          return invalid();
        }
      }
    }
    ApplySettings();
    return {};
  }

  Status RunSet(const sql::Set& set) {
    if (set.name == "all" && !set.value) {
      for (auto& s : kSettings) settings_[s.name] = s.value;
      settings_["application_name"] = options_.application_name;
      settings_["session_authorization"] = options_.user;
      ApplySettings();
      return {};
    }
    if (set.local && status_ != TransactionStatus::kActive) {
      Warn("25P01", "SET LOCAL can only be used in transaction blocks");
      return {};
    }
    std::string value;
    if (set.value) {
      value = *set.value;
    } else {
      for (auto& s : kSettings)
        if (set.name == s.name) value = s.value;
    }
    auto before = settings_.find(set.name);
    auto old = before == settings_.end() ? std::optional<std::string>() : before->second;
    TW_TRY(SetOne(set.name, value));
    if (set.local && old) local_settings_.emplace(set.name, *old);
    return {};
  }

  Core& core_;
  const SessionOptions options_;
  std::unique_ptr<sql::Connection> connection_;
  std::map<std::string, std::string> settings_, local_settings_;
  std::vector<Notice> notices_;
  std::atomic<bool> cancelled_{false};

  TransactionStatus status_ = TransactionStatus::kIdle;
  bool read_only_ = false;
  std::shared_ptr<dataflow::Snapshot> snapshot_;
  WriteSet writes_;
  std::vector<std::pair<std::string, WriteSet>> savepoints_;
};

}  // namespace

std::unique_ptr<Session> OpenSession(Engine& engine, const SessionOptions& options) {
  return std::make_unique<SessionImpl>(engine.core(), options);
}

}  // namespace tidewater::engine
