#!/usr/bin/env bash
# Packs a folder into FOLDER.tar.gz beside it, so that the same files give the same bytes: sorted by name, owned by 0,
# with ordinary permissions and one time.
# Usage: pack.sh FOLDER SECONDS    SECONDS since 1970
set -euo pipefail
export LC_ALL=C TZ=UTC
folder=${1%/} seconds=$2
tar -C "$(dirname "$folder")" --format=ustar --sort=name --mtime="@$seconds" --owner=0 --group=0 --numeric-owner \
  --mode='u+rw,go-w,a+rX' -cf - "$(basename "$folder")" | gzip -9 -n >"$folder.tar.gz"
