package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// hand is a gate that notes how long it holds.
type hand struct {
	mu    sync.Mutex
	until time.Time
	err   error
}

func (h *hand) Hold(d time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.until = time.Now().Add(d)
	}
	return h.err
}

func (h *hand) Held() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(0, time.Until(h.until))
}

func away(context.Context) (func(context.Context, net.Conn) error, error) {
	return nil, errors.New("not ready")
}

// gated returns a machine with a gate, and its agent behind dial.
func gated(t *testing.T, dial dialer, g operator.Gate) *machine {
	t.Helper()
	m := &machine{t, operator.New(operator.Config{Dial: dial, Token: hostile.Token, Gate: g, Wait: time.Millisecond, Look: time.Hour}), dial}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = m.o.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return m
}

func controlOf(t *testing.T, l wire.OperatorLine) (c wire.Control) {
	t.Helper()
	if err := json.Unmarshal(l.Payload, &c); err != nil {
		t.Fatalf("got %s %s, want a Control: %v", l.Payload, l.Error, err)
	}
	return c
}

// control returns the next Control that the stream reports.
func (p *plane) control(t *testing.T) wire.Control {
	t.Helper()
	l := p.next()
	if l.Event != wire.ControlEvent {
		t.Fatalf("got %+v, want the event %s", l, wire.ControlEvent)
	}
	return controlOf(t, l)
}

// A hold lasts two minutes after the latest take, also if the stream that took it ends. All streams hear of each change.
func TestControl(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h hand
		m := gated(t, away, &h)
		p := m.open()
		agent := wire.Control{Holder: wire.HolderAgent}
		if got := p.control(t); got != agent {
			t.Errorf("at first: got %+v, want %+v", got, agent)
		}
		began := time.Now()
		user := wire.Control{Holder: wire.HolderUser, Since: began.UnixMilli(), Until: began.Add(wire.ControlFor).UnixMilli()}
		if got := controlOf(t, p.ask(wire.ControlTake, `{}`)); got != user || h.Held() != wire.ControlFor {
			t.Errorf("taken: got %+v and the gate held for %v, want %+v and %v", got, h.Held(), user, wire.ControlFor)
		}
		late := m.open()
		if got := late.control(t); got != user {
			t.Errorf("a new stream: got %+v, want %+v", got, user)
		}
		if s, _ := m.o.State(); !s.Held {
			t.Errorf("taken: got state %+v, want it held", s)
		}
		time.Sleep(time.Minute)
		user.Until = time.Now().Add(wire.ControlFor).UnixMilli()
		if got := controlOf(t, late.ask(wire.ControlTake, ``)); got != user {
			t.Errorf("renewed: got %+v, want %+v", got, user)
		}
		p.c.Close()
		time.Sleep(wire.ControlFor - time.Millisecond)
		synctest.Wait()
		if s, _ := m.o.State(); !s.Held {
			t.Errorf("before the end: got state %+v, want it held", s)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		late.seen = nil
		if got := late.control(t); got != agent || h.Held() != 0 {
			t.Errorf("after two minutes: got %+v and the gate held for %v, want %+v and 0", got, h.Held(), agent)
		}
		if s, _ := m.o.State(); s.Held {
			t.Errorf("after two minutes: got state %+v, want it not held", s)
		}
		if got := controlOf(t, late.ask(wire.ControlGive, `{}`)); got != agent {
			t.Errorf("given without being taken: got %+v, want %+v", got, agent)
		}
		late.ask(wire.ControlTake, `{}`)
		if got := controlOf(t, late.ask(wire.ControlGive, `{}`)); got != agent || h.Held() != 0 {
			t.Errorf("given: got %+v and the gate held for %v, want %+v and 0", got, h.Held(), agent)
		}
		if got := late.ask(wire.ControlTake, `{"for":"3h"}`); !strings.Contains(string(got.Error), "INVALID_REQUEST") {
			t.Errorf("with a parameter: got %s, want INVALID_REQUEST", got.Error)
		}
		h.err = errors.New("no display")
		if got := late.ask(wire.ControlTake, `{}`); !strings.Contains(string(got.Error), "UNAVAILABLE") {
			t.Errorf("without a display: got %s, want UNAVAILABLE", got.Error)
		}
	})
}

// A guest that restarts finds the hold, and it ends when it would have ended.
func TestControlOutlivesTheGuest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(30 * time.Second)
		h := hand{until: until}
		m := gated(t, away, &h)
		synctest.Wait()
		p := m.open()
		if got := p.control(t); got.Holder != wire.HolderUser || got.Until != until.UnixMilli() {
			t.Errorf("got %+v, want the user's until %d", got, until.UnixMilli())
		}
		time.Sleep(31 * time.Second)
		if got := p.control(t); got.Holder != wire.HolderAgent {
			t.Errorf("after it: got %+v, want the agent's", got)
		}
	})
}

// Without a gate the guest says nothing of control, and refuses it.
func TestNoControl(t *testing.T) {
	t.Parallel()
	m := operate(t, away)
	p := m.open()
	if got := p.ask(wire.ControlTake, `{}`); !strings.Contains(string(got.Error), "INVALID_REQUEST") || len(p.seen) > 0 {
		t.Errorf("got %s and events %v, want INVALID_REQUEST and no event", got.Error, p.seen)
	}
}

// computer is a gateway whose computer is busy at first.
type computer struct {
	busy     int // answers to come
	asked    int // requests for the computer
	mu       sync.Mutex
	requests []string // carried out
	ws       *websocket.Conn
}

func (c *computer) serve(ctx context.Context, ws *websocket.Conn) {
	c.mu.Lock()
	c.ws = ws
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		for ctx.Err() == nil {
			_ = ws.Write(ctx, websocket.MessageText, []byte(`{"type":"event","event":"tick","payload":{}}`))
			_ = retry.Sleep(ctx, 30*time.Second)
		}
	})
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		answer := c.answer(b)
		all.Go(func() { _ = ws.Write(ctx, websocket.MessageText, []byte(answer)) })
	}
}

func (c *computer) answer(b []byte) string {
	var r struct {
		ID, Method string
		Params     struct {
			Command, Generation string
			Params              struct{ Action, ExecutionID string }
		}
	}
	_ = json.Unmarshal(b, &r)
	c.mu.Lock()
	defer c.mu.Unlock()
	payload := `[]`
	switch r.Method {
	case "question.list":
		payload = `{"questions":[]}`
	case "computer.status":
		payload = `{"available":true,"computerUse":{"provider":{"generation":"g1"}}}`
	case "computer.invoke":
		if c.asked++; c.asked == 1000 {
			panic("the operator asks without a pause")
		}
		if c.busy > 0 {
			c.busy--
			return fmt.Sprintf(`{"type":"res","id":%q,"ok":false,"error":{"code":"UNAVAILABLE","message":"Error: COMPUTER_HOST_BUSY: another execution owns the Gateway computer"}}`, r.ID)
		}
		payload = `{"payload":{}}`
		c.requests = append(c.requests, strings.Join([]string{r.Params.Command, r.Params.Params.Action, r.Params.Generation, r.Params.Params.ExecutionID}, " "))
	}
	return fmt.Sprintf(`{"type":"res","id":%q,"ok":true,"payload":%s}`, r.ID, payload)
}

func (c *computer) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.requests...)
}

// While the user has mouse and keyboard, the operator leases the gateway's computer as soon as it is free, renews the lease
// and ends it.
func TestLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &computer{busy: 2}
		m := gated(t, of(hostile.Gateway{After: c.serve}, nil), &hand{})
		p := m.connected()
		p.seen = nil
		if got := controlOf(t, p.ask(wire.ControlTake, `{}`)); got.Leased {
			t.Errorf("at first: got %+v, want it not leased", got)
		}
		p.seen = nil
		if got := p.control(t); !got.Leased || got.Holder != wire.HolderUser {
			t.Errorf("later: got %+v, want it leased", got)
		}
		execution := strings.TrimPrefix(c.seen()[0], "screen.snapshot  g1 ")
		for range 3 {
			time.Sleep(wire.ControlFor / 2)
			p.ask(wire.ControlTake, `{}`)
		}
		synctest.Wait()
		if got := len(c.seen()); got != 2 {
			t.Errorf("after three minutes: got %d snapshots, want 2", got)
		}
		c.mu.Lock()
		first := c.ws
		c.mu.Unlock()
		first.CloseNow()
		p.seen = nil
		for _, want := range []bool{false, true} {
			if got := p.control(t); got.Leased != want {
				t.Errorf("after the connection's end: got %+v, want leased %v", got, want)
			}
		}
		p.ask(wire.ControlGive, `{}`)
		synctest.Wait()
		all := c.seen()
		last := all[len(all)-1]
		if again, ok := strings.CutPrefix(last, "computer.act __close_execution g1 "); !ok || again == execution || again == "" {
			t.Errorf("given back: got %q, want the second execution closed", last)
		}
	})
}

// A gateway whose computer stays busy is asked every two seconds, however often the user's pages renew the hold.
func TestLeaseIsAskedForWithPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &computer{busy: 1e6}
		m := gated(t, of(hostile.Gateway{After: c.serve}, nil), &hand{})
		p := m.connected()
		for range 200 {
			p.ask(wire.ControlTake, `{}`)
			time.Sleep(100 * time.Millisecond)
			p.seen = nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.asked < 9 || c.asked > 12 {
			t.Errorf("in 20 s: got %d requests, want one every two seconds", c.asked)
		}
	})
}
