package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

func reconcileCmd() *cobra.Command {
	var dry, asJSON, believe bool
	var region string
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare EC2's machines with the log and repair differences",
		Long: `Lists the machines that carry this environment's tag, reads the log, and adopts,
repairs or terminates what differs. A running server does the same every few minutes.
Machines without this environment's tag are never touched. Machines that the log does
not know are reported, and not touched either. The command is safe beside a running
server and exits with an error if it could not repair a difference. It is for machines
on EC2 (LOCAL_DEV_MODE=false).`,
		Example: "  cloudbot reconcile --dry-run          report only\n  cloudbot reconcile --json | jq .findings",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg, err := loadConfig(); err != nil {
				return err
			} else if cfg.LocalDevMode {
				return errors.New("reconcile is for machines on EC2, but with LOCAL_DEV_MODE=true machines are on this computer, where the server repairs them. Set LOCAL_DEV_MODE=false and the EC2 settings to compare EC2's machines")
			}
			return tool(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) error {
				r, err := reconciler(ctx, pool, store)
				if err != nil {
					return err
				}
				r.DryRun, r.BelieveMissing, r.ForgetRegion = dry, believe, region
				report, err := r.Reconcile(ctx)
				if err != nil {
					return err
				}
				return printReport(cmd.OutOrStdout(), report, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "report only, change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&region, "forget-region", "", "machines launched in this other region are gone; check before you use this")
	cmd.Flags().BoolVar(&believe, "believe-missing", false, "machines that the cloud does not know are gone, even if it knows none")
	return cmd
}

// printReport prints a report. It returns an error if a difference was not repaired, for scripts that check only the
// exit code.
func printReport(w io.Writer, r provisioner.Report, asJSON bool) (err error) {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.Write(w)
	}
	n := 0
	for _, f := range r.Findings {
		if f.Error != "" {
			n++
		}
	}
	if n > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d differences could not be repaired; see the reasons above, then run this again", n, len(r.Findings)))
	}
	return err
}

// reconciler returns the reconciler of the command, which may run beside a server or without one.
func reconciler(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) (*provisioner.Reconciler, error) {
	cfg, err := loadConfig()
	if err != nil {
		return nil, err
	}
	_, vault, err := openVault(ctx, cfg, pool, nil)
	if err != nil {
		return nil, err
	}
	log := logger(cfg)
	c, err := openEC2(ctx, cfg.EC2, environmentID(cfg.Environment, vault.Blind), cfg.PublicURL, nil, log)
	if err != nil {
		return nil, err
	}
	return &provisioner.Reconciler{
		Log:   newLog(store, nil, newFleet(cfg, pool, log)),
		Cloud: c, Live: (&projections.Reader{Pool: pool}).Live, Logger: log,
	}, nil
}
