package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestSavedChats plays a chat that stays readable: while its desktop is stopped, and after a restart of the server. It goes
// with the desktop and with the account's key. A server that keeps none has none.
func TestSavedChats(t *testing.T) {
	t.Parallel()
	database := pgtest.Empty(t)
	s := newServer(t, "DATABASE_URL="+database)
	s.start()
	db, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	c := signUp(t, s.URL, "ada@example.com")
	eve := signUp(t, s.URL, "eve@example.com")
	create := func() string {
		id := c.must(202, "POST", "/api/instances", "{}").field("id")
		c.awaitInstance(id, "ready", "true")
		return id
	}
	saved := func(id string) string { return "/api/instances/" + id + "/chat" }
	talk := func(id, text string) {
		t.Helper()
		if _, _, err := c.chat(id, text); err != nil {
			t.Fatal(err)
		}
	}
	has := func(id, text string) func() bool {
		return func() bool { return strings.Contains(string(c.do("GET", saved(id), "").body), text) }
	}
	stop := func(id string) {
		t.Helper()
		c.must(202, "POST", "/api/instances/"+id+"/stop", "")
		c.awaitInstance(id, "status", "stopped")
	}
	id := create()
	talk(id, "the first question")
	await(t, time.Minute, "the chat to be saved after an answer", has(id, "the first question"))
	talk(id, "the last question")
	stop(id) // right after the answer: the copy is made because of the stop
	if !has(id, "the last question")() {
		t.Errorf("after the stop: got %s, want the last question", c.do("GET", saved(id), "").body)
	}
	eve.must(404, "GET", saved(id), "")
	s.stop()
	s.start()
	a := c.must(200, "GET", saved(id), "")
	if !strings.Contains(string(a.body), "the last question") {
		t.Errorf("after a restart of the server: got %s, want the last question", a.body)
	}
	if text := s.cli("events"); strings.Contains(text, "last question") {
		t.Error("the log has the chat, want it nowhere in the log")
	}

	// Started again, the desktop goes on with it.
	c.must(202, "POST", "/api/instances/"+id+"/start", "")
	c.awaitInstance(id, "ready", "true")
	talk(id, "one more question")
	await(t, time.Minute, "the chat to be saved after a start", has(id, "one more question"))

	rows := func() (n int) {
		t.Helper()
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM vault.chats`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var sealed []byte
	if err := db.QueryRow(t.Context(), `SELECT sealed FROM vault.chats`).Scan(&sealed); err != nil || strings.Contains(string(sealed), "question") {
		t.Errorf("the row: got %q %v, want it sealed", sealed, err)
	}
	c.must(202, "DELETE", "/api/instances/"+id, "")
	if a := c.must(404, "GET", saved(id), ""); a.field("code") != "no_saved_chat" {
		t.Errorf("after the termination: got %s, want no_saved_chat", a.body)
	}
	await(t, time.Minute, "the row of a terminated desktop to go", func() bool { return rows() == 0 })
	c.awaitInstance(id, "status", "terminated")

	// The account's erasure.
	id = create()
	talk(id, "to be forgotten")
	await(t, time.Minute, "the chat to be saved", has(id, "to be forgotten"))
	if _, err := db.Exec(t.Context(), `DELETE FROM vault.data_keys WHERE account_id = (SELECT account FROM read.instances WHERE id = $1)`, id); err != nil {
		t.Fatal(err)
	}
	if n := rows(); n != 0 {
		t.Errorf("rows after the erasure: got %d, want 0", n)
	}

	// KEEP_CHATS=false.
	c = eve
	id = create()
	talk(id, "kept at first")
	await(t, time.Minute, "the chat to be saved", has(id, "kept at first"))
	s.stop()
	s.start("KEEP_CHATS=false")
	await(t, time.Minute, "an answer after the restart", func() bool {
		_, _, err := c.chat(id, "not kept")
		return err == nil
	})
	stop(id)
	c.must(404, "GET", saved(id), "")
	if n := rows(); n != 0 {
		t.Errorf("rows of a server that keeps none: got %d, want 0", n)
	}
}
