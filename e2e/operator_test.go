package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// asJSON runs a tool with --json and reads its output.
func (s *server) asJSON(into any, args ...string) {
	s.t.Helper()
	text := s.cli(append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, text)
	}
}

// TestOperator plays the work of a server's operator: invite people, list accounts, lock one, and terminate a desktop
// whose events cannot be read.
func TestOperator(t *testing.T) {
	t.Parallel()
	s := newServer(t, "SIGNUP=invite", "MAX_INSTANCES_TOTAL=1")
	s.start()
	await(t, 20*time.Second, "the server to log how to create the first account", func() bool {
		return strings.Contains(s.out.tail(100_000), "cloudbot accounts invite")
	})

	// By invitation.
	c := &client{t: t, base: s.URL}
	if got := c.must(200, "GET", "/api", "").field("signup"); got != "invite" {
		t.Errorf("GET /api: got %q, want invite", got)
	}
	signUpWith := func(email, code string) answer {
		return c.do("POST", "/api/auth/signup", fmt.Sprintf(`{"email":%q,"password":"a long enough pass phrase","invite":%q}`, email, code))
	}
	var invited struct{ ID, Code, URL, Email string }
	s.asJSON(&invited, "accounts", "invite", "Ada@example.com")
	if invited.URL != s.URL+"/app/signup#invite="+invited.Code || invited.Email != "ada@example.com" {
		t.Errorf("got %+v, want the URL of its code, for ada@example.com", invited)
	}
	for email, code := range map[string]string{"bob@example.com": invited.Code, "ada@example.com": ""} {
		if a := signUpWith(email, code); a.status != 403 || a.field("code") != "signup_closed" || a.field("field") != "invite" {
			t.Errorf("%s with %q: got %d %s, want 403 signup_closed", email, code, a.status, a.body)
		}
	}
	a := signUpWith("ada@example.com", invited.Code)
	if a.status != 201 {
		t.Fatalf("with a good code: got %d %s, want 201", a.status, a.body)
	}
	ada, bob := &client{t: t, base: s.URL, token: a.field("access_token")}, &client{t: t, base: s.URL}
	s.asJSON(&invited, "accounts", "invite")
	bob.token = signUpWith("bob@example.com", invited.Code).field("access_token")

	// The limit on all desktops.
	id := ada.must(202, "POST", "/api/instances", "{}").field("id")
	if a := bob.must(409, "POST", "/api/instances", "{}"); a.field("code") != "fleet_full" {
		t.Errorf("above the limit: got %s, want fleet_full", a.body)
	}
	ada.awaitInstance(id, "ready", "true")

	// The lists.
	var accounts struct {
		Accounts []struct {
			ID, Email, State, Reason string
			Instances                int
		}
	}
	s.asJSON(&accounts, "accounts", "list")
	if l := accounts.Accounts; len(l) != 2 || l[0].Email != "ada@example.com" || l[0].Instances != 1 || l[0].State != "active" || l[1].Instances != 0 {
		t.Errorf("got %+v, want ada with 1 desktop and another account with none", l)
	}
	var list struct {
		Instances []struct{ ID, Account, Name, Status, Machine, Stuck string }
	}
	s.asJSON(&list, "instances", "list")
	if l := list.Instances; len(l) != 1 || l[0].ID != id || l[0].Status != "running" || l[0].Name != "My desktop" || l[0].Machine == "" || l[0].Account != accounts.Accounts[0].ID {
		t.Errorf("got %+v, want My desktop of ada, running on a machine", l)
	}
	for _, args := range [][]string{{"accounts", "list"}, {"instances", "list"}, {"instances", "list", "--stuck"}} {
		text := s.cli(args...)
		t.Logf("cloudbot %s\n%s", strings.Join(args, " "), text)
		for line := range strings.Lines(text) {
			if n := len([]rune(line)); n > 121 {
				t.Errorf("%v: got a line of %d characters, want at most 121: %s", args, n, line)
			}
		}
	}

	// Suspension takes effect immediately.
	lines, leave, err := ada.stream("/api/events", "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	socket, err := ada.bridge(t.Context(), id, "vnc", "vnc")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	var done struct {
		State    string
		Sessions int `json:"sessions_ended"`
		Machines int `json:"machines_stopped"`
	}
	s.asJSON(&done, "accounts", "suspend", "ADA@example.com", "--reason", "unpaid")
	if done.State != "suspended" { // the server may have done the rest first
		t.Errorf("got %+v, want suspended", done)
	}
	for lines.Scan() {
	}
	for err == nil {
		_, _, err = socket.Read(t.Context())
	}
	await(t, 20*time.Second, "the account to be refused", func() bool { return ada.do("GET", "/api/auth/me", "").status == 401 })
	logIn := `{"email":"ada@example.com","password":"a long enough pass phrase"}`
	if a := c.must(403, "POST", "/api/auth/login", logIn); a.field("code") != "account_suspended" {
		t.Errorf("log-in: got %s, want account_suspended", a.body)
	}
	await(t, 90*time.Second, "the desktop to stop", func() bool {
		s.asJSON(&list, "instances", "list")
		return list.Instances[0].Status == "stopped"
	})
	s.cli("accounts", "resume", "ada@example.com")
	ada.token = c.must(200, "POST", "/api/auth/login", logIn).field("access_token")
	if h := ada.must(200, "GET", "/api/instances/"+id+"/history", ""); !strings.Contains(string(h.body), `"who":"operator"`) {
		t.Errorf("history: got %s, want the operator as the actor", h.body)
	}

	// An event that cannot be read.
	s.plant(id)
	if a := ada.must(409, "DELETE", "/api/instances/"+id, ""); a.field("code") != "stream_damaged" {
		t.Errorf("its owner: got %s, want stream_damaged", a.body)
	}
	await(t, 20*time.Second, "the desktop to be stuck", func() bool {
		s.asJSON(&list, "instances", "list", "--stuck")
		return len(list.Instances) == 1 && list.Instances[0].Stuck != ""
	})
	var forced struct {
		Machines []string
		Released bool `json:"slot_released"`
	}
	s.asJSON(&forced, "instances", "terminate", "--force", id)
	if len(forced.Machines) != 1 || !forced.Released {
		t.Errorf("got %+v, want 1 machine and its slot released", forced)
	}
	ada.awaitInstance(id, "status", "terminated")
	if left := s.leftOf(id); len(left) > 0 {
		t.Errorf("left of the terminated desktop: got %v, want nothing", left)
	}
	ada.must(202, "DELETE", "/api/instances/"+id, "")
	bob.must(202, "POST", "/api/instances", "{}")
}

// plant appends two events that no version can read to an instance's stream: the data of one has another shape, the
// metadata of the other is not JSON.
func (s *server) plant(id string) {
	s.t.Helper()
	var r struct {
		URL string `json:"database_url"`
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "running.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := pgx.Connect(s.t.Context(), r.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context())
	err = pgx.BeginFunc(s.t.Context(), conn, func(tx pgx.Tx) error {
		var head int64
		if err := tx.QueryRow(s.t.Context(), `SELECT log.begin_append()`).Scan(&head); err != nil {
			return err
		}
		for n, damage := range [][2]string{{`"damaged"`, `{}`}, {`{}`, `not JSON`}} {
			if _, err := tx.Exec(s.t.Context(), `INSERT INTO log.entries (position, version, time, schema, stream_key, stream, type, id, data, meta)
				SELECT $1, version + 1, now(), 1, stream_key, stream, 'instance.renamed', 'planted', $3, $4
				FROM log.entries WHERE stream = $2 ORDER BY version DESC LIMIT 1`, head+1+int64(n), "instance/"+id, damage[0], damage[1]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}
