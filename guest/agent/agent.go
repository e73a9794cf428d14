// Package agent runs the AI agent of the desktop: a real OpenClaw gateway if it is installed, else the stand-in of package
// gateway. API keys reach it only through memory.
package agent

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agentconfig"
	"github.com/cloudbot-ai/control-plane/guest/gateway"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Kinds of agent that a config may ask for.
const (
	Auto     = "auto"     // OpenClaw if installed, else the stand-in
	OpenClaw = "openclaw" // OpenClaw or an error
	StandIn  = "stand-in" // the stand-in
)

// Keys is the source of the API keys.
type Keys interface {
	// Env returns the current keys by environment name, and a channel closed at their next change.
	Env() (env map[string]string, changed <-chan struct{})
}

// Screen is the X display that the agent works on.
type Screen interface {
	// Env returns the environment that programs reach it with, empty until it first runs, and a channel closed at the next
	// change.
	Env() (env map[string]string, changed <-chan struct{})
}

// Config describes the agent.
type Config struct {
	Kind    string // "": Auto
	Command string // "": "openclaw"
	Port    int    // loopback port of OpenClaw; 0: a free one
	Token   string // that clients of the gateway must present
	Home    string // of the user it runs as
	User    *proc.User

	UserName string // in place of User, looked up when the stand-in starts a program; "": User

	Env     []string // added to its environment
	Keys    Keys
	Screen  Screen                // nil: none
	Arrived <-chan struct{}       // closed when Keys are first set; OpenClaw waits a little for it
	Changed func()                // called after Has changes; nil: no call
	Settle  func(context.Context) // called before OpenClaw is stopped: with an open approval it needs minutes to stop; nil: nothing
	Version string
	Pace    time.Duration // of the stand-in; 0: its own
	Logger  *slog.Logger
	Output  io.Writer // of the program; nil: discarded
}

// Agent is one agent. Run keeps it running.
type Agent struct {
	c       Config
	log     *slog.Logger
	path    string // of OpenClaw; "": the stand-in
	standIn *gateway.Gateway
	handed  *pipe.Listener
	port    atomic.Int64 // of OpenClaw while it is ready
	up      chan struct{}
	facts   Facts
}

// New chooses the kind.
func New(c Config) (*Agent, error) {
	c.Command = cmp.Or(c.Command, "openclaw")
	a := &Agent{c: c, log: c.Logger, up: make(chan struct{})}
	if c.Kind != StandIn {
		path, err := exec.LookPath(c.Command)
		if err != nil && c.Kind == OpenClaw {
			return nil, err
		}
		a.path = path
	}
	if a.path != "" {
		a.facts.Remember(c.Home, c.Screen != nil)
	} else {
		a.handed = pipe.NewListener()
		a.standIn = gateway.New(gateway.Config{
			Token: c.Token, Version: c.Version, Logger: c.Logger,
			Keys:   func() map[string]string { env, _ := c.Keys.Env(); return env },
			Screen: a.programs, Home: c.Home, Pace: c.Pace,
		})
	}
	return a, nil
}

// About describes the agent in a few words.
func (a *Agent) About() string {
	if a.path == "" {
		return "built-in stand-in"
	}
	return "OpenClaw gateway"
}

// Has returns what the agent has; see Facts.
func (a *Agent) Has() map[string]string {
	if a.path == "" {
		return map[string]string{"agent": StandIn, "agent_sees": "nothing", "model": "none"}
	}
	return a.facts.Has()
}

// Up is closed when the agent is first ready.
func (a *Agent) Up() <-chan struct{} { return a.up }

// Healthy reports whether it is currently ready.
func (a *Agent) Healthy() bool {
	select {
	case <-a.up:
		return a.path == "" || a.port.Load() != 0
	default:
		return false
	}
}

// Run keeps the agent running until ctx ends, and leaves no process behind.
func (a *Agent) Run(ctx context.Context) error {
	if a.path == "" {
		return a.runStandIn(ctx)
	}
	a.patient(ctx)
	backoff := retry.Backoff{First: time.Second, Max: 30 * time.Second}
	for ctx.Err() == nil {
		began := time.Now()
		err := a.runOpenClaw(ctx)
		a.port.Store(0)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errKeys) || errors.Is(err, errScreen) {
			backoff.Reset()
			continue
		}
		a.log.Warn("agent ended, will restart", "err", err)
		if time.Since(began) > time.Minute {
			backoff.Reset()
		}
		if backoff.Sleep(ctx) != nil {
			return nil
		}
	}
	return nil
}

// patient waits a little for the keys and the screen: a start without them and a restart with them would cost half a
// minute.
func (a *Agent) patient(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-a.c.Arrived:
	}
	if screen, changed := a.screen(); a.c.Screen != nil && len(screen) == 0 {
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (a *Agent) screen() (env map[string]string, changed <-chan struct{}) {
	if a.c.Screen == nil {
		return nil, nil
	}
	return a.c.Screen.Env()
}

// programs returns the environment and the user of programs that the stand-in starts on the desktop.
func (a *Agent) programs() (env map[string]string, user *proc.User) {
	screen, _ := a.screen()
	if len(screen) == 0 {
		return nil, nil
	}
	user = a.c.User
	if a.c.UserName != "" {
		u, err := proc.Ordinary(a.c.UserName)
		if err != nil {
			return nil, nil
		}
		user = u
	}
	env = map[string]string{"PATH": os.Getenv("PATH"), "HOME": a.c.Home, "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
	if user != nil {
		env["USER"], env["LOGNAME"] = user.Name, user.Name
	}
	for _, pair := range a.c.Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	maps.Copy(env, screen)
	return env, user
}

func (a *Agent) runStandIn(ctx context.Context) error {
	server := &http.Server{Handler: a.standIn, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	defer a.standIn.Close()
	a.standIn.Ready()
	close(a.up)
	err := server.Serve(a.handed)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Reasons for which the gateway is restarted: it reads both when it starts.
var (
	errKeys   = errors.New("the API keys changed")
	errScreen = errors.New("the screen changed")
)

// runOpenClaw runs the gateway until it ends, or its keys or its screen change.
func (a *Agent) runOpenClaw(ctx context.Context) error {
	stopping := ctx
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	port := a.c.Port
	if port == 0 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		port = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	keys, changed := a.c.Keys.Env()
	screen, moved := a.screen()
	a.configure(keys, len(screen) > 0)
	env := append([]string{
		"PATH=" + searchPath(a.path), "HOME=" + a.c.Home, "LANG=C.UTF-8",
		"OPENCLAW_GATEWAY_TOKEN=" + a.c.Token, "OPENCLAW_STATE_DIR=" + a.c.Home + "/.openclaw",
		"OPENCLAW_DISABLE_BONJOUR=1", "OPENCLAW_SKIP_CHANNELS=1", "OPENCLAW_NO_RESPAWN=1",
	}, a.c.Env...)
	if a.c.User != nil {
		env = append(env, "USER="+a.c.User.Name, "LOGNAME="+a.c.User.Name)
	}
	for _, values := range []map[string]string{screen, keys} {
		for name, value := range values {
			env = append(env, name+"="+value)
		}
	}
	ended := make(chan error, 1)
	go func() {
		ended <- proc.Run(ctx, proc.Child{
			Path: a.path, Args: []string{"gateway", "run", "--allow-unconfigured", "--bind", "loopback", "--port", strconv.Itoa(port)},
			Env: env, Dir: a.c.Home, User: a.c.User, Output: a.c.Output,
		}, nil)
		cancel(nil)
	}()
	restart := func(why error) error {
		a.log.Info("agent restarted", "why", why)
		a.settle(ctx)
		a.port.Store(0)
		cancel(why)
		<-ended
		return why
	}
	poll := time.NewTicker(500 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-stopping.Done():
			a.settle(ctx)
			cancel(nil)
			return <-ended
		case <-changed:
			return restart(errKeys)
		case <-moved:
			return restart(errScreen)
		case <-poll.C:
			if !Ready(stopping, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) {
				a.port.Store(0)
				continue
			}
			a.port.Store(int64(port))
			select {
			case <-a.up:
			default:
				close(a.up)
				poll.Reset(5 * time.Second)
			}
		}
	}
}

// searchPath is the agent's PATH: first the folder of its program, where its Node may be.
func searchPath(program string) string {
	if path := os.Getenv("PATH"); path != "" {
		return filepath.Dir(program) + ":" + path
	}
	return filepath.Dir(program)
}

// configure writes our part of the gateway's configuration. Without it the gateway runs with what it has.
func (a *Agent) configure(keys map[string]string, screen bool) {
	f := agentconfig.Facts{Keys: keys, Workspace: filepath.Join(a.c.Home, "workspace"), Screen: screen}
	if _, err := os.Lstat(filepath.Join(a.c.Home, ".openclaw", "workspace")); err == nil {
		f.Workspace = "" // older guests left it to OpenClaw, and the agent's files are there
	}
	state, err := agentconfig.Write(a.c.Home, a.c.User, f)
	if err != nil {
		a.log.Warn("agent configuration left alone", "err", err)
	}
	a.facts.Set(state, err)
	if a.c.Changed != nil {
		a.c.Changed()
	}
}

func (a *Agent) settle(ctx context.Context) {
	if a.c.Settle != nil {
		a.c.Settle(ctx)
	}
}

// Ready reports whether the OpenClaw gateway at the address accepts work. It waits at most 2 s.
func Ready(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return false
	}
	req.Close = true
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// ErrNotReady says that the agent does not accept connections yet.
var ErrNotReady = errors.New("the agent is not ready yet")

// Dial connects to the agent and returns a function that serves one connection and closes it.
func (a *Agent) Dial(ctx context.Context) (serve func(context.Context, net.Conn) error, err error) {
	if a.path == "" {
		return a.handed.Hand, nil
	}
	port := a.port.Load()
	if port == 0 {
		return nil, ErrNotReady
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	to, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.FormatInt(port, 10)))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c net.Conn) error { return pipe.Join(ctx, c, to) }, nil
}

// Addr returns the gateway's address; "": it is not ready, or built in.
func (a *Agent) Addr() string {
	if p := a.port.Load(); p != 0 {
		return net.JoinHostPort("127.0.0.1", strconv.FormatInt(p, 10))
	}
	return ""
}
