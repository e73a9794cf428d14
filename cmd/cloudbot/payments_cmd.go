package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/deliveries"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

func paymentsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "payments",
		Short: "Compare the log with Stripe, and count plans",
		Long: `For the operator of a server whose users pay for plans at Stripe (docs/billing.md). These
commands work beside a running server or without one, with the server's settings.`,
		Example: "  cloudbot payments status\n  cloudbot payments compare",
	}
	cmd.AddCommand(paymentsStatusCmd(), paymentsCompareCmd())
	return cmd
}

// errNoStripe refuses what needs Stripe.
var errNoStripe = errors.New("this server requires no plans, because STRIPE_SECRET_KEY and STRIPE_PUBLISHABLE_KEY are not set; see docs/billing.md")

func paymentsCompareCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Compare everything that Stripe has with the log, and record what differs",
		Long: `Lists all subscriptions and the invoices of 90 days at Stripe, compares them with the log,
and looks at each account that differs. The server does the same once a day. The exit code
is 3 if something is left that only you can solve: an account with several subscriptions,
or a subscription that names an account that did not order it.`,
		Example: "  cloudbot payments compare",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				if !o.cfg.Payments.on() {
					return errNoStripe
				}
				client, err := openStripe(o.cfg)
				if err != nil {
					return err
				}
				found, err := newPayments(o.cfg, o.publicURL(), o.events, booksOfTool{books{o.reader}}, deliveries.Store{DB: o.pool}, client, o.log).Compare(ctx)
				if err != nil {
					return fmt.Errorf("compare with Stripe: %w", err)
				}
				if err := (deliveries.Store{DB: o.pool}).RememberComparison(ctx, found); err != nil {
					return err
				}
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), found)
				} else {
					err = table(cmd.OutOrStdout(), comparisonRows(found))
				}
				return errors.Join(err, unsolved(found))
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// booksOfTool are read models that were brought up to the head of the log when the tool began. What was written since is newer
// than what a comparison compares.
type booksOfTool struct{ books }

func (booksOfTool) Position() int64 { return math.MaxInt64 }

func comparisonRows(c commands.Comparison) [][]string {
	return [][]string{
		{"Began:", c.Began.UTC().Format("2006-01-02 15:04:05 UTC")},
		{"Accounts:", fmt.Sprintf("%d with a customer at Stripe, %d different, %d recorded, %d that Stripe does not have", c.Accounts, c.Different, c.Changed, c.Missing)},
		{"At Stripe:", fmt.Sprintf("%s, %s, %d of other customers", plural(c.Subscriptions, "subscription"), plural(c.Invoices, "invoice"), c.Foreign)},
	}
}

// unsolved returns what only the operator can solve.
func unsolved(c commands.Comparison) error {
	var say []string
	if len(c.Several) > 0 {
		say = append(say, "more than one subscription has not ended, so cancel one at Stripe: account "+strings.Join(c.Several, ", "))
	}
	if len(c.Unlinked) > 0 {
		say = append(say, "a subscription names an account that did not order it, so its payer may get nothing: "+strings.Join(c.Unlinked, ", "))
	}
	if len(say) == 0 {
		return nil
	}
	return exitError{3, errors.New(strings.Join(say, "; "))}
}

// paymentsSummary counts accounts by what they may use.
type paymentsSummary struct {
	Required   bool                 `json:"plans_required"`
	Live       bool                 `json:"live"` // false: Stripe's test data
	Plans      map[billing.Plan]int `json:"plans"`
	None       int                  `json:"none"` // accounts that had a plan, or desktops, and have none
	Due        int                  `json:"payment_due"`
	Granted    int                  `json:"granted"`
	Checkouts  int                  `json:"open_checkouts"`
	Several    int                  `json:"several_subscriptions"`
	Unclear    int                  `json:"unclear_usage_days"` // days whose usage Stripe shows otherwise than it was reported
	Reports    int                  `json:"open_usage_reports"`
	Comparison *commands.Comparison `json:"last_comparison"`
}

func paymentsStatusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Count plans, payments that are due, and what needs you",
		Long:    "Counts accounts by their plans, from the log. It does not ask Stripe.",
		Example: "  cloudbot payments status",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				s, err := o.paymentsSummary(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), s)
				}
				return table(cmd.OutOrStdout(), s.rows())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (o *operator) paymentsSummary(ctx context.Context) (paymentsSummary, error) {
	s := paymentsSummary{Required: o.cfg.Payments.on(), Live: o.cfg.Payments.live(), Plans: map[billing.Plan]int{}}
	for _, offer := range billing.Offers {
		s.Plans[offer.Plan] = 0
	}
	last, err := deliveries.Store{DB: o.pool}.Last(ctx)
	if err != nil {
		return s, err
	}
	if !last.Began.IsZero() {
		s.Comparison = &last
	}
	const limit = 500
	for after := ""; ; {
		page, err := o.reader.Billed(ctx, after, limit)
		if err != nil {
			return s, err
		}
		for _, of := range page {
			after = of.Account
			s.count(of.State, o)
		}
		if len(page) < limit {
			return s, nil
		}
	}
}

func (s *paymentsSummary) count(state billing.State, o *operator) {
	switch state.Access.Level {
	case billing.Full:
		s.Plans[state.Access.Plan]++
	case billing.Due:
		s.Plans[state.Access.Plan]++
		s.Due++
	case billing.None:
		s.None++
	}
	if _, ok := state.Granted(o.events.Now()); ok {
		s.Granted++
	}
	if state.Checkout != nil {
		s.Checkouts++
	}
	if state.Several() > 1 {
		s.Several++
	}
	for _, day := range state.Usage {
		if day.Unclear > 0 {
			s.Unclear++
		}
		if day.Open != nil {
			s.Reports++
		}
	}
}

func (s paymentsSummary) rows() [][]string {
	mode := "no plan is required"
	switch {
	case s.Required && s.Live:
		mode = "plans are required, and paid at Stripe"
	case s.Required:
		mode = "plans are required, and paid with Stripe's test data"
	}
	rows := [][]string{{"Mode:", mode}}
	for _, offer := range billing.Offers {
		rows = append(rows, []string{offer.Name + ":", plural(s.Plans[offer.Plan], "account")})
	}
	compared := "never"
	if s.Comparison != nil {
		compared = s.Comparison.Began.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return append(rows,
		[]string{"No plan:", plural(s.None, "account") + " that had one, or desktops"},
		[]string{"Granted:", plural(s.Granted, "account")},
		[]string{"Payment due:", plural(s.Due, "account")},
		[]string{"Payment pages:", fmt.Sprintf("%d open", s.Checkouts)},
		[]string{"For you:", fmt.Sprintf("%s with several subscriptions, %s whose usage is unclear", plural(s.Several, "account"), plural(s.Unclear, "day"))},
		[]string{"Usage reports:", fmt.Sprintf("%d without an outcome", s.Reports)},
		[]string{"Compared:", compared},
	)
}
