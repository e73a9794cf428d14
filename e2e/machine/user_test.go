package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// user is a user with an account.
type user struct {
	t     testing.TB
	base  string
	token string
}

// do returns the status and the body.
func (u *user) do(method, path, body string) (int, string) {
	u.t.Helper()
	req, err := http.NewRequestWithContext(u.t.Context(), method, u.base+path, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if u.token != "" {
		req.Header.Set("Authorization", "Bearer "+u.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		u.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func (u *user) must(status int, method, path, body string) string {
	u.t.Helper()
	got, text := u.do(method, path, body)
	if got != status {
		u.t.Fatalf("%s %s: status %d, want %d\n%s", method, path, got, status, text)
	}
	return text
}

func field(text, name string) string {
	var m map[string]any
	_ = json.Unmarshal([]byte(text), &m)
	return fmt.Sprint(m[name])
}

// event is one of the instance's events.
type event struct {
	at   time.Time
	typ  string
	data map[string]any
}

func (n event) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %v", strings.TrimPrefix(n.typ, "instance."), orEmpty(n.data["phase"])))
}

func orEmpty(v any) any {
	if v == nil {
		return ""
	}
	return v
}

// follow returns the account's events, from the first one, until the test ends.
func (u *user) follow() <-chan event {
	req, err := http.NewRequestWithContext(u.t.Context(), "GET", u.base+"/api/events", nil)
	if err != nil {
		u.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	req.Header.Set("Last-Event-ID", "0")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		u.t.Fatalf("events: %v %v", res, err)
	}
	all := make(chan event, 1000)
	go func() {
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			text, ok := strings.CutPrefix(lines.Text(), "data:")
			var e struct {
				Type string         `json:"type"`
				Data map[string]any `json:"data"`
			}
			if ok && json.Unmarshal([]byte(text), &e) == nil && strings.HasPrefix(e.Type, "instance.") {
				all <- event{time.Now(), e.Type, e.Data}
			}
		}
	}()
	return all
}

// bridge opens one of the instance's WebSockets with a ticket. Like a browser, it tries again while the machine is not ready:
// a busy computer's agent misses its checks.
func (u *user) bridge(ctx context.Context, id, kind string) (conn *websocket.Conn, err error) {
	for {
		if conn, err = u.bridgeOnce(ctx, id, kind); err == nil || !strings.Contains(err.Error(), `"not_ready"`) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

func (u *user) bridgeOnce(ctx context.Context, id, kind string) (*websocket.Conn, error) {
	status, text := u.do("POST", "/api/instances/"+id+"/tickets", fmt.Sprintf(`{"kind":%q,"mode":"control"}`, kind))
	if status != http.StatusCreated {
		return nil, fmt.Errorf("ticket: %d %s", status, text)
	}
	conn, res, err := websocket.Dial(ctx, u.base+"/api/instances/"+id+"/"+kind, &websocket.DialOptions{
		Subprotocols: []string{"binary", "ticket." + field(text, "ticket")}, HTTPHeader: http.Header{"Origin": {u.base}},
	})
	if err != nil {
		if res != nil {
			text, _ := io.ReadAll(res.Body)
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, err
	}
	conn.SetReadLimit(32 << 20)
	return conn, nil
}

// chat sends a message to the agent and returns its answer and the number of parts it came in.
func (u *user) chat(id, run, message string) (deltas int, text string, err error) {
	ctx, cancel := context.WithTimeout(u.t.Context(), 3*time.Minute)
	defer cancel()
	ws, err := u.bridge(ctx, id, "cloudbot")
	if err != nil {
		return 0, "", err
	}
	defer ws.CloseNow()
	type frame struct {
		ID      string `json:"id"`
		OK      bool   `json:"ok"`
		Event   string `json:"event"`
		Payload struct {
			Type         string `json:"type"`
			State        string `json:"state"`
			RunID        string `json:"runId"`
			DeltaText    string `json:"deltaText"`
			Replace      bool   `json:"replace"`
			ErrorMessage string `json:"errorMessage"`
		} `json:"payload"`
	}
	read := func() (f frame, raw string, err error) {
		_, data, err := ws.Read(ctx)
		if err == nil {
			err = json.Unmarshal(data, &f)
		}
		return f, string(data[:min(len(data), 500)]), err
	}
	say := func(id, method, params string) error {
		return ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"req","id":%q,"method":%q,"params":%s}`, id, method, params))
	}
	if hello, raw, err := read(); err != nil || hello.Payload.Type != "hello-ok" {
		return 0, "", fmt.Errorf("hello: %s %w", raw, err)
	}
	if err := say("c0", "sessions.messages.subscribe", `{"key":"agent:main:main"}`); err != nil {
		return 0, "", err
	}
	if err := say("c1", "chat.send", fmt.Sprintf(`{"sessionKey":"main","message":%q,"idempotencyKey":%q}`, message, run)); err != nil {
		return 0, "", err
	}
	for {
		f, raw, err := read()
		switch {
		case err != nil:
			return deltas, text, err
		case f.ID == "c1" && !f.OK:
			return 0, "", fmt.Errorf("chat.send refused: %s", raw)
		case f.Event != "chat" || f.Payload.RunID != run:
		case f.Payload.State == "delta":
			if deltas++; f.Payload.Replace {
				text = ""
			}
			text += f.Payload.DeltaText
		case f.Payload.State == "error":
			return deltas, text, fmt.Errorf("the agent: %s", raw)
		case f.Payload.State == "final":
			return deltas, text, nil
		}
	}
}

// await polls until ok returns true.
func await(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s", within, what)
		case <-tick.C:
		}
	}
}
