package bridged_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// A session that controls the desktop takes mouse and keyboard from the agent, and all such sessions hear of it.
func TestControlThroughTheWholePath(t *testing.T) {
	t.Parallel()
	if !installed("Xvnc") && !installed("Xvfb", "x11vnc") {
		t.Skip("neither Xvnc nor Xvfb with x11vnc is installed")
	}
	w := newWorld(t, access.BridgeSession{Mode: "control"}, "x11")
	newViewer(t, w.dial(t, "/vnc")) // the desktop is up
	first, second := w.operated(t), w.operated(t)
	visitor := newChat(t, w.dial(t, "/visit"))
	holder := func(c *chat, want string) {
		t.Helper()
		if got := c.until(wire.ControlEvent, "").Payload["holder"]; got != want {
			t.Errorf("got control of %v, want of %s", got, want)
		}
	}
	holder(first, wire.HolderAgent)
	holder(second, wire.HolderAgent)
	if r := visitor.ask(wire.ControlTake, map[string]any{}); r.OK {
		t.Error("a viewer without control: got mouse and keyboard, want a refusal")
	}
	if r := first.ask(wire.ControlTake, map[string]any{}); r.Payload["holder"] != wire.HolderUser {
		t.Errorf("take: got %v %s, want the user to have them", r.Payload, r.Error)
	}
	holder(second, wire.HolderUser)
	first.ask("sessions.messages.subscribe", map[string]any{"key": "agent:main:main"})
	first.say("/demo", "held")
	if text := fmt.Sprint(first.until("chat", "final").Payload["message"]); !strings.Contains(text, "You have the mouse and keyboard") {
		t.Errorf("the demo: got %q, want that the user has mouse and keyboard", text)
	}
	if r := second.ask(wire.ControlGive, map[string]any{}); r.Payload["holder"] != wire.HolderAgent {
		t.Errorf("give: got %v %s, want the agent to have them", r.Payload, r.Error)
	}
	holder(first, wire.HolderUser)
	holder(first, wire.HolderAgent)
	visitor.ask("health", map[string]any{})
	for _, a := range visitor.heard {
		if strings.HasPrefix(a.Event, wire.ControlEvent) {
			t.Errorf("a viewer without control: got %s, want no such event", a.Event)
		}
	}
}
