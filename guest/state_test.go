package guest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/activity"
	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/desktop"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// anyGate is a gate that only remembers.
type anyGate struct {
	mu   sync.Mutex
	held time.Duration
}

func (g *anyGate) Hold(d time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = d
	return nil
}
func (g *anyGate) Held() time.Duration { g.mu.Lock(); defer g.mu.Unlock(); return g.held }

// The control stream begins with the State if it is not zero, and has each change of it.
func TestStateOnTheControlStream(t *testing.T) {
	t.Parallel()
	g := &Guest{boot: "b1", redact: &Redactor{}, phases: newPhases(), changed: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	g.keys = newKeyring(g.redact)
	var err error
	if g.desktop, err = desktop.New(desktop.Config{Kind: desktop.BuiltIn, Logger: g.log}); err != nil {
		t.Fatal(err)
	}
	if g.agent, err = agent.New(agent.Config{Kind: agent.StandIn, Keys: g.keys, Logger: g.log}); err != nil {
		t.Fatal(err)
	}
	g.operator = operator.New(operator.Config{Gate: &anyGate{}, Dial: func(context.Context) (func(context.Context, net.Conn) error, error) {
		return nil, errors.New("away")
	}})
	g.activity = activity.New(activity.Config{Work: g.operator.Work})
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = g.operator.Serve(ctx, far) })
	defer all.Wait()
	defer cancel()
	all.Go(func() { _, _ = io.Copy(io.Discard, near) })
	ask := func(method string) {
		if err := wire.WriteLine(near, wire.OperatorRequest{ID: "1", Method: method}, wire.MaxOperator); err != nil {
			t.Error(err)
		}
	}

	first := speaks(t, g)
	if m := first(); m.Hello == nil {
		t.Fatalf("got %+v first, want the hello", m)
	}
	ask(wire.ControlTake)
	if m := first(); m.State == nil || !m.State.Held {
		t.Errorf("taken: got %+v, want a state that is held", m)
	}
	second := speaks(t, g)
	if hello, m := second(), second(); hello.Hello == nil || m.State == nil || !m.State.Held {
		t.Errorf("a new stream: got %+v, %+v, want the hello and a state that is held", hello, m)
	}
	ask(wire.ControlGive)
	for name, next := range map[string]func() wire.Message{"first": first, "second": second} {
		if m := next(); m.State == nil || *m.State != (wire.State{}) {
			t.Errorf("given back, %s stream: got %+v, want the zero state", name, m)
		}
	}
}

// The State has the number of viewers if there are more than one.
func TestViewersOnTheControlStream(t *testing.T) {
	t.Parallel()
	g := &Guest{boot: "b1", redact: &Redactor{}, phases: newPhases(), changed: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	g.keys = newKeyring(g.redact)
	var err error
	if g.desktop, err = desktop.New(desktop.Config{Kind: desktop.BuiltIn, Logger: g.log}); err != nil {
		t.Fatal(err)
	}
	if g.agent, err = agent.New(agent.Config{Kind: agent.StandIn, Keys: g.keys, Logger: g.log}); err != nil {
		t.Fatal(err)
	}
	g.operator = operator.New(operator.Config{})
	g.activity = activity.New(activity.Config{Work: g.operator.Work})
	var all sync.WaitGroup
	defer all.Wait()
	come := func() (leave func()) {
		t.Helper()
		serve, err := g.desktop.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		all.Go(func() { _ = serve(t.Context(), far) })
		if _, err := io.ReadFull(near, make([]byte, 12)); err != nil {
			t.Fatal(err)
		}
		return func() { near.Close() }
	}
	defer come()()
	next := speaks(t, g)
	if m := next(); m.Hello == nil {
		t.Fatalf("got %+v first, want the hello", m)
	}
	leave := come()
	if m := next(); m.State == nil || *m.State != (wire.State{Viewers: 2}) {
		t.Errorf("a second viewer: got %+v, want two viewers", m)
	}
	leave()
	if m := next(); m.State == nil || *m.State != (wire.State{}) {
		t.Errorf("one left: got %+v, want the zero state", m)
	}
}

// speaks starts a control stream of the guest and returns a function that reads its next message.
func speaks(t *testing.T, g *Guest) func() wire.Message {
	t.Helper()
	a, b := net.Pipe()
	guest, plane := mux.New(a, mux.Config{Dialled: true}), mux.New(b, mux.Config{})
	stream, err := guest.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.speak(ctx, stream) }()
	t.Cleanup(func() { cancel(); <-done; guest.Close(); plane.Close() })
	control, err := plane.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	_ = control.SetReadDeadline(time.Now().Add(time.Minute))
	lines := wire.NewLines(control)
	return func() wire.Message {
		t.Helper()
		for {
			m, err := lines.Next()
			if err != nil {
				t.Fatal(err)
			}
			if m.Health == nil && m.Activity == nil {
				return m
			}
		}
	}
}
