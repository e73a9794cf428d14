package bridged_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

// names returns the names of the pictures in a value of the agent's frames, oldest first.
func names(v any) (list []string) {
	switch v := v.(type) {
	case []any:
		for _, part := range v {
			list = append(list, names(part)...)
		}
	case map[string]any:
		if name, ok := v["artifactId"].(string); ok && v["type"] == "image" {
			return []string{name}
		}
		for _, part := range v {
			list = append(list, names(part)...)
		}
	}
	return list
}

// picture downloads the latest picture of the history, as the dashboard does, and returns how many there are.
func (c *chat) picture(t *testing.T) (m image.Image, count int) {
	t.Helper()
	all := names(c.ask("chat.history", map[string]any{"sessionKey": "main"}).Payload["messages"])
	if len(all) == 0 {
		t.Fatal("history: got no picture, want one")
	}
	got := c.ask("artifacts.download", map[string]any{"sessionKey": "main", "artifactId": all[len(all)-1]})
	data, _ := got.Payload["data"].(string)
	raw, err := base64.StdEncoding.DecodeString(data)
	if err == nil {
		m, _, err = image.Decode(bytes.NewReader(raw))
	}
	if err != nil {
		t.Fatalf("download: got %d bytes %s %v, want a picture", len(raw), got.Error, err)
	}
	return m, len(all)
}

// TestDemoThroughTheWholePath has the demo agent work on the desktop: the viewer sees it, and a picture of it comes in the
// chat.
func TestDemoThroughTheWholePath(t *testing.T) {
	t.Parallel()
	if !installed("Xvnc", "openbox", "xterm") {
		t.Skip("Xvnc, openbox and xterm are not installed")
	}
	w := newPacedWorld(t, access.BridgeSession{Mode: "control"}, "x11", 2)
	v := newViewer(t, w.dial(t, "/vnc"))
	v.ask(false)
	v.update(nil)
	c := w.operated(t)
	if r := c.ask("sessions.messages.subscribe", map[string]any{"key": "agent:main:main"}); !r.OK {
		t.Fatalf("subscribe: got %s, want accepted", r.Error)
	}
	c.say("/demo", "demo")
	asked := c.until("exec.approval.requested", "") // after the picture, and nothing moves until it is answered
	seen, _ := c.picture(t)
	v.ask(true)
	if changed := v.update(nil); changed < 20_000 {
		t.Errorf("the viewer's screen: got %d changed pixels, want 20000 or more", changed)
	}
	if seen.Bounds().Dx() != v.w || seen.Bounds().Dy() != v.h {
		t.Fatalf("picture: got %v, want %d × %d", seen.Bounds(), v.w, v.h)
	}
	differ := func() (n int) {
		for i, p := range v.fb {
			if r, g, b, _ := seen.At(i%v.w, i/v.w).RGBA(); p != r>>8<<16|g>>8<<8|b>>8 {
				n++
			}
		}
		return n
	}
	// The viewer may be behind; its own picture of the pointer is what differs at last.
	for tries := 0; differ() > 2_000; tries++ {
		if tries == 50 {
			t.Fatalf("picture: got %d pixels that differ from the viewer's, want at most 2000", differ())
		}
		v.ask(false)
		v.update(nil)
	}
	if r := c.ask("exec.approval.resolve", map[string]any{"id": asked.Payload["id"], "decision": "allow-once"}); !r.OK {
		t.Fatalf("allow: got %s, want it accepted", r.Error)
	}
	end := c.until("chat", "final")
	if text, _ := json.Marshal(end.Payload["message"]); !strings.Contains(string(text), "is yours") {
		t.Errorf("last words: got %s, want that the note is saved", text)
	}
	if _, count := c.picture(t); count != 2 {
		t.Errorf("history: got %d pictures, want 2", count)
	}
}
