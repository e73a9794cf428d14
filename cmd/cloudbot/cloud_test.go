package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
)

func TestEC2ConfigCheck(t *testing.T) {
	t.Parallel()
	good := ec2Config{Image: "ami-1", VolumeGiB: 40, Sudo: "on"}
	if err := good.check("https://cloud.example.org", true); err != nil {
		t.Error(err)
	}
	err := ec2Config{VolumeGiB: 8}.check("", true)
	for _, name := range []string{"UBUNTU_AMI_ID", "CONTROL_PLANE_URL", "EC2_VOLUME_GIB", "DESKTOP_SUDO"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s in it", err, name)
		}
	}
}

// The name of an environment is not enough: two databases with the same name must not touch each other's machines.
func TestEnvironmentID(t *testing.T) {
	t.Parallel()
	blind := func(key string) func(string, string) string {
		return func(purpose, value string) string { return (key + purpose + value + strings.Repeat("x", 16))[:32] }
	}
	a, b := environmentID("production", blind("0123456789abcdef")), environmentID("production", blind("f123456789abcdef"))
	if a == b || !strings.HasPrefix(a, "production-") || a != environmentID("production", blind("0123456789abcdef")) {
		t.Errorf("got %q and %q, want two different names that begin with production- and stay the same", a, b)
	}
}

// The reconciler runs as long as the saga does, and both end when one ends.
func TestWithReconciler(t *testing.T) {
	t.Parallel()
	var looked atomic.Bool
	r := &provisioner.Reconciler{Log: commands.Log{Now: time.Now}, Cloud: lister(func() { looked.Store(true) }), Logger: slog.New(slog.DiscardHandler)}
	lost := errors.New("the lease is lost")
	saga := runnerFunc(func(ctx context.Context) error {
		for !looked.Load() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
		return lost
	})
	err := together{saga, r}.Run(t.Context())
	if !errors.Is(err, lost) {
		t.Errorf("got %v, want %v", err, lost)
	}
}

type inventory struct {
	machines.Cloud
	listed func()
}

func lister(f func()) machines.Inventory { return inventory{listed: f} }

func (i inventory) List(context.Context) ([]machines.Tagged, error) {
	i.listed()
	return nil, errors.New("busy")
}

// TestReconcileCmd runs the command beside a database and a cloud with a stranger in it.
func TestReconcileCmd(t *testing.T) {
	cloud := ec2test.New(ec2test.Config{})
	front := httptest.NewServer(cloud)
	defer front.Close()
	dir, url := t.TempDir(), pgtest.New(t)
	t.Chdir(dir) // away from a developer's .env
	for name, value := range map[string]string{
		"ENVIRONMENT": "test", "DATA_DIR": dir, "DATABASE_URL": url, "LOCAL_DEV_MODE": "false", "CONTROL_PLANE_URL": "https://cloud.example.org",
		"AWS_ENDPOINT_URL": front.URL, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "secret", "UBUNTU_AMI_ID": "ami-1",
	} {
		t.Setenv(name, value)
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := reconcileCmd()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	if out, err := run("--dry-run"); err != nil || !strings.Contains(out, "Cloud and log agree") {
		t.Fatalf("got %v\n%s\nwant agreement", err, out)
	}
	stranger := cloud.Put("", map[string]string{"cloudbot:environment": environmentOf(t, url)})
	cloud.Put("", map[string]string{"cloudbot:environment": "test-of-another-database"})
	if out, err := run("--dry-run"); err != nil || !strings.Contains(out, stranger) || !strings.Contains(out, "this was a dry run") {
		t.Errorf("got %v\n%s\nwant a dry run that names %s", err, out, stranger)
	}
	out, err := run("--json")
	var report provisioner.Report
	if err != nil || json.Unmarshal([]byte(out), &report) != nil || report.Machines != 1 || report.Count(provisioner.Stranger) != 1 || report.DryRun {
		t.Errorf("got %v\n%s\nwant 1 machine, a stranger", err, out)
	}
	for _, m := range cloud.Machines() {
		if m.State != ec2test.Running {
			t.Errorf("%s is not ours to touch: got state %s, want %s", m.ID, m.State, ec2test.Running)
		}
	}
	t.Setenv("LOCAL_DEV_MODE", "true")
	if out, err := run(); err == nil || !strings.Contains(err.Error(), "LOCAL_DEV_MODE") {
		t.Errorf("with local machines: got %v, want a refusal that names LOCAL_DEV_MODE\n%s", err, out)
	}
}

// environmentOf returns the tag of the database's machines.
func environmentOf(t *testing.T, url string) string {
	t.Helper()
	cfg, err := loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, vault, err := openVault(t.Context(), cfg, pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	return environmentID(cfg.Environment, vault.Blind)
}
