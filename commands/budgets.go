package commands

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Budgets are the users' commands about what their desktops may cost, and the enforcement of budgets: see Check.
//
// What is spent comes from the read models, which do not show yet that a desktop stopped or started a moment ago. Budgets are
// therefore compared only once the read models have reached the end of the log.
type Budgets struct {
	Log
	Prices *usage.Prices
	Books  Books
	Logger *slog.Logger

	// TotalEvery is how often Check adds up what all accounts spend, if there is a ceiling [5 min].
	TotalEvery time.Duration

	// Patience is how long Check and Set wait for the read models [10 s, and at most 2 s for Set].
	Patience time.Duration

	totalled total
}

// ErrBehind refuses to change a budget while the read models are behind.
var ErrBehind = &domain.Error{Kind: domain.Unavailable, Code: "behind", Msg: "The latest changes are not visible yet; try again."}

// Books are the read models that budgets are compared with.
type Books interface {
	// Position returns how far the read models have followed the log.
	Position() int64
	// Spent returns what accounts used since a time.
	Spent(ctx context.Context, since time.Time, accounts ...string) (usage.Usage, error)
	// Budgeted returns accounts with a limit whose ids are above after, by their ids.
	Budgeted(ctx context.Context, after string, limit int) ([]Budgeted, error)
	// Desktops returns the accounts' desktops that have not ended, and those of ids, also if they have.
	Desktops(ctx context.Context, accounts, ids []string) ([]Desktop, error)
	// Everyone returns accounts whose ids are above after, by their ids.
	Everyone(ctx context.Context, after string, limit int) ([]string, error)
}

// Budgeted is an account with its budgets.
type Budgeted struct {
	Account string
	State   budget.State
}

// Desktop is how a desktop is.
type Desktop struct {
	Account, Instance string
	Status            instance.Status
}

// BudgetSet is the answer of Set.
type BudgetSet struct {
	Scope string `json:"scope"`
	Day   int64  `json:"day_micros"`
	Month int64  `json:"month_micros"`
}

// Set sets both limits of a scope, in micro-dollars; 0: none. The scope is budget.Account or the id of one of the account's
// desktops. A limit below what is spent is reached immediately; the next Check stops the desktops.
func (c *Budgets) Set(ctx context.Context, o Origin, scope string, day, month int64) (Outcome[BudgetSet], error) {
	if err := c.fresh(ctx, min(2*time.Second, c.patience())); err != nil {
		return Outcome[BudgetSet]{}, err
	}
	at := c.Now()
	spent, err := c.spent(ctx, at, o.Account)
	if err != nil {
		return Outcome[BudgetSet]{}, err
	}
	set := budget.SetLimits{Scope: scope, Day: day, Month: month, Spent: spent[o.Account][scope], At: at}
	return once(ctx, c.Log, o, []any{"set budget", scope, day, month}, func(u *eventstore.Unit) (BudgetSet, error) {
		if scope != budget.Account {
			s, err := instances.Load(ctx, u, scope)
			switch {
			case err != nil:
				return BudgetSet{}, err
			case s.Account != o.Account:
				return BudgetSet{}, instance.ErrNotFound // another account's instance is not visible
			case s.Final() && day+month > 0:
				return BudgetSet{}, instance.ErrGone
			}
		}
		_, err := budgets.Execute(ctx, u, o.Account, set)
		return BudgetSet{scope, day, month}, err
	})
}

// Spending is an account's budgets and what it has spent.
type Spending struct {
	State               budget.State
	Spent               map[string]budget.Spent // by scope, also of desktops without a limit
	At                  time.Time
	InstallationReached bool
}

// Of returns an account's budgets, as the log has them, and what it has spent.
func (c *Budgets) Of(ctx context.Context, account string) (Spending, error) {
	s, err := budgets.Fold(ctx, c.Store, account)
	if err != nil {
		return Spending{}, err
	}
	now := Spending{State: s, At: c.Now()}
	spent, err := c.spent(ctx, now.At, account)
	if err != nil {
		return Spending{}, err
	}
	now.Spent = spent[account]
	if c.Ceiling > 0 {
		s, err := budgets.Fold(ctx, c.Store, budget.InstallationStream)
		if err != nil {
			return Spending{}, err
		}
		now.InstallationReached = s[budget.Installation].Month.Holds(budget.Month, now.At)
	}
	return now, nil
}

func (c *Budgets) patience() time.Duration { return cmp.Or(c.Patience, 10*time.Second) }

// fresh waits until the read models have reached what is now the end of the log. It returns ErrBehind if that takes too long.
func (c *Budgets) fresh(ctx context.Context, patience time.Duration) error {
	return c.followed(ctx, c.Books.Position, patience)
}

// followed waits until read models have reached what is now the end of the log. It returns ErrBehind if that takes too long.
func (l Log) followed(ctx context.Context, position func() int64, patience time.Duration) error {
	head, err := l.Store.Head(ctx)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for position() < head {
		if retry.Sleep(wait, 50*time.Millisecond) != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrBehind
		}
	}
	return nil
}

// spent returns what accounts have spent in the current day and month: by account and by scope.
func (c *Budgets) spent(ctx context.Context, at time.Time, accounts ...string) (map[string]map[string]budget.Spent, error) {
	used, err := c.Books.Spent(ctx, usage.Month(at), accounts...)
	if err != nil {
		return nil, err
	}
	today, sums := usage.Day(at), make(map[string]map[string]budget.Spent, len(accounts))
	for _, row := range c.Prices.Charge(used, usage.Month(at), usage.Day(at).AddDate(0, 0, 1), at) {
		of := sums[row.Account]
		if of == nil {
			of = map[string]budget.Spent{}
			sums[row.Account] = of
		}
		for _, scope := range []string{budget.Account, row.Instance} {
			sum := of[scope]
			if sum.Month += row.Micros; row.Day.Equal(today) {
				sum.Day += row.Micros
			}
			of[scope] = sum
		}
	}
	return sums, nil
}

// MayStart returns a *domain.Error if a budget forbids to start a desktop, or to create one (""), or another error if that is
// not known.
func (c *Budgets) MayStart(ctx context.Context, account, instanceID string) error {
	s, err := budgets.Fold(ctx, c.Store, account)
	if err != nil {
		return err
	}
	_, err = budget.Decide(s, budget.Admit{Instance: instanceID, At: c.Now()})
	return err
}

// admit refuses to start a desktop, or to create one (""), if a budget is used up. It reads the budgets in the unit that
// decides about the desktop. A budget that is used up at the same moment counts from then on: Check stops the desktop as soon
// as it runs.
func (l Log) admit(ctx context.Context, u *eventstore.Unit, account, instanceID string) error {
	if _, err := budgets.Execute(ctx, u, account, budget.Admit{Instance: instanceID, At: l.Now()}); err != nil {
		return err
	}
	if l.Ceiling == 0 || instanceID != "" {
		return nil
	}
	_, err := budgets.Execute(ctx, u, budget.InstallationStream, budget.Admit{At: l.Now()})
	return err
}
