package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

func reconcileCmd() *cobra.Command {
	var dry, asJSON, believe bool
	var region string
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare EC2's machines with the log, and mend what differs",
		Long: `Lists the machines that carry this environment's tag, then reads the log, and
adopts, repairs or terminates what differs. A running server does the same every
few minutes. Machines without our tag and environment are never touched, nor are
those the log knows nothing of: they are reported. Safe beside a running server.
It ends with an error where something could not be mended. For machines on EC2
(LOCAL_DEV_MODE=false).`,
		Example: "  cloudbot reconcile --dry-run          only look\n  cloudbot reconcile --json | jq .findings",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg, err := loadConfig(); err != nil {
				return err
			} else if cfg.LocalDevMode {
				return errors.New("reconcile is for machines on EC2, and here they are local (LOCAL_DEV_MODE=true): the server looks after those itself. Set LOCAL_DEV_MODE=false and the EC2 settings to compare EC2's")
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
				return tell(cmd.OutOrStdout(), report, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only report, change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&region, "forget-region", "", "what was launched in this other region is gone, as you have seen to")
	cmd.Flags().BoolVar(&believe, "believe-missing", false, "machines that the cloud does not know are gone, even if they are all of them")
	return cmd
}

// tell prints a report. What could not be mended is an error, too, for who looks at the exit code only.
func tell(w io.Writer, r provisioner.Report, asJSON bool) (err error) {
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
		err = errors.Join(err, fmt.Errorf("%d of %d findings could not be mended: see why, and run it again", n, len(r.Findings)))
	}
	return err
}

// reconciler builds what the command needs, beside a server or without one.
func reconciler(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) (*provisioner.Reconciler, error) {
	cfg, err := loadConfig()
	if err != nil {
		return nil, err
	}
	keys, err := loadSecrets(cfg)
	if err != nil {
		return nil, err
	}
	vault, err := secrets.OpenVault(ctx, secrets.VaultConfig{Pool: pool, Keyring: keys.ring})
	if err != nil {
		return nil, err
	}
	log := logger(cfg)
	c, err := openEC2(ctx, cfg.EC2, environmentID(cfg.Environment, vault.Blind), cfg.PublicURL, nil, log)
	if err != nil {
		return nil, err
	}
	events := newLog(store)
	events.Fleet = newFleet(cfg, pool, log)
	return &provisioner.Reconciler{
		Log:   events,
		Cloud: c, Live: (&projections.Reader{Pool: pool}).Live, Logger: log,
	}, nil
}
