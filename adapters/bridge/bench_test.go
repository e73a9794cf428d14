package bridge_test

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// relay is the reference: io.Copy in both directions between two TCP connections.
func relay(b *testing.B, serve func(net.Conn)) net.Conn {
	b.Helper()
	listen := func(f func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { l.Close() })
		go func() {
			if c, err := l.Accept(); err == nil {
				f(c)
			}
		}()
		return l.Addr().String()
	}
	machine := listen(func(c net.Conn) { defer c.Close(); serve(c) })
	front := listen(func(c net.Conn) {
		m, err := net.Dial("tcp", machine)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(m, c); m.Close() }()
		_, _ = io.Copy(c, m)
		c.Close()
	})
	c, err := net.Dial("tcp", front)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

func through(b *testing.B, serve func(net.Conn)) net.Conn {
	b.Helper()
	f := newFixture(b, bridge.Config{Opener: opener{serve: vncServer(serve)}}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(b, "/vnc")
	shake(b, c)
	return websocket.NetConn(context.Background(), c, websocket.MessageBinary)
}

func BenchmarkRoundTrip(b *testing.B) {
	back := func(c net.Conn) { _, _ = io.Copy(c, c) }
	for _, way := range []struct {
		name string
		dial func(*testing.B, func(net.Conn)) net.Conn
	}{{"relay", relay}, {"bridge", through}} {
		b.Run(way.name, func(b *testing.B) {
			c := way.dial(b, back)
			took := make([]time.Duration, 0, b.N)
			buf := make([]byte, 64)
			for b.Loop() {
				at := time.Now()
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(at))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

func BenchmarkThroughput(b *testing.B) {
	const piece = 1 << 20
	for _, way := range []struct {
		name string
		dial func(*testing.B, func(net.Conn)) net.Conn
	}{{"relay", relay}, {"bridge", through}} {
		b.Run(way.name, func(b *testing.B) {
			c := way.dial(b, func(c net.Conn) { _, _ = io.Copy(c, onlyReader{endless{}}) })
			buf := make([]byte, piece)
			b.SetBytes(piece)
			for b.Loop() {
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type onlyReader struct{ io.Reader }
