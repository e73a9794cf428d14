// Command stripetest runs the small Stripe of our tests as a process. It prints one line of JSON with its URL and the
// settings that fit, and runs until it is interrupted.
//
// A test controls it at /control/: POST advance {"by":"744h"} moves the clock (with "account" that of one customer),
// card {"account":"…","card":"fails"} makes payments fail, lose, repeat and hold are about deliveries, and GET ledger shows
// everything.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "stripetest:", err)
		os.Exit(1)
	}
}

func run() error {
	addr := flag.String("addr", "127.0.0.1:0", "the address to listen on")
	webhook := flag.String("webhook", "", "the URL that deliveries go to; POST /control/webhook sets it later")
	secret := flag.String("webhook-secret", stripetest.DefaultSecret, "the secret that signs deliveries")
	after := flag.String("after-retries", "canceled", "what becomes of a subscription that is not paid: canceled, unpaid or past_due")
	seed := flag.Uint64("seed", 1, "of the ids and the faults")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	url := "http://" + l.Addr().String()
	s := stripetest.New(stripetest.Config{WebhookSecret: *secret, AfterRetries: *after, Seed: *seed, Public: url})
	s.SetWebhook(*webhook, "")
	prices := map[string]string{}
	for _, p := range stripetest.DefaultPrices {
		prices[p.Name] = p.ID
	}
	line := map[string]any{
		"url": url, "secret_key": stripetest.DefaultKey, "publishable_key": stripetest.DefaultPublishable, "webhook_secret": *secret,
		"meter_event": stripetest.DefaultMeter,
		"prices":      map[string]string{"starter": prices["Starter"], "pro": prices["Pro"], "enterprise": prices["Enterprise"]},
	}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go s.Run(ctx)
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
