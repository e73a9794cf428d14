package tunnel

import (
	"context"
	"errors"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Two guests have one key and one boot. The second is refused while the first answers, at the same replica and
// at another, however often it tries. It can connect once the first is frozen. The first guest's own next
// connection never waits.
func TestTwoProcessesOfOneBoot(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]int{"one replica": 1, "two replicas": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachines(t)
			p := &presence{who: map[string]string{}}
			first := newReplica(t, m, p)
			second := first
			if replicas == 2 {
				second = newReplica(t, m, p)
			}
			own, clone := m.hostile(first.url, ""), m.hostile(second.url, "")
			clone.Process = "clone"
			holder := connect(t, own)
			claimed := func(by *replica) func() bool {
				return func() bool { url, _ := p.Lookup(t.Context(), id); return url == by.url }
			}
			eventually(t, "the claim", claimed(first))
			for range 3 {
				_, err := clone.Connect(t.Context())
				ownedBy(t, err)
			}
			select {
			case <-holder.Ended():
				t.Fatal("the refused one ended the holder's tunnel")
			default:
			}
			again := connect(t, own) // although the earlier connection answers
			<-holder.Ended()
			if replicas == 2 { // and through the other replica, too
				eventually(t, "the claim", claimed(first))
				own.URL = second.url
				last := again
				again = connect(t, own)
				<-last.Ended()
				eventually(t, "the claim", claimed(second))
				clone.URL = first.url
				_, err := clone.Connect(t.Context())
				ownedBy(t, err)
			}
			eventually(t, "its hello", func() bool { return first.hub.Connected(id) || second.hub.Connected(id) })
			again.Freeze()
			late := connect(t, clone)
			again.Thaw()
			<-again.Ended()
			select {
			case <-late.Ended():
				t.Error("the frozen one took its tunnel back")
			default:
			}
		})
	}
}

func connect(t *testing.T, m hostile.Machine) *hostile.Tunnel {
	t.Helper()
	tunnel, err := m.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tunnel.Close)
	return tunnel
}

func ownedBy(t *testing.T, err error) {
	t.Helper()
	if no := (*hostile.Refused)(nil); !errors.As(err, &no) || no.Close != wire.CloseOwned || no.Reason == "" {
		t.Errorf("another process: got %v, want close code %d with a reason", err, wire.CloseOwned)
	}
}

// A guest that does not send a process id works as before: only its boot counts.
func TestProcessIsSigned(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	old := m.hostile(r.url, "")
	old.Process = ""
	first := connect(t, old)
	connect(t, old)
	<-first.Ended()
	for what, spoil := range map[string]func(*wire.Proof){
		"a process without a signature": func(p *wire.Proof) { p.Process = "p" },
		"another's signature":           func(p *wire.Proof) { p.Process, p.ProcessSignature = "p", p.Signature },
		"a process that is no word":     func(p *wire.Proof) { p.Process = "p.q" },
	} {
		_, err := dialAs(t, r.url, "b", m.private, spoil)
		t.Log(what)
		closeCode(t, err, wire.CloseUnauthorized)
	}
}

// Two processes that connect at the same time to different replicas both succeed: neither replica knows of the
// other yet. The tunnel with the older claim then ends, and its guest is refused when it reconnects.
func TestTwoProcessesAtOneMoment(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	p := &presence{who: map[string]string{}}
	a, b := newReplica(t, m, p), newReplica(t, m, p)
	b.hub.c.Presence = blind{p} // it looked before the other's claim
	first, clone := m.hostile(a.url, ""), m.hostile(b.url, "")
	clone.Process = "clone"
	older := connect(t, first)
	eventually(t, "the claim", func() bool { url, _ := p.Lookup(t.Context(), id); return url == a.url })
	connect(t, clone)
	<-older.Ended()
	eventually(t, "one tunnel", func() bool { return a.hub.Len()+b.hub.Len() == 1 })
	_, err := first.Connect(t.Context())
	ownedBy(t, err)
}

// blind is a presence that sees no other replica.
type blind struct{ *presence }

func (blind) Lookup(context.Context, string) (string, error) { return "", nil }
