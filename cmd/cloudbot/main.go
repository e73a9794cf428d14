// Command cloudbot is the control plane: one binary that serves everything (`cloudbot serve`) and
// carries the operator's tools beside it. It is configured by the environment; `.env` is read.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

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

func versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Prints the version, as --version does, in one line.",
		Example: "  cloudbot version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "cloudbot version %s\n", version)
			return err
		},
	}
}

// oneLine flattens an error for the terminal: joined errors stand on lines of their own.
func oneLine(err error) string {
	return strings.NewReplacer("\n\t", " ", "\n", "; ").Replace(err.Error())
}
