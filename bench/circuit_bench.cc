// One Nexmark query through planner, circuit and state log in one process, without engine and server: for profiling.
//
//   circuit_bench q4 --events 3000000 [--view] [--workers N] [--checkpoints] [--stats]     (from the project's root)
//   circuit_bench gen --columns auction,price,date_time                  the generator alone, table bid
//
// Prints one line: thousands of events per CPU-second of the process (generator included), ns per event, peak memory.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <CLI/CLI.hpp>
#include "tidewater/base/clock.h"
#include "tidewater/dataflow/circuit.h"
#include "tidewater/io/object_store.h"
#include "tidewater/sources/api/source.h"
#include "tidewater/sources/nexmark/nexmark.h"
#include "tidewater/sql/frontend.h"
#include "tidewater/sql/plan_codec.h"
#include "tidewater/state/state_log.h"

namespace tidewater {
namespace {

struct Arguments {
  std::string query = "q0";
  uint64_t events = 3'000'000;
  uint64_t step = 32'768;
  bool view = false, checkpoints = false, stats = false, explain = false;
  int workers = 1;
  int64_t checkpoint_ms = 1000;
  std::string queries = "bench/nexmark";
  std::string state;
  std::string columns;
};

template <class T>
T OrDie(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "{}: {}\n", result.error().sqlstate, result.error().ToString());
  std::exit(1);
}
void OrDie(Status status) {
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

std::map<std::string, std::string> With(const std::string& table, uint64_t events) {
  return {{"connector", "nexmark"},
          {"nexmark.table.type", table},
          {"nexmark.event.num", std::to_string(events)},
          {"nexmark.min.event.gap.in.ns", "0"}};
}

void Print(const Arguments& a, int64_t cpu_us, int64_t wall_us, uint64_t rows) {
  fmt::print(
      "{:<4} {:<4} workers {} {:>8.0f} kevents/CPU-s {:>8.1f} ns/event {:>6.2f} s wall {:>6.0f} MB peak {:>10} rows "
      "out\n",
      a.query,
      a.query == "gen" ? ""
      : a.view         ? "view"
                       : "sink",
      a.workers, double(a.events) * 1e3 / double(cpu_us), double(cpu_us) * 1e3 / double(a.events),
      double(wall_us) / 1e6, double(PeakMemoryBytes()) / 1e6, rows);
}

std::unique_ptr<Source> Open(const SourceConnector& connector, const std::string& table, uint64_t events,
                             SourceTable slice) {
  SourceOptions options;
  options.options = With(table, events);
  auto source = OrDie(connector.make(options));
  slice.schema = OrDie(connector.fixed_schema(options.options));
  OrDie(source->AddTable(slice));
  OrDie(source->Start(""));
  return source;
}

void RunGenerator(const Arguments& a) {
  auto* connector = OrDie(SourceRegistry::Get().Find("nexmark"));
  auto schema = OrDie(connector->fixed_schema(With("Bid", a.events)));
  SourceTable slice;
  slice.id = 1;
  std::stringstream names(a.columns);
  for (std::string name; std::getline(names, name, ',');) slice.needed.push_back(uint32_t(schema.Find(name)));
  auto source = Open(*connector, "Bid", a.events, slice);
  uint64_t rows = 0;
  int64_t wall = MonotonicMicros(), cpu = ProcessCpuMicros();
  while (auto batch = source->Poll(a.step)) rows += batch->RowCount();
  Print(a, ProcessCpuMicros() - cpu, MonotonicMicros() - wall, rows);
}

void RunQuery(const Arguments& a) {
  std::ifstream file(a.queries + "/" + a.query + ".sql");
  if (!file) {
    fmt::print(stderr, "no file {}/{}.sql\n", a.queries, a.query);
    std::exit(1);
  }
  std::stringstream query;
  query << file.rdbuf();

  auto* connector = OrDie(SourceRegistry::Get().Find("nexmark"));
  catalog::Catalog catalog;
  const std::pair<const char*, const char*> tables[] = {{"person", "Person"}, {"auction", "Auction"}, {"bid", "Bid"}};
  std::vector<ObjectId> ids;
  for (auto [name, type] : tables) {
    catalog::Object object;
    object.id = catalog.NextId();
    object.type = catalog::ObjectType::kSource;
    object.name = name;
    object.stream_only = true;
    object.columns = sql::FromColumns(OrDie(connector->fixed_schema(With(type, a.events))).columns);
    ids.push_back(object.id);
    OrDie(catalog.Add(std::move(object)));
  }
  auto frontend = OrDie(sql::Frontend::Make(catalog, {}));
  auto plan = OrDie(frontend->PlanView(query.str()));
  if (a.explain) fmt::print("{}\n", frontend->ExplainView(*plan.plan));

  auto circuit = dataflow::Circuit::Make(frontend->db(), {.workers = a.workers});
  for (size_t i = 0; i < ids.size(); i++)
    circuit->AddStream(ids[i], OrDie(connector->fixed_schema(With(tables[i].second, a.events))).GetTypes());
  ObjectId view = catalog.NextId();

  std::unique_ptr<state::StateLog> log;
  CheckpointId checkpoint = 0;
  std::string folder = a.state;
  if (a.checkpoints) {
    if (folder.empty()) folder = std::filesystem::temp_directory_path() / fmt::format("circuit_bench.{}", getpid());
    log = OrDie(state::StateLog::Open(OrDie(io::OpenStore(folder))));
    checkpoint = log->last();
  }

  int64_t wall = MonotonicMicros(), cpu = ProcessCpuMicros();
  catalog::Object object;
  object.plan = OrDie(sql::EncodePlan(*plan.plan));
  OrDie(circuit->AddView(
      view, [&](duckdb::ClientContext& context) { return frontend->LoadPlan(object, context); }, a.view));
  if (!a.view) circuit->KeepOutput(view, true);
  std::vector<std::unique_ptr<Source>> sources;
  std::vector<ObjectId> read;
  for (size_t i = 0; i < ids.size(); i++) {
    if (std::find(plan.depends_on.begin(), plan.depends_on.end(), ids[i]) == plan.depends_on.end()) continue;
    SourceTable slice;
    slice.id = ids[i];
    slice.needed = circuit->NeededColumns(ids[i]);
    sources.push_back(Open(*connector, tables[i].second, a.events, slice));
    read.push_back(ids[i]);
  }

  uint64_t rows = 0, log_bytes = 0;
  int64_t checkpoint_at = MonotonicMicros() + a.checkpoint_ms * 1000;
  auto take_checkpoint = [&] {
    auto segment = std::make_unique<state::SegmentBuilder>(++checkpoint);
    circuit->Checkpoint(*segment);
    log_bytes += segment->bytes();
    log->Commit(std::move(segment), [](Status status) { OrDie(std::move(status)); });
  };
  Epoch epoch = 0;
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < sources.size(); i++) {
      auto batch = sources[i]->Poll(a.step);
      if (!batch) continue;
      more = true;
      DeltaBatch delta;
      if (!batch->changes.empty()) {
        for (auto& column : batch->changes[0].rows->data) delta.types.push_back(column.GetType());
        for (auto& change : batch->changes) delta.chunks.push_back({std::move(change.rows), {}});
        circuit->Push(read[i], std::move(delta));
      }
    }
    if (!more) break;
    circuit->Step(++epoch);
    if (!a.view) rows += circuit->Output(view).rows();
    circuit->Publish(epoch);
    if (log && MonotonicMicros() >= checkpoint_at) {
      take_checkpoint();
      checkpoint_at = MonotonicMicros() + a.checkpoint_ms * 1000;
    }
  }
  if (log) {
    take_checkpoint();
    OrDie(log->Flush());
  }
  int64_t cpu_us = ProcessCpuMicros() - cpu, wall_us = MonotonicMicros() - wall;
  if (a.view) rows = circuit->Pin()->Rows(view);
  Print(a, cpu_us, wall_us, rows);
  for (auto& error : circuit->TakeErrors()) fmt::print(stderr, "evaluation error: {} ({})\n", error.message, error.row);
  if (a.stats) {
    fmt::print("steps {}, memory {:.0f} MB, checkpoints {} with {:.0f} MB uncompressed\n", epoch,
               double(circuit->MemoryBytes()) / 1e6, checkpoint, double(log_bytes) / 1e6);
    for (auto& s : circuit->Stats())
      fmt::print("  node {:>2} {:<12} in {:>10} out {:>10} state rows {:>10} bytes {:>12} cpu {:>8.1f} ms\n", s.node,
                 s.name, s.rows_in, s.rows_out, s.state_rows, s.state_bytes, double(s.cpu_us) / 1e3);
  }
  if (log && a.state.empty()) {
    log.reset();
    std::filesystem::remove_all(folder);
  }
}

}  // namespace
}  // namespace tidewater

int main(int argc, char** argv) {
  tidewater::Arguments a;
  CLI::App app("Nexmark queries on the circuit alone");
  app.add_option("query", a.query, "q0 ... q22, or gen");
  app.add_option("--events", a.events, "events of all types");
  app.add_option("--step", a.step, "events a step");
  app.add_flag("--view", a.view, "keep the result as a view instead of reading its changes");
  app.add_flag("--checkpoints", a.checkpoints, "a checkpoint each second");
  app.add_option("--checkpoint-ms", a.checkpoint_ms);
  app.add_option("--workers", a.workers);
  app.add_option("--queries", a.queries, "folder of the .sql files");
  app.add_option("--state", a.state, "where checkpoints go; a temporary folder unless given");
  app.add_option("--columns", a.columns, "gen: columns of bid");
  app.add_flag("--stats", a.stats, "operators, state and checkpoints");
  app.add_flag("--explain", a.explain, "the plan");
  CLI11_PARSE(app, argc, argv);
  tidewater::RegisterNexmark();
  if (a.query == "gen") {
    tidewater::RunGenerator(a);
  } else {
    tidewater::RunQuery(a);
  }
  return 0;
}
