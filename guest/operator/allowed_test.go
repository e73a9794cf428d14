package operator_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// listed returns the list, which the answer must have.
func listed(t *testing.T, a wire.OperatorLine) wire.Allowed {
	t.Helper()
	var l wire.Allowed
	if !a.OK || json.Unmarshal(a.Payload, &l) != nil {
		t.Fatalf("the list: got %v %s %s, want one", a.OK, a.Payload, a.Error)
	}
	return l
}

// allowAlways answers the next approval.
func (p *plane) allowAlways() {
	p.t.Helper()
	id := p.until("exec.approval.requested")["id"]
	if a := p.ask("exec.approval.resolve", fmt.Sprintf(`{"id":%q,"decision":"allow-always"}`, id)); !a.OK {
		p.t.Fatalf("allow-always: got %s, want it accepted", a.Error)
	}
}

func TestAlwaysAllowedIsTakenBack(t *testing.T) {
	t.Parallel()
	dial, _ := standIn(t)
	m := operate(t, dial)
	p := m.connected()
	c := m.client()
	if got := listed(t, p.ask(wire.AllowedList, `{}`)); len(got.Entries) != 0 {
		t.Errorf("at first: got %+v, want none", got)
	}
	c.say("/approve", "first")
	p.allowAlways()
	c.ended("first")
	got := listed(t, p.ask(wire.AllowedList, ``))
	if len(got.Entries) != 1 || got.Entries[0].Command != "rm -rf ~/Downloads/old" || fmt.Sprint(got.Entries[0].Programs) != "[/usr/bin/rm]" || got.Entries[0].Any {
		t.Fatalf("the list: got %+v, want the command that was allowed, with its program", got)
	}
	c.say("/approve", "second") // ends without an answer
	c.ended("second")

	id := got.Entries[0].ID
	for _, params := range []string{`{}`, `{"id":""}`, `{"id":"x","file":{}}`, `{"id":"` + id + `","baseHash":"h"}`, `[]`, `{"id":"` + id[1:] + `"}`} {
		if a := p.ask(wire.AllowedRemove, params); a.OK || !strings.Contains(string(a.Error), "INVALID_REQUEST") {
			t.Errorf("removing %s: got %v %s, want it refused", params, a.OK, a.Error)
		}
	}
	if a := p.ask(wire.AllowedList, `{"agent":"x"}`); a.OK {
		t.Error("a list with parameters: got one, want it refused")
	}
	if left := listed(t, p.ask(wire.AllowedRemove, `{"id":"`+id+`"}`)); len(left.Entries) != 0 {
		t.Errorf("after removing: got %+v, want none", left)
	}
	if a := p.ask(wire.AllowedRemove, `{"id":"`+id+`"}`); a.OK || !strings.Contains(string(a.Error), "unknown entry") {
		t.Errorf("removing it again: got %v %s, want an unknown entry", a.OK, a.Error)
	}
	c.say("/approve", "third")
	p.until("exec.approval.requested") // it asks again
}

// Only the entry goes; all else of the gateway's document stays as it is.
func TestRemovalChangesNothingElse(t *testing.T) {
	t.Parallel()
	const generated = `"argPattern":"sha256:cwd-argv:v1:aa","source":"allow-always"`
	file := `{"version":1,"socket":{"path":"/s"},"defaults":{"security":"allowlist","later":[1]},"agents":{
		"*":{"allowlist":["~/bin/*"]},
		"main":{"ask":"on-miss","allowlist":[
			{"pattern":"/usr/bin/git","id":"a",` + generated + `},{"pattern":"/usr/bin/ls","id":"b",` + generated + `},{"pattern":"=node-command:e85ae04a9104019a","id":"c","source":"allow-always"},
			{"pattern":"/usr/bin/rg","id":"d"},
			{"pattern":"/usr/bin/cat","id":"e","lastUsedAt":7,` + generated + `}],
			"mcpTools":[{"server":"docs","tool":"publish","source":"allow-always","addedAt":5}]}}}`
	f := newFake(t, map[string]string{
		"exec.approvals.get": `{"exists":true,"hash":"h1","file":` + file + `}`,
		"approval.history":   `{"items":[{"decision":"deny","presentation":{"commandText":"git --version"}},{"decision":"allow-always","presentation":{"commandText":"git --version"}}]}`,
		"exec.approvals.set": `{"hash":"h2"}`,
	})
	m := operate(t, f.dial)
	p := m.connected()
	got := listed(t, p.ask(wire.AllowedList, `{}`))
	var lines []string
	for _, e := range got.Entries {
		lines = append(lines, fmt.Sprint(e.Agent, " ", e.Command, " ", e.Programs, " ", e.Any, " ", e.Server, " ", e.Tool, " ", e.UsedAt))
	}
	want := []string{"*  [~/bin/*] true   0", "main git --version [/usr/bin/git /usr/bin/ls] false   0", "main  [/usr/bin/rg] true   0", "main  [/usr/bin/cat] false   7", "main  [] true docs publish 5"}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Fatalf("the list: got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	for i, gone := range [][]string{{`"~/bin/*"`}, {
		`{"pattern":"/usr/bin/git","id":"a",` + generated + `},`, `{"pattern":"/usr/bin/ls","id":"b",` + generated + `},`,
		`{"pattern":"=node-command:e85ae04a9104019a","id":"c","source":"allow-always"},`,
	}, {`{"pattern":"/usr/bin/rg","id":"d"},`}, {",\n\t\t\t" + `{"pattern":"/usr/bin/cat","id":"e","lastUsedAt":7,` + generated + `}`}, {`{"server":"docs","tool":"publish","source":"allow-always","addedAt":5}`}} {
		if a := p.ask(wire.AllowedRemove, `{"id":"`+got.Entries[i].ID+`"}`); !a.OK {
			t.Fatalf("removing %d: got %s, want it done", i, a.Error)
		}
		left := file
		for _, g := range gone {
			left = strings.Replace(left, g, "", 1)
		}
		var sent struct {
			BaseHash string
			File     any
		}
		var wanted any
		if err := json.Unmarshal([]byte(left), &wanted); err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(f.last("exec.approvals.set"), &sent)
		if sent.BaseHash != "h1" || fmt.Sprint(sent.File) != fmt.Sprint(wanted) {
			t.Errorf("removing %d: sent hash %q and\n%v, want h1 and\n%v", i, sent.BaseHash, sent.File, wanted)
		}
	}
}

// A gateway may answer anything.
func TestAllowedOfAHostileGateway(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(`{"pattern":"`+strings.Repeat("p", 4000)+`","source":"allow-always"},{"pattern":"=node-command:x","source":"allow-always"},`, 100)
	for name, doc := range map[string]string{
		"null": `null`, "text": `"x"`, "no agents": `{"hash":"h","file":{}}`, "agents that are a list": `{"file":{"agents":[]}}`,
		"an agent that is a text": `{"file":{"agents":{"main":"x"}}}`, "entries that are numbers": `{"file":{"agents":{"main":{"allowlist":[1,null,[]],"mcpTools":[3]}}}}`,
		"long": `{"file":{"agents":{"main":{"allowlist":[` + long + `"x"]}}}}`,
	} {
		f := newFake(t, map[string]string{"exec.approvals.get": doc, "approval.history": `[]`})
		m := operate(t, f.dial)
		p := m.connected()
		a := p.ask(wire.AllowedList, `{}`)
		if !a.OK && !strings.Contains(string(a.Error), "INVALID_REQUEST") {
			t.Errorf("%s: got %s, want a list or a refusal", name, a.Error)
		}
		if name == "long" {
			if l := listed(t, a); l.More == 0 || len(l.Entries) == 0 {
				t.Errorf("a long document: got %d entries and %d more, want both", len(l.Entries), l.More)
			}
		}
	}
	f := newFake(t, map[string]string{"exec.approvals.get": `{"hash":"h","file":{"agents":{"main":{"allowlist":["x"]}}}}`})
	m := operate(t, f.dial)
	p := m.connected()
	l := listed(t, p.ask(wire.AllowedList, `{}`))
	if a := p.ask(wire.AllowedRemove, `{"id":"`+l.Entries[0].ID+`"}`); a.OK || !strings.Contains(string(a.Error), "refused") {
		t.Errorf("a gateway that refuses the change: got %v %s, want that said", a.OK, a.Error)
	}
}

// Without the document's hash the gateway could not notice that another change came before ours.
func TestNoRemovalWithoutAHash(t *testing.T) {
	t.Parallel()
	f := newFake(t, map[string]string{
		"exec.approvals.get": `{"file":{"agents":{"main":{"allowlist":["x"]}}}}`, "exec.approvals.set": `{}`,
	})
	p := operate(t, f.dial).connected()
	l := listed(t, p.ask(wire.AllowedList, `{}`))
	if a := p.ask(wire.AllowedRemove, `{"id":"`+l.Entries[0].ID+`"}`); a.OK || f.last("exec.approvals.set") != nil {
		t.Errorf("got %v and sent %s, want a refusal and nothing sent", a.OK, f.last("exec.approvals.set"))
	}
}

// fake is a gateway that answers the named methods with fixed payloads, others with an empty list or, for a change, a refusal.
type fake struct {
	dial dialer
	mu   sync.Mutex
	sent map[string]json.RawMessage // the latest parameters by method
}

func newFake(_ *testing.T, answers map[string]string) *fake {
	f := &fake{sent: map[string]json.RawMessage{}}
	f.dial = of(hostile.Gateway{After: func(ctx context.Context, ws *websocket.Conn) {
		var all sync.WaitGroup
		defer all.Wait()
		for {
			_, b, err := ws.Read(ctx)
			if err != nil {
				return
			}
			var r struct {
				ID, Method string
				Params     json.RawMessage
			}
			_ = json.Unmarshal(b, &r)
			f.mu.Lock()
			f.sent[r.Method] = r.Params
			f.mu.Unlock()
			payload := answers[r.Method]
			ok := payload != "" || strings.HasSuffix(r.Method, ".list")
			answer := fmt.Sprintf(`{"type":"res","id":%q,"ok":%v,"payload":%s,"error":{"code":"INVALID_REQUEST"}}`, r.ID, ok, cmp.Or(payload, "[]"))
			all.Go(func() { _ = ws.Write(ctx, websocket.MessageText, []byte(answer)) }) // the pipe holds nothing
		}
	}}, nil)
	return f
}

func (f *fake) last(method string) json.RawMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[method]
}
