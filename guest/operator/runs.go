package operator

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	maxSessions = 100         // chats that are looked at, the latest first
	runsEvery   = time.Second // the shortest time between two looks at them
)

// hints are the events after which another run may be in progress, or one less. The gateway does not say how many are.
var hints = map[string]bool{"sessions.changed": true, "chat": true, "agent": true, "session.message": true}

// hint notes that the number of runs may have changed.
func (c *conn) hint() {
	select {
	case c.hinted <- struct{}{}:
	default:
	}
}

// watchRuns counts the runs that are in progress, after each hint and at intervals, until ctx ends.
func (o *Operator) watchRuns(ctx context.Context, c *conn) {
	defer o.setRuns(0)
	defer o.known(false)
	tick := time.NewTicker(o.c.Look)
	defer tick.Stop()
	for {
		payload, err := ask(ctx, c, "sessions.list", map[string]any{"limit": maxSessions})
		n, known := 0, false
		if err == nil {
			n, known = runsIn(payload)
		}
		if known {
			o.setRuns(n)
		}
		o.known(known)
		if retry.Sleep(ctx, min(runsEvery, o.c.Look)) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.hinted:
		case <-tick.C:
		}
	}
}

// runsIn counts the chats with a run in a list of them; known: it is such a list.
func runsIn(payload json.RawMessage) (n int, known bool) {
	var list struct {
		Sessions []struct {
			HasActiveRun *bool // nil: the gateway is older
			Status       string
		}
	}
	if json.Unmarshal(payload, &list) != nil || list.Sessions == nil {
		return 0, false
	}
	for _, s := range list.Sessions[:min(len(list.Sessions), maxSessions)] {
		if s.HasActiveRun != nil && *s.HasActiveRun || s.HasActiveRun == nil && s.Status == "running" {
			n++
		}
	}
	return n, true
}

func (o *Operator) setRuns(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); o.working(now) {
		o.work.worked = now
	}
	if o.runs != n {
		o.runs = n
		o.stirred()
	}
}
