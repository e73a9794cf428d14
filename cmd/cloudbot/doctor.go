package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what the server needs and say how to fix what is missing",
		Long: `Checks everything the server needs, with the server's settings: programs, folders, the
database, NATS and, with LOCAL_DEV_MODE=false, EC2. It works beside a running server or
without one, and changes nothing. It exits with an error if the server would not work.`,
		Example: `  cloudbot doctor
  LOCAL_DEV_MODE=false cloudbot doctor         also check what EC2 needs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			bad := 0
			for _, c := range checks(cmd.Context(), cfg) {
				note, mark := c.do(cmd.Context())
				if mark == "BAD" {
					bad++
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-5s %-14s %s\n", mark, c.name, note)
			}
			if bad > 0 {
				return fmt.Errorf("%s failed; the notes above say what to do", plural(bad, "check"))
			}
			return nil
		},
	}
}
