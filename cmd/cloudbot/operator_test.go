package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func TestSignUpMode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		environment, setting string
		want                 commands.SignUpMode
		bad                  bool
	}{
		{"development", "", commands.SignUpOpen, false}, {"test", "", commands.SignUpOpen, false}, {"production", "", commands.SignUpInvite, false},
		{"production", "open", commands.SignUpOpen, false}, {"development", "closed", commands.SignUpClosed, false}, {"test", "yes", "yes", true},
	} {
		cfg := config{Environment: c.environment, SignUp: c.setting}
		if got := cfg.signUpMode(); got != c.want || (cfg.checkSignUp() != nil) != c.bad {
			t.Errorf("%+v: got %s, %v, want %s, an error %v", c, got, cfg.checkSignUp(), c.want, c.bad)
		}
	}
	if err := (config{MaxTotal: -1}).checkSignUp(); err == nil || !strings.Contains(err.Error(), "MAX_INSTANCES_TOTAL") {
		t.Errorf("a negative limit: got %v, want a refusal that names MAX_INSTANCES_TOTAL", err)
	}
}

// tools returns a function that runs the operator's tools on a database, without a server beside it.
func tools(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir) // away from a developer's .env
	for name, value := range map[string]string{"ENVIRONMENT": "test", "DATA_DIR": dir, "DATABASE_URL": pgtest.New(t), "CONTROL_PLANE_URL": "https://cloud.example.org/", "SIGNUP": "invite"} {
		t.Setenv(name, value)
	}
	return func(args ...string) (string, error) {
		var out, warnings bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		cmd.SetErr(&warnings)
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
}

func TestInviteCommand(t *testing.T) {
	run := tools(t)
	out, err := run("accounts", "invite", "Ada@example.com", "--expires", "24h", "--json")
	var made struct {
		ID, Code, URL, Email string
		ExpiresAt            time.Time `json:"expires_at"`
	}
	if err != nil || json.Unmarshal([]byte(out), &made) != nil {
		t.Fatalf("got %s, %v, want an invitation as JSON", out, err)
	}
	if made.URL != "https://cloud.example.org/app/signup#invite="+made.Code || made.Email != "ada@example.com" || time.Until(made.ExpiresAt) > 24*time.Hour {
		t.Errorf("got %+v, want the URL of its code, ada@example.com, at most 24h", made)
	}
	if out, err := run("accounts", "invite"); err != nil || !strings.Contains(out, "any e-mail address, once") {
		t.Errorf("got %s, %v, want a code for any e-mail address", out, err)
	}
	if out, err := run("accounts", "invite", "--revoke", made.ID); err != nil || !strings.Contains(out, "revoked") {
		t.Errorf("got %s, %v, want revoked", out, err)
	}
	for _, args := range [][]string{
		{"accounts", "invite", "no-address"}, {"accounts", "invite", "--expires", "1s"}, {"accounts", "invite", "--revoke", "nothing"}, {"accounts", "invite", "a@example.com", "--revoke", "x"},
		{"accounts", "suspend", "unknown@example.com"}, {"accounts", "suspend", "01NOTHING"}, {"accounts", "resume", "unknown@example.com"},
		{"instances", "terminate", "01NOTHING"},
	} {
		if out, err := run(args...); err == nil || strings.Contains(err.Error(), "--force") { // --force would not help
			t.Errorf("%v: got %s, %v, want an error that does not advise --force", args, out, err)
		}
	}
	if text, err := run("events"); err != nil || strings.Contains(strings.ReplaceAll(text, "-", ""), strings.ReplaceAll(made.Code, "-", "")) || strings.Contains(text, "ada@") || strings.Count(text, `"type":"invite.created"`) != 2 {
		t.Errorf("the log: got %s, %v, want 2 invitations, without code and address", text, err)
	}
	for _, list := range []string{"accounts", "instances"} {
		if out, err := run(list, "list", "--json"); err != nil || !strings.Contains(out, `"`+list+`": []`) {
			t.Errorf("got %s, %v, want no %s", out, err, list)
		}
	}
}

// TestForceCommandNamesWhatIsUnknown opens the local machines, without a server beside it.
func TestForceCommandNamesWhatIsUnknown(t *testing.T) {
	run := tools(t)
	guest := filepath.Join(filepath.Dir(os.Args[0]), "cloudbot-guest")
	if err := os.WriteFile(guest, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(guest) })
	if out, err := run("instances", "terminate", "--force", "01NOTHING"); err == nil || !strings.Contains(err.Error(), "no such instance as 01NOTHING") {
		t.Errorf("got %s, %v, want no such instance as 01NOTHING", out, err)
	}
}

func TestStuck(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		status instance.Status
		lasts  time.Duration
		parked bool
		want   string
	}{
		{instance.Launching, 29 * time.Minute, false, ""}, {instance.Launching, 31 * time.Minute, false, "launching for more than 30m"},
		{instance.Stopping, 16 * time.Minute, false, "stopping for more than 15m"}, {instance.Starting, 14 * time.Minute, false, ""},
		{instance.Terminating, 16 * time.Minute, false, "terminating for more than 15m"},
		{instance.Running, 1000 * time.Hour, false, ""}, {instance.Stopped, 1000 * time.Hour, false, ""}, {instance.Running, 0, true, "its events are parked"}, {"", 0, true, "its events are parked"},
	} {
		if got := stuckWhy(overviewView{Status: c.status, Since: now.Add(-c.lasts), Parked: c.parked}); got != c.want {
			t.Errorf("%+v: got %q, want %q", c, got, c.want)
		}
	}
}

// Every command has a description and an example of itself.
func TestHelpHasExamples(t *testing.T) {
	t.Parallel()
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Short == "" || len(cmd.Long) < 40 || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: got Short %q, Long of %d bytes, Example %q, want all three and its own path in the example", cmd.CommandPath(), cmd.Short, len(cmd.Long), cmd.Example)
		}
		for _, c := range cmd.Commands() {
			look(c)
		}
	}
	look(root())
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var said [2]string
	for i, arg := range []string{"version", "--version"} {
		var out bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		cmd.SetArgs([]string{arg})
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		said[i] = out.String()
	}
	first, rest, _ := strings.Cut(said[0], "\n")
	if first+"\n" != said[1] || !strings.Contains(first, version) {
		t.Errorf("got %q, want the same first line twice, with %s", said, version)
	}
	for _, want := range []string{"commit    unknown\n", "committed unknown\n", "go        go1.", "platform  linux/"} {
		if !strings.Contains(rest, want) {
			t.Errorf("got %q, want a line with %q", rest, want)
		}
	}
	var out bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"version", "--json"})
	var b build
	if err := cmd.Execute(); err != nil || json.Unmarshal(out.Bytes(), &b) != nil || b != thisBuild() {
		t.Errorf("got %s, %v, want %+v as JSON", out.Bytes(), err, thisBuild())
	}
}

// The command events knows the same aggregates as the document of the messages.
func TestAggregatesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/asyncapi.yaml")
	if err != nil || !strings.Contains(string(text), "enum: ["+strings.Join(aggregates(), ", ")+"]") {
		t.Errorf("docs/asyncapi.yaml: got another list, %v, want %v", err, aggregates())
	}
}

// A server is beside a tool if it answers with the process ID in the file.
func TestBeside(t *testing.T) {
	t.Parallel()
	pid := os.Getpid()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+runningPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, pid) })
	up := httptest.NewServer(mux)
	defer up.Close()
	down := httptest.NewServer(mux)
	down.Close()
	cfg := config{DataDir: t.TempDir()}
	if _, ok := beside(t.Context(), cfg); ok {
		t.Error("without a file: got a server, want none")
	}
	for name, c := range map[string]struct {
		r    running
		want bool
	}{
		"the server":               {running{PID: pid, AdminURL: up.URL}, true},
		"another process's number": {running{PID: os.Getppid(), AdminURL: up.URL}, false},
		"a number that is reused":  {running{PID: pid, AdminURL: down.URL}, false},
	} {
		if err := c.r.write(cfg); err != nil {
			t.Fatal(err)
		}
		if _, ok := beside(t.Context(), cfg); ok != c.want {
			t.Errorf("%s: got %v, want %v", name, ok, c.want)
		}
	}
}

// Each of the operator's commands has a description, examples and JSON output.
func TestOperatorsHelp(t *testing.T) {
	t.Parallel()
	for _, group := range []*cobra.Command{accountsCmd(), instancesCmd()} {
		for _, cmd := range group.Commands() {
			if len(cmd.Long) < 60 || cmd.Example == "" || cmd.Flags().Lookup("json") == nil {
				t.Errorf("%s: got Long of %d bytes, Example %q, want both and --json", cmd.CommandPath(), len(cmd.Long), cmd.Example)
			}
		}
	}
}
