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

// Suspensions are the operator's commands to suspend and resume accounts, and the enforcement of suspensions.
//
// After the event of the suspension, fronts refuse the account. Its sessions are ended and its machines are stopped
// afterwards. Run repeats that while any are left, such as a session that began at the same time, or a machine that was
// still starting.
type Suspensions struct {
	Log
	// Leftovers calls do for each live session and each running instance of a suspended account, or of all suspended
	// accounts with "". It reads them from the read models.
	Leftovers func(ctx context.Context, account string, do func(account, session, instance string) error) error
	Logger    *slog.Logger
	Every     time.Duration // between two checks of Run [5 s]
}

// Suspend suspends an account. Enforce ends its sessions and stops its machines.
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

// Enforced is the result of Enforce.
type Enforced struct {
	Sessions int `json:"sessions_ended"`
	Machines int `json:"machines_stopped"`
}

// Enforce ends the sessions and stops the machines of one suspended account, or of all with "". A repeated call
// continues where the last one ended.
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
		failed = errors.Join(failed, err) // one unreadable stream must not block the others
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
			return err // the read model is out of date
		}
		_, err = c.executeInstance(ctx, u, id, s, instance.Stop{At: c.Now()})
		return err
	})
	if err != nil {
		err = fmt.Errorf("stop instance %s: %w", id, err)
	}
	return changed, err
}

// whileSuspended calls do only if the log itself has the account suspended: the read model may not know yet that it was
// resumed.
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
