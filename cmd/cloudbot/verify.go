package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func verifyCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the log with JetStream, event by event, and print the counts",
		Long: `Asks the server on this data folder to read the whole log and the whole stream EVENTS,
and to compare the position, ID, subject and data of each event. Events that the stream
discarded by NATS_EVENTS_MAX_AGE or NATS_EVENTS_MAX_MB are counted apart: the log has them.`,
		Example: "  cloudbot verify\n  cloudbot verify --json | jq .missing",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			r, ok := readRunning(cfg)
			if !ok {
				return errors.New("no server runs on this data folder; start one with `cloudbot serve`")
			}
			text, err := askAdmin(cmd.Context(), r, "/verify")
			if err != nil {
				return err
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			var counts map[string]int64
			if err := json.Unmarshal(text, &counts); err != nil {
				return err
			}
			for _, name := range []string{"epoch", "log", "stream", "discarded", "missing", "extra", "different"} {
				fmt.Fprintf(cmd.OutOrStdout(), "%-10s %d\n", name, counts[name])
			}
			if counts["missing"]+counts["extra"]+counts["different"] > 0 {
				return errors.New("log and stream differ; a running relay repairs what is missing")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
