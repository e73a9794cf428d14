package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

func pricesCmd() *cobra.Command {
	var check string
	cmd := &cobra.Command{
		Use:   "prices",
		Short: "Show the price list, or check one",
		Long: `Shows the prices that usage and budgets are calculated with today: those of the file
PRICES_FILE, or the built-in list. With --check, reads another file, says what is wrong
with it, or shows its prices.

docs/production.md describes the file. Prices have the day from which they apply, so
add new ones as another version: earlier usage keeps its prices.`,
		Example: "  cloudbot prices\n  cloudbot prices --check new-prices.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if check == "" && err != nil {
				return err
			}
			path := cfg.PricesFile
			if check != "" {
				path = check
			}
			list, err := usage.Load(path)
			if err != nil {
				return err
			}
			return printPrices(cmd.OutOrStdout(), list, cfg, time.Now().UTC())
		},
	}
	cmd.Flags().StringVar(&check, "check", "", "check this `FILE` instead of showing the server's prices")
	return cmd
}

func printPrices(w io.Writer, list *usage.Prices, cfg config, now time.Time) error {
	fmt.Fprintf(w, "Source: %s\nDate:   %s\n\n", clip(list.Source, 300), list.Date)
	current := -1
	for i, v := range list.Versions {
		if v.From <= now.Format(time.DateOnly) {
			current = i
		}
	}
	if current < 0 {
		fmt.Fprintf(w, "No prices apply today; the first ones apply from %s.\n", list.Versions[0].From)
		return nil
	}
	rows := [][]string{{"REGION", "WHAT", "PRICE"}}
	for _, name := range slices.Sorted(maps.Keys(list.Versions[current].Regions)) {
		r := list.Versions[current].Regions[name]
		for _, machineType := range slices.Sorted(maps.Keys(r.Hourly)) {
			rows = append(rows, []string{name, clip(machineType, 40), budget.Dollars(r.Hourly[machineType]) + " an hour"})
		}
		disk, _ := list.DiskGiBMonth(name, now)
		address, _ := list.AddressHourly(name, now)
		rows = append(rows, []string{name, "a GiB of disk", budget.Dollars(disk) + " a month"}, []string{name, "a public address", budget.Dollars(address) + " an hour"})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	for i, v := range list.Versions {
		if i > current {
			fmt.Fprintf(w, "\nOther prices apply from %s.\n", v.From)
		}
	}
	if _, ok := list.Versions[current].Regions[cfg.EC2.Region]; !ok && !cfg.LocalDevMode && cfg.EC2.Region != "" {
		fmt.Fprintf(w, "\nThe list has no prices for %s (AWS_REGION): desktops there are counted without a price.\n", cfg.EC2.Region)
	}
	return nil
}
