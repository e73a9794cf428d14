package httpapi

import (
	"net/http"
	"strings"
	"testing"
)

// The public URL's origin may open sockets for any Host that a proxy sends. Origins are compared exactly.
func TestThePublicOriginOpensSocketsBehindAnyHost(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.PublicURL = "https://Cloud.Example.org:443" })
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	for origin, opens := range map[string]bool{
		"https://cloud.example.org":          true,
		"https://app.example.com":            true, // CORS_ORIGINS
		"http://cloud.example.org":           false,
		"https://cloud.example.org:8443":     false,
		"https://cloud.example.org.evil.net": false,
		"https://evil-cloud.example.org":     false,
		f.url:                                false, // the request's Host is ignored if the public URL is configured
	} {
		for _, kind := range []string{"vnc", "cloudbot"} {
			offer := []string{"binary", "ticket." + f.ticket(ada, id, kind, "control")}
			conn, res := f.dial(t, "/api/instances/"+id+"/"+kind, offer, map[string]string{"Origin": origin})
			if opened := conn != nil; opened != opens || !opens && res.StatusCode != 403 {
				t.Errorf("%s from %s: got opened %v, %s, want %v", kind, origin, opened, res.Status, opens)
			}
		}
	}
}

func TestOriginOf(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"https://cloud.example.org": "https://cloud.example.org", "https://CLOUD.example.org:443": "https://cloud.example.org",
		"http://cloud.example.org:80": "http://cloud.example.org", "https://cloud.example.org:80": "https://cloud.example.org:80",
		"http://[::1]:8000": "http://[::1]:8000", "": "", "cloud.example.org": "",
	} {
		if got := originOf(base); got != want {
			t.Errorf("%q: %q, want %q", base, got, want)
		}
	}
}

// A page cannot see why its socket was refused; a plain GET on the socket's path shows it.
func TestAPlainGetTellsWhatAnUpgradeWould(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.PublicURL = "https://cloud.example.org" })
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	id, starting := f.running(ada, "x"), f.create(ada, "new")
	const own = "https://cloud.example.org"
	path := "/api/instances/" + id + "/vnc"
	ask := func(path, token string, header map[string]string) (int, string) {
		t.Helper()
		a := f.do(call{method: "GET", path: path, token: token, header: header})
		if a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %s, want application/problem+json", path, a.header.Get("Content-Type"))
		}
		return a.status, a.field(t, "code")
	}
	ticket := f.ticket(ada, id, "vnc", "control")
	used := f.ticket(ada, id, "cloudbot", "control")
	if conn, res := f.dial(t, "/api/instances/"+id+"/cloudbot", []string{"binary", "ticket." + used}, map[string]string{"Origin": own}); conn == nil {
		t.Fatalf("got %s, want 101", res.Status)
	}
	for name, c := range map[string]struct {
		path, token string
		header      map[string]string
		status      int
		code        string
	}{
		"without a token":          {path, "", nil, 426, "upgrade_required"},
		"all is well":              {path, ada.access, map[string]string{headerOrigin: own}, 426, "upgrade_required"},
		"the page's origin":        {path, ada.access, map[string]string{headerOrigin: "https://other.example"}, 403, "foreign_origin"},
		"the browser's own word":   {path, ada.access, map[string]string{"Origin": "https://other.example", headerOrigin: own}, 403, "foreign_origin"},
		"a bad token":              {path, "nonsense", map[string]string{headerOrigin: own}, 401, "unauthenticated"},
		"another's machine":        {path, eve.access, map[string]string{headerOrigin: own}, 404, "instance_not_found"},
		"a machine that starts":    {"/api/instances/" + starting + "/vnc", ada.access, map[string]string{headerOrigin: own}, 503, "instance_not_running"},
		"the ticket is unused":     {path, ada.access, map[string]string{headerOrigin: own, headerTicket: ticket}, 426, "upgrade_lost"},
		"and stays so":             {path, ada.access, map[string]string{headerOrigin: own, headerTicket: ticket}, 426, "upgrade_lost"},
		"the ticket was used":      {"/api/instances/" + id + "/cloudbot", ada.access, map[string]string{headerTicket: used}, 426, "upgrade_required"},
		"a ticket of another kind": {"/api/instances/" + id + "/cloudbot", ada.access, map[string]string{headerTicket: ticket}, 426, "upgrade_required"},
		"half an upgrade":          {path, "", map[string]string{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13", "Origin": own}, 426, "upgrade_lost"},
		"half an upgrade's ticket": {path, "", map[string]string{"Sec-WebSocket-Protocol": "binary, ticket." + ticket}, 426, "upgrade_lost"},
	} {
		if status, code := ask(c.path, c.token, c.header); status != c.status || code != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, code, c.status, c.code)
		}
	}
	// The request has not used up the ticket.
	if conn, res := f.dial(t, path, []string{"binary", "ticket." + ticket}, map[string]string{"Origin": own}); conn == nil {
		t.Errorf("an unused ticket: got %s, want 101", res.Status)
	}
	f.bridges.mu.Lock()
	f.bridges.away = true
	f.bridges.mu.Unlock()
	if status, code := ask(path, ada.access, map[string]string{headerOrigin: own}); status != http.StatusBadGateway || code != "machine_unreachable" {
		t.Errorf("an unreachable machine: got %d %s, want 502 machine_unreachable", status, code)
	}
	if strings.Contains(f.log.String(), ticket) {
		t.Error("server's log: got the ticket, want none")
	}
}
