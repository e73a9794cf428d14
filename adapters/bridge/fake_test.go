package bridge_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// opener is a machine on loopback: serve gets the other end of every connection.
type opener struct {
	serve func(net.Conn)
	err   error
}

func (o opener) Open(_ context.Context, _, service string) (net.Conn, wire.Secret, error) {
	if service == wire.Operator && o.err == nil {
		return nil, wire.Secret{}, wire.ErrNotReady // a guest without the service
	}
	if o.err != nil {
		return nil, wire.Secret{}, o.err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, wire.Secret{}, err
	}
	go func() {
		c, err := l.Accept()
		l.Close() // only now: closing resets connections that are not accepted yet
		if err == nil {
			o.serve(c)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	return c, wire.Secret{VNCPassword: "password", GatewayToken: "gateway-token"}, err
}

type fixture struct {
	bridge *bridge.Bridge
	url    string
	stop   func() // ends the bridge's Run and waits for it
}

func newFixture(t testing.TB, c bridge.Config, s access.BridgeSession) *fixture {
	t.Helper()
	f := &fixture{bridge: bridge.New(c)}
	if s.Account == "" {
		s.Account = "account"
	}
	s.Instance = "instance"
	mux := http.NewServeMux()
	mux.HandleFunc("/vnc", func(w http.ResponseWriter, r *http.Request) { f.bridge.ServeVNC(w, r, s) })
	mux.HandleFunc("/cloudbot", func(w http.ResponseWriter, r *http.Request) { f.bridge.ServeAgent(w, r, s) })
	mux.HandleFunc("/other", func(w http.ResponseWriter, r *http.Request) {
		other := s
		other.Account, other.Instance = "other", "another"
		f.bridge.ServeAgent(w, r, other)
	})
	server := httptest.NewServer(mux)
	f.url = "ws" + strings.TrimPrefix(server.URL, "http")
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = f.bridge.Run(ctx) })
	f.stop = func() { cancel(); run.Wait() }
	t.Cleanup(func() {
		f.stop()
		server.Close()
		if n := f.bridge.Len(); n != 0 {
			t.Errorf("open sessions: got %d, want 0", n)
		}
	})
	return f
}

func (f *fixture) dial(t testing.TB, path string) (*websocket.Conn, *http.Response) {
	t.Helper()
	c, res, err := websocket.Dial(t.Context(), f.url+path, &websocket.DialOptions{Subprotocols: []string{"binary"}, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		return nil, res
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return c, res
}

// vncServer performs a real server's handshake and passes the connection to the test.
func vncServer(then func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 16)
		_, _ = io.WriteString(c, rfb.Version)
		_, _ = io.ReadFull(c, b[:12])
		_, _ = c.Write([]byte{1, rfb.SecurityVNC})
		_, _ = io.ReadFull(c, b[:1])
		challenge := []byte("0123456789abcdef")
		_, _ = c.Write(challenge)
		_, _ = io.ReadFull(c, b)
		if !rfb.Accept("password", challenge, b) {
			_, _ = c.Write([]byte{0, 0, 0, 1, 0, 0, 0, 0})
			return
		}
		_, _ = c.Write([]byte{0, 0, 0, 0})
		_, _ = io.ReadFull(c, b[:1])
		_, _ = c.Write(append(make([]byte, 20), 0, 0, 0, 1, 'n'))
		then(c)
	}
}

// gatewayServer performs a gateway's handshake and passes the socket to the test.
func gatewayServer(then func(context.Context, *websocket.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		done := make(chan struct{})
		l := &oneConn{c: c, done: done}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			defer ws.CloseNow()
			ws.SetReadLimit(-1)
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":1}}`))
			_, b, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			var req struct {
				ID     string
				Params struct{ Auth struct{ Token string } }
			}
			if json.Unmarshal(b, &req) != nil || req.Params.Auth.Token != "gateway-token" || r.Header.Get("Origin") != "" {
				_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"type":"res","id":"`+req.ID+`","ok":false,"error":{"code":"UNAUTHORIZED","message":"no"}}`))
				return
			}
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"type":"res","id":"`+req.ID+`","ok":true,"payload":{"type":"hello-ok","protocol":4,"auth":{"deviceToken":"dt","scopes":["operator.read"],"role":"operator"},"new":{"field":1}}}`))
			then(r.Context(), ws)
		})}
		_ = server.Serve(l)
	}
}

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

// closeOf reads until the connection is closed and returns the code and reason.
func closeOf(t *testing.T, c *websocket.Conn) websocket.CloseError {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			var e websocket.CloseError
			if !asClose(err, &e) {
				t.Fatalf("end: got %v, want a close code", err)
			}
			return e
		}
	}
}
