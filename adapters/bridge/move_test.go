package bridge_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// While this server stops, its machines connect to another one. Their sessions end with the time to come back, although
// the turn of none has come.
func TestSessionsOfMovingMachines(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	serve := vncServer(func(net.Conn) { <-leave })
	f := newFixture(t, bridge.Config{Opener: opener{serve: serve}, Spread: time.Hour, First: time.Minute}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/vnc")
	shake(t, c)
	stopped := make(chan struct{})
	go func() { defer close(stopped); f.stop() }()
	for res := (*http.Response)(nil); res == nil || res.StatusCode != http.StatusServiceUnavailable; { // it is stopping
		if other, answer := f.dial(t, "/vnc"); other != nil {
			other.CloseNow()
		} else {
			res = answer
		}
	}
	close(leave)
	if e := closeOf(t, c); e.Code != bridge.CloseRestart || !strings.Contains(e.Reason, "retry_ms") {
		t.Errorf("close: got %v, want %v with retry_ms", e, bridge.CloseRestart)
	}
	<-stopped
}

// The first connection of each kind ends during its handshake, because the machine moves to another replica.
type moving struct {
	bridge.Opener
	before map[string]*atomic.Bool
}

func (m moving) Open(ctx context.Context, instance, service string) (net.Conn, wire.Secret, error) {
	if b := m.before[service]; b != nil && !b.Swap(true) {
		near, far := net.Pipe()
		far.Close()
		return near, wire.Secret{}, nil
	}
	return m.Opener.Open(ctx, instance, service)
}

func TestAMachineThatMovesDuringTheHandshake(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	defer close(done)
	m := moving{opener{serve: vncServer(func(net.Conn) { <-done })}, map[string]*atomic.Bool{wire.VNC: {}}}
	f := newFixture(t, bridge.Config{Opener: m}, access.BridgeSession{Mode: "control"})
	c, res := f.dial(t, "/vnc")
	if c == nil {
		t.Fatalf("got %v, want a connection at the second try", res.Status)
	}
	shake(t, c)
}

// Both services of the agent end with the tunnel. A session with the operator of the first try would end at once.
func TestAMachineThatMovesDuringTheAgentsHandshake(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	defer close(done)
	o := operated{opener{serve: gatewayServer(echo)}, func(net.Conn) { <-done }, make(chan string, 10)}
	m := moving{o, map[string]*atomic.Bool{wire.Operator: {}, wire.Agent: {}}}
	f := newFixture(t, bridge.Config{Opener: m}, access.BridgeSession{Mode: "control"})
	c, res := f.dial(t, "/cloudbot")
	if c == nil {
		t.Fatalf("got %v, want a connection at the second try", res.Status)
	}
	read(t, c) // hello-ok
	close(o.opened)
	opened := ""
	for service := range o.opened {
		opened += service + " "
	}
	if want := wire.Operator + " " + wire.Agent + " "; opened != want {
		t.Errorf("the second try opened %s, want %s", opened, want)
	}
}
