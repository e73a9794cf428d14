#!/usr/bin/env bash
# What does pgxpool do if its role may open fewer connections than the pool's MaxConns?
# Guess:    when PostgreSQL refuses another connection, Acquire waits for one of the busy ones.
# Truth:    below MaxConns the pool opens a connection whenever none is idle. If the server refuses it
#           (53300), that Acquire fails immediately, although another connection of the pool may soon be
#           free. Acquire waits only if the pool has MaxConns connections. So MaxConns must not exceed the
#           number that the role and the server allow for this pool.
# Versions: jackc/pgx 5.13.0 with puddle 2.2.3; PostgreSQL 15.18 (the script uses the installed one). Seen on 2026-11-27.
# Source:   puddle, pool.go: acquire makes a new resource when none is idle, and hands the
#           constructor's error to its caller. pgx, pgxpool/pool.go: Acquire returns that error.
#           PostgreSQL's manual, CREATE ROLE: CONNECTION LIMIT.
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
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	limit    = 3               // what the role may open
	patience = 2 * time.Second // an Acquire without an answer after that queues
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

func refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "53300"
}

type result struct {
	conn *pgxpool.Conn
	err  error
	took time.Duration
}

// oneMore acquires all connections that the role allows, requests another one, and releases one when the request
// has been answered or waits. The last Acquire should wait, or be refused, so that the next one gets the released
// connection.
func oneMore(ctx context.Context, pool *pgxpool.Pool, queues bool) {
	var held []*pgxpool.Conn
	for range limit {
		c, err := pool.Acquire(ctx)
		must(err)
		held = append(held, c)
	}
	answer := make(chan result, 1)
	go func() {
		start := time.Now()
		c, err := pool.Acquire(ctx)
		answer <- result{c, err, time.Since(start)}
	}()
	var got result
	queued := false
	select {
	case got = <-answer:
		held[0].Release()
	case <-time.After(patience):
		queued = true
		held[0].Release()
		got = <-answer
	}
	expect(queued == queues && (got.err == nil) == queues && (queues || refused(got.err)),
		"queued: %t; answer after %v: %s", queued, got.took.Round(time.Millisecond), said(got.err))
	if got.err != nil {
		got.conn, got.err = pool.Acquire(ctx)
		expect(got.err == nil, "another Acquire, now that one was given back: %s", said(got.err))
	}
	if got.err == nil {
		got.conn.Release()
	}
	for _, c := range held[1:] {
		c.Release()
	}
}

// burst runs ten short queries at once, and counts those that fail.
func burst(ctx context.Context, pool *pgxpool.Pool) (failed, other int32) {
	var all sync.WaitGroup
	var few, odd atomic.Int32
	for range 10 {
		all.Go(func() {
			if _, err := pool.Exec(ctx, "select pg_sleep(0.2)"); refused(err) {
				few.Add(1)
			} else if err != nil {
				odd.Add(1)
			}
		})
	}
	all.Wait()
	return few.Load(), odd.Load()
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	at := "host=" + os.Args[1] + " dbname=postgres user="
	admin, err := pgx.Connect(ctx, at+"postgres")
	must(err)
	defer admin.Close(ctx)
	_, err = admin.Exec(ctx, fmt.Sprintf("create role few login connection limit %d", limit))
	must(err)

	// with waits until the role has no open connection, and then opens a pool.
	with := func(most int, use func(*pgxpool.Pool)) {
		for n := 1; n > 0; time.Sleep(20 * time.Millisecond) {
			must(admin.QueryRow(ctx, "select count(*) from pg_stat_activity where usename = 'few'").Scan(&n))
		}
		pool, err := pgxpool.New(ctx, fmt.Sprintf("%sfew pool_max_conns=%d", at, most))
		must(err)
		defer pool.Close()
		use(pool)
	}

	fmt.Printf("the role may open %d connections, MaxConns is 10\n", limit)
	with(10, func(pool *pgxpool.Pool) { oneMore(ctx, pool, false) })
	with(10, func(pool *pgxpool.Pool) {
		failed, other := burst(ctx, pool)
		expect(failed > 0 && other == 0, "of 10 queries at once %d failed with 53300, %d otherwise", failed, other)
	})
	fmt.Printf("the same role, MaxConns is %d\n", limit)
	with(limit, func(pool *pgxpool.Pool) { oneMore(ctx, pool, true) })
	with(limit, func(pool *pgxpool.Pool) {
		failed, other := burst(ctx, pool)
		expect(failed == 0 && other == 0, "of 10 queries at once %d failed with 53300, %d otherwise", failed, other)
	})
	if changed {
		os.Exit(1)
	}
}
GO
{ go mod init example.org/finding && go mod edit -go=1.26.0 &&
  timeout 60 go get github.com/jackc/pgx/v5/pgxpool@v5.13.0 &&
  timeout 70 go build -o finding .; } >"$dir/log" 2>&1 || cannot "build: $(tail -3 "$dir/log")"
"$bin/postgres" --version
rc=0
timeout 70 ./finding "$dir/pg" || rc=$?
[ "$rc" -le 1 ] || rc=2
exit "$rc"
