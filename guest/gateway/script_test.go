package gateway

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

var update = flag.Bool("update", false, "rewrite the recorded frames")

// user is a client with all capabilities that the control plane requests.
type user struct {
	t     *testing.T
	c     *websocket.Conn
	n     int
	heard []map[string]any
}

const (
	allScopes   = `"operator.read","operator.write","operator.approvals","operator.questions"`
	adminScopes = allScopes + `,"operator.admin"`
)

func connectedTo(t *testing.T, url, scopes, caps string) *user {
	t.Helper()
	c, err := dial(t, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(4 << 20)
	u := &user{t: t, c: c}
	if r := ask(t, c, `{"type":"req","id":"c","method":"connect","params":{"minProtocol":4,"maxProtocol":4,"client":{"id":"gateway-client","mode":"backend"},"role":"operator","scopes":[`+scopes+`],"caps":[`+caps+`],"auth":{"token":"right"}}}`); r["ok"] != true {
		t.Fatal(r)
	}
	return u
}

func begin(t *testing.T, scopes, caps string) *user {
	t.Helper()
	g := New(Config{Token: "right", Pace: time.Millisecond})
	g.Ready()
	return connectedTo(t, serve(t, g), scopes, caps)
}

func (u *user) next() map[string]any {
	u.t.Helper()
	m := next(u.t, u.c, "")
	if m["event"] != "connect.challenge" {
		u.heard = append(u.heard, m)
	}
	return m
}

// ask returns the answer's payload, or its error.
func (u *user) ask(method, params string) (payload, failed map[string]any) {
	u.t.Helper()
	u.n++
	id := fmt.Sprint("r", u.n)
	if err := u.c.Write(u.t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"req","id":%q,"method":%q,"params":%s}`, id, method, params)); err != nil {
		u.t.Fatal(err)
	}
	for {
		m := u.next()
		if m["id"] == id {
			payload, _ = m["payload"].(map[string]any)
			failed, _ = m["error"].(map[string]any)
			return payload, failed
		}
	}
}

// until reads up to an event whose payload matches.
func (u *user) until(event string, match func(map[string]any) bool) map[string]any {
	u.t.Helper()
	for {
		m := u.next()
		payload, _ := m["payload"].(map[string]any)
		if m["event"] == event && (match == nil || match(payload)) {
			return payload
		}
	}
}

func state(s string) func(map[string]any) bool {
	return func(p map[string]any) bool { return p["state"] == s }
}

func (u *user) say(message, key string) {
	u.t.Helper()
	if p, f := u.ask("chat.send", fmt.Sprintf(`{"sessionKey":"main","message":%q,"idempotencyKey":%q}`, message, key)); p["status"] != "started" {
		u.t.Fatal(p, f)
	}
}

// TestRecorded plays every word and compares the frames with the recordings that the dashboard's tests read.
func TestRecorded(t *testing.T) {
	t.Parallel()
	caps := `"tool-events","approvals"`
	recorded := map[string][]map[string]any{}
	for name, play := range map[string]func(*user){
		"tool":    func(u *user) { u.say("/tool", "run"); u.until("chat", state("final")) },
		"cold":    func(u *user) { u.say("/cold", "run"); u.until("chat", state("final")) },
		"replace": func(u *user) { u.say("/replace", "run"); u.until("chat", state("final")) },
		"error": func(u *user) {
			u.say("/error", "run")
			u.until("chat", state("error"))
			u.until("chat", state("error"))
		},
		"approve": func(u *user) {
			u.say("/approve", "run")
			p := u.until("exec.approval.requested", nil)
			u.ask("exec.approval.resolve", fmt.Sprintf(`{"id":%q,"decision":"allow-once"}`, p["id"]))
			u.until("chat", state("final"))
		},
		"ask": func(u *user) {
			u.say("/ask", "run")
			p := u.until("question.requested", nil)
			u.ask("question.resolve", fmt.Sprintf(`{"id":%q,"answers":{"answers":{"colour":["Blue"],"tools":["Browser","Editor"],"name":["Ada"]}}}`, p["id"]))
			u.until("chat", state("final"))
		},
		"reconnect": func(u *user) {
			u.ask("sessions.create", `{"key":"two","label":"Two"}`)
			u.say("/slow", "run")
			u.until("chat", state("delta"))
			u.ask("chat.history", `{"sessionKey":"main"}`)
			u.ask("chat.send", `{"sessionKey":"main","message":"/slow","idempotencyKey":"run"}`)
			u.ask("chat.send", `{"sessionKey":"main","message":"another","idempotencyKey":"run-2"}`)
			u.ask("chat.abort", `{"sessionKey":"main","runId":"run"}`)
			u.until("chat", state("aborted"))
		},
		"history": func(u *user) {
			u.say("/tool", "run")
			u.until("chat", state("final"))
			u.ask("chat.history", `{"sessionKey":"main"}`)
			u.ask("sessions.list", `{"limit":10}`)
		},
	} {
		u := begin(t, adminScopes, caps)
		u.heard = nil
		play(u)
		recorded[name] = normal(t, u.heard)
	}
	path := filepath.Join("..", "..", "web", "src", "chat", "testdata", "frames.json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(marshal(t, recorded), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]map[string]any
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for name, got := range recorded {
		want := want[name]
		if name == "reconnect" {
			got, want = untimed(got), untimed(want)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the frames differ from %s; go test -update ./guest/gateway rewrites them\ngot  %s\nwant %s", name, path, marshal(t, got), marshal(t, want))
		}
	}
}

// untimed removes what depends on the clock when an answer is aborted: how much of it was sent.
func untimed(frames []map[string]any) []map[string]any {
	var kept []map[string]any
	for _, f := range frames {
		payload, _ := f["payload"].(map[string]any)
		if payload["state"] == "delta" {
			continue
		}
		f, payload = maps.Clone(f), maps.Clone(payload)
		delete(f, "seq")
		delete(payload, "seq")
		if running, ok := payload["inFlightRun"].(map[string]any); ok {
			running = maps.Clone(running)
			delete(running, "text")
			payload["inFlightRun"] = running
		}
		if message, ok := payload["message"].(map[string]any); ok {
			message = maps.Clone(message)
			delete(message, "content")
			payload["message"] = message
		}
		f["payload"] = payload
		kept = append(kept, f)
	}
	return kept
}

var (
	moments = regexp.MustCompile(`"(ts|timestamp|createdAtMs|expiresAtMs|updatedAt|startedAt|endedAt)": \d+`)
	random  = regexp.MustCompile(`"[A-Z2-7]{26}"`)
)

// normal returns a recording with fixed times and ids in place of the real ones.
func normal(t *testing.T, frames []map[string]any) []map[string]any {
	b := moments.ReplaceAll(marshal(t, frames), []byte(`"$1": 1700000000000`))
	ids := map[string]string{}
	b = random.ReplaceAllFunc(b, func(id []byte) []byte {
		if ids[string(id)] == "" {
			ids[string(id)] = fmt.Sprintf(`"id-%d"`, len(ids)+1)
		}
		return []byte(ids[string(id)])
	})
	var same []map[string]any
	if err := json.Unmarshal(b, &same); err != nil {
		t.Fatal(err)
	}
	return same
}

func marshal(t *testing.T, v any) []byte {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPromptsNeedTheirScopes(t *testing.T) {
	t.Parallel()
	u := begin(t, `"operator.read","operator.write"`, `"tool-events","approvals"`)
	for _, method := range []string{"exec.approval.list", "exec.approval.resolve", "question.list", "question.resolve"} {
		if _, f := u.ask(method, `{"id":"x"}`); f == nil || !strings.Contains(f["message"].(string), "missing scope") {
			t.Errorf("%s: got %v, want f other than nil and \"missing scope\" in f[\"message\"].(string)", method, f)
		}
	}
	for i, text := range []string{"/ask", "/approve"} {
		u.say(text, fmt.Sprint("k", i))
		u.until("chat", state("final")) // a run asks with its sender's rights
	}
	u.ask("health", `{}`)
	for _, m := range u.heard {
		if m["event"] == "question.requested" || m["event"] == "exec.approval.requested" {
			t.Errorf("told without the scope: got %v, want m[\"event\"] other than \"question.requested\" and m[\"event\"] other than \"exec.approval.requested\"", m)
		}
	}
}

// Like the original, the stand-in asks only administrators that show approvals, and only they may answer.
func TestOnlyAdministratorsAreAsked(t *testing.T) {
	t.Parallel()
	g := New(Config{Token: "right", Pace: time.Millisecond})
	g.Ready()
	url := serve(t, g)
	u := connectedTo(t, url, allScopes, `"tool-events","approvals"`)
	connectedTo(t, url, adminScopes, "") // shows no approvals
	u.say("/approve", "a")
	if text := fmt.Sprint(u.until("chat", state("final"))["message"]); !strings.Contains(text, "no answer") {
		t.Errorf("without an administrator: got %s, want no answer", text)
	}
	operator := connectedTo(t, url, adminScopes, `"approvals"`)
	u.say("/approve", "b")
	id := operator.until("exec.approval.requested", nil)["id"]
	decide := func(u *user, decision string) map[string]any {
		_, f := u.ask("exec.approval.resolve", fmt.Sprintf(`{"id":%q,"decision":%q}`, id, decision))
		return f
	}
	if f := decide(u, "deny"); f["message"] != "unknown or expired approval id" {
		t.Errorf("a decision of another client: got %v, want that the id is unknown", f)
	}
	if f := decide(operator, "perhaps"); f == nil {
		t.Error("an invalid decision: got it accepted, want an error")
	}
	if f := decide(operator, "deny"); f != nil {
		t.Errorf("deny: got %v, want it accepted", f)
	}
	if f := decide(operator, "deny"); f == nil {
		t.Error("a second decision: got it accepted, want an error")
	}
	if text := fmt.Sprint(u.until("chat", state("final"))["message"]); !strings.Contains(text, "denied") {
		t.Errorf("answer: got %s, want that it was denied", text)
	}
	if slices.ContainsFunc(u.heard, func(m map[string]any) bool { return m["event"] == "exec.approval.requested" }) {
		t.Error("events of a client that is no administrator: got an approval, want none")
	}
}

func TestOnlyTheSenderOrAnAdministratorAborts(t *testing.T) {
	t.Parallel()
	g := New(Config{Token: "right", Pace: time.Millisecond})
	g.Ready()
	url := serve(t, g)
	sender, other := connectedTo(t, url, allScopes, ""), connectedTo(t, url, allScopes, "")
	for key, who := range map[string]*user{"a": sender, "b": connectedTo(t, url, adminScopes, "")} {
		sender.say("/slow", key)
		if _, f := other.ask("chat.abort", `{"sessionKey":"main"}`); f["message"] != "unauthorized" {
			t.Errorf("another client: got %v, want unauthorized", f)
		}
		if p, f := who.ask("chat.abort", `{"sessionKey":"main"}`); p["aborted"] != true {
			t.Errorf("%s: got %v %v, want it aborted", key, p, f)
		}
		sender.until("chat", state("aborted"))
	}
}

func TestAbortWithdrawsQuestions(t *testing.T) {
	t.Parallel()
	u := begin(t, allScopes, "")
	u.say("/ask", "a")
	asked := u.until("question.requested", nil)
	if _, f := u.ask("question.resolve", fmt.Sprintf(`{"id":%q,"answers":{"answers":{"colour":["Blue"]}}}`, asked["id"])); f == nil {
		t.Error("got an incomplete answer accepted, want an error")
	}
	u.ask("chat.abort", `{"sessionKey":"main","runId":"a"}`)
	if !slices.ContainsFunc(u.heard, func(m map[string]any) bool { return m["event"] == "question.resolved" }) {
		if p := u.until("question.resolved", nil); p["status"] != "cancelled" {
			t.Error(p)
		}
	}
	u.ask("chat.history", `{"sessionKey":"main"}`)
	if p, _ := u.ask("question.list", `{}`); len(p["questions"].([]any)) != 0 {
		t.Error(p)
	}
}

func TestDeletingASession(t *testing.T) {
	t.Parallel()
	u := begin(t, allScopes, "")
	p, _ := u.ask("sessions.create", `{}`)
	key := fmt.Sprintf("%q", p["key"])
	if p["key"] == mainKey {
		t.Fatal("got no new session without a key, want one")
	}
	refused := map[string]string{
		`{"key":` + key + `}`:                     "operator.admin",
		`{"key":` + key + `,"archivedOnly":true}`: "not archived",
		`{"key":"main","archivedOnly":true}`:      "main session",
	}
	for params, why := range refused {
		if _, f := u.ask("sessions.delete", params); f == nil || !strings.Contains(f["message"].(string), why) {
			t.Errorf("%s: got %v, want f other than nil and %q in f[\"message\"].(string)", params, f, why)
		}
	}
	u.ask("sessions.patch", `{"key":`+key+`,"archived":true}`)
	if p, f := u.ask("sessions.delete", `{"key":`+key+`,"archivedOnly":true}`); p["deleted"] != true {
		t.Error(p, f)
	}
	if p, _ := u.ask("sessions.list", `{}`); p["count"] != 1.0 {
		t.Error(p)
	}
}

func TestEarlierHistory(t *testing.T) {
	t.Parallel()
	u := begin(t, allScopes, "")
	for i := range 3 {
		u.say("hello", fmt.Sprint("k", i))
		u.until("chat", state("final"))
	}
	p, _ := u.ask("chat.history", `{"sessionKey":"main","limit":4}`)
	if len(p["messages"].([]any)) != 4 || p["hasMore"] != true || p["nextOffset"] != 4.0 {
		t.Error(p)
	}
	if p, _ = u.ask("chat.history", `{"sessionKey":"main","limit":4,"offset":4}`); len(p["messages"].([]any)) != 2 || p["hasMore"] != nil {
		t.Error(p)
	}
}
