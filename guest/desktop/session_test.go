package desktop

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/webgl"
	"github.com/cloudbot-ai/control-plane/guest/x11"
)

func TestMenuHasOnlyWhatIsInstalled(t *testing.T) {
	t.Parallel()
	here := func(names ...string) func(string) string {
		return func(name string) string {
			if slices.Contains(names, name) {
				return "/usr/bin/" + name
			}
			return ""
		}
	}
	for _, c := range []struct {
		installed []string
		want      string
	}{
		{nil, "Terminal='xterm' '-T' 'Terminal'"},
		{[]string{"chromium", "nano"}, "Terminal='xterm' '-T' 'Terminal' Browser='/usr/bin/chromium' '" + webgl.Flag + "' Editor='xterm' '-T' 'Editor' '-e' '/usr/bin/nano'"},
		{[]string{"firefox-esr", "thunar", "mousepad", "nano"}, "Terminal='xterm' '-T' 'Terminal' Browser='/usr/bin/firefox-esr' Files='/usr/bin/thunar' Editor='/usr/bin/mousepad'"},
	} {
		var got []string
		for _, e := range menu([]string{"xterm"}, here(c.installed...)) {
			got = append(got, e.Name+"="+e.Command)
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("with %v: got %s, want %s", c.installed, got, c.want)
		}
	}
}

// TestSettingsAreWhole reads the window manager's files as XML, with a folder whose name needs quoting.
func TestSettingsAreWhole(t *testing.T) {
	t.Parallel()
	home, shm := t.TempDir(), filepath.Join(t.TempDir(), "a & <b> 'c'")
	if err := os.Mkdir(shm, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Desktop{c: Config{Home: home, Shm: shm}, x: &programs{xterm: "/usr/bin/xterm", openbox: "/usr/bin/openbox", tint2: "/usr/bin/tint2"}}
	for range 2 { // also over the files of the run before
		manager, panel, err := d.settings()
		if err != nil || len(manager) != 2 || len(panel) != 3 {
			t.Fatalf("got %v %v %v, want the arguments of window manager and panel", manager, panel, err)
		}
	}
	for _, name := range []string{"rc.xml", "menu.xml"} {
		text, err := os.ReadFile(filepath.Join(shm, name))
		if err != nil {
			t.Fatal(err)
		}
		r := xml.NewDecoder(strings.NewReader(string(text)))
		for err == nil {
			_, err = r.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v, want XML", name, err)
		}
	}
	// The user's own settings replace ours.
	for _, name := range []string{"openbox/rc.xml", "tint2/tint2rc"} {
		path := filepath.Join(home, ".config", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if manager, panel, err := d.settings(); err != nil || len(manager) != 0 || len(panel) != 1 {
		t.Errorf("with own settings: got %v %v %v, want none of ours", manager, panel, err)
	}
}

func TestSettingsStayInTheirFolder(t *testing.T) {
	t.Parallel()
	shm, other := t.TempDir(), t.TempDir()
	if err := os.Symlink(other, filepath.Join(shm, "theme")); err != nil {
		t.Fatal(err)
	}
	d := &Desktop{c: Config{Home: t.TempDir(), Shm: shm}, x: &programs{xterm: "xterm"}}
	if _, _, err := d.settings(); err == nil {
		t.Error("a link out of the folder: got no error, want one")
	}
	if got, err := os.ReadDir(other); err != nil || len(got) > 0 {
		t.Errorf("behind the link: got %v %v, want nothing", got, err)
	}
}

func TestShellSettingsOfTheUserStay(t *testing.T) {
	t.Parallel()
	d := &Desktop{c: Config{Home: t.TempDir()}}
	file := filepath.Join(d.c.Home, ".bashrc")
	if err := d.shellSettings(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "PS1=") {
		t.Errorf("got %q %v, want a prompt", text, err)
	}
	if err := errors.Join(os.WriteFile(file, []byte("# mine"), 0o644), d.shellSettings()); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(file); string(text) != "# mine" {
		t.Errorf("got %q, want the user's own file", text)
	}
}

// TestLooksFinished waits until wallpaper, terminal and panel are on the screen, also after it has become smaller. It runs alone: another test needs its display again.
func TestLooksFinished(t *testing.T) {
	dir := t.TempDir()
	d, err := New(Config{Kind: X11, Password: "pass", Home: dir, Shm: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skip(err)
	}
	if d.x.openbox == "" || d.x.xterm == "" {
		t.Skip("openbox or xterm is not installed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case <-d.Up():
	case <-time.After(60 * time.Second):
		t.Fatal("timed out waiting until the desktop is up")
	}
	env, _ := d.Env()
	x, err := x11.Open(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	titles := []string{"CloudBot"}
	if d.x.tint2 != "" {
		titles = append(titles, "tint2")
	}
	top := color.RGBA{byte(sky[0][0]), byte(sky[0][1]), byte(sky[0][2]), 255}
	lacks := func() string {
		m, err := x.Look()
		if err != nil {
			t.Fatal(err)
		}
		if got := m.RGBAAt(m.Rect.Dx()-1, 0); got != top {
			return "the wallpaper"
		}
		for _, title := range titles {
			if w, err := x.Find(title, 0); err != nil || w == 0 {
				return "the window " + title
			}
		}
		return ""
	}
	await := func() {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.After(time.Minute); lacks() != ""; {
			select {
			case <-deadline:
				t.Fatalf("timed out waiting for %s", lacks())
			case <-tick.C:
			}
		}
	}
	await()

	if d.x.xvnc == "" || look("xrandr") == "" {
		t.Skip("Xvnc or xrandr is not installed: the size stays")
	}
	resize := exec.CommandContext(ctx, "xrandr", "-s", "640x480")
	resize.Env = []string{"DISPLAY=" + env["DISPLAY"], "XAUTHORITY=" + env["XAUTHORITY"]}
	if out, err := resize.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lacks = func() string {
		for _, title := range titles {
			w, err := x.Find(title, 0)
			if err != nil || w == 0 {
				return "the window " + title
			}
			if at, err := x.Place(w); err != nil || !at.In(image.Rect(0, 0, 640, 480)) {
				return fmt.Sprintf("the window %s within the screen, is at %v", title, at)
			}
		}
		return ""
	}
	await()
}
