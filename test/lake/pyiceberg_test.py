"""PyIceberg reads what the sink wrote, format versions 2 and 3, on local disk and on S3 (moto), and finds the same rows.

    pyiceberg_test.py WRITE_TABLES [--s3 | --crash]

With --crash the writer is killed at each fault point of a commit, several times, and started again.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from decimal import Decimal
from pathlib import Path


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


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def s3(program):
    import boto3

    port = free_port()
    moto = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen([moto, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(endpoint, timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="k", aws_secret_access_key="s",
                     region_name="us-east-1").create_bucket(Bucket="lake")
        tables = write(program, "s3://lake/warehouse", {"s3.endpoint": endpoint, "s3.region": "us-east-1", "s3.access.key": "k",
                                                        "s3.secret.key": "s", "s3.path.style.access": "true"})
        return check(tables, {"s3.endpoint": endpoint, "s3.region": "us-east-1", "s3.access-key-id": "k",
                              "s3.secret-access-key": "s"})
    finally:
        server.terminate()
        server.wait()


def local(program):
    directory = tempfile.mkdtemp(prefix="tidewater-lake-")
    try:
        return check(write(program, directory, {}), {})
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    how = {"--s3": s3, "--crash": crash}.get(sys.argv[-1], local)
    sys.exit(how(sys.argv[1]))
