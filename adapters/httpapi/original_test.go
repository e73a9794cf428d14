package httpapi

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// What the original's clients rely on, and other clients need not know. e2e replays their calls.

func TestCreateStoresKeys(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	keys := func() string {
		t.Helper()
		f.caughtUp()
		var list struct {
			Keys []struct{ Provider, Last4 string }
		}
		f.want(200, call{method: "GET", path: "/api/user/api-keys/", token: ada.access}).into(t, &list)
		var all []string
		for _, k := range list.Keys {
			all = append(all, k.Provider+" "+k.Last4)
		}
		return strings.Join(all, ", ")
	}
	create := call{method: "POST", path: "/api/instances", token: ada.access, header: map[string]string{"Idempotency-Key": "one"},
		body: `{"name":"Desk","instance_type":"t3.large","api_keys":{"ANTHROPIC_API_KEY":"` + canary + `","OpenAI":" sk-open-1111 "}}`}
	before := f.head()
	for what, body := range map[string]string{
		"too many":           `{"api_keys":` + manyNames(maxTable+1) + `}`,
		"one name twice":     `{"api_keys":{"openai":"` + canary + `","openai":"` + canary + `"}}`,
		"unknown provider":   `{"api_keys":{"ANTHROPIC_API_KEY":"` + canary + `","ACME_API_KEY":"` + canary + `"}}`,
		"one key refused":    `{"api_keys":{"ANTHROPIC_API_KEY":"` + canary + `","openai":"short"}}`,
		"one provider twice": `{"api_keys":{"ANTHROPIC_API_KEY":"` + canary + `","anthropic":"` + canary + `"}}`,
		"unknown type":       `{"instance_type":"huge","api_keys":{"ANTHROPIC_API_KEY":"` + canary + `"}}`,
	} {
		a := f.want(422, call{method: "POST", path: "/api/instances", token: ada.access, body: body})
		if what == "unknown provider" && (!strings.Contains(a.field(t, "detail"), "ACME_API_KEY") || a.field(t, "field") != "api_keys.ACME_API_KEY") {
			t.Errorf("%s: got %s, want a problem that names ACME_API_KEY", what, a.body)
		}
		if code := map[string]string{"too many": "too_many_fields", "one name twice": "duplicate_field"}[what]; code != "" && a.field(t, "code") != code {
			t.Errorf("%s: got %s, want %s", what, a.body, code)
		}
		if f.head() != before {
			t.Fatalf("%s: got %d new events, want none", what, f.head()-before)
		}
	}
	first := f.want(202, create)
	if bytes.Contains(first.body, []byte(canary)) {
		t.Errorf("got an answer with a key: %s", first.body)
	}
	if got, want := keys(), "anthropic cdef, openai 1111"; got != want {
		t.Errorf("keys: got %q, want %q", got, want)
	}
	before = f.head()
	again := f.want(202, create)
	if !bytes.Equal(first.body, again.body) || again.header.Get("Idempotency-Replayed") != "true" || f.head() != before {
		t.Errorf("replay: got %s and %d new events, want %s and none", again.body, f.head()-before, first.body)
	}
	create.body = strings.Replace(create.body.(string), "sk-open-1111", "sk-open-2222", 1)
	if a := f.want(422, create); a.field(t, "code") != "idempotency_key_reused" {
		t.Errorf("another key under the same Idempotency-Key: got %s, want idempotency_key_reused", a.body)
	}
	f.want(202, call{method: "POST", path: "/api/instances/", token: ada.access, body: `{"api_keys":{}}`})
	f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: `{"api_keys":null}`})
	// At the quota nothing is stored, either.
	f.want(409, call{method: "POST", path: "/api/instances", token: ada.access, body: `{"api_keys":{"XAI_API_KEY":"sk-xai-3333"}}`})
	if got, want := keys(), "anthropic cdef, openai 1111"; got != want {
		t.Errorf("keys after refusals: got %q, want %q", got, want)
	}
}

func TestProvidersInAnyCase(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	path := "/api/user/api-keys/"
	for _, name := range []string{"ANTHROPIC", "Anthropic", "ANTHROPIC_API_KEY", "anthropic"} {
		if a := f.want(201, call{method: "POST", path: path, token: ada.access, body: `{"provider":"` + name + `","api_key":"` + canary + `"}`}); a.field(t, "provider") != "anthropic" {
			t.Errorf("%s: got %s, want provider anthropic", name, a.body)
		}
	}
	if a := f.want(200, call{method: "PUT", path: path + "ANTHROPIC/", token: ada.access, body: `{"api_key":"sk-other-9999"}`}); a.field(t, "provider") != "anthropic" {
		t.Errorf("got %s, want provider anthropic", a.body)
	}
	f.want(204, call{method: "DELETE", path: path + "Anthropic", token: ada.access})
	f.want(404, call{method: "DELETE", path: path + "anthropic", token: ada.access})
}

// The original's clients show a desktop only if it runs and has an address.
func TestARunningLocalDesktopHasAnAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		region, address string
		status          instance.Status
		want            string
	}{
		{machines.Local, "", instance.Running, "127.0.0.1"},
		{machines.Local, "", instance.Launching, ""},
		{machines.Local, "", instance.Stopped, ""},
		{"eu-central-1", "", instance.Running, ""},
		{"eu-central-1", "203.0.113.7", instance.Running, "203.0.113.7"},
	} {
		got := ""
		if v := view(projections.Instance{Region: c.region, Address: c.address, Status: c.status}); v.PublicIP != nil {
			got = *v.PublicIP
		}
		if got != c.want {
			t.Errorf("%+v: got %q, want %q", c, got, c.want)
		}
	}
}

// The original's clients put the access token into the URL. They get the reason, and the log does not get the token.
func TestATokenInTheURLIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	for _, kind := range []string{"vnc", "cloudbot"} {
		for _, origin := range []string{ours, ""} {
			header := map[string]string{"Origin": origin}
			if origin == "" {
				header = nil
			}
			conn, res := f.dial(t, "/api/instances/"+id+"/"+kind+"?token="+ada.access, nil, header)
			if conn != nil || res.StatusCode != 401 {
				t.Fatalf("%s: got %d, want 401", kind, res.StatusCode)
			}
			var body bytes.Buffer
			_, _ = body.ReadFrom(res.Body)
			if !strings.Contains(body.String(), `"token_in_url"`) || !strings.Contains(body.String(), "/tickets") || strings.Contains(body.String(), ada.access) {
				t.Errorf("%s: got %s, want the code token_in_url, how to get a ticket, and no token", kind, body.String())
			}
		}
	}
	if strings.Contains(f.log.String(), ada.access) {
		t.Error("got the token in the server's log, want none")
	}
}

// A frontend of another origin sends a token with its calls, and reads the events with fetch.
func TestAFrontendOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	for path, method := range map[string]string{"/api/instances": "POST", "/api/instances/": "POST", "/api/events": "GET", "/api/user/api-keys/openai": "DELETE"} {
		a := f.do(call{method: "OPTIONS", path: path, header: map[string]string{
			"Origin": ours, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type,last-event-id",
		}})
		allowed := strings.ToLower(a.header.Get("Access-Control-Allow-Headers"))
		for _, name := range []string{"authorization", "content-type", "last-event-id", "idempotency-key"} {
			if !strings.Contains(allowed, name) {
				t.Errorf("%s: got allowed headers %q, want %s among them", path, allowed, name)
			}
		}
		if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != ours || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), method) {
			t.Errorf("%s: got %d %v, want 204 that allows %s to %s", path, a.status, a.header, method, ours)
		}
	}
	a := f.want(200, call{method: "GET", path: "/api/instances", token: ada.access, header: map[string]string{"Origin": ours}})
	if a.header.Get("Access-Control-Allow-Origin") != ours {
		t.Errorf("got %v, want an answer that %s may read", a.header, ours)
	}
	if a := f.want(200, call{method: "GET", path: "/api/events", token: ada.access, header: map[string]string{"Origin": ours}}); a.header.Get("Access-Control-Allow-Origin") != ours {
		t.Errorf("events: got %v, want a stream that %s may read", a.header, ours)
	}
}
