package tunnel

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// A notice reaches the guest, and again when its tunnel reconnects while it stands.
func TestNotice(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	var standing atomic.Pointer[wire.Notice]
	standing.Store(&wire.Notice{})
	var fails atomic.Int64
	r.hub.c.Standing = func(context.Context, string) (wire.Notice, error) {
		if fails.Add(-1) >= 0 {
			return wire.Notice{}, errors.New("the store is unavailable")
		}
		return *standing.Load(), nil
	}
	heard := func(g *fakeGuest, what, text string) wire.Notice {
		t.Helper()
		var got *wire.Notice
		g.hear(what, func(m wire.Message) bool { got = m.Notice; return got != nil })
		if got.Text != text {
			t.Errorf("%s: got %q, want %q", what, got.Text, text)
		}
		return *got
	}
	g := mustDial(t, r.url, "b", m.private)
	heard(g, "nothing stands", "")
	r.hub.Notice(id, wire.Notice{Text: "It stops soon.", For: 300_000, Count: true})
	if got := heard(g, "a warning", "It stops soon."); !got.Count || got.For > 300_000 || got.For < 200_000 {
		t.Errorf("got %+v, want a count of five minutes", got)
	}
	r.hub.Notice("01OTHER", wire.Notice{Text: "Another desktop.", For: 1000})
	r.hub.Notice(id, wire.Notice{})
	heard(g, "withdrawn", "")
	standing.Store(&wire.Notice{Text: "Still standing.", For: 60_000})
	g.session.Close()
	fails.Store(2)
	g = mustDial(t, r.url, "b", m.private)
	heard(g, "a new tunnel", "Still standing.")
}

// A notice is bounded, and one whose time has passed is withdrawn.
func TestNoticeIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", wire.MaxNotice)
	for _, c := range []struct {
		n, want wire.Notice
		since   time.Duration
	}{
		{wire.Notice{}, wire.Notice{}, 0},
		{wire.Notice{Text: "x", For: 1000}, wire.Notice{Text: "x", For: 400}, 600 * time.Millisecond},
		{wire.Notice{Text: "x", For: 1000, Count: true}, wire.Notice{}, time.Second},
		{wire.Notice{Text: "x", For: -1}, wire.Notice{}, 0},
		{wire.Notice{Text: "x"}, wire.Notice{}, 0},
		{wire.Notice{Text: "x", For: 1 << 60}, wire.Notice{Text: "x", For: longestNotice.Milliseconds()}, 0},
		{wire.Notice{Text: long, For: 5}, wire.Notice{Text: long[:wire.MaxNotice], For: 5}, 0},
	} {
		if got := bound(c.n, c.since); got != c.want {
			t.Errorf("%.40v after %v: got %v, want %v", c.n, c.since, got, c.want)
		}
	}
}
