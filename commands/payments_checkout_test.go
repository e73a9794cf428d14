package commands_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

func TestCheckoutAgain(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	_, first := s.checkout(t, ada, billing.Pro)
	if to, again := s.checkout(t, ada, billing.Pro); again != first || to == "" {
		t.Errorf("got %q and %q for the same, want the same session", first, again)
	}
	_, other := s.checkout(t, ada, billing.Starter)
	if open := s.stripe.Open(); other == first || len(open) != 1 || open[0] != other {
		t.Errorf("got %v open after another plan, want only %s", open, other)
	}
	if _, session, err := s.payments.Checkout(t.Context(), ada, billing.Starter, success+"&y=2", cancel); err != nil || session == other || len(s.stripe.Open()) != 1 {
		t.Errorf("got %q, %v, %v open after another URL, want another session alone", session, err, s.stripe.Open())
	}
	s.Clock.Advance(time.Hour)
	if _, later := s.checkout(t, ada, billing.Starter); later == other || len(s.stripe.Open()) != 1 {
		t.Errorf("got %q, %v open after it expired, want another one", later, s.stripe.Open())
	}
}

func TestCheckoutRefused(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	s.payments.Origins = []string{"https://cloudbot.example:443/", "http://localhost:8000"}
	for to, want := range map[string]bool{
		success: true, "https://cloudbot.example:443/x": true, "http://localhost:8000/": true, "HTTPS://Cloudbot.Example/": true, "http://localhost/": false, "http://localhost:80/": false,
	} {
		if _, err := s.payments.Portal(t.Context(), ada, to); errors.Is(err, billing.ErrNoCustomer) != want {
			t.Errorf("%s: got %v, want it accepted: %v", to, err, want)
		}
	}
	head := s.Last(t)
	for name, c := range map[string]struct {
		plan            billing.Plan
		success, cancel string
		want            string
	}{
		"no plan":         {"", success, cancel, "unknown_plan"},
		"an unknown plan": {"gold", success, cancel, "unknown_plan"},
		"no URL":          {billing.Pro, "", cancel, "invalid_url success_url"},
		"no second URL":   {billing.Pro, success, "", "invalid_url cancel_url"},
		"a path":          {billing.Pro, "/plan", cancel, "invalid_url success_url"},
		"another host":    {billing.Pro, "https://cloudbot.example.evil.example/", cancel, "invalid_url success_url"},
		"another port":    {billing.Pro, "https://cloudbot.example:444/", cancel, "invalid_url success_url"},
		"another scheme":  {billing.Pro, "http://cloudbot.example/", cancel, "invalid_url success_url"},
		"no scheme":       {billing.Pro, "//cloudbot.example/", cancel, "invalid_url success_url"},
		"a user":          {billing.Pro, "https://cloudbot.example@evil.example/", cancel, "invalid_url success_url"},
		"our user":        {billing.Pro, "https://me:pw@cloudbot.example/", cancel, "invalid_url success_url"},
		"a script":        {billing.Pro, "javascript:alert(1)", cancel, "invalid_url success_url"},
		"a line break":    {billing.Pro, "https://cloudbot.example/\n", cancel, "invalid_url success_url"},
		"no UTF-8":        {billing.Pro, "https://cloudbot.example/\xff", cancel, "invalid_url success_url"},
		"too long":        {billing.Pro, success + strings.Repeat("x", 2048), cancel, "invalid_url success_url"},
	} {
		_, _, err := s.payments.Checkout(t.Context(), ada, c.plan, c.success, c.cancel)
		if got := strings.TrimSuffix(commandstest.Code(err)+" "+field(err), " "); got != c.want && got != c.want+" plan_type" {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	s.payments.Prices = map[string]billing.Plan{"price_pro": billing.Pro}
	if _, _, err := s.payments.Checkout(t.Context(), ada, billing.Starter, success, cancel); !errors.Is(err, commands.ErrNotOffered) {
		t.Errorf("got %v for a plan without a price, want %v", err, commands.ErrNotOffered)
	}
	if s.Last(t) != head {
		t.Errorf("got %d events of refusals, want none", s.Last(t)-head)
	}
	s.payments.Prices = map[string]billing.Plan{"price_unknown": billing.Pro} // the operator has mistyped it
	_, _, err := s.payments.Checkout(t.Context(), ada, billing.Pro, success, cancel)
	if !errors.Is(err, commands.ErrPayments) || s.overview(t, ada).Checkout != nil || len(s.dataOf(t, "billing.checkout_lost")) != 1 {
		t.Errorf("got %v and %+v after a refusal, want %v and no Checkout", err, s.overview(t, ada).Checkout, commands.ErrPayments)
	}
	s.payments.Prices = commandstest.PriceIDs
	s.checkout(t, ada, billing.Pro)
}

// While Stripe's answer is lost, the same call is repeated, also by the next request and with another plan. One Checkout is made.
func TestCheckoutWithoutAnswer(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.payments.RepeatAfter = time.Nanosecond
	ada, _ := s.SignUp(t, "ada@example.org")
	lose, calls := 1, 0
	s.stripe.After = func(call string) error {
		if call == "OpenCheckout" {
			if calls++; calls <= lose {
				return commandstest.ErrNoAnswer
			}
		}
		return nil
	}
	_, first := s.checkout(t, ada, billing.Pro)
	if open := s.stripe.Open(); calls != 2 || len(open) != 1 || open[0] != first {
		t.Errorf("got %v open after %d calls, want %s after 2", open, calls, first)
	}
	s.Clock.Advance(time.Hour)
	s.sync(t, ada)
	lose, calls = 3, 0
	_, _, err := s.payments.Checkout(t.Context(), ada, billing.Pro, success, cancel)
	if open := s.stripe.Open(); !errors.Is(err, commands.ErrPayments) || calls != 3 || len(open) != 1 {
		t.Fatalf("got %v and %v open after %d calls, want %v and one", err, open, calls, commands.ErrPayments)
	}
	pending := s.stripe.Open()[0]
	if _, session := s.checkout(t, ada, billing.Pro); session != pending || len(s.stripe.Open()) != 1 {
		t.Errorf("got %q, want the one that was made, %q", session, pending)
	}
	s.Clock.Advance(time.Hour)
	s.sync(t, ada)
	calls = 0
	_, _, err = s.payments.Checkout(t.Context(), ada, billing.Pro, success, cancel)
	pending = s.stripe.Open()[0]
	if _, session := s.checkout(t, ada, billing.Starter); err == nil || session == pending || len(s.stripe.Open()) != 1 {
		t.Errorf("got %v, then %q open, want only a new one for another plan", err, s.stripe.Open())
	}
	s.Clock.Advance(time.Hour)
	s.sync(t, ada)
	lose, calls = 9, 0
	_, _, _ = s.payments.Checkout(t.Context(), ada, billing.Pro, success, cancel)
	s.Clock.Advance(59 * time.Minute)
	s.sync(t, ada)
	if s.overview(t, ada).Checkout == nil {
		t.Errorf("got no Checkout before it expired, want one that may still be paid")
	}
	s.Clock.Advance(time.Minute)
	lose, calls = 0, 0
	if _, session := s.checkout(t, ada, billing.Pro); len(s.stripe.Open()) != 1 || s.stripe.Open()[0] != session {
		t.Errorf("got %q with %v open, want a new one after the lost one expired", session, s.stripe.Open())
	}
}

// A Checkout that Stripe never heard of is too old to be made after a while: it gets a new one.
func TestCheckoutThatNeverArrived(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.payments.RepeatAfter = time.Nanosecond
	ada, _ := s.SignUp(t, "ada@example.org")
	s.stripe.Before = func(string) error { return commandstest.ErrNoAnswer }
	if _, _, err := s.payments.Checkout(t.Context(), ada, billing.Pro, success, cancel); !errors.Is(err, commands.ErrPayments) {
		t.Fatalf("got %v without an answer, want %v", err, commands.ErrPayments)
	}
	s.stripe.Before = nil
	s.Clock.Advance(40 * time.Minute)
	if _, session := s.checkout(t, ada, billing.Pro); len(s.stripe.Open()) != 1 || s.stripe.Open()[0] != session {
		t.Errorf("got %q with %v open, want a new one", session, s.stripe.Open())
	}
}

func TestCheckoutOfASubscriber(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	_, session := s.checkout(t, ada, billing.Pro)
	id := s.stripe.Pay(session) // and no delivery tells
	if _, _, err := s.payments.Checkout(t.Context(), ada, billing.Starter, success, cancel); !errors.Is(err, billing.ErrSubscribed) || s.level(t, ada) != "full pro" {
		t.Errorf("got %v and %s, want %v and the plan that was paid", err, s.level(t, ada), billing.ErrSubscribed)
	}
	s.stripe.Change(id, func(s *billing.Subscription) { s.Status = billing.Canceled })
	s.sync(t, ada)
	s.stripe.Change(id, func(s *billing.Subscription) { s.Status = billing.Active }) // at Stripe, by its operator
	if _, _, err := s.payments.Checkout(t.Context(), ada, billing.Starter, success, cancel); !errors.Is(err, billing.ErrSubscribed) || len(s.stripe.Open()) > 0 {
		t.Errorf("got %v with %v open, want %v: Stripe shows a subscription", err, s.stripe.Open(), billing.ErrSubscribed)
	}
}

// A subscription has ended and no delivery told: the user can buy again.
func TestCheckoutAfterAnEnd(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	id := s.buy(t, ada, billing.Pro)
	s.stripe.Change(id, func(s *billing.Subscription) { s.Status = billing.Canceled })
	if _, session := s.checkout(t, ada, billing.Starter); session == "" || s.level(t, ada) != "none pro" {
		t.Errorf("got %q and %s, want a Checkout and no plan", session, s.level(t, ada))
	}
}

// The user pays one Checkout at the moment at which another page asks for a different one.
func TestCheckoutPaidMeanwhile(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"Checkout", "ExpireCheckout"} {
		s := newShop()
		ada, _ := s.SignUp(t, "ada@example.org")
		_, session := s.checkout(t, ada, billing.Pro)
		paid := ""
		s.stripe.Seen = func(call string) {
			if call == at && paid == "" {
				paid = s.stripe.Pay(session)
			}
		}
		if at == "ExpireCheckout" { // immediately before
			s.stripe.Seen, s.stripe.Before = nil, func(call string) error {
				if call == at {
					paid = s.stripe.Pay(session)
				}
				return nil
			}
		}
		_, _, err := s.payments.Checkout(t.Context(), ada, billing.Starter, success, cancel)
		if paid == "" || !errors.Is(err, billing.ErrSubscribed) || s.level(t, ada) != "full pro" || len(s.stripe.Open()) > 0 {
			t.Errorf("at %s: got %v, %s, %v open, want %v and the plan that was paid", at, err, s.level(t, ada), s.stripe.Open(), billing.ErrSubscribed)
		}
	}
}

// While Stripe makes a Checkout, another replica gives it up: its time is over. Its URL is not handed out.
func TestCheckoutGivenUpMeanwhile(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	given := ""
	s.stripe.Seen = func(call string) {
		if call == "OpenCheckout" && given == "" {
			given = s.stripe.Open()[0]
			s.Clock.Advance(time.Hour)
			s.sync(t, ada)
		}
	}
	if _, session := s.checkout(t, ada, billing.Pro); given == "" || session == given || s.overview(t, ada).Checkout.Session != session {
		t.Errorf("got %q, want another one than %q, as in the log", session, given)
	}
}

// A customer that was deleted at Stripe buys again as another one.
func TestCheckoutOfADeletedCustomer(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	id := s.buy(t, ada, billing.Pro)
	sub, _ := s.stripe.Subscription(t.Context(), id)
	s.stripe.DeleteCustomer(sub.Customer)
	s.sync(t, ada)
	if got := s.level(t, ada); got != "none pro" {
		t.Errorf("got %s, want none", got)
	}
	next, _ := s.stripe.Subscription(t.Context(), s.buy(t, ada, billing.Starter))
	if s.level(t, ada) != "full starter" || next.Customer == sub.Customer {
		t.Errorf("got %s of customer %s, want the plan starter of another customer than %s", s.level(t, ada), next.Customer, sub.Customer)
	}
}

func TestCheckoutWithAddress(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	s.payments.Email = s.Accounts.Email
	s.checkout(t, ada, billing.Pro)
	if err := s.Vault.DropKey(t.Context(), ada.Account); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.payments.Checkout(t.Context(), ada, billing.Pro, success, cancel); err == nil {
		t.Errorf("got a Checkout of an erased account, want an error")
	}
	for _, a := range s.Appends {
		if strings.Contains(fmt.Sprint(a), "ada@example.org") {
			t.Errorf("got the address in the log, want it sealed")
		}
	}
}

// For requests of several pages and replicas at the same time, one Checkout can be paid, and one subscription is made.
func TestConcurrentCheckouts(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	var wg sync.WaitGroup
	for n := range 12 {
		wg.Go(func() {
			p := billing.Offers[n%2].Plan
			if _, _, err := s.payments.Checkout(t.Context(), ada, p, success, cancel); err != nil && !errors.Is(err, commands.ErrPayments) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	open := s.stripe.Open()
	if len(open) != 1 {
		t.Fatalf("got %v open, want one", open)
	}
	s.stripe.Pay(open[0])
	s.sync(t, ada)
	if v := s.overview(t, ada); v.Access.Level != billing.Full || v.Several || v.Checkout != nil {
		t.Errorf("got %+v, want one subscription", v)
	}
}

// For any requests, payments, lost answers, refusals and steps of the clock: at most one Checkout can be paid whose URL a user
// has, no account gets two subscriptions, and what was paid is a plan.
func TestCheckoutsForAnyFaults(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newShop()
		ada, _ := s.SignUp(t, "ada@example.org")
		s.payments.RepeatAfter = time.Nanosecond
		had := map[string]bool{} // sessions whose URL the user has
		payable := func() (open []string) {
			return slices.DeleteFunc(s.stripe.Open(), func(session string) bool { return !had[session] })
		}
		pay := func() {
			for _, session := range payable() {
				s.stripe.Pay(session)
			}
		}
		s.stripe.Before = func(call string) error {
			switch rapid.IntRange(0, 11).Draw(rt, "before "+call) {
			case 0:
				return commandstest.ErrNoAnswer
			case 1:
				return &commands.RefusedError{Code: "api_key_expired", Reason: "refused"}
			case 2:
				pay()
			}
			return nil
		}
		s.stripe.After = func(call string) error {
			if rapid.IntRange(0, 5).Draw(rt, "after "+call) == 0 {
				return commandstest.ErrNoAnswer
			}
			return nil
		}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1, 2:
				p := rapid.SampledFrom([]billing.Plan{billing.Starter, billing.Pro}).Draw(rt, "plan")
				to, session, err := s.payments.Checkout(t.Context(), ada, p, success, cancel)
				if (err == nil) != (to != "") || (err == nil) != (session != "") {
					rt.Fatalf("got %q, %q, %v, want a URL and a session, or an error", to, session, err)
				}
				had[session] = err == nil
			case 3:
				pay()
			case 4:
				_ = s.payments.Sync(t.Context(), ada)
			default:
				s.Clock.Advance(time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes")) * time.Minute)
			}
			if open, live := payable(), s.live(); len(open)+live > 1 {
				rt.Fatalf("got %v that can be paid and %d subscriptions, want one of both", open, live)
			}
		}
		s.stripe.Before, s.stripe.After = nil, nil
		s.sync(t, ada)
		if got := s.overview(t, ada); (got.Access.Level == billing.Full) != (s.live() == 1) {
			rt.Fatalf("got %+v with %d subscriptions, want a plan if there is one", got, s.live())
		}
	})
}

// live counts the subscriptions at Stripe that have not ended.
func (s *shop) live() (n int) {
	for _, sub := range s.stripe.Subscriptions() {
		if !sub.Status.Over() {
			n++
		}
	}
	return n
}
