package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

func versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Prints the version on one line, as --version does.",
		Example: "  cloudbot version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "cloudbot version %s\n", version)
			return err
		},
	}
}
