package agent_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
)

// TestPictures has the model take screenshots, as it does for the user, and reads them as the control plane's view-only
// connection does. OpenClaw leaves pictures out of its events and of the history; the history names them, and the names
// change when the next run begins.
func TestPictures(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	if _, err := exec.LookPath("import"); err != nil {
		t.Skip(err) // of ImageMagick, which our machines have
	}
	p := modeltest.Start(t, nil)
	g := startGateway(t, map[string]string{"ANTHROPIC_API_KEY": "sk"}, fmt.Sprintf(
		`{"models":{"providers":{"anthropic":{"baseUrl":%q,"api":"anthropic-messages"}}}}`, p.URL), true)
	text, err := p.Play(func() (string, error) { return g.ask("show me") }, func(u *modeltest.Turn) {
		u.Look()
		if got := len(g.artifacts()); got != 1 {
			t.Errorf("history during the run: got %d pictures, want 1", got)
		}
		u.Use("exec", `{"command":"import -window root seen.png"}`)
		u.Use("read", `{"path":"seen.png"}`)
		u.Say("Look:\nMEDIA:seen.png")
	})
	if err != nil || text != "Look:" {
		t.Fatalf("got answer %q %v, want it without the line of the file\ngateway: %s", text, err, g.out.tail())
	}
	names := g.artifacts()
	if len(names) < 2 { // the file that was named comes a little after the answer
		t.Fatalf("history: got pictures %q, want a screenshot and a file that was read", names)
	}
	for i, name := range names[:2] {
		got, err := g.download(name)
		raw, _ := base64.StdEncoding.DecodeString(got.Data)
		m, format, decodeErr := image.DecodeConfig(bytes.NewReader(raw))
		if err := cmp.Or(err, decodeErr); err != nil || "image/"+format != got.Artifact.MimeType || m.Width < 640 || m.Height*1280 != m.Width*800 {
			t.Errorf("picture %d: got %dx%d %s as %s %v, want one of a 1280x800 screen", i, m.Width, m.Height, format, got.Artifact.MimeType, err)
		}
		if out := os.Getenv("E2E_MACHINE_OUT"); out != "" {
			_ = os.WriteFile(filepath.Join(out, fmt.Sprintf("chat-picture-%d.%s", i, format)), raw, 0o644)
		}
	}

	if text, err = p.Play(func() (string, error) { return g.ask("again") }, func(u *modeltest.Turn) { u.Look() }); err != nil || text != modeltest.Words {
		t.Fatalf("again: got answer %q %v, want %q and no error", text, err, modeltest.Words)
	}
	again := g.artifacts()
	if len(again) != 4 {
		t.Fatalf("history after another run: got pictures %q, want 4", again)
	}
	if got, err := g.download(names[0]); err == nil {
		t.Errorf("the first picture by its old name: got %d bytes, want a refusal; if it holds now, looking it up again is needless", len(got.Data))
	}
	if got, err := g.download(again[0]); err != nil || got.Data == "" {
		t.Errorf("the first picture by its new name: got %d bytes %v, want it", len(got.Data), err)
	}
	if got, err := g.download(again[2]); err != nil || got.URL == "" || got.Data != "" {
		t.Errorf("a file that was named: got %d bytes %q %v, want an address only", len(got.Data), got.URL, err)
	}
}

type downloaded struct {
	Artifact struct{ MimeType string }
	Data     string
	URL      string
}

func (g *gateway) download(name string) (d downloaded, err error) {
	err = g.read("artifacts.download", fmt.Sprintf(`{"sessionKey":"agent:main:main","artifactId":%q}`, name), &d)
	return d, err
}

// artifacts returns the names of the history's pictures, oldest first.
func (g *gateway) artifacts() (names []string) {
	var history struct {
		Messages []struct{ Content json.RawMessage }
	}
	if err := g.read("chat.history", `{"sessionKey":"agent:main:main","limit":200}`, &history); err != nil {
		g.t.Error(err)
	}
	for _, m := range history.Messages {
		var parts []struct{ Type, Data, ArtifactID string }
		_ = json.Unmarshal(m.Content, &parts) // a user's is a text
		for _, part := range parts {
			if part.Type == "image" {
				names = append(names, part.ArtifactID)
			}
			if part.Data != "" {
				g.t.Errorf("history: got a picture of %d characters in it, want it left out", len(part.Data))
			}
		}
	}
	return names
}

// read asks as a visitor who may only read.
func (g *gateway) read(method, params string, answer any) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+g.addr, nil)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	ws.SetReadLimit(32 << 20)
	for {
		var f struct {
			ID, Event      string
			OK             bool
			Error, Payload json.RawMessage
		}
		_, text, err := ws.Read(ctx)
		if err == nil {
			err = json.Unmarshal(text, &f)
		}
		send := ""
		switch {
		case err != nil:
			return err
		case f.Event == "connect.challenge":
			send = `{"type":"req","id":"c","method":"connect","params":{"minProtocol":4,"maxProtocol":4,"client":{"id":"gateway-client","version":"1","platform":"linux","mode":"backend"},` +
				`"role":"operator","scopes":["operator.read"],"caps":["tool-events","approvals"],"auth":{"token":"` + token + `"}}}`
		case f.ID != "" && !f.OK:
			return fmt.Errorf("%s: %s", method, f.Error)
		case f.ID == "c":
			send = fmt.Sprintf(`{"type":"req","id":"r","method":%q,"params":%s}`, method, params)
		case f.ID == "r":
			return json.Unmarshal(f.Payload, answer)
		}
		if send != "" {
			if err := ws.Write(ctx, websocket.MessageText, []byte(send)); err != nil {
				return err
			}
		}
	}
}
