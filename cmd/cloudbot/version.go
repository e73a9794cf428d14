package main

import (
	"cmp"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// The linker sets these. Go's own record of the commit is left out of the programs, because a build without the
// repository, as in a container, could not have the same bytes.
var (
	version   = "dev"
	commit    string
	committed string // the commit's time, RFC 3339 in UTC
)

// build is what `cloudbot version` prints.
type build struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	Committed string `json:"committed"`
	Go        string `json:"go"`
	Platform  string `json:"platform"`
}

func thisBuild() build {
	const unknown = "unknown"
	return build{version, cmp.Or(commit, unknown), cmp.Or(committed, unknown), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

func versionCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and what it was built from",
		Long: `Prints the version, the commit with its time, the version of Go and the platform. The first
line is what --version prints. The same commit always builds the same bytes, so these lines
and the checksums of a release say exactly which program this is.`,
		Example: "  cloudbot version\n  cloudbot version --json | jq -r .commit",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "cloudbot version %s\ncommit    %s\ncommitted %s\ngo        %s\nplatform  %s\n",
				b.Version, b.Commit, b.Committed, b.Go, b.Platform)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
