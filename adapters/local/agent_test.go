package local

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// makeAgent writes an agent as deploy/agent.sh does: each version has a folder, and current leads to one of them.
func makeAgent(t *testing.T, place, version, node string) string {
	t.Helper()
	folder := filepath.Join(place, version)
	for name, text := range map[string]string{
		"bin/node": "#!/bin/sh\necho v" + node + "\n", "lib/node_modules/openclaw/openclaw.mjs": "", "lib/node_modules/openclaw/package.json": `{"version":"` + version + `"}`,
	} {
		file := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(filepath.Join(place, "current"))
	if err := errors.Join(os.Symlink("../lib/node_modules/openclaw/openclaw.mjs", filepath.Join(folder, "bin", "openclaw")),
		os.Symlink(version, filepath.Join(place, "current"))); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "bin", "openclaw")
}

// openFolder returns a folder that every user can enter.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "local-agent-*")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestFindAgent(t *testing.T) {
	bare := openFolder(t)
	t.Setenv("PATH", bare)
	if a, err := FindAgent("", filepath.Join(bare, "none")); !errors.Is(err, ErrNoAgent) || a.Command != "" {
		t.Errorf("nothing installed: got %+v %v, want the stand-in, and that there is none", a, err)
	}
	place := openFolder(t)
	good := makeAgent(t, place, "1.2.3", "26.10.0")
	for name, choice := range map[string]string{"as installed": "", "by path": filepath.Join(place, "current", "bin", "openclaw")} {
		if a, err := FindAgent(choice, bare, place); err != nil || a != (Agent{good, "1.2.3", "26.10.0"}) {
			t.Errorf("%s: got %+v %v, want version 1.2.3 in its own folder", name, a, err)
		}
	}
	if a, err := FindAgent("stand-in", place); err != nil || a.Command != "" {
		t.Errorf("stand-in: got %+v %v, want it", a, err)
	}
	if a, err := FindAgent(filepath.Join(bare, "openclaw"), place); err == nil || a.Command != "" {
		t.Errorf("a path without a program: got %+v, want an error", a)
	}
	old := openFolder(t)
	makeAgent(t, old, "1.2.4", "20.20.2")
	if a, err := FindAgent("", old); err == nil || !strings.Contains(err.Error(), "has Node 20.20.2") || a.Command != "" {
		t.Errorf("an old Node: got %+v %v, want the stand-in, and why", a, err)
	}
	if a, err := FindAgent("", old, place); err != nil || a.Version != "1.2.3" {
		t.Errorf("one of two works: got %+v %v, want that one", a, err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(place, 0o700); err != nil {
			t.Fatal(err)
		}
		if a, err := FindAgent("", place); err == nil || !strings.Contains(err.Error(), "not readable") || a.Command != "" {
			t.Errorf("closed to the desktops' users: got %+v %v, want the stand-in, and why", a, err)
		}
	}
}

// A machine gets the agent that this computer has when it starts, whatever its launch said.
func TestMachineGetsTheAgentOfItsStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := Agent{}
	c, err := New(Config{Dir: dir, GuestPath: guestPath, ControlPlaneURL: "http://127.0.0.1:9", Agent: func() Agent { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	id := mustLaunch(t, c, "agent-1")
	config := func() (a struct{ Kind, Command string }) {
		t.Helper()
		var all struct {
			Agent *struct{ Kind, Command string }
		}
		text, err := os.ReadFile(filepath.Join(c.room(id), configFile))
		if err != nil || json.Unmarshal(text, &all) != nil || all.Agent == nil {
			t.Fatalf("got %s %v, want a configuration with an agent", text, err)
		}
		return *all.Agent
	}
	if a := config(); a.Kind != "stand-in" {
		t.Errorf("got %+v, want the stand-in", a)
	}
	now.Command = "/opt/x/bin/openclaw"
	if err := errors.Join(c.Stop(t.Context(), id), c.Start(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	if a := config(); a.Kind != "auto" || a.Command != now.Command {
		t.Errorf("got %+v, want the program", a)
	}
	if err := c.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}
