package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// owns makes a role the owner of its database.
const owns = "ALTER DATABASE DATABASE_ OWNER TO ROLE_"

// TestAble starts a server on each kind of database and NATS that people have. Either it works, and doctor and /ready
// confirm that; or it refuses to start with a sentence that says what to do, and doctor prints the same sentence.
func TestAble(t *testing.T) {
	t.Parallel()
	with := natsWith(t, true)
	without := natsWith(t, false)
	production := []string{
		"ENVIRONMENT=production", "CONTROL_PLANE_URL=https://cloud.example.org", "TRUSTED_PROXIES=127.0.0.0/8", "HOST=127.0.0.1", "NATS_URL=" + with,
		"JWT_SECRET_KEY=" + rand.Text() + rand.Text(), "JWT_REFRESH_SECRET_KEY=" + rand.Text() + rand.Text(),
		"ENCRYPTION_KEY=" + base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:32]), "LOCAL_DEV_MODE=false", "AWS_REGION=eu-central-1",
		"AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_ACCESS_KEY_ID=AKIATEST", "AWS_SECRET_ACCESS_KEY=secret", "UBUNTU_AMI_ID=ami-0123456789abcdef0",
		"EC2_SUBNET_ID=subnet-a", "EC2_SECURITY_GROUP_ID=sg-1",
	}
	for name, c := range map[string]struct {
		database string
		env      []string
		refused  string // what serve and doctor print; "": they work
	}{
		"all well":               {pgtest.Role(t, pgtest.Empty(t), "", owns), []string{"NATS_URL=" + with}, ""},
		"few connections":        {pgtest.Role(t, pgtest.Empty(t), "CONNECTION LIMIT 10", owns), nil, ""},
		"pooler by session":      {pgtest.Bouncer(t, pgtest.Empty(t), "session"), nil, ""},
		"production":             {pgtest.New16(t), production, ""},
		"too few connections":    {pgtest.Role(t, pgtest.Empty(t), "CONNECTION LIMIT 2", owns), nil, "may open only 2 connections"},
		"read-only":              {pgtest.Role(t, pgtest.Empty(t), "", owns, "ALTER ROLE ROLE_ SET default_transaction_read_only = on"), nil, "read-only"},
		"no right to create":     {pgtest.Role(t, pgtest.Empty(t), ""), nil, "GRANT CREATE ON DATABASE"},
		"pooler by transaction":  {pgtest.Bouncer(t, pgtest.Empty(t), "transaction"), nil, "session mode"},
		"pooler by statement":    {pgtest.Bouncer(t, pgtest.Empty(t), "statement"), nil, "session mode"},
		"NATS without JetStream": {pgtest.Empty(t), []string{"NATS_URL=" + without}, "NATS refuses JetStream"},
		"an old PostgreSQL":      {oldPostgres(t), production, "use version 16 or newer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.database == "" {
				t.Skip("the installed PostgreSQL is new enough for production, so it cannot be too old here")
			}
			s := newServer(t, append([]string{"DATABASE_URL=" + c.database}, c.env...)...)
			if c.refused == "" {
				s.start()
				c := &client{t: t, base: s.URL}
				await(t, 30*time.Second, "/ready without degraded parts", func() bool { // the relay creates its stream first
					a := c.do("GET", "/ready", "")
					return a.status == http.StatusOK && a.field("status") == "ready" && a.field("degraded") == ""
				})
				if name != "production" { // sign-up may be closed in production, and machines cost money
					s.works()
				}
				if out, err := s.tool("doctor"); strings.Contains(lineOf(out, "Postgres"), "BAD") || strings.Contains(lineOf(out, "NATS"), "BAD") {
					t.Errorf("doctor: got %v, want Postgres and NATS without BAD\n%s", err, out)
				}
				return
			}
			s.launch()
			select {
			case <-s.exit:
			case <-time.After(60 * time.Second):
				t.Fatal("the server still runs after 60 s, want it refused")
			}
			if said := s.out.tail(2000); s.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, c.refused) || strings.Contains(said, "panic") {
				t.Errorf("serve: got exit code %d, want 1 and %q:\n%s", s.cmd.ProcessState.ExitCode(), c.refused, said)
			}
			if out, err := s.tool("doctor"); err == nil || !strings.Contains(out, c.refused) {
				t.Errorf("doctor: got %v, want %q\n%s", err, c.refused, out)
			}
		})
	}
}

// TestTurns breaks the database and NATS under a running server, and repairs them. /ready and doctor follow in both
// directions. The checks themselves leave nothing behind.
func TestTurns(t *testing.T) {
	t.Parallel()
	admin := pgtest.Empty(t)
	database := pgtest.Role(t, admin, "", owns)
	port := freePort(t)
	bus := natsOn(t, port, true)
	s := newServer(t, "DATABASE_URL="+database, "NATS_URL=nats://127.0.0.1:"+port)
	s.start()
	u := s.works()
	c := &client{t: t, base: s.URL}
	becomes := func(status int, want string) {
		t.Helper()
		var last answer
		defer func() {
			if t.Failed() {
				t.Logf("/ready at last: %d %s", last.status, last.body)
			}
		}()
		await(t, 90*time.Second, fmt.Sprintf("/ready to be %d with %q", status, want), func() bool {
			a, err := c.try("GET", "/ready", "")
			last = a
			return err == nil && a.status == status && strings.Contains(string(a.body), want) && (status != http.StatusOK || want != "" || a.field("degraded") == "")
		})
	}
	doctor := func(line, want string) {
		t.Helper()
		if out, _ := s.tool("doctor"); !strings.Contains(lineOf(out, line), want) {
			t.Errorf("doctor does not say %q of %s:\n%s", want, line, out)
		}
	}

	// A thousand requests to /ready add no event, no receipt, no row and no message.
	s.verify()
	before := s.holds(admin, port)
	for range 1000 {
		c.must(http.StatusOK, "GET", "/ready", "")
	}
	if after := s.holds(admin, port); after != before {
		t.Errorf("after 1,000 requests: got\n%s\nwant\n%s", after, before)
	}

	// The database is read-only for a while, as after a failed failover.
	role := roleOf(t, database)
	turn := func(sql string) {
		t.Helper()
		for _, sql := range []string{sql, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + role + `'`} {
			execute(t, admin, sql)
		}
	}
	turn(`ALTER ROLE ` + role + ` SET default_transaction_read_only = on`)
	becomes(http.StatusServiceUnavailable, "postgres")
	doctor("Postgres", "BAD")
	turn(`ALTER ROLE ` + role + ` RESET default_transaction_read_only`)
	becomes(http.StatusOK, "")
	doctor("Postgres", "ok")
	u.must(http.StatusCreated, "POST", "/api/user/api-keys", `{"provider":"openai","api_key":"sk-0123456789abcdef0123456789"}`)

	// The same without the right to insert.
	turn(`REVOKE INSERT ON log.entries FROM ` + role)
	becomes(http.StatusServiceUnavailable, "postgres")
	doctor("Postgres", "BAD")
	turn(`GRANT INSERT ON log.entries TO ` + role)
	becomes(http.StatusOK, "")

	// NATS goes away: commands and queries continue, and /ready lists what does not work.
	bus()
	becomes(http.StatusOK, "limits: each replica limits sign-ins alone")
	doctor("NATS", "note")
	u.must(http.StatusOK, "PUT", "/api/user/api-keys/openai", `{"api_key":"sk-another0123456789abcdef0123456789"}`)
	u.must(http.StatusOK, "GET", "/api/user/api-keys", "")
	again := signUp(t, s.URL, "while.nats.is.away@example.com")
	again.must(http.StatusOK, "GET", "/api/auth/me", "")
	if got := s.metric("cloudbot_degraded{part=\"limits\"}"); got != "1" {
		t.Errorf("cloudbot_degraded of limits: got %q, want 1", got)
	}
	s.lives(u) // a desktop still opens
	// It comes back without JetStream: desktops could never be opened.
	bus = natsOn(t, port, false)
	becomes(http.StatusServiceUnavailable, "NATS refuses JetStream")
	doctor("NATS", "BAD")
	bus()
	natsOn(t, port, true)
	becomes(http.StatusOK, "")
	doctor("NATS", "ok")
	if got := s.metric("cloudbot_degraded{part=\"limits\"}"); got != "0" {
		t.Errorf("cloudbot_degraded of limits: got %q, want 0", got)
	}
	s.verify()
}

// works signs a user up and takes an instance through its life, as a ready server can.
func (s *server) works() *client {
	s.t.Helper()
	u := signUp(s.t, s.URL, "ada@example.com")
	s.lives(u)
	return u
}

// lives takes an instance of the user from its launch to its desktop and its end.
func (s *server) lives(u *client) {
	s.t.Helper()
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	u.awaitInstance(id, "ready", "true")
	if shot, err := u.screenshot(id); err != nil || shot.colours < 2 {
		s.t.Errorf("desktop: got %+v, %v, want 2 or more colours", shot, err)
	}
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
}

// holds returns what the log, JetStream and the tables beside the log hold.
func (s *server) holds(database, port string) string {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), database)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context())
	var rows string
	if err := conn.QueryRow(s.t.Context(), `SELECT concat_ws(' ', (SELECT count(*) FROM log.entries), (SELECT max(position) FROM log.entries),
		(SELECT count(*) FROM ops.leases), (SELECT count(*) FROM read.parked))`).Scan(&rows); err != nil {
		s.t.Fatal(err)
	}
	nc, err := nats.Connect("nats://127.0.0.1:" + port)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	m, err := nc.Request("$JS.API.STREAM.INFO.EVENTS", nil, 10*time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	var info struct {
		State struct {
			Messages int `json:"messages"`
			LastSeq  int `json:"last_seq"`
		} `json:"state"`
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(rows, info)
}

// metric returns the value of one of the server's metrics.
func (s *server) metric(name string) string {
	s.t.Helper()
	for l := range strings.Lines(string(s.admin("/metrics"))) {
		if value, ok := strings.CutPrefix(l, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// tool runs one of the operator's tools beside the server. It may fail.
func (s *server) tool(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(bin, "cloudbot"), args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "DATA_DIR=" + s.dir, "PORT=" + s.port, "ENVIRONMENT=test", "LOG_LEVEL=warn"}, s.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// lineOf returns doctor's line about a thing.
func lineOf(out, thing string) string {
	for l := range strings.Lines(out) {
		if fields := strings.Fields(l); len(fields) > 1 && fields[1] == thing {
			return l
		}
	}
	return ""
}

func roleOf(t *testing.T, url string) string {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return c.User
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// oldPostgres returns a database on a PostgreSQL that production refuses; "" if the installed one is newer.
func oldPostgres(t *testing.T) string {
	t.Helper()
	url := pgtest.Empty(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var version int
	if err := conn.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version >= 160000 {
		return ""
	}
	return url
}

func natsWith(t *testing.T, jetStream bool) (url string) {
	port := freePort(t)
	natsOn(t, port, jetStream)
	return "nats://127.0.0.1:" + port
}

// natsOn starts a NATS on a port and returns a function that stops it.
func natsOn(t *testing.T, port string, jetStream bool) (stop func()) {
	t.Helper()
	var number int
	_, _ = fmt.Sscan(port, &number)
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: number, JetStream: jetStream, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	stop = func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
	t.Cleanup(stop)
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS does not come up")
	}
	return stop
}
