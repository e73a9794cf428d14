package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// guestPath is the path of the guest program, built once for all tests.
var guestPath string

func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCAL_TEST_CONTROL_PLANE"); dir != "" {
		controlPlane(dir)
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "local-test-*")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		guestPath = filepath.Join(dir, "cloudbot-guest")
		build := exec.Command("go", "build", "-o", guestPath, "github.com/cloudbot-ai/control-plane/cmd/cloudbot-guest")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// controlPlane is another process on the same folder: it launches LOCAL_TEST_LAUNCHES machines with
// the tokens token-0, token-1 … and runs until it is killed or its input ends, which closes it.
func controlPlane(dir string) {
	c, err := New(Config{Dir: dir, GuestPath: os.Getenv("LOCAL_TEST_GUEST"), ControlPlaneURL: "http://127.0.0.1:9"})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for i := range len(os.Getenv("LOCAL_TEST_LAUNCHES")) {
		id, err := launch(ctx, c, fmt.Sprintf("token-%d", i))
		if err != nil {
			panic(err)
		}
		fmt.Println(id)
	}
	fmt.Println("ready")
	bufio.NewScanner(os.Stdin).Scan()
	cancel()
	if err := <-done; err != nil {
		panic(err)
	}
}

type other struct {
	cmd *exec.Cmd
	in  interface{ Close() error }
	ids []string
}

func startOther(t *testing.T, dir string, launches int) *other {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCAL_TEST_CONTROL_PLANE="+dir, "LOCAL_TEST_GUEST="+guestPath, "LOCAL_TEST_LAUNCHES="+strings.Repeat("x", launches))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := &other{cmd: cmd, in: in}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	s := bufio.NewScanner(out)
	for s.Scan() && s.Text() != "ready" {
		o.ids = append(o.ids, s.Text())
	}
	return o
}

func open(t *testing.T, dir string) *Cloud {
	t.Helper()
	c, err := New(Config{Dir: dir, GuestPath: guestPath, ControlPlaneURL: "http://127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		ids, _ := c.ledger.all()
		for _, id := range ids {
			if p := processes(c, id); len(p) > 0 {
				t.Errorf("%s: processes %v are left after Close, want none", id, p)
			}
			_ = c.remove(id)
		}
	})
	return c
}

func launch(ctx context.Context, c *Cloud, token string) (string, error) {
	s, err := c.Freeze(machines.LaunchPlan{Instance: "01INSTANCE", Attempt: 1, Type: "t3.large", ClientToken: token})
	if err != nil {
		return "", err
	}
	return c.Launch(ctx, s, strings.ReplaceAll(s.UserData, machines.TokenPlaceholder, "secret-"+token))
}

func mustLaunch(t *testing.T, c *Cloud, token string) string {
	t.Helper()
	id, err := launch(t.Context(), c, token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	if !waitUntil(15*time.Second, is) {
		t.Fatalf("timed out after 15 s waiting: %s", what)
	}
}

func seen(t *testing.T, c *Cloud, id string) instance.Seen {
	t.Helper()
	list, err := c.Describe(t.Context(), []string{id, "local-0000000000000000"})
	if err != nil || len(list) != 1 || list[0].ID != id {
		t.Fatalf("describe: got %v, %v, want no error, len(list) 1 and list[0].ID %v", list, err, id)
	}
	return list[0].Seen
}

// calls counts the ledger's entries of one machine.
func calls(t *testing.T, c *Cloud, id string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(c.ledger.path)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for l := range strings.Lines(string(b)) {
		var e entry
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("ledger line %q: %v", l, err)
		}
		if e.Machine == id {
			n[e.Call]++
			if e.ClientToken == "" || e.Time.IsZero() {
				t.Errorf("entry without token or time: got %s, want e.ClientToken not empty and e.Time.IsZero() false", l)
			}
		}
	}
	return n
}

// processes returns the machine's processes, as the next sweep would find them.
func processes(c *Cloud, id string) []int {
	m, err := c.read(id)
	if err != nil {
		return []int{-1}
	}
	return c.processes(m)
}

func programs(c *Cloud, id string) map[string]bool {
	names := map[string]bool{}
	for _, pid := range processes(c, id) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		names[strings.TrimSpace(string(b))] = true
	}
	return names
}

func TestLifeOfAMachine(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	id := mustLaunch(t, c, "token")
	if again := mustLaunch(t, c, "token"); again != id {
		t.Errorf("the same token made %s and %s, want %v", id, again, id)
	}
	if got := seen(t, c, id); got != instance.SeenRunning {
		t.Errorf("launched: got %s, want %v", got, instance.SeenRunning)
	}
	server := ""
	for vnc, x := range map[string]string{"x11vnc": "Xvfb", "Xvnc": "Xvnc"} {
		if _, err := exec.LookPath(vnc); err == nil && server != "Xvnc" {
			server = x
		}
	}
	if server != "" {
		eventually(t, "the X server runs", func() bool { return programs(c, id)[server] })
		if os.Getuid() == 0 {
			for _, pid := range processes(c, id) {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(comm)) == server && strings.Contains(string(b), "\nUid:\t0\t") {
					t.Error("the X server runs as root")
				}
			}
		}
	}
	for _, pid := range processes(c, id) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(b), "secret-") {
			t.Errorf("a token in the arguments: got %q, want no \"secret-\" in string(b)", b)
		}
	}
	for range 2 {
		if err := c.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := seen(t, c, id); got != instance.SeenStopped {
		t.Errorf("stopped: got %s, want %v", got, instance.SeenStopped)
	}
	if p := processes(c, id); len(p) > 0 {
		t.Errorf("processes %v are left after Stop, want none", p)
	}
	if err := c.Tend(t.Context()); err != nil || len(processes(c, id)) > 0 {
		t.Errorf("a stopped machine was woken: got %v, want no error and none", err)
	}
	if got := mustLaunch(t, c, "token"); got != id || len(processes(c, id)) > 0 {
		t.Error("a repeated launch woke a stopped machine")
	}
	for range 2 {
		if err := c.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := seen(t, c, id); got != instance.SeenRunning {
		t.Errorf("started: got %s, want %v", got, instance.SeenRunning)
	}
	for range 2 {
		if err := c.Terminate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if got := seen(t, c, id); got != instance.SeenGone {
		t.Errorf("terminated: got %s, want %v", got, instance.SeenGone)
	}
	if p := processes(c, id); len(p) > 0 {
		t.Errorf("processes %v are left after Terminate, want none", p)
	}
	if _, err := os.Stat(c.folder(id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left after Terminate: got %v, want error %v", err, os.ErrNotExist)
	}
	if got := mustLaunch(t, c, "token"); got != id || seen(t, c, id) != instance.SeenGone {
		t.Error("a repeated launch brought a terminated machine back")
	}
	var refused *machines.CallError
	if err := c.Start(t.Context(), id); !errors.As(err, &refused) || refused.Verdict != instance.Never {
		t.Errorf("start of a terminated machine: got %v, want a refusal and refused.Verdict %v", err, instance.Never)
	}
	want := map[string]int{"launch": 1, "stop": 1, "start": 1, "terminate": 1}
	if got := calls(t, c, id); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ledger %v, want %v", got, want)
	}
}

func TestSameTokenOtherRequest(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	mustLaunch(t, c, "token")
	s, err := c.Freeze(machines.LaunchPlan{Instance: "01OTHER", Attempt: 1, Type: "t3.large", ClientToken: "token"})
	if err != nil {
		t.Fatal(err)
	}
	var refused *machines.CallError
	if _, err := c.Launch(t.Context(), s, s.UserData); !errors.As(err, &refused) || refused.Code != "IdempotentParameterMismatch" || refused.Verdict != instance.Never {
		t.Errorf("got %v, want a refusal, refused.Code \"IdempotentParameterMismatch\" and refused.Verdict %v", err, instance.Never)
	}
}

// There is one size, this computer, which requests may also call by the names of EC2's sizes.
func TestTypes(t *testing.T) {
	t.Parallel()
	types := open(t, t.TempDir()).Types()
	if len(types) != 1 || types[0].ID != "local" || types[0].CPUs < 1 || types[0].Memory < 256 {
		t.Fatalf("got %+v, want one type, local, with this computer's cores and memory", types)
	}
	for name, want := range map[string]bool{"local": true, "t3.large": true, "t3.medium": true, "t3.xlarge": true, "p5.48xlarge": false, "": false} {
		if types[0].Named(name) != want {
			t.Errorf("named %q: got %v, want %v", name, !want, want)
		}
	}
}

func TestFreezeRefusesUnknownType(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	if _, err := c.Freeze(machines.LaunchPlan{Instance: "i", Type: "p5.48xlarge", ClientToken: "t"}); err == nil {
		t.Error("frozen")
	}
}

func TestDeadGuestIsStartedAgain(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	id := mustLaunch(t, c, "token")
	before, err := c.read(id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if err := syscall.Kill(before.Guest.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another guest runs", func() bool {
		m, err := c.read(id)
		return err == nil && m.Guest != before.Guest && m.Guest.alive()
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p := processes(c, id); len(p) > 0 {
		t.Errorf("processes %v are left after Run, want none", p)
	}
	if got := calls(t, c, id); got["launch"] != 1 || len(got) != 1 {
		t.Errorf("ledger %v, want got[\"launch\"] 1 and len(got) 1", got)
	}
}

// guests returns the machine's guests, by process id. A child of a guest looks like the guest until it executes its
// program, so children of a guest do not count.
func guests(c *Cloud, id string) []int {
	parents := map[int]string{}
	for _, pid := range processes(c, id) {
		fields, err := stat(pid)
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == guestPath {
			parents[pid] = fields[1]
		}
	}
	var found []int
	for pid, parent := range parents {
		if p, err := strconv.Atoi(parent); err != nil || parents[p] == "" {
			found = append(found, pid)
		}
	}
	return found
}

// one waits until the machine has one guest, and fails if it ever has more. A new guest may not be visible yet: its
// mark appears after its program.
func one(t *testing.T, c *Cloud, id string) {
	t.Helper()
	eventually(t, "a guest runs", func() bool {
		g := guests(c, id)
		if len(g) > 1 {
			t.Fatalf("%s: guests %v, want at most 1", id, g)
		}
		if len(g) == 1 {
			return true
		}
		// A child process may have briefly inherited the lock that shows that a guest lives.
		if err := c.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
		return false
	})
}

func TestTwoProcessesOneToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir)
	var all sync.WaitGroup
	var o *other
	all.Go(func() { o = startOther(t, dir, 3) })
	ids := make([]string, 3)
	for i := range ids {
		for range 4 {
			all.Go(func() {
				id, err := launch(t.Context(), c, fmt.Sprintf("token-%d", i))
				if err != nil {
					t.Error(err)
				}
				_ = id
			})
		}
	}
	all.Wait()
	for i := range ids {
		ids[i] = mustLaunch(t, c, fmt.Sprintf("token-%d", i))
	}
	if fmt.Sprint(o.ids) != fmt.Sprint(ids) {
		t.Errorf("the other process made %v, this one %v, want %v", o.ids, ids, fmt.Sprint(ids))
	}
	for _, id := range ids {
		if got := calls(t, c, id); got["launch"] != 1 {
			t.Errorf("%s: ledger %v, want 1", id, got)
		}
		one(t, c, id)
	}
	o.in.Close()
	if err := o.cmd.Wait(); err != nil {
		t.Errorf("the other process: %v", err)
	}
}

func TestKilledControlPlane(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := startOther(t, dir, 2)
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
	c := open(t, dir)
	id := o.ids[0]
	m, err := c.read(id)
	if err != nil || !m.Guest.alive() {
		t.Fatalf("the machine did not survive its control plane: got %v, want no error and m.Guest.alive() true", err)
	}
	// The second one looks as if its control plane had been killed after starting it and before recording it.
	if err := os.Remove(c.file(o.ids[1], machineFile)); err != nil {
		t.Fatal(err)
	}
	if err := c.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, err := c.read(id); err != nil || after.Guest != m.Guest || after.Owner != c.self {
		t.Errorf("not adopted: got %+v %v, want no error, after.Guest %v and after.Owner %v", after, err, m.Guest, c.self)
	}
	one(t, c, o.ids[1])
	if second, err := c.read(o.ids[1]); err != nil || !second.Guest.alive() {
		t.Errorf("the unnoted machine: got %+v %v, want no error and second.Guest.alive() true", second, err)
	}
}

func TestCloseAndWake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := startOther(t, dir, 1)
	o.in.Close()
	if err := o.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir)
	id := o.ids[0]
	if p := processes(c, id); len(p) > 0 {
		t.Errorf("processes %v are left after Close, want none", p)
	}
	if err := c.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, c, id); got != instance.SeenRunning {
		t.Errorf("after the next start: got %s, want %v", got, instance.SeenRunning)
	}
}

func TestHalfDoneTermination(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	id := mustLaunch(t, c, "token")
	if err := c.ledger.add(entry{Call: "terminate", Machine: id, ClientToken: "token"}); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, c, id); got != instance.SeenPending {
		t.Errorf("with processes and a folder left: got %s, want %v", got, instance.SeenPending)
	}
	if err := c.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, c, id); got != instance.SeenGone {
		t.Errorf("after the termination was finished: got %s, want %v", got, instance.SeenGone)
	}
}

func TestTornLedgerLine(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	id := mustLaunch(t, c, "token")
	f, err := os.OpenFile(c.ledger.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"2026-01-01T00:00:00Z","call":"termin`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := c.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, c, id); got["launch"] != 1 || got["stop"] != 1 || len(got) != 2 {
		t.Errorf("ledger %v, want got[\"launch\"] 1, got[\"stop\"] 1 and len(got) 2", got)
	}
}
