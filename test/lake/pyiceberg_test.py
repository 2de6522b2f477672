"""PyIceberg reads what the sink wrote, format versions 2 and 3, on local disk and on S3, and finds the same rows.

    pyiceberg_test.py WRITE_TABLES [--s3 moto|versitygw | --crash]

With --crash the writer is killed at each fault point of a commit, several times, and started again.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import s3_server  # noqa: E402


def text(column, value):
    """A value as DuckDB prints it."""
    if value is None:
        return None
    if column == "raw":
        return value.hex()
    if column in ("at", "local", "clock"):
        t = value.isoformat(sep=" ") if column != "clock" else value.isoformat()
        base, zone = (t[:-6], "+00") if column == "at" else (t, "")
        return (base.rstrip("0") if "." in base else base) + zone
    if column == "flag":
        return "true" if value else "false"
    if column == "tags":
        return "[" + ", ".join("NULL" if v is None else str(v) for v in value) + "]"
    if column == "point":
        return "{'x': %d, 'y': %s}" % (value["x"], value["y"])
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value)


def check(tables, properties):
    from pyiceberg.table import StaticTable

    failed = False
    for t in tables:
        table = StaticTable.from_metadata(t["metadata"], properties)
        assert table.metadata.format_version == t["format_version"]
        arrow = table.scan().to_arrow()
        columns = arrow.column_names
        found = sorted([[text(c, row[c]) for c in columns] for row in arrow.to_pylist()], key=str)
        expected = sorted(t["rows"], key=str)
        deletes = sum(len(task.delete_files) for task in table.scan().plan_files())
        same = found == expected
        failed |= not same
        print(f"{t['name']}: {len(found)} rows, {len(expected)} expected, {t['snapshots']} snapshots, {deletes} delete files in the scan: "
              f"{'same' if same else 'DIFFERENT'}")
        if not same:
            for f, e in zip(found, expected):
                if f != e:
                    print("  found   ", f, "\n  expected", e)
                    break
        # Bounds: a filter must not lose rows by pruning.
        key = expected[len(expected) // 2]
        matches = table.scan(row_filter=f"id == {key[0]}").to_arrow().num_rows
        wanted = sum(1 for r in expected if r[0] == key[0])
        if matches != wanted:
            print(f"  {matches} rows with id {key[0]}, {wanted} expected")
            failed = True
    return failed


def write(program, warehouse, options):
    arguments = [program, warehouse]
    for k, v in options.items():
        arguments += ["--option", f"{k}={v}"]
    out = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, timeout=300).stdout
    return json.loads(out.splitlines()[-1])  # log lines may stand before it


POINTS = ["sink.before_data_files", "sink.after_data_files", "sink.before_commit", "iceberg.before_commit", "iceberg.after_commit",
          "sink.after_commit"]


def crash(program):
    directory = tempfile.mkdtemp(prefix="tidewater-lake-")
    failed = False
    try:
        for case in ("v2", "v3"):
            kills = 0
            for run, (n, point) in enumerate([(n, p) for n in (1, 2, 5) for p in POINTS], 1):
                arguments = [program, directory, "--case", case, "--run", str(run)]
                done = subprocess.run(arguments, env=os.environ | {"TIDEWATER_FAULT": f"{point}:{n}"}, stdout=subprocess.DEVNULL,
                                      timeout=300)
                kills += done.returncode == -signal.SIGKILL
                if done.returncode not in (0, -signal.SIGKILL):
                    print(f"{case}: exit {done.returncode} at {point}:{n}")
                    failed = True
            out = subprocess.run([program, directory, "--case", case, "--run", "1000"], check=True, stdout=subprocess.PIPE, timeout=300)
            failed |= check(json.loads(out.stdout.splitlines()[-1]), {})
            print(f"{case}: killed {kills} times")
            failed |= kills < 12
    finally:
        shutil.rmtree(directory)
    return failed


def s3(program, kind):
    with s3_server.S3Server(kind) as server:
        tables = write(program, "s3://lake/warehouse", {"s3.endpoint": server.endpoint, "s3.region": s3_server.REGION,
                                                        "s3.access.key": s3_server.ACCESS_KEY,
                                                        "s3.secret.key": s3_server.SECRET_KEY, "s3.path.style.access": "true"})
        return check(tables, server.properties())


def local(program):
    directory = tempfile.mkdtemp(prefix="tidewater-lake-")
    try:
        return check(write(program, directory, {}), {})
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    how = {"--s3": s3, "--crash": crash}.get(sys.argv[2] if len(sys.argv) > 2 else "", local)
    sys.exit(how(sys.argv[1], *sys.argv[3:]))
