#!/usr/bin/env bash
# Builds every src/**/*_fuzz.cc with clang's libFuzzer and AddressSanitizer and runs each for a while. Ends with an error when one
# finds something; the input that did it is kept in build/fuzz/findings, and what widened coverage in build/fuzz/corpus.
#   Usage: scripts/fuzz.sh [--seconds N] [NAME...]     N per target, 30 by default; NAME as in fuzz_NAME, a part is enough
set -euo pipefail
cd "$(dirname "$0")/.."
export TIDEWATER_DEPS=${TIDEWATER_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/tidewater}
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
seconds=30
names=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?"--seconds needs a number"}; shift 2 ;;
    --seconds=*) seconds=${1#*=}; shift ;;
    -*) sed -n 4p "$0" | cut -c3-; exit 2 ;;
    *) names+=("$1"); shift ;;
  esac
done
[[ $seconds =~ ^[0-9]+$ ]] || { echo "--seconds needs a number, not $seconds" >&2; exit 2; }

bash scripts/deps.sh
missing=()
for p in clang-19 libclang-rt-19-dev; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  say "Debian packages for fuzzing: ${missing[*]}"
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -q
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

build=build/fuzz
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime CCACHE_BASEDIR=$PWD
if [ ! -e $build/build.ninja ]; then
  say "configure (fuzz)"
  # With constexpr destructors of unique_ptr (C++23) clang wants complete types where DuckDB's headers have none yet.
  cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_CXX_FLAGS=-D_GLIBCXX23_CONSTEXPR= -DTIDEWATER_FUZZ=ON \
    -DTIDEWATER_SANITIZE=fuzzer-no-link,address >$build.log 2>&1 || { cat $build.log; rm -rf $build; exit 1; }
fi
say "build (fuzz)"
cmake --build $build -j "${TIDEWATER_JOBS:-$(nproc)}" --target fuzzers

mkdir -p $build/findings
failed=()
ran=0
for program in $build/fuzz_*; do
  [ -x "$program" ] && [ -f "$program" ] || continue
  name=${program##*/fuzz_}
  if [ ${#names[@]} -gt 0 ]; then
    wanted=
    for n in "${names[@]}"; do [[ $name == *"$n"* ]] && wanted=1; done
    [ -n "$wanted" ] || continue
  fi
  corpus=$build/corpus/$name
  mkdir -p "$corpus"
  say "$name, $seconds s"
  ran=$((ran + 1))
  log=$build/findings/$name.log
  if "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -max_len=16384 -use_value_profile=1 -verbosity=1 \
    -print_final_stats=1 -artifact_prefix="$build/findings/$name-" "$corpus" >"$log" 2>&1; then
    sed -n 's/^stat::number_of_executed_units: */    runs: /p' "$log"
  else
    tail -40 "$log"
    failed+=("$name")
  fi
done
if [ $ran = 0 ]; then echo "no fuzz target of that name" >&2; exit 2; fi
if [ ${#failed[@]} -gt 0 ]; then
  say "findings in: ${failed[*]} (inputs and logs: $build/findings)"
  exit 1
fi
say "$ran fuzz targets, nothing found"
