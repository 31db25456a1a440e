#!/usr/bin/env bash
# Builds and installs what the end-to-end tests need (once; it stays in the user's cache folder) and runs them against a
# real Prometheus, Alertmanager, Jaeger, Loki, Cortex and Backstage on loopback. With SIGHTLINE_E2E=1 a missing part fails instead of being
# skipped. Arguments go to `go test`, as in `e2e/run.sh -run Backstage -v`.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x bin/sightline ] || make build
tools=$(e2e/tools/build.sh prometheus alertmanager jaeger loki cortex)
if command -v apt-get > /dev/null; then # elsewhere the test of Prometheus 2.42 is skipped
  tools+=$'\n'$(e2e/tools/debian.sh)
fi
e2e/backstage/install.sh > /dev/null
BACKSTAGE_WORKDIR=$(mktemp -d)
trap 'WORKDIR=$BACKSTAGE_WORKDIR e2e/backstage/down.sh; rm -rf "$BACKSTAGE_WORKDIR"' EXIT
PATH="$(echo "$tools" | tr '\n' ':')$PATH"
export PATH BACKSTAGE_WORKDIR SIGHTLINE_E2E=1 SIGHTLINE_BIN=$PWD/bin/sightline
go test -count=1 -timeout 20m "$@" ./e2e
