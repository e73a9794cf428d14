// Command cloudbot is the control plane: one binary that serves everything (`cloudbot serve`) and contains the
// operator's tools. Its settings are environment variables; it also reads `.env`.
package main

import (
	"context"
	"errors"
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
	// A second signal ends the process immediately.
	context.AfterFunc(ctx, stop)
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot:", oneLine(err))
		code := 1
		if special, ok := errors.AsType[exitError](err); ok {
			code = special.code
		}
		os.Exit(code)
	}
}

// exitError is an error with an exit code other than 1.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cloudbot",
		Short: "The control plane of personal cloud desktops with an AI agent",
		Long: `The control plane of personal cloud desktops with an AI agent.

Its settings are environment variables; .env.example lists them all. It also reads a
file .env in the working folder. Without DATABASE_URL it runs a private Postgres with
its data under DATA_DIR. Without NATS_URL it runs NATS in its own process.`,
		Example: `  cloudbot serve                     run the control plane
  cloudbot doctor                    check what is missing and how to fix it
  cloudbot events --follow           show events as they happen`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.AddCommand(serveCmd(), healthCmd(), versionCmd(), migrateCmd(), eventsCmd(), replayCmd(), verifyCmd(), doctorCmd(), rewrapCmd(), reconcileCmd(), accountsCmd(), instancesCmd(), usageCmd(), pricesCmd(), paymentsCmd(), strangersCmd(), backupCmd(), restoreCmd(), importCmd())
	return cmd
}
