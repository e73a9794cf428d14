package tickets_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/adapters/tickets"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var aTicket = access.Ticket{Account: "a", Session: "s", Instance: "i", Kind: "vnc", Mode: "view"}

// replicas returns two replicas on one database.
func replicas(t *testing.T) (a, b tickets.Tickets, pool *pgxpool.Pool) {
	t.Helper()
	url := pgtest.New(t)
	open := func() *pgxpool.Pool {
		p, err := pgxpool.New(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	pool = open()
	return tickets.Tickets{Pool: pool}, tickets.Tickets{Pool: open()}, pool
}

func issue(t *testing.T, at tickets.Tickets) string {
	t.Helper()
	token, expires, err := at.Issue(t.Context(), aTicket)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(expires); left <= 25*time.Second || left > 30*time.Second || len(token) != 43 {
		t.Fatalf("got %d characters and %s, want 43 and 25 s to 30 s", len(token), left)
	}
	return token
}

func TestWorksOnceUnderManyTries(t *testing.T) {
	t.Parallel()
	a, b, _ := replicas(t)
	for range 10 {
		token := issue(t, a)
		var won atomic.Int64
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				got, err := []tickets.Tickets{a, b}[i%2].Redeem(t.Context(), token)
				switch {
				case err == nil && got == aTicket:
					won.Add(1)
				case !errors.Is(err, tickets.ErrInvalid):
					t.Errorf("got %+v and %v, want %v", got, err, tickets.ErrInvalid)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("successes of 50: got %d, want 1", won.Load())
		}
	}
}

// Peek does not use a ticket up, on any replica; a used ticket is gone.
func TestPeek(t *testing.T) {
	t.Parallel()
	a, b, _ := replicas(t)
	token := issue(t, a)
	for _, at := range []tickets.Tickets{a, b, a} {
		if got, err := at.Peek(t.Context(), token); err != nil || got != aTicket {
			t.Errorf("got %+v and %v, want %+v", got, err, aTicket)
		}
	}
	if got, err := b.Redeem(t.Context(), token); err != nil || got != aTicket {
		t.Fatalf("got %+v and %v, want %+v", got, err, aTicket)
	}
	if _, err := a.Peek(t.Context(), token); !errors.Is(err, tickets.ErrInvalid) {
		t.Errorf("after its use: got %v, want %v", err, tickets.ErrInvalid)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	a, _, pool := replicas(t)
	for name, shift := range map[string]string{"too old": "-30 seconds", "the clock went back": "2 minutes"} {
		token := issue(t, a)
		if _, err := pool.Exec(t.Context(), `UPDATE ops.tickets SET expires_at = expires_at + $1::interval`, shift); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Peek(t.Context(), token); !errors.Is(err, tickets.ErrInvalid) {
			t.Errorf("%s: peek: got %v, want %v", name, err, tickets.ErrInvalid)
		}
		if _, err := a.Redeem(t.Context(), token); !errors.Is(err, tickets.ErrInvalid) {
			t.Errorf("%s: redeem: got %v, want %v", name, err, tickets.ErrInvalid)
		}
	}
	for _, token := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 100_000)} {
		if _, err := a.Redeem(t.Context(), token); !errors.Is(err, tickets.ErrInvalid) {
			t.Errorf("%.10q: got %v, want %v", token, err, tickets.ErrInvalid)
		}
	}
}

// Unused tickets do not accumulate, and no row contains a token.
func TestLeavesLittle(t *testing.T) {
	t.Parallel()
	a, _, pool := replicas(t)
	var all []string
	for range 100 {
		all = append(all, issue(t, a))
		if _, err := pool.Exec(t.Context(), `UPDATE ops.tickets SET expires_at = now() - interval '1 second'`); err != nil {
			t.Fatal(err)
		}
	}
	var rows int
	var text string
	if err := pool.QueryRow(t.Context(), `SELECT count(*), string_agg(tickets::text, ' ') FROM ops.tickets`).Scan(&rows, &text); err != nil {
		t.Fatal(err)
	}
	if rows > 2 {
		t.Errorf("expired tickets of 100: got %d, want at most 2", rows)
	}
	for _, token := range all {
		if strings.Contains(text, token) {
			t.Fatalf("got a stored token, want only its hash")
		}
	}
}

// The probe fails if tickets cannot be issued or redeemed, and leaves none behind.
func TestProbe(t *testing.T) {
	t.Parallel()
	a, _, pool := replicas(t)
	if err := a.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM ops.tickets`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("rows: got %d and %v, want 0", rows, err)
	}
	for rights, works := range map[string]bool{"SELECT, INSERT, DELETE": true, "SELECT, DELETE": false, "SELECT, INSERT": false} {
		url := pgtest.Role(t, pool.Config().ConnString(), "", "GRANT USAGE ON SCHEMA ops TO ROLE_", "GRANT "+rights+" ON ops.tickets TO ROLE_")
		p, err := pgxpool.New(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		if err := (tickets.Tickets{Pool: p}).Probe(t.Context()); (err == nil) != works {
			t.Errorf("with %s: got %v, want that it works: %v", rights, err, works)
		}
	}
}

// A ticket may be lost in a crash of Postgres, but its use may not.
func TestOnlyUseWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	at, _, pool := replicas(t)
	commits := pgtest.WatchCommits(t, pool.Config().ConnString())
	token := issue(t, at)
	commits.Expect(nil, []string{"ops.tickets"})
	if _, err := at.Redeem(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	commits.Expect([]string{"ops.tickets"}, nil)
}
