"""What benches and the demo share: a Tidewater process, a private PostgreSQL server, CPU and memory, percentiles, figures.

Everything listens on 127.0.0.1 at a port that the system picks, and lies in one temporary folder that goes at the end.
"""
import argparse
import atexit
import ctypes
import glob
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent


class CannotMeasure(Exception):
    """The bench has no figure to give: exit status 1."""


def figure(name, value, unit):
    print(f"figure {name} {value:.6g} {unit}", flush=True)


def note(text):
    print(text, flush=True)


def percentile(values, p):
    """Nearest-rank percentile, p in 0..100."""
    if not values:
        raise CannotMeasure("no samples")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * p // 100) - 1))]


def arguments(description, add=None):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--build", default="build/release", help="folder of the build, or of the tidewater program")
    parser.add_argument("--quick", action="store_true", help="under 45 seconds, smaller")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    if add:
        add(parser)
    return parser.parse_args()


def main(run):
    """Runs a bench; whatever it started is stopped; exit 1 if it could not measure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except (CannotMeasure, psycopg.Error, OSError, subprocess.SubprocessError) as e:
        print(f"could not measure: {type(e).__name__}: {e}", file=sys.stderr)
        sys.exit(1)


def skip(reason):
    """Ends a test that needs a program which is not there, as ctest's SKIP_RETURN_CODE knows it."""
    print(f"skipped: {reason}", flush=True)
    sys.exit(77)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


_scratch = None


def scratch(keep=False):
    """The one temporary folder of this run, readable by the postgres user."""
    global _scratch
    if _scratch is None:
        _scratch = Path(tempfile.mkdtemp(prefix="tidewater-"))
        _scratch.chmod(0o755)
        if not keep:
            atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
    return _scratch


def wait_for(what, condition, timeout=30.0, interval=0.05):
    """Calls condition() until it is true (returned) or the time is over."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise CannotMeasure(f"timeout after {timeout:.0f} s: {what}")
        time.sleep(interval)


# --- Processes.

def cpu_seconds(pid):
    """User plus system time of a process, all threads, those that ended included: its CPU clock (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_mb(pid, field="VmHWM"):
    """VmHWM: peak resident memory; VmRSS: now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1000
    raise CannotMeasure(f"no {field} of process {pid}")


def _die_with_parent():
    ctypes.CDLL("libc.so.6").prctl(1, signal.SIGTERM)


class Tidewater:
    """One `tidewater serve`. State survives restart() and kill()."""

    def __init__(self, binary, state=None, workers=1, args=(), env=None):
        binary = Path(binary)
        self.binary = binary / "tidewater" if binary.is_dir() else binary
        if not self.binary.exists():
            raise CannotMeasure(f"no program {self.binary}")
        self.state = Path(state) if state else scratch() / "state"
        self.port, self.http_port = free_port(), free_port()
        self.args = [str(self.binary.resolve()), "serve", "--state", str(self.state), "--listen", f"127.0.0.1:{self.port}",
                     "--http", f"127.0.0.1:{self.http_port}", "--workers", str(workers), *args]
        self.env = {**os.environ, **(env or {})}
        self.log_path = self.state.with_name(self.state.name + ".log")
        self.process = None
        atexit.register(self.kill)

    @property
    def pid(self):
        return self.process.pid

    @property
    def http(self):
        return f"http://127.0.0.1:{self.http_port}"

    def start(self, timeout=60):
        self.state.mkdir(parents=True, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                            start_new_session=True, preexec_fn=_die_with_parent)
        wait_for("tidewater listens", self._is_up, timeout, 0.02)
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise CannotMeasure(f"tidewater ended with {self.process.returncode}:\n{self.log_tail()}")
        try:
            with self.connect() as c:
                c.execute("SELECT 1")
            return True
        except psycopg.Error:
            return False

    def log_tail(self, lines=20):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def connect(self, **kwargs):
        return psycopg.connect(host="127.0.0.1", port=self.port, dbname="dev", user="tidewater", autocommit=True,
                               connect_timeout=10, **kwargs)

    def cpu(self):
        return cpu_seconds(self.pid)

    def peak_mb(self):
        return memory_mb(self.pid)

    def stop(self, timeout=60):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def get(self, path, timeout=10):
        with urllib.request.urlopen(self.http + path, timeout=timeout) as r:
            return r.read()

    def metrics(self):
        """{'name{labels}': value} of the Prometheus text."""
        out = {}
        for line in self.get("/metrics").decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    # The embedded Iceberg REST catalog.

    @property
    def catalog_uri(self):
        return self.http + "/iceberg"

    def load_table(self, namespace, table):
        """The LoadTableResult of the REST catalog, None while there is no such table."""
        try:
            return json.loads(self.get(f"/iceberg/v1/namespaces/{namespace}/tables/{table}"))
        except urllib.error.HTTPError as e:
            if e.code == 404:
                return None
            raise

    def snapshot(self, namespace, table):
        """The current snapshot of a table as JSON, None while there is none."""
        loaded = self.load_table(namespace, table)
        if not loaded:
            return None
        metadata = loaded["metadata"]
        current = metadata.get("current-snapshot-id")
        return next((s for s in metadata.get("snapshots", []) if s["snapshot-id"] == current), None)

    def pyiceberg(self):
        from pyiceberg.catalog import load_catalog
        return load_catalog("tidewater", type="rest", uri=self.catalog_uri)


def live_rows(snapshot):
    """Rows that a reader of this snapshot sees, by its summary."""
    summary = snapshot["summary"]
    return int(summary["total-records"]) - int(summary.get("total-position-deletes", 0))


def rows(connection, query):
    """Rows as dictionaries, for SHOW statements."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(query).fetchall()


def wait_until_loaded(connection, tables, timeout=300):
    """Until the initial load of these tables is complete."""
    def ready():
        states = {r["name"]: r["state"] for r in rows(connection, "SHOW TABLES")}
        return all(states.get(t) == "ready" for t in tables)
    wait_for(f"the initial load of {', '.join(tables)}", ready, timeout, 0.1)


# --- A private PostgreSQL server.

def _postgres_bin():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
    if found:
        return Path(found[-1])
    on_path = shutil.which("pg_ctl")
    if on_path:
        return Path(os.path.realpath(on_path)).parent
    raise CannotMeasure("no PostgreSQL server is installed")


class Postgres:
    """initdb, start with logical replication, stop. Runs as the user postgres when we are root."""

    def __init__(self, name="postgres", settings=None):
        self.bin = _postgres_bin()
        self.folder = scratch() / name
        self.data = self.folder / "data"
        self.port = free_port()
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.superuser, self.database = "postgres", "postgres"
        self.settings = {"wal_level": "logical", "max_replication_slots": 10, "max_wal_senders": 10,
                         "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": str(self.folder),
                         "shared_buffers": "256MB", "max_wal_size": "4GB", **(settings or {})}
        self.running = False
        atexit.register(self.stop, "immediate")

    def _run(self, *command, **kwargs):
        if self.user:
            command = ["runuser", "-u", "postgres", "--", *command]
        return subprocess.run([str(c) for c in command], check=True, cwd="/", stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **kwargs)

    def start(self):
        if not self.data.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.user:
                os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
            self._run(self.bin / "initdb", "-D", self.data, "-U", self.superuser, "-A", "trust", "-E", "UTF8", "--locale=C",
                      "--no-sync")
        options = " ".join(f"-c {k}={v}" for k, v in self.settings.items())
        log = self.folder / "server.log"
        try:
            # A server keeps the pipes of whoever started it, so pg_ctl gets none.
            command = [self.bin / "pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", log, "-o", options, "start"]
            if self.user:
                command = ["runuser", "-u", "postgres", "--", *command]
            subprocess.run([str(c) for c in command], check=True, cwd="/", stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except subprocess.CalledProcessError:
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise CannotMeasure(f"PostgreSQL did not start:\n{tail}") from None
        self.running = True
        return self

    def stop(self, mode="fast"):
        if self.running:
            self.running = False
            try:
                self._run(self.bin / "pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")
            except subprocess.CalledProcessError as e:
                print(e.stderr, file=sys.stderr)

    def connect(self, **kwargs):
        return psycopg.connect(host="127.0.0.1", port=self.port, user=self.superuser, dbname=self.database, autocommit=True,
                               **kwargs)

    def tool(self, name):
        """A client program of this server's version, with the arguments that connect it."""
        return [str(self.bin / name), "-h", "127.0.0.1", "-p", str(self.port), "-U", self.superuser]

    def cdc_options(self, slot="tidewater", publication="tidewater", password=None):
        """The WITH clause of CREATE SOURCE for this server."""
        options = {"connector": "postgres-cdc", "hostname": "127.0.0.1", "port": self.port, "username": self.superuser,
                   "password": password or "unused", "database.name": self.database, "slot.name": slot,
                   "publication.name": publication}
        return with_clause(options)


def with_clause(options):
    return "WITH (" + ", ".join(f"{k} = '{str(v)}'" for k, v in options.items()) + ")"
