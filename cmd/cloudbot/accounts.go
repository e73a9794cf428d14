package main

import (
	"github.com/spf13/cobra"
)

func accountsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accounts",
		Short: "List, invite, suspend and resume accounts, and give them plans",
		Long: `For the operator of the server: list accounts, invite people, suspend accounts and
resume them, and give them plans. These commands work beside a running server or without one, with the
server's settings (DATABASE_URL or DATA_DIR, and ENCRYPTION_KEY).`,
		Example: "  cloudbot accounts list\n  cloudbot accounts invite ada@example.com",
	}
	cmd.AddCommand(accountsListCmd(), accountsInviteCmd(), accountsSuspendCmd(), accountsResumeCmd(), accountsPlanCmd())
	return cmd
}
