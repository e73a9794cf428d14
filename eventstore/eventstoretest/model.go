package eventstoretest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// model is the contract in its shortest form.
type model struct {
	log      []string // stream of each event
	versions map[string]int64
	receipts map[string]eventstore.Receipt
}

func (m *model) append(a eventstore.Append) (eventstore.Result, string) {
	if a.Receipt != nil {
		if _, used := m.receipts[a.Receipt.Key]; used {
			return eventstore.Result{}, "duplicate"
		}
	}
	for _, w := range a.Writes {
		if m.versions[w.Stream.ID] != w.Expected {
			return eventstore.Result{}, "conflict"
		}
	}
	res := eventstore.Result{First: int64(len(m.log)) + 1}
	for _, w := range a.Writes {
		for range w.Events {
			m.log = append(m.log, w.Stream.ID)
			m.versions[w.Stream.ID]++
		}
	}
	if res.Last = int64(len(m.log)); len(a.Writes) == 0 {
		res = eventstore.Result{}
	}
	if a.Receipt != nil {
		r := *a.Receipt
		r.Position = res.Last
		m.receipts[r.Key] = r
	}
	return res, ""
}

// agreesWithModel runs random histories against the store and the model. Each run has its own
// streams and keys, so that one log serves them all; positions count from where the run began.
func agreesWithModel(t *testing.T, s eventstore.Store) {
	i, run := &ids{}, 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{versions: map[string]int64{}, receipts: map[string]eventstore.Receipt{}}
		base := head(t, s)
		for range rapid.IntRange(1, 12).Draw(rt, "appends") {
			a := drawAppend(rt, i, run, m)
			if len(a.Writes) == 0 && a.Receipt == nil {
				continue
			}
			want, refusal := m.append(a)
			if want != (eventstore.Result{}) {
				want.First, want.Last = want.First+base, want.Last+base
			}
			got, err := s.Append(t.Context(), a)
			if got != want || refusalOf(err) != refusal {
				rt.Fatalf("append: got %v, %v; want %v, %q", got, err, want, refusal)
			}
		}
		m.compare(rt, t, s, base)
	})
}

func drawAppend(rt *rapid.T, i *ids, run int, m *model) eventstore.Append {
	var a eventstore.Append
	names := rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 0, 3, rapid.ID[int]).Draw(rt, "streams")
	for _, n := range names {
		id := fmt.Sprintf("r%d-%d", run, n)
		expected := max(m.versions[id]+int64(rapid.SampledFrom([]int{0, 0, 0, 0, 0, -1, 1}).Draw(rt, "off")), 0)
		a.Writes = append(a.Writes, to(i, id, expected, rapid.IntRange(1, 3).Draw(rt, "events")).Writes...)
	}
	if key := rapid.IntRange(0, 9).Draw(rt, "key"); key < 6 {
		a = withReceipt(a, fmt.Sprintf("r%d/%d", run, key), fmt.Sprintf(`"%s"`, i.next()))
	}
	return a
}

func (m *model) compare(rt *rapid.T, t *testing.T, s eventstore.Store, base int64) {
	var log []string
	for e, err := range s.ReadAll(t.Context(), base) {
		if err != nil {
			rt.Fatal(err)
		}
		log = append(log, e.Stream.ID)
	}
	if !slices.Equal(log, m.log) {
		rt.Fatalf("got log %v, want %v", log, m.log)
	}
	for id, version := range m.versions {
		if n := len(history(t, s, id, 0)); int64(n) != version {
			rt.Fatalf("%s: got %d events, want %d", id, n, version)
		}
	}
	for key, want := range m.receipts {
		if want.Position > 0 {
			want.Position += base
		}
		if got := receiptOf(t, s, key); string(got.Response) != string(want.Response) || got.Position != want.Position {
			rt.Fatalf("receipt %s is %+v, not %+v", key, got, want)
		}
	}
}

func refusalOf(err error) string {
	var conflict *eventstore.ConflictError
	var dup *eventstore.DuplicateError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &conflict):
		return "conflict"
	case errors.As(err, &dup):
		return "duplicate"
	}
	return err.Error()
}
