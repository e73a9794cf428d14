package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestGrace stops a server as a deploy does. A load balancer sees /ready fail while requests still succeed. Open
// WebSockets close with the time to reconnect, new ones are refused, and requests in flight finish.
func TestGrace(t *testing.T) {
	t.Parallel()
	s := newServer(t, "DATABASE_URL="+pgtest.New(t), "SHUTDOWN_GRACE=8s")
	s.start()
	u := signUp(t, s.URL, "frances@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	u.awaitInstance(id, "ready", "true")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var sockets []*websocket.Conn
	for range 4 {
		ws, err := u.bridge(ctx, id, "cloudbot", "cloudbot")
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		sockets = append(sockets, ws)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, 5*time.Second, "/ready to fail", func() bool {
		a, err := u.try("GET", "/ready", "")
		return err == nil && a.status == http.StatusServiceUnavailable && a.field("checks.server") == "draining"
	})
	u.must(http.StatusOK, "PATCH", "/api/instances/"+id, `{"name":"renamed while leaving"}`)
	u.must(http.StatusOK, "GET", "/api/instances", "")
	_, res, err := websocket.Dial(ctx, s.URL+"/api/instances/"+id+"/cloudbot", nil)
	if err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a new socket: got %v, %v, want 503 with Retry-After", res, err)
	}
	// Requests in flight when the listener closes. A body may take a few seconds, so one starts each half second.
	const body = `{"provider":"openai","api_key":"sk-0123456789abcdef0123456789"}`
	var slow []net.Conn
	for tick := time.NewTicker(500 * time.Millisecond); ; <-tick.C {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err != nil {
			break
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /api/user/api-keys HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			s.port, u.token, len(body), body[:10])
		if slow = append(slow, c); len(slow) > 60 {
			t.Fatal("the listener still accepts connections, want it closed")
		}
	}
	if len(slow) < 2 {
		t.Fatal("the listener closed immediately, want it open for the grace period")
	}
	last := slow[len(slow)-2] // the last one may have come too late to be accepted
	if _, err := io.WriteString(last, body[10:]); err != nil {
		t.Fatal(err)
	}
	if answer, err := http.ReadResponse(bufio.NewReader(last), nil); err != nil || answer.StatusCode != http.StatusCreated {
		t.Errorf("the request in flight: got %v, %v, want 201", answer, err)
	}
	for _, c := range slow {
		c.Close()
	}
	for _, ws := range sockets {
		var told websocket.CloseError
		for err = nil; err == nil; {
			_, _, err = ws.Read(ctx)
		}
		if !errors.As(err, &told) || told.Code != websocket.StatusServiceRestart || !strings.Contains(told.Reason, "retry_ms") {
			t.Errorf("a socket: got %v, want close code %d with retry_ms", err, websocket.StatusServiceRestart)
		}
	}
	select {
	case <-s.exit:
	case <-time.After(60 * time.Second):
		t.Fatal("the server still runs after 30 s, want it stopped")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}
