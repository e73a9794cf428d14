package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The same files give the same archive, whatever their times, permissions and order in the folder.
func TestPackIsReproducible(t *testing.T) {
	t.Parallel()
	names := []string{"bin/cloudbot", "docs/a.md", "docs/Z.md", "README.md"}
	pack := func(order []string, mode, dirs os.FileMode, at time.Time) []byte {
		t.Helper()
		folder := filepath.Join(t.TempDir(), "cloudbot-1-linux-amd64")
		for _, name := range order {
			path := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(path), dirs); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "bin/") {
				mode |= 0o111
			} else {
				mode &^= 0o111
			}
			if err := errors.Join(os.WriteFile(path, []byte(name), mode), os.Chmod(path, mode), os.Chtimes(path, at, at)); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.CommandContext(t.Context(), "./pack.sh", folder, "1795843669").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		packed, err := os.ReadFile(folder + ".tar.gz")
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	one := pack(names, 0o644, 0o755, time.Now())
	backwards := slices.Clone(names)
	slices.Reverse(backwards)
	two := pack(backwards, 0o600, 0o700, time.Now().Add(-time.Hour))
	if !bytes.Equal(one, two) {
		t.Errorf("got %d and %d different bytes, want the same", len(one), len(two))
	}
	z, err := gzip.NewReader(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname+h.Gname != "" || h.ModTime.Unix() != 1795843669 || h.Mode&0o022 != 0 || !strings.HasPrefix(h.Name, "cloudbot-1-linux-amd64/") {
			t.Errorf("got %+v, want owner 0, no names, the given time and a top folder", h)
		}
	}
}

// Lists of parts are joined without what differs between runs; each part is there once.
func TestPartsAreJoined(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := func(name, serial, main string, parts ...string) string {
		bom := map[string]any{"bomFormat": "CycloneDX", "serialNumber": serial, "metadata": map[string]any{"timestamp": serial, "component": map[string]string{"bom-ref": main, "type": "application", "name": main}}}
		components := []map[string]string{}
		for _, p := range parts {
			components = append(components, map[string]string{"bom-ref": p, "type": "library", "name": p})
		}
		bom["components"], bom["dependencies"] = components, []map[string]any{{"ref": main, "dependsOn": parts}}
		text, err := json.Marshal(bom)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name+serial)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	join := func(serial string) []byte {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "node", "sbom.mjs", "cloudbot-1", "1", "2026-11-28T00:00:00Z",
			list("go", serial, "control-plane", "pgx", "echo"), list("npm", serial, "dashboard", "react", "echo")).Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := join("A")
	if again := join("B"); !bytes.Equal(out, again) {
		t.Errorf("got different bytes for another serial number and time, want the same:\n%s\n%s", out, again)
	}
	var bom struct {
		Components []struct{ Name string }
	}
	if err := json.Unmarshal(out, &bom); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name)
	}
	if want := []string{"control-plane", "dashboard", "echo", "pgx", "react"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The image is built from all folders that its programs need, and from nothing else.
func TestImageHasWhatItNeeds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}", "./cmd/cloudbot", "./cmd/cloudbot-guest")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		folder, _, _ := strings.Cut(strings.TrimPrefix(pkg, "github.com/cloudbot-ai/control-plane/"), "/")
		if !slices.Contains(lines, "!"+folder) {
			t.Errorf("%s: got no line !%s in .dockerignore, want it", pkg, folder)
		}
	}
	if !slices.Contains(lines, "*") {
		t.Error("got files by default, want none")
	}
	for _, want := range []string{"**/.env", "**/.env.*", "**/node_modules", "**/data"} {
		if !slices.Contains(lines, want) {
			t.Errorf("got no line %s, want it", want)
		}
	}
	for _, never := range []string{"!.git", "!.env", "!data", "!deploy", "!bin", "!."} {
		if slices.Contains(lines, never) {
			t.Errorf("got %s in .dockerignore, want it left out", never)
		}
	}
}
