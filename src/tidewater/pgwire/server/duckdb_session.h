// Sessions over a plain in-memory DuckDB, for tests of the wire protocol: every type and real SQL without the engine.
#pragma once
#include <map>
#include "tidewater/engine/session.h"

namespace tidewater::pgwire {

class DuckdbSession : public engine::Session {
 public:
  DuckdbSession(duckdb::DuckDB& db, const engine::SessionOptions& options) : connection_(db), options_(options) {
    settings_["TimeZone"] = "UTC";
  }

  Result<std::vector<std::string>> Split(const std::string& sql) override {
    // Good enough for the statements of tests: no comments between statements, no dollar quotes.
    std::vector<std::string> out(1);
    bool quoted = false;
    for (char c : sql) {
      quoted ^= c == '\'';
      if (c == ';' && !quoted) {
        out.emplace_back();
      } else {
        out.back().push_back(c);
      }
    }
    std::vector<std::string> kept;
    for (auto& part : out) {
      duckdb::StringUtil::Trim(part);
      if (!part.empty() && !part.starts_with("--")) kept.push_back(part);
    }
    return kept;
  }

  Result<std::unique_ptr<engine::Statement>> Prepare(const std::string& sql,
                                                     std::vector<LogicalType> declared) override {
    auto out = std::make_unique<Prepared>();
    auto parts = Split(sql);
    if (!parts) return std::unexpected(parts.error());
    out->sql = sql;
    if (parts->empty()) {
      out->empty = true;
      return out;
    }
    if (sql.starts_with("NOTICE ")) {
      notices_.push_back({"NOTICE", "00000", sql.substr(7), "", "a hint"});
      out->tag = "NOTICE";
      return out;
    }
    if (sql == "UPSTREAM") {
      return std::unexpected(EnvError(ErrorKind::kUnavailable, "the upstream refuses connections"));
    }
    if (sql.starts_with("POSITION ")) {
      return std::unexpected(UserError("42601", "syntax error").WithPosition(std::stoi(sql.substr(9))));
    }
    if (sql.starts_with("SET ") && sql.find('=') != sql.npos) {
      out->tag = "SET";
      auto equals = sql.find('=');
      settings_[sql.substr(4, equals - 4)] = sql.substr(equals + 1);
      return out;
    }
    if (failed_ && sql != "ROLLBACK") return std::unexpected(UserError("25P02", "current transaction is aborted"));
    out->prepared = connection_.Prepare(sql);
    if (out->prepared->HasError()) return std::unexpected(Convert(out->prepared->error));
    out->tag = Tag(out->prepared->GetStatementType(), sql);
    bool rows = out->prepared->GetStatementProperties().return_type == duckdb::StatementReturnType::QUERY_RESULT;
    for (size_t i = 0; rows && i < out->prepared->ColumnCount(); i++) {
      out->columns.push_back({out->prepared->GetNames()[i], out->prepared->GetTypes()[i]});
    }
    auto expected = out->prepared->GetExpectedParameterTypes();
    for (size_t i = 0; i < expected.size(); i++) {
      auto type = expected[std::to_string(i + 1)];
      if (i < declared.size() && declared[i].id() != duckdb::LogicalTypeId::SQLNULL) type = declared[i];
      bool unknown = type.id() == duckdb::LogicalTypeId::UNKNOWN || type.id() == duckdb::LogicalTypeId::INVALID;
      out->parameters.push_back(unknown ? LogicalType::VARCHAR : type);
    }
    return out;
  }

  Result<std::unique_ptr<engine::Cursor>> Execute(engine::Statement& statement,
                                                  std::vector<duckdb::Value> values) override {
    auto& s = dynamic_cast<Prepared&>(statement);
    auto out = std::make_unique<Rows>();
    out->tag = s.tag;
    if (!s.prepared) return out;
    if (s.sql == "ROLLBACK" && failed_) failed_ = false;
    duckdb::vector<duckdb::Value> copy(values.begin(), values.end());
    out->result = s.prepared->Execute(copy, true);
    if (out->result->HasError()) return std::unexpected(Convert(out->result->GetErrorObject()));
    for (size_t i = 0; !s.columns.empty() && i < out->result->names.size(); i++) {
      out->columns.push_back({out->result->names[i], out->result->types[i]});
    }
    if (s.columns.empty()) {
      // INSERT and friends give their count as a row.
      while (auto chunk = out->result->Fetch()) {
        if (chunk->size() == 1 && chunk->ColumnCount() == 1 && chunk->data[0].GetType().IsNumeric()) {
          out->rows = chunk->GetValue(0, 0).GetValue<uint64_t>();
        }
      }
      out->result.reset();
    }
    return out;
  }

  void Cancel() override { connection_.Interrupt(); }
  engine::TransactionStatus transaction_status() const override {
    if (failed_) return engine::TransactionStatus::kFailed;
    auto& connection = const_cast<duckdb::Connection&>(connection_);
    return connection.HasActiveTransaction() && !connection.IsAutoCommit() ? engine::TransactionStatus::kActive
                                                                           : engine::TransactionStatus::kIdle;
  }
  void Fail() override {
    if (transaction_status() != engine::TransactionStatus::kIdle) failed_ = true;
  }
  std::vector<engine::Notice> TakeNotices() override { return std::exchange(notices_, {}); }
  std::string Setting(const std::string& name) const override {
    auto found = settings_.find(name);
    return found == settings_.end() ? "" : found->second;
  }
  Status Set(const std::string& name, const std::string& value) override {
    if (name == "bad") return std::unexpected(UserError("42704", "unrecognized configuration parameter \"bad\""));
    settings_[name] = value;
    return {};
  }

 private:
  struct Prepared : engine::Statement {
    std::string sql;
    duckdb::unique_ptr<duckdb::PreparedStatement> prepared;
  };
  struct Rows : engine::Cursor {
    duckdb::unique_ptr<duckdb::QueryResult> result;
    std::string tag;
    uint64_t rows = 0;
    Result<std::unique_ptr<DataChunk>> Next() override {
      while (result) {
        std::unique_ptr<DataChunk> chunk;
        try {
          chunk = result->Fetch();
        } catch (std::exception& e) {
          return std::unexpected(Convert(duckdb::ErrorData(e)));
        }
        if (result->HasError()) return std::unexpected(Convert(result->GetErrorObject()));
        if (!chunk) break;
        if (chunk->size() == 0) continue;
        rows += chunk->size();
        return chunk;
      }
      return nullptr;
    }
    std::string CommandTag() override {
      if (tag == "SELECT" || tag == "UPDATE" || tag == "DELETE") return fmt::format("{} {}", tag, rows);
      if (tag == "INSERT") return fmt::format("INSERT 0 {}", rows);
      return tag;
    }
  };

  static Error Convert(duckdb::ErrorData error) {
    switch (error.Type()) {
      case duckdb::ExceptionType::INTERRUPT:
        return UserError("57014", "canceling statement due to user request");
      case duckdb::ExceptionType::PARSER:
        return UserError("42601", "{}", error.RawMessage());
      case duckdb::ExceptionType::CATALOG:
        return UserError("42P01", "{}", error.RawMessage());
      case duckdb::ExceptionType::CONVERSION:
        return UserError("22P02", "{}", error.RawMessage());
      case duckdb::ExceptionType::CONSTRAINT:
        return UserError("23505", "{}", error.RawMessage());
      default:
        return UserError("XX000", "{}", error.RawMessage());
    }
  }
  static std::string Tag(duckdb::StatementType type, const std::string& sql) {
    switch (type) {
      case duckdb::StatementType::SELECT_STATEMENT:
        return "SELECT";
      case duckdb::StatementType::INSERT_STATEMENT:
        return "INSERT";
      case duckdb::StatementType::UPDATE_STATEMENT:
        return "UPDATE";
      case duckdb::StatementType::DELETE_STATEMENT:
        return "DELETE";
      case duckdb::StatementType::CREATE_STATEMENT:
        return "CREATE TABLE";
      default:
        return duckdb::StringUtil::Upper(sql.substr(0, sql.find_first_of(" ;")));
    }
  }

  duckdb::Connection connection_;
  engine::SessionOptions options_;
  std::map<std::string, std::string> settings_;
  std::vector<engine::Notice> notices_;
  bool failed_ = false;
};

}  // namespace tidewater::pgwire
