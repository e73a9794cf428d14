package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
)

const (
	oldKey      = "mKZ0m6Yl1h0Yj6m0hV6Jm0c3JcQ9mC5n0oS3l8Cw1yE="
	oldPassword = "an old password"
)

// imported is the report of `cloudbot import --json`.
type imported struct {
	Accounts, Desktops map[string]int
	Keys               map[string]int `json:"api_keys"`
	Terminated         int            `json:"terminated_desktops"`
	Subscriptions      int
	Problems           []struct{ Kind, ID, Why string }
}

// TestImport brings a database of the original over to a server that manages machines on EC2.
func TestImport(t *testing.T) {
	t.Parallel()
	cloud := startEC2(t, "")
	running, stopped := cloud.launchForeign(t), cloud.launchForeign(t)
	cloud.outside(t, stopped, "stopped")
	from := pgtest.Empty(t)
	old := &database{t, from}
	text, err := os.ReadFile("testdata/original.sql")
	if err != nil {
		t.Fatal(err)
	}
	old.exec(strings.NewReplacer("MACHINE_1", running, "MACHINE_2", stopped).Replace(string(text)))
	ours := &database{t, pgtest.New(t)}
	s := newServer(t, append(append(secretsOf(), cloud.settings()...), "DATABASE_URL="+ours.url)...)
	s.env = append(s.env, "CONTROL_PLANE_URL="+s.URL)
	s.start()
	signUp(t, s.URL, "taken@example.com")
	output := ""
	run := func(wantCode int, args ...string) (out string) {
		t.Helper()
		tool := *s
		tool.env = append(s.env[:len(s.env):len(s.env)], "ORIGINAL_ENCRYPTION_KEY="+oldKey)
		out, err := tool.tool(append([]string{"import", "--from", from}, args...)...)
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if output += out; code != wantCode {
			t.Fatalf("import %v: exit code %d, want %d\n%s", args, code, wantCode, out)
		}
		return out
	}
	report := func(wantCode int, args ...string) (r imported) {
		t.Helper()
		out := run(wantCode, append(args, "--json")...)
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return r
	}
	counts := func(what string, got, want map[string]int) {
		t.Helper()
		maps.DeleteFunc(got, func(_ string, n int) bool { return n == 0 })
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	problems := map[string]string{
		"00000000-0000-4000-8000-000000000003": "another account has its e-mail address here", "00000000-0000-4000-8000-000000000004": "is that of account 00000000-0000-4000-8000-000000000001",
		"00000000-0000-4000-8000-000000000005": "e-mail address is not valid", "00000000-0000-4000-8000-000000000006": "not bcrypt's",
		"10000000-0000-4000-8000-000000000003": "its account was not imported", "10000000-0000-4000-8000-000000000004": "does not open with this ENCRYPTION_KEY",
		"10000000-0000-4000-8000-000000000005": `no provider "acme"`, "20000000-0000-4000-8000-000000000004": "no machine on EC2",
		"20000000-0000-4000-8000-000000000005": `"melted" is unknown`, "20000000-0000-4000-8000-000000000006": "does not list its machine in eu-central-1",
	}
	explained := func(r imported) {
		t.Helper()
		for _, p := range r.Problems {
			if why := problems[p.ID]; why == "" || !strings.Contains(p.Why, why) {
				t.Errorf("got the problem %+v, want %q", p, why)
			}
		}
		if len(r.Problems) != len(problems) || r.Terminated != 1 || r.Subscriptions != 1 {
			t.Errorf("got %d problems, %d terminated desktops, %d subscriptions, want %d, 1 and 1", len(r.Problems), r.Terminated, r.Subscriptions, len(problems))
		}
	}
	state := func() string {
		return ours.value(`SELECT (SELECT max(position) FROM log.events) || ' events, ' || (SELECT count(*) FROM vault.data_keys) || ' keys'`)
	}
	before, oldRows := state(), old.rows()

	dry := report(2, "--dry-run")
	counts("dry run: accounts", dry.Accounts, map[string]int{"added": 3, "not_imported": 4})
	counts("dry run: keys", dry.Keys, map[string]int{"added": 2, "not_imported": 3})
	counts("dry run: desktops", dry.Desktops, map[string]int{"added": 2, "not_imported": 3})
	explained(dry)
	if got := state(); got != before {
		t.Errorf("a dry run: got %s, want %s as before", got, before)
	}
	if out := run(2); !strings.Contains(out, "10 rows not imported") || !strings.Contains(out, "no screen and no chat") {
		t.Errorf("got\n%s\nwant the number of rows that were not imported, and what desktops lack", out)
	}
	after := state()
	again := report(2)
	counts("again: accounts", again.Accounts, map[string]int{"unchanged": 3, "not_imported": 4})
	counts("again: keys", again.Keys, map[string]int{"unchanged": 2, "not_imported": 3})
	counts("again: desktops", again.Desktops, map[string]int{"unchanged": 2, "not_imported": 3})
	explained(again)
	if got := state(); got != after || after == before {
		t.Errorf("the second import: got %s, want %s as after the first, and more than %s", got, after, before)
	}

	// Old passwords are good, also one that bcrypt cut and one that no new account could have.
	long := strings.Repeat("ä", 40) + "tail that bcrypt never saw"
	ada, _ := logIn(t, s.URL, "ada@example.com", oldPassword)
	rest, _ := logIn(t, s.URL, "Long@Example.com", long)
	logIn(t, s.URL, "short@example.com", "hi")
	if me := ada.must(http.StatusOK, "GET", "/api/auth/me", ""); me.field("created_at") != "2026-01-02T03:04:05.678Z" {
		t.Errorf("got %s, want created_at of the original", me.body)
	}
	for _, u := range []struct {
		email, password string
		want            int
	}{
		{"ada@example.com", oldPassword, 200}, {"long@example.com", long, 200}, {"long@example.com", long + "x", 401}, // it knows the whole password since the first log-in
		{"short@example.com", "hi", 200}, {"short@example.com", "ho", 401}, {"taken@example.com", "correct horse battery", 401}, {"taken@example.com", "a long enough pass phrase", 200},
	} {
		body := fmt.Sprintf(`{"email":%q,"password":%q}`, u.email, u.password)
		if a := (&client{t: t, base: s.URL}).do("POST", "/api/auth/login", body); a.status != u.want {
			t.Errorf("%s with %q: got %d, want %d", u.email, u.password, a.status, u.want)
		}
	}
	if got := strings.Count(s.cli("events", "--aggregate", "account"), "account.password_rehashed"); got != 2 {
		t.Errorf("hashes replaced: got %d, want 2", got)
	}
	ada.must(http.StatusNoContent, "POST", "/api/auth/password", fmt.Sprintf(`{"current_password":%q,"new_password":"another pass phrase"}`, oldPassword))

	// A machine of the account gets the keys.
	if keys := ada.must(http.StatusOK, "GET", "/api/user/api-keys", ""); keys.field("providers") != "[anthropic]" {
		t.Errorf("got %s, want the key for anthropic", keys.body)
	}
	adaID := ada.must(http.StatusOK, "GET", "/api/auth/me", "").field("id")
	if got, want := keysOf(t, ours.url, adaID), map[string]string{"ANTHROPIC_API_KEY": "sk-ant-original-0123456789"}; !maps.Equal(got, want) {
		t.Errorf("keys of a machine: got %v, want %v", got, want)
	}

	// The desktop says that it has no guest. Its owner stops, starts and terminates it.
	var list struct{ Instances []map[string]any }
	if err := json.Unmarshal(ada.must(http.StatusOK, "GET", "/api/instances", "").body, &list); err != nil || len(list.Instances) != 1 {
		t.Fatalf("got %v, %v, want one desktop", list, err)
	}
	desktop := list.Instances[0]
	id, _ := desktop["id"].(string)
	for field, want := range map[string]any{
		"name": "Ada's old desktop", "status": "running", "ready": false, "ec2_instance_id": running, "region": "eu-central-1", "created_at": "2026-02-03T04:05:06Z", "instance_type": "original",
	} {
		if desktop[field] != want {
			t.Errorf("%s: got %v, want %v", field, desktop[field], want)
		}
	}
	noGuest := func(u *client, id string) {
		t.Helper()
		if why := u.must(http.StatusOK, "GET", "/api/instances/"+id, "").field("status_reason"); !strings.Contains(why, "no guest") {
			t.Errorf("got the reason %q, want that it has no guest", why)
		}
	}
	noGuest(ada, id)
	if a := ada.do("POST", "/api/instances/"+id+"/tickets", `{"kind":"vnc"}`); a.status != http.StatusConflict || a.field("code") != "no_guest" {
		t.Errorf("a ticket: got %d %s, want 409 no_guest", a.status, a.body)
	}
	ada.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/stop", "")
	ada.awaitInstance(id, "status", "stopped")
	noGuest(ada, id)
	ada.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/start", "")
	ada.awaitInstance(id, "status", "running")
	noGuest(ada, id)
	if out := s.cli("reconcile", "--dry-run"); !strings.Contains(out, "0 machines have this environment's tag; 2 instances have not ended.") || !strings.Contains(out, "Cloud and log agree") {
		t.Errorf("reconcile: got %s, want that cloud and log agree", out)
	}
	atRest := rest.must(http.StatusOK, "GET", "/api/instances", "")
	if err := json.Unmarshal(atRest.body, &list); err != nil || len(list.Instances) != 1 || list.Instances[0]["status"] != "stopped" {
		t.Fatalf("got %s, %v, want one stopped desktop", atRest.body, err)
	}
	restID, _ := list.Instances[0]["id"].(string)
	rest.must(http.StatusAccepted, "DELETE", "/api/instances/"+restID, "")
	rest.awaitInstance(restID, "status", "terminated")
	if got := cloud.state(t, stopped); got != "terminated" && got != "shutting-down" {
		t.Errorf("its machine: got %s, want terminated", got)
	}
	if got := cloud.state(t, running); got != "running" {
		t.Errorf("the other machine: got %s, want running", got)
	}

	if got := old.rows(); got != oldRows {
		t.Error("the original's rows have changed")
	}
	// Meanwhile the original lives on: a newcomer, another key, and changes that came too late.
	old.exec(`INSERT INTO users (id, email, password_hash, created_at) SELECT '00000000-0000-4000-8000-000000000008', 'late@example.com', password_hash, now() FROM users WHERE email = 'Ada@example.com';
		UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = 'long@example.com') WHERE email = 'Ada@example.com';
		UPDATE user_api_keys SET encrypted_key = (SELECT encrypted_key FROM user_api_keys WHERE id = '10000000-0000-4000-8000-000000000002') WHERE id = '10000000-0000-4000-8000-000000000001'`)
	oldRows = old.rows()
	late := report(2)
	counts("later: accounts", late.Accounts, map[string]int{"added": 1, "kept": 2, "unchanged": 1, "not_imported": 4})
	counts("later: keys", late.Keys, map[string]int{"updated": 1, "unchanged": 1, "not_imported": 3})
	counts("later: desktops", late.Desktops, map[string]int{"unchanged": 2, "not_imported": 3})
	logIn(t, s.URL, "late@example.com", oldPassword)
	logIn(t, s.URL, "ada@example.com", "another pass phrase")
	if got := old.rows(); got != oldRows {
		t.Error("the original's rows have changed")
	}
	for _, secret := range []string{"sk-ant-original", "sk-openai-original", oldKey, "$2b$04$", "gAAAAA"} {
		if strings.Contains(output, secret) || strings.Contains(s.out.tail(1<<20), secret) || strings.Contains(s.cli("events"), secret) {
			t.Errorf("got %s in an output, want no secret", secret)
		}
	}
}

// TestImportRefusals calls the command in ways that cannot work. Its errors say what to do and contain no secret.
func TestImportRefusals(t *testing.T) {
	t.Parallel()
	empty, ours := pgtest.Empty(t), pgtest.New(t)
	full := &database{t, pgtest.Empty(t)}
	text, err := os.ReadFile("testdata/original.sql")
	if err != nil {
		t.Fatal(err)
	}
	full.exec(string(text))
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const secret = "s3cret-canary"
	dead := "postgres://user:" + secret + "@127.0.0.1:1/original"
	for name, c := range map[string]struct {
		args, env []string
		want      string
	}{
		"a password in an argument":  {args: []string{"--from", "postgres://user:" + secret + "@db.example.com/original"}, want: "--from contains a password"},
		"the same in the query":      {args: []string{"--from", "postgres://db.example.com/original?password=" + secret}, want: "--from contains a password"},
		"no URL":                     {args: []string{"--from", "original"}, want: "--from is not the URL of a database"},
		"no source":                  {want: "name the original's database once"},
		"two sources":                {args: []string{"--from", empty}, env: []string{"ORIGINAL_DATABASE_URL=" + dead}, want: "name the original's database once"},
		"no key":                     {args: []string{"--from", empty}, env: []string{"ORIGINAL_ENCRYPTION_KEY="}, want: "ENCRYPTION_KEY is missing"},
		"two keys":                   {args: []string{"--from", empty, "--encryption-key-file", file("key", secret)}, want: "are both set"},
		"an empty file":              {args: []string{"--from-file", file("empty", "\n")}, want: "is empty"},
		"a missing file":             {args: []string{"--from-file", filepath.Join(dir, "missing")}, want: "--from-file"},
		"a database that is away":    {args: []string{"--from-file", file("url", dead+"\n")}, want: "open the original's database"},
		"a database in the setting":  {env: []string{"ORIGINAL_DATABASE_URL=" + dead}, want: "open the original's database"},
		"nonsense in the setting":    {env: []string{"ORIGINAL_DATABASE_URL=postgres://user:" + secret + "@[::1/original"}, want: "the URL of the original's database cannot be read"},
		"another database":           {args: []string{"--from", empty}, want: "is this the original's database?"},
		"this server's own database": {args: []string{"--from", ours}, want: "is this the original's database?"},
		"another key":                {args: []string{"--from", full.url}, want: "none of the original's API keys opens"},
		"machines, but no EC2":       {args: []string{"--from", full.url, "--without-keys"}, want: "(LOCAL_DEV_MODE=true) and cannot manage a machine on EC2"},
	} {
		s := &server{t: t, dir: t.TempDir(), port: "1", env: append(append(secretsOf(), "DATABASE_URL="+ours, "ORIGINAL_ENCRYPTION_KEY="+secret), c.env...)}
		out, err := s.tool(append([]string{"import"}, c.args...)...)
		if err == nil || !strings.Contains(out, c.want) || strings.Contains(out, secret) {
			t.Errorf("%s: got %v\n%s\nwant %q and no secret", name, err, out, c.want)
		}
	}
}

// keysOf returns the keys that a machine of the account gets.
func keysOf(t *testing.T, databaseURL, account string) map[string]string {
	t.Helper()
	store, vault, closeLog := openLog(t, databaseURL)
	defer closeLog()
	env, err := (&commands.Keys{Log: commands.Log{Store: store}, Vault: vault}).Environment(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// database is a database that a test looks at directly.
type database struct {
	t   testing.TB
	url string
}

func (d *database) conn() *pgx.Conn {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.url)
	if err != nil {
		d.t.Fatal(err)
	}
	return conn
}

func (d *database) exec(sql string) {
	d.t.Helper()
	conn := d.conn()
	defer conn.Close(d.t.Context())
	if _, err := conn.Exec(d.t.Context(), sql); err != nil {
		d.t.Fatal(err)
	}
}

func (d *database) value(sql string) (text string) {
	d.t.Helper()
	conn := d.conn()
	defer conn.Close(d.t.Context())
	if err := conn.QueryRow(d.t.Context(), sql).Scan(&text); err != nil {
		d.t.Fatal(err)
	}
	return text
}

// rows returns all that an original's database contains.
func (d *database) rows() string {
	return d.value(`SELECT string_agg(r, E'\n' ORDER BY r) FROM (SELECT u::text FROM users u UNION ALL SELECT k::text FROM user_api_keys k
		UNION ALL SELECT i::text FROM instances i UNION ALL SELECT s::text FROM subscriptions s) AS all_rows (r)`)
}
