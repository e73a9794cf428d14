package bridged_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// until reads up to an event, or up to one with this state if it is not "". The machine's two connections are not in
// step, so an event that came before another one is found, too, but each only once.
func (c *chat) until(event, state string) answer {
	c.t.Helper()
	for i := 0; ; i++ {
		if i == len(c.heard) {
			c.next()
		}
		if a := c.heard[i]; a.Event == event && (state == "" || a.Payload["state"] == state) {
			c.heard[i].Event += " (found)"
			return a
		}
	}
}

func (c *chat) say(text, key string) {
	c.t.Helper()
	if r := c.ask("chat.send", map[string]any{"sessionKey": "main", "message": text, "idempotencyKey": key}); r.Payload["status"] != "started" {
		c.t.Fatalf("send %s: got %s, want it started", text, r.Error)
	}
}

// operated returns a session, once the guest's operator is connected to the agent.
func (w *world) operated(t *testing.T) *chat {
	t.Helper()
	c := newChat(t, w.dial(t, "/cloudbot"))
	for !c.ask("exec.approval.list", map[string]any{}).OK {
	}
	return c
}

func TestApprovalsThroughTheWholePath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, access.BridgeSession{Mode: "control"}, "built-in")
	first, second := w.operated(t), w.operated(t)
	visitor := newChat(t, w.dial(t, "/visit"))
	visitor.ask("sessions.messages.subscribe", map[string]any{"key": "agent:main:main"})
	for decision, want := range map[string]string{"deny": "You denied it", "allow-once": "You allowed it"} {
		first.say("/approve", decision)
		asked := second.until("exec.approval.requested", "")
		if third := newChat(t, w.dial(t, "/cloudbot")); third.until("exec.approval.requested", "").Payload["id"] != asked.Payload["id"] {
			t.Error("a session that opens later: got another approval, want the one that waits")
		}
		resolve := map[string]any{"id": asked.Payload["id"], "decision": decision}
		if r := visitor.ask("exec.approval.resolve", resolve); r.OK {
			t.Error("a decision of a viewer without control: got accepted, want refused")
		}
		if r := second.ask("exec.approval.resolve", map[string]any{"id": "another", "decision": decision}); r.OK {
			t.Error("a decision about another id: got accepted, want refused")
		}
		if r := second.ask("exec.approval.resolve", resolve); !r.OK {
			t.Errorf("%s: got %s, want it accepted", decision, r.Error)
		}
		if r := first.until("exec.approval.resolved", ""); r.Payload["id"] != asked.Payload["id"] || r.Payload["decision"] != decision {
			t.Errorf("resolved: got %v, want id %v and %s", r.Payload, asked.Payload["id"], decision)
		}
		if text := fmt.Sprint(first.until("chat", "final").Payload["message"]); !strings.Contains(text, want) {
			t.Errorf("%s: got %q, want %q", decision, text, want)
		}
	}
	first.say("/ask", "ask")
	asked := second.until("question.requested", "")
	answers := map[string]any{"answers": map[string]any{"colour": []string{"Blue"}, "tools": []string{"Editor"}, "name": []string{"Ada"}}}
	if r := second.ask("question.resolve", map[string]any{"id": asked.Payload["id"], "answers": answers}); !r.OK {
		t.Errorf("an answer: got %s, want it accepted", r.Error)
	}
	if r := first.until("question.resolved", ""); r.Payload["status"] != "answered" {
		t.Errorf("resolved: got %v, want answered", r.Payload)
	}
	if text := fmt.Sprint(first.until("chat", "final").Payload["message"]); !strings.Contains(text, "Ada") {
		t.Errorf("answered: got %q, want Ada", text)
	}
	visitor.ask("health", map[string]any{})
	for _, a := range visitor.heard {
		if wire.OperatorEvent(strings.TrimSuffix(a.Event, " (found)")) {
			t.Errorf("a viewer without control: got %s, want no event about what the agent asks", a.Event)
		}
	}
}

func TestStopFromAnotherDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, access.BridgeSession{Mode: "control"}, "built-in")
	first, second := w.operated(t), w.operated(t)
	visitor := newChat(t, w.dial(t, "/visit"))
	first.say("/slow", "run")
	first.until("chat", "delta")
	stop := map[string]any{"sessionKey": "agent:main:main", "runId": "run"}
	if r := visitor.ask("chat.abort", stop); r.OK {
		t.Error("a viewer without control: got the run stopped, want a refusal")
	}
	if r := second.ask("chat.abort", stop); r.Payload["aborted"] != true {
		t.Errorf("another device: got %v %s, want it stopped", r.Payload, r.Error)
	}
	first.until("chat", "aborted")
}
