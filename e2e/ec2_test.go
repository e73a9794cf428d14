package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestOnEC2 takes an instance through its life with a machine on EC2, which ec2test simulates. Server, SDK, user-data,
// enrolment and tunnel are real.
func TestOnEC2(t *testing.T) {
	t.Parallel()
	port, dir := freePort(t), t.TempDir()
	cloud := exec.Command(filepath.Join(bin, "ec2test"), "-listen", "127.0.0.1:"+port, "-dir", dir,
		"-boot", "300ms", "-guest", filepath.Join(bin, "cloudbot-guest"))
	out := &lockedBuffer{}
	cloud.Stdout, cloud.Stderr = out, out
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
	endpoint := "http://127.0.0.1:" + port
	s := newServer(t, "LOCAL_DEV_MODE=false", "AWS_ENDPOINT_URL="+endpoint, "AWS_REGION=eu-central-1",
		"AWS_ACCESS_KEY_ID=AKIATEST", "AWS_SECRET_ACCESS_KEY=secret", "UBUNTU_AMI_ID=ami-0123456789abcdef0",
		"EC2_SUBNET_ID=subnet-a,subnet-b", "EC2_SECURITY_GROUP_ID=sg-1")
	s.env = append(s.env, "CONTROL_PLANE_URL="+s.URL)
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
