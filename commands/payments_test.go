package commands_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// sizes is a cloud with the plans' types, and one that is in none.
type sizes struct{ machines.Cloud }

func (sizes) Region() string { return "eu-central-1" }

func (sizes) Types() []machines.MachineType {
	return []machines.MachineType{{ID: "t3.large"}, {ID: "t3.medium"}, {ID: "t3.xlarge"}, {ID: "m7.metal"}}
}

// shop is a world in which desktops need plans, which are paid at a small Stripe.
type shop struct {
	*world
	stripe   *commandstest.Stripe
	payments *commands.Payments
	plans    *commands.Plans
	payers   *commandstest.Payers
}

var terms = billing.Terms{Grace: 7 * 24 * time.Hour, Notice: time.Hour}

func newShop() *shop { return newShopOn(newWorld(1)) }

func newShopOn(w *world) *shop {
	s := &shop{world: w, stripe: commandstest.NewStripe(w.Clock.Now), payers: &commandstest.Payers{Store: w.Recorder}}
	s.require(true)
	return s
}

// require says whether desktops need plans from now on.
func (s *shop) require(plans bool) {
	s.Log.Plans, s.Log.Terms = plans, terms
	s.Accounts.Log, s.Instances.Log, s.Keys.Log, s.Guests.Log = s.Log, s.Log, s.Log, s.Log
	s.Instances.Cloud = sizes{}
	quiet := slog.New(slog.DiscardHandler)
	s.payments = &commands.Payments{Log: s.Log, Stripe: s.stripe, Prices: commandstest.PriceIDs, Books: s.payers, Logger: quiet, Origins: []string{"https://cloudbot.example"}}
	s.plans = &commands.Plans{Log: s.Log, Books: s.payers, Running: s.running, Logger: quiet, Payments: s.payments}
}

// running lists running desktops by a fold of the log.
func (s *shop) running(ctx context.Context, do func(account, id, machineType string) error) error {
	var ids []string
	for e, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			return err
		}
		if e.Stream.Aggregate == "instance" && e.Version == 1 {
			ids = append(ids, e.Stream.ID)
		}
	}
	for _, id := range ids {
		d, err := s.Log.Instance(ctx, id)
		if err != nil {
			return err
		}
		if d.Status == instance.Running {
			if err := do(d.Account, id, d.Type); err != nil {
				return err
			}
		}
	}
	return nil
}

const success, cancel = "https://cloudbot.example/plan?x=1", "https://cloudbot.example/plan"

func (s *shop) checkout(t testing.TB, o commands.Origin, p billing.Plan) (to, session string) {
	t.Helper()
	to, session, err := s.payments.Checkout(t.Context(), o, p, success, cancel)
	if err != nil {
		t.Fatalf("checkout: %v", err)
	}
	return to, session
}

// buy pays for a plan and returns the subscription.
func (s *shop) buy(t testing.TB, o commands.Origin, p billing.Plan) string {
	t.Helper()
	_, session := s.checkout(t, o, p)
	id := s.stripe.Pay(session)
	s.sync(t, o)
	return id
}

func (s *shop) sync(t testing.TB, o commands.Origin) {
	t.Helper()
	if err := s.payments.Sync(t.Context(), o); err != nil {
		t.Fatalf("sync: %v", err)
	}
}

func (s *shop) enforce(t testing.TB) {
	t.Helper()
	if err := s.plans.Enforce(t.Context()); err != nil {
		t.Fatalf("enforce: %v", err)
	}
}

func (s *shop) overview(t testing.TB, o commands.Origin) commands.Overview {
	t.Helper()
	v, err := s.Log.Overview(t.Context(), o.Account)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// level returns the account's level and plan as the log's last event has it.
func (s *shop) level(t testing.TB, o commands.Origin) string {
	t.Helper()
	var last string
	for e, err := range s.ReadStream(t.Context(), eventstore.StreamID{Aggregate: "billing", ID: o.Account}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev, err := billing.Codec.Decode(e.Type, e.Schema, e.Data); err != nil {
			t.Fatal(err)
		} else if a, ok := ev.(billing.AccessSet); ok {
			last = fmt.Sprint(a.Level, " ", a.Plan)
		}
	}
	return last
}

func (s *shop) create(t testing.TB, o commands.Origin, machineType string) string {
	t.Helper()
	_, err := s.Instances.Create(t.Context(), o, "", machineType)
	if err != nil && commandstest.Code(err) == "" {
		t.Fatal(err)
	}
	return commandstest.Code(err)
}

// From sign-up to a plan: no desktop before it is paid, the plan's limits afterwards, and no URL of Stripe's in the log.
func TestBuyAPlan(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	if got := s.create(t, ada, ""); got != "plan_needed" {
		t.Errorf("got %q for a create without a plan, want plan_needed", got)
	}
	intended := false
	s.stripe.Before = func(call string) error {
		intended = intended || call == "OpenCheckout" && len(s.dataOf(t, "billing.checkout_requested")) == 1
		return nil
	}
	to, session := s.checkout(t, ada, billing.Pro)
	if to != "https://stripe.test/"+session || !intended {
		t.Fatalf("got URL %q of session %q, recorded before the call: %v; want Stripe's URL, and the intent first", to, session, intended)
	}
	if got := s.create(t, ada, ""); got != "plan_needed" {
		t.Errorf("got %q for a create before the payment, want plan_needed", got)
	}
	s.stripe.Pay(session)
	s.sync(t, ada)
	out, err := s.Instances.Create(t.Context(), ada, "", "")
	if err != nil || out.Answer.Type != "t3.large" {
		t.Fatalf("got %+v, %v, want a desktop of the plan's type", out, err)
	}
	if got := s.create(t, ada, "t3.xlarge"); got != "plan_too_small" {
		t.Errorf("got %q for a type of a larger plan, want plan_too_small", got)
	}
	for range 4 {
		if got := s.create(t, ada, "t3.medium"); got != "" {
			t.Fatalf("got %q within the plan, want a desktop", got)
		}
	}
	if got := s.create(t, ada, ""); got != "quota_exceeded" {
		t.Errorf("got %q beyond the plan, want quota_exceeded", got)
	}
	for _, a := range s.Appends {
		set, allowed := 0, 0
		for _, w := range a.Writes {
			for _, e := range w.Events {
				if strings.Contains(string(e.Data), "stripe.test") {
					t.Errorf("got a URL of Stripe's in %s %s, want none", e.Type, e.Data)
				}
				switch e.Type {
				case "billing.access_set":
					set++
				case "quota.allowance_set":
					allowed++
				}
			}
		}
		if (set > 0) != (allowed > 0) {
			t.Errorf("got %d changes of access and %d of the quota in one append, want both or neither", set, allowed)
		}
	}
}

// Without plans, everything is as without Stripe.
func TestPlansNotRequired(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.require(false)
	ada, _ := s.SignUp(t, "ada@example.org")
	id := s.up(t, ada, true)
	if got := s.create(t, ada, "m7.metal"); got != "quota_exceeded" {
		t.Errorf("got %q, want the server's limit", got)
	}
	s.Clock.Advance(1000 * time.Hour)
	s.enforce(t)
	if got := s.status(t, id); got != instance.Running {
		t.Errorf("got %s, want it running", got)
	}
	s.stop(t, ada, id)
	if _, err := s.Instances.Start(t.Context(), ada, id); err != nil {
		t.Errorf("start: %v", err)
	}
	if v := s.overview(t, ada); v.Billing || v.Held != 1 {
		t.Errorf("got %+v, want plans not required and one desktop", v)
	}
}

// A look that is overtaken by a newer one that had nothing to record does not stay.
func TestOvertakenLook(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	sub := s.buy(t, ada, billing.Pro)
	s.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	once := true
	s.stripe.Seen = func(call string) {
		if call != "SubscriptionsOf" || !once {
			return
		}
		once = false
		s.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.Active }) // it is paid
		s.sync(t, ada)                                                                    // on another replica: the log has it as active
	}
	s.sync(t, ada)
	if got := s.level(t, ada); once || got != "full pro" {
		t.Errorf("got %s, want full pro: that is what Stripe showed last", got)
	}
}

// A Stripe that shows something else each time does not keep a request waiting.
func TestEndlessLook(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	sub := s.buy(t, ada, billing.Pro)
	s.stripe.Before = func(call string) error {
		if call == "SubscriptionsOf" {
			s.stripe.Change(sub, func(s *billing.Subscription) { s.PeriodEnd = s.PeriodEnd.Add(time.Hour) })
		}
		return nil
	}
	if err := s.payments.Sync(t.Context(), ada); !errors.Is(err, commands.ErrPayments) {
		t.Errorf("got %v, want %v", err, commands.ErrPayments)
	}
}

// Two replicas that look at the same time record what Stripe shows once.
func TestTwoLooks(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	sub := s.buy(t, ada, billing.Pro)
	s.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	once := true
	s.stripe.Seen = func(call string) {
		if call == "InvoicesOf" && once {
			once = false
			s.sync(t, ada)
		}
	}
	s.sync(t, ada)
	if got := len(s.dataOf(t, "billing.subscription_seen")); got != 2 || s.level(t, ada) != "due pro" {
		t.Errorf("got %d sights of the subscription and %s, want 2 and due pro", got, s.level(t, ada))
	}
}

func TestCancelAndResume(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	if _, err := s.payments.CancelAtPeriodEnd(t.Context(), ada); !errors.Is(err, billing.ErrNoSubscription) {
		t.Errorf("got %v without a subscription, want %v", err, billing.ErrNoSubscription)
	}
	id := s.buy(t, ada, billing.Pro)
	for range 2 {
		if sub, err := s.payments.CancelAtPeriodEnd(t.Context(), ada); err != nil || !sub.CancelAt.Equal(sub.PeriodEnd) || s.level(t, ada) != "full pro" {
			t.Errorf("got %+v, %v, %s, want it to end with its period, and the plan until then", sub, err, s.level(t, ada))
		}
	}
	if sub, err := s.payments.Resume(t.Context(), ada); err != nil || !sub.CancelAt.IsZero() || !s.overview(t, ada).Subscription.CancelAt.IsZero() {
		t.Errorf("got %+v, %v, want it to renew", sub, err)
	}
	s.stripe.After = func(call string) error {
		if call == "CancelAtPeriodEnd" {
			return commandstest.ErrNoAnswer
		}
		return nil
	}
	if _, err := s.payments.CancelAtPeriodEnd(t.Context(), ada); !errors.Is(err, commands.ErrPayments) {
		t.Errorf("got %v without an answer, want %v", err, commands.ErrPayments)
	}
	s.stripe.After = nil
	s.sync(t, ada)
	if s.overview(t, ada).Subscription.CancelAt.IsZero() {
		t.Errorf("got a subscription that renews, want what Stripe shows")
	}
	s.stripe.Change(id, func(s *billing.Subscription) { s.Status, s.Ended = billing.Canceled, s.PeriodEnd }) // no delivery told
	if _, err := s.payments.Resume(t.Context(), ada); !errors.Is(err, billing.ErrNoSubscription) || s.level(t, ada) != "none pro" {
		t.Errorf("got %v and %s after the end, want %v and none", err, s.level(t, ada), billing.ErrNoSubscription)
	}
}

// Each of several subscriptions would renew, so all are cancelled. One is resumed.
func TestCancelSeveral(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	first := s.buy(t, ada, billing.Starter)
	s.stripe.Change(first, func(s *billing.Subscription) { s.Status = billing.Canceled })
	s.sync(t, ada)
	second := s.buy(t, ada, billing.Pro)
	s.stripe.Change(first, func(s *billing.Subscription) { s.Status = billing.Active }) // at Stripe, by its operator
	s.sync(t, ada)
	if v := s.overview(t, ada); !v.Several || v.Subscription.ID != second {
		t.Fatalf("got %+v, want several, the larger first", v)
	}
	ends := func(id string) bool {
		sub, err := s.stripe.Subscription(t.Context(), id)
		return err == nil && !sub.CancelAt.IsZero()
	}
	if _, err := s.payments.CancelAtPeriodEnd(t.Context(), ada); err != nil || !ends(first) || !ends(second) {
		t.Errorf("got %v, %v, %v, want both to end", err, ends(first), ends(second))
	}
	if _, err := s.payments.Resume(t.Context(), ada); err != nil || !ends(first) || ends(second) {
		t.Errorf("got %v, %v, %v, want only the first one to end", err, ends(first), ends(second))
	}
}

func TestPortalAndInvoices(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	eve, _ := s.SignUp(t, "eve@example.org")
	if _, err := s.payments.Portal(t.Context(), ada, cancel); !errors.Is(err, billing.ErrNoCustomer) {
		t.Errorf("got %v before a payment, want %v", err, billing.ErrNoCustomer)
	}
	if list, err := s.payments.Invoices(t.Context(), ada); err != nil || len(list) > 0 {
		t.Errorf("got %v, %v before a payment, want no invoices", list, err)
	}
	id := s.buy(t, ada, billing.Pro)
	s.buy(t, eve, billing.Pro)
	for range 30 {
		s.stripe.Bill(id, "open")
	}
	sub, _ := s.stripe.Subscription(t.Context(), id)
	to, err := s.payments.Portal(t.Context(), ada, cancel)
	if err != nil || to != "https://stripe.test/portal/"+sub.Customer+"?back="+cancel {
		t.Errorf("got %q, %v, want her portal", to, err)
	}
	if _, err := s.payments.Portal(t.Context(), ada, "https://evil.example/"); commandstest.Code(err) != "invalid_url" {
		t.Errorf("got %v for a foreign URL, want invalid_url", err)
	}
	list, err := s.payments.Invoices(t.Context(), ada)
	if err != nil || len(list) != 24 || list[0].Customer != sub.Customer || list[0].Status != "open" {
		t.Errorf("got %d invoices, %v, want her newest 24", len(list), err)
	}
	s.stripe.DeleteCustomer(sub.Customer)
	if _, err := s.payments.Portal(t.Context(), ada, cancel); !errors.Is(err, commands.ErrPayments) || strings.Contains(err.Error(), "customer") {
		t.Errorf("got %v, want %v without Stripe's reason", err, commands.ErrPayments)
	}
}

// field returns the field that a refusal names.
func field(err error) string {
	var refused *domain.Error
	if errors.As(err, &refused) {
		return refused.Field
	}
	return ""
}
