"""psycopg as a client of the whole program: statements, types, transactions, pipelines, cancel, passwords.

    clients_test.py --binary build/release/tidewater
"""
import argparse
import datetime as dt
import decimal
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import lib  # noqa: E402
import psycopg  # noqa: E402


def expect(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")
    print(f"ok: {what}", flush=True)


def sqlstate(what, wanted, work):
    try:
        work()
    except psycopg.Error as e:
        return expect(e.sqlstate, wanted, f"{what}: {str(e).splitlines()[0]}")
    raise AssertionError(f"{what} was not refused")


def statements(t):
    c = t.connect()
    c.execute("CREATE TABLE items (id bigint PRIMARY KEY, name varchar, price numeric(12,2), created timestamptz)")
    c.execute("CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n, sum(price) AS price FROM items GROUP BY name")
    now = dt.datetime(2024, 7, 1, 12, 0, 0, 123456, tzinfo=dt.timezone.utc)
    for binary in (False, True):
        c.execute("DELETE FROM items")
        with c.cursor(binary=binary) as k:
            k.execute("INSERT INTO items VALUES (%s, %s, %s, %s)", (1, "ice", decimal.Decimal("1.50"), now))
            expect(k.rowcount, 1, f"rowcount of INSERT (binary={binary})")
            k.executemany("INSERT INTO items VALUES (%s, %s, %s, %s)", [(i, "berg", decimal.Decimal(i), None) for i in range(2, 52)])
            k.execute("SELECT * FROM items WHERE id = %s", (1,))
            expect(k.fetchall(), [(1, "ice", decimal.Decimal("1.50"), now)], "a row by its key")
            k.execute("SELECT * FROM totals ORDER BY name")
            expect(k.fetchall(), [("berg", 50, decimal.Decimal(sum(range(2, 52)))), ("ice", 1, decimal.Decimal("1.50"))],
                   "the view follows")
            k.execute("UPDATE items SET price = price + 1 WHERE name = %s", ("berg",))
            expect((k.rowcount, k.statusmessage), (50, "UPDATE 50"), "UPDATE")
    expect([d.type_code for d in c.execute("SELECT * FROM items").description], [20, 25, 1700, 1184], "type OIDs")
    expect([d.type_code for d in c.execute("SELECT 'x'::varchar, name::varchar(3) AS v, 'x'::text FROM items").description],
           [1043, 1043, 25], "varchar is told from text")
    for i in range(10):  # the sixth run is prepared by psycopg
        expect(c.execute("SELECT %s::bigint + 1", (i,)).fetchone()[0], i + 1, f"statement run {i}")
    sqlstate("a duplicate key", "23505", lambda: c.execute("INSERT INTO items VALUES (1, 'x', 0, NULL)"))
    sqlstate("an unknown table", "42P01", lambda: c.execute("SELECT * FROM nothing_here"))
    sqlstate("a syntax error", "42601", lambda: c.execute("SELEC 1"))
    sqlstate("COPY", "0A000", lambda: c.execute("COPY items FROM STDIN"))
    expect(c.execute("SELECT 1; SELECT 2").fetchone()[0], 1, "several statements in one text")
    c.close()


def values(t):
    c = t.connect()
    samples = [True, 1, 2**40, -1.5, "grün", "it's", b"\x00\xff", decimal.Decimal("12.34"), dt.date(2024, 2, 29), dt.time(1, 2, 3, 4),
               dt.datetime(2024, 1, 2, 3, 4, 5, 6), dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc),
               dt.timedelta(days=1, seconds=2, microseconds=3), uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), [1, 2, None],
               ["a", None, 'q"x', "", "a,b"]]
    casts = ["boolean", "smallint", "bigint", "double precision", "text", "text", "bytea", "numeric(12,2)", "date", "time", "timestamp",
             "timestamptz", "interval", "uuid", "integer[]", "text[]"]
    for value, cast in zip(samples, casts):
        for form in ("%s", "%t", "%b"):
            for binary in (False, True):
                if form == "%b" and cast == "timestamptz" and value.tzinfo is None:
                    continue
                with c.cursor(binary=binary) as k:
                    got = k.execute(f"SELECT {form}::{cast}", (value,)).fetchone()[0]
                    if got != value:
                        raise AssertionError(f"{cast} by {form}, binary={binary}: sent {value!r}, got {got!r}")
    print(f"ok: {len(samples)} types there and back in text and binary", flush=True)
    expect(c.execute("SELECT {'a': 1, 'b': [1.5]}").fetchone()[0], {"a": 1, "b": [1.5]}, "a struct is json")
    c.close()


def transactions(t):
    c = t.connect()
    c.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int)")
    c.execute("INSERT INTO accounts VALUES (1, 10), (2, 10)")
    other = t.connect()
    with c.transaction():
        c.execute("UPDATE accounts SET balance = balance - 5 WHERE id = 1")
        c.execute("UPDATE accounts SET balance = balance + 5 WHERE id = 2")
        expect(other.execute("SELECT balance FROM accounts ORDER BY id").fetchall(), [(10,), (10,)], "others do not see it before COMMIT")
    expect(other.execute("SELECT balance FROM accounts ORDER BY id").fetchall(), [(5,), (15,)], "others see it after")
    try:
        with c.transaction():
            c.execute("DELETE FROM accounts")
            c.execute("SELECT * FROM nothing_here")
    except psycopg.errors.UndefinedTable:
        pass
    expect(other.execute("SELECT count(*) FROM accounts").fetchone()[0], 2, "a failed transaction leaves nothing")
    with c.pipeline():
        for i in range(3, 103):
            c.execute("INSERT INTO accounts VALUES (%s, %s)", (i, i))
    expect(other.execute("SELECT count(*) FROM accounts").fetchone()[0], 102, "a pipeline of inserts")
    try:
        with c.pipeline():
            c.execute("INSERT INTO accounts VALUES (1000, 0)")
            c.execute("INSERT INTO accounts VALUES (1, 0)")
    except psycopg.errors.UniqueViolation:
        pass
    expect(other.execute("SELECT count(*) FROM accounts").fetchone()[0], 102, "a failed pipeline leaves nothing")
    # One simple query is one transaction, too.
    try:
        c.pgconn.exec_(b"INSERT INTO accounts VALUES (2000, 0); INSERT INTO accounts VALUES (1, 0)")
    finally:
        expect(other.execute("SELECT count(*) FROM accounts").fetchone()[0], 102, "a failed batch leaves nothing")
    c.close()
    other.close()


def cancel(t):
    c = t.connect()
    slow = "SELECT sum(a.i * b.i % 7) FROM range(10000000) a(i), range(1000000) b(i)"
    threading.Timer(0.3, c.cancel).start()
    begin = time.monotonic()
    sqlstate("a cancelled query", "57014", lambda: c.execute(slow))
    c.execute("SET statement_timeout = '200ms'")
    sqlstate("a query over its time", "57014", lambda: c.execute(slow))
    if time.monotonic() - begin > 20:
        raise AssertionError("cancelling took too long")
    c.execute("RESET statement_timeout")
    expect(c.execute("SELECT 1").fetchone()[0], 1, "the connection goes on")
    c.close()


def passwords(args):
    file = lib.scratch() / "password"
    file.write_text("s3cret\n")
    refused = subprocess.run([str(Path(args.binary).resolve()), "serve", "--state", str(lib.scratch() / "open"), "--listen",
                              f"0.0.0.0:{lib.free_port()}", "--http", f"127.0.0.1:{lib.free_port()}"],
                             capture_output=True, text=True, timeout=60, env={k: v for k, v in os.environ.items() if k != "TIDEWATER_PASSWORD"})
    expect(refused.returncode, 1, "beyond loopback without a password does not start: " + refused.stderr.strip().replace("\n", " / "))
    os.environ["PGPASSWORD"] = "s3cret"
    t = lib.Tidewater(args.binary, state=lib.scratch() / "secured", args=["--password-file", str(file)]).start()
    expect(t.connect(password="s3cret").execute("SELECT 1").fetchone()[0], 1, "the right password")
    for wrong in ("wrong", ""):
        try:
            psycopg.connect(host="127.0.0.1", port=t.port, dbname="dev", user="tidewater", password=wrong, passfile="/dev/null")
        except psycopg.OperationalError as e:
            print("ok: refused:", str(e).strip().splitlines()[0][-80:], flush=True)
        else:
            raise AssertionError("a wrong password was let in")
    if "s3cret" in t.log_path.read_text():
        raise AssertionError("the password is in the log")
    t.stop()
    del os.environ["PGPASSWORD"]


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    args = parser.parse_args()
    t = lib.Tidewater(args.binary).start()
    statements(t)
    values(t)
    transactions(t)
    cancel(t)
    metrics = t.metrics()
    expect(metrics["tidewater_pgwire_rows_total"] > 50, True, "rows are counted in /metrics")
    t.stop()
    expect("stopped" in t.log_path.read_text(), True, "SIGTERM ends it in order")
    t.start()
    expect(t.connect().execute("SELECT count(*) FROM accounts").fetchone()[0], 102, "all there after a restart")
    t.stop()
    passwords(args)


if __name__ == "__main__":
    lib.main(run)
