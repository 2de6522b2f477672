"""The PostgreSQL change stream and the initial load.

figure stream_vs_recvlogical   time of pg_recvlogical writing 1,000,000 row changes (one UPDATE) to /dev/null, over Tidewater's
                               time for the same into a table. Both read a backlog: the clock runs from the moment the slot is
                               active until pg_recvlogical ends, or until a row committed behind the UPDATE is seen by SELECT.
figure load_rows_per_cpu_s     rows of an initial load into Iceberg per CPU-second of the Tidewater process
"""
import subprocess
import time

import lib

STREAM = """
CREATE TABLE stream (id bigint PRIMARY KEY, n int, amount numeric(12,2), note text, updated timestamptz);
INSERT INTO stream SELECT i, i % 1000, i % 100000 / 100.0, 'note of row ' || i, '2024-01-01'::timestamptz + i * interval '1 s'
FROM generate_series(1, {rows}) i;
CREATE TABLE mark (id int PRIMARY KEY, n int);
INSERT INTO mark VALUES (1, 0);
"""
LOAD = """
CREATE TABLE big (id bigint PRIMARY KEY, n int, amount numeric(12,2), note text, updated timestamptz);
INSERT INTO big SELECT i, i % 1000, i % 100000 / 100.0, 'note of row ' || i, '2024-01-01'::timestamptz + i * interval '1 s'
FROM generate_series(1, {rows}) i;
"""


def active(c, slot):
    row = c.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,)).fetchone()
    return bool(row and row[0])


def update(c, round_):
    """The 1,000,000 changes, then the mark behind them."""
    c.execute("UPDATE stream SET n = n + 1, updated = updated + interval '1 s'")
    c.execute("UPDATE mark SET n = %s", (round_,))
    c.execute("CHECKPOINT")
    return c.execute("SELECT pg_current_wal_lsn()").fetchone()[0]


def recvlogical(pg, c, publication, round_):
    slot = f"recv{round_}"
    c.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    end = update(c, round_)
    process = subprocess.Popen(pg.tool("pg_recvlogical") + ["-d", pg.database, "--slot", slot, "--start", "--endpos", end, "-n", "-f",
                               "/dev/null", "-o", "proto_version=1", "-o", f"publication_names={publication}"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lib.wait_for("pg_recvlogical starts", lambda: active(c, slot) or process.poll() is not None, 30, 0.002)
    start = time.monotonic()
    _, errors = process.communicate(timeout=300)
    seconds = time.monotonic() - start
    if process.returncode != 0:
        raise lib.CannotMeasure(f"pg_recvlogical: {errors}")
    c.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    return seconds


def tidewater(server, c, slot, round_):
    server.stop()
    update(c, round_)
    cpu_rows = c.execute("SELECT count(*) FROM stream").fetchone()[0]
    server.start()
    lib.wait_for("the slot is active", lambda: active(c, slot), 60, 0.002)
    start, cpu = time.monotonic(), server.cpu()
    with server.connect() as t:
        lib.wait_for("the mark is seen", lambda: t.execute("SELECT n FROM mark").fetchone() == (round_,), 300, 0.005)
        seconds, cpu = time.monotonic() - start, server.cpu() - cpu
        same = t.execute("SELECT count(*), sum(n), min(updated), max(updated) FROM stream").fetchone()
    expected = c.execute("SELECT count(*), sum(n), min(updated), max(updated) FROM stream").fetchone()
    if [str(v) for v in same] != [str(v) for v in expected]:
        raise lib.CannotMeasure(f"the table differs from PostgreSQL: {same} and {expected}")
    return seconds, cpu_rows / max(cpu, 0.01)


def stream(args, pg):
    rows, rounds = (200_000, 1) if args.quick else (1_000_000, 3)
    lib.note(f"stream: {rows} row changes, {rounds} round(s)")
    server = lib.Tidewater(args.build, state=lib.scratch() / "stream")
    with pg.connect() as c:
        c.execute(STREAM.format(rows=rows))
        server.start()
        with server.connect() as t:
            t.execute("CREATE SOURCE pg " + pg.cdc_options(slot="tw_stream", publication="tw_stream"))
            t.execute("CREATE TABLE stream (*) FROM pg TABLE 'public.stream'")
            t.execute("CREATE TABLE mark (*) FROM pg TABLE 'public.mark'")
            lib.wait_until_loaded(t, ["stream", "mark"])
            t.execute("FLUSH")
        theirs, ours, cpu_rates = [], [], []
        for i in range(rounds):
            seconds, rate = tidewater(server, c, "tw_stream", 2 * i + 1)
            ours.append(seconds)
            cpu_rates.append(rate)
            server.stop()  # so that its walsender does not compete with the one measured now
            theirs.append(recvlogical(pg, c, "tw_stream", 2 * i + 2))
            server.start()
            with server.connect() as t:
                lib.wait_for("catching up", lambda: t.execute("SELECT n FROM mark").fetchone() == (2 * i + 2,), 300, 0.05)
            lib.note(f"  pg_recvlogical {theirs[-1]:.2f} s, Tidewater {ours[-1]:.2f} s")
        with server.connect() as t:
            t.execute("DROP SOURCE pg CASCADE")
    peak = server.peak_mb()
    server.stop()
    middle = lambda v: lib.percentile(v, 50)
    return [("stream_vs_recvlogical", middle(theirs) / middle(ours), "ratio"), ("stream_rows_per_s", rows / middle(ours), "rows/s"),
            ("recvlogical_rows_per_s", rows / middle(theirs), "rows/s"),
            ("stream_rows_per_cpu_s", middle(cpu_rates), "rows/s"), ("stream_peak_mb", peak, "MB")]


def load(args, pg):
    rows = 300_000 if args.quick else 3_000_000
    lib.note(f"initial load: {rows} rows into Iceberg")
    with pg.connect() as c:
        c.execute(LOAD.format(rows=rows))
        c.execute("VACUUM ANALYZE big")
    server = lib.Tidewater(args.build, state=lib.scratch() / "load").start()
    with server.connect() as t:
        cpu, start = server.cpu(), time.monotonic()
        t.execute("CREATE SOURCE pg " + pg.cdc_options(slot="tw_load", publication="tw_load"))
        t.execute("CREATE TABLE big (*) FROM pg TABLE 'public.big'")
        t.execute("CREATE SINK big_lake FROM big " + lib.with_clause({
            "connector": "iceberg", "type": "upsert", "primary_key": "id", "database.name": "bench", "table.name": "big",
            "create_table_if_not_exists": "true", "commit_checkpoint_interval": 1}))
        lib.wait_for("the load reaches Iceberg", lambda: (s := server.snapshot("bench", "big")) and lib.live_rows(s) == rows,
                     600, 0.1)
        cpu, wall = server.cpu() - cpu, time.monotonic() - start
        peak = server.peak_mb()
        table = server.pyiceberg().load_table(("bench", "big"))
        found = table.scan(selected_fields=("id", "n")).to_arrow()
        if found.num_rows != rows:
            raise lib.CannotMeasure(f"PyIceberg reads {found.num_rows} rows, not {rows}")
        t.execute("DROP SINK big_lake")
        t.execute("DROP SOURCE pg CASCADE")
    server.stop()
    lib.note(f"  {cpu:.2f} CPU-s, {wall:.2f} s, peak {peak:.0f} MB")
    return [("load_rows_per_cpu_s", rows / cpu, "rows/s"), ("load_seconds", wall, "s"), ("load_peak_mb", peak, "MB")]


def run():
    args = lib.arguments(__doc__, lambda p: p.add_argument("--only", choices=["stream", "load"]))
    lib.scratch(args.keep)
    pg = lib.Postgres(settings={"fsync": "off"}).start()
    figures = []
    if args.only != "load":
        figures += stream(args, pg)
    if args.only != "stream":
        figures += load(args, pg)
    for f in figures:
        lib.figure(*f)


if __name__ == "__main__":
    lib.main(run)
