package tunnel

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// While a machine moves from a replica that stops to another one, a viewer there waits for it instead of being
// refused. A machine that was not connected moments ago is refused after a moment.
func TestOpenWaitsForAMovingMachine(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	p := &presence{who: map[string]string{}}
	a, b := newReplica(t, m, p), newReplica(t, m, p)
	if _, _, err := b.hub.Open(t.Context(), id, wire.Agent); !errors.Is(err, ErrNotConnected) {
		t.Fatalf("a machine that never connected: got %v, want %v", err, ErrNotConnected)
	}
	g := mustDial(t, a.url, "b", m.private)
	g.hear("keys", func(l wire.Message) bool { return l.Keys != nil })
	eventually(t, "presence", func() bool { url, _ := p.Lookup(t.Context(), id); return url == a.url })
	go g.session.Close()
	a.stop()
	type opened struct {
		conn net.Conn
		err  error
	}
	viewer := make(chan opened, 1)
	go func() {
		conn, _, err := b.hub.Open(t.Context(), id, wire.Agent)
		viewer <- opened{conn, err}
	}()
	select {
	case got := <-viewer:
		t.Fatalf("without the machine: got %v at once, want to wait for it", got.err)
	case <-time.After(2 * movePause): // the viewer may begin later than this, and then this shows less
	}
	next := mustDial(t, b.url, "b", m.private)
	go next.echo()
	got := <-viewer
	if got.err != nil {
		t.Fatal(got.err)
	}
	roundTrip(t, got.conn)
	got.conn.Close()
}

// counted counts the questions to presence, each of which is a request to NATS.
type counted struct {
	Presence
	asked atomic.Int64
}

func (c *counted) Lookup(ctx context.Context, instanceID string) (string, error) {
	c.asked.Add(1)
	return c.Presence.Lookup(ctx, instanceID)
}

// An owner can cut the own machine's tunnel and have many viewers wait for it: each asks a few times, not all the time.
func TestWaitingAsksPresenceAFewTimes(t *testing.T) {
	t.Parallel()
	p := &counted{Presence: &presence{who: map[string]string{}}}
	r := newReplica(t, newMachines(t), p)
	if _, _, err := r.hub.Silent(t.Context(), id); err != nil { // from here on, it counts as gone a moment ago
		t.Fatal(err)
	}
	p.asked.Store(0)
	if _, _, err := r.hub.Open(t.Context(), id, wire.Agent); !errors.Is(err, ErrNotConnected) {
		t.Errorf("got %v, want %v", err, ErrNotConnected)
	}
	if n, most := p.asked.Load(), 3+int64(moveTime/maxMovePause); n > most {
		t.Errorf("asked presence %d times, want at most %d", n, most)
	}
}
