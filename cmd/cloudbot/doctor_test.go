package main

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
)

// The note of a check is one line.
func TestDoctorPrintsALineEach(t *testing.T) {
	t.Parallel()
	fails := check{"Postgres", "BAD", func(context.Context) (string, error) { return "", errors.New("does not answer:\n\t127.0.0.1\n\t::1") }}
	if note, mark := fails.do(t.Context()); note != "does not answer: 127.0.0.1 ::1" || mark != "BAD" {
		t.Errorf("got %s %q, want BAD and all addresses in one line", mark, note)
	}
}

// With machines on EC2, doctor checks EC2 and what machines download, and nothing that only local machines need.
func TestDoctorOnEC2(t *testing.T) {
	cloud := ec2test.New(ec2test.Config{})
	front := httptest.NewServer(cloud)
	defer front.Close()
	dir, files := t.TempDir(), t.TempDir()
	t.Chdir(dir) // away from a developer's .env
	for name, value := range map[string]string{
		"ENVIRONMENT": "test", "DATA_DIR": dir, "DATABASE_URL": pgtest.New(t), "LOCAL_DEV_MODE": "false", "CONTROL_PLANE_URL": "https://cloud.example.org",
		"AWS_ENDPOINT_URL": front.URL, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "secret",
		"UBUNTU_AMI_ID": "ami-1", "EC2_SECURITY_GROUP_ID": "sg-1", "EC2_SUBNET_ID": "subnet-a,subnet-b", "ASSETS_DIR": files, "PORT": "0",
	} {
		t.Setenv(name, value)
	}
	run := func() (string, error) {
		var out bytes.Buffer
		cmd := doctorCmd()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(nil)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := run()
	if err == nil || strings.Count(out, "BAD") != 1 || !strings.Contains(out, "no cloudbot-guest-linux-amd64") || !strings.Contains(out, "make guests") {
		t.Errorf("without a guest: got %v\n%s\nwant one BAD line, of assets", err, out)
	}
	for _, name := range []string{"cloudbot-guest-linux-amd64", "openclaw.tgz"} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cloud.SetOpen("sg-1")
	out, err = run()
	if err != nil || strings.Contains(out, "BAD") || strings.Contains(out, "make build") || strings.Contains(out, "desktop ") {
		t.Errorf("got %v\n%s\nwant no BAD line and none about local machines", err, out)
	}
	for _, want := range []string{"ok    EC2 access", "ok    EC2 image      ami-1: x86_64", "ok    EC2 subnets    subnet-a with", "note  EC2 group      sg-1 has 1 inbound",
		"ok    EC2 key pair", "ok    EC2 launch", "ok    assets         cloudbot-guest-linux-amd64 is in " + files + "; OpenClaw is from " + files} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	front.Close()
	if out, err = run(); err == nil || !strings.Contains(out, "BAD   EC2 access") {
		t.Errorf("without EC2: got %v\n%s\nwant a BAD line of EC2 access", err, out)
	}
}

// A script that checks only the exit code, such as a timer, learns of it too.
func TestReconcileFails(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		if err := printReport(&out, provisioner.Report{Findings: []provisioner.Finding{{Kind: provisioner.Terminate, Done: true}, {Kind: provisioner.Stranger}}}, asJSON); err != nil {
			t.Error(err)
		}
		err := printReport(&out, provisioner.Report{Findings: []provisioner.Finding{{Done: true}, {Error: "not allowed"}}}, asJSON)
		if err == nil || !strings.Contains(err.Error(), "1 of 2") || !strings.Contains(out.String(), "not allowed") {
			t.Errorf("got %v\n%s\nwant an error that counts 1 of 2, and the reason", err, out.String())
		}
	}
}
