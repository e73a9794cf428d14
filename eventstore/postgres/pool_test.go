package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/eventstoretest"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// admin runs SQL as the database's owner, over a connection of its own.
func admin(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{`SET default_transaction_read_only = off`, sql} {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// parsed is what a URL says.
func parsed(t *testing.T, text string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func database(t *testing.T, text string) string { return parsed(t, text).Database }

func openPool(t *testing.T, url string, patience time.Duration) (*postgres.Pool, *postgres.Store) {
	t.Helper()
	p, err := postgres.OpenPool(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s, err := postgres.Open(t.Context(), postgres.Config{Pool: p, PollEvery: 20 * time.Millisecond, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return p, s
}

// eventually waits for ok. The deadline only ends a test that has failed.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(60 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("got nothing in time, want: %s", what)
		}
	}
}

func TestReadWrite(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"":                                  "target_session_attrs=read-write",
		"host=a dbname=b":                   "host=a dbname=b target_session_attrs=read-write",
		"postgres://u:p@h/d":                "postgres://u:p@h/d?target_session_attrs=read-write",
		"postgres://u:p@h/d?sslmode=prefer": "postgres://u:p@h/d?sslmode=prefer&target_session_attrs=read-write",
		"postgres://h/d?target_session_attrs=any": "postgres://h/d?target_session_attrs=any",
		"postgresql://h1:1,h2:2/d?":               "postgresql://h1:1,h2:2/d?target_session_attrs=read-write",
		"host=a password=p://w?x":                 "host=a password=p://w?x target_session_attrs=read-write",
	} {
		got := postgres.ReadWrite(given)
		if got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
		cfg, err := pgx.ParseConfig(got)
		if err != nil || (cfg.ValidateConnect == nil) != strings.Contains(given, "any") {
			t.Errorf("%q: got %v and validation %v, want a URL that asks for the writable server unless it says another", got, err, cfg.ValidateConnect != nil)
		}
	}
}

// The database turns read-only under a running store, as in a failover, and back. Each connection
// that reported it is closed, of the committer and of the pool; reads continue.
func TestReadOnlyForAWhile(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"the database's default", "the sessions themselves"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			url := pgtest.New(t)
			i, name := &ids{}, database(t, url)
			p, s := openPool(t, url, 100*time.Millisecond)
			notified := s.Notifications(t.Context())
			must(t, s, i.append("a", 0, 1))
			// Four connections that will be read-only, and stay in the pool.
			var held []func()
			for range 4 {
				c, err := p.Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if how == "the sessions themselves" {
					if _, err := c.Exec(t.Context(), `SET default_transaction_read_only = on`); err != nil {
						t.Fatal(err)
					}
				}
				held = append(held, c.Release)
			}
			for _, release := range held {
				release()
			}
			if how == "the database's default" {
				admin(t, url, `ALTER DATABASE `+name+` SET default_transaction_read_only = on`)
				admin(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
				if _, err := s.Append(t.Context(), i.append("b", 0, 1)); !errors.Is(err, eventstore.ErrUnavailable) {
					t.Fatalf("an append to a read-only database: got %v, want %v", err, eventstore.ErrUnavailable)
				}
				admin(t, url, `ALTER DATABASE `+name+` RESET default_transaction_read_only`)
			}
			eventually(t, "an append", func() bool {
				_, err := s.Append(t.Context(), i.append("b", 0, 1))
				return err == nil
			})
			// The pool's writes meet at most as many old connections as there were.
			refused := 0
			eventually(t, "a write of the pool", func() bool {
				_, err := p.Exec(t.Context(), `UPDATE ops.leases SET term = term`)
				if err != nil {
					refused++
				}
				return err == nil
			})
			t.Logf("%s: %d writes of the pool were refused before one worked", how, refused)
			for range 8 {
				if _, err := p.Exec(t.Context(), `UPDATE ops.leases SET term = term`); err != nil {
					t.Errorf("got %v, want no connection from the read-only time in the pool", err)
				}
			}
			must(t, s, i.append("c", 0, 1))
			eventually(t, "a notification", func() bool {
				select {
				case <-notified:
					return true
				default:
					return false
				}
			})
			if log := eventstoretest.Sound(t, s); len(log) != 3 {
				t.Errorf("got %d events, want 3", len(log))
			}
		})
	}
}

// The appends' own connection turns read-only while it is open, and must be replaced.
func TestReadOnlyConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("slow path ", slow), func(t *testing.T) {
			t.Parallel()
			url := pgtest.New(t)
			i := &ids{}
			_, s := openPool(t, url, 0)
			if slow {
				s.AlwaysSlowPath()
			}
			must(t, s, i.append("a", 0, 1))
			s.MakeReadOnly(t.Context(), t)
			must(t, s, i.append("a", 1, 3))
			s.MakeReadOnly(t.Context(), t)
			must(t, s, receipt(i.append("a", 4, 1), "k"))
			if log := eventstoretest.Sound(t, s); len(log) != 5 {
				t.Errorf("got %d events, want 5", len(log))
			}
		})
	}
}

// relay forwards connections to the test's server, as a DNS name or proxy does.
type relay struct {
	net.Listener
	to *pgx.ConnConfig
}

func newRelay(t *testing.T, to *pgx.ConnConfig) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l, to}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go r.join(in)
		}
	}()
	return r
}

func (r *relay) join(in net.Conn) {
	defer in.Close()
	network, address := pgconn.NetworkAddress(r.to.Host, r.to.Port)
	out, err := net.Dial(network, address)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(out, in)
		out.Close()
	}()
	_, _ = io.Copy(in, out)
}

// A name leads first to a server that can only be read from, as a standby, and then to the primary:
// no connection to the standby is kept or used for reads.
func TestStandbyBeforeThePrimary(t *testing.T) {
	t.Parallel()
	standby, primary := pgtest.New(t), pgtest.New(t)
	// One server plays both: it is read-only at first, and later it is not. The other database is for the admin.
	name := database(t, primary)
	admin(t, standby, `ALTER DATABASE `+name+` SET default_transaction_read_only = on`)
	to := parsed(t, primary)
	address := fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", to.User, to.Password, newRelay(t, to).Addr(), name)
	if _, err := postgres.OpenPool(t.Context(), address, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("got a pool on a server that cannot be written to, want an error")
	}
	admin(t, standby, `ALTER DATABASE `+name+` RESET default_transaction_read_only`)
	_, s := openPool(t, address, 100*time.Millisecond)
	i := &ids{}
	must(t, s, i.append("a", 0, 1))
	// A failover: the connections break, and for a while the name still leads to a server that can only be read from.
	admin(t, standby, `ALTER DATABASE `+name+` SET default_transaction_read_only = on`)
	admin(t, standby, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+name+`'`)
	if _, err := s.Append(t.Context(), i.append("a", 1, 1)); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatalf("an append to a standby: got %v, want %v", err, eventstore.ErrUnavailable)
	}
	if _, err := s.Head(t.Context()); err == nil {
		t.Error("got the head of a standby, want an error")
	}
	admin(t, standby, `ALTER DATABASE `+name+` RESET default_transaction_read_only`)
	eventually(t, "an append", func() bool {
		_, err := s.Append(t.Context(), i.append("a", 1, 1))
		return err == nil
	})
	if log := eventstoretest.Sound(t, s); len(log) != 2 {
		t.Errorf("got %d events, want 2", len(log))
	}
}

// limited creates a role with at most ten connections to the test's database, and returns its URL.
func limited(t *testing.T, owner string) *url.URL {
	t.Helper()
	name := database(t, owner)
	role := name + "_few"
	admin(t, owner, `CREATE ROLE `+role+` LOGIN PASSWORD 'few' CONNECTION LIMIT 10; GRANT ALL ON DATABASE `+name+` TO `+role+`;
		GRANT USAGE ON SCHEMA log, ops TO `+role+`; GRANT ALL ON ALL TABLES IN SCHEMA log, ops TO `+role+`; GRANT ALL ON ALL FUNCTIONS IN SCHEMA log TO `+role)
	t.Cleanup(func() { admin(t, owner, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	u.User = nil
	q := u.Query()
	q.Set("user", role)
	q.Set("password", "few")
	u.RawQuery = q.Encode()
	return u
}

// A role with ten connections: 64 readers wait instead of failing, and appends, notifications and leases get
// their connections back although the readers compete for each one. Two servers choose pools that fit beside
// one another; a single server with a configured pool of 24 works with the connections it gets.
func TestFewConnections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		servers int
		pool    string
		chosen  int32
	}{{"two servers that choose", 2, "", 2}, {"one that wants 24", 1, "24", 24}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			owner := pgtest.New(t)
			u := limited(t, owner)
			if c.pool != "" {
				u.RawQuery += "&pool_max_conns=" + c.pool
			}
			i := &ids{}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var reads, failed, cut atomic.Int64
			var wg sync.WaitGroup
			var stores []*postgres.Store
			var leases []*postgres.Pool
			for n := range c.servers {
				p, s := openPool(t, u.String(), 0)
				if got := p.Config().MaxConns; got != c.chosen {
					t.Errorf("got %d connections in the pool, want %d", got, c.chosen)
				}
				held, err := p.Reserve(t.Context(), "cloudbot leases")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(held.Close)
				s.Notifications(t.Context())
				must(t, s, i.append(fmt.Sprint("before", n), 0, 1))
				stores, leases = append(stores, s), append(leases, held)
			}
			for n := range 64 {
				wg.Go(func() {
					for ctx.Err() == nil {
						_, err := stores[n%c.servers].Head(context.Background())
						if reads.Add(1); err != nil && failed.Add(1) == 1 {
							t.Errorf("read: %v", err)
						}
					}
				})
			}
			eventually(t, "the readers are at it", func() bool { return reads.Load() > 500 })
			for range 2 {
				for _, app := range []string{"cloudbot append", "cloudbot hints", "cloudbot leases"} {
					admin(t, owner, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '`+app+`'`)
					cut.Add(int64(c.servers))
				}
				for n, s := range stores {
					eventually(t, "an append", func() bool {
						_, err := s.Append(t.Context(), i.append(fmt.Sprintf("after%d-%d", n, i.n.Load()), 0, 1))
						return err == nil
					})
					eventually(t, "a lease", func() bool {
						_, err := leases[n].Exec(t.Context(), `UPDATE ops.leases SET term = term`)
						return err == nil
					})
				}
				eventually(t, "all listeners are back", func() bool {
					listeners := 0
					conn, err := pgx.Connect(t.Context(), owner)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close(t.Context())
					err = conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cloudbot hints'`).Scan(&listeners)
					return err == nil && listeners == c.servers
				})
			}
			cancel()
			wg.Wait()
			t.Logf("10 connections, 64 readers, %s: %d connections cut, %d reads, %d failed", c.name, cut.Load(), reads.Load(), failed.Load())
			eventstoretest.Sound(t, stores[0])
		})
	}
}

// A password with characters that a URL must escape makes the URL unreadable; the parser's error would quote parts of it.
func TestErrorsDoNotContainThePassword(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"canary:canary%zz", "canary%zz@canary", "canary@can ary", "ca nary", "canary[canary", "canary/canary"} {
		_, err := postgres.OpenPool(t.Context(), "postgres://user:"+password+"@127.0.0.1:1/cloudbot", slog.New(slog.DiscardHandler))
		if err == nil || strings.Contains(err.Error(), "nary") {
			t.Errorf("%s: got %v, want an error without it", password, err)
		}
	}
}
