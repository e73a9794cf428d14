package operator_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/operator"
)

const planeToken = "the control plane's"

// guarded connects to a stand-in as the control plane does.
func guarded(t *testing.T) net.Conn {
	t.Helper()
	dial, _ := standIn(t)
	serve, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = operator.Guard(planeToken, hostile.Token, serve)(context.Background(), far)
	}()
	t.Cleanup(func() { near.Close(); <-done })
	_ = near.SetDeadline(time.Now().Add(60 * time.Second))
	return near
}

func TestGuard(t *testing.T) {
	t.Parallel()
	connect := func(scopes, token string) string {
		return fmt.Sprintf(`{"type":"req","id":"c","method":"connect","params":{"minProtocol":4,"maxProtocol":4,"client":{"id":"gateway-client","version":"0.1.0","platform":"linux","mode":"backend"},"role":"operator","scopes":[%s],"caps":["tool-events"],"auth":{"token":%q}}}`, scopes, token)
	}
	browser := `"operator.read","operator.write","operator.approvals","operator.questions"`
	for name, tt := range map[string]struct {
		frame  string
		typ    websocket.MessageType
		passes bool
	}{
		"a browser":               {connect(browser, planeToken), websocket.MessageText, true},
		"a viewer":                {connect(`"operator.read"`, planeToken), websocket.MessageText, true},
		"an administrator":        {connect(browser+`,"operator.admin"`, planeToken), websocket.MessageText, false},
		"another scope":           {connect(`"operator.pairing"`, planeToken), websocket.MessageText, false},
		"the gateway's own token": {connect(browser, hostile.Token), websocket.MessageText, false},
		"no token":                {connect(browser, ""), websocket.MessageText, false},
		"scopes given twice":      {strings.Replace(connect(browser, planeToken), `"caps"`, `"Scopes":["operator.admin"],"caps"`, 1), websocket.MessageText, false},
		"another method":          {strings.Replace(connect(browser, planeToken), `"connect"`, `"config.get"`, 1), websocket.MessageText, false},
		"another role":            {strings.Replace(connect(browser, planeToken), `"role":"operator"`, `"role":"node"`, 1), websocket.MessageText, false},
		"a binary frame":          {connect(browser, planeToken), websocket.MessageBinary, false},
		"a long frame":            {strings.Repeat(" ", 70<<10) + connect(browser, planeToken), websocket.MessageText, false},
		"no JSON":                 {"hello", websocket.MessageText, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := guarded(t)
			ws, _, err := websocket.Dial(t.Context(), "ws://127.0.0.1:18789/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
				DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true,
			}}})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			ws.SetReadLimit(1 << 20)
			if _, b, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(b), "connect.challenge") {
				t.Fatalf("first frame: got %s %v, want the challenge", b, err)
			}
			_ = ws.Write(t.Context(), tt.typ, []byte(tt.frame))
			_, b, err := ws.Read(t.Context())
			if got := err == nil && strings.Contains(string(b), "hello-ok"); got != tt.passes {
				t.Errorf("got %.200s %v, want a hello: %v", b, err, tt.passes)
			}
			if tt.passes { // what follows is copied
				_ = ws.Write(t.Context(), websocket.MessageText, []byte(`{"type":"req","id":"h","method":"health"}`))
				if _, b, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(b), `"id":"h"`) {
					t.Errorf("a request: got %s %v, want its answer", b, err)
				}
			}
		})
	}
}

// Requests other than a WebSocket's do not reach the gateway.
func TestGuardRefusesOtherRequests(t *testing.T) {
	t.Parallel()
	for _, head := range []string{
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
		"GET / HTTP/1.1\r\nX-Long: " + strings.Repeat("x", 200<<10) + "\r\n\r\n",
		"hello\r\n\r\n",
	} {
		c := guarded(t)
		go func() { _, _ = io.WriteString(c, head) }()
		if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			t.Errorf("%.60q: got %q, want the end of the connection", head, line)
		}
	}
}

// late clears its deadline only after it was closed, as in a race of both.
type late struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *late) SetReadDeadline(at time.Time) error {
	if at.IsZero() {
		<-l.closed
	}
	return l.Conn.SetReadDeadline(at)
}

// Close is the tunnel's: it ends reads by their deadline only.
func (l *late) Close() error {
	err := l.Conn.SetReadDeadline(time.Unix(1, 0))
	l.once.Do(func() { close(l.closed) })
	return err
}

// A gateway that hangs up at once does not leave a stream that the control plane keeps open.
func TestGuardEndsWithTheGateway(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	text := `{"type":"req","method":"connect","params":{"role":"operator","auth":{"token":"` + planeToken + `"}}}`
	go func() {
		_, _ = io.WriteString(near, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
		_, _ = near.Write(append([]byte{0x81, 0x80 | 126, 0, byte(len(text)), 0, 0, 0, 0}, text...))
	}()
	done := make(chan error, 1)
	go func() {
		done <- operator.Guard(planeToken, hostile.Token, func(_ context.Context, c net.Conn) error {
			defer c.Close()
			r := bufio.NewReader(c)
			_, err := http.ReadRequest(r)
			_, _ = io.ReadFull(r, make([]byte, 100))
			_, _ = r.Discard(r.Buffered())
			return err
		})(context.Background(), &late{Conn: far, closed: make(chan struct{})})
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the connection does not end")
		far.Close()
		<-done
	}
}
