package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/desktop"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/x11"
)

// theatre is a stand-in with a real desktop.
type theatre struct {
	url string
	*user
	g    *Gateway
	d    *desktop.Desktop
	home string
	env  map[string]string
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	home := t.TempDir()
	d, err := desktop.New(desktop.Config{Kind: desktop.X11, Password: "pass", Home: home, Shm: home, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-d.Up():
	case <-time.After(60 * time.Second):
		t.Fatal("timed out waiting until the desktop is up")
	}
	screen, _ := d.Env()
	env := map[string]string{"PATH": os.Getenv("PATH"), "HOME": home, "LANG": "C.UTF-8", "DISPLAY": screen["DISPLAY"], "XAUTHORITY": screen["XAUTHORITY"]}
	if len(terminal(env["PATH"], 0, 0)) == 0 {
		t.Skip(errNoTerminal)
	}
	shown(t, env, "CloudBot") // the terminal that the desktop begins with
	pace := 2 * time.Millisecond
	if os.Getenv("DEMO_PACE") != "" {
		pace, _ = time.ParseDuration(os.Getenv("DEMO_PACE"))
	}
	g := New(Config{Token: "right", Pace: pace, Screen: func() (map[string]string, *proc.User) { return env, nil }})
	g.Ready()
	url := serve(t, g)
	u := connectedTo(t, url, adminScopes, `"tool-events","approvals"`)
	return &theatre{user: u, url: url, g: g, d: d, home: home, env: env}
}

// shown waits until a window with the title is on the screen.
func shown(t *testing.T, env map[string]string, title string) {
	t.Helper()
	d, err := x11.Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(60 * time.Second); ; {
		if w, err := d.Find(title, 0); err != nil || w != 0 {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting for the window %q", title)
		}
	}
}

// picture returns the next screenshot of the events, as a client that may only read gets it while the demo goes on.
func (s *theatre) picture() image.Image {
	u := s.user
	u.t.Helper()
	p := u.until("agent", func(p map[string]any) bool {
		data, _ := p["data"].(map[string]any)
		return p["stream"] == "tool" && data["phase"] == "result" && strings.Contains(fmt.Sprint(data["result"]), "mimeType")
	})
	data := p["data"].(map[string]any)
	part := data["result"].(map[string]any)["content"].([]any)[1].(map[string]any)
	if part["omitted"] != true || part["data"] != nil || part["artifactId"] != nil {
		u.t.Errorf("event: got picture %v, want it left out", part)
	}
	viewer := connectedTo(s.t, s.url, `"operator.read"`, "")
	defer viewer.c.CloseNow()
	got, f := viewer.ask("artifacts.download", fmt.Sprintf(`{"sessionKey":"main","artifactId":%q}`, viewer.artifact(data["toolCallId"])))
	if f != nil {
		u.t.Fatal(f)
	}
	raw, err := base64.StdEncoding.DecodeString(got["data"].(string))
	if err != nil {
		u.t.Fatal(err)
	}
	m, _, err := image.Decode(bytes.NewReader(raw))
	if err != nil {
		u.t.Fatal(err)
	}
	if out := os.Getenv("DEMO_OUT"); out != "" {
		_ = os.WriteFile(filepath.Join(out, fmt.Sprintf("demo-picture-%d.png", time.Now().UnixMilli())), raw, 0o600)
	}
	return m
}

// artifact returns the name that the history has for the picture of a tool's use.
func (u *user) artifact(call any) string {
	u.t.Helper()
	history, _ := u.ask("chat.history", `{"sessionKey":"main"}`)
	for _, m := range history["messages"].([]any) {
		m := m.(map[string]any)
		if m["toolCallId"] == call {
			name, _ := m["content"].([]any)[1].(map[string]any)["artifactId"].(string)
			return name
		}
	}
	u.t.Errorf("history: got no result of %v, want one", call)
	return ""
}

func (s *theatre) file() string {
	b, _ := os.ReadFile(filepath.Join(s.home, "Desktop", note))
	return string(b)
}

func (s *theatre) decide(decision string) {
	s.t.Helper()
	asked := s.until("exec.approval.requested", nil)
	if _, f := s.ask("exec.approval.resolve", fmt.Sprintf(`{"id":%q,"decision":%q}`, asked["id"], decision)); f != nil {
		s.t.Fatalf("%s: got %v, want it accepted", decision, f)
	}
}

// screen returns a picture of the desktop.
func (s *theatre) screen() *image.RGBA {
	s.t.Helper()
	d, err := x11.Open(s.t.Context(), s.env)
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close()
	m, err := d.Look()
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// windows reports whether the demo's window is on the screen.
func (s *theatre) window() bool {
	s.t.Helper()
	d, err := x11.Open(s.t.Context(), s.env)
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close()
	w, err := d.Find(windowTitle, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return w != 0
}

// differing counts the pixels that differ between two pictures.
func differing(a, b image.Image) (n int) {
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if a.At(x, y) != b.At(x, y) {
				n++
			}
		}
	}
	return n
}

// TestDemo has the demo save its note, then has another one refused.
func TestDemo(t *testing.T) {
	t.Parallel()
	s := newTheatre(t)
	before := s.screen()
	s.say("/demo", "allowed")
	first := s.picture()
	if n := differing(before, first); n < 50_000 {
		t.Errorf("first picture: got %d pixels of the demo's window, want 50000 or more", n)
	}
	s.decide("allow-once")
	second := s.picture()
	if n := differing(first, second); n < 500 {
		t.Errorf("second picture: got %d pixels of the typed command, want 500 or more", n)
	}
	end := s.until("chat", state("final"))
	if got := s.file(); got != clean(greeting) {
		t.Errorf("the saved note: got %q, want %q", got, clean(greeting))
	}
	if text := fmt.Sprint(end["message"]); !strings.Contains(text, "no model") || !strings.Contains(text, "make agent") {
		t.Errorf("last words: got %s, want that it was a demo and how to get the real agent", text)
	}
	if !s.window() {
		t.Error("after the demo: got no window, want it left open")
	}
	items := map[string]int{}
	for _, m := range s.heard {
		if p, _ := m["payload"].(map[string]any); p["stream"] == "item" {
			data := p["data"].(map[string]any)
			items[fmt.Sprint(data["name"], " ", data["phase"])]++
		}
	}
	if items["computer start"] == 0 || items["computer start"] != items["computer end"] || items["exec end"] != 2 {
		t.Errorf("items: got %v, want as many ends as starts of computer and two of exec", items)
	}
	history, _ := s.ask("chat.history", `{"sessionKey":"main"}`)
	if n := strings.Count(fmt.Sprint(history["messages"]), "image/"); n != 2 {
		t.Errorf("history: got %d pictures, want 2", n)
	}

	if err := os.Remove(filepath.Join(s.home, "Desktop", note)); err != nil {
		t.Fatal(err)
	}
	s.say("/demo", "denied")
	s.decide("deny")
	if text := fmt.Sprint(s.until("chat", state("final"))["message"]); !strings.Contains(text, "You denied it") {
		t.Errorf("last words: got %s, want that it was denied", text)
	}
	if got := s.file(); got != "" {
		t.Errorf("a refused note: got %q saved, want none", got)
	}
	s.g.Close()
	if s.window() {
		t.Error("after the stand-in: got the demo's window, want none")
	}
}

// TestDemoStops begins two demos, of which the second must leave the desktop alone, and stops the first.
func TestDemoStops(t *testing.T) {
	t.Parallel()
	s := newTheatre(t)
	s.say("/demo", "first")
	s.picture()
	s.until("exec.approval.requested", nil)
	if p, f := s.ask("chat.send", `{"sessionKey":"two","message":"/demo","idempotencyKey":"second"}`); p["status"] != "started" {
		t.Fatal(f)
	}
	second := s.until("chat", func(p map[string]any) bool { return p["state"] == "final" })
	if text := fmt.Sprint(second["message"]); second["runId"] != "second" || !strings.Contains(text, "running in another chat") {
		t.Errorf("a second demo: got %s, want that one is running", text)
	}
	if !s.window() {
		t.Error("while it waits: got no window, want one")
	}
	s.ask("chat.abort", `{"sessionKey":"main"}`)
	s.until("chat", state("aborted"))
	if s.window() {
		t.Error("after Stop: got the demo's window, want none")
	}
	s.say("/demo", "third")
	s.until("exec.approval.requested", nil)
	s.ask("chat.abort", `{"sessionKey":"main"}`)
	s.until("chat", state("aborted"))
}

func TestDemoWithoutDesktop(t *testing.T) {
	t.Parallel()
	u := begin(t, adminScopes, `"tool-events","approvals"`)
	u.say("/demo", "run")
	asked := u.until("exec.approval.requested", nil)
	u.ask("exec.approval.resolve", fmt.Sprintf(`{"id":%q,"decision":"deny"}`, asked["id"]))
	if text := fmt.Sprint(u.until("chat", state("final"))["message"]); !strings.Contains(text, "no desktop") || !strings.Contains(text, "You denied it") {
		t.Errorf("got %s, want that there is no desktop, and an approval", text)
	}
}

// TestDemoWaitsWhileHeld takes mouse and keyboard while the demo works: every fake input gets an error of the X server.
func TestDemoWaitsWhileHeld(t *testing.T) {
	t.Parallel()
	s := newTheatre(t)
	r := newRelay(t, s.env["DISPLAY"])
	s.env["DISPLAY"] = r.display
	r.held.Store(true)
	s.say("/demo", "run")
	said := func(p map[string]any) bool {
		return strings.Contains(fmt.Sprint(p["data"]), "The user has the mouse and keyboard.")
	}
	s.until("agent", said)
	r.held.Store(false)
	s.picture()
	r.held.Store(true)
	s.decide("allow-once")
	s.until("agent", said)
	r.held.Store(false)
	s.until("chat", state("final"))
	if got := s.file(); got != clean(greeting) {
		t.Errorf("the note: got %q, want %q", got, clean(greeting))
	}
}

// relay passes X connections on. While held, it makes the requests of XTEST invalid.
type relay struct {
	t       *testing.T
	display string
	held    atomic.Bool
}

func newRelay(t *testing.T, to string) *relay {
	number := 1000 + os.Getpid()%30_000
	path := fmt.Sprintf("/tmp/.X11-unix/X%d", number)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, display: fmt.Sprintf(":%d", number)}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", "/tmp/.X11-unix/X"+strings.TrimPrefix(to, ":"))
			if err != nil {
				client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { client.Close(); server.Close() })
			all.Go(func() { defer client.Close(); _, _ = io.Copy(client, server) })
			all.Go(func() { defer server.Close(); r.pass(bufio.NewReader(client), server) })
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); all.Wait() })
	return r
}

func (r *relay) pass(from *bufio.Reader, to io.Writer) {
	head := make([]byte, 12)
	_, err := io.ReadFull(from, head)
	size := func(at int) int64 { return (int64(binary.LittleEndian.Uint16(head[at:])) + 3) &^ 3 }
	if err == nil {
		_, err = to.Write(head)
	}
	if err == nil {
		_, err = io.CopyN(to, from, size(6)+size(8))
	}
	for err == nil {
		request, bad := from.Peek(4)
		if bad != nil {
			return
		}
		length := 4 * int64(binary.LittleEndian.Uint16(request[2:]))
		if length == 0 { // a big request
			if request, bad = from.Peek(8); bad != nil {
				return
			}
			length = 4 * int64(binary.LittleEndian.Uint32(request[4:]))
		}
		// No other extension's request in use has XTEST's shape.
		if request[0] >= 128 && request[1] == 2 && length == 36 && r.held.Load() {
			request[0] = 255
		}
		_, err = io.CopyN(to, from, length)
	}
}
