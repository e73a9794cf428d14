package stripe_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe"
	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// tools are the modules of the tools, which have Stripe's own mock with the description of its API.
const tools = "-modfile=../../tools/go.mod"

// goTool returns what a command of go prints.
func goTool(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// mockProgram builds stripe-mock once: a second build could replace the file while a test runs it.
var mockProgram = sync.OnceValues(func() (string, error) { return goTool("tool", tools, "-n", "stripe-mock") })

// stripeMock runs stripe-mock, and returns its URL. It refuses parameters that Stripe does not know.
func stripeMock(t *testing.T) string {
	t.Helper()
	program, err := mockProgram()
	if err != nil {
		t.Fatal(err)
	}
	// With only the first address it would also listen on a fixed port, which another test may have.
	cmd := exec.Command(program, "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "HTTP at address: "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return "http://" + addr
		}
	}
	t.Fatal("stripe-mock does not listen")
	return ""
}

// exchange is a call of the client with its answer.
type exchange struct {
	method, path, query string
	header              http.Header
	body, answer        []byte
	status              int
}

// recorder keeps what the client and the small Stripe say to each other.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	all  []exchange
}

func (r *recorder) RoundTrip(q *http.Request) (*http.Response, error) {
	e := exchange{method: q.Method, path: q.URL.Path, query: q.URL.RawQuery, header: q.Header.Clone()}
	if q.Body != nil {
		e.body, _ = io.ReadAll(q.Body)
		q.Body = io.NopCloser(bytes.NewReader(e.body))
	}
	a, err := r.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	e.status = a.StatusCode
	e.answer, _ = io.ReadAll(a.Body)
	a.Body = io.NopCloser(bytes.NewReader(e.answer))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
	return a, nil
}

// everyCall makes each call of the client at a small Stripe, and returns what they said.
func everyCall(t *testing.T) ([]exchange, *stripetest.Server) {
	t.Helper()
	s := newSmall(t, stripetest.Config{})
	r := &recorder{next: s.Server.Transport()}
	var err error
	s.Client, err = stripe.New(stripe.Config{Key: stripetest.DefaultKey, Meter: stripetest.DefaultMeter, Transport: r})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sub := s.subscribe(t, "acc1", billing.Starter)
	again := s.order("again", "acc1", billing.Pro)
	again.Customer = sub.Customer
	open, err := s.OpenCheckout(ctx, again)
	must(open, err)
	must(s.ExpireCheckout(ctx, open.Session))
	s.subscribe(t, "acc2", billing.Enterprise)
	must(s.SubscriptionsOf(ctx, sub.Customer))
	must(nil, s.EachSubscription(ctx, func([]commands.StripeSubscription) error { return nil }))
	must(s.CancelAtPeriodEnd(ctx, sub.ID, true))
	must(s.CancelAtPeriodEnd(ctx, sub.ID, false))
	must(nil, s.CancelAt(sub.ID, s.clock.now().Add(50*time.Hour)))
	must(s.CancelAtPeriodEnd(ctx, sub.ID, false))
	invoices, err := s.InvoicesOf(ctx, sub.Customer, 24)
	must(invoices, err)
	must(s.Invoice(ctx, invoices[0].ID))
	must(nil, s.EachInvoice(ctx, s.clock.now().AddDate(0, 0, -90), func([]commands.StripeInvoice) error { return nil }))
	must(s.OpenPortal(ctx, sub.Customer, "https://cloudbot.example/plan"))
	must(s.Price(ctx, sub.Price))
	must(nil, s.ReportUsage(ctx, billing.Report{Identifier: "acc1-2026-11-27-1", Day: "2026-11-27", Seconds: 3600, Customer: sub.Customer}))
	must(s.UsageShown(ctx, sub.Customer, "2026-11-27"))
	return r.all, s.Server
}

// TestShapes has stripe-mock check every call that the client makes: a parameter that Stripe does not know is refused.
func TestShapes(t *testing.T) {
	t.Parallel()
	calls, _ := everyCall(t)
	url := stripeMock(t)
	met := map[string]int{}
	for _, c := range calls {
		q, err := http.NewRequestWithContext(t.Context(), c.method, url+c.path+"?"+c.query, bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header = c.header
		a, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if a.StatusCode != http.StatusOK {
			t.Errorf("stripe-mock answers %s %s with %d: %s", c.method, c.path, a.StatusCode, text)
		}
		met[c.method+" "+ids.ReplaceAllString(c.path, "/{id}")]++
	}
	t.Logf("stripe-mock took %d calls of %d kinds", len(calls), len(met))
	if len(met) != 13 {
		t.Errorf("the client makes %d kinds of calls: %v", len(met), met)
	}
	// The mock refuses what we do not send: otherwise it would show nothing.
	a, err := http.DefaultClient.Do(mustRequest(t, url+"/v1/checkout/sessions", "mode=subscription&no_such_parameter=1"))
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusBadRequest {
		t.Errorf("stripe-mock answers an unknown parameter with %d", a.StatusCode)
	}
}

var ids = regexp.MustCompile(`/[a-z]+_[a-z0-9_]*[0-9][a-z0-9]*`)

func mustRequest(t *testing.T, url, body string) *http.Request {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+stripetest.DefaultKey)
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return q
}

// TestMockAnswers has the client read the answers of stripe-mock, which are Stripe's own examples.
func TestMockAnswers(t *testing.T) {
	t.Parallel()
	c, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, Meter: "no such meter", URL: stripeMock(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, call := range map[string]func() (any, error){
		"subscription":  func() (any, error) { return c.Subscription(ctx, "sub_1") },
		"subscriptions": func() (any, error) { return c.SubscriptionsOf(ctx, "cus_1") },
		"cancel":        func() (any, error) { return c.CancelAtPeriodEnd(ctx, "sub_1", true) },
		"invoice":       func() (any, error) { return c.Invoice(ctx, "in_1") },
		"invoices":      func() (any, error) { return c.InvoicesOf(ctx, "cus_1", 3) },
		"portal":        func() (any, error) { return c.OpenPortal(ctx, "cus_1", "https://cloudbot.example") },
		"price":         func() (any, error) { return c.Price(ctx, "price_1") },
		"checkout":      func() (any, error) { return c.Checkout(ctx, "cs_test_1") },
	} {
		if got, err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Logf("%s: %+v", name, got)
		}
	}
	if id, err := c.Meter(ctx); err != commands.ErrNotAtStripe {
		t.Errorf("the meter is %q, %v", id, err)
	}
}

// TestSmallStripeAnswers compares what the small Stripe says with Stripe's description of its API: the answers to every call,
// and every object that is delivered.
func TestSmallStripeAnswers(t *testing.T) {
	t.Parallel()
	if _, err := mockProgram(); err != nil { // it has Stripe's description; go has the folder once it was built
		t.Fatal(err)
	}
	dir, err := goTool("list", "-m", tools, "-f", "{{.Dir}}", "github.com/stripe/stripe-mock")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "embedded/openapi/spec3.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec description
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	calls, s := everyCall(t)
	for _, c := range calls {
		schema := spec.answer(c.method, c.path)
		if schema == nil {
			t.Errorf("%s %s is no call of Stripe's", c.method, c.path)
			continue
		}
		for _, wrong := range spec.check(schema, decoded(t, c.answer), "") {
			t.Errorf("%s %s: %s", c.method, c.path, wrong)
		}
	}
	kinds := map[string]bool{}
	for _, e := range s.Events() {
		event := decoded(t, e.Body).(map[string]any)
		kinds[e.Type] = true
		for _, wrong := range spec.check(map[string]any{"$ref": "#/components/schemas/event"}, event, "") {
			t.Errorf("%s: %s", e.Type, wrong)
		}
		o := event["data"].(map[string]any)["object"].(map[string]any)
		for _, wrong := range spec.check(map[string]any{"$ref": "#/components/schemas/" + o["object"].(string)}, o, "") {
			t.Errorf("%s: %s", e.Type, wrong)
		}
	}
	t.Logf("compared %d answers and %d deliveries of %d kinds", len(calls), len(s.Events()), len(kinds))
	if len(kinds) < 8 {
		t.Errorf("only these kinds were delivered: %v", kinds)
	}
	sub := map[string]any{"object": "subscription", "status": "of its own", "id": 7}
	if wrong := spec.check(map[string]any{"$ref": "#/components/schemas/subscription"}, sub, ""); len(wrong) < 10 {
		t.Errorf("the comparison finds only %v", wrong)
	}
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
