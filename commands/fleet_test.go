package commands_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// living folds the log as the read model does.
func living(store eventstore.Store) func(context.Context) ([]string, int64, error) {
	return func(ctx context.Context) (ids []string, position int64, err error) {
		alive := map[string]bool{}
		for e, err := range store.ReadAll(ctx, 0) {
			if err != nil {
				return nil, 0, err
			}
			switch position = e.Position; e.Type {
			case "instance.requested":
				alive[e.Stream.ID] = true
			case "instance.terminated", "instance.failed":
				delete(alive, e.Stream.ID)
			}
		}
		for id := range alive {
			ids = append(ids, id)
		}
		return ids, position, nil
	}
}

// count gives the world a limit and counts its instances.
func (w *world) count(t testing.TB, limit int) *commands.Fleet {
	t.Helper()
	f := &commands.Fleet{Limit: limit, Live: living(w.Store), Logger: slog.New(slog.DiscardHandler)}
	w.Instances.Fleet = f
	if err := f.Count(t.Context(), w.Log); err != nil {
		t.Fatal(err)
	}
	return f
}

// dataOf returns the data of the log's events of a type.
func (w *world) dataOf(t testing.TB, typ string) (data []string) {
	t.Helper()
	for e, err := range w.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == typ {
			data = append(data, string(e.Data))
		}
	}
	return data
}

func (w *world) mustCreate(t testing.TB, o commands.Origin) string {
	t.Helper()
	out, err := w.Instances.Create(t.Context(), o, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return out.Answer.ID
}

func TestNoCeilingNoStream(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.mustCreate(t, o)
	if _, err := w.Instances.Terminate(t.Context(), o, id); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"fleet.grown", "fleet.shrunk", "fleet.counted"} {
		if got := w.dataOf(t, typ); len(got) > 0 {
			t.Errorf("%s: got %v, want none", typ, got)
		}
	}
}

func TestCeiling(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	ada, _ := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	w.Instances.Fleet = &commands.Fleet{Limit: 3}
	if _, err := w.Instances.Create(t.Context(), ada, "", ""); commandstest.Code(err) != "fleet_not_counted" {
		t.Errorf("before the count: got %v, want code \"fleet_not_counted\"", err)
	}
	f := w.count(t, 3)
	if got := w.dataOf(t, "fleet.counted"); len(got) > 0 {
		t.Errorf("after a count of nothing: got %v, want no event", got)
	}
	first := w.mustCreate(t, ada)
	w.mustCreate(t, ada)
	if _, err := w.Instances.Create(t.Context(), ada, "", ""); commandstest.Code(err) != "quota_exceeded" {
		t.Errorf("one's own limit comes first: got %v, want code \"quota_exceeded\"", err)
	}
	w.mustCreate(t, bob)
	if _, err := w.Instances.Create(t.Context(), bob, "", ""); commandstest.Code(err) != "fleet_full" {
		t.Errorf("beyond the ceiling: got %v, want code \"fleet_full\"", err)
	}
	for range 2 {
		if _, err := w.Instances.Terminate(t.Context(), ada, first); err != nil {
			t.Fatal(err)
		}
	}
	w.mustCreate(t, bob)
	if _, err := w.Instances.Create(t.Context(), ada, "", ""); commandstest.Code(err) != "fleet_full" {
		t.Errorf("beyond the ceiling: got %v, want code \"fleet_full\"", err)
	}
	head := w.Last(t)
	if err := f.Count(t.Context(), w.Log); err != nil || w.Last(t) != head {
		t.Errorf("after a count that is right: got %d events, %v, want no error and w.Last(t) == %v", w.Last(t)-head, err, head)
	}
}

// TestCeilingTurnedOn counts the instances from before the limit, while a replica with the limit keeps working.
func TestCeilingTurnedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(20)
	o, _ := w.SignUp(t, "ada@example.org")
	var ids []string
	for range 5 {
		ids = append(ids, w.mustCreate(t, o))
	}
	w.count(t, 100)
	if got := w.dataOf(t, "fleet.counted"); len(got) != 1 || got[0] != `{"count":5}` {
		t.Fatalf("got counted events %v, want len(got) == 1 and got[0] == %v", got, `{"count":5}`)
	}
	// Without the limit two instances end uncounted; then it is turned on again.
	w.Instances.Fleet = nil
	for _, id := range ids[:2] {
		if _, err := w.Instances.Terminate(t.Context(), o, id); err != nil {
			t.Fatal(err)
		}
	}
	other := w.count(t, 100)
	again, looks := &commands.Fleet{Limit: 100, Logger: slog.New(slog.DiscardHandler)}, 0
	w.Instances.Fleet = nil
	w.mustCreate(t, o) // uncounted, so the next count differs
	again.Live = func(ctx context.Context) ([]string, int64, error) {
		ids, position, err := living(w.Store)(ctx)
		if looks++; looks == 1 {
			w.Instances.Fleet = other
			w.mustCreate(t, o)
		}
		return ids, position, err
	}
	if err := again.Count(t.Context(), w.Log); err != nil {
		t.Fatal(err)
	}
	if got := w.dataOf(t, "fleet.counted"); looks != 2 || len(got) != 3 || got[2] != `{"count":5}` {
		t.Errorf("counted %v in %d looks, want 5 in 2", got, looks)
	}
	// The count waits for a read model that is behind.
	behind, calls := &commands.Fleet{Limit: 9, Logger: slog.New(slog.DiscardHandler)}, make(chan int64, 100)
	var n atomic.Int64
	behind.Live = func(ctx context.Context) ([]string, int64, error) {
		ids, position, err := living(w.Store)(ctx)
		if k := n.Add(1); k < 3 {
			position--
		} else {
			calls <- k
		}
		return ids, position, err
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- behind.Run(ctx, w.Log) }()
	<-calls
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// TestCountOfABusyLog counts with a read model that follows the log but never reaches its head.
func TestCountOfABusyLog(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	ada, _ := w.SignUp(t, "ada@example.org")
	w.mustCreate(t, ada)
	f := &commands.Fleet{Limit: 9, Live: func(ctx context.Context) ([]string, int64, error) {
		w.SignUp(t, w.Log.NewID()+"@example.org")
		ids, head, err := living(w.Store)(ctx)
		return ids, head - 5, err
	}}
	if err := f.Count(t.Context(), w.Log); err != nil {
		t.Fatal(err)
	}
	if got := w.dataOf(t, "fleet.counted"); len(got) != 1 || got[0] != `{"count":1}` {
		t.Errorf("got counted events %v, want len(got) == 1 and got[0] == %v", got, `{"count":1}`)
	}
}

// TestCeilingUnderConcurrency lets the customers of two replicas compete for three places, and then for enough places
// for all. They all write to one stream, and no request may fail because of that.
func TestCeilingUnderConcurrency(t *testing.T) {
	t.Parallel()
	url, newID := pgtest.New(t), commandstest.NewIDs()
	replica := func(limit int) *world {
		store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		w := newWorldOn(store, 20)
		w.Instances.NewID = newID
		w.count(t, limit)
		return w
	}
	race := func(customers, limit, want int) {
		t.Helper()
		replicas := []*world{replica(limit), replica(limit)}
		var all sync.WaitGroup
		var made, full atomic.Int64
		began := time.Now()
		for n := range customers {
			all.Go(func() {
				w := replicas[n%2]
				o := commands.Origin{Account: fmt.Sprintf("01CUSTOMER%d-%d", limit, n)}
				if err := w.Vault.NewKey(t.Context(), o.Account); err != nil {
					t.Error(err)
				}
				switch _, err := w.Instances.Create(t.Context(), o, "", ""); {
				case err == nil:
					made.Add(1)
				case commandstest.Code(err) == "fleet_full":
					full.Add(1)
				default:
					t.Errorf("customer %d: got %v, want no error or a full fleet", n, err)
				}
			})
		}
		all.Wait()
		t.Logf("%d creates against a ceiling of %d: %d made, %d refused in %v", customers, limit, made.Load(), full.Load(), time.Since(began))
		if int(made.Load()) != want || int(made.Load()+full.Load()) != customers {
			t.Errorf("%d made and %d refused of %d, want %d", made.Load(), full.Load(), customers, want)
		}
	}
	race(32, 3, 3)
	race(200, 1000, 200)
}

func TestCountGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	f := &commands.Fleet{Limit: 1, Live: func(context.Context) ([]string, int64, error) { return nil, 0, errors.New("no database") }, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Run(ctx, w.Log); err != nil {
		t.Error(err)
	}
}
