package provisioner

import (
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Looks remembers until when each machine certainly ran, as far as this process has seen. Its zero value is ready. The
// saga and the reconciler of a process share one.
type Looks struct {
	mu  sync.Mutex
	ran map[string]time.Time // by machine
}

// staleFor is how much older than the call the state in a cloud's answer may be. The owner of a machine does not pay for
// what an old answer shows, so a machine certainly ran only until that long before the call.
const staleFor = 15 * time.Second

// observed returns the command that records what the cloud reports about a machine.
func (l *Looks) observed(id string, m machines.Machine, now time.Time) instance.Observe {
	l.mu.Lock()
	defer l.mu.Unlock()
	return instance.Observe{
		Machine: id, Seen: m.Seen, Address: m.Address, Reason: m.Reason, At: now,
		Launched: m.Started, Ended: m.Ended, RanUntil: l.ran[id],
	}
}

// note remembers what the cloud reported when it was asked at a time. It is called once the report is in the log.
func (l *Looks) note(id string, seen instance.Seen, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch seen {
	case instance.SeenRunning:
		if l.ran == nil {
			l.ran = map[string]time.Time{}
		}
		if until := asked.Add(-staleFor); until.After(l.ran[id]) {
			l.ran[id] = until
		}
	case instance.SeenStopped, instance.SeenGone:
		delete(l.ran, id)
	}
}
