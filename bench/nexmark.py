"""The Nexmark queries over the PostgreSQL protocol, generator included, checkpoints on: into a blackhole sink, and into a view.

figure qN_kevents_per_cpu_s        thousands of events (of all types) per CPU-second of the Tidewater process, blackhole sink
figure qN_view_kevents_per_cpu_s   the same with the result kept as a materialized view
figure qN_peak_mb                  peak resident memory with the blackhole sink (qN_view_peak_mb: with the view)
With two workers (full run only) the names start with w2_.
"""
import re
import time

import lib

QUERIES = ["q0", "q1", "q2", "q3", "q4", "q17", "q20", "q21", "q22"]
TABLES = {"person": "Person", "auction": "Auction", "bid": "Bid"}


def read_query(name):
    text = (lib.ROOT / "bench" / "nexmark" / f"{name}.sql").read_text()
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()


def tables_of(query):
    return [t for t in TABLES if re.search(rf"\b(FROM|JOIN|,)\s*{t}\b", query, re.I)]


def create_sources(connection, tables, events):
    for table in tables:
        connection.execute(f"CREATE SOURCE {table} " + lib.with_clause({
            "connector": "nexmark", "nexmark.table.type": TABLES[table], "nexmark.event.num": events,
            "nexmark.min.event.gap.in.ns": 0}))


def wait_until_read(server, connection, tables, events, timeout):
    """Waits until every source handed over its last event, then until all of it is processed and durable."""
    def done():
        positions = {r["name"]: str(r["position"]) for r in lib.rows(connection, "SHOW SOURCES")}
        return all(positions.get(t) == str(events) for t in tables)
    lib.wait_for(f"{events} events", done, timeout, 0.1)
    connection.execute("FLUSH")


def measure(binary, name, view, events, workers, memory):
    query = read_query(name)
    tables = tables_of(query)
    server = lib.Tidewater(binary, state=lib.scratch() / f"{name}-{'view' if view else 'sink'}-{workers}", workers=workers,
                           args=["--memory", memory] if memory else [])
    server.start()
    try:
        with server.connect() as c:
            cpu, wall = server.cpu(), time.monotonic()
            create_sources(c, tables, events)
            if view:
                c.execute(f"CREATE MATERIALIZED VIEW {name} AS {query}")
            else:
                c.execute(f"CREATE SINK {name} AS {query} WITH (connector = 'blackhole')")
            wait_until_read(server, c, tables, events, timeout=120 + events / 20_000)
            cpu, wall = server.cpu() - cpu, time.monotonic() - wall
            peak = server.peak_mb()
            if view:
                rows = c.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            else:
                rows = sum(int(r.get("rows") or r.get("rows_written") or 0) for r in lib.rows(c, "SHOW SINKS"))
            if rows == 0:
                raise lib.CannotMeasure(f"{name}: no rows came out")
    finally:
        server.kill()
    kind = "view" if view else "sink"
    rate = events / 1000 / max(cpu, 1e-4)
    lib.note(f"{name:<4} {kind} workers {workers}: {rate:7.0f} kevents/CPU-s, {cpu:6.2f} CPU-s, {wall:6.2f} s, peak "
             f"{peak:5.0f} MB, {rows} rows")
    return rate, peak


def run():
    args = lib.arguments(__doc__, lambda p: (p.add_argument("--queries", default=",".join(QUERIES)),
                                             p.add_argument("--events", type=int), p.add_argument("--workers"),
                                             p.add_argument("--memory", help="the server's budget")))
    lib.scratch(args.keep)
    events = args.events or (300_000 if args.quick else 3_000_000)
    workers = [int(w) for w in args.workers.split(",")] if args.workers else [1] if args.quick else [1, 2]
    figures = []
    for w in workers:
        prefix = "" if w == 1 else f"w{w}_"
        for name in args.queries.split(","):
            rate, peak = measure(args.build, name, False, events, w, args.memory)
            view_rate, view_peak = measure(args.build, name, True, events, w, args.memory)
            figures += [(f"{prefix}{name}_kevents_per_cpu_s", rate, "kevents/s"),
                        (f"{prefix}{name}_view_kevents_per_cpu_s", view_rate, "kevents/s"),
                        (f"{prefix}{name}_peak_mb", peak, "MB"), (f"{prefix}{name}_view_peak_mb", view_peak, "MB")]
    for f in figures:
        lib.figure(*f)


if __name__ == "__main__":
    lib.main(run)
