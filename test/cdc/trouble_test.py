"""Upstream trouble, as a user meets it: each has its clear error and its state in SHOW SOURCES.

After a lost connection or a restart of the server the source goes on by itself; a lost slot, a changed password or a missing table waits
for a statement; a row that no type can hold goes to the error table and leaves it when upstream mends it.

    trouble_test.py --binary build/release/tidewater
"""
import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import lib  # noqa: E402
import psycopg  # noqa: E402


def expect(condition, text):
    if not condition:
        raise AssertionError(text)
    print(f"ok: {text}", flush=True)


def source(t, name):
    return next(r for r in lib.rows(t, "SHOW SOURCES") if r["name"] == name)


def wait_state(t, name, states, timeout=40):
    return lib.wait_for(f"source {name} is {states}", lambda: (lambda s: s if s["state"] in states else None)(source(t, name)), timeout, 0.1)


def refused(t, statement, sqlstate, *words):
    try:
        t.execute(statement)
    except psycopg.Error as e:
        text = f"{e.sqlstate} {e.diag.message_primary} {e.diag.message_detail or ''} {e.diag.message_hint or ''}"
        expect(e.sqlstate == sqlstate and all(w in text for w in words), f"refused as it should be: {text}")
        expect("right-secret" not in text and "wrong-secret" not in text, "no password in the error")
        return
    raise AssertionError(f"was not refused: {statement}")


def count(t, relation):
    """None while the relation is in its initial load."""
    try:
        return t.execute(f"SELECT count(*) FROM {relation}").fetchone()[0]
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return None


def sees(t, relation, n, timeout=40):
    lib.wait_for(f"{relation} holds {n} rows", lambda: count(t, relation) == n, timeout)
    expect(True, f"{relation} holds {n} rows")


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    args = parser.parse_args()
    folder = lib.scratch()
    pg = lib.Postgres().start()
    p = pg.connect()
    p.execute("CREATE ROLE cdc LOGIN REPLICATION SUPERUSER PASSWORD 'right-secret'")
    # Everybody but the superuser needs the password.
    (pg.data / "pg_hba.conf").write_text("local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost replication postgres 127.0.0.1/32 trust\n"
                                         "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n")
    p.execute("SELECT pg_reload_conf()")
    p.execute("CREATE TABLE a (id int PRIMARY KEY, n numeric, t timestamptz)")
    p.execute("CREATE TABLE b (id int PRIMARY KEY, v text)")
    p.execute("CREATE TABLE nothing (id int PRIMARY KEY)")
    p.execute("ALTER TABLE nothing REPLICA IDENTITY NOTHING")
    p.execute("CREATE TABLE keyless (id int)")
    p.execute("INSERT INTO a SELECT i, i, now() FROM generate_series(1, 1000) i")
    p.execute("INSERT INTO b VALUES (1, 'x')")
    server = lib.Tidewater(args.binary, state=folder / "state").start()
    t = server.connect()

    def options(slot, publication, password="right-secret", user="cdc", **more):
        return lib.with_clause({"connector": "postgres-cdc", "hostname": "127.0.0.1", "port": pg.port, "username": user, "password": password,
                                "database.name": "postgres", "slot.name": slot, "publication.name": publication, **more})

    # Wrong from the start.
    refused(t, f"CREATE SOURCE s {options('s', 's', 'wrong-secret')}", "28P01", "cdc")
    refused(t, "CREATE SOURCE s WITH (connector = 'postgres-cdc', hostnam = 'x')", "22023", "hostnam")
    refused(t, "CREATE SOURCE s WITH (connector = 'nonsense')", "22023", "nonsense")

    t.execute(f"CREATE SOURCE s {options('s', 's')}")
    refused(t, "CREATE TABLE x (*) FROM s TABLE 'public.missing'", "42P01", "missing")
    refused(t, "CREATE TABLE x (*) FROM s TABLE 'public.nothing'", "0A000", "REPLICA IDENTITY")
    refused(t, "CREATE TABLE x (*) FROM s TABLE 'public.keyless'", "0A000", "key")
    t.execute("CREATE TABLE a (*) FROM s TABLE 'public.a'")
    t.execute("CREATE MATERIALIZED VIEW va AS SELECT count(*) AS n, max(id) AS newest FROM a")
    sees(t, "a", 1000)
    expect(source(t, "s")["state"] == "streaming", "the source streams")
    shown = t.execute("SHOW CREATE SOURCE s").fetchone()
    expect("right-secret" not in str(shown), "SHOW CREATE SOURCE hides the password")

    # The server restarts: by itself.
    pg.stop("immediate")
    s = wait_state(t, "s", ["retrying"])
    expect(s["error"], f"while PostgreSQL is away: {s['error']}")
    expect(count(t, "a") == 1000, "views go on answering")
    pg.start()
    p = pg.connect()
    p.execute("INSERT INTO a VALUES (1001, 1, now())")
    sees(t, "a", 1001)
    expect(wait_state(t, "s", ["streaming"])["retries"] > 0, "it went on by itself and shows its retries")

    # The connection is cut: by itself.
    p.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 's'")
    p.execute("INSERT INTO a VALUES (1002, 1, now())")
    sees(t, "a", 1002)

    # A row that the column's type cannot hold.
    p.execute("INSERT INTO a VALUES (2000, 'NaN', now()), (2001, 1, 'infinity'), (2002, 1.5, now())")
    lib.wait_for("the good row", lambda: t.execute("SELECT n FROM a WHERE id = 2002").fetchone())
    errors = lib.rows(t, "SELECT * FROM tidewater_errors")
    expect(any("2000" in str(e) for e in errors), f"the error table has the row: {errors}")
    expect(any("declare" in str(e).lower() or "varchar" in str(e).lower() for e in errors), "with the hint to declare the column's type")
    expect(source(t, "s")["state"] == "streaming", "and the stream goes on")
    p.execute("UPDATE a SET n = 1 WHERE id = 2000")
    p.execute("DELETE FROM a WHERE id = 2001")
    lib.wait_for("the error table is empty", lambda: count(t, "tidewater_errors") == 0)
    expect(t.execute("SELECT n FROM a WHERE id = 2000").fetchone()[0] == 1, "the mended row is there")

    # The password changes: waits for a statement.
    p.execute("ALTER ROLE cdc PASSWORD 'other-secret'")
    p.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 's'")
    s = wait_state(t, "s", ["failed"])
    expect("ALTER SOURCE" in s["error"], f"the state says what helps: {s['error']}")
    p.execute("INSERT INTO a VALUES (3000, 1, now())")
    t.execute("ALTER SOURCE s SET (password = 'other-secret')")
    wait_state(t, "s", ["streaming"])
    lib.wait_for("the row written meanwhile", lambda: t.execute("SELECT id FROM a WHERE id = 3000").fetchone())
    expect(True, "after ALTER SOURCE the stream goes on where it was")

    # A publication of somebody else's that misses the table.
    p.execute("CREATE PUBLICATION theirs FOR TABLE a")
    t.execute(f"CREATE SOURCE s2 {options('s2', 'theirs', 'other-secret')}")
    refused(t, "CREATE TABLE b (*) FROM s2 TABLE 'public.b'", "55000", "theirs", "ALTER PUBLICATION")
    p.execute("ALTER PUBLICATION theirs ADD TABLE b")
    t.execute("CREATE TABLE b (*) FROM s2 TABLE 'public.b'")
    sees(t, "b", 1)
    t.execute("DROP SOURCE s2 CASCADE")
    expect(p.execute("SELECT count(*) FROM pg_publication WHERE pubname = 'theirs'").fetchone()[0] == 1, "DROP leaves a publication that is not ours")
    expect(p.execute("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 's2'").fetchone()[0] == 0, "DROP removes our slot")

    # The upstream takes no connections and says nothing: only the statement that needs it waits.
    t.execute("CREATE TABLE own (id int PRIMARY KEY)")
    postmaster = int((pg.data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGSTOP)
    try:
        waiting = threading.Thread(target=lambda: server.connect().execute("CREATE TABLE b (*) FROM s TABLE 'public.b'"))
        waiting.start()
        slowest = 0
        for i in range(10):
            begun = time.monotonic()
            t.execute(f"INSERT INTO own VALUES ({i})")
            expect(count(t, "va") == 1, "views answer")
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.1)
        expect(waiting.is_alive() and slowest < 1, "everything else goes on while CREATE TABLE waits for an upstream that hangs")
    finally:
        os.kill(postmaster, signal.SIGCONT)
    waiting.join(60)
    sees(t, "b", 1)

    # A table is dropped while its rows stream.
    stop = threading.Event()

    def write():
        with pg.connect() as c:
            n = 2
            while not stop.is_set():
                c.execute("INSERT INTO b SELECT i, repeat('x', 100) FROM generate_series(%s::int, %s::int) i", (n, n + 999))
                n += 1000

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(8):
        t.execute("DROP TABLE b")
        t.execute("CREATE TABLE b (*) FROM s TABLE 'public.b'")
        time.sleep(0.2)
    stop.set()
    writer.join()
    sees(t, "b", p.execute("SELECT count(*) FROM b").fetchone()[0], 60)

    # The slot vanishes: waits for a statement.
    deadline = time.monotonic() + 30
    while True:
        try:
            p.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 's' AND active_pid IS NOT NULL")
            p.execute("SELECT pg_drop_replication_slot('s')")
            break
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
    s = wait_state(t, "s", ["failed"])
    expect("slot" in s["error"] and '"s"' in s["error"], f"the state names the slot: {s['error']}")
    expect(count(t, "va") == 1, "views still answer")
    t.execute("DROP SOURCE s CASCADE")
    expect(p.execute("SELECT count(*) FROM pg_publication WHERE pubname = 's'").fetchone()[0] == 0, "DROP removes our publication")
    log = server.log_path.read_text(errors="replace")
    expect("right-secret" not in log and "other-secret" not in log and "wrong-secret" not in log, "no password in the log")
    server.stop()
    pg.stop()
    print("all troubles behave")


if __name__ == "__main__":
    try:
        lib.main(run)
    except AssertionError as e:
        print(f"FAILED: {e}")
        sys.exit(1)
