// Package guest is the control plane's program on each machine: it enrols, holds one outbound tunnel to the control
// plane, keeps the desktop and the AI agent running, and reports the progress of the boot.
//
// The one thing to know: it listens only on loopback, and keeps API keys only in memory. Load a Config, then call New
// and Run.
package guest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/desktop"
)

// Config is the machine's configuration file. Unknown fields are refused.
type Config struct {
	ControlPlaneURL string  `json:"control_plane_url"`   // "https://cloud.example.org", without a trailing slash
	Instance        string  `json:"instance"`            // id of the instance this machine belongs to
	Token           string  `json:"token"`               // enrolment token, single use
	StateDir        string  `json:"state_dir,omitempty"` // "": "state"; relative to the file's own folder
	User            string  `json:"user,omitempty"`      // user of desktop and agent if the guest is root; "": cloudbot, else the user "nobody"
	Boot            string  `json:"boot,omitempty"`      // boot id; "": the kernel's
	Install         bool    `json:"install,omitempty"`   // set this computer up as a machine, as root, with systemd units for desktop and agent
	Desktop         Desktop `json:"desktop,omitzero"`    // without Install
	Agent           Agent   `json:"agent,omitzero"`      // with Install: only Kind is used, and auto means openclaw

	// With Install.
	Apps        []string          `json:"apps,omitempty"`         // of browser, editor, office; none: all
	Assets      map[string]string `json:"assets,omitempty"`       // sha256 of the control plane's assets; one not listed is checked against the sum published beside it
	Sudo        string            `json:"sudo,omitempty"`         // of the machine's user: on (the default), off
	OpenClawURL string            `json:"openclaw_url,omitempty"` // OpenClaw's package if the control plane has none, https; "": npm
}

// Desktop is the desktop's part of a Config.
type Desktop struct {
	Kind     string   `json:"kind,omitempty"`     // auto (the default), x11, built-in
	Display  int      `json:"display,omitempty"`  // X display; 0: a free one
	Port     int      `json:"port,omitempty"`     // loopback port of the VNC server; 0: a free one
	Geometry string   `json:"geometry,omitempty"` // "": 1280x800
	Session  []string `json:"session,omitempty"`  // command of the session; none: openbox and xterm
}

// Agent is the agent's part of a Config.
type Agent struct {
	Kind    string `json:"kind,omitempty"`    // auto (the default), openclaw, stand-in
	Command string `json:"command,omitempty"` // "": openclaw
	Port    int    `json:"port,omitempty"`    // loopback port of OpenClaw; 0: a free one
	PaceMS  int    `json:"pace_ms,omitempty"` // milliseconds between two steps of the stand-in, for tests; 0: as a person reads
}

// Load reads the file at path, applies change, and checks the result. The returned StateDir is absolute.
func Load(path string, change func(*Config)) (Config, error) {
	var c Config
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	c.StateDir = cmp.Or(c.StateDir, "state")
	if !filepath.IsAbs(c.StateDir) {
		c.StateDir = filepath.Join(filepath.Dir(path), c.StateDir)
	}
	if c.StateDir, err = filepath.Abs(c.StateDir); err != nil {
		return c, err
	}
	if change != nil {
		change(&c)
	}
	return c, c.check()
}

func (c Config) check() error {
	u, err := url.Parse(c.ControlPlaneURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "":
		return fmt.Errorf("control_plane_url %q: use a URL such as https://cloud.example.org", c.ControlPlaneURL)
	case strings.HasSuffix(c.ControlPlaneURL, "/"):
		return fmt.Errorf("control_plane_url %q: remove the trailing slash", c.ControlPlaneURL)
	case c.Instance == "" || len(c.Instance) > 64:
		return errors.New("instance: an id of 1 to 64 characters is required")
	case c.Token == "" || len(c.Token) > 1024:
		return errors.New("token: the enrolment token is missing or too long")
	case !oneOf(c.Desktop.Kind, "", desktop.Auto, desktop.X11, desktop.BuiltIn):
		return fmt.Errorf("desktop.kind %q: use auto, x11 or built-in", c.Desktop.Kind)
	case !oneOf(c.Agent.Kind, "", agent.Auto, agent.OpenClaw, agent.StandIn):
		return fmt.Errorf("agent.kind %q: use auto, openclaw or stand-in", c.Agent.Kind)
	case !oneOf(c.Sudo, "", "on", "off"):
		return fmt.Errorf("sudo %q: use on or off", c.Sudo)
	}
	return nil
}

func oneOf(s string, of ...string) bool {
	for _, o := range of {
		if s == o {
			return true
		}
	}
	return false
}
