package commands

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Force terminates an instance for an operator, without the saga and without the instance's own events, of which one
// may be damaged. It finds the machines by their tags.
type Force struct {
	Log
	Cloud machines.Inventory
	// Owner returns the account of an instance from the read models, "" if they do not have it.
	Owner func(ctx context.Context, instance string) (string, error)
	Every time.Duration // between two checks of terminating machines [1 s]
}

// Forced is the result of Force.Terminate.
type Forced struct {
	Instance string   `json:"instance"`
	Account  string   `json:"account,omitempty"` // "": unknown
	Machines []string `json:"machines"`          // terminated by this call
	Foreign  []string `json:"foreign,omitempty"` // tagged as the instance's, but not launched by the control plane; not touched
	Already  bool     `json:"already"`           // the instance had already ended
	Released bool     `json:"slot_released"`     // the account got its slot back
}

// Terminate terminates the instance's machines, waits until they are gone, and records that in the log. If it is
// interrupted, call it again.
func (c *Force) Terminate(ctx context.Context, id string) (Forced, error) {
	done := Forced{Instance: id, Machines: []string{}}
	version, err := c.Store.Version(ctx, instances.Stream(id))
	if err != nil {
		return done, err
	}
	if version == 0 {
		return done, instance.ErrNotFound
	}
	if err := c.machines(ctx, &done); err != nil {
		return done, err
	}
	if done.Account, err = c.owner(ctx, id); err != nil {
		return done, err
	}
	_, err = eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator, CorrelationID: id}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		done.Already, done.Released = false, false
		// The version first: if the instance ends after this, the append conflicts and this runs again.
		if err := instances.LoadUnread(ctx, u, id); err != nil {
			return nil, err
		}
		if s, err := instances.Fold(ctx, c.Store, id); err == nil && s.Final() {
			done.Already = true
			return nil, nil
		}
		if err := c.release(ctx, u, &done); err != nil {
			return nil, err
		}
		return nil, instances.Emit(u, id, instance.Terminated{By: instance.ByOperator, Account: done.Account})
	})
	if err != nil {
		return done, fmt.Errorf("record the termination: %w", err)
	}
	return done, nil
}

// release releases the account's slot and the fleet's room. If the quota cannot be read either, the instance must still
// end.
func (c *Force) release(ctx context.Context, u *eventstore.Unit, done *Forced) error {
	if done.Account == "" {
		return nil
	}
	before, err := quotas.Load(ctx, u, done.Account)
	if err != nil {
		return ctx.Err()
	}
	after, err := quotas.Execute(ctx, u, done.Account, quota.Release{Instance: done.Instance})
	if err != nil || after.Held() == before.Held() {
		return err
	}
	done.Released = true
	return c.Fleet.remove(ctx, u, done.Instance)
}

// machines terminates the instance's machines and waits until they are gone.
func (c *Force) machines(ctx context.Context, done *Forced) error {
	list, err := c.Cloud.List(ctx)
	if err != nil {
		return fmt.Errorf("list the cloud's machines: %w", err)
	}
	for _, m := range list {
		switch {
		case m.Instance != done.Instance || m.Seen == instance.SeenGone:
		case m.Token != machines.ClientToken(m.Instance, m.Attempt):
			done.Foreign = append(done.Foreign, m.ID)
		default:
			done.Machines = append(done.Machines, m.ID)
		}
	}
	if err := c.takenOver(ctx, done); err != nil {
		return err
	}
	return endMachines(ctx, c.Cloud, done.Machines, c.Every)
}

// endMachines terminates machines and waits until they are gone, checking every second or as often as told.
func endMachines(ctx context.Context, cloud machines.Inventory, ids []string, every time.Duration) error {
	for _, id := range ids {
		if err := cloud.Terminate(ctx, id); err != nil {
			return fmt.Errorf("terminate machine %s: %w", id, err)
		}
	}
	for len(ids) > 0 {
		left, err := cloud.Describe(ctx, ids)
		if err != nil {
			return fmt.Errorf("describe machines: %w", err)
		}
		alive := 0
		for _, m := range left {
			if m.Seen != instance.SeenGone {
				alive++
			}
		}
		if alive == 0 {
			break
		}
		if err := retry.Sleep(ctx, cmp.Or(every, time.Second)); err != nil {
			return fmt.Errorf("%d machines are still terminating; run this again: %w", alive, err)
		}
	}
	return nil
}

// takenOver adds the machine that the instance was taken over with, which has no tags of ours. If the event that
// names it cannot be read, the machine stays.
func (c *Force) takenOver(ctx context.Context, done *Forced) error {
	first, err := c.first(ctx, done.Instance)
	took, ok := first.(instance.TakenOver)
	switch {
	case err != nil || !ok:
		return err
	case took.Region != c.Cloud.Region():
		return fmt.Errorf("machine %s of instance %s is in %s, and this server is in %s; run this there", took.Machine, done.Instance, took.Region, c.Cloud.Region())
	}
	list, err := c.Cloud.Describe(ctx, []string{took.Machine})
	if err != nil {
		return fmt.Errorf("describe machine %s: %w", took.Machine, err)
	}
	for _, m := range list {
		if m.Seen != instance.SeenGone {
			done.Machines = append(done.Machines, m.ID)
		}
	}
	return nil
}

// first returns the instance's first event, nil if it cannot be read.
func (c *Force) first(ctx context.Context, id string) (instance.Event, error) {
	for e, err := range c.Store.ReadStream(ctx, instances.Stream(id), 0) {
		if err != nil || e.Damage != nil {
			break
		}
		if ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data); err == nil {
			return ev, nil
		}
		break
	}
	return nil, ctx.Err()
}

// owner returns the instance's account: from the read models, else from the first event, else that event's actor.
func (c *Force) owner(ctx context.Context, id string) (string, error) {
	acc, err := c.Owner(ctx, id)
	if err != nil || acc != "" {
		return acc, err
	}
	for e, err := range c.Store.ReadStream(ctx, instances.Stream(id), 0) {
		if err != nil {
			break // it is damaged
		}
		if ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data); err == nil {
			switch ev := ev.(type) {
			case instance.Requested:
				return ev.Account, nil
			case instance.TakenOver:
				return ev.Account, nil
			}
		}
		if e.Meta.Actor != System && e.Meta.Actor != Operator {
			return e.Meta.Actor, nil
		}
		break
	}
	return "", ctx.Err()
}

// Ask requests an instance's termination as its owner would; the saga carries it out.
func (c *Force) Ask(ctx context.Context, id string) (instance.Status, error) {
	var s instance.State
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator, CorrelationID: id}), func(u *eventstore.Unit) (_ *eventstore.Receipt, err error) {
		if s, err = instances.Load(ctx, u, id); err != nil {
			return nil, err
		}
		s, err = c.executeInstance(ctx, u, id, s, instance.Terminate{At: c.Now()})
		return nil, err
	})
	return s.Status, err
}
