package projections_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// The rows equal the fold of whole streams in all that idle stops read, although a row keeps only a part of the state.
func TestIdleEqualsTheFold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.project(find(t, "instances"), find(t, "idle"))
	streams, warned, waking := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		id := fmt.Sprintf("01I%06d", streams)
		streams++
		events := life(rt, "acc", id)
		if streams == 1 { // random lives rarely have both
			events = idleLife("acc", id)
		}
		var s instance.State
		var stopped instance.StopRequested
		for batch := range slices.Chunk(events, either(streams == 1, 1, rapid.IntRange(1, 9).Draw(rt, "batch"))) { // the row is read back between them
			for _, e := range batch {
				s = instance.Evolve(s, e)
				switch e := e.(type) {
				case instance.StopRequested:
					stopped = e
				case instance.StartRequested, instance.MachineRunning:
					stopped = instance.StopRequested{}
				}
			}
			w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, batch...)...)
			w.caughtUp()
			row, err := w.reader.Instance(t.Context(), "acc", id)
			if err != nil {
				rt.Fatal(err)
			}
			if got, want := row.Idle.State, idlePart(s); !reflect.DeepEqual(got, want) {
				rt.Fatalf("got %+v, want %+v, of %T", got, want, events)
			}
			if row.Idle.Cause != stopped.Cause || row.Idle.Why != stopped.Why || row.Idle.Jobs != stopped.Jobs || !row.Idle.NextJob.Equal(stopped.NextJob) {
				rt.Fatalf("got %+v, want that of %+v", row.Idle, stopped)
			}
			if s.Warned != nil {
				warned++
			}
			if !s.WakeAt.IsZero() {
				waking++
			}
		}
	})
	t.Logf("%d streams, %d times with a warning, %d times waiting to be started for a job", streams, warned, waking)
	if warned == 0 || waking == 0 {
		t.Errorf("got %d streams with a warning and %d with a start for a job, want some of each", warned, waking)
	}
}

func either[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}

// idleLife is a life with a warning and a start for a job.
func idleLife(acc, id string) []instance.Event {
	at := time.Date(2030, 1, 2, 18, 0, 0, 0, time.UTC)
	return []instance.Event{
		instance.Requested{Account: acc, Name: seal(acc, label(id), "desk"), Type: "t3.large", Region: "eu"},
		instance.LaunchAttempted{Attempt: 1, At: at}, instance.MachineLaunched{Attempt: 1, Machine: "i-1", At: at}, instance.MachineRunning{At: at},
		instance.IdleWarned{At: at, StopAt: at.Add(5 * time.Minute), Cause: instance.CauseIdle, Why: "idle"},
		instance.StopRequested{At: at, Cause: instance.CauseIdle, Why: "idle", Jobs: idle.Wake, NextJob: at.Add(3 * time.Hour), WakeAt: at.Add(2 * time.Hour)},
	}
}

// idlePart is the part of a state that belongs to its idle stop.
func idlePart(s instance.State) instance.State {
	return instance.State{Account: s.Account, Type: s.Type, Region: s.Region, Status: s.Status, Running: s.Running, RunAt: s.RunAt, WakeAt: s.WakeAt,
		Idle: s.Idle, Warned: s.Warned, Asked: s.Asked, Extended: s.Extended}
}

// The owner reads why a desktop stopped by itself, with the event's data, and the history has a sentence for each event.
func TestIdleHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.project(find(t, "instances"), find(t, "idle"), find(t, "history"))
	at := time.Date(2030, 1, 2, 18, 0, 0, 0, time.UTC)
	why := "No input since 18:02 and the agent idle since 18:09 (UTC)."
	w.append(encoded[instance.Event](w, "instance", "01IDLE", instance.Codec.Encode,
		instance.Requested{Account: "acc", Name: seal("acc", label("01IDLE"), "desk"), Type: "t3.large", Region: "eu"},
		instance.LaunchAttempted{Attempt: 1, At: at}, instance.MachineLaunched{Attempt: 1, Machine: "i-1", At: at}, instance.MachineRunning{At: at},
		instance.IdlePolicySet{Policy: &idle.Policy{After: 3600, Jobs: idle.Wake}}, instance.IdlePolicySet{},
		instance.IdleWarned{At: at, StopAt: at.Add(5 * time.Minute), Cause: instance.CauseIdle, Why: why},
		instance.IdleExtended{At: at, Until: at.Add(time.Hour)}, instance.IdleWithdrawn{At: at},
		instance.ModelCostReported{Meter: "m", Total: 1, Added: 1, At: at},
		instance.StopRequested{At: at, Cause: instance.CauseIdle, Why: why, Jobs: idle.Wake, NextJob: at.Add(3 * time.Hour), WakeAt: at.Add(2 * time.Hour)})...)
	w.caughtUp()
	row, err := w.reader.Instance(t.Context(), "acc", "01IDLE")
	if err != nil || row.Idle.Why != why || row.Idle.Cause != instance.CauseIdle || !row.Idle.State.WakeAt.Equal(at.Add(2*time.Hour)) {
		t.Errorf("got %+v, %v, want the reason %q and a start at %v", row, err, why, at.Add(2*time.Hour))
	}
	entries, err := w.reader.History(t.Context(), "acc", "01IDLE", 4, 20)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Sentence+" "+string(e.Data))
	}
	want := []string{
		`Its idle policy was set. {"policy":{"after_s":3600,"warn_s":0,"ceiling_s":0,"jobs":"wake"}}`,
		`Its idle policy was removed; the account's applies. {"policy":null}`,
		`The desktop stops at 18:05 (UTC) unless you extend it. ` + why + ` {"cause":"idle","stop_at":"2030-01-02T18:05:00Z","why":"` + why + `"}`,
		`It was extended: it keeps running until 19:00 (UTC) or longer. {"until":"2030-01-02T19:00:00Z"}`,
		`The warning was withdrawn: the desktop keeps running. {}`,
		`The control plane stops the desktop. ` + why + ` It starts again at 20:00 (UTC) for a job of the agent. {"cause":"idle","jobs":"wake","next_job_at":"2030-01-02T21:00:00Z","wake_at":"2030-01-02T20:00:00Z","why":"` + why + `"}`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got history\n%q\nwant\n%q", got, want)
	}
	w.append(encoded[instance.Event](w, "instance", "01IDLE", instance.Codec.Encode, instance.MachineStopped{Asked: true})...)
	w.caughtUp()
	if row, err := w.reader.Instance(t.Context(), "acc", "01IDLE"); err != nil || row.Idle.Why != why {
		t.Errorf("got reason %q, %v once it is stopped, want %q", row.Idle.Why, err, why)
	}
	w.append(encoded[instance.Event](w, "instance", "01IDLE", instance.Codec.Encode, instance.StartRequested{At: at, Cause: instance.CauseJob, Why: "A job of the agent is due at 21:00 (UTC)."})...)
	w.caughtUp()
	row, err = w.reader.Instance(t.Context(), "acc", "01IDLE")
	if err != nil || row.Idle.Why != "" || !row.Idle.State.WakeAt.IsZero() {
		t.Errorf("got %+v, %v after a start, want no reason and no other start", row.Idle, err)
	}
}
