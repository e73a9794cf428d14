package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Suspensions are the operator's commands about an account's suspension, and their enforcement.
//
// The one event is the suspension: fronts refuse the account from there on. What the account still has
// is taken away afterwards, and again by Run for as long as there is something: a session that began
// at the same moment, a machine that was still coming up.
type Suspensions struct {
	Log
	// Leftovers calls do for each live session and each running instance of suspended accounts, of one
	// account or, with "", of all, as far as the read models know.
	Leftovers func(ctx context.Context, account string, do func(account, session, instance string) error) error
	Logger    *slog.Logger
	Every     time.Duration // between two looks of Run [5 s]
}

// Suspend locks an account. What it has is for Enforce.
func (c *Suspensions) Suspend(ctx context.Context, id, reason string) error {
	return c.decide(ctx, id, account.Suspend{Reason: clip(reason, 200)})
}

// Resume lets an account log in again. Its machines stay stopped.
func (c *Suspensions) Resume(ctx context.Context, id string) error {
	return c.decide(ctx, id, account.Resume{})
}

func (c *Suspensions) decide(ctx context.Context, id string, cmd account.Command) error {
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := accounts.Execute(ctx, u, id, cmd)
		return nil, err
	})
	return err
}

// Enforced is what Enforce did.
type Enforced struct {
	Sessions int `json:"sessions_ended"`
	Machines int `json:"machines_stopped"`
}

// Enforce ends the sessions and stops the machines of suspended accounts, of one account or, with "",
// of all. Doing it again goes on where it ended.
func (c *Suspensions) Enforce(ctx context.Context, id string) (done Enforced, err error) {
	var failed error
	err = c.Leftovers(ctx, id, func(acc, sessionID, instanceID string) error {
		changed, err := false, error(nil)
		if sessionID != "" {
			if changed, err = c.end(ctx, acc, sessionID); changed {
				done.Sessions++
			}
		} else if changed, err = c.stop(ctx, acc, instanceID); changed {
			done.Machines++
		}
		failed = errors.Join(failed, err) // one that cannot be read must not keep the others from their end
		return ctx.Err()
	})
	return done, errors.Join(err, failed)
}

func (c *Suspensions) end(ctx context.Context, acc, id string) (bool, error) {
	changed, err := c.whileSuspended(ctx, acc, func(u *eventstore.Unit) error {
		_, err := sessions.Execute(ctx, u, id, session.End{Reason: session.Suspended})
		return err
	})
	if err != nil {
		err = fmt.Errorf("end session %s: %w", id, err)
	}
	return changed, err
}

func (c *Suspensions) stop(ctx context.Context, acc, id string) (bool, error) {
	changed, err := c.whileSuspended(ctx, acc, func(u *eventstore.Unit) error {
		s, err := instances.Load(ctx, u, id)
		if err != nil || s.Account != acc || s.Status != instance.Running {
			return err // the read model is behind
		}
		_, err = c.executeInstance(ctx, u, id, s, instance.Stop{At: c.Now()})
		return err
	})
	if err != nil {
		err = fmt.Errorf("stop instance %s: %w", id, err)
	}
	return changed, err
}

// whileSuspended decides something for an account that the log itself says is suspended: the read
// model may not know yet that it was resumed.
func (c *Suspensions) whileSuspended(ctx context.Context, acc string, do func(*eventstore.Unit) error) (changed bool, err error) {
	res, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := accounts.Load(ctx, u, acc)
		if err != nil || !s.Suspended {
			return nil, err
		}
		return nil, do(u)
	})
	return res.Last > 0, err
}

// Run enforces suspensions until ctx ends.
func (c *Suspensions) Run(ctx context.Context) error {
	for {
		done, err := c.Enforce(ctx, "")
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			c.Logger.WarnContext(ctx, "suspension enforcement failed, will retry", "err", err)
		case done != Enforced{}:
			c.Logger.InfoContext(ctx, "suspensions enforced", "sessions", done.Sessions, "machines", done.Machines)
		}
		if retry.Sleep(ctx, cmp.Or(c.Every, 5*time.Second)) != nil {
			return nil
		}
	}
}
