package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scan reads when to reconnect.
func scan(reason string, ms *int) error {
	_, err := fmt.Sscanf(reason, `{"retry_ms":%d}`, ms)
	return err
}

func asClose(err error, e *websocket.CloseError) bool { return errors.As(err, e) }

// silent is a machine that sends nothing until its connection ends; then gone has a value.
func silent() (serve func(net.Conn), gone chan struct{}) {
	gone = make(chan struct{}, 10)
	return vncServer(func(c net.Conn) { _, _ = io.Copy(io.Discard, c); gone <- struct{}{} }), gone
}

func waitGone(t *testing.T, gone <-chan struct{}) {
	t.Helper()
	select {
	case <-gone:
	case <-time.After(60 * time.Second):
		t.Fatal("the machine's leg was not closed")
	}
}

func TestDeadTargetIsAnHTTPStatus(t *testing.T) {
	t.Parallel()
	refusing := func(c net.Conn) { c.Close() }
	starting := func(c net.Conn) {
		gatewayRefusing(`{"code":"UNAVAILABLE","message":"starting","retryAfterMs":500}`)(c)
	}
	tests := []struct {
		name, path string
		o          opener
		status     int
		code       string
	}{
		{"not connected", "/vnc", opener{err: wire.ErrNotConnected}, 502, "machine_unreachable"},
		{"not ready", "/vnc", opener{err: wire.ErrNotReady}, 503, "not_ready"},
		{"busy", "/cloudbot", opener{err: wire.ErrBusy}, 503, "busy"},
		{"closes at once", "/vnc", opener{serve: refusing}, 502, "machine_unreachable"},
		{"gateway closes at once", "/cloudbot", opener{serve: refusing}, 502, "machine_unreachable"},
		{"gateway starts", "/cloudbot", opener{serve: starting}, 503, "agent_starting"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, bridge.Config{Opener: tt.o}, access.BridgeSession{Mode: "control"})
			_, res := f.dial(t, tt.path)
			if res == nil || res.StatusCode != tt.status || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("answer: got %+v, want a problem with status %d", res, tt.status)
			}
			if b, _ := io.ReadAll(res.Body); !strings.Contains(string(b), tt.code) {
				t.Errorf("body: got %s, want code %s", b, tt.code)
			}
			// Check gives the same answer.
			if reached, w := f.check(t, tt.path); reached || w.Code != tt.status || !strings.Contains(w.Body.String(), tt.code) {
				t.Errorf("check: got %v %d %s, want false %d %s", reached, w.Code, w.Body, tt.status, tt.code)
			}
		})
	}
}

// check calls Check for a bridge's path.
func (f *fixture) check(t *testing.T, path string) (reached bool, w *httptest.ResponseRecorder) {
	w = httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	return f.bridge.Check(w, r, strings.TrimPrefix(path, "/"), access.BridgeSession{Account: "account", Instance: "instance", Mode: "control"}), w
}

// A Check that reaches the machine writes no answer and leaves nothing open. It takes a session's place while it runs.
func TestCheckLetsGo(t *testing.T) {
	t.Parallel()
	serve, gone := silent()
	desktop := newFixture(t, bridge.Config{Opener: opener{serve: serve}, MaxPerInstance: 1}, access.BridgeSession{Mode: "control"})
	for range 3 {
		if reached, w := desktop.check(t, "/vnc"); !reached || w.Body.Len() > 0 || desktop.bridge.Len() != 0 {
			t.Errorf("check: got %v %q and %d sessions, want true without an answer or a session", reached, w.Body, desktop.bridge.Len())
		}
		waitGone(t, gone)
	}
	agent := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(func(ctx context.Context, ws *websocket.Conn) {
		_, _, _ = ws.Read(ctx)
		gone <- struct{}{}
	})}}, access.BridgeSession{Mode: "control"})
	if reached, w := agent.check(t, "/cloudbot"); !reached || w.Body.Len() > 0 {
		t.Errorf("check: got %v %q, want true without an answer", reached, w.Body)
	}
	waitGone(t, gone)
	if c, _ := desktop.dial(t, "/vnc"); c == nil {
		t.Fatalf("below the limit: got a refusal, want a bridge")
	}
	if reached, w := desktop.check(t, "/vnc"); reached || w.Code != 429 {
		t.Errorf("above the limit: got %v %d, want false 429", reached, w.Code)
	}
}

func gatewayRefusing(e string) func(net.Conn) {
	return func(c net.Conn) {
		done := make(chan struct{})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer ws.CloseNow()
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"type":"event","event":"connect.challenge","payload":{}}`))
			_, _, _ = ws.Read(r.Context())
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"type":"res","id":"cloudbot-connect","ok":false,"error":`+e+`}`))
			_ = ws.Close(websocket.StatusTryAgainLater, "starting")
		})}
		_ = server.Serve(&oneConn{c: c, done: done})
	}
}

func TestRevocationClosesBothLegs(t *testing.T) {
	t.Parallel()
	serve, gone := silent()
	revoked := make(chan struct{})
	f := newFixture(t, bridge.Config{Opener: opener{serve: serve}}, access.BridgeSession{Mode: "control", Revoked: revoked})
	c, _ := f.dial(t, "/vnc")
	close(revoked)
	if e := closeOf(t, c); e.Code != bridge.CloseSignedOut {
		t.Errorf("close: got %v, want %v", e, bridge.CloseSignedOut)
	}
	waitGone(t, gone)
	if _, res := f.dial(t, "/vnc"); res == nil || res.StatusCode != 401 {
		t.Errorf("after the revocation: got %v, want 401", res)
	}
}

func TestGoneInstance(t *testing.T) {
	t.Parallel()
	serve, gone := silent()
	over := make(chan struct{})
	f := newFixture(t, bridge.Config{Opener: opener{serve: serve}}, access.BridgeSession{Mode: "control", Gone: over})
	c, _ := f.dial(t, "/vnc")
	close(over)
	if e := closeOf(t, c); e.Code != bridge.CloseGone {
		t.Errorf("close: got %v, want %v", e, bridge.CloseGone)
	}
	waitGone(t, gone)
}

func TestShutdownSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	serve, gone := silent()
	f := newFixture(t, bridge.Config{Opener: opener{serve: serve}, RetryAfter: 1500 * time.Millisecond}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/vnc")
	stopped := make(chan struct{})
	go func() { defer close(stopped); f.stop() }()
	var ms int
	if e := closeOf(t, c); e.Code != bridge.CloseRestart || scan(e.Reason, &ms) != nil || ms < 750 || ms > 2250 {
		t.Errorf("close: got %v, want %v with 750 to 2250 ms", e, bridge.CloseRestart)
	}
	waitGone(t, gone)
	<-stopped
}

// While sessions end one by one, the remaining ones continue, and new ones are refused.
func TestShutdownIsSpread(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(echo)}, Spread: time.Hour}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/cloudbot")
	stopped := make(chan struct{})
	go func() { defer close(stopped); f.stop() }()
	for refused := false; !refused; {
		another, res := f.dial(t, "/cloudbot")
		if refused = another == nil; refused && (res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "") {
			t.Errorf("refusal: got %d, want 503 with Retry-After", res.StatusCode)
		}
		if another != nil {
			another.CloseNow()
		}
	}
	const frame = `{"type":"req","id":"1","method":"chat.history","params":{}}`
	if err := c.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
	for {
		_, got, err := c.Read(t.Context())
		if err != nil {
			t.Fatalf("session while others end: got %v, want an answer", err)
		}
		if strings.Contains(string(got), `"chat.history"`) {
			break
		}
	}
	_ = c.Close(websocket.StatusNormalClosure, "")
	<-stopped
}

func TestMachineGoneAfterTheUpgrade(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bridge.Config{Opener: opener{serve: vncServer(func(c net.Conn) {
		_, _ = c.Write([]byte("last words"))
	})}}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/vnc")
	shake(t, c)
	if e := closeOf(t, c); e.Code != bridge.CloseUnreachable {
		t.Errorf("close: got %v, want %v", e, bridge.CloseUnreachable)
	}
}

// shake performs a browser's half of the RFB handshake, frame by frame.
func shake(t testing.TB, c *websocket.Conn) {
	t.Helper()
	for _, say := range []string{rfb.Version, "\x01", "\x01", ""} {
		if _, _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if say != "" {
			if err := c.Write(t.Context(), websocket.MessageBinary, []byte(say)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestBrowserThatLeavesEndsASilentRead(t *testing.T) {
	t.Parallel()
	serve, gone := silent()
	f := newFixture(t, bridge.Config{Opener: opener{serve: serve}}, access.BridgeSession{Mode: "control"})
	for _, leave := range []func(*websocket.Conn){
		func(c *websocket.Conn) { c.CloseNow() },
		func(c *websocket.Conn) { _ = c.Close(websocket.StatusNormalClosure, "") },
	} {
		c, _ := f.dial(t, "/vnc")
		shake(t, c)
		leave(c)
		waitGone(t, gone)
	}
}

func TestBrowserThatAnswersNoPing(t *testing.T) {
	t.Parallel()
	serve, gone := silent()
	f := newFixture(t, bridge.Config{Opener: opener{serve: serve}, PingEvery: 20 * time.Millisecond, PongWithin: 2 * time.Second}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/vnc")
	shake(t, c) // within the two seconds even on a busy machine; after that it never reads, so it sends no pong
	waitGone(t, gone)
}

func TestStalledReaderIsDropped(t *testing.T) {
	t.Parallel()
	sent := make(chan int64, 1)
	f := newFixture(t, bridge.Config{Opener: opener{serve: vncServer(func(c net.Conn) {
		n, _ := io.Copy(c, endless{})
		sent <- n
	})}, WriteWithin: 200 * time.Millisecond}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/vnc")
	shake(t, c) // after that it never reads
	select {
	case n := <-sent:
		t.Logf("%d KiB were taken from the machine, kernel buffers included", n>>10)
	case <-time.After(60 * time.Second):
		t.Fatal("a reader that stalls is not dropped")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestCaps(t *testing.T) {
	t.Parallel()
	serve, _ := silent()
	f := newFixture(t, bridge.Config{Opener: opener{serve: serve}, MaxPerInstance: 2}, access.BridgeSession{Mode: "control"})
	for range 2 {
		if c, _ := f.dial(t, "/vnc"); c == nil {
			t.Fatalf("below the limit: got a refusal, want a bridge")
		}
	}
	if _, res := f.dial(t, "/vnc"); res == nil || res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Errorf("above the limit: got %+v, want 429 with Retry-After", res)
	}
}

func TestManyBytesArriveWhole(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	back := make(chan []byte, 1)
	f := newFixture(t, bridge.Config{Opener: opener{serve: vncServer(func(c net.Conn) {
		_, _ = c.Write(want)
		got := make([]byte, len(want))
		_, _ = io.ReadFull(c, got)
		back <- got
		_, _ = io.Copy(io.Discard, c)
	})}}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/vnc")
	shake(t, c)
	n := websocket.NetConn(t.Context(), c, websocket.MessageBinary)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(n, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("to the browser: got %d other bytes and %v, want those of the machine", len(got), err)
	}
	for p := want; len(p) > 0; p = p[64<<10:] {
		if _, err := n.Write(p[:64<<10]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(<-back, want) {
		t.Errorf("to the machine: got other bytes, want those of the browser")
	}
}

// echo is a gateway that sends every frame back.
func echo(ctx context.Context, ws *websocket.Conn) {
	for {
		typ, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if ws.Write(ctx, typ, b) != nil {
			return
		}
	}
}

func TestLargestFrameBothWays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(echo)}, LargeLook: time.Minute}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/cloudbot")
	if _, hello, err := c.Read(t.Context()); err != nil || bytes.Contains(hello, []byte("deviceToken")) || !bytes.Contains(hello, []byte(`"new":{"field":1}`)) {
		t.Fatalf("hello: got %s %v, want unknown fields and no credentials", hello, err)
	}
	frame := []byte(`{"type":"req","id":"1","method":"x","params":"` + strings.Repeat("é", 25<<19) + `"}`)
	if err := c.Write(t.Context(), websocket.MessageText, frame); err != nil {
		t.Fatal(err)
	}
	if typ, got, err := c.Read(t.Context()); err != nil || typ != websocket.MessageText || !bytes.Equal(got, frame) {
		t.Fatalf("echo: got %d bytes and %v, want the frame", len(got), err)
	}
	// One byte above the limit.
	_ = c.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte(" "), 26<<20+1))
	if e := closeOf(t, c); e.Code != websocket.StatusMessageTooBig {
		t.Errorf("close: got %v, want %v", e, websocket.StatusMessageTooBig)
	}
}

func TestWhatTheAgentBridgeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, frame string
		typ         websocket.MessageType
		code        websocket.StatusCode
	}{
		{"invalid UTF-8", "{\"type\":\"req\",\"x\":\"\xff\xfe\"}", websocket.MessageText, 1007},
		{"binary", `{"type":"req"}`, websocket.MessageBinary, 1007},
		{"not JSON", `hello`, websocket.MessageText, 1002},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(echo)}}, access.BridgeSession{Mode: "control"})
			c, _ := f.dial(t, "/cloudbot")
			if err := c.Write(t.Context(), tt.typ, []byte(tt.frame)); err != nil {
				t.Fatal(err)
			}
			if e := closeOf(t, c); e.Code != tt.code {
				t.Errorf("close: got %v, want %v", e, tt.code)
			}
		})
	}
}

func TestViewOnlyAgent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(echo)}}, access.BridgeSession{Mode: ""})
	c, _ := f.dial(t, "/cloudbot")
	if _, _, err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	for frame, passed := range map[string]bool{
		`{"type":"req","id":"1","method":"chat.history"}`:                        true,
		`{"type":"req","id":"1","method":"artifacts.download"}`:                  true,
		`{"type":"req","id":"2","method":"chat.send"}`:                           false,
		`{"type":"req","id":"3","method":"chat.send","METHOD":"chat.history"}`:   false,
		`{"type":"req","id":"4","method":"chat.history","method":"chat.send"}`:   false,
		`{"type":"req","id":"5","method":"chat\u002esend"}`:                      false,
		`{"type":"event","id":"6","method":"chat.history"}`:                      false,
		`{"type":"req","id":"7","method":"connect"}`:                             false,
		`{"type":"req","id":"8","method":"CHAT.HISTORY"}`:                        false,
		`{"type":"req","id":"9","method":"sessions.list","params":{"limit":10}}`: true,
	} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(got, []byte(frame)) != passed {
			t.Errorf("%s: got answer %s, want it forwarded: %v", frame, got, passed)
		}
	}
}

func TestGatewaySendsInvalidUTF8(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\xff", strings.Repeat("x", 100<<10) + "\xc3", strings.Repeat("é", 50<<10) + "\xe2\x82"} {
		f := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(func(ctx context.Context, ws *websocket.Conn) {
			_ = ws.Write(ctx, websocket.MessageText, []byte(text))
			_, _, _ = ws.Read(ctx)
		})}}, access.BridgeSession{Mode: "control"})
		c, _ := f.dial(t, "/cloudbot")
		if e := closeOf(t, c); e.Code != bridge.CloseUnreachable {
			t.Errorf("close: got %v, want %v", e, bridge.CloseUnreachable)
		}
	}
}

func TestGatewayRestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(func(_ context.Context, ws *websocket.Conn) {
		_ = ws.Close(websocket.StatusServiceRestart, "restart")
	})}}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/cloudbot")
	if e := closeOf(t, c); e.Code != bridge.CloseRestart || !strings.Contains(e.Reason, "retry_ms") {
		t.Errorf("close: got %v, want %v with retry_ms", e, bridge.CloseRestart)
	}
}

// A browser that stops in the middle of a large frame does not keep its place.
func TestStalledLargeFrameIsDropped(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bridge.Config{Opener: opener{serve: gatewayServer(echo)}, LargeWithin: 50 * time.Millisecond}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/cloudbot")
	if _, _, err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := c.Writer(t.Context(), websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte(" "), 512<<10)); err != nil {
		t.Fatal(err)
	}
	// It sends nothing more. The read answers pings meanwhile.
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Fatalf("half a frame: got an answer, want an error")
	}
}
