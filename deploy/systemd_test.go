package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The page of one VM is run as it stands by make systemd-test. These tests check what needs no VM.

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSystemdPageHasFewCommands(t *testing.T) {
	t.Parallel()
	page := read(t, "systemd/README.md")
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(page, -1)
	if len(blocks) != 3 {
		t.Fatalf("got %d blocks of commands, want those to install, upgrade and uninstall", len(blocks))
	}
	for _, b := range blocks {
		lines := strings.Split(strings.TrimSpace(b[1]), "\n")
		if len(lines) > 10 {
			t.Errorf("got %d commands, want 10 or fewer:\n%s", len(lines), b[1])
		}
		for _, line := range lines {
			if out, err := exec.Command("sh", "-n", "-c", line).CombinedOutput(); err != nil || strings.ContainsAny(line, ";&|") {
				t.Errorf("%s: got %v %s, want one command", line, err, out)
			}
		}
	}
	for _, script := range []string{"systemd/install.sh", "systemd/cloudbot"} {
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		if info, err := os.Stat(script); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s: got mode %v, %v, want a program", script, info.Mode(), err)
		}
	}
}

// TestSystemdSettingsExist compares the sample with .env.example, which lists all settings.
func TestSystemdSettingsExist(t *testing.T) {
	t.Parallel()
	example := read(t, "../.env.example")
	names := regexp.MustCompile(`(?m)^#?([A-Z][A-Z0-9_]+)=`).FindAllStringSubmatch(read(t, "systemd/cloudbot.env"), -1)
	if len(names) < 15 {
		t.Errorf("got %d settings, want at least 15", len(names))
	}
	for _, m := range names {
		setting := strings.TrimSuffix(m[1], "_FILE")
		if !regexp.MustCompile(`(?m)^` + setting + `=`).MatchString(example) {
			t.Errorf("%s is not a setting of .env.example", m[1])
		}
	}
}

// TestSystemdUnit has systemd check the unit and rate its exposure, from 0 (best) to 10.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	unit := read(t, "systemd/cloudbot.service")
	// The program and the page are not installed here.
	for _, path := range []string{"/opt/cloudbot/bin/cloudbot", "file:///opt/cloudbot/deploy/systemd/README.md"} {
		if !strings.Contains(unit, path) {
			t.Fatalf("the unit does not name %s", path)
		}
	}
	unit = strings.NewReplacer("/opt/cloudbot/bin/cloudbot", "/bin/true", "Documentation=file:///opt/cloudbot/deploy/systemd/README.md", "").Replace(unit)
	path := filepath.Join(t.TempDir(), "cloudbot.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: got %v, want no remark\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", path).CombinedOutput(); err != nil {
		t.Errorf("security: %v, want an exposure of 1.5 or less\n%s", err, out)
	}
}

// The command keeps of root's environment what `cloudbot import` reads there, and nothing else reaches the service's user.
func TestSystemdCommandsEnvironment(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for name, text := range map[string]string{"id": "echo 0", "runuser": "env"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := strings.NewReplacer("PATH=/usr/sbin", "PATH="+bin, "cd /etc/cloudbot", "cd "+bin).Replace(read(t, "systemd/cloudbot"))
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = []string{"PATH=/usr/bin", "ORIGINAL_DATABASE_URL=postgres://db", "ORIGINAL_ENCRYPTION_KEY=a b=c", "PGPASSWORD=p", "AWS_PROFILE=root's", "LINES=a\nb=c", "HOME=/root"}
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"ORIGINAL_DATABASE_URL=postgres://db", "ORIGINAL_ENCRYPTION_KEY=a b=c", "PGPASSWORD=p", "HOME=/var/lib/cloudbot", "TERM=dumb"} {
		if !strings.Contains("\n"+string(out), "\n"+want+"\n") {
			t.Errorf("got %s, %v, want %s in it", out, err, want)
		}
	}
	if strings.Contains(string(out), "AWS_PROFILE") || strings.Contains(string(out), "LINES") {
		t.Errorf("got %s, want no other variable", out)
	}
}

// install.sh replaces a Caddyfile that differs from its own, and never loses what was there.
func TestInstallKeepsTheCaddyfile(t *testing.T) {
	t.Parallel()
	part := regexp.MustCompile(`(?ms)^  if cmp -s \$caddyfile\.new.*?^  fi$`).FindString(read(t, "systemd/install.sh"))
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	for _, text := range []string{"first", "second", "third", "third"} {
		cmd := exec.Command("sh", "-euc", "say() { :; }\nprintf %s "+text+" >$caddyfile.new\n"+part)
		cmd.Env = append(os.Environ(), "caddyfile="+file)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	got := ""
	for _, f := range files {
		got += filepath.Base(f) + "=" + read(t, f) + " "
	}
	if want := "Caddyfile=third Caddyfile.before=second Caddyfile.before.~1~=first "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Containers run as other users, so they must be able to read secrets that the page has its reader write, whatever the
// reader's umask is.
func TestComposeSecretsCanBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secrets.sh"), []byte(read(t, "compose/secrets.sh")), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-euc", "umask 077; ./secrets.sh; printf x >secrets/aws-access-key-id; printf y >secrets/aws-secret-access-key; ./secrets.sh")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "missing") != 2 {
		t.Errorf("got %v, %s, want two that are missing at first", err, out)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "secrets", "*"))
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o644 || info.Size() == 0 {
			t.Errorf("%s: got mode %v and size %d, %v, want 0644 and a secret", f, info.Mode(), info.Size(), err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "secrets")); err != nil || info.Mode().Perm() != 0o700 || len(files) != 9 {
		t.Errorf("got the folder %v with %d files, %v, want 0700 with 9", info.Mode(), len(files), err)
	}
}
