package projections_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// booted writes events of an instance, each so many seconds after began.
func (w *world) booted(id string, events ...any) {
	w.t.Helper()
	at := began
	for _, e := range events {
		if seconds, ok := e.(int); ok {
			at = began.Add(time.Duration(seconds) * time.Second)
			continue
		}
		for _, x := range encoded(w, "instance", id, instance.Codec.Encode, e.(instance.Event)) {
			w.appendAt(at, x)
		}
	}
}

func phase(p instance.Phase) instance.Event { return instance.PhaseReached{Boot: "b", Phase: p} }

func TestBootTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	requested := func(machineType string) instance.Event {
		return instance.Requested{Account: "acc", Name: seal("acc", label("x"), "n"), Type: machineType, Region: "r"}
	}
	ready, launched, attempted := phase(instance.PhaseReady), instance.MachineLaunched{Attempt: 1, Machine: "i"}, instance.LaunchAttempted{Attempt: 1}
	stopped := []any{instance.StopRequested{}, instance.MachineStopped{Asked: true}}
	for n := range projections.FewestBoots {
		// An instance that boots without trouble, is restarted from within, is started again, and then never comes up.
		w.booted(fmt.Sprint("01A", n), requested("large"), 1, attempted, 2, launched, 5, phase(instance.PhaseBooting), 10, phase(instance.PhaseDesktop),
			20, phase(instance.PhaseBooting), 30, ready, 500, phase(instance.PhaseBooting), 600, ready,
			700, stopped[0], stopped[1], 1000, instance.StartRequested{}, 1004, phase(instance.PhaseBooting), 1008, ready,
			2000, stopped[0], stopped[1], 2010, instance.StartRequested{}, 2020, instance.CallRefused{Call: instance.CallStart, Verdict: instance.Never},
			3000, phase(instance.PhaseBooting), 4000, ready)
		// An instance whose clock jumps back, one stopped during its boot and started from outside, one given up.
		w.booted(fmt.Sprint("01B", n), requested("large"), -50, attempted, -40, launched, -30, ready)
		w.booted(fmt.Sprint("01C", n), requested("small"), 1, attempted, 2, launched, 3, stopped[0], stopped[1], 90, instance.MachineRunning{}, 99, ready)
		w.booted(fmt.Sprint("01D", n), requested("small"), 1, attempted, 2, instance.LaunchAbandoned{Code: "c", Reason: "R."}, instance.Failed{Code: "c", Reason: "R."})
	}
	w.project(projections.All()...)
	w.caughtUp()
	if parked := w.dump("parked"); parked != "" {
		t.Fatalf("got parked events, want none: %s", parked)
	}
	for machineType, want := range map[string]string{
		"":      "launch 10: allocating 0-1000 booting 0-2000 desktop 10000-10000 ready 0-30000; start 5: booting 4000-4000 ready 8000-8000; ",
		"large": "launch 10: allocating 0-1000 booting 0-2000 desktop 10000-10000 ready 0-30000; start 5: booting 4000-4000 ready 8000-8000; ",
		"small": "", "none": "", "' OR 1=1": "",
	} {
		if got := w.bootTimes(machineType); got != want {
			t.Errorf("%q: got %s, want %s", machineType, got, want)
		}
	}
}

// Fewer than five boots say nothing about the next one, whatever their kind or phase.
func TestBootTimesOfFew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	requested := instance.Requested{Account: "acc", Name: seal("acc", label("x"), "n"), Type: "t", Region: "r"}
	for i := range projections.FewestBoots - 1 {
		w.booted(fmt.Sprint("01A", i), requested, 1, phase(instance.PhaseDesktop), 9, phase(instance.PhaseReady))
	}
	w.project(find(t, "boots"))
	w.caughtUp()
	if got, want := w.bootTimes(""), "launch 4:; "; got != want {
		t.Errorf("got %s, want %s: a number of boots and no times", got, want)
	}
	w.booted("01B", requested, 9, phase(instance.PhaseReady))
	w.caughtUp()
	if got, want := w.bootTimes(""), "launch 5: ready 9000-9000; "; got != want {
		t.Errorf("got %s, want %s: only four reached the desktop", got, want)
	}
}

// Only the latest boots count.
func TestBootTimesOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const latest = 200
	for i := range latest + 50 {
		w.booted(fmt.Sprintf("01A%03d", i), instance.Requested{Account: "acc", Name: seal("acc", label("x"), "n"), Type: "t", Region: "r"}, i, phase(instance.PhaseReady))
	}
	w.project(find(t, "boots"))
	w.caughtUp()
	if got, want := w.bootTimes(""), "launch 200: ready 149000-239000; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func (w *world) bootTimes(machineType string) (text string) {
	w.t.Helper()
	times, err := w.reader.BootTimes(w.t.Context(), machineType)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, kind := range []string{projections.BootLaunch, projections.BootStart} {
		if times[kind].Samples == 0 {
			continue
		}
		text += fmt.Sprintf("%s %d:", kind, times[kind].Samples)
		for _, p := range times[kind].Phases {
			text += fmt.Sprintf(" %s %d-%d", p.Phase, p.P50, p.P95)
		}
		text += "; "
	}
	return text
}
