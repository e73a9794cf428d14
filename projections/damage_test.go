package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// damaged is a log in which the rows that bad chooses cannot be read until it is repaired.
type damaged struct {
	eventstore.Store
	bad      func(eventstore.Event) bool
	repaired *atomic.Bool
}

func (d damaged) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range d.Store.ReadAll(ctx, after) {
			if err == nil && d.bad(e) && !d.repaired.Load() {
				e.Damage, e.Meta = errors.New("metadata: it is no JSON"), eventstore.Metadata{}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A row that cannot be read stops its stream in every read model and nothing else. A rebuild passes it, with the
// stream still parked.
func TestDamageIsParked(t *testing.T) {
	t.Parallel()
	w, clean := newWorld(t), newWorld(t)
	clean.store, clean.feed = w.store, &follower{store: w.store}
	var repaired atomic.Bool
	bad := eventstore.StreamID{Aggregate: "instance", ID: "01BAD"}
	store := damaged{w.store, func(e eventstore.Event) bool { return e.Stream == bad && e.Type == "instance.machine_launched" }, &repaired}
	w.feed = &follower{store: store}
	w.project(projections.All()...)
	w.everything("acc", "01FINE")
	w.everything("acc", "01BAD")
	w.everything("acc", "01ALSO")
	w.caughtUp()
	clean.project(projections.All()...)
	clean.caughtUp()
	others := func(from *world) (rows string) {
		for row := range strings.SplitSeq(from.dumps(), "\n") {
			if !strings.Contains(row, "01BAD") {
				rows += row + "\n"
			}
		}
		return rows
	}
	live := w.dumps()
	for _, p := range projections.All() {
		faulty, all, err := projections.Parked(t.Context(), w.pool, p.Name)
		if err != nil || len(faulty) != 1 || faulty[0].Stream != bad.String() || all < 10 {
			t.Errorf("%s: got %+v parked, %d in all, %v, want one of %s and at least 10 in all", p.Name, faulty, all, err, bad)
		}
		if _, err := projections.Rebuild(t.Context(), w.pool, store, p, nil); err != nil {
			t.Fatalf("rebuild %s: %v", p.Name, err)
		}
		if again, n, err := projections.Parked(t.Context(), w.pool, p.Name); err != nil || n != all || len(again) != 1 || again[0] != faulty[0] {
			t.Errorf("%s after a rebuild: got %+v parked, %d in all, %v, want %+v and %d", p.Name, again, n, err, faulty, all)
		}
	}
	same(t, w.dumps(), live) // a rebuild has the same rows
	same(t, others(w), others(clean))
	// The stream stays parked, and the other streams continue.
	w.append(encoded[instance.Event](w, "instance", "01BAD", instance.Codec.Encode, instance.Renamed{Name: seal("acc", label("01BAD"), "after")})...)
	w.append(encoded[instance.Event](w, "instance", "01FINE", instance.Codec.Encode, instance.Renamed{Name: seal("acc", label("01FINE"), "after")})...)
	w.caughtUp()
	if got, err := w.reader.Instance(t.Context(), "acc", "01FINE"); err != nil || got.Name != "after" {
		t.Errorf("got %+v, %v, want it renamed", got, err)
	}
	if got, err := w.reader.Instance(t.Context(), "acc", "01BAD"); err != nil || got.Name == "after" {
		t.Errorf("got %+v, %v, want it not renamed", got, err)
	}
	repaired.Store(true)
	total := 0
	for _, p := range projections.All() {
		applied, left, err := projections.RetryParked(t.Context(), w.pool, store, p)
		if err != nil || left != 0 {
			t.Errorf("%s repaired: got %d applied, %d left, %v, want none left", p.Name, applied, left, err)
		}
		total += applied
	}
	clean.caughtUp()
	same(t, w.dumps(), clean.dumps())
	t.Logf("1 damaged row: %d rebuilds went past it, %d parked events applied once it was repaired", len(projections.All()), total)
}

// Each way to damage a row gives an event with its damage, and the rows around it are read.
func TestDamagedRowsAreRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log, err := postgres.Open(t.Context(), postgres.Config{Pool: postgres.Wrap(w.pool)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w.store, w.feed = log, &follower{store: log}
	kinds := []string{`meta = 'not JSON'`, `meta = '[1]'`, `meta = ''`, `meta = NULL`, `data = NULL`, `data = '{"half":'`, `stream = 'nameless'`, `stream = NULL`, `type = NULL`, `id = NULL`,
		`id = ''`, `time = NULL`, `time = 'infinity'`, `time = '-infinity'`, `schema = NULL`, `schema = -1`}
	for range kinds {
		w.append(encoded[instance.Event](w, "instance", "01I"+string(rune('A'+w.ids.Load())), instance.Codec.Encode,
			instance.Requested{Account: "acc", Name: seal("acc", "x", "y"), Type: "t", Region: "r"})...)
	}
	if _, err := w.pool.Exec(t.Context(), `ALTER TABLE log.entries DISABLE TRIGGER never_change`); err != nil {
		t.Fatal(err)
	}
	for i, kind := range kinds {
		if _, err := w.pool.Exec(t.Context(), `UPDATE log.entries SET `+kind+` WHERE position = $1`, i+1); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	w.everything("acc", "01FINE")
	w.project(projections.All()...)
	w.caughtUp()
	read := int64(0)
	for e, err := range log.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if read++; e.Position != read || e.ID == "" || e.Type == "" || e.Time.Year() > 9999 {
			t.Errorf("got %+v, want position %d, an id, a type and a year up to 9999", e, read)
		}
		if sound := e.Damage == nil && json.Valid(e.Data); sound != (read > int64(len(kinds))) {
			t.Errorf("event %d: got damage %v, want damage: %v", read, e.Damage, read <= int64(len(kinds)))
		}
	}
	for i, kind := range kinds {
		if n := w.number(`SELECT count(*) FROM read.parked WHERE projection = 'instances' AND position = $1`, i+1); n != 1 {
			t.Errorf("%s: got %d parked events at its position, want 1", kind, n)
		}
	}
	if got, err := w.reader.Instance(t.Context(), "acc", "01FINE"); err != nil || got.Status != instance.StatusTerminated {
		t.Errorf("got %+v, %v, want it terminated", got, err)
	}
	if n := w.number(`SELECT count(*) FROM read.parked WHERE position > $1`, len(kinds)); n != 0 {
		t.Errorf("got %d sound events parked, want none", n)
	}
	t.Logf("%d kinds of damage: each parked, %d events read", len(kinds), read)
}

// What is parked does not depend on the batches: a value that the tables refuse parks its event also where a later
// event of the batch replaces it.
func TestParkedWithoutRegardToBatches(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]instance.Event{
		"machine":  instance.MachineLaunched{Attempt: 1, Machine: "i-\x00", At: began},
		"versions": instance.VersionsReported{Boot: "b", Versions: map[string]string{"os": "\x00"}, At: began},
		"name":     instance.Renamed{},
	} {
		w := newWorld(t)
		w.append(encoded[instance.Event](w, "instance", "01I", instance.Codec.Encode,
			instance.Requested{Account: "acc", Name: []byte("sealed"), Type: "small", Region: "r"}, bad,
			instance.MachineLaunched{Attempt: 1, Machine: "i-1", At: began}, instance.Renamed{Name: []byte("another")},
			instance.VersionsReported{Boot: "b", Versions: map[string]string{"os": "1"}, At: began})...)
		w.project(find(t, "instances"))
		w.caughtUp()
		if n := w.number(`SELECT count(*) FROM read.parked`); n != 4 {
			t.Errorf("%s: got %d parked events, want 4: %s", name, n, w.dump("parked"))
		}
	}
}

// The same for the usage, which keeps the boot.
func TestUsageParkedWithoutRegardToBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(encoded[instance.Event](w, "instance", "01I", instance.Codec.Encode,
		instance.Requested{Account: "acc", Name: []byte("sealed"), Type: "small", Region: "r"},
		instance.PhaseReached{Boot: "b\x00", Phase: instance.PhaseBooting, At: began}, instance.PhaseReached{Boot: "c", Phase: instance.PhaseBooting, At: began})...)
	w.project(find(t, "usage"))
	w.caughtUp()
	if n := w.number(`SELECT count(*) FROM read.parked`); n != 2 {
		t.Errorf("got %d parked events, want 2: %s", n, w.dump("parked"))
	}
}
