package tunnel

import (
	"context"
	"errors"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Uses keeps what the machines report about their use.
type Uses interface {
	// Report takes a report of a machine. connected is when its tunnel was connected, with the monotonic clock; another time
	// means another tunnel. The report's ages and NextJob are not negative and at most a year. It must return immediately.
	Report(account, instanceID string, connected time.Time, a wire.Activity)
}

const (
	usesPerSecond = 0.5 // reports of a machine passed on, on average; of those between, the latest counts
	usesBurst     = 10

	longestAge = 365 * 24 * time.Hour // and the longest time until a job
	maxMeter   = 64                   // bytes of a meter's name
)

// plausible returns the part of a report that may be used, as of so long after it was received. A job that is later than in
// a year is not known; a wrong age can only concern the machine itself.
func plausible(a wire.Activity, since time.Duration) wire.Activity {
	late := since.Milliseconds()
	age := func(ms *int64) *int64 {
		if ms == nil {
			return nil
		}
		v := min(max(*ms, 0), longestAge.Milliseconds()) + late
		v = min(v, longestAge.Milliseconds())
		return &v
	}
	a.Input, a.Chat, a.Agent, a.Question, a.Shell = age(a.Input), age(a.Chat), age(a.Agent), age(a.Question), age(a.Shell)
	if a.NextJob != nil {
		v := max(max(*a.NextJob, 0)-late, 0)
		if a.NextJob = &v; v > longestAge.Milliseconds() {
			a.NextJob = nil
		}
	}
	if !wire.Word(a.Meter) || len(a.Meter) > maxMeter || a.Cost < 0 || a.Cost > instance.MaxModelCost {
		a.Meter, a.Cost = "", 0
	}
	return a
}

// used takes a report of the guest.
func (t *tunnel) used(a wire.Activity) {
	now := time.Now()
	a = plausible(a, 0)
	t.mu.Lock()
	t.use, t.usedAt = a, now
	t.mu.Unlock()
	select {
	case t.uses <- struct{}{}:
	default:
	}
	t.meter(a.Meter, a.Cost)
}

// passUses passes the guest's reports on until ctx ends.
func (t *tunnel) passUses(ctx context.Context) {
	connected := time.Now()
	room := bucket{rate: usesPerSecond, size: usesBurst, tokens: usesBurst, at: connected}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.uses:
		}
		for !room.take(time.Now()) {
			if retry.Sleep(ctx, time.Second) != nil {
				return
			}
		}
		t.mu.Lock()
		a, at := t.use, t.usedAt
		t.mu.Unlock()
		t.h.c.Uses.Report(t.account, t.instance, connected, plausible(a, time.Since(at)))
	}
}

// Of what the models of a machine cost. An event is due when both the time and the amount have passed, or a longer time.
const (
	costsEvery  = 10 * time.Minute
	costsAmount = 100_000 // micro-dollars
	costsLate   = time.Hour
	costsEnd    = 2 * time.Second // for the last event of a tunnel
	costsHear   = time.Second     // for the guest's last lines
	costsKept   = 2 * costsLate   // how long a machine without a tunnel is remembered
)

// costs is what a hub has delivered of one machine's model costs. Hub.mu guards it.
type costs struct {
	meter string
	total int64     // of the meter, delivered or refused
	at    time.Time // of the latest delivery
	ends  bucket    // of deliveries at the end of a tunnel
}

// due reports whether a meter's total is to be delivered at a time; ending: the tunnel ends.
func (c *costs) due(meter string, total int64, now time.Time, ending bool) bool {
	if meter == "" || total <= c.before(meter) {
		return false
	}
	since := now.Sub(c.at)
	switch {
	case c.at.IsZero(), since >= costsLate, since >= costsEvery && total-c.before(meter) >= costsAmount:
		return true
	}
	return ending && c.ends.take(now)
}

// before returns what is known of a meter.
func (c *costs) before(meter string) int64 {
	if c.meter == meter {
		return c.total
	}
	return 0
}

// costsOf returns what is known of the machine's costs, and forgets machines that have been away for long; h.mu is held.
func (h *Hub) costsOf(instanceID string, now time.Time) *costs {
	c := h.costs[instanceID]
	if c != nil {
		return c
	}
	if len(h.costs) >= 2*len(h.tunnels)+100 {
		for id, c := range h.costs {
			if h.tunnels[id] == nil && now.Sub(c.at) > costsKept {
				delete(h.costs, id)
			}
		}
	}
	c = &costs{ends: bucket{rate: 1 / costsEvery.Seconds(), size: 2, tokens: 2, at: now}}
	h.costs[instanceID] = c
	return c
}

// meter takes a total of the guest's meter. A tunnel belongs to one guest process, which has one meter.
func (t *tunnel) meter(name string, total int64) {
	if name == "" {
		return
	}
	t.mu.Lock()
	if t.metered == "" {
		t.metered = name
	}
	grown := t.metered == name && total > t.cost
	if grown {
		t.cost = total
	}
	t.mu.Unlock()
	if !grown {
		return
	}
	select {
	case t.costly <- struct{}{}:
	default:
	}
}

// reportCosts delivers what the machine's models cost until ctx ends, and then once more.
func (t *tunnel) reportCosts(ctx context.Context) {
	var later <-chan time.Time
	timer := time.NewTimer(costsEvery)
	defer timer.Stop()
	wait := backoff()
	for {
		select {
		case <-ctx.Done():
			t.hearAll()
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), costsEnd)
			defer cancel()
			if err := t.deliverCost(end, true); err != nil {
				t.h.log.Warn("last model cost not recorded", "instance", t.instance, "err", err)
			}
			return
		case <-t.costly:
		case <-later:
		}
		err := t.deliverCost(ctx, false)
		again := costsEvery / 10 // what is not due yet becomes due without another report
		if err != nil {
			if ctx.Err() == nil {
				t.h.log.Warn("model cost not recorded, will retry", "instance", t.instance, "err", err)
			}
			again = wait.Next()
		} else {
			wait.Reset()
		}
		timer.Reset(again)
		later = timer.C
	}
}

// hearAll waits until the last lines that the guest sent are read, but not for long: the guest may have opened no control
// stream.
func (t *tunnel) hearAll() {
	timer := time.NewTimer(costsHear)
	defer timer.Stop()
	select {
	case <-t.silent:
	case <-timer.C:
	}
}

// deliverCost sends the meter's total to the store if it is due. It returns only errors that a retry may change.
func (t *tunnel) deliverCost(ctx context.Context, ending bool) error {
	t.mu.Lock()
	meter, total := t.metered, t.cost
	t.mu.Unlock()
	now := time.Now()
	t.h.mu.Lock()
	c := t.h.costsOf(t.instance, now)
	due := c.due(meter, total, now, ending)
	t.h.mu.Unlock()
	if !due {
		return nil
	}
	err := t.h.c.Machines.ModelCost(ctx, t.instance, meter, total)
	var d *domain.Error
	if err != nil && (!errors.As(err, &d) || d.Kind == domain.Unavailable || d.Kind == domain.Exhausted) {
		return err
	}
	if err != nil {
		t.h.log.Info("model cost refused", "instance", t.instance, "code", d.Code)
	}
	t.h.mu.Lock()
	c.meter, c.total, c.at = meter, total, now
	t.h.mu.Unlock()
	return nil
}
