"""kill -9 under load: PostgreSQL -> views -> Iceberg must lose nothing and double nothing.

A real PostgreSQL with the demo's workload, the demo's pipeline on top. The Tidewater process is killed again and again: every second
time at a random moment, else at a named fault point inside a checkpoint or a commit. Then the workload stops, and the views, the Iceberg
table read by PyIceberg and the same query in PostgreSQL must hold the same rows.

    crash_test.py --binary build/release/tidewater [--kills 20] [--seed N]
"""
import argparse
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "demo"))
import lib  # noqa: E402
import demo  # noqa: E402

FAULTS = ["checkpoint.before_write", "checkpoint.after_write", "sink.before_data_files", "sink.after_data_files", "sink.before_commit",
          "sink.after_commit"]


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=int, default=150, help="transactions a second")
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    print(f"seed {args.seed}, {args.kills} kills", flush=True)
    folder = lib.scratch(args.keep)
    pg = lib.Postgres().start()
    with pg.connect() as c:
        c.execute((ROOT / "demo" / "shop.sql").read_text())
    script = folder / "workload.sql"
    shutil.copy(ROOT / "demo" / "workload.sql", script)
    script.chmod(0o644)
    with open(folder / "pgbench.log", "w") as log:
        workload = subprocess.Popen(pg.tool("pgbench") + ["-n", "-f", str(script), "-c", "2", "-j", "1", "-R", str(args.rate), "-T",
                                    "1000000", "--max-tries=10", pg.database], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    start_new_session=True, preexec_fn=lib._die_with_parent)
    server = lib.Tidewater(args.binary, state=folder / "state")
    by_fault = dict.fromkeys(FAULTS, 0)
    at_random = 0
    try:
        server.start()
        demo.run_psql(pg, server)
        for i in range(args.kills):
            if i > 0:
                fault = rng.choice(FAULTS) if i % 2 else None
                server.env.pop("TIDEWATER_FAULT", None)
                if fault:
                    server.env["TIDEWATER_FAULT"] = f"{fault}:{rng.randint(1, 3)}"
                try:
                    server.start()
                except lib.CannotMeasure:
                    # A fault point may lie on the way of the start itself.
                    if not fault or server.process.poll() is None or server.process.returncode != -9:
                        raise
            else:
                fault = None
            if fault:
                end = time.monotonic() + 20
                while server.process.poll() is None and time.monotonic() < end:
                    time.sleep(0.01)
                if server.process.poll() is None:
                    raise lib.CannotMeasure(f"fault point {fault} was not reached in 20 s")
                if server.process.returncode != -9:
                    raise lib.CannotMeasure(f"ended with {server.process.returncode} instead of being killed:\n{server.log_tail()}")
                by_fault[fault] += 1
            else:
                time.sleep(rng.uniform(0.05, 2.5))
                if server.process.poll() is not None:
                    raise lib.CannotMeasure(f"ended by itself with {server.process.returncode}:\n{server.log_tail()}")
                at_random += 1
            server.kill()
            if workload.poll() is not None:
                raise lib.CannotMeasure("the workload ended:\n" + (folder / "pgbench.log").read_text()[-1000:])
            print(f"kill {i + 1}: {fault or 'random moment'}", flush=True)
        server.env.pop("TIDEWATER_FAULT", None)
        server.start()
        time.sleep(1)
    finally:
        workload.terminate()
        workload.wait()
    settle(pg, server)
    warnings.filterwarnings("ignore")
    bad = demo.compare(pg, server)
    print(f"{at_random} kills at random moments, {sum(by_fault.values())} at fault points: {by_fault}")
    server.stop()
    pg.stop()
    if bad:
        print("something differs")
        sys.exit(1)
    print("nothing lost, nothing twice")


def settle(pg, server):
    """Waits until a marker row, committed after all else, shows in the view and in Iceberg."""
    with pg.connect() as p, server.connect() as t:
        marker = p.execute("INSERT INTO orders (customer_id, status) VALUES (0, 'marker') RETURNING id").fetchone()[0]
        lib.wait_for("the marker in the view", lambda: t.execute("SELECT count(*) FROM order_totals WHERE order_id = %s", [marker]).fetchone()[0],
                     timeout=60)
        t.execute("FLUSH")
        warnings.filterwarnings("ignore")

        def in_lake():
            table = server.pyiceberg().load_table(("shop", "order_totals"))
            return table.scan(row_filter=f"order_id = {marker}").to_arrow().num_rows
        lib.wait_for("the marker in Iceberg", in_lake, timeout=60, interval=0.5)


if __name__ == "__main__":
    lib.main(run)
