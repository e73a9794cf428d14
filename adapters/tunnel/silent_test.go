package tunnel

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// clock is the time of some hubs, which a test moves on. yamux keeps timers in a pool of the whole program, so
// that a tunnel cannot run in testing/synctest.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }

func (c *clock) of(replicas ...*replica) {
	for _, r := range replicas {
		r.hub.now = c.now
	}
}

// silent is what a hub says of the machine.
func silent(t *testing.T, r *replica) (time.Time, bool) {
	t.Helper()
	since, is, err := r.hub.Silent(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return since, is
}

// A guest that is frozen for 64 s is silent since it was last heard, at each replica; once it goes on and
// connects again it is not. Both are told.
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
	told := func(what string) {
		t.Helper()
		select {
		case got := <-changes:
			if got != "account "+id {
				t.Errorf("%s: told of %s", what, got)
			}
		case <-time.After(time.Minute):
			t.Fatal("not told:", what)
		}
	}
	told("it came")
	eventually(t, "the hello", func() bool { return a.hub.Connected(id) })
	heard := a.hub.local(id).lastHeard()
	for _, r := range []*replica{a, b} {
		if _, is := silent(t, r); is {
			t.Error("silent while it answers")
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
	told("it fell silent")
	tunnel.Thaw()
	<-tunnel.Ended()
	again := connect(t, m.hostile(a.url, ""))
	defer again.Close()
	told("it came back")
	eventually(t, "heard at each replica", func() bool {
		_, here := silent(t, a)
		_, there := silent(t, b)
		return !here && !there
	})
}

// A restart of the control plane is no silence of its machines, nor is a guest's short absence. What cannot be
// known is not said.
func TestShortAbsenceIsNoSilence(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, &presence{who: map[string]string{}})
	var c clock
	c.of(r)
	first, is := silent(t, r)
	if is {
		t.Error("silent right after the start")
	}
	c.pass(time.Hour)
	if since, is := silent(t, r); !is || !since.Equal(first) {
		t.Errorf("an hour later: silent %t since %v, want %v", is, since, first)
	}
	connect(t, m.hostile(r.url, "")).Close()
	eventually(t, "the end", func() bool { return r.hub.Len() == 0 })
	c.pass(20 * time.Second)
	if _, is := silent(t, r); is {
		t.Error("silent after 20 s")
	}
	c.pass(20 * time.Second)
	if _, is := silent(t, r); !is {
		t.Error("not silent after 40 s")
	}
	r.hub.c.Presence = lostPresence{r.hub.c.Presence.(*presence)}
	if _, is, err := r.hub.Silent(t.Context(), id); err == nil || is {
		t.Errorf("while presence is away: silent %t, %v", is, err)
	}
}

type lostPresence struct{ *presence }

func (lostPresence) Lookup(context.Context, string) (string, error) {
	return "", errors.New("away")
}

// Machines that are asked for and never come fill no memory.
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
		t.Errorf("%d are remembered", len(h.absent))
	}
}
