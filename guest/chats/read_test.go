package chats_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloudbot-ai/control-plane/guest/chats"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// copyOf returns the first copy that a gateway leads to.
func copyOf(t *testing.T, g *gateway) (c wire.SavedChats) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, chats.New(chats.Config{Ask: g.ask}))
		defer p.stop()
		c = p.next(true) // it checks the limits
	})
	return c
}

// Whatever a gateway answers, the copy is valid and within its limits, or there is none.
func TestHostileGateway(t *testing.T) {
	t.Parallel()
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	long, args, alt := quote(strings.Repeat("<ü\x01", 4200)), quote(strings.Repeat("<", 3000)), quote(strings.Repeat("ü", 900))
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	var rows, messages, parts []string
	for i := range 120 {
		rows = append(rows, fmt.Sprintf(`{"key":"k%d","label":%s,"updatedAt":%d}`, i, alt, i))
		if i >= 3 {
			continue
		}
		messages = append(messages, fmt.Sprintf(`{"role":"assistant","idempotencyKey":%s,"content":[{"type":"text","text":%s},{"type":"toolCall","id":%s,"name":%s,"arguments":{"a":%s}}]}`,
			long, long, long, long, args))
	}
	for range 300 {
		parts = append(parts, `{"type":"text","text":"x"}`, `{"type":"image","data":"`+strings.Repeat("A", 1000)+`","alt":`+alt+`}`)
	}
	many := `{"sessions":[` + strings.Join(rows, ",") + `]}`
	one := `{"sessions":[{"key":"k0","updatedAt":1e300},{"key":"k0"},{"key":7},{"key":""},null,"x",{"key":` + long + `},{"key":"old","archived":true}]}`
	for name, c := range map[string]struct{ list, history string }{
		"everything long":        {many, `{"messages":[` + strings.Join(messages, ",") + `]}`},
		"many parts":             {one, `{"messages":[{"role":"user","content":[` + strings.Join(parts, ",") + `]}]}`},
		"many short parts":       {many, `{"messages":[` + strings.TrimSuffix(strings.Repeat(`{"role":"user","content":[`+strings.TrimSuffix(strings.Repeat(`{"text":""},`, 200), ",")+`]},`, 200), ",") + `]}`},
		"other types":            {one, `{"messages":[1,null,"x",{"role":5},{"role":"user"},{"role":"user","content":{"a":1}},{"role":"user","content":[1,{"type":"text"},{"type":"text","text":5}]},{"role":"assistant","content":"x","timestamp":-1e999}]}`},
		"deep arguments":         {one, `{"messages":[{"role":"assistant","content":[{"type":"toolCall","arguments":` + deep + `}]}]}`},
		"strange numbers":        {one, `{"messages":[{"role":"user","content":"x","timestamp":-5},{"role":"user","content":"x","timestamp":1.5e300},{"role":"user","content":"x","timestamp":12.9}],"inFlightRun":{"runId":"r","text":` + long + `,"startedAt":"x"}}`},
		"no history":             {one, ``},
		"history without a form": {one, `[]`},
		"no sessions":            {`{}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gateway{list: c.list, history: map[string]string{}}
			for i := range 120 {
				g.history[fmt.Sprint("k", i)] = c.history
			}
			got := copyOf(t, g)
			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "AAAA") {
				t.Error("the copy has a picture's bytes, want none")
			}
			if name == "everything long" && (got.LeftOut == 0 || !got.Sessions[len(got.Sessions)-1].LeftOut || !got.Sessions[0].Shortened) {
				t.Errorf("marks: got %d sessions left out, %v, %v, want all", got.LeftOut, got.Sessions[len(got.Sessions)-1].LeftOut, got.Sessions[0].Shortened)
			}
		})
	}
	t.Run("a list without a form", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gateway{list: `[]`}
			k := chats.New(chats.Config{Ask: g.ask})
			p := serve(t, k)
			defer p.stop()
			k.Flush(t.Context())
			g.put("now valid")
			want(t, "the next copy", texts(p.next(true)), []string{"s0 now valid"})
		})
	})
}

// The newest sessions and the newest messages come first, and what has no room is marked.
func TestNewestFirst(t *testing.T) {
	t.Parallel()
	g := &gateway{}
	var sessions []string
	for range 60 {
		sessions = append(sessions, "x")
	}
	g.put(sessions...)
	var many []string
	for i := range 250 {
		many = append(many, fmt.Sprint("message ", i))
	}
	g.history["s59"] = said(many...)
	got := copyOf(t, g)
	keys := []string{}
	for _, s := range got.Sessions {
		keys = append(keys, s.Key)
	}
	want(t, "sessions", len(keys), 50)
	want(t, "the newest and the oldest", keys[0]+" "+keys[49], "s59 s10")
	want(t, "sessions left out", got.LeftOut, 10)
	first := got.Sessions[0]
	want(t, "messages of the newest", len(first.Messages), 200)
	want(t, "its first", first.Messages[0].Content[0].Text, "message 50")
	want(t, "whether messages are left out", []bool{first.LeftOut, got.Sessions[1].LeftOut}, []bool{true, false})
}

// One long chat leaves room for others.
func TestOneChatDoesNotTakeAllRoom(t *testing.T) {
	t.Parallel()
	g := &gateway{}
	g.put("short", "long")
	var many []string
	for range 200 {
		many = append(many, strings.Repeat("y", 10<<10))
	}
	g.history["s1"] = said(many...)
	got := copyOf(t, g)
	if n := len(got.Sessions[0].Messages); n < 45 || n > 55 {
		t.Errorf("messages of 10 KiB in half of the room: got %d, want about 50", n)
	}
	if all := texts(got); !slices.Contains(all, "s0 short") {
		t.Error("the short chat: got none, want it")
	}
}

// What the dashboard needs of a message comes through.
func TestWhatAMessageKeeps(t *testing.T) {
	t.Parallel()
	g := &gateway{}
	g.put("x")
	g.history["s0"] = `{"hasMore":true,"messages":[
		{"role":"system","content":"secret instructions"},
		{"role":"user","content":"plain text","timestamp":5,"idempotencyKey":"r1:user","__openclaw":{"id":"m1","seq":4}},
		{"role":"assistant","content":[{"type":"thinking","text":"hidden"},{"type":"text","text":"shown"},{"type":"toolCall","id":"c1","name":"exec","arguments":{"command":"ls"}}]},
		{"role":"toolResult","toolCallId":"c1","toolName":"exec","isError":true,"content":[{"type":"text","text":"denied"},{"type":"image","alt":"a window","artifactId":"a1","omitted":true,"bytes":5}]},
		{"role":"assistant","content":"half","openclawAbort":{"aborted":true,"origin":"rpc"}},
		{"role":"assistant","content":"no key","stopReason":"error","idempotencyKey":"r2:terminal-error","__openclaw":{"runId":"r2"}},
		{"role":"custom","customType":"run-failed-before-reply","content":"This turn ended before a reply: no key"}]}`
	s := copyOf(t, g).Sessions[0]
	b, err := json.Marshal(s.Messages)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "the messages", string(b), `[`+strings.Join([]string{
		`{"role":"user","content":[{"type":"text","text":"plain text"}],"timestamp":5,"idempotencyKey":"r1:user","__openclaw":{"id":"m1"}}`,
		`{"role":"assistant","content":[{"type":"text","text":"shown"},{"type":"toolCall","id":"c1","name":"exec","arguments":{"command":"ls"}}]}`,
		`{"role":"toolResult","content":[{"type":"text","text":"denied"},{"type":"image","alt":"a window"}],"toolCallId":"c1","toolName":"exec","isError":true}`,
		`{"role":"assistant","content":[{"type":"text","text":"half"}],"openclawAbort":{"aborted":true,"origin":"rpc"}}`,
		`{"role":"assistant","content":[{"type":"text","text":"no key"}],"idempotencyKey":"r2:terminal-error","stopReason":"error","__openclaw":{"runId":"r2"}}`,
		`{"role":"custom","content":[{"type":"text","text":"This turn ended before a reply: no key"}],"customType":"run-failed-before-reply"}`,
	}, ",")+`]`)
	want(t, "whether messages are left out", s.LeftOut, true)
}
