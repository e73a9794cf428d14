package projections_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// The keeper's list has the state of each account with a limit, and neither the installation nor an account without one.
func TestBudgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	states := map[string]budget.State{}
	write := func(account string, events ...budget.Event) {
		for _, e := range events {
			states[account] = budget.Evolve(states[account], e)
		}
		w.append(encoded[budget.Event](w, "budget", account, budget.Codec.Encode, events...)...)
	}
	mark := budget.Mark{Scope: budget.Account, Period: budget.Day, Of: "2030-01-02", Limit: 2_000_000, Spent: 2_000_000, At: began}
	write("a", budget.LimitsSet{Scope: budget.Account, Day: 2_000_000}, budget.Warned{Mark: mark, Percent: 80})
	write("b", budget.LimitsSet{Scope: "01B", Month: 1_000_000}, budget.ScopeEnded{Scope: "01B"})
	write(budget.InstallationStream, budget.LimitsSet{Scope: budget.Installation, Month: 1_000_000})
	write("c", budget.LimitsSet{Scope: "01C", Day: 10_000}, budget.LimitsSet{Scope: budget.Account, Month: 3_000_000})
	stop := w.project(projections.All()...)
	w.caughtUp()
	write("a", budget.Reached{Mark: mark})
	w.caughtUp()

	check := func(when string) {
		t.Helper()
		list, err := w.reader.Budgets(t.Context(), "", 10)
		if want := []projections.Budget{{"a", states["a"]}, {"c", states["c"]}}; err != nil || !reflect.DeepEqual(list, want) {
			t.Errorf("%s: got %+v, %v, want %+v", when, list, err, want)
		}
	}
	check("followed")
	if list, err := w.reader.Budgets(t.Context(), "a", 10); err != nil || len(list) != 1 || list[0].Account != "c" {
		t.Errorf("the next page: got %+v, %v, want c", list, err)
	}
	stop()
	if _, err := w.pool.Exec(t.Context(), `TRUNCATE read.budgets; DELETE FROM read.checkpoints`); err != nil {
		t.Fatal(err)
	}
	w.project(projections.All()...)
	w.caughtUp()
	check("rebuilt")
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("ada", "01A")
	w.everything("bob", "01B")
	w.project(projections.All()...)
	w.caughtUp()
	list, err := w.reader.Statuses(t.Context(), []string{"ada"}, []string{"01A"})
	want := []projections.Status{{"ada", "01A", instance.StatusTerminated}, {"ada", "01A-taken", instance.Starting}}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("got %+v, %v, want %+v", list, err, want)
	}
	if list, err := w.reader.Statuses(t.Context(), []string{"ada"}, []string{"01B"}); err != nil || len(list) != 1 {
		t.Errorf("got %+v, %v, want nothing of another account", list, err)
	}
}

// The account reads about its budget, and each desktop's history has that of the desktop.
func TestHistoryOfBudgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("ada", "01A")
	w.append(encoded[budget.Event](w, "budget", budget.InstallationStream, budget.Codec.Encode, budget.LimitsSet{Scope: budget.Installation, Month: 1})...)
	w.project(projections.All()...)
	w.caughtUp()
	sentences := func(list []projections.Entry, err error) (texts []string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if strings.HasPrefix(e.Type, "budget.") {
				texts = append(texts, e.Sentence)
			}
		}
		return texts
	}
	if got, want := sentences(w.reader.AccountHistory(t.Context(), "ada", 0, 1000)), []string{
		"The account's budget was set to $2.00 a day and $30.00 a month.",
		"The account's budget of $2.00 for 2 January 2030 (UTC) is used to 55 percent: $1.10 is spent.",
	}; !slices.Equal(got, want) {
		t.Errorf("account: got %q, want %q", got, want)
	}
	if got, want := sentences(w.reader.History(t.Context(), "ada", "01A", 0, 1000)), []string{
		"This desktop's budget was set to $0.01 a month.",
		"This desktop's budget of $0.01 for January 2030 (UTC) is used up: $0.010001 is spent. It is being stopped if it is running.",
		"This desktop's budget for January 2030 (UTC) no longer prevents starts: it was changed.",
	}; !slices.Equal(got, want) {
		t.Errorf("desktop: got %q, want %q", got, want)
	}
}
