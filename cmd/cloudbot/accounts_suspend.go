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
		Long: `Locks the account with this ID or e-mail address. It can no longer log in, its tokens and
tickets are refused, its open connections close, and its running desktops stop. The
server stops a desktop that is still starting once it runs. Nothing is deleted. If the
command is interrupted, run it again.`,
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
					return fmt.Errorf("the account is locked, but some of its sessions or desktops remain: %w; run this again", err)
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), struct {
						ID    string `json:"id"`
						State string `json:"state"`
						commands.Enforced
					}{id, "suspended", done})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Account %s is suspended: %s ended, %s stopping.\n", id, plural(done.Sessions, "session"), plural(done.Machines, "desktop"))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, at most 200 bytes; stored in the log without encryption and shown in the account's history")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
