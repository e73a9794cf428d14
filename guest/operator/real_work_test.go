package operator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/operator"
)

// The real gateway's schedule and costs are read: when its next job is due, what a job and a message do, and what a call of a
// model costs.
func TestRealGatewayWork(t *testing.T) {
	r := newRealWith(t, t.TempDir(), nil, map[string]any{"ask": "off", "security": "full", "host": "gateway"})
	m := operateLooking(t, r.dial, time.Second)
	m.dial = r.guarded
	m.connected()
	work := func(what string, ok func(operator.Work) bool) operator.Work {
		t.Helper()
		for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
			w := m.o.Work()
			if ok(w) {
				return w
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: got %+v", what, w)
			}
		}
	}
	if w := work("known", func(w operator.Work) bool { return w.Known }); w.HasNext || w.Cost != 0 {
		t.Errorf("at first: got %+v, want no job and no cost", w)
	}
	due := time.Now().Add(2 * time.Hour)
	added, err := m.o.Ask(t.Context(), "cron.add", map[string]any{
		"name": "later", "schedule": map[string]any{"kind": "at", "at": due.UTC().Format(time.RFC3339)},
		"sessionTarget": "isolated", "wakeMode": "now", "payload": map[string]any{"kind": "agentTurn", "message": "Say hello."},
	})
	if err != nil {
		t.Fatal(err)
	}
	if w := work("a job", func(w operator.Work) bool { return w.HasNext }); (w.Next - time.Until(due)).Abs() > 5*time.Second {
		t.Errorf("next job: got in %v, want in %v", w.Next, time.Until(due))
	}
	var job struct{ ID string }
	if err := json.Unmarshal(added, &job); err != nil || job.ID == "" {
		t.Fatalf("got %s, %v, want a job with an id", added, err)
	}
	if _, err := m.o.Ask(t.Context(), "cron.remove", map[string]any{"id": job.ID}); err != nil {
		t.Error(err)
	}
	work("no job", func(w operator.Work) bool { return !w.HasNext })

	c := m.client()
	c.say("Hello.", "costs")
	c.ended("costs")
	// 1,000 tokens for a dollar a million, and 100 for ten.
	if w := work("a cost", func(w operator.Work) bool { return w.Cost > 0 }); w.Cost != 2000 || w.Worked.IsZero() {
		t.Errorf("got %+v, want a cost of 2,000 micro-dollars and a run", w)
	}
}

// usage says in the last chunk how many tokens an answer took.
func usage(w http.ResponseWriter) {
	fmt.Fprint(w, strings.TrimSpace(`
data: {"id":"c","object":"chat.completion.chunk","model":"scripted","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}
`), "\n\n")
}
