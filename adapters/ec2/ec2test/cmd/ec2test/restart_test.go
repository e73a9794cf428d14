package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// process is the program running in a folder, with a client like the control plane.
type process struct {
	t     *testing.T
	url   string
	cloud *ec2.Cloud
	end   func()
}

func start(t *testing.T, dir string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	guest := filepath.Join(dir, "guest.sh")
	if err := os.WriteFile(guest, []byte("#!/bin/sh\ncat guest.json >>boots\necho >>boots\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-listen", address, "-dir", dir, "-boot", "1ms", "-guest", guest}) }()
	p := &process{t: t, url: "http://" + address}
	p.end = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	p.cloud, err = ec2.New(t.Context(), ec2.Config{
		Region: "eu-test-1", Endpoint: p.url, Environment: "test", Image: "ami-1",
		AWS: &aws.Config{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKTEST", SecretAccessKey: "secret"}, nil
		})},
		UserData: func(p machines.LaunchPlan) (string, error) {
			return bootstrap.UserData(bootstrap.Params{
				ControlPlaneURL: "http://127.0.0.1:1", Instance: p.Instance, GuestSHA256: map[string]string{"amd64": strings.Repeat("a1", 32)},
			})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.until("it answers", func() bool { _, err := p.cloud.Settle(t.Context()); return err == nil })
	return p
}

// until waits for a condition that other processes bring about.
func (p *process) until(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.After(60 * time.Second); !ok(); {
		select {
		case <-deadline:
			p.t.Fatalf("timed out waiting: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (p *process) launch(id string) (machine string, s instance.Spec) {
	p.t.Helper()
	s, err := p.cloud.Freeze(machines.LaunchPlan{Instance: id, Attempt: 1, Type: "t3.large", ClientToken: id + "-1"})
	if err != nil {
		p.t.Fatal(err)
	}
	return p.again(s), s
}

func (p *process) again(s instance.Spec) string {
	p.t.Helper()
	machine, err := p.cloud.Launch(p.t.Context(), s, strings.Replace(s.UserData, bootstrap.TokenPlaceholder, "a.token", 1))
	if err != nil {
		p.t.Fatal(err)
	}
	return machine
}

func (p *process) state(machine string) ec2test.State {
	p.t.Helper()
	res, err := http.Get(p.url + "/_test/machines")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var all []ec2test.Machine
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		p.t.Fatal(err)
	}
	for _, m := range all {
		if m.ID == machine {
			return m.State
		}
	}
	return ""
}

func boots(dir, machine string) int {
	text, _ := os.ReadFile(filepath.Join(dir, "machines", machine, "boots"))
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		seen[line] = true
	}
	delete(seen, "")
	return len(seen)
}

// After a restart of everything, a developer finds the same machines, and a new machine has a new id.
func TestMachinesOutliveTheProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir)
	ran, spec := p.launch("01RUNS")
	stopped, _ := p.launch("01STOPS")
	over, _ := p.launch("01ENDS")
	for _, m := range []string{ran, stopped, over} {
		p.until(m+" boots", func() bool { return boots(dir, m) == 1 })
	}
	if err := p.cloud.Stop(t.Context(), stopped); err != nil {
		t.Fatal(err)
	}
	if err := p.cloud.Terminate(t.Context(), over); err != nil {
		t.Fatal(err)
	}
	p.until("they end", func() bool { return p.state(stopped) == ec2test.Stopped && p.state(over) == ec2test.Terminated })
	p.end()

	for n := 2; n <= 3; n++ { // twice: a boot id is never reused
		p = start(t, dir)
		p.until("the running machine boots again", func() bool { return boots(dir, ran) == n && p.state(ran) == ec2test.Running })
		if p.state(stopped) != ec2test.Stopped || p.state(over) != ec2test.Terminated {
			t.Errorf("stopped is %s, terminated is %s, want p.state(stopped) %v and p.state(over) %v", p.state(stopped), p.state(over), ec2test.Stopped, ec2test.Terminated)
		}
		if machine := p.again(spec); machine != ran {
			t.Errorf("a launch repeated after a restart made %s beside %s, want %v", machine, ran, ran)
		}
		if n == 2 {
			p.end()
		}
	}
	other, _ := p.launch("01NEW")
	if other == ran || other == stopped || other == over {
		t.Errorf("a new machine is called %s, as an old one is, want other other than %v, other other than %v and other other than %v", other, ran, stopped, over)
	}
	if err := p.cloud.Start(t.Context(), stopped); err != nil {
		t.Fatal(err)
	}
	p.until("the stopped one starts", func() bool { return p.state(stopped) == ec2test.Running && boots(dir, stopped) == 2 })
	p.end()

	// A machine that can no longer boot is gone, and its loss is logged.
	if err := os.Remove(filepath.Join(dir, "machines", ran, "user-data")); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir)
	p.until("it is gone", func() bool { return p.state(ran) == ec2test.Terminated })
	p.end()
}
