package httpapi

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

// read counts the queries for lists and for latest events, of which the latter can fail.
type read struct {
	Queries
	lists, glances atomic.Int64
	failing        atomic.Bool
	unused         atomic.Bool // lists lack what was used
}

func (q *read) List(ctx context.Context, account string, p projections.Page, used projections.Period, also ...func(*pgx.Batch)) (projections.Listed, error) {
	q.lists.Add(1)
	l, err := q.Queries.List(ctx, account, p, used, also...)
	if q.unused.Load() {
		l.UsageErr = errors.New("the database does not answer")
	}
	return l, err
}

func (q *read) Latest(ctx context.Context, accounts []string) (map[string]int64, error) {
	if q.glances.Add(1); q.failing.Load() {
		return nil, errors.New("the database does not answer")
	}
	return q.Queries.Latest(ctx, accounts)
}

// A list that was asked for in the same second costs one look at the account's latest event. Whatever changes what it shows
// makes a new one.
func TestListIsKeptForItsSecond(t *testing.T) {
	t.Parallel()
	q := &read{}
	var mu sync.Mutex
	var state wire.State
	var silent bool
	f := newFront(t, func(c *Config) {
		q.Queries, c.Queries = c.Queries, q
		c.AgentState = func(string) wire.State { mu.Lock(); defer mu.Unlock(); return state }
		c.Silent = func(context.Context, string) (time.Time, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			return savedAt, silent, nil
		}
	})
	f.at(t, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	id := f.running(ada, "one")
	f.happen(id, instance.PhaseReached{Phase: instance.PhaseReady, Detail: "ready"})
	list := func(u user, query string) string {
		t.Helper()
		a := f.want(200, call{method: "GET", path: "/api/instances" + query, token: u.access})
		if at := a.position(t); at != f.head() {
			t.Errorf("got an answer at position %d, want %d", at, f.head())
		}
		return string(a.body)
	}
	costs := func(what string, lists, glances int64) {
		t.Helper()
		if n, m := q.lists.Swap(0), q.glances.Swap(0); n != lists || m != glances {
			t.Errorf("%s: got %d lists and %d looks at the latest event, want %d and %d", what, n, m, lists, glances)
		}
	}
	first := list(ada, "")
	costs("the first time", 1, 0)
	for range 5 {
		if again := list(ada, ""); again != first {
			t.Errorf("got %s, want the same bytes as before, %s", again, first)
		}
	}
	costs("again", 0, 5)
	list(ada, "?include=terminated")
	list(ada, "?limit=7")
	if theirs := list(eve, ""); strings.Contains(theirs, id) {
		t.Errorf("got %s, want nothing of another account", theirs)
	}
	costs("other pages, another account", 3, 0)

	f.want(200, call{method: "PATCH", path: "/api/instances/" + id, token: ada.access, body: `{"name":"two"}`})
	if got := list(ada, ""); !strings.Contains(got, `"name":"two"`) {
		t.Errorf("after a change: got %s, want the new name", got)
	}
	costs("after a change", 1, 1)
	list(eve, "")
	costs("after another account's change", 0, 1)
	f.happen(id, instance.AddressChanged{Address: "203.0.113.99"}) // as another replica does
	if got := list(ada, ""); !strings.Contains(got, "203.0.113.99") {
		t.Errorf("after an event: got %s, want the new address", got)
	}
	costs("after an event", 1, 1)

	set := func(change func()) {
		mu.Lock()
		defer mu.Unlock()
		change()
	}
	set(func() { state.Approvals = 3 })
	if got := list(ada, ""); !strings.Contains(got, `"approvals":3`) {
		t.Errorf("got %s, want what the agent needs", got)
	}
	costs("another state of the agent", 1, 1)
	set(func() { silent = true })
	if got := list(ada, ""); !strings.Contains(got, "has not responded") || strings.Contains(got, `"ready":true`) {
		t.Errorf("got %s, want a desktop that is not ready", got)
	}
	costs("a silent machine", 1, 1)
	list(ada, "")
	costs("still silent", 0, 1)

	f.clock.advance(time.Second)
	list(ada, "")
	costs("the next second", 1, 0)
	if err := f.server.LogChanged(t.Context()); err != nil {
		t.Fatal(err)
	}
	list(ada, "")
	costs("another log", 1, 0)
	f.server.Forget(ada.account)
	list(ada, "")
	costs("an erased account", 1, 0)
	f.server.Forget(ada.account)
	q.unused.Store(true)
	list(ada, "")
	q.unused.Store(false)
	if got := list(ada, ""); strings.Contains(got, `"cost":null`) {
		t.Errorf("got %s, want costs again", got)
	}
	costs("a list without costs, which is not kept", 2, 0)
	q.failing.Store(true)
	list(ada, "")
	costs("a look that fails", 1, 1)
}

// What is kept is bounded, and nothing that was read before a clear is kept after it.
func TestKeptListsAreBounded(t *testing.T) {
	t.Parallel()
	var a answers
	now := time.Unix(1000, 0)
	big := make([]byte, maxAnswers/4)
	key := func(n int) answerKey { return answerKey{"ada", projections.Page{Limit: n}} }
	kept := func() (n int) {
		for i := range 10 {
			if k, _ := a.get(key(i), now); k != nil {
				n++
			}
		}
		return n
	}
	_, clears := a.get(key(0), now)
	for i := range 10 {
		a.put(key(i), now, &listAnswer{body: big}, clears)
		a.put(key(0), now, &listAnswer{body: big}, clears) // replaced, so counted once
	}
	if n := kept(); n != 4 {
		t.Errorf("got %d answers, want the 4 that fit", n)
	}
	a.clear()
	a.put(key(1), now, &listAnswer{body: big}, clears)
	if n := kept(); n != 0 {
		t.Errorf("got %d answers from before a clear, want none", n)
	}
	_, clears = a.get(key(1), now)
	a.put(key(1), now, &listAnswer{body: big}, clears)
	now = now.Add(time.Second)
	if n := kept(); n != 0 {
		t.Errorf("got %d answers from the second before, want none", n)
	}
}

// Requests share a look at the latest events, but none shares one that began before the request.
func TestGlancesAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked, position atomic.Int64
		answer := make(chan struct{})
		g := glances{turn: make(chan struct{}, 1), latest: func(_ context.Context, accounts []string) (map[string]int64, error) {
			asked.Add(1)
			at := position.Load()
			answer <- struct{}{}
			latest := map[string]int64{}
			for _, a := range accounts {
				latest[a] = at
			}
			return latest, nil
		}}
		var wg sync.WaitGroup
		look := func(ctx context.Context, account string, want int64, wantErr error) {
			wg.Go(func() {
				if at, err := g.at(ctx, account); at != want || !errors.Is(err, wantErr) {
					t.Errorf("%s: got %d, %v, want %d, %v", account, at, err, want, wantErr)
				}
			})
		}
		position.Store(1)
		look(t.Context(), "ada", 1, nil)
		synctest.Wait()
		position.Store(2) // from here on a request must see it
		leaving, leave := context.WithCancel(t.Context())
		look(leaving, "ada", 2, nil) // the first of the next: it does the query, for the others too
		synctest.Wait()
		for range 50 {
			look(t.Context(), "ada", 2, nil)
			look(t.Context(), "eve", 2, nil)
		}
		left, leaveToo := context.WithCancel(t.Context())
		look(left, "eve", 0, context.Canceled)
		synctest.Wait()
		leave()
		leaveToo()
		synctest.Wait()
		<-answer
		<-answer
		wg.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("got %d queries, want 2", n)
		}
	})
}

// counted counts how often a token's signature is verified.
type counted struct {
	Tokens
	n atomic.Int64
}

func (c *counted) ParseAccess(token string) (access.Claims, error) {
	c.n.Add(1)
	return c.Tokens.ParseAccess(token)
}

// A verified token is remembered, but not that it may be used: that ends with its expiry, its session, its account's suspension
// and a log that lacks them.
func TestVerifiedTokens(t *testing.T) {
	t.Parallel()
	tokens := &counted{}
	f := newFront(t, func(c *Config) { tokens.Tokens, c.Tokens = c.Tokens, tokens })
	ada := f.signUp("ada@example.com")
	try := func(what string, status int, token string) {
		t.Helper()
		if got := f.do(call{method: "GET", path: "/api/instances", token: token}).status; got != status {
			t.Errorf("%s: got %d, want %d", what, got, status)
		}
	}
	tokens.n.Store(0)
	for range 10 {
		try("a valid token", 200, ada.access)
	}
	if n := tokens.n.Load(); n != 1 {
		t.Errorf("got %d verified signatures for ten requests, want 1", n)
	}
	for range 3 {
		try("a changed token", 401, ada.access+"x")
	}
	if n := tokens.n.Load(); n != 4 {
		t.Errorf("got %d verified signatures, want a refused token verified each time", n-1)
	}

	at := f.head() + 1
	f.server.Sessions().Suspended(ada.account, at, true)
	try("a suspended account", 401, ada.access)
	f.server.Sessions().Suspended(ada.account, at+1, false)
	try("a resumed account", 200, ada.access)
	f.server.Sessions().Revoke(ada.session)
	try("an ended session", 401, ada.access)

	later := f.logIn(ada.email)
	try("another session", 200, later.access)
	f.clock.advance(time.Hour - time.Minute)
	try("a token that is about to expire", 200, later.access)
	f.clock.advance(2 * time.Minute)
	try("an expired token", 401, later.access)
}

func TestVerifiedTokensAreBounded(t *testing.T) {
	t.Parallel()
	var k tokenCache
	verified := 0
	parse := func(token string) (access.Claims, error) {
		verified++
		return access.Claims{TokenID: token}, nil
	}
	used := "used all the time"
	for n := range 5 * maxTokens {
		for _, token := range []string{used, time.Duration(n).String()} {
			if who, err := k.parse(token, parse); who.TokenID != token || err != nil {
				t.Fatalf("got %+v, %v, want the token's own claims", who, err)
			}
		}
	}
	if n := len(k.young) + len(k.old); n > 2*maxTokens+1 {
		t.Errorf("got %d tokens, want at most %d", n, 2*maxTokens)
	}
	if verified != 5*maxTokens+1 {
		t.Errorf("got %d verified tokens, want %d: one that is in use stays", verified, 5*maxTokens+1)
	}
}
