package httpapi

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// unzipped returns the files of a zip.
func unzipped(t *testing.T, body []byte) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name] = string(text)
	}
	return files
}

// TestExport exports an account that has something of everything, beside another one.
func TestExport(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.Chats = fakeChats{savedText, c.Instances.Find}
		c.Limits.Export = Rate{2, time.Hour}
	})
	eve := f.estate("eve@example.com")
	ada := f.estate("ada@example.com")
	old := f.create(ada.user, "the old name")
	f.want(200, call{method: "PATCH", path: "/api/instances/" + old, token: ada.access, body: `{"name":"the new name"}`})
	f.happen(old, instance.Terminated{})
	get := call{method: "GET", path: "/api/auth/me/export", token: ada.access}
	a := f.want(200, get)
	if kind, file := a.header.Get("Content-Type"), a.header.Get("Content-Disposition"); kind != "application/zip" || !strings.Contains(file, `filename="cloudbot-`) {
		t.Errorf("got %q %q, want a zip with a name", kind, file)
	}
	files := unzipped(t, a.body)
	for name, want := range map[string][]string{
		"README.txt":                      {"events.jsonl", "Not in here"},
		"account.json":                    {"ada@example.com", ada.account},
		"sessions.json":                   {ada.session, ada.otherSession, "127.0.0.1"},
		"tokens.json":                     {ada.apiToken, `"CI"`},
		"keys.json":                       {"openai", canary[len(canary)-4:]},
		"desktops.json":                   {ada.instance, "secret name of ada@example.com", old, "the new name"},
		"usage.json":                      {ada.instance},
		"budgets.json":                    {"limits"},
		"plan.json":                       {"access"},
		"chats/" + ada.instance + ".json": {"main"},
		"events.jsonl":                    {"account.signed_up", "session.started", "instance.requested", "apikey.stored", "token.created", `"the old name"`, `"the new name"`, `"email":"ada@example.com"`, `"client_addr":"127.0.0.1"`},
	} {
		for _, text := range want {
			if !strings.Contains(files[name], text) {
				t.Errorf("%s: got %.2000s, want %q in it", name, files[name], text)
			}
		}
	}
	for name, text := range files {
		for _, secret := range []string{canary, "eve@", eve.account, eve.instance, eve.session, "secret name of eve"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: got %q in it, want nothing of another account and no secret", name, secret)
			}
		}
	}
	// Every event of the account's streams is there, and each line is an object of its own.
	got, want := map[int64]bool{}, 0
	for lines := bufio.NewScanner(strings.NewReader(files["events.jsonl"])); lines.Scan(); {
		var e exportedEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || got[e.Position] {
			t.Fatalf("%s: got %v, want an event that is new", lines.Text(), err)
		}
		got[e.Position] = true
	}
	for e, err := range f.store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		ofAda := e.Meta.Actor == ada.account || slices.Contains([]string{ada.account, ada.instance, old, ada.session, ada.otherSession}, e.Stream.ID)
		if e.Stream.Aggregate == "email" || e.Stream.Aggregate == "fleet" {
			continue // a keyed hash of the address, and a count
		}
		if ofAda {
			want++
		}
		if ofAda != got[e.Position] {
			t.Errorf("event %d, %s of %s: exported %v, want %v", e.Position, e.Type, e.Stream, got[e.Position], ofAda)
		}
	}
	if want < 12 {
		t.Errorf("got %d events of the account, want more to compare", want)
	}
	f.want(200, get)
	f.want(429, get)
}
