package commands_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func with(o commands.Origin, key string) commands.Origin {
	o.CommandID = key
	return o
}

func TestCreate(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, _ := w.SignUp(t, "ada@example.org")
	out, err := w.Instances.Create(t.Context(), o, "  Büro 🖥 ", "")
	if err != nil || out.Replayed || out.Position != w.Last(t) || out.Answer.Type != "small" || out.Answer.Region != "test" {
		t.Fatalf("got %+v, %v, want no error, out.Replayed false, out.Position == %v, out.Answer.Type == \"small\" and out.Answer.Region == \"test\"", out, err, w.Last(t))
	}
	s, err := w.Instances.Find(t.Context(), o.Account, out.Answer.ID)
	if err != nil || s.Status != instance.Launching || s.Account != o.Account {
		t.Errorf("got %+v, %v, want no error, s.Status == %v and s.Account == %v", s, err, instance.Launching, o.Account)
	}
	if name := w.name(t, o.Account, out.Answer.ID); name != "Büro 🖥" {
		t.Errorf("got name %q, want \"Büro 🖥\"", name)
	}
	if out, err = w.Instances.Create(t.Context(), o, "", "large"); err != nil || out.Answer.Type != "large" || w.name(t, o.Account, out.Answer.ID) != "My desktop" {
		t.Errorf("got %+v, %v, want no error, out.Answer.Type == \"large\" and w.name(t, o.Account, out.Answer.ID) == \"My desktop\"", out, err)
	}
	head := w.Last(t)
	for _, c := range []struct{ name, typ, code string }{
		{strings.Repeat("x", 65), "", "invalid_name"}, {"a\x00b", "", "invalid_name"}, {"a\u202eb", "", "invalid_name"}, {"a\xffb", "", "invalid_name"},
		{"x", "mainframe", "unknown_instance_type"}, {"x", "", "quota_exceeded"},
	} {
		if _, err := w.Instances.Create(t.Context(), o, c.name, c.typ); commandstest.Code(err) != c.code {
			t.Errorf("got %q %q: %v, want commandstest.Code(err) == %v", c.name, c.typ, err, c.code)
		}
	}
	if w.Last(t) != head {
		t.Errorf("refusals wrote events: got %v, want %v", w.Last(t), head)
	}
}

// name opens the sealed name of an instance from the log.
func (w *world) name(t *testing.T, account, id string) string {
	t.Helper()
	var sealed []byte
	for e, err := range w.ReadStream(t.Context(), eventstore.StreamID{Aggregate: "instance", ID: id}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case instance.Requested:
			sealed = ev.Name
		case instance.TakenOver:
			sealed = ev.Name
		case instance.Renamed:
			sealed = ev.Name
		}
	}
	plain, err := w.Vault.Open(t.Context(), account, commands.NameLabel(id), sealed)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	ada, _ := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	first, err := w.Instances.Create(t.Context(), with(ada, "key-1"), "desk", "")
	if err != nil {
		t.Fatal(err)
	}
	head := w.Last(t)
	w.Clock.Advance(3600e9)
	again, err := w.Instances.Create(t.Context(), with(ada, "key-1"), "desk", "")
	if err != nil || !again.Replayed || again.Answer != first.Answer || again.Position != first.Position {
		t.Errorf("got %+v, %v after %+v, want no error, again.Replayed, again.Answer == %v and again.Position == %v", again, err, first, first.Answer, first.Position)
	}
	for name, ask := range map[string]func() error{
		"another name": func() error { _, err := w.Instances.Create(t.Context(), with(ada, "key-1"), "other", ""); return err },
		"another type": func() error {
			_, err := w.Instances.Create(t.Context(), with(ada, "key-1"), "desk", "large")
			return err
		},
		"another command": func() error {
			_, err := w.Instances.Terminate(t.Context(), with(ada, "key-1"), first.Answer.ID)
			return err
		},
	} {
		if err := ask(); !errors.Is(err, commands.ErrKeyReused) {
			t.Errorf("%s: got %v, want error %v", name, err, commands.ErrKeyReused)
		}
	}
	if w.Last(t) != head {
		t.Errorf("got %d events of repetitions, want 0", w.Last(t)-head)
	}
	if other, err := w.Instances.Create(t.Context(), with(bob, "key-1"), "desk", ""); err != nil || other.Replayed {
		t.Errorf("another account's key: got %+v, %v, want no error and other.Replayed false", other, err)
	}
	if other, err := w.Instances.Create(t.Context(), ada, "desk", ""); err != nil || other.Answer.ID == first.Answer.ID {
		t.Errorf("without a key: got %+v, %v, want no error and other.Answer.ID != %v", other, err, first.Answer.ID)
	}
}

// A command that changed nothing has an outcome as well: it must not take effect when it is repeated later.
func TestEventlessCommandsKeepReceipts(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	head := w.Last(t)
	out, err := w.Instances.Start(t.Context(), with(o, "start"), id)
	if err != nil || out.Position != 0 || out.Replayed || out.Answer.Status != instance.Running || w.Last(t) != head {
		t.Fatalf("got %+v, %v, want no error, out.Position == 0, out.Replayed false, out.Answer.Status == %v and w.Last(t) == %v", out, err, instance.Running, head)
	}
	w.stop(t, o, id)
	head = w.Last(t)
	again, err := w.Instances.Start(t.Context(), with(o, "start"), id)
	if err != nil || !again.Replayed || again.Answer != out.Answer || w.Last(t) != head {
		t.Errorf("got %+v, %v, %d events, want no error, again.Replayed, again.Answer == %v and w.Last(t) == %v", again, err, w.Last(t)-head, out.Answer, head)
	}
}

// A refused command has no outcome: once it is possible, the same key is accepted.
func TestRefusedCommandsKeepNoReceipt(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	o, _ := w.SignUp(t, "ada@example.org")
	first, err := w.Instances.Create(t.Context(), o, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Instances.Create(t.Context(), with(o, "k"), "", ""); commandstest.Code(err) != "quota_exceeded" {
		t.Errorf("got %v, want code \"quota_exceeded\"", err)
	}
	if _, err := w.Instances.Terminate(t.Context(), o, first.Answer.ID); err != nil {
		t.Error(err)
	}
	if out, err := w.Instances.Create(t.Context(), with(o, "k"), "", ""); err != nil || out.Replayed {
		t.Errorf("got %+v, %v, want no error and out.Replayed false", out, err)
	}
}

func TestConcurrentDuplicates(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	head := w.Last(t)
	var firsts atomic.Int64
	ids := make([]string, 32)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			out, err := w.Instances.Create(t.Context(), with(o, "one"), "desk", "")
			if err != nil {
				t.Error(err)
			}
			if !out.Replayed {
				firsts.Add(1)
			}
			ids[i] = out.Answer.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatalf("two answers: got %v, want id == %v and id not empty", ids, ids[0])
		}
	}
	if firsts.Load() != 1 || w.Last(t) != head+2 {
		t.Errorf("got %d firsts, %d events, want firsts.Load() == 1 and w.Last(t) == %v", firsts.Load(), w.Last(t)-head, head+2)
	}
}

func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	head := w.Last(t)
	w.Lose = func(eventstore.Append) bool { return true }
	for _, o := range []commands.Origin{with(o, "k"), o} { // a generated key is as good
		out, err := w.Instances.Create(t.Context(), o, "desk", "")
		if err != nil || !out.Replayed || out.Answer.ID == "" || out.Position != w.Last(t) {
			t.Errorf("got %+v, %v, want no error, out.Replayed, out.Answer.ID not empty and out.Position == %v", out, err, w.Last(t))
		}
	}
	if w.Last(t) != head+4 {
		t.Errorf("got %d events for two instances, want w.Last(t) == %v", w.Last(t)-head, head+4)
	}
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	w.Refuse.Store(true)
	if _, err := w.Instances.Create(t.Context(), with(o, "k"), "desk", ""); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("got %v, want error %v", err, eventstore.ErrUnavailable)
	}
	w.Refuse.Store(false)
	if out, err := w.Instances.Create(t.Context(), with(o, "k"), "desk", ""); err != nil || out.Replayed {
		t.Errorf("got %+v, %v, want no error and out.Replayed false", out, err)
	}
}

func TestQuotaUnderConcurrency(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, _ := w.SignUp(t, "ada@example.org")
	var made atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			_, err := w.Instances.Create(t.Context(), o, "", "")
			switch {
			case err == nil:
				made.Add(1)
			case commandstest.Code(err) != "quota_exceeded":
				t.Errorf("got %v, want code \"quota_exceeded\"", err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 2 {
		t.Errorf("got %d instances, want 2", made.Load())
	}
}

func TestSlotIsReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	o, _ := w.SignUp(t, "ada@example.org")
	full := func(when string) {
		t.Helper()
		if _, err := w.Instances.Create(t.Context(), o, "", ""); commandstest.Code(err) != "quota_exceeded" {
			t.Errorf("%s: got %v, want code \"quota_exceeded\"", when, err)
		}
	}
	out, err := w.Instances.Create(t.Context(), o, "", "")
	if err != nil {
		t.Fatal(err)
	}
	full("launching")
	if _, err := w.Instances.Terminate(t.Context(), o, out.Answer.ID); err != nil {
		t.Fatal(err)
	}
	id := w.runningInstance(t, o)
	full("running")
	if _, err := w.Instances.Terminate(t.Context(), o, id); err != nil {
		t.Fatal(err)
	}
	full("terminating: there is a machine yet")
	w.execute(t, id, instance.Observe{Machine: "m-" + id, Seen: instance.SeenGone, At: w.Clock.Now()})
	id = w.runningInstance(t, o)
	w.execute(t, id, instance.Observe{Machine: "m-" + id, Seen: instance.SeenGone, At: w.Clock.Now()}) // terminated outside: the instance failed
	if s, _ := w.Instances.Find(t.Context(), o.Account, id); s.Status != instance.StatusFailed {
		t.Errorf("got %+v, want s.Status == %v", s, instance.StatusFailed)
	}
	if _, err := w.Instances.Create(t.Context(), o, "", ""); err != nil {
		t.Errorf("after a failure: got %v, want no error", err)
	}
	// Dismissing the failed instance must not release the other's slot.
	if _, err := w.Instances.Terminate(t.Context(), o, id); err != nil {
		t.Error(err)
	}
	full("after dismissing a failed one")
}

func TestForeignInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	ada, _ := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	id := w.runningInstance(t, ada)
	head, appends := w.Last(t), len(w.Appends)
	for _, o := range []commands.Origin{bob, {Account: "01NOBODY"}, {}} {
		for name, err := range w.everything(t, o, id) {
			if !errors.Is(err, instance.ErrNotFound) && (name != "rename" || o == bob) {
				t.Errorf("%s by %q: got %v, want error %v or name == \"rename\" and o != %v", name, o.Account, err, instance.ErrNotFound, bob)
			}
		}
	}
	for name, err := range w.everything(t, ada, "01NOTHING") {
		if !errors.Is(err, instance.ErrNotFound) {
			t.Errorf("%s of nothing: got %v, want error %v", name, err, instance.ErrNotFound)
		}
	}
	if w.Last(t) != head || len(w.Appends) != appends {
		t.Errorf("got %d events, %d appends, want w.Last(t) == %v and len(w.Appends) == %v", w.Last(t)-head, len(w.Appends)-appends, head, appends)
	}
}

func (w *world) everything(t *testing.T, o commands.Origin, id string) map[string]error {
	t.Helper()
	ctx := t.Context()
	_, rename := w.Instances.Rename(ctx, o, id, "mine")
	_, stop := w.Instances.Stop(ctx, o, id)
	_, start := w.Instances.Start(ctx, o, id)
	_, terminate := w.Instances.Terminate(ctx, o, id)
	_, find := w.Instances.Find(ctx, o.Account, id)
	return map[string]error{"rename": rename, "stop": stop, "start": start, "terminate": terminate, "find": find}
}

func TestRename(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	if _, err := w.Instances.Rename(t.Context(), o, id, " neu "); err != nil || w.name(t, o.Account, id) != "neu" {
		t.Errorf("got %v, want no error and w.name(t, o.Account, id) == \"neu\"", err)
	}
	for _, bad := range []string{"", "  ", "a\nb", strings.Repeat("ü", 65)} {
		if _, err := w.Instances.Rename(t.Context(), o, id, bad); !errors.Is(err, commands.ErrName) {
			t.Errorf("%q: got %v, want error %v", bad, err, commands.ErrName)
		}
	}
}

// runningInstance creates an instance and sends it the commands of a saga until it runs.
func (w *world) runningInstance(t *testing.T, o commands.Origin) string {
	t.Helper()
	out, err := w.Instances.Create(t.Context(), o, "", "")
	if err != nil {
		t.Fatal(err)
	}
	id := out.Answer.ID
	w.execute(t, id, instance.Attempt{At: w.Clock.Now(), Spec: instance.Spec{ClientToken: id, TokenKey: "k1"}})
	w.execute(t, id, instance.Launched{Attempt: 1, Machine: "m-" + id, At: w.Clock.Now()})
	w.execute(t, id, instance.Observe{Machine: "m-" + id, Seen: instance.SeenRunning, At: w.Clock.Now()})
	return id
}

func (w *world) stop(t *testing.T, o commands.Origin, id string) {
	t.Helper()
	if _, err := w.Instances.Stop(t.Context(), o, id); err != nil {
		t.Fatal(err)
	}
	w.execute(t, id, instance.Observe{Machine: "m-" + id, Seen: instance.SeenStopped, At: w.Clock.Now()})
}

// execute executes a command of the saga.
func (w *world) execute(t *testing.T, id string, c instance.Command) {
	t.Helper()
	if _, err := w.Log.ExecuteInstance(t.Context(), id, c); err != nil {
		t.Fatal(err)
	}
}

// TestAnswersRoundTrip checks that a replayed answer equals the first one.
func TestAnswersRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	for _, a := range w.Appends {
		if a.Receipt != nil && !json.Valid(a.Receipt.Response) {
			t.Errorf("receipt %s: got %q, want a.Receipt == nil or json.Valid(a.Receipt.Response)", a.Receipt.Key, a.Receipt.Response)
		}
	}
	first, err1 := w.Instances.Stop(t.Context(), with(o, "s"), id)
	again, err2 := w.Instances.Stop(t.Context(), with(o, "s"), id)
	if err1 != nil || err2 != nil || first.Answer != again.Answer || again.Answer.Status != instance.Stopping {
		t.Errorf("got %+v, %v; %+v, %v, want err1 == nil, err2 == nil, first.Answer == %v and again.Answer.Status == %v", first, err1, again, err2, again.Answer, instance.Stopping)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for want, size := range map[string]machines.MachineType{
		"Too little for the agent: OpenClaw needs 4 GB.":              {Memory: 512},
		"The minimum for OpenClaw, with little room for the browser.": {Memory: 4 << 10},
		"Desktop, browser and agent with room to spare.":              {Memory: 8 << 10},
		"For heavy work, with many pages and programs open at once.":  {Memory: 256 << 10},
		"Runs here.": {Memory: 4 << 10, About: "Runs here."},
	} {
		if got := size.Summary(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
