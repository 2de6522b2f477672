#include "tidewater/sinks/iceberg/iceberg_sink.h"
#include <gtest/gtest.h>
#include <httplib.h>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/rest_server.h"
#include "tidewater/iceberg/scan.h"
#include "tidewater/lake/data_reader.h"
#include "tidewater/lake/types.h"
#include "tidewater/lake/warehouse.h"

namespace tidewater {
namespace {

using duckdb::Value;
using Row = duckdb::vector<Value>;

std::string Text(const Row& row) {
  std::string text;
  for (auto& v : row) text += v.ToString() + "|";
  return text;
}

/// Passes everything on, unless a test says otherwise.
class FaultyCatalog : public iceberg::Catalog {
 public:
  explicit FaultyCatalog(std::shared_ptr<iceberg::Catalog> inner) : inner_(std::move(inner)) {}

  /// What happens to the next commits, first one first.
  enum Fault { kNone, kUnknownAndDone, kUnknownAndLost, kUnknownAndLate, kUnavailable, kAuthentication };
  std::vector<Fault> faults;
  std::function<void()> before_commit;

  Result<std::vector<iceberg::Namespace>> ListNamespaces(const iceberg::Namespace& p) override {
    return inner_->ListNamespaces(p);
  }
  Status CreateNamespace(const iceberg::Namespace& n, const iceberg::Properties& p) override {
    return inner_->CreateNamespace(n, p);
  }
  Result<iceberg::Properties> LoadNamespace(const iceberg::Namespace& n) override { return inner_->LoadNamespace(n); }
  Status UpdateNamespace(const iceberg::Namespace& n, const iceberg::Properties& s,
                         const std::vector<std::string>& r) override {
    return inner_->UpdateNamespace(n, s, r);
  }
  Status DropNamespace(const iceberg::Namespace& n) override { return inner_->DropNamespace(n); }
  Result<std::vector<iceberg::TableIdent>> ListTables(const iceberg::Namespace& n) override {
    return inner_->ListTables(n);
  }
  Result<iceberg::Table> CreateTable(const iceberg::TableIdent& i, const iceberg::TableSpec& s) override {
    return inner_->CreateTable(i, s);
  }
  Result<iceberg::Table> LoadTable(const iceberg::TableIdent& i) override { return inner_->LoadTable(i); }
  Result<iceberg::Table> Commit(const iceberg::TableCommit& commit) override {
    if (auto hook = std::exchange(before_commit, nullptr)) hook();
    if (late_) {
      // The request of before arrives now, ahead of this one.
      auto late = std::exchange(late_, std::nullopt);
      (void)inner_->Commit(*late);
    }
    Fault fault = kNone;
    if (!faults.empty()) {
      fault = faults.front();
      faults.erase(faults.begin());
    }
    switch (fault) {
      case kNone:
        break;
      case kUnknownAndDone:
        (void)inner_->Commit(commit);
        return std::unexpected(EnvError(ErrorKind::kCommitStateUnknown, "the answer got lost"));
      case kUnknownAndLost:
        return std::unexpected(EnvError(ErrorKind::kCommitStateUnknown, "the request got lost"));
      case kUnknownAndLate:
        late_ = commit;
        return std::unexpected(EnvError(ErrorKind::kCommitStateUnknown, "the request is late"));
      case kUnavailable:
        return std::unexpected(EnvError(ErrorKind::kUnavailable, "not now"));
      case kAuthentication:
        return std::unexpected(EnvError(ErrorKind::kAuthentication, "who are you"));
    }
    return inner_->Commit(commit);
  }
  Status DropTable(const iceberg::TableIdent& i, bool p) override { return inner_->DropTable(i, p); }
  Status RenameTable(const iceberg::TableIdent& f, const iceberg::TableIdent& t) override {
    return inner_->RenameTable(f, t);
  }
  Result<iceberg::Table> RegisterTable(const iceberg::TableIdent& i, const std::string& m) override {
    return inner_->RegisterTable(i, m);
  }

 private:
  std::shared_ptr<iceberg::Catalog> inner_;
  std::optional<iceberg::TableCommit> late_;
};

class IcebergSinkTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::temp_directory_path() / ("tidewater-sink-" + iceberg::NewUuid());
    std::filesystem::create_directories(dir_);
    options_.id = 1;
    options_.name = "s";
    options_.uuid = iceberg::NewUuid();
    options_.generation = 1;
    options_.state_dir = dir_.string();
    options_.options = {{"connector", "iceberg"},
                        {"type", "upsert"},
                        {"database.name", "db"},
                        {"table.name", "t"},
                        {"create_table_if_not_exists", "true"}};
    options_.input.columns = {{"id", LogicalType::BIGINT, true, 0},
                              {"v", LogicalType::INTEGER, false, 0},
                              {"s", LogicalType::VARCHAR, false, 0}};
    options_.input.primary_key = {0};
  }
  void TearDown() override {
    sink_.reset();
    catalog_.reset();
    std::filesystem::remove_all(dir_);
  }

  std::shared_ptr<iceberg::Catalog> Catalog() {
    auto opened = lake::OpenWarehouse(lake::DefaultWarehouse(dir_.string()), {});
    EXPECT_TRUE(opened.has_value()) << opened.error().ToString();
    return *opened;
  }
  iceberg::Table Load() {
    auto table = Catalog()->LoadTable({{"db"}, "t"});
    EXPECT_TRUE(table.has_value()) << table.error().ToString();
    return *table;
  }

  Status Start() {
    sink_.reset();
    if (!catalog_) catalog_ = std::make_shared<FaultyCatalog>(Catalog());
    auto made = MakeIcebergSink(options_,
                                [this](auto&, auto&) -> Result<std::shared_ptr<iceberg::Catalog>> { return catalog_; });
    if (!made) return std::unexpected(made.error());
    sink_ = std::move(*made);
    return sink_->Start();
  }
  void MustStart() {
    auto status = Start();
    ASSERT_TRUE(status.has_value()) << status.error().ToString();
  }

  using Deltas = std::vector<std::pair<Row, int64_t>>;
  DeltaBatch Batch(const Deltas& deltas) {
    DeltaBatch batch;
    batch.types = options_.input.GetTypes();
    for (auto& [row, weight] : deltas) batch.AppendRow(row, weight);
    return batch;
  }
  Status Wait(CheckpointId id) { return sink_->WaitCommitted(id, 120'000); }
  void MustCommit(CheckpointId id, const Deltas& deltas) {
    sink_->Append(id, Batch(deltas));
    sink_->CheckpointDurable(id, 0);
    auto status = Wait(id);
    ASSERT_TRUE(status.has_value()) << status.error().ToString();
  }

  std::multiset<std::string> ReadAll() {
    std::multiset<std::string> rows;
    auto status = lake::ReadTable(Load(), [&](DataChunk& chunk) -> Status {
      for (size_t i = 0; i < chunk.size(); i++) {
        Row row;
        for (size_t c = 0; c < chunk.ColumnCount(); c++) row.push_back(chunk.GetValue(c, i));
        rows.insert(Text(row));
      }
      return {};
    });
    EXPECT_TRUE(status.has_value()) << status.error().ToString();
    return rows;
  }
  std::vector<iceberg::FileScanTask> Tasks() {
    auto table = Load();
    auto tasks = iceberg::PlanScan(*table.files, *table.metadata, *table.metadata->CurrentSnapshot());
    EXPECT_TRUE(tasks.has_value());
    return *tasks;
  }
  static Row Three(int64_t id, int v, std::string s) {
    return {Value::BIGINT(id), Value::INTEGER(v), Value(std::move(s))};
  }

  /// Random changes over `commits` checkpoints with restarts and replays, compared after each commit.
  void Random(int format_version, uint32_t seed, std::function<Row(int key, int version)> make, int keys, int commits) {
    options_.options["format-version"] = std::to_string(format_version);
    std::mt19937 random(seed);
    std::map<int, int> live;  // key -> version
    std::map<CheckpointId, Deltas> log;
    int next_version = 1;
    MustStart();
    CheckpointId id = 0;
    for (int n = 0; n < commits; n++) {
      int checkpoints = 1 + random() % 3;
      for (int c = 0; c < checkpoints; c++) {
        id++;
        Deltas deltas;
        int changes = random() % 60;
        if (n == 0 || random() % 10 == 0) changes = 3000;
        bool inserts_only = n == 0;
        for (int i = 0; i < changes; i++) {
          int key = random() % keys;
          auto it = live.find(key);
          if (it == live.end()) {
            live[key] = next_version;
            deltas.push_back({make(key, next_version++), 1});
          } else if (!inserts_only) {
            deltas.push_back({make(key, it->second), -1});
            if (random() % 3) {
              it->second = next_version;
              deltas.push_back({make(key, next_version++), 1});
            } else {
              live.erase(it);
            }
          }
        }
        // Within a checkpoint the order says nothing.
        if (random() % 2) std::shuffle(deltas.begin(), deltas.end(), random);
        size_t half = deltas.size() / 2;
        sink_->Append(id, Batch(Deltas(deltas.begin(), deltas.begin() + half)));
        sink_->Append(id, Batch(Deltas(deltas.begin() + half, deltas.end())));
        log[id] = std::move(deltas);
        if (random() % 2) sink_->CheckpointDurable(id, 0);
      }
      if (random() % 6 == 0) {
        // A crash: some of it is committed, some is not, and all of it comes again.
        options_.generation++;
        MustStart();
        for (auto& [replayed, deltas] : log)
          if (replayed + 5 > id) sink_->Append(replayed, Batch(deltas));
      }
      sink_->CheckpointDurable(id, 0);
      auto status = Wait(id);
      ASSERT_TRUE(status.has_value()) << status.error().ToString();
      std::multiset<std::string> expected;
      for (auto& [key, version] : live) expected.insert(Text(make(key, version)));
      ASSERT_EQ(ReadAll(), expected) << "after checkpoint " << id << ", seed " << seed;
    }
    auto stamp = FindStamp(*Load().metadata, options_.uuid);
    ASSERT_TRUE(stamp.has_value());
    EXPECT_LE(stamp->checkpoint, id);
    for (auto& task : Tasks()) EXPECT_TRUE(task.equality_deletes.empty());
  }

  std::filesystem::path dir_;
  SinkOptions options_;
  std::shared_ptr<FaultyCatalog> catalog_;
  std::unique_ptr<Sink> sink_;
};

TEST_F(IcebergSinkTest, RandomUpsertsV2) {
  Random(2, 1, [](int key, int version) { return Three(key, version, fmt::format("row {}", version % 17)); }, 5000, 30);
}
TEST_F(IcebergSinkTest, RandomUpsertsV3) {
  Random(3, 2, [](int key, int version) { return Three(key, version, fmt::format("row {}", version % 17)); }, 5000, 30);
}
TEST_F(IcebergSinkTest, RandomUpsertsOfFewKeys) {
  Random(2, 3, [](int key, int version) { return Three(key, version, "x"); }, 20, 40);
}
TEST_F(IcebergSinkTest, RandomUpsertsWithTextKeys) {
  options_.input.columns = {{"name", LogicalType::VARCHAR, false, 0},
                            {"part", LogicalType::SMALLINT, false, 0},
                            {"amount", LogicalType::DECIMAL(12, 2), false, 0}};
  options_.input.primary_key = {0, 1};
  Random(
      3, 4,
      [](int key, int version) {
        return Row{key % 11 ? Value(fmt::format("a rather long name {}", key / 3)) : Value(LogicalType::VARCHAR),
                   Value::SMALLINT(key), Value::DECIMAL(int64_t(version), 12, 2)};
      },
      3000, 40);
}

TEST_F(IcebergSinkTest, ChangesWithinACommitLeaveNoDeletes) {
  MustStart();
  sink_->Append(1, Batch({{Three(1, 1, "a"), 1}, {Three(2, 1, "b"), 1}}));
  sink_->Append(2, Batch({{Three(1, 2, "a"), 1}, {Three(1, 1, "a"), -1}}));
  sink_->Append(2, Batch({{Three(3, 1, "gone"), 1}}));
  sink_->Append(3, Batch({{Three(3, 1, "gone"), -1}, {Three(2, 1, "b"), -1}, {Three(2, 1, "b"), 1}}));
  sink_->CheckpointDurable(3, 0);
  ASSERT_TRUE(Wait(3).has_value());
  EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"1|2|a|", "2|1|b|"}));
  auto tasks = Tasks();
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].file->record_count, 2);
  EXPECT_TRUE(tasks[0].deletes.empty());
  auto snapshots = Load().metadata->snapshots.size();
  // Nothing is left of this one.
  MustCommit(4, {{Three(9, 1, "x"), 1}, {Three(9, 1, "x"), -1}, {Three(1, 2, "a"), -1}, {Three(1, 2, "a"), 1}});
  EXPECT_EQ(Load().metadata->snapshots.size(), snapshots);
}

TEST_F(IcebergSinkTest, FilesWithoutLiveRowsGo) {
  for (auto version : {"2", "3"}) {
    options_.options["format-version"] = version;
    options_.options["table.name"] = "t";
    MustStart();
    CheckpointId id = sink_->GetStatus().committed;
    Deltas first;
    for (int i = 0; i < 100; i++) first.push_back({Three(i, 0, "x"), 1});
    MustCommit(++id, first);
    for (int round = 1; round < 10; round++) {
      Deltas deltas;
      for (int i = 0; i < 100; i++) {
        deltas.push_back({Three(i, round - 1, "x"), -1});
        deltas.push_back({Three(i, round, "x"), 1});
      }
      MustCommit(++id, deltas);
      auto tasks = Tasks();
      EXPECT_EQ(tasks.size(), 1u);
      EXPECT_TRUE(tasks[0].deletes.empty());
    }
    sink_.reset();
    ASSERT_TRUE(Catalog()->DropTable({{"db"}, "t"}, true).has_value());
    options_.uuid = iceberg::NewUuid();
  }
}

TEST_F(IcebergSinkTest, DuplicateKeysStopTheSink) {
  MustStart();
  sink_->Append(1, Batch({{Three(1, 1, "a"), 1}, {Three(1, 2, "b"), 1}, {Three(2, 2, "b"), -1}}));
  sink_->CheckpointDurable(1, 0);
  auto status = Wait(1);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().sqlstate, "23505") << status.error().ToString();
  EXPECT_EQ(sink_->GetStatus().state, SinkState::kFailed);
}

TEST_F(IcebergSinkTest, AppendOnly) {
  options_.options["type"] = "append-only";
  auto status = Start();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().sqlstate, "0A000");
  options_.append_only_input = true;
  options_.input.primary_key.clear();
  MustStart();
  MustCommit(1, {{Three(1, 1, "a"), 1}, {Three(1, 1, "a"), 2}});
  EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"1|1|a|", "1|1|a|", "1|1|a|"}));
  sink_->Append(2, Batch({{Three(1, 1, "a"), -1}}));
  sink_->CheckpointDurable(2, 0);
  ASSERT_FALSE(Wait(2).has_value());

  options_.append_only_input = false;
  options_.options["force_append_only"] = "true";
  MustStart();
  MustCommit(2, {{Three(1, 1, "a"), -1}, {Three(2, 2, "b"), 1}});
  EXPECT_EQ(ReadAll().size(), 4u);
}

TEST_F(IcebergSinkTest, UnknownOutcomes) {
  MustStart();
  using F = FaultyCatalog;
  CheckpointId id = 0;
  std::multiset<std::string> expected;
  for (auto faults : std::vector<std::vector<F::Fault>>{{F::kUnknownAndDone},
                                                        {F::kUnknownAndLost},
                                                        {F::kUnknownAndLate},
                                                        {F::kUnknownAndLost, F::kUnknownAndLate},
                                                        {F::kUnavailable, F::kUnknownAndDone},
                                                        {}}) {
    id++;
    catalog_->faults = faults;
    Deltas deltas{{Three(id, id, "x"), 1}};
    if (id > 1) {
      deltas.push_back({Three(id - 1, id - 1, "x"), -1});
      deltas.push_back({Three(id - 1, -int(id), "y"), 1});
      expected.erase(Text(Three(id - 1, id - 1, "x")));
      expected.insert(Text(Three(id - 1, -int(id), "y")));
    }
    expected.insert(Text(Three(id, id, "x")));
    auto before = sink_->GetStatus();
    MustCommit(id, deltas);
    EXPECT_EQ(ReadAll(), expected) << id;
    EXPECT_EQ(Load().metadata->snapshots.size(), id);
    EXPECT_EQ(sink_->GetStatus().state, SinkState::kRunning);
    if (!faults.empty()) EXPECT_GT(sink_->GetStatus().retries, before.retries);
  }
}

TEST_F(IcebergSinkTest, RefusedCredentialsStopTheSink) {
  MustStart();
  catalog_->faults = {FaultyCatalog::kAuthentication};
  sink_->Append(1, Batch({{Three(1, 1, "a"), 1}}));
  sink_->CheckpointDurable(1, 0);
  auto status = Wait(1);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kAuthentication);
  EXPECT_FALSE(status.error().hint.empty());
}

TEST_F(IcebergSinkTest, OtherWriters) {
  for (auto version : {"2", "3"}) {
    options_.options["format-version"] = version;
    sink_.reset();
    (void)Catalog()->DropTable({{"db"}, "t"}, true);
    options_.uuid = iceberg::NewUuid();
    MustStart();
    MustCommit(1, {{Three(1, 1, "a"), 1}, {Three(2, 1, "b"), 1}, {Three(3, 1, "c"), 1}});

    // Another sink appends between two commits, and once more in the middle of one.
    auto other_options = options_;
    other_options.uuid = iceberg::NewUuid();
    auto append = [&](CheckpointId id, const Deltas& deltas) {
      auto other = MakeIcebergSink(
          other_options, [this](auto&, auto&) -> Result<std::shared_ptr<iceberg::Catalog>> { return Catalog(); });
      ASSERT_TRUE(other.has_value());
      ASSERT_TRUE((*other)->Start().has_value());
      (*other)->Append(id, Batch(deltas));
      (*other)->CheckpointDurable(id, 0);
      auto status = (*other)->WaitCommitted(id, 120'000);
      ASSERT_TRUE(status.has_value()) << status.error().ToString();
    };
    append(1, {{Three(10, 1, "foreign"), 1}});
    MustCommit(2, {{Three(1, 1, "a"), -1}, {Three(1, 2, "a"), 1}});
    catalog_->before_commit = [&] { append(2, {{Three(11, 1, "foreign"), 1}}); };
    MustCommit(3, {{Three(2, 1, "b"), -1}});
    // It is the sink's row now: an update by key reaches it.
    MustCommit(4, {{Three(10, 1, "foreign"), -1}, {Three(10, 2, "ours"), 1}});
    EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"1|2|a|", "3|1|c|", "10|2|ours|", "11|1|foreign|"}));

    // The other one deletes and updates rows: the index is built again, also with a commit under way.
    catalog_->before_commit = [&] {
      append(3, {{Three(3, 1, "c"), -1}, {Three(11, 1, "foreign"), -1}, {Three(11, 2, "again"), 1}});
    };
    MustCommit(5,
               {{Three(1, 2, "a"), -1}, {Three(1, 3, "a"), 1}, {Three(11, 2, "again"), -1}, {Three(11, 3, "mine"), 1}});
    EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"1|3|a|", "10|2|ours|", "11|3|mine|"}));
  }
}

TEST_F(IcebergSinkTest, AKeyThatAnotherWriterInsertedToo) {
  MustStart();
  MustCommit(1, {{Three(1, 1, "a"), 1}});
  auto other_options = options_;
  other_options.uuid = iceberg::NewUuid();
  other_options.options["type"] = "append-only";
  other_options.append_only_input = true;
  auto other = MakeIcebergSink(other_options,
                               [this](auto&, auto&) -> Result<std::shared_ptr<iceberg::Catalog>> { return Catalog(); });
  ASSERT_TRUE(other.has_value());
  ASSERT_TRUE((*other)->Start().has_value());
  (*other)->Append(1, Batch({{Three(1, 7, "foreign"), 1}}));
  (*other)->CheckpointDurable(1, 0);
  ASSERT_TRUE((*other)->WaitCommitted(1, 20'000).has_value());
  sink_->Append(2, Batch({{Three(2, 1, "b"), 1}}));
  sink_->CheckpointDurable(2, 0);
  auto status = Wait(2);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kConflict) << status.error().ToString();
  EXPECT_NE(status.error().hint, "");
}

TEST_F(IcebergSinkTest, AnOlderProcessNeverCommitsAfterANewer) {
  MustStart();
  MustCommit(1, {{Three(1, 1, "a"), 1}});
  auto newer_options = options_;
  newer_options.generation = 2;
  auto newer = MakeIcebergSink(newer_options,
                               [this](auto&, auto&) -> Result<std::shared_ptr<iceberg::Catalog>> { return Catalog(); });
  ASSERT_TRUE(newer.has_value());
  ASSERT_TRUE((*newer)->Start().has_value());
  EXPECT_EQ((*newer)->GetStatus().committed, 1u);
  (*newer)->Append(2, Batch({{Three(2, 2, "newer"), 1}}));
  (*newer)->CheckpointDurable(2, 0);
  ASSERT_TRUE((*newer)->WaitCommitted(2, 20'000).has_value());
  sink_->Append(2, Batch({{Three(2, 2, "older"), 1}}));
  sink_->CheckpointDurable(2, 0);
  auto status = Wait(2);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kConflict);
  EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"1|1|a|", "2|2|newer|"}));
}

TEST_F(IcebergSinkTest, TheStampOutlivesItsSnapshot) {
  options_.options["snapshot_expiration_retain_last"] = "1";
  options_.options["snapshot_expiration_max_age_millis"] = "0";
  MustStart();
  for (CheckpointId id = 1; id <= 40; id++) MustCommit(id, {{Three(id, 1, "a"), 1}});
  EXPECT_LE(Load().metadata->snapshots.size(), 12u);
  EXPECT_EQ(ReadAll().size(), 40u);
  // No snapshot of this sink is left once another one has taken over.
  auto stamp = FindStamp(*Load().metadata, options_.uuid);
  ASSERT_TRUE(stamp.has_value());
  EXPECT_EQ(stamp->checkpoint, 40u);
  auto metadata = *Load().metadata;
  metadata.snapshots.clear();
  ASSERT_TRUE(FindStamp(metadata, options_.uuid).has_value());
  EXPECT_EQ(FindStamp(metadata, options_.uuid)->checkpoint, 40u);
}

TEST_F(IcebergSinkTest, CommitsEveryNthCheckpointAndWhenAsked) {
  options_.options["commit_checkpoint_interval"] = "3";
  MustStart();
  for (CheckpointId id = 1; id <= 2; id++) {
    sink_->Append(id, Batch({{Three(id, 1, "a"), 1}}));
    sink_->CheckpointDurable(id, 0);
  }
  EXPECT_FALSE(Catalog()->LoadTable({{"db"}, "t"})->metadata->current_snapshot_id.has_value());
  EXPECT_EQ(sink_->GetStatus().log_rows, 2u);
  EXPECT_GT(sink_->GetStatus().log_bytes, 0u);
  sink_->Append(3, Batch({{Three(3, 1, "a"), 1}}));
  sink_->CheckpointDurable(3, 0);
  ASSERT_TRUE(Wait(3).has_value());
  EXPECT_EQ(Load().metadata->snapshots.size(), 1u);
  sink_->Append(4, Batch({{Three(4, 1, "a"), 1}}));
  sink_->CheckpointDurable(4, 0);
  ASSERT_TRUE(Wait(4).has_value());  // FLUSH
  EXPECT_EQ(Load().metadata->snapshots.size(), 2u);
  // Asked for a checkpoint that is not durable yet, it does not commit in two pieces.
  sink_->Append(5, Batch({{Three(5, 1, "a"), 1}}));
  sink_->CheckpointDurable(5, 0);
  sink_->Append(6, Batch({{Three(6, 1, "a"), 1}}));
  EXPECT_FALSE(sink_->WaitCommitted(6, 100).has_value());
  EXPECT_EQ(Load().metadata->snapshots.size(), 2u);
  sink_->CheckpointDurable(6, 0);
  ASSERT_TRUE(Wait(6).has_value());
  EXPECT_EQ(Load().metadata->snapshots.size(), 3u);
  EXPECT_EQ(sink_->GetStatus().log_rows, 0u);
  EXPECT_EQ(sink_->GetStatus().log_bytes, 0u);
}

TEST_F(IcebergSinkTest, TheFirstContentIsACommitOfItsOwn) {
  options_.options["commit_checkpoint_interval"] = "100";
  auto content = [this](const Deltas& rows) { return [this, rows] { return Batch(rows); }; };
  MustStart();
  sink_->Load(3, 2, content({{Three(1, 1, "a"), 1}, {Three(2, 1, "b"), 1}}));
  sink_->Append(4, Batch({{Three(1, 1, "a"), -1}, {Three(3, 1, "c"), 1}}));
  EXPECT_EQ(sink_->GetStatus().log_rows, 4u);
  sink_->CheckpointDurable(2, 0);
  EXPECT_FALSE(sink_->WaitCommitted(2, 100).has_value()) << "the content is not durable yet";
  sink_->CheckpointDurable(4, 0);
  ASSERT_TRUE(Wait(3).has_value());
  ASSERT_TRUE(Wait(4).has_value());
  EXPECT_EQ(Load().metadata->snapshots.size(), 2u);
  EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"2|1|b|", "3|1|c|"}));
  EXPECT_EQ(sink_->GetStatus().log_rows, 0u);

  // The engine may not have heard of that: what it hands over again is there already.
  options_.recovered = true;
  options_.generation++;
  MustStart();
  sink_->Load(5, 2, content({{Three(2, 1, "b"), 1}, {Three(3, 1, "c"), 1}}));
  sink_->Append(4, Batch({{Three(1, 1, "a"), -1}, {Three(3, 1, "c"), 1}}));
  sink_->Append(6, Batch({{Three(4, 1, "d"), 1}}));
  sink_->CheckpointDurable(6, 0);
  ASSERT_TRUE(Wait(6).has_value());
  EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"2|1|b|", "3|1|c|", "4|1|d|"}));

  // One that has committed nothing begins with the content of the recovery, in place of the log up to there.
  options_.uuid = iceberg::NewUuid();
  options_.options["table.name"] = "u";
  options_.generation++;
  MustStart();
  sink_->Load(9, 1, content({{Three(7, 1, "g"), 1}}));
  sink_->Append(8, Batch({{Three(6, 1, "f"), 1}}));
  sink_->Append(10, Batch({{Three(8, 1, "h"), 1}}));
  sink_->CheckpointDurable(10, 0);
  ASSERT_TRUE(Wait(10).has_value());
  std::multiset<std::string> rows;
  auto read = lake::ReadTable(*Catalog()->LoadTable({{"db"}, "u"}), [&](DataChunk& chunk) -> Status {
    for (size_t i = 0; i < chunk.size(); i++) rows.insert(chunk.GetValue(0, i).ToString());
    return {};
  });
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(rows, (std::multiset<std::string>{"7", "8"}));

  // An empty content needs no commit.
  options_.uuid = iceberg::NewUuid();
  options_.options["table.name"] = "empty";
  MustStart();
  sink_->Load(11, 0, content({}));
  sink_->CheckpointDurable(11, 0);
  ASSERT_TRUE(Wait(11).has_value());
  EXPECT_TRUE(Catalog()->LoadTable({{"db"}, "empty"})->metadata->snapshots.empty());

  // A table that was there once is not made again, empty.
  options_.established = true;
  options_.options["table.name"] = "gone";
  MustStart();
  sink_->Append(12, Batch({{Three(1, 1, "a"), 1}}));
  sink_->CheckpointDurable(12, 0);
  EXPECT_FALSE(sink_->WaitCommitted(12, 1000).has_value());
  EXPECT_EQ(sink_->GetStatus().state, SinkState::kRetrying);
  EXPECT_NE(sink_->GetStatus().error->message.find("is gone"), std::string::npos);
  EXPECT_FALSE(Catalog()->LoadTable({{"db"}, "gone"}).has_value());
}

TEST_F(IcebergSinkTest, LargeCheckpointsAreCutIntoFiles) {
  options_.options["target_file_size_mb"] = "1";
  constexpr int64_t kRows = 1'200'000;
  MustStart();
  DeltaBatch batch;
  batch.types = options_.input.GetTypes();
  for (int64_t at = 0; at < kRows; at += STANDARD_VECTOR_SIZE) {
    DeltaChunk chunk;
    chunk.rows = std::make_unique<DataChunk>();
    chunk.rows->Initialize(duckdb::Allocator::DefaultAllocator(), batch.types);
    size_t n = std::min<int64_t>(STANDARD_VECTOR_SIZE, kRows - at);
    for (size_t i = 0; i < n; i++) {
      duckdb::FlatVector::GetData<int64_t>(chunk.rows->data[0])[i] = at + i;
      duckdb::FlatVector::GetData<int32_t>(chunk.rows->data[1])[i] = (at + i) * 7919 % 1'000'003;
      duckdb::FlatVector::GetData<duckdb::string_t>(chunk.rows->data[2])[i] = duckdb::string_t("x", 1);
    }
    chunk.rows->SetCardinality(n);
    batch.chunks.push_back(std::move(chunk));
  }
  sink_->Append(1, std::move(batch));
  sink_->CheckpointDurable(1, 0);
  ASSERT_TRUE(Wait(1).has_value());
  auto tasks = Tasks();
  EXPECT_GE(tasks.size(), 2u);
  int64_t rows = 0;
  for (auto& task : tasks) rows += task.file->record_count;
  EXPECT_EQ(rows, kRows);
  // The index knows where they are.
  int v = int(1'199'999ll * 7919 % 1'000'003);
  MustCommit(2, {{Three(0, 0, "x"), -1}, {Three(1'199'999, v, "x"), -1}, {Three(1'199'999, 5, "y"), 1}});
  int64_t live = 0, sum = 0;
  ASSERT_TRUE(lake::ReadTable(Load(), [&](DataChunk& chunk) -> Status {
                for (size_t i = 0; i < chunk.size(); i++) sum += chunk.GetValue(0, i).GetValue<int64_t>();
                live += chunk.size();
                return {};
              }).has_value());
  EXPECT_EQ(live, kRows - 1);
  EXPECT_EQ(sum, kRows * (kRows - 1) / 2);
}

TEST_F(IcebergSinkTest, EveryType) {
  auto structure = LogicalType::STRUCT({{"x", LogicalType::SMALLINT}, {"y", LogicalType::LIST(LogicalType::VARCHAR)}});
  auto map = LogicalType::MAP(LogicalType::VARCHAR, LogicalType::BIGINT);
  options_.input.columns = {{"id", LogicalType::INTEGER, true, 0},
                            {"b", LogicalType::BOOLEAN, false, 0},
                            {"i1", LogicalType::TINYINT, false, 0},
                            {"u4", LogicalType::UINTEGER, false, 0},
                            {"u8", LogicalType::UBIGINT, false, 0},
                            {"h", LogicalType::HUGEINT, false, 0},
                            {"f", LogicalType::FLOAT, false, 0},
                            {"d", LogicalType::DOUBLE, false, 0},
                            {"d4", LogicalType::DECIMAL(4, 2), false, 0},
                            {"d9", LogicalType::DECIMAL(9, 3), false, 0},
                            {"d38", LogicalType::DECIMAL(38, 10), false, 0},
                            {"dt", LogicalType::DATE, false, 0},
                            {"tm", LogicalType::TIME, false, 0},
                            {"ts", LogicalType::TIMESTAMP, false, 0},
                            {"ts0", LogicalType::TIMESTAMP_S, false, 0},
                            {"tz", LogicalType::TIMESTAMP_TZ, false, 0},
                            {"u", LogicalType::UUID, false, 0},
                            {"bin", LogicalType::BLOB, false, 0},
                            {"js", LogicalType::JSON(), false, 0},
                            {"st", structure, false, 0},
                            {"m", map, false, 0}};
  options_.input.primary_key = {0};
  MustStart();
  Row full{Value::INTEGER(1),
           Value::BOOLEAN(true),
           Value::TINYINT(-5),
           Value::UINTEGER(4'000'000'000u),
           Value::UBIGINT(18'000'000'000'000'000'000ull),
           Value::HUGEINT(duckdb::hugeint_t(int64_t(1) << 60) * duckdb::hugeint_t(1000)),
           Value::FLOAT(1.5f),
           Value::DOUBLE(-2.25),
           Value::DECIMAL(int16_t(-1234), 4, 2),
           Value::DECIMAL(int32_t(123456789), 9, 3),
           Value::DECIMAL(duckdb::hugeint_t(int64_t(1) << 60) * duckdb::hugeint_t(1'000'000), 38, 10),
           Value::DATE(duckdb::date_t(20000)),
           Value::TIME(duckdb::dtime_t(86'399'999'999)),
           Value::TIMESTAMP(duckdb::timestamp_t(1'700'000'000'123'456)),
           Value::TIMESTAMPSEC(duckdb::timestamp_sec_t(1'700'000'000)),
           Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(-1)),
           Value::UUID("00112233-4455-6677-8899-aabbccddeeff"),
           Value::BLOB_RAW(std::string("\x00\xff\x10", 3)),
           Value("{\"a\": [1, null]}"),
           Value::STRUCT({{"x", Value::SMALLINT(3)},
                          {"y", Value::LIST(LogicalType::VARCHAR, {Value("p"), Value(LogicalType::VARCHAR)})}}),
           Value::MAP(LogicalType::VARCHAR, LogicalType::BIGINT, {Value("k")}, {Value::BIGINT(7)})};
  full[18] = full[18].DefaultCastAs(LogicalType::JSON());
  Row nulls{Value::INTEGER(2)};
  for (size_t i = 1; i < options_.input.columns.size(); i++) nulls.push_back(Value(options_.input.columns[i].type));
  MustCommit(1, {{full, 1}, {nulls, 1}});
  MustCommit(2, {{nulls, -1}, {full, -1}, {full, 1}});
  auto rows = ReadAll();
  ASSERT_EQ(rows.size(), 1u);
  Row read = full;
  auto meta = Load().metadata;
  auto columns = lake::FileColumns(meta->CurrentSchema());
  ASSERT_TRUE(columns.has_value());
  for (size_t i = 0; i < read.size(); i++) read[i] = read[i].DefaultCastAs((*columns)[i].type);
  EXPECT_EQ(*rows.begin(), Text(read));
  EXPECT_EQ(meta->CurrentSchema().identifier_field_ids, std::vector<int>{1});
}

TEST_F(IcebergSinkTest, Options) {
  auto check = [&](std::map<std::string, std::string> change, const std::string& expect) {
    auto options = options_.options;
    for (auto& [k, v] : change) {
      if (v == "-")
        options.erase(k);
      else
        options[k] = v;
    }
    auto parsed = ParseIcebergSinkOptions(options, options_.input);
    if (expect.empty()) {
      EXPECT_TRUE(parsed.has_value()) << parsed.error().ToString();
    } else {
      ASSERT_FALSE(parsed.has_value()) << expect;
      EXPECT_NE(parsed.error().ToString().find(expect), std::string::npos) << parsed.error().ToString();
    }
  };
  check({}, "");
  check({{"primary_key", "id, s"}}, "");
  check({{"primary_key", "id, nope"}}, "nope");
  check({{"typo", "x"}}, "unknown option typo");
  check({{"type", "replace"}}, "type must be");
  check({{"table.name", "-"}}, "table.name");
  check({{"catalog.type", "rest"}}, "catalog.uri");
  check({{"catalog.type", "glue"}}, "catalog.type must be");
  check({{"format-version", "4"}}, "format-version");
  check({{"commit_checkpoint_interval", "x"}}, "commit_checkpoint_interval");
  check({{"s3.secret.key", "k"},
         {"s3.access.key", "a"},
         {"s3.path.style.access", "true"},
         {"warehouse.path", "s3://b/w"}},
        "");
  options_.input.columns.push_back({"gap", LogicalType::INTERVAL, false, 0});
  check({}, "INTERVAL");
}

TEST_F(IcebergSinkTest, RestCatalog) {
  auto warehouse = lake::OpenWarehouse(lake::DefaultWarehouse(dir_.string()), {});
  ASSERT_TRUE(warehouse.has_value());
  iceberg::RestCatalogServer rest(*warehouse, Secret("sesame"));
  httplib::Server server;
  std::atomic<bool> broken = false, refuses = false;
  auto handle = [&](const httplib::Request& request, httplib::Response& response) {
    if (broken || refuses) {
      response.status = broken ? 503 : 401;
      return;
    }
    auto authorization = request.get_header_value("Authorization");
    auto answer = rest.Handle({request.method, request.target, request.body, authorization});
    response.status = answer.status;
    response.set_content(answer.body, "application/json");
  };
  server.Get(".*", handle);
  server.Post(".*", handle);
  server.Delete(".*", handle);
  int port = server.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { server.listen_after_bind(); });
  options_.options["catalog.type"] = "rest";
  options_.options["catalog.uri"] = fmt::format("http://127.0.0.1:{}", port);

  auto start = [&] {
    sink_.reset();
    auto made = MakeIcebergSink(options_);
    EXPECT_TRUE(made.has_value());
    sink_ = std::move(*made);
    return sink_->Start();
  };
  options_.options["catalog.token"] = "wrong";
  auto refused = start();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kAuthentication) << refused.error().ToString();
  EXPECT_EQ(refused.error().ToString().find("wrong"), std::string::npos);
  options_.options["catalog.token"] = "sesame";
  auto started = start();
  ASSERT_TRUE(started.has_value()) << started.error().ToString();
  MustCommit(1, {{Three(1, 1, "a"), 1}, {Three(2, 1, "b"), 1}});
  MustCommit(2, {{Three(1, 1, "a"), -1}});
  // The catalog goes away for a while.
  broken = true;
  sink_->Append(3, Batch({{Three(3, 1, "c"), 1}}));
  sink_->CheckpointDurable(3, 0);
  EXPECT_FALSE(sink_->WaitCommitted(3, 500).has_value());
  EXPECT_EQ(sink_->GetStatus().state, SinkState::kRetrying);
  EXPECT_GT(sink_->GetStatus().retries, 0u);
  EXPECT_TRUE(sink_->GetStatus().error.has_value());
  broken = false;
  ASSERT_TRUE(Wait(3).has_value());
  EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"2|1|b|", "3|1|c|"}));
  // It may also be away when the process starts, or refuse, and the table may be gone for a while.
  options_.recovered = true;
  options_.options.erase("create_table_if_not_exists");
  broken = true;
  options_.generation++;
  started = start();
  ASSERT_TRUE(started.has_value()) << started.error().ToString();
  sink_->Append(3, Batch({{Three(3, 1, "c"), 1}}));
  sink_->Append(4, Batch({{Three(3, 1, "c"), -1}}));
  sink_->CheckpointDurable(4, 0);
  auto retrying_with = [&](const std::string& sqlstate) {
    for (int i = 0; i < 3000; i++) {
      auto now = sink_->GetStatus();
      if (now.state == SinkState::kRetrying && now.error->sqlstate == sqlstate && now.retries > 1) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  };
  EXPECT_TRUE(retrying_with("08006"));
  refuses = true;
  broken = false;
  EXPECT_TRUE(retrying_with("28P01"));
  ASSERT_TRUE((*warehouse)->RenameTable({{"db"}, "t"}, {{"db"}, "away"}).has_value());
  refuses = false;
  EXPECT_TRUE(retrying_with("42P01"));
  EXPECT_EQ(sink_->GetStatus().log_rows, 2u);
  ASSERT_TRUE((*warehouse)->RenameTable({{"db"}, "away"}, {{"db"}, "t"}).has_value());
  ASSERT_TRUE(Wait(4).has_value());
  EXPECT_EQ(sink_->GetStatus().state, SinkState::kRunning);
  EXPECT_EQ(ReadAll(), (std::multiset<std::string>{"2|1|b|"}));

  // What no time cures.
  options_.generation = 0;
  started = start();
  ASSERT_TRUE(started.has_value()) << started.error().ToString();
  auto status = sink_->WaitCommitted(5, 60'000);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kConflict) << status.error().ToString();
  EXPECT_EQ(sink_->GetStatus().state, SinkState::kFailed);
  sink_->Stop();
  server.stop();
  thread.join();
}

TEST_F(IcebergSinkTest, TablesThatDoNotFit) {
  options_.options.erase("create_table_if_not_exists");
  auto status = Start();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().sqlstate, "42P01");
  options_.options["create_table_if_not_exists"] = "true";
  MustStart();
  options_.input.columns[1].type = LogicalType::VARCHAR;
  status = Start();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().sqlstate, "42804") << status.error().ToString();
  options_.input.columns[1] = {"other", LogicalType::INTEGER, false, 0};
  EXPECT_EQ(Start().error().sqlstate, "42703");
}

}  // namespace
}  // namespace tidewater
