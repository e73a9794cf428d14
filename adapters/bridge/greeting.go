package bridge

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
)

const (
	maxGreeting       = 256 << 10 // bytes that a gateway may send until its hello-ok, which has 15 to 19 KiB
	maxGreetingFrames = 16        // frames until then: a challenge, a few events and the hello-ok
)

var errGreeting = errors.New("the machine's agent sent too much before its hello-ok")

// greeting is the connection to a gateway. Until over is called, it bounds everything that the gateway sends:
// the head of its answer, frames and pings.
type greeting struct {
	net.Conn
	b    *Bridge
	sent atomic.Int64 // to the gateway
	left atomic.Int64
	done atomic.Bool
	cut  atomic.Bool // the machine's side has ended
}

func (b *Bridge) greeting(c net.Conn) *greeting {
	g := &greeting{Conn: c, b: b}
	g.left.Store(maxGreeting)
	b.greetings.Add(1)
	return g
}

func (g *greeting) Read(p []byte) (int, error) {
	if g.done.Load() {
		return g.Conn.Read(p)
	}
	left := g.left.Load()
	if left <= 0 {
		return 0, errGreeting
	}
	n, err := g.Conn.Read(p[:min(int64(len(p)), left)])
	g.left.Add(-int64(n))
	if errors.Is(err, io.EOF) {
		g.cut.Store(true)
	}
	g.b.greetingBytes.Add(int64(n))
	return n, err
}

func (g *greeting) Write(p []byte) (int, error) {
	n, err := g.Conn.Write(p)
	g.sent.Add(int64(n))
	if err != nil {
		g.cut.Store(true)
	}
	return n, err
}

// spent reports whether the gateway has sent all it may.
func (g *greeting) spent() bool { return g.left.Load() <= 0 }

// over ends the greeting: after it, the gateway's data is streamed and not kept.
func (g *greeting) over() {
	if g.done.CompareAndSwap(false, true) {
		g.b.greetings.Add(-1)
		g.b.greetingBytes.Add(g.left.Load() - maxGreeting)
	}
}

// Greetings returns how many gateways are in their greeting, and how many bytes they have sent.
func (b *Bridge) Greetings() (sessions, bytes int64) {
	return b.greetings.Load(), b.greetingBytes.Load()
}
