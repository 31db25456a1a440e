#!/usr/bin/env bash
# Runs every fuzz test of the module for the given time, one after the other.
#   tools/fuzz.sh 30s
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rlE '^func Fuzz[A-Za-z0-9_]+\(' --include='*_test.go' . | sort | while read -r file; do
  grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | cut -c6- | while read -r name; do
    echo "== $(dirname "$file") $name"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" -fuzzminimizetime 1x -timeout 10m "$(dirname "$file")" </dev/null
  done
done
