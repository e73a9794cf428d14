package embedded_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// NATS accepts its configurations: that of compose with the secrets that secrets.sh makes, and that of Railway.
func TestNATSConfigurations(t *testing.T) {
	dir := t.TempDir()
	put := func(from, to string) string {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := put("../../deploy/compose/secrets.sh", "made/secrets.sh")
	run := func() string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), script).CombinedOutput()
		if err != nil {
			t.Fatalf("secrets.sh: %v: %s", err, out)
		}
		return string(out)
	}
	if out := run(); !strings.Contains(out, "made secrets/encryption") || !strings.Contains(out, "missing: write it to secrets/aws-access-key-id") {
		t.Errorf("secrets.sh: got %q, want what was made and what is missing", out)
	}
	made := filepath.Join(dir, "made/secrets")
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of secrets: got %v, %v, want mode 0700", info.Mode(), err)
	}
	before, err := os.ReadFile(filepath.Join(made, "nats-url"))
	if err != nil {
		t.Fatal(err)
	}
	if out := run(); strings.Contains(out, "made") {
		t.Errorf("the second time: got %q, want nothing made", out)
	}
	if after, _ := os.ReadFile(filepath.Join(made, "nats-url")); string(after) != string(before) {
		t.Error("the second time: got another password, want the first one kept")
	}
	if err := os.MkdirAll(filepath.Join(dir, "run/secrets"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(made, "nats-users"), "run/secrets/nats-users")
	o, err := server.ProcessConfigFile(put("../../deploy/compose/nats.conf", "etc/nats/cloudbot.conf"))
	if err != nil {
		t.Fatal(err)
	}
	password := strings.Split(strings.TrimPrefix(string(before), "nats://cloudbot:"), "@")[0]
	if o.Username != "cloudbot" || o.Password != password || len(password) < 32 || len(o.Routes) != 3 || o.Cluster.Password == "" || o.Cluster.Password == password || !o.JetStream || o.StoreDir != "/data" {
		t.Errorf("compose: got user %q, %d routes, JetStream %v in %q, want cloudbot with the password of nats-url, 3 routes with another one, and JetStream in /data", o.Username, len(o.Routes), o.JetStream, o.StoreDir)
	}

	t.Setenv("NATS_PASSWORD", "a0b1c2d3e4f5a0b1c2d3e4f5")
	o, err = server.ProcessConfigFile("../../deploy/railway/nats/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if o.Username != "cloudbot" || o.Password != "a0b1c2d3e4f5a0b1c2d3e4f5" || !o.JetStream || o.StoreDir != "/data" || o.Host != "::" {
		t.Errorf("Railway: got user %q, JetStream %v in %q, host %q, want the password of the variable, JetStream in /data, and ::", o.Username, o.JetStream, o.StoreDir, o.Host)
	}
	os.Unsetenv("NATS_PASSWORD")
	if _, err = server.ProcessConfigFile("../../deploy/railway/nats/nats.conf"); err == nil {
		t.Error("Railway without NATS_PASSWORD: got no error, want a refusal")
	}
}
