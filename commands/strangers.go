package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Strangers adopts or removes machines that the log does not know, for an operator.
type Strangers struct {
	Log
	Vault  Vault
	Cloud  machines.Inventory
	Tokens machines.Enrolment
	Every  time.Duration // between two checks of a terminating machine [1 s]
}

// Adopt gives a machine to an account. Its instance gets the id of the machine's tags, so the guest on the machine can
// enrol with the token that it was launched with, within instance.EnrolWithin. The account's quota does not count.
func (c *Strangers) Adopt(ctx context.Context, m machines.Tagged, account, name string) (eventstore.Result, error) {
	if m.Instance == "" || m.Attempt == 0 || m.Token != machines.ClientToken(m.Instance, m.Attempt) {
		return eventstore.Result{}, errors.New("its tags do not name the instance that it was launched for, so it cannot be adopted; copy its files by hand")
	}
	if v, err := c.Store.Version(ctx, accounts.Stream(account)); err != nil || v == 0 {
		return eventstore.Result{}, cmp.Or(err, fmt.Errorf("the log has no account %s; its owner must sign up again, and --account names the new account", account))
	}
	sealed, err := c.Vault.Seal(ctx, account, NameLabel(m.Instance), []byte(name))
	if err != nil {
		return eventstore.Result{}, fmt.Errorf("seal name: %w", err)
	}
	adopt := instance.Adopt{Account: account, Name: sealed, Type: m.Type, Attempt: m.Attempt, Machine: m.ID, At: c.Now(), Spec: instance.Spec{
		ClientToken: m.Token, Type: m.Type, Region: c.Cloud.Region(), TokenKey: c.Tokens.CurrentKey(),
	}}
	res, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator, CorrelationID: m.Instance}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		before, err := instances.Load(ctx, u, m.Instance)
		if err != nil {
			return nil, err
		}
		if before.Exists() && before.Account != account {
			return nil, fmt.Errorf("instance %s of its tags belongs to account %s", m.Instance, before.Account)
		}
		if before.Exists() {
			_, err = instances.Execute(ctx, u, m.Instance, adopt)
			return nil, err
		}
		if _, err := quotas.Execute(ctx, u, account, quota.Take{Instance: m.Instance, Limit: math.MaxInt}); err != nil {
			return nil, err
		}
		_, err = instances.Execute(ctx, u, m.Instance, adopt)
		return nil, err
	})
	if errors.Is(err, instance.ErrExists) {
		return res, fmt.Errorf("instance %s of its tags has ended, or has another machine, so this one cannot be adopted; copy its files by hand (for example from a snapshot of its disk), then remove it", m.Instance)
	}
	return res, err
}

// Remove terminates a machine, and waits until it is gone. The log has the removal before the call.
func (c *Strangers) Remove(ctx context.Context, m machines.Tagged) error {
	removed := restore.Remove{Machine: m.ID, Instance: m.Instance, Account: m.Account}
	if _, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator, CorrelationID: m.ID}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := restores.Execute(ctx, u, restoresID, removed)
		return nil, err
	}); err != nil {
		return fmt.Errorf("record the removal: %w", err)
	}
	return endMachines(ctx, c.Cloud, []string{m.ID}, c.Every)
}
