package hostile

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// Secrets that the machine's services require.
const (
	Password = "password"
	Token    = "gateway-token"
)

// Gateway is an agent gateway. The zero value behaves correctly and then waits for the other end.
type Gateway struct {
	Before func(context.Context, *websocket.Conn)       // between connect and hello-ok
	Padded int                                          // additional bytes of hello-ok
	Answer func(http.ResponseWriter, *http.Request)     // instead of the upgrade
	After  func(ctx context.Context, c *websocket.Conn) // after the greeting; nil: it only reads
}

// Serve serves one connection.
func (g Gateway) Serve(c net.Conn) {
	done := make(chan struct{})
	over := sync.OnceFunc(func() { close(done) })
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer over()
		if g.Answer != nil {
			g.Answer(w, r)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(-1)
		g.greet(r.Context(), ws)
	})}
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed { // it may have ended before its request
			over()
		}
	}
	_ = server.Serve(&oneConn{c: c, done: done})
}

func (g Gateway) greet(ctx context.Context, ws *websocket.Conn) {
	say := func(text string) bool { return ws.Write(ctx, websocket.MessageText, []byte(text)) == nil }
	if !say(`{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":1}}`) {
		return
	}
	_, b, err := ws.Read(ctx)
	var req struct{ ID string }
	if err != nil || json.Unmarshal(b, &req) != nil {
		return
	}
	if g.Before != nil {
		g.Before(ctx, ws)
	}
	if !say(`{"type":"res","id":"` + req.ID + `","ok":true,"payload":{"type":"hello-ok","protocol":4,"pad":"` + strings.Repeat("x", g.Padded) + `"}}`) {
		return
	}
	if g.After != nil {
		g.After(ctx, ws)
		return
	}
	for err == nil {
		_, _, err = ws.Read(ctx)
	}
}

// EndlessFrames sends frames of size bytes, and never the expected one.
func EndlessFrames(size int) func(context.Context, *websocket.Conn) {
	frame := []byte(`{"type":"event","event":"tick","pad":"` + strings.Repeat("x", size) + `"}`)
	return func(ctx context.Context, ws *websocket.Conn) {
		for ws.Write(ctx, websocket.MessageText, frame) == nil {
		}
	}
}

// Desktop is a VNC server. The zero value behaves correctly, with the name "n".
type Desktop struct {
	Name    uint32 // claimed length of its name; 0: 1
	Refusal bool   // refuse the connection, with an endless reason
	After   func(net.Conn)
}

// Serve serves one connection.
func (d Desktop) Serve(c net.Conn) {
	defer c.Close()
	b := make([]byte, 16)
	_, _ = io.WriteString(c, rfb.Version)
	_, _ = io.ReadFull(c, b[:12])
	if d.Refusal {
		_, _ = c.Write([]byte{0, 0xff, 0xff, 0xff, 0xff})
		_, _ = io.Copy(c, Endless{})
		return
	}
	_, _ = c.Write([]byte{1, rfb.SecurityVNC})
	_, _ = io.ReadFull(c, b[:1])
	challenge := []byte("0123456789abcdef")
	_, _ = c.Write(challenge)
	_, _ = io.ReadFull(c, b)
	_, _ = c.Write([]byte{0, 0, 0, 0})
	_, _ = io.ReadFull(c, b[:1])
	init := binary.BigEndian.AppendUint32(make([]byte, 20), max(d.Name, 1))
	if d.Name > 1 {
		_, _ = c.Write(init)
		_, _ = io.Copy(c, Endless{})
		return
	}
	_, _ = c.Write(append(init, 'n'))
	if d.After != nil {
		d.After(c)
		return
	}
	_, _ = io.Copy(io.Discard, c)
}

// Endless is a reader without end.
type Endless struct{}

func (Endless) Read(p []byte) (int, error) { return len(p), nil }

// Counted counts the bytes written to a connection and read by its other end; on a net.Pipe the count is exact.
type Counted struct {
	net.Conn
	Sent atomic.Int64
}

func (c *Counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.Sent.Add(int64(n))
	return n, err
}

// oneConn is a listener of a single connection.
type oneConn struct {
	c    net.Conn
	once sync.Once
	done chan struct{}
}

func (o *oneConn) Accept() (c net.Conn, err error) {
	o.once.Do(func() { c = o.c })
	if c == nil {
		<-o.done
		return nil, net.ErrClosed
	}
	return c, nil
}
func (o *oneConn) Close() error   { return nil }
func (o *oneConn) Addr() net.Addr { return o.c.LocalAddr() }
