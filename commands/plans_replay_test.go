package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// planLog keeps what was appended to a store, append by append, and can leave guards out.
type planLog struct {
	eventstore.Store
	missing fault
	counts  *provisionertest.Tally

	mu      sync.Mutex
	appends []eventstore.Append
	folds   map[string]instance.State
}

func (l *planLog) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	a.Writes = slices.Clone(a.Writes)
	for n, w := range a.Writes {
		if l.missing == noAllowance && w.Stream.Aggregate == "quota" {
			w.Events = slices.DeleteFunc(slices.Clone(w.Events), func(e eventstore.NewEvent) bool { return e.Type == "quota.allowance_set" })
		}
		if l.missing == noConflict && (w.Stream.Aggregate == "quota" || w.Stream.Aggregate == "billing") {
			w.Expected, _ = l.Version(ctx, w.Stream)
		}
		a.Writes[n] = w
	}
	a.Writes = slices.DeleteFunc(a.Writes, func(w eventstore.Write) bool { return len(w.Events) == 0 })
	res, err := l.Store.Append(ctx, a)
	switch {
	case errors.As(err, new(*eventstore.ConflictError)):
		l.counts.Add("decided again", 1)
	case err == nil:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.appends = append(l.appends, a)
		l.fold(a)
	}
	return res, err
}

func (l *planLog) fold(a eventstore.Append) {
	if l.folds == nil {
		l.folds = map[string]instance.State{}
	}
	for _, w := range a.Writes {
		for _, e := range w.Events {
			if ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data); err == nil {
				l.folds[w.Stream.ID] = instance.Evolve(l.folds[w.Stream.ID], ev)
			}
		}
	}
}

// desktops returns all desktops as they are now.
func (l *planLog) desktops() map[string]instance.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]instance.State{}
	for id, s := range l.folds {
		all[id] = s
	}
	return all
}

// replay is the log up to an append.
type replay struct {
	desktops map[string]instance.State
	billing  map[string]billing.State
	quota    map[string]quota.State
}

// check replays the log: each create and each start was allowed by what the quota had last, by what follows from the account's
// payments and grants at that time, and what runs at the end is allowed.
func (l *planLog) check(now time.Time) error {
	r := replay{map[string]instance.State{}, map[string]billing.State{}, map[string]quota.State{}}
	for n, a := range l.appends {
		launched, ended, decided := map[string]time.Time{}, false, false
		for _, w := range a.Writes {
			for _, e := range w.Events {
				if err := r.apply(w.Stream.ID, e); err != nil {
					return err
				}
				switch e.Type {
				case "instance.requested", "instance.start_requested":
					launched[w.Stream.ID] = e.Time
				case "instance.launch_attempted":
					if err := r.launched(w.Stream.ID, e.Time, a); err != nil {
						return fmt.Errorf("append %d: %w", n, err)
					}
					l.counts.Add("machines launched", 1)
					decided = true
				case "instance.launch_abandoned":
					l.counts.Add("launches given up", 1)
					decided = true
				case "billing.access_set":
					ended = true
				case "instance.stop_requested":
					if strings.Contains(string(e.Data), `"cause":"plan"`) {
						l.counts.Add("stopped by a plan", 1)
					}
				}
			}
		}
		if ended && (decided || len(launched) > 0) {
			l.counts.Add("ended by a create, launch or start", 1)
		}
		for id, at := range launched {
			if err := r.allowed(id, at, a); err != nil {
				return fmt.Errorf("append %d: %w", n, err)
			}
		}
	}
	return r.end(now)
}

func (r replay) apply(id string, e eventstore.NewEvent) error {
	if ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data); err == nil {
		r.desktops[id] = instance.Evolve(r.desktops[id], ev)
		return nil
	}
	if ev, err := quota.Codec.Decode(e.Type, e.Schema, e.Data); err == nil {
		r.quota[id] = quota.Evolve(r.quota[id], ev)
		return nil
	}
	if ev, err := billing.Codec.Decode(e.Type, e.Schema, e.Data); err == nil {
		before := r.billing[id]
		r.billing[id] = billing.Evolve(before, ev)
	}
	return nil
}

// allowed returns why a desktop should not have been launched by an append.
func (r replay) allowed(id string, at time.Time, a eventstore.Append) error {
	d := r.desktops[id]
	q := r.quota[d.Account]
	start := d.Status == instance.Starting
	admitted := slices.ContainsFunc(a.Writes, func(w eventstore.Write) bool {
		return w.Stream.Aggregate == "quota" && w.Stream.ID == d.Account && slices.ContainsFunc(w.Events, func(e eventstore.NewEvent) bool {
			return e.Type == "quota.start_admitted" || e.Type == "quota.slot_taken"
		})
	})
	plan := q.Plan()
	had, kinds, grown := entitled(r.billing[d.Account], at)
	switch {
	case !admitted:
		return fmt.Errorf("desktop %s was launched and its account's quota does not know", id)
	case plan.Level != billing.Full && (plan.Level != billing.Due || !start):
		return fmt.Errorf("desktop %s was launched with %+v", id, plan)
	case !plan.Allows(d.Type) || q.Held() > plan.Desktops:
		return fmt.Errorf("desktop %s of type %s was launched with %d desktops and %+v", id, d.Type, q.Held(), plan)
	case !slices.Contains(kinds, d.Type) || q.Held() > had || !start && !grown:
		return fmt.Errorf("desktop %s of type %s was launched at %v with %d desktops: its account pays for %d of %v", id, d.Type, at, q.Held(), had, kinds)
	}
	return nil
}

// launched returns why a desktop's machine should not have been launched by an append.
func (r replay) launched(id string, at time.Time, a eventstore.Append) error {
	account := r.desktops[id].Account
	if had, _, _ := entitled(r.billing[account], at); had == 0 {
		return fmt.Errorf("the machine of desktop %s was launched at %v, when its account paid for nothing", id, at)
	}
	if !slices.ContainsFunc(a.Writes, func(w eventstore.Write) bool { return w.Stream.Aggregate == "quota" && w.Stream.ID == account }) {
		return fmt.Errorf("the machine of desktop %s was launched and its account's quota does not know", id)
	}
	return nil
}

// entitled says what an account may use at a time, by what it has paid and was granted: not by what was decided. grown: it may
// create desktops.
func entitled(s billing.State, at time.Time) (desktops int, kinds []string, grown bool) {
	best := map[bool]int{} // by whether it may create
	offer := func(p billing.Plan, grows bool) {
		for n, o := range billing.Offers {
			if o.Plan == p {
				best[grows] = max(best[grows], n+1)
			}
		}
	}
	if g := s.Grant; g != nil && (g.Until.IsZero() || at.Before(g.Until)) {
		offer(g.Plan, true)
	}
	paid := slices.ContainsFunc(mapValues(s.Subscriptions), func(sub billing.Subscription) bool { return sub.Status == billing.Active })
	for _, sub := range s.Subscriptions {
		switch {
		case sub.Status == billing.Active:
			offer(sub.Plan, true)
		case sub.Status == billing.PastDue && !paid && at.Before(s.DueSince.Add(terms.Grace)):
			offer(sub.Plan, false)
		}
	}
	n := max(best[true], best[false])
	for _, o := range billing.Offers[:n] {
		kinds, desktops = append(kinds, o.Type), o.Desktops
	}
	return desktops, kinds, best[true] > 0 && best[true] >= best[false]
}

func mapValues[K comparable, V any](m map[K]V) (list []V) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// end returns why a desktop should not run at the end, or that two records of what a plan allows differ.
func (r replay) end(now time.Time) error {
	for account, s := range r.billing {
		if q := r.quota[account]; !q.Plan().Same(s.Access) {
			return fmt.Errorf("the quota of account %s has %+v, and its access is %+v", account, q.Plan(), s.Access)
		}
	}
	for id, d := range r.desktops {
		q := r.quota[d.Account]
		had, kinds, _ := entitled(r.billing[d.Account], now)
		if nth := slices.Index(q.Instances(), id); d.Status == instance.Running && (nth >= had || !slices.Contains(kinds, d.Type)) {
			return fmt.Errorf("desktop %s of type %s runs, the %d. of its account, which pays for %d of %v", id, d.Type, nth+1, had, kinds)
		}
	}
	return nil
}
