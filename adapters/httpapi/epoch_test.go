package httpapi

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// restorable is a log that can be replaced by an older copy of itself while it is used. It counts look-ups of
// versions.
type restorable struct {
	atomic.Pointer[memory.Store]
	lookups atomic.Int64
}

func (r *restorable) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	return r.Load().Append(ctx, a)
}
func (r *restorable) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return r.Load().ReadStream(ctx, s, after)
}
func (r *restorable) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return r.Load().ReadAll(ctx, after)
}
func (r *restorable) Version(ctx context.Context, s eventstore.StreamID) (int64, error) {
	r.lookups.Add(1)
	return r.Load().Version(ctx, s)
}
func (r *restorable) Receipt(ctx context.Context, key string) (*eventstore.Receipt, error) {
	return r.Load().Receipt(ctx, key)
}
func (r *restorable) Head(ctx context.Context) (int64, error) { return r.Load().Head(ctx) }
func (r *restorable) Notifications(ctx context.Context) <-chan struct{} {
	return r.Load().Notifications(ctx)
}

// keep replaces the log by its first n events.
func (r *restorable) keep(t *testing.T, n int64) {
	t.Helper()
	older := memory.New()
	for e, err := range r.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Position > n {
			break
		}
		if _, err := older.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: e.Stream, Expected: e.Version - 1, Events: []eventstore.NewEvent{e.NewEvent}}}}); err != nil {
			t.Fatal(err)
		}
	}
	r.Store(older)
}

// newRestorable returns a front whose commands use such a log.
func newRestorable(t *testing.T) (*front, *restorable) {
	t.Helper()
	log := &restorable{}
	f := newFront(t, func(c *Config) {
		log.Store(c.Queries.(readModel).store)
		c.Accounts.Log.Store, c.Instances.Log.Store, c.Keys.Log.Store = log, log, log
		c.Epoch = NewEpoch(1)
	})
	return f, log
}

// A restored log lacks an account: the account's tokens are correctly signed, but give no access.
func TestRestoredLogEndsWhatItLacks(t *testing.T) {
	t.Parallel()
	f, log := newRestorable(t)
	ada := f.signUp("ada@example.com")
	f.caughtUp()
	backup := f.head()
	eve := f.signUp("eve@example.com")
	f.caughtUp()
	hers, theirs := f.stream(t, ada.access, "/api/events", ""), f.stream(t, eve.access, "/api/events", "")
	log.lookups.Store(0)
	for range 100 {
		f.want(200, call{method: "GET", path: "/api/auth/me", token: eve.access})
	}
	perRequest := log.lookups.Load()

	log.keep(t, backup)
	if err := f.server.LogChanged(t.Context()); err != nil {
		t.Fatal(err)
	}
	if last := theirs.end(); !strings.Contains(last, "session has ended") {
		t.Errorf("stream of a lost account: got %q, want that the session has ended", last)
	}
	for _, c := range []call{
		{method: "GET", path: "/api/auth/me"}, {method: "GET", path: "/api/events"},
		{method: "POST", path: "/api/user/api-keys", body: `{"provider":"openai","api_key":"` + canary + `"}`},
		{method: "POST", path: "/api/instances", body: `{}`}, {method: "POST", path: "/api/auth/logout"},
	} {
		c.token = eve.access
		f.want(http.StatusUnauthorized, c)
	}
	f.want(http.StatusUnauthorized, call{method: "POST", path: "/api/auth/refresh", body: map[string]string{"refresh_token": eve.refresh}})
	f.want(http.StatusUnauthorized, login("eve@example.com", canary))
	if head, err := log.Head(t.Context()); err != nil || head != backup {
		t.Errorf("head: got %d, %v, want %d", head, err, backup)
	}
	log.lookups.Store(0)
	for range 100 {
		f.want(200, call{method: "GET", path: "/api/user/api-keys", token: ada.access})
	}
	if n := log.lookups.Load(); n > 2 || perRequest > 2 {
		t.Errorf("look-ups in 100 requests: got %d and %d, want at most 2", perRequest, n)
	}
	// Her stream stays open and gets the new epoch.
	f.server.cfg.Epoch.Set(2)
	for {
		id, name, data := hers.message()
		if name == "reset" {
			if id != "2-0" || data != `{"epoch":2}` {
				t.Errorf("got %q %s, want 2-0 and epoch 2", id, data)
			}
			break
		}
	}
	if id, name, _ := hers.event(); id != "2-2" || name != "account.signed_up" {
		t.Errorf("after the reset: got %s %s, want 2-2 account.signed_up", id, name)
	}
}

// What a client names when it reconnects, and what it gets first.
func TestResumesByEpoch(t *testing.T) {
	t.Parallel()
	f, _ := newRestorable(t)
	f.server.cfg.Epoch.Set(2)
	ada := f.signUp("ada@example.com")
	f.create(ada, "x")
	f.create(ada, "y")
	f.caughtUp()
	last := f.head() - 1
	for given, want := range map[string]string{
		fmt.Sprint("2-", last): fmt.Sprint("2-", last+1),
		fmt.Sprint(last):       fmt.Sprint("2-", last+1),
		"0":                    "2-2", // the account's first event
		"2-0":                  "2-2",
		fmt.Sprint("1-", last): "2-0 reset",
		"3-1":                  "2-0 reset",
		"2-1000":               "2-0 reset", // above the log's head: the id is of another log
		"1000":                 "2-0 reset",
	} {
		s := f.stream(t, ada.access, "/api/events", given)
		first := func() (string, string) {
			for {
				if id, name, _ := s.message(); id != "" {
					return id, name
				}
			}
		}
		at, name := first()
		if name == "reset" {
			at += " reset"
			if id, name := first(); id != "2-2" || name != "account.signed_up" {
				t.Errorf("%s: after the reset: got %s %s, want 2-2 account.signed_up", given, id, name)
			}
		}
		if at != want {
			t.Errorf("%s: begins with %s, want %s", given, at, want)
		}
		s.res.Body.Close()
	}
	for _, bad := range []string{"0-5", "x-1", "1-", "-1", "1--1", "1-2-3", "+1-2", "1-+2"} {
		f.want(400, call{method: "GET", path: "/api/events", token: ada.access, header: map[string]string{"Last-Event-ID": bad}})
	}
}

// The number of remembered sessions is bounded, and sessions in use stay remembered.
func TestKnownIsBounded(t *testing.T) {
	t.Parallel()
	asked := 0
	k := &sessionCache{has: func(_ context.Context, account, _ string) (bool, error) { asked++; return account != "lost", nil }}
	for i := range 3 * maxKnown {
		for _, session := range []string{fmt.Sprint(i), "in use"} {
			if yes, err := k.check(t.Context(), "a", session); err != nil || !yes {
				t.Fatalf("check: got %v, %v, want true", yes, err)
			}
		}
	}
	if n := len(k.young) + len(k.old); n > 2*maxKnown || asked != 3*maxKnown+1 {
		t.Errorf("got %d remembered and %d asked, want at most %d and %d", n, asked, 2*maxKnown, 3*maxKnown+1)
	}
	for range 2 {
		if yes, err := k.check(t.Context(), "lost", "s"); err != nil || yes {
			t.Errorf("check of a lost session: got %v, %v, want false", yes, err)
		}
	}
	if asked != 3*maxKnown+3 {
		t.Errorf("asked: got %d, want %d: a refusal must not be remembered", asked, 3*maxKnown+3)
	}
}
