package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func strangersCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "strangers",
		Short: "List machines that the log does not know, adopt or remove them",
		Long: `For the operator of the server: machines of this environment that the log does not know,
for example because it was restored from a backup. The server never terminates them. These
commands work beside a running server or without one, with the server's settings.`,
		Example: "  cloudbot strangers list\n  cloudbot strangers adopt i-0123456789abcdef0\n  cloudbot strangers remove i-0123456789abcdef0 --yes",
	}
	cmd.AddCommand(strangersListCmd(), strangersAdoptCmd(), strangersRemoveCmd())
	return cmd
}

// stranger is a machine that waits for the operator.
type stranger struct {
	Machine  string        `json:"machine"`
	State    instance.Seen `json:"state"`
	Launched time.Time     `json:"launched_at,omitzero"`
	Instance string        `json:"instance,omitempty"` // of its tags
	Account  string        `json:"account,omitempty"`  // its owner
	Email    string        `json:"email,omitempty"`    // "": the log does not have the account
	Why      string        `json:"why"`
	Adopt    bool          `json:"adoptable"` // by "strangers adopt"
	Remove   bool          `json:"removable"` // by "strangers remove"

	tagged machines.Tagged
}

func strangersListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the machines that wait for the operator",
		Long: `Lists the machines with this environment's tag that the log does not know, and those that
it knows but whose guest may not enrol since a restore. The owner comes from the machine's
tags. An account without an e-mail address is not in the log.`,
		Example: "  cloudbot strangers list\n  cloudbot strangers list --json | jq -r '.strangers[].machine'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				list, err := o.strangers(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]any{"strangers": list})
				}
				if len(list) == 0 {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), "The log knows every machine of this environment.")
					return err
				}
				rows := [][]string{{"MACHINE", "STATE", "LAUNCHED", "INSTANCE", "ACCOUNT", "E-MAIL", "WHY"}}
				for _, s := range list {
					launched := ""
					if !s.Launched.IsZero() {
						launched = s.Launched.UTC().Format("2006-01-02 15:04")
					}
					rows = append(rows, []string{clip(s.Machine, 40), string(s.State), launched, clip(s.Instance, 26), clip(s.Account, 26), clip(s.Email, 40), s.Why})
				}
				return table(cmd.OutOrStdout(), rows)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func strangersAdoptCmd() *cobra.Command {
	var account, name string
	cmd := &cobra.Command{
		Use:   "adopt MACHINE",
		Short: "Give a machine to its owner",
		Long: `Makes a machine a desktop of its owner, with its disk and what runs on it. The owner is
the account of its tags, or --account. The machine's guest enrols again by itself, within
a minute if the machine runs, and at the latest 30 minutes after this command; after that,
run this command again. A stopped machine is adopted as a stopped desktop: let its owner
start it within 30 minutes. The account's limit of desktops does not apply.`,
		Example: "  cloudbot strangers adopt i-0123456789abcdef0\n  cloudbot strangers adopt i-0123456789abcdef0 --account ada@example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				s, err := o.stranger(ctx, args[0])
				if err != nil {
					return err
				}
				owner := s.Account
				if account != "" {
					if owner, err = o.account(ctx, account); err != nil {
						return err
					}
				}
				if owner == "" {
					return fmt.Errorf("the tags of machine %s name no account; use --account", s.Machine)
				}
				keys, err := loadSecrets(o.cfg)
				if err != nil {
					return err
				}
				cloud, err := o.inventory(ctx)
				if err != nil {
					return err
				}
				c := &commands.Strangers{Log: o.events, Vault: o.vault, Cloud: cloud, Tokens: secrets.NewEnrolment(keys.ring)}
				if _, err := c.Adopt(ctx, s.tagged, owner, name); err != nil {
					return fmt.Errorf("machine %s: %w", s.Machine, err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Machine %s is instance %s of account %s. Its guest has 30 minutes to enrol.\n", s.Machine, s.Instance, owner)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "ID or e-mail address of the new owner, instead of the tags' account")
	cmd.Flags().StringVar(&name, "name", "Recovered desktop", "name of the desktop")
	return cmd
}

func strangersRemoveCmd() *cobra.Command {
	var yes bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "remove MACHINE",
		Short: "Terminate a machine that the log does not know",
		Long: `Terminates a machine that the log does not know, with its disk and all files on it. The log
records that the operator did it. This cannot be undone, so it needs --yes.`,
		Example: "  cloudbot strangers remove i-0123456789abcdef0 --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				s, err := o.stranger(ctx, args[0])
				switch {
				case err != nil:
					return err
				case !s.Remove:
					return fmt.Errorf("machine %s belongs to instance %s, which the log knows; use `cloudbot instances terminate %s`", s.Machine, s.Instance, s.Instance)
				case !yes:
					return fmt.Errorf("machine %s and all files on it would be deleted permanently; add --yes if that is what you want", s.Machine)
				}
				cloud, err := o.inventory(ctx)
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(ctx, wait)
				defer cancel()
				if err := (&commands.Strangers{Log: o.events, Cloud: cloud}).Remove(ctx, s.tagged); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Machine %s is terminated; the log records that the operator removed it.\n", s.Machine)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "terminate it")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Minute, "how long to wait for the machine to be gone")
	return cmd
}

// stranger returns one machine of the list.
func (o *operator) stranger(ctx context.Context, id string) (stranger, error) {
	list, err := o.strangers(ctx)
	if err != nil {
		return stranger{}, err
	}
	i := slices.IndexFunc(list, func(s stranger) bool { return s.Machine == id })
	if i < 0 {
		return stranger{}, fmt.Errorf("machine %s is not on the list of `cloudbot strangers list`", id)
	}
	return list[i], nil
}

// strangers compares the cloud with the log, and changes nothing.
func (o *operator) strangers(ctx context.Context) ([]stranger, error) {
	cloud, err := o.inventory(ctx)
	if err != nil {
		return nil, err
	}
	seen := &remembered{Inventory: cloud, tagged: map[string]machines.Tagged{}}
	report, err := (&provisioner.Reconciler{Log: o.events, Cloud: seen, Live: o.reader.Live, Logger: o.log, DryRun: true}).Reconcile(ctx)
	if err != nil {
		return nil, err
	}
	list := []stranger{}
	add := func(machine, why string, remove bool) error {
		m := seen.tagged[machine]
		s := stranger{Machine: machine, State: m.Seen, Launched: m.Launched, Instance: m.Instance, Account: m.Account, Why: why, Adopt: m.Instance != "", Remove: remove, tagged: m}
		if state, err := o.events.Instance(ctx, m.Instance); m.Instance != "" && err == nil && state.Exists() {
			s.Account, s.Adopt = state.Account, !state.Final() && state.Machine == machine
		}
		if s.Account != "" {
			if a, err := o.reader.Account(ctx, s.Account); err == nil {
				if s.Email, err = o.open(ctx, s.Account, commands.EmailLabel, a.Email); err != nil {
					return err
				}
			} else if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		list = append(list, s)
		return nil
	}
	for _, f := range report.Findings {
		if f.Kind == provisioner.Stranger || f.Kind == provisioner.Returned {
			if err := add(f.Machine, f.Why, true); err != nil {
				return nil, err
			}
		}
	}
	ids, _, err := o.reader.Live(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		state, err := o.events.Instance(ctx, id)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err == nil && state.Machine != "" && state.Awaits() && state.NoEnrol == state.Attempts {
			if err := add(state.Machine, "its guest had not enrolled when the log was backed up; adopt lets it enrol", false); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// remembered is a cloud that remembers what it listed.
type remembered struct {
	machines.Inventory
	tagged map[string]machines.Tagged
}

func (r *remembered) List(ctx context.Context) ([]machines.Tagged, error) {
	list, err := r.Inventory.List(ctx)
	for _, m := range list {
		r.tagged[m.ID] = m
	}
	return list, err
}
