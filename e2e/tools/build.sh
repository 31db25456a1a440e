#!/usr/bin/env bash
# Builds the real servers that the end-to-end tests run, each from its own pinned module, and prints the folder that
# holds them. What has been built stays in the user's cache folder, so a second call takes no time.
#   e2e/tools/build.sh prometheus alertmanager
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${SIGHTLINE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/sightline/tools}
declare -A tags=([prometheus]=remove_all_sd [alertmanager]="" [jaeger]="" [loki]="" [cortex]=slicelabels)
declare -A minutes=([prometheus]=3 [alertmanager]=1 [jaeger]=3 [loki]=6 [cortex]=4)
for name in "$@"; do
  [ -n "${minutes[$name]:-}" ] || { echo "e2e/tools: unknown tool $name; known: ${!minutes[*]}" >&2; exit 2; }
  key=$({ cat "$here/$name/go.mod" "$here/$name/go.sum"; echo "${tags[$name]}"; go version; } | sha256sum | cut -c1-16)
  dir=$cache/$name-$key
  if [ ! -f "$dir/.built" ]; then
    echo "e2e/tools: building $name, about ${minutes[$name]} minutes on two cores, once" >&2
    mkdir -p "$dir.part"
    (cd "$here/$name" && go build -p=2 -trimpath -buildvcs=false -ldflags "-s -w" -tags "${tags[$name]}" -o "$dir.part/" tool) >&2
    touch "$dir.part/.built"
    rm -rf "$dir"
    mv "$dir.part" "$dir"
  fi
  echo "$dir"
done
