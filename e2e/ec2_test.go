package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOnEC2 takes an instance through its life with a machine on EC2, which ec2test simulates. Server, SDK, user-data,
// enrolment and tunnel are real.
func TestOnEC2(t *testing.T) {
	t.Parallel()
	s, endpoint := newServerOnEC2(t)
	s.start()
	u := signUp(t, s.URL, "kathleen@example.com")
	began := time.Now()
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	u.awaitInstance(id, "ready", "true")
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	a := u.must(http.StatusOK, "GET", "/api/instances/"+id, "")
	first := a.field("public_ip")
	if a.field("ec2_instance_id") == "" || first == "" || a.field("region") != "eu-central-1" {
		t.Errorf("got %s, want the machine's ID and address, and region eu-central-1", a.body)
	}
	if shot, err := u.screenshot(id); err != nil || shot.colours < 2 {
		t.Errorf("desktop: got %+v, %v, want 2 or more colours", shot, err)
	}
	u.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/stop", "")
	u.awaitInstance(id, "status", "stopped")
	u.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/start", "")
	u.awaitInstance(id, "ready", "true")
	if deltas, text, err := u.chat(id, "hello"); err != nil || deltas < 2 {
		t.Errorf("chat: got %d parts, %q, %v, want 2 or more", deltas, text, err)
	}
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")

	var ledger []struct {
		Action string `json:"action"`
	}
	var machines []struct {
		State string `json:"state"`
	}
	for path, into := range map[string]any{"ledger": &ledger, "machines": &machines} {
		res, err := http.Get(endpoint + "/_test/" + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	t.Logf("ledger %v, machines %v", ledger, machines)
	launches := 0
	for _, e := range ledger {
		if e.Action == "RunInstances" {
			launches++
		}
	}
	if launches != 1 {
		t.Errorf("launches of one instance: got %d, want 1", launches)
	}
	if len(machines) != 1 || machines[0].State != "terminated" && machines[0].State != "shutting-down" {
		t.Errorf("machines: got %v, want 1, terminated", machines)
	}
	if out := s.cli("reconcile", "--dry-run"); out == "" {
		t.Error("reconcile --dry-run: got no output, want a report")
	}
}

// newServerOnEC2 starts ec2test and returns a server whose machines are there, and ec2test's URL.
func newServerOnEC2(t *testing.T, env ...string) (s *server, endpoint string) {
	t.Helper()
	cloud := startEC2(t, bin)
	s = newServer(t, append(cloud.settings(), env...)...)
	s.env = append(s.env, "CONTROL_PLANE_URL="+s.URL)
	return s, cloud.url
}

// startEC2 starts ec2test, whose machines run the guest of a folder of programs; "": none. env is the environment of both;
// none: that of the test.
func startEC2(t *testing.T, programs string, env ...string) smallEC2 {
	t.Helper()
	port, dir := freePort(t), t.TempDir()
	args := []string{"-listen", "127.0.0.1:" + port, "-dir", dir, "-boot", "300ms"}
	if programs != "" {
		args = append(args, "-guest", filepath.Join(programs, "cloudbot-guest"))
	}
	cloud := exec.Command(filepath.Join(bin, "ec2test"), args...)
	out := &lockedBuffer{}
	cloud.Stdout, cloud.Stderr, cloud.Env = out, out, env
	if err := cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cloud.Process.Signal(syscall.SIGTERM)
		_ = cloud.Wait()
		killIn(dir)
		if t.Failed() {
			t.Logf("output of the cloud:\n%s", out.tail(4000))
		}
	})
	await(t, 60*time.Second, "the cloud to listen", func() bool { return strings.Contains(out.tail(1000), "is ready") })
	return smallEC2{"http://127.0.0.1:" + port}
}

// settings are those of a server whose machines are on it.
func (c smallEC2) settings() []string {
	return []string{"ENVIRONMENT=test", "LOCAL_DEV_MODE=false", "AWS_ENDPOINT_URL=" + c.url, "AWS_REGION=eu-central-1",
		"AWS_ACCESS_KEY_ID=AKIATEST", "AWS_SECRET_ACCESS_KEY=secret", "UBUNTU_AMI_ID=ami-0123456789abcdef0",
		"EC2_SUBNET_ID=subnet-a,subnet-b", "EC2_SECURITY_GROUP_ID=sg-1"}
}
