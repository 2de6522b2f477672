// The embedded catalog over a store that dies or fails at each of its writes in turn: what was answered holds, nothing
// is half done.
#include <gtest/gtest.h>
#include <thread>
#include "tidewater/io/faulty_store.h"
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/embedded_catalog.h"
#include "tidewater/iceberg/scan.h"

namespace tidewater::iceberg {
namespace {

using io::FaultyStore;
using io::ObjectStore;

const TableIdent kA{{"n"}, "a"}, kB{{"n"}, "b"}, kC{{"n"}, "c"};

struct Disk {
  std::shared_ptr<ObjectStore> pointers = *io::OpenStore("memory:");
  std::shared_ptr<ObjectStore> warehouse = *io::OpenStore("memory:");
  std::shared_ptr<EmbeddedCatalog> Open() const { return Open(pointers, warehouse); }
  static std::shared_ptr<EmbeddedCatalog> Open(std::shared_ptr<ObjectStore> p, std::shared_ptr<ObjectStore> w) {
    EmbeddedCatalogOptions options;
    options.pointers = std::move(p);
    options.warehouse = std::move(w);
    auto catalog = OpenEmbeddedCatalog(std::move(options));
    EXPECT_TRUE(catalog) << catalog.error().ToString();
    return catalog ? *catalog : nullptr;
  }
};

Disk NewDisk() {
  Disk disk;
  auto catalog = disk.Open();
  EXPECT_TRUE(catalog->CreateNamespace({"n"}, {}));
  TableSpec spec;
  Field id;
  id.name = "id";
  id.type = Type::Of(TypeKind::kLong);
  spec.schema.fields = {id};
  EXPECT_TRUE(catalog->CreateTable(kA, spec));
  EXPECT_TRUE(catalog->CreateTable(kB, spec));
  return disk;
}

/// Runs `action` on a catalog whose pointers (or files) fail at write n = 1, 2, …, until n is beyond its writes; then
/// `check`s with a new process.
template <class Action, class Check>
void AtEveryWrite(bool fail_pointers, Action action, Check check) {
  for (auto mode : {FaultyStore::Mode::kCrash, FaultyStore::Mode::kFail}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      for (uint64_t n = 1;; ++n) {
        SCOPED_TRACE(fmt::format("mode {} seed {} write {}", int(mode), seed, n));
        Disk disk = NewDisk();
        auto faulty = std::make_shared<FaultyStore>(fail_pointers ? disk.pointers : disk.warehouse, seed, mode, n);
        auto catalog = fail_pointers ? Disk::Open(faulty, disk.warehouse) : Disk::Open(disk.pointers, faulty);
        Status answer = action(*catalog);
        check(*disk.Open(), answer);
        if (faulty->writes() < n) {
          EXPECT_TRUE(answer) << answer.error().ToString();
          break;
        }
        ASSERT_LT(n, 100u);
      }
    }
  }
}

std::string Property(EmbeddedCatalog& catalog, const TableIdent& ident) {
  auto table = catalog.LoadTable(ident);
  EXPECT_TRUE(table) << table.error().ToString();
  if (!table) return "?";
  auto it = table->metadata->properties.find("p");
  return it == table->metadata->properties.end() ? "" : it->second;
}

TEST(CatalogCrash, CommitIsThereOrNot) {
  for (bool fail_pointers : {true, false}) {
    AtEveryWrite(
        fail_pointers,
        [](EmbeddedCatalog& c) -> Status {
          auto t = c.Commit({kA, {}, {SetProperties{{{"p", "1"}}}}});
          if (t) return {};
          return std::unexpected(t.error());
        },
        [](EmbeddedCatalog& c, const Status& answer) {
          std::string p = Property(c, kA);
          if (answer) {
            EXPECT_EQ(p, "1");
          }
          if (!answer && answer.error().kind != ErrorKind::kCommitStateUnknown) {
            EXPECT_EQ(p, "");
          }
          EXPECT_TRUE(c.Commit({kA, {}, {SetProperties{{{"p", "2"}}}}}));
        });
  }
}

TEST(CatalogCrash, RenameLeavesOneName) {
  AtEveryWrite(
      true, [](EmbeddedCatalog& c) { return c.RenameTable(kA, kC); },
      [](EmbeddedCatalog& c, const Status& answer) {
        auto a = c.LoadTable(kA), moved = c.LoadTable(kC);
        EXPECT_NE(a.has_value(), moved.has_value());
        if (answer) {
          EXPECT_TRUE(moved);
        }
        EXPECT_EQ(c.ListTables({"n"})->size(), 2u);
        EXPECT_TRUE(c.Commit({a ? kA : kC, {}, {SetProperties{{{"p", "2"}}}}}));
      });
}

TEST(CatalogCrash, TransactionIsWhole) {
  AtEveryWrite(
      true,
      [](EmbeddedCatalog& c) {
        return c.CommitTransaction({{kA, {}, {SetProperties{{{"p", "1"}}}}}, {kB, {}, {SetProperties{{{"p", "1"}}}}}});
      },
      [](EmbeddedCatalog& c, const Status& answer) {
        std::string a = Property(c, kA), b = Property(c, kB);
        EXPECT_EQ(a, b);
        if (answer) {
          EXPECT_EQ(a, "1");
        }
        if (!answer && answer.error().kind != ErrorKind::kCommitStateUnknown) {
          EXPECT_EQ(a, "");
        }
        EXPECT_TRUE(
            c.CommitTransaction({{kA, {}, {SetProperties{{{"p", "3"}}}}}, {kB, {}, {SetProperties{{{"p", "3"}}}}}}));
        EXPECT_EQ(Property(c, kB), "3");
      });
}

TEST(CatalogCrash, WritersInManyThreadsLoseNothing) {
  Disk disk = NewDisk();
  // Two processes: each with a catalog object of its own.
  auto one = disk.Open(), two = disk.Open();
  std::vector<std::thread> threads;
  std::atomic<int> done{0};
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      EmbeddedCatalog& catalog = t % 2 ? *one : *two;
      for (int i = 0; i < 20; ++i) {
        while (true) {
          auto base = catalog.LoadTable(kA);
          if (!base) continue;
          TableChange change;
          DataFile f;
          f.path = fmt::format("{}/data/{}-{}.parquet", base->metadata->location, t, i);
          f.record_count = 1;
          change.added_data = {f};
          auto result = CommitChange(catalog, *base, change);
          if (result) break;
          ASSERT_EQ(result.error().kind, ErrorKind::kCommitFailed) << result.error().ToString();
        }
        // Between them, transactions over both tables.
        if (i % 5 == 0 && catalog.CommitTransaction({{kA, {}, {SetProperties{{{"p", fmt::format("{}-{}", t, i)}}}}},
                                                     {kB, {}, {SetProperties{{{"p", fmt::format("{}-{}", t, i)}}}}}}))
          ++done;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_GT(done, 0);
  EXPECT_EQ(Property(*one, kA), Property(*two, kB));
  auto table = disk.Open()->LoadTable(kA);
  ASSERT_TRUE(table);
  auto tasks = PlanScan(*table->files, *table->metadata, *table->metadata->CurrentSnapshot());
  ASSERT_TRUE(tasks) << tasks.error().ToString();
  EXPECT_EQ(tasks->size(), 120u);
}

}  // namespace
}  // namespace tidewater::iceberg
