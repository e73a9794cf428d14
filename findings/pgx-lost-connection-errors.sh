#!/usr/bin/env bash
# Which error does pgx return for a connection that the server has closed?
# Guess:    the server's own reason, SQLSTATE 57P01, or else a network error: one of pgconn.PgError,
#           pgconn.ConnectError, net.Error, io.EOF and io.ErrUnexpectedEOF, so that a service can
#           distinguish "the database is away" from a fault of its own.
# Truth:    it depends on the connection and on the call. Over TCP the first use returns 57P01. Over a Unix
#           socket the write fails first: a net.Error, and the server's reason is not read. Each later use,
#           and a commit after a failed statement, returns "conn closed": an unexported type that is none of
#           those five. pgconn.SafeToRetry is the only exported way to recognise it.
# Versions: jackc/pgx 5.13.0; PostgreSQL 15.18 (the script uses the installed one). Seen on 2026-11-27.
# Source:   pgx, pgconn/pgconn.go: lock returns connLockError{"conn closed"}; pgconn/errors.go.
# Usage:    needs Go and PostgreSQL's server programs. It starts a private server on a socket and a
#           loopback port, and removes everything afterwards. Exit: 0 as described, 1 no longer so,
#           2 could not run.
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
chmod 711 "$dir"
mkdir -m 700 "$dir/pg"
if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses to run as root
  as=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups)
  chown nobody "$dir/pg"
fi

mkdir "$dir/go" && cd "$dir/go"
cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var changed bool

// kind names the type by which a caller can recognise an error.
func kind(err error) string {
	var (
		pg      *pgconn.PgError
		connect *pgconn.ConnectError
		network net.Error
	)
	switch {
	case err == nil:
		return "no error"
	case errors.As(err, &pg):
		return "PgError " + pg.Code
	case errors.As(err, &connect):
		return "ConnectError"
	case errors.As(err, &network):
		return "net.Error"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "EOF"
	}
	return "none of them"
}

func expect(name string, err error, want string) {
	mark := "as described"
	if kind(err) != want {
		mark, changed = "CHANGED, was "+want, true
	}
	fmt.Printf("  %-34s %-14s %T: %v (%s)\n", name, kind(err), err, err, mark)
}

func must(err error) {
	if err != nil {
		fmt.Println("cannot run:", err)
		os.Exit(2)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, way := range []struct{ name, dsn, first string }{
		{"TCP", os.Args[1], "PgError 57P01"},
		{"a Unix socket", os.Args[2], "net.Error"},
	} {
		fmt.Println("over", way.name)
		killer, err := pgx.Connect(ctx, way.dsn)
		must(err)
		open := func() *pgx.Conn {
			conn, err := pgx.Connect(ctx, way.dsn)
			must(err)
			return conn
		}
		end := func(conn *pgx.Conn) {
			var ended bool
			must(killer.QueryRow(ctx, "select pg_terminate_backend($1, 5000)", int32(conn.PgConn().PID())).Scan(&ended))
			if !ended {
				must(errors.New("the server did not end the connection"))
			}
		}
		conn := open()
		end(conn)
		_, err = conn.Exec(ctx, "select 1")
		expect("the first statement after it", err, way.first)
		_, err = conn.Exec(ctx, "select 1")
		expect("the second", err, "none of them")
		if !pgconn.SafeToRetry(err) {
			changed = true
			fmt.Println("  CHANGED: SafeToRetry no longer tells it")
		}

		conn = open()
		tx, err := conn.Begin(ctx)
		must(err)
		end(conn)
		expect("a commit as the first", tx.Commit(ctx), way.first)

		conn = open()
		tx, err = conn.Begin(ctx)
		must(err)
		end(conn)
		_, err = tx.Exec(ctx, "select 1")
		expect("a statement of a transaction", err, way.first)
		expect("the commit after that", tx.Commit(ctx), "none of them")
		_, err = conn.Begin(ctx)
		expect("the next transaction", err, "none of them")
		killer.Close(ctx)
	}
	if changed {
		os.Exit(1)
	}
}
GO
{ go mod init example.org/finding && go mod edit -go=1.26.0 &&
  timeout 60 go get github.com/jackc/pgx/v5@v5.13.0 && timeout 100 go build -o finding .; } >"$dir/log" 2>&1 ||
  cannot "build: $(tail -3 "$dir/log")"

cat >port.go.txt <<'GO'
package main

import (
	"fmt"
	"net"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
}
GO
mkdir "$dir/port" && mv port.go.txt "$dir/port/main.go"
port=$(timeout 60 go run "$dir/port/main.go") || cannot 'no free port'
cd "$dir/pg"
timeout 30 "${as[@]}" "$bin/initdb" -D data -U postgres -A trust --locale=C --no-sync >"$dir/log" ||
  cannot "initdb: $(tail -3 "$dir/log")"
"${as[@]}" "$bin/pg_ctl" -D data -l log -w -t 60 \
  -o "-k $dir/pg -p $port -c listen_addresses=127.0.0.1 -c fsync=off" start >"$dir/log" ||
  cannot "pg_ctl: $(tail -3 "$dir/log")"
"$bin/postgres" --version
rc=0
rest="port=$port user=postgres dbname=postgres sslmode=disable"
timeout 70 "$dir/go/finding" "host=127.0.0.1 $rest" "host=$dir/pg $rest" || rc=$?
[ "$rc" -le 1 ] || rc=2
exit "$rc"
