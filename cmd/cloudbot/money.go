package main

import (
	"context"
	"fmt"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/projections"
)

// checkMoney returns why the settings about money cannot work.
func (c config) checkMoney() error {
	if micros, err := budget.ParseDollars(c.MonthTotal); c.MonthTotal != "" && (err != nil || micros == 0) {
		return fmt.Errorf("BUDGET_MONTH_TOTAL is %q; use an amount of dollars above 0 such as 500 or 499.50, or leave it empty for no limit", c.MonthTotal)
	}
	if _, err := usage.Load(c.PricesFile); err != nil {
		return fmt.Errorf("PRICES_FILE: %w; `cloudbot prices --check FILE` checks a file", err)
	}
	return nil
}

// ceiling is what all accounts may spend in a month, in micro-dollars; 0: no limit.
func (c config) ceiling() int64 {
	micros, _ := budget.ParseDollars(c.MonthTotal) // checkMoney
	return micros
}

// diskGiB is the size of a new desktop's disk. A desktop on this computer has none of its own.
func (c config) diskGiB() int {
	if c.LocalDevMode {
		return 0
	}
	return c.EC2.VolumeGiB
}

// books are the read models as commands.Budgets reads them.
type books struct{ *projections.Reader }

func (b books) Position() int64 { return b.Progress.Position() }

func (b books) Budgeted(ctx context.Context, after string, limit int) ([]commands.Budgeted, error) {
	found, err := b.Budgets(ctx, after, limit)
	list := make([]commands.Budgeted, len(found))
	for i, f := range found {
		list[i] = commands.Budgeted(f)
	}
	return list, err
}

func (b books) Desktops(ctx context.Context, accounts, ids []string) ([]commands.Desktop, error) {
	found, err := b.Statuses(ctx, accounts, ids)
	list := make([]commands.Desktop, len(found))
	for i, f := range found {
		list[i] = commands.Desktop(f)
	}
	return list, err
}

func (b books) Everyone(ctx context.Context, after string, limit int) ([]string, error) {
	return b.AccountIDs(ctx, after, limit)
}
