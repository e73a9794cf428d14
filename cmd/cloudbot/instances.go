package main

import (
	"github.com/spf13/cobra"
)

func instancesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instances",
		Short: "List the desktops of all accounts, and terminate one",
		Long: `For the operator of the server: the desktops of all accounts, which of them are stuck,
and a way to take one down. Works beside a running server and without one, with the
server's own settings.`,
		Example: "  cloudbot instances list --stuck",
	}
	cmd.AddCommand(instancesListCmd(), instancesTerminateCmd())
	return cmd
}
