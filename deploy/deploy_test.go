// Package deploy contains the scripts and files that deploy the system to other computers. Its tests run the scripts.
package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pack creates an npm package with this package.json.
func pack(t *testing.T, manifest string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "package/package.json", Mode: 0o644, Size: int64(len(manifest))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(manifest)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "made.tgz")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func script(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "./deploy-openclaw.sh", args...).CombinedOutput()
	return string(out), err
}

func TestDeployOpenClaw(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	good := pack(t, `{"name":"openclaw","version":"1.2.3","bin":{"openclaw":"x.js"}}`)
	other := pack(t, `{"name":"left-pad","version":"1.0.0"}`)
	to := t.TempDir()

	if out, err := script(t, "--package", good, "--to", to, "--dry-run"); err != nil || !strings.Contains(out, "nothing was published") {
		t.Errorf("dry run: got %v, want no error and \"nothing was published\" in out\n%s", err, out)
	}
	if left, _ := os.ReadDir(to); len(left) > 0 {
		t.Errorf("a dry run wrote %v, want none", left)
	}
	if out, err := script(t, "--package", good, "--to", "s3://bucket/assets/", "--dry-run"); err != nil || !strings.Contains(out, "s3://bucket/assets/openclaw.tgz --content-type application/gzip --metadata sha256=") || !strings.Contains(out, "s3://bucket/assets/openclaw.tgz.sha256 ") {
		t.Errorf("dry run to S3: got %v, want no error, %q in out and \"s3://bucket/assets/openclaw.tgz.sha256 \" in out\n%s", err, "s3://bucket/assets/openclaw.tgz --content-type application/gzip --metadata sha256=", out)
	}
	if out, err := script(t, "--package", good, "--to", to); err != nil || !strings.Contains(out, "openclaw 1.2.3 sha256 ") {
		t.Errorf("got %v, want no error and \"openclaw 1.2.3 sha256 \" in out\n%s", err, out)
	}
	want, _ := os.ReadFile(good)
	if got, err := os.ReadFile(filepath.Join(to, "openclaw.tgz")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("published: got %v, want no error and %v", err, want)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "-c", "openclaw.tgz.sha256")
	check.Dir = to
	if out, err := check.CombinedOutput(); err != nil || string(out) != "openclaw.tgz: OK\n" {
		t.Errorf("the sum beside it: got %v, want no error and %q\n%s", err, "openclaw.tgz: OK\n", out)
	}
	if left, _ := filepath.Glob(filepath.Join(to, ".*")); len(left) > 0 {
		t.Errorf("left behind: got %v, want none", left)
	}
	for name, args := range map[string][]string{
		"another package": {"--package", other, "--to", to}, "no package": {"--package", "deploy_test.go", "--to", to}, "no place": {"--package", good},
		"no folder": {"--package", good, "--to", "/nowhere"}, "no bucket": {"--package", good, "--to", "s3://"}, "unknown flag": {"--force"}, "no value": {"--to"},
	} {
		if out, err := script(t, args...); err == nil {
			t.Errorf("%s: accepted, want an error\n%s", name, out)
		}
	}
	if out, err := script(t, "--help"); err != nil || !strings.Contains(out, "Usage:") {
		t.Errorf("help: got %v, want no error and \"Usage:\" in out\n%s", err, out)
	}
}

func TestScriptsPassShellCheck(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed")
	}
	if out, err := exec.CommandContext(t.Context(), path, "deploy-openclaw.sh", "agent.sh").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
