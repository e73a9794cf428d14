package operator_test

import (
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
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// of returns a dialer of a hostile gateway. passed counts its bytes.
func of(g hostile.Gateway, passed func(*hostile.Counted)) dialer {
	return func(context.Context) (func(context.Context, net.Conn) error, error) {
		return func(ctx context.Context, c net.Conn) error {
			counted := &hostile.Counted{Conn: c}
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			g.Serve(counted)
			if passed != nil {
				passed(counted)
			}
			return nil
		}, nil
	}
}

// A gateway may send 256 KiB before its hello-ok, in any form.
func TestHostileGreetings(t *testing.T) {
	t.Parallel()
	const most = 256 << 10
	for name, g := range map[string]hostile.Gateway{
		"a hello of 25 MiB": {Padded: 25 << 20},
		"frames of 64 KiB":  {Before: hostile.EndlessFrames(64 << 10)},
		"many small frames": {Before: hostile.EndlessFrames(0)},
		"a long head":       {Answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 1<<20)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := make(chan int64, 1)
			operate(t, of(g, func(c *hostile.Counted) {
				select {
				case sent <- c.Sent.Load():
				default:
				}
			}))
			select {
			case n := <-sent:
				if n > most+64<<10 { // and what the last write holds
					t.Errorf("accepted: got %d bytes, want at most %d", n, most)
				}
			case <-time.After(60 * time.Second):
				t.Error("the greeting does not end")
			}
		})
	}
}

// A gateway's long frames are skipped, and of its prompts only a bounded number is passed on.
func TestHostilePrompts(t *testing.T) {
	t.Parallel()
	event := func(name, id, session, rest string) string {
		return fmt.Sprintf(`{"type":"event","event":%q,"payload":{"id":%q,"request":{"sessionKey":%q%s}}}`, name, id, session, rest)
	}
	denied := make(chan string, 1000)
	g := hostile.Gateway{After: func(ctx context.Context, ws *websocket.Conn) {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				_, b, err := ws.Read(ctx)
				if err != nil {
					return
				}
				if m := object(b); m["method"] == "exec.approval.resolve" {
					denied <- fmt.Sprint(m["params"])
				}
			}
		}()
		for _, f := range []string{
			`{"type":"event","event":"agent","payload":"` + strings.Repeat("x", 2<<20) + `"}`,
			event("exec.approval.requested", "long", "main", `,"command":"`+strings.Repeat("x", 100<<10)+`"`),
			// In a line to the control plane it would be six times as long.
			event("exec.approval.requested", "markup", "main", `,"command":"`+strings.Repeat("<", 20<<10)+`"`),
			event("exec.approval.requested", "global", "global", ""),
			event("exec.approval.requested", "none", "", ""),
			event("openclaw.approval.requested", "system", "main", ""),
			event("config.changed", "x", "main", ""),
		} {
			_ = ws.Write(ctx, websocket.MessageText, []byte(f))
		}
		for i := range 50 {
			_ = ws.Write(ctx, websocket.MessageText, []byte(event("exec.approval.requested", fmt.Sprint("a", i), "main", "")))
		}
		<-gone
	}}
	m := operate(t, of(g, nil))
	p := m.open()
	if got := p.next(); got.Event != "exec.approval.requested" || object(got.Payload)["id"] != "a0" {
		t.Errorf("first line: got %s %s, want the approval a0", got.Event, got.Payload)
	}
	for range 31 {
		p.next()
	}
	want := []string{"long", "markup"}
	for i := 32; i < 50; i++ {
		want = append(want, fmt.Sprint("a", i))
	}
	for _, id := range want {
		if got, want := <-denied, fmt.Sprintf("map[decision:deny id:%s]", id); got != want {
			t.Errorf("denied: got %s, want %s", got, want)
		}
	}
}

// An answer that does not fit in a line is reported, not lost.
func TestHostileAnswer(t *testing.T) {
	t.Parallel()
	m := operate(t, of(hostile.Gateway{After: func(ctx context.Context, ws *websocket.Conn) {
		var all sync.WaitGroup
		defer all.Wait()
		for {
			_, b, err := ws.Read(ctx)
			if err != nil {
				return
			}
			f, payload := object(b), `[]`
			switch f["method"] {
			case "question.list":
				payload = `{"questions":[]}`
			case "chat.abort":
				payload = `"` + strings.Repeat("<", 20<<10) + `"`
			}
			all.Go(func() { // the pipe holds nothing
				_ = ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"res","id":%q,"ok":true,"payload":%s}`, f["id"], payload))
			})
		}
	}}, nil))
	if got := m.connected().ask("chat.abort", `{"sessionKey":"main"}`); !strings.Contains(string(got.Error), "too long") {
		t.Errorf("got %.100s %s, want that the answer is too long", got.Payload, got.Error)
	}
}

// A gateway that does not read cannot hold up the end of the machine.
func TestSettleIsBounded(t *testing.T) {
	t.Parallel()
	settled := make(chan struct{})
	m := operateLooking(t, of(hostile.Gateway{After: func(ctx context.Context, ws *websocket.Conn) {
		for range 5 {
			_, _, _ = ws.Read(ctx) // what it lists and follows
		}
		for i := range 5 {
			_ = ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"event","event":"exec.approval.requested","payload":{"id":"a%d","request":{"sessionKey":"main"}}}`, i))
		}
		<-settled
	}}, nil), time.Hour)
	end := sync.OnceFunc(func() { close(settled) })
	defer end()
	p := m.open()
	for range 5 {
		p.next()
	}
	began := time.Now()
	m.o.Settle(t.Context())
	end()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("settled after %v, want at most 3 s", took)
	}
}

// The control plane's side of a stream is bounded, too: its lines, and how many streams there are.
func TestHostilePlane(t *testing.T) {
	t.Parallel()
	dial, _ := standIn(t)
	m := operate(t, dial)
	for name, text := range map[string]string{
		"a long line": strings.Repeat("x", wire.MaxOperator+1),
		"no JSON":     "hello\n",
		"no id":       `{"method":"chat.abort"}` + "\n",
		"a long id":   `{"id":"` + strings.Repeat("x", 300) + `"}` + "\n",
	} {
		p := m.open()
		go func() { _, _ = io.WriteString(p.c, text) }()
		if _, err := p.c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: got an answer, want the end of the stream", name)
		}
	}
	for range 32 {
		m.connected()
	}
	p := m.open()
	select {
	case err := <-p.err:
		if err == nil {
			t.Error("stream 33: got it served, want a refusal")
		}
		p.err <- err
	case <-time.After(60 * time.Second):
		t.Error("stream 33: got it served, want a refusal")
	}
}

// A wrong token keeps the operator away, and a stream says so.
func TestRefusedOperator(t *testing.T) {
	t.Parallel()
	dial, _ := standIn(t)
	m := &machine{t: t, o: operator.New(operator.Config{Dial: dial, Token: "wrong"})}
	p := m.open()
	if got := p.ask("exec.approval.list", `{}`); !strings.Contains(string(got.Error), "UNAVAILABLE") {
		t.Errorf("list: got %s, want UNAVAILABLE", got.Error)
	}
}
