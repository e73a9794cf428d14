package projections_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/projections"
)

// used folds the log without SQL and returns the usage of all desktops, as Reader.Usage orders it.
func (w *world) used() (u usage.Usage) {
	w.t.Helper()
	desktops := map[string]usage.Desktop{}
	intervals := map[string]map[int]usage.Interval{}
	models := map[string]map[time.Time]usage.ModelDay{}
	for e, err := range w.store.ReadAll(w.t.Context(), 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		id := e.Stream.ID
		if e.Stream.Aggregate != instance.Codec.Aggregate() {
			continue
		}
		ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		d, ok := desktops[id]
		if !ok {
			d = usage.Desktop{Instance: id}
			intervals[id], models[id] = map[int]usage.Interval{}, map[time.Time]usage.ModelDay{}
		}
		var c usage.Changes
		desktops[id], c = d.Apply(ev, e.Time)
		for _, i := range c.Intervals {
			intervals[id][i.N] = i
		}
		for _, m := range c.Models {
			m.Micros += models[id][m.Day].Micros
			models[id][m.Day] = m
		}
	}
	for _, id := range slices.Sorted(maps.Keys(desktops)) {
		for _, n := range slices.Sorted(maps.Keys(intervals[id])) {
			u.Intervals = append(u.Intervals, intervals[id][n])
		}
		for _, day := range slices.SortedFunc(maps.Keys(models[id]), time.Time.Compare) {
			u.Models = append(u.Models, models[id][day])
		}
	}
	return u
}

// The rows are the fold of the log, live and rebuilt, whatever the batches.
func TestUsageIsTheFold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := find(t, "usage")
	w.project(p)
	w.everything("a", "01USAGE0000000000000000001")
	seed := 0
	rapid.Check(t, func(t *rapid.T) {
		if seed++; seed > 60 {
			return
		}
		id := fmt.Sprintf("01USAGE%019d", 100+seed)
		for n, e := range life(t, fmt.Sprint("acc", seed%3), id) {
			w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, e)...)
			if n%5 == 0 {
				w.caughtUp() // so that batches end in the middle of intervals
				w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, instance.ModelCostReported{Meter: "m", Total: int64(n + 1), Added: int64(n + 1), At: began})...)
			}
		}
	})
	w.caughtUp()
	want := w.used()
	for i := range want.Intervals {
		want.Intervals[i].From = want.Intervals[i].From.UTC()
	}
	if len(want.Intervals) < 20 || len(want.Models) < 20 {
		t.Fatalf("got %d intervals and %d days with model costs, want many", len(want.Intervals), len(want.Models))
	}
	far := began.AddDate(100, 0, 0)
	got, err := w.reader.Usage(t.Context(), "", began.AddDate(-1, 0, 0), far)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	live := ""
	for _, table := range p.Tables {
		live += w.dump(table)
	}
	if _, err := projections.Rebuild(t.Context(), w.pool, w.store, p, nil); err != nil {
		t.Fatal(err)
	}
	rebuilt := ""
	for _, table := range p.Tables {
		rebuilt += w.dump(table)
	}
	same(t, rebuilt, live)
}

func TestUsageQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	day := usage.Day(began)
	desktop := func(acc, id string, from, to time.Time) {
		events := []instance.Event{
			instance.Requested{Account: acc, Name: seal(acc, label(id), "n"), Type: "t3.large", Region: "us-east-1"},
			instance.MachineRunning{At: from, Launched: from}, instance.ModelCostReported{Meter: "m", Total: 3, Added: 3, At: to},
			instance.MachineStopped{RunEnded: instance.RunEnded{Ended: to}},
		}
		times := []time.Time{from, from, to, to}
		for n, x := range encoded[instance.Event](w, "instance", id, instance.Codec.Encode, events...) {
			w.appendAt(times[n], write{eventstore.StreamID{Aggregate: "instance", ID: id}, x.typ, x.schema, x.data})
		}
	}
	desktop("a", "01D0000000000000000000000A", day.Add(-30*time.Minute), day.Add(30*time.Minute))
	desktop("b", "01D0000000000000000000000B", day.Add(2*time.Hour), day.Add(3*time.Hour))
	desktop("b", "01D0000000000000000000000C", day.Add(-2*time.Second), day.Add(-time.Second)) // its minute reaches into the day
	w.project(find(t, "usage"))
	w.caughtUp()
	p, tomorrow := usage.Default(), day.AddDate(0, 0, 1)
	for _, c := range []struct {
		name     string
		account  string
		from, to time.Time
		rows     int
		micros   int64
	}{
		{"all, on the day", "", day, tomorrow, 5, 41600 + 83200 + 83200*58/3600 + 3 + 3},
		{"all, on the day before", "", day.AddDate(0, 0, -1), day, 3, 41600 + 83200*2/3600 + 3},
		{"one account", "a", day, tomorrow, 2, 41600 + 3},
		{"the other account", "b", day.AddDate(0, 0, -1), tomorrow, 5, 83200 + 3 + 3 + 83200*58/3600 + 83200*2/3600},
		{"before all", "", day.AddDate(0, 0, -9), day.AddDate(0, 0, -8), 0, 0},
		{"an account without any", "c", day, tomorrow, 0, 0},
	} {
		u, err := w.reader.Usage(t.Context(), c.account, c.from, c.to)
		if err != nil {
			t.Fatal(err)
		}
		if rows := p.Charge(u, c.from, c.to, tomorrow); len(rows) != c.rows || usage.Micros(rows) != c.micros {
			t.Errorf("%s: got %d rows and %d micro-dollars, want %d and %d:\n%+v", c.name, len(rows), usage.Micros(rows), c.rows, c.micros, rows)
		}
	}
	spent, err := w.reader.Spent(t.Context(), day.Add(time.Hour), "a", "b")
	if err != nil || len(spent.Intervals) != 1 || spent.Intervals[0].Instance != "01D0000000000000000000000B" || len(spent.Models) != 2 {
		t.Errorf("got %+v, %v, want the run since then and the day's model costs", spent, err)
	}
	if all, err := w.reader.Spent(t.Context(), day.AddDate(-1, 0, 0)); err != nil || len(all.Intervals) != 3 || len(all.Models) != 3 {
		t.Errorf("got %+v, %v, want everything", all, err)
	}
}
