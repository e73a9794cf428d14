#!/usr/bin/env bash
# Looks for known vulnerabilities in what the programs call, without the network: govulncheck against
# the data that tools/vulndb pins. It fails on a finding that the list below does not excuse, on an
# excuse that is no longer needed, and on code that takes an excuse away.
set -euo pipefail
cd "$(dirname "$0")/.."

# id, then a pattern that must stand nowhere in our code: the only function that the advisory is about.
# Their data names no function, so every call into the module counts as a call of the faulty one.
excused() {
  cat <<'LIST'
GO-2026-6872 \.RealIP\(
GO-2026-6875 echo/v4/middleware
LIST
}

data=$(go -C tools/vulndb mod download -json golang.org/x/vulndb | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$data/data/osv" ] || { echo "vuln: the pinned vulnerability data cannot be downloaded" >&2; exit 1; }

report=$(mktemp)
trap 'rm -f "$report"' EXIT
code=0
go tool -modfile=tools/go.mod govulncheck -db "file://$data/data/osv" ./... >"$report" 2>&1 || code=$?
case $code in
  0 | 3) ;; # 3: it found something
  *) cat "$report" >&2; exit 1 ;;
esac

bad=0
found=$(sed -n 's/^Vulnerability #[0-9]*: //p' "$report" | sort)
for id in $found; do
  excused | grep -q "^$id " || { echo "vuln: $id is reachable: see https://pkg.go.dev/vuln/$id" >&2; bad=1; }
done
while read -r id pattern; do
  grep -qx "$id" <<<"$found" || { echo "vuln: $id is no longer found: remove it from tools/vuln.sh" >&2; bad=1; }
  if git grep -nE "$pattern" -- '*.go' >&2; then echo "vuln: $id is excused only while nothing matches $pattern" >&2; bad=1; fi
done < <(excused)
[ $bad = 0 ] || { cat "$report" >&2; exit 1; }
