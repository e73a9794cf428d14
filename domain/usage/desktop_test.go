package usage_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// logged is an event with the time at which it was logged.
type logged struct {
	at time.Time
	e  instance.Event
}

// fold returns the intervals of events, by their number, and the model costs.
func fold(events []logged) (map[int]usage.Interval, map[time.Time]int64) {
	d := usage.Desktop{Instance: "d"}
	intervals, models := map[int]usage.Interval{}, map[time.Time]int64{}
	for _, l := range events {
		var c usage.Changes
		d, c = d.Apply(l.e, l.at)
		for _, i := range c.Intervals {
			intervals[i.N] = i
		}
		for _, m := range c.Models {
			models[m.Day] += m.Micros
		}
	}
	return intervals, models
}

// tm is a time on the third, by minute and second.
func tm(minute, second int) time.Time { return at(3, 10, minute, second) }

// text shows intervals in a line each: kind, from, to and how the end is known.
func text(intervals map[int]usage.Interval) string {
	var lines []string
	for n := 1; n <= len(intervals); n++ {
		i := intervals[n]
		to := "open"
		if i.End != usage.Open {
			to = i.To.Format("04:05") + " " + string(i.End)
		}
		lines = append(lines, fmt.Sprint(i.Kind, " ", i.From.Format("04:05"), " ", to))
	}
	return strings.Join(lines, "\n")
}

func TestDesktop(t *testing.T) {
	t.Parallel()
	launched := []logged{
		{tm(0, 0), instance.Requested{Account: "a", Type: "t3.large", Region: "r"}},
		{tm(0, 0), instance.LaunchAttempted{Attempt: 1, At: tm(0, 0), Spec: instance.Spec{Type: "t3a.large", Region: "r", VolumeGiB: 50}}},
		{tm(0, 1), instance.MachineLaunched{Attempt: 1, Machine: "i-1", At: tm(0, 1)}},
	}
	running := append(launched[:3:3], logged{tm(1, 0), instance.MachineRunning{Address: "x", At: tm(1, 0), Launched: tm(0, 0)}})
	old := append(launched[:3:3], logged{tm(1, 0), instance.MachineRunning{Address: "x", At: tm(1, 0)}})
	ended := func(at, until time.Time) instance.RunEnded { return instance.RunEnded{Ended: at, RanUntil: until} }
	const disk, open = "disk 00:01 open\n", "disk 00:01 open\ncompute 01:00 open\naddress 01:00 open"
	never := time.Time{}
	for _, c := range []struct {
		name   string
		before []logged
		events []logged
		want   string
	}{
		{"running", running, nil, open},
		{"stopped, by the cloud's time", running, []logged{{tm(9, 0), instance.MachineStopped{RunEnded: ended(tm(8, 30), tm(8, 0))}}}, disk + "compute 01:00 08:30 cloud\naddress 01:00 08:30 cloud"},
		{"stopped, by our look", running, []logged{{tm(9, 0), instance.MachineStopped{RunEnded: ended(never, tm(8, 0))}}}, disk + "compute 01:00 08:00 seen\naddress 01:00 08:00 seen"},
		{"stopped at our request, by no time", running, []logged{{tm(8, 0), instance.StopRequested{At: tm(8, 0)}}, {tm(9, 0), instance.MachineStopped{Asked: true}}}, disk + "compute 01:00 08:00 seen\naddress 01:00 08:00 seen"},
		{"stopped from outside, by no time", running, []logged{{tm(7, 0), instance.PhaseReached{At: tm(7, 0)}}, {tm(9, 0), instance.MachineStopped{}}}, disk + "compute 01:00 07:00 seen\naddress 01:00 07:00 seen"},
		{"stopped, an event of an older version", old, []logged{{tm(9, 0), instance.MachineStopped{}}}, disk + "compute 01:00 09:00 seen\naddress 01:00 09:00 seen"},
		{"stopped before it began", running, []logged{{tm(9, 0), instance.MachineStopped{RunEnded: ended(tm(0, 30), never)}}}, disk + "compute 01:00 01:00 cloud\naddress 01:00 01:00 cloud"},
		{"stopped by a clock that is ahead", running, []logged{{tm(9, 0), instance.MachineStopped{RunEnded: ended(tm(19, 0), never)}}}, disk + "compute 01:00 09:00 cloud\naddress 01:00 09:00 cloud"},
		{"stopped twice", running, []logged{{tm(9, 0), instance.MachineStopped{RunEnded: ended(tm(8, 0), never)}}, {tm(10, 0), instance.MachineStopped{RunEnded: ended(tm(9, 30), never)}}}, disk + "compute 01:00 08:00 cloud\naddress 01:00 08:00 cloud"},
		{"no address", launched, []logged{{tm(1, 0), instance.MachineRunning{At: tm(1, 0)}}, {tm(2, 0), instance.AddressChanged{Address: "y"}}, {tm(3, 0), instance.AddressChanged{Address: "z"}}, {tm(4, 0), instance.AddressChanged{}}}, disk + "compute 01:00 open\naddress 02:00 04:00 seen"},
		{"stopped and started between two looks", running, []logged{{tm(9, 0), instance.MachineRunning{Address: "y", At: tm(9, 0), Launched: tm(7, 0), RanUntil: tm(6, 0)}}}, disk + "compute 01:00 06:00 seen\naddress 01:00 06:00 seen\ncompute 09:00 open\naddress 09:00 open"},
		{"stopped and started while no process looked", running, []logged{{tm(9, 0), instance.MachineRunning{Address: "y", At: tm(9, 0), Launched: tm(7, 0)}}}, disk + "compute 01:00 01:00 seen\naddress 01:00 01:00 seen\ncompute 09:00 open\naddress 09:00 open"},
		{"the report of its end was stale", running, []logged{{tm(9, 0), instance.MachineStopped{RunEnded: ended(never, tm(8, 0))}}, {tm(9, 30), instance.MachineRunning{Address: "x", At: tm(9, 30), Launched: tm(0, 0)}}}, disk + "compute 01:00 open\naddress 01:00 08:00 seen\naddress 09:30 open"},
		{"a stale report after its end invents no run", running, []logged{{tm(9, 0), instance.MachineStopped{RunEnded: ended(tm(8, 30), never)}}, {tm(9, 30), instance.MachineRunning{Address: "x", At: tm(9, 30), Launched: tm(0, 0)}}, {tm(9, 40), instance.MachineStopped{RunEnded: ended(tm(8, 30), never)}}}, disk + "compute 01:00 08:30 cloud\naddress 01:00 08:30 cloud\naddress 09:30 09:30 cloud"},
		{"a stop from outside that was undone", running, []logged{{tm(2, 0), instance.StopRequested{At: tm(2, 0), Outside: true}}, {tm(3, 0), instance.MachineRunning{Address: "x", At: tm(3, 0), Launched: tm(0, 0)}}}, open},
		{"terminated", running, []logged{{tm(8, 0), instance.TerminationRequested{At: tm(8, 0)}}, {tm(9, 0), instance.MachineGone{Asked: true, RunEnded: ended(tm(8, 2), tm(7, 0))}}, {tm(9, 0), instance.Terminated{}}}, "disk 00:01 08:02 seen\ncompute 01:00 08:02 cloud\naddress 01:00 08:02 cloud"},
		{"terminated while it was stopped", running, []logged{{tm(6, 0), instance.MachineStopped{RunEnded: ended(tm(5, 30), never)}}, {tm(9, 0), instance.MachineGone{RunEnded: ended(never, tm(8, 0))}}}, "disk 00:01 08:00 seen\ncompute 01:00 05:30 cloud\naddress 01:00 05:30 cloud"},
		{"terminated by the cloud, by no time", running, []logged{{tm(9, 0), instance.MachineGone{RunEnded: ended(never, tm(8, 0))}}}, "disk 00:01 08:00 seen\ncompute 01:00 08:00 seen\naddress 01:00 08:00 seen"},
		{"terminated from outside", running, []logged{{tm(9, 0), instance.MachineGone{RunEnded: ended(tm(8, 2), tm(7, 0))}}, {tm(9, 0), instance.Failed{}}}, "disk 00:01 08:02 cloud\ncompute 01:00 08:02 cloud\naddress 01:00 08:02 cloud"},
		{"given up", running, []logged{{tm(5, 0), instance.MachineMissed{At: tm(5, 0)}}, {tm(40, 0), instance.MachineGone{Missing: true, RunEnded: ended(never, tm(4, 0))}}}, "disk 00:01 04:00 seen\ncompute 01:00 04:00 seen\naddress 01:00 04:00 seen"},
		{"given up by a new process", running, []logged{{tm(5, 0), instance.MachineMissed{At: tm(5, 0)}}, {tm(40, 0), instance.MachineGone{Missing: true}}}, "disk 00:01 01:00 seen\ncompute 01:00 01:00 seen\naddress 01:00 01:00 seen"},
		{"terminated by the operator", running, []logged{{tm(9, 0), instance.Terminated{By: instance.ByOperator, Account: "a"}}}, "disk 00:01 09:00 seen\ncompute 01:00 09:00 seen\naddress 01:00 09:00 seen"},
		{"terminated by the operator while it was missing", running, []logged{{tm(4, 0), instance.PhaseReached{At: tm(4, 0)}}, {tm(5, 0), instance.MachineMissed{At: tm(5, 0)}}, {tm(9, 0), instance.Terminated{By: instance.ByOperator, Account: "a"}}}, "disk 00:01 04:00 seen\ncompute 01:00 04:00 seen\naddress 01:00 04:00 seen"},
		{"terminated while it was missing", running, []logged{{tm(4, 0), instance.PhaseReached{At: tm(4, 0)}}, {tm(5, 0), instance.MachineMissed{At: tm(5, 0)}}, {tm(8, 0), instance.TerminationRequested{At: tm(8, 0)}}, {tm(9, 0), instance.MachineGone{Asked: true, Missing: true}}}, "disk 00:01 04:00 seen\ncompute 01:00 04:00 seen\naddress 01:00 04:00 seen"},
		{"termination without a machine", launched[:1], []logged{{tm(2, 0), instance.TerminationRequested{At: tm(2, 0)}}, {tm(2, 0), instance.Terminated{}}}, ""},
		{"never opened", nil, []logged{{tm(2, 0), instance.MachineLaunched{At: tm(2, 0)}}, {tm(2, 0), instance.MachineRunning{Address: "x", At: tm(2, 0)}}, {tm(2, 0), instance.Terminated{By: instance.ByOperator, Account: "a"}}}, ""},
		{"taken over", nil, []logged{{tm(2, 0), instance.TakenOver{Account: "a", Region: "r", Machine: "i-1", Address: "x", At: tm(2, 0), CreatedAt: tm(0, 0)}}}, "disk 02:00 open\ncompute 02:00 open\naddress 02:00 open"},
		{"taken over while it was stopped", nil, []logged{{tm(2, 0), instance.TakenOver{Account: "a", Region: "r", Machine: "i-1", Stopped: true, At: tm(2, 0)}}}, "disk 02:00 open"},
		{"begun by a clock that is slow", launched, []logged{{at(3, 9, 1, 0), instance.MachineRunning{Address: "x", At: at(3, 9, 1, 0), Launched: tm(0, 30)}}, {tm(9, 0), instance.MachineStopped{RunEnded: ended(tm(8, 0), never)}}}, disk + "compute 00:30 08:00 cloud\naddress 00:30 08:00 cloud"},
		{"forgotten, an event of an older version", old, []logged{{tm(3, 0), instance.PhaseReached{At: tm(3, 0)}}, {tm(40, 0), instance.MachineGone{Missing: true}}}, "disk 00:01 03:00 seen\ncompute 01:00 03:00 seen\naddress 01:00 03:00 seen"},
		{"begun by a clock that stepped back", launched, []logged{{tm(9, 0), instance.MachineRunning{At: tm(9, 0), Launched: tm(0, 0)}}, {tm(3, 0), instance.MachineStopped{RunEnded: ended(tm(3, 0), never)}}, {tm(4, 0), instance.MachineRunning{At: tm(4, 0), Launched: tm(3, 30)}}}, disk + "compute 09:00 09:00 cloud\ncompute 09:00 open"},
	} {
		intervals, _ := fold(append(c.before[:len(c.before):len(c.before)], c.events...))
		if got := text(intervals); got != strings.TrimSuffix(c.want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	intervals, _ := fold(running)
	if got := intervals[1]; got.GiB != 50 || got.Type != "t3a.large" || got.Account != "a" || got.Instance != "d" || got.Region != "r" {
		t.Errorf("got %+v, want the disk of the request, of a t3a.large", got)
	}
}

func TestModelCosts(t *testing.T) {
	t.Parallel()
	_, models := fold([]logged{
		{tm(0, 0), instance.ModelCostReported{Meter: "m", Total: 5, Added: 5}}, // before it was opened
		{tm(0, 0), instance.Requested{Account: "a", Type: "t"}},
		{tm(1, 0), instance.ModelCostReported{Meter: "m", Total: 5, Added: 5, At: tm(1, 0)}},
		{tm(2, 0), instance.ModelCostReported{Meter: "m", Total: 12, Added: 7, At: tm(2, 0)}},
		{at(4, 0, 0, 0), instance.ModelCostReported{Meter: "n", Total: 1, Added: 1, At: at(4, 0, 0, 0)}},
	})
	if want := map[time.Time]int64{at(3, 0, 0, 0): 12, at(4, 0, 0, 0): 1}; !reflect.DeepEqual(models, want) {
		t.Errorf("got %v, want %v", models, want)
	}
}

// drawEvents draws any events in any order, some of them twice, at times that may go back.
func drawEvents(t *rapid.T) (events []logged) {
	now := at(3, 10, 0, 0)
	when := func(name string) time.Time {
		switch rapid.IntRange(0, 3).Draw(t, name) {
		case 0:
			return time.Time{}
		case 1:
			return now
		}
		return now.Add(time.Duration(rapid.IntRange(-4000, 1000).Draw(t, name+" off")) * time.Second)
	}
	ended := func() instance.RunEnded { return instance.RunEnded{Ended: when("ended"), RanUntil: when("ran until")} }
	address := func() string { return rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "address") }
	if rapid.IntRange(0, 5).Draw(t, "opened") > 0 {
		events = append(events, logged{now, instance.Requested{Account: "a", Type: "t", Region: "r"}})
	}
	for range rapid.IntRange(0, 30).Draw(t, "events") {
		now = now.Add(time.Duration(rapid.IntRange(-60, 3600).Draw(t, "step"))*time.Second + time.Duration(rapid.IntRange(0, 999).Draw(t, "ns")))
		e := []instance.Event{
			instance.MachineRunning{Address: address(), At: when("at"), Launched: when("launched"), RanUntil: when("ran until")},
			instance.MachineRunning{Address: address(), At: when("at"), Launched: at(3, 9, 0, 0)},
			instance.MachineStopped{RunEnded: ended()}, instance.MachineStopped{}, instance.AddressChanged{Address: address()},
			instance.MachineLaunched{At: when("at")}, instance.LaunchAttempted{Spec: instance.Spec{Type: "dear", VolumeGiB: 9}},
			instance.StopRequested{At: when("at"), Outside: rapid.Bool().Draw(t, "outside")}, instance.StartRequested{At: now},
			instance.TerminationRequested{At: when("at")}, instance.MachineGone{RunEnded: ended()}, instance.Terminated{}, instance.Terminated{By: instance.ByOperator, Account: "a"},
			instance.MachineMissed{At: when("at")}, instance.MachineFound{}, instance.PhaseReached{At: when("at")}, instance.Failed{},
			instance.TakenOver{Account: "b", Region: "x", At: when("at")}, instance.IdlePolicySet{Policy: &idle.Policy{}},
			instance.ModelCostReported{Added: rapid.Int64Range(-5, 50).Draw(t, "added")},
		}[rapid.IntRange(0, 19).Draw(t, "event")]
		for range rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "times") {
			events = append(events, logged{now, e})
		}
	}
	return events
}

// Whatever the events: no interval ends before it begins, no two of a kind overlap, at most one of a kind is open, and
// none is removed. A fold that is kept as JSON between any two events gives the same.
func TestDesktopLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		intervals, models := fold(events)
		last := map[usage.Kind]usage.Interval{}
		for n := 1; n <= len(intervals); n++ {
			i, ok := intervals[n]
			if !ok || i.N != n || i.Account == "" {
				t.Fatalf("got %+v as interval %d of %d, want each, with an account", i, n, len(intervals))
			}
			if i.End != usage.Open && i.To.Before(i.From) {
				t.Fatalf("got %+v, want it to end after it begins", i)
			}
			if before, ok := last[i.Kind]; ok && (before.End == usage.Open || i.From.Before(before.To)) {
				t.Fatalf("got %+v after %+v, want no overlap", i, before)
			}
			last[i.Kind] = i
		}
		for _, micros := range models {
			if micros <= 0 {
				t.Fatalf("got model costs %v, want them positive", models)
			}
		}
		if final := events != nil && len(last) > 0; final {
			if _, over := events[len(events)-1].e.(instance.Terminated); over {
				for _, i := range last {
					if i.End == usage.Open {
						t.Fatalf("got %+v after the end, want it closed", i)
					}
				}
			}
		}
		kept, again := usage.Desktop{Instance: "d"}, map[int]usage.Interval{}
		for _, l := range events {
			var c usage.Changes
			kept, c = kept.Apply(l.e, l.at)
			for _, i := range c.Intervals {
				again[i.N] = i
			}
			text, err := json.Marshal(kept)
			if err != nil {
				t.Fatal(err)
			}
			kept = usage.Desktop{}
			if err := json.Unmarshal(text, &kept); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(again, intervals) {
			t.Fatalf("kept as JSON: got\n%s\nwant\n%s", text(again), text(intervals))
		}
	})
}
