"""psql as a person uses it: backslash commands, errors one can read, notices, \\gdesc, -f with several statements.

    psql_test.py --binary build/release/tidewater
"""
import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import lib  # noqa: E402

SETUP = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer varchar NOT NULL, amount numeric(12,2), created timestamptz);
CREATE MATERIALIZED VIEW sales AS SELECT customer, count(*) AS orders, sum(amount) AS amount FROM orders GROUP BY customer;
CREATE SINK nowhere FROM sales WITH (connector = 'blackhole');
INSERT INTO orders VALUES (1, 'ada', 10.50, '2024-07-01 12:00:00+00'), (2, 'bob', 1, NULL), (3, 'ada', 2.25, NULL);
"""

# Input, then texts that the output must hold.
COMMANDS = [
    (r"SELECT * FROM sales ORDER BY customer;", ["ada      |      2 |  12.75", "(2 rows)"]),
    (r"\d", ["orders", "sales", "table", "materialized view"]),
    (r"\dt", ["orders", "table"]),
    (r"\dt ord*", ["orders"]),
    (r"\dm", ["sales", "materialized view"]),
    (r"\d orders", ["customer", "text", "not null", "numeric(12,2)", "timestamp with time zone", "PRIMARY KEY"]),
    (r"\d sales", ["customer", "orders", "bigint", "amount"]),
    (r"\d+ sales", ["customer"]),
    (r"\dn", ["public"]),
    (r"\l", ["dev"]),
    (r"\du", ["tidewater"]),
    (r"\dT", []),
    (r"\df nothing", []),
    (r"\conninfo", ["127.0.0.1"]),
    (r"\encoding", ["UTF8"]),
    (r"SELECT 1 AS a, 'x'::varchar AS b \gdesc", ["a      | integer"]),
    (r"SHOW TimeZone;", ["UTC"]),
    (r"SELECT version();", ["PostgreSQL 15", "Tidewater"]),
    (r"SELECT current_database(), current_user;", ["dev", "tidewater"]),
    (r"BEGIN; INSERT INTO orders VALUES (9, 'x', 1, NULL); ROLLBACK; SELECT count(*) FROM orders;", ["BEGIN", "INSERT 0 1", "ROLLBACK", "3"]),
    (r"\timing on", ["Timing is on"]),
    (r"DELETE FROM orders WHERE id = 3;", ["DELETE 1"]),
    (r"EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT customer, count(*) FROM orders GROUP BY customer;", ["QUERY PLAN"]),
    (r"SHOW TABLES;", ["orders"]),
    (r"SHOW MATERIALIZED VIEWS;", ["sales"]),
    (r"SHOW SINKS;", ["nowhere"]),
    (r"FLUSH;", ["FLUSH"]),
]
ERRORS = [
    (r"SELECT * FROM order_lines;", ['ERROR:  ', "order_lines", "does not exist"]),
    (r"SELECT customer, sum(amonut) FROM orders GROUP BY customer;", ["ERROR:  ", "amonut", "HINT:", "amount"]),
    (r"SELEC 1;", ["ERROR:  ", "syntax error", "SELEC", "LINE 1:", "^"]),
    (r"INSERT INTO orders VALUES (1, 'ada', 1, NULL);", ["ERROR:  ", "duplicate key"]),
    (r"INSERT INTO orders VALUES (5, NULL, 1, NULL);", ["ERROR:  ", "customer"]),
    (r"DROP TABLE orders;", ["ERROR:  ", "sales", "CASCADE"]),
    (r"SELECT 1/0;", ["ERROR:  ", "division by zero"]),
    (r"SELECT 'abc'::integer;", ["ERROR:  ", "abc"]),
    (r"CREATE SOURCE s WITH (connector = 'kafak');", ["ERROR:  ", "kafak", "postgres-cdc"]),
    (r"\copy orders FROM '/dev/null'", ["COPY is not supported"]),
]


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    args = parser.parse_args()
    program = shutil.which("psql")
    if not program:
        lib.skip("psql is not installed")
    t = lib.Tidewater(args.binary).start()
    base = [program, "-X", "-P", "pager=off", "-h", "127.0.0.1", "-p", str(t.port), "-U", "tidewater", "-d", "dev"]
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    wrong = 0

    def psql(text, *more):
        out = subprocess.run(base + list(more), input=text, capture_output=True, text=True, timeout=60, env=env)
        return out.stdout + out.stderr

    out = psql(SETUP, "-v", "ON_ERROR_STOP=1")
    if "ERROR" in out or "INSERT 0 3" not in out:
        sys.exit(f"setup failed:\n{out}")
    for text, wanted in COMMANDS + ERRORS:
        out = psql(text + "\n")
        missing = [w for w in wanted if w not in out]
        surprise = (text, wanted) in COMMANDS and "ERROR" in out
        if missing or surprise:
            wrong += 1
            print(f"WRONG {text}\n  lacks {missing}\n" + "\n".join("  | " + line for line in out.splitlines()), flush=True)
        else:
            print(f"ok: {text}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    lib.main(run)
