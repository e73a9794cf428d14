package operator_test

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// State counts what waits, and says when the first of it expires.
func TestState(t *testing.T) {
	t.Parallel()
	dial, _ := standIn(t)
	m := operate(t, dial)
	p := m.connected()
	if got, _ := m.o.State(); got != (wire.State{}) {
		t.Errorf("nothing waits: got %+v, want the zero State", got)
	}
	c := m.client()
	c.say("/approve", "run")
	id := p.until("exec.approval.requested")["id"].(string)
	one := m.state(func(s wire.State) bool { return s.Approvals == 1 })
	if left := time.Until(one.Until); one.Questions != 0 || left <= 0 || left > time.Hour {
		t.Errorf("an approval: got %+v, want one approval that expires within the hour", one)
	}
	c.send("sessions.create", `{"key":"two","label":"two"}`)
	c.send("chat.send", `{"sessionKey":"two","message":"/ask","idempotencyKey":"ask"}`)
	both := m.state(func(s wire.State) bool { return s.Questions == 1 })
	if both.Approvals != 1 || !both.Until.Equal(one.Until) {
		t.Errorf("a question, too: got %+v, want also an approval, and %v", both, one.Until)
	}
	if got := p.ask("exec.approval.resolve", `{"id":"`+id+`","decision":"deny"}`); !got.OK {
		t.Fatalf("deny: got %s, want it accepted", got.Error)
	}
	rest := m.state(func(s wire.State) bool { return s.Approvals == 0 })
	if rest.Questions != 1 || rest.Until.Before(one.Until) {
		t.Errorf("the question alone: got %+v, want one that expires after %v", rest, one.Until)
	}
}

// State counts the runs in progress, however they end, and forgets them with the gateway.
func TestRuns(t *testing.T) {
	t.Parallel()
	dial, stop := standIn(t)
	m := operate(t, dial)
	m.connected()
	c := m.client()
	c.say("/approve", "run")
	m.state(func(s wire.State) bool { return s.Runs == 1 && s.Approvals == 1 })
	c.send("sessions.create", `{"key":"two","label":"two"}`)
	c.send("chat.send", `{"sessionKey":"two","message":"/ask","idempotencyKey":"ask"}`)
	m.state(func(s wire.State) bool { return s.Runs == 2 })
	c.send("chat.abort", `{"sessionKey":"two"}`)
	m.state(func(s wire.State) bool { return s.Runs == 1 })
	stop()
	m.state(func(s wire.State) bool { return s.Runs == 0 })
}

// state waits for a State.
func (m *machine) state(match func(wire.State) bool) wire.State {
	m.t.Helper()
	limit := time.After(60 * time.Second)
	for {
		s, changed := m.o.State()
		if match(s) {
			return s
		}
		select {
		case <-changed:
		case <-limit:
			m.t.Fatalf("got %+v, want another state", s)
		}
	}
}
