package ec2_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// monthPrices is our price list of the small EC2's region. Its own bill has prices of its own.
const monthPrices = `{"source": "a test", "date": "2026-11-01", "disk_gib": 40, "versions": [{"from": "1999-01-01", "regions": {"eu-test-1":
	{"hourly_micros": {"t3.large": 83200, "t3a.large": 75200}, "disk_gib_month_micros": 80000, "address_hourly_micros": 5000}}}]}`

// simulation is a time that many desktops are used, with all faults of the small EC2.
type simulation struct {
	desktops int
	days     int
	acts     int // of users and of the world, for each desktop and day
	seed     uint64
	read     func(instance.Event) instance.Event // plants a fault between the log and the charges; nil: none
}

// TestMonth simulates what desktops use, and compares what we charge with EC2's own bill. Where the cloud gave the time, a
// run ends at the same second. Elsewhere the difference is at most the time between two looks. No desktop pays more than
// EC2 bills. The whole month has 200 desktops: make month.
func TestMonth(t *testing.T) {
	t.Parallel()
	m := simulation{desktops: 8, days: 3, acts: 24, seed: 11}
	if os.Getenv("E2E_MONTH") != "" {
		m = simulation{desktops: 200, days: 30, acts: 6, seed: 11}
		if seed, err := strconv.ParseUint(os.Getenv("E2E_MONTH"), 10, 64); err == nil {
			m.seed = seed
		}
	}
	synctest.Test(t, func(t *testing.T) {
		a := m.run(t)
		t.Log(a)
		for _, wrong := range a.wrongs[:min(len(a.wrongs), 20)] {
			t.Error(wrong)
		}
		a.Check(t, "runs", "exact ends", "seen ends", "runs under a minute", "stopped and started between two looks", "outside", "kills", "reply lost", "throttled", "hung", "unseen", "timeless", "terminated")
	})
}

// A mistake in what is charged is found.
func TestMonthFindsMistakes(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(instance.Event) instance.Event{
		"charged from the launch time": func(e instance.Event) instance.Event {
			if e, ok := e.(instance.MachineRunning); ok && !e.Launched.IsZero() {
				e.At = e.Launched
				return e
			}
			return e
		},
		"charged until the next look": func(e instance.Event) instance.Event {
			if e, ok := e.(instance.MachineStopped); ok {
				return instance.MachineStopped{Asked: e.Asked, RunEnded: instance.RunEnded{RanUntil: time.Now()}}
			}
			return e
		},
		"the cloud's times ignored": func(e instance.Event) instance.Event {
			if e, ok := e.(instance.MachineStopped); ok {
				e.Ended = time.Time{}
				return e
			}
			return e
		},
		"looks forgotten": func(e instance.Event) instance.Event {
			switch e := e.(type) {
			case instance.MachineStopped:
				e.RanUntil = time.Time{}
				return e
			case instance.MachineRunning:
				e.RanUntil = time.Time{}
				return e
			}
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := simulation{desktops: 6, days: 2, acts: 24, seed: 12, read: read}
				if a := m.run(t); len(a.wrongs) == 0 {
					t.Errorf("got no difference, want some:\n%v", a)
				}
			})
		})
	}
}

// run plays the simulation and returns the comparison.
func (m simulation) run(t *testing.T) *audit {
	plan := roughest()
	plan.Timeless = 150
	c := setup{seed: m.seed, plan: plan, reconcile: true, workers: 1, sweep: 4 * time.Minute, limit: m.desktops + 5}
	looks := &looks{}
	c.cloud = looks.at
	s := newStage(t, c)
	r := rand.New(rand.NewPCG(m.seed, 97))
	crashes := rand.New(rand.NewPCG(m.seed, 98))
	a := &audit{stage: s, looks: looks, read: m.read, live: newFold(), began: time.Now()}
	s.CrashAt(func(string) bool {
		now := crashes.IntN(400) == 0
		if now {
			a.Add("kills", 1)
		}
		return now
	})
	s.Start()
	var ids []string
	step := 24 * time.Hour / time.Duration(m.desktops*m.acts)
	for time.Since(a.began) < time.Duration(m.days)*24*time.Hour {
		s.Sleep(time.Duration(r.Int64N(int64(2 * step))))
		if len(ids) < m.desktops {
			if id := s.Do("create", ""); id != "" {
				ids = append(ids, id)
			}
		}
		ids = m.act(s, r, ids, &a.Tally)
		synctest.Wait()
		if s.Dead() || s.Running() == 0 {
			s.Sleep(time.Duration(r.Int64N(int64(20 * time.Minute))))
			s.Start()
		}
		a.follow()
	}
	s.CrashAt(nil)
	s.srv.SetPlan(slow)
	s.srv.Unstick()
	if err := s.Settle(1, s.agree); err != nil {
		t.Fatalf("got %v, want log and cloud to agree after the month", err)
	}
	for what, n := range s.srv.Faults() {
		a.Add(what, n)
	}
	for _, st := range s.Fold() {
		a.Add(string(st.Status), 1)
	}
	a.compare(t)
	return a
}

// act plays what a user or the world does to one desktop, and returns the desktops.
func (m simulation) act(s *stage, r *rand.Rand, ids []string, counts *provisionertest.Tally) []string {
	if len(ids) == 0 {
		return ids
	}
	i := r.IntN(len(ids))
	id := ids[i]
	outside := func(to ec2test.State) {
		if s.srv.Outside(s.State(id).Machine, to) == nil {
			counts.Add("outside", 1)
		}
	}
	switch n := r.IntN(100); {
	case n < 40:
		s.Do("stop", id)
	case n < 80:
		s.Do("start", id)
	case n < 84: // a short run: a boot takes up to 90 s
		outside(ec2test.Running)
		s.Sleep(100 * time.Second)
		outside(ec2test.Stopped)
	case n < 88:
		outside(ec2test.Stopped)
		s.Sleep(85 * time.Second)
		outside(ec2test.Running)
	case n < 90:
		outside(ec2test.Stopped)
	case n < 91:
		s.Do("stop", id)
		s.Sleep(time.Duration(r.IntN(60)) * time.Second)
		fallthrough
	case n < 92:
		s.Do("terminate", id)
		return slices.Delete(ids, i, i+1)
	case n < 93:
		if st := s.State(id); st.Status == instance.Running {
			s.srv.Kill(st.Machine, "Server.InternalError")
			return slices.Delete(ids, i, i+1)
		}
	case n < 94 && r.IntN(m.desktops*m.acts) < 300:
		s.Kill()
		counts.Add("kills", 1)
	}
	s.Speak(nil)
	return ids
}

// looks notes when the cloud was asked and showed machines running, by machine.
type looks struct {
	mu        sync.Mutex
	processes int
	ran       map[string][]look
	seen      map[string][]look // whatever they did
}

type look struct {
	at      time.Time
	process int
	saga    bool // not the reconciler
}

func (l *looks) at(i machines.Inventory) machines.Inventory {
	l.processes++
	return watching{i, l, l.processes}
}

type watching struct {
	machines.Inventory
	looks   *looks
	process int
}

func (w watching) Describe(ctx context.Context, ids []string) ([]machines.Machine, error) {
	asked := time.Now()
	list, err := w.Inventory.Describe(ctx, ids)
	w.looks.note(look{asked, w.process, true}, list)
	return list, err
}

func (w watching) List(ctx context.Context) ([]machines.Tagged, error) {
	asked := time.Now()
	list, err := w.Inventory.List(ctx)
	for _, m := range list {
		w.looks.note(look{asked, w.process, false}, []machines.Machine{m.Machine})
	}
	return list, err
}

func (l *looks) note(asked look, list []machines.Machine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ran == nil {
		l.ran, l.seen = map[string][]look{}, map[string][]look{}
	}
	for _, m := range list {
		answered := asked
		answered.at = time.Now()
		l.seen[m.ID] = append(l.seen[m.ID], answered)
		if m.Seen == instance.SeenRunning {
			l.ran[m.ID] = append(l.ran[m.ID], asked)
		}
	}
}

// between returns the last look before a time that showed the machine running, and the next look after it.
func (l *looks) between(machine string, at time.Time) (before, after look) {
	for _, look := range l.ran[machine] {
		if look.at.Before(at) && look.at.After(before.at) {
			before = look
		}
	}
	for _, look := range l.seen[machine] {
		if look.at.After(at) && (after.at.IsZero() || look.at.Before(after.at)) {
			after = look
		}
	}
	return before, after
}

// fold is the intervals of all desktops, and the events that ended them.
type fold struct {
	desktops  map[string][]byte // as a read model keeps them
	intervals map[string]map[int]usage.Interval
	ended     map[string]map[int]instance.Event
}

func newFold() *fold {
	return &fold{map[string][]byte{}, map[string]map[int]usage.Interval{}, map[string]map[int]instance.Event{}}
}

func (f *fold) apply(t testing.TB, id string, e instance.Event, logged time.Time) {
	d := usage.Desktop{Instance: id}
	if text, ok := f.desktops[id]; ok {
		d = usage.Desktop{}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
	} else {
		f.intervals[id], f.ended[id] = map[int]usage.Interval{}, map[int]instance.Event{}
	}
	d, c := d.Apply(e, logged)
	for _, i := range c.Intervals {
		f.intervals[id][i.N] = i
		if i.End != usage.Open {
			f.ended[id][i.N] = e
		}
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	f.desktops[id] = text
}

func (f *fold) usage() (u usage.Usage) {
	for _, id := range slices.Sorted(maps.Keys(f.intervals)) {
		for _, n := range slices.Sorted(maps.Keys(f.intervals[id])) {
			u.Intervals = append(u.Intervals, f.intervals[id][n])
		}
	}
	return u
}

// audit compares charges with bills.
type audit struct {
	provisionertest.Tally
	stage   *stage
	looks   *looks
	read    func(instance.Event) instance.Event
	live    *fold
	applied int64
	began   time.Time
	wrongs  []string

	ours, theirs map[usage.Kind]*big.Rat  // dollars
	less         map[string]time.Duration // by what our runs are shorter, by cause
	longest      map[string]time.Duration
}

func (a *audit) wrong(format string, args ...any) {
	a.wrongs = append(a.wrongs, fmt.Sprintf(format, args...))
}

// follow folds the new events, as a projector does.
func (a *audit) follow() { a.applied = a.apply(a.live, a.applied) }

func (a *audit) apply(f *fold, after int64) int64 {
	for e, err := range a.stage.ReadAll(context.Background(), after) {
		if err != nil {
			a.stage.t.Fatal(err)
		}
		after = e.Position
		if e.Stream.Aggregate != instance.Codec.Aggregate() {
			continue
		}
		ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			a.stage.t.Fatal(err)
		}
		if a.read != nil {
			ev = a.read(ev)
		}
		f.apply(a.stage.t, e.Stream.ID, ev, e.Time)
	}
	return after
}

// compare compares all charges with all bills, now.
func (a *audit) compare(t testing.TB) {
	prices, err := usage.Parse([]byte(monthPrices))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	a.follow()
	from, to := now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)
	rows := prices.Charge(a.live.usage(), from, to, now)
	again := newFold()
	a.apply(again, 0)
	if replayed := prices.Charge(again.usage(), from, to, now); !slices.Equal(replayed, rows) {
		a.wrong("replay charges %d micro-dollars, want %d", usage.Micros(replayed), usage.Micros(rows))
	}
	charged, times := map[string]map[usage.Kind]int64{}, map[string]time.Duration{}
	days := int64(time.Since(a.began)/(24*time.Hour)) + 2
	a.ours, a.theirs = map[usage.Kind]*big.Rat{}, map[usage.Kind]*big.Rat{}
	a.less, a.longest = map[string]time.Duration{}, map[string]time.Duration{}
	for _, r := range rows {
		if charged[r.Instance] == nil {
			charged[r.Instance] = map[usage.Kind]int64{}
		}
		charged[r.Instance][r.Kind] += r.Micros
		if r.Kind == usage.Compute {
			times[r.Instance] += r.Time
		}
		if !r.Priced {
			a.wrong("%s has no price: %+v", r.Instance, r)
		}
	}
	for _, b := range a.stage.srv.Bills() {
		id := b.Tags[ec2.TagInstance]
		took, dollars := a.runs(id, b, now)
		if took != times[id] {
			a.wrong("%s is charged for %v, want %v", id, times[id], took)
		}
		// Each row is rounded down, and there is at most one a day.
		if lost := new(big.Rat).Sub(dollars, big.NewRat(charged[id][usage.Compute], 1_000_000)); lost.Sign() < 0 || lost.Cmp(big.NewRat(days, 1_000_000)) > 0 {
			a.wrong("%s pays %d micro-dollars for its runs, want $%s", id, charged[id][usage.Compute], dollars.FloatString(7))
		}
		for kind, dollars := range map[usage.Kind]*big.Rat{usage.Compute: b.Compute, usage.Disk: b.Disk, usage.Address: b.Address} {
			ours := big.NewRat(charged[id][kind], 1_000_000)
			delete(charged[id], kind)
			if ours.Cmp(dollars) > 0 {
				a.wrong("%s pays $%s for %s, and EC2 bills $%s", id, ours.FloatString(6), kind, dollars.FloatString(6))
			}
			sum(a.ours, kind, ours)
			sum(a.theirs, kind, dollars)
		}
	}
	for id, kinds := range charged {
		if len(kinds) > 0 {
			a.wrong("%s pays %v, and EC2 has no machine of it", id, kinds)
		}
	}
}

func sum(totals map[usage.Kind]*big.Rat, kind usage.Kind, dollars *big.Rat) {
	if totals[kind] == nil {
		totals[kind] = new(big.Rat)
	}
	totals[kind].Add(totals[kind], dollars)
}

// hourly is what a type costs an hour.
var hourly = map[string]*big.Rat{"t3.large": big.NewRat(832, 10_000), "t3a.large": big.NewRat(752, 10_000)}

// runs compares our runs of a desktop with those of EC2's bill, and returns what ours cost by its rules.
func (a *audit) runs(id string, b ec2test.Bill, now time.Time) (took time.Duration, dollars *big.Rat) {
	dollars = new(big.Rat)
	ours := map[int][]usage.Interval{} // by the run of the bill that they are a part of
	for _, n := range slices.Sorted(maps.Keys(a.live.intervals[id])) {
		i := a.live.intervals[id][n]
		if i.Kind != usage.Compute {
			continue
		}
		of := -1
		for k, run := range b.Runs {
			if !run.From.After(i.From) {
				of = k
			}
		}
		if of < 0 {
			a.wrong("%s: a run from %v, before any in the bill", id, i.From)
			continue
		}
		ours[of] = append(ours[of], i)
	}
	for k, run := range b.Runs {
		a.Add("runs", 1)
		end := run.To
		if end.IsZero() {
			end = now
		} else if end.Sub(run.From) < time.Minute {
			a.Add("runs under a minute", 1)
		}
		parts := ours[k]
		if len(parts) == 0 {
			a.shorter("never seen", end.Sub(run.From))
			continue
		}
		a.shorter("begin was seen later", parts[0].From.Sub(run.From))
		var charged time.Duration
		for _, p := range parts {
			to := p.To
			if p.End == usage.Open {
				to = now
			}
			counts := max(time.Minute, to.Sub(p.From))
			charged += counts
			dollars.Add(dollars, new(big.Rat).Mul(hourly[p.Type], big.NewRat(int64(counts), int64(time.Hour))))
		}
		took += charged
		if billed := max(time.Minute, end.Sub(run.From)); charged > billed {
			a.wrong("%s: %v charged for a run from %v of %v: %+v", id, charged, run.From, billed, parts)
		}
		a.end(id, b.Machine, run, parts[len(parts)-1])
	}
	return took, dollars
}

// end compares the end of a run.
func (a *audit) end(id, machine string, run ec2test.Run, ours usage.Interval) {
	event := a.live.ended[id][ours.N]
	less := run.To.Sub(ours.To)
	switch {
	case ours.End == usage.Open && run.To.IsZero():
		a.Add("still running", 1)
		return
	case ours.End == usage.Open || run.To.IsZero():
		a.wrong("%s: %v ended at EC2 at %v, at ours at %v", id, run.From, run.To, ours.To)
		return
	case !ours.From.Before(run.To): // it was over when an answer that was seconds old showed it
		a.Add("seen only after its end", 1)
		return
	case ours.End == usage.ByCloud:
		a.Add("exact ends", 1)
		if less < 0 || less >= time.Second {
			a.wrong("%s: the cloud said that it ended at %v, and we have %v (%T)", id, run.To, ours.To, event)
		}
		return
	}
	a.Add("seen ends", 1)
	if _, stopped := event.(instance.MachineStopped); stopped && run.Said {
		a.wrong("%s: ended at %v, as the cloud said, and we have only seen it: %+v", id, run.To, event)
	}
	if less < 0 {
		a.wrong("%s: ended at %v, and we have %v (%T %+v)", id, run.To, ours.To, event, event)
	}
	until := ranUntil(event)
	if e, restarted := event.(instance.MachineRunning); restarted {
		a.Add("stopped and started between two looks", 1)
		until = e.RanUntil
	}
	before, after := a.looks.between(machine, run.To)
	cause := "end was only seen"
	limit := after.at.Sub(before.at) + 30*time.Second // answers may be 15 s old, and take a while
	if until.IsZero() {                               // the first look after its begin was the one that showed its end
		cause = "end was only seen, and no look before it"
		limit = max(limit, after.at.Sub(ours.From))
		if before.saga && before.at.Sub(ours.From) > 2*a.stage.sweep {
			a.wrong("%s: ended at %v, and %T has no look, but it was looked at from %v to %v", id, run.To, event, before, after)
		}
	}
	killed := before.process != after.process
	if killed { // the looks immediately before were not kept
		cause += ", by a process that was killed"
	}
	a.shorter(cause, less)
	if less > limit && !killed {
		a.wrong("%s: ended at %v, and we have %v, %v less; it was looked at from %v to %v (%T %+v)", id, run.To, ours.To, less, before, after, event, event)
	}
}

func ranUntil(e instance.Event) time.Time {
	switch e := e.(type) {
	case instance.MachineStopped:
		return e.RanUntil
	case instance.MachineGone:
		return e.RanUntil
	}
	return time.Time{}
}

func (a *audit) shorter(cause string, by time.Duration) {
	a.Add(cause, 1)
	a.less[cause] += by
	a.longest[cause] = max(a.longest[cause], by)
}

// String lists totals, differences by cause, and counts.
func (a *audit) String() string {
	text := "in dollars, ours and EC2's:"
	for _, kind := range usage.Kinds[:3] {
		if a.ours[kind] != nil {
			text += fmt.Sprintf(" %s %s %s;", kind, a.ours[kind].FloatString(6), a.theirs[kind].FloatString(6))
		}
	}
	text += "\nless time than EC2 bills:"
	for _, cause := range slices.Sorted(maps.Keys(a.less)) {
		text += fmt.Sprintf("\n  %s: %d times, %v, at most %v", cause, a.Of(cause), a.less[cause].Round(time.Second), a.longest[cause].Round(time.Second))
	}
	return text + "\n" + a.Tally.String()
}
