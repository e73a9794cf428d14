package projections_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/projections"
)

func anyAccount(string) bool { return true }

// log returns all events.
func (w *world) log() (list []eventstore.Event) {
	w.t.Helper()
	for e, err := range w.store.ReadAll(w.t.Context(), 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// Open streams get what the history has, for the accounts that it has: in batches of any length, also if the streams began before,
// and if an event of another account is about the desktop.
func TestLiveIsTheHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.project(projections.All()...)
	w.everything("ada", "01A")
	w.everything("eve", "01E")
	w.append(encoded[audit.Event](w, "audit", "eve", audit.Codec.Encode, audit.DiagnosticsRead{Instance: "01A", Report: "log"})...)
	w.append(encoded[instance.Event](w, "instance", "01A", instance.Codec.Encode, instance.Renamed{Name: seal("ada", label("01A"), "again")})...)
	w.caughtUp()
	var want strings.Builder
	for _, account := range []string{"ada", "eve"} {
		list, err := w.reader.Since(t.Context(), account, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			fmt.Fprintln(&want, account, e.Position, e.Type, e.Subject, e.Sentence)
		}
	}
	for _, c := range []struct {
		batch int
		fresh bool // each batch is the first of a process
	}{{1000, false}, {1, false}, {7, false}, {1, true}, {7, true}} {
		got := map[string]*strings.Builder{"ada": {}, "eve": {}}
		live := &projections.Live{Pool: w.pool}
		for rest := w.log(); len(rest) > 0; {
			n := min(len(rest), c.batch)
			if c.fresh {
				live = &projections.Live{Pool: w.pool}
			}
			list, err := live.Entries(t.Context(), rest[:n], anyAccount)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list {
				e := o.Entry
				fmt.Fprintln(got[o.Account], o.Account, e.Position, e.Type, e.Subject, e.Sentence)
			}
			rest = rest[n:]
		}
		if got := got["ada"].String() + got["eve"].String(); got != want.String() {
			t.Errorf("batches of %d, fresh %v: got\n%s\nwant\n%s", c.batch, c.fresh, got, want.String())
		}
	}
}

// However many owners are known already, each event of a batch finds its own.
func TestLiveKnowsManyOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const many = 2000
	if _, err := w.pool.Exec(t.Context(), `INSERT INTO read.history (account, position, event_id, time, type, subject, actor, sentence, data)
		SELECT 'ada', n, 'e' || n, now(), 'x', 'instance/' || n, 'ada', 's', '{}' FROM generate_series(1, $1::int) n`, many); err != nil {
		t.Fatal(err)
	}
	live := &projections.Live{Pool: w.pool}
	live.FillOwners()
	var batch []eventstore.Event
	for n := range many {
		x := encoded[instance.Event](w, "instance", fmt.Sprint(n+1), instance.Codec.Encode, instance.Renamed{Name: []byte("x")})[0]
		batch = append(batch, eventstore.Event{Position: int64(many + n + 1), Stream: x.stream, Version: 2, NewEvent: eventstore.NewEvent{ID: fmt.Sprint(n), Type: x.typ, Schema: x.schema, Data: x.data}})
	}
	if list, err := live.Entries(t.Context(), batch, anyAccount); err != nil || len(list) != many {
		t.Errorf("got %d events, %v, want %d", len(list), err, many)
	}
}
