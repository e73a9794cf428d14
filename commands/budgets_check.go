package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// budgetPage is how many accounts are compared at a time, which bounds the memory that their usage takes.
const budgetPage = 200

// Check compares all budgets with what is spent. It warns of those that are used to 50 and 80 percent, and stops the running
// desktops of those that are used up. A desktop that is still starting is stopped by the first Check that finds it running.
//
// A repeated call continues where the last one ended, and several calls at once do no harm. An account that cannot be checked
// does not keep the others from it.
func (c *Budgets) Check(ctx context.Context) error {
	if err := c.fresh(ctx, c.patience()); err != nil {
		return fmt.Errorf("check budgets: %w", err)
	}
	failed := c.checkTotal(ctx)
	for after := ""; ; {
		page, err := c.Books.Budgeted(ctx, after, budgetPage)
		if err != nil {
			return errors.Join(failed, err)
		}
		if len(page) > 0 {
			after = page[len(page)-1].Account
			failed = errors.Join(failed, c.checkPage(ctx, page))
		}
		if len(page) < budgetPage || ctx.Err() != nil {
			return failed
		}
	}
}

func (c *Budgets) checkPage(ctx context.Context, page []Budgeted) error {
	at := c.Now()
	accounts, ids := make([]string, len(page)), []string(nil)
	for n, of := range page {
		accounts[n] = of.Account
		for scope := range of.State {
			if scope != budget.Account {
				ids = append(ids, scope)
			}
		}
	}
	spent, err := c.spent(ctx, at, accounts...)
	if err != nil {
		return err
	}
	list, err := c.Books.Desktops(ctx, accounts, ids)
	if err != nil {
		return err
	}
	desktops := map[string][]Desktop{}
	for _, d := range list {
		desktops[d.Account] = append(desktops[d.Account], d)
	}
	var failed error
	for _, of := range page {
		if err := c.check(ctx, of, budget.Assess{Spent: spent[of.Account], At: at}, desktops[of.Account]); err != nil {
			failed = errors.Join(failed, fmt.Errorf("check the budgets of account %s: %w", of.Account, err))
		}
	}
	return failed
}

// check compares one account's budgets. The read model's state says whether there is anything to do; the log's state decides.
func (c *Budgets) check(ctx context.Context, of Budgeted, assess budget.Assess, desktops []Desktop) error {
	state, err := c.execute(ctx, of.Account, of.State, assess)
	if err != nil {
		return err
	}
	var failed error
	for _, d := range desktops {
		switch _, limited := state[d.Instance]; {
		case limited && final(d.Status):
			_, err = c.execute(ctx, of.Account, state, budget.EndScope{Scope: d.Instance})
		case d.Status == instance.Running && state.Why(d.Instance, assess.At) != "":
			err = c.stop(ctx, of.Account, d.Instance)
		}
		failed, err = errors.Join(failed, err), nil
	}
	return failed
}

func final(s instance.Status) bool {
	return s == instance.StatusTerminated || s == instance.StatusFailed
}

// execute executes a command that is due in a state that may be out of date. It returns the state after it.
func (c *Budgets) execute(ctx context.Context, id string, seen budget.State, cmd budget.Command) (budget.State, error) {
	if due, err := budget.Decide(seen, cmd); err != nil || len(due) == 0 {
		return seen, err
	}
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{}), func(u *eventstore.Unit) (_ *eventstore.Receipt, err error) {
		seen, err = budgets.Execute(ctx, u, id, cmd)
		return nil, err
	})
	return seen, err
}

// stop stops a desktop whose budget is used up, if it still is: its user may have raised it.
func (c *Budgets) stop(ctx context.Context, account, id string) error {
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{CorrelationID: id}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		at := c.Now()
		state, err := budgets.Load(ctx, u, account)
		if err != nil {
			return nil, err
		}
		why := state.Why(id, at)
		if why == "" {
			return nil, nil
		}
		s, err := instances.Load(ctx, u, id)
		if err != nil || s.Account != account || s.Status != instance.Running {
			return nil, err // the read model is out of date
		}
		_, err = c.executeInstance(ctx, u, id, s, instance.StopBecause{At: at, Cause: instance.CauseBudget, Why: why})
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("stop instance %s: %w", id, err)
	}
	return nil
}

// total remembers when all accounts were last added up.
type total struct {
	mu sync.Mutex
	at time.Time
}

// due reports whether an interval has passed since the last time that it did.
func (t *total) due(now time.Time, every time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.at.IsZero() && now.Before(t.at.Add(every)) && !now.Before(t.at) && usage.Month(now).Equal(usage.Month(t.at)) {
		return false
	}
	t.at = now
	return true
}

// forget makes the total due again: it could not be compared.
func (t *total) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = time.Time{}
}

// checkTotal compares the operator's ceiling with what all accounts spend, and tells the operator by the server's log.
func (c *Budgets) checkTotal(ctx context.Context) error {
	at := c.Now()
	seen, err := budgets.Fold(ctx, c.Store, budget.InstallationStream)
	if err != nil {
		return fmt.Errorf("check the server's budget: %w", err)
	}
	set := budget.SetLimits{Scope: budget.Installation, Month: c.Ceiling, At: at}
	if c.Ceiling > 0 {
		if !c.totalled.due(at, cmp.Or(c.TotalEvery, 5*time.Minute)) {
			return nil
		}
		if set.Spent.Month, err = c.spentByAll(ctx, at); err != nil {
			c.totalled.forget()
			return fmt.Errorf("add up what all accounts spend: %w", err)
		}
	}
	before := seen[budget.Installation].Month
	after, err := c.execute(ctx, budget.InstallationStream, seen, set)
	if err != nil {
		c.totalled.forget()
		return fmt.Errorf("check the server's budget: %w", err)
	}
	switch now := after[budget.Installation].Month; {
	case now.Reached && !before.Reached:
		c.Logger.WarnContext(ctx, "installation budget reached, creating desktops refused", "month", now.Of, "budget", budget.Dollars(now.Micros), "spent", budget.Dollars(set.Spent.Month))
	case now.Percent > before.Percent || now.Percent > 0 && now.Of != before.Of:
		c.Logger.WarnContext(ctx, "installation budget partly used", "month", now.Of, "budget", budget.Dollars(now.Micros), "spent", budget.Dollars(set.Spent.Month), "percent", now.Percent)
	}
	return nil
}

// spentByAll returns what all accounts have spent in the current month, without the costs of models. Those are what machines
// say themselves: a hostile one could keep all accounts from creating desktops.
func (c *Budgets) spentByAll(ctx context.Context, at time.Time) (sum int64, err error) {
	for after := ""; ; {
		page, err := c.Books.Everyone(ctx, after, budgetPage)
		if err != nil {
			return 0, err
		}
		if len(page) == 0 {
			return sum, nil
		}
		after = page[len(page)-1]
		used, err := c.Books.Spent(ctx, usage.Month(at), page...)
		if err != nil {
			return 0, err
		}
		used.Models = nil
		sum += usage.Micros(c.Prices.Charge(used, usage.Month(at), usage.Day(at).AddDate(0, 0, 1), at))
	}
}
