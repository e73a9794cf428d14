package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
)

func TestLimitIsSharedAndExact(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	start := time.Now()
	var passed atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	replicas := []*jetstream.Limiter{
		jetstream.NewLimiter(jetstream.LimiterConfig{Conn: s.Conn, Now: now}),
		jetstream.NewLimiter(jetstream.LimiterConfig{Conn: s.Connect(t), Now: now}),
	}
	burst := func(key string) int64 {
		var allowed atomic.Int64
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() {
				retry, err := replicas[i%2].Allow(t.Context(), key, 10, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if retry == 0 {
					allowed.Add(1)
				} else if retry > time.Minute {
					t.Errorf("come back in %s, want at most %v", retry, time.Minute)
				}
			})
		}
		all.Wait()
		return allowed.Load()
	}
	if n := burst("k"); n != 10 {
		t.Fatalf("%d of 10 allowed, want 10", n)
	}
	if n := burst("other"); n != 10 {
		t.Fatalf("%d of 10 allowed for another key, want 10", n)
	}
	if n := burst("k"); n != 0 {
		t.Fatalf("%d allowed beyond the limit, want 0", n)
	}
	passed.Store(int64(12 * time.Second)) // two of ten come back
	if n := burst("k"); n != 2 {
		t.Fatalf("%d of 2 allowed, want 2", n)
	}
	passed.Store(int64(-time.Hour)) // the clock jumps back
	retry, err := replicas[0].Allow(t.Context(), "k", 10, time.Minute)
	if err != nil || retry > time.Minute {
		t.Fatalf("got %s, %v, want no error and at most %v", retry, err, time.Minute)
	}
}

func TestLimitWithoutNATS(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	l := jetstream.NewLimiter(jetstream.LimiterConfig{Conn: s.Conn})
	s.Stop()
	allowed := 0
	for range 30 {
		retry, err := l.Allow(t.Context(), "k", 3, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if retry == 0 {
			allowed++
		}
	}
	if allowed != 3 {
		t.Fatalf("%d of 3 allowed, want 3", allowed)
	}
	s.Start(t)
	eventually(t, s.Conn.IsConnected, func() string { return "no connection" })
	if retry, err := l.Allow(t.Context(), "k", 1, time.Hour); retry != 0 || err != nil {
		t.Fatalf("got %s, %v, want 0 and no error", retry, err)
	}
	if retry, err := l.Allow(t.Context(), "k", 1, time.Hour); retry == 0 || err != nil {
		t.Fatalf("got %s, %v, want retry other than 0 and no error", retry, err)
	}
	for _, c := range []struct {
		limit  int
		window time.Duration
	}{{0, time.Second}, {1, 0}, {1, 2 * time.Hour}} {
		if _, err := l.Allow(t.Context(), "k", c.limit, c.window); err == nil {
			t.Errorf("%+v is accepted, want an error", c)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Allow(ctx, "k", 1, time.Second); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want error %v", err, context.Canceled)
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	a := jetstream.NewPresence(jetstream.PresenceConfig{Conn: s.Conn, Logger: logTo(t), TTL: time.Second, Renew: 50 * time.Millisecond})
	b := jetstream.NewPresence(jetstream.PresenceConfig{Conn: s.Connect(t), Logger: logTo(t), TTL: time.Second, Renew: 50 * time.Millisecond})
	at := func(want string) {
		t.Helper()
		var got string
		var err error
		eventually(t, func() bool {
			got, err = b.Lookup(t.Context(), "i")
			if want == "" {
				return errors.Is(err, jetstream.ErrNoTunnel)
			}
			return err == nil && got == want
		}, func() string { return fmt.Sprintf("%q, %v instead of %q", got, err, want) })
	}
	at("")
	releaseA, lostA, err := a.Claim(t.Context(), "i", "http://a")
	if err != nil {
		t.Fatal(err)
	}
	at("http://a")
	releaseB, lostB, err := b.Claim(t.Context(), "i", "http://b")
	if err != nil {
		t.Fatal(err)
	}
	at("http://b")
	// The older claim notices, and its release leaves the younger one alone.
	select {
	case <-lostA:
	case <-time.After(60 * time.Second):
		t.Error("the older claim does not say that it is lost")
	}
	releaseA()
	releaseA()
	at("http://b")
	// A wiped server gets the claim again.
	s.Stop()
	s.Wipe(t)
	s.Start(t)
	at("http://b")
	// It outlives its TTL while it is renewed.
	deadline := time.After(1500 * time.Millisecond)
	for waiting := true; waiting; {
		select {
		case <-deadline:
			waiting = false
		default:
			at("http://b")
		}
	}
	select {
	case <-lostB:
		t.Error("the younger claim is lost")
	default:
	}
	releaseB()
	at("")
}

func TestPresenceClaimedWithoutNATS(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	p := jetstream.NewPresence(jetstream.PresenceConfig{Conn: s.Conn, TTL: time.Second})
	s.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	release, _, err := p.Claim(ctx, "i", "http://a")
	if err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	found := func() bool { _, err := p.Lookup(t.Context(), "i"); return err == nil }
	eventually(t, found, func() string { return "never told" })
	cancel()
	release()
	if found() {
		t.Fatal("not removed when ctx ended")
	}
}

// The entry of a replica that died expires, and an entry in another format counts as none.
func TestPresenceOfTheDead(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	p := jetstream.NewPresence(jetstream.PresenceConfig{Conn: s.Conn, TTL: 200 * time.Millisecond, Renew: time.Hour})
	release, _, err := p.Claim(t.Context(), "i", "http://a")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	gone := func() bool { _, err := p.Lookup(t.Context(), "i"); return errors.Is(err, jetstream.ErrNoTunnel) }
	if gone() {
		t.Fatal("lost was not closed")
	}
	eventually(t, gone, func() string { return "it stays" })
	forged, _ := json.Marshal(map[string]string{"url": "http://evil", "other": "field"})
	kv, err := s.JS.KeyValue(t.Context(), "presence")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kv.Keys(t.Context())
	if err == nil {
		t.Fatalf("left: got %v, want an error", keys)
	}
	if _, err := kv.Put(t.Context(), "de7d1b721a1e0632b7cf04edf5032c8ecffa9f9a08492152b926f1a5a7e765d7", forged); err != nil { // SHA-256 of "i"
		t.Fatal(err)
	}
	if !gone() {
		t.Fatal("a forged entry is believed")
	}
}

// The time a machine was last heard from outlives the claim on it. It is unknown for a machine that connected since:
// its replica may have been killed.
func TestPresenceKnowsWhenAMachineWasHeard(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	p := jetstream.NewPresence(jetstream.PresenceConfig{Conn: s.Conn, TTL: time.Second})
	heard := func() time.Time {
		at, err := p.Heard(t.Context(), "i")
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if !heard().IsZero() {
		t.Error("heard of a machine that never came")
	}
	last := time.Date(2026, 11, 27, 16, 0, 0, 0, time.UTC)
	if err := p.Left(t.Context(), "i", last); err != nil || !heard().Equal(last) {
		t.Errorf("heard at %v, %v, want no error and %v", heard(), err, last)
	}
	release, _, err := p.Claim(t.Context(), "i", "http://a")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	eventually(t, func() bool { return heard().IsZero() }, func() string { return "the last word of before still stands" })
	s.Stop()
	if _, err := p.Heard(t.Context(), "i"); err == nil {
		t.Error("no error without NATS")
	}
}

// A machine is where it connected last, independent of the replicas' clocks: an entry from a clock that is ahead does
// not end the claim that takes over from it. Otherwise the machine would lose one tunnel after another.
func TestPresenceWhereClocksDiffer(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	p := jetstream.NewPresence(jetstream.PresenceConfig{Conn: s.Conn, TTL: time.Minute, Renew: 20 * time.Millisecond})
	if _, err := p.Lookup(t.Context(), "i"); !errors.Is(err, jetstream.ErrNoTunnel) { // makes the bucket
		t.Fatal(err)
	}
	kv, err := s.JS.KeyValue(t.Context(), "presence")
	if err != nil {
		t.Fatal(err)
	}
	const key = "de7d1b721a1e0632b7cf04edf5032c8ecffa9f9a08492152b926f1a5a7e765d7" // SHA-256 of "i"
	put := func(url string, since time.Time) {
		t.Helper()
		entry, err := json.Marshal(map[string]any{"url": url, "owner": url, "since": since})
		if err == nil {
			_, err = kv.Put(t.Context(), key, entry)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("http://ahead", time.Now().Add(10*time.Minute)) // its replica was killed
	release, lost, err := p.Claim(t.Context(), "i", "http://a")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if url, err := p.Lookup(t.Context(), "i"); err != nil || url != "http://a" {
		t.Errorf("after the claim: got %s, %v, want no error and \"http://a\"", url, err)
	}
	select {
	case <-lost:
		t.Fatal("the claim is lost to one before it")
	default:
	}
	put("http://behind", time.Now().Add(-10*time.Minute)) // comes later, and says that it came earlier
	select {
	case <-lost:
	case <-time.After(60 * time.Second):
		t.Error("the claim is not lost to one after it")
	}
}
