// Writes Iceberg tables through the sink, for other readers to be compared with: random inserts, updates and deletes
// over many commits, with restarts that replay the log.
//
//   write_tables WAREHOUSE [--commits N] [--run N] [--case NAME] [--option NAME=VALUE]...
//
// Prints a line of JSON: per table its metadata location and the rows that a reader must find. With --run N (1, 2, …)
// it may be killed and started again: all follows from seeds, so a later run hands the same log to a sink of the same
// identity.
#include <cstdio>
#include <map>
#include <random>
#include <nlohmann/json.hpp>
#include "tidewater/iceberg/files.h"
#include "tidewater/sinks/iceberg/iceberg_sink.h"

namespace tidewater {
namespace {

using duckdb::Value;
using Row = duckdb::vector<Value>;

void OrDie(const Status& status) {
  if (status) return;
  fmt::print(stderr, "{}: {} ({})\n", status.error().sqlstate, status.error().ToString(), status.error().hint);
  std::exit(1);
}

struct Case {
  std::string name;
  int format_version;
  uint32_t seed;
  int keys;
};

Schema View() {
  Schema s;
  s.columns = {{"id", LogicalType::BIGINT, true, 0},
               {"part", LogicalType::VARCHAR, true, 0},
               {"n", LogicalType::SMALLINT, false, 0},
               {"amount", LogicalType::DECIMAL(12, 2), false, 0},
               {"big", LogicalType::DECIMAL(38, 10), false, 0},
               {"note", LogicalType::VARCHAR, false, 0},
               {"at", LogicalType::TIMESTAMP_TZ, false, 0},
               {"local", LogicalType::TIMESTAMP, false, 0},
               {"day", LogicalType::DATE, false, 0},
               {"clock", LogicalType::TIME, false, 0},
               {"ratio", LogicalType::DOUBLE, false, 0},
               {"flag", LogicalType::BOOLEAN, false, 0},
               {"token", LogicalType::UUID, false, 0},
               {"raw", LogicalType::BLOB, false, 0},
               {"tags", LogicalType::LIST(LogicalType::VARCHAR), false, 0},
               {"point", LogicalType::STRUCT({{"x", LogicalType::INTEGER}, {"y", LogicalType::DOUBLE}}), false, 0}};
  s.primary_key = {0, 1};
  return s;
}

/// All that a row holds follows from its key and version.
Row Make(const Schema& view, int key, int version) {
  Row row{Value::BIGINT(key / 2), Value(key % 2 ? "odd" : "even, with a longer name than sixteen bytes é")};
  if (version % 13 == 0) {
    for (size_t i = 2; i < view.columns.size(); i++) row.push_back(Value(view.columns[i].type));
    return row;
  }
  row.push_back(Value::SMALLINT(version));
  row.push_back(Value::DECIMAL(int64_t(version) * 101 - 5000, 12, 2));
  row.push_back(
      Value::DECIMAL(duckdb::hugeint_t(version) * duckdb::hugeint_t(int64_t(12'345'678'901'234'567)), 38, 10));
  row.push_back(Value(fmt::format("note {} für Zeile {}", version, key)));
  row.push_back(Value::TIMESTAMPTZ(duckdb::timestamp_tz_t(1'700'000'000'000'000 + version * 1'000'003ll)));
  row.push_back(Value::TIMESTAMP(duckdb::timestamp_t(1'600'000'000'000'000 - version * 1'000'003ll)));
  row.push_back(Value::DATE(duckdb::date_t(version - 200)));
  row.push_back(Value::TIME(duckdb::dtime_t(version * 1'000'007ll % 86'400'000'000)));
  row.push_back(Value::DOUBLE(version / 8.0));
  row.push_back(Value::BOOLEAN(version % 2));
  row.push_back(Value::UUID(duckdb::hugeint_t(version) * duckdb::hugeint_t(int64_t(1) << 62)));
  row.push_back(Value::BLOB(duckdb::const_data_ptr_cast(&version), 3));
  row.push_back(
      Value::LIST(LogicalType::VARCHAR, {Value("a"), Value(LogicalType::VARCHAR), Value(std::to_string(version))}));
  row.push_back(Value::STRUCT({{"x", Value::INTEGER(version)}, {"y", Value::DOUBLE(0.5)}}));
  return row;
}

nlohmann::json Write(const Case& c, const std::string& warehouse, int commits, uint64_t run,
                     const std::map<std::string, std::string>& extra) {
  SinkOptions options;
  options.name = c.name;
  options.uuid = "write-tables-" + c.name;
  options.generation = run * 1000;
  options.input = View();
  options.options = {{"type", "upsert"},
                     {"database.name", "lake"},
                     {"table.name", c.name},
                     {"create_table_if_not_exists", "true"},
                     {"warehouse.path", warehouse},
                     {"format-version", std::to_string(c.format_version)}};
  for (auto& [k, v] : extra) options.options[k] = v;
  std::unique_ptr<Sink> sink;
  auto start = [&] {
    sink.reset();
    auto made = MakeIcebergSink(options);
    if (!made) OrDie(std::unexpected(made.error()));
    sink = std::move(*made);
    OrDie(sink->Start());
  };
  start();
  std::mt19937 random(c.seed);
  std::map<int, int> live;
  std::map<CheckpointId, std::vector<std::pair<Row, int64_t>>> log;
  auto append = [&](CheckpointId id) {
    DeltaBatch batch;
    batch.types = options.input.GetTypes();
    for (auto& [row, weight] : log[id]) batch.AppendRow(row, weight);
    sink->Append(id, std::move(batch));
  };
  int version = 0;
  for (CheckpointId id = 1; id <= CheckpointId(commits); id++) {
    auto& deltas = log[id];
    int changes = id == 1 ? c.keys : 1 + random() % (c.keys / 5);
    for (int i = 0; i < changes; i++) {
      int key = random() % c.keys;
      auto it = live.find(key);
      if (it != live.end()) {
        deltas.push_back({Make(options.input, key, it->second), -1});
        if (random() % 4 == 0) {
          live.erase(it);
          continue;
        }
      }
      live[key] = ++version;
      deltas.push_back({Make(options.input, key, version), 1});
    }
    append(id);
    if (id % 7 == 0) {
      // A crash and the replay of the whole log.
      options.generation++;
      start();
      for (auto& [old, _] : log) append(old);
    }
    sink->CheckpointDurable(id, 0);
    OrDie(sink->WaitCommitted(id, 60'000));
  }
  sink->Stop();
  auto config = ParseIcebergSinkOptions(options.options, options.input);
  if (!config) OrDie(std::unexpected(config.error()));
  auto catalog = OpenSinkCatalog(*config, "");
  if (!catalog) OrDie(std::unexpected(catalog.error()));
  auto table = (*catalog)->LoadTable(config->table);
  if (!table) OrDie(std::unexpected(table.error()));
  nlohmann::json rows = nlohmann::json::array();
  for (auto& [key, v] : live) {
    auto row = nlohmann::json::array();
    auto values = Make(options.input, key, v);
    for (size_t i = 0; i < values.size(); i++) {
      auto& value = values[i];
      if (value.IsNull()) {
        row.push_back(nullptr);
      } else if (value.type().id() == duckdb::LogicalTypeId::BLOB) {
        std::string hex;
        for (unsigned char b : duckdb::StringValue::Get(value)) hex += fmt::format("{:02x}", b);
        row.push_back(hex);
      } else {
        row.push_back(value.ToString());
      }
    }
    rows.push_back(std::move(row));
  }
  return {{"name", c.name},
          {"format_version", c.format_version},
          {"metadata", table->metadata_location},
          {"snapshots", table->metadata->snapshots.size()},
          {"rows", std::move(rows)}};
}

int Run(int argc, char** argv) {
  std::string warehouse;
  int commits = 40;
  uint64_t run = 1;
  std::string only;
  std::map<std::string, std::string> extra;
  for (int i = 1; i < argc; i++) {
    std::string a = argv[i];
    if (a == "--commits" && i + 1 < argc) {
      commits = std::stoi(argv[++i]);
    } else if (a == "--run" && i + 1 < argc) {
      run = std::stoull(argv[++i]);
    } else if (a == "--case" && i + 1 < argc) {
      only = argv[++i];
    } else if (a == "--option" && i + 1 < argc) {
      std::string option = argv[++i];
      auto at = option.find('=');
      if (at == std::string::npos) return 2;
      extra[option.substr(0, at)] = option.substr(at + 1);
    } else if (warehouse.empty() && !a.starts_with("-")) {
      warehouse = a;
    } else {
      warehouse.clear();
      break;
    }
  }
  if (warehouse.empty()) {
    fmt::print(stderr,
               "usage: write_tables WAREHOUSE [--commits N] [--run N] [--case NAME] [--option NAME=VALUE]...\n");
    return 2;
  }
  nlohmann::json out = nlohmann::json::array();
  for (auto& c : {Case{"v2", 2, 1, 500}, Case{"v2_few", 2, 2, 10}, Case{"v3", 3, 3, 500}, Case{"v3_few", 3, 4, 10}})
    if (only.empty() || only == c.name) out.push_back(Write(c, warehouse, commits, run, extra));
  fmt::print("{}\n", out.dump());
  return 0;
}

}  // namespace
}  // namespace tidewater

int main(int argc, char** argv) { return tidewater::Run(argc, argv); }
