#!/usr/bin/env bash
# Builds what the end-to-end tests need (once; it stays in the user's cache folder) and runs them against real servers on
# loopback. With SIGHTLINE_E2E=1 a missing part fails instead of being skipped.
#   SIGHTLINE_E2E_SKIP_BACKSTAGE=1   leave the real Backstage out (it needs npm and PostgreSQL)
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x bin/sightline ] || make build

tools=$(e2e/tools/build.sh prometheus alertmanager)
PATH="$(echo "$tools" | tr '\n' ':')$PATH"
export PATH SIGHTLINE_E2E=1 SIGHTLINE_BIN=$PWD/bin/sightline

if [ -z "${SIGHTLINE_E2E_SKIP_BACKSTAGE:-}" ]; then
  if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null && ! command -v initdb > /dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
      echo "e2e: installing PostgreSQL's server programs" >&2
      apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql > /dev/null
    else
      echo "e2e: PostgreSQL's server programs are missing: install the package postgresql, or set SIGHTLINE_E2E_SKIP_BACKSTAGE=1" >&2
      exit 1
    fi
  fi
  export WORKDIR=${WORKDIR:-${TMPDIR:-/tmp}/sightline-backstage}
  trap 'e2e/backstage/down.sh' EXIT
  echo "e2e: starting a real Backstage; the first time takes about 3 minutes" >&2
  e2e/backstage/up.sh
fi
go test -count=1 -timeout 20m "$@" ./e2e/...
