package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// backWithin is how soon every viewer must see its desktop again. Only make rolling checks it, on a machine of its own.
const backWithin = 3 * time.Second

// rollout is two replicas behind a balancer, replaced one at a time under load.
type rollout struct {
	t        *testing.T
	balancer *balancer
	env      []string
	servers  []*server
	names    map[string]string // of the programs, by their folder

	tenants []*tenant
	viewers viewers
	watched int // viewers that there are

	ctx  context.Context // of the viewers and streams
	stop chan struct{}   // closed to end the load
	load sync.WaitGroup
	all  sync.WaitGroup
}

// size is the load of a rollout.
type size struct {
	tenants, viewers, streams int // viewers and streams are those of one tenant
	pause, grace              time.Duration
}

// newRollout starts two replicas of a program, the desktops, and the load on them.
func newRollout(t *testing.T, nats, programs string, names map[string]string, s size) *rollout {
	guests := programs
	if guests == "" {
		guests = bin
	}
	cloud := startEC2(t, guests, "PATH=/nowhere") // desktops are built-in screens
	ctx, cancel := context.WithCancel(t.Context())
	r := &rollout{t: t, balancer: newBalancer(t), ctx: ctx, stop: make(chan struct{}), names: names, viewers: viewers{closes: map[string]int{}, denied: map[string]int{}}}
	t.Cleanup(func() {
		cancel()
		r.load.Wait()
		r.all.Wait()
	})
	r.env = append(append(cloud.settings(), secretsOf()...),
		"DATABASE_URL="+pgtest.Empty(t), "NATS_URL="+nats, "CONTROL_PLANE_URL="+r.balancer.url, "TRUSTED_PROXIES=127.0.0.0/8",
		"SHUTDOWN_GRACE="+s.grace.String(), "MAX_INSTANCES_PER_USER=20")
	for range 2 {
		r.servers = append(r.servers, r.launch(programs))
	}
	for _, one := range r.servers {
		one.waitReady()
		r.join(one)
	}
	r.settle(s)
	return r
}

func (r *rollout) launch(programs string) *server {
	s := newServer(r.t, r.env...)
	r.t.Cleanup(func() { r.explain(s) })
	s.bin = programs
	s.launch()
	return s
}

// explain logs why a replica refused viewers, if the test failed.
func (r *rollout) explain(s *server) {
	if !r.t.Failed() {
		return
	}
	why := map[string]int{}
	for line := range strings.Lines(s.out.tail(16 << 20)) {
		if _, err, refused := strings.Cut(line, "err="); refused && strings.Contains(line, "bridge refused") {
			why[strings.TrimSpace(err)]++
		}
	}
	r.t.Logf("replica %s (%s) refused viewers: %v", s.URL, r.names[s.bin], why)
}

// join waits until the balancer sends requests to a replica.
func (r *rollout) join(s *server) {
	r.balancer.add(r.t, s.URL, r.names[s.bin])
	await(r.t, time.Minute, "the balancer to use the replica", func() bool { return r.balancer.holds(s.URL) })
}

// settle signs up the tenants, makes their desktops and starts viewers, streams and commands.
func (r *rollout) settle(s size) {
	for i := range s.tenants {
		u := &tenant{client: &client{t: r.t, base: r.balancer.url, from: fmt.Sprintf("10.0.%d.1", i)}, accepted: map[string]int{}}
		u.token = u.must(http.StatusCreated, "POST", "/api/auth/signup", fmt.Sprintf(`{"email":"tenant%d@example.com","password":"a long enough pass phrase"}`, i)).field("access_token")
		u.instance = u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
		r.tenants = append(r.tenants, u)
	}
	for _, u := range r.tenants {
		u.awaitInstance(u.instance, "ready", "true")
		for range s.streams {
			l := &listener{u: u}
			u.streams = append(u.streams, l)
			r.all.Go(func() { l.listen(r.ctx) })
		}
		for range s.viewers {
			r.watched++
			r.all.Go(func() { r.viewers.watch(r.ctx, u.client, u.instance) })
		}
		r.load.Go(func() { u.work(r.ctx, r.stop, s.pause) })
	}
	r.everyoneWatches()
}

// everyoneWatches waits until each viewer has a picture.
func (r *rollout) everyoneWatches() {
	r.t.Helper()
	await(r.t, 2*time.Minute, fmt.Sprintf("%d viewers to have a picture", r.watched), func() bool { return int(r.viewers.open.Load()) == r.watched })
}

// replace starts a replica of a program, and then stops one as a deploy does.
func (r *rollout) replace(i int, programs, what string) {
	r.t.Helper()
	old := r.servers[i]
	began := time.Now()
	next := r.launch(programs)
	next.waitReady()
	r.join(next)
	if r.names[old.bin] == "old" {
		r.balancer.remove(old.URL) // it moves its desktops immediately, before a health check can fail
	}
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-old.exit:
	case <-time.After(2 * time.Minute):
		r.t.Fatalf("%s: the replica still runs 2 min after SIGTERM", what)
	}
	if code := old.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Errorf("%s: exit code %d of the stopped replica, want 0\n%s", what, code, old.out.tail(4000))
	}
	r.balancer.remove(old.URL)
	r.servers[i] = next
	r.everyoneWatches()
	took := time.Since(began)
	longest, count := r.viewers.longest(began)
	requests, told, faults := r.balancer.snapshot()
	r.t.Logf("%s: %.0f s; %d viewers came back, the last after %.2f s; so far %d requests, %d sockets told to come back, faults %v", what, took.Seconds(), count, longest.Seconds(), requests, told, faults)
}

// longest returns the longest absence since a time, and how many there were.
func (v *viewers) longest(since time.Time) (longest time.Duration, count int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.away {
		if a.since.After(since) {
			count++
			longest = max(longest, a.took)
		}
	}
	return longest, count
}

// finish ends the load, compares everything that was accepted with what can be read, and prints the counts.
func (r *rollout) finish() {
	t := r.t
	t.Helper()
	close(r.stop)
	r.load.Wait()
	accepted, repeated := map[string]int{}, 0
	for _, u := range r.tenants {
		for kind, n := range u.accepted {
			accepted[kind] += n
		}
		repeated += u.repeated
	}
	var c counts
	await(t, time.Minute, "log and stream to be the same", func() bool {
		out, err := r.servers[0].tool("verify", "--json")
		return err == nil && json.Unmarshal([]byte(out), &c) == nil && c.Log == c.Stream
	})
	events, breaks := 0, 0
	for i, u := range r.tenants {
		await(t, time.Minute, "the streams to be at one place", func() bool {
			return !slices.ContainsFunc(u.streams, func(l *listener) bool { return l.at() != u.streams[0].at() || l.at() == 0 })
		})
		n, faults := u.check()
		events += n * len(u.streams)
		for _, l := range u.streams {
			breaks += l.breaks
		}
		for _, f := range faults {
			t.Errorf("tenant %d: %s", i, f)
		}
	}
	requests, told, faults := r.balancer.snapshot()
	for fault, n := range faults {
		if strings.HasPrefix(fault, "old: 502") { // the previous release does not wait for a machine that moves
			t.Logf("answers of the previous release: %d times %s", n, fault)
			continue
		}
		t.Errorf("answers of 500 or above, beyond the told sockets: got %d times %s, want none", n, fault)
	}
	if c.Missing+c.Extra+c.Different != 0 {
		t.Errorf("log and stream: got %+v, want no difference", c)
	}
	v := &r.viewers
	v.mu.Lock()
	t.Logf("commands accepted: %v, %d of them after a repeat; log %+v", accepted, repeated, c)
	t.Logf("streams: %d events read, each once and in order, over %d reconnects", events, breaks)
	t.Logf("balancer: %d requests, %d sockets told to come back, other answers of 500 or above: %d", requests, told, len(faults))
	t.Logf("viewers: closed by code %v, refused %v", v.closes, v.denied)
	v.mu.Unlock()
}

// TestRollingRestart replaces two replicas behind a balancer, one after the other, by replicas of the same program. It is
// the small version of TestRolling, which has two versions: this one shows only that draining loses nothing.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	r := newRollout(t, startNATS(t, natsserver.RANDOM_PORT), "", map[string]string{"": "new"}, size{tenants: 1, viewers: 3, streams: 3, pause: 100 * time.Millisecond, grace: 2 * time.Second})
	r.replace(0, "", "first replica")
	r.replace(1, "", "second replica")
	r.finish()
	if n := r.viewers.closes["1012"]; n == 0 {
		t.Errorf("got %v, want viewers that were told to come back", r.viewers.closes)
	}
}

// TestRolling runs the previous release, which deploy/previous-release names, beside this one under load, and rolls
// forwards and back. `make rolling` runs it.
func TestRolling(t *testing.T) {
	if os.Getenv("E2E_ROLLING") == "" {
		t.Skip("builds another version and loads the whole computer: make rolling")
	}
	older := previousRelease(t)
	newer := programs(t, "..", script(t, "..", "git describe --tags --always --dirty"))
	before, after := versionOf(t, older), versionOf(t, newer)
	if before == after {
		t.Fatalf("both programs are %s, want two versions", before)
	}
	t.Logf("from %s to %s and back", before, after)
	r := newRollout(t, natstest.NewCluster(t, 3).URL(), older, map[string]string{older: "old", newer: "new"}, size{tenants: 10, viewers: 10, streams: 10, pause: 500 * time.Millisecond, grace: 5 * time.Second})
	r.replace(0, newer, "old, old → new, old")
	r.replace(1, newer, "new, old → new, new")
	r.replace(0, older, "new, new → old, new")
	r.replace(1, older, "old, new → old, old")
	r.finish()
	longest, count := r.viewers.longest(time.Time{})
	if longest > backWithin {
		t.Errorf("the longest of %d absences: got %s, want at most %s", count, longest, backWithin)
	}
	t.Logf("viewers: %d, back %d times, the longest after %.2f s (at most %s)", r.watched, count, longest.Seconds(), backWithin)
}

// previousRelease builds the release before this one from the git history and returns the folder of its programs.
func previousRelease(t *testing.T) string {
	commit, err := os.ReadFile("../deploy/previous-release")
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(commit))
	dir := openFolder(t)
	script(t, dir, `git -C "$1" archive "$2" | tar -x`, id)
	// Its dashboard is not built: web/dist is empty there, and the program then serves none.
	return programs(t, dir, id)
}

// programs builds the programs of a source folder, under a version, and returns their folder.
func programs(t *testing.T, source, version string) string {
	out := filepath.Join(openFolder(t), "programs")
	script(t, source, `CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${2:0:12}" -tags failpoints -o "$3/" ./cmd/cloudbot ./cmd/cloudbot-guest`, version, out)
	return out
}

// script runs a script in a folder. Its $1 is the repository; it returns its output.
func script(t *testing.T, dir, text string, args ...string) string {
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-eo", "pipefail", "-c", text, "script", here}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", text, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// openFolder returns a folder that other users can read: a machine's guest runs as another user and must reach its
// program.
func openFolder(t *testing.T) string {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func versionOf(t *testing.T, programs string) string {
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs, "cloudbot"), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
