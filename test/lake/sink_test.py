"""Iceberg sinks of the whole program, with a second Tidewater process as their REST catalog: FLUSH, and starts while that catalog is away.

    sink_test.py --binary build/release/tidewater
"""
import argparse
import sys
import warnings
from pathlib import Path

from pyiceberg.catalog import load_catalog

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import lib  # noqa: E402

TOKENS = {"right": "sesame", "wrong": "thistle"}


def expect(found, wanted, what):
    if found != wanted:
        raise lib.CannotMeasure(f"{what}: {found}, not {wanted}")


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    folder = lib.scratch()
    token = folder / "token"
    token.write_text(TOKENS["right"])
    catalog = lib.Tidewater(args.binary, state=folder / "catalog", args=["--http-token-file", str(token)]).start()
    server = lib.Tidewater(args.binary, state=folder / "state").start()

    def lake(table):
        iceberg = load_catalog("lake", type="rest", uri=catalog.catalog_uri, token=TOKENS["right"]).load_table(("db", table))
        return sorted((r["id"], r["v"]) for r in iceberg.scan().to_arrow().to_pylist())

    def sql(statement):
        """The rows, or the notices of what returns none."""
        with server.connect() as connection:
            notices = []
            connection.add_notice_handler(lambda n: notices.append(n.message_primary))
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else notices

    def sinks():
        with server.connect() as connection:
            cursor = connection.execute("SHOW SINKS")
            return {row[0]: dict(zip([c.name for c in cursor.description], row)) for row in cursor.fetchall()}

    def create(name, **more):
        options = {"connector": "iceberg", "type": "upsert", "database.name": "db", "table.name": name,
                   "create_table_if_not_exists": "true", "catalog.type": "rest", "catalog.uri": catalog.catalog_uri,
                   "catalog.token": TOKENS["right"], **more}
        sql(f"CREATE SINK {name} FROM t {lib.with_clause(options)}")

    sql("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    sql("INSERT INTO t VALUES (1, 1)")
    create("often")
    create("seldom", commit_checkpoint_interval="1000000")
    sql("INSERT INTO t VALUES (2, 2)")
    expect(sql("FLUSH"), [], "notices of FLUSH")
    rows = [(1, 1), (2, 2)]
    expect((lake("often"), lake("seldom")), (rows, rows), "after FLUSH")
    expect(sinks()["seldom"]["commits"], 2, "commits of a sink that commits its first content, and then when asked")
    metrics = server.metrics()
    expect(metrics['tidewater_sink_files_total{content="data",sink="seldom"}'], 2, "data files in /metrics")
    expect(metrics["tidewater_epoch_seconds_count"] > 0 and metrics["tidewater_checkpoint_seconds_count"] > 0, True, "times in /metrics")
    print("FLUSH commits at once")

    # A change that one sink has committed is, for the other, in the state log alone. The process dies; at its next start the catalog is
    # away, and later it refuses.
    sql("UPDATE t SET v = 20 WHERE id = 2")
    lib.wait_for("a checkpoint with the update", lambda: (2, 20) in lake("often"))
    expect(lake("seldom"), rows, "the sink that commits seldom")
    server.kill()
    catalog.kill()
    server.start()
    sql("INSERT INTO t VALUES (3, 3)")

    def both(state, part):
        return all(s["state"] == state and part in (s["error"] or "") and (state == "running" or s["retries"] > 0)
                   for s in sinks().values())

    lib.wait_for("retries while the catalog is away", lambda: both("retrying", "Iceberg catalog at http"))
    token.write_text(TOKENS["wrong"])
    catalog.start()
    lib.wait_for("retries while the catalog refuses", lambda: both("retrying", "a valid bearer token is needed"))
    for name in ("often", "seldom"):
        if not server.metrics()[f'tidewater_sink_retries{{sink="{name}"}}'] > 0:
            raise lib.CannotMeasure(f"no retries of {name} in the metrics")
    sql("DELETE FROM t WHERE id = 1")
    # Killed once more meanwhile: the log is still whole.
    server.kill()
    server.start()
    sql("INSERT INTO t VALUES (4, 4)")
    lib.wait_for("retries after the second start", lambda: both("retrying", ""))
    catalog.kill()
    token.write_text(TOKENS["right"])
    catalog.start()
    expect(sql("FLUSH"), [], "notices of FLUSH when the catalog is back")
    rows = [(2, 20), (3, 3), (4, 4)]
    expect((lake("often"), lake("seldom")), (rows, rows), "after the catalog came back")
    expect(both("running", ""), True, "all sinks run")
    print("sinks came up by themselves, nothing lost, nothing twice")
    server.stop()
    catalog.stop()


if __name__ == "__main__":
    lib.main(run)
