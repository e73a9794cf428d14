// Command cloudbot is the control plane: one binary that serves everything (`cloudbot serve`) and
// carries the operator's tools beside it. It is configured by the environment; `.env` is read.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	if err := startClean(); err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot:", oneLine(err))
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cloudbot",
		Short: "The control plane of personal cloud desktops with an AI agent",
		Long: `The control plane of personal cloud desktops with an AI agent.

It is configured by environment variables, which .env.example lists; a file .env
in the working folder is read. Without DATABASE_URL it keeps a private Postgres
under DATA_DIR, without NATS_URL it runs NATS in-process.`,
		Example: `  cloudbot serve                     run the control plane
  cloudbot doctor                    what is missing, and what to do about it
  cloudbot events --follow           what happens`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.AddCommand(serveCmd(), versionCmd(), migrateCmd(), eventsCmd(), replayCmd(), verifyCmd(), doctorCmd(), rewrapCmd(), reconcileCmd(), accountsCmd(), instancesCmd())
	return cmd
}
