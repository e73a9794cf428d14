package main

import (
	"github.com/spf13/cobra"
)

func accountsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accounts",
		Short: "List, invite, suspend and resume accounts",
		Long: `For the operator of the server: who has an account, who may open one, and who is
locked out. Works beside a running server and without one, with the server's own
settings (DATABASE_URL or DATA_DIR, and ENCRYPTION_KEY).`,
		Example: "  cloudbot accounts list\n  cloudbot accounts invite ada@example.com",
	}
	cmd.AddCommand(accountsListCmd(), accountsInviteCmd(), accountsSuspendCmd(), accountsResumeCmd())
	return cmd
}
