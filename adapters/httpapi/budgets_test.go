package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// A budget is set, partly used, used up and raised, and each answer says so.
func TestBudgets(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	f.at(t, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	ada := f.signUp("ada@example.com")
	get := func(want string) {
		t.Helper()
		if a := f.want(200, call{method: "GET", path: "/api/budgets", token: ada.access}); string(a.body) != want+"\n" {
			t.Errorf("got %s, want %s", a.body, want)
		}
	}
	get(`{"limits":[],"spent":[{"scope":"account","day_micros":0,"month_micros":0,"day_percent":null,"month_percent":null,"state":"ok"}],"installation_reached":false}`)
	id := f.running(ada, "x")
	other := f.create(ada, "y")
	f.happen(other, instance.LaunchAttempted{Attempt: 1, At: f.clock.Now(), Spec: instance.Spec{Type: "t3.large", Region: "test-1"}}, instance.MachineLaunched{Attempt: 1, Machine: "i-2", At: f.clock.Now()},
		instance.MachineRunning{At: f.clock.Now()}, instance.StopRequested{At: f.clock.Now()}, instance.MachineStopped{Asked: true, RunEnded: instance.RunEnded{Ended: f.clock.Now()}})
	put := func(body string) answer {
		t.Helper()
		a := f.want(200, call{method: "PUT", path: "/api/budgets", token: ada.access, body: body})
		f.caughtUp()
		return a
	}
	set := `{"scope":"account","day_micros":100000,"month_micros":null}`
	put(`{"scope":"` + id + `","day_micros":null,"month_micros":5000000}`)
	put(set)
	f.clock.advance(36 * time.Minute)
	check := func() {
		t.Helper()
		if err := f.budget.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.caughtUp()
	}
	check()
	var v budgetsView
	f.want(200, call{method: "GET", path: "/api/budgets", token: ada.access}).into(t, &v)
	if len(v.Limits) != 2 || v.Limits[0].Scope != budget.Account || *v.Limits[0].Day != 100_000 || v.Limits[0].Month != nil || *v.Limits[1].Month != 5_000_000 ||
		v.Spent[0].State != "warned_50" || *v.Spent[0].DayPercent != 59 || v.Spent[0].MonthPercent != nil || v.Spent[1].Scope != id || v.Spent[1].State != "ok" {
		t.Errorf("got %+v, want the account at 59 percent of its day", v)
	}
	f.clock.advance(30 * time.Minute)
	ada = f.logIn(ada.email)
	check()
	f.want(200, call{method: "GET", path: "/api/budgets", token: ada.access}).into(t, &v)
	if v.Spent[0].State != "reached" {
		t.Errorf("got %+v, want the account's budget reached", v.Spent[0])
	}
	if a := f.want(200, call{method: "GET", path: "/api/instances/" + id, token: ada.access}); a.field(t, "status") != "stopping" || !strings.Contains(string(a.body), "The account's budget of $0.10 for 28 November 2026 (UTC) is used up") {
		t.Errorf("got %s, want it stopping, with the reason", a.body)
	}
	for _, c := range []call{
		{method: "POST", path: "/api/instances", body: `{}`}, {method: "POST", path: "/api/instances/" + other + "/start"},
	} {
		c.token = ada.access
		a := f.want(409, c)
		if a.field(t, "code") != "budget_reached" || !strings.Contains(a.field(t, "detail"), "$0.10") || !strings.Contains(a.field(t, "detail"), "29 November 2026") {
			t.Errorf("%s: got %s, want budget_reached with the amount and the end", c.path, a.body)
		}
	}
	put(`{"scope":"account","day_micros":null,"month_micros":null}`).into(t, &v)
	if len(v.Limits) != 1 || v.Spent[0].State != "ok" {
		t.Errorf("got %+v, want no limit of the account", v)
	}
	f.want(202, call{method: "POST", path: "/api/instances/" + other + "/start", token: ada.access})

	eve := f.signUp("eve@example.com")
	f.want(404, call{method: "PUT", path: "/api/budgets", token: eve.access, body: `{"scope":"` + id + `","day_micros":null,"month_micros":5000000}`})
	once := call{method: "PUT", path: "/api/budgets", token: eve.access, body: set, header: map[string]string{"Idempotency-Key": "k"}}
	f.want(200, once)
	if a := f.want(200, once); a.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("got %v, want the first answer again", a.header)
	}
}

// The operator's ceiling refuses a create with a sentence that does not say how much was spent.
func TestInstallationBudget(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Instances.Log.Ceiling, c.Budgets.Log.Ceiling = 100_000, 100_000 })
	f.at(t, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	f.running(ada, "x")
	f.clock.advance(2 * time.Hour)
	eve = f.logIn(eve.email)
	f.caughtUp()
	if err := f.budget.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.caughtUp()
	if a := f.want(409, call{method: "POST", path: "/api/instances", token: eve.access, body: `{}`}); a.field(t, "code") != "installation_budget_reached" || strings.Contains(a.field(t, "detail"), "$") {
		t.Errorf("got %s, want a refusal without amounts", a.body)
	}
	if a := f.want(200, call{method: "GET", path: "/api/budgets", token: eve.access}); !strings.Contains(string(a.body), `"installation_reached":true`) {
		t.Errorf("got %s, want the installation's budget reached", a.body)
	}
}
