package ec2_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// fold is the intervals of all desktops, and the events that ended them.
type fold struct {
	desktops  map[string][]byte // as a read model keeps them
	intervals map[string]map[int]usage.Interval
	ended     map[string]map[int]instance.Event
	logged    map[string]map[int]time.Time // when it was
}

func newFold() *fold {
	return &fold{map[string][]byte{}, map[string]map[int]usage.Interval{}, map[string]map[int]instance.Event{}, map[string]map[int]time.Time{}}
}

func (f *fold) apply(t testing.TB, id string, e instance.Event, logged time.Time) {
	d := usage.Desktop{Instance: id}
	if text, ok := f.desktops[id]; ok {
		d = usage.Desktop{}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
	} else {
		f.intervals[id], f.ended[id], f.logged[id] = map[int]usage.Interval{}, map[int]instance.Event{}, map[int]time.Time{}
	}
	d, c := d.Apply(e, logged)
	for _, i := range c.Intervals {
		f.intervals[id][i.N] = i
		if i.End != usage.Open {
			f.ended[id][i.N], f.logged[id][i.N] = e, logged
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
		if a.looks.missed(b.Machine, run.From, parts[0].From) {
			a.wrong("%s: ran from %v, was shown twice, and is charged from %v", id, run.From, parts[0].From)
		}
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
	if _, stopped := event.(instance.MachineStopped); stopped && run.Said && !a.started(machine, run.To, a.live.logged[id][ours.N]) {
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

// started reports whether the machine was started between two times: the answers have the times of a later run then.
func (a *audit) started(machine string, from, to time.Time) bool {
	return slices.ContainsFunc(a.stage.srv.Ledger(), func(e ec2test.Entry) bool {
		return e.Machine == machine && e.Action == "StartInstances" && e.Time.After(from) && e.Time.Before(to)
	})
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
