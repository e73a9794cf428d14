package httpapi

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// A machine that does not respond is not ready in the instance, the list and the answer to a change, which say
// since when. Its status stays. It becomes ready again when its machine responds.
func TestSilentMachineIsNotReady(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 27, 16, 0, 0, 0, time.FixedZone("", 3600))
	silent, lost := map[string]bool{}, errors.New("away")
	var unknown error
	f := newFront(t, func(c *Config) {
		c.Silent = func(_ context.Context, id string) (time.Time, bool, error) { return since, silent[id], unknown }
	})
	ada := f.signUp("ada@example.com")
	desk := func() string {
		id := f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: "{}"}).field(t, "id")
		f.happen(id, instance.LaunchAttempted{Attempt: 1, At: f.clock.Now()}, instance.MachineLaunched{Attempt: 1, Machine: "i-" + id},
			instance.MachineRunning{At: f.clock.Now()})
		return id
	}
	ready, booting := desk(), desk()
	f.happen(ready, instance.PhaseReached{Boot: "b", Phase: instance.PhaseReady, At: f.clock.Now()})
	silent[booting] = true // it never connected, which its phase shows
	see := func(want bool, reason string) {
		t.Helper()
		path := "/api/instances/" + ready
		var list struct{ Instances []instanceView }
		f.want(200, call{method: "GET", path: "/api/instances", token: ada.access}).into(t, &list)
		var one, renamed instanceView
		f.want(200, call{method: "GET", path: path, token: ada.access}).into(t, &one)
		f.want(200, call{method: "PATCH", path: path, token: ada.access, body: `{"name":"x"}`}).into(t, &renamed)
		for _, v := range append(list.Instances, one, renamed) {
			if v.ID == booting {
				if v.StatusReason != nil {
					t.Errorf("a booting instance: got reason %s, want none", *v.StatusReason)
				}
				continue
			}
			if v.Ready != want || v.Status != instance.Running || (v.StatusReason != nil) != (reason != "") || v.StatusReason != nil && !strings.Contains(*v.StatusReason, reason) {
				t.Errorf("ready %t, status %s, reason %v; want ready %t, %q", v.Ready, v.Status, v.StatusReason, want, reason)
			}
		}
	}
	see(true, "")
	silent[ready] = true
	see(false, "not responded since 2026-11-27T15:00:00Z")
	unknown = lost
	see(true, "")
	silent[ready], unknown = false, nil
	see(true, "")
}

// An open event stream of the account gets changes of presence and of what an agent needs, without an id; another
// account's does not.
func TestPresenceIsToldLive(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	claims, err := f.tokens.ParseAccess(ada.access)
	if err != nil {
		t.Fatal(err)
	}
	mine := f.stream(t, ada.access, "/api/events", "")
	f.stream(t, eve.access, "/api/events", "")
	mine.message() // the stream is open
	open := func() int {
		f.server.listeners.mu.Lock()
		defer f.server.listeners.mu.Unlock()
		return len(f.server.listeners.by)
	}
	for tick := time.NewTicker(time.Millisecond); open() < 2; <-tick.C {
		if t.Context().Err() != nil {
			t.Fatal("listening streams: got too few, want all")
		}
	}
	for event, change := range map[string]func(account, id string){"instance.presence": f.server.PresenceChanged, "instance.agent": f.server.AgentChanged} {
		change(claims.Account, "i1")
		id, name, data := mine.message()
		if id != "" || name != event || !strings.Contains(data, `"subject":"instance/i1"`) || !strings.Contains(data, `"sentence":"The `) {
			t.Errorf("got id %q, %s, %s, want no id and %s of i1 with a sentence", id, name, data, event)
		}
	}
	f.server.listeners.mu.Lock()
	defer f.server.listeners.mu.Unlock()
	for account, streams := range f.server.listeners.by {
		for c := range streams {
			if account != claims.Account && len(c) > 0 {
				t.Errorf("another account's stream: got %d changes, want none", len(c))
			}
		}
	}
}

// A stream that reads nothing holds only a few changes.
func TestListenersAreBounded(t *testing.T) {
	t.Parallel()
	s := &Server{}
	ids, leave := s.listeners.listen("ada")
	for range 100 {
		s.PresenceChanged("ada", "i1")
	}
	if len(ids) != cap(ids) {
		t.Errorf("queued changes: got %d, want %d", len(ids), cap(ids))
	}
	if leave(); len(s.listeners.by) != 0 {
		t.Errorf("streams: got %d accounts, want 0", len(s.listeners.by))
	}
}
