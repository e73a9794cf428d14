// Package keeper stops desktops that their idle policy says are no longer used, warns their users before, and starts
// desktops for the jobs of their agents' schedules.
//
// The one thing to know: it stores nothing. Its lists come from read models and may be out of date; before it stops or
// starts a desktop it reads the desktop's use and its stream again. Several keepers, or one that was paused, do no harm.
package keeper

import (
	"context"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Desk is a running desktop as the read models show it.
type Desk struct {
	ID       string
	State    instance.State // only what belongs to its idle stop
	Account  *idle.Policy   // its account's own policy; nil: none
	Activity commands.Activity
}

// Wake is a stopped desktop that is to be started for a job.
type Wake struct {
	ID, Account string
	At, Job     time.Time
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
}
