"""How long a committed row takes from PostgreSQL to a view and to an Iceberg snapshot, under load.

A marker row each 100 ms, from the return of its COMMIT to the first SELECT over the wire that shows it, and to the first load
of the table from the REST catalog whose current snapshot holds it. The pipeline: postgres-cdc -> filter and join (view
`enriched`, delivered to Iceberg as upserts) -> aggregate (view `by_region`, in which the marker is looked for). The load:
updates of existing orders at 1,000 and at 10,000 rows a second.

Which snapshot of `enriched` holds a marker is told by the checkpoint in the snapshot summaries: a small table that gets the
markers alone says by its number of rows in which checkpoint each of them was.

figure view_p50_ms view_p99_ms iceberg_p50_ms iceberg_p99_ms   at 10,000 rows/s; at 1,000 the names start with r1k_
figure cpu_cores, peak_mb                                      of the Tidewater process meanwhile
"""
import subprocess
import threading
import time

import lib

ORDERS = 200_000
CUSTOMERS = 1_000
ROWS_A_TRANSACTION = 10

SCHEMA = f"""
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region text NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL, amount numeric(12,2) NOT NULL, status text NOT NULL,
                     marker bigint, updated timestamptz NOT NULL DEFAULT now());
INSERT INTO customers SELECT i, 'customer ' || i, (ARRAY['north','south','east','west'])[1 + i % 4] FROM generate_series(1, {CUSTOMERS}) i;
INSERT INTO customers VALUES (0, 'marker', 'marker');
INSERT INTO orders SELECT i, 1 + i % {CUSTOMERS}, (i % 1000) + 0.5, 'open' FROM generate_series(1, {ORDERS}) i;
"""
PIPELINE = [
    "CREATE TABLE customers (*) FROM pg TABLE 'public.customers'",
    "CREATE TABLE orders (*) FROM pg TABLE 'public.orders'",
    """CREATE MATERIALIZED VIEW enriched AS
       SELECT o.id, o.amount, o.status, o.marker, o.updated, c.name, c.region
       FROM orders o JOIN customers c ON o.customer_id = c.id WHERE o.amount >= 0""",
    """CREATE MATERIALIZED VIEW by_region AS
       SELECT region, count(*) AS orders, sum(amount) AS amount, max(marker) AS marker FROM enriched GROUP BY region""",
    """CREATE SINK enriched_lake FROM enriched WITH (connector = 'iceberg', type = 'upsert', primary_key = 'id',
       database.name = 'bench', table.name = 'enriched', create_table_if_not_exists = 'true', commit_checkpoint_interval = 1)""",
    """CREATE SINK markers_lake AS SELECT id FROM enriched WHERE marker IS NOT NULL WITH (connector = 'iceberg', type = 'upsert',
       primary_key = 'id', database.name = 'bench', table.name = 'markers', create_table_if_not_exists = 'true',
       commit_checkpoint_interval = 1)""",
]


def checkpoint(snapshot):
    return int(snapshot["summary"]["tidewater.checkpoint"])


class Markers:
    """Commits a marker row each 100 ms and notes when others see it."""

    def __init__(self, pg, server):
        self.pg, self.server = pg, server
        self.committed, self.in_view, self.in_lake = {}, {}, {}
        self.stop_writing, self.stop_reading = threading.Event(), threading.Event()
        self.errors = []
        self.last = 0

    def _guard(self, work):
        def run():
            try:
                work()
            except Exception as e:  # reported by the main thread
                self.errors.append(e)
        return threading.Thread(target=run, daemon=True)

    def write(self):
        with self.pg.connect() as c:
            due = time.monotonic()
            while not self.stop_writing.is_set():
                k = self.last + 1
                c.execute("INSERT INTO orders VALUES (%s, 0, 1, 'marker', %s)", (10_000_000 + k, k))
                self.committed[k] = time.monotonic()
                self.last = k
                due = max(due + 0.1, time.monotonic())
                time.sleep(max(0, due - time.monotonic()))

    def watch_view(self):
        seen = 0
        with self.server.connect() as c:
            while not self.stop_reading.is_set():
                row = c.execute("SELECT marker FROM by_region WHERE region = 'marker'").fetchone()
                now = time.monotonic()
                for k in range(seen + 1, (row[0] if row and row[0] else 0) + 1):
                    self.in_view[k] = now
                seen = max(seen, row[0] if row and row[0] else 0)
                time.sleep(0.001)

    def watch_lake(self):
        seen = 0
        checkpoint_of = {}  # marker -> the checkpoint that contains it first
        while not self.stop_reading.is_set():
            main = self.server.snapshot("bench", "enriched")
            now = time.monotonic()
            markers = self.server.snapshot("bench", "markers")
            for k in range(len(checkpoint_of) + 1, (int(markers["summary"]["total-records"]) if markers else 0) + 1):
                checkpoint_of[k] = checkpoint(markers)
            while main and seen + 1 in checkpoint_of and checkpoint_of[seen + 1] <= checkpoint(main):
                seen += 1
                # The answer about `markers` came later than the one about `enriched`, so a marker may be noted one look late.
                self.in_lake[seen] = now
            time.sleep(0.01)

    def start(self):
        self.threads = [self._guard(w) for w in (self.write, self.watch_view, self.watch_lake)]
        for t in self.threads:
            t.start()

    def finish(self):
        self.stop_writing.set()
        self.threads[0].join()
        lib.wait_for("the last marker arrives", lambda: self.errors or (self.last in self.in_view and self.last in self.in_lake), 60)
        self.stop_reading.set()
        for t in self.threads:
            t.join()
        if self.errors:
            raise lib.CannotMeasure(f"{self.errors[0]}")

    def latencies_ms(self, seen, first, last):
        return [(seen[k] - self.committed[k]) * 1000 for k in range(first, last + 1)]


def load_script(path):
    path.write_text(f"""\\set first random(1, {ORDERS} - {ROWS_A_TRANSACTION})
\\set amount random(1, 99999)
UPDATE orders SET amount = :amount / 100.0, updated = now() WHERE id >= :first AND id < :first + {ROWS_A_TRANSACTION};
""")
    path.chmod(0o644)


def run():
    args = lib.arguments(__doc__)
    lib.scratch(args.keep)
    seconds, warm = (9, 2) if args.quick else (60, 5)
    pg = lib.Postgres(settings={"fsync": "off"}).start()
    with pg.connect() as c:
        c.execute(SCHEMA)
    server = lib.Tidewater(args.build).start()
    with server.connect() as c:
        c.execute("CREATE SOURCE pg " + pg.cdc_options())
        for statement in PIPELINE:
            c.execute(statement)
        lib.note("waiting for the initial load")
        lib.wait_for("the initial load reaches Iceberg", lambda: (s := server.snapshot("bench", "enriched")) and
                     lib.live_rows(s) == ORDERS, 120, 0.1)
        c.execute("FLUSH")
    script = lib.scratch() / "load.sql"
    load_script(script)
    figures = []
    markers = Markers(pg, server)
    markers.start()
    for rate, prefix in ((1_000, "r1k_"), (10_000, "")):
        log = open(lib.scratch() / f"pgbench-{rate}.log", "w")
        bench = subprocess.Popen(pg.tool("pgbench") + ["-n", "-f", str(script), "-c", "4", "-j", "1", "-R",
                                 str(rate // ROWS_A_TRANSACTION), "-T", str(seconds + warm), pg.database], stdout=log, stderr=log)
        try:
            time.sleep(warm)
            first, cpu, start = markers.last + 1, server.cpu(), time.monotonic()
            while time.monotonic() - start < seconds - 0.5:
                if markers.errors or bench.poll() is not None:
                    break
                time.sleep(0.05)
            last, cpu, wall = markers.last, server.cpu() - cpu, time.monotonic() - start
            bench.wait(timeout=30)
        finally:
            if bench.poll() is None:
                bench.kill()
        output = (lib.scratch() / f"pgbench-{rate}.log").read_text()
        if bench.returncode != 0 or markers.errors:
            raise lib.CannotMeasure(f"load failed: {markers.errors[:1]} {output[-500:]}")
        lib.wait_for("markers arrive", lambda: markers.errors or (last in markers.in_view and last in markers.in_lake), 60)
        done = next((float(line.split("=")[1].split()[0]) for line in output.splitlines() if line.startswith("tps")), 0)
        view = markers.latencies_ms(markers.in_view, first, last)
        lake = markers.latencies_ms(markers.in_lake, first, last)
        peak = server.peak_mb()
        lib.note(f"{rate} rows/s ({done * ROWS_A_TRANSACTION:.0f} done), {len(view)} markers: view p50 {lib.percentile(view, 50):.1f} p99 "
                 f"{lib.percentile(view, 99):.1f} ms, iceberg p50 {lib.percentile(lake, 50):.0f} p99 {lib.percentile(lake, 99):.0f} ms, "
                 f"{cpu / wall:.2f} cores, peak {peak:.0f} MB")
        if done * ROWS_A_TRANSACTION < 0.9 * rate:
            lib.note(f"note: the load reached only {done * ROWS_A_TRANSACTION:.0f} rows/s")
        figures += [(f"{prefix}view_p50_ms", lib.percentile(view, 50), "ms"), (f"{prefix}view_p99_ms", lib.percentile(view, 99), "ms"),
                    (f"{prefix}iceberg_p50_ms", lib.percentile(lake, 50), "ms"), (f"{prefix}iceberg_p99_ms", lib.percentile(lake, 99), "ms"),
                    (f"{prefix}rows_per_s", done * ROWS_A_TRANSACTION, "rows/s"),
                    (f"{prefix}cpu_cores", cpu / wall, "cores"), (f"{prefix}peak_mb", peak, "MB")]
    markers.finish()
    server.stop()
    for f in figures:
        lib.figure(*f)


if __name__ == "__main__":
    lib.main(run)
