package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// spending is what a desktop used on one or more days.
type spending struct {
	Account    string `json:"account"`
	Desktop    string `json:"desktop_id"`
	Name       string `json:"desktop"` // "" if its account's data key is gone
	Type       string `json:"instance_type"`
	Day        string `json:"day,omitempty"` // "" for several days
	RunSeconds int64  `json:"run_seconds"`
	Compute    int64  `json:"compute_micros"`
	Disk       int64  `json:"disk_micros"`
	Address    int64  `json:"address_micros"`
	Model      int64  `json:"model_micros"` // an estimate
	Total      int64  `json:"total_micros"`
	Priced     bool   `json:"priced"`
}

func (s *spending) add(row usage.Row) {
	s.Account, s.Desktop, s.Type = row.Account, row.Instance, row.Type
	s.Total += row.Micros
	s.Priced = s.Priced && row.Priced
	switch row.Kind {
	case usage.Compute:
		s.Compute += row.Micros
		s.RunSeconds += int64(row.Time / time.Second)
	case usage.Disk:
		s.Disk += row.Micros
	case usage.Address:
		s.Address += row.Micros
	case usage.Model:
		s.Model += row.Micros
	}
}

// spendings sums up rows: by desktop, or by desktop and day. Rows come by desktop and day.
func spendings(rows []usage.Row, daily bool) (list []spending) {
	for _, row := range rows {
		day := ""
		if daily {
			day = row.Day.Format(time.DateOnly)
		}
		if n := len(list); n == 0 || list[n-1].Desktop != row.Instance || list[n-1].Day != day {
			list = append(list, spending{Day: day, Priced: true})
		}
		list[len(list)-1].add(row)
	}
	return list
}

func usageCmd() *cobra.Command {
	var month, account string
	var asCSV, asJSON bool
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Show what desktops cost in a month",
		Long: `Shows what the desktops of all accounts, or of one, cost in a month (UTC), by the
price list that the server uses (PRICES_FILE). The costs of models are estimates by
the agents' gateways. Data that desktops send to the internet is not counted.

Without --csv and --json there is one line for each desktop. The CSV file has one row
for each desktop and day.`,
		Example: `  cloudbot usage
  cloudbot usage --month 2026-11 --account ada@example.com
  cloudbot usage --month 2026-11 --csv > november.csv
  cloudbot usage --json | jq '.total_micros'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asCSV && asJSON {
				return errors.New("give either --csv or --json")
			}
			now := time.Now().UTC()
			from, err := monthFlag(month, now)
			if err != nil {
				return err
			}
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				rows, err := o.charges(ctx, account, from, now)
				if err != nil {
					return err
				}
				list, err := o.named(ctx, spendings(rows, asCSV))
				if err != nil {
					return err
				}
				out := cmd.OutOrStdout()
				switch {
				case asCSV:
					return printUsageCSV(out, list)
				case asJSON:
					return printJSON(out, map[string]any{"month": from.Format("2006-01"), "currency": "USD", "total_micros": usage.Micros(rows), "desktops": list})
				}
				return printUsage(out, list, usage.Micros(rows))
			})
		},
	}
	cmd.Flags().StringVar(&month, "month", "", "the month, as YYYY-MM (default: the current one)")
	cmd.Flags().StringVar(&account, "account", "", "only this account, by its ID or e-mail address")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print CSV, by desktop and day")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// monthFlag returns the first midnight of a month, or of the current one.
func monthFlag(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return usage.Month(now), nil
	}
	from, err := time.Parse("2006-01", text)
	if err != nil || from.After(now) {
		return from, fmt.Errorf("--month is %q; use a month such as 2026-11 that is not in the future", text)
	}
	return from, nil
}

// charges returns what an account used in a month, or with "" what all accounts used, by desktop and day.
func (o *operator) charges(ctx context.Context, account string, from, now time.Time) (rows []usage.Row, err error) {
	prices, err := usage.Load(o.cfg.PricesFile)
	if err != nil {
		return nil, err
	}
	end := from.AddDate(0, 1, 0)
	add := func(id string) error {
		used, err := o.reader.Usage(ctx, id, from, end)
		rows = append(rows, prices.Charge(used, from, end, now)...)
		return err
	}
	if account != "" {
		id, err := o.account(ctx, account)
		if err == nil {
			err = add(id)
		}
		return rows, err
	}
	for after := ""; ; {
		page, err := o.reader.AccountIDs(ctx, after, 500)
		if err != nil || len(page) == 0 {
			return rows, err
		}
		for _, id := range page {
			if err := add(id); err != nil {
				return nil, err
			}
			after = id
		}
	}
}

// named adds the desktops' names.
func (o *operator) named(ctx context.Context, list []spending) ([]spending, error) {
	desktops, err := o.overviews(ctx, true, false)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(desktops))
	for _, d := range desktops {
		names[d.ID] = d.Name
	}
	for i := range list {
		list[i].Name = names[list[i].Desktop]
	}
	return list, nil
}

func printUsage(w io.Writer, list []spending, total int64) error {
	slices.SortStableFunc(list, func(a, b spending) int { return cmp.Compare(b.Total, a.Total) })
	rows := [][]string{{"ACCOUNT", "DESKTOP", "NAME", "TYPE", "RUN", "COMPUTE", "DISK", "ADDRESS", "MODELS", "TOTAL"}}
	unpriced := 0
	for _, s := range list {
		name := s.Type
		if !s.Priced {
			name += "*"
			unpriced++
		}
		rows = append(rows, []string{s.Account, s.Desktop, clip(s.Name, 24), name, hours(s.RunSeconds),
			cents(s.Compute), cents(s.Disk), cents(s.Address), cents(s.Model), cents(s.Total)})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	note := ""
	if unpriced > 0 {
		note = fmt.Sprintf("* %s without a price: the time is counted, but not what it costs.\n", plural(unpriced, "desktop"))
	}
	_, err := fmt.Fprintf(w, "\n%sTotal: %s. Models are estimates.\n", note, cents(total))
	return err
}

// hours returns a number of seconds as hours and minutes.
func hours(seconds int64) string { return fmt.Sprintf("%d:%02d", seconds/3600, seconds/60%60) }

// cents returns an amount in dollars, rounded down to a cent.
func cents(micros int64) string { return budget.Dollars(micros - micros%10_000) }

func printUsageCSV(w io.Writer, list []spending) error {
	slices.SortStableFunc(list, func(a, b spending) int {
		return cmp.Or(strings.Compare(a.Day, b.Day), strings.Compare(a.Desktop, b.Desktop))
	})
	rows := [][]string{{"day", "account_id", "desktop_id", "desktop", "instance_type", "run_seconds", "compute_usd", "disk_usd", "address_usd", "model_estimate_usd", "total_usd"}}
	for _, s := range list {
		rows = append(rows, []string{s.Day, s.Account, s.Desktop, httpapi.CSVText(s.Name), httpapi.CSVText(s.Type), strconv.FormatInt(s.RunSeconds, 10),
			budget.Exact(s.Compute), budget.Exact(s.Disk), budget.Exact(s.Address), budget.Exact(s.Model), budget.Exact(s.Total)})
	}
	out := csv.NewWriter(w)
	out.UseCRLF = true
	return out.WriteAll(rows)
}
