"""The Nexmark queries as views, through the program, killed in the middle: each view equals the batch result of its SQL.

Usage: nexmark_test.py BUILD_FOLDER. The streams are kept by views that copy them; DuckDB runs the query over the copies.
"""
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import lib  # noqa: E402
import nexmark  # noqa: E402

EVENTS = 150_000
COPIES = {"person": "people", "auction": "auctions", "bid": "bids"}


def batch(query):
    return re.sub(r"(\bFROM|\bJOIN|,)(\s+)(person|auction|bid)\b(?!\.)", lambda m: m[1] + m[2] + COPIES[m[3]], query)


def run():
    server = lib.Tidewater(sys.argv[1], workers=2).start()
    with server.connect() as c:
        for table, copy in COPIES.items():
            c.execute(f"CREATE SOURCE {table} " + lib.with_clause({
                "connector": "nexmark", "nexmark.table.type": nexmark.TABLES[table], "nexmark.event.num": EVENTS,
                "nexmark.min.event.gap.in.ns": 20_000}))  # three seconds
            c.execute(f"CREATE MATERIALIZED VIEW {copy} AS SELECT * FROM {table}")
        for name in nexmark.QUERIES:
            c.execute(f"CREATE MATERIALIZED VIEW {name} AS {nexmark.read_query(name)}")
    time.sleep(1.3)
    server.kill()
    server.start()
    bad = 0
    with server.connect() as c:
        nexmark.wait_until_read(server, c, list(COPIES), EVENTS, 60)
        counts = [c.execute(f"SELECT count(*) FROM {copy}").fetchone()[0] for copy in COPIES.values()]
        if counts != [EVENTS // 50, EVENTS // 50 * 3, EVENTS // 50 * 46]:
            print(f"people, auctions, bids: {counts}")
            bad += 1
        for name in nexmark.QUERIES:
            query = batch(nexmark.read_query(name))
            rows, wrong = c.execute(f"""SELECT (SELECT count(*) FROM {name}), (SELECT count(*) FROM (
                SELECT * EXCLUDE (w), sum(w) AS n FROM (SELECT *, 1 AS w FROM {name} UNION ALL SELECT *, -1 FROM ({query}) AS batch) AS both_
                GROUP BY ALL HAVING sum(w) <> 0))""").fetchone()
            print(f"{name}: {rows} rows, {wrong} differ", flush=True)
            bad += bool(wrong or not rows)
    server.stop()
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    lib.main(run)
