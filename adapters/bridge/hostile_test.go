package bridge_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// pipes opens unbuffered connections to a machine, so that all data it sent has been read.
type pipes struct {
	serve func(net.Conn)
	all   sync.WaitGroup

	mu    sync.Mutex
	conns []*hostile.Counted
}

func (p *pipes) Open(_ context.Context, _, service string) (net.Conn, wire.Secret, error) {
	if service == wire.Operator {
		return nil, wire.Secret{}, wire.ErrNotReady // a guest without the service
	}
	near, far := net.Pipe()
	c := &hostile.Counted{Conn: far}
	p.mu.Lock()
	p.conns = append(p.conns, c)
	p.mu.Unlock()
	p.all.Go(func() { p.serve(c) })
	return near, wire.Secret{VNCPassword: hostile.Password, GatewayToken: hostile.Token}, nil
}

// A gateway may send 256 KiB before its hello-ok, in any form, and none of it is kept.
func TestHostileGreetings(t *testing.T) {
	t.Parallel()
	const most = 256 << 10
	for name, g := range map[string]hostile.Gateway{
		"a hello of 25 MiB":      {Padded: 25 << 20},
		"frames of 64 KiB":       {Before: hostile.EndlessFrames(64 << 10)},
		"many small frames":      {Before: hostile.EndlessFrames(0)},
		"a long head":            {Answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 1<<20)) }},
		"pings between":          {Answer: endlessPings},
		"a frame without an end": {Answer: endlessFragments},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const sessions = 8
			p := &pipes{serve: g.Serve}
			f := newFixture(t, bridge.Config{Opener: p, MaxPerInstance: sessions, OpenWithin: time.Minute}, access.BridgeSession{Mode: "control"})
			var all sync.WaitGroup
			for range sessions {
				all.Go(func() {
					_, res := f.dial(t, "/cloudbot")
					if res == nil || res.StatusCode != http.StatusBadGateway {
						t.Errorf("answer: got %+v, want 502", res)
						return
					}
					if b, _ := io.ReadAll(res.Body); !strings.Contains(string(b), "agent_greeting_too_large") {
						t.Errorf("body: got %s, want agent_greeting_too_large", b)
					}
				})
			}
			all.Wait()
			p.all.Wait()
			for _, c := range p.conns {
				if n := c.Sent.Load(); n > most {
					t.Errorf("bytes read before hello-ok: got %d, want at most %d", n, int64(most))
				}
			}
			if n, bytes := f.bridge.Greetings(); n != 0 || bytes != 0 {
				t.Errorf("greetings: got %d with %d bytes, want none", n, bytes)
			}
		})
	}
}

// endlessPings upgrades and then sends pings of the maximum length.
func endlessPings(w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	w.WriteHeader(http.StatusSwitchingProtocols)
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, c) }() // the pongs
	ping := append([]byte{0x89, 125}, make([]byte, 125)...)
	for err == nil {
		_, err = c.Write(ping)
	}
}

// endlessFragments starts a message that never ends.
func endlessFragments(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	out, err := ws.Writer(r.Context(), websocket.MessageText)
	if err == nil {
		_, _ = io.Copy(out, hostile.Endless{})
	}
}

// A hello-ok near the limit is forwarded, and later frames may have the usual size.
func TestLargeHelloIsPassedOn(t *testing.T) {
	t.Parallel()
	p := &pipes{serve: hostile.Gateway{Padded: 200 << 10, After: echo}.Serve}
	f := newFixture(t, bridge.Config{Opener: p}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/cloudbot")
	if _, hello, err := c.Read(t.Context()); err != nil || len(hello) < 200<<10 {
		t.Fatalf("hello: got %d bytes and %v, want at least 200 KiB", len(hello), err)
	}
	if n, bytes := f.bridge.Greetings(); n != 0 || bytes != 0 {
		t.Errorf("greetings: got %d with %d bytes, want none", n, bytes)
	}
	frame := `{"type":"req","id":"1","method":"x","params":"` + strings.Repeat("x", 1<<20) + `"}`
	if err := c.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || string(got) != frame {
		t.Errorf("echo: got %d bytes and %v, want the frame", len(got), err)
	}
}

// A desktop cannot make the handshake long either, by its name or the reason of a refusal.
func TestHostileDesktops(t *testing.T) {
	t.Parallel()
	const most = 5 << 10 // version, security types, challenge, result, ServerInit with a name of 4 KiB
	for name, d := range map[string]hostile.Desktop{"a long name": {Name: 1<<32 - 1}, "a long reason": {Refusal: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pipes{serve: d.Serve}
			f := newFixture(t, bridge.Config{Opener: p, OpenWithin: time.Minute}, access.BridgeSession{Mode: "control"})
			if _, res := f.dial(t, "/vnc"); res == nil || res.StatusCode != http.StatusBadGateway {
				t.Fatalf("answer: got %+v, want 502", res)
			}
			p.all.Wait()
			if n := p.conns[0].Sent.Load(); n > most {
				t.Errorf("bytes read before ServerInit: got %d, want at most %d", n, int64(most))
			}
		})
	}
}

// TestHostileGreetingsMemory prints for `make faults` what 32 sessions with 25 MiB of greeting allocate, beside 32 honest ones.
func TestHostileGreetingsMemory(t *testing.T) {
	measure := func(g hostile.Gateway) uint64 {
		const sessions = 32
		p := &pipes{serve: g.Serve}
		f := newFixture(t, bridge.Config{Opener: p, MaxPerInstance: sessions, OpenWithin: time.Minute}, access.BridgeSession{Mode: "control"})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var all sync.WaitGroup
		for range sessions {
			all.Go(func() { f.dial(t, "/cloudbot") })
		}
		all.Wait()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	// The bytes of the greeting are allocated once, before.
	long := hostile.Gateway{Before: hostile.EndlessFrames(25 << 20)}
	good, bad := measure(hostile.Gateway{Padded: 15 << 10}), measure(long)
	t.Logf("allocated for 32 sessions: good gateways %d KiB, gateways that greet with 25 MiB %d KiB", good>>10, bad>>10)
}

// begin sends only the beginning of a large frame.
func begin(t *testing.T, f *fixture) *websocket.Conn {
	t.Helper()
	c, _ := f.dial(t, "/cloudbot")
	if _, _, err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := c.Writer(t.Context(), websocket.MessageText)
	if err == nil {
		_, err = w.Write([]byte(strings.Repeat(" ", 512<<10)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); !is(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("not seen:", what)
		}
	}
}

// One account's stalled large frames hold its share of the places. Its next large frame is refused with a
// reason, and another account's is forwarded.
func TestLargeFramesAreShared(t *testing.T) {
	t.Parallel()
	p := &pipes{serve: hostile.Gateway{After: echo}.Serve}
	f := newFixture(t, bridge.Config{Opener: p, LargeWait: 50 * time.Millisecond, LargeWithin: time.Hour, LargeLook: time.Hour}, access.BridgeSession{Mode: "control"})
	for i := range 2 {
		c := begin(t, f)
		eventually(t, "a place taken", func() bool { return f.bridge.LargeFrames() == i+1 })
		defer c.CloseNow()
	}
	if e := closeOf(t, begin(t, f)); e.Code != bridge.CloseNotReady || !strings.Contains(e.Reason, "send it again") {
		t.Errorf("the third frame: got %v, want %v that asks to send it again", e, bridge.CloseNotReady)
	}
	other, _ := f.dial(t, "/other")
	frame := `{"type":"req","id":"1","method":"x","params":"` + strings.Repeat("x", 1<<20) + `"}`
	if _, _, err := other.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := other.Read(t.Context()); err != nil || string(got) != frame {
		t.Errorf("another account's frame: got %d bytes and %v, want the frame", len(got), err)
	}
	if n := f.bridge.LargeFrames(); n < 2 {
		t.Errorf("places held: got %d, want at least 2", n)
	}
}

// A large frame that stalls loses its place, whether the browser stops sending or the machine stops reading.
func TestLargeFramesMustMove(t *testing.T) {
	t.Parallel()
	t.Run("from the browser", func(t *testing.T) {
		t.Parallel()
		p := &pipes{serve: hostile.Gateway{After: echo}.Serve}
		f := newFixture(t, bridge.Config{Opener: p, LargeWithin: time.Hour, LargeLook: 100 * time.Millisecond}, access.BridgeSession{Mode: "control"})
		if e := closeOf(t, begin(t, f)); e.Code != websocket.StatusPolicyViolation || !strings.Contains(e.Reason, "64 KiB a second") {
			t.Errorf("close: got %v, want %v with the rate", e, websocket.StatusPolicyViolation)
		}
		eventually(t, "the place given back", func() bool { return f.bridge.LargeFrames() == 0 })
	})
	t.Run("to the machine", func(t *testing.T) {
		t.Parallel()
		p := &pipes{serve: hostile.Gateway{After: func(context.Context, *websocket.Conn) { <-t.Context().Done() }}.Serve}
		f := newFixture(t, bridge.Config{Opener: p, WriteWithin: time.Hour, LargeLook: 2 * time.Second}, access.BridgeSession{Mode: "control"})
		c, _ := f.dial(t, "/cloudbot")
		if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"req","id":"1","method":"x","params":"`+strings.Repeat("x", 4<<20)+`"}`)); err != nil {
			t.Fatal(err)
		}
		if e := closeOf(t, c); e.Code != bridge.CloseUnreachable || !strings.Contains(e.Reason, "too slowly") {
			t.Errorf("close: got %v, want %v because of the slow desktop", e, bridge.CloseUnreachable)
		}
		eventually(t, "the place given back", func() bool { return f.bridge.LargeFrames() == 0 })
	})
}

// A browser may answer pings only after a large frame that it sends, and the gateway's own pings wait for no large frame.
func TestLargeFramesAndPings(t *testing.T) {
	t.Parallel()
	t.Run("of the browser", func(t *testing.T) {
		t.Parallel()
		p := &pipes{serve: hostile.Gateway{After: echo}.Serve}
		f := newFixture(t, bridge.Config{Opener: p, PingEvery: 20 * time.Millisecond, PongWithin: 2 * time.Second, LargeLook: time.Hour}, access.BridgeSession{Mode: "control"})
		c, _ := f.dial(t, "/cloudbot")
		if _, _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		w, err := c.Writer(t.Context(), websocket.MessageText)
		if err != nil {
			t.Fatal(err)
		}
		frame := `{"type":"req","id":"1","method":"x","params":"` + strings.Repeat("x", 1<<20) + `"}`
		if _, err := io.WriteString(w, frame[:512<<10]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a place taken", func() bool { return f.bridge.LargeFrames() == 1 })
		silent, _ := f.dial(t, "/other") // it answers no ping either
		eventually(t, "the silent browser dropped", func() bool { return f.bridge.Len() == 1 })
		silent.CloseNow()
		if _, err := io.WriteString(w, frame[512<<10:]); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != frame {
			t.Errorf("after the pings: got %d bytes and %v, want the frame", len(got), err)
		}
	})
	t.Run("of the gateway", func(t *testing.T) {
		t.Parallel()
		const size = 4 << 20
		read := make(chan int, 1)
		p := &pipes{serve: hostile.Gateway{After: func(ctx context.Context, c *websocket.Conn) {
			_, r, err := c.Reader(ctx)
			if err != nil {
				return
			}
			pong := make(chan error, 1)
			go func() { pong <- c.Ping(ctx) }()
			piece := make([]byte, 4<<10)
			for n := 0; ; {
				select {
				case err := <-pong:
					if err == nil {
						read <- n
					}
					pong = nil
				default:
				}
				more, err := r.Read(piece)
				if n += more; err != nil {
					return
				}
			}
		}}.Serve}
		f := newFixture(t, bridge.Config{Opener: p}, access.BridgeSession{Mode: "control"})
		c, _ := f.dial(t, "/cloudbot")
		if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"req","id":"1","method":"x","params":"`+strings.Repeat("x", size)+`"}`)); err != nil {
			t.Fatal(err)
		}
		closeOf(t, c) // the gateway leaves after the frame
		select {
		case n := <-read:
			t.Logf("the pong came after %d KiB of %d", n>>10, size>>10)
		default:
			t.Error("the gateway's ping: got no answer before the end of the large frame, want one between its pieces")
		}
	})
}
