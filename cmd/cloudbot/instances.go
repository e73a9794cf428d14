package main

import (
	"cmp"
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
	"github.com/cloudbot-ai/control-plane/projections"
)

func instancesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instances",
		Short: "List the desktops of all accounts, and terminate one",
		Long: `For the operator of the server: the desktops of all accounts, which of them are stuck,
and a way to take one down. Works beside a running server and without one, with the
server's own settings.`,
		Example: "  cloudbot instances list --stuck",
	}
	cmd.AddCommand(instancesListCmd(), instancesTerminateCmd())
	return cmd
}

// patience is how long a desktop may be in a state that it should leave by itself, before it is stuck.
var patience = []struct {
	status instance.Status
	limit  time.Duration
}{
	{instance.Launching, 30 * time.Minute}, // several attempts of ten minutes
	{instance.Starting, 15 * time.Minute},
	{instance.Stopping, 15 * time.Minute},
	{instance.Terminating, 15 * time.Minute},
}

// overviewView is a desktop as the tool shows it.
type overviewView struct {
	ID      string          `json:"id"`
	Account string          `json:"account"`
	Name    string          `json:"name"`
	Status  instance.Status `json:"status"`
	Since   time.Time       `json:"since"`
	Machine string          `json:"machine"`
	Reason  string          `json:"reason"`
	Parked  bool            `json:"parked"` // some of its events could not be applied
	Stuck   string          `json:"stuck,omitempty"`
}

// stuckWhy says why a desktop is stuck, "" for one that is not.
func stuckWhy(v overviewView) string {
	if v.Parked {
		return "its events are parked"
	}
	for _, p := range patience {
		if v.Status == p.status && time.Since(v.Since) > p.limit {
			return fmt.Sprintf("%s for more than %s", p.status, short(p.limit))
		}
	}
	return ""
}

func short(d time.Duration) string { return fmt.Sprintf("%dm", int(d.Minutes())) }

func instancesListCmd() *cobra.Command {
	var asJSON, stuck, all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the desktops of all accounts, oldest first",
		Long: `Lists the desktops that are not over: which state each has, and since when. With --stuck
only those that are too long in a state they should leave by themselves, and those with
events that could not be applied.`,
		Example: "  cloudbot instances list\n  cloudbot instances list --stuck\n  cloudbot instances list --all --json | jq '.instances[].machine'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				list, err := o.overviews(ctx, all, stuck)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]any{"instances": list})
				}
				return tellOverviews(cmd.OutOrStdout(), list, stuck)
			})
		},
	}
	cmd.Flags().BoolVar(&stuck, "stuck", false, "only those that are stuck")
	cmd.Flags().BoolVar(&all, "all", false, "also those that are terminated or failed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func tellOverviews(w io.Writer, list []overviewView, stuck bool) error {
	rows := [][]string{{"INSTANCE", "ACCOUNT", "STATUS", "SINCE", "MACHINE", "WHY"}}
	for _, v := range list {
		rows = append(rows, []string{v.ID, v.Account, string(v.Status), ago(v.Since), v.Machine, clip(cmp.Or(v.Stuck, v.Reason), 30)})
	}
	if err := table(w, rows); err != nil || !stuck {
		return err
	}
	limits := ""
	for i, p := range patience {
		limits += fmt.Sprintf("%s%s for %s", map[bool]string{true: ", "}[i > 0], p.status, short(p.limit))
	}
	_, err := fmt.Fprintf(w, "\nStuck means: %s,\nor with events that could not be applied. To take one down past its log: cloudbot instances terminate --force INSTANCE\n", limits)
	return err
}

// overviews reads all instances, a page at a time.
func (o *operator) overviews(ctx context.Context, all, stuck bool) ([]overviewView, error) {
	const page = 500
	views := []overviewView{}
	for after, more := "", true; more; {
		list, err := o.reader.Overviews(ctx, after, all, page)
		if err != nil {
			return nil, err
		}
		if err := preload(ctx, o.vault, list, func(i projections.Overview) string { return i.Account }); err != nil {
			return nil, err
		}
		for _, i := range list {
			after = i.ID
			v, err := o.overviewView(ctx, i)
			if err != nil {
				return nil, err
			}
			if !stuck || v.Stuck != "" {
				views = append(views, v)
			}
		}
		more = len(list) == page
	}
	return views, nil
}

func (o *operator) overviewView(ctx context.Context, i projections.Overview) (overviewView, error) {
	name, err := o.open(ctx, i.Account, commands.NameLabel(i.ID), i.Name)
	v := overviewView{ID: i.ID, Account: i.Account, Name: name, Status: i.Status, Since: i.Since.UTC(), Machine: i.Machine, Reason: i.Reason, Parked: i.Parked}
	v.Stuck = stuckWhy(v)
	return v, err
}

func instancesTerminateCmd() *cobra.Command {
	var asJSON, force bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "terminate INSTANCE",
		Short: "Terminate a desktop for good",
		Long: `Asks for the termination of a desktop as its owner would: a running server takes its
machine down.

With --force the command takes it down itself, and needs nothing of what the log says
about the desktop: for one whose events cannot be read. It finds the machines by their
tags (local ones in the machines' own list), terminates them, waits until they are
gone, and writes into the log that the operator terminated the desktop. The account
gets its slot back. If it is interrupted, run it again.`,
		Example: "  cloudbot instances list --stuck\n  cloudbot instances terminate --force 01KAP4S8ZJ3W6V1Y0T9Q5R2N7M",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
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
				return tellForced(cmd.OutOrStdout(), done, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "take the machine down now, past the desktop's log")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Minute, "with --force: how long to wait until the machine is gone")
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

func tellForced(w io.Writer, done commands.Forced, asJSON bool) error {
	if asJSON {
		return printJSON(w, done)
	}
	said := "the log says now that the operator terminated it"
	if done.Already {
		said = "the log said before that it is over"
	}
	if _, err := fmt.Fprintf(w, "Instance %s: %d machines taken down; %s.\n", done.Instance, len(done.Machines), said); err != nil {
		return err
	}
	for _, m := range done.Foreign {
		fmt.Fprintf(w, "Machine %s carries its tag, but we did not launch it: terminate it by hand once you know whose it is.\n", m)
	}
	if !done.Already && !done.Released {
		fmt.Fprintln(w, "No slot was given back: nothing says whose it was, or the slot was free already.")
	}
	return nil
}

// inventory opens the cloud that this server's machines are in, to look and to terminate.
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
