"""The whole program with its state in a bucket: state log, write-ahead log and warehouse, killed and started again; then fenced off.

    s3_state_test.py --binary build/release/tidewater --server moto|versitygw
"""
import argparse
import random
import sys
import time
from pathlib import Path

import psycopg
from pyiceberg.catalog import load_catalog

TEST = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TEST.parent / "bench"), str(TEST / "support")]
import lib  # noqa: E402
import s3_server  # noqa: E402


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    parser.add_argument("--server", choices=s3_server.KINDS, required=True)
    parser.add_argument("--kills", type=int, default=4)
    args = parser.parse_args()
    with s3_server.S3Server(args.server) as s3:
        check(args, s3)


def program(args, s3, name):
    env = {"AWS_ENDPOINT_URL": s3.endpoint, "AWS_REGION": s3_server.REGION, "AWS_ACCESS_KEY_ID": s3_server.ACCESS_KEY,
           "AWS_SECRET_ACCESS_KEY": s3_server.SECRET_KEY}
    server = lib.Tidewater(args.binary, state=lib.scratch() / name, env=env)
    server.args[server.args.index("--state") + 1] = "s3://lake/some where/state"
    return server


def check(args, s3):
    server = program(args, s3, "first").start()
    with server.connect() as c:
        c.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
        c.execute("CREATE MATERIALIZED VIEW sums AS SELECT id % 10 AS k, sum(v) AS v, count(*) AS n FROM t GROUP BY id % 10")
        c.execute("CREATE SINK s FROM sums WITH (connector = 'iceberg', type = 'upsert', database.name = 'db', table.name = 'sums', "
                  "create_table_if_not_exists = 'true', \"format-version\" = '3')")
    rng = random.Random(1)
    rows = {}

    def sums():
        out = {}
        for key, v in rows.items():
            old = out.get(key % 10, (0, 0))
            out[key % 10] = (old[0] + v, old[1] + 1)
        return sorted((k, v, n) for k, (v, n) in out.items())

    for kill in range(args.kills + 1):
        end = time.monotonic() + rng.uniform(0.5, 2)
        with server.connect() as c:
            while time.monotonic() < end:
                key = rng.randrange(200)
                if rng.random() < 0.2:
                    c.execute("DELETE FROM t WHERE id = %s", [key])
                    rows.pop(key, None)
                else:
                    c.execute("DELETE FROM t WHERE id = %s", [key])
                    c.execute("INSERT INTO t VALUES (%s, %s)", [key, kill])
                    rows[key] = kill
        if kill < args.kills:
            server.kill()
            server.start()
    with server.connect() as c:
        found = sorted(tuple(r) for r in c.execute("SELECT id, v FROM t").fetchall())
        if found != sorted(rows.items()):
            raise lib.CannotMeasure(f"the table holds {len(found)} rows, {len(rows)} were acknowledged")
        notices = []
        c.add_notice_handler(lambda n: notices.append(n.message_primary))
        c.execute("FLUSH")
        if notices:
            raise lib.CannotMeasure(f"FLUSH: {notices}")
    table = load_catalog("lake", type="rest", uri=server.catalog_uri, **s3.properties()).load_table(("db", "sums"))
    lake = sorted((r["k"], int(r["v"]), r["n"]) for r in table.scan().to_arrow().to_pylist())
    if lake != sums():
        raise lib.CannotMeasure(f"Iceberg holds {lake}, not {sums()}")
    print(f"{len(rows)} rows after {args.kills} kills, Iceberg holds the same")

    newer = program(args, s3, "second").start()
    try:
        with server.connect() as c:
            c.execute("INSERT INTO t VALUES (1000, 1)")
        raise lib.CannotMeasure("the older process acknowledged a write")
    except psycopg.Error as e:
        print(f"the older process refused: {str(e).splitlines()[0]}")
    with newer.connect() as c:
        if c.execute("SELECT count(*) FROM t").fetchone()[0] != len(rows):
            raise lib.CannotMeasure("the newer process lost rows")
    newer.stop()
    server.kill()


if __name__ == "__main__":
    lib.main(run)
