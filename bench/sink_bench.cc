// The Iceberg sink alone, without engine and server: the initial load, and a commit each second's worth of changes.
//
//   sink_bench [--format-version 2|3] [--rows 3000000] [--commits 60] [--changes 10000] [--dir DIR]
//
// Prints rows per CPU-second of the load (filling the chunks not counted), the time to rebuild the index, and the
// latency and CPU of commits of random updates, inserts and deletes over all rows.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <CLI/CLI.hpp>
#include "tidewater/base/clock.h"
#include "tidewater/iceberg/files.h"
#include "tidewater/sinks/iceberg/iceberg_sink.h"

namespace tidewater {
namespace {

void OrDie(const Status& status) {
  if (status) return;
  fmt::print(stderr, "{}: {}\n", status.error().sqlstate, status.error().ToString());
  std::exit(1);
}

uint64_t PeakMemoryBytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  return 0;
}

/// Chunks of bigint key, int, numeric(12,2), text, timestamptz; a row's values follow from its id and version.
class Rows {
 public:
  explicit Rows(const Types& types) { batch_.types = types; }
  void Add(int64_t id, int64_t version, int64_t weight) {
    if (count_ == 0) {
      DeltaChunk c;
      c.rows = std::make_unique<DataChunk>();
      c.rows->Initialize(duckdb::Allocator::DefaultAllocator(), batch_.types);
      batch_.chunks.push_back(std::move(c));
    }
    auto& chunk = batch_.chunks.back();
    auto& data = chunk.rows->data;
    using duckdb::FlatVector;
    FlatVector::GetData<int64_t>(data[0])[count_] = id;
    FlatVector::GetData<int32_t>(data[1])[count_] = (id + version) % 1000;
    FlatVector::GetData<int64_t>(data[2])[count_] = (id * 31 + version) % 10'000'000;
    char text[40];
    int length = std::snprintf(text, sizeof text, "note of row %lld", static_cast<long long>(id));
    FlatVector::GetData<duckdb::string_t>(data[3])[count_] = duckdb::StringVector::AddString(data[3], text, length);
    FlatVector::GetData<int64_t>(data[4])[count_] = 1'704'067'200'000'000 + (id + version) * 1'000'000;
    if (weight != 1 && chunk.weights.empty()) chunk.weights.assign(count_, 1);
    if (!chunk.weights.empty() || weight != 1) chunk.weights.push_back(weight);
    chunk.rows->SetCardinality(++count_);
    if (count_ == STANDARD_VECTOR_SIZE) count_ = 0;
  }
  DeltaBatch Take() {
    count_ = 0;
    DeltaBatch out;
    out.types = batch_.types;
    out.chunks.swap(batch_.chunks);
    return out;
  }

 private:
  DeltaBatch batch_;
  duckdb::idx_t count_ = 0;
};

int Run(int argc, char** argv) {
  CLI::App app("The Iceberg sink alone");
  int format_version = 2;
  int64_t rows = 3'000'000, changes = 10'000;
  int commits = 60;
  std::string dir;
  app.add_option("--format-version", format_version);
  app.add_option("--rows", rows);
  app.add_option("--changes", changes);
  app.add_option("--commits", commits);
  app.add_option("--dir", dir, "where the warehouse is made, and removed afterwards");
  CLI11_PARSE(app, argc, argv);
  if (dir.empty()) dir = std::filesystem::temp_directory_path() / ("tidewater-sink-bench-" + iceberg::NewUuid());

  SinkOptions options;
  options.name = "bench";
  options.uuid = iceberg::NewUuid();
  options.generation = 1;
  options.state_dir = dir;
  options.input.columns = {{"id", LogicalType::BIGINT, true, 0},
                           {"n", LogicalType::INTEGER, false, 0},
                           {"amount", LogicalType::DECIMAL(12, 2), false, 0},
                           {"note", LogicalType::VARCHAR, false, 0},
                           {"updated", LogicalType::TIMESTAMP_TZ, false, 0}};
  options.input.primary_key = {0};
  options.options = {{"type", "upsert"},
                     {"database.name", "bench"},
                     {"table.name", "big"},
                     {"create_table_if_not_exists", "true"},
                     {"format-version", std::to_string(format_version)}};
  auto start = [&] {
    auto made = MakeIcebergSink(options);
    if (!made) OrDie(std::unexpected(made.error()));
    OrDie((*made)->Start());
    return std::move(*made);
  };
  auto sink = start();
  auto types = options.input.GetTypes();
  Rows source(types);

  // The load: a checkpoint for each half million rows.
  CheckpointId id = 0;
  int64_t load_cpu = 0, load_us = 0;
  for (int64_t at = 0; at < rows;) {
    int64_t end = std::min(rows, at + 500'000);
    for (; at < end; at++) source.Add(at, 0, 1);
    auto batch = source.Take();
    auto cpu = ProcessCpuMicros(), wall = MonotonicMicros();
    sink->Append(++id, std::move(batch));
    sink->CheckpointDurable(id, 0);
    OrDie(sink->WaitCommitted(id, 600'000));
    load_cpu += ProcessCpuMicros() - cpu;
    load_us += MonotonicMicros() - wall;
  }
  fmt::print("figure load_rows_per_cpu_s {:.0f} rows/s\n", rows * 1e6 / std::max<int64_t>(load_cpu, 1));
  fmt::print("figure load_ms {} ms\n", load_us / 1000);
  fmt::print("figure load_peak_mb {} MB\n", PeakMemoryBytes() >> 20);

  // A restart reads the keys of all rows.
  sink->Stop();
  sink.reset();
  options.generation++;
  auto cpu = ProcessCpuMicros(), wall = MonotonicMicros();
  sink = start();
  source.Add(rows, 0, 1);
  sink->Append(++id, source.Take());
  sink->CheckpointDurable(id, 0);
  OrDie(sink->WaitCommitted(id, 600'000));
  fmt::print("figure restart_index_ms {} ms\n", (MonotonicMicros() - wall) / 1000);
  fmt::print("figure restart_index_cpu_ms {} ms\n", (ProcessCpuMicros() - cpu) / 1000);

  // Changes: half updates (two deltas each), a quarter inserts, a quarter deletes.
  std::mt19937_64 random(1);
  std::vector<int32_t> version(rows + 1 + int64_t(commits) * changes, -1);
  std::fill_n(version.begin(), rows + 1, 0);
  int64_t next = rows + 1, commit_cpu = 0;
  std::vector<int64_t> latencies;
  for (int c = 0; c < commits; c++) {
    for (int64_t i = 0; i < changes; i++) {
      if (i % 4 == 0) {
        version[next] = 0;
        source.Add(next++, 0, 1);
        continue;
      }
      int64_t key = random() % next;
      if (version[key] < 0) continue;
      source.Add(key, version[key], -1);
      if (i % 4 == 1)
        version[key] = -1;
      else
        source.Add(key, ++version[key], 1);
    }
    auto batch = source.Take();
    auto cpu = ProcessCpuMicros(), wall = MonotonicMicros();
    sink->Append(++id, std::move(batch));
    sink->CheckpointDurable(id, 0);
    OrDie(sink->WaitCommitted(id, 600'000));
    commit_cpu += ProcessCpuMicros() - cpu;
    latencies.push_back((MonotonicMicros() - wall) / 1000);
  }
  if (!latencies.empty()) {
    std::sort(latencies.begin(), latencies.end());
    fmt::print("figure commit_p50_ms {} ms\n", latencies[latencies.size() / 2]);
    fmt::print("figure commit_p99_ms {} ms\n", latencies[latencies.size() * 99 / 100]);
    fmt::print("figure commit_cpu_ms {:.1f} ms\n", commit_cpu / 1000.0 / latencies.size());
  }
  fmt::print("figure peak_mb {} MB\n", PeakMemoryBytes() >> 20);
  sink->Stop();
  sink.reset();
  std::filesystem::remove_all(dir);
  return 0;
}

}  // namespace
}  // namespace tidewater

int main(int argc, char** argv) { return tidewater::Run(argc, argv); }
