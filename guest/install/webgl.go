package install

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/webgl"
)

const (
	chromiumFlags = "/etc/chromium.d/cloudbot" // read by the start script of Debian's Chromium
	chromeEntries = "/usr/share/applications/*[cC]hrome*.desktop"
	localEntries  = "/usr/local/share/applications" // in place of entries of the same name
)

// drawWebGL has the browsers that the user starts draw WebGL. The agent's own gets the flag from OpenClaw's configuration.
func drawWebGL(_ context.Context, i *Installer) (string, error) {
	all := i.put(chromiumFlags, []byte("# Pages with WebGL, such as maps, without a graphics card.\n"+
		`export CHROMIUM_FLAGS="$CHROMIUM_FLAGS `+webgl.Flag+"\"\n"), 0o644)
	entries, _ := filepath.Glob(i.path(chromeEntries))
	for _, entry := range entries {
		text, err := os.ReadFile(entry)
		if err == nil {
			err = i.put(path.Join(localEntries, filepath.Base(entry)), []byte(withFlag(string(text))), 0o644)
		}
		all = errors.Join(all, err)
	}
	return "", all
}

// withFlag adds the flag to each command of a desktop entry.
func withFlag(entry string) string {
	lines := strings.Split(entry, "\n")
	for n, line := range lines {
		if command, ok := strings.CutPrefix(line, "Exec="); ok {
			program, rest, _ := strings.Cut(command, " ")
			lines[n] = strings.TrimSpace("Exec=" + program + " " + webgl.Flag + " " + rest)
		}
	}
	return strings.Join(lines, "\n")
}
