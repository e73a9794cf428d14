package bridged_test

import (
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// uses keeps the latest report of the machine's use.
type uses struct {
	mu      sync.Mutex
	reports int
	last    wire.Activity
}

func (u *uses) Report(_, _ string, _ time.Time, a wire.Activity) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reports++
	u.last = a
}

// await waits for a report that fits.
func (u *uses) await(t *testing.T, what string, fits func(wire.Activity) bool) wire.Activity {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		u.mu.Lock()
		n, a := u.reports, u.last
		u.mu.Unlock()
		if n > 0 && fits(a) {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: got %+v after %d reports, want another one", what, a, n)
		}
	}
}

// TestUseThroughTheWholePath follows what a user does from the browser's side of the bridges to the port that keeps it. The
// viewer that only looks does not use the desktop.
func TestUseThroughTheWholePath(t *testing.T) {
	t.Parallel()
	w := newPacedWorld(t, access.BridgeSession{Mode: "control"}, "built-in", 1)
	known := w.uses.await(t, "the agent is known", func(a wire.Activity) bool { return !a.Blind })
	if known.Input != nil || known.Chat != nil || known.Agent != nil || known.Question != nil || known.NextJob != nil {
		t.Errorf("at first: got %+v, want no use", known)
	}
	v := newViewer(t, w.dial(t, "/vnc"))
	for range 3 {
		v.ask(false)
		v.update(nil)
	}
	v.write([]byte{rfb.PointerEvent, 0, 0, 100, 0, 100})
	v.write([]byte{rfb.PointerEvent, 0, 0, 100, 0, 100})
	c := newChat(t, w.dial(t, "/cloudbot"))
	c.say("/cost 0.25", "k1")
	chatted := w.uses.await(t, "a message", func(a wire.Activity) bool { return a.Chat != nil && a.Agent != nil })
	if chatted.Input != nil {
		t.Errorf("a viewer that looks: got input, want none")
	}
	v.write([]byte{rfb.PointerEvent, 0, 0, 101, 0, 100})
	w.uses.await(t, "a pointer that moves", func(a wire.Activity) bool { return a.Input != nil })
	w.uses.await(t, "a cost", func(a wire.Activity) bool { return a.Cost == 250_000 && a.Meter != "" })
	paid := func(what string, want int64) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			w.m.mu.Lock()
			got := w.m.cost
			w.m.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: got %d, want %d", what, got, want)
			}
		}
	}
	paid("the first cost", 250_000)
	c.until("chat", "final")
	c.say("/schedule 60", "k2")
	w.uses.await(t, "a job", func(a wire.Activity) bool {
		return a.NextJob != nil && *a.NextJob > 3_000_000 && *a.NextJob <= 3_600_000
	})
	c.until("chat", "final")
	c.say("/ask", "k3")
	w.uses.await(t, "a question", func(a wire.Activity) bool { return a.Question != nil })
	if r := c.ask("chat.abort", map[string]any{"sessionKey": "main"}); !r.OK {
		t.Errorf("stop: got %+v, want it accepted", r)
	}
	c.until("chat", "aborted")
	c.say("/cost 0.5", "k4")
	c.until("chat", "final")
	w.end() // reports the cost that was not due yet
	paid("the last cost", 750_000)
}
