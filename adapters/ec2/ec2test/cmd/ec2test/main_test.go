package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// A machine's guest gets its configuration from rendered user-data, and does not install anything.
func TestConfigure(t *testing.T) {
	t.Parallel()
	script, err := bootstrap.UserData(bootstrap.Params{
		ControlPlaneURL: "http://127.0.0.1:8000", Instance: "01JD0000000000000000000000",
		GuestSHA256: map[string]string{"amd64": strings.Repeat("a1", 32)},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := ec2test.Machine{ID: "i-1", Boots: 2, Launch: ec2test.Launch{UserData: strings.Replace(script, bootstrap.TokenPlaceholder, "a.token", 1)}}
	if err := configure(m, dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "guest.json"))
	if err != nil || !strings.Contains(string(text), `"boot":"i-1-2"`) || !strings.Contains(string(text), `"token":"a.token"`) || strings.Contains(string(text), "install") {
		t.Errorf("got %s %v, want no error, %q in string(text), %q in string(text) and no \"install\" in string(text)", text, err, `"boot":"i-1-2"`, `"token":"a.token"`)
	}
	m.Launch.UserData = "#!/bin/sh\nreboot\n"
	if err := configure(m, dir); err == nil {
		t.Error("got no error for another script, want one")
	}
}
