// Package keeper stops desktops that their idle policy says are no longer used, warns their users before, and starts
// desktops for the jobs of their agents' schedules.
//
// The one thing to know: it stores nothing. Its lists come from read models and may be out of date; before it stops or
// starts a desktop it reads the desktop's use and its stream again. Several keepers, or one that was paused, do no harm.
package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Desk is a running desktop as the read models show it.
type Desk struct {
	ID       string
	State    instance.State // only what belongs to its idle stop
	Account  *idle.Policy   // its account's own policy; nil: none
	Activity commands.Activity
}

// Wake is a stopped desktop that is to be started for a job, at a time that has come.
type Wake struct {
	ID, Account string
	At          time.Time
}

// Desks lists desktops.
type Desks interface {
	commands.Activities
	// Running returns the running desktops of all accounts, and the time by the clock of their activities.
	Running(ctx context.Context) ([]Desk, time.Time, error)
	// Waking returns the stopped desktops that are to be started for a job by now.
	Waking(ctx context.Context) ([]Wake, error)
}

// Budgets limits what desktops cost. The keeper asks it, and commands/budgets.go implements it.
type Budgets interface {
	// Check warns of budgets, and stops the desktops of those that are used up. The keeper calls it every CheckEvery.
	Check(ctx context.Context) error
	// MayStart returns a *domain.Error if a budget forbids to start a desktop, or another error if that is not known.
	MayStart(ctx context.Context, account, instanceID string) error
}

// Keeper is the role; see Run.
type Keeper struct {
	commands.Log
	Desks   Desks
	Budgets Budgets // nil: no limits
	Logger  *slog.Logger

	Every      time.Duration // between two looks at all running desktops [5 s]
	CheckEvery time.Duration // between two checks of the budgets [1 min]

	refused map[string]time.Time // desktops that may not be started for a job, with when to ask again
}

// retryRefused is how long a start for a job waits that was refused.
const retryRefused = time.Minute

// Run keeps desktops until ctx ends. A failed look is repeated with the next one.
func (k *Keeper) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error {
		return k.each(ctx, cmp.Or(k.Every, 5*time.Second), "look at running desktops failed, will retry", k.Look)
	}))
	if k.Budgets != nil {
		g.Go(crash.Guard(func() error {
			return k.each(ctx, cmp.Or(k.CheckEvery, time.Minute), "budget check failed, will retry", k.Budgets.Check)
		}))
	}
	return g.Wait()
}

func (k *Keeper) each(ctx context.Context, every time.Duration, failed string, do func(context.Context) error) error {
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			k.Logger.WarnContext(ctx, failed, "err", err)
		}
		if retry.Sleep(ctx, every) != nil {
			return nil
		}
	}
}

// Look looks once at all desktops. An error about one of them does not keep it from the others.
func (k *Keeper) Look(ctx context.Context) error {
	desks, now, err := k.Desks.Running(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, d := range desks {
		policy := commands.EffectivePolicy(d.State, d.Account)
		if idle.Decide(policy, commands.UseOf(d.State, d.Activity, now)).Do == idle.Keep {
			continue
		}
		failed = errors.Join(failed, k.keep(ctx, d.ID))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(failed, k.start(ctx))
}

// keep decides again about one desktop, by what the log and the database say now.
func (k *Keeper) keep(ctx context.Context, id string) error {
	v, err := k.KeepIdle(ctx, id, k.Desks.Activity)
	if err != nil {
		return fmt.Errorf("desktop %s: %w", id, err)
	}
	switch v.Do {
	case idle.Stop:
		k.Logger.InfoContext(ctx, "desktop stopped by its idle policy", "instance", id, "cause", v.Cause)
	case idle.Warn:
		k.Logger.DebugContext(ctx, "idle warning given", "instance", id, "cause", v.Cause, "stop_at", v.StopAt)
	}
	return nil
}

// start starts the desktops that are to be started for a job by now.
func (k *Keeper) start(ctx context.Context) error {
	waking, err := k.Desks.Waking(ctx)
	if err != nil {
		return err
	}
	refused := map[string]time.Time{} // without those that no longer wait
	var failed error
	for _, w := range waking {
		if until := k.refused[w.ID]; time.Now().Before(until) {
			refused[w.ID] = until
			continue
		}
		switch started, err := k.startOne(ctx, w); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, new(*domain.Error)):
			k.Logger.InfoContext(ctx, "start for a job refused, will ask again", "instance", w.ID, "reason", err)
			refused[w.ID] = time.Now().Add(retryRefused)
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("desktop %s: %w", w.ID, err))
		case started:
			k.Logger.InfoContext(ctx, "desktop started for a job", "instance", w.ID)
		default: // the list was out of date, or its account is suspended
			refused[w.ID] = time.Now().Add(retryRefused)
		}
	}
	k.refused = refused
	return failed
}

func (k *Keeper) startOne(ctx context.Context, w Wake) (bool, error) {
	if k.Budgets != nil {
		if err := k.Budgets.MayStart(ctx, w.Account, w.ID); err != nil {
			return false, err
		}
	}
	return k.StartForJob(ctx, w.ID, w.At)
}
