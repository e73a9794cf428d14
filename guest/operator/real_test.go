package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// real is an OpenClaw gateway with a model of the test.
type real struct {
	t     *testing.T
	dir   string
	addr  string
	user  *syscall.Credential // nil: the test's own
	cmd   *exec.Cmd
	ended chan struct{}
}

func newReal(t *testing.T) *real {
	return newRealWith(t, t.TempDir(), nil, map[string]any{"ask": "always", "security": "full", "host": "gateway"})
}

// newRealWith starts a gateway with a folder and a user of its own and rules for its commands.
func newRealWith(t *testing.T, dir string, user *syscall.Credential, rules map[string]any) *real {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("needs OPENCLAW=real, and openclaw on the PATH")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &real{t: t, dir: dir, user: user, addr: l.Addr().String()}
	l.Close()
	model := httptest.NewServer(http.HandlerFunc(model))
	t.Cleanup(model.Close)
	config, err := json.Marshal(map[string]any{
		"models": map[string]any{"providers": map[string]any{"fake": map[string]any{
			"baseUrl": model.URL + "/v1", "apiKey": "none", "api": "openai-completions", "models": []any{map[string]any{"id": "scripted", "name": "scripted", "cost": map[string]any{"input": 1, "output": 10, "cacheRead": 0, "cacheWrite": 0}}},
		}}},
		"agents": map[string]any{"defaults": map[string]any{
			"workspace": filepath.Join(r.dir, "workspace"), "heartbeat": map[string]any{"every": "0m"}, "model": map[string]any{"primary": "fake/scripted"},
		}},
		"tools":   map[string]any{"exec": rules},
		"plugins": map[string]any{"entries": map[string]any{"memory-core": map[string]any{"config": map[string]any{"dreaming": map[string]any{"enabled": false}}}}}, // as agentconfig
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "openclaw.json"), config, 0o666); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(func() {
		r.end(syscall.SIGKILL)
		if t.Failed() {
			t.Log(r.log())
		}
	})
	return r
}

func (r *real) start() {
	r.t.Helper()
	_, port, _ := net.SplitHostPort(r.addr)
	cmd := exec.Command("openclaw", "gateway", "run", "--allow-unconfigured", "--bind", "loopback", "--port", port)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "LANG=C.UTF-8", "OPENCLAW_STATE_DIR=" + r.dir, "OPENCLAW_GATEWAY_TOKEN=" + hostile.Token,
		"OPENCLAW_DISABLE_BONJOUR=1", "OPENCLAW_SKIP_CHANNELS=1", "OPENCLAW_NO_RESPAWN=1",
	}
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true, Credential: r.user}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	log.Close()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	r.cmd, r.ended = cmd, ended
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(4 * time.Minute); ; {
		if res, err := plain.Get("http://" + r.addr + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ended:
			r.t.Fatalf("the gateway ended: %s", r.log())
		case <-late:
			r.t.Fatalf("the gateway does not get ready: %s", r.log())
		}
	}
}

var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (r *real) log() string {
	b, _ := os.ReadFile(filepath.Join(r.dir, "log"))
	return string(b[max(0, len(b)-4000):])
}

// end sends the signal and waits for the end.
func (r *real) end(s syscall.Signal) {
	_ = syscall.Kill(-r.cmd.Process.Pid, s)
	<-r.ended
}

func (r *real) dial(ctx context.Context) (func(context.Context, net.Conn) error, error) {
	to, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c net.Conn) error { return pipe.Join(ctx, c, to) }, nil
}

var order = regexp.MustCompile(`(RUN|SLOWLY)<([^>]*)>`)

// model is a provider whose model runs the command of RUN<command>, writes for long at SLOWLY<>, and repeats a result.
func model(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Messages []struct {
			Role    string
			Content json.RawMessage
		}
		Tools []json.RawMessage
	}
	_ = json.NewDecoder(r.Body).Decode(&q)
	what, result := []string{"", "", ""}, ""
	for _, m := range q.Messages {
		if found := order.FindStringSubmatch(string(m.Content)); m.Role == "user" && found != nil {
			what, result = found, ""
		}
		if m.Role == "tool" {
			result = string(m.Content)
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	say := func(delta map[string]any, end any) {
		b, _ := json.Marshal(map[string]any{"id": "c", "object": "chat.completion.chunk", "model": "scripted", "choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": end}}})
		fmt.Fprintf(w, "data: %s\n\n", b)
		w.(http.Flusher).Flush()
	}
	end := "stop"
	switch {
	case result != "":
		say(map[string]any{"role": "assistant", "content": "Result: " + result}, nil)
	case what[1] == "RUN" && len(q.Tools) > 0:
		args, _ := json.Marshal(map[string]string{"command": what[2]})
		say(map[string]any{"role": "assistant", "tool_calls": []any{map[string]any{"index": 0, "id": fmt.Sprint("call_", time.Now().UnixNano()), "type": "function", "function": map[string]string{"name": "exec", "arguments": string(args)}}}}, nil)
		end = "tool_calls"
	case what[1] == "SLOWLY" && len(q.Tools) > 0:
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 300 { // the gateway drains meanwhile
			say(map[string]any{"role": "assistant", "content": "word "}, nil)
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	default:
		say(map[string]any{"role": "assistant", "content": "Hello."}, nil)
	}
	say(map[string]any{}, end)
	usage(w)
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// TestRealGateway plays what the guest is for against OpenClaw itself.
func TestRealGateway(t *testing.T) {
	r := newReal(t)
	m := operateLooking(t, r.dial, time.Second)
	m.dial = r.guarded
	p := m.connected()
	c := m.client()
	for decision, want := range map[string]string{"allow-once": "Result: ", "deny": "user-denied"} {
		c.say("RUN<echo said-"+decision+">", decision)
		asked := p.until("exec.approval.requested")
		params := fmt.Sprintf(`{"id":%q,"decision":%q}`, asked["id"], decision)
		if a := p.ask("exec.approval.resolve", params); !a.OK {
			t.Errorf("%s: got %s, want it accepted", decision, a.Error)
		}
		if got := p.until("exec.approval.resolved"); got["id"] != asked["id"] || got["decision"] != decision {
			t.Errorf("resolved: got %v, want %v and %s", got, asked["id"], decision)
		}
		if text := fmt.Sprint(c.ended(decision)["message"]); !strings.Contains(text, want) || !strings.Contains(text, "said-"+decision) {
			t.Errorf("%s: got %s, want %q", decision, text, want)
		}
	}

	c.say("SLOWLY<>", "slow")
	c.until(func(f map[string]any) bool {
		p, _ := f["payload"].(map[string]any)
		return f["event"] == "chat" && p["state"] == "delta"
	})
	other := m.client()
	other.send("chat.abort", `{"sessionKey":"agent:main:main","runId":"slow"}`)
	refused := other.until(func(f map[string]any) bool { return f["id"] == "chat.abort" })
	if text := fmt.Sprint(refused["error"]); !strings.Contains(text, "unauthorized") {
		t.Errorf("stop from another connection: got %v, want unauthorized", refused)
	}
	if a := p.ask("chat.abort", `{"sessionKey":"agent:main:main","runId":"slow"}`); object(a.Payload)["aborted"] != true {
		t.Errorf("stop through the operator: got %s %s, want aborted", a.Payload, a.Error)
	}
	if got := c.ended("slow")["state"]; got != "aborted" {
		t.Errorf("the run: got %v, want aborted", got)
	}

	asker := r.asker(m)
	asker.send("exec.approval.request", `{"command":"id","host":"gateway","sessionKey":"agent:main:main","timeoutMs":3000,"twoPhase":true}`)
	asked := p.until("exec.approval.requested")
	if got := p.until("exec.approval.resolved"); got["id"] != asked["id"] || got["status"] != "expired" {
		t.Errorf("an approval without an answer: got %v, want %v expired", got, asked["id"])
	}
	asker.send("question.request", `{"sessionKey":"agent:main:main","questions":[{"questionId":"q","header":"Q","question":"Which?","options":[{"label":"A"},{"label":"B"}]}]}`)
	asked = p.until("question.requested")
	if a := p.ask("question.resolve", fmt.Sprintf(`{"id":%q,"answers":{"answers":{"q":["A"]}}}`, asked["id"])); !a.OK {
		t.Errorf("an answer: got %s, want it accepted", a.Error)
	}
	if got := p.until("question.resolved"); got["status"] != "answered" {
		t.Errorf("the question: got %v, want answered", got)
	}

	c.say("RUN<echo lost>", "lost")
	asked = p.until("exec.approval.requested")
	r.end(syscall.SIGKILL)
	r.start()
	if got := p.until("exec.approval.resolved"); got["id"] != asked["id"] || got["status"] != "cancelled" || got["reason"] != "gateway-restart" {
		t.Errorf("after a restart: got %v, want %v cancelled because of gateway-restart", got, asked["id"])
	}
	// In a session of its own: the gateway continues the main one, without most tools.
	m.client().send("chat.send", `{"sessionKey":"agent:main:two","message":"RUN<echo settled>","idempotencyKey":"settled"}`)
	p.until("exec.approval.requested")
	began := time.Now()
	m.o.Settle(t.Context())
	r.end(syscall.SIGTERM)
	if took := time.Since(began).Round(time.Second); took > 2*time.Minute { // it drains for 315 s with an open approval
		t.Errorf("stopped after %v, want less than 2m", took)
	} else {
		t.Logf("stopped after %v", took)
	}
}

// The gateway lists the chats in which a run is in progress.
func TestRealGatewayListsRuns(t *testing.T) {
	r := newReal(t)
	m := operateLooking(t, r.dial, time.Second)
	m.dial = r.guarded
	p := m.connected()
	c := m.client()
	c.say("SLOWLY<>", "slow")
	m.state(func(s wire.State) bool { return s.Runs == 1 })
	if a := p.ask("chat.abort", `{"sessionKey":"agent:main:main","runId":"slow"}`); object(a.Payload)["aborted"] != true {
		t.Errorf("stop: got %s %s, want aborted", a.Payload, a.Error)
	}
	m.state(func(s wire.State) bool { return s.Runs == 0 })
}

// asker is a client that may ask people, as an agent does.
func (r *real) asker(m *machine) *client {
	direct := *m
	direct.dial = r.dial
	return direct.clientWith(`"operator.admin"`)
}

// guarded connects as the control plane does.
func (r *real) guarded(ctx context.Context) (func(context.Context, net.Conn) error, error) {
	serve, err := r.dial(ctx)
	return operator.Guard(hostile.Token, hostile.Token, serve), err
}

// A gateway that already drains, as when the machine stops, still takes the guest's denials, and then ends.
func TestRealGatewaySettlesWhileItDrains(t *testing.T) {
	r := newReal(t)
	m := operateLooking(t, r.dial, time.Second)
	m.dial = r.guarded
	p := m.connected()
	m.client().send("chat.send", `{"sessionKey":"agent:main:main","message":"RUN<echo settled>","idempotencyKey":"settled"}`)
	p.until("exec.approval.requested")
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGTERM)
	time.Sleep(8 * time.Second) // the guest looks every 5 s
	select {
	case <-r.ended:
		t.Skip("it did not wait for the approval")
	default:
	}
	m.o.Settle(t.Context())
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		t.Error("it still drains after a minute")
	}
}
