package projections_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// The read model has what a fold of each account's stream has, also after a rebuild, and finds a customer's account.
func TestBilling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	states := map[string]billing.State{}
	write := func(account string, events ...billing.Event) {
		for _, e := range events {
			states[account] = billing.Evolve(states[account], e)
		}
		w.append(encoded[billing.Event](w, "billing", account, billing.Codec.Encode, events...)...)
	}
	bob := billingEvents("bob", began)
	write("ada", billing.PlanGranted{Plan: billing.Pro, At: began})
	write("bob", bob[:7]...)
	stop := w.project(projections.All()...)
	w.caughtUp()
	if account, err := w.reader.Customer(t.Context(), "cus_bob"); err != nil || account != "" {
		t.Errorf("before the payment: got %q, %v, want no account", account, err)
	}
	if ids, err := w.reader.CheckingOut(t.Context(), "", 10); err != nil || !slices.Equal(ids, []string{"bob"}) {
		t.Errorf("before the payment: got Checkouts of %v, %v, want bob's", ids, err)
	}
	write("bob", bob[7:]...)
	w.caughtUp()

	check := func(when string) {
		t.Helper()
		list, err := w.reader.Billed(t.Context(), "", 10)
		if want := []projections.Billed{{"ada", states["ada"]}, {"bob", states["bob"]}}; err != nil || !reflect.DeepEqual(list, want) {
			t.Errorf("%s: got %+v, %v, want %+v", when, list, err, want)
		}
		for customer, want := range map[string]string{"cus_bob": "bob", "cus_ada": "", "": ""} {
			if account, err := w.reader.Customer(t.Context(), customer); err != nil || account != want {
				t.Errorf("%s: customer %q: got %q, %v, want %q", when, customer, account, err, want)
			}
		}
	}
	check("followed")
	if list, err := w.reader.Billed(t.Context(), "ada", 10); err != nil || len(list) != 1 || list[0].Account != "bob" {
		t.Errorf("the next page: got %+v, %v, want bob", list, err)
	}
	if ids, err := w.reader.CheckingOut(t.Context(), "", 10); err != nil || len(ids) > 0 {
		t.Errorf("got Checkouts of %v, %v, want none", ids, err)
	}
	if plans, err := w.reader.Plans(t.Context(), "bob", "eve"); err != nil || !reflect.DeepEqual(plans, map[string]billing.State{"bob": states["bob"]}) {
		t.Errorf("plans: got %+v, %v, want bob's", plans, err)
	}
	stop()
	if _, err := w.pool.Exec(t.Context(), `TRUNCATE read.billing; DELETE FROM read.checkpoints`); err != nil {
		t.Fatal(err)
	}
	w.project(projections.All()...)
	w.caughtUp()
	check("rebuilt")
}

// The owner reads what happened to the plan in sentences.
func TestBillingHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("ada", "01A")
	w.project(projections.All()...)
	w.caughtUp()
	entries, err := w.reader.AccountHistory(t.Context(), "ada", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if strings.HasPrefix(e.Type, "billing.") {
			got = append(got, e.Sentence)
		}
	}
	want := []string{
		"The operator gave the account the plan Starter until 9 January 2030 03:04 (UTC): A week to try.",
		"The account has the plan Starter: up to 2 desktops of t3.medium.",
		"The operator withdrew the plan that the account was given.",
		"A payment page for the plan Pro was requested.",
		"The payment page could not be opened. Nothing was paid.",
		"A payment page for the plan Pro was requested.",
		"The payment page was completed.",
		"The subscription of the plan Pro is active until 2 February 2030 03:04 (UTC), and then renews.",
		"19.00 USD was paid for the time from 2 January 2030 03:04 (UTC) to 2 February 2030 03:04 (UTC).",
		"A payment for the plan Pro is due.",
		"A payment of 19.00 USD failed. Stripe tries again on 5 January 2030 03:04 (UTC).",
		"A payment for your plan failed. Pay the open invoice by 9 January 2030 03:04 (UTC), or your desktops stop. Until then you cannot create desktops.",
		"The time that desktops ran on 2030-01-01 is reported to Stripe: 1 hour 30 minutes.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Enforcement sees the running desktops only, each with the type by which its plan is decided.
func TestEachRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	desktop := func(id, machineType, region string, more ...instance.Event) {
		w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, append([]instance.Event{
			instance.Requested{Account: "ada", Name: seal("ada", label(id), "name"), Type: machineType, Region: region},
			instance.LaunchAttempted{Attempt: 1, At: began}, instance.MachineLaunched{Attempt: 1, Machine: "i-" + id, At: began},
		}, more...)...)...)
	}
	runs := instance.MachineRunning{Address: "a", At: began}
	desktop("01A", "t3.large", "eu-central-1", runs)
	desktop("01B", "t3.large", "local", runs) // older local desktops have the name of a type of EC2's
	desktop("01C", "t3.large", "eu-central-1")
	desktop("01D", "t3.large", "eu-central-1", runs, instance.StopRequested{At: began}, instance.MachineStopped{Asked: true})
	w.append(encoded[instance.Event](w, "instance", "01E", instance.Codec.Encode,
		instance.TakenOver{Account: "bob", Name: seal("bob", label("01E"), "old"), Region: "eu-central-1", Machine: "i-9", Address: "a", At: began, CreatedAt: began})...)
	w.project(projections.All()...)
	w.caughtUp()
	var got []string
	err := w.reader.EachRunning(t.Context(), func(account, id, machineType string) error {
		got = append(got, account+" "+id+" "+machineType)
		return nil
	})
	if want := []string{"ada 01A t3.large", "ada 01B local", "bob 01E original"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	stop := errors.New("stop")
	if err := w.reader.EachRunning(t.Context(), func(_, _, _ string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of do", err)
	}
}
