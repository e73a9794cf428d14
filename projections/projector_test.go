package projections_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

func find(t testing.TB, name string) projections.Projection {
	t.Helper()
	p, err := projections.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFind(t *testing.T) {
	t.Parallel()
	for _, p := range projections.All() {
		if got := find(t, p.Name); got.Name != p.Name || len(got.Tables) == 0 {
			t.Errorf("got %+v, want %s with tables", got, p.Name)
		}
	}
	if _, err := projections.Find("nothing"); err == nil {
		t.Error("got a projection called nothing, want an error")
	}
}

// Every event type there is goes through every projection, on the real store.
func TestEveryEventIsApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log, err := postgres.Open(t.Context(), postgres.Config{Pool: postgres.Wrap(w.pool)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w.store = log
	w.feed = &follower{store: log}
	w.everything("acc", "01INSTANCE")
	stop := w.project(projections.All()...)
	w.caughtUp()
	stop()
	if n := w.number(`SELECT count(*) FROM read.parked`); n != 0 || w.parked.Load() != 0 {
		t.Fatalf("got %d parked events, want none: %s", n, w.dump("parked"))
	}
	head, _ := w.store.Head(t.Context())
	for _, p := range projections.All() {
		if at := w.number(`SELECT position FROM read.checkpoints WHERE projection = $1`, p.Name); at != head {
			t.Errorf("%s: got checkpoint %d, want %d", p.Name, at, head)
		}
	}
	types := map[string]bool{}
	for e, err := range w.store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		types[e.Type] = true
	}
	if len(types) != 75 {
		t.Errorf("got %d event types, want 75 (add a new one to everything)", len(types))
	}
}

// The rows equal the fold of whole streams, although a row keeps only a part of the state.
func TestInstancesEqualTheFold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.project(find(t, "instances"))
	states := map[string]instance.State{}
	statuses := map[instance.Status]int{}
	rapid.Check(t, func(rt *rapid.T) {
		id := fmt.Sprintf("01I%06d", len(states))
		events := life(rt, "acc", id)
		w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, events...)...)
		var s instance.State
		for _, e := range events {
			s = instance.Evolve(s, e)
		}
		states[id] = s
		statuses[s.Status]++
		w.caughtUp()
		got, err := w.reader.Instance(t.Context(), "acc", id)
		if err != nil {
			rt.Fatal(err)
		}
		if got.Status != s.Status || got.Phase != s.Phase || got.Machine != s.Machine || got.Address != s.Address || got.Type != s.Type || got.Region != s.Region || got.Ready() != s.Ready() || !maps.Equal(got.Versions, s.Versions) {
			rt.Fatalf("got row %+v, want that of the fold %+v, of %T", got, s, events)
		}
		if s.Status == instance.StatusFailed && got.Reason == "" {
			rt.Fatalf("got %+v, failed without a reason, want one", got)
		}
	})
	t.Logf("%d streams ended %v", len(states), statuses)
}

// A feed may repeat and reorder events: the rows are those of one clean pass.
func TestDuplicatesAndReordering(t *testing.T) {
	t.Parallel()
	w, clean := newWorld(t), newWorld(t)
	clean.store = w.store
	clean.feed = &follower{store: w.store}
	r := rand.New(rand.NewPCG(1, 2))
	var earlier []eventstore.Event
	tampered := 0
	w.feed = &follower{store: w.store, tamper: func(batch []eventstore.Event) []eventstore.Event {
		out := slices.Clone(batch)
		if tampered++; tampered > 8 {
			return out // each gap makes the projector wait longer
		}
		switch r.IntN(5) {
		case 0: // old ones first
			out = append(slices.Clone(earlier[:r.IntN(len(earlier)+1)]), out...)
		case 1: // some lost, the rest comes after them
			if len(out) > 1 {
				out = out[r.IntN(len(out)):]
			}
		case 2: // each twice
			for i := len(out) - 1; i >= 0; i-- {
				out = slices.Insert(out, i, out[i])
			}
		case 3: // in any order
			r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		}
		earlier = append(earlier, batch...)
		if len(earlier) > 40 {
			earlier = earlier[len(earlier)-40:]
		}
		return out
	}}
	w.project(find(t, "instances"))
	clean.project(find(t, "instances"))
	for i := range 12 {
		w.everything("acc", fmt.Sprintf("01I%d", i))
	}
	w.caughtUp()
	clean.caughtUp()
	same(t, w.dump("instances"), clean.dump("instances"))
}

// A batch with a hole, or out of order within itself, must not move the checkpoint over the hole.
func TestGapFollowsAfresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var gaps atomic.Int64
	f := &follower{store: w.store}
	f.tamper = func(batch []eventstore.Event) []eventstore.Event {
		if len(batch) > 20 && gaps.Add(1) <= 2 {
			return append(slices.Clone(batch[:15]), batch[16:]...) // an instance's
		}
		return batch
	}
	w.feed = f
	w.everything("acc", "01INSTANCE")
	w.project(projections.All()[0])
	w.caughtUp()
	clean := newWorld(t)
	clean.store, clean.feed = w.store, &follower{store: w.store}
	clean.project(projections.All()[0])
	clean.caughtUp()
	same(t, w.dump("instances"), clean.dump("instances"))
	if gaps.Load() < 2 || f.times() < 2 {
		t.Errorf("got %d gaps and followed %d times, want at least 2 of each", gaps.Load(), f.times())
	}
}

func TestTwoProjectorsAtOnce(t *testing.T) {
	t.Parallel()
	w, clean := newWorld(t), newWorld(t)
	clean.store, clean.feed = w.store, &follower{store: w.store}
	w.project(projections.All()...)
	w.project(projections.All()...)
	w.project(projections.All()...)
	for i := range 10 {
		w.everything(fmt.Sprint("acc", i), fmt.Sprintf("01I%d", i))
	}
	w.caughtUp()
	clean.project(projections.All()...)
	clean.caughtUp()
	same(t, w.dumps(), clean.dumps())
	if n := w.parked.Load(); n != 0 {
		t.Errorf("got %d parked events, want none", n)
	}
}

// breaking is p, failing on the chosen events until it is repaired.
func breaking(p projections.Projection, bad func(eventstore.Event) bool, repaired *atomic.Bool) projections.Projection {
	fold := *p.Fold
	evolve := fold.Evolve
	fold.Evolve = func(row any, e *projections.Event) (any, error) {
		if bad(e.Event) && !repaired.Load() {
			return nil, errors.New("cannot apply this")
		}
		return evolve(row, e)
	}
	p.Fold = &fold
	return p
}

func TestPoisonIsParked(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(eventstore.Event) bool{
		"first of its stream": func(e eventstore.Event) bool { return e.Type == "instance.requested" },
		"in the middle":       func(e eventstore.Event) bool { return e.Type == "instance.machine_launched" },
		"two of one stream":   func(e eventstore.Event) bool { return e.Type == "instance.launch_attempted" },
		"the last":            func(e eventstore.Event) bool { return e.Type == "instance.terminated" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, clean := newWorld(t), newWorld(t)
			clean.store, clean.feed = w.store, &follower{store: w.store}
			var repaired atomic.Bool
			poisoned := eventstore.StreamID{Aggregate: "instance", ID: "01BAD"}
			p := breaking(find(t, "instances"), func(e eventstore.Event) bool { return e.Stream == poisoned && bad(e) }, &repaired)
			stop := w.project(p)
			w.everything("acc", "01FINE")
			w.everything("acc", "01BAD")
			w.everything("acc", "01ALSO")
			w.caughtUp()
			want := 0
			for e, err := range w.store.ReadStream(t.Context(), poisoned, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if want > 0 || bad(e) {
					want++
				}
			}
			if n := w.number(`SELECT count(*) FROM read.parked WHERE stream = 'instance/01BAD'`); n != int64(want) || w.parked.Load() != n {
				t.Errorf("%d events are parked and %d alerts, not %d", n, w.parked.Load(), want)
			}
			if n := w.number(`SELECT count(*) FROM read.instances WHERE status = 'terminated'`); n != 2 {
				t.Errorf("got %d other streams terminated, want 2", n)
			}
			applied, left, err := projections.RetryParked(t.Context(), w.pool, w.store, p)
			if err != nil || applied != 0 || left != want {
				t.Errorf("not yet repaired: got %d applied, %d left, %v, want 0 and %d", applied, left, err, want)
			}
			repaired.Store(true)
			applied, left, err = projections.RetryParked(t.Context(), w.pool, w.store, p)
			if err != nil || applied != want || left != 0 {
				t.Errorf("repaired: got %d applied, %d left, %v, want %d and 0", applied, left, err, want)
			}
			w.append(encoded[instance.Event](w, "instance", "01BAD", instance.Codec.Encode, instance.Renamed{Name: seal("acc", label("01BAD"), "after")})...)
			w.caughtUp()
			stop()
			clean.project(find(t, "instances"))
			clean.caughtUp()
			same(t, w.dump("instances"), clean.dump("instances"))
			if left := w.dump("parked"); left != "" {
				t.Errorf("got these still parked, want none: %s", left)
			}
		})
	}
}

// Poison as it really occurs: a schema from the future, an unknown type, data that breaks a constraint.
func TestPoisonKinds(t *testing.T) {
	t.Parallel()
	requested := func(id string) instance.Event {
		return instance.Requested{Account: "acc", Name: seal("acc", label(id), "n"), Type: "t", Region: "r"}
	}
	stream := eventstore.StreamID{Aggregate: "instance", ID: "01BAD"}
	for name, bad := range map[string]write{
		"schema from the future": {stream, "instance.renamed", 2, []byte(`{}`)},
		"unknown type":           {stream, "instance.exploded", 1, []byte(`{}`)},
		"wrong shape":            {stream, "instance.renamed", 1, []byte(`[1]`)},
		"breaks a constraint":    {stream, "instance.requested", 1, []byte(`{"account":"acc","name":"bg=="}`)},
		"null in a column":       {stream, "instance.renamed", 1, []byte(`{"name":null}`)},
		"zero byte in a text":    {stream, "instance.phase_reached", 1, []byte(`{"boot":"b","phase":"ready","detail":"a\u0000b"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.append(encoded[instance.Event](w, "instance", "01BAD", instance.Codec.Encode, requested("01BAD"))...)
			w.append(bad)
			w.append(encoded[instance.Event](w, "instance", "01FINE", instance.Codec.Encode, requested("01FINE"))...)
			w.append(encoded[instance.Event](w, "instance", "01BAD", instance.Codec.Encode, instance.StopRequested{At: began})...)
			w.project(find(t, "instances"))
			w.caughtUp()
			if n := w.number(`SELECT count(*) FROM read.parked WHERE stream = 'instance/01BAD' AND position IN (2, 4)`); n != 2 || w.number(`SELECT count(*) FROM read.parked`) != 2 {
				t.Errorf("got these parked, want positions 2 and 4: %s", w.dump("parked"))
			}
			if got, err := w.reader.Instance(t.Context(), "acc", "01BAD"); err != nil || got.Status != instance.Launching || got.Position != 1 {
				t.Errorf("got %+v, %v, want it launching at position 1", got, err)
			}
			if _, err := w.reader.Instance(t.Context(), "acc", "01FINE"); err != nil {
				t.Error(err)
			}
		})
	}
}

// An event of an unknown aggregate concerns the history, which must not skip it silently.
func TestUnknownAggregate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(write{eventstore.StreamID{Aggregate: "martian", ID: "x"}, "martian.landed", 1, []byte(`{}`)})
	w.project(projections.All()...)
	w.caughtUp()
	if got := w.number(`SELECT count(*) FROM read.parked WHERE projection = 'history'`); got != 1 {
		t.Errorf("got %d parked events, want 1: %s", got, w.dump("parked"))
	}
}

// Postgres refuses the key of an event's row already when the row is read. The event is parked; the others go on, live and rebuilt.
func TestRefusedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := write{eventstore.StreamID{Aggregate: "audit", ID: "bad"}, "audit.keys_handed_out", 1, []byte(`{"instance":"a\u0000b"}`)}
	w.append(encoded[audit.Event](w, "audit", "fine", audit.Codec.Encode, audit.LogInFailed{})...)
	w.append(bad)
	w.append(encoded[audit.Event](w, "audit", "fine", audit.Codec.Encode, audit.LogInFailed{})...)
	p := find(t, "history")
	w.project(p)
	w.caughtUp()
	for _, keep := range []int{0, 1, 100} { // rows that a rebuild writes before it reads others
		if parked := w.number(`SELECT position FROM read.parked`); parked != 2 || w.number(`SELECT count(*) FROM read.history`) != 2 {
			t.Errorf("got %s and these parked, want positions 1 and 3, and 2 parked: %s", w.dump("history"), w.dump("parked"))
		}
		if _, err := projections.RebuildKeeping(t.Context(), w.pool, w.store, p, nil, keep); err != nil {
			t.Fatal(err)
		}
	}
	if applied, left, err := projections.RetryParked(t.Context(), w.pool, w.store, p); applied != 0 || left != 1 || err != nil {
		t.Errorf("tried again: got %d applied, %d left, %v, want 0 and 1", applied, left, err)
	}
}

// A rebuild beside the live tables, while they change, ends with the rows of a clean pass.
func TestRebuildBesideALiveProjector(t *testing.T) {
	t.Parallel()
	w, clean := newWorld(t), newWorld(t)
	clean.store, clean.feed = w.store, &follower{store: w.store}
	w.project(projections.All()...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 25 {
			w.everything(fmt.Sprint("acc", i%3), fmt.Sprintf("01I%d", i))
		}
	}()
	rebuilds, reached := 0, int64(0)
	for writing := true; writing || rebuilds < 8; {
		for _, p := range projections.All() {
			at, err := projections.Rebuild(t.Context(), w.pool, w.store, p, func(position int64) { reached = position })
			if err != nil || at < reached {
				t.Fatalf("rebuild %s: got position %d, %v, want at least %d", p.Name, at, err, reached)
			}
			rebuilds++
		}
		select {
		case <-done:
			writing = false
		default:
		}
	}
	w.caughtUp()
	clean.project(projections.All()...)
	clean.caughtUp()
	same(t, w.dumps(), clean.dumps())
	if n := w.parked.Load(); n != 0 {
		t.Errorf("got %d parked events, want none", n)
	}
	if n := w.number(`SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rebuild%'`); n != 0 {
		t.Errorf("got %d leftover schemas, want none", n)
	}
	if n := w.number(`SELECT count(*) FROM pg_indexes WHERE schemaname = 'read' AND tablename = 'instances'`); n != 3 {
		t.Errorf("after %d rebuilds: got %d indexes of instances, want 3", rebuilds, n)
	}
}

// A rebuild repairs damaged rows, parked events and leftovers of a rebuild that died.
func TestRebuildRepairs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var repaired atomic.Bool
	p := breaking(find(t, "instances"), func(e eventstore.Event) bool { return e.Type == "instance.machine_launched" }, &repaired)
	w.everything("acc", "01I")
	stop := w.project(p)
	w.caughtUp()
	stop()
	parked := w.dump("parked")
	if _, err := projections.Rebuild(t.Context(), w.pool, w.store, p, nil); err != nil {
		t.Errorf("rebuilding past what cannot be applied: got %v, want no error", err)
	}
	if faulty, all, err := projections.Parked(t.Context(), w.pool, p.Name); err != nil || len(faulty) != 1 || all != strings.Count(parked, "\n")+1 || faulty[0].Stream != "instance/01I" {
		t.Errorf("parked after a rebuild: got %+v and %d in all, %v, want one of instance/01I and as many as before it\n%s", faulty, all, err, parked)
	}
	for _, statement := range []string{`UPDATE read.instances SET status = 'party'`, `CREATE SCHEMA IF NOT EXISTS rebuild_instances`, `CREATE TABLE IF NOT EXISTS rebuild_instances.junk ()`} {
		if _, err := w.pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	repaired.Store(true)
	head, _ := w.store.Head(t.Context())
	if at, err := projections.Rebuild(t.Context(), w.pool, w.store, p, nil); err != nil || at != head {
		t.Fatalf("got position %d, %v, want %d", at, err, head)
	}
	if got, err := w.reader.Instance(t.Context(), "acc", "01I"); err != nil || got.Status != instance.StatusTerminated || w.dump("parked") != "" {
		t.Errorf("got %+v, %v, parked %s, want it terminated and none parked", got, err, w.dump("parked"))
	}
}

// A rebuild has the same rows, and parks the same events, however many rows it keeps in memory, and as the live projector does.
// A row that Postgres refuses makes it start again, event by event.
func TestRebuildsAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 7 {
		w.everything(fmt.Sprint("acc", i%3), fmt.Sprintf("01I%d", i))
	}
	for _, p := range projections.All() {
		stop := w.project(p)
		w.caughtUp()
		stop()
		want := w.dumps()
		for _, keep := range []int{0, 1, 3, 1000} {
			if _, err := projections.RebuildKeeping(t.Context(), w.pool, w.store, p, nil, keep); err != nil {
				t.Fatalf("%s, keeping %d: %v", p.Name, keep, err)
			}
			if got := w.dumps(); got != want {
				t.Errorf("%s, keeping %d: got\n%s\nwant\n%s", p.Name, keep, got, want)
			}
		}
	}
	p := find(t, "instances")
	refusing, save := *p.Fold, p.Fold.Save
	refused := 0
	refusing.Save = func(rows []any) projections.Statement {
		if len(rows) > 1 {
			refused++
			return projections.Statement{SQL: `SELECT 1/0`}
		}
		return save(rows)
	}
	p.Fold = &refusing
	want := w.dumps()
	if _, err := projections.RebuildKeeping(t.Context(), w.pool, w.store, p, nil, 1000); err != nil || refused < 2 {
		t.Fatalf("got %v after %d refusals, want it to start again", err, refused)
	}
	if got := w.dumps(); got != want {
		t.Errorf("after refusals: got\n%s\nwant\n%s", got, want)
	}
}

func TestRebuildOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, p := range projections.All() {
		if at, err := projections.Rebuild(t.Context(), w.pool, w.store, p, nil); at != 0 || err != nil {
			t.Errorf("got position %d, %v, want 0", at, err)
		}
	}
}

// A projector outlives the loss of its connections.
func TestProjectorOutlivesLostConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	killer, err := pgx.Connect(t.Context(), w.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer killer.Close(context.Background())
	w.project(projections.All()...)
	for i := range 6 {
		w.everything("acc", fmt.Sprintf("01I%d", i))
		if _, err := killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
	}
	w.caughtUp()
	w.pool.Reset() // of connections that died idle
	if n := w.number(`SELECT count(*) FROM read.instances`); n != 18 || w.parked.Load() != 0 {
		t.Errorf("got %d instances, %d parked events, want 18 and none", n, w.parked.Load())
	}
}

// Commits do not wait for the disk. If Postgres loses the last ones in a crash, the projector applies their events again,
// although no other event comes.
func TestLostCommitsAreAppliedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.project(projections.All()...)
	w.everything("acc", "01I1")
	w.caughtUp()
	w.losesACommit()
}

// losesACommit undoes the last commit of the history's projector, as a crash of Postgres may, and waits until it is made again.
func (w *world) losesACommit() {
	w.t.Helper()
	before := w.dump("history")
	_, err := w.pool.Exec(w.t.Context(), `WITH lost AS (DELETE FROM read.history WHERE position = (SELECT max(position) FROM read.history) RETURNING position)
		UPDATE read.checkpoints SET position = lost.position - 1 FROM lost WHERE projection = 'history'`)
	if err != nil {
		w.t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); w.dump("history") != before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("got a history without its last event, want it again")
		}
	}
}

// Postgres may also lose commits of the process before.
func TestLostCommitsOfAnEarlierProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("acc", "01I1")
	if err := projections.CatchUp(t.Context(), w.pool, w.store, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	w.project(find(t, "history"))
	w.caughtUp()
	w.losesACommit()
}

// A projector keeps trying without any database.
func TestProjectorOutlivesNoDatabase(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/none?connect_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p := &projections.Projector{Projection: find(t, "instances"), Pool: pool, Progress: &projections.Progress{}, Logger: slog.New(slog.DiscardHandler)}
	if err := p.Run(ctx); err != nil || ctx.Err() == nil {
		t.Errorf("got %v before ctx ended, want Run to continue until then", err)
	}
}

// No secret and nothing sealed gets into the rows an owner, or a thief of the database, reads.
func TestHistoryHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("acc", "01INSTANCE")
	w.project(projections.All()...)
	w.caughtUp()
	open := w.dump("history") + w.dump("api_keys") + w.dump("checkpoints")
	text := open + w.dump("sessions") // whose addresses are sealed, and stay so
	for _, canary := range []string{canaryMail, canaryHash, canaryKey, canaryName, canaryUserData, canaryGuest, canaryToken, canaryURL, "sealed"} {
		where := text
		if canary == "sealed" {
			where = open
		}
		for _, form := range []string{canary, fmt.Sprintf("%x", canary), base64.StdEncoding.EncodeToString([]byte(canary))} {
			if strings.Contains(where, form) {
				t.Errorf("got %q in the read models, want it left out", form)
			}
		}
	}
	if !strings.Contains(text, "ab12") || !strings.Contains(text, "instance.requested") {
		t.Error("got a scan without ab12 and instance.requested, want both")
	}
}
