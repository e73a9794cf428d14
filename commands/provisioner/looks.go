package provisioner

import (
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Looks remembers until when each machine certainly ran, and existed, as far as this process has seen. Its zero value is
// ready, and nil remembers nothing. The saga and the reconciler of a process share one.
type Looks struct {
	mu      sync.Mutex
	ran     map[string]time.Time // by machine
	existed map[string]time.Time
}

// staleFor is how much older than the call the state in a cloud's answer may be. The owner of a machine does not pay for
// what an old answer shows, so a machine certainly ran only until that long before the call.
const staleFor = 15 * time.Second

// observed returns the command that records what the cloud reports about a machine.
func (l *Looks) observed(id string, m machines.Machine, now time.Time) instance.Observe {
	c := instance.Observe{Machine: id, Seen: m.Seen, Address: m.Address, Reason: m.Reason, At: now, Launched: m.Started, Ended: m.Ended}
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.RanUntil, c.Existed = l.ran[id], l.existed[id]
	}
	return c
}

// note remembers what the cloud reported when it was asked at a time. It is called once the report is in the log.
func (l *Looks) note(id string, seen instance.Seen, asked time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ran == nil {
		l.ran, l.existed = map[string]time.Time{}, map[string]time.Time{}
	}
	at := asked.Add(-staleFor)
	switch seen {
	case instance.SeenGone:
		delete(l.ran, id)
		delete(l.existed, id)
		return
	case instance.SeenMissing:
		return
	case instance.SeenRunning:
		l.ran[id] = later(l.ran[id], at)
	}
	l.existed[id] = later(l.existed[id], at)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
