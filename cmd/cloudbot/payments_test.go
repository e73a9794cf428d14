package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// sell sets the settings of a server that sells plans at a small Stripe.
func sell(t *testing.T) *stripetest.Server {
	t.Helper()
	stripe := stripetest.New(stripetest.Config{Seed: 1})
	front := httptest.NewServer(stripe)
	t.Cleanup(front.Close)
	for name, value := range map[string]string{
		"STRIPE_API_URL": front.URL, "STRIPE_SECRET_KEY": stripetest.DefaultKey, "STRIPE_PUBLISHABLE_KEY": stripetest.DefaultPublishable,
		"STRIPE_WEBHOOK_SECRET": stripetest.DefaultSecret, "STRIPE_PRICE_ID_PRO": stripetest.DefaultPrices[1].ID, "STRIPE_METER_EVENT": stripetest.DefaultMeter,
	} {
		t.Setenv(name, value)
	}
	return stripe
}

// subscriber signs an account up.
func subscriber(t *testing.T, run func(...string) (string, error), email string) (account string) {
	t.Helper()
	if _, err := run("migrate"); err != nil {
		t.Fatal(err)
	}
	if err := operate(t.Context(), func(ctx context.Context, o *operator) error {
		log := o.events
		log.DigestKey = []byte("digests")
		login, err := (&commands.Accounts{Log: log, Vault: o.vault, Passwords: newPasswords(o.vault), Blind: o.vault.Blind}).SignUp(ctx, commands.Origin{}, email, "correct horse battery", "", "a test")
		account = login.Account
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return account
}

// An operator gives an account a plan, sees it, and withdraws it.
func TestAccountsPlan(t *testing.T) {
	run := tools(t)
	sell(t)
	id := subscriber(t, run, "ada@example.com")
	plan := func(args ...string) (v planView) {
		t.Helper()
		out, err := run(append([]string{"accounts", "plan", "ada@example.com", "--json"}, args...)...)
		if err != nil || json.Unmarshal([]byte(out), &v) != nil {
			t.Fatalf("%q: got %s, %v", args, out, err)
		}
		return v
	}
	if v := plan(); v.ID != id || v.Plan != "" || v.Level != "none" || v.Desktops != 0 || !v.Required {
		t.Errorf("before: got %+v, want none", v)
	}
	if v := plan("pro", "--until", "720h", "--reason", "a friend"); v.Plan != "pro" || v.Level != "full" || v.Desktops != 5 || v.Granted != "pro" || v.GrantedUntil == nil || time.Until(*v.GrantedUntil) > 720*time.Hour {
		t.Errorf("granted: got %+v, want Pro for 30 days", v)
	}
	if out, err := run("accounts", "list"); err != nil || !strings.Contains(out, "PLAN") || !strings.Contains(out, "Pro until 20") {
		t.Errorf("list: got %s, %v, want the plan", out, err)
	}
	if out, err := run("accounts", "plan", id); err != nil || !strings.Contains(out, "Pro, 0 of 5 desktops used") || !strings.Contains(out, "pro until") {
		t.Errorf("as text: got %s, %v, want the plan", out, err)
	}
	if out, err := run("payments", "status", "--json"); err != nil || !strings.Contains(out, `"granted": 1`) || !strings.Contains(out, `"pro": 1`) || !strings.Contains(out, `"last_comparison": null`) {
		t.Errorf("status: got %s, %v, want one account with Pro", out, err)
	}
	if v := plan("--withdraw"); v.Plan != "" || v.Level != "none" || v.Granted != "" {
		t.Errorf("withdrawn: got %+v, want none", v)
	}
	for _, c := range []struct{ args, want string }{
		{"ada@example.com --withdraw", "no granted plan"}, {"ada@example.com gold", "no such plan"}, {"eve@example.com pro", "no account"},
		{"ada@example.com pro --until yesterday", `"yesterday" is not a time`}, {"ada@example.com pro --until -1h", "is not a time"}, {"ada@example.com pro --until 2020-01-01T00:00:00Z", "later time"},
		{"ada@example.com pro --withdraw", "takes no plan"}, {"ada@example.com --until 1h", "need a plan"},
	} {
		if out, err := run(append([]string{"accounts", "plan"}, strings.Fields(c.args)...)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %s, %v, want %q", c.args, out, err, c.want)
		}
	}
}

// The comparison finds what no message told, and its exit code says that an operator has to look.
func TestPaymentsCompare(t *testing.T) {
	run := tools(t)
	stripe := sell(t)
	id := subscriber(t, run, "ada@example.com")
	var session string
	if err := operate(t.Context(), func(ctx context.Context, o *operator) error {
		client, err := openStripe(o.cfg)
		if err != nil {
			return err
		}
		paid := newPayments(o.cfg, "https://cloud.example.org", o.events, books{o.reader}, nil, client, o.log)
		_, session, err = paid.Checkout(ctx, commands.Origin{Account: id}, billing.Pro, "https://cloud.example.org/app/plan", "https://cloud.example.org/app/plan")
		if err != nil {
			return err
		}
		if err := stripe.Pay(session, "4242424242424242", "ada@example.com"); err != nil {
			return err
		}
		return paid.Sync(ctx, commands.Origin{Account: id})
	}); err != nil {
		t.Fatal(err)
	}
	if out, err := run("payments", "compare", "--json"); err != nil || !strings.Contains(out, `"accounts": 1`) || !strings.Contains(out, `"different": 0`) {
		t.Errorf("equal: got %s, %v, want nothing different", out, err)
	}
	stripe.Advance(32 * 24 * time.Hour) // it renews, and no message arrives
	if out, err := run("payments", "compare"); err != nil || !strings.Contains(out, "1 with a customer at Stripe, 1 different, 1 recorded") {
		t.Errorf("after a renewal: got %s, %v, want it recorded", out, err)
	}
	if out, err := run("payments", "status"); err != nil || strings.Contains(out, "never") {
		t.Errorf("status: got %s, %v, want the time of the comparison", out, err)
	}
	t.Setenv("STRIPE_SECRET_KEY", "")
	t.Setenv("STRIPE_PUBLISHABLE_KEY", "")
	if out, err := run("payments", "compare"); !errors.Is(err, errNoStripe) {
		t.Errorf("without keys: got %s, %v, want a refusal", out, err)
	}
	if out, err := run("accounts", "plan", id); err != nil || !strings.Contains(out, "requires no plans") {
		t.Errorf("without keys: got %s, %v, want a note that plans have no effect", out, err)
	}
}

// What only an operator can solve ends the comparison with the exit code 3.
func TestUnsolved(t *testing.T) {
	t.Parallel()
	if err := unsolved(commands.Comparison{Different: 1, Foreign: 2}); err != nil {
		t.Errorf("got %v, want nothing to solve", err)
	}
	for _, c := range []commands.Comparison{{Several: []string{"01A"}}, {Unlinked: []string{"sub_1"}}} {
		if special, ok := errors.AsType[exitError](unsolved(c)); !ok || special.code != 3 {
			t.Errorf("%+v: got %v, want the exit code 3", c, unsolved(c))
		}
	}
}

// Doctor names the setting that Stripe does not take, and no part of a key.
func TestCheckStripe(t *testing.T) {
	tools(t)
	sell(t)
	for name, c := range map[string]struct{ setting, value, want string }{
		"all is well":           {"STRIPE_PRICE_ID_STARTER", "", ""},
		"no such price":         {"STRIPE_PRICE_ID_STARTER", "price_of_another_account", "STRIPE_PRICE_ID_STARTER names what Stripe does not have"},
		"no such meter":         {"STRIPE_METER_EVENT", "another", "STRIPE_METER_EVENT names what Stripe does not have"},
		"another's key":         {"STRIPE_SECRET_KEY", "sk_test_ofAnotherAccount0123456789", "STRIPE_SECRET_KEY is not accepted"},
		"a Stripe that is gone": {"STRIPE_API_URL", "http://127.0.0.1:1", "could not be looked up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(c.setting, c.value)
			cfg, err := loadConfig()
			if err != nil {
				t.Fatal(err)
			}
			said, err := checkStripe(t.Context(), cfg)
			if c.want == "" && (err != nil || !strings.Contains(said, "Pro for 4900 USD")) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %q, %v, want %q", said, err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "ofAnother") || errors.As(err, new(degraded)) != (c.setting == "STRIPE_API_URL")) {
				t.Errorf("got %v, want no key in it, and a note only if Stripe is gone", err)
			}
		})
	}
}
