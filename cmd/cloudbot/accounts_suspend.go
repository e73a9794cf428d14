package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/commands"
)

func accountsSuspendCmd() *cobra.Command {
	var asJSON bool
	var reason string
	cmd := &cobra.Command{
		Use:   "suspend ACCOUNT",
		Short: "Lock an account: end its sessions and stop its desktops",
		Long: `Locks the account with this id or e-mail address. From there on it cannot log in, its
tokens and tickets are refused, its open connections close, and its running desktops
are stopped; one that is still starting is stopped by the server once it runs. Nothing
is deleted. If it is interrupted, run it again.`,
		Example: "  cloudbot accounts suspend ada@example.com --reason 'unpaid bill'\n  cloudbot accounts suspend 01KAP4S8ZJ3W6V1Y0T9Q5R2N7M",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				id, err := o.account(ctx, args[0])
				if err != nil {
					return err
				}
				c := newSuspensions(o.events, o.pool, o.log)
				if err := c.Suspend(ctx, id, reason); err != nil {
					return err
				}
				if err := o.catchUp(ctx); err != nil {
					return err
				}
				done, err := c.Enforce(ctx, id)
				if err != nil {
					return fmt.Errorf("the account is locked, but not all it has was ended: %w; run this again", err)
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), struct {
						ID    string `json:"id"`
						State string `json:"state"`
						commands.Enforced
					}{id, "suspended", done})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Account %s is suspended: %s ended, %s told to stop.\n", id, plural(done.Sessions, "session"), plural(done.Machines, "desktop"))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, at most 200 bytes; it stands in the log as you write it, and among the account's events")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
