"""PyIceberg and the Iceberg library write, the other side reads.

Usage: pyiceberg_test.py REST_CATALOG_MAIN [--s3 moto|versitygw]
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (CommitFailedException, NamespaceAlreadyExistsError, NamespaceNotEmptyError, NoSuchNamespaceError,
                                  NoSuchTableError, TableAlreadyExistsError)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (DateType, DecimalType, DoubleType, IntegerType, LongType, NestedField, StringType, TimestamptzType, UUIDType)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import s3_server  # noqa: E402

MAIN = sys.argv[1]
S3 = sys.argv[3] if "--s3" in sys.argv else None
TOKEN = "a token of the tests"
FIELD_ID = b"PARQUET:field_id"


class World:
    """The server under test, and where its warehouse lies."""

    def __init__(self, folder):
        self.s3 = None
        self.options = {}
        if S3:
            self.s3 = s3_server.S3Server(S3)
            self.options = self.s3.properties()
            warehouse, pointers = "s3://lake/warehouse", "s3://lake/pointers"
        else:
            warehouse, pointers = folder + "/warehouse", folder + "/pointers"
        args = [MAIN, warehouse, pointers, "--token", TOKEN]
        for k, v in self.options.items():
            args += ["--option", f"{k}={v}"]
        self.server = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.uri = "http://127.0.0.1:" + self.server.stdout.readline().strip()

    def close(self):
        self.server.stdin.close()
        assert self.server.wait(20) == 0
        if self.s3:
            self.s3.close()

    def test(self, action, table, **request):
        body = json.dumps({"table": list(table), **request}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.uri}/test/{action}", body), timeout=60) as r:
                return json.load(r)
        except urllib.error.HTTPError as e:
            raise RuntimeError(e.read().decode()) from None


def refuses(kind, action):
    try:
        action()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")


def rows_of(table):
    return sorted(table.scan().to_arrow().to_pylist(), key=lambda r: r["id"])


def write_file(table, name, arrow):
    """A Parquet file of ours in the table's folder; returns what a manifest says about it."""
    path = f"{table.location()}/data/{name}"
    with table.io.new_output(path).create(overwrite=True) as out:
        pq.write_table(arrow, out)
    return {"path": path, "records": arrow.num_rows, "size": len(table.io.new_input(path))}


def with_ids(fields):
    return pa.schema([pa.field(name, type_, metadata={FIELD_ID: str(i)}) for i, name, type_ in fields])


def test_namespaces(world, catalog):
    catalog.create_namespace("shop", {"owner": "tests"})
    refuses(NamespaceAlreadyExistsError, lambda: catalog.create_namespace("shop"))
    catalog.create_namespace(("shop", "inner level"))
    assert catalog.list_namespaces() == [("shop",)]
    assert catalog.list_namespaces("shop") == [("shop", "inner level")]
    assert catalog.load_namespace_properties("shop") == {"owner": "tests"}
    summary = catalog.update_namespace_properties("shop", removals={"owner", "none"}, updates={"a": "b"})
    assert summary.removed == ["owner"] and summary.updated == ["a"] and summary.missing == ["none"]
    refuses(NamespaceNotEmptyError, lambda: catalog.drop_namespace("shop"))
    refuses(NoSuchNamespaceError, lambda: catalog.list_tables("nowhere"))
    catalog.drop_namespace(("shop", "inner level"))
    assert catalog.namespace_exists("shop") and not catalog.namespace_exists("nowhere")


def test_pyiceberg_writes(world, catalog):
    schema = Schema(NestedField(1, "id", LongType(), required=True), NestedField(2, "name", StringType()),
                    NestedField(3, "price", DecimalType(12, 2)), NestedField(4, "at", TimestamptzType()), NestedField(5, "n", IntegerType()),
                    identifier_field_ids=[1])
    table = catalog.create_table("shop.orders", schema, properties={"write.metadata.previous-versions-max": "3"})
    refuses(TableAlreadyExistsError, lambda: catalog.create_table("shop.orders", schema))
    import datetime
    from decimal import Decimal
    arrow_schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("name", pa.string()), ("price", pa.decimal128(12, 2)),
                              ("at", pa.timestamp("us", "UTC")), ("n", pa.int32())])
    rows = [{"id": i, "name": f"n{i}", "price": Decimal(i) / 4, "at": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc), "n": i}
            for i in range(100)]
    for part in range(0, 100, 20):
        table.append(pa.Table.from_pylist(rows[part:part + 20], arrow_schema))
    table = catalog.load_table("shop.orders")
    assert len(table.metadata.snapshots) == 5 and len(table.metadata.metadata_log) == 3
    got = rows_of(table)
    assert [r["price"] for r in got] == [r["price"] for r in rows]
    table.delete("id >= 90")
    with table.update_schema() as update:
        update.add_column("note", StringType())
        update.rename_column("name", "title")
        update.update_column("n", LongType())
        update.delete_column("at")
    plan = world.test("plan", ("shop", "orders"))
    assert sum(f["records"] for f in plan["files"]) == 90 and all(f["bounds"] > 0 for f in plan["files"]), plan
    assert [s[1:] for s in plan["schema"]] == [["id", "long"], ["title", "string"], ["price", "decimal(12, 2)"], ["n", "long"], ["note", "string"]]
    # Our append on top of theirs, with a merge of all manifests; then theirs again.
    file = write_file(table, "ours.parquet", pa.table({"id": [1000], "title": ["ours"], "note": ["x"]}, with_ids(
        [(1, "id", pa.int64()), (2, "title", pa.string()), (6, "note", pa.string())])))
    with table.transaction() as t:
        t.set_properties({"commit.manifest.min-count-to-merge": "2"})
    world.test("commit", ("shop", "orders"), data=[file], summary={"tidewater.epoch": "3"})
    table = catalog.load_table("shop.orders")
    assert table.current_snapshot().summary["tidewater.epoch"] == "3"
    assert table.current_snapshot().summary["total-records"] == "91", table.current_snapshot().summary
    got = rows_of(table)
    assert len(got) == 91 and got[-1] == {"id": 1000, "title": "ours", "price": None, "n": None, "note": "x"}, got[-1]
    table.delete("id < 10")
    assert len(rows_of(table)) == 81 and len(table.inspect.manifests()) > 0
    # Two writers from one base: one loses, and is told so.
    stale = catalog.load_table("shop.orders")
    world.test("commit", ("shop", "orders"), remove=[file["path"]])
    refuses(CommitFailedException, lambda: stale.delete("id < 20"))
    assert len(rows_of(catalog.load_table("shop.orders"))) == 80
    # A table made and filled in one commit.
    with catalog.create_table_transaction("shop.staged", schema) as t:
        t.append(pa.Table.from_pylist(rows[:5], arrow_schema))
    assert len(rows_of(catalog.load_table("shop.staged"))) == 5
    catalog.rename_table("shop.staged", "shop.moved")
    refuses(NoSuchTableError, lambda: catalog.load_table("shop.staged"))
    location = catalog.load_table("shop.moved").metadata_location
    catalog.drop_table("shop.moved")
    assert len(rows_of(catalog.register_table("shop.registered", location))) == 5
    catalog.purge_table("shop.registered")
    assert catalog.list_tables("shop") == [("shop", "orders")]


def test_partitioned(world, catalog):
    import datetime
    import uuid
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "day", DateType()), NestedField(3, "city", StringType()),
                    NestedField(4, "at", TimestamptzType()), NestedField(5, "price", DecimalType(20, 3)), NestedField(6, "u", UUIDType()),
                    NestedField(7, "d", DoubleType()))
    # Without its optional core PyIceberg writes no other transforms.
    spec = PartitionSpec(*[PartitionField(i, 998 + i, IdentityTransform(), name) for i, name in
                           [(2, "day"), (3, "city/name"), (4, "at"), (5, "price"), (6, "u"), (7, "d")]])
    table = catalog.create_table("shop.parts", schema, partition_spec=spec)
    from decimal import Decimal
    arrow = pa.Table.from_pylist(
        [{"id": i, "day": datetime.date(2024, 1, 1 + i % 3), "city": [None, "Kiel", "Bonn"][i % 3], "price": Decimal(i % 2 - 1) * Decimal("300.125"),
          "at": datetime.datetime(1969, 12, 30 + i % 2, 23, tzinfo=datetime.timezone.utc), "u": uuid.UUID(int=i % 2).bytes, "d": i % 2 - 0.5} for i in range(50)],
        pa.schema([("id", pa.int64()), ("day", pa.date32()), ("city", pa.string()), ("at", pa.timestamp("us", "UTC")),
                   ("price", pa.decimal128(20, 3)), ("u", pa.binary(16)), ("d", pa.float64())]))
    table.append(arrow)
    table.append(arrow.slice(0, 10))
    before = sorted(map(str, table.scan().to_arrow().to_pylist()))
    plan = world.test("plan", ("shop", "parts"))
    assert all(f["partition"] == 6 for f in plan["files"]), plan
    # A rewrite of the manifests by us keeps every partition value.
    with table.transaction() as t:
        t.set_properties({"commit.manifest.min-count-to-merge": "2"})
    victim = plan["files"][0]
    world.test("commit", ("shop", "parts"), remove=[victim["path"]])
    table = catalog.load_table("shop.parts")
    assert len(table.scan().to_arrow()) == len(before) - victim["records"]
    assert table.scan("city = 'Kiel' and price < 0").to_arrow().num_rows > 0
    files = [task.file for task in table.scan().plan_files()]
    assert sum(f.record_count for f in files) == len(before) - victim["records"]
    assert {str(f.partition[3]) for f in files} == {"-300.125", "0.000"} and {f.partition[5] for f in files} == {-0.5, 0.5}
    assert {f.partition[4] for f in files} == {uuid.UUID(int=0), uuid.UUID(int=1)}, files[0].partition


def test_random_deletes(world, catalog, version):
    """Rows in a model; data files by pyarrow, commits by us: position deletes (v2) or vectors (v3). PyIceberg reads each state."""
    name = f"deletes_v{version}"
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "text", StringType()))
    table = catalog.create_table(f"shop.{name}", schema, properties={"format-version": str(version), "commit.manifest.min-count-to-merge": "4"})
    assert table.metadata.format_version == version
    arrow_schema = with_ids([(1, "id", pa.int64()), (2, "text", pa.string())])
    delete_schema = with_ids([(2147483546, "file_path", pa.string()), (2147483545, "pos", pa.int64())])
    rng = random.Random(version)
    files, dead, next_id = {}, {}, 0
    for step in range(16):
        request = {"summary": {"step": str(step)}}
        if step % 3 != 2:
            ids = list(range(next_id, next_id + rng.randrange(1, 300)))
            next_id += len(ids)
            file = write_file(table, f"{step}.parquet", pa.table({"id": ids, "text": [f"t{i}" for i in ids]}, arrow_schema))
            files[file["path"]], dead[file["path"]] = ids, set()
            request["data"] = [file]
        touched = {}
        for path, ids in files.items():
            alive = [p for p in range(len(ids)) if p not in dead[path]]
            if rng.random() < 0.5 and alive:
                touched[path] = set(rng.sample(alive, rng.randrange(1, len(alive) + 1) if rng.random() < 0.2 else 1))
        if version == 2 and touched:
            pairs = sorted((p, i) for p, positions in touched.items() for i in positions)
            file = write_file(table, f"{step}-deletes.parquet", pa.table({"file_path": [p for p, _ in pairs], "pos": [i for _, i in pairs]}, delete_schema))
            if len(touched) == 1:
                file["referenced"] = pairs[0][0]
            request["position_deletes"] = [file]
        elif touched:
            request["vectors"] = [{"data_file": p, "positions": sorted(dead[p] | positions)} for p, positions in touched.items()]
        if step % 5 == 4:
            victim = rng.choice([p for p in files if p not in touched and p not in [f["path"] for f in request.get("data", [])]] or [None])
            if victim:
                request["remove"] = [victim]
                del files[victim]
        if step % 4 == 3:
            request["expire_keep"] = 2
        for path, positions in touched.items():
            dead[path] |= positions
        result = world.test("commit", ("shop", name), **request)
        table = catalog.load_table(f"shop.{name}")
        expected = sorted(i for path, ids in files.items() for p, i in enumerate(ids) if p not in dead[path])
        assert [r["id"] for r in rows_of(table)] == expected, (version, step)
        plan = world.test("plan", ("shop", name))
        assert {f["path"] for f in plan["files"]} == set(files)
        if version == 3:
            assert {f["path"]: sorted(dead[f["path"]]) for f in plan["files"] if dead[f["path"]]} == {
                f["path"]: f["deletes"][0]["positions"] for f in plan["files"] if f["deletes"]}
            assert len(result["first_row_ids"]) == len(request.get("data", []))
            assert table.metadata.next_row_id == next_id
        if step % 4 == 3:
            assert len(table.metadata.snapshots) == 2


def main():
    with tempfile.TemporaryDirectory(prefix="tidewater-iceberg-") as folder:
        world = World(folder)
        try:
            catalog = load_catalog("tidewater", type="rest", uri=world.uri, credential=f"tests:{TOKEN}", **{"s3.connect-timeout": "20"})
            for test, *arguments in [(test_namespaces,), (test_pyiceberg_writes,), (test_partitioned,), (test_random_deletes, 2),
                                     (test_random_deletes, 3)]:
                start = time.monotonic()
                test(world, catalog, *arguments)
                print(f"{test.__name__} {arguments}: {time.monotonic() - start:.1f} s", flush=True)
        finally:
            world.close()
    print("PyIceberg and the Iceberg library agree" + (f" on S3 ({S3})" if S3 else ""))


if __name__ == "__main__":
    main()
