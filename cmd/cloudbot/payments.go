package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"

	"github.com/cloudbot-ai/control-plane/adapters/deliveries"
	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/stripe"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/biller"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/projections"
)

// requirePlans has the commands on a log decide by plans, if the settings say so.
func requirePlans(cfg config, events commands.Log) commands.Log {
	events.Plans, events.Terms = cfg.Payments.on(), cfg.Payments.terms()
	return events
}

// openStripe returns a client of Stripe. It calls nothing.
func openStripe(cfg config) (*stripe.Client, error) {
	p := cfg.Payments
	return stripe.New(stripe.Config{Key: p.SecretKey, WebhookSecret: p.WebhookSecret, Meter: p.MeterEvent, URL: p.APIURL})
}

// payments is what the server does with Stripe. Its zero value is the one of a server that requires no plans.
type payments struct {
	front  *httpapi.Payments
	biller *biller.Biller
}

// openPayments connects the server to Stripe, if plans are required. site is where browsers reach the server.
func openPayments(cfg config, site string, events commands.Log, reader *projections.Reader, accounts *commands.Accounts, log *slog.Logger) (payments, error) {
	if !cfg.Payments.on() {
		return payments{}, nil
	}
	client, err := openStripe(cfg)
	if err != nil {
		return payments{}, err
	}
	handled := deliveries.Store{DB: reader.Pool}
	paid := newPayments(cfg, site, events, books{reader}, handled, client, log)
	paid.Email = func(ctx context.Context, account string) (string, error) {
		profile, err := accounts.Profile(ctx, account)
		return profile.Email, err
	}
	plans := newPlans(events, reader, log)
	plans.Payments = paid
	b := &biller.Biller{
		Payments: paid, Plans: plans, Comparisons: handled, Logger: log,
	}
	if cfg.Payments.MeterEvent != "" {
		b.Metering = &commands.Metering{Payments: paid, Usage: books{reader}}
	}
	board := &httpapi.PriceBoard{Find: client.Price, Logger: log}
	for id := range paid.Prices {
		board.IDs = append(board.IDs, id)
	}
	slices.Sort(board.IDs)
	return payments{
		front: &httpapi.Payments{
			Payments: paid, Verify: client.Verify, Live: client.Live(), Key: cfg.Payments.PublishableKey, Metered: cfg.Payments.PriceUsage != "", Board: board,
		},
		biller: b,
	}, nil
}

// roles are what runs beside the front. Every replica shows prices, and one of them bills.
func (p payments) roles(once func(lease string, r runner) runner) []role {
	if p.front == nil {
		return nil
	}
	return []role{{"prices of plans", p.front.Board}, {"biller", once("biller", p.biller)}}
}

// newPayments returns the commands about payments.
func newPayments(cfg config, site string, events commands.Log, known commands.Customers, handled commands.Deliveries, client *stripe.Client, log *slog.Logger) *commands.Payments {
	return &commands.Payments{
		Log: events, Stripe: client, Prices: cfg.Payments.plans(), UsagePrice: cfg.Payments.PriceUsage, Books: known, Deliveries: handled, Logger: log,
		Origins: returnOrigins(cfg, site),
	}
}

// returnOrigins are the sites to which Stripe may send users back. On this computer, browsers use either of its names.
func returnOrigins(cfg config, site string) []string {
	origins := append(fields(cfg.CORSOrigins), site)
	if u, err := url.Parse(site); err == nil && loopbackHost(u.Hostname()) && u.Port() != "" {
		for _, host := range []string{"127.0.0.1", "localhost"} {
			origins = append(origins, u.Scheme+"://"+net.JoinHostPort(host, u.Port()))
		}
	}
	return origins
}

// newPlans returns the operator's commands about plans, and what enforces them.
func newPlans(events commands.Log, reader *projections.Reader, log *slog.Logger) *commands.Plans {
	return &commands.Plans{Log: events, Books: books{reader}, Running: reader.EachRunning, Logger: log}
}

func (b books) Billed(ctx context.Context, after string, limit int) ([]commands.Billed, error) {
	found, err := b.Reader.Billed(ctx, after, limit)
	list := make([]commands.Billed, len(found))
	for i, f := range found {
		list[i] = commands.Billed(f)
	}
	return list, err
}

// describePlan says in a few words which plan an account has: "Pro", "Pro until 2026-12-28", "Pro (payment due)", "none".
func describePlan(s billing.State) string {
	a := s.Access
	switch name := a.Plan.Offer().Name; {
	case a.Level == billing.Due:
		return name + " (payment due)"
	case a.Level == "": // nothing is recorded
		return ""
	case a.Level != billing.Full:
		return "none"
	case s.Grant != nil && s.Grant.Plan == a.Plan && !s.Grant.Until.IsZero():
		return fmt.Sprintf("%s until %s", name, s.Grant.Until.UTC().Format("2006-01-02"))
	default:
		return name
	}
}
