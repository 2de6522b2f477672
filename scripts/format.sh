#!/usr/bin/env bash
# Formats the C++ sources (or, with --check, lists what differs and fails). Skips, saying so, where clang-format is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
cf=$(command -v clang-format-19 || command -v clang-format || true)
[ -n "$cf" ] || { echo "clang-format is not installed: format not checked"; exit 0; }
mapfile -t files < <(git ls-files --cached --others --exclude-standard 'src/*.h' 'src/*.cc' 'test/*.cc' 'bench/*.cc' | xargs -r ls 2>/dev/null)
[ ${#files[@]} -gt 0 ] || exit 0
if [ "${1:-}" = --check ]; then "$cf" --dry-run --Werror "${files[@]}"; else "$cf" -i "${files[@]}"; fi
