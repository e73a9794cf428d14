package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// patience is how long a desktop may stay in a transitional state before it counts as stuck.
var patience = []struct {
	status instance.Status
	limit  time.Duration
}{
	{instance.Launching, 30 * time.Minute}, // several attempts of ten minutes
	{instance.Starting, 15 * time.Minute},
	{instance.Stopping, 15 * time.Minute},
	{instance.Terminating, 15 * time.Minute},
}

// overviewView is a desktop as the command shows it.
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

// stuckWhy returns why a desktop is stuck, "" if it is not.
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
		Long: `Lists the desktops that have not ended, with the state of each and since when. With
--stuck, lists only those that have been in a transitional state for too long, and
those with events that could not be applied.`,
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
				return printOverviews(cmd.OutOrStdout(), list, stuck)
			})
		},
	}
	cmd.Flags().BoolVar(&stuck, "stuck", false, "only desktops that are stuck")
	cmd.Flags().BoolVar(&all, "all", false, "also desktops that are terminated or failed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printOverviews(w io.Writer, list []overviewView, stuck bool) error {
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
	_, err := fmt.Fprintf(w, "\nStuck: %s,\nor with events that could not be applied. To terminate one of those: cloudbot instances terminate --force INSTANCE\n", limits)
	return err
}

// overviews returns the instances of all accounts, oldest first: without all, those that have not ended; with stuck,
// only those that are stuck.
func (o *operator) overviews(ctx context.Context, all, stuck bool) ([]overviewView, error) {
	views := []overviewView{}
	page := func(after string, limit int) ([]projections.Overview, error) {
		return o.reader.Overviews(ctx, after, all, limit)
	}
	key := func(i projections.Overview) (id, account string) { return i.ID, i.Account }
	err := eachRow(ctx, o.vault, page, key, func(i projections.Overview) error {
		v, err := o.overviewView(ctx, i)
		if !stuck || v.Stuck != "" {
			views = append(views, v)
		}
		return err
	})
	return views, err
}

func (o *operator) overviewView(ctx context.Context, i projections.Overview) (overviewView, error) {
	name, err := o.open(ctx, i.Account, commands.NameLabel(i.ID), i.Name)
	v := overviewView{ID: i.ID, Account: i.Account, Name: name, Status: i.Status, Since: i.Since.UTC(), Machine: i.Machine, Reason: i.Reason, Parked: i.Parked}
	v.Stuck = stuckWhy(v)
	return v, err
}
