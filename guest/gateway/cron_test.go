package gateway

import (
	"encoding/json"
	"testing"
	"time"
)

// administrator returns an administrator's connection.
func administrator(t *testing.T, g *Gateway) func(method, params string) map[string]any {
	t.Helper()
	g.Ready()
	c, err := dial(t, serve(t, g), nil)
	if err != nil {
		t.Fatal(err)
	}
	next(t, c, "event")
	connect := `{"type":"req","id":"1","method":"connect","params":{"minProtocol":4,"maxProtocol":4,"client":{"id":"gateway-client","mode":"backend"},"role":"operator","scopes":["operator.read","operator.admin"],"auth":{"token":"t"}}}`
	if got := ask(t, c, connect); got["ok"] != true {
		t.Fatalf("connect: got %v, want ok", got)
	}
	return func(method, params string) map[string]any {
		t.Helper()
		return ask(t, c, `{"type":"req","id":"2","method":"`+method+`","params":`+params+`}`)
	}
}

// jobs returns the jobs of a cron.list.
func jobs(t *testing.T, answer map[string]any) (list []job) {
	t.Helper()
	b, err := json.Marshal(answer["payload"])
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Jobs []job }
	if err := json.Unmarshal(b, &p); err != nil || answer["ok"] != true {
		t.Fatalf("got %v, %v, want a list of jobs", answer, err)
	}
	return p.Jobs
}

// The schedule lists its jobs, the next one first, runs each once in a session of its own, and outlives a restart.
func TestSchedule(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	g := New(Config{Token: "t", Pace: time.Millisecond, Home: home})
	call := administrator(t, g)
	if got := jobs(t, call("cron.list", `{}`)); len(got) != 0 {
		t.Fatalf("at first: got %+v, want no job", got)
	}
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	add := func(name string, at time.Time) {
		t.Helper()
		if got := call("cron.add", `{"name":"`+name+`","schedule":{"kind":"at","at":"`+at.Format(time.RFC3339Nano)+`"},"sessionTarget":"isolated","payload":{"kind":"agentTurn","message":"hello"}}`); got["ok"] != true {
			t.Fatalf("add %s: got %v, want ok", name, got)
		}
	}
	add("later", soon.Add(time.Hour))
	add("soon", soon)
	list := jobs(t, call("cron.list", `{"enabled":"enabled","sortBy":"nextRunAtMs","sortDir":"asc","limit":50}`))
	if len(list) != 2 || list[0].Name != "soon" || list[0].State.NextRunAtMs != soon.UnixMilli() || !list[0].Enabled {
		t.Fatalf("got %+v, want soon first, due at %d", list, soon.UnixMilli())
	}
	if got := call("cron.add", `{"schedule":{"kind":"cron","expr":"* * * * *"},"payload":{"kind":"agentTurn","message":"x"}}`); got["ok"] == true {
		t.Errorf("a kind that the stand-in lacks: got %v, want a refusal", got)
	}
	if got := call("cron.remove", `{"id":"`+list[0].ID+`"}`); got["ok"] != true {
		t.Errorf("remove: got %v, want ok", got)
	}
	add("due", time.Now().Add(-time.Minute))
	ran := func(call func(string, string) map[string]any) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if got := jobs(t, call("cron.list", `{}`)); len(got) == 1 && got[0].Name == "later" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the job that is due did not run within a minute")
			}
		}
	}
	ran(call)
	due, err := g.plan("missed", "hello", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.jobs[1].Schedule.At = time.Now().Add(-time.Second) // while the gateway is down
	g.jobsChangedLocked(g.jobs[1], "updated")
	g.mu.Unlock()
	g.Close()
	again := New(Config{Token: "t", Pace: time.Millisecond, Home: home})
	call = administrator(t, again)
	ran(call)
	got := call("chat.history", `{"sessionKey":"`+cronPrefix+due.ID+`"}`)
	if list, _ := got["payload"].(map[string]any)["messages"].([]any); len(list) < 2 {
		t.Errorf("the missed job's session: got %v, want a message and its answer", got)
	}
}
