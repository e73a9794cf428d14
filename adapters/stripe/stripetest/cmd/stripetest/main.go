// Command stripetest runs the small Stripe of our tests as a process. It prints one line of JSON with its URL and the
// settings that fit, and runs until it is interrupted.
//
// A test controls it below /control/: POST advance {"by":"744h"} moves the clock (with "account" that of one customer),
// card {"account":"…","card":"fails"} makes payments fail, lose, repeat and hold are about deliveries, and GET ledger shows
// everything.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "stripetest:", err)
		os.Exit(1)
	}
}

// settings are what a control plane needs for this Stripe.
type settings struct {
	URL            string            `json:"url"`
	SecretKey      string            `json:"secret_key"`
	PublishableKey string            `json:"publishable_key"`
	WebhookSecret  string            `json:"webhook_secret"`
	MeterEvent     string            `json:"meter_event"`
	Prices         map[string]string `json:"prices"` // their ids, by plan
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("stripetest", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on; keep it on loopback")
	webhook := flags.String("webhook", "", "the URL that deliveries go to; POST /control/webhook sets it later")
	secret := flags.String("webhook-secret", stripetest.DefaultSecret, "the secret that signs deliveries")
	after := flags.String("after-retries", "canceled", "what becomes of a subscription that is not paid: canceled, unpaid or past_due")
	seed := flags.Uint64("seed", 1, "of the ids and the faults")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	line := settings{
		URL: "http://" + l.Addr().String(), SecretKey: stripetest.DefaultKey, PublishableKey: stripetest.DefaultPublishable,
		WebhookSecret: *secret, MeterEvent: stripetest.DefaultMeter, Prices: map[string]string{},
	}
	for _, p := range stripetest.DefaultPrices {
		line.Prices[strings.ToLower(p.Name)] = p.ID
	}
	s := stripetest.New(stripetest.Config{WebhookSecret: *secret, AfterRetries: *after, Seed: *seed, Public: line.URL})
	s.SetWebhook(*webhook, "")
	if err := json.NewEncoder(out).Encode(line); err != nil {
		return err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	delivering := make(chan struct{})
	go func() {
		defer close(delivering)
		s.Run(ctx)
		server.Close()
	}()
	err = server.Serve(l)
	<-delivering
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
