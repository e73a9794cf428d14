package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
			p := newProvider(t)
			g := startGateway(t, map[string]string{c.key: "sk-" + c.provider}, fmt.Sprintf(
				`{"models":{"providers":{%q:{"baseUrl":%q,"api":%q}}}}`, c.provider, p.URL+c.path, c.api), false)
			text, err := g.ask("hello")
			if err != nil || text != words {
				t.Fatalf("got answer %q %v, want %q and no error\nprovider: %v\ngateway: %s", text, err, words, p, g.out.tail())
			}
			if !p.asked(c.model, "sk-"+c.provider) {
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
	p := newProvider(t)
	denied := []string{
		"gateway", "plugins", "openclaw", "nodes", "mobile_ui", "portal", "conversations_list", "conversations_send", "conversations_turn",
	}
	p.script = []use{
		{"computer", `{"action":"screenshot"}`},
		{"computer", `{"action":"left_click","coordinate":[600,330],"frameId":"FRAME"}`},
		{"computer", `{"action":"type","text":"touch typed"}`},
		{"computer", `{"action":"key","text":"Return"}`},
	}
	for _, tool := range denied {
		p.script = append(p.script, use{"tool_call", fmt.Sprintf(`{"id":%q,"args":{}}`, tool)})
	}
	g := startGateway(t, map[string]string{"ANTHROPIC_API_KEY": "sk"}, fmt.Sprintf(
		`{"models":{"providers":{"anthropic":{"baseUrl":%q,"api":"anthropic-messages"}}}}`, p.URL), true)
	text, err := g.ask("look at the screen")
	if err != nil || text != words {
		t.Fatalf("got answer %q %v, want %q and no error\ngateway: %s", text, err, words, g.out.tail())
	}
	results := string(p.last)
	if !strings.Contains(results, "data from strangers") {
		t.Errorf("got a prompt without our AGENTS.md, want it in\ngateway: %s", g.out.tail())
	}
	for _, tool := range denied {
		if !strings.Contains(results, "Unknown tool id: "+tool+".") || slices.Contains(p.tools, tool) {
			t.Errorf("%s: got a tool, want an unknown one", tool)
		}
	}
	typed := func() bool { _, err := os.Stat(filepath.Join(g.home, "typed")); return err == nil }
	for tick, end := time.Tick(50*time.Millisecond), time.After(10*time.Second); !typed(); {
		select {
		case <-tick:
		case <-end:
			t.Fatalf("got no file of the command that the model typed, want one\nresults: %s", results[max(0, len(results)-6000):])
		}
	}
	p.picture(t, "agent-sees")
}

// TestBrowserIsAWindow has the model start its browser, which the user must see.
func TestBrowserIsAWindow(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip(err)
	}
	p := newProvider(t)
	p.script = []use{
		{"tool_call", `{"id":"browser","args":{"action":"start"}}`},
		{"tool_call", `{"id":"browser","args":{"action":"status"}}`},
		{"computer", `{"action":"screenshot"}`},
	}
	g := startGateway(t, map[string]string{"ANTHROPIC_API_KEY": "sk"}, fmt.Sprintf(
		`{"models":{"providers":{"anthropic":{"baseUrl":%q,"api":"anthropic-messages"}}}}`, p.URL), true)
	text, err := g.ask("start your browser")
	if err != nil || text != words {
		t.Fatalf("got answer %q %v, want %q and no error\ngateway: %s", text, err, words, g.out.tail())
	}
	if !regexp.MustCompile(`headless\\+": *false`).Match(p.last) || !regexp.MustCompile(`noSandbox\\+": *false`).Match(p.last) {
		t.Errorf("got results without a visible browser in its sandbox, want one\n%s", p.last[max(0, len(p.last)-6000):])
	}
	p.picture(t, "agent-browser")
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
		c.Screen = d
		untilEnd(t, d.Run)
	}
	a, err := agent.New(c)
	if err != nil {
		t.Fatal(err)
	}
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
		State        string `json:"state"`
		RunID        string `json:"runId"`
		ErrorMessage string `json:"errorMessage"`
		Message      struct {
			Content json.RawMessage `json:"content"` // of a chat event: parts
		} `json:"message"`
	} `json:"payload"`
}

// ask sends a message as the user's browser does, and returns the answer.
func (g *gateway) ask(message string) (string, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+g.addr, nil)
	if err != nil {
		return "", err
	}
	defer ws.CloseNow()
	ws.SetReadLimit(32 << 20)
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
		case f.ID == "c0":
			err = say("c1", "sessions.messages.subscribe", `{"key":"agent:main:main"}`)
		case f.ID == "c1":
			err = say("c2", "chat.send", fmt.Sprintf(`{"sessionKey":"main","message":%q,"idempotencyKey":"run"}`, message))
		case f.Event == "chat" && f.Payload.State == "error":
			return "", fmt.Errorf("the agent: %s", f.Payload.ErrorMessage)
		case f.Event == "chat" && f.Payload.State == "final" && f.Payload.RunID == "run":
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
