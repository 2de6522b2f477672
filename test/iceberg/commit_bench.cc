// What a commit costs after many: one data file and N deletion vectors per commit, local disk, expiry and merging on.
//
//   commit_bench DIR|memory: [COMMITS] [VECTORS_PER_COMMIT] [COLUMNS]
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "tidewater/base/clock.h"
#include "tidewater/iceberg/commit.h"
#include "tidewater/iceberg/embedded_catalog.h"
#include "tidewater/iceberg/puffin.h"
#include "tidewater/iceberg/values.h"

using namespace tidewater;
using namespace tidewater::iceberg;

namespace {
template <class T>
T OrDie(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "{}\n", result.error().ToString());
    std::exit(1);
  }
  return *std::move(result);
}
}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  int commits = argc > 2 ? std::atoi(argv[2]) : 2000, vectors = argc > 3 ? std::atoi(argv[3]) : 50,
      columns = argc > 4 ? std::atoi(argv[4]) : 8;
  bool in_memory = std::string_view(argv[1]) == "memory:";
  EmbeddedCatalogOptions options;
  options.warehouse = OrDie(io::OpenStore(in_memory ? "memory:" : std::string(argv[1]) + "/warehouse"));
  options.pointers = OrDie(io::OpenStore(in_memory ? "memory:" : std::string(argv[1]) + "/pointers"));
  auto catalog = OrDie(OpenEmbeddedCatalog(std::move(options)));
  Namespace ns = {"bench-" + NewUuid()};
  if (Status s = catalog->CreateNamespace(ns, {}); !s) return 1;
  TableSpec spec;
  for (int i = 0; i < columns; ++i) {
    Field f;
    f.name = fmt::format("c{}", i);
    f.type = Type::Of(TypeKind::kLong);
    spec.schema.fields.push_back(f);
  }
  spec.properties = {{kPropFormatVersion, "3"}, {kPropPreviousVersionsMax, "10"}, {kPropDeleteAfterCommit, "true"}};
  Table table = OrDie(catalog->CreateTable({ns, "t"}, spec));
  std::vector<std::pair<std::string, PositionSet>> files;
  int64_t window_us = MonotonicMicros(), window_cpu = ProcessCpuMicros();
  for (int i = 0; i < commits; ++i) {
    TableChange change;
    change.expire = ExpirePolicy{120, 0, {}, 10};
    DataFile f;
    f.path = fmt::format("{}/data/{}.parquet", table.metadata->location, NewUuid());
    f.record_count = 1000;
    f.file_size_bytes = 10000;
    for (int c = 1; c <= columns; ++c) {
      f.value_counts.emplace_back(c, 1000);
      f.null_value_counts.emplace_back(c, 0);
      f.lower_bounds.emplace_back(c, LongValue(i));
      f.upper_bounds.emplace_back(c, LongValue(i + 1000));
    }
    change.added_data = {f};
    PuffinWriter writer;
    for (int v = 0; v < vectors && v < int(files.size()); ++v) {
      auto& [path, set] = files[size_t(rand()) % files.size()];
      if (std::any_of(change.added_deletes.begin(), change.added_deletes.end(),
                      [&](const DataFile& d) { return d.referenced_data_file == path; }))
        continue;
      set.Add(uint64_t(rand()) % 1000);
      PuffinBlob blob = writer.AddDeletionVector(set, path);
      DataFile d;
      d.content = FileContent::kPositionDeletes;
      d.format = "puffin";
      d.record_count = int64_t(set.Cardinality());
      d.referenced_data_file = path;
      d.content_offset = int64_t(blob.offset);
      d.content_size_bytes = int64_t(blob.length);
      change.added_deletes.push_back(d);
    }
    std::string bytes = writer.Finish(), puffin = fmt::format("{}/data/{}.puffin", table.metadata->location, NewUuid());
    for (DataFile& d : change.added_deletes) {
      d.path = puffin;
      d.file_size_bytes = int64_t(bytes.size());
    }
    if (Status s = table.files->Put(puffin, bytes); !s) return 1;
    files.emplace_back(f.path, PositionSet());
    table = OrDie(CommitChange(*catalog, table, change)).table;
    if ((i + 1) % (commits / 10) == 0) {
      int64_t us = MonotonicMicros(), cpu = ProcessCpuMicros();
      fmt::print("commits {:6}  ms per commit {:6.2f}  CPU ms per commit {:6.2f}  snapshots {:4}  metadata bytes {}\n",
                 i + 1, double(us - window_us) / 1000 / (commits / 10),
                 double(cpu - window_cpu) / 1000 / (commits / 10), table.metadata->snapshots.size(),
                 MetadataToJson(*table.metadata).size());
      std::fflush(stdout);
      window_us = us;
      window_cpu = cpu;
    }
  }
  return 0;
}
