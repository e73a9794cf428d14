package httpapi

import (
	"strings"
	"testing"
)

const savedText = `{"sessions":[{"key":"agent:main:main","title":"A title","updated_at":5,"messages":[` +
	`{"role":"user","content":[{"type":"text","text":"<b>hello</b>"}],"timestamp":7,"idempotencyKey":"r1:user"},` +
	`{"role":"assistant","content":[{"type":"toolCall","id":"c1","name":"exec","arguments":{"command":"ls"}}]}],` +
	`"left_out":true,"shortened":false,"running":{"runId":"r2","text":"half"}}],"left_out":3}`

func TestSavedChatsAreShown(t *testing.T) {
	t.Parallel()
	var chats *fakeChats
	f := newFront(t, func(c *Config) {
		chats = &fakeChats{text: savedText, find: c.Instances.Find}
		c.Chats = chats
	})
	ada := f.estate("ada@example.com")
	get := call{method: "GET", path: "/api/instances/" + ada.instance + "/chat", token: ada.access}
	want := `{"saved_at":"2026-11-28T14:03:00Z",` + strings.NewReplacer("<", `\u003c`, ">", `\u003e`).Replace(savedText[1:])
	if got := strings.TrimSpace(string(f.want(200, get).body)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	chats.text = ""
	if a := f.do(get); a.status != 404 || a.field(t, "code") != "no_saved_chat" {
		t.Errorf("without chats: got %d %s, want 404 no_saved_chat", a.status, a.body)
	}
	chats.text = `{"sessions":[{"key":""}]}` // damaged
	if a := f.do(get); a.status != 500 || strings.Contains(string(a.body), "sessions") {
		t.Errorf("damaged chats: got %d %s, want 500 without them", a.status, a.body)
	}
	if strings.Contains(f.log.String(), "hello") {
		t.Error("server's log: got a chat, want none")
	}
}
