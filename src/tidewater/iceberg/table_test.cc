// Tables through the embedded catalog in memory: commits, deletes, merging, expiry, conflicts. Data files are names
// only.
#include <gtest/gtest.h>
#include <algorithm>
#include <map>
#include <set>
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/embedded_catalog.h"
#include "tidewater/iceberg/json_codec.h"
#include "tidewater/iceberg/puffin.h"
#include "tidewater/iceberg/rest_server.h"
#include "tidewater/iceberg/scan.h"
#include "tidewater/iceberg/values.h"

namespace tidewater::iceberg {
namespace {

const TableIdent kIdent{{"shop"}, "orders"};

#define ASSERT_OK(expr)                       \
  do {                                        \
    auto&& ok = (expr);                       \
    ASSERT_TRUE(ok) << ok.error().ToString(); \
  } while (0)

class IcebergTable : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = *io::OpenStore("memory:");
    pointers_ = *io::OpenStore("memory:");
    Open();
    ASSERT_OK(catalog_->CreateNamespace({"shop"}, {{"owner", "tests"}}));
  }

  void Open() {
    auto opened = OpenEmbeddedCatalog({pointers_, store_, {{"s3.endpoint", "http://x"}}, {}, false});
    ASSERT_TRUE(opened) << opened.error().ToString();
    catalog_ = *opened;
  }

  void Create(int version, Properties properties = {}) {
    TableSpec spec;
    Field id, name;
    id.name = "id";
    id.required = true;
    id.type = Type::Of(TypeKind::kLong);
    name.name = "name";
    name.type = Type::Of(TypeKind::kString);
    spec.schema.fields = {id, name};
    spec.properties = std::move(properties);
    spec.properties[kPropFormatVersion] = std::to_string(version);
    auto table = catalog_->CreateTable(kIdent, spec);
    ASSERT_TRUE(table) << table.error().ToString();
    table_ = *table;
  }

  DataFile Data(const std::string& name, int64_t rows) {
    DataFile f;
    f.path = table_.metadata->location + "/data/" + name;
    f.record_count = rows;
    f.file_size_bytes = rows * 10;
    f.value_counts = {{1, rows}, {2, rows}};
    f.lower_bounds = {{1, LongValue(1)}, {2, "a"}};
    f.upper_bounds = {{1, LongValue(rows)}, {2, "z"}};
    f.split_offsets = {4};
    EXPECT_TRUE(table_.files->Put(f.path, "data"));
    return f;
  }

  DataFile Vector(const std::string& puffin, const DataFile& of, std::vector<uint64_t> positions) {
    PuffinWriter writer;
    PositionSet set;
    set.AddMany(positions.data(), positions.size());
    PuffinBlob blob = writer.AddDeletionVector(set, of.path);
    DataFile f;
    f.content = FileContent::kPositionDeletes;
    f.format = "puffin";
    f.path = table_.metadata->location + "/data/" + puffin;
    f.record_count = int64_t(set.Cardinality());
    f.referenced_data_file = of.path;
    f.content_offset = int64_t(blob.offset);
    f.content_size_bytes = int64_t(blob.length);
    std::string bytes = writer.Finish();
    f.file_size_bytes = int64_t(bytes.size());
    EXPECT_TRUE(table_.files->Put(f.path, bytes));
    return f;
  }

  Result<CommitResult> Commit(const TableChange& change) {
    auto result = CommitChange(*catalog_, table_, change);
    if (result) table_ = result->table;
    return result;
  }

  std::vector<FileScanTask> Plan() {
    // Nothing but the files counts: a fresh access has no cache.
    FileAccess files(store_);
    auto loaded = catalog_->LoadTable(kIdent);
    EXPECT_TRUE(loaded);
    auto tasks = PlanScan(files, *loaded->metadata, *loaded->metadata->CurrentSnapshot());
    EXPECT_TRUE(tasks) << tasks.error().ToString();
    std::vector<FileScanTask> sorted = *tasks;
    std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.file->path < b.file->path; });
    return sorted;
  }

  std::set<std::string> Objects() {
    std::set<std::string> out;
    auto list = store_->List("");
    for (const auto& o : *list) out.insert(o.key);
    return out;
  }

  std::shared_ptr<io::ObjectStore> store_, pointers_;
  std::shared_ptr<EmbeddedCatalog> catalog_;
  Table table_;
};

TEST_F(IcebergTable, AppendsAndReadsBack) {
  Create(2);
  TableChange change;
  change.added_data = {Data("a.parquet", 10), Data("b.parquet", 20)};
  change.summary = {{"tidewater.epoch", "7"}};
  change.set_properties = {{"tidewater.epoch", "7"}};
  auto result = Commit(change);
  ASSERT_OK(result);
  EXPECT_TRUE(result->first_row_ids.empty());
  const Snapshot* s = table_.metadata->CurrentSnapshot();
  EXPECT_EQ(s->summary.at("operation"), "append");
  EXPECT_EQ(s->summary.at("total-records"), "30");
  EXPECT_EQ(s->summary.at("tidewater.epoch"), "7");
  EXPECT_EQ(table_.metadata->properties.at("tidewater.epoch"), "7");
  auto tasks = Plan();
  ASSERT_EQ(tasks.size(), 2u);
  EXPECT_EQ(tasks[0].sequence_number, 1);
  EXPECT_EQ(tasks[0].file->format, "parquet");
  EXPECT_EQ(tasks[0].file->lower_bounds, (ColumnBounds{{1, LongValue(1)}, {2, "a"}}));
  EXPECT_EQ(tasks[1].file->record_count, 20);
}

TEST_F(IcebergTable, PositionDeletesApplyByFileAndSequence) {
  Create(2);
  DataFile a = Data("a.parquet", 10);
  TableChange change;
  change.added_data = {a};
  ASSERT_OK(Commit(change));
  DataFile d;
  d.content = FileContent::kPositionDeletes;
  d.path = table_.metadata->location + "/data/d.parquet";
  d.record_count = 1;
  d.lower_bounds = {{2147483546, a.path}};
  d.upper_bounds = {{2147483546, a.path}};
  TableChange second;
  DataFile b = Data("b.parquet", 5);
  second.added_data = {b};
  second.added_deletes = {d};
  ASSERT_OK(Commit(second));
  EXPECT_EQ(table_.metadata->CurrentSnapshot()->summary.at("operation"), "overwrite");
  auto tasks = Plan();
  ASSERT_EQ(tasks.size(), 2u);
  ASSERT_EQ(tasks[0].deletes.size(), 1u);
  EXPECT_EQ(tasks[1].deletes.size(), 0u);
  // Rows that come later in a file of the same name would not be touched by it; a vector is refused in v2.
  TableChange third;
  third.added_deletes = {Vector("v.puffin", a, {1})};
  EXPECT_EQ(Commit(third).error().kind, ErrorKind::kUnsupported);
}

TEST_F(IcebergTable, VectorsReplaceEachOtherAndRowIdsAreAssigned) {
  Create(3);
  DataFile a = Data("a.parquet", 10), b = Data("b.parquet", 20);
  TableChange change;
  change.added_data = {b, a};
  auto first = Commit(change);
  ASSERT_OK(first);
  EXPECT_EQ(first->first_row_ids, (std::vector<int64_t>{0, 20}));
  EXPECT_EQ(table_.metadata->next_row_id, 30);

  TableChange second;
  second.added_deletes = {Vector("1.puffin", a, {3, 4})};
  ASSERT_OK(Commit(second));
  EXPECT_EQ(table_.metadata->CurrentSnapshot()->summary.at("operation"), "delete");
  TableChange third;
  third.added_deletes = {Vector("2.puffin", a, {3, 4, 5})};
  third.added_data = {Data("c.parquet", 7)};
  auto result = Commit(third);
  ASSERT_OK(result);
  EXPECT_EQ(result->first_row_ids, (std::vector<int64_t>{30}));
  const Properties& summary = table_.metadata->CurrentSnapshot()->summary;
  EXPECT_EQ(summary.at("removed-dvs"), "1");
  EXPECT_EQ(summary.at("total-position-deletes"), "3");
  auto tasks = Plan();
  ASSERT_EQ(tasks.size(), 3u);
  ASSERT_EQ(tasks[0].deletes.size(), 1u);
  EXPECT_EQ(*tasks[0].file->first_row_id, 20);
  EXPECT_EQ(*tasks[2].file->first_row_id, 30);
  auto positions = ReadDeletionVector(*table_.files, *tasks[0].deletes[0].file);
  ASSERT_OK(positions);
  EXPECT_EQ(positions->ToVector(), (std::vector<uint64_t>{3, 4, 5}));

  // The data file goes, its vector goes along.
  TableChange fourth;
  fourth.removed_data = {FileKey::Of(a)};
  ASSERT_OK(Commit(fourth));
  EXPECT_EQ(table_.metadata->CurrentSnapshot()->summary.at("total-delete-files"), "0");
  tasks = Plan();
  ASSERT_EQ(tasks.size(), 2u);
  EXPECT_EQ(*tasks[0].file->first_row_id, 0);
  EXPECT_EQ(*tasks[1].file->first_row_id, 30);

  // Removing it again, or deleting rows of it, is a conflict, and leaves nothing behind.
  auto before = Objects();
  EXPECT_EQ(Commit(fourth).error().kind, ErrorKind::kConflict);
  TableChange lost;
  lost.added_deletes = {second.added_deletes[0]};
  EXPECT_EQ(Commit(lost).error().kind, ErrorKind::kConflict);
  EXPECT_EQ(Objects(), before);
}

TEST_F(IcebergTable, LosersOfARaceAreTold) {
  Create(2);
  TableChange change;
  change.added_data = {Data("a.parquet", 1)};
  auto mine = PrepareCommit(table_, change);
  ASSERT_OK(mine);
  Table stale = table_;
  TableChange other;
  other.added_data = {Data("b.parquet", 1)};
  ASSERT_OK(Commit(other));
  auto before = Objects();
  auto lost = mine->Commit(*catalog_);
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().kind, ErrorKind::kCommitFailed);
  EXPECT_LT(Objects().size(), before.size());  // its manifests are gone
  ASSERT_OK(CommitChange(*catalog_, table_, change));
  EXPECT_EQ(Plan().size(), 2u);
  auto since = SnapshotsSince(*catalog_->LoadTable(kIdent)->metadata,
                              *catalog_->LoadTable(kIdent)->metadata->current_snapshot_id,
                              *table_.metadata->current_snapshot_id);
  ASSERT_OK(since);
  EXPECT_EQ(since->snapshots.size(), 1u);
  auto changes = ChangesOf(*table_.files, since->snapshots[0]);
  ASSERT_OK(changes);
  EXPECT_EQ(changes->added_data.size(), 1u);
}

TEST_F(IcebergTable, ManyCommitsStaySmall) {
  for (int version : {2, 3}) {
    if (version == 3) ASSERT_OK(catalog_->DropTable(kIdent, true));
    Create(version,
           {{kPropManifestMinCountToMerge, "10"}, {kPropPreviousVersionsMax, "5"}, {kPropDeleteAfterCommit, "true"}});
    std::map<std::string, std::pair<DataFile, std::vector<uint64_t>>> live;
    ExpirePolicy expire;
    expire.keep_last = 5;
    expire.max_age_ms = -1;
    expire.batch = 3;
    int64_t rows = 0;
    for (int i = 0; i < 120; ++i) {
      TableChange change;
      change.expire = expire;
      DataFile f = Data(fmt::format("{:04}.parquet", i), 10);
      rows += 10;
      change.added_data = {f};
      // Some rows of two older files are deleted.
      for (int back : {1, 7}) {
        auto it = live.find(fmt::format("{:04}", i - back));
        if (it == live.end()) continue;
        auto& [file, positions] = it->second;
        positions.push_back(positions.size());
        rows -= 1;
        if (version == 3) {
          change.added_deletes.push_back(Vector(fmt::format("{:04}-{}.puffin", i, back), file, positions));
        } else {
          DataFile d;
          d.content = FileContent::kPositionDeletes;
          d.path = table_.metadata->location + fmt::format("/data/{:04}-{}-deletes.parquet", i, back);
          d.record_count = 1;
          d.referenced_data_file = file.path;
          EXPECT_TRUE(table_.files->Put(d.path, "deletes"));
          change.added_deletes.push_back(d);
        }
      }
      // And now and then a file is replaced.
      if (i % 20 == 19) {
        auto& [file, positions] = live.at(fmt::format("{:04}", i - 15));
        change.removed_data = {FileKey::Of(file)};
        rows -= file.record_count - int64_t(positions.size());
        live.erase(fmt::format("{:04}", i - 15));
      }
      live[fmt::format("{:04}", i)] = {f, {}};
      auto result = Commit(change);
      ASSERT_OK(result);
      ASSERT_LE(table_.metadata->snapshots.size(), 9u);
      ASSERT_LE(table_.metadata->metadata_log.size(), 5u);
    }
    auto tasks = Plan();
    EXPECT_EQ(tasks.size(), live.size());
    int64_t planned_rows = 0;
    std::set<std::string> reachable;
    std::map<int64_t, int64_t> ranges;
    for (const FileScanTask& t : tasks) {
      planned_rows += t.file->record_count;
      reachable.insert(t.file->path);
      for (const DeleteFile& d : t.deletes) {
        planned_rows -= d.file->record_count;
        reachable.insert(d.file->path);
      }
      if (version == 3) {
        ASSERT_TRUE(t.file->first_row_id);
        ranges[*t.file->first_row_id] = t.file->record_count;
      }
    }
    EXPECT_EQ(planned_rows, rows);
    int64_t end = 0;
    for (auto [first, count] : ranges) {
      EXPECT_GE(first, end);
      end = first + count;
    }
    if (version == 3) {
      EXPECT_LE(end, table_.metadata->next_row_id);
      EXPECT_EQ(table_.metadata->next_row_id, 1200);  // merging and rewriting take no ids
    }
    auto list = ReadManifestList(*table_.files, *table_.metadata->CurrentSnapshot());
    ASSERT_OK(list);
    EXPECT_LE((*list)->size(), 21u);
    // What is there beyond the current snapshot belongs to the few kept ones: the rest was found and deleted.
    FileAccess files(store_);
    std::set<std::string> kept = {table_.metadata_location};
    for (const auto& e : table_.metadata->metadata_log) kept.insert(e.metadata_file);
    for (const Snapshot& s : table_.metadata->snapshots) {
      kept.insert(s.manifest_list);
      auto manifests = ReadManifestList(files, s);
      ASSERT_OK(manifests);
      for (const ManifestFile& m : **manifests) {
        kept.insert(m.path);
        auto entries = ReadManifest(files, m);
        ASSERT_OK(entries);
        for (const ManifestEntry& e : **entries) {
          if (e.IsLive()) kept.insert(e.file->path);
        }
      }
    }
    std::set<std::string> there;
    for (const std::string& key : Objects()) there.insert("memory:/" + key);
    EXPECT_EQ(there, kept);
  }
}

TEST_F(IcebergTable, ExpiryLeavesRefsAndForeignSnapshots) {
  Create(2);
  std::vector<int64_t> ids;
  for (int i = 0; i < 6; ++i) {
    TableChange change;
    change.added_data = {Data(fmt::format("{}.parquet", i), 1)};
    if (i != 2) change.summary = {{"sink", "mine"}};
    ASSERT_OK(Commit(change));
    ids.push_back(*table_.metadata->current_snapshot_id);
    if (i == 1) {
      TableChange tag;
      SnapshotRef ref;
      ref.snapshot_id = ids[1];
      ref.is_branch = false;
      tag.metadata_updates = {SetSnapshotRef{"keep", ref}};
      ASSERT_OK(Commit(tag));
    }
  }
  TableChange last;
  last.force_snapshot = true;
  last.summary = {{"sink", "mine"}};
  last.expire = ExpirePolicy{2, -1, {{"sink", "mine"}}, 1};
  auto result = Commit(last);
  ASSERT_OK(result);
  std::set<int64_t> left;
  for (const Snapshot& s : table_.metadata->snapshots) left.insert(s.id);
  EXPECT_EQ(left, (std::set<int64_t>{ids[1], ids[2], ids[5], result->snapshot_id}));
  EXPECT_EQ(Plan().size(), 6u);
}

TEST_F(IcebergTable, SchemaChangesGoWithTheCommit) {
  Create(2);
  SchemaUpdate update(table_.metadata->CurrentSchema(), table_.metadata->last_column_id, 2);
  Field f;
  f.name = "price";
  f.type = Type::Decimal(12, 2);
  ASSERT_OK(update.AddColumn(0, f));
  TableChange change;
  change.metadata_updates = {AddSchema{update.schema()}, SetCurrentSchema{}};
  change.added_data = {Data("a.parquet", 1)};
  Table stale = table_;
  ASSERT_OK(Commit(change));
  EXPECT_EQ(table_.metadata->CurrentSchema().FindByName("price")->id, 3);
  EXPECT_EQ(table_.metadata->last_column_id, 3);
  EXPECT_EQ(table_.metadata->CurrentSnapshot()->schema_id, table_.metadata->current_schema_id);
  // The same from the old base: somebody changed the schema meanwhile.
  change.added_data.clear();
  EXPECT_EQ(CommitChange(*catalog_, stale, change).error().kind, ErrorKind::kCommitFailed);
}

TEST_F(IcebergTable, UpgradeToV3GivesOldFilesRowIds) {
  Create(2);
  TableChange change;
  change.added_data = {Data("a.parquet", 10)};
  ASSERT_OK(Commit(change));
  TableChange upgrade;
  upgrade.metadata_updates = {UpgradeFormatVersion{3}};
  upgrade.added_data = {Data("b.parquet", 5)};
  auto result = Commit(upgrade);
  ASSERT_OK(result);
  EXPECT_EQ(result->first_row_ids, (std::vector<int64_t>{0}));
  auto tasks = Plan();
  EXPECT_EQ(*tasks[0].file->first_row_id, 5);
  EXPECT_EQ(table_.metadata->next_row_id, 15);
}

TEST_F(IcebergTable, NamespacesAndNames) {
  Create(2);
  ASSERT_OK(catalog_->CreateNamespace({"shop", "ä/b %1F"}, {}));
  EXPECT_EQ(catalog_->CreateNamespace({"shop"}, {}).error().kind, ErrorKind::kAlreadyExists);
  EXPECT_EQ(catalog_->ListNamespaces({})->size(), 1u);
  EXPECT_EQ(catalog_->ListNamespaces({"shop"})->at(0), (Namespace{"shop", "ä/b %1F"}));
  EXPECT_EQ(catalog_->DropNamespace({"shop"}).error().kind, ErrorKind::kConflict);
  TableIdent to{{"shop", "ä/b %1F"}, "or ders/2"};
  ASSERT_OK(catalog_->RenameTable(kIdent, to));
  EXPECT_EQ(catalog_->LoadTable(kIdent).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(catalog_->LoadTable(to)->metadata->table_uuid, table_.metadata->table_uuid);
  EXPECT_EQ(catalog_->ListTables(to.ns)->at(0), to);
  // The old name is free, and the new table does not share the folder.
  Create(2);
  EXPECT_NE(table_.metadata->location, catalog_->LoadTable(to)->metadata->location);
  EXPECT_EQ(catalog_->RenameTable(kIdent, to).error().kind, ErrorKind::kAlreadyExists);
  ASSERT_OK(catalog_->LoadTable(kIdent));
  TableSpec spec;
  EXPECT_EQ(catalog_->CreateTable({{"nowhere"}, "t"}, spec).error().kind, ErrorKind::kNotFound);
  ASSERT_OK(catalog_->DropTable(kIdent, true));
  EXPECT_EQ(catalog_->DropTable(kIdent, true).error().kind, ErrorKind::kNotFound);
  auto registered = catalog_->RegisterTable(kIdent, catalog_->LoadTable(to)->metadata_location);
  ASSERT_OK(registered);
}

TEST_F(IcebergTable, TransactionsAreAllOrNothing) {
  Create(2);
  TableIdent other{{"shop"}, "customers"};
  TableSpec spec;
  Field id;
  id.name = "id";
  id.type = Type::Of(TypeKind::kLong);
  spec.schema.fields = {id};
  ASSERT_OK(catalog_->CreateTable(other, spec));
  std::vector<TableCommit> commits = {{kIdent, {}, {SetProperties{{{"a", "1"}}}}},
                                      {other, {AssertTableUuid{"wrong"}}, {SetProperties{{{"a", "1"}}}}}};
  EXPECT_EQ(catalog_->CommitTransaction(commits).error().kind, ErrorKind::kCommitFailed);
  EXPECT_FALSE(catalog_->LoadTable(kIdent)->metadata->properties.contains("a"));
  commits[1].requirements.clear();
  ASSERT_OK(catalog_->CommitTransaction(commits));
  Open();
  EXPECT_EQ(catalog_->LoadTable(kIdent)->metadata->properties.at("a"), "1");
  EXPECT_EQ(catalog_->LoadTable(other)->metadata->properties.at("a"), "1");
  EXPECT_TRUE(pointers_->List("transactions/")->empty());

  // A coordinator that died before its decision: readers see the old state, the next writer goes on.
  auto pointer = *pointers_->GetWithTag("namespaces/shop/tables/orders.json");
  Json held = Json::parse(pointer.first);
  held["pending"] = {{"transaction", "dead"}, {"metadata-location", "memory:/nowhere"}};
  ASSERT_OK(pointers_->PutIfMatch("namespaces/shop/tables/orders.json", held.dump(), pointer.second));
  EXPECT_EQ(catalog_->LoadTable(kIdent)->metadata->properties.at("a"), "1");
  ASSERT_OK(catalog_->Commit({kIdent, {}, {SetProperties{{{"a", "2"}}}}}));
  EXPECT_EQ(catalog_->LoadTable(kIdent)->metadata->properties.at("a"), "2");
}

TEST_F(IcebergTable, MetadataKeepsWhatItDoesNotKnow) {
  Create(3);
  Json j = Json::parse(MetadataToJson(*table_.metadata));
  j["encryption-keys"] = Json::array({{{"key-id", "k"}, {"encrypted-key-metadata", "eA=="}}});
  j["from-the-future"] = {{"x", 1}};
  auto parsed = ParseMetadataJson(j.dump());
  ASSERT_OK(parsed);
  EXPECT_EQ(Json::parse(MetadataToJson(*parsed)), j);
  j["format-version"] = 4;
  EXPECT_EQ(ParseMetadataJson(j.dump()).error().kind, ErrorKind::kUnsupported);
  j["format-version"] = 3;
  j["current-schema-id"] = 77;
  EXPECT_EQ(ParseMetadataJson(j.dump()).error().kind, ErrorKind::kCorrupt);
}

TEST_F(IcebergTable, RestServerSpeaksTheProtocol) {
  RestCatalogServer server(catalog_, Secret("s3cret"));
  auto call = [&](std::string_view method, std::string target, std::string body = "",
                  std::string_view auth = "Bearer s3cret") { return server.Handle({method, target, body, auth}); };
  EXPECT_EQ(call("GET", "/v1/config", "", "").status, 401);
  EXPECT_EQ(call("GET", "/v1/config").status, 200);
  auto token = call("POST", "/v1/oauth/tokens", "grant_type=client_credentials&client_id=x&client_secret=s3cret", "");
  EXPECT_EQ(Json::parse(token.body)["access_token"], "s3cret");
  EXPECT_EQ(call("POST", "/v1/oauth/tokens", "client_secret=wrong", "").status, 401);
  EXPECT_EQ(call("POST", "/v1/namespaces", R"({"namespace":["a","b"],"properties":{}})").status, 200);
  EXPECT_EQ(call("GET", "/v1/namespaces/a%1Fb").status, 200);
  EXPECT_EQ(call("HEAD", "/v1/namespaces/nope").status, 404);
  std::string create =
      R"({"name":"t","schema":{"type":"struct","fields":[{"id":5,"name":"x","type":"int","required":false}]},"properties":{"format-version":"3"}})";
  auto created = call("POST", "/v1/namespaces/a%1Fb/tables", create);
  ASSERT_EQ(created.status, 200) << created.body;
  Json table = Json::parse(created.body);
  EXPECT_EQ(table["metadata"]["format-version"], 3);
  EXPECT_EQ(table["config"]["s3.endpoint"], "http://x");
  EXPECT_EQ(call("POST", "/v1/namespaces/a%1Fb/tables", create).status, 409);
  EXPECT_EQ(call("POST", "/v1/namespaces/nope/tables", create).status, 404);
  std::string commit =
      R"({"requirements":[{"type":"assert-table-uuid","uuid":"UUID"}],"updates":[{"action":"set-properties","updates":{"p":"q"}}]})";
  EXPECT_EQ(call("POST", "/v1/namespaces/a%1Fb/tables/t", commit).status, 409);
  commit.replace(commit.find("UUID"), 4, table["metadata"]["table-uuid"].get<std::string>());
  EXPECT_EQ(call("POST", "/v1/namespaces/a%1Fb/tables/t", commit).status, 200);
  auto loaded = call("GET", "/v1/namespaces/a%1Fb/tables/t?snapshots=all");
  EXPECT_EQ(Json::parse(loaded.body)["metadata"]["properties"]["p"], "q");
  EXPECT_EQ(call("POST", "/v1/namespaces/a%1Fb/tables/t", "{nonsense").status, 400);
  EXPECT_EQ(call("POST", "/v1/namespaces/a%1Fb/tables/t/metrics", "{}").status, 204);
  auto missing = call("GET", "/v1/namespaces/a%1Fb/tables/none");
  EXPECT_EQ(Json::parse(missing.body)["error"]["type"], "NoSuchTableException");
  EXPECT_EQ(call("DELETE", "/v1/namespaces/a%1Fb").status, 409);
  EXPECT_EQ(call("DELETE", "/v1/namespaces/a%1Fb/tables/t?purgeRequested=true").status, 204);
  EXPECT_EQ(call("DELETE", "/v1/namespaces/a%1Fb").status, 204);
}

}  // namespace
}  // namespace tidewater::iceberg
