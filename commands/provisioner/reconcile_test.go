package provisioner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// stock is a cloud with the machines that the test sets.
type stock struct {
	machines.Cloud               // nil: the Reconciler calls only the methods below
	tagged                       []machines.Tagged
	untagged                     []machines.Machine // found only by id
	terminated                   []string
	fails, undescribed, unlisted error
}

func (s *stock) List(context.Context) ([]machines.Tagged, error) { return s.tagged, s.unlisted }

func (s *stock) Describe(_ context.Context, ids []string) (list []machines.Machine, err error) {
	for _, m := range s.untagged {
		if slices.Contains(ids, m.ID) {
			list = append(list, m)
		}
	}
	return list, s.undescribed
}

func (s *stock) Terminate(_ context.Context, id string) error {
	if s.fails == nil {
		s.terminated = append(s.terminated, id)
	}
	return s.fails
}

// desk is a world with a reconciler and instances in several states.
type desk struct {
	*commandstest.World
	t     *testing.T
	cloud *stock
	*provisioner.Reconciler
	ids    []string
	region string // of launches
}

// Region returns the stock's region.
func (s *stock) Region() string { return "here" }

func newDesk(t *testing.T) *desk {
	w := commandstest.NewWorld(20)
	d := &desk{World: w, t: t, cloud: &stock{}, region: "here"}
	d.Reconciler = &provisioner.Reconciler{
		Log: w.Log, Cloud: d.cloud, Logger: slog.New(slog.DiscardHandler),
		Live:      func(context.Context) ([]string, int64, error) { return d.ids, 0, nil },
		Connected: func(context.Context, string) (bool, error) { return false, nil },
	}
	return d
}

// instance makes an instance and executes the commands on it.
func (d *desk) instance(cmds ...instance.Command) string {
	d.t.Helper()
	id := fmt.Sprintf("01DESK%020d", len(d.ids))
	d.ids = append(d.ids, id)
	for _, c := range append([]instance.Command{instance.Request{Account: "acc", Type: "small", Region: "test"}}, cmds...) {
		if _, err := d.World.Log.ExecuteInstance(d.t.Context(), id, c); err != nil {
			d.t.Fatalf("%T: got %v, want no error", c, err)
		}
	}
	return id
}

func (d *desk) state(id string) instance.State {
	d.t.Helper()
	s, err := d.World.Log.Instance(d.t.Context(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *desk) look() provisioner.Report {
	d.t.Helper()
	report, err := d.Reconcile(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return report
}

// holds adds a machine of an instance's attempt to the cloud, an hour old.
func (d *desk) holds(machine, id string, attempt int, seen instance.Seen) {
	d.cloud.tagged = append(d.cloud.tagged, machines.Tagged{
		Machine: machines.Machine{ID: machine, Seen: seen, Address: "192.0.2.1", Launched: d.Clock.Now().Add(-time.Hour)}, Instance: id, Attempt: attempt, Token: fmt.Sprintf("%s-%d", id, attempt),
	})
}

func (d *desk) attempt() instance.Command {
	return instance.Attempt{At: d.Clock.Now(), Spec: instance.Spec{ClientToken: "t", Region: d.region}}
}

func (d *desk) refused() instance.Command {
	return instance.Refuse{Call: instance.CallLaunch, Attempt: 1, Verdict: instance.Another, Code: "c", Reason: "R.", At: d.Clock.Now()}
}

func (d *desk) runs(machine string) []instance.Command {
	now := d.Clock.Now()
	return []instance.Command{d.attempt(), instance.Launched{Attempt: 1, Machine: machine, At: now}, instance.Observe{Machine: machine, Seen: instance.SeenRunning, Address: "192.0.2.1", At: now}}
}

// gives returns an operator's confirmation that a missing machine is gone.
func (d *desk) gives(machine string) instance.Command {
	return instance.Observe{Machine: machine, Seen: instance.SeenMissing, At: d.Clock.Now().Add(time.Hour), Sure: true}
}

// unreadable makes an instance with an event of a newer version.
func (d *desk) unreadable() string {
	d.t.Helper()
	id := d.instance()
	_, err := d.World.Log.Store.Append(d.t.Context(), eventstore.Append{Writes: []eventstore.Write{{
		Stream: eventstore.StreamID{Aggregate: "instance", ID: id}, Expected: 1,
		Events: []eventstore.NewEvent{{ID: d.World.Log.NewID(), Type: "instance.of_the_future", Schema: 1, Time: d.Clock.Now(), Data: []byte("{}")}},
	}}})
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

func TestReconcileKinds(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	open := d.instance(d.attempt())
	fine := d.instance(d.runs("m-fine")...)
	stopped := d.instance(d.runs("m-stopped")...)
	stuck := d.instance(d.runs("m-stuck")...)
	moved := d.instance(d.runs("m-moved")...)
	over := d.instance(d.attempt(), d.refused(), instance.Terminate{At: d.Clock.Now()})
	second := d.instance(d.attempt(), d.refused(), d.attempt())
	between := d.instance(d.attempt(), d.refused())
	d.holds("m-open", open, 1, instance.SeenPending)
	d.holds("m-fine", fine, 1, instance.SeenRunning)
	d.holds("m-stopped", stopped, 1, instance.SeenStopped)
	d.holds("m-stuck", stuck, 1, instance.SeenStopping)
	d.holds("m-over", over, 1, instance.SeenRunning)
	d.holds("m-old", second, 1, instance.SeenStopped)
	d.holds("m-given-up", between, 1, instance.SeenRunning)
	d.holds("m-ended", between, 1, instance.SeenGone)
	d.holds("m-young", between, 1, instance.SeenPending)
	d.cloud.tagged[len(d.cloud.tagged)-1].Launched = d.Clock.Now().Add(-time.Minute)
	d.holds("m-nameless", "", 0, instance.SeenRunning)
	d.holds("m-unknown", "01NEVER", 1, instance.SeenRunning)
	d.holds("m-later", fine, 2, instance.SeenRunning) // an attempt that is not in the log
	d.holds("m-nameless-ended", "", 0, instance.SeenGone)
	d.holds("m-copied", over, 1, instance.SeenRunning) // "launch more like this" copies the tags
	d.cloud.tagged[len(d.cloud.tagged)-1].Token = "another token"
	lost := d.instance(append(d.runs("m-lost"), d.gives("m-lost"))...)
	d.holds("m-lost", lost, 1, instance.SeenRunning)
	d.holds("m-unread", d.unreadable(), 1, instance.SeenRunning)
	d.cloud.untagged = []machines.Machine{{ID: "m-moved", Seen: instance.SeenRunning, Address: "192.0.2.77"}} // its tag was removed
	want := map[string]provisioner.Kind{
		"m-open": provisioner.Adopt, "m-stopped": provisioner.Repair, "m-stuck": provisioner.Repair, "m-moved": provisioner.Repair,
		"m-over": provisioner.Terminate, "m-old": provisioner.Terminate, "m-given-up": provisioner.Terminate, "m-young": provisioner.Young,
		"m-copied": provisioner.Stranger, "m-lost": provisioner.Returned, "m-unread": provisioner.Unreadable, "": provisioner.Unreadable,
		"m-nameless": provisioner.Stranger, "m-unknown": provisioner.Stranger, "m-later": provisioner.Stranger,
	}
	check := func(report provisioner.Report, done bool) {
		t.Helper()
		got := map[string]provisioner.Kind{}
		for _, f := range report.Findings {
			got[f.Machine] = f.Kind
			corrected := !slices.Contains([]provisioner.Kind{provisioner.Young, provisioner.Stranger, provisioner.Returned, provisioner.Unreadable}, f.Kind)
			if f.Why == "" || (f.Error != "") != (f.Kind == provisioner.Unreadable) || f.Done != (done && corrected) {
				t.Errorf("got %+v, want f.Why not empty, (f.Error != \"\") == %v and f.Done == %v", f, (f.Kind == provisioner.Unreadable), (done && corrected))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	d.DryRun = true
	before := d.Last(t)
	report := d.look()
	check(report, false)
	if d.Last(t) != before || len(d.cloud.terminated) > 0 {
		t.Errorf("dry run: got head %d and terminated %v, want %d and none", d.Last(t), d.cloud.terminated, before)
	}
	if report.Machines != 16 || report.Instances != 7 || !report.DryRun {
		t.Errorf("got %d machines, %d instances, want report.Machines == 16, report.Instances == 7 and report.DryRun", report.Machines, report.Instances)
	}
	d.DryRun = false
	check(d.look(), true)
	if got := strings.Join(d.cloud.terminated, " "); got != "m-given-up m-old m-over" {
		t.Errorf("got terminated %s, want \"m-given-up m-old m-over\"", got)
	}
	for id, want := range map[string]instance.Status{open: instance.Launching, fine: instance.Running, stopped: instance.Stopped, stuck: instance.Stopping, moved: instance.Running} {
		if got := d.state(id); got.Status != want {
			t.Errorf("%s is %s, not %s", id, got.Status, want)
		}
	}
	if d.state(open).Machine != "m-open" || d.state(moved).Address != "192.0.2.77" {
		t.Errorf("got %+v %+v, want d.state(open).Machine == \"m-open\" and d.state(moved).Address == \"192.0.2.77\"", d.state(open), d.state(moved))
	}
}

// Machines that the cloud does not list are given up after a while, unless so many are missing that it must be another
// account, or their guests are connected.
func TestReconcileMissing(t *testing.T) {
	t.Parallel()
	const long = instance.MissingFor
	connected := func(context.Context, string) (bool, error) { return true, nil }
	unknown := func(context.Context, string) (bool, error) { return false, errors.New("NATS is unreachable") }
	for _, c := range []struct {
		name        string
		change      func(*desk)
		n, there    int           // missing machines, and present ones
		age, later  time.Duration // of the machines at the first comparison, and from it to the last
		found, gone int           // at the last comparison
		blind       bool          // no comparison between the two
	}{
		{name: "young", n: 1, later: instance.MissingGrace - 1},
		{name: "one, once", n: 1, age: time.Hour, later: 0, found: 1},
		{name: "one, for a while", n: 1, age: time.Hour, later: long - 1, found: 1},
		{name: "one, for long", n: 1, age: time.Hour, later: long, found: 1, gone: 1},
		{name: "one, for long, without a look between", n: 1, age: time.Hour, later: long, found: 1, blind: true},
		{name: "one, believed", change: func(d *desk) { d.BelieveMissing = true }, n: 1, age: time.Hour, gone: 1},
		{name: "one, its guest is connected", change: func(d *desk) { d.Connected = connected }, n: 1, age: time.Hour, later: long, found: 1},
		{name: "one, unknown whether its guest is connected", change: func(d *desk) { d.Connected = unknown }, n: 1, age: time.Hour, later: long, found: 1},
		{name: "one, without a way to know whether its guest is connected", change: func(d *desk) { d.Connected = nil }, n: 1, age: time.Hour, later: long, found: 1},
		{name: "one, without a way to know, believed", change: func(d *desk) { d.Connected, d.BelieveMissing = nil, true }, n: 1, age: time.Hour, gone: 1},
		{name: "one, of another region", change: func(d *desk) { d.region = "elsewhere" }, n: 1, age: time.Hour, later: long},
		{name: "one, of another region, believed", change: func(d *desk) { d.region, d.BelieveMissing = "elsewhere", true }, n: 1, age: time.Hour, later: long},
		{name: "one, of another region, forgotten", change: func(d *desk) { d.region, d.ForgetRegion = "elsewhere", "elsewhere" }, n: 1, age: time.Hour, gone: 1},
		{name: "four of four", n: 4, age: time.Hour, later: long, found: 4, gone: 4},
		{name: "five of ten", n: 5, there: 5, age: time.Hour, later: long, found: 5, gone: 5},
		{name: "six of ten", n: 6, there: 4, age: time.Hour, later: long, found: 6},
		{name: "six of ten, believed", change: func(d *desk) { d.BelieveMissing = true }, n: 6, there: 4, age: time.Hour, gone: 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			if c.change != nil {
				c.change(d)
			}
			for i := range c.n + c.there {
				machine := fmt.Sprint("m-", i)
				id := d.instance(d.runs(machine)...)
				if i >= c.n {
					d.holds(machine, id, 1, instance.SeenRunning)
				}
			}
			d.Clock.Advance(c.age)
			d.look()
			rest := c.later
			for ; rest > 5*time.Minute && !c.blind; rest -= 5 * time.Minute {
				d.Clock.Advance(5 * time.Minute)
				d.look()
			}
			d.Clock.Advance(rest)
			report := d.look()
			gone := 0
			for _, id := range d.ids {
				if d.state(id).Final() {
					gone++
				}
			}
			elsewhere := 0
			if d.region != "here" && c.gone == 0 {
				elsewhere = c.n
			}
			if report.Count(provisioner.Missing) != c.found || gone != c.gone || report.Count(provisioner.Elsewhere) != elsewhere {
				t.Errorf("got %d gone of %+v, want report.Count(provisioner.Missing) == %v, gone == %v and report.Count(provisioner.Elsewhere) == %v", gone, report.Findings, c.found, c.gone, elsewhere)
			}
		})
	}
}

// A connected guest ends the time that its machine was missing, so that a short silence later does not end the
// instance.
func TestReconcileBelievesGuests(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	id := d.instance(d.runs("m-1")...)
	d.Clock.Advance(time.Hour)
	speaks := false
	d.Connected = func(context.Context, string) (bool, error) { return speaks, nil }
	look := func(missed bool, findings int) {
		t.Helper()
		report := d.look()
		if s := d.state(id); s.Final() || s.Missed.IsZero() == missed || report.Count(provisioner.Missing) != findings {
			t.Errorf("got missed %v, %+v, %+v, want !s.Final(), s.Missed.IsZero() != %v and report.Count(provisioner.Missing) == %v", !s.Missed.IsZero(), s, report.Findings, missed, findings)
		}
		d.Clock.Advance(instance.MissingFor - time.Minute)
	}
	look(true, 1)
	speaks = true
	look(false, 1)
	look(false, 1)
	speaks = false
	look(true, 1)
	speaks = true
	look(false, 1)
}

func TestReconcileFailures(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	over := d.instance(d.attempt(), d.refused(), instance.Terminate{At: d.Clock.Now()})
	d.holds("m-over", over, 1, instance.SeenRunning)
	d.cloud.fails = errors.New("no rights")
	if f := d.look().Findings; len(f) != 1 || f[0].Done || f[0].Error != "no rights" {
		t.Errorf("got %+v, want len(f) == 1, f[0].Done false and f[0].Error == \"no rights\"", f)
	}
	d.cloud.fails = nil
	if f := d.look().Findings; len(f) != 1 || !f[0].Done {
		t.Errorf("the next look does not try again: got %+v, want len(f) == 1 and f[0].Done", f)
	}
	d.instance(d.runs("m-unseen")...)
	d.cloud.undescribed = errors.New("busy")
	if _, err := d.Reconcile(t.Context()); !errors.Is(err, d.cloud.undescribed) {
		t.Errorf("got %v, want error %v", err, d.cloud.undescribed)
	}
	d.cloud.unlisted = errors.New("busy")
	if _, err := d.Reconcile(t.Context()); !errors.Is(err, d.cloud.unlisted) {
		t.Errorf("got %v, want error %v", err, d.cloud.unlisted)
	}
}

// Run compares periodically, despite failures, until its context ends.
func TestReconcileRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.cloud.unlisted = errors.New("busy")
		var log bytes.Buffer
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
		defer cancel()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "will retry"); n != 3 {
			t.Errorf("got %d looks in twelve minutes: %s, want n == 3", n, log.String())
		}
	})
}

func TestReportWrite(t *testing.T) {
	t.Parallel()
	full := provisioner.Report{DryRun: true, Machines: 12, Instances: 9, Findings: []provisioner.Finding{
		{Kind: provisioner.Adopt, Machine: "i-0a", Instance: "01JD0000000000000000000001", Attempt: 1, State: instance.SeenPending, Status: instance.Launching, Age: 90 * time.Second, Why: "its launch call got no answer", Done: true},
		{Kind: provisioner.Terminate, Machine: "i-0b", Instance: "01JD0000000000000000000002", Attempt: 1, State: instance.SeenRunning, Status: instance.StatusTerminated, Age: time.Hour, Why: "its instance has ended", Error: "no rights"},
		{Kind: provisioner.Stranger, Machine: "i-0c", State: instance.SeenRunning, Age: 26 * time.Hour, Why: "it has the tag of this environment, but no tag that names its instance"},
	}}
	var got bytes.Buffer
	for _, r := range []provisioner.Report{full, {Machines: 1, Instances: 1}} {
		if err := r.Write(&got); err != nil {
			t.Fatal(err)
		}
		got.WriteString("----\n")
	}
	want, err := os.ReadFile(filepath.Join("testdata", "reconcile.txt"))
	if err != nil || got.String() != string(want) {
		t.Errorf("got %v and\n%s\nwant no error and\n%s", err, got.String(), want)
	}
	if err := full.Write(broken{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a report that cannot be written: got %v, want error %v", err, io.ErrClosedPipe)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
