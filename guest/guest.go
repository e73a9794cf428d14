package guest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/activity"
	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/chats"
	"github.com/cloudbot-ai/control-plane/guest/desktop"
	"github.com/cloudbot-ai/control-plane/guest/install"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/paths"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/units"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// MachineEnv marks every process of a machine, so that a control plane with several machines on one host finds all
// processes of one. The guest's children inherit it.
const MachineEnv = "CLOUDBOT_MACHINE"

// Guest is the control plane's program on one machine.
type Guest struct {
	c          Config
	version    string
	started    time.Time
	boot       string
	process    string // drawn at each start; see wire.Proof
	key        ed25519.PrivateKey
	secret     wire.Secret
	redact     *Redactor
	lines      *Log
	log        *slog.Logger
	keys       *keyring
	phases     *phases
	shm        string
	desktop    display
	agent      worker
	operator   *operator.Operator
	activity   *activity.Tracker
	chats      *chats.Keeper
	planeToken string         // what the control plane has in place of the gateway's token
	setup      *setup         // nil: nothing to install
	http       *pipe.Listener // diagnostics
	probes     []probe
	client     *http.Client

	connected atomic.Pointer[time.Time] // when the tunnel was connected; nil: it is not connected
	dials     atomic.Int64
	streams   atomic.Int64
	changed   chan struct{}      // holds a value when the hello must be sent again
	last      chan chan struct{} // asks for a report of the use at once; the inner one is closed after it was sent
	announced bool               // every phase was sent once; used only by the tunnel's goroutine
}

// New prepares the machine: its key, its secrets, its desktop and agent. out receives the log.
func New(c Config, version string, out io.Writer) (*Guest, error) {
	g := &Guest{
		c: c, version: version, started: time.Now(), boot: c.Boot, process: random(16),
		redact: &Redactor{}, phases: newPhases(), http: pipe.NewListener(), probes: providers,
		client: newClient(), changed: make(chan struct{}, 1), last: make(chan chan struct{}),
	}
	g.lines = NewLog(out, g.redact, g.phases.present)
	g.log = slog.New(slog.NewTextHandler(g.lines.Writer(""), nil))
	g.keys = newKeyring(g.redact)
	var err error
	if g.boot == "" {
		if g.boot, err = kernelBoot(); err != nil {
			return nil, err
		}
	}
	if g.key, err = machineKey(c.StateDir); err != nil {
		return nil, err
	}
	g.secret = newSecret()
	if c.Install {
		if g.secret, err = bootSecret(); err != nil {
			return nil, fmt.Errorf("make this boot's secrets: %w", err)
		}
	}
	g.planeToken = random(32)
	g.redact.Know("own", c.Token, g.secret.VNCPassword, g.secret.GatewayToken, g.planeToken)
	if _, signature, ok := strings.Cut(c.OpenClawURL, "?"); ok {
		g.redact.Know("openclaw_url", signature)
	}
	if c.Install {
		return g, g.prepareInstalled()
	}
	return g, g.prepare()
}

// operate prepares the operator; gate is nil if the agent's input cannot be held.
func (g *Guest) operate(gate operator.Gate) {
	g.operator = operator.New(operator.Config{
		Dial:  func(ctx context.Context) (func(context.Context, net.Conn) error, error) { return g.agent.Dial(ctx) },
		Token: g.secret.GatewayToken, Gate: gate, Logger: g.log, Changed: func(session string) { g.chats.Changed(session) },
		Acted: func() { g.activity.Chatted() },
	})
	g.activity = activity.New(activity.Config{Meter: random(16), Work: g.operator.Work, Shells: g.shells(), Logger: g.log})
	g.chats = chats.New(chats.Config{Ask: g.operator.Ask, Logger: g.log})
}

// shells returns what looks at the terminals of this machine's users. Several local machines share a computer.
func (g *Guest) shells() *activity.Shells {
	s := &activity.Shells{Agent: units.AgentUnit}
	if m := os.Getenv(MachineEnv); m != "" && g.setup == nil {
		s.Mark = MachineEnv + "=" + m
	}
	return s
}

// reportWithin is how long a stop waits until the last report of the desktop's use is sent.
const reportWithin = time.Second

// reportLast sends what the models cost until now, if the tunnel is connected.
func (g *Guest) reportLast(ctx context.Context) {
	if g.connected.Load() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	sent := make(chan struct{})
	select {
	case g.last <- sent:
	case <-ctx.Done():
		return
	}
	select {
	case <-sent:
	case <-ctx.Done():
	}
}

// saveWithin is how long a stop waits for the control plane to keep the newest chats.
const saveWithin = 2 * time.Second

// settle prepares the agent's stop: it ends what waits for the user, then saves the chats.
func (g *Guest) settle(ctx context.Context) {
	g.operator.Settle(ctx)
	g.saveChats(ctx)
}

func (g *Guest) saveChats(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, saveWithin)
	defer cancel()
	g.chats.Flush(ctx)
}

// runAgent runs the agent and the operator's connection to it. The operator ends last: it settles what the agent waits
// for before the agent stops.
func (g *Guest) runAgent(ctx context.Context) error {
	operating, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- g.operator.Run(operating) }()
	err := g.agent.Run(ctx)
	stop()
	return errors.Join(err, <-done)
}

// prepare chooses the user of desktop and agent, and creates the folders that they write to.
func (g *Guest) prepare() error {
	who, err := proc.Ordinary(g.c.User, "cloudbot", "nobody")
	if err != nil {
		return fmt.Errorf("find an ordinary user for the desktop: %w", err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if who != nil {
		uid, gid = int(who.UID), int(who.GID)
	}
	g.shm = paths.Shm(g.c.StateDir)
	// A killed guest leaves the folder full, and maybe owned by another user.
	if paths.Make(g.shm, uid, gid) != nil {
		_ = os.RemoveAll(g.shm)
	}
	if err := errors.Join(paths.Make(g.shm, uid, gid), paths.Clear(g.shm)); err != nil {
		return fmt.Errorf("create the memory-backed folder: %w", err)
	}
	home := filepath.Join(g.c.StateDir, "home")
	if !who.CanReach(g.c.StateDir) {
		home = paths.Home(g.c.StateDir)
		g.log.Info("state folder closed to the desktop's user, home placed elsewhere", "user", who.Name, "home", home)
	}
	if err := paths.Make(home, uid, gid); err != nil {
		return fmt.Errorf("create the home folder: %w", err)
	}
	var env []string
	if m := os.Getenv(MachineEnv); m != "" {
		env = append(env, MachineEnv+"="+m)
	}
	d, err := desktop.New(desktop.Config{
		Kind: g.c.Desktop.Kind, Display: g.c.Desktop.Display, Port: g.c.Desktop.Port,
		Geometry: g.c.Desktop.Geometry, Session: g.c.Desktop.Session,
		Password: g.secret.VNCPassword, Home: home, Shm: g.shm, User: who, Env: env,
		Title: "Instance " + g.c.Instance, Logger: g.log, Output: g.lines.Writer("desktop: "),
		LongCopy: func(n int64) { g.operator.Copied(n) },
	})
	if err != nil {
		return fmt.Errorf("desktop: %w", err)
	}
	g.desktop = d
	var screen agent.Screen
	var gate operator.Gate
	if d.X11() {
		screen, gate = d, d
	}
	g.operate(gate)
	g.agent, err = agent.New(agent.Config{
		Kind: g.c.Agent.Kind, Command: g.c.Agent.Command, Port: g.c.Agent.Port, Token: g.secret.GatewayToken,
		Home: home, User: who, Env: env, Keys: g.keys, Screen: screen, Changed: g.introduce, Settle: g.settle, Arrived: g.keys.arrived, Version: g.version, Pace: time.Duration(g.c.Agent.PaceMS) * time.Millisecond, Logger: g.log, Output: g.lines.Writer("agent: "),
	})
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

// newClient returns a client that follows no redirects and keeps no connections: the guest connects rarely.
func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// random returns n random bytes as text without padding.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Run works until ctx ends. When it returns, all children have ended and the memory-backed folder is removed.
func (g *Guest) Run(ctx context.Context) error {
	if g.shm != "" {
		defer os.RemoveAll(g.shm)
	}
	stopping := ctx
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(stopping, func() {
		g.reportLast(ctx) // while the agent and the tunnel still run
		g.saveChats(ctx)
		cancel(nil)
	})()
	g.log.Info("guest started", "version", g.version, "instance", g.c.Instance, "boot", g.boot,
		"desktop", g.desktop.About(), "agent", g.agent.About())
	parts := []func(context.Context) error{g.desktop.Run, g.runAgent, g.tunnel, g.bootUp, g.diagnostics, g.activity.Run}
	if g.setup != nil {
		parts = append(parts, g.setup.run, g.setup.followUnits)
	}
	done := make(chan error, len(parts))
	for _, run := range parts {
		go func() { done <- run(ctx) }()
	}
	var all error
	for range parts {
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			all = errors.Join(all, err)
			cancel(err)
		}
	}
	g.log.Info("guest stopped")
	return all
}

// step is a phase and what it waits for.
type step struct {
	wait   <-chan struct{} // nil: nothing
	phase  string
	detail string
}

// bootUp runs through the phases.
func (g *Guest) bootUp(ctx context.Context) error {
	for _, s := range g.steps() {
		if s.wait != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-s.wait:
			}
		}
		g.phases.reach(s.phase, s.detail)
		g.log.Info("phase reached", "phase", s.phase)
	}
	return nil
}

func (g *Guest) steps() []step {
	list := []step{{nil, booting, "The machine has started and connected."}}
	var installed <-chan struct{}
	switch {
	case g.setup == nil:
		list = append(list, step{nil, installing, "Nothing to install: the image contains everything."})
	case !g.setup.installer.Done(install.Desktop): // else the image was baked, or this is a later boot
		list = append(list, step{nil, installing, "Setting up the machine."})
		fallthrough
	default:
		installed = g.setup.agent
	}
	return append(list,
		step{g.desktop.Up(), desktopUp, "Desktop: " + g.desktop.About() + "."},
		step{installed, agentUp, "Agent: " + g.agent.About() + " is starting."},
		step{g.agent.Up(), ready, "Desktop: " + g.desktop.About() + "; agent: " + g.agent.About() + "."},
	)
}

// introduce sends the hello again, because versions have changed.
func (g *Guest) introduce() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func (g *Guest) health() wire.Health {
	h := figures(g.c.StateDir)
	h.Desktop, h.Agent, h.Streams = g.desktop.Healthy(), g.agent.Healthy(), int(g.streams.Load())
	return h
}
