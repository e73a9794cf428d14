package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func accountsResumeCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "resume ACCOUNT",
		Short:   "Let a suspended account log in again",
		Long:    "Ends the suspension of the account with this ID or e-mail address. Its owner can log in\nagain. Desktops stay stopped until the owner starts them.",
		Example: "  cloudbot accounts resume ada@example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				id, err := o.account(ctx, args[0])
				if err != nil {
					return err
				}
				if err := newSuspensions(o.events, o.pool, o.log).Resume(ctx, id); err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]string{"id": id, "state": "active"})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Account %s can log in again.\n", id)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
