// Package activity measures how a desktop is used: input of its viewers, messages to its agent, the agent's own work, and
// terminals.
//
// The one thing to know: a report has ages by the monotonic clock, never times, because a machine's clock may be wrong. What
// looks like use but may not be, such as a message that is not understood, counts as use.
package activity

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Config describes what is measured.
type Config struct {
	Meter  string               // drawn when the guest starts; see wire.Activity
	Work   func() operator.Work // of the agent; nil: never known
	Shells *Shells              // nil: terminals are not looked at
	Look   time.Duration        // between two looks at the terminals; 0: 5 s
	Logger *slog.Logger         // nil: none
}

// Tracker keeps when the desktop was last used. Run it.
type Tracker struct {
	c Config

	mu      sync.Mutex
	input   time.Time // zero: not since the guest started
	chat    time.Time
	shell   time.Time
	resumed chan struct{} // closed when use resumes
}

// New returns a tracker that has seen no use.
func New(c Config) *Tracker {
	c.Look = cmp.Or(c.Look, 5*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return &Tracker{c: c, resumed: make(chan struct{})}
}

// Run looks at the terminals until ctx ends.
func (t *Tracker) Run(ctx context.Context) error {
	if t.c.Shells == nil {
		return nil
	}
	for failed := false; ; {
		seen, err := t.c.Shells.Look()
		if err != nil && !failed {
			failed = true
			t.c.Logger.Warn("terminals cannot be looked at", "err", err)
		}
		if seen.Typed {
			t.touch(&t.input)
		}
		if seen.Works || err != nil { // what is not known is not idle
			t.touch(&t.shell)
		}
		if retry.Sleep(ctx, t.c.Look) != nil {
			return nil
		}
	}
}

// Chatted notes that the user wrote to the agent, answered it, or stopped it.
func (t *Tracker) Chatted() { t.touch(&t.chat) }

// touch notes use of a kind.
func (t *Tracker) touch(kind *time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if kind.IsZero() || now.Sub(*kind) >= wire.ActivityEvery {
		close(t.resumed)
		t.resumed = make(chan struct{})
	}
	*kind = now
}

// Resumed returns a channel that is closed when use resumes that no report has yet: use of a kind of which there was none
// for wire.ActivityEvery.
func (t *Tracker) Resumed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.resumed
}

// Report returns what is known at present.
func (t *Tracker) Report() wire.Activity {
	var work operator.Work
	if t.c.Work != nil {
		work = t.c.Work()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	a := wire.Activity{
		Input: age(now, t.input), Chat: age(now, t.chat), Shell: age(now, t.shell), Agent: age(now, work.Worked),
		Question: age(now, work.Waited), Blind: !work.Known, Meter: t.c.Meter, Cost: work.Cost,
	}
	if work.HasNext {
		due := max(work.Next, 0).Milliseconds()
		a.NextJob = &due
	}
	return a
}

// age returns how long ago a time was, in milliseconds; nil: never.
func age(now, at time.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	ms := max(now.Sub(at), 0).Milliseconds()
	return &ms
}
