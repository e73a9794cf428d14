package tunnel

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// States is where replicas share what the agents need from their users.
type States interface {
	// Share shows the other replicas the latest of the machine's states until ctx ends, and then none. It retries
	// failures itself.
	Share(ctx context.Context, account, instanceID string, states <-chan wire.State)
	// State returns, from memory, what another replica shares; the zero State if there is nothing.
	State(instanceID string) wire.State
}

const (
	maxWaiting   = 99             // approvals, questions or runs that a machine may report
	maxViewers   = 99             // of its screen that a machine may report
	longestUntil = 24 * time.Hour // that an approval or question may wait

	statesPerSecond = 1 // shown, on average; of those between, the latest counts
	statesBurst     = 10
)

// State returns what the machine's agent needs from its user; the zero State if it needs nothing or that is not
// known. It reads memory only.
func (h *Hub) State(instanceID string) wire.State {
	if t := h.local(instanceID); t != nil {
		return t.needs()
	}
	if h.c.States == nil {
		return wire.State{}
	}
	return bounded(h.c.States.State(instanceID), h.now())
}

// bounded returns the part of a reported state that may be shown.
func bounded(s wire.State, now time.Time) wire.State {
	s.Approvals, s.Questions = min(max(s.Approvals, 0), maxWaiting), min(max(s.Questions, 0), maxWaiting)
	s.Runs = min(max(s.Runs, 0), maxWaiting)
	if s.Viewers = min(s.Viewers, maxViewers); s.Viewers < 2 {
		s.Viewers = 0
	}
	switch {
	case s.Approvals+s.Questions == 0 || s.Until.Before(now): // the machine's clock is wrong, or it will report the end soon
		s.Until = time.Time{}
	case s.Until.After(now.Add(longestUntil)):
		s.Until = now.Add(longestUntil)
	}
	s.Until = s.Until.UTC().Truncate(time.Millisecond) // two that wait one after another differ
	return s
}

func (t *tunnel) needs() wire.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// stated takes a state that the guest reports.
func (t *tunnel) stated(s wire.State) {
	t.mu.Lock()
	t.state = bounded(s, t.h.now())
	t.mu.Unlock()
	select {
	case t.restated <- struct{}{}:
	default:
	}
}

// shareStates shows each change of the state to pages and replicas until ctx ends.
func (t *tunnel) shareStates(ctx context.Context, latest chan wire.State) {
	room := bucket{rate: statesPerSecond, size: statesBurst, tokens: statesBurst, at: time.Now()}
	var shown wire.State
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.restated:
		}
		for !room.take(time.Now()) {
			if retry.Sleep(ctx, time.Second/statesPerSecond) != nil {
				return
			}
		}
		now := t.needs()
		if now == shown {
			continue
		}
		shown = now
		select {
		case <-latest: // an older one that was not shared yet
		default:
		}
		latest <- now
		t.stateChanged()
	}
}

func (t *tunnel) stateChanged() {
	if t.h.c.StateChanged != nil {
		t.h.c.StateChanged(t.account, t.instance)
	}
}
