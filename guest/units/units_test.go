package units

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// systemd records the commands it gets.
type systemd struct {
	mu   sync.Mutex
	told []string
	news chan string
	fail error // of the next command, once
}

func newSystemd() *systemd { return &systemd{news: make(chan string, 100)} }

func (s *systemd) control(_ context.Context, args ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := strings.Join(args, " ")
	s.told = append(s.told, line)
	s.news <- line
	err := s.fail
	s.fail = nil
	return err
}

func (s *systemd) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-s.news:
		if got != want {
			t.Fatalf("got command %q for systemd, want %q", got, want)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("got no command %q for systemd, want one", want)
	}
}

type keys struct {
	mu      sync.Mutex
	env     map[string]string
	changed chan struct{}
}

func (k *keys) Env() (map[string]string, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.env, k.changed
}

func (k *keys) set(env map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.env = env
	close(k.changed)
	k.changed = make(chan struct{})
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// A unit that systemd stops would drain for minutes with an open approval. One that is only slow keeps what waits.
func TestAgentSettlesWhenTheMachineStops(t *testing.T) {
	t.Parallel()
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer gateway.Close()
	for name, inactive := range map[string]error{"slow": nil, "stopping": errors.New("exit status 3")} {
		s, settled := newSystemd(), 0
		s.fail = inactive
		a := NewAgent(AgentConfig{
			Logger: slog.New(slog.DiscardHandler), Dir: t.TempDir(), Home: t.TempDir(), Addr: strings.TrimPrefix(gateway.URL, "http://"),
			Control: s.control, Settle: func(context.Context) { settled++ },
		})
		a.healthy.Store(true)
		a.watch(t.Context(), closed(), false)
		s.expect(t, "is-active --quiet cloudbot-openclaw.service")
		if want := inactive != nil; settled > 0 != want {
			t.Errorf("%s: got %d settlements, want some: %v", name, settled, want)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		a.healthy.Store(true)
		before := settled
		if a.watch(ended, closed(), false); settled != before {
			t.Errorf("%s: settled at the guest's own end, want what waits left alone", name)
		}
	}
}

// systemd gives up a unit that ended with status 78. A busy machine can be the reason, so the guest starts it again.
func TestAgentThatGaveUpIsStartedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSystemd()
		a := NewAgent(AgentConfig{Logger: slog.New(slog.DiscardHandler), Dir: t.TempDir(), Home: t.TempDir(), Addr: "no address", Control: s.control})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { a.watch(ctx, nil, false); close(done) }()
		told := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Equal(s.told, want) {
				t.Errorf("got commands %q, want %q", s.told, want)
			}
			s.told = nil
		}
		told(59 * time.Second)
		told(2*time.Second, "is-failed --quiet cloudbot-openclaw.service", "start --no-block cloudbot-openclaw.service")
		s.mu.Lock()
		s.fail = errors.New("exit status 1") // it is starting, and not failed
		s.mu.Unlock()
		told(121*time.Second, "is-failed --quiet cloudbot-openclaw.service")
		cancel()
		<-done
	})
}

func TestAgentGetsKeysAndTheirChanges(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	looks := make(chan bool, 1000)
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		looks <- ready.Load()
		if r.URL.Path != "/readyz" || !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer gateway.Close()
	s, k, dir := newSystemd(), &keys{env: map[string]string{"OPENAI_API_KEY": `a"b$c\d`}, changed: make(chan struct{})}, t.TempDir()
	c := AgentConfig{
		Installed: closed(), Arrived: closed(), Token: "tok", Keys: k, Memory: 4 << 30, Logger: slog.New(slog.DiscardHandler),
		Dir: dir, Addr: strings.TrimPrefix(gateway.URL, "http://"), Control: s.control, User: "nobody", Home: t.TempDir(),
	}
	a := NewAgent(c)
	model := func(want string) {
		t.Helper()
		if text, err := os.ReadFile(filepath.Join(c.Home, ".openclaw", "openclaw.json")); err != nil || !bytes.Contains(text, []byte(want)) {
			t.Errorf("configuration: got %s %v, want %q in it and no error", text, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()

	s.expect(t, "restart --no-block cloudbot-openclaw.service")
	model(`"openai/gpt-6-sol"`)
	file := filepath.Join(dir, "openclaw.env")
	text, err := os.ReadFile(file)
	want := "OPENCLAW_GATEWAY_TOKEN=\"tok\"\nNODE_OPTIONS=--max-old-space-size=1536\nDISPLAY=:200\nOPENAI_API_KEY=\"a\\\"b\\$c\\\\d\"\n"
	if err != nil || string(text) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, text, want)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v, want no error and 0o600", st.Mode(), err)
	}
	if _, err := a.Dial(ctx); err == nil || a.Healthy() || a.Addr() != "" {
		t.Error("got a connection before the agent is ready, want none")
	}
	ready.Store(true)
	select {
	case <-a.Up():
	case <-time.After(60 * time.Second):
		t.Fatal("timed out waiting until it is up")
	}
	k.set(map[string]string{"OPENAI_API_KEY": "new", "ANTHROPIC_API_KEY": "k", "XAI_API_KEY": "two\nlines"})
	s.expect(t, "restart --no-block cloudbot-openclaw.service")
	model(`"anthropic/claude-sonnet-5"`)
	if got := a.Has(); got["agent"] != "openclaw" || got["agent_sees"] != "desktop" || got["model"] != "anthropic/claude-sonnet-5" {
		t.Errorf("got %v, want openclaw that sees the desktop with a model", got)
	}
	for len(looks) > 0 {
		<-looks
	}
	for range 3 { // the old agent still answers
		if <-looks; a.Healthy() {
			t.Fatal("the ending agent was taken for the new one")
		}
	}
	ready.Store(false)
	for <-looks {
	}
	ready.Store(true)
	for began := time.Now(); !a.Healthy(); <-looks {
		if time.Since(began) > 20*time.Second {
			t.Fatal("timed out waiting until the new one is noticed")
		}
	}
	if text, _ := os.ReadFile(file); !bytes.Contains(text, []byte(`="new"`)) || bytes.Contains(text, []byte("XAI")) {
		t.Errorf("after the change: got %s, want []byte(`=\"new\"`) in text and no []byte(\"XAI\") in text", text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	// A restarted guest leaves an agent with the same keys alone.
	again, stop := context.WithCancel(t.Context())
	restarted := NewAgent(c)
	if got := restarted.Has(); !maps.Equal(got, a.Has()) {
		t.Errorf("restarted: got %v, want %v", got, a.Has())
	}
	go func() { done <- restarted.Run(again) }()
	s.expect(t, "start --no-block cloudbot-openclaw.service")
	stop()
	<-done
}

// TestARestartIsOwedUntilItIsMade makes systemd refuse a restart, and the guest end before it retries.
func TestARestartIsOwedUntilItIsMade(t *testing.T) {
	t.Parallel()
	s, dir := newSystemd(), t.TempDir()
	settled := 0
	a := NewAgent(AgentConfig{Logger: slog.New(slog.DiscardHandler), Dir: dir, Control: s.control, Settle: func(context.Context) { settled++ }})
	const start, restart = "start --no-block cloudbot-openclaw.service", "restart --no-block cloudbot-openclaw.service"
	hand := func(key string, fail error, want string) {
		t.Helper()
		s.fail = fail
		before := settled
		if _, err := a.hand(t.Context(), map[string]string{"OPENAI_API_KEY": key}); !errors.Is(err, fail) {
			t.Errorf("%v, want %v", err, fail)
		}
		s.expect(t, want)
		if got := settled > before; got != (want == restart) {
			t.Errorf("%s: got what waits settled: %v, want it before a restart only", want, got)
		}
	}
	refusal := errors.New("systemd is reloading")
	hand("first", nil, restart)
	hand("first", nil, start)
	hand("second", refusal, restart)
	hand("second", refusal, restart)
	a = NewAgent(a.c) // the guest restarts
	hand("second", nil, restart)
	hand("second", nil, start)
	hand("third", refusal, restart)
	hand("second", nil, restart) // changed back; whether the unit has read the change is unknown
	hand("second", nil, start)
}

func TestDesktopStartsWithItsSecretsAndComesBack(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s, dir := newSystemd(), t.TempDir()
	c := DesktopConfig{
		Installed: closed(), Password: "pass", User: "nobody", Logger: slog.New(slog.DiscardHandler), Dir: dir, Addr: addr, Control: s.control,
	}
	watched := make(chan string, 1)
	c.Windows = func(ctx context.Context, display int, auth string, ready func() bool, _ *slog.Logger) {
		watched <- fmt.Sprint(display, auth, ready())
		<-ctx.Done()
	}
	d := NewDesktop(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	const start = "start --no-block cloudbot-xvnc.service cloudbot-gate.service cloudbot-xfce.service"
	s.expect(t, start)
	if got, want := <-watched, fmt.Sprint(99, filepath.Join(dir, "desktop", "xauthority"), false); got != want {
		t.Errorf("windows watched on %q, want %q", got, want)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "desktop", "vnc")); err != nil || !bytes.Equal(text, rfb.Obscure("pass")) {
		t.Errorf("got %q %v, want no error and rfb.Obscure(\"pass\")", text, err)
	}
	cookie, err := os.ReadFile(filepath.Join(dir, "desktop", "xauthority"))
	if err != nil || len(cookie) < 16 {
		t.Errorf("got %q %v, want no error and at least 16", cookie, err)
	}
	if _, err := d.Dial(ctx); err == nil {
		t.Error("got a connection before the desktop is up, want none")
	}
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("RFB 003.008\n"))
			conn.Close()
		}
	}()
	select {
	case <-d.Up():
	case <-time.After(60 * time.Second):
		t.Fatal("timed out waiting until it is up")
	}
	l.Close()
	<-served
	s.expect(t, start) // it has ended, and is restarted
	cancel()
	<-done
	if now, _ := os.ReadFile(filepath.Join(dir, "desktop", "xauthority")); !bytes.Equal(now, cookie) {
		t.Error("the cookie of a session that may run was changed")
	}
}

// The size to which viewers return is the one that the unit starts with.
func TestDefaultSizeIsTheUnits(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../install/units/cloudbot-xvnc.service")
	if err != nil {
		t.Fatal(err)
	}
	if want := "/usr/bin/Xvnc :" + strconv.Itoa(displayNumber) + " -geometry " + defaultSize + " "; !strings.Contains(string(text), want) {
		t.Errorf("the unit starts no %q", want)
	}
}

func TestFolderMustBeInMemory(t *testing.T) {
	t.Parallel()
	memory, err := os.MkdirTemp("/dev/shm", "cloudbot-test-")
	if err != nil {
		t.Skip("there is no /dev/shm")
	}
	defer os.RemoveAll(memory)
	if err := Folder(memory); err != nil {
		t.Error(err)
	}
	disk, err := os.MkdirTemp("/var/tmp", "cloudbot-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(disk)
	if err := Folder(disk); err == nil {
		t.Error("got no error for a folder on a disk, want one")
	}
}

// A hold of the agent's input outlives the guest, in a file that the gate's unit can read.
func TestDesktopHolds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := NewDesktop(DesktopConfig{Dir: dir})
	if err := d.Hold(time.Minute); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dir, "held"))
	if err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("got file %v %v, want one of mode 0644", st, err)
	}
	later := NewDesktop(DesktopConfig{Dir: dir})
	if got := later.Held(); got <= 0 || got > time.Minute {
		t.Errorf("a restarted guest: got %v, want up to a minute", got)
	}
	if err := later.Hold(0); err != nil || d.Held() != 0 {
		t.Errorf("ended: got %v and still %v, want 0", err, d.Held())
	}
}
