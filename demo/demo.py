"""./dev demo: from a live PostgreSQL to a view and to Iceberg, shown in the terminal, compared at the end."""
import argparse
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))
import lib  # noqa: E402

# The probe: an order every 200 ms, looked for in a view on the view, and in an Iceberg table of its own.
PROBE = [
    "CREATE MATERIALIZED VIEW probe AS SELECT max(order_id) AS newest FROM order_totals WHERE status = 'probe'",
    """CREATE SINK probe_lake AS SELECT order_id FROM order_totals WHERE status = 'probe' WITH (connector = 'iceberg', type = 'upsert',
       primary_key = 'order_id', database.name = 'shop', table.name = 'probe', create_table_if_not_exists = 'true',
       commit_checkpoint_interval = 1)""",
]


def say(text):
    print(f"\033[1m==>\033[0m {text}" if sys.stdout.isatty() else f"==> {text}", flush=True)


class Probe:
    """Freshness as a client sees it: from the return of COMMIT to the first read that shows the row."""

    def __init__(self, pg, server):
        self.pg, self.server = pg, server
        self.committed = []  # (order id, time), in order
        self.view_ms, self.lake_ms = [], []
        self.stop_writing, self.stop_reading = threading.Event(), threading.Event()
        self.error = None
        self.threads = [threading.Thread(target=self._guard, args=(w,), daemon=True)
                        for w in (self._write, self._watch_view, self._watch_lake)]
        for t in self.threads:
            t.start()

    def _guard(self, work):
        try:
            work()
        except Exception as e:  # shown by the main thread
            self.error = self.error or e

    def _write(self):
        with self.pg.connect() as c:
            while not self.stop_writing.wait(0.2):
                order = c.execute("INSERT INTO orders (customer_id, status) VALUES (0, 'probe') RETURNING id").fetchone()[0]
                self.committed.append((order, time.monotonic()))

    def _watch_view(self):
        with self.server.connect() as c:
            while not self.stop_reading.is_set():
                row = c.execute("SELECT newest FROM probe").fetchone()
                now = time.monotonic()
                while row and row[0] and len(self.view_ms) < len(self.committed) and self.committed[len(self.view_ms)][0] <= row[0]:
                    self.view_ms.append((now - self.committed[len(self.view_ms)][1]) * 1000)
                time.sleep(0.002)

    def _watch_lake(self):
        while not self.stop_reading.is_set():
            snapshot = self.server.snapshot("shop", "probe")
            now = time.monotonic()
            while snapshot and len(self.lake_ms) < min(int(snapshot["summary"]["total-records"]), len(self.committed)):
                self.lake_ms.append((now - self.committed[len(self.lake_ms)][1]) * 1000)
            time.sleep(0.02)

    def caught_up(self):
        return self.error or len(self.view_ms) == len(self.lake_ms) == len(self.committed)

    def finish(self):
        self.stop_writing.set()
        self.threads[0].join()
        lib.wait_for("the last order reaches the view and Iceberg", self.caught_up, 60)
        self.stop_reading.set()
        for t in self.threads:
            t.join()
        if self.error:
            raise lib.CannotMeasure(f"probe: {self.error}")


def spread(values):
    recent = values[-300:]
    return f"p50 {lib.percentile(recent, 50):6.0f} ms  p99 {lib.percentile(recent, 99):6.0f} ms" if recent else "none yet"


class Screen:
    """Redraws its lines in place on a terminal; elsewhere prints one line each five seconds."""

    def __init__(self):
        self.lines, self.printed = 0, 0.0

    def draw(self, lines, summary):
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            out = f"\033[{self.lines}A" if self.lines else ""
            out += "".join(f"\033[2K{line[:width - 1]}\n" for line in lines)
            out += "\033[2K\n" * max(0, self.lines - len(lines))
            self.lines = max(self.lines, len(lines))
            sys.stdout.write(out)
            sys.stdout.flush()
        elif time.monotonic() - self.printed >= 5:
            self.printed = time.monotonic()
            print(summary, flush=True)


def show(screen, server, c, probe, start, before):
    metrics = server.metrics()
    rows_in = int(sum(v for k, v in metrics.items() if k.startswith("tidewater_source_rows_total")))
    now = time.monotonic()
    rate = (rows_in - before[1]) / (now - before[0]) if before else 0
    loaded = server.load_table("shop", "order_totals")
    committed = loaded["metadata"].get("last-sequence-number", 0) if loaded else 0
    files = loaded["metadata"]["snapshots"][-1]["summary"].get("total-data-files", "0") if committed else "0"
    lines = [f"{now - start:5.0f} s   rows in {rows_in:>9,} ({rate:6.0f}/s)   Tidewater: {lib.memory_mb(server.pid, 'VmRSS'):4.0f} MB, "
             f"{server.cpu() / max(now - start, 0.1):4.2f} cores",
             f"freshness  view    {spread(probe.view_ms)}",
             f"           Iceberg {spread(probe.lake_ms)}",
             f"Iceberg    {committed} snapshots committed, {files} data files in the newest",
             "", f"{'region':<8}{'status':<10}{'orders':>9}{'revenue':>16}{'smallest':>12}{'largest':>12}"]
    for row in c.execute("SELECT region, status, orders, revenue, smallest, largest FROM revenue ORDER BY region, status LIMIT 12").fetchall():
        region, status, orders, *money = row
        lines.append(f"{region:<8}{status:<10}{orders:>9,}" + "".join(f"{'' if m is None else f'{m:,}':>{w}}" for m, w in zip(money, (16, 12, 12))))
    summary = (f"{now - start:5.0f} s  rows in {rows_in:,} ({rate:.0f}/s)  view {spread(probe.view_ms)}  Iceberg {spread(probe.lake_ms)}  "
               f"{committed} snapshots")
    screen.draw(lines, summary)
    return now, rows_in


def view_queries():
    """The views of pipeline.sql by name, in order: PostgreSQL runs the same SQL."""
    text = (HERE / "pipeline.sql").read_text()
    return dict(re.findall(r"CREATE MATERIALIZED VIEW (\w+) AS\s(.*?);", text, re.S))


def difference(name, ours, theirs, whose):
    ours, theirs = sorted(map(repr, ours)), sorted(map(repr, theirs))
    if ours == theirs:
        say(f"{name}: {len(ours):,} rows, the same in PostgreSQL and {whose}")
        return 0
    only_ours, only_theirs = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    say(f"{name} DIFFERS: PostgreSQL has {len(ours):,} rows, {whose} {len(theirs):,}")
    for label, rows in (("only in PostgreSQL", only_ours), (f"only in {whose}", only_theirs)):
        for row in rows[:5]:
            print(f"    {label}: {row}")
    return 1


def compare(pg, server):
    bad = 0
    with pg.connect() as p, server.connect() as t:
        t.execute("FLUSH")
        for name, query in view_queries().items():
            p.execute(f"CREATE TEMP VIEW {name} AS {query}")
            expected = p.execute(f"SELECT * FROM {name}").fetchall()
            bad += difference(f"view {name}", expected, t.execute(f"SELECT * FROM {name}").fetchall(), "the view")
            if name == "order_totals":
                warnings.filterwarnings("ignore")
                table = server.pyiceberg().load_table(("shop", name)).scan().to_arrow()
                columns = [table[c].to_pylist() for c in table.column_names]
                bad += difference(f"Iceberg table shop.{name}", expected, list(zip(*columns)), "PyIceberg")
    return bad


def run_psql(pg, server):
    command = [str(pg.bin / "psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(server.port), "-U", "tidewater", "-d", "dev", "-v",
               "ON_ERROR_STOP=1", "-v", f"pg_port={pg.port}", "-v", f"pg_user={pg.superuser}", "-v", "pg_password=unused", "-f",
               str(HERE / "pipeline.sql")]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise lib.CannotMeasure(f"pipeline.sql: {result.stderr.strip()}\n{server.log_tail()}")


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    parser.add_argument("--seconds", type=float, help="end by itself after so many seconds")
    parser.add_argument("--rate", type=int, default=300, help="transactions a second")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    args = parser.parse_args()
    folder = lib.scratch(args.keep)

    say("PostgreSQL: a private server with logical replication")
    pg = lib.Postgres().start()
    with pg.connect() as c:
        c.execute((HERE / "shop.sql").read_text())
    script = folder / "workload.sql"
    shutil.copy(HERE / "workload.sql", script)
    script.chmod(0o644)

    say(f"workload: pgbench, {args.rate} transactions a second")
    log = open(folder / "pgbench.log", "w")
    workload = subprocess.Popen(pg.tool("pgbench") + ["-n", "-f", str(script), "-c", "2", "-j", "1", "-R", str(args.rate), "-T", "1000000",
                                "--max-tries=10", pg.database], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                start_new_session=True, preexec_fn=lib._die_with_parent)
    try:
        say("Tidewater")
        server = lib.Tidewater(args.binary, state=folder / "state").start()
        say(f"pipeline.sql   (look around: psql -h 127.0.0.1 -p {server.port} -U tidewater dev)")
        run_psql(pg, server)
        with server.connect() as c:
            for statement in PROBE:
                c.execute(statement)
        probe = Probe(pg, server)
        screen, start, before = Screen(), time.monotonic(), None
        try:
            with server.connect() as c:
                while args.seconds is None or time.monotonic() - start < args.seconds:
                    if probe.error:
                        raise lib.CannotMeasure(f"probe: {probe.error}")
                    if workload.poll() is not None:
                        raise lib.CannotMeasure(f"the workload ended:\n{(folder / 'pgbench.log').read_text()[-1000:]}")
                    before = show(screen, server, c, probe, start, before)
                    time.sleep(1.0 if args.seconds is None else max(0.0, min(1.0, args.seconds - (time.monotonic() - start))))
        except KeyboardInterrupt:
            print()
    finally:
        workload.terminate()
        workload.wait()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    say("the workload stops; waiting for its last rows")
    probe.finish()
    bad = compare(pg, server)
    say(f"freshness: view {spread(probe.view_ms)}, Iceberg {spread(probe.lake_ms)}")
    server.stop()
    pg.stop()
    if bad:
        say("something differs")
        sys.exit(1)


if __name__ == "__main__":
    lib.main(run)
