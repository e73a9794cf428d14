package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestUnknownMachine removes a machine while the server is down, so that the cloud no longer knows it. The server starts,
// more than once, and records that the machine is missing.
func TestUnknownMachine(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	s := newServer(t, "DATABASE_URL="+database)
	s.start()
	u := signUp(t, s.URL, "dorothy@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	u.awaitInstance(id, "ready", "true")
	s.stop()
	killIn(filepath.Join(s.dir, "machines"))
	if err := os.Rename(filepath.Join(s.dir, "machines"), filepath.Join(s.dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	// In its first minutes a machine is not reported missing, so this one was launched a day ago.
	execute(t, database, `SET session_replication_role = replica;
		UPDATE log.entries SET data = jsonb_set(data::jsonb, '{at}', to_jsonb(to_char(now() - interval '1 day', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))::text
		WHERE type = 'instance.machine_launched'`)
	if err := os.RemoveAll(filepath.Join(s.dir, "nats")); err != nil {
		t.Fatal(err)
	}
	s.start()
	await(t, 90*time.Second, "the machine to be reported missing", func() bool {
		return slices.Contains(s.eventTypes("--aggregate", "instance", "--id", id), "instance.machine_missed")
	})
	s.stop()
	s.start()
	u.must(http.StatusOK, "GET", "/api/instances/"+id, "")
	if out := s.out.tail(1 << 20); strings.Contains(out, "panic") {
		t.Errorf("got a panic, want none:\n%s", out)
	}
}

// TestPlantedPanic plants a bug in a worker of the saga. The server logs which part panicked, stops in order and leaves
// no child process. After its next start it continues where it was.
func TestPlantedPanic(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.launch("FAILPOINT=panic:call.call.launch.before")
	s.waitUp()
	u := signUp(t, s.URL, "mary@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	select {
	case <-s.exit:
	case <-time.After(60 * time.Second):
		t.Fatal("the server still runs after 60 s, want it stopped")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1: it ended out of order", code)
	}
	out := s.out.tail(1 << 20)
	for _, want := range []string{"part panicked", "part=saga", "provisioner.(*Saga)", "cloudbot: saga: "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what the server said:\n%s", want, out)
		}
	}
	if left := workingIn(filepath.Join(s.dir, "postgres")); len(left) > 0 {
		t.Errorf("processes of its Postgres: got %v, want none", left)
	}
	s.start()
	u.awaitInstance(id, "ready", "true")
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
}

// workingIn returns the processes whose working folder is dir or below it.
func workingIn(dir string) (pids []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd+"/", dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}
