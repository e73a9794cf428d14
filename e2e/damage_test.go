package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/projections"
)

// sql runs statements on a database, one by one.
func sql(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// TestDamagedRow damages one row of the log, of one desktop. Commands on that desktop are refused, and the tools name it.
// Everything else continues, in every reader of the log.
func TestDamagedRow(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	s := newServer(t, "DATABASE_URL="+url)
	s.start()
	ada, bob := signUp(t, s.URL, "ada@example.com"), signUp(t, s.URL, "bob@example.com")
	bad := ada.must(http.StatusAccepted, "POST", "/api/instances", `{"name":"damaged"}`).field("id")
	ada.awaitInstance(bad, "ready", "true")
	s.stop()

	where := ` WHERE stream = 'instance/` + bad + `' AND type = 'instance.machine_launched'`
	sql(t, url, `ALTER TABLE log.entries DISABLE TRIGGER never_change`, `UPDATE log.entries SET meta = 'not JSON'`+where, `UPDATE read.checkpoints SET position = 0`,
		`TRUNCATE read.instances, read.idle, read.usage_desktops, read.usage_intervals, read.usage_models, read.budgets, read.billing, read.boots, read.sessions, read.api_keys, read.history`)
	if err := os.RemoveAll(filepath.Join(s.dir, "nats")); err != nil {
		t.Fatal(err)
	}
	s.start() // relay and read models read the whole log again

	if c := s.verify(); c.Epoch != 1 {
		t.Errorf("epoch: got %d, want 1: damage begins no other", c.Epoch)
	}
	if a := ada.do("GET", "/api/instances/"+bad, ""); a.status != http.StatusOK || a.field("name") != "damaged" {
		t.Errorf("reading it: got %d %s, want 200 and the name damaged", a.status, a.body)
	}
	refused := 0
	for _, try := range [][3]string{
		{"PATCH", "/api/instances/" + bad, `{"name":"other"}`}, {"DELETE", "/api/instances/" + bad, ""}, {"POST", "/api/instances/" + bad + "/stop", ""},
		{"POST", "/api/instances/" + bad + "/tickets", `{"kind":"vnc","mode":"control"}`},
	} {
		if a := ada.do(try[0], try[1], try[2]); a.status != http.StatusConflict || a.field("code") != "stream_damaged" {
			t.Errorf("%s %s: got %d %s, want 409 stream_damaged", try[0], try[1], a.status, a.body)
		}
		refused++
	}
	id := bob.must(http.StatusAccepted, "POST", "/api/instances", `{"name":"fine"}`).field("id")
	bob.awaitInstance(id, "ready", "true")
	if err := bob.followPhases(id, 30*time.Second, []string{"ready"}); err != nil {
		t.Errorf("another account's events: got %v, want the phase ready", err)
	}
	lines, leave, err := ada.stream("/api/events", "0", 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for !seen && lines.Scan() {
		seen = strings.Contains(lines.Text(), "instance.requested")
	}
	leave()
	if !seen {
		t.Error("the owner's events: got none, want instance.requested")
	}

	rebuilt := s.cli("replay", "all")
	named := regexp.MustCompile(`event \d+ of instance/` + bad + ` is parked, and its stream with it: .*metadata`)
	if n := len(named.FindAllString(rebuilt, -1)); n != len(projections.All()) {
		t.Errorf("read models that name the event after a rebuild: got %d, want %d:\n%s", n, len(projections.All()), rebuilt)
	}
	ada.awaitInstance(bad, "name", "damaged")
	if n := s.metric("cloudbot_parked_events"); n == "" || n == "0" {
		t.Errorf("cloudbot_parked_events: got %q, want 1 or more", n)
	}
	if shown := s.cli("events", "--id", bad); !strings.Contains(shown, `"damage":"metadata: `) || strings.Count(shown, "\n") < 5 {
		t.Errorf("cloudbot events: got\n%s\nwant 5 or more lines, one with its damage", shown)
	}
	if again := s.cli("replay", "--parked", "instances"); !strings.Contains(again, "0 parked events applied") || !named.MatchString(again) {
		t.Errorf("retrying: got\n%s\nwant 0 applied, and the event named", again)
	}
	parked := s.metric("cloudbot_parked_events")

	// An operator repairs the row.
	sql(t, url, `UPDATE log.entries SET meta = '{"actor":"system"}'`+where, `ALTER TABLE log.entries ENABLE TRIGGER never_change`)
	applied := s.cli("replay", "--parked", "all")
	if n := s.metric("cloudbot_parked_events"); n != "0" {
		t.Errorf("cloudbot_parked_events: got %s, want 0, after\n%s", n, applied)
	}
	for id, u := range map[string]*client{bad: ada, id: bob} {
		u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
		u.awaitInstance(id, "status", "terminated")
	}
	s.verify()
	t.Logf("1 damaged row: %d commands refused with stream_damaged, %s events parked, %d rebuilds went past it, 0 left parked at the end", refused, parked, len(projections.All()))
}
