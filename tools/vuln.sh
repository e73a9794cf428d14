#!/usr/bin/env bash
# Looks for known vulnerabilities in code that the programs call, without the network: govulncheck with the
# data that tools/vulndb pins. It fails on a finding without an exception in the list below, on an exception
# that is no longer needed, and on code that invalidates an exception.
set -euo pipefail
cd "$(dirname "$0")/.."

# Each line: an id, then a pattern that must not occur in our code: the only function that the advisory concerns.
# The data of these advisories names no function, so every call into the module counts as a call of that one.
excused() {
  cat <<'LIST'
GO-2026-6872 \.RealIP\(
GO-2026-6875 echo/v4/middleware
LIST
}

data=$(go -C tools/vulndb mod download -json golang.org/x/vulndb | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$data/data/osv" ] || { echo "vuln: downloading the pinned vulnerability data failed" >&2; exit 1; }

report=$(mktemp)
trap 'rm -f "$report"' EXIT
code=0
go tool -modfile=tools/go.mod govulncheck -db "file://$data/data/osv" ./... >"$report" 2>&1 || code=$?
case $code in
  0 | 3) ;; # 3: it reports findings
  *) cat "$report" >&2; exit 1 ;;
esac

bad=0
found=$(sed -n 's/^Vulnerability #[0-9]*: //p' "$report" | sort)
for id in $found; do
  excused | grep -q "^$id " || { echo "vuln: $id is reachable: see https://pkg.go.dev/vuln/$id" >&2; bad=1; }
done
while read -r id pattern; do
  grep -qx "$id" <<<"$found" || { echo "vuln: $id is no longer found: remove it from tools/vuln.sh" >&2; bad=1; }
  if git grep -nE "$pattern" -- '*.go' >&2; then echo "vuln: the exception for $id requires that no code matches $pattern" >&2; bad=1; fi
done < <(excused)
[ $bad = 0 ] || { cat "$report" >&2; exit 1; }
