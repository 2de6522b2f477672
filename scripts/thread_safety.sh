#!/usr/bin/env bash
# Has clang prove what base/mutex.h annotates: that guarded fields are touched with their mutex held. Builds every module but those
# named in EXCEPT (they are to be cut anew) with clang and -Werror=thread-safety; ninja and ccache keep what did not change.
#   Usage: scripts/thread_safety.sh
set -euo pipefail
cd "$(dirname "$0")/.."
EXCEPT='state|dataflow|engine'
export TIDEWATER_DEPS=${TIDEWATER_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/tidewater}
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime CCACHE_BASEDIR=$PWD
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
if ! dpkg-query -W -f='${Status}' clang-19 2>/dev/null | grep -q 'install ok installed'; then
  say "Debian packages for the analysis: clang-19"
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -q
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends clang-19
fi
build=build/thread-safety
if [ ! -e $build/build.ninja ]; then
  # With constexpr destructors of unique_ptr (C++23) clang wants complete types where DuckDB's headers have none yet.
  cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=clang++-19 \
    -DCMAKE_CXX_FLAGS="-D_GLIBCXX23_CONSTEXPR= -Wthread-safety -Werror=thread-safety -Wno-deprecated-declarations" >$build.log 2>&1 ||
    { cat $build.log; rm -rf $build; exit 1; }
fi
targets=$(sed -nE 's/^set\(EDGES_([a-z_]+) .*/\1/p' cmake/Module.cmake | grep -vxE "$EXCEPT" | sed 's/^/tw_/')
# Modules that are headers alone have no target.
targets=$(for t in $targets; do if ninja -C $build -t query "$t" >/dev/null 2>&1; then echo "$t"; fi; done)
say "thread-safety analysis: $(echo $targets | sed 's/tw_//g')"
cmake --build $build -j "${TIDEWATER_JOBS:-$(nproc)}" --target $targets
