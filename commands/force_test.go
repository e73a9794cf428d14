package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// fakeCloud is a cloud with machines. After Terminate, one more Describe lists them as before.
type fakeCloud struct {
	machines.Cloud
	mu       sync.Mutex
	machines []machines.Tagged
	ended    []string
	late     map[string]bool // being terminated
}

func (s *fakeCloud) List(context.Context) ([]machines.Tagged, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.machines), nil
}

func (s *fakeCloud) Terminate(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, id)
	s.late[id] = true
	return nil
}

func (s *fakeCloud) Describe(_ context.Context, ids []string) (list []machines.Machine, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.machines {
		m := &s.machines[i]
		if !slices.Contains(ids, m.ID) {
			continue
		}
		list = append(list, m.Machine)
		if s.late[m.ID] {
			m.Seen = instance.SeenGone
		}
	}
	return list, nil
}

// damage appends an unreadable event to an instance's stream.
func (w *world) damage(t testing.TB, id string) {
	t.Helper()
	stream := eventstore.StreamID{Aggregate: "instance", ID: id}
	version, err := w.Version(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Expected: version, Events: []eventstore.NewEvent{
		{ID: w.Log.NewID(), Type: "instance.renamed", Schema: 1, Time: w.Clock.Now(), Data: json.RawMessage(`"damaged"`)},
	}}}}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) force(machines ...machines.Tagged) (*commands.Force, *fakeCloud) {
	s := &fakeCloud{Cloud: w.Instances.Cloud, machines: machines, late: map[string]bool{}}
	return &commands.Force{Log: w.Instances.Log, Cloud: s, Every: 1, Owner: func(context.Context, string) (string, error) { return "", nil }}, s
}

func tagged(machine, id, token string) machines.Tagged {
	return machines.Tagged{Machine: machines.Machine{ID: machine, Seen: instance.SeenRunning}, Instance: id, Attempt: 1, Token: token}
}

// TestForce terminates an instance whose events cannot be read. Its owner, the quota and the limit are found
// nevertheless, and the stream can be read again afterwards.
func TestForce(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.count(t, 1)
	ctx := t.Context()
	ada, _ := w.SignUp(t, "ada@example.org")
	id := w.up(t, ada, true)
	w.damage(t, id)
	if _, err := w.Instances.Terminate(ctx, ada, id); err == nil || commandstest.Code(err) != "" {
		t.Fatalf("terminate a damaged instance: got %v, want an error and no code", err)
	}
	f, cloud := w.force(tagged("m-1", id, id+"-1"), tagged("m-2", id, "another token"), tagged("m-3", "01OTHER", "01OTHER-1"))
	done, err := f.Terminate(ctx, id)
	if err != nil || !slices.Equal(done.Machines, []string{"m-1"}) || !slices.Equal(done.Foreign, []string{"m-2"}) || done.Account != ada.Account || !done.Released || done.Already {
		t.Fatalf("got %+v, %v, want no error, done.Machines == %v, done.Foreign == %v, done.Account == %v, done.Released and done.Already false", done, err, []string{"m-1"}, []string{"m-2"}, ada.Account)
	}
	if !slices.Equal(cloud.ended, []string{"m-1"}) || cloud.machines[0].Seen != instance.SeenGone {
		t.Errorf("terminated: got %v, %+v, want cloud.ended == %v and cloud.machines[0].Seen == %v", cloud.ended, cloud.machines, []string{"m-1"}, instance.SeenGone)
	}
	s, err := w.Instances.Find(ctx, ada.Account, id)
	if err != nil || s.Status != instance.StatusTerminated {
		t.Errorf("got %+v, %v, want no error and s.Status == %v", s, err, instance.StatusTerminated)
	}
	if out, err := w.Instances.Terminate(ctx, ada, id); err != nil || out.Answer.Status != instance.StatusTerminated {
		t.Errorf("its owner terminates it: got %+v, %v, want no error and out.Answer.Status == %v", out, err, instance.StatusTerminated)
	}
	if got := w.dataOf(t, "fleet.shrunk"); len(got) != 1 {
		t.Errorf("room given back: got %v, want one event", got)
	}
	head := w.Last(t)
	if done, err := f.Terminate(ctx, id); err != nil || !done.Already || len(done.Machines) > 0 || w.Last(t) != head {
		t.Errorf("again: got %+v, %v, want no error, done.Already, len(done.Machines) == 0 and w.Last(t) == %v", done, err, head)
	}
	w.mustCreate(t, ada) // the slot and the room are free
	if _, err := f.Terminate(ctx, "01NOTHING"); !errors.Is(err, instance.ErrNotFound) {
		t.Errorf("no such instance: got %v, want error %v", err, instance.ErrNotFound)
	}
}

// TestForceWithoutAnOwner terminates an instance whose first event is damaged and whose owner is unknown.
func TestForceWithoutAnOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.damage(t, "01DAMAGED")
	f, _ := w.force()
	done, err := f.Terminate(t.Context(), "01DAMAGED")
	if err != nil || done.Account != "" || done.Released || done.Already {
		t.Fatalf("got %+v, %v, want no error, done.Account empty, done.Released false and done.Already false", done, err)
	}
	if got := w.dataOf(t, "instance.terminated"); len(got) != 1 || got[0] != `{"by":"operator"}` {
		t.Errorf("got %v, want len(got) == 1 and got[0] == %v", got, `{"by":"operator"}`)
	}
}

// TestForceOfWhatIsWell terminates an instance while the saga works on it. A machine that appears later is terminated.
func TestForceOfWhatIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	ada, _ := w.SignUp(t, "ada@example.org")
	id := w.mustCreate(t, ada)
	w.write(t, id, instance.LaunchAttempted{Attempt: 1, At: w.Clock.Now()})
	f, _ := w.force()
	if status, err := f.Ask(t.Context(), id); err != nil || status != instance.Terminating {
		t.Errorf("asked: got %s, %v, want no error and status == %v", status, err, instance.Terminating)
	}
	if done, err := f.Terminate(t.Context(), id); err != nil || done.Already || !done.Released {
		t.Fatalf("got %+v, %v, want no error, done.Already false and done.Released", done, err)
	}
	s, err := w.Instances.Find(t.Context(), ada.Account, id)
	if err != nil || s.Open {
		t.Errorf("got %+v, %v, want no error and s.Open false", s, err)
	}
}

// TestReconcilerEndsLateMachinesOfTheForced finds a machine that a late launch made.
func TestReconcilerEndsLateMachinesOfTheForced(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	ada, _ := w.SignUp(t, "ada@example.org")
	id := w.up(t, ada, true)
	w.damage(t, id)
	f, cloud := w.force(tagged("m-1", id, id+"-1"))
	if _, err := f.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	cloud.machines = append(cloud.machines, tagged("m-late", id, id+"-1"))
	cloud.machines[1].Launched = w.Clock.Now().Add(-1e12)
	r := &provisioner.Reconciler{Log: w.Log, Cloud: cloud, Live: func(context.Context) ([]string, int64, error) { return nil, 0, nil }}
	report, err := r.Reconcile(t.Context())
	if err != nil || report.Count(provisioner.Terminate) != 1 || !slices.Contains(cloud.ended, "m-late") {
		t.Errorf("got %+v, %v, want no error, report.Count(provisioner.Terminate) == 1 and slices.Contains(cloud.ended, \"m-late\")", report, err)
	}
}

// versions calls before, ahead of the second read of a version.
type versions struct {
	eventstore.Store
	looks  int
	before func()
}

func (v *versions) Version(ctx context.Context, s eventstore.StreamID) (int64, error) {
	if v.looks++; v.looks == 2 {
		v.before()
	}
	return v.Store.Version(ctx, s)
}

// TestForceBesideTheSaga lets the saga end the instance while the operator's termination is being recorded.
func TestForceBesideTheSaga(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	ada, _ := w.SignUp(t, "ada@example.org")
	id := w.mustCreate(t, ada)
	f, _ := w.force()
	f.Store = &versions{Store: f.Store, before: func() { w.write(t, id, instance.Terminated{}) }}
	if done, err := f.Terminate(t.Context(), id); err != nil || !done.Already {
		t.Errorf("got %+v, %v, want no error and done.Already", done, err)
	}
	if got := w.dataOf(t, "instance.terminated"); len(got) != 1 {
		t.Errorf("got %d ends, %v, want 1", len(got), got)
	}
}
