#!/usr/bin/env bash
# Builds what the end-to-end tests need (once; it stays in the user's cache folder) and runs them against a real
# Prometheus and Alertmanager on loopback. With SIGHTLINE_E2E=1 a missing part fails instead of being skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x bin/sightline ] || make build
tools=$(e2e/tools/build.sh prometheus alertmanager)
PATH="$(echo "$tools" | tr '\n' ':')$PATH"
export PATH SIGHTLINE_E2E=1 SIGHTLINE_BIN=$PWD/bin/sightline
go test -count=1 -timeout 20m "$@" ./e2e
