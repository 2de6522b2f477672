// The source against a real PostgreSQL server: what its batches say, applied to a model, must equal a SELECT upstream.
#include <chrono>
#include <random>
#include <gtest/gtest.h>
#include "support/postgres_server.h"
#include "tidewater/base/clock.h"
#include "tidewater/sources/postgres/connector.h"
#include "tidewater/sources/postgres/postgres_source.h"

namespace tidewater {
namespace {

using test::PostgresServer;
using Row = std::vector<std::string>;
using TableModel = std::map<Row, Row>;  // key -> row, as text

constexpr const char* kMissing = "<missing>";

PostgresServer* Server() {
  static auto server = PostgresServer::Start({{"wal_sender_timeout", "10s"}});
  return server.get();
}

std::map<std::string, std::string> WithOptions(const PostgresServer& s, const std::string& suffix) {
  return {{"connector", "postgres-cdc"},      {"hostname", "127.0.0.1"},
          {"port", std::to_string(s.port())}, {"username", "postgres"},
          {"password", s.password()},         {"database.name", "postgres"},
          {"slot.name", "slot_" + suffix},    {"publication.name", "pub_" + suffix}};
}

/// A source and the tables it feeds.
class Follower {
 public:
  Follower(std::map<std::string, std::string> options, std::vector<SourceTable> tables)
      : options_(std::move(options)), tables_(std::move(tables)) {}
  ~Follower() { Kill(); }

  void Start() {
    auto connector = PostgresCdcConnector();
    auto source = connector.make({7, "test", options_, {}});
    ASSERT_TRUE(source) << source.error().ToString();
    source_ = std::move(*source);
    for (auto& t : tables_) ASSERT_TRUE(source_->AddTable(t));
    auto started = source_->Start(saved_offset_);
    ASSERT_TRUE(started) << started.error().ToString();
  }
  /// As after a crash: back to what was saved.
  void Kill() {
    source_.reset();
    history_.push_back({0, {}, "kill"});
    models_ = saved_models_;
    offset_ = saved_offset_;
    rejected_ = saved_rejected_;
    loaded_ = saved_loaded_;
    moved_.reset();
    in_transaction_ = false;
  }
  void Save() {
    if (in_transaction_ || offset_.empty()) return;
    history_.push_back({0, {}, "save"});
    saved_models_ = models_;
    saved_offset_ = offset_;
    saved_rejected_ = rejected_;
    saved_loaded_ = loaded_;
    source_->Confirm(saved_offset_);
  }
  /// One batch; false when there was none.
  bool Step(size_t max_rows = 4096) {
    auto batch = source_->Poll(max_rows);
    if (!batch) return false;
    for (auto& c : batch->changes) Apply(c);
    for (auto& r : batch->rejected) {
      auto key = std::to_string(r.table) + ":" + r.key;
      if (r.resolved) {
        EXPECT_TRUE(rejected_.erase(key)) << key;
      } else {
        EXPECT_TRUE(rejected_.emplace(key, r).second) << key;
      }
    }
    for (auto id : batch->loaded) EXPECT_TRUE(loaded_.insert(id).second);
    offset_ = batch->offset;
    in_transaction_ = batch->continues;
    batches_++;
    if (in_transaction_) continued_++;
    return true;
  }
  bool Until(const std::function<bool()>& done, double seconds = 30, size_t max_rows = 4096) {
    auto end = MonotonicMicros() + int64_t(seconds * 1e6);
    while (MonotonicMicros() < end) {
      bool any = Step(max_rows);
      if (!in_transaction_ && done()) return true;
      if (!any) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  bool UntilLoaded(double seconds = 30) {
    return Until([&] { return loaded_.size() == tables_.size(); }, seconds);
  }
  /// What happened to a key (kUpsert 1, kDelete 2, kMove 3, kTruncate 4), by batch; saves and kills between.
  std::string History(ObjectId table, const Row& key) const {
    std::string out;
    for (auto& h : history_)
      if (h.table == 0 || (h.table == table && (h.key == key || h.what.ends_with(":4")))) {
        if (h.table != 0 || !out.ends_with(h.what + " ")) out += h.what + " ";
      }
    return out;
  }
  struct Event {
    ObjectId table;
    Row key;
    std::string what;
  };
  bool history_on_ = false;
  std::vector<Event> history_;
  void AddTable(const SourceTable& t) { tables_.push_back(t); }

  void Apply(ChangeChunk& c) {
    auto table = std::find_if(tables_.begin(), tables_.end(), [&](auto& t) { return t.id == c.table; });
    ASSERT_NE(table, tables_.end());
    auto& model = models_[c.table];
    c.rows->Verify();
    ASSERT_EQ(c.ops.size(), c.rows->size());
    size_t u = 0;
    for (size_t r = 0; r < c.rows->size(); r++) {
      Row key, row;
      for (auto k : table->schema.primary_key) key.push_back(c.rows->GetValue(k, r).ToString());
      switch (c.ops[r]) {
        case ChangeOp::kInsert:
          FAIL() << "kInsert";
        case ChangeOp::kUpsert: {
          for (size_t i = 0; i < c.rows->ColumnCount(); i++) {
            if (u < c.unchanged.size() && c.unchanged[u] == std::pair(uint32_t(r), uint32_t(i))) {
              u++;
              auto old = model.find(key);
              row.push_back(moved_ ? (*moved_)[i] : old != model.end() ? old->second[i] : kMissing);
            } else {
              row.push_back(c.rows->GetValue(i, r).ToString());
            }
          }
          moved_.reset();
          model[key] = row;
          break;
        }
        case ChangeOp::kDelete:
          model.erase(key);
          break;
        case ChangeOp::kMove: {
          ASSERT_LT(r + 1, c.ops.size());
          ASSERT_EQ(c.ops[r + 1], ChangeOp::kUpsert);
          auto old = model.find(key);
          moved_ = old == model.end() ? Row(c.rows->ColumnCount(), kMissing) : old->second;
          model.erase(key);
          break;
        }
        case ChangeOp::kTruncate:
          model.clear();
          break;
      }
    }
    ASSERT_EQ(u, c.unchanged.size());
  }

  std::map<std::string, std::string> options_;
  std::vector<SourceTable> tables_;
  std::unique_ptr<Source> source_;
  std::map<ObjectId, TableModel> models_, saved_models_;
  std::map<std::string, RejectedRow> rejected_, saved_rejected_;
  std::set<ObjectId> loaded_, saved_loaded_;
  std::string offset_, saved_offset_;
  std::optional<Row> moved_;
  bool in_transaction_ = false;
  size_t batches_ = 0, continued_ = 0;
};

TableModel Select(PostgresServer& s, const std::string& table, size_t key_columns, const std::string& columns = "*") {
  TableModel m;
  for (auto& r : s.Run("SELECT " + columns + " FROM " + table)) {
    Row row;
    for (auto& v : r) row.push_back(v.value_or("NULL"));
    m[Row(row.begin(), row.begin() + long(key_columns))] = row;
  }
  return m;
}

SourceTable Table(Source& s, ObjectId id, const std::string& name) {
  auto schema = s.Describe(name);
  EXPECT_TRUE(schema) << schema.error().ToString();
  return {id, name, schema ? *schema : Schema{}, {}, {}};
}

std::unique_ptr<Source> Make(const std::map<std::string, std::string>& options) {
  auto s = PostgresCdcConnector().make({7, "test", options, {}});
  EXPECT_TRUE(s);
  return std::move(*s);
}

#define NEED_SERVER() \
  if (!Server()) GTEST_SKIP() << "PostgreSQL is not installed"

std::string Explain(const TableModel& got, const TableModel& want) {
  std::string out;
  int n = 0;
  auto show = [](const Row& r) {
    std::string s;
    for (auto& v : r) s += v.substr(0, 30) + "|";
    return s;
  };
  for (auto& [k, r] : want) {
    auto it = got.find(k);
    if (it == got.end()) {
      if (n++ < 5) out += "lost " + show(r) + "\n";
    } else if (it->second != r) {
      if (n++ < 5) out += "have " + show(it->second) + " want " + show(r) + "\n";
    }
  }
  for (auto& [k, r] : got)
    if (!want.contains(k) && n++ < 5) out += "extra " + show(r) + "\n";
  return out;
}

TEST(PostgresOptions, NamesTheBadOne) {
  auto connector = PostgresCdcConnector();
  std::map<std::string, std::string> good = {{"hostname", "h"}, {"username", "u"}, {"database.name", "d"}};
  EXPECT_TRUE(connector.validate(good));
  auto bad = [&](const std::string& name, const std::string& value) {
    auto o = good;
    o[name] = value;
    auto status = connector.validate(o);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().sqlstate, "22023");
    EXPECT_NE(status.error().message.find(name), std::string::npos) << status.error().message;
  };
  bad("port", "abc");
  bad("port", "70000");
  bad("slot.name", "Has-Capitals");
  bad("ssl.mode", "maybe");
  bad("publication.create.enable", "perhaps");
  bad("hostnam", "h");
  bad("hostname", "");
  bad("transactional", "false");
}

TEST(PostgresSource, DescribesTables) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run(
      "CREATE TABLE describe_me (b int, a bigint, n numeric(12,2) NOT NULL, u numeric, t text[], g int GENERATED "
      "ALWAYS AS (b * 2) STORED, "
      "PRIMARY KEY (a, b)); ALTER TABLE describe_me DROP COLUMN t; ALTER TABLE describe_me ADD COLUMN t2 text[]");
  auto source = Make(WithOptions(pg, "describe"));
  auto s = source->Describe("public.describe_me");
  ASSERT_TRUE(s) << s.error().ToString();
  ASSERT_EQ(s->columns.size(), 5u);
  EXPECT_EQ(s->columns[0].name, "b");
  EXPECT_TRUE(s->columns[0].not_null);
  EXPECT_EQ(s->columns[2].type, LogicalType::DECIMAL(12, 2));
  EXPECT_EQ(s->columns[3].type, LogicalType::DECIMAL(38, 10));
  EXPECT_EQ(s->columns[4].type, LogicalType::LIST(LogicalType::VARCHAR));
  EXPECT_EQ(s->columns[4].upstream_id, 7);
  EXPECT_EQ(s->primary_key, (std::vector<uint32_t>{1, 0}));
  EXPECT_EQ(source->Describe("nothing").error().sqlstate, "42P01");
  pg.Run(
      "CREATE TABLE no_key (a int); CREATE TABLE nothing_id (a int PRIMARY KEY); ALTER TABLE nothing_id REPLICA "
      "IDENTITY NOTHING; "
      "CREATE TABLE by_index (a int, b int NOT NULL UNIQUE); ALTER TABLE by_index REPLICA IDENTITY USING INDEX "
      "by_index_b_key; "
      "CREATE VIEW a_view AS SELECT 1 AS a");
  auto e = source->Describe("no_key").error();
  EXPECT_EQ(e.sqlstate, "0A000");
  EXPECT_NE(e.hint.find("ADD PRIMARY KEY"), std::string::npos);
  e = source->Describe("nothing_id").error();
  EXPECT_EQ(e.sqlstate, "0A000");
  EXPECT_NE(e.hint.find("ALTER TABLE public.nothing_id REPLICA IDENTITY DEFAULT"), std::string::npos);
  EXPECT_EQ(source->Describe("by_index")->primary_key, (std::vector<uint32_t>{1}));
  EXPECT_EQ(source->Describe("a_view").error().sqlstate, "0A000");
}

constexpr const char* kTypesDdl =
    "DROP TYPE IF EXISTS mood CASCADE; CREATE TYPE mood AS ENUM ('sad', 'ok'); DROP DOMAIN IF EXISTS cents CASCADE; "
    "CREATE DOMAIN cents AS numeric(10,2);";
constexpr const char* kTypesColumns =
    "id bigint PRIMARY KEY, c_bool bool, c_int2 int2, c_int4 int4, c_float4 float4, c_float8 float8, c_numeric "
    "numeric(12,2), c_num38 numeric(38,38), "
    "c_free numeric, c_text text, c_varchar varchar(10), c_char char(5), c_name name, c_bytea bytea, c_date date, "
    "c_time time, c_timetz timetz, "
    "c_ts timestamp, c_tstz timestamptz, c_interval interval, c_uuid uuid, c_json json, c_jsonb jsonb, c_enum mood, "
    "c_oid oid, c_ints int[], "
    "c_texts text[], c_domain cents, c_nums numeric(6,2)[]";
constexpr const char* kTypesRow =
    "(%d, true, -7, 123456, 1.5, -0.1, -1234567890.12, 0.12345678901234567890123456789012345678, "
    "12345678901234567890.0123456789, 'naïve', 'vc', 'ab', "
    "'nm', '\\xdeadbeef', '2024-02-29', '23:59:59.123456', '12:00:00+05:30', '1969-12-31 23:59:59.999999', '2024-07-01 "
    "12:00:00+02', "
    "'1 year 2 mons -3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1}', '{\"b\": [1, 2]}', "
    "'ok', 4294967295, "
    "'{1,NULL,3}', '{\"a b\",\"q\\\"uote\",NULL,\"\"}', 12.34, '{1.50,2}')";

const Row kTypesExpected = {"true",
                            "-7",
                            "123456",
                            "1.5",
                            "-0.1",
                            "-1234567890.12",
                            ".12345678901234567890123456789012345678",
                            "12345678901234567890.0123456789",
                            "naïve",
                            "vc",
                            "ab   ",
                            "nm",
                            "\\xDE\\xAD\\xBE\\xEF",
                            "2024-02-29",
                            "23:59:59.123456",
                            "12:00:00+05:30",
                            "1969-12-31 23:59:59.999999",
                            "2024-07-01 10:00:00+00",
                            "1 year 2 months -3 days 04:05:06.7",
                            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                            "{\"a\": 1}",
                            "{\"b\": [1, 2]}",
                            "ok",
                            "4294967295",
                            "[1, NULL, 3]",
                            "[a b, 'q\"uote', NULL, '']",
                            "12.34",
                            "[1.50, 2.00]"};

void AllTypes(const std::string& name, const std::string& extra_column, const std::string& extra_value,
              const std::string& extra_text) {
  auto& pg = *Server();
  pg.Run(kTypesDdl);
  pg.Run("DROP TABLE IF EXISTS " + name + "; CREATE TABLE " + name + " (" + kTypesColumns + extra_column + ")");
  auto row = [&](int id) {
    std::string s = kTypesRow;
    s.replace(s.find("%d"), 2, std::to_string(id));
    s.pop_back();
    return s + extra_value + ")";
  };
  pg.Run("INSERT INTO " + name + " VALUES " + row(1));
  auto options = WithOptions(pg, name);
  auto t = Table(*Make(options), 1, name);
  Follower f(options, {t});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded()) << f.source_->GetStatus().error.value_or(Error{}).ToString();
  pg.Run("INSERT INTO " + name + " VALUES " + row(2) + "; INSERT INTO " + name + " (id) VALUES (3)");
  ASSERT_TRUE(f.Until([&] { return f.models_[1].size() == 3; }));
  for (std::string id : {"1", "2"}) {
    Row want = {id};
    want.insert(want.end(), kTypesExpected.begin(), kTypesExpected.end());
    if (!extra_text.empty()) want.push_back(extra_text);
    auto& got = f.models_[1][{id}];
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); i++)
      EXPECT_EQ(got[i], want[i]) << "row " << id << " column " << t.schema.columns[i].name;
  }
  Row nulls(t.schema.columns.size(), "NULL");
  nulls[0] = "3";
  EXPECT_EQ(f.models_[1][{"3"}], nulls);
  f.source_->Stop();
  EXPECT_TRUE(f.source_->DropUpstream());
  EXPECT_EQ(pg.Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'slot_" + name + "'"), "0");
  EXPECT_EQ(pg.Value("SELECT count(*) FROM pg_publication WHERE pubname = 'pub_" + name + "'"), "0");
}

TEST(PostgresSource, AllTypesInBinaryForm) {
  NEED_SERVER();
  AllTypes("types_binary", "", "", "");
}
TEST(PostgresSource, AllTypesInTextForm) {
  NEED_SERVER();
  AllTypes("types_text", ", c_range int4range", ", '[1,5)'", "[1,5)");
}

TEST(PostgresSource, ValuesWithoutAPlaceAreRejectedAndResolved) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run(
      "CREATE TABLE odd (id int PRIMARY KEY, n numeric, d date, big text); INSERT INTO odd VALUES (1, 'NaN', "
      "'infinity', 'x'), (2, 1, NULL, 'y'), "
      "(3, 0.12345678901, NULL, 'z')");
  auto options = WithOptions(pg, "odd");
  Follower f(options, {Table(*Make(options), 1, "odd")});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  EXPECT_EQ(f.models_[1].size(), 1u);
  ASSERT_EQ(f.rejected_.size(), 2u);
  EXPECT_EQ(f.rejected_["1:1"].column, "n");
  EXPECT_EQ(f.rejected_["1:1"].value, "NaN");
  EXPECT_NE(f.rejected_["1:1"].hint.find("VARCHAR"), std::string::npos);
  EXPECT_EQ(f.rejected_["1:3"].value, "0.12345678901");
  f.Save();
  f.Kill();  // what was rejected is known after a restart
  f.Start();
  pg.Run(
      "UPDATE odd SET n = 5 WHERE id = 1; DELETE FROM odd WHERE id = 3; UPDATE odd SET n = 1e30 WHERE id = 2; INSERT "
      "INTO odd VALUES (4, 'Infinity')");
  ASSERT_TRUE(f.Until([&] { return f.rejected_.contains("1:4") && f.models_[1].contains({"1"}); }));
  EXPECT_EQ(f.models_[1].begin()->second, (Row{"1", "5.0000000000", "infinity", "x"}));
  EXPECT_EQ(f.rejected_["1:2"].value, "1000000000000000000000000000000");
  EXPECT_EQ(f.rejected_["1:4"].value, "Infinity");
  pg.Run("UPDATE odd SET id = 5, n = 0 WHERE id = 2; TRUNCATE odd");
  ASSERT_TRUE(f.Until([&] { return f.rejected_.empty() && f.models_[1].empty(); }));
}

TEST(PostgresSource, DeclaredTypesAndSubsetOfColumns) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run(
      "CREATE TABLE declared (id int PRIMARY KEY, n numeric, skipped inet, ts timestamptz, i int); INSERT INTO "
      "declared VALUES (1, 'NaN', '10.0.0.1', "
      "'2024-01-01 00:00+00', 7)");
  auto options = WithOptions(pg, "declared");
  Schema schema;
  schema.columns = {{"i", LogicalType::DOUBLE, false, 0},
                    {"id", LogicalType::BIGINT, true, 0},
                    {"n", LogicalType::VARCHAR, false, 0},
                    {"ts", LogicalType::VARCHAR, false, 0}};
  schema.primary_key = {1};
  Follower f(options, {{1, "declared", schema, {}, {}}});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  pg.Run("INSERT INTO declared VALUES (2, 1.50, NULL, NULL, 8)");
  ASSERT_TRUE(f.Until([&] { return f.models_[1].size() == 2; }));
  EXPECT_EQ(f.models_[1][{"1"}], (Row{"7.0", "1", "NaN", "2024-01-01 00:00:00+00"}));
  EXPECT_EQ(f.models_[1][{"2"}], (Row{"8.0", "2", "1.50", "NULL"}));
  // Statements that do not fit.
  auto refused = [&](Schema s) {
    auto status = f.source_->AddTable({9, "declared", s, {}, {}});
    return status ? std::string("accepted") : status.error().sqlstate;
  };
  auto other = schema;
  other.columns[0].name = "nope";
  EXPECT_EQ(refused(other), "42703");
  other = schema;
  other.primary_key = {0};
  EXPECT_EQ(refused(other), "42P16");
  other.primary_key = {};
  EXPECT_EQ(refused(other), "0A000");
}

TEST(PostgresSource, UnchangedLargeValuesKeyChangesAndTruncate) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run(
      "CREATE TABLE toast (id int PRIMARY KEY, n int, big text); ALTER TABLE toast ALTER big SET STORAGE EXTERNAL; "
      "CREATE TABLE toast_full (LIKE toast INCLUDING ALL); ALTER TABLE toast_full REPLICA IDENTITY FULL");
  for (std::string t : {"toast", "toast_full"})
    pg.Run("INSERT INTO " + t + " SELECT i, i, repeat(i::text, 10000) FROM generate_series(1, 5) i");
  auto options = WithOptions(pg, "toast");
  auto source = Make(options);
  Follower f(options, {Table(*source, 1, "toast"), Table(*source, 2, "toast_full")});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  for (std::string t : {"toast", "toast_full"})
    pg.Run("UPDATE " + t + " SET n = n + 100 WHERE id <= 3; UPDATE " + t +
           " SET id = id + 1000 WHERE id IN (1, 2); UPDATE " + t + " SET big = 'small' WHERE id = 4; DELETE FROM " + t +
           " WHERE id = 5");
  auto same = [&] { return f.models_[1] == Select(pg, "toast", 1) && f.models_[2] == Select(pg, "toast_full", 1); };
  ASSERT_TRUE(f.Until(same)) << Explain(f.models_[1], Select(pg, "toast", 1))
                             << Explain(f.models_[2], Select(pg, "toast_full", 1));
  pg.Run("TRUNCATE toast, toast_full; INSERT INTO toast VALUES (1, 1, 'again')");
  ASSERT_TRUE(f.Until([&] { return same() && f.models_[1].size() == 1 && f.models_[2].empty(); }));
}

TEST(PostgresSource, LargeTransactionsAreCutAndStayWhole) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run("CREATE TABLE large (id int PRIMARY KEY, v int)");
  auto options = WithOptions(pg, "large");
  Follower f(options, {Table(*Make(options), 1, "large")});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  pg.Run("BEGIN; INSERT INTO large SELECT i, i FROM generate_series(1, 50000) i; UPDATE large SET v = v + 1; COMMIT");
  size_t before = f.continued_;
  std::set<size_t> sizes;
  ASSERT_TRUE(f.Until(
      [&] {
        sizes.insert(f.models_[1].size());
        return f.models_[1].size() == 50000;
      },
      30, 1000));
  EXPECT_LE(sizes.size(), 2u);  // nothing or everything, at the end of an epoch
  EXPECT_GT(f.continued_, before + 20);
  EXPECT_EQ(f.models_[1], Select(pg, "large", 1));
}

TEST(PostgresSource, TablesComeAndGoWhileStreaming) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run(
      "CREATE TABLE first (id int PRIMARY KEY, v text); CREATE TABLE second (id int PRIMARY KEY, v text); INSERT INTO "
      "first VALUES (1, 'a'); "
      "INSERT INTO second SELECT i, 'x' FROM generate_series(1, 10000) i");
  auto options = WithOptions(pg, "tables");
  auto source = Make(options);
  auto first = Table(*source, 1, "first"), second = Table(*source, 2, "second");
  Follower f(options, {});
  f.Start();
  ASSERT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kStreaming; }));
  for (auto& t : {first, second}) {
    f.AddTable(t);
    auto status = f.source_->AddTable(t);
    ASSERT_TRUE(status) << status.error().ToString();
    pg.Run("UPDATE second SET v = v || 'y' WHERE id % 100 = 0");
  }
  ASSERT_TRUE(f.UntilLoaded()) << f.source_->GetStatus().error.value_or(Error{}).ToString();
  pg.Run("UPDATE second SET v = 'end' WHERE id = 1; INSERT INTO first VALUES (2, 'b')");
  auto same = [&] { return f.models_[1] == Select(pg, "first", 1) && f.models_[2] == Select(pg, "second", 1); };
  ASSERT_TRUE(f.Until(same)) << Explain(f.models_[2], Select(pg, "second", 1));
  ASSERT_TRUE(f.source_->RemoveTable(2));
  EXPECT_EQ(pg.Value("SELECT count(*) FROM pg_publication_tables WHERE pubname = 'pub_tables'"), "1");
  pg.Run("INSERT INTO second VALUES (0, '')");
  pg.Run("INSERT INTO first VALUES (3, 'c')");
  ASSERT_TRUE(f.Until([&] { return f.models_[1].size() == 3; }));
}

TEST(PostgresSource, FollowsRenamedAddedAndDroppedColumns) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run("CREATE TABLE shape (id int PRIMARY KEY, a int, b text, c int); INSERT INTO shape VALUES (1, 1, 'one', 1)");
  auto options = WithOptions(pg, "shape");
  Follower f(options, {Table(*Make(options), 1, "shape")});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  pg.Run(
      "ALTER TABLE shape RENAME a TO renamed; ALTER TABLE shape ADD COLUMN a text DEFAULT 'new'; INSERT INTO shape "
      "(id, renamed, b, c) VALUES (2, 2, 'two', 2)");
  ASSERT_TRUE(f.Until([&] { return f.models_[1].size() == 2; }));
  EXPECT_EQ(f.models_[1][{"2"}], (Row{"2", "2", "two", "2"}));
  f.Save();
  f.Kill();
  f.Start();
  pg.Run("ALTER TABLE shape DROP COLUMN c; INSERT INTO shape (id, renamed, b) VALUES (3, 3, 'three')");
  ASSERT_TRUE(f.Until([&] { return f.models_[1].size() == 3; }));
  EXPECT_EQ(f.models_[1][{"3"}], (Row{"3", "3", "three", "NULL"}));
  pg.Run(
      "ALTER TABLE shape ALTER renamed TYPE bigint; INSERT INTO shape (id, renamed, b) VALUES (4, 4, 'four'), (5, "
      "3000000000, 'big')");
  ASSERT_TRUE(f.Until([&] { return f.rejected_.size() == 1; }));
  EXPECT_EQ(f.models_[1][{"4"}], (Row{"4", "4", "four", "NULL"}));
  pg.Run(
      "ALTER TABLE shape ALTER renamed TYPE text USING renamed::text; INSERT INTO shape (id, renamed, b) VALUES (6, "
      "'6', 'six')");
  ASSERT_TRUE(f.Until([&] { return f.models_[1].contains({"6"}); }));
  EXPECT_EQ(f.models_[1][{"6"}], (Row{"6", "6", "six", "NULL"}));
}

/// Random writers beside the load, kills at random moments.
void RandomRun(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  auto pick = [&](int n) { return int(random() % uint64_t(n)); };
  auto& pg = *Server();
  std::string suffix = "random_" + std::to_string(seed);
  std::vector<std::string> names = {"ra_" + std::to_string(seed), "rb_" + std::to_string(seed)};
  int rows = 200 + pick(3000);
  for (auto& n : names) {
    pg.Run("CREATE TABLE " + n + " (k1 int, k2 text, v int, big text, PRIMARY KEY (k2, k1)); ALTER TABLE " + n +
           " ALTER big SET STORAGE EXTERNAL; INSERT INTO " + n +
           " SELECT i, (i % 7)::text, i, CASE WHEN i % 3 = 0 THEN repeat('b', 3000) || i ELSE 's' END FROM "
           "generate_series(1, " +
           std::to_string(rows) + ") i");
    if (pick(4) == 0) pg.Run("ALTER TABLE " + n + " REPLICA IDENTITY FULL");
  }
  auto options = WithOptions(pg, suffix);
  options["load.chunk.rows"] = std::to_string(20 + pick(300));
  auto source = Make(options);
  std::vector<SourceTable> tables = {Table(*source, 1, names[0]), Table(*source, 2, names[1])};
  source.reset();
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (int w = 0; w < 3; w++) {
    writers.emplace_back([&, w, s = seed * 10 + uint64_t(w)] {
      std::mt19937_64 r(s);
      auto at = [&](int n) { return int(r() % uint64_t(n)); };
      auto* c = PQconnectdb(pg.SocketDsn().c_str());
      auto run = [&](const std::string& sql) {
        auto* result = PQexec(c, sql.c_str());
        bool ok = PQresultStatus(result) == PGRES_COMMAND_OK;
        PQclear(result);
        return ok;
      };
      while (!stop) {
        run("BEGIN");
        if (w == 2 && at(2)) run("SELECT pg_sleep(0.02)");
        int n = 1 + at(4);
        bool ok = true;
        for (int i = 0; i < n && ok; i++) {
          auto& t = names[size_t(at(2))];
          auto id = std::to_string(1 + at(rows + 100));
          switch (at(12)) {
            case 0:
            case 1:
            case 2:
              ok = run("UPDATE " + t + " SET v = v + 1 WHERE k1 = " + id);
              break;
            case 3:
              ok = run("UPDATE " + t + " SET big = repeat('c', " + std::to_string(at(6000)) + ") WHERE k1 = " + id);
              break;
            case 4:
            case 5:
              ok = run("UPDATE " + t + " SET k2 = '" + std::to_string(at(9)) + "' WHERE k1 = " + id);
              break;
            case 6:
              ok = run("DELETE FROM " + t + " WHERE k1 = " + id);
              break;
            case 7:
            case 8:
              ok = run("INSERT INTO " + t + " VALUES (" + id + ", '" + std::to_string(at(9)) + "', 0, repeat('i', " +
                       std::to_string(at(4000)) + ")) ON CONFLICT (k2, k1) DO UPDATE SET v = " + t + ".v + 1");
              break;
            case 9:
              ok = run("UPDATE " + t + " SET v = v + 1 WHERE k1 % 50 = " + std::to_string(at(50)));
              break;
            case 10:
              if (at(200) == 0) ok = run("TRUNCATE " + t);
              break;
            default:
              ok = run("SAVEPOINT s; UPDATE " + t + " SET v = -1 WHERE k1 = " + id + "; ROLLBACK TO s");
              break;
          }
        }
        run(ok && at(10) ? "COMMIT" : "ROLLBACK");
      }
      PQfinish(c);
    });
  }
  Follower f(options, tables);
  f.history_on_ = true;
  f.Start();
  auto until = MonotonicMicros() + 1'500'000 + pick(1'000'000);
  while (MonotonicMicros() < until) {
    auto pause = MonotonicMicros() + pick(300'000);
    while (MonotonicMicros() < pause) {
      if (!f.Step(size_t(1 + pick(500)))) std::this_thread::sleep_for(std::chrono::microseconds(300));
      if (pick(10) == 0) f.Save();
    }
    if (pick(3) == 0) {
      f.Kill();
      f.Start();
    }
  }
  stop = true;
  for (auto& w : writers) w.join();
  auto want1 = Select(pg, names[0], 2, "k2, k1, v, big"), want2 = Select(pg, names[1], 2, "k2, k1, v, big");
  auto reorder = [](const TableModel& m) {  // the model's rows are k1, k2, v, big under the key (k2, k1)
    TableModel out;
    for (auto& [k, r] : m) out[k] = {r[1], r[0], r[2], r[3]};
    return out;
  };
  EXPECT_TRUE(f.Until(
      [&] { return f.loaded_.size() == 2 && reorder(f.models_[1]) == want1 && reorder(f.models_[2]) == want2; }, 20))
      << "loaded " << f.loaded_.size() << "\n"
      << Explain(reorder(f.models_[1]), want1) << Explain(reorder(f.models_[2]), want2)
      << f.source_->GetStatus().error.value_or(Error{}).ToString();
  for (int t = 0; t < 2 && testing::Test::HasFailure(); t++) {
    int shown = 0;
    for (auto& [k, r] : t ? want2 : want1)
      if (auto m = reorder(f.models_[ObjectId(t + 1)]); m[k] != r && shown++ < 3)
        std::cout << "history of " << k[0] << "|" << k[1] << ": " << f.History(ObjectId(t + 1), k) << "\n";
  }
  f.source_->Stop();
  EXPECT_TRUE(f.source_->DropUpstream());
  pg.Run("DROP TABLE " + names[0] + ", " + names[1]);
}

TEST(PostgresSource, LoadAndStreamMeetExactly) {
  NEED_SERVER();
  auto* runs = getenv("TIDEWATER_RANDOM_RUNS");
  auto* seed = getenv("TIDEWATER_SEED");
  uint64_t first = seed ? strtoull(seed, nullptr, 10) : 1;
  for (uint64_t i = 0; i < (runs ? strtoull(runs, nullptr, 10) : 4); i++) {
    RandomRun(first + i);
    if (HasFailure()) break;
  }
}

// ---- trouble

TEST(PostgresTrouble, ServerRestartsAreSurvived) {
  auto pg = PostgresServer::Start({{"shared_buffers", "64MB"}});
  if (!pg) GTEST_SKIP();
  pg->Run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)");
  auto options = WithOptions(*pg, "restart");
  Follower f(options, {Table(*Make(options), 1, "t")});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  for (bool immediate : {false, true}) {
    pg->Run("INSERT INTO t SELECT max(id) + 1, 0 FROM t");
    pg->Stop(immediate);
    ASSERT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kRetrying; }));
    auto status = f.source_->GetStatus();
    ASSERT_TRUE(status.error);
    EXPECT_NE(status.error->detail.find("attempt"), std::string::npos);
    EXPECT_GT(status.retries, 0u);
    pg->StartAgain();
    pg->Run("UPDATE t SET v = v + 1");
    ASSERT_TRUE(f.Until([&] { return f.models_[1] == Select(*pg, "t", 1); }))
        << Explain(f.models_[1], Select(*pg, "t", 1));
    EXPECT_EQ(f.source_->GetStatus().state, SourceState::kStreaming);
    EXPECT_FALSE(f.source_->GetStatus().error);
  }
  // In the middle of a large transaction: it comes again, and only the rest is taken.
  pg->Run("INSERT INTO t SELECT i, 0 FROM generate_series(10, 200000) i");
  while (f.continued_ < 3) f.Step(100);
  EXPECT_TRUE(f.in_transaction_);
  pg->Run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'");
  ASSERT_TRUE(f.Until([&] { return f.models_[1].size() > 199990 && f.models_[1] == Select(*pg, "t", 1); }));
  EXPECT_GT(f.source_->GetStatus().retries, 2u);
}

TEST(PostgresTrouble, WrongPasswordWaitsForAlter) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run("CREATE TABLE pw (id int PRIMARY KEY)");
  auto options = WithOptions(pg, "pw");
  auto t = Table(*Make(options), 1, "pw");
  options["password"] = "wr0ng";
  EXPECT_EQ(Make(options)->Describe("pw").error().sqlstate, "28P01");
  Follower f(options, {t});
  f.Start();
  ASSERT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kFailed; }));
  auto e = *f.source_->GetStatus().error;
  EXPECT_EQ(e.sqlstate, "28P01");
  EXPECT_EQ((e.message + e.detail + e.hint).find("wr0ng"), std::string::npos);
  EXPECT_NE(e.hint.find("ALTER SOURCE test SET"), std::string::npos);
  EXPECT_EQ(PostgresCdcConnector().make({8, "new", options, {}}).value()->Start("").error().sqlstate, "28P01");
  EXPECT_EQ(f.source_->Alter({{"port", "x"}}).error().sqlstate, "22023");
  ASSERT_TRUE(f.source_->Alter({{"password", pg.password()}}));
  EXPECT_TRUE(f.UntilLoaded());
}

TEST(PostgresTrouble, LostSlotWaitsForAlterAndLoadsAgain) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run("CREATE TABLE lost (id int PRIMARY KEY, v int); INSERT INTO lost SELECT i, 0 FROM generate_series(1, 100) i");
  auto options = WithOptions(pg, "lost");
  Follower f(options, {Table(*Make(options), 1, "lost")});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  f.Save();
  f.Kill();
  // The server takes a moment to notice that the stream has ended.
  while (pg.Value("SELECT active FROM pg_replication_slots WHERE slot_name = 'slot_lost'") == "t")
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  pg.Run(
      "SELECT pg_drop_replication_slot('slot_lost'); DELETE FROM lost WHERE id < 50; UPDATE lost SET v = 1 WHERE id > "
      "90");
  f.Start();
  ASSERT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kFailed; }));
  auto e = *f.source_->GetStatus().error;
  EXPECT_NE(e.message.find("slot_lost"), std::string::npos);
  EXPECT_NE(e.hint.find("ALTER SOURCE"), std::string::npos);
  f.loaded_.clear();
  ASSERT_TRUE(f.source_->Alter({}));
  ASSERT_TRUE(f.Until([&] { return f.loaded_.size() == 1 && f.models_[1] == Select(pg, "lost", 1); }))
      << Explain(f.models_[1], Select(pg, "lost", 1));
}

TEST(PostgresTrouble, PublicationThatMissesATable) {
  NEED_SERVER();
  auto& pg = *Server();
  pg.Run(
      "CREATE TABLE pm1 (id int PRIMARY KEY, v int); CREATE TABLE pm2 (id int PRIMARY KEY, v int); INSERT INTO pm1 "
      "VALUES (1, 1); INSERT INTO pm2 VALUES (1, "
      "1); CREATE PUBLICATION pub_pm FOR TABLE pm1");
  auto options = WithOptions(pg, "pm");
  auto source = Make(options);
  auto t1 = Table(*source, 1, "pm1"), t2 = Table(*source, 2, "pm2");
  {
    Follower f(options, {t1, t2});
    f.Start();
    ASSERT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kFailed; }));
    auto e = *f.source_->GetStatus().error;
    EXPECT_NE(e.message.find("public.pm2"), std::string::npos);
    EXPECT_NE(e.hint.find("ALTER PUBLICATION \"pub_pm\" ADD TABLE \"public\".\"pm2\""), std::string::npos);
    pg.Run("ALTER PUBLICATION pub_pm ADD TABLE pm2");
    ASSERT_TRUE(f.source_->Alter({}));
    ASSERT_TRUE(f.UntilLoaded());
    // Taken out while running: noticed, named, and loaded again once it is back.
    pg.Run("ALTER PUBLICATION pub_pm DROP TABLE pm2; INSERT INTO pm2 VALUES (2, 2)");
    ASSERT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kFailed; }));
    pg.Run("DELETE FROM pm2 WHERE id = 1; ALTER PUBLICATION pub_pm ADD TABLE pm2");
    f.loaded_.erase(2);
    ASSERT_TRUE(f.source_->Alter({}));
    ASSERT_TRUE(f.Until([&] { return f.loaded_.size() == 2 && f.models_[2] == Select(pg, "pm2", 1); }));
    f.source_->Stop();
    ASSERT_TRUE(f.source_->DropUpstream());
  }
  EXPECT_EQ(pg.Value("SELECT count(*) FROM pg_publication WHERE pubname = 'pub_pm'"), "1");  // not ours
  EXPECT_EQ(pg.Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'slot_pm'"), "0");
  {
    pg.Run("ALTER PUBLICATION pub_pm DROP TABLE pm2");
    Follower f(options, {t1});
    f.Start();
    ASSERT_TRUE(f.UntilLoaded());
    auto status = f.source_->AddTable(t2);
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().hint.find("ADD TABLE"), std::string::npos);
  }
}

TEST(PostgresTrouble, WalLevelIsNamed) {
  auto pg = PostgresServer::Start({{"wal_level", "replica"}, {"shared_buffers", "64MB"}});
  if (!pg) GTEST_SKIP();
  Follower f(WithOptions(*pg, "wal"), {});
  f.Start();
  ASSERT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kFailed; }));
  EXPECT_NE(f.source_->GetStatus().error->message.find("wal_level is replica"), std::string::npos);
  EXPECT_NE(f.source_->GetStatus().error->hint.find("ALTER SYSTEM"), std::string::npos);
  pg->StartAgain({{"wal_level", "logical"}});
  ASSERT_TRUE(f.source_->Alter({}));
  EXPECT_TRUE(f.Until([&] { return f.source_->GetStatus().state == SourceState::kStreaming; }));
}

TEST(PostgresTrouble, AnIdleSlotAdvancesAndASlowEngineIsBorne) {
  auto pg = PostgresServer::Start({{"wal_sender_timeout", "2s"}, {"shared_buffers", "64MB"}});
  if (!pg) GTEST_SKIP();
  pg->Run("CREATE TABLE followed (id int PRIMARY KEY, v text); CREATE TABLE other (id int)");
  auto options = WithOptions(*pg, "idle");
  Follower f(options, {Table(*Make(options), 1, "followed")});
  f.Start();
  ASSERT_TRUE(f.UntilLoaded());
  auto position = [&] {
    return *postgres::LsnFromText(pg->Value("SELECT confirmed_flush_lsn FROM pg_replication_slots"));
  };
  pg->Run("INSERT INTO other SELECT generate_series(1, 100000)");
  auto target = *postgres::LsnFromText(pg->Value("SELECT pg_current_wal_lsn()"));
  ASSERT_TRUE(f.Until([&] {
    f.Save();
    return position() >= target;
  }));
  // Nobody polls for longer than wal_sender_timeout, with more to send than is buffered.
  pg->Run("INSERT INTO followed SELECT i, repeat('x', 200) FROM generate_series(1, 400000) i");
  std::this_thread::sleep_for(std::chrono::seconds(4));
  EXPECT_EQ(f.source_->GetStatus().state, SourceState::kStreaming);
  EXPECT_EQ(f.source_->GetStatus().retries, 0u);
  EXPECT_GT(f.source_->GetStatus().lag_bytes, 0);
  ASSERT_TRUE(f.Until([&] { return f.models_[1].size() == 400000; }, 60));
  EXPECT_EQ(f.source_->GetStatus().retries, 0u);
}

}  // namespace
}  // namespace tidewater
