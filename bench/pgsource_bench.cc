// How fast the PostgreSQL source alone is: the stream of row changes decoded into DataChunks, against pg_recvlogical
// writing the same changes to /dev/null, and the initial load.   pgsource_bench [--rows N] [--load-rows N] [--text]
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <iostream>
#include <thread>
#include <CLI/CLI.hpp>
#include "support/postgres_server.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/log.h"
#include "tidewater/sources/postgres/connector.h"

using namespace tidewater;

namespace {

double Seconds(int64_t from_us) { return double(MonotonicMicros() - from_us) / 1e6; }

struct Run {
  std::unique_ptr<Source> source;
  uint64_t rows = 0;
  std::string offset;
  bool loaded = false;
  std::atomic<bool> woken{false};

  void Step() {
    if (auto b = source->Poll(32768)) {
      rows += b->RowCount();
      loaded = loaded || !b->loaded.empty();
      offset = b->offset;
      if (!b->continues) source->Confirm(offset);
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }
};

std::unique_ptr<Run> Follow(test::PostgresServer& pg, const std::string& name, const std::string& table, bool text) {
  auto run = std::make_unique<Run>();
  auto source = PostgresCdcConnector().make({1,
                                             name,
                                             {{"hostname", "127.0.0.1"},
                                              {"port", std::to_string(pg.port())},
                                              {"username", "postgres"},
                                              {"password", pg.password()},
                                              {"database.name", "postgres"},
                                              {"slot.name", name},
                                              {"publication.name", name}},
                                             {}});
  if (!source) throw std::runtime_error(source.error().ToString());
  run->source = std::move(*source);
  auto schema = run->source->Describe(table);
  if (!schema) throw std::runtime_error(schema.error().ToString());
  if (text) schema->columns.back().type = LogicalType::VARCHAR;
  if (auto s = run->source->AddTable({1, table, *schema, {}, {}}); !s) throw std::runtime_error(s.error().ToString());
  if (auto s = run->source->Start(""); !s) throw std::runtime_error(s.error().ToString());
  return run;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"PostgreSQL source alone"};
  int rows = 1'000'000, load_rows = 3'000'000;
  bool text = false;
  app.add_option("--rows", rows, "row changes of the stream");
  app.add_option("--load-rows", load_rows, "rows of the initial load");
  app.add_flag("--text", text, "declare a column as VARCHAR, so that values come as text");
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::warn);
  auto pg = test::PostgresServer::Start({{"autovacuum", "off"},
                                         {"max_wal_size", "16GB"},
                                         {"checkpoint_timeout", "1h"},
                                         {"logical_decoding_work_mem", "1GB"}});
  if (!pg) {
    std::cerr << "PostgreSQL is not installed\n";
    return 1;
  }
  const std::string ddl = " (id bigint PRIMARY KEY, n int, amount numeric(12,2), note text, at timestamptz)";
  const std::string fill =
      " SELECT i, (i * 7) % 100000, ((i * 13) % 1000000) / 100.0, 'note ' || i, '2024-01-01'::timestamptz + i * "
      "interval '1 second' FROM generate_series(1, ";

  std::cout << "load: filling" << std::endl;
  pg->Run("CREATE TABLE loaded" + ddl);
  pg->Run("INSERT INTO loaded" + fill + std::to_string(load_rows) + ") i");
  {
    auto run = Follow(*pg, "load", "loaded", text);
    int64_t start = MonotonicMicros(), cpu = ProcessCpuMicros();
    while (!run->loaded && Seconds(start) < 120) run->Step();
    double seconds = Seconds(start), cpu_s = double(ProcessCpuMicros() - cpu) / 1e6;
    if (run->rows != uint64_t(load_rows)) {
      std::cerr << "loaded " << run->rows << " rows of " << load_rows << "\n";
      return 1;
    }
    std::cout << fmt::format("load: {} rows in {:.2f} s, {:.2f} CPU-s\n", run->rows, seconds, cpu_s);
    std::cout << fmt::format("figure source_load_rows_per_s {:.0f} rows/s\n", double(run->rows) / seconds);
    std::cout << fmt::format("figure source_load_rows_per_cpu_s {:.0f} rows/cpu-s\n", double(run->rows) / cpu_s);
    run->source->Stop();
    if (auto dropped = run->source->DropUpstream(); !dropped) std::cerr << dropped.error().ToString() << "\n";
  }
  pg->Run("DROP TABLE loaded; CREATE TABLE followed" + ddl);
  pg->Run("INSERT INTO followed" + fill + std::to_string(rows) + ") i");
  pg->Run("CREATE PUBLICATION recv FOR TABLE followed");
  pg->Run("SELECT pg_create_logical_replication_slot('recv', 'pgoutput')");
  auto run = Follow(*pg, "stream", "followed", text);
  while (!run->loaded) run->Step();
  run->source->Stop();
  auto at = run->offset;
  std::cout << "stream: updating" << std::endl;
  pg->Run("UPDATE followed SET n = n + 1, amount = amount + 1");
  auto end = pg->Value("SELECT pg_current_wal_lsn()");

  // Each reads the same changes from its own slot, one after the other.
  auto recv = [&] {
    int64_t start = MonotonicMicros();
    int pid = fork();
    if (pid == 0) {
      auto bin = test::PostgresServer::BinDirectory() + "/pg_recvlogical";
      execl(bin.c_str(), bin.c_str(), "-d", pg->SocketDsn().c_str(), "--slot", "recv", "--start", "-f", "/dev/null",
            "--endpos", end.c_str(), "-o", "proto_version=1", "-o", "publication_names=recv", "--no-loop", nullptr);
      _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status != 0) throw std::runtime_error("pg_recvlogical failed");
    return Seconds(start);
  };
  double recv_s = recv();
  double best = 0, cpu_s = 0;
  {
    auto again = std::make_unique<Run>();
    auto schema = run->source->Describe("followed");
    if (text) schema->columns.back().type = LogicalType::VARCHAR;
    auto made = PostgresCdcConnector().make({1,
                                             "stream",
                                             {{"hostname", "127.0.0.1"},
                                              {"port", std::to_string(pg->port())},
                                              {"username", "postgres"},
                                              {"password", pg->password()},
                                              {"database.name", "postgres"},
                                              {"slot.name", "stream"},
                                              {"publication.name", "stream"}},
                                             {}});
    again->source = std::move(*made);
    if (auto s = again->source->AddTable({1, "followed", *schema, {}, {}}); !s) return 1;
    int64_t start = MonotonicMicros(), cpu = ProcessCpuMicros();
    if (auto s = again->source->Start(at); !s) return 1;
    while (again->rows < uint64_t(rows) && Seconds(start) < 120) again->Step();
    best = Seconds(start);
    cpu_s = double(ProcessCpuMicros() - cpu) / 1e6;
    if (again->rows != uint64_t(rows)) {
      std::cerr << "streamed " << again->rows << " of " << rows << "\n";
      return 1;
    }
    again->source->Stop();
  }
  std::cout << fmt::format("stream: {} changes in {:.2f} s, {:.2f} CPU-s; pg_recvlogical {:.2f} s\n", rows, best, cpu_s,
                           recv_s);
  std::cout << fmt::format("figure source_stream_rows_per_cpu_s {:.0f} rows/cpu-s\n", rows / cpu_s);
  std::cout << fmt::format("figure source_stream_vs_recvlogical {:.2f} ratio\n", recv_s / best);
  return 0;
}
