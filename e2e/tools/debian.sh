#!/usr/bin/env bash
# Unpacks, without installing it, Debian 12's package of Prometheus 2.42, the oldest version that the rules are for, and
# prints the folder that holds its programs as prometheus-2.42 and promtool-2.42. It stays in the user's cache folder.
set -euo pipefail
version=2.42.0
dir=${SIGHTLINE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/sightline/tools}/debian-prometheus-$version
if [ ! -f "$dir/.unpacked" ]; then
  package=$(apt-cache madison prometheus | awk -v v="$version" '$3 ~ "^" v "[^0-9]" {print $3; exit}')
  [ -n "$package" ] || { echo "e2e/tools: apt has no package prometheus $version: Debian 12 has it" >&2; exit 1; }
  rm -rf "$dir.part"
  mkdir -p "$dir.part"
  (cd "$dir.part" && apt-get download "prometheus=$package" && dpkg-deb -x prometheus_*.deb x) >&2
  mv "$dir.part/x/usr/bin/prometheus" "$dir.part/prometheus-2.42"
  mv "$dir.part/x/usr/bin/promtool" "$dir.part/promtool-2.42"
  rm -rf "$dir.part"/x "$dir.part"/*.deb "$dir"
  touch "$dir.part/.unpacked"
  mv "$dir.part" "$dir"
fi
echo "$dir"
