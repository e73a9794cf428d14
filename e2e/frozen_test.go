package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guests returns the processes of this server's guests.
func (s *server) guests() (pids []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		args, _ := os.ReadFile(p)
		program, _, _ := strings.Cut(string(args), "\x00")
		if filepath.Base(program) != "cloudbot-guest" || !strings.Contains(string(args), filepath.Join(s.dir, "machines")+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestFrozenGuest stops a real guest with SIGSTOP. The desktop is then not ready and shows since when, an open event
// stream reports the change, and the log gets no event. After SIGCONT everything recovers.
func TestFrozenGuest(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	u := signUp(t, s.URL, "frozen@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", `{"name":"frozen"}`).field("id")
	u.awaitInstance(id, "ready", "true")
	lines, leave, err := u.stream("/api/events", "", 3*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	changed := func(what string) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == "event: instance.presence" {
				return
			}
		}
		t.Fatalf("the event stream does not say that %s: %v", what, lines.Err())
	}
	events := len(s.eventTypes())
	signal := func(sig syscall.Signal) {
		t.Helper()
		pids := s.guests()
		if len(pids) == 0 {
			t.Fatal("no guest is running")
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	changed("the machine is silent")
	i := u.must(http.StatusOK, "GET", "/api/instances/"+id, "")
	if i.field("ready") != "false" || i.field("status") != "running" || !strings.Contains(i.field("status_reason"), "not responded since 20") {
		t.Errorf("frozen: got %s, want running, not ready, and since when it does not respond", i.body)
	}
	if list := u.must(http.StatusOK, "GET", "/api/instances", ""); !strings.Contains(string(list.body), "not responded since 20") {
		t.Errorf("the list: got %s, want since when it does not respond", list.body)
	}
	signal(syscall.SIGCONT)
	changed("it is back")
	u.awaitInstance(id, "ready", "true")
	if now := len(s.eventTypes()); now != events {
		t.Errorf("events written: got %d, want 0", now-events)
	}
}
