package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
)

// The account's history has its own events, including failed log-ins, and none of its instances or of another
// account.
func TestAccountHistory(t *testing.T) {
	t.Parallel()
	var audit *commands.Audit
	f := newFront(t, func(c *Config) {
		audit = commands.NewAudit(c.Accounts.Log, slog.New(slog.DiscardHandler))
		c.Accounts.Audit, c.Audit = audit, audit
	})
	go func() { _ = audit.Run(t.Context()) }()
	ada, bob := f.signUp("ada@example.com"), f.signUp("bob@example.com")
	f.create(ada, "mine")
	f.want(401, call{method: "POST", path: "/api/auth/login", body: map[string]string{"email": bob.email, "password": "a wrong password"}})
	f.want(401, call{method: "POST", path: "/api/auth/login", body: map[string]string{"email": ada.email, "password": "a wrong password"}})
	read := func(query string) (types string, next *string) {
		t.Helper()
		var page struct {
			Events []eventView `json:"events"`
			Next   *string     `json:"next_cursor"`
		}
		f.want(200, call{method: "GET", path: "/api/auth/history" + query, token: ada.access}).into(t, &page)
		var list []string
		for _, e := range page.Events {
			list = append(list, e.Type)
		}
		return strings.Join(list, " "), page.Next
	}
	within, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	hints := f.store.Notifications(within)
	for types, _ := read(""); !strings.Contains(types, "audit"); types, _ = read("") { // it is written in the background
		if _, more := <-hints; !more {
			t.Fatalf("got %s at the end of the log, want more events", types)
		}
	}
	if types, _ := read(""); types != "account.signed_up session.started audit.log_in_failed" {
		t.Errorf("got %s, want account.signed_up session.started audit.log_in_failed", types)
	}
	types, next := read("?order=desc&limit=2")
	if types != "audit.log_in_failed session.started" || next == nil {
		t.Fatalf("got %s, %v, want audit.log_in_failed session.started and a cursor", types, next)
	}
	if types, next := read(fmt.Sprint("?order=desc&limit=2&cursor=", *next)); types != "account.signed_up" || next != nil {
		t.Errorf("got %s, %v, want account.signed_up and no cursor", types, next)
	}
	f.want(422, call{method: "GET", path: "/api/auth/history?cursor=" + *next, token: ada.access}) // the other order's
}
