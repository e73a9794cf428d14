package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, g *Gateway) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.ServeHTTP(w, r.WithContext(ctx)) }))
	t.Cleanup(func() { g.Close(); cancel(); s.Close() })
	return s.URL
}

var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func dial(t *testing.T, url string, header http.Header) (*websocket.Conn, error) {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), strings.Replace(url, "http", "ws", 1), &websocket.DialOptions{HTTPHeader: header, HTTPClient: plain})
	if c != nil {
		t.Cleanup(func() { c.CloseNow() })
	}
	return c, err
}

func ask(t *testing.T, c *websocket.Conn, frame string) map[string]any {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
	return next(t, c, "res")
}

func next(t *testing.T, c *websocket.Conn, typ string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if typ == "" || m["type"] == typ {
			return m
		}
	}
}

func connecting(protocol, token, id string) string {
	return `{"type":"req","id":"1","method":"connect","params":{"minProtocol":` + protocol + `,"maxProtocol":` + protocol + `,"client":{"id":"` + id + `","mode":"backend"},"role":"operator","scopes":["operator.read","operator.write"],"auth":{"token":"` + token + `"}}}`
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	g := New(Config{Token: "right"})
	url := serve(t, g)
	c, err := dial(t, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := ask(t, c, connecting("4", "right", "gateway-client")); r["ok"] != false || r["error"].(map[string]any)["code"] != "UNAVAILABLE" || r["error"].(map[string]any)["retryAfterMs"] != 500.0 {
		t.Errorf("while starting: got %v, want r[\"ok\"] false, r[\"error\"].(map[string]any)[\"code\"] \"UNAVAILABLE\" and r[\"error\"].(map[string]any)[\"retryAfterMs\"] 500.0", r)
	}
	if res, err := plain.Get(url + "/readyz"); err != nil || res.StatusCode != 503 {
		t.Errorf("readyz while starting: got %v %v, want no error and 503", res, err)
	} else {
		res.Body.Close()
	}
	g.Ready()
	if res, err := plain.Get(url + "/readyz"); err != nil || res.StatusCode != 200 {
		t.Errorf("readyz: got %v %v, want no error and 200", res, err)
	} else {
		res.Body.Close()
	}
	for _, frame := range []string{connecting("3", "right", "gateway-client"), connecting("4", "wrong", "gateway-client"), connecting("4", "right", "stranger"), `{"type":"req","id":"1","method":"health"}`} {
		c, err := dial(t, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r := ask(t, c, frame); r["ok"] != false {
			t.Errorf("%s: got %v, want false", frame, r)
		}
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("%s: ended with %v, want %v", frame, err, websocket.StatusPolicyViolation)
		}
	}
	if _, err := dial(t, url, http.Header{"X-Forwarded-For": {"1.2.3.4"}}); err == nil {
		t.Error("got a request with forwarding headers accepted, want it refused")
	}
	c, err = dial(t, url, http.Header{"Origin": {"https://evil.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("a foreign origin: got %v, want %v", err, websocket.StatusPolicyViolation)
	}
}

func TestChatAndAbort(t *testing.T) {
	t.Parallel()
	g := New(Config{Token: "right", Pace: 20 * time.Millisecond, Keys: func() map[string]string { return map[string]string{"X_API_KEY": "canary"} }})
	g.Ready()
	c, err := dial(t, serve(t, g), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	if r := ask(t, c, connecting("4", "right", "gateway-client")); r["ok"] != true {
		t.Fatal(r)
	}
	if r := ask(t, c, `{"type":"req","id":"2","method":"sessions.create","params":{"key":"two","label":"Two"}}`); r["ok"] != true {
		t.Error(r)
	}
	if r := ask(t, c, `{"type":"req","id":"3","method":"sessions.list","params":{"limit":10}}`); r["payload"].(map[string]any)["count"] != 2.0 {
		t.Error(r)
	}
	if r := ask(t, c, `{"type":"req","id":"4","method":"chat.send","params":{"sessionKey":"two","message":"hello","idempotencyKey":"run"}}`); r["payload"].(map[string]any)["status"] != "started" {
		t.Fatal(r)
	}
	for next(t, c, "event")["payload"].(map[string]any)["state"] != "delta" {
	}
	// The answer and the event arrive in either order.
	if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"req","id":"5","method":"chat.abort","params":{"sessionKey":"two"}}`)); err != nil {
		t.Fatal(err)
	}
	for answered, aborted := false, false; !answered || !aborted; {
		m := next(t, c, "")
		payload, _ := m["payload"].(map[string]any)
		if m["id"] == "5" {
			answered = true
			if payload["aborted"] != true {
				t.Error(m)
			}
		}
		aborted = aborted || payload["state"] == "aborted"
	}
	if r := ask(t, c, `{"type":"req","id":"6","method":"chat.history","params":{"sessionKey":"two"}}`); len(r["payload"].(map[string]any)["messages"].([]any)) != 2 {
		t.Error(r)
	}
	if r := ask(t, c, `{"type":"req","id":"7","method":"no.such","params":{}}`); r["ok"] != false {
		t.Error(r)
	}
}
