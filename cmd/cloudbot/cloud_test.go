package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/assets"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func TestEC2ConfigCheck(t *testing.T) {
	t.Parallel()
	good := ec2Config{Image: "ami-1", VolumeGiB: 40}
	if err := good.check("https://cloud.example.org", true); err != nil {
		t.Error(err)
	}
	err := ec2Config{VolumeGiB: 8}.check("", true)
	for _, name := range []string{"UBUNTU_AMI_ID", "CONTROL_PLANE_URL", "EC2_VOLUME_GIB"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not speak of %s", err, name)
		}
	}
}

// What each machine is going to run comes over https and with a sum, or the server does not start.
func TestOpenClawsPackageIsChecked(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("aB", 32)
	for name, c := range map[string]struct {
		url, sum   string
		production bool
		says       string // the setting that is spoken of; "": it is accepted
	}{
		"neither":                    {"", "", true, ""},
		"both":                       {"https://x.example/o.tgz", sum, true, ""},
		"presigned":                  {"https://x.example/o%40.tgz?X-Amz-Signature=f0&X-Amz-Date=1", sum, true, ""},
		"without a sum":              {"https://x.example/o.tgz", "", true, "MOLTBOT_TARBALL_SHA256 is empty"},
		"without a sum, to try":      {"https://x.example/o.tgz", "", false, ""},
		"over http, to try":          {"http://x.example/o.tgz", "", false, "MOLTBOT_TARBALL_URL is plain http"},
		"over http":                  {"http://x.example/o.tgz?secret", sum, true, "MOLTBOT_TARBALL_URL is plain http"},
		"over http on this computer": {"http://127.0.0.1:1/o.tgz", sum, true, ""},
		"no sum":                     {"https://x.example/o.tgz", "abc", false, "MOLTBOT_TARBALL_SHA256 is not"},
		"a sum of nothing":           {"", sum, false, "MOLTBOT_TARBALL_SHA256 is given without"},
		"another scheme":             {"ftp://x.example/secret", sum, false, "MOLTBOT_TARBALL_URL is not"},
		"what no script can hold":    {"https://x.example/`id`?secret", sum, false, "MOLTBOT_TARBALL_URL cannot be told to a machine"},
	} {
		config := ec2Config{Image: "ami-1", VolumeGiB: 40, OpenClawURL: c.url, OpenClawSum: c.sum}
		err := config.check("https://cloud.example.org", c.production)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The sum is the pin of the package at the URL. Where /assets/ has one of its own, which may be another, that is taken instead.
func TestOpenClawIsPinned(t *testing.T) {
	t.Parallel()
	c := ec2Config{OpenClawURL: "https://x.example/o.tgz", OpenClawSum: strings.Repeat("aB", 32)}
	for own, want := range map[bool]bool{false: true, true: false} {
		told := func() (download, error) {
			return download{guests: map[string]string{"amd64": strings.Repeat("a1", 32)}, openClaw: own}, nil
		}
		text, err := userData(c, "https://cloud.example.org", told)(machines.LaunchPlan{Instance: "01JD0000000000000000000000"})
		pinned := strings.Contains(text, `"openclaw.tgz": "`+strings.Repeat("ab", 32)+`"`)
		if err != nil || pinned != want || strings.Contains(text, c.OpenClawURL) != want {
			t.Errorf("with a package in the assets %v: %v\n%s", own, err, text)
		}
	}
	// Without a sum, which is for trying it out, there is no pin.
	c.OpenClawSum = ""
	none := func() (download, error) {
		return download{guests: map[string]string{"amd64": strings.Repeat("a1", 32)}}, nil
	}
	if text, err := userData(c, "https://cloud.example.org", none)(machines.LaunchPlan{Instance: "01JD0000000000000000000000"}); err != nil || strings.Contains(text, "openclaw.tgz") || !strings.Contains(text, c.OpenClawURL) {
		t.Errorf("%v\n%s", err, text)
	}
}

// The name of an environment is not enough: two databases of one name must not touch each other's machines.
func TestEnvironmentID(t *testing.T) {
	t.Parallel()
	blind := func(key string) func(string, string) string {
		return func(purpose, value string) string { return (key + purpose + value + strings.Repeat("x", 16))[:32] }
	}
	a, b := environmentID("production", blind("0123456789abcdef")), environmentID("production", blind("f123456789abcdef"))
	if a == b || !strings.HasPrefix(a, "production-") || a != environmentID("production", blind("0123456789abcdef")) {
		t.Errorf("%q and %q", a, b)
	}
}

func TestUserDataNamesTheGuestsThatThereAre(t *testing.T) {
	t.Parallel()
	dir, kept := t.TempDir(), t.TempDir()
	files := assets.New(assets.Config{Sources: []assets.Source{assets.Folder{Dir: dir}}, Kept: assets.Folder{Dir: kept}})
	told := &downloads{look: lookAt(files), log: slog.New(slog.DiscardHandler)}
	render := userData(ec2Config{}, "https://cloud.example.org", told.known)
	plan := machines.LaunchPlan{Instance: "01JD0000000000000000000000", Attempt: 1}
	var final *machines.CallError
	if _, err := render(plan); err == nil || errors.As(err, &final) {
		t.Errorf("before a look: %v", err)
	}
	_ = told.refresh(t.Context())
	// Waiting would not bring one.
	if _, err := render(plan); !errors.As(err, &final) || final.Code != "no_guest" || final.Verdict != instance.Never || !strings.Contains(err.Error(), "make guests") {
		t.Errorf("without a guest: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cloudbot-guest-linux-arm64"), []byte("a guest"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := told.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	script, err := render(plan)
	list, _ := os.ReadDir(kept)
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0].Name(), "cloudbot-guest-linux-arm64-") {
		t.Fatalf("%v; kept is %v", err, list)
	}
	promised := strings.TrimPrefix(list[0].Name(), "cloudbot-guest-linux-")
	if !strings.Contains(script, strings.Replace(promised, "-", " ", 1)) || strings.Contains(script, "\namd64 ") {
		t.Errorf("the script does not name what is kept:\n%s", script)
	}
}

// A setting that no script can hold gives the launch up: waiting would not mend it.
func TestUserDataThatCannotBe(t *testing.T) {
	t.Parallel()
	told := func() (download, error) {
		return download{guests: map[string]string{"amd64": strings.Repeat("a1", 32)}}, nil
	}
	var final *machines.CallError
	_, err := userData(ec2Config{}, "https://cloud.example.org/`id`", told)(machines.LaunchPlan{Instance: "01JD0000000000000000000000"})
	if !errors.As(err, &final) || final.Verdict != instance.Never || final.Code != "bad_user_data" {
		t.Errorf("%v", err)
	}
}

// A bucket that hangs or fails keeps nobody waiting, and what it gave before goes on being told.
func TestDownloadsAreKnownWithoutAsking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var log bytes.Buffer
		type look = func(context.Context) (download, error)
		var now atomic.Pointer[look]
		answer := func(l look) { now.Store(&l) }
		d := &downloads{look: func(ctx context.Context) (download, error) { return (*now.Load())(ctx) }, log: slog.New(slog.NewTextHandler(&log, nil))}
		hang := func(ctx context.Context) (download, error) { <-ctx.Done(); return download{}, ctx.Err() }
		guest := func(sum string) look {
			return func(context.Context) (download, error) {
				return download{guests: map[string]string{"amd64": sum}}, nil
			}
		}
		ended := make(chan error, 1)
		answer(hang)
		go func() { ended <- d.run(ctx) }()
		expect := func(when, want string) {
			t.Helper()
			before := time.Now()
			got, err := d.known()
			if got.guests["amd64"] != want || (err == nil) != (want != "") || time.Since(before) > 0 {
				t.Errorf("%s: %v %v after %v", when, got, err, time.Since(before))
			}
		}
		synctest.Wait()
		expect("while the first look hangs", "")
		answer(guest("one"))
		time.Sleep(lookTime + lookEvery) // of the bubble
		expect("once it answers", "one")
		answer(func(context.Context) (download, error) { return download{}, errors.New("a 500") })
		time.Sleep(time.Hour)
		expect("after an hour of failures", "one")
		answer(hang)
		time.Sleep(time.Hour)
		expect("after an hour of silence", "one")
		answer(guest("two"))
		time.Sleep(lookTime + lookEvery)
		expect("once it is replaced", "two")
		if n := strings.Count(log.String(), "a 500"); n < 1 || n > 7 {
			t.Errorf("an hour's trouble is said %d times", n)
		}
		answer(hang)
		time.Sleep(lookEvery)
		stop() // ends a look that is under way
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The reconciler runs as long as the saga does, and an end of one is an end of both.
func TestWithReconciler(t *testing.T) {
	t.Parallel()
	var looked atomic.Bool
	r := &provisioner.Reconciler{Log: commands.Log{Now: time.Now}, Cloud: lister(func() { looked.Store(true) }), Logger: slog.New(slog.DiscardHandler)}
	lost := errors.New("the lease is lost")
	err := withReconciler(func(ctx context.Context) error {
		for !looked.Load() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
		return lost
	}, r)(t.Context())
	if !errors.Is(err, lost) {
		t.Error(err)
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
	t.Chdir(dir) // no .env of a developer's
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
		t.Fatalf("%v\n%s", err, out)
	}
	stranger := cloud.Put("", map[string]string{"cloudbot:environment": environmentOf(t, url)})
	cloud.Put("", map[string]string{"cloudbot:environment": "test-of-somebody-else"})
	if out, err := run("--dry-run"); err != nil || !strings.Contains(out, stranger) || !strings.Contains(out, "this was a dry run") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err := run("--json")
	var report provisioner.Report
	if err != nil || json.Unmarshal([]byte(out), &report) != nil || report.Machines != 1 || report.Count(provisioner.Stranger) != 1 || report.DryRun {
		t.Errorf("%v\n%s", err, out)
	}
	for _, m := range cloud.Machines() {
		if m.State != ec2test.Running {
			t.Errorf("%s is not ours to touch, and is %s", m.ID, m.State)
		}
	}
	t.Setenv("LOCAL_DEV_MODE", "true")
	if out, err := run(); err == nil || !strings.Contains(err.Error(), "LOCAL_DEV_MODE") {
		t.Errorf("with local machines: %v\n%s", err, out)
	}
}

// environmentOf is what the database's machines are tagged with.
func environmentOf(t *testing.T, url string) string {
	t.Helper()
	cfg, err := loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := loadSecrets(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	vault, err := secrets.OpenVault(t.Context(), secrets.VaultConfig{Pool: pool, Keyring: keys.ring})
	if err != nil {
		t.Fatal(err)
	}
	return environmentID(cfg.Environment, vault.Blind)
}
