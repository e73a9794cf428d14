package httpapi

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

// Revocations remembers which sessions or instances ended recently and which accounts are suspended. It
// notifies the holders of open connections.
type Revocations struct {
	keep time.Duration // how long an ended id must be remembered
	now  func() time.Time

	mu    sync.Mutex
	ended map[string]time.Time // until when to remember
	sweep int                  // size of ended at which the old ones are dropped
	open  map[string]map[*watcher]bool
	bans  map[string]ban // accounts that are, or were, suspended
}

// ban is the latest known state of an account's suspension.
type ban struct {
	position int64
	holds    bool
}

type watcher struct {
	ids   []string
	over  chan struct{}
	close func() // at most once
}

func newRevocations(keep time.Duration, now func() time.Time) *Revocations {
	return &Revocations{keep: keep, now: now, ended: map[string]time.Time{}, sweep: 1024, open: map[string]map[*watcher]bool{}, bans: map[string]ban{}}
}

// Revoke ends access for an ended session or instance: its open connections close, and new ones are refused.
func (r *Revocations) Revoke(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if len(r.ended) >= r.sweep {
		for id, until := range r.ended {
			if !now.Before(until) {
				delete(r.ended, id)
			}
		}
		r.sweep = max(1024, 2*len(r.ended))
	}
	if _, known := r.ended[id]; !known {
		r.ended[id] = now.Add(r.keep)
	}
	r.closeAll(id)
}

// CloseTokens ends access for one of an account's API tokens, as Revoke does: a request that read the log before may open its
// stream or bridge only now. With "", it closes the open connections of all the account's tokens.
func (r *Revocations) CloseTokens(account, id string) {
	if id != "" {
		r.Revoke(access.TokenSession(id))
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.open[account] {
		if _, isToken := access.TokenOf(w.ids[0]); isToken {
			w.close()
		}
	}
}

// Suspended records whether an account is suspended at a position of the log. The latest position counts,
// in any order of calls. Open connections of a suspended account close, and new ones are refused.
func (r *Revocations) Suspended(account string, position int64, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if position < r.bans[account].position {
		return
	}
	r.bans[account] = ban{position, is}
	if is {
		r.closeAll(account)
	}
}

// watched returns the watchers of open connections.
func (r *Revocations) watched() []*watcher {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[*watcher]bool{}
	for _, some := range r.open {
		maps.Copy(all, some)
	}
	return slices.Collect(maps.Keys(all))
}

// rewound accepts any later call of Suspended: the known positions may be those of a replaced log.
func (r *Revocations) rewound() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for account, b := range r.bans {
		r.bans[account] = ban{0, b.holds}
	}
}

// dropRewound removes suspensions of the replaced log that the current one does not have.
func (r *Revocations) dropRewound(present map[string]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.bans, func(account string, b ban) bool {
		_, known := present[account]
		return b.position == 0 && !known
	})
}

// closeAll closes the watchers of id. The caller holds mu.
func (r *Revocations) closeAll(id string) {
	for w := range r.open[id] {
		w.close()
	}
	delete(r.open, id)
}

// IsRevoked reports whether one of the ids has ended or is a suspended account.
func (r *Revocations) IsRevoked(ids ...string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isRevoked(ids)
}

func (r *Revocations) isRevoked(ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool {
		_, ended := r.ended[id]
		return ended || r.bans[id].holds
	})
}

// Watch returns a channel that is closed when one of the ids is revoked, immediately if one already is, or
// after life if that is not 0. Call release to stop watching.
func (r *Revocations) Watch(life time.Duration, ids ...string) (over <-chan struct{}, release func()) {
	w := &watcher{ids: ids, over: make(chan struct{})}
	w.close = sync.OnceFunc(func() { close(w.over) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isRevoked(ids) || life < 0 {
		w.close()
		return w.over, func() {}
	}
	for _, id := range ids {
		if r.open[id] == nil {
			r.open[id] = map[*watcher]bool{}
		}
		r.open[id][w] = true
	}
	stop := func() bool { return true }
	if life > 0 {
		stop = time.AfterFunc(life, w.close).Stop
	}
	return w.over, func() {
		stop()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, id := range ids {
			delete(r.open[id], w)
			if len(r.open[id]) == 0 {
				delete(r.open, id)
			}
		}
	}
}
