package bridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// operated is a machine whose guest has the operator service.
type operated struct {
	opener
	operator func(net.Conn)
	opened   chan string
}

func (o operated) Open(ctx context.Context, instance, service string) (net.Conn, wire.Secret, error) {
	o.opened <- service
	if service == wire.Operator {
		return opener{serve: o.operator}.Open(ctx, instance, "")
	}
	return o.opener.Open(ctx, instance, service)
}

func newOperated(t *testing.T, mode string, operator func(net.Conn)) (*websocket.Conn, operated) {
	t.Helper()
	o := operated{opener{serve: gatewayServer(echo)}, operator, make(chan string, 10)}
	f := newFixture(t, bridge.Config{Opener: o}, access.BridgeSession{Mode: mode})
	c, res := f.dial(t, "/cloudbot")
	if c == nil {
		t.Fatalf("the session: got %+v, want it open", res)
	}
	return c, o
}

func read(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	_, b, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Decisions go to the guest's operator and nowhere else; all other frames go to the gateway, which echoes them here.
func TestOperatorFrames(t *testing.T) {
	t.Parallel()
	requests := make(chan string, 10)
	c, _ := newOperated(t, "control", func(conn net.Conn) {
		defer conn.Close()
		_, _ = io.WriteString(conn, `{"event":"exec.approval.requested","payload":{"id":"a"}}`+"\n"+`{"event":"connect.challenge","payload":{}}`+"\n")
		for {
			var r wire.OperatorRequest
			if wire.ReadLine(conn, &r, wire.MaxOperator) != nil {
				return
			}
			b, _ := json.Marshal(r)
			requests <- string(b)
			line := wire.OperatorLine{ID: r.ID, OK: r.Method == "chat.abort", Payload: json.RawMessage(`{"n":1}`)}
			if !line.OK {
				line.Payload, line.Error = nil, json.RawMessage(`{"code":"INVALID_REQUEST"}`)
			}
			_ = wire.WriteLine(conn, line, wire.MaxOperator)
		}
	})
	if got := read(t, c); !strings.Contains(got, "hello-ok") {
		t.Errorf("first frame: got %s, want the hello", got)
	}
	if got, want := read(t, c), `{"event":"exec.approval.requested","payload":{"id":"a"},"type":"event"}`; got != want {
		t.Errorf("event: got %s, want %s", got, want)
	}
	for _, tt := range []struct{ frame, request, answer string }{
		{`{"type":"req","id":"1","method":"chat.abort","params":{"sessionKey":"main"}}`, `{"id":"1","method":"chat.abort","params":{"sessionKey":"main"}}`, `{"id":"1","ok":true,"payload":{"n":1},"type":"res"}`},
		{`{"type":"req","id":"2","method":"exec.approval.resolve"}`, `{"id":"2","method":"exec.approval.resolve"}`, `{"error":{"code":"INVALID_REQUEST"},"id":"2","ok":false,"type":"res"}`},
		{`{"type":"req","id":"3","method":"chat.send"}`, "", `{"type":"req","id":"3","method":"chat.send"}`},
		{`{"type":"req","id":"6","method":"cloudbot.allowed.remove","params":{"id":"a"}}`, `{"id":"6","method":"cloudbot.allowed.remove","params":{"id":"a"}}`, `{"error":{"code":"INVALID_REQUEST"},"id":"6","ok":false,"type":"res"}`},
		{`{"type":"req","id":"7","method":"exec.approvals.set"}`, "", `{"type":"req","id":"7","method":"exec.approvals.set"}`},
		{`{"type":"req","id":"4","method":"config.set"}`, "", `{"type":"req","id":"4","method":"config.set"}`},
		{`{"type":"req","id":"5","method":"question.resolve","params":"` + strings.Repeat("x", 70<<10) + `"}`, "", `{"error":{"code":"INVALID_REQUEST","message":"this request has no id, or is too long"},"id":"5","ok":false,"type":"res"}`},
	} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(tt.frame)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c); got != tt.answer {
			t.Errorf("%.80s: got %s, want %s", tt.frame, got, tt.answer)
		}
		request := ""
		if len(requests) > 0 {
			request = <-requests
		}
		if request != tt.request {
			t.Errorf("%.80s: the guest got %s, want %s", tt.frame, request, tt.request)
		}
	}
}

// A view-only session has no way to the operator.
func TestViewOnlyHasNoOperator(t *testing.T) {
	t.Parallel()
	c, o := newOperated(t, "view", func(conn net.Conn) { conn.Close() })
	read(t, c)
	for _, method := range []string{"chat.abort", "exec.approval.resolve", "plugin.approval.resolve", "question.resolve", "exec.approval.list", "question.list", wire.AllowedList, wire.AllowedRemove} {
		if err := c.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"req","id":"1","method":%q}`, method)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c); !strings.Contains(got, "view-only") {
			t.Errorf("%s: got %s, want a refusal", method, got)
		}
	}
	if got := <-o.opened; got != wire.Agent || len(o.opened) > 0 {
		t.Errorf("opened: got %s and %d more, want only %s", got, len(o.opened), wire.Agent)
	}
}

// A hostile guest's lines are bounded, and end the session.
func TestHostileOperator(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"a long line":   strings.Repeat("x", wire.MaxOperator+1),
		"no JSON":       "hello\n",
		"invalid UTF-8": `{"event":"question.requested","payload":"` + "\xff" + `"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newOperated(t, "control", func(conn net.Conn) {
				defer conn.Close()
				_, _ = io.Copy(conn, io.MultiReader(bytes.NewBufferString(line)))
				_, _ = io.Copy(io.Discard, conn)
			})
			if e := closeOf(t, c); e.Code != bridge.CloseUnreachable {
				t.Errorf("close: got %v, want %v", e, bridge.CloseUnreachable)
			}
		})
	}
}

// Lines that no browser gets are limited, too.
func TestHostileOperatorLines(t *testing.T) {
	t.Parallel()
	const many = 5000 // in a second; the burst is 250, and the connection holds some
	first, last := make(chan struct{}), make(chan struct{})
	line := []byte(`{"event":"unknown","payload":"` + strings.Repeat("x", 1000) + `"}` + "\n")
	c, _ := newOperated(t, "control", func(conn net.Conn) {
		defer conn.Close()
		for n := 1; ; n++ {
			if _, err := conn.Write(line); err != nil {
				return
			}
			switch n {
			case 1:
				close(first)
			case many:
				close(last)
			}
		}
	})
	_ = read(t, c)
	<-first
	select {
	case <-last:
		t.Errorf("got %d lines read within a second, want about 50 after the burst", many)
	case <-time.After(time.Second):
	}
}
