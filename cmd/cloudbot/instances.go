package main

import (
	"github.com/spf13/cobra"
)

func instancesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instances",
		Short: "List the desktops of all accounts, or terminate one",
		Long: `For the operator of the server: list the desktops of all accounts, find those that are
stuck, and terminate one. These commands work beside a running server or without one,
with the server's settings.`,
		Example: "  cloudbot instances list --stuck",
	}
	cmd.AddCommand(instancesListCmd(), instancesTerminateCmd())
	return cmd
}
