package install

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/webgl"
)

func TestBrowsersDrawWebGL(t *testing.T) {
	root := t.TempDir()
	i, err := New(Config{root: root})
	if err != nil {
		t.Fatal(err)
	}
	entry := filepath.Join(root, "usr/share/applications/google-chrome.desktop")
	if err := errors.Join(os.MkdirAll(filepath.Dir(entry), 0o755), os.WriteFile(entry, []byte(
		"[Desktop Entry]\nName=Google Chrome\nExec=/usr/bin/google-chrome-stable %U\n[Desktop Action new-window]\nExec=/usr/bin/google-chrome-stable\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := drawWebGL(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		chromiumFlags: "\nexport CHROMIUM_FLAGS=\"$CHROMIUM_FLAGS " + webgl.Flag + "\"\n",
		localEntries + "/google-chrome.desktop": "Name=Google Chrome\nExec=/usr/bin/google-chrome-stable " + webgl.Flag + " %U\n" +
			"[Desktop Action new-window]\nExec=/usr/bin/google-chrome-stable " + webgl.Flag + "\n",
	} {
		if got, err := os.ReadFile(filepath.Join(root, file)); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: got %q %v, want %q in it", file, got, err, want)
		}
	}
}
