package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// cloudMachine is a machine as ec2test reports it.
type cloudMachine struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Launch struct {
		Tags map[string]map[string]string `json:"tags"`
	} `json:"launch"`
}

func (m cloudMachine) live() bool       { return m.State != "terminated" && m.State != "shutting-down" }
func (m cloudMachine) instance() string { return m.Launch.Tags["instance"]["cloudbot:instance"] }

func cloudMachines(t *testing.T, endpoint string) (list []cloudMachine) {
	t.Helper()
	ask(t, endpoint+"/_test/machines", &list)
	return list
}

// calls returns how many calls of an action the cloud has had.
func calls(t *testing.T, endpoint, action string) (n int) {
	t.Helper()
	var ledger []struct {
		Action string `json:"action"`
	}
	ask(t, endpoint+"/_test/ledger", &ledger)
	for _, e := range ledger {
		if e.Action == action {
			n++
		}
	}
	return n
}

func ask(t *testing.T, url string, into any) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// strangersList is the answer of `cloudbot strangers list --json`.
type strangersList struct {
	Strangers []struct {
		Machine, Instance, Account, Email, Why string
		Adoptable, Removable                   bool
	}
}

// TestRestoreDrill backs a server up, goes on working, and restores the backup into an empty database of another major
// version of PostgreSQL. Log and stream agree again, each machine is in the log or on the operator's list, no machine is
// terminated, and what was issued before the restore is refused. Then the operator adopts one machine and removes
// another.
func TestRestoreDrill(t *testing.T) {
	if os.Getenv("E2E_DRILL") == "" {
		t.Skip("takes minutes: make restore-drill")
	}
	t.Parallel()
	before := pgtest.New(t)
	s, endpoint := newServerOnEC2(t, "MAX_INSTANCES_PER_USER=4")
	settings := s.env
	on := func(database string) {
		s.env = append(settings[:len(settings):len(settings)], "DATABASE_URL="+database)
	}
	on(before)
	s.start()
	signUp(t, s.URL, "ada@example.com")
	ada, firstRefresh := logIn(t, s.URL, "ada@example.com", passPhrase)
	bob := signUp(t, s.URL, "bob@example.com")
	launch := func(u *client) string {
		return u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	}
	kept, ended := launch(ada), launch(bob)
	ada.awaitInstance(kept, "ready", "true")
	bob.awaitInstance(ended, "ready", "true")

	dir := filepath.Join(s.dir, "backup")
	var manifest struct {
		Head, Positions int64
		ID, PostgreSQL  string
	}
	s.asJSON(&manifest, "backup", "--json", dir)
	if manifest.Head == 0 || manifest.Positions != manifest.Head {
		t.Fatalf("got %+v, want a backup without gaps", manifest)
	}

	// What the restore loses: an account, launches, a termination, keys, refreshes.
	carol := signUp(t, s.URL, "carol@example.com")
	lost, later := launch(carol), launch(ada)
	carol.awaitInstance(lost, "ready", "true")
	ada.awaitInstance(later, "ready", "true")
	ada.must(http.StatusCreated, "POST", "/api/user/api-keys", `{"provider":"openai","api_key":"sk-0123456789abcdef0123456789"}`)
	bob.must(http.StatusAccepted, "DELETE", "/api/instances/"+ended, "")
	bob.awaitInstance(ended, "status", "terminated")
	refreshed := ada.must(http.StatusOK, "POST", "/api/auth/refresh", fmt.Sprintf(`{"refresh_token":%q}`, firstRefresh))
	ada.token = refreshed.field("access_token")
	lostHead := s.verify().Log

	// Refusals, none of which changes anything.
	refused := func(want string, env string, args ...string) {
		t.Helper()
		old := s.env
		s.env = append(old[:len(old):len(old)], env)
		defer func() { s.env = old }()
		if out, err := s.tool(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: got %v, want %q\n%s", args, err, want, out)
		}
	}
	refused("stop it first", "A=1", "restore", dir)
	refused("is not empty", "A=1", "backup", dir)
	s.stop()
	refused("the database is in use", "A=1", "restore", dir)
	refused("is for the private database", "A=1", "restore", "--replace", dir)
	after := pgtest.New16(t)
	on(after)
	refused("the backup needs the key", "ENCRYPTION_KEY="+strings.Repeat("0f", 32), "restore", dir)
	refused("is not a backup", "A=1", "restore", s.dir)

	terminations := calls(t, endpoint, "TerminateInstances")
	t.Logf("restore from PostgreSQL %s:\n%s", manifest.PostgreSQL, s.cli("restore", dir))
	refused("the database is in use", "A=1", "restore", dir)
	// As if the command had been killed after the load: no server starts before the same command has finished.
	execute(t, after, fmt.Sprintf(`INSERT INTO relay.epochs (epoch, reason, at_position) VALUES (7, 'the log was restored from a backup: %s', %d)`, manifest.ID, manifest.Head))
	refused("was interrupted; run the same", "A=1", "serve")
	if out := s.cli("restore", dir); !strings.Contains(out, "in epoch 7") {
		t.Errorf("got %s, want the restore finished", out)
	}
	s.start()
	now := s.verify()
	if now.Epoch < 7 || now.Log < manifest.Head || now.Log >= lostHead+10 {
		t.Errorf("got %+v, want epoch 7 or later and a log from %d on", now, manifest.Head)
	}

	// Everything that was issued before is refused, whether the log knows its session or not.
	for name, a := range map[string]answer{
		"the backup's refresh token": ada.do("POST", "/api/auth/refresh", fmt.Sprintf(`{"refresh_token":%q}`, firstRefresh)),
		"the latest refresh token":   ada.do("POST", "/api/auth/refresh", fmt.Sprintf(`{"refresh_token":%q}`, refreshed.field("refresh_token"))),
		"ada's access token":         ada.do("GET", "/api/auth/me", ""),
		"bob's access token":         bob.do("GET", "/api/auth/me", ""),
		"carol's access token":       carol.do("GET", "/api/auth/me", ""),
	} {
		if a.status != http.StatusUnauthorized {
			t.Errorf("%s: got %d, want 401\n%s", name, a.status, a.body)
		}
	}
	ada, _ = logIn(t, s.URL, "ada@example.com", passPhrase)
	bob, _ = logIn(t, s.URL, "bob@example.com", passPhrase)
	ada.awaitInstance(kept, "ready", "true") // its guest kept its key
	bob.awaitInstance(ended, "status", "failed")
	ada.must(http.StatusNotFound, "GET", "/api/instances/"+later, "")

	s.cli("reconcile", "--json")
	s.matches(endpoint, 1, 2)
	if n := calls(t, endpoint, "TerminateInstances"); n != terminations {
		t.Errorf("got %d terminations after the restore, want none", n-terminations)
	}

	var list strangersList
	s.asJSON(&list, "strangers", "list", "--json")
	machine := map[string]string{} // by instance
	for _, x := range list.Strangers {
		machine[x.Instance] = x.Machine
		if x.Instance == later && x.Email != "ada@example.com" || x.Instance == lost && (x.Email != "" || x.Account == "") || !x.Adoptable || !x.Removable {
			t.Errorf("got %+v, want its owner from its tags", x)
		}
	}
	// The operator gives ada her machine, and it works again with what is on it; carol's is removed.
	refused("add --yes", "A=1", "strangers", "remove", machine[lost])
	refused("the log has no account", "A=1", "strangers", "adopt", machine[lost])
	refused("is not on the list", "A=1", "strangers", "remove", "i-unknown", "--yes")
	s.cli("strangers", "adopt", machine[later])
	await(t, 90*time.Second, "the adopted machine's guest", func() bool {
		a, err := ada.try("GET", "/api/instances/"+later, "")
		return err == nil && a.field("ready") == "true"
	})
	s.cli("strangers", "remove", machine[lost], "--yes")
	s.matches(endpoint, 2, 0)
	if n := calls(t, endpoint, "TerminateInstances"); n != terminations+1 {
		t.Errorf("got %d terminations after the removal, want 1", n-terminations)
	}
	events := s.cli("events", "--aggregate", "restore")
	if !strings.Contains(events, "restore.finished") || !strings.Contains(events, machine[lost]) {
		t.Errorf("got %s, want the restore and the removal in the log", events)
	}
	s.verify()

	// A database that was restored by other means.
	s.stop()
	refused("is not a past time", "A=1", "restore", "--restored-to", "2999-01-01T00:00:00Z")
	var done struct{ Sessions int }
	s.asJSON(&done, "restore", "--json", "--restored-to", time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
	if done.Sessions != 2 {
		t.Errorf("got %d sessions ended, want 2", done.Sessions)
	}
}

// matches checks that each machine of the cloud is an instance's of the log or on the operator's list, and prints the
// counts.
func (s *server) matches(endpoint string, known, strangers int) {
	t := s.t
	t.Helper()
	var list strangersList
	s.asJSON(&list, "strangers", "list", "--json")
	var instances struct {
		Instances []struct{ ID string }
	}
	s.asJSON(&instances, "instances", "list", "--json")
	in := map[string]string{}
	for _, i := range instances.Instances {
		in[i.ID] = "log"
	}
	for _, x := range list.Strangers {
		in[x.Instance] += "list"
	}
	counts := map[string]int{}
	all := cloudMachines(t.(*testing.T), endpoint)
	for _, m := range all {
		if m.live() {
			counts[in[m.instance()]]++
		} else {
			counts["ended"]++
		}
	}
	t.Logf("%d machines: %d in the log, %d on the list, %d ended, %d in neither", len(all), counts["log"], counts["list"], counts["ended"], counts[""])
	if counts["log"] != known || counts["list"] != strangers || counts[""] != 0 || counts["loglist"] != 0 {
		t.Errorf("got %v, want %d machines in the log and %d on the list", counts, known, strangers)
	}
}

// TestRestorePrivate backs a server with a private database up to S3, and restores the backup over a newer state of it.
func TestRestorePrivate(t *testing.T) {
	t.Parallel()
	store := s3mem.New()
	if err := store.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	bucket := httptest.NewServer(gofakes3.New(store).Server())
	t.Cleanup(bucket.Close)
	s := newServer(t, "AWS_ENDPOINT_URL_S3="+bucket.URL, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=AKIATEST", "AWS_SECRET_ACCESS_KEY=secret")
	s.start()
	ada := signUp(t, s.URL, "ada@example.com")
	if out, err := s.tool("backup", "s3://backups/first/"); err != nil {
		t.Fatalf("got %v, want a backup\n%s", err, out)
	}
	if out, err := s.tool("backup", "s3://backups/first"); err == nil || !strings.Contains(out, "is a backup already") {
		t.Errorf("the same prefix again: got %v, want a refusal\n%s", err, out)
	}
	signUp(t, s.URL, "eve@example.com")
	if out, err := s.tool("restore", "--replace", "s3://backups/first"); err == nil || !strings.Contains(out, "stop it first") {
		t.Errorf("beside a server: got %v, want a refusal\n%s", err, out)
	}
	s.stop()
	if out, err := s.tool("restore", "s3://backups/first"); err == nil || !strings.Contains(out, "--replace moves it aside") {
		t.Errorf("without --replace: got %v, want a refusal\n%s", err, out)
	}
	out, err := s.tool("restore", "--replace", "s3://backups/first")
	if err != nil || !strings.Contains(out, "the old database is now "+filepath.Join(s.dir, "postgres.before-restore-")) {
		t.Fatalf("got %v, want the backup restored, and the old database's place\n%s", err, out)
	}
	s.start()
	if c := s.verify(); c.Epoch < 2 {
		t.Errorf("got %+v, want a new epoch", c)
	}
	ada.must(http.StatusUnauthorized, "GET", "/api/auth/me", "")
	logIn(t, s.URL, "ada@example.com", passPhrase)
	eve := &client{t: t, base: s.URL}
	eve.must(http.StatusUnauthorized, "POST", "/api/auth/login", `{"email":"eve@example.com","password":"a long enough pass phrase"}`)
}
