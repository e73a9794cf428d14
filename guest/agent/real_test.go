package agent_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
	"github.com/cloudbot-ai/control-plane/guest/desktop"
	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// TestAnyOneKeyIsEnough asks the real OpenClaw of the PATH with one provider's key at a time.
func TestAnyOneKeyIsEnough(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	for _, c := range []struct{ provider, key, api, path, model string }{
		{"anthropic", "ANTHROPIC_API_KEY", "anthropic-messages", "", "claude-sonnet-5"},
		{"openrouter", "OPENROUTER_API_KEY", "openai-completions", "/api/v1", "openrouter/auto"},
		{"google", "GEMINI_API_KEY", "google-generative-ai", "/v1beta", "gemini-3.7-flash"},
		{"xai", "XAI_API_KEY", "openai-responses", "/v1", "grok-4.7"},
		{"together", "TOGETHER_API_KEY", "openai-completions", "/v1", "moonshotai/Kimi-K2.6"},
		{"openai", "OPENAI_API_KEY", "openai-responses", "/v1", "gpt-6-sol"},
	} {
		t.Run(c.provider, func(t *testing.T) { // one at a time: a gateway takes 1 GB
			p := modeltest.Start(t, nil)
			g := startGateway(t, map[string]string{c.key: "sk-" + c.provider}, fmt.Sprintf(
				`{"models":{"providers":{%q:{"baseUrl":%q,"api":%q}}}}`, c.provider, p.URL+c.path, c.api), false)
			text, err := g.ask("hello")
			if err != nil || text != modeltest.Words {
				t.Fatalf("got answer %q %v, want %q and no error\nprovider: %v\ngateway: %s", text, err, modeltest.Words, p, g.out.tail())
			}
			if !p.Asked(c.model, "sk-"+c.provider) {
				t.Errorf("got requests %v, want one for %s with the user's key", p, c.model)
			}
		})
	}
}

// TestUsesTheDesktopAndAdministersNothing has the model take a picture of the desktop, type into the terminal there, and call
// each tool that chats must not have.
func TestUsesTheDesktopAndAdministersNothing(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	p := modeltest.Start(t, nil)
	denied := []string{
		"gateway", "plugins", "openclaw", "nodes", "mobile_ui", "portal", "conversations_list", "conversations_send", "conversations_turn",
	}
	g := startGateway(t, map[string]string{"ANTHROPIC_API_KEY": "sk"}, fmt.Sprintf(
		`{"models":{"providers":{"anthropic":{"baseUrl":%q,"api":"anthropic-messages"}}}}`, p.URL), true)
	text, err := p.Play(func() (string, error) { return g.ask("look at the screen") }, func(u *modeltest.Turn) {
		first := u.Look()
		if !strings.Contains(string(first.Request), "data from strangers") {
			t.Error("got a prompt without our AGENTS.md, want it in")
		}
		picture(t, first, "agent-sees")
		for _, r := range []modeltest.Result{
			u.Click(image.Pt(640, 350), image.Pt(1280, 800)),
			u.Use("computer", `{"action":"type","text":"touch typed"}`),
			u.Use("computer", `{"action":"key","text":"Return"}`),
		} {
			if !r.OK() {
				t.Errorf("click, type, key: got %s, want it done", r)
			}
		}
		typed := func() bool { _, err := os.Stat(filepath.Join(g.home, "typed")); return err == nil }
		for tick, end := time.Tick(50*time.Millisecond), time.After(60*time.Second); !typed(); {
			select {
			case <-tick:
			case <-end:
				t.Fatalf("got no file of the command that the model typed, want one")
			}
		}
		for _, tool := range denied {
			r := u.Use("tool_call", fmt.Sprintf(`{"id":%q,"args":{}}`, tool))
			if !strings.Contains(r.Text, "Unknown tool id: "+tool+".") || slices.Contains(r.Offered(), tool) {
				t.Errorf("%s: got %s, want an unknown tool", tool, r)
			}
		}
	})
	if err != nil || text != modeltest.Words {
		t.Fatalf("got answer %q %v, want %q and no error\ngateway: %s", text, err, modeltest.Words, g.out.tail())
	}
}

// TestBrowserIsAWindow has the model start its browser, which the user must see.
func TestBrowserIsAWindow(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip(err)
	}
	p := modeltest.Start(t, nil)
	g := startGateway(t, map[string]string{"ANTHROPIC_API_KEY": "sk"}, fmt.Sprintf(
		`{"models":{"providers":{"anthropic":{"baseUrl":%q,"api":"anthropic-messages"}}}}`, p.URL), true)
	text, err := p.Play(func() (string, error) { return g.ask("start your browser") }, func(u *modeltest.Turn) {
		u.Use("tool_call", `{"id":"browser","args":{"action":"start"}}`)
		status := u.Use("tool_call", `{"id":"browser","args":{"action":"status"}}`)
		if !regexp.MustCompile(`headless\\?": *false`).MatchString(status.Text) || !regexp.MustCompile(`noSandbox\\?": *false`).MatchString(status.Text) {
			t.Errorf("got %s, want a visible browser in its sandbox", status)
		}
		picture(t, u.Look(), "agent-browser")
	})
	if err != nil || text != modeltest.Words {
		t.Fatalf("got answer %q %v, want %q and no error\ngateway: %s", text, err, modeltest.Words, g.out.tail())
	}
}

// picture checks that the model has got a picture of a whole screen, and keeps it in E2E_MACHINE_OUT.
func picture(t *testing.T, r modeltest.Result, name string) {
	t.Helper()
	if r.Picture == nil || r.Picture.Bounds().Dx() < 640 || r.Picture.Bounds().Dy()*1280 != r.Picture.Bounds().Dx()*800 {
		t.Fatalf("picture: got %s, want one of a 1280x800 screen; tools: %v", r, r.Offered())
	}
	if out := os.Getenv("E2E_MACHINE_OUT"); out != "" {
		if err := os.WriteFile(filepath.Join(out, name+"."+r.Format), r.Raw, 0o644); err != nil {
			t.Error(err)
		}
	}
}

// keys never change.
type keys map[string]string

func (k keys) Env() (map[string]string, <-chan struct{}) { return k, nil }

// gateway is a running OpenClaw.
type gateway struct {
	t    *testing.T
	addr string
	home string
	out  *output

	agent   *agent.Agent
	desktop *desktop.Desktop // nil: none
}

const token = "a-token-of-the-tests"

// startGateway runs the agent as a guest does, with or without a desktop; config is what is in its configuration before.
func startGateway(t *testing.T, env map[string]string, config string, screen bool) *gateway {
	home, err := os.MkdirTemp("/var/tmp", "cloudbot-agent-") // an ordinary user cannot reach t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	who, err := proc.Ordinary("cloudbot", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, ".openclaw", "openclaw.json")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{home, filepath.Dir(file), file} {
		if err := who.Own(path); err != nil {
			t.Fatal(err)
		}
	}
	g := &gateway{t: t, home: home, out: &output{}}
	arrived := make(chan struct{})
	close(arrived)
	c := agent.Config{
		Kind: agent.OpenClaw, Token: token, Home: home, User: who, Keys: keys(env), Arrived: arrived,
		Logger: slog.New(slog.NewTextHandler(g.out, nil)), Output: g.out,
	}
	if screen {
		d, err := desktop.New(desktop.Config{Kind: desktop.X11, Password: "pass", Home: home, Shm: home, User: who, Logger: c.Logger, Output: g.out})
		if err != nil {
			t.Skip(err)
		}
		c.Screen, g.desktop = d, d
		untilEnd(t, d.Run)
	}
	a, err := agent.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.agent = a
	untilEnd(t, a.Run)
	select {
	case <-a.Up():
	case <-time.After(3 * time.Minute):
		t.Fatalf("the gateway did not start:\n%s", g.out.tail())
	}
	g.addr = a.Addr()
	return g
}

// untilEnd runs a part until the test ends.
func untilEnd(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// frame is a part of the gateway's frames.
type frame struct {
	ID      string          `json:"id"`
	OK      bool            `json:"ok"`
	Event   string          `json:"event"`
	Error   json.RawMessage `json:"error"`
	Payload struct {
		Key          string `json:"key"` // of a new session
		State        string `json:"state"`
		RunID        string `json:"runId"`
		ErrorMessage string `json:"errorMessage"`
		Message      struct {
			Content json.RawMessage `json:"content"` // of a chat event: parts
		} `json:"message"`
	} `json:"payload"`
}

// ask sends a message as the user's browser does, and returns the answer.
func (g *gateway) ask(message string) (string, error) { return g.askIn("agent:main:main", message) }

// askIn sends a message to a session, or to a new one if session is "".
func (g *gateway) askIn(session, message string) (string, error) {
	return g.askWith(session, message, "[]")
}

// askWith also sends files, in JSON.
func (g *gateway) askWith(session, message, files string) (string, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+g.addr, nil)
	if err != nil {
		return "", err
	}
	defer ws.CloseNow()
	ws.SetReadLimit(32 << 20)
	run := rand.Text()
	say := func(id, method, params string) error {
		return ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"req","id":%q,"method":%q,"params":%s}`, id, method, params))
	}
	for {
		var f frame
		_, text, err := ws.Read(ctx)
		if err == nil {
			err = json.Unmarshal(text, &f)
		}
		if err != nil {
			return "", err
		}
		switch {
		case f.Event == "connect.challenge":
			err = say("c0", "connect", `{"minProtocol":4,"maxProtocol":4,"client":{"id":"gateway-client","version":"1","platform":"linux","mode":"backend"},`+
				`"role":"operator","scopes":["operator.read","operator.write"],"caps":["tool-events"],"auth":{"token":"`+token+`"}}`)
		case f.ID != "" && !f.OK:
			return "", fmt.Errorf("%s: %s", f.ID, f.Error)
		case f.ID == "c0" && session == "":
			err = say("new", "sessions.create", `{}`)
		case f.ID == "c0", f.ID == "new":
			session = cmp.Or(f.Payload.Key, session)
			err = say("c1", "sessions.messages.subscribe", fmt.Sprintf(`{"key":%q}`, session))
		case f.ID == "c1":
			err = say("c2", "chat.send", fmt.Sprintf(`{"sessionKey":%q,"message":%q,"idempotencyKey":%q,"attachments":%s}`, session, message, run, files))
		case f.Event == "chat" && f.Payload.State == "error":
			return "", fmt.Errorf("the agent: %s", f.Payload.ErrorMessage)
		case f.Event == "chat" && f.Payload.State == "aborted" && f.Payload.RunID == run:
			return "", errors.New("the run was aborted")
		case f.Event == "chat" && f.Payload.State == "final" && f.Payload.RunID == run:
			var parts []struct {
				Text string `json:"text"`
			}
			err := json.Unmarshal(f.Payload.Message.Content, &parts)
			var all strings.Builder
			for _, p := range parts {
				all.WriteString(p.Text)
			}
			return all.String(), err
		}
		if err != nil {
			return "", err
		}
	}
}

// output collects what the gateway prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()[max(0, o.b.Len()-3000):]
}
