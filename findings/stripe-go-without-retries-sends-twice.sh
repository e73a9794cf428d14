#!/usr/bin/env bash
# Does stripe-go with MaxNetworkRetries 0 send each call once?
# Guess:    0 means that a call that fails is one request; a program that repeats calls itself can count on that.
# Truth:    a POST reaches the server twice if the server takes it on a reused connection and closes it without an
#           answer. stripe-go gives each POST an Idempotency-Key, and sets Request.GetBody ("usually not used"). net/http
#           takes a POST with that header and GetBody for one that may be repeated, and repeats it by itself, before
#           stripe-go sees anything. The key is the same, so Stripe does it once; a meter event without an identifier, a
#           proxy or a test server that counts requests sees two. Workaround: an http.RoundTripper that removes GetBody.
# Versions: stripe/stripe-go 85.0.0; Go 1.27.3. Seen on 2026-11-28.
# Source:   stripe-go, stripe.go: NewRequest, resetBodyReader. Go, net/http: Request.isReplayable,
#           persistConn.shouldRetryRequest (transport.go).
# Usage:    needs Go. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
export GOWORK=off

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 2' INT TERM
cannot() { echo "cannot run: $1"; exit 2; }
command -v go >/dev/null || cannot 'no Go'
cd "$dir"
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stripe/stripe-go/v85"
)

var changed bool

// expect prints an observation, and records whether it differs from the head of this file.
func expect(ok bool, format string, args ...any) {
	mark := "as described"
	if !ok {
		mark, changed = "CHANGED", true
	}
	fmt.Printf("  %s (%s)\n", fmt.Sprintf(format, args...), mark)
}

// once keeps net/http from repeating a request.
type once struct{ next http.RoundTripper }

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.GetBody = nil
	return o.next.RoundTrip(r)
}

// calls makes a GET and then a POST on the same connection, whose answer the server withholds. It returns the POSTs' keys.
func calls(transport http.RoundTripper) (keys []string, err error) {
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"id": "price_1"}`)
			return
		}
		mu.Lock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		mu.Unlock()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}))
	defer server.Close()
	backends := stripe.NewBackendsWithConfig(&stripe.BackendConfig{
		URL: stripe.String(server.URL), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		HTTPClient: &http.Client{Transport: transport, Timeout: 30 * time.Second},
	})
	client := stripe.NewClient("sk_test_example", stripe.WithBackends(backends))
	ctx := context.Background()
	if _, err := client.V1Prices.Retrieve(ctx, "price_1", nil); err != nil {
		fmt.Println("cannot run:", err)
		os.Exit(2)
	}
	_, err = client.V1BillingMeterEvents.Create(ctx, &stripe.BillingMeterEventCreateParams{
		EventName: stripe.String("seconds"), Payload: map[string]string{"stripe_customer_id": "cus_1", "value": "1"},
	})
	mu.Lock()
	defer mu.Unlock()
	return keys, err
}

func main() {
	keys, err := calls(&http.Transport{})
	expect(err != nil && len(keys) == 2, "one call of stripe-go: %d requests, %v", len(keys), err)
	expect(len(keys) == 2 && keys[0] == keys[1] && strings.TrimSpace(keys[0]) != "", "they have the same key: %t", len(keys) == 2 && keys[0] == keys[1])
	keys, err = calls(once{&http.Transport{}})
	expect(err != nil && len(keys) == 1, "without GetBody: %d request", len(keys))
	if changed {
		os.Exit(1)
	}
}
GO
{ go mod init example.org/finding && go mod edit -go=1.26.0 &&
  timeout 60 go get github.com/stripe/stripe-go/v85@v85.0.0 &&
  timeout 300 go build -o finding .; } >"$dir/log" 2>&1 || cannot "build: $(tail -3 "$dir/log")"
go version
rc=0
timeout 70 ./finding || rc=$?
[ "$rc" -le 1 ] || rc=2
exit "$rc"
