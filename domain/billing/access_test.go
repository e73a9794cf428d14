package billing

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

func TestGrants(t *testing.T) {
	t.Parallel()
	grant := func(p Plan, until time.Time) GrantPlan {
		return GrantPlan{Plan: p, Until: until, Reason: "a friend", At: noon, Terms: terms}
	}
	granted := PlanGranted{Pro, after(day), "a friend", noon}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "grant", When: grant(Pro, after(day)), Then: []Event{granted, allows(Pro, noon, after(7*day))}},
		{Name: "in another zone", When: grant(Pro, after(day).In(time.FixedZone("x", 3600))), Then: []Event{granted, allows(Pro, noon, after(7*day))}},
		{Name: "again", Given: []Event{granted, allows(Pro, noon, after(7*day))}, When: grant(Pro, after(day))},
		{Name: "an unknown plan", When: grant("gold", time.Time{}), Err: ErrUnknownPlan},
		{Name: "until a time that has passed", When: grant(Pro, noon), Err: ErrUntil},
		{Name: "withdraw", Given: []Event{granted, allows(Pro, noon, after(7*day))}, When: WithdrawPlan{after(time.Hour), terms}, Then: []Event{
			PlanWithdrawn{after(time.Hour)}, nothing(Pro, PlanEnded, after(time.Hour), after(2*time.Hour)),
		}},
		{Name: "withdraw none", When: WithdrawPlan{noon, terms}, Err: ErrNoGrant},
		{Name: "not over", Given: []Event{granted, allows(Pro, noon, after(7*day))}, When: Assess{after(day - 1), terms}},
		{Name: "over", Given: []Event{granted, allows(Pro, noon, after(7*day))}, When: Assess{after(day), terms}, Then: []Event{
			nothing(Pro, PlanEnded, after(day), after(day+time.Hour)),
		}},
		{Name: "a larger one beside a subscription", Given: bought(Starter), When: grant(Pro, time.Time{}), Then: []Event{
			PlanGranted{Pro, time.Time{}, "a friend", noon}, allows(Pro, noon, after(7*day)),
		}},
		{Name: "a smaller one beside a subscription", Given: bought(Pro), When: grant(Starter, time.Time{}), Then: []Event{
			PlanGranted{Starter, time.Time{}, "a friend", noon},
		}},
		{
			Name:  "a smaller one does not narrow what a payment that is due leaves",
			Given: bought(Pro, PlanGranted{Plan: Starter, At: noon}), When: see("sub_1", Pro, PastDue, noon),
			Then: []Event{shown("sub_1", Pro, PastDue, noon), owes(Pro, noon, after(7*day), after(7*day))},
		},
		{
			Name:  "a smaller one is what stays after the grace",
			Given: bought(Pro, PlanGranted{Plan: Starter, At: noon}, shown("sub_1", Pro, PastDue, noon), owes(Pro, noon, after(7*day), after(7*day))),
			When:  Assess{after(7 * day), terms}, Then: []Event{allows(Starter, after(7*day), time.Time{})},
		},
		{
			Name:  "a larger one hides that a payment is due",
			Given: bought(Pro, PlanGranted{Plan: Enterprise, At: noon}, allows(Enterprise, noon, after(7*day))), When: see("sub_1", Pro, PastDue, noon),
			Then: []Event{shown("sub_1", Pro, PastDue, noon)},
		},
		{
			Name:  "the grace was over before the granted plan",
			Given: bought(Pro, PlanGranted{Plan: Enterprise, Until: after(30 * day), At: noon}, allows(Enterprise, noon, after(7*day)), shown("sub_1", Pro, PastDue, noon)),
			When:  Assess{after(30 * day), terms}, Then: []Event{nothing(Pro, PaymentFailed, after(30*day), after(30*day+time.Hour))},
		},
	})
}

// TestNarrowing is about what runs under one plan and is not in the next one.
func TestNarrowing(t *testing.T) {
	t.Parallel()
	month := after(30 * day)
	smaller := bought(Enterprise, shown("sub_1", Pro, Active, month), allows(Pro, month, month.Add(7*day)))
	decider.Run(t, []domaintest.Case[Event, Command]{
		{
			Name: "to a smaller plan", Given: bought(Enterprise), When: see("sub_1", Pro, Active, month),
			Then: []Event{shown("sub_1", Pro, Active, month), allows(Pro, month, month.Add(7*day))},
		},
		{Name: "nothing new", Given: smaller, When: Assess{month.Add(8 * day), terms}},
		{
			Name: "to one still smaller: the time that was announced stays", Given: smaller, When: see("sub_1", Starter, Active, month.Add(day)),
			Then: []Event{shown("sub_1", Starter, Active, month.Add(day)), allows(Starter, month.Add(day), month.Add(7*day))},
		},
		{
			Name: "to one still smaller at the last minute: an hour's notice", Given: smaller, When: see("sub_1", Starter, Active, month.Add(7*day-time.Minute)),
			Then: []Event{shown("sub_1", Starter, Active, month.Add(7*day-time.Minute)), allows(Starter, month.Add(7*day-time.Minute), month.Add(7*day+59*time.Minute))},
		},
		{
			Name: "to one still smaller afterwards", Given: smaller, When: see("sub_1", Starter, Active, month.Add(8*day)),
			Then: []Event{shown("sub_1", Starter, Active, month.Add(8*day)), allows(Starter, month.Add(8*day), month.Add(15*day))},
		},
		{
			Name: "a payment fails: the time that was announced stays", Given: smaller, When: see("sub_1", Pro, PastDue, month.Add(day)),
			Then: []Event{shown("sub_1", Pro, PastDue, month.Add(day)), owes(Pro, month.Add(day), month.Add(8*day), month.Add(7*day))},
		},
		{
			Name:  "and it is paid: the time that was announced stays",
			Given: append(smaller, shown("sub_1", Pro, PastDue, month.Add(day)), owes(Pro, month.Add(day), month.Add(8*day), month.Add(7*day))),
			When:  see("sub_1", Pro, Active, month.Add(2*day)), Then: []Event{shown("sub_1", Pro, Active, month.Add(2*day)), allows(Pro, month.Add(2*day), month.Add(7*day))},
		},
		{
			Name: "plans are required since today, and a small one is granted", When: GrantPlan{Plan: Starter, At: noon, Terms: terms},
			Then: []Event{PlanGranted{Plan: Starter, At: noon}, allows(Starter, noon, after(7*day))},
		},
		{
			Name: "plans are required since yesterday", Given: []Event{none}, When: GrantPlan{Plan: Starter, At: after(day), Terms: terms},
			Then: []Event{PlanGranted{Plan: Starter, At: after(day)}, allows(Starter, after(day), after(7*day))},
		},
		{Name: "plans are required since today", When: Assess{noon, terms}, Then: []Event{none}},
		{Name: "nothing since", Given: []Event{none}, When: Assess{after(30 * day), terms}},
		{
			Name: "the operator grants more time to pay", Given: bought(Pro, shown("sub_1", Pro, PastDue, month), owes(Pro, month, month.Add(7*day), time.Time{})),
			When: Assess{month, Terms{14 * day, time.Hour}}, Then: []Event{owes(Pro, month, month.Add(14*day), time.Time{})},
		},
	})
}

func TestMayAndMust(t *testing.T) {
	t.Parallel()
	pro := allows(Pro, noon, after(day)).Access
	for name, c := range map[string]struct {
		access              Access
		held                int
		kind                string
		create, start, stop string // codes, and words of the sentence; "": it may
	}{
		"never assessed":        {Access{}, 0, "t3.medium", "plan_needed", "plan_needed", ""},
		"no plan yet":           {none.Access, 0, "t3.medium", "plan_needed", "plan_needed", ""},
		"ended":                 {nothing(Pro, PlanEnded, noon, noon).Access, 0, "t3.medium", "plan_ended", "plan_ended", "Your plan has ended."},
		"ended, local":          {nothing(Pro, PlanEnded, noon, noon).Access, 0, "local", "plan_ended", "plan_ended", "Your plan has ended."},
		"not paid":              {nothing(Pro, PaymentFailed, noon, noon).Access, 0, "t3.medium", "payment_failed", "payment_failed", "not paid in time"},
		"paused":                {nothing(Pro, SetAside, noon, noon).Access, 0, "t3.medium", "plan_paused", "plan_paused", "not active"},
		"due":                   {owes(Pro, noon, after(7*day), time.Time{}).Access, 5, "t3.large", "payment_due", "", ""},
		"due, another type":     {owes(Pro, noon, after(7*day), time.Time{}).Access, 5, "t3.xlarge", "payment_due", "plan_too_small", "no desktops of type t3.xlarge"},
		"due, announced":        {owes(Pro, noon, after(7*day), after(day)).Access, 6, "t3.xlarge", "payment_due", "plan_too_small", ""},
		"full":                  {pro, 5, "t3.large", "", "", ""},
		"full, local":           {pro, 5, "local", "", "", ""},
		"full, taken over":      {pro, 5, "original", "", "", ""},
		"full, too many":        {pro, 6, "t3.medium", "", "plan_too_small", ""},
		"full, another type":    {pro, 1, "t3.xlarge", "plan_too_small", "plan_too_small", ""},
		"full, beyond":          {allows(Pro, noon, noon).Access, 6, "t3.medium", "", "plan_too_small", "is for 5 desktops"},
		"full, of no type":      {allows(Pro, noon, time.Time{}).Access, 1, "t3.xlarge", "plan_too_small", "plan_too_small", "no desktops of type"},
		"full, the last minute": {allows(Starter, noon, after(1)).Access, 3, "t3.medium", "", "plan_too_small", ""},
	} {
		if got := code(t, c.access.MayCreate(c.kind)); got != c.create {
			t.Errorf("%s: create: got %q, want %q", name, got, c.create)
		}
		if got := code(t, c.access.MayStart(c.kind, c.held)); got != c.start {
			t.Errorf("%s: start: got %q, want %q", name, got, c.start)
		}
		if got := c.access.MustStop(c.kind, c.held > c.access.Desktops, noon); c.stop == "" && got != "" || !strings.Contains(got, c.stop) {
			t.Errorf("%s: stop: got %q, want %q in it", name, got, c.stop)
		}
	}
	if got, want := owes(Pro, noon, after(day), time.Time{}).Why(), "Pay the open invoice by 29 November 2026 12:00 (UTC)"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
}

// code returns the code of a refusal that asks for a plan or a payment.
func code(t *testing.T, err error) string {
	t.Helper()
	var refused *domain.Error
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &refused) || refused.Kind != domain.PaymentRequired || refused.Msg == "":
		t.Errorf("got %#v, want a refusal of kind PaymentRequired with a sentence", err)
		return "?"
	}
	return refused.Code
}
