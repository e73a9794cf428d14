package provisioner

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Looks remembers until when each machine certainly ran, and existed, as far as this process and the
// ones before it have seen. Its zero value is ready, and
// nil remembers nothing. The saga and the reconciler of a process share one.
type Looks struct {
	// Store keeps what is remembered for the next process. Nil: nothing is kept.
	Store LookStore

	mu      sync.Mutex
	ran     map[string]time.Time // by machine
	existed map[string]time.Time
	missing map[string]absence // by machine, in this process only
	saved   time.Time
}

// absence is a time during which each look missed a machine.
type absence struct{ since, last time.Time }

// longestGap is the longest time between two looks that miss a machine without interruption.
const longestGap = 10 * time.Minute

// LookStore keeps one text, the latest. It may lose it: the charges of a few runs then end at an earlier time.
type LookStore interface {
	Load(ctx context.Context) ([]byte, error) // nil: there is none
	Save(ctx context.Context, text []byte) error
}

// staleFor is how much older than the call the state in a cloud's answer may be. The owner of a machine does not pay for
// what an old answer shows, so a machine certainly ran only until that long before the call.
const staleFor = 15 * time.Second

// saveEvery is the shortest time between two saves.
const saveEvery = 30 * time.Second

// observed returns the command that records what the cloud reports about a machine.
func (l *Looks) observed(id string, m machines.Machine, now time.Time) instance.Observe {
	c := instance.Observe{Machine: id, Seen: m.Seen, Address: m.Address, Reason: m.Reason, At: now, Launched: m.Started, Ended: m.Ended}
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.RanUntil, c.Existed = l.ran[id], l.existed[id]
		if m.Seen == instance.SeenMissing {
			c.MissedSince = l.missed(id, now)
		}
	}
	return c
}

// missed returns since when this process misses the machine without interruption; l.mu is held.
func (l *Looks) missed(id string, now time.Time) time.Time {
	if l.missing == nil {
		l.missing = map[string]absence{}
	}
	maps.DeleteFunc(l.missing, func(_ string, a absence) bool { return now.Sub(a.last).Abs() > longestGap })
	a := l.missing[id]
	if a.since.IsZero() {
		a.since = now
	}
	a.last = now
	l.missing[id] = a
	return a.since
}

// note remembers what the cloud reported when it was asked at a time. It is called once the report is in the log.
func (l *Looks) note(id string, seen instance.Seen, asked time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.make()
	if seen != instance.SeenMissing {
		delete(l.missing, id)
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
		l.ran[id] = domain.Later(l.ran[id], at)
	}
	l.existed[id] = domain.Later(l.existed[id], at)
}

func (l *Looks) make() {
	if l.ran == nil {
		l.ran, l.existed = map[string]time.Time{}, map[string]time.Time{}
	}
}

// kept is the text in a LookStore: machines by time, because most were seen at the same time.
type kept struct {
	Ran     map[string][]string `json:"ran"`
	Existed map[string][]string `json:"existed"`
}

// recall adds what the process before has seen. If that fails, runs that ended while no process looked may be charged for less.
func (l *Looks) recall(ctx context.Context, log *slog.Logger) {
	if err := l.load(ctx); err != nil {
		log.WarnContext(ctx, "reading the looks of the process before failed", "err", err)
	}
}

func (l *Looks) load(ctx context.Context) error {
	if l.Store == nil {
		return nil
	}
	text, err := l.Store.Load(ctx)
	if err != nil || len(text) == 0 {
		return err
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("read the kept looks: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.make()
	for list, into := range map[*map[string][]string]map[string]time.Time{&k.Ran: l.ran, &k.Existed: l.existed} {
		for text, ids := range *list {
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return fmt.Errorf("read the kept looks: %w", err)
			}
			for _, id := range ids {
				into[id] = domain.Later(into[id], at)
			}
		}
	}
	return nil
}

// save keeps everything for the next process, but not more often than saveEvery.
func (l *Looks) save(ctx context.Context, now time.Time) error {
	if l.Store == nil {
		return nil
	}
	l.mu.Lock()
	if since := now.Sub(l.saved); since >= 0 && since < saveEvery {
		l.mu.Unlock()
		return nil
	}
	l.saved = now
	k := kept{byTime(l.ran), byTime(l.existed)}
	l.mu.Unlock()
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return l.Store.Save(ctx, text)
}

func byTime(looks map[string]time.Time) map[string][]string {
	times := map[string][]string{}
	for id, at := range maps.All(looks) {
		text := at.UTC().Format(time.RFC3339Nano)
		times[text] = append(times[text], id)
	}
	return times
}
