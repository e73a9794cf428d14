package desktop

import (
	"bytes"
	"embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/webgl"
)

// sessionFiles contains the settings of window manager and panel for one run of the desktop, and the shell's for a home
// without any.
//
//go:embed session
var sessionFiles embed.FS

// entry is a program of menu and panel.
type entry struct{ Name, Command string }

// known lists what a user looks for first, and the programs that do it, in order of preference. What has inTerminal set
// runs in a terminal.
var known = []struct {
	name     string
	commands []string
}{
	{"Browser", []string{"google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "firefox", "firefox-esr", "epiphany-browser", "epiphany"}},
	{"Files", []string{"thunar", "pcmanfm", "pcmanfm-qt", "nautilus", "nemo", "dolphin", inTerminal + "mc"}},
	{"Editor", []string{"code", "codium", "gnome-text-editor", "gedit", "mousepad", "geany", "featherpad", "kate", "leafpad", inTerminal + "nano"}},
	{"Office", []string{"libreoffice"}},
}

const inTerminal = "terminal: "

// large lists programs, by their window's name or class, that fill the screen when they start.
var large = []string{"google-chrome", "Google-chrome", "chromium", "Chromium", "firefox", "Firefox", "epiphany", "Epiphany", "Thunar", "Pcmanfm", "pcmanfm", "Nautilus",
	"org.gnome", "code", "Code", "codium", "VSCodium", "Gedit", "gedit", "Mousepad", "mousepad", "Geany", "geany", "libreoffice", "soffice"}

// look returns a program's path; "": it is not installed.
func look(name string) string { p, _ := exec.LookPath(name); return p }

// menu lists what is installed here; terminal is the command of a terminal.
func menu(terminal []string, look func(string) string) []entry {
	titled := func(title string) []string { return append(terminal[:len(terminal):len(terminal)], "-T", title) }
	all := []entry{{"Terminal", quoted(titled("Terminal"))}}
	for _, k := range known {
		for _, c := range k.commands {
			name, text := strings.CutPrefix(c, inTerminal)
			path := look(name)
			if path == "" {
				continue
			}
			command := []string{path}
			if text {
				command = append(titled(k.name), "-e", path)
			}
			if strings.Contains(name, "chrom") {
				command = append(command, webgl.Flag)
			}
			all = append(all, entry{k.name, quoted(command)})
			break
		}
	}
	return all
}

// session starts the programs that the user sees.
func (d *Desktop) session(start func(bool, proc.Child), child func(string, ...string) proc.Child) {
	if s := d.c.Session; len(s) > 0 {
		start(false, child(s[0], s[1:]...))
		return
	}
	if err := d.shellSettings(); err != nil {
		d.log.Info("the shell's settings not written", "err", err)
	}
	var welcome []string
	if d.x.xterm != "" {
		welcome = append(append(d.terminal(), d.size()...), "-T", "CloudBot", "-e", "/bin/sh", "-c", `printf '`+greeting+`'; exec "$SHELL"`)
	}
	if d.x.openbox == "" {
		if welcome != nil {
			start(false, child(welcome[0], welcome[1:]...))
		}
		return
	}
	manager, panel, err := d.settings()
	if err != nil {
		d.log.Info("the window manager's settings not written", "err", err)
	}
	// The window manager starts the others: a window that maps itself while openbox takes over may stay hidden.
	var script []string
	if panel != nil {
		script = append(script, quoted(panel)+" >/dev/null 2>&1 &")
	}
	if welcome != nil {
		script = append(script, "exec "+quoted(welcome))
	}
	if script != nil {
		manager = append(manager, "--startup", quoted([]string{"/bin/sh", "-c", strings.Join(script, "\n")}))
	}
	start(false, child(d.x.openbox, manager...))
}

// greeting is a format of printf.
const greeting = `\033[1;38;5;215mYour CloudBot desktop: you and the agent share this screen.\033[0m\n` +
	`Click the background for a menu of programs.\n\n`

// terminal returns the command of a terminal in our colours.
func (d *Desktop) terminal() []string {
	return []string{d.x.xterm, "-bg", "#11161c", "-fg", "#e8eef2", "-cr", "#f2a65a", "-fa", "Monospace", "-fs", "12", "-b", "6",
		"-xrm", "XTerm*selectToClipboard: true"}
}

// size returns the arguments for size and place of the first terminal: it fills a small screen.
func (d *Desktop) size() []string {
	var w, h int
	if n, _ := fmt.Sscanf(d.c.Geometry, "%dx%d", &w, &h); n == 2 && (w < 1000 || h < 640) {
		return []string{"-maximized"}
	}
	return []string{"-geometry", "100x26+120+80"}
}

// shellSettings writes the settings of bash into a home that has none.
func (d *Desktop) shellSettings() error {
	text, err := sessionFiles.ReadFile("session/bashrc")
	if err != nil {
		return err
	}
	// The folder is the user's: O_EXCL follows no link.
	f, err := os.OpenFile(filepath.Join(d.c.Home, ".bashrc"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.c.User != nil {
		err = f.Chown(int(d.c.User.UID), int(d.c.User.GID))
	}
	_, failed := f.Write(text)
	return errors.Join(err, failed, f.Close())
}

// settings writes our settings into the memory-backed folder. It returns the window manager's arguments, and the panel's
// command; none: it is not installed. Settings in the user's home are used in place of ours.
func (d *Desktop) settings() (manager, panel []string, err error) {
	own := func(path string) bool {
		_, err := os.Lstat(filepath.Join(d.c.Home, ".config", path))
		return err == nil
	}
	var programs []entry
	if d.x.xterm != "" {
		programs = menu(d.terminal(), look)
	}
	values := map[string]any{"Dir": filepath.Join(d.c.Shm, "theme"), "Menu": filepath.Join(d.c.Shm, "menu.xml"), "Large": large, "Programs": programs}
	if own("openbox/menu.xml") {
		values["Menu"] = "menu.xml"
	}
	if d.x.tint2 != "" {
		panel = []string{d.x.tint2}
	}
	folder, err := os.OpenRoot(d.c.Shm) // the folder is the user's: no link may lead out of it
	if err != nil {
		return nil, panel, err
	}
	defer folder.Close()
	if err := folder.MkdirAll("theme/openbox-3", 0o755); err != nil {
		return nil, panel, err
	}
	for _, f := range []struct{ name, to string }{
		{"rc.xml", "rc.xml"}, {"menu.xml", "menu.xml"}, {"themerc", "theme/openbox-3/themerc"}, {"tint2rc", "tint2rc"},
	} {
		if err := d.fill(folder, f.name, f.to, values); err != nil {
			return nil, panel, err
		}
	}
	if !own("openbox/rc.xml") {
		manager = []string{"--config-file", filepath.Join(d.c.Shm, "rc.xml")}
	}
	if panel != nil && !own("tint2/tint2rc") {
		panel = append(panel, "-c", filepath.Join(d.c.Shm, "tint2rc"))
	}
	return manager, panel, nil
}

// fill writes one file of settings with values into the folder.
func (d *Desktop) fill(folder *os.Root, name, to string, values map[string]any) error {
	t, err := template.New(name).Funcs(template.FuncMap{"xml": escaped}).ParseFS(sessionFiles, "session/"+name)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, values); err != nil {
		return err
	}
	return d.put(folder, to, text.Bytes())
}

func escaped(text string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(text))
	return b.String(), err
}

// quoted returns args quoted for a shell.
func quoted(args []string) string {
	q := make([]string, len(args))
	for i, a := range args {
		q[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(q, " ")
}
