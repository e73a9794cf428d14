package httpapi

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Endings knows what has ended lately, sessions or instances, and which accounts are suspended, and
// tells those who hold a connection open for one.
type Endings struct {
	keep time.Duration // how long an end must be remembered
	now  func() time.Time

	mu    sync.Mutex
	ended map[string]time.Time // until when to remember
	sweep int                  // size of ended at which the old ones are dropped
	open  map[string]map[*watcher]bool
	bans  map[string]ban // accounts that are, or were, suspended
}

// ban is the log's latest word on an account's suspension.
type ban struct {
	position int64
	holds    bool
}

type watcher struct {
	ids   []string
	over  chan struct{}
	close func() // at most once
}

func newEndings(keep time.Duration, now func() time.Time) *Endings {
	return &Endings{keep: keep, now: now, ended: map[string]time.Time{}, sweep: 1024, open: map[string]map[*watcher]bool{}, bans: map[string]ban{}}
}

// Ended notes that id is over: what was opened for it closes, and nothing more is.
func (e *Endings) Ended(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if len(e.ended) >= e.sweep {
		for id, until := range e.ended {
			if !now.Before(until) {
				delete(e.ended, id)
			}
		}
		e.sweep = max(1024, 2*len(e.ended))
	}
	if _, known := e.ended[id]; !known {
		e.ended[id] = now.Add(e.keep)
	}
	e.closeAll(id)
}

// Suspended notes whether an account is suspended, as of a position of the log; the latest counts, in
// whatever order they come. What was opened for a suspended account closes, and nothing more is opened.
func (e *Endings) Suspended(account string, position int64, is bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if position < e.bans[account].position {
		return
	}
	e.bans[account] = ban{position, is}
	if is {
		e.closeAll(account)
	}
}

// watched are those that hold a connection open.
func (e *Endings) watched() []*watcher {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[*watcher]bool{}
	for _, some := range e.open {
		maps.Copy(all, some)
	}
	return slices.Collect(maps.Keys(all))
}

// rewound lets any later word on a suspension count: positions may be those of a log that was replaced.
func (e *Endings) rewound() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for account, b := range e.bans {
		e.bans[account] = ban{0, b.holds}
	}
}

// dropRewound forgets suspensions that the replaced log had and the present one has not.
func (e *Endings) dropRewound(present map[string]int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.bans, func(account string, b ban) bool {
		_, known := present[account]
		return b.position == 0 && !known
	})
}

// closeAll needs the lock.
func (e *Endings) closeAll(id string) {
	for w := range e.open[id] {
		w.close()
	}
	delete(e.open, id)
}

// IsEnded tells whether one of the ids is known to be over, or a suspended account's.
func (e *Endings) IsEnded(ids ...string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.isEnded(ids)
}

func (e *Endings) isEnded(ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool {
		_, ended := e.ended[id]
		return ended || e.bans[id].holds
	})
}

// Watch returns a channel that is closed when one of the ids ends, at once if it has, or after life,
// where that is not 0. Call release when done with it.
func (e *Endings) Watch(life time.Duration, ids ...string) (over <-chan struct{}, release func()) {
	w := &watcher{ids: ids, over: make(chan struct{})}
	w.close = sync.OnceFunc(func() { close(w.over) })
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isEnded(ids) || life < 0 {
		w.close()
		return w.over, func() {}
	}
	for _, id := range ids {
		if e.open[id] == nil {
			e.open[id] = map[*watcher]bool{}
		}
		e.open[id][w] = true
	}
	stop := func() bool { return true }
	if life > 0 {
		stop = time.AfterFunc(life, w.close).Stop
	}
	return w.over, func() {
		stop()
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, id := range ids {
			delete(e.open[id], w)
			if len(e.open[id]) == 0 {
				delete(e.open, id)
			}
		}
	}
}
