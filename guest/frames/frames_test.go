package frames

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// meet returns both ends of a connection, as frames and as the library has them.
func meet(t *testing.T) (server, client *websocket.Conn, below, under *Conn) {
	t.Helper()
	type end struct {
		ws *websocket.Conn
		c  *Conn
	}
	accepted, done := make(chan end, 1), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, c, err := Accept(w, r, nil, mux.Large)
		if err != nil {
			t.Error(err)
		}
		accepted <- end{ws, c}
		<-done
	}))
	t.Cleanup(func() { close(done); s.Close() })
	client, under, _, err := Dial(t.Context(), s.URL, &websocket.DialOptions{HTTPClient: s.Client(), CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		t.Fatal(err)
	}
	e := <-accepted
	t.Cleanup(func() { client.CloseNow(); e.ws.CloseNow() })
	client.SetReadLimit(-1)
	e.ws.SetReadLimit(-1)
	return e.ws, client, e.c, under
}

// Next goes on exactly where the library stopped to read, at both ends, and answers pings.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"to the server", "to the client"} {
		server, client, below, under := meet(t)
		c := struct {
			from, to *websocket.Conn
			next     *Conn
		}{client, server, below}
		if name == "to the client" {
			c.from, c.to, c.next = server, client, under
		}
		var want []byte
		sent := make(chan error, 1)
		r := rand.New(rand.NewPCG(7, 8))
		for _, size := range []int{0, 1, 125, 126, 65535, 65536, 300_000, 5} {
			for range size {
				want = append(want, byte(r.Uint32()))
			}
		}
		go func() {
			err := c.from.Write(t.Context(), websocket.MessageText, []byte("welcome"))
			rest := want
			for _, size := range []int{0, 1, 125, 126, 65535, 65536, 300_000, 5} {
				if err == nil {
					err = c.from.Write(t.Context(), websocket.MessageBinary, rest[:size])
				}
				rest = rest[size:]
			}
			sent <- err
		}()
		if _, b, err := c.to.Read(t.Context()); err != nil || string(b) != "welcome" {
			t.Fatalf("%s: the library read %q, %v", name, b, err)
		}
		var got []byte
		for len(got) < len(want) {
			buf, at, err := c.next.Next(1 + r.IntN(100_000))
			if err != nil || at < Room || at == len(buf) {
				t.Fatalf("%s: after %d bytes: got %d at %d, %v", name, len(got), len(buf)-at, at, err)
			}
			got = append(got, buf[at:]...)
			clear(buf) // the caller's
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes arrived", name)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		ponged := make(chan error, 1)
		go func() { ponged <- c.from.Ping(c.from.CloseRead(context.Background())) }()
		go func() { _, _, _ = c.next.Next(1) }()
		if err := <-ponged; err != nil {
			t.Errorf("%s: ping: %v", name, err)
		}
	}
}

// What breaks the protocol, or ends the connection, is an error.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"not masked":           {[]byte{0x82, 1, 0}, errFrame},
		"text":                 {[]byte{0x81, 0x81, 1, 2, 3, 4, 5}, errFrame},
		"reserved bits":        {[]byte{0xc2, 0x81, 1, 2, 3, 4, 5}, errFrame},
		"unknown opcode":       {[]byte{0x83, 0x81, 1, 2, 3, 4, 5}, errFrame},
		"a ping in two frames": {[]byte{0x09, 0x81, 1, 2, 3, 4, 5}, errFrame},
		"a long ping":          {[]byte{0x89, 0xfe, 0, 126, 1, 2, 3, 4}, errFrame},
		"a close":              {[]byte{0x88, 0x82, 0, 0, 0, 0, 3, 232}, errOver},
		"cut":                  {[]byte{0x82, 0xfe, 1}, io.EOF},
	} {
		a, b := net.Pipe()
		go func() { _, _ = b.Write(c.frame); b.Close() }()
		if _, _, err := newConn(a, false, mux.Large, nil).Next(10); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		a.Close()
	}
}

// A browser that reads slowly gets every frame whole, although TrySend leaves some half written and pings come between them.
func TestTrySend(t *testing.T) {
	t.Parallel()
	server, client, below, _ := meet(t)
	const messages = 300
	pings := make(chan error, 1)
	go func() {
		ctx := server.CloseRead(context.Background())
		for {
			time.Sleep(time.Millisecond)
			if err := server.Ping(ctx); err != nil {
				pings <- err
				return
			}
		}
	}()
	torn := 0
	go func() {
		buf := make([]byte, mux.Room+mux.Large)
		for i := range messages {
			for j := range mux.Large {
				buf[mux.Room+j] = byte(i)
			}
			taken, ready := below.TrySend(Binary, buf, mux.Room)
			var err error
			switch {
			case !taken:
				err = below.Send(Binary, buf, mux.Room)
			case !ready:
				torn++
				err = below.Flush()
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range messages {
		_, b, err := client.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != mux.Large || b[0] != byte(i) || b[len(b)-1] != byte(i) {
			t.Fatalf("message %d: got %d bytes of %d and %d", i, len(b), b[0], b[len(b)-1])
		}
		if i%10 == 0 {
			time.Sleep(5 * time.Millisecond) // the socket fills
		}
	}
	if torn == 0 {
		t.Log("no frame was left half written") // it depends on the kernel's buffers
	}
	client.CloseNow()
	<-pings
}

// A frame that TrySend left half written is finished before any other, and a closed connection lets go of what waits for that.
func TestTornFrame(t *testing.T) {
	t.Parallel()
	_, client, below, _ := meet(t)
	buf := make([]byte, mux.Room+mux.Large)
	sent := 0
	for {
		taken, ready := below.TrySend(Binary, buf, mux.Room)
		if !taken {
			t.Skip("the kernel took whole frames only")
		}
		sent++
		if !ready {
			break
		}
	}
	if taken, _ := below.TrySend(Binary, buf, mux.Room); taken || !below.Pending() {
		t.Error("another frame was taken in the middle of one")
	}
	waiting := make(chan error, 1)
	go func() { waiting <- below.Send(Binary, append([]byte(nil), buf...), mux.Room) }()
	go func() {
		if err := below.Flush(); err != nil {
			t.Error(err)
		}
	}()
	for range sent + 1 {
		if _, b, err := client.Read(t.Context()); err != nil || len(b) != mux.Large {
			t.Fatalf("got %d bytes, %v, want a whole frame", len(b), err)
		}
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// written counts writes.
type written struct {
	net.Conn
	writes int
}

func (w *written) Write(p []byte) (int, error) { w.writes++; return len(p), nil }

// A frame is one write, and allocates nothing.
func TestSendsOnce(t *testing.T) {
	for _, client := range []bool{false, true} {
		w := &written{}
		c := newConn(w, client, mux.Small, nil)
		buf := make([]byte, mux.Room+mux.Large)
		const frames = 100
		allocated := testing.AllocsPerRun(frames-1, func() {
			if err := c.Send(Binary, buf, mux.Room); err != nil {
				t.Error(err)
			}
		})
		if w.writes != frames || allocated > 0 {
			t.Errorf("client %v: got %d writes and %.1f allocations a frame for %d frames, want one and none", client, w.writes, allocated, frames)
		}
	}
}
