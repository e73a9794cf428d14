package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/local"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func instancesTerminateCmd() *cobra.Command {
	var asJSON, force bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "terminate INSTANCE",
		Short: "Terminate a desktop permanently",
		Long: `Requests the termination of a desktop, as its owner would. A running server then
terminates its machine.

With --force, the command terminates the machine itself and does not read the desktop's
events: use it for a desktop whose events cannot be read. It finds the machines by their
tags (local ones in the list of local machines), terminates them, waits until they are
gone, and records in the log that the operator terminated the desktop. The account's slot
is freed. If the command is interrupted, run it again.`,
		Example: "  cloudbot instances list --stuck\n  cloudbot instances terminate --force 01KAP4S8ZJ3W6V1Y0T9Q5R2N7M",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				if !force {
					return o.askTermination(ctx, cmd, args[0], asJSON)
				}
				ctx, cancel := context.WithTimeout(ctx, wait)
				defer cancel()
				cloud, err := o.inventory(ctx)
				if err != nil {
					return err
				}
				done, err := (&commands.Force{Log: o.events, Cloud: cloud, Owner: o.reader.Owner}).Terminate(ctx, args[0])
				if err != nil {
					return err
				}
				return printForced(cmd.OutOrStdout(), done, asJSON)
			})
			if errors.Is(err, instance.ErrNotFound) {
				return fmt.Errorf("there is no such instance as %s; `cloudbot instances list --all` lists them", args[0])
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "terminate the machine now, without the desktop's events")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Minute, "with --force: how long to wait for the machine to be gone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (o *operator) askTermination(ctx context.Context, cmd *cobra.Command, id string, asJSON bool) error {
	status, err := (&commands.Force{Log: o.events}).Ask(ctx, id)
	if errors.Is(err, eventstore.ErrDamaged) {
		return fmt.Errorf("%w; terminate it with --force", err)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), map[string]any{"instance": id, "status": status})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Instance %s is %s.\n", id, status)
	return err
}

func printForced(w io.Writer, done commands.Forced, asJSON bool) error {
	if asJSON {
		return printJSON(w, done)
	}
	recorded := "the log now records that the operator terminated it"
	if done.Already {
		recorded = "the log had already recorded its end"
	}
	if _, err := fmt.Fprintf(w, "Instance %s: %s terminated; %s.\n", done.Instance, plural(len(done.Machines), "machine"), recorded); err != nil {
		return err
	}
	for _, m := range done.Foreign {
		fmt.Fprintf(w, "Machine %s carries its tag, but this server did not launch it. Find out whose it is, then terminate it by hand.\n", m)
	}
	if !done.Already && !done.Released {
		fmt.Fprintln(w, "No slot was freed: its owner is unknown, or it was already free.")
	}
	return nil
}

// inventory opens the cloud that holds this server's machines, to list and terminate them.
func (o *operator) inventory(ctx context.Context) (machines.Inventory, error) {
	if o.cfg.LocalDevMode {
		guest, err := guestProgram()
		if err != nil {
			return nil, err
		}
		return local.New(local.Config{Dir: o.cfg.machines(), GuestPath: guest, ControlPlaneURL: o.publicURL(), Logger: slog.New(slog.DiscardHandler)})
	}
	return openEC2(ctx, o.cfg.EC2, environmentID(o.cfg.Environment, o.vault.Blind), o.cfg.PublicURL, nil, o.log)
}
