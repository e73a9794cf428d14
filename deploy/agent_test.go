package deploy

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// clone is a folder with what agent.sh uses of a clone, and programs of the tests in place of npm, apt-get and others.
type clone struct {
	t               *testing.T
	dir, place, bin string
}

// programs are the fakes. npm installs programs that only know their version; it fails at the package in ./fail.
var programs = map[string]string{
	"npm": `#!/bin/sh
set -e
echo "$@" >>"$CLONE/calls"
prefix='' package=''
while [ $# -gt 0 ]; do
  case "$1" in
    --prefix) prefix=$2; shift ;;
    *@*) package=$1 ;;
  esac
  shift
done
mkdir -p "$prefix/bin"
if [ -e "$CLONE/stall" ]; then rm "$CLONE/stall"; exit 124; fi # as timeout ends one
case "$package" in "$(cat "$CLONE/fail" 2>/dev/null)"@*)
  echo "npm error network ENOTFOUND" >&2
  [ ! -e "$CLONE/interrupt" ] || kill -TERM "$(cut -d " " -f 4 /proc/$PPID/stat)"
  exit 1
esac
case "$package" in
  node-linux-*) printf '#!/bin/sh\necho v%s\n' "${package#*@}" >"$prefix/bin/node"; chmod 700 "$prefix/bin/node" ;;
  openclaw@*) printf '#!/bin/sh\necho OpenClaw %s\n' "${package#*@}" >"$prefix/bin/openclaw"; chmod 700 "$prefix/bin/openclaw"
    [ "$(node --version | cut -c1-2)" != v1 ] || { echo "wrong node first in the PATH"; exit 1; } ;;
esac
`,
	"node":       "#!/bin/sh\necho v18.0.0\n",
	"dpkg-query": "#!/bin/sh\nfor p; do :; done\n[ \"$p\" = \"$(cat \"$CLONE/lacks\" 2>/dev/null)\" ] || echo 'install ok installed'\n",
	"apt-get":    "#!/bin/sh\necho \"apt-get $*\" >>\"$CLONE/calls\"\n",
	"sudo":       "#!/bin/sh\nshift\nexec \"$@\"\n",
	"Xvnc":       "#!/bin/sh\n", "openbox": "#!/bin/sh\n", "xterm": "#!/bin/sh\n", "tint2": "#!/bin/sh\n", "chromium": "#!/bin/sh\n",
}

func newClone(t *testing.T) clone {
	dir := t.TempDir()
	c := clone{t, dir, filepath.Join(dir, "place"), filepath.Join(dir, "bin")}
	for from, to := range map[string]string{"agent.sh": "deploy/agent.sh", "prerequisites.sh": "deploy/prerequisites.sh", "../guest/install/pinned": "guest/install/pinned"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		c.put(to, string(text))
	}
	for name, text := range programs {
		c.put(filepath.Join("bin", name), text)
	}
	return c
}

func (c clone) put(name, text string) {
	c.t.Helper()
	file := filepath.Join(c.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
		c.t.Fatal(err)
	}
}

func (c clone) run(args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(c.dir, "deploy", "agent.sh"), append(args, "--place", c.place)...)
	cmd.Env = []string{"PATH=" + c.bin + ":" + os.Getenv("PATH"), "CLONE=" + c.dir, "TMPDIR=" + c.dir}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// calls returns the calls of npm and apt-get since the last call.
func (c clone) calls() string {
	file := filepath.Join(c.dir, "calls")
	text, _ := os.ReadFile(file)
	os.Remove(file)
	return string(text)
}

// left lists what is in the place.
func (c clone) left() []string {
	names := []string{}
	entries, err := os.ReadDir(c.place)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func (c clone) wantLeft(want ...string) {
	c.t.Helper()
	if got := c.left(); !slices.Equal(got, want) {
		c.t.Errorf("in the place: got %q, want %q", got, want)
	}
}

// remains checks that a file of the user's is still in the place.
func (c clone) remains(name string) {
	c.t.Helper()
	if _, err := os.Stat(filepath.Join(c.place, name)); err != nil {
		c.t.Errorf("got %v, want %s left alone", err, name)
	}
}

// pinned returns a value of guest/install/pinned. A test of package install shows that it reads the same.
func pinned(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bash", "-c", `. ../guest/install/pinned && printf %s "${!0}"`, name).Output()
	if err != nil || len(out) == 0 {
		t.Fatalf("got %q %v, want a value of %s", out, err, name)
	}
	return string(out)
}

func TestAgent(t *testing.T) {
	t.Parallel()
	c := newClone(t)
	version := pinned(t, "openclaw")

	// A failed download says what to do, and leaves nothing.
	c.put("fail", "openclaw")
	out, err := c.run()
	if err == nil || !strings.Contains(out, "ENOTFOUND") || !strings.Contains(out, "nothing was installed") || !strings.Contains(out, "run make agent again") {
		t.Errorf("without a network: got %v, want an error that says what to do\n%s", err, out)
	}
	c.wantLeft()
	c.put("interrupt", "")
	if out, err := c.run(); err == nil || !strings.Contains(out, "interrupted") {
		t.Errorf("interrupted: got %v, want an error\n%s", err, out)
	}
	c.wantLeft()
	os.Remove(filepath.Join(c.dir, "interrupt"))
	os.Remove(filepath.Join(c.dir, "fail"))

	// The first run installs, and names the steps. What a killed run left is removed.
	c.put("place/.new-killed/bin/node", "")
	c.put("place/openclaw-of-mine/notes.txt", "")
	c.put("stall", "")
	c.calls()
	out, err = c.run()
	if err != nil || !strings.Contains(out, "900 MB") || !strings.Contains(out, "OpenClaw "+version+" is installed in ") {
		t.Fatalf("got %v, want no error\n%s", err, out)
	}
	if !strings.Contains(out, "stalled, trying again") {
		t.Errorf("got no word of a download that stalled, want one\n%s", out)
	}
	for _, step := range []string{"Node ", "npm ", "OpenClaw " + version, "Checking"} {
		if !strings.Contains(out, "\n  "+step) {
			t.Errorf("got no step %q, want one\n%s", step, out)
		}
	}
	c.remains("openclaw-of-mine/notes.txt")
	os.RemoveAll(filepath.Join(c.place, "openclaw-of-mine"))
	first := c.left()
	if len(first) != 2 || first[0] != "current" || !strings.HasPrefix(first[1], "openclaw-"+version+"-node-") {
		t.Errorf("in the place: got %q, want current and one version", first)
	}
	said, err := exec.CommandContext(t.Context(), filepath.Join(c.place, "current", "bin", "openclaw"), "--version").Output()
	if err != nil || string(said) != "OpenClaw "+version+"\n" {
		t.Errorf("got %q %v, want the pinned version, %q", said, err, version)
	}
	for _, name := range []string{".", "current/", "current/bin/node", "current/bin/openclaw"} {
		if st, err := os.Stat(filepath.Join(c.place, name)); err != nil || st.Mode().Perm()&0o005 != 0o005 {
			t.Errorf("%s: got %v %v, want other users to read and run it", name, st.Mode(), err)
		}
	}
	if calls := c.calls(); strings.Contains(calls, "apt-get") || strings.Count(calls, "--allow-scripts") != 1 {
		t.Errorf("got calls %q, want none of apt-get, and one that allows a package's scripts", calls)
	}

	// A second run ends at once; a missing package is installed.
	if out, err := c.run(); err != nil || !strings.Contains(out, "is installed, in ") || c.calls() != "" {
		t.Errorf("again: got %v, want no error and no call\n%s", err, out)
	}
	c.put("lacks", "xclip")
	if out, err := c.run(); err != nil || !strings.Contains(c.calls(), "install -y --no-install-recommends xclip\n") {
		t.Errorf("without xclip: got %v, want no error and an installation of it\n%s", err, out)
	}
	os.Remove(filepath.Join(c.dir, "lacks"))

	// Another version replaces it. The old one stays as long as a process runs it.
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	c.put("place/"+first[1]+"/bin/busy", string(text))
	busy := exec.CommandContext(t.Context(), filepath.Join(c.place, first[1], "bin", "busy"), "600")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	bump := func(to string) {
		t.Helper()
		pinned, err := os.ReadFile("../guest/install/pinned")
		if err != nil {
			t.Fatal(err)
		}
		c.put("guest/install/pinned", strings.ReplaceAll(string(pinned), "openclaw="+version+"\n", "openclaw="+to+"\n"))
		if out, err := c.run(); err != nil || !strings.Contains(out, "OpenClaw "+to+" is installed in ") {
			t.Errorf("version %s: got %v, want no error\n%s", to, err, out)
		}
	}
	second := strings.Replace(first[1], version, "2999.1.1", 1)
	bump("2999.1.1")
	c.wantLeft("current", first[1], second)
	if to, _ := os.Readlink(filepath.Join(c.place, "current")); to != second {
		t.Errorf("current: got %s, want %s", to, second)
	}
	if out, err := c.run("--remove"); err == nil || !strings.Contains(out, "desktops use the agent") {
		t.Errorf("removed while in use: got %v, want an error\n%s", err, out)
	}
	_ = busy.Process.Kill()
	_ = busy.Wait()
	bump("2999.1.2")
	c.wantLeft("current", strings.Replace(first[1], version, "2999.1.2", 1))

	c.put("place/notes.txt", "the user's")
	if out, err := c.run("--remove"); err != nil || !strings.Contains(out, "Removed") || !strings.Contains(out, "Other files stay") {
		t.Errorf("remove beside other files: got %v, want no error, and a word of them\n%s", err, out)
	}
	c.remains("notes.txt")
	os.Remove(filepath.Join(c.place, "notes.txt"))
	if out, err := c.run("--remove"); err != nil || !strings.Contains(out, "Removed") {
		t.Errorf("remove: got %v, want no error\n%s", err, out)
	}
	if _, err := os.Stat(c.place); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no place any more", err)
	}
}

// A full disk is found out before anything is downloaded.
func TestAgentOnAFullDisk(t *testing.T) {
	t.Parallel()
	c := newClone(t)
	c.put("bin/df", "#!/bin/sh\necho Filesystem\necho /dev/sda 9 9 1023000 9% /\n")
	out, err := c.run()
	if err == nil || !strings.Contains(out, "has 999 MB free and needs 1400") || c.calls() != "" {
		t.Errorf("got %v, want an error with both numbers, and no call\n%s", err, out)
	}
	c.wantLeft()
}
