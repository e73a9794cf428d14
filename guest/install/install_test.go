package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// computer fakes the commands of an installation, and records them.
type computer struct {
	mu     sync.Mutex
	ran    []string
	fail   func(line string) error // nil: nothing fails
	output map[string]string       // by command line
	assets map[string]string       // by name
	log    bytes.Buffer
	root   string
	url    string
}

func newComputer(t *testing.T) *computer {
	c := &computer{output: map[string]string{}, assets: map[string]string{}, root: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/assets/")
		base, isSum := strings.CutSuffix(name, ".sha256")
		text, ok := c.assets[base]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if isSum {
			sum := sha256.Sum256([]byte(text))
			text = hex.EncodeToString(sum[:]) + "  " + base + "\n"
		}
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *computer) run(_ context.Context, cmd Command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := cmd.String()
	c.ran = append(c.ran, line)
	if cmd.Out != nil {
		_, _ = cmd.Out.Write([]byte(c.output[line]))
	}
	if c.fail != nil {
		if err := c.fail(line); err != nil {
			return err
		}
	}
	if _, provider, ok := strings.Cut(line, "plugins install npm:@openclaw/"); ok && strings.HasPrefix(line, "runuser -u cloudbot -- ") {
		provider, _, _ = strings.Cut(provider, "-provider@"+PluginVersion()+" ")
		return c.has(home + "/.openclaw/npm/projects/openclaw-" + provider + "-provider-0123/node_modules/@openclaw/" + provider + "-provider/package.json")
	}
	return nil
}

// has gives the computer a file.
func (c *computer) has(path string) error { return putFile(filepath.Join(c.root, path), nil, 0o644) }

func (c *computer) did(part string) int {
	n := 0
	for _, line := range c.ran {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// offline reaches only this computer's own control plane, and no vendor.
type offline struct{ host string }

func (o offline) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != o.host {
		return nil, errors.New("no such host")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (c *computer) installer(t *testing.T, change func(*Config)) *Installer {
	t.Helper()
	cfg := Config{
		ControlPlaneURL: c.url, Logger: slog.New(slog.NewTextHandler(&c.log, nil)), root: c.root, run: c.run,
		client: &http.Client{Transport: offline{strings.TrimPrefix(c.url, "http://")}}, sleep: func(context.Context, time.Duration) error { return nil },
	}
	if change != nil {
		change(&cfg)
	}
	i, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// run installs and returns the milestones in the order they were reached.
func run(t *testing.T, i *Installer) (reached []Milestone, said []Progress, err error) {
	t.Helper()
	err = i.Run(t.Context(), func(p Progress) { said = append(said, p) }, func(m Milestone) { reached = append(reached, m) })
	return reached, said, err
}

func working(t *testing.T) *computer {
	c := newComputer(t)
	c.assets["wallpaper.jpg"] = "picture"
	c.output[prefix+"/bin/node --version"] = "v26.10.0\n"
	c.output[openClaw+" --version"] = "OpenClaw 2026.9.6 (eb377ac)\n"
	c.output["node --version"] = "v18.20.4\n"
	return c
}

func TestInstallsOnceAndSaysWhatItChose(t *testing.T) {
	t.Parallel()
	c := working(t)
	i := c.installer(t, nil)
	if i.Done(Desktop) {
		t.Error("got a bare computer as done, want not done")
	}
	reached, said, err := run(t, i)
	if err != nil || !slices.Equal(reached, []Milestone{Desktop, Agent, Complete}) {
		t.Fatalf("got %v %v, want no error and %+v\n%s", reached, err, []Milestone{Desktop, Agent, Complete}, c.log.String())
	}
	for n := 1; n < len(said); n++ {
		if said[n].Percent < said[n-1].Percent {
			t.Errorf("progress goes back: got %v, want at least %v", said, said[n-1].Percent)
		}
	}
	notes := i.Notes()
	for step, want := range map[string]string{
		"node": "of npm, as nodesource's repository cannot be reached", "openclaw": "2026.9.6 from npm", "browser": "chromium of the distribution",
		"editor": "geany of the distribution", "office": "libreoffice-writer",
	} {
		if !strings.Contains(notes[step], want) {
			t.Errorf("%s: %q, want %q", step, notes[step], want)
		}
	}
	if v := i.Versions(); v["openclaw"] != "2026.9.6" || v["node"] != "26.10.0" {
		t.Errorf("versions %v, want v[\"openclaw\"] \"2026.9.6\" and v[\"node\"] \"26.10.0\"", v)
	}
	for path, part := range map[string]string{
		wallpaper: "picture", unitDir + "/cloudbot-openclaw.service": "RestartPreventExitStatus=78",
	} {
		if text, err := os.ReadFile(filepath.Join(c.root, path)); err != nil || !strings.Contains(string(text), part) {
			t.Errorf("%s: got %v %.100q, want no error and %q in string(text)", path, err, text, part)
		}
	}
	if lists, _ := filepath.Glob(filepath.Join(c.root, "/etc/apt/sources.list.d/*")); len(lists) > 0 {
		t.Errorf("lists of vendors that cannot be reached are left: got %v, want none", lists)
	}

	// Another boot, or a machine from an image: no command is run.
	c.ran = nil
	again := c.installer(t, nil)
	if !again.Done(Complete) {
		t.Error("got not done after all steps, want done")
	}
	if reached, _, err := run(t, again); err != nil || len(reached) != 3 || len(c.ran) > 0 {
		t.Errorf("again: %v %v ran %v, want no error, len(reached) 3 and no c.ran", reached, err, c.ran)
	}
}

func TestVitalStepsAreTriedUntilTheyWork(t *testing.T) {
	t.Parallel()
	c := working(t)
	left := 4
	c.fail = func(line string) error {
		if strings.Contains(line, "xfce4-session") && left > 0 {
			left--
			return errors.New("the mirror is down")
		}
		return nil
	}
	if reached, _, err := run(t, c.installer(t, nil)); err != nil || len(reached) != 3 || c.did("xfce4-session") != 5 {
		t.Errorf("%v %v after %d tries, want no error, len(reached) 3 and c.did(\"xfce4-session\") 5", reached, err, c.did("xfce4-session"))
	}
	if c.did(" update") < 4 {
		t.Error("the lists were not read again after a failure")
	}
}

func TestOthersAreLeftOutAndTriedAtTheNextBoot(t *testing.T) {
	t.Parallel()
	c := working(t)
	c.fail = func(line string) error {
		if strings.Contains(line, "libreoffice") || strings.Contains(line, "abiword") {
			return errors.New("no room on the disk")
		}
		return nil
	}
	reached, _, err := run(t, c.installer(t, nil))
	if err == nil || !strings.Contains(err.Error(), "office") || len(reached) != 3 || c.did("install --no-install-recommends libreoffice") != optionalTries {
		t.Errorf("got %v %v, want three milestones, and an error about the office after %d tries", reached, err, optionalTries)
	}
	c.fail, c.ran = nil, nil
	if _, _, err := run(t, c.installer(t, nil)); err != nil || c.did("libreoffice") != 1 || c.did("xfce4-session") != 0 {
		t.Errorf("the next boot: %v, ran %v, want no error, c.did(\"libreoffice\") 1 and c.did(\"xfce4-session\") 0", err, c.ran)
	}
}

func TestOpenClawComesFromTheControlPlaneFirst(t *testing.T) {
	t.Parallel()
	c := working(t)
	c.assets["openclaw.tgz"] = "a package"
	i := c.installer(t, nil)
	if _, _, err := run(t, i); err != nil || c.did(openClawFile) != 1 || c.did("openclaw@") != 0 {
		t.Errorf("%v, ran %v, want no error, c.did(openClawFile) 1 and c.did(\"openclaw@\") 0", err, c.ran)
	}
	if n := i.Notes()["openclaw"]; !strings.Contains(n, "control plane") {
		t.Errorf("note %q, want \"control plane\" in n", n)
	}
}

func TestAPlugInThatIsNotPublishedIsSaidToBeMissing(t *testing.T) {
	t.Parallel()
	c := working(t)
	groq := strings.Join([]string{"runuser -u cloudbot --", openClaw, "plugins install", plugin("groq"), "--pin --force"}, " ")
	c.output[groq] = "Package not found on npm: @openclaw/groq-provider@2026.9.5. See https://docs.openclaw.ai/tools/plugin for installable plugins.\n"
	c.fail = func(line string) error {
		if line == groq {
			return errors.New("exit status 1")
		}
		return nil
	}
	i := c.installer(t, nil)
	if _, _, err := run(t, i); err != nil || c.did("plugins install") != len(plugged) {
		t.Errorf("%v, ran %v, want no error and %v", err, c.ran, len(plugged))
	}
	if n := i.Notes()["plugins"]; !strings.HasPrefix(n, "without groq: ") || !slices.Equal(i.Lacks(), []string{"groq"}) {
		t.Errorf("note %q, lacks %v, want n to begin with \"without groq: \" and i.Lacks() %+v", n, i.Lacks(), []string{"groq"})
	}
	if !strings.Contains(c.log.String(), "plug-in of a provider missing on npm, its API keys have no effect") {
		t.Error("got no log line about it, want one")
	}
	// OpenClaw installed the plug-in from elsewhere, for a key that it has.
	if err := c.has(home + "/.openclaw/extensions/groq/package.json"); err != nil || len(i.Lacks()) > 0 {
		t.Errorf("%v, lacks %v, want no error and none", err, i.Lacks())
	}
}

func TestPlugInsThatCannotBeReachedAreTriedAtTheNextBoot(t *testing.T) {
	t.Parallel()
	c := working(t)
	c.fail = func(line string) error {
		if strings.Contains(line, "plugins install") {
			return errors.New("exit status 1")
		}
		return nil
	}
	i := c.installer(t, nil)
	reached, _, err := run(t, i)
	if err == nil || len(reached) != 3 || c.did("plugins install") != optionalTries || !slices.Equal(i.Lacks(), plugged) {
		t.Errorf("%v %v, ran %v, want an error, len(reached) 3, c.did(\"plugins install\") %v and i.Lacks() %v", reached, err, c.ran, optionalTries, plugged)
	}
	c.fail, c.ran = nil, nil
	if _, _, err := run(t, c.installer(t, nil)); err != nil || c.did("plugins install") != len(plugged) || len(i.Lacks()) > 0 {
		t.Errorf("the next boot: %v, ran %v, want no error, c.did(\"plugins install\") %v and no i.Lacks()", err, c.ran, len(plugged))
	}
}

func TestAPinnedAssetMustFit(t *testing.T) {
	t.Parallel()
	c := working(t)
	i := c.installer(t, func(cfg *Config) { cfg.Pins = map[string]string{"wallpaper.jpg": strings.Repeat("0", 64)} })
	if _, _, err := run(t, i); err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("got %v, want an error and \"sha256\" in err.Error()", err)
	}
	if _, err := os.Stat(filepath.Join(c.root, wallpaper)); err == nil {
		t.Error("got a wallpaper with another sum, want none")
	}
}

func TestOpenClawFromElsewhere(t *testing.T) {
	t.Parallel()
	const good = "a package"
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	for name, c := range map[string]struct {
		url  func(here string) string // of the server that has it
		pin  string
		want string // in the error, or in the note
		ok   bool
	}{
		"with its sum":              {func(here string) string { return here + "/good.tgz" }, sum(good), "from the package at the configured URL", true},
		"without a sum":             {func(here string) string { return here + "/good.tgz" }, "", "from the package at the configured URL", true},
		"with another sum":          {func(here string) string { return here + "/good.tgz" }, sum("another"), "expected " + sum("another"), false},
		"over an open network":      {func(string) string { return "http://assets.example.org/good.tgz" }, sum(good), "from npm, as the configured URL is not https", true},
		"redirected to an open one": {func(here string) string { return here + "/away.tgz" }, sum(good), "which is not https", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/away.tgz" {
					http.Redirect(w, r, "http://assets.example.org/good.tgz", http.StatusFound)
					return
				}
				_, _ = io.WriteString(w, good)
			}))
			defer other.Close()
			i := working(t).installer(t, func(cfg *Config) {
				cfg.OpenClawURL, cfg.Pins = c.url(other.URL), map[string]string{"openclaw.tgz": c.pin}
				cfg.client = &http.Client{CheckRedirect: noDowngrade}
			})
			note, err := installOpenClaw(t.Context(), i)
			if err != nil {
				note = err.Error()
			}
			if (err == nil) != c.ok || !strings.Contains(note, c.want) {
				t.Errorf("%q, %v, want %q", note, err, c.want)
			}
		})
	}
}

func TestAnAssetWithoutASumIsNotTaken(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	i := working(t).installer(t, func(cfg *Config) { cfg.ControlPlaneURL, cfg.client = server.URL, server.Client() })
	if err := i.asset(t.Context(), "openclaw.tgz", openClawFile, 0o644); err == nil || !strings.Contains(err.Error(), "contains no sha256") {
		t.Error(err)
	}
}

func TestTheUsersFilesStay(t *testing.T) {
	t.Parallel()
	c := working(t)
	file := filepath.Join(c.root, home, ".openclaw/openclaw.json")
	if err := putFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, c.installer(t, nil)); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(file); string(text) != "mine" {
		t.Errorf("got %q, want \"mine\"", text)
	}
}

func TestBakeLeavesNothingOfOneMachine(t *testing.T) {
	t.Parallel()
	c := working(t)
	own := []string{"/var/lib/cloudbot/machine.key", "/etc/cloudbot/guest.json", "/etc/ssh/ssh_host_ed25519_key", "/var/lib/apt/lists/x"}
	for _, p := range own {
		if err := putFile(filepath.Join(c.root, p), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := c.installer(t, nil).c
	if err := Bake(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, p := range own {
		if _, err := os.Stat(filepath.Join(c.root, p)); err == nil {
			t.Errorf("%s is in the image, want an error", p)
		}
	}
	if !c.installer(t, nil).Done(Complete) {
		t.Error("a machine from the image would install something, want nothing")
	}
}

func TestGoodNode(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{
		"v24.16.0": true, "v24.15.9": false, "v25.9.0": false, "v26.0.9": false, "v26.1.0": true, "v26.10.0": true, "v27.0.0": true, "v18.20.4": false, "": false, "x.y": false,
	} {
		if GoodNode(v) != want {
			t.Errorf("%q: got %v, want %v", v, !want, want)
		}
	}
}

// TestAStopLeavesTheAgentWhatItNeeds reads the agent's unit: units named in After stop after it, and the control plane
// forces a machine to stop after seven minutes.
func TestAStopLeavesTheAgentWhatItNeeds(t *testing.T) {
	t.Parallel()
	setting := func(unit, name string) string {
		text, err := unitFiles.ReadFile("units/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(text), "\n"+name+"=")
		value, _, _ := strings.Cut(after, "\n")
		return value
	}
	after := strings.Fields(setting("cloudbot-openclaw.service", "After"))
	for _, unit := range []string{"network.target", "nss-lookup.target", "cloudbot-xvnc.service", "cloudbot-guest.service"} {
		if !slices.Contains(after, unit) {
			t.Errorf("%s may stop before the agent has ended, want %v in after", unit, unit)
		}
	}
	seconds := 0
	for _, unit := range []string{"cloudbot-openclaw.service", "cloudbot-xvnc.service"} {
		n, err := strconv.Atoi(setting(unit, "TimeoutStopSec"))
		if err != nil {
			t.Errorf("%s: %v", unit, err)
		}
		seconds += n
	}
	const guest, rest = 30, 30 // seconds: of the guest's unit, and of the system
	if most := 7 * 60; seconds+guest+rest > most {
		t.Errorf("%d s may pass, and %d for the rest: the control plane forces a machine after %d, want at most %v", seconds, guest+rest, most, most)
	}
	if mode := setting("cloudbot-openclaw.service", "KillMode"); mode != "mixed" {
		t.Errorf("KillMode=%s: what a turn has started would end at once, want \"mixed\"", mode)
	}
}
