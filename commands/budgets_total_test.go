package commands_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// The operator's ceiling refuses only creates, in every account, until the month ends or it is removed.
func TestInstallationCeiling(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	w.Log.Ceiling = 3 * budget.Dollar
	w.Instances.Log = w.Log
	b, _ := w.budgets(t)
	var said bytes.Buffer
	b.Logger = slog.New(slog.NewTextHandler(&said, nil))
	ada, _ := w.SignUp(t, "ada@example.org")
	eve, _ := w.SignUp(t, "eve@example.org")
	id := w.rent(t, ada)
	w.rent(t, eve)
	w.Clock.Advance(89 * time.Minute)
	check(t, b)
	if _, err := w.Instances.Create(t.Context(), eve, "", ""); err != nil {
		t.Fatalf("before the ceiling: got %v, want no error", err)
	}
	w.Clock.Advance(time.Minute)
	check(t, b) // it was added up a minute ago
	if got := w.dataOf(t, "budget.reached"); len(got) != 0 {
		t.Errorf("got %s, want the total added up every five minutes", got)
	}
	w.Clock.Advance(4 * time.Minute)
	check(t, b)
	for _, o := range []commands.Origin{ada, eve} {
		if _, err := w.Instances.Create(t.Context(), o, "", ""); !errors.Is(err, budget.ErrInstallationReached) {
			t.Errorf("got %v, want %v", err, budget.ErrInstallationReached)
		}
	}
	if now, err := b.Of(t.Context(), ada.Account); err != nil || !now.InstallationReached {
		t.Errorf("got %+v, %v, want the installation's budget reached", now, err)
	}
	if w.status(t, id) != instance.Running {
		t.Errorf("got %s, want running desktops to go on", w.status(t, id))
	}
	if text := said.String(); strings.Count(text, "installation budget reached") != 1 || !strings.Contains(text, "$3.00") {
		t.Errorf("got the log %s, want the operator told once", text)
	}
	w.write(t, id, instance.StopRequested{At: w.Clock.Now()})
	w.stopped(t, id)
	if _, err := w.Instances.Start(t.Context(), ada, id); err != nil {
		t.Errorf("start: got %v, want no error", err)
	}

	w.Log.Ceiling = 0 // the server restarts without it
	w.Instances.Log = w.Log
	b, _ = w.budgets(t)
	check(t, b)
	if _, err := w.Instances.Create(t.Context(), eve, "", ""); err != nil {
		t.Errorf("after it was removed: got %v, want no error", err)
	}
	if got := w.dataOf(t, "budget.released"); len(got) != 1 {
		t.Errorf("got %s, want it released", got)
	}
}

// A machine's own estimate of what its models cost counts towards its owner's budgets, but one account's machine can't keep the
// others from creating desktops.
func TestInstallationCeilingWithoutEstimates(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	w.Log.Ceiling = 3 * budget.Dollar
	w.Instances.Log = w.Log
	b, _ := w.budgets(t)
	ada, _ := w.SignUp(t, "ada@example.org")
	eve, _ := w.SignUp(t, "eve@example.org")
	id := w.rent(t, eve)
	w.write(t, id, instance.ModelCostReported{Meter: "m", Total: 900 * budget.Dollar, Added: 900 * budget.Dollar, At: w.Clock.Now()})
	w.set(t, b, eve, budget.Account, 0, 5*budget.Dollar)
	check(t, b)
	if _, err := w.Instances.Create(t.Context(), ada, "", ""); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if w.status(t, id) != instance.Stopping {
		t.Errorf("got %s, want the desktop of the account stopped", w.status(t, id))
	}
}
