"""The tree keeps its own rules: edges between modules, no dead file, a README in each folder, no TODO without a reason.

Usage: tidy_test.py [ROOT]. Prints one line per finding, exits 1 if there is any.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent).resolve()
SELF = Path("test/tidy_test.py")
CODE = {".h", ".cc", ".hpp", ".cpp", ".py", ".sh"}
TEXT = CODE | {".md", ".txt", ".cmake", ".json", ".sql", ".slt", ".env", ".yml", ".toml", ""}
# Only these modules may see the headers of a bought library (DESIGN: nobody above the line knows DuckDB).
LIBRARY_OWNERS = {
    "duckdb": {"types", "state", "dataflow", "sql", "lake", "sources_api", "sources_postgres", "sources_nexmark", "sinks_api",
               "sinks_iceberg", "sinks_blackhole", "engine", "pgwire_server", "cli"},
    "arrow": {"io"},
}
MACHINE = re.compile(r"(?<![\w.~$}])/(?:root|home|work|mnt)/[\w.]|/tmp/[a-z_]*(?:bench|claude)/")
HOSTS = re.compile(r"registry\.npmjs\.org|pypi\.org|pythonhosted\.org|static\.crates\.io|proxy\.golang\.org|repo1?\.maven\.|deb\.debian\.org")

findings = []


def find(path, line, message):
    findings.append(f"{path}:{line}: {message}" if line else f"{path}: {message}")


def files():
    """What git tracks or would add; without git, everything outside build folders."""
    try:
        out = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, text=True, check=True).stdout
        paths = [Path(p) for p in out.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        paths = [p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file()]
        paths = [p for p in paths if p.parts[0] not in ("build", ".git")]
    return sorted(p for p in paths if (ROOT / p).is_file())


def edges():
    table = {}
    for m in re.finditer(r"^set\(EDGES_(\w+)\s+([^)]*)\)", (ROOT / "cmake/Module.cmake").read_text(), re.M):
        table[m[1]] = {m[1], "base"} | set(m[2].replace('"', "").split())
    return table


def module_of(path, table):
    """Module of a path below src/tidewater, by its longest folder that is one: 'sources/nexmark/x.h' -> sources_nexmark."""
    parts = Path(path).parts[:-1]
    for n in range(len(parts), 0, -1):
        if "_".join(parts[:n]) in table:
            return "_".join(parts[:n])
    return None


def check_includes(path, lines, table):
    module = module_of(path.relative_to("src/tidewater"), table)
    if module is None:
        return find(path, 0, "lies in no module of cmake/Module.cmake")
    for number, line in enumerate(lines, 1):
        m = re.match(r'\s*#\s*include\s+[<"]([^>"]+)[>"]', line)
        if not m:
            continue
        if m[1].startswith("tidewater/"):
            other = module_of(m[1][len("tidewater/"):], table)
            if other is None:
                find(path, number, f"includes {m[1]}, which lies in no module")
            elif other not in table[module]:
                find(path, number, f"forbidden edge: {module} must not include {other} ({m[1]})")
        library = m[1].split("/")[0].split(".")[0]
        if library in LIBRARY_OWNERS and module not in LIBRARY_OWNERS[library]:
            find(path, number, f"{module} must not know {library} ({m[1]})")


def check_build(path, tracked):
    """Every C++ file belongs to a target: modules take *.cc of their folder, others are named in a CMakeLists.txt."""
    if path.suffix not in (".cc", ".cpp"):
        return
    lists = path.parent / "CMakeLists.txt"
    while lists not in tracked and len(lists.parent.parts) > 1:
        lists = lists.parent.parent / "CMakeLists.txt"
    if lists not in tracked:
        return find(path, 0, "no CMakeLists.txt builds it")
    text = (ROOT / lists).read_text()
    # A module's fuzz targets and programs are named; everything else is taken by the module's glob.
    by_glob = "tidewater_module(" in text and lists.parent == path.parent and not path.stem.endswith("_fuzz")
    if not by_glob and path.name not in text and not re.search(rf"\b{re.escape(path.stem)}\b", text):
        # Fuzz targets may be built by one script for all.
        fuzz = ROOT / "scripts/fuzz.sh"
        if not (path.stem.endswith("_fuzz") and fuzz.exists()):
            find(path, 0, f"no target of {lists} builds it")


def main():
    table = edges()
    all_files = files()
    tracked = set(all_files)
    for path in all_files:
        if path.suffix not in TEXT or path.name in ("LICENSE",):
            continue
        try:
            lines = (ROOT / path).read_text().splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if path != SELF:
                if re.search(r"\b(TODO|FIXME)\b(?!\([^)]{3,}\))", line):
                    find(path, number, "TODO without a reason: write TODO(why and when)")
                if MACHINE.search(line):
                    find(path, number, "absolute path of a machine")
                if HOSTS.search(line):
                    find(path, number, "names a package host: the clients know theirs")
        if path.parts[:2] == ("src", "tidewater") and path.suffix in (".h", ".cc"):
            check_includes(path, lines, table)
        if path.parts[0] in ("src", "bench", "test"):
            check_build(path, tracked)
        if path.suffix == ".h" and path.parts[0] == "src" and "#pragma once" not in lines:
            find(path, 0, "no #pragma once")

    folders = {p.parent for p in all_files if p.suffix in CODE and p.parts[0] != ".ci"}
    for folder in sorted(folders):
        if folder / "README.md" not in tracked:
            find(folder, 0, "no README.md")
    cmake = (ROOT / "test/CMakeLists.txt").read_text()
    for path in all_files:
        if path.parent == Path("test") and path.name.endswith("_test.py") and path.name not in cmake:
            find(path, 0, "not registered in test/CMakeLists.txt")
        if path.parts[:2] == ("src", "tidewater") and path.name == "README.md" and len((ROOT / path).read_text().split()) < 20:
            find(path, 0, "says too little: what it does, what enters, what leaves, what does not belong")

    for line in findings:
        print(line)
    print(f"{len(all_files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
