package httpapi

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/commands"
)

// TestSuspendedAccount suspends an account with open connections.
func TestSuspendedAccount(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	id := f.running(ada, "one")
	f.caughtUp()
	ticket := func() string {
		return f.want(201, call{method: "POST", path: "/api/instances/" + id + "/tickets", token: ada.access, body: `{"kind":"vnc"}`}).field(t, "ticket")
	}
	dial := func(ticket string) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), f.url+"/api/instances/"+id+"/vnc", &websocket.DialOptions{
			Subprotocols: []string{"binary", "ticket." + ticket}, HTTPHeader: http.Header{"Origin": {"https://app.example.com"}},
		})
	}
	socket, _, err := dial(ticket())
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	f.clock.advance(time.Second)
	unused := ticket()
	events := f.stream(t, ada.access, "/api/events", "")

	c := &commands.Suspensions{Log: f.guard.Log}
	if err := c.Suspend(t.Context(), ada.account, ""); err != nil {
		t.Fatal(err)
	}
	at := f.head()
	f.server.Sessions().Suspended(ada.account, at, true) // as an event of the log does
	f.server.Sessions().Suspended(ada.account, at-1, false)

	within, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if _, _, err := socket.Read(within); websocket.CloseStatus(err) != 4401 {
		t.Errorf("the socket: got %v, want close code 4401", err)
	}
	events.end()
	f.want(401, call{method: "GET", path: "/api/auth/me", token: ada.access})
	f.want(200, call{method: "GET", path: "/api/auth/me", token: eve.access})
	if _, res, err := dial(unused); err == nil || res == nil || res.StatusCode != 401 {
		t.Errorf("an earlier ticket: got %v, %v, want 401", res, err)
	}
	f.want(401, call{method: "POST", path: "/api/auth/refresh", body: map[string]string{"refresh_token": ada.refresh}})
	f.want(401, login("ada@example.com", "wrong password"))
	if a := f.want(403, login("ada@example.com", canary)); a.field(t, "code") != "account_suspended" {
		t.Errorf("log-in: got %s, want account_suspended", a.body)
	}

	// A server that starts later finds the suspension in the read model.
	fresh, err := New(f.server.cfg.withMetrics())
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Preload(t.Context()); err != nil || !fresh.sessions.IsRevoked("any session", ada.account) || fresh.sessions.IsRevoked(eve.session, eve.account) {
		t.Errorf("preload: got %v, ada %v and eve %v, want no error, true and false", err, fresh.sessions.IsRevoked("any session", ada.account), fresh.sessions.IsRevoked(eve.session, eve.account))
	}
	if err := c.Resume(t.Context(), ada.account); err != nil {
		t.Fatal(err)
	}
	f.server.Sessions().Suspended(ada.account, f.head(), false)
	f.server.Sessions().Suspended(ada.account, at, true) // late, from a read model that is behind
	f.want(200, login("ada@example.com", canary))
}

// withMetrics is the configuration for another server.
func (c Config) withMetrics() Config {
	c.Metrics = nil
	return c
}
