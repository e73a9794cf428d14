package commands

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Plans are the operator's commands about accounts' plans, and their enforcement.
type Plans struct {
	Log
	Books Customers
	// Running calls do for each running desktop of all accounts, with its type, as the read models show them. It ends with the
	// first error of do.
	Running func(ctx context.Context, do func(account, instance, machineType string) error) error
	Logger  *slog.Logger
	// Payments asks Stripe before the time for a payment is over. Nil: Stripe is not asked.
	Payments *Payments
}

// Grant gives an account a plan until a time, or with the zero time, until it is withdrawn. It replaces the plan that was
// granted before, and counts beside a subscription. The owner sees the reason.
func (c *Plans) Grant(ctx context.Context, account string, plan billing.Plan, until time.Time, reason string) (billing.State, error) {
	return c.decide(ctx, account, billing.GrantPlan{Plan: plan, Until: until, Reason: clip(reason, 200), At: c.Now(), Terms: c.Terms})
}

// Withdraw ends an account's granted plan. Running desktops go on for Terms.Notice, unless a subscription allows them.
func (c *Plans) Withdraw(ctx context.Context, account string) (billing.State, error) {
	return c.decide(ctx, account, billing.WithdrawPlan{At: c.Now(), Terms: c.Terms})
}

func (c *Plans) decide(ctx context.Context, id string, cmd billing.Command) (s billing.State, err error) {
	_, err = eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		acc, err := accounts.Load(ctx, u, id)
		if err != nil {
			return nil, err
		}
		if !acc.Exists() {
			return nil, account.ErrNotFound
		}
		before, err := billings.Load(ctx, u, id)
		if err != nil {
			return nil, err
		}
		s, err = executeBilling(ctx, u, id, before, cmd)
		return nil, err
	})
	return s, err
}

// plansEnforced counts what Enforce did.
type plansEnforced struct{ changed, stopped int }

// Enforce records which plans and grace periods have ended by now, and stops the running desktops that no plan allows any
// longer. It does nothing where plans are not required. A desktop that is still starting is stopped by the first Enforce that
// finds it running. A repeated call continues where the last one ended, and several calls at once do no harm. An account that
// cannot be read does not keep the others from it.
func (c *Plans) Enforce(ctx context.Context) error {
	if !c.Plans {
		return nil
	}
	var done plansEnforced
	failed := c.assessAll(ctx, &done)
	err := c.Running(ctx, func(account, id, machineType string) error {
		if err := c.enforce(ctx, account, id, machineType, &done); err != nil {
			failed = joined(failed, fmt.Errorf("enforce the plan of account %s: %w", account, err))
		}
		return ctx.Err()
	})
	if done != (plansEnforced{}) {
		c.Logger.InfoContext(ctx, "plans enforced", "accounts_changed", done.changed, "desktops_stopped", done.stopped)
	}
	return joined(failed, err)
}

// plansPage is how many accounts are assessed at a time.
const plansPage = 500

// assessAll assesses the accounts whose state in the read models says that something has changed by now.
func (c *Plans) assessAll(ctx context.Context, done *plansEnforced) (failed error) {
	asking, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	stripe := asker{c.Payments, asking}
	for after := ""; ; {
		page, err := c.Books.Billed(ctx, after, plansPage)
		if err != nil {
			return joined(failed, err)
		}
		for _, of := range page {
			after = of.Account
			due, err := billing.Decide(of.State, billing.Assess{At: c.Now(), Terms: c.Terms})
			if err != nil || len(due) == 0 {
				failed = joined(failed, err)
				continue
			}
			switch asked, err := stripe.askFirst(of, due); {
			case err != nil:
				failed = joined(failed, err)
				continue
			case asked:
				done.changed++
				continue
			}
			if err := c.assessOne(ctx, of.Account, done); err != nil {
				failed = joined(failed, fmt.Errorf("assess the plan of account %s: %w", of.Account, err))
			}
		}
		if len(page) < plansPage || ctx.Err() != nil {
			return failed
		}
	}
}

func (c *Plans) assessOne(ctx context.Context, account string, done *plansEnforced) error {
	res, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := c.assess(ctx, u, account)
		return nil, err
	})
	if res.Last > 0 {
		done.changed++
	}
	return err
}

// enforce stops a desktop that its account's plan does not allow. An account without a record has its time from now on.
func (c *Plans) enforce(ctx context.Context, account, id, machineType string, done *plansEnforced) error {
	q, err := quotas.Fold(ctx, c.Store, account)
	if err != nil {
		return err
	}
	switch access := q.Plan(); {
	case access.Level == "":
		return c.assessOne(ctx, account, done)
	case access.MustStop(machineType, q.Beyond(id), c.Now()) == "":
		return nil
	}
	stops := false
	_, err = eventstore.Run(ctx, c.Store, c.stamp(Origin{CorrelationID: id}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		stops = false
		q, err := c.assess(ctx, u, account)
		if err != nil {
			return nil, err
		}
		s, err := instances.Load(ctx, u, id)
		if err != nil || s.Account != account || s.Status != instance.Running {
			return nil, err // the read model is out of date
		}
		now := c.Now()
		why := q.Plan().MustStop(planType(s), q.Beyond(id), now)
		if stops = why != ""; !stops {
			return nil, nil
		}
		_, err = c.executeInstance(ctx, u, id, s, instance.StopBecause{At: now, Cause: instance.CausePlan, Why: why})
		return nil, err
	})
	if stops && err == nil {
		done.stopped++
	}
	return err
}
