package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// replicas are two servers on one log, each with its own cached states. read counts the events that both have read from
// streams.
type replicas struct {
	a, b *world
	read *atomic.Int64
}

func newReplicas() replicas {
	store := &readCounter{Store: memory.New()}
	a, b := newWorldOn(store, 4), newWorldOn(store, 4)
	b.Clock, b.Vault = a.Clock, a.Vault
	b.Accounts.Vault, b.Instances.Vault, b.Keys.Vault = a.Vault, a.Vault, a.Vault
	ids := commandstest.NewIDs()
	for _, w := range []*world{a, b} {
		w.Log.NewID, w.Log.Now = ids, a.Clock.Now
		w.Accounts.Log, w.Instances.Log, w.Keys.Log, w.Guests.Log = w.Log, w.Log, w.Log, w.Log
	}
	return replicas{a, b, &store.read}
}

type readCounter struct {
	eventstore.Store
	read atomic.Int64
}

func (c *readCounter) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range c.Store.ReadStream(ctx, s, after) {
			c.read.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// Each command goes to the replica that has not seen the latest events, on streams long enough to be cached. It must
// answer as if the replica had seen them.
func TestStaleReplicas(t *testing.T) {
	t.Parallel()
	r := newReplicas()
	ctx := t.Context()
	o, login := r.a.SignUp(t, "ada@example.org")
	id := r.a.runningInstance(t, o)
	for i := range 20 {
		for _, w := range []*world{r.a, r.b} {
			if _, err := w.Instances.Rename(ctx, o, id, fmt.Sprint("name ", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	changed := func(out commands.Outcome[commands.Changed], err error) string {
		if err != nil {
			return commandstest.Code(err)
		}
		return fmt.Sprint(out.Position > 0)
	}
	observe := func(w *world, seen instance.Seen) {
		w.execute(t, id, instance.Observe{Machine: "m-" + id, Seen: seen, At: w.Clock.Now()})
	}
	steps := []struct {
		name, want string
		do         func() string
	}{
		{"stop by one", "true", func() string { return changed(r.a.Instances.Stop(ctx, o, id)) }},
		{"stop by the other: already so", "false", func() string { return changed(r.b.Instances.Stop(ctx, o, id)) }},
		{"start by the other while stopping", "instance_stopping", func() string { return changed(r.b.Instances.Start(ctx, o, id)) }},
		{"start by the other", "true", func() string { observe(r.a, instance.SeenStopped); return changed(r.b.Instances.Start(ctx, o, id)) }},
		{"start by the first: already so", "false", func() string { return changed(r.a.Instances.Start(ctx, o, id)) }},
		{"stop by the first", "true", func() string { observe(r.b, instance.SeenRunning); return changed(r.a.Instances.Stop(ctx, o, id)) }},
		{"terminate by the other", "true", func() string { return changed(r.b.Instances.Terminate(ctx, o, id)) }},
		{"start by the first", "instance_gone", func() string { return changed(r.a.Instances.Start(ctx, o, id)) }},
		{"terminate by the first: already so", "false", func() string { return changed(r.a.Instances.Terminate(ctx, o, id)) }},
	}
	for _, s := range steps {
		if got := s.do(); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}

	have := login.Leaf.TokenID
	for i := range 30 {
		got, err := []*world{r.a, r.b}[i%2].Accounts.Refresh(ctx, o, login.Session, have, "browser")
		if err != nil || got.Leaf.Generation != i+2 {
			t.Fatalf("refresh %d: got %+v, %v, want no error and got.Leaf.Generation == %v", i, got, err, i+2)
		}
		if have = got.Leaf.TokenID; i == 20 { // a slightly late tab on the other replica gets the leaf
			late, err := r.b.Accounts.Refresh(ctx, o, login.Session, r.a.session(t, login.Session).Before, "browser")
			if err != nil || late.Leaf != got.Leaf {
				t.Errorf("a late tab: got %+v, %v, want no error and late.Leaf == %v", late, err, got.Leaf)
			}
		}
	}
	if _, err := r.a.Accounts.EndSession(ctx, o, login.Session, session.Revoked); err != nil {
		t.Fatal(err)
	}
	if _, err := r.b.Accounts.Refresh(ctx, o, login.Session, have, "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("refresh of a session that the other replica revoked: got %v, want error %v", err, session.ErrEnded)
	}
	if at, err := r.b.Accounts.EndSession(ctx, o, login.Session, session.Revoked); at != 0 || err != nil {
		t.Errorf("revoke again: got %d, %v, want at == 0 and no error", at, err)
	}
}

// A command on a stream of 10,000 events reads at most 10, and so does the saga.
func TestCommandsOnLongStreams(t *testing.T) {
	t.Parallel()
	r := newReplicas()
	ctx := t.Context()
	o, login := r.a.SignUp(t, "ada@example.org")
	id := r.a.runningInstance(t, o)
	const n = 10_000
	data, err := json.Marshal(instance.Renamed{Name: []byte("sealed")})
	if err != nil {
		t.Fatal(err)
	}
	stream := eventstore.StreamID{Aggregate: "instance", ID: id}
	version, err := r.a.Version(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	for version < n {
		w := eventstore.Write{Stream: stream, Expected: version}
		for range eventstore.MaxAppendEvent {
			version++
			w.Events = append(w.Events, eventstore.NewEvent{ID: fmt.Sprint("e", version), Type: "instance.renamed", Schema: 1, Time: r.a.Clock.Now(), Data: data})
		}
		if _, err := r.a.Store.Append(ctx, eventstore.Append{Writes: []eventstore.Write{w}}); err != nil {
			t.Fatal(err)
		}
	}
	have := login.Leaf.TokenID
	for range 1500 {
		got, err := r.a.Accounts.Refresh(ctx, o, login.Session, have, "browser")
		if err != nil {
			t.Fatal(err)
		}
		have = got.Leaf.TokenID
	}
	if _, err := r.a.Instances.Find(ctx, o.Account, id); err != nil { // this one folds all events
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"find":    func() error { _, err := r.a.Instances.Find(ctx, o.Account, id); return err },
		"rename":  func() error { _, err := r.a.Instances.Rename(ctx, o, id, "new"); return err },
		"stop":    func() error { _, err := r.a.Instances.Stop(ctx, o, id); return err },
		"reached": func() error { return r.a.Guests.Reached(ctx, id, "boot", instance.PhaseDesktop, "") },
		"refresh": func() error {
			got, err := r.a.Accounts.Refresh(ctx, o, login.Session, have, "browser")
			have = got.Leaf.TokenID
			return err
		},
	} {
		before := r.read.Load()
		if err := do(); err != nil {
			t.Errorf("%s: got %v, want no error", name, err)
		}
		if read := r.read.Load() - before; read > 10 {
			t.Errorf("%s: got %d events read, want at most 10", name, read)
		}
	}
}

// States are cached and shared, so folding one more event must not change the previous state.
func TestEvolveLeavesTheStateBefore(t *testing.T) {
	t.Parallel()
	for _, a := range commands.Folds {
		files, err := filepath.Glob("../domain/" + a.Dir + "/testdata/*.json")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: got %v, %v, want no error and files", a.Dir, files, err)
		}
		var events []any
		for _, f := range files {
			var g struct {
				Name   string
				Schema int
				Data   json.RawMessage
			}
			text, err := os.ReadFile(f)
			if err != nil || json.Unmarshal(text, &g) != nil {
				t.Fatalf("got %v, %v, want JSON", f, err)
			}
			e, err := a.Decode(g.Name, g.Schema, g.Data)
			if err != nil {
				t.Fatal(f, err)
			}
			events = append(events, e)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			var state, same any
			var said []string
			for range 1 + random.IntN(12) {
				e := events[random.IntN(len(events))]
				state, same = a.Evolve(state, e), a.Evolve(same, e)
				said = append(said, fmt.Sprintf("%T", e))
			}
			for _, e := range events {
				a.Evolve(state, e)
				if !reflect.DeepEqual(state, same) {
					t.Fatalf("%s: got another state by %T after %s, want the same", a.Dir, e, strings.Join(said, ", "))
				}
			}
		}
	}
}
