package main

import (
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// assembled returns the server as serve assembles it: on a real Postgres, with NATS in this process and a cloud of
// the tests. Nothing of it runs.
func assembled(t *testing.T, settings map[string]string) app {
	t.Helper()
	cloud := httptest.NewServer(ec2test.New(ec2test.Config{}))
	t.Cleanup(cloud.Close)
	env := map[string]string{
		"ENVIRONMENT": "test", "DATABASE_URL": pgtest.New(t), "LOCAL_DEV_MODE": "false", "CONTROL_PLANE_URL": "https://cloud.example.org",
		"AWS_ENDPOINT_URL": cloud.URL, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "secret",
		"UBUNTU_AMI_ID": "ami-1", "EC2_SUBNET_ID": "subnet-a",
	}
	for name, value := range settings {
		env[name] = value
	}
	env["DATA_DIR"] = t.TempDir()
	given(t, env)
	cfg, err := loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	db, err := openDatabase(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close() })
	bus, err := launchNATS(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	a, err := assemble(t.Context(), cfg, site{database: db, bus: bus, admin: admin, url: cfg.PublicURL, advertise: "http://127.0.0.1:1"}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}

// role returns the app's runner of this name.
func (a app) role(t *testing.T, name string) runner {
	t.Helper()
	for _, r := range a.roles {
		if r.name == name {
			return r.runner
		}
	}
	t.Fatalf("there is no role %q", name)
	return nil
}

// The saga and the reconciler have all that they will call: what assemble leaves out of them would fail only when a
// machine is launched, or lost.
func TestAssembledSaga(t *testing.T) {
	a := assembled(t, map[string]string{"MAX_INSTANCES_TOTAL": "3"})
	lease := a.role(t, "saga").(held)
	saga, reconciler := lease.runner.(together)[0].(*provisioner.Saga), lease.runner.(together)[1].(*provisioner.Reconciler)
	const id = "01JD0000000000000000000000"
	if got := lease.lease; got != "saga" {
		t.Errorf("lease: got %q, want saga", got)
	}
	for name, l := range map[string]commands.Log{"saga": saga.Log, "reconciler": reconciler.Log} {
		if head, err := l.Store.Head(t.Context()); err != nil || head != 0 {
			t.Errorf("%s's log: got head %d, %v, want 0", name, head, err)
		}
		if id := l.NewID(); len(id) != 26 || l.Now().IsZero() || len(l.DigestKey) < 32 || l.Fleet == nil {
			t.Errorf("%s's log: got id %q, time %v, a digest key of %d bytes, fleet %v; want all", name, id, l.Now(), len(l.DigestKey), l.Fleet)
		}
	}
	for name, live := range map[string]func(context.Context) ([]string, int64, error){"saga": saga.Live, "reconciler": reconciler.Live, "fleet": saga.Fleet.Live} {
		if ids, position, err := live(t.Context()); err != nil || len(ids) != 0 || position != 0 {
			t.Errorf("%s: got live instances %v at %d, %v, want none", name, ids, position, err)
		}
	}
	// The hub asks NATS which replica holds the tunnel. That no replica does is an answer.
	for name, connected := range map[string]func(context.Context, string) (bool, error){"saga": saga.Connected, "reconciler": reconciler.Connected} {
		if there, err := connected(t.Context(), id); err != nil || there {
			t.Errorf("%s: got connected %v, %v, want false", name, there, err)
		}
	}
	token, err := saga.Tokens.Token(id, 1, saga.Tokens.CurrentKey())
	if err != nil {
		t.Fatal(err)
	}
	if got, attempt, err := saga.Tokens.Parse(token); err != nil || got != id || attempt != 1 {
		t.Errorf("enrolment token: got %s, attempt %d, %v, want %s, attempt 1", got, attempt, err, id)
	}
	if got := saga.Cloud.Region(); got != "eu-central-1" {
		t.Errorf("region: got %q, want eu-central-1", got)
	}
	if _, err := saga.Cloud.Describe(t.Context(), []string{"i-0123456789abcdef0"}); err != nil {
		t.Errorf("describe: got %v, want no error", err)
	}
	if machines, err := reconciler.Cloud.List(t.Context()); err != nil || len(machines) != 0 {
		t.Errorf("list: got %v, %v, want no machine", machines, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	nothing := func(context.Context, []eventstore.Event) error { return nil }
	if err := saga.Feed.Follow(ctx, 0, nothing); err != nil {
		t.Errorf("follow until the context ends: got %v, want no error", err)
	}
	if saga.Policy.Attempts == 0 || saga.PollEvery == 0 || saga.SweepEvery == 0 || saga.Workers == 0 || saga.Logger == nil || reconciler.Logger == nil {
		t.Errorf("got policy %+v, polls every %v, sweeps every %v, %d workers; want all set", saga.Policy, saga.PollEvery, saga.SweepEvery, saga.Workers)
	}
}
