#!/usr/bin/env bash
# Installs what the build and the tests need: Debian packages, the DuckDB library and headers, Arrow C++, a Python
# environment for the readers in the tests, and where there is a Go toolchain the S3 server versitygw. Everything that is not from Debian lies in $TIDEWATER_DEPS, outside git.
# Running it again costs a few milliseconds.   Usage: scripts/deps.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/pins.env"
export TIDEWATER_DEPS=${TIDEWATER_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/tidewater}
mkdir -p "$TIDEWATER_DEPS"
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
go=$(command -v go || true)
stamp=$TIDEWATER_DEPS/.installed-$({ sha256sum "$here/pins.env" "$here/deps.sh"; echo "$go"; } | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
exec 9>"$TIDEWATER_DEPS/.lock"; flock 9

missing=()
for p in $APT_PACKAGES; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
# A Node.js that did not come from Debian brings its own npm.
if command -v npm >/dev/null; then missing=("${missing[@]/#npm/}"); fi
missing=($(printf '%s\n' "${missing[@]:-}" | grep -v '^$' || true))
if [ ${#missing[@]} -gt 0 ]; then
  say "Debian packages: ${missing[*]}"
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -q
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

verify() { echo "$2  $1" | sha256sum -c --quiet - || { echo "checksum of $1 differs from scripts/pins.env" >&2; exit 1; }; }
work=$TIDEWATER_DEPS/download; mkdir -p "$work"; cd "$work"
if [ ! -e "$TIDEWATER_DEPS/duckdb/.done" ]; then
  say "DuckDB 1.5.6: library (npm) and headers (PyPI)"
  [ -e "$DUCKDB_LIB_FILE" ] || npm pack --silent "$DUCKDB_LIB_PKG" >/dev/null
  verify "$DUCKDB_LIB_FILE" "$DUCKDB_LIB_SHA256"
  [ -e "$DUCKDB_SRC_FILE" ] ||
    python3 -m pip download -q --no-deps --no-binary duckdb "$DUCKDB_SRC_PKG" -d .
  verify "$DUCKDB_SRC_FILE" "$DUCKDB_SRC_SHA256"
  rm -rf "$TIDEWATER_DEPS/duckdb"; mkdir -p "$TIDEWATER_DEPS/duckdb/lib"
  tar xzf "$DUCKDB_LIB_FILE" -C "$TIDEWATER_DEPS/duckdb/lib" --strip-components=1 package/libduckdb.so
  tar xzf "$DUCKDB_SRC_FILE" -C "$TIDEWATER_DEPS/duckdb" --strip-components=3 \
    duckdb-1.5.6/external/duckdb/src duckdb-1.5.6/external/duckdb/third_party duckdb-1.5.6/external/duckdb/extension
  touch "$TIDEWATER_DEPS/duckdb/.done"
fi
if [ ! -e "$TIDEWATER_DEPS/arrow/.done" ]; then
  say "Arrow C++ 26 (PyPI)"
  [ -e "$ARROW_FILE" ] || python3 -m pip download -q --no-deps --only-binary :all: --python-version 3.11 "$ARROW_PKG" -d .
  verify "$ARROW_FILE" "$ARROW_SHA256"
  rm -rf "$TIDEWATER_DEPS/arrow"; mkdir -p "$TIDEWATER_DEPS/arrow"
  unzip -qo "$ARROW_FILE" 'pyarrow/include/*' 'pyarrow/*.so.2600' -d "$TIDEWATER_DEPS/arrow"
  touch "$TIDEWATER_DEPS/arrow/.done"
fi
venv=$TIDEWATER_DEPS/venv
if [ ! -e "$venv/.done-$(echo "$PYTHON_REQUIREMENTS" | sha256sum | cut -c1-12)" ]; then
  say "Python environment of the tests: $PYTHON_REQUIREMENTS"
  rm -rf "$venv"; python3 -m venv "$venv"
  "$venv/bin/pip" install -q $PYTHON_REQUIREMENTS
  touch "$venv/.done-$(echo "$PYTHON_REQUIREMENTS" | sha256sum | cut -c1-12)"
fi
# Only tests want it, and they are skipped without it: what goes wrong here is said and does not stop the build.
if [ -n "$go" ] && [ ! -e "$TIDEWATER_DEPS/bin/.done-${VERSITYGW##*/}" ]; then
  found=$(GOTOOLCHAIN=local "$go" env GOVERSION)
  if [ "$(printf '%s\n' "go$VERSITYGW_GO" "$found" | sort -V | head -1)" = "go$VERSITYGW_GO" ]; then
    say "${VERSITYGW##*/}, an S3 server for the tests (built with $found, about 3 minutes, once)"
    if GOBIN=$TIDEWATER_DEPS/bin GOFLAGS= GOTOOLCHAIN=local CGO_ENABLED=0 "$go" install "$VERSITYGW"; then
      touch "$TIDEWATER_DEPS/bin/.done-${VERSITYGW##*/}"
    else
      say "versitygw could not be built: its tests will be skipped (remove $stamp and run scripts/deps.sh to try again)"
    fi
  else
    say "versitygw needs Go $VERSITYGW_GO, here is $found: its tests will be skipped"
  fi
fi
touch "$stamp"
