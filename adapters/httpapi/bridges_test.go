package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// dial opens a WebSocket; res is the answer if it is refused.
func (f *front) dial(t *testing.T, path string, protocols []string, header map[string]string) (*websocket.Conn, *http.Response) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	h := http.Header{}
	for k, v := range header {
		h.Set(k, v)
	}
	conn, res, err := websocket.Dial(ctx, f.url+path, &websocket.DialOptions{HTTPClient: f.client, HTTPHeader: h, Subprotocols: protocols})
	if err != nil && res == nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, res
}

func (f *front) ticket(u user, id, kind, mode string) string {
	f.t.Helper()
	f.clock.advance(time.Millisecond)
	return f.want(201, call{
		method: "POST", path: "/api/instances/" + id + "/tickets", token: u.access, body: map[string]string{"kind": kind, "mode": mode},
	}).field(f.t, "ticket")
}

const ours = "https://app.example.com"

func TestATicketOpensOneBridge(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	path := "/api/instances/" + id + "/vnc"
	offer := []string{"binary", "ticket." + f.ticket(ada, id, "vnc", "view")}
	conn, _ := f.dial(t, path, offer, map[string]string{"Origin": ours, "Cookie": "a=b"})
	if conn == nil || conn.Subprotocol() != "binary" {
		t.Fatalf("bridge: got %v, want one with the subprotocol binary", conn)
	}
	b, header := f.bridges.last()
	if b.Account != ada.account || b.SessionID != ada.session || b.Instance != id || b.Mode != access.ModeView || !b.ExpiresAt.After(f.clock.Now()) {
		t.Errorf("session: got %+v, want a view of %s by %s in %s", b, id, ada.account, ada.session)
	}
	for name, values := range header {
		if strings.Contains(strings.Join(values, ","), "ticket.") || name == "Cookie" || name == "Authorization" {
			t.Errorf("header of the bridge's request: got %s: %s, want no credentials", name, values)
		}
	}
	if _, res := f.dial(t, path, offer, map[string]string{"Origin": ours}); res.StatusCode != 401 {
		t.Errorf("second use of a ticket: got %d, want 401", res.StatusCode)
	}
	if strings.Contains(f.log.String(), strings.TrimPrefix(offer[1], "ticket.")) {
		t.Error("server's log: got a ticket, want none")
	}
}

func TestBridgesAreRefusedBeforeTheUpgrade(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	id, other := f.running(ada, "x"), f.running(ada, "y")
	mine := "/api/instances/" + id
	with := func(ticket string) []string { return []string{"binary", "ticket." + ticket} }
	theirs, _, _ := f.tickets.Issue(t.Context(), access.Ticket{Account: eve.account, Session: eve.session, Instance: id, Kind: access.KindVNC, Mode: access.ModeControl})
	ended := f.logIn("ada@example.com")
	stale := f.ticket(ended, id, "vnc", "control")
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: ended.access})
	bearer := map[string]string{"Authorization": "Bearer " + ada.access}

	for name, c := range map[string]struct {
		path   string
		offer  []string
		header map[string]string
		want   int
	}{
		"foreign origin with a good ticket": {mine + "/vnc", with(f.ticket(ada, id, "vnc", "control")), map[string]string{"Origin": "https://evil.example"}, 403},
		"foreign origin with a bearer":      {mine + "/vnc", []string{"binary"}, map[string]string{"Origin": "https://evil.example", "Authorization": "Bearer " + ada.access}, 403},
		"origin null":                       {mine + "/vnc", with(f.ticket(ada, id, "vnc", "control")), map[string]string{"Origin": "null"}, 403},
		"origin in another scheme":          {mine + "/vnc", with(f.ticket(ada, id, "vnc", "control")), map[string]string{"Origin": "http://app.example.com"}, 403},
		"origin as a suffix":                {mine + "/vnc", with(f.ticket(ada, id, "vnc", "control")), map[string]string{"Origin": ours + ".evil.example"}, 403},
		"no origin and a ticket":            {mine + "/vnc", with(f.ticket(ada, id, "vnc", "control")), nil, 401},
		"no credentials":                    {mine + "/vnc", []string{"binary"}, map[string]string{"Origin": ours}, 401},
		"ticket in the URL":                 {mine + "/vnc?ticket=" + f.ticket(ada, id, "vnc", "control"), []string{"binary"}, map[string]string{"Origin": ours}, 401},
		"token in the URL":                  {mine + "/vnc?access_token=" + ada.access, []string{"binary"}, nil, 401},
		"ticket of the other kind":          {mine + "/cloudbot", with(f.ticket(ada, id, "vnc", "control")), map[string]string{"Origin": ours}, 401},
		"ticket of another instance":        {"/api/instances/" + other + "/vnc", with(f.ticket(ada, id, "vnc", "control")), map[string]string{"Origin": ours}, 401},
		"ticket of an ended session":        {mine + "/vnc", with(stale), map[string]string{"Origin": ours}, 401},
		"ticket of who does not own it":     {mine + "/vnc", with(theirs), map[string]string{"Origin": ours}, 404},
		"unknown ticket":                    {mine + "/vnc", with("nonsense"), map[string]string{"Origin": ours}, 401},
		"two tickets":                       {mine + "/vnc", append(with("a"), "ticket.b"), map[string]string{"Origin": ours}, 401},
		"access token as ticket":            {mine + "/vnc", with(ada.access), map[string]string{"Origin": ours}, 401},
		"another's instance":                {mine + "/vnc", nil, map[string]string{"Authorization": "Bearer " + eve.access}, 404},
		"bad mode":                          {mine + "/vnc?mode=root", nil, bearer, 422},
	} {
		conn, res := f.dial(t, c.path, c.offer, c.header)
		if conn != nil || res.StatusCode != c.want || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d", name, res.StatusCode, res.Header.Get("Content-Type"), c.want)
		}
	}
	if b, _ := f.bridges.last(); b.Account != "" {
		t.Errorf("got an open bridge, want none: %+v", b)
	}
	f.want(426, call{method: "GET", path: mine + "/vnc", token: ada.access})
}

func TestABearerOpensABridgeFromAProgram(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	conn, res := f.dial(t, "/api/instances/"+id+"/cloudbot?mode=view", nil, map[string]string{"Authorization": "Bearer " + ada.access})
	if conn == nil {
		t.Fatalf("got %s, want a bridge", res.Status)
	}
	if b, _ := f.bridges.last(); b.Mode != access.ModeView || b.ExpiresAt.After(f.clock.Now().Add(time.Hour)) {
		t.Errorf("session: got %+v, want a view that ends with the token", b)
	}
	// The front's own host is always allowed.
	own := map[string]string{"Authorization": "Bearer " + ada.access, "Origin": f.url}
	if conn, res := f.dial(t, "/api/instances/"+id+"/vnc", nil, own); conn == nil {
		t.Errorf("got %s, want a bridge", res.Status)
	}
}

func TestOpenBridgesAreClosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		life time.Duration // remaining life of the token
		end  func(f *front, ada user, id string)
		want websocket.StatusCode
	}{
		"at log-out": {time.Hour, func(f *front, ada user, _ string) {
			f.want(204, call{method: "POST", path: "/api/auth/logout", token: ada.access})
		}, 4401},
		"when another replica ended the session": {time.Hour, func(f *front, ada user, _ string) { f.server.Sessions().Revoke(ada.session) }, 4401},
		"when the token runs out":                {500 * time.Millisecond, func(*front, user, string) {}, 4401},
		"when the instance ends":                 {time.Hour, func(f *front, _ user, id string) { f.server.Instances().Revoke(id) }, 4404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, nil)
			ada := f.signUp("ada@example.com")
			id := f.running(ada, "x")
			token, _ := f.tokens.Access(ada.account, ada.session, f.clock.Now().Add(c.life-time.Hour))
			conn, _ := f.dial(t, "/api/instances/"+id+"/vnc", nil, map[string]string{"Authorization": "Bearer " + token})
			if conn == nil {
				t.Fatal("got no bridge, want one")
			}
			c.end(f, ada, id)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != c.want {
				t.Errorf("closed with %v, want %d", err, c.want)
			}
			for len(f.server.sessions.watching())+len(f.server.gone.watching()) > 0 {
				if ctx.Err() != nil {
					t.Fatal("watchers of a closed bridge: got some, want none")
				}
				runtime.Gosched()
			}
		})
	}
}

// watching lists the ids that something is open for.
func (r *Revocations) watching() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.open {
		ids = append(ids, id)
	}
	return ids
}

func TestBridgesNeedARunningMachine(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.create(ada, "x")
	bearer := map[string]string{"Authorization": "Bearer " + ada.access}
	expect := func(status int) {
		t.Helper()
		conn, res := f.dial(t, "/api/instances/"+id+"/vnc", nil, bearer)
		if conn != nil || res.StatusCode != status || (status == 503) != (res.Header.Get("Retry-After") != "") {
			t.Errorf("%d, want %d; Retry-After %q", res.StatusCode, status, res.Header.Get("Retry-After"))
		}
		if a := f.do(call{method: "POST", path: "/api/instances/" + id + "/tickets", token: ada.access, body: `{"kind":"vnc"}`}); a.status != status {
			t.Errorf("ticket: %d, want %d", a.status, status)
		}
	}
	expect(503)
	f.happen(id, instance.LaunchAttempted{Attempt: 1}, instance.MachineLaunched{Attempt: 1, Machine: "i-1"}, instance.MachineRunning{}, instance.StopRequested{})
	expect(409)
	f.happen(id, instance.TerminationRequested{}, instance.MachineGone{}, instance.Terminated{})
	expect(409)
}

// TestHostileTicketTries repeats an invalid ticket, like a client that does not give up, behind an address that
// another user shares.
func TestHostileTicketTries(t *testing.T) {
	t.Parallel()
	f := newFront(t, behindProxy)
	ada, bob := f.signUp("ada@example.com"), f.signUp("bob@example.com")
	hers, his := f.running(ada, "hers"), f.running(bob, "his")
	header := map[string]string{"Origin": ours, "X-Forwarded-For": hostile}
	open := func(id, ticket string) int {
		_, res := f.dial(t, "/api/instances/"+id+"/vnc", []string{"binary", "ticket." + ticket}, header)
		return res.StatusCode
	}
	his1 := f.ticket(bob, his, "vnc", "control")
	began := time.Now()
	if status := open(his, his1); status != 101 {
		t.Fatalf("a valid ticket: got %d, want 101", status)
	}
	alone := time.Since(began)
	got := map[int]int{}
	for range 600 {
		got[open(hers, "wrong")]++
	}
	limit := f.server.cfg.Limits.TicketInstance.Limit
	if got[401] != limit || got[429] != 600-limit {
		t.Errorf("600 wrong tickets for one instance: %v, want %d compared", got, limit)
	}
	his2 := f.ticket(bob, his, "vnc", "control")
	began = time.Now()
	if status := open(his, his2); status != 101 {
		t.Errorf("another user's valid ticket from the same address: got %d, want 101", status)
	}
	t.Logf("another's ticket beside 600 wrong ones: %s; alone: %s", time.Since(began), alone)
	for range f.server.cfg.Limits.Ticket.Limit { // valid ones do not count
		if status := open(his, f.ticketOf(bob, his)); status != 101 {
			t.Fatalf("a valid ticket: got %d, want 101", status)
		}
	}
	// Invalid tickets for many instances reach the address's own limit.
	refused := 0
	for n := range f.server.cfg.Limits.Ticket.Limit {
		if open(fmt.Sprintf("01JZ8Q3M5T9V2X4Y6A8C0E%04d", n), "wrong") == 429 {
			refused++
		}
	}
	if refused != limit {
		t.Errorf("%d of the other wrong tickets are refused, want %d", refused, limit)
	}
}

// ticketOf issues a ticket without a request to the front.
func (f *front) ticketOf(u user, id string) string {
	f.t.Helper()
	f.clock.advance(time.Millisecond)
	ticket, _, err := f.tickets.Issue(f.t.Context(), access.Ticket{Account: u.account, Session: u.session, Instance: id, Kind: access.KindVNC, Mode: access.ModeControl})
	if err != nil {
		f.t.Fatal(err)
	}
	return ticket
}
