package httpapi

import (
	"sync"
	"time"
)

// Endings knows what has ended lately, sessions or instances, and tells those who hold a
// connection open for one.
type Endings struct {
	keep time.Duration // how long an end must be remembered
	now  func() time.Time

	mu    sync.Mutex
	ended map[string]time.Time // until when to remember
	sweep int                  // size of ended at which the old ones are dropped
	open  map[string]map[*watcher]bool
}

type watcher struct {
	over  chan struct{}
	close func() // at most once
}

func newEndings(keep time.Duration, now func() time.Time) *Endings {
	return &Endings{keep: keep, now: now, ended: map[string]time.Time{}, sweep: 1024, open: map[string]map[*watcher]bool{}}
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
	for w := range e.open[id] {
		w.close()
	}
	delete(e.open, id)
}

// IsEnded tells whether id is known to be over.
func (e *Endings) IsEnded(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ended := e.ended[id]
	return ended
}

// Watch returns a channel that is closed when id ends, at once if it has, or after life, where
// that is not 0. Call release when done with it.
func (e *Endings) Watch(id string, life time.Duration) (over <-chan struct{}, release func()) {
	w := &watcher{over: make(chan struct{})}
	w.close = sync.OnceFunc(func() { close(w.over) })
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ended := e.ended[id]; ended || life < 0 {
		w.close()
		return w.over, func() {}
	}
	if e.open[id] == nil {
		e.open[id] = map[*watcher]bool{}
	}
	e.open[id][w] = true
	stop := func() bool { return true }
	if life > 0 {
		stop = time.AfterFunc(life, w.close).Stop
	}
	return w.over, func() {
		stop()
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.open[id], w)
		if len(e.open[id]) == 0 {
			delete(e.open, id)
		}
	}
}
