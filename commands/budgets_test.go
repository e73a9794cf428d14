package commands_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// budgets compares with a fold of the log.
func (w *world) budgets(t testing.TB) (*commands.Budgets, *commandstest.Books) {
	t.Helper()
	prices, err := usage.Parse([]byte(commandstest.PriceList))
	if err != nil {
		t.Fatal(err)
	}
	books := &commandstest.Books{Store: w.Recorder}
	return &commands.Budgets{Log: w.Log, Prices: prices, Books: books, Logger: slog.New(slog.DiscardHandler)}, books
}

// rent makes a desktop that costs a dollar an hour from now on.
func (w *world) rent(t testing.TB, o commands.Origin) string {
	t.Helper()
	id := w.mustCreate(t, o)
	w.write(t, id, instance.LaunchAttempted{Attempt: 1, At: w.Clock.Now(), Spec: instance.Spec{Type: "small", Region: "test"}})
	w.boot(t, id)
	return id
}

// boot lets the desktop's machine run.
func (w *world) boot(t testing.TB, id string) {
	t.Helper()
	now := w.Clock.Now()
	w.write(t, id, instance.MachineLaunched{Attempt: 1, Machine: "m-" + id, At: now}, instance.MachineRunning{At: now})
}

// stopped lets the cloud report that the desktop's machine stopped.
func (w *world) stopped(t testing.TB, id string) {
	t.Helper()
	w.write(t, id, instance.MachineStopped{Asked: true, RunEnded: instance.RunEnded{Ended: w.Clock.Now()}})
}

func (w *world) status(t testing.TB, id string) instance.Status {
	t.Helper()
	s, err := w.Log.Instance(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s.Status
}

func (w *world) set(t testing.TB, b *commands.Budgets, o commands.Origin, scope string, day, month int64) {
	t.Helper()
	if _, err := b.Set(t.Context(), o, scope, day, month); err != nil {
		t.Fatalf("set the budget of %s: %v", scope, err)
	}
}

func check(t testing.TB, b *commands.Budgets) {
	t.Helper()
	if err := b.Check(t.Context()); err != nil {
		t.Fatalf("check: %v", err)
	}
}

// A budget is warned of once at each threshold, then the desktops stop, none starts, and raising it lets them run again.
func TestBudgetStopsDesktops(t *testing.T) {
	t.Parallel()
	w := newWorld(4)
	b, _ := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	eve, _ := w.SignUp(t, "eve@example.org")
	w.set(t, b, ada, budget.Account, 2*budget.Dollar, 0)
	one, two, hers := w.rent(t, ada), w.rent(t, ada), w.rent(t, eve)
	other := w.rentStopped(t, ada)

	for range 59 { // two desktops: $1.97
		w.Clock.Advance(time.Minute)
		check(t, b)
		check(t, b)
	}
	if got := w.dataOf(t, "budget.warned"); len(got) != 2 || !strings.Contains(got[0], `"percent":50`) || !strings.Contains(got[1], `"percent":80`) {
		t.Fatalf("got warnings %s, want one at 50 and one at 80 percent", got)
	}
	if w.status(t, one) != instance.Running || len(w.dataOf(t, "budget.reached")) != 0 {
		t.Fatalf("got %s before the limit, want it running", w.status(t, one))
	}
	w.Clock.Advance(time.Minute)
	check(t, b)
	check(t, b)
	if w.status(t, one) != instance.Stopping || w.status(t, two) != instance.Stopping || w.status(t, hers) != instance.Running {
		t.Fatalf("got %s, %s and %s, want ada's desktops to stop and eve's to run", w.status(t, one), w.status(t, two), w.status(t, hers))
	}
	if got := w.dataOf(t, "budget.reached"); len(got) != 1 {
		t.Errorf("got %s, want reached once", got)
	}
	want := `"cause":"budget","why":"The account's budget of $2.00 for 2 January 2030 (UTC) is used up: $2.00 is spent."`
	if got := w.dataOf(t, "instance.stop_requested"); len(got) != 3 || !strings.Contains(got[1], want) || !strings.Contains(got[2], want) {
		t.Errorf("got stops %s, want two after the first with %s", got, want)
	}

	for what, err := range w.starts(t, ada, other) {
		if commandstest.Code(err) != "budget_reached" || !strings.Contains(err.Error(), "3 January 2030") {
			t.Errorf("%s: got %v, want budget_reached with the end", what, err)
		}
	}
	if err := b.MayStart(t.Context(), eve.Account, hers); err != nil {
		t.Errorf("another account: got %v, want no refusal", err)
	}
	if _, err := w.Instances.Terminate(t.Context(), ada, other); err != nil {
		t.Errorf("terminate while it is reached: got %v, want no error", err)
	}

	w.stopped(t, one)
	w.set(t, b, ada, budget.Account, 10*budget.Dollar, 0)
	if _, err := w.Instances.Start(t.Context(), ada, one); err != nil {
		t.Fatalf("start after it was raised: got %v, want no error", err)
	}
	w.write(t, one, instance.MachineRunning{At: w.Clock.Now()})
	for range 60 {
		w.Clock.Advance(time.Minute)
		check(t, b)
	}
	if w.status(t, one) != instance.Running {
		t.Errorf("got %s an hour after it was raised, want it running: $3 of $10", w.status(t, one))
	}
	for range 7 * 60 {
		w.Clock.Advance(time.Minute)
		check(t, b)
	}
	if w.status(t, one) != instance.Stopping {
		t.Errorf("got %s after $10, want it to stop", w.status(t, one))
	}
}

// rentStopped makes a desktop that is stopped, without cost.
func (w *world) rentStopped(t testing.TB, o commands.Origin) string {
	t.Helper()
	id := w.up(t, o, true)
	w.write(t, id, instance.StopRequested{At: w.Clock.Now()})
	w.stopped(t, id)
	return id
}

// starts tries all ways to get a desktop running.
func (w *world) starts(t testing.TB, o commands.Origin, stopped string) map[string]error {
	t.Helper()
	_, create := w.Instances.Create(t.Context(), o, "", "")
	_, start := w.Instances.Start(t.Context(), o, stopped)
	_, job := w.Log.ExecuteInstance(t.Context(), stopped, instance.StartBecause{At: w.Clock.Now(), Cause: instance.CauseJob, Why: "A job is due."})
	b, _ := w.budgets(t)
	return map[string]error{"create": create, "start": start, "start for a job": job, "may start": b.MayStart(t.Context(), o.Account, stopped)}
}

// The next day releases a day's budget; the month's is still counted.
func TestBudgetOfTheNextDay(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	b, _ := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	w.set(t, b, ada, budget.Account, budget.Dollar, 100*budget.Dollar)
	id := w.rent(t, ada)
	w.Clock.Advance(time.Hour)
	check(t, b)
	w.stopped(t, id)
	w.Clock.Advance(20 * time.Hour) // 00:04 of the next day
	if _, err := w.Instances.Start(t.Context(), ada, id); err != nil {
		t.Errorf("start on the next day, before a check: got %v, want no error", err)
	}
	check(t, b)
	if got := w.dataOf(t, "budget.released"); len(got) != 1 || !strings.Contains(got[0], `"raised":false`) {
		t.Errorf("got %s, want released once", got)
	}
	now, err := b.Of(t.Context(), ada.Account)
	if got := now.Spent[budget.Account]; err != nil || got != (budget.Spent{Day: 0, Month: budget.Dollar}) {
		t.Errorf("got %+v, %v, want nothing today and a dollar this month", got, err)
	}
}

// A desktop's own budget stops only that desktop, and ends with it.
func TestBudgetOfADesktop(t *testing.T) {
	t.Parallel()
	w := newWorld(3)
	b, _ := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	eve, _ := w.SignUp(t, "eve@example.org")
	one, two := w.rent(t, ada), w.rent(t, ada)
	w.set(t, b, ada, one, 0, budget.Dollar/2)
	for what, err := range map[string]error{
		"another account's":      errOf(b.Set(t.Context(), eve, one, 0, budget.Dollar)),
		"a desktop that is none": errOf(b.Set(t.Context(), ada, "01NOTHING", budget.Dollar, 0)),
	} {
		if !errors.Is(err, instance.ErrNotFound) {
			t.Errorf("%s: got %v, want %v", what, err, instance.ErrNotFound)
		}
	}
	w.Clock.Advance(time.Hour)
	check(t, b)
	if w.status(t, one) != instance.Stopping || w.status(t, two) != instance.Running {
		t.Errorf("got %s and %s, want the first to stop and the second to run", w.status(t, one), w.status(t, two))
	}
	if _, err := w.Instances.Create(t.Context(), ada, "", ""); err != nil {
		t.Errorf("create: got %v, want no error: the account has no budget", err)
	}
	w.stopped(t, one)
	if _, err := w.Instances.Start(t.Context(), ada, one); commandstest.Code(err) != "budget_reached" {
		t.Errorf("start: got %v, want budget_reached", err)
	}
	w.write(t, one, instance.TerminationRequested{At: w.Clock.Now()}, instance.MachineGone{Asked: true}, instance.Terminated{})
	check(t, b)
	check(t, b)
	if now, err := b.Of(t.Context(), ada.Account); err != nil || len(now.State) != 0 || len(w.dataOf(t, "budget.scope_ended")) != 1 {
		t.Errorf("got %+v, %v, want the budget of the desktop that ended removed once", now.State, err)
	}
	if _, err := b.Set(t.Context(), ada, one, 0, budget.Dollar); !errors.Is(err, instance.ErrGone) {
		t.Errorf("a desktop that ended: got %v, want %v", err, instance.ErrGone)
	}
}

func errOf[T any](_ T, err error) error { return err }

// A desktop that cannot be stopped yet stops as soon as it runs.
func TestBudgetStopsAStartingDesktopLater(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	b, _ := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	w.rent(t, ada)
	late := w.mustCreate(t, ada)
	w.write(t, late, instance.LaunchAttempted{Attempt: 1, At: w.Clock.Now(), Spec: instance.Spec{Type: "small", Region: "test"}})
	w.Clock.Advance(time.Hour)
	w.set(t, b, ada, budget.Account, budget.Dollar/2, 0)
	if got := w.dataOf(t, "budget.reached"); len(got) != 1 {
		t.Errorf("got %s, want it reached when it is set", got)
	}
	check(t, b)
	if w.status(t, late) != instance.Launching {
		t.Fatalf("got %s, want it still launching", w.status(t, late))
	}
	w.boot(t, late)
	check(t, b)
	if w.status(t, late) != instance.Stopping {
		t.Errorf("got %s, want it to stop", w.status(t, late))
	}
}

// While read models are behind, nothing is compared with them: a desktop that stopped seems to run and to cost.
func TestBudgetsWhileReadModelsAreBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	b, books := w.budgets(t)
	b.Patience = time.Nanosecond
	ada, _ := w.SignUp(t, "ada@example.org")
	w.set(t, b, ada, budget.Account, 2*budget.Dollar, 0)
	id := w.rent(t, ada)
	w.Clock.Advance(time.Hour)
	w.write(t, id, instance.StopRequested{At: w.Clock.Now()})
	w.stopped(t, id)
	w.Clock.Advance(time.Hour)
	head := w.Last(t)
	for behind := range head {
		books.Behind.Store(behind + 1)
		if err := b.Check(t.Context()); !errors.Is(err, commands.ErrBehind) {
			t.Errorf("check %d events behind: got %v, want %v", behind+1, err, commands.ErrBehind)
		}
		if _, err := b.Set(t.Context(), ada, budget.Account, budget.Dollar, 0); !errors.Is(err, commands.ErrBehind) {
			t.Errorf("set %d events behind: got %v, want %v", behind+1, err, commands.ErrBehind)
		}
	}
	if w.Last(t) != head {
		t.Errorf("got %d events, want none", w.Last(t)-head)
	}
	books.Behind.Store(0)
	check(t, b)
	if got := w.dataOf(t, "budget.warned"); len(got) != 1 || !strings.Contains(got[0], `"spent_micros":1000000`) {
		t.Errorf("got %s, want half of the budget spent", got)
	}
}

// A list that is out of date does not stop a desktop whose budget was raised in the meantime.
func TestBudgetRaisedDuringACheck(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	b, books := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	w.set(t, b, ada, budget.Account, budget.Dollar, 0)
	id := w.rent(t, ada)
	w.Clock.Advance(time.Hour)
	check(t, b)
	w.stopped(t, id)
	w.write(t, id, instance.MachineRunning{At: w.Clock.Now()}) // it was started from outside
	raised := &raising{Books: books, raise: func() { w.set(t, b, ada, budget.Account, 5*budget.Dollar, 0) }}
	during := &commands.Budgets{Log: w.Log, Prices: b.Prices, Books: raised, Logger: b.Logger}
	check(t, during)
	if w.status(t, id) != instance.Running || raised.raise != nil {
		t.Errorf("got %s, want it running", w.status(t, id))
	}
}

// raising raises the budget once, after the desktops were listed.
type raising struct {
	*commandstest.Books
	raise func()
}

func (r *raising) Desktops(ctx context.Context, accounts, ids []string) ([]commands.Desktop, error) {
	list, err := r.Books.Desktops(ctx, accounts, ids)
	if do := r.raise; do != nil {
		r.raise = nil
		do()
	}
	return list, err
}

// An account whose stream cannot be read does not keep the others from being checked.
func TestBudgetsBesideADamagedOne(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	b, _ := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	eve, _ := w.SignUp(t, "eve@example.org")
	w.set(t, b, ada, budget.Account, budget.Dollar, 0)
	w.set(t, b, eve, budget.Account, budget.Dollar, 0)
	bad, good := w.rent(t, ada), w.rent(t, eve)
	w.damage(t, bad)
	w.Clock.Advance(time.Hour)
	if err := b.Check(t.Context()); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("got %v, want an error that names %s", err, bad)
	}
	if w.status(t, good) != instance.Stopping {
		t.Errorf("got %s, want the other account's desktop to stop", w.status(t, good))
	}
}

// The same request with the same key changes a budget once.
func TestSetBudgetOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	b, _ := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	first, err1 := b.Set(t.Context(), with(ada, "k"), budget.Account, budget.Dollar, 0)
	w.set(t, b, ada, budget.Account, 0, 0)
	again, err2 := b.Set(t.Context(), with(ada, "k"), budget.Account, budget.Dollar, 0)
	if err1 != nil || err2 != nil || !again.Replayed || first.Answer != again.Answer || first.Answer != (commands.BudgetSet{Scope: budget.Account, Day: budget.Dollar}) {
		t.Errorf("got %+v, %v; %+v, %v, want the first answer again", first, err1, again, err2)
	}
	if now, err := b.Of(t.Context(), ada.Account); err != nil || len(now.State) != 0 {
		t.Errorf("got %+v, %v, want no limit", now.State, err)
	}
	if _, err := b.Set(t.Context(), with(ada, "k"), budget.Account, 2*budget.Dollar, 0); !errors.Is(err, commands.ErrKeyReused) {
		t.Errorf("got %v, want %v", err, commands.ErrKeyReused)
	}
}
