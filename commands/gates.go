package commands

import (
	"context"
	"errors"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// assess records what follows from the time for an account's plan, in the unit that is going to decide by it. So a plan ends on
// time although the role that looks for ended plans may be late. It returns the account's quota with what the plan allows.
//
// Each later change of that is written to the account's quota, which creates and starts write to as well. So a decision by an
// earlier plan is refused and made again.
func (l Log) assess(ctx context.Context, u *eventstore.Unit, account string) (quota.State, error) {
	before, err := billings.Load(ctx, u, account)
	if err != nil {
		return quota.State{}, err
	}
	s, err := billings.Execute(ctx, u, account, billing.Assess{At: l.Now(), Terms: l.Terms})
	switch {
	case err != nil:
		return quota.State{}, err
	case s.Access.Same(before.Access):
		return quotas.Load(ctx, u, account) // it may be newer than what was read above: only a change is written to it
	}
	return quotas.Execute(ctx, u, account, quota.SetAllowance{Access: s.Access})
}

// admitByPlan refuses to start a desktop that the account's plan does not allow. s is its state after the start.
func (l Log) admitByPlan(ctx context.Context, u *eventstore.Unit, s instance.State, id string) error {
	if !l.Plans {
		return nil
	}
	if _, err := l.assess(ctx, u, s.Account); err != nil {
		return err
	}
	_, err := quotas.Execute(ctx, u, s.Account, quota.AdmitStart{Instance: id, Type: planType(s)})
	return err
}

// admitLaunch returns the command that launches an accepted desktop, or if its account's plan has ended since, the one that gives
// the launch up.
func (l Log) admitLaunch(ctx context.Context, u *eventstore.Unit, account, id string, launch instance.Attempt) (instance.Command, error) {
	if !l.Plans {
		return launch, nil
	}
	if _, err := l.assess(ctx, u, account); err != nil {
		return nil, err
	}
	_, err := quotas.Execute(ctx, u, account, quota.AdmitLaunch{Instance: id})
	var refused *domain.Error
	if errors.As(err, &refused) {
		return instance.Abandon{Code: refused.Code, Reason: refused.Msg}, nil
	}
	return launch, err
}

// planType returns the type by which plans are decided.
func planType(s instance.State) string {
	if s.Region == machines.Local { // older local machines have the name of an EC2 type
		return machines.Local
	}
	return s.Type
}

// machineTypeOf returns the type of an account's new desktop. With plans, one that is not named is the plan's.
func (c *Instances) machineTypeOf(ctx context.Context, u *eventstore.Unit, account, named string) (machines.MachineType, error) {
	if !c.Plans {
		return c.machineType(named)
	}
	q, err := c.assess(ctx, u, account)
	switch {
	case err != nil:
		return machines.MachineType{}, err
	case named != "":
		return c.machineType(named)
	}
	return c.DefaultType(q.Plan()), nil
}

// DefaultType returns the type of a new desktop for which none is named: the plan's, else one that the plan allows, else the
// server's.
func (c *Instances) DefaultType(access billing.Access) machines.MachineType {
	types := c.Cloud.Types()
	for _, t := range types {
		if t.ID == access.Plan.Offer().Type {
			return t
		}
	}
	for _, t := range types {
		if access.Allows(t.ID) {
			return t
		}
	}
	return types[0]
}
