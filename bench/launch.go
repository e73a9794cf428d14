package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/guest"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
	"github.com/cloudbot-ai/control-plane/guest/paths"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// launchBar is what the control plane itself may add to a launch.
const launchBar = 200 * time.Millisecond

// benchLaunch measures the control plane's own share of a launch: the server's program, this lab's
// Postgres, its own NATS, an EC2 server whose machines boot for a scripted time, a real guest. What
// EC2 and the machine take is left out: the clock runs from the request to EC2's being called, from
// EC2's answer to the phase "booting", and from the machine's running to the read model that shows it with its
// guest's first message, enrolment and tunnel included.
func benchLaunch(ctx context.Context, l *lab, o options) error {
	dir, err := os.MkdirTemp("", "cloudbot-bench-launch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cloud := newRecorded(ec2test.Plan{Boot: ec2test.Span{Min: 300 * time.Millisecond, Max: 1300 * time.Millisecond}, Limits: true})
	front := httptest.NewServer(cloud)
	defer front.Close()
	s, err := startServer(ctx, dir, l, front.URL)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.signUp(ctx, "bench@example.com"); err != nil {
		return err
	}
	var called, booting, running, all []time.Duration
	for i := range o.launches + 3 {
		began := time.Now()
		m, err := s.launch(ctx, l, cloud, filepath.Join(dir, "machine", fmt.Sprint(i)))
		if err != nil {
			return err
		}
		if i >= 3 { // the first launches warm up what a running server has warm
			called, booting, running = append(called, m[0]), append(booting, m[1]), append(running, m[2])
			all = append(all, m[0]+m[1]+m[2])
		}
		// One launch at a time: our own limit of two calls a second to EC2 is not measured.
		if err := retry.Sleep(ctx, 600*time.Millisecond-time.Since(began)); err != nil {
			return err
		}
	}
	fmt.Printf("\n| share of a launch (%d launches) | p50 | p95 | largest |\n|---|---:|---:|---:|\n", o.launches)
	for _, row := range []struct {
		name string
		took []time.Duration
	}{
		{"POST /api/instances → RunInstances at EC2", called},
		{"RunInstances answered → phase `booting` in the read model", booting},
		{"machine runs → its guest enrolled, connected and heard, `running` in the read model", running},
		{"**sum**", all},
	} {
		slices.Sort(row.took)
		ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3) }
		fmt.Printf("| %s | %s | %s | %s |\n", row.name, ms(row.took[len(row.took)/2]), ms(row.took[len(row.took)*95/100]), ms(row.took[len(row.took)-1]))
	}
	verdict := "met"
	if all[len(all)*95/100] > launchBar {
		verdict = "missed"
	}
	fmt.Printf("\nThe bar, %v at p95, is %s. EC2 was asked %v times.\n", launchBar, verdict, cloud.Calls())
	return nil
}

// recorded is the EC2 server, with the times of its launches.
type recorded struct {
	*ec2test.Server
	mu   sync.Mutex
	runs []launchTimes
}

type launchTimes struct{ called, answered time.Time }

func newRecorded(p ec2test.Plan) *recorded {
	return &recorded{Server: ec2test.New(ec2test.Config{Seed: 1, Plan: p})}
}

func (c *recorded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	c.Server.ServeHTTP(w, r)
	if form, _ := url.ParseQuery(string(body)); form.Get("Action") == "RunInstances" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.runs = append(c.runs, launchTimes{at, time.Now()})
	}
}

// launch returns the n-th launch, once it was answered.
func (c *recorded) launch(n int) (launchTimes, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.runs) <= n {
		return launchTimes{}, false
	}
	return c.runs[n], true
}

// server is the program under test.
type server struct {
	from       string // the address that it claims; "": the real one
	url, token string
	account    string // that it is signed in as; "": not known
	admin      string // base URL of its operators' pages
	cmd        *exec.Cmd
	out        *bytes.Buffer
	done       int // launches
}

// startServer starts the server's program in a folder, with more settings if there are any.
func startServer(ctx context.Context, dir string, l *lab, ec2 string, more ...string) (_ *server, err error) {
	program := filepath.Join(dir, "cloudbot")
	if built := os.Getenv("CLOUDBOT_BENCH_SERVER"); built != "" { // a build takes longer than most measurements
		if program, err = filepath.Abs(built); err != nil {
			return nil, err
		}
	} else {
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/cloudbot")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the server: %w\n%s", err, out)
		}
	}
	// No machine downloads it here, but a launch needs its checksum.
	if err := os.WriteFile(filepath.Join(dir, "cloudbot-guest-linux-amd64"), []byte("a guest"), 0o600); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	s := &server{url: "http://" + address, admin: "http://" + admin, out: &bytes.Buffer{}}
	s.cmd = exec.CommandContext(ctx, program, "serve")
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(os.Interrupt) }
	s.cmd.WaitDelay = 20 * time.Second
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, s.out, s.out
	s.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DATA_DIR=" + filepath.Join(dir, "data"), "DATABASE_URL=" + l.pg.URL(),
		"PORT=" + port, "TRUSTED_PROXIES=127.0.0.1/32", "ADMIN_ADDR=" + admin, "ENVIRONMENT=test", "CONTROL_PLANE_URL=" + s.url, "MAX_INSTANCES_PER_USER=1000",
		"LOCAL_DEV_MODE=false", "AWS_ENDPOINT_URL=" + ec2, "AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=AKIABENCH",
		"AWS_SECRET_ACCESS_KEY=secret", "UBUNTU_AMI_ID=ami-0123456789abcdef0", "ASSETS_DIR=" + dir,
	}
	s.cmd.Env = append(s.cmd.Env, more...)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if res, err := http.Get(s.url + "/ready"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		if err := retry.Sleep(within, 50*time.Millisecond); err != nil {
			s.stop()
			return nil, fmt.Errorf("the server is not ready:\n%s", s.out)
		}
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// inServer measures on a server whose cloud does nothing.
func inServer(ctx context.Context, l *lab, measure func(*server) error) error {
	dir, err := os.MkdirTemp("", "cloudbot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cloud := httptest.NewServer(ec2test.New(ec2test.Config{Seed: 1}))
	defer cloud.Close()
	s, err := startServer(ctx, dir, l, cloud.URL)
	if err != nil {
		return err
	}
	defer s.stop()
	return measure(s)
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
}

func (s *server) post(ctx context.Context, path, body string, want int, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.from != "" {
		req.Header.Set("X-Forwarded-For", s.from)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		return fmt.Errorf("POST %s: %s", path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(answer)
}

func (s *server) signUp(ctx context.Context, email string) error {
	var answer struct {
		Token string `json:"access_token"`
	}
	err := s.post(ctx, "/api/auth/signup", fmt.Sprintf(`{"email":%q,"password":"a long enough pass phrase"}`, email), http.StatusCreated, &answer)
	s.token = answer.Token
	return err
}

// launch plays one launch and returns its three shares.
func (s *server) launch(ctx context.Context, l *lab, cloud *recorded, dir string) (shares [3]time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var made struct {
		ID string `json:"id"`
	}
	asked := time.Now()
	if err := s.post(ctx, "/api/instances", "{}", http.StatusAccepted, &made); err != nil {
		return shares, err
	}
	var launched launchTimes
	if err := until(ctx, func() (ok bool, err error) { launched, ok = cloud.launch(s.done); return ok, nil }); err != nil {
		return shares, fmt.Errorf("wait for RunInstances: %w", err)
	}
	s.done++
	shares[0] = launched.called.Sub(asked)
	if err := l.await(ctx, made.ID, "booting", ""); err != nil {
		return shares, err
	}
	shares[1] = time.Since(launched.answered)

	machine := func() ec2test.Machine { all := cloud.Machines(); return all[len(all)-1] }
	g, err := newGuest(machine().Launch.UserData, dir)
	if err != nil {
		return shares, err
	}
	running, stop := context.WithCancel(ctx)
	var end sync.WaitGroup
	defer end.Wait()
	defer stop()
	if err := until(ctx, func() (bool, error) { return machine().State == ec2test.Running, nil }); err != nil {
		return shares, fmt.Errorf("wait for the machine: %w", err)
	}
	runs := time.Now()
	end.Go(func() { _ = g.Run(running) })
	if err := l.await(ctx, made.ID, "booting", "running"); err != nil {
		return shares, err
	}
	shares[2] = time.Since(runs)
	return shares, nil
}

// newGuest is the machine's guest, with nothing around it to start.
func newGuest(userData, dir string) (*guest.Guest, error) {
	state := filepath.Join(dir, "state")
	config, err := bootstrap.ProcessConfig(userData, state, "bench-"+fmt.Sprint(rand.Uint64()))
	if err == nil {
		err = os.MkdirAll(state, 0o700)
	}
	path := filepath.Join(dir, "guest.json")
	if err == nil {
		err = os.WriteFile(path, config, 0o600)
	}
	if err != nil {
		return nil, err
	}
	c, err := guest.Load(path, func(c *guest.Config) { c.Desktop.Kind, c.Agent.Kind = "built-in", "stand-in" })
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(paths.Home(c.StateDir))
	return guest.New(c, "bench", io.Discard)
}

// await waits until the read model shows the instance in a phase or beyond it. With a status, the instance must
// have that too, and the guest itself must have reported the phase.
func (l *lab) await(ctx context.Context, id, phase, status string) error {
	err := until(ctx, func() (ok bool, err error) {
		err = l.pool.QueryRow(ctx, `SELECT count(*) > 0 FROM read.instances WHERE id = $1
			AND array_position($2, phase) >= array_position($2, $3) AND ($4 = '' OR status = $4 AND detail <> '')`,
			id, []string{"requested", "allocating", "booting", "installing", "desktop", "agent", "ready"}, phase, status).Scan(&ok)
		return ok, err
	})
	if err != nil {
		return fmt.Errorf("wait for %s %s: %w", phase, status, err)
	}
	return nil
}

// until polls every millisecond.
func until(ctx context.Context, ok func() (bool, error)) error {
	for {
		yes, err := ok()
		if yes || err != nil {
			return err
		}
		if err := retry.Sleep(ctx, time.Millisecond); err != nil {
			return errors.New("it does not come")
		}
	}
}
