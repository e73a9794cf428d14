package tunnel

import (
	"context"
	"fmt"
	"time"
)

const (
	// silentAfter is how long a machine must be unheard to count as silent. A deploy or a restart of its guest
	// takes less.
	silentAfter = 30 * time.Second
	maxAbsent   = 10_000 // machines without a tunnel that are remembered; presence has the others
)

// absence is a machine whose tunnel is gone.
type absence struct {
	account string
	since   time.Time // when it was last heard
	notify  *time.Timer
}

// Silent reports whether no replica has heard a machine for silentAfter, and since when. Call it only for
// machines that should be connected. An error means that the answer is unknown.
func (h *Hub) Silent(ctx context.Context, instanceID string) (since time.Time, silent bool, err error) {
	h.mu.Lock()
	here := h.tunnels[instanceID] != nil
	if gone := h.absent[instanceID]; gone != nil {
		since = gone.since
	}
	h.mu.Unlock()
	if here {
		return time.Time{}, false, nil
	}
	if h.c.Presence != nil {
		there, heard, err := h.elsewhere(ctx, instanceID)
		if err != nil || there {
			return time.Time{}, false, err
		}
		if heard.After(since) {
			since = heard
		}
	}
	now := h.now()
	if since.IsZero() { // as after a crash: count from the first call
		since = now
		h.mu.Lock()
		h.missing(instanceID, &absence{since: since})
		h.mu.Unlock()
	}
	return since, now.Sub(since) >= silentAfter && now.Sub(h.began) >= silentAfter, nil
}

// elsewhere looks up the presence of a machine whose tunnel this replica does not hold.
func (h *Hub) elsewhere(ctx context.Context, instanceID string) (there bool, heard time.Time, err error) {
	url, err := h.c.Presence.Lookup(ctx, instanceID)
	if err == nil && (url == "" || url == h.c.Advertise) {
		heard, err = h.c.Presence.Heard(ctx, instanceID)
		url = ""
	}
	if err != nil {
		return false, heard, fmt.Errorf("look up when %s was heard: %w", instanceID, err)
	}
	if url != "" {
		h.mu.Lock()
		h.found(instanceID)
		h.mu.Unlock()
	}
	return url != "", heard, nil
}

// missing records a machine without a tunnel. The caller holds h.mu.
func (h *Hub) missing(instanceID string, a *absence) {
	h.found(instanceID)
	for id := range h.absent {
		if len(h.absent) < maxAbsent {
			break
		}
		h.found(id)
	}
	h.absent[instanceID] = a
}

// found removes the record of missing and returns how long the machine was away. The caller holds h.mu.
func (h *Hub) found(instanceID string) (away time.Duration) {
	a := h.absent[instanceID]
	if a == nil {
		return 0
	}
	if a.notify != nil {
		a.notify.Stop()
	}
	delete(h.absent, instanceID)
	return h.now().Sub(a.since)
}

// fallSilent records a machine whose tunnel ended here, and calls Config.Changed once it counts as silent. The
// caller holds h.mu.
func (h *Hub) fallSilent(t *tunnel) {
	a := &absence{account: t.account, since: t.lastHeard()}
	h.missing(t.instance, a)
	if h.c.Changed == nil || h.closing {
		return
	}
	a.notify = time.AfterFunc(silentAfter-h.now().Sub(a.since)+time.Second, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, silent, err := h.Silent(ctx, t.instance); err == nil && silent {
			h.c.Changed(t.account, t.instance)
		}
	})
}
