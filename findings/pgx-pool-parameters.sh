#!/usr/bin/env bash
# Can one connection string with pool_max_conns serve a pool and a single connection?
# Guess:    one DATABASE_URL works for everything built on pgx: pgx.Connect and database/sql (pgx's stdlib)
#           ignore what only pgxpool reads.
# Truth:    pgxpool reads pool_max_conns and removes it. pgx.Connect and stdlib send it to the server as a
#           run-time parameter, and the server refuses the connection (42704). So a migration tool on
#           database/sql fails with the string that the service's pool accepts. psql refuses the URL before
#           it connects. Workaround: parse the string with pgxpool.ParseConfig, and pass its ConnConfig to
#           pgx.ConnectConfig or stdlib.OpenDB.
# Versions: jackc/pgx 5.13.0; PostgreSQL 15.18 (the script uses the installed one). Seen on 2026-11-27.
# Source:   pgx, pgxpool/pool.go: ParseConfig deletes pool_max_conns from RuntimeParams. pgconn,
#           config.go: ParseConfig's comment says that unknown settings become run-time parameters.
# Usage:    needs Go and PostgreSQL's server programs. It starts a private server on a socket, and
#           removes everything afterwards. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
export GOWORK=off
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

command -v go >/dev/null || cannot 'no Go'
initdb=$(command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1) || cannot 'no initdb'
bin=$(dirname "$(readlink -f "$initdb")")
[ -x "$bin/psql" ] || cannot 'no psql'
chmod 711 "$dir"
mkdir -m 700 "$dir/pg"
if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses to run as root
  as=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups)
  chown nobody "$dir/pg"
fi

cd "$dir/pg"
timeout 30 "${as[@]}" "$bin/initdb" -D data -U postgres -A trust --locale=C --no-sync >"$dir/log" ||
  cannot "initdb: $(tail -3 "$dir/log")"
"${as[@]}" "$bin/pg_ctl" -D data -l log -w -t 60 \
  -o "-k $dir/pg -c listen_addresses= -c fsync=off" start >"$dir/log" ||
  cannot "pg_ctl: $(tail -3 "$dir/log")"

mkdir "$dir/go" && cd "$dir/go"
cat >main.go <<'GO'
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

var changed bool

// expect prints an observation, and records whether it differs from the head of this file.
func expect(ok bool, format string, args ...any) {
	mark := "as described"
	if !ok {
		mark, changed = "CHANGED", true
	}
	fmt.Printf("  %s (%s)\n", fmt.Sprintf(format, args...), mark)
}

func must(err error) {
	if err != nil {
		fmt.Println("cannot run:", err)
		os.Exit(2)
	}
}

// said returns a server's refusal without the address in front of it, or "no error".
func said(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code + ", " + pg.Message
	}
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// unknown reports whether the server refused an unknown parameter.
func unknown(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "42704" && strings.Contains(pg.Message, "pool_max_conns")
}

// connect opens and closes one connection.
func connect(ctx context.Context, conn *pgx.Conn, err error) error {
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dsn := "host=" + os.Args[1] + " user=postgres dbname=postgres"
	address := "postgres://postgres@/postgres?host=" + url.QueryEscape(os.Args[1])

	conn, err := pgx.Connect(ctx, dsn)
	must(connect(ctx, conn, err)) // the server itself is well

	for _, form := range []struct{ name, text string }{
		{"keywords", dsn + " pool_max_conns=7"},
		{"a URL", address + "&pool_max_conns=7"},
	} {
		fmt.Printf("pool_max_conns=7 in %s\n", form.name)

		pool, err := pgxpool.New(ctx, form.text)
		must(err)
		err = pool.Ping(ctx)
		expect(err == nil && pool.Config().MaxConns == 7, "pgxpool: %s, MaxConns is %d", said(err), pool.Config().MaxConns)
		pool.Close()

		conn, err := pgx.Connect(ctx, form.text)
		err = connect(ctx, conn, err)
		expect(unknown(err), "pgx.Connect: %s", said(err))

		db, err := sql.Open("pgx", form.text)
		must(err)
		err = db.PingContext(ctx)
		db.Close()
		expect(unknown(err), "database/sql: %s", said(err))

		cfg, err := pgxpool.ParseConfig(form.text)
		must(err)
		conn, err = pgx.ConnectConfig(ctx, cfg.ConnConfig)
		err = connect(ctx, conn, err)
		expect(err == nil, "pgx.ConnectConfig with pgxpool's ConnConfig: %s", said(err))
		db = stdlib.OpenDB(*cfg.ConnConfig)
		err = db.PingContext(ctx)
		db.Close()
		expect(err == nil, "database/sql with pgxpool's ConnConfig: %s", said(err))
	}

	fmt.Println("psql")
	out, err := exec.CommandContext(ctx, os.Args[2], "-w", "-Atc", "select 1", address).CombinedOutput()
	expect(err == nil, "the URL without it: %s", strings.TrimSpace(string(out)))
	out, err = exec.CommandContext(ctx, os.Args[2], "-w", "-Atc", "select 1", address+"&pool_max_conns=7").CombinedOutput()
	expect(err != nil && strings.Contains(string(out), "pool_max_conns"), "the URL with it: %s", strings.TrimSpace(string(out)))
	if changed {
		os.Exit(1)
	}
}
GO
{ go mod init example.org/finding && go mod edit -go=1.26.0 &&
  timeout 60 go get github.com/jackc/pgx/v5/{pgxpool,stdlib}@v5.13.0 &&
  timeout 70 go build -o finding .; } >"$dir/log" 2>&1 || cannot "build: $(tail -3 "$dir/log")"
"$bin/postgres" --version
rc=0
timeout 70 ./finding "$dir/pg" "$bin/psql" || rc=$?
[ "$rc" -le 1 ] || rc=2
exit "$rc"
