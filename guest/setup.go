package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/install"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/units"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// part is the desktop or the agent, of any kind.
type part interface {
	Run(ctx context.Context) error
	Dial(ctx context.Context) (serve func(context.Context, net.Conn) error, err error)
	Up() <-chan struct{}
	Healthy() bool
	About() string
	Addr() string
}

// display is the desktop's part.
type display interface {
	part
	Viewers() (n int, changed <-chan struct{})
	Notice(n wire.Notice)
}

// worker is the agent's part.
type worker interface {
	part
	Has() map[string]string // beside the versions: what the agent has
}

// setup installs what a bare machine needs.
type setup struct {
	g         *Guest
	installer *install.Installer
	desktop   chan struct{} // closed once it is installed
	agent     chan struct{}
	complete  atomic.Bool // every step was tried
}

// prepareInstalled creates the desktop and agent of a machine that its guest sets up.
func (g *Guest) prepareInstalled() error {
	if os.Getuid() != 0 {
		return errors.New("install: only root can set up a machine")
	}
	standIn := g.c.Agent.Kind == agent.StandIn
	s := &setup{g: g, desktop: make(chan struct{}), agent: make(chan struct{})}
	var err error
	s.installer, err = install.New(install.Config{
		ControlPlaneURL: g.c.ControlPlaneURL, OpenClawURL: g.c.OpenClawURL, Pins: g.c.Assets, Apps: g.c.Apps, NoAgent: standIn, NoSudo: g.c.Sudo == "off",
		Logger: g.log, Output: g.lines.Writer("install: "),
	})
	if err != nil {
		return fmt.Errorf("read the installed versions: %w", err)
	}
	g.setup = s
	d := units.NewDesktop(units.DesktopConfig{
		Installed: s.desktop, Password: g.secret.VNCPassword, User: install.User, Logger: g.log,
		LongCopy: func(n int64) { g.operator.Copied(n) },
	})
	g.desktop = d
	g.operate(d)
	if standIn {
		g.agent, err = agent.New(agent.Config{
			Kind: agent.StandIn, Token: g.secret.GatewayToken, Keys: g.keys, Home: install.Home, UserName: install.User, Screen: d,
			Version: g.version, Logger: g.log,
		})
		return err
	}
	g.agent = units.NewAgent(units.AgentConfig{
		Installed: s.agent, Token: g.secret.GatewayToken, Keys: g.keys, Arrived: g.keys.arrived, Settle: g.settle,
		Memory: figures(g.c.StateDir).MemoryTotal, User: install.User, Home: install.Home, Sudo: g.c.Sudo != "off", Changed: g.introduce, Logger: g.log,
	})
	return nil
}

// run installs what is missing. A failure does not end the guest.
func (s *setup) run(ctx context.Context) error {
	err := s.installer.Run(ctx,
		func(p install.Progress) { s.g.phases.say(p.Detail, p.Percent) },
		func(m install.Milestone) {
			switch m {
			case install.Desktop:
				close(s.desktop)
			case install.Agent:
				close(s.agent)
			case install.Complete:
				s.complete.Store(true)
			}
			s.g.introduce()
		})
	if err != nil && ctx.Err() == nil {
		s.g.log.Warn("installation incomplete, will retry at the next boot", "err", err)
	}
	return nil
}

// followUnits copies the units' log into the guest's.
func (s *setup) followUnits(ctx context.Context) error {
	path, err := exec.LookPath("journalctl")
	if err != nil {
		return nil
	}
	_ = proc.Run(ctx, proc.Child{
		Path: path, Args: []string{"--follow", "--boot", "--lines=50", "--output=cat", "--quiet", "--unit=cloudbot-xvnc", "--unit=cloudbot-xfce",
			"--unit=cloudbot-gate", "--unit=cloudbot-openclaw"},
		Env: []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}, Dir: "/", Output: s.g.lines.Writer("unit: "),
	}, nil)
	return nil
}

// lacks reports whether this machine's agent cannot use the provider because it has no plug-in for it.
func (g *Guest) lacks(provider string) bool {
	return g.setup != nil && slices.Contains(g.setup.installer.Lacks(), provider)
}

// versions returns the versions of what this machine runs, by name, and what its agent has.
func (g *Guest) versions() map[string]string {
	v := g.agent.Has()
	v["guest"] = g.version
	if g.setup != nil {
		for name, version := range g.setup.installer.Versions() {
			v[name] = version
		}
	}
	return v
}

// bootSecret returns the secrets of this boot. A restarted guest finds the secrets that the units already use. They are
// kept only in memory.
func bootSecret() (wire.Secret, error) {
	if err := units.Folder(units.Dir); err != nil {
		return wire.Secret{}, err
	}
	path := filepath.Join(units.Dir, "secret.json")
	var s struct{ VNC, Gateway string }
	text, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(text, &s) == nil && s.VNC != "" && s.Gateway != "" {
		return wire.Secret{VNCPassword: s.VNC, GatewayToken: s.Gateway}, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wire.Secret{}, err
	}
	made := newSecret()
	s.VNC, s.Gateway = made.VNCPassword, made.GatewayToken
	if text, err = json.Marshal(s); err == nil {
		err = writeFile(path, text)
	}
	return made, err
}

func newSecret() wire.Secret {
	return wire.Secret{VNCPassword: random(6), GatewayToken: random(32)}
}
