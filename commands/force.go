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

// Force takes an instance down for an operator, past the saga and without reading the instance's own
// events: one of them may be damaged. Machines are found by their tags.
type Force struct {
	Log
	Cloud machines.Inventory
	// Owner returns whose instance it is as far as the read models know, "" where they do not.
	Owner func(ctx context.Context, instance string) (string, error)
	Every time.Duration // between two looks at machines that are going down [1 s]
}

// Forced is what Force did.
type Forced struct {
	Instance string   `json:"instance"`
	Account  string   `json:"account,omitempty"` // "": nothing says whose it was
	Machines []string `json:"machines"`          // taken down now
	Foreign  []string `json:"foreign,omitempty"` // tagged as the instance's, and not launched by us: left alone
	Already  bool     `json:"already"`           // the log said before that it is over
	Released bool     `json:"slot_released"`     // the account got its slot back
}

// Terminate takes down the instance's machines, waits until they are gone, and writes the operator's
// word into the log. Killed in between, it is to be called again.
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
		// The version first: what ends the instance after that is a conflict, and decided again.
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

// release gives the account its slot back, and the fleet its room. A quota that cannot be read either
// must not keep the instance from its end.
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

// machines takes down what the cloud holds for the instance, and waits until it is gone.
func (c *Force) machines(ctx context.Context, done *Forced) error {
	list, err := c.Cloud.List(ctx)
	if err != nil {
		return fmt.Errorf("list the cloud: %w", err)
	}
	for _, m := range list {
		switch {
		case m.Instance != done.Instance || m.Seen == instance.SeenGone:
		case m.Token != machines.ClientToken(m.Instance, m.Attempt):
			done.Foreign = append(done.Foreign, m.ID)
		default:
			if err := c.Cloud.Terminate(ctx, m.ID); err != nil {
				return fmt.Errorf("terminate machine %s: %w", m.ID, err)
			}
			done.Machines = append(done.Machines, m.ID)
		}
	}
	for len(done.Machines) > 0 {
		left, err := c.Cloud.Describe(ctx, done.Machines)
		if err != nil {
			return fmt.Errorf("look at machines: %w", err)
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
		if err := retry.Sleep(ctx, cmp.Or(c.Every, time.Second)); err != nil {
			return fmt.Errorf("%d machines are terminating and not gone yet; run this again: %w", alive, err)
		}
	}
	return nil
}

// owner finds whose instance it is: the read models say it, or the first event, or who wrote that.
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
			if r, ok := ev.(instance.Requested); ok {
				return r.Account, nil
			}
		}
		if e.Meta.Actor != System && e.Meta.Actor != Operator {
			return e.Meta.Actor, nil
		}
		break
	}
	return "", ctx.Err()
}

// Ask asks for an instance's termination as its owner would; the saga sees to it.
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
