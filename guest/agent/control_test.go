package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
	"github.com/cloudbot-ai/control-plane/guest/gate/gatetest"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// TestControl takes mouse and keyboard from a run that goes on clicking and typing. Meanwhile no window gets its input, and
// the model learns why; after giving them back, its input arrives again. Between runs the computer is leased.
func TestControl(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	p := modeltest.Start(t, nil)
	g := startGateway(t, map[string]string{"ANTHROPIC_API_KEY": "sk"}, fmt.Sprintf(
		`{"models":{"providers":{"anthropic":{"baseUrl":%q,"api":"anthropic-messages"}}}}`, p.URL), true)
	env, _ := g.desktop.Env()
	w := gatetest.Watch(t, env["DISPLAY"], env["XAUTHORITY"]) // its own requests pass the gate; the events do, too
	d := openDoor(t, g)
	run := func(message string, script func(*modeltest.Turn)) {
		t.Helper()
		text, err := p.Play(func() (string, error) { return g.ask(message) }, script)
		if err != nil || text != modeltest.Words {
			t.Fatalf("%s: got answer %q %v, want %q and no error\ngateway: %s", message, text, err, modeltest.Words, g.out.tail())
		}
	}
	screenshot := func(u *modeltest.Turn) modeltest.Result { return u.Use("computer", `{"action":"screenshot"}`) }
	run("click and type", func(u *modeltest.Turn) {
		tries := func(key string, held bool) {
			screenshot(u) // it may look
			for _, r := range []modeltest.Result{
				u.Click(image.Pt(640, 350), image.Pt(1280, 800)),
				u.Use("computer", fmt.Sprintf(`{"action":"type","text":%q}`, key)),
				u.Use("computer", fmt.Sprintf(`{"action":"key","text":%q}`, key)),
			} {
				if r.OK() == held || strings.Contains(r.Text, "Unsupported extension") != held {
					t.Errorf("%s, held %v: the model got %s, want an error only while it is held", key, held, r)
				}
			}
			screenshot(u)
			u.Use("computer", `{"action":"mouse_move","coordinate":[300,300],"frameId":"FRAME"}`)
		}
		tries("b", false)
		w.Until("button 1")
		if got := d.ask(wire.ControlTake); got.Holder != wire.HolderUser || got.Leased {
			t.Errorf("take: got %+v, want the user's and no lease yet", got)
		}
		before := len(w.Seen())
		tries("d", true)
		if during := w.Seen()[before:]; len(during) > 0 {
			t.Errorf("while held: the window got %v, want nothing", during)
		}
		if got := d.ask(wire.ControlGive); got.Holder != wire.HolderAgent {
			t.Errorf("give: got %+v, want the agent's", got)
		}
		tries("z", false)
		if after := w.Seen()[before:]; !slices.Contains(after, "button 1") || !slices.Contains(after, "press 52") {
			t.Errorf("after: the window got %v, want a click and a key", after)
		}
	})

	// Between runs.
	if got := d.ask(wire.ControlTake); got.Holder != wire.HolderUser {
		t.Errorf("take: got %+v, want the user's", got)
	}
	d.until(func(c wire.Control) bool { return c.Leased })
	run("look", func(u *modeltest.Turn) {
		if got := screenshot(u); !strings.Contains(got.Text, "COMPUTER_HOST_BUSY") {
			t.Errorf("a run while leased: the model got %s, want COMPUTER_HOST_BUSY", got)
		}
	})
	d.ask(wire.ControlGive)
	run("look again", func(u *modeltest.Turn) {
		for limit := time.Now().Add(time.Minute); ; { // the lease ends after the answer
			got := screenshot(u)
			if got.Picture != nil {
				break
			} else if time.Now().After(limit) {
				t.Fatalf("after giving back: the model got %s, want a picture", got)
			}
		}
	})

	// Stopping the run frees the computer.
	_, err := p.Play(func() (string, error) { return g.ask("go on") }, func(u *modeltest.Turn) {
		screenshot(u)
		if got := d.ask(wire.ControlTake); got.Leased {
			t.Errorf("take during a run: got %+v, want no lease", got)
		}
		d.send("chat.abort", `{"sessionKey":"agent:main:main"}`)
		d.until(func(c wire.Control) bool { return c.Leased })
	})
	if err == nil || !strings.Contains(err.Error(), "aborted") {
		t.Errorf("a run that is stopped: got %v, want it aborted", err)
	}
}

// door is the control plane's end of a stream to the operator.
type door struct {
	t     *testing.T
	c     net.Conn
	n     int
	lines chan wire.OperatorLine
}

func openDoor(t *testing.T, g *gateway) *door {
	t.Helper()
	o := operator.New(operator.Config{Dial: g.agent.Dial, Token: token, Gate: g.desktop, Logger: slog.New(slog.NewTextHandler(g.out, nil))})
	untilEnd(t, o.Run)
	near, far := net.Pipe()
	d := &door{t: t, c: near, lines: make(chan wire.OperatorLine, 100)}
	untilEnd(t, func(ctx context.Context) error { return o.Serve(ctx, far) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := bufio.NewScanner(near)
		s.Buffer(nil, wire.MaxOperator)
		for s.Scan() {
			var l wire.OperatorLine
			if json.Unmarshal(s.Bytes(), &l) == nil {
				d.lines <- l
			}
		}
	}()
	t.Cleanup(func() { near.Close(); <-done })
	return d
}

func (d *door) next() wire.OperatorLine {
	select {
	case l := <-d.lines:
		return l
	case <-time.After(time.Minute):
		d.t.Error("the operator does not answer")
		return wire.OperatorLine{}
	}
}

// send sends a request without waiting for the answer.
func (d *door) send(method, params string) (id string) {
	d.n++
	id = fmt.Sprint("d", d.n)
	r := wire.OperatorRequest{ID: id, Method: method, Params: json.RawMessage(params)}
	if err := wire.WriteLine(d.c, r, wire.MaxOperator); err != nil {
		d.t.Error(err)
	}
	return id
}

func (d *door) ask(method string) (c wire.Control) {
	for id := d.send(method, `{}`); ; {
		if l := d.next(); l.ID == id || l.ID == "" && l.Event == "" {
			_ = json.Unmarshal(l.Payload, &c)
			return c
		}
	}
}

// until waits for a Control.
func (d *door) until(match func(wire.Control) bool) {
	d.t.Helper()
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); {
		var c wire.Control
		if l := d.next(); l.Event == wire.ControlEvent && json.Unmarshal(l.Payload, &c) == nil && match(c) {
			return
		}
	}
	d.t.Error("the wanted event did not come")
}
