#!/usr/bin/env bash
# Builds the release twice, in two clones of the last commit, and compares the bytes. The clones are in folders of
# different names and lengths; the second has another umask and compiles everything itself, in an empty cache (which
# takes minutes and 5 GB). Called by `make reproducible`.
#   CACHE=shared    the second clone uses the first one's cache of compiled packages: quicker, and shows less
set -euo pipefail
cd "$(dirname "$0")/.."
[ -z "$(git status --porcelain)" ] || echo "note: changes that are not committed are not compared" >&2
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
one=$work/one two=$work/a/folder/with/a/longer/name/two
git clone -q . "$one"
(umask 077 && mkdir -p "$(dirname "$two")" && git clone -q . "$two")
make -C "$one" --no-print-directory release
[ "${CACHE:-}" = shared ] || export GOCACHE=$work/cache
(umask 077 && make -C "$two" --no-print-directory release)
cmp "$one/release/SHA256SUMS" "$two/release/SHA256SUMS" || { diff "$one/release/SHA256SUMS" "$two/release/SHA256SUMS" >&2; echo "the two builds differ" >&2; exit 1; }
for file in "$one"/release/*; do cmp "$file" "$two/release/$(basename "$file")"; done
echo "the two builds of $(git rev-parse --short=12 HEAD) are the same, byte by byte:"
cat "$one/release/SHA256SUMS"
