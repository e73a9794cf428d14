#!/usr/bin/env bash
# Does to_regclass return NULL for a table that a role cannot reach?
# Guess:    yes. It is the form of ::regclass that returns NULL instead of an error, so a program can ask
#           "is my table here?" before it has any rights, in the middle of a transaction.
# Truth:    only where no schema has that name. Where the schema exists and the role has no USAGE on it, the
#           function raises 42501 (permission denied for schema), for a table that exists and for one that
#           does not alike, and the transaction is aborted. has_schema_privilege returns false and raises
#           nothing, so ask that first; for a schema that does not exist it is the one that raises (3F000).
# Versions: PostgreSQL 15.18 (the script uses the installed one). Seen on 2026-11-27.
# Source:   src/backend/catalog/namespace.c: LookupExplicitNamespace checks ACL_USAGE and raises, whatever
#           missing_ok says.
# Usage:    needs PostgreSQL's server programs and psql. It starts a private server on a socket, and removes
#           everything afterwards. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
unset "${!PG@}"

dir=$(mktemp -d)
as=()
cleanup() {
  [ ! -s "$dir/pg/data/postmaster.pid" ] ||
    "${as[@]}" "$bin/pg_ctl" -D "$dir/pg/data" -m immediate stop >/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 2' INT TERM
cannot() { echo "cannot run: $1"; exit 2; }

initdb=$(command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1) || cannot 'no initdb'
bin=$(dirname "$(readlink -f "$initdb")")
[ -x "$bin/psql" ] || cannot 'no psql'
chmod 711 "$dir"
mkdir -m 700 "$dir/pg"
if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses to run as root
  as=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups)
  chown nobody "$dir/pg"
fi
cd "$dir"
"${as[@]}" "$bin/initdb" -D pg/data -U owner -A trust >/dev/null
"${as[@]}" "$bin/pg_ctl" -D "$dir/pg/data" -o "-k '$dir/pg' -c listen_addresses=''" -w -t 60 -l "$dir/pg/log" start >/dev/null || cannot 'PostgreSQL does not start'
sql() { "${as[@]}" "$bin/psql" -XAtq -h "$dir/pg" -U "$1" -d postgres -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate -c "$2" 2>&1 || true; }

echo "PostgreSQL $(sql owner 'SHOW server_version')"
sql owner 'CREATE SCHEMA closed; CREATE TABLE closed.here (); CREATE ROLE guest LOGIN'

changed=0
check() { # what, query, the answer that is expected
  got=$(sql guest "$2")
  printf '%-62s %s\n' "$1" "${got:-NULL}"
  [ "${got:-NULL}" = "$3" ] || { echo "  expected: $3"; changed=1; }
}
check 'to_regclass, a schema that does not exist' "SELECT to_regclass('absent.here')" NULL
check 'to_regclass, a schema without USAGE, a table that exists' "SELECT to_regclass('closed.here')" 'ERROR:  42501'
check 'to_regclass, a schema without USAGE, a table that does not' "SELECT to_regclass('closed.absent')" 'ERROR:  42501'
check 'has_schema_privilege, the same schema' "SELECT has_schema_privilege('closed', 'USAGE')" f
check 'has_schema_privilege, a schema that does not exist' "SELECT has_schema_privilege('absent', 'USAGE')" 'ERROR:  3F000'
sql owner 'GRANT USAGE ON SCHEMA closed TO guest'
check 'to_regclass, with USAGE and without a right on the table' "SELECT to_regclass('closed.here')" closed.here

[ "$changed" -eq 0 ] && echo 'As described.' || { echo 'It has changed.'; exit 1; }
