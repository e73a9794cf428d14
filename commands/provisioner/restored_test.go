package provisioner_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/domain/restore"
)

// restored records that the log was restored, with a backup of some time ago.
func (d *desk) restored(ago time.Duration) {
	d.t.Helper()
	none := func(context.Context, string, int) ([]string, error) { return nil, nil }
	r := &commands.Restore{Log: d.World.Log, Sessions: none, Accounts: none, Live: func(context.Context) ([]string, int64, error) { return d.ids, 0, nil }}
	if _, _, err := r.Finish(d.t.Context(), restore.Finish{Epoch: 2, MadeAt: d.Clock.Now().Add(-ago)}); err != nil {
		d.t.Fatal(err)
	}
}

// A machine that was launched between a backup and its restore is never terminated, whatever the restored log says of
// its instance. A machine from before the backup, whose end the log knows, still is.
func TestReconcileAfterARestore(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	over := d.instance(d.attempt(), d.refused(), instance.Terminate{At: d.Clock.Now()})
	second := d.instance(d.attempt(), d.refused(), d.attempt())
	open := d.instance(d.attempt())
	d.restored(3 * time.Hour)
	d.holds("m-over", over, 1, instance.SeenRunning) // launched an hour ago, in the lost time
	d.holds("m-second", second, 1, instance.SeenStopped)
	d.holds("m-open", open, 1, instance.SeenRunning)
	d.holds("m-unknown", "01NEVER", 1, instance.SeenRunning)
	d.holds("m-before", over, 1, instance.SeenRunning)
	d.cloud.tagged[4].Launched = d.Clock.Now().Add(-5 * time.Hour)
	want := map[string]provisioner.Kind{
		"m-over": provisioner.Stranger, "m-second": provisioner.Stranger, "m-open": provisioner.Adopt, "m-unknown": provisioner.Stranger, "m-before": provisioner.Terminate,
	}
	for _, f := range d.look().Findings {
		if f.Kind != want[f.Machine] {
			t.Errorf("%s: got %s, want %s", f.Machine, f.Kind, want[f.Machine])
		}
	}
	if got := strings.Join(d.cloud.terminated, " "); got != "m-before" {
		t.Errorf("got terminated %q, want only m-before", got)
	}
}

// A saga that starts again hours after a launch asks the cloud before it gives the launch up.
func TestSagaAfterALongPause(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Until("launched", id, func(st instance.State) bool { return st.Machine != "" })
		s.Stop()
		s.Sleep(3 * time.Hour) // the machine has run for long
		s.Start()
		s.Until("running", id, func(st instance.State) bool { return st.Status == instance.Running })
		if n := s.cloud.Calls("terminate"); n != 0 {
			s.t.Errorf("got %d terminations of a machine that runs, want none", n)
		}
	})
}

// A launch that the restored log gives up does not terminate a machine that was launched in the lost time.
func TestSagaKeepsAMachineOfTheLostTime(t *testing.T) {
	t.Parallel()
	for _, wasRestored := range []bool{true, false} {
		w := commandstest.NewWorld(9)
		id := "01DESK"
		for _, c := range []instance.Command{
			instance.Request{Account: "acc", Type: "small", Region: "here"}, instance.Attempt{At: w.Clock.Now(), Spec: instance.Spec{Region: "here"}},
			instance.Launched{Attempt: 1, Machine: "m-1", At: w.Clock.Now()}, instance.Abandon{Code: "launch_refused", Reason: "R."},
		} {
			if _, err := w.Log.ExecuteInstance(t.Context(), id, c); err != nil {
				t.Fatal(err)
			}
		}
		d := &desk{World: w, t: t}
		if wasRestored {
			d.restored(2 * time.Hour)
		}
		state := d.state(id)
		cloud := &stock{untagged: []machines.Machine{{ID: "m-1", Seen: instance.SeenRunning, Launched: w.Clock.Now().Add(-time.Hour)}}}
		saga := &provisioner.Saga{Log: w.Log, Cloud: cloud, Logger: slog.New(slog.DiscardHandler)}
		cmd, err := provisioner.Call(t.Context(), saga, id, state, provisioning.Step{Do: provisioning.Call, Call: instance.CallTerminate})
		if err != nil {
			t.Fatal(err)
		}
		refused, is := cmd.(instance.Refuse)
		if is != wasRestored || len(cloud.terminated) != map[bool]int{true: 0, false: 1}[wasRestored] || is && (refused.Verdict != instance.Again || refused.Code != "unknown_past") {
			t.Errorf("restored %v: got %+v and %v terminated", wasRestored, cmd, cloud.terminated)
		}
	}
}

// An overdue launch is not given up right after a restore while its machine starts or stops: it may have run, and its owner
// may have worked on it. Later it is, because EC2 may leave a machine "stopping" for hours.
func TestSagaKeepsAMachineThatHasRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seen     instance.Seen
		restored bool
		later    time.Duration
		abandons bool
	}{
		"stopping after a restore":   {seen: instance.SeenStopping, restored: true},
		"stopping without a restore": {seen: instance.SeenStopping, abandons: true},
		"pending after a restore":    {seen: instance.SeenPending, restored: true},
		"pending long after it":      {seen: instance.SeenPending, restored: true, later: 11 * time.Minute, abandons: true},
		"pending without a restore":  {seen: instance.SeenPending, abandons: true},
		"stopping long after it":     {seen: instance.SeenStopping, restored: true, later: time.Hour, abandons: true},
	} {
		w := commandstest.NewWorld(9)
		d := &desk{World: w, t: t}
		if c.restored {
			d.restored(2 * time.Hour)
		}
		w.Clock.Advance(c.later)
		cloud := &stock{untagged: []machines.Machine{{ID: "m-1", Seen: c.seen}}}
		saga := &provisioner.Saga{Log: w.Log, Cloud: cloud, Logger: slog.New(slog.DiscardHandler)}
		cmd, err := provisioner.Execute(t.Context(), saga, "01DESK", instance.State{Machine: "m-1"}, provisioning.Step{Do: provisioning.Abandon, Why: "launch_timeout"})
		if _, abandons := cmd.(instance.Abandon); abandons != c.abandons || abandons == (err != nil) {
			t.Errorf("%s: got %+v and %v, want given up: %v", name, cmd, err, c.abandons)
		}
	}
}
