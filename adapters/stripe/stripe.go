// Package stripe asks Stripe for Checkouts, subscriptions, invoices and meters, and verifies Stripe's deliveries.
//
// The one thing to know: it never repeats a call. The commands do, with a key that is in the log. A refusal is a
// *commands.RefusedError and proves that the call had no effect; after any other error it may have had one.
package stripe

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/cloudbot-ai/control-plane/commands"
)

const (
	timeout = 20 * time.Second // of one call
	atOnce  = 8                // calls at a time
)

// Config says how to reach Stripe.
type Config struct {
	Key           string        // the secret key, or a restricted one
	WebhookSecret string        // "whsec_…": signs the deliveries
	Meter         string        // the event_name of the meter; "": usage is not metered
	URL           string        // "": https://api.stripe.com
	Timeout       time.Duration // of one call; 0: 20 s
	// Transport sends the calls. Nil: http.DefaultTransport.
	Transport http.RoundTripper
}

// Client is Stripe. It implements commands.Stripe.
type Client struct {
	api    *stripe.Client
	secret string
	meter  string
	live   bool
	turns  chan struct{}

	mu      sync.Mutex
	meterID string // "": not asked yet
}

var _ commands.Stripe = (*Client)(nil)

// New returns a client. It calls nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Key == "" {
		return nil, errors.New("the secret key of Stripe is missing")
	}
	client := &http.Client{
		Timeout: cmp.Or(cfg.Timeout, timeout), Transport: once{cfg.Transport},
		// Stripe never redirects. Another server must not see the key.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	backends := stripe.NewBackendsWithConfig(&stripe.BackendConfig{
		EnableTelemetry:   stripe.Bool(false),
		HTTPClient:        client,
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull}, // its lines have URLs and answers
		MaxNetworkRetries: stripe.Int64(0),
		URL:               stripe.String(strings.TrimSuffix(cmp.Or(cfg.URL, stripe.APIURL), "/")),
	})
	return &Client{
		api:    stripe.NewClient(cfg.Key, stripe.WithBackends(backends)),
		secret: cfg.WebhookSecret, meter: cfg.Meter, live: strings.Contains(cfg.Key, "_live_"),
		turns: make(chan struct{}, atOnce),
	}, nil
}

// once keeps net/http from repeating a POST that it sent on a reused connection: stripe-go gives each POST a key and GetBody,
// which net/http takes for leave to do so.
type once struct{ next http.RoundTripper }

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.GetBody = nil
	if o.next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return o.next.RoundTrip(r)
}

// Live reports whether the key is for real payments and not for Stripe's test data.
func (c *Client) Live() bool { return c.live }

// call makes a call when it is its turn, and returns what its error proves.
func call[T any](ctx context.Context, c *Client, do func(context.Context) (T, error)) (none T, err error) {
	select {
	case c.turns <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	defer func() { <-c.turns }()
	answer, err := do(ctx)
	if err != nil {
		return none, outcome(err)
	}
	return answer, nil
}
