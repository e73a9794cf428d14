package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what the server needs, and say what to do about what is missing",
		Long: `Tries what the server needs with its settings, beside a running server or without one:
programs, folders, database, NATS, and with LOCAL_DEV_MODE=false EC2. It changes
nothing, and ends with an error where the server would not work.`,
		Example: `  cloudbot doctor
  LOCAL_DEV_MODE=false cloudbot doctor         what EC2 needs, too`,
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
				return fmt.Errorf("%d of the things the server needs are missing", bad)
			}
			return nil
		},
	}
}
