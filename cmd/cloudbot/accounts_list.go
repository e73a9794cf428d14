package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/projections"
)

// accountView is an account as the command shows it.
type accountView struct {
	ID          string     `json:"id"`
	Email       string     `json:"email"` // "" if its data key is gone
	CreatedAt   time.Time  `json:"created_at"`
	State       string     `json:"state"` // active or suspended
	SuspendedAt *time.Time `json:"suspended_at,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Instances   int        `json:"instances"` // that have not ended
	Plan        string     `json:"plan"`      // "": none
}

func accountsListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all accounts, oldest first",
		Long:    "Lists all accounts with their e-mail addresses and their number of desktops that have\nnot ended, and their plans (docs/billing.md).",
		Example: "  cloudbot accounts list\n  cloudbot accounts list --json | jq '.accounts[] | select(.state == \"suspended\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				list, plans, err := o.accountsWithPlans(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]any{"accounts": list})
				}
				rows := [][]string{{"ACCOUNT", "E-MAIL", "CREATED", "STATE", "DESKTOPS", "PLAN"}}
				for _, a := range list {
					rows = append(rows, []string{a.ID, clip(a.Email, 40), a.CreatedAt.Format("2006-01-02 15:04"), a.State, fmt.Sprint(a.Instances), plans[a.ID]})
				}
				return table(cmd.OutOrStdout(), rows)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// accountsWithPlans is accounts with the plan of each in a few words, by the accounts' ids.
func (o *operator) accountsWithPlans(ctx context.Context) ([]accountView, map[string]string, error) {
	list, err := o.accounts(ctx)
	if err != nil {
		return nil, nil, err
	}
	words := map[string]string{}
	for page := range slices.Chunk(list, 500) {
		ids := make([]string, len(page))
		for i, a := range page {
			ids[i] = a.ID
		}
		plans, err := o.reader.Plans(ctx, ids...)
		if err != nil {
			return nil, nil, err
		}
		for i, a := range page {
			s := plans[a.ID]
			words[a.ID] = describePlan(s)
			if s.Access.Level == billing.Full || s.Access.Level == billing.Due {
				page[i].Plan = string(s.Access.Plan)
			}
		}
	}
	return list, words, nil
}

// accounts returns all accounts, oldest first.
func (o *operator) accounts(ctx context.Context) ([]accountView, error) {
	views := []accountView{}
	page := func(after string, limit int) ([]projections.Account, error) {
		return o.reader.Accounts(ctx, after, limit)
	}
	key := func(a projections.Account) (id, account string) { return a.ID, a.ID }
	err := eachRow(ctx, o.vault, page, key, func(a projections.Account) error {
		view, err := o.accountView(ctx, a)
		views = append(views, view)
		return err
	})
	return views, err
}

func (o *operator) accountView(ctx context.Context, a projections.Account) (accountView, error) {
	email, err := o.open(ctx, a.ID, commands.EmailLabel, a.Email)
	v := accountView{ID: a.ID, Email: email, CreatedAt: a.CreatedAt.UTC(), State: "active", Instances: a.Instances}
	if !a.Suspended.IsZero() {
		since := a.Suspended.UTC()
		v.State, v.SuspendedAt, v.Reason = "suspended", &since, a.Reason
	}
	return v, err
}
