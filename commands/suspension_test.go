package commands_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// suspensions enforces by a fold of the log that is behind by as many events as set.
func (w *world) suspensions(t testing.TB) *commands.Suspensions {
	return &commands.Suspensions{Log: w.Log, Logger: slog.New(slog.DiscardHandler), Leftovers: func(ctx context.Context, acc string, do func(account, session, instance string) error) error {
		sessions, machines, suspended := map[string]string{}, map[string]bool{}, map[string]bool{}
		var events []eventstore.Event
		for e, err := range w.ReadAll(ctx, 0) {
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		for _, e := range events {
			switch id := e.Stream.ID; e.Type {
			case "account.suspended":
				suspended[id] = true
			case "account.resumed":
				delete(suspended, id)
			case "session.started":
				ev, err := session.Codec.Decode(e.Type, e.Schema, e.Data)
				if err != nil {
					return err
				}
				sessions[id] = ev.(session.Started).Account
			case "session.ended":
				delete(sessions, id)
			case "instance.machine_running":
				machines[id] = true
			case "instance.stop_requested":
				delete(machines, id)
			}
		}
		var err error
		for id, owner := range sessions {
			if suspended[owner] && (acc == "" || acc == owner) {
				err = errors.Join(err, do(owner, id, ""))
			}
		}
		for id := range machines {
			s, foldErr := w.Instances.Find(ctx, acc, id)
			if foldErr == nil && suspended[s.Account] {
				err = errors.Join(err, do(s.Account, "", id))
			}
		}
		return err
	}}
}

// up makes an instance of the account whose machine runs, or is still launching.
func (w *world) up(t testing.TB, o commands.Origin, running bool) string {
	t.Helper()
	id := w.mustCreate(t, o)
	w.write(t, id, instance.LaunchAttempted{Attempt: 1, At: w.Clock.Now()}, instance.MachineLaunched{Attempt: 1, Machine: "m-" + id, At: w.Clock.Now()})
	if running {
		w.write(t, id, instance.MachineRunning{At: w.Clock.Now()})
	}
	return id
}

// write appends events to an instance's stream without its decider.
func (w *world) write(t testing.TB, id string, events ...instance.Event) {
	t.Helper()
	stream := eventstore.StreamID{Aggregate: "instance", ID: id}
	version, err := w.Version(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	wr := eventstore.Write{Stream: stream, Expected: version}
	for _, e := range events {
		typ, schema, data, err := instance.Codec.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		wr.Events = append(wr.Events, eventstore.NewEvent{ID: w.Log.NewID(), Type: typ, Schema: schema, Time: w.Clock.Now(), Data: data})
	}
	if _, err := w.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{wr}}); err != nil {
		t.Fatal(err)
	}
}

func TestSuspension(t *testing.T) {
	t.Parallel()
	w := newWorld(5)
	ctx, c := t.Context(), w.suspensions(t)
	ada, own := w.SignUp(t, "ada@example.org")
	bob, his := w.SignUp(t, "bob@example.org")
	running, coming, others := w.up(t, ada, true), w.up(t, ada, false), w.up(t, bob, true)

	if err := c.Suspend(ctx, "01NOBODY", ""); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no such account: got %v, want error %v", err, account.ErrNotFound)
	}
	for range 2 {
		if err := c.Suspend(ctx, ada.Account, "spam\u202e"); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.dataOf(t, "account.suspended"); len(got) != 1 || got[0] != `{"reason":"spam"}` {
		t.Errorf("suspended: got %v, want len(got) == 1 and got[0] == %v", got, `{"reason":"spam"}`)
	}

	// Before enforcement, and only with the right password.
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "wrong horse", ""); !errors.Is(err, commands.ErrCredentials) {
		t.Errorf("a wrong password: got %v, want error %v", err, commands.ErrCredentials)
	}
	head := w.Last(t)
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "correct horse", ""); !errors.Is(err, account.ErrSuspended) || w.Last(t) != head {
		t.Errorf("the right password: got %v, want error %v and w.Last(t) == %v", err, account.ErrSuspended, head)
	}
	if _, err := w.Accounts.Refresh(ctx, ada, own.Session, own.Leaf.TokenID, "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("a refresh: got %v, want error %v", err, session.ErrEnded)
	}

	// It is interrupted before it is finished, and runs again.
	if done, err := c.Enforce(ctx, ada.Account); err != nil || done.Machines != 1 {
		t.Errorf("got %+v, %v, want no error and done.Machines == 1", done, err)
	}
	if s, _ := w.Instances.Find(ctx, ada.Account, running); s.Status != instance.Stopping {
		t.Errorf("got a machine that is %s, want %v", s.Status, instance.Stopping)
	}
	w.write(t, coming, instance.MachineRunning{At: w.Clock.Now()})
	if done, err := c.Enforce(ctx, ada.Account); err != nil || done != (commands.Enforced{Machines: 1}) {
		t.Errorf("one that came up later: got %+v, %v, want no error and done == %v", done, err, commands.Enforced{Machines: 1})
	}
	if done, err := c.Enforce(ctx, ada.Account); err != nil || done != (commands.Enforced{}) {
		t.Errorf("again: got %+v, %v, want no error and done == %v", done, err, commands.Enforced{})
	}
	for e, err := range w.ReadStream(ctx, eventstore.StreamID{Aggregate: "instance", ID: running}, 4) {
		if err != nil || e.Type != "instance.stop_requested" || e.Meta.Actor != commands.Operator {
			t.Errorf("got %s by %q, %v, want no error, e.Type == \"instance.stop_requested\" and e.Meta.Actor == %v", e.Type, e.Meta.Actor, err, commands.Operator)
		}
	}
	if s, _ := w.Instances.Find(ctx, bob.Account, others); s.Status != instance.Running {
		t.Errorf("another's machine: got %s, want %v", s.Status, instance.Running)
	}
	if _, err := w.Accounts.Refresh(ctx, bob, his.Session, his.Leaf.TokenID, "browser"); err != nil {
		t.Errorf("another's session: got %v, want no error", err)
	}

	for range 2 {
		if err := c.Resume(ctx, ada.Account); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Accounts.Refresh(ctx, ada, own.Session, own.Leaf.TokenID, "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("a session of before: got %v, want error %v", err, session.ErrEnded)
	}
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "correct horse", ""); err != nil {
		t.Errorf("resumed: got %v, want no error", err)
	}
	if s, _ := w.Instances.Find(ctx, ada.Account, running); s.Status != instance.Stopping {
		t.Errorf("the machine after the resume: got %s, want %v", s.Status, instance.Stopping)
	}
}

// TestSuspendedMeanwhile suspends the account after a log-in or a refresh has read it, and before their append. Neither
// hands out a token.
func TestSuspendedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]func(w *world, own commands.Login) error{
		"log-in": func(w *world, _ commands.Login) error {
			_, err := w.Accounts.LogIn(t.Context(), commands.Origin{}, "ada@example.org", "correct horse", "")
			return err
		},
		"refresh": func(w *world, own commands.Login) error {
			_, err := w.Accounts.Refresh(t.Context(), commands.Origin{}, own.Session, own.Leaf.TokenID, "browser")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(2)
			ada, own := w.SignUp(t, "ada@example.org")
			w.Looked = func(s eventstore.StreamID) {
				if s.Aggregate == "session" { // read, but not yet appended
					w.Looked = nil
					if err := w.suspensions(t).Suspend(t.Context(), ada.Account, ""); err != nil {
						t.Error(err)
					}
				}
			}
			if err := try(w, own); !errors.Is(err, account.ErrSuspended) && !errors.Is(err, session.ErrEnded) {
				t.Errorf("log-in or refresh: got %v, want error %v or error %v", err, account.ErrSuspended, session.ErrEnded)
			}
			if w.Looked != nil {
				t.Fatalf("got no call of Looked, want one")
			}
			ended := len(w.dataOf(t, "session.ended"))
			if ended != 1 {
				t.Errorf("%d sessions ended, want the one that just began or was refreshed", ended)
			}
		})
	}
}
