package tunnel

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// clock is the time of some hubs, which a test advances. yamux keeps timers in a pool of the whole program, so a
// tunnel cannot run in testing/synctest.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }

func (c *clock) of(replicas ...*replica) {
	for _, r := range replicas {
		r.hub.now = c.now
	}
}

// silent returns a hub's result of Silent for the machine.
func silent(t *testing.T, r *replica) (time.Time, bool) {
	t.Helper()
	since, is, err := r.hub.Silent(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return since, is
}

// A guest that is frozen for 64 s is silent since it was last heard, at each replica. After it continues and
// reconnects, it is not. Both changes are reported.
func TestFrozenGuestIsSilent(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	p := &presence{who: map[string]string{}}
	var c clock
	changes := make(chan string, 10)
	a, b := newReplica(t, m, p), newReplica(t, m, p)
	c.of(a, b)
	a.hub.c.Changed = func(account, instance string) { changes <- account + " " + instance }
	c.pass(time.Hour)
	tunnel := connect(t, m.hostile(a.url, ""))
	eventually(t, "the claim", func() bool { url, _ := p.Lookup(t.Context(), id); return url == a.url })
	changed := func(what string) {
		t.Helper()
		select {
		case got := <-changes:
			if got != "account "+id {
				t.Errorf("%s: got a change of %s, want one of %s", what, got, "account "+id)
			}
		case <-time.After(time.Minute):
			t.Fatal("not named:", what)
		}
	}
	changed("it came")
	eventually(t, "the hello", func() bool { return a.hub.Connected(id) })
	heard := a.hub.local(id).lastHeard()
	for _, r := range []*replica{a, b} {
		if _, is := silent(t, r); is {
			t.Errorf("a connected machine: got silent, want not")
		}
	}
	tunnel.Freeze()
	c.pass(64 * time.Second)
	eventually(t, "the tunnel given up", func() bool { return a.hub.Len() == 0 })
	for _, r := range []*replica{a, b} {
		if since, is := silent(t, r); !is || !since.Equal(heard) {
			t.Errorf("after 64 s: silent %t since %v, want since %v", is, since, heard)
		}
	}
	changed("it fell silent")
	tunnel.Thaw()
	<-tunnel.Ended()
	again := connect(t, m.hostile(a.url, ""))
	defer again.Close()
	changed("it came back")
	eventually(t, "heard at each replica", func() bool {
		_, here := silent(t, a)
		_, there := silent(t, b)
		return !here && !there
	})
}

// Neither a restart of the control plane nor a short absence of a guest counts as silence. Without presence the
// result is an error.
func TestShortAbsenceIsNoSilence(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, &presence{who: map[string]string{}})
	var c clock
	c.of(r)
	first, is := silent(t, r)
	if is {
		t.Errorf("right after the start: got silent, want not")
	}
	c.pass(time.Hour)
	if since, is := silent(t, r); !is || !since.Equal(first) {
		t.Errorf("an hour later: silent %t since %v, want %v", is, since, first)
	}
	connect(t, m.hostile(r.url, "")).Close()
	eventually(t, "the end", func() bool { return r.hub.Len() == 0 })
	c.pass(20 * time.Second)
	if _, is := silent(t, r); is {
		t.Errorf("after 20 s: got silent, want not")
	}
	c.pass(20 * time.Second)
	if _, is := silent(t, r); !is {
		t.Errorf("after 40 s: got not silent, want silent")
	}
	r.hub.c.Presence = lostPresence{r.hub.c.Presence.(*presence)}
	if _, is, err := r.hub.Silent(t.Context(), id); err == nil || is {
		t.Errorf("without presence: got silent %t, %v, want an error", is, err)
	}
}

type lostPresence struct{ *presence }

func (lostPresence) Lookup(context.Context, string) (string, error) {
	return "", errors.New("away")
}

// Machines that never connect do not fill the memory.
func TestAbsencesAreBounded(t *testing.T) {
	t.Parallel()
	h, err := New(Config{Machines: newMachines(t)})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range 2 * maxAbsent {
		h.missing(string(rune(i)), &absence{})
	}
	if len(h.absent) > maxAbsent {
		t.Errorf("remembered machines: got %d, want at most %d", len(h.absent), maxAbsent)
	}
}
