#!/usr/bin/env bash
# Stops what up.sh started and throws the database away; installed packages stay.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
# SIGTERM can take 40 s (the event bus holds a long poll), so KILL; the database is thrown away anyway
for f in be; do
  [ -f "$WORKDIR/$f.pid" ] && kill -KILL "$(cat "$WORKDIR/$f.pid")" 2>/dev/null
  rm -f "$WORKDIR/$f.pid"
done
pg_down "$WORKDIR/pg"
