"""The PostgreSQL JDBC driver, as DataGrip or a Java program would use it. Skipped, with the reason, without a JDK or Maven.

    jdbc_test.py --binary build/release/tidewater
"""
import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench"))
import lib  # noqa: E402

DRIVER = "org.postgresql:postgresql:42.7.4"


def driver():
    """The driver's jar, kept outside git."""
    for tool in ("java", "javac", "mvn"):
        if not shutil.which(tool):
            lib.skip(f"{tool} is not installed")
    cache = Path(os.environ.get("TIDEWATER_DEPS") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tidewater")
    jar = cache / "jdbc" / "postgresql-42.7.4.jar"
    if not jar.exists():
        jar.parent.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={DRIVER}", f"-DoutputDirectory={jar.parent}"],
                             cwd=jar.parent, capture_output=True, text=True)
        if got.returncode != 0 or not jar.exists():
            lib.skip(f"Maven did not bring {DRIVER}: {got.stdout[-300:].strip()}")
    return jar


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/tidewater")
    args = parser.parse_args()
    jar = driver()
    t = lib.Tidewater(args.binary).start()
    classes = lib.scratch() / "classes"
    subprocess.run(["javac", "-d", str(classes), str(HERE / "JdbcTest.java")], check=True)
    done = subprocess.run(["java", "-Xmx256m", "-cp", f"{jar}:{classes}", "JdbcTest", f"jdbc:postgresql://127.0.0.1:{t.port}/dev"], timeout=120)
    sys.exit(done.returncode)


if __name__ == "__main__":
    lib.main(run)
