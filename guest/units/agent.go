package units

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/agentconfig"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// AgentUnit is the unit that the agent runs in.
const AgentUnit = "cloudbot-openclaw.service"

// AgentConfig describes the agent.
type AgentConfig struct {
	Installed <-chan struct{} // closed once OpenClaw and its unit are installed
	Token     string          // that clients of the gateway must present
	Keys      agent.Keys
	Arrived   <-chan struct{} // closed when keys are first set
	Memory    int64           // bytes of the machine; 0: unknown
	User      string          // user of the agent
	Home      string          // that user's home folder
	Sudo      bool            // that user may become root
	Changed   func()          // called after Has changes; nil: no call
	Logger    *slog.Logger

	Settle func(context.Context) // called before a restart, and when the unit is being stopped: with an open approval both take minutes; nil: nothing

	Dir     string  // "": Dir
	Addr    string  // "": 127.0.0.1:18789
	Control Control // nil: systemctl
}

// Agent is the OpenClaw gateway.
type Agent struct {
	c       AgentConfig
	up      chan struct{}
	healthy atomic.Bool
	facts   agent.Facts
}

// NewAgent returns an agent that Run starts.
func NewAgent(c AgentConfig) *Agent {
	c.Dir = cmp.Or(c.Dir, Dir)
	c.Addr = cmp.Or(c.Addr, agentAddr)
	if c.Control == nil {
		c.Control = systemctl
	}
	a := &Agent{c: c, up: make(chan struct{})}
	a.facts.Remember(c.Home, true)
	return a
}

// About describes the agent in a few words.
func (a *Agent) About() string { return "OpenClaw gateway" }

// Has returns what the agent has; see agent.Facts.
func (a *Agent) Has() map[string]string { return a.facts.Has() }

// Up is closed when the agent is first ready.
func (a *Agent) Up() <-chan struct{} { return a.up }

// Healthy reports whether it is currently ready.
func (a *Agent) Healthy() bool { return a.healthy.Load() }

// Addr returns the gateway's address; "": it is not ready.
func (a *Agent) Addr() string {
	if a.healthy.Load() {
		return a.c.Addr
	}
	return ""
}

// Run starts the unit once it is installed, gives it the keys and each change of them, and watches it until ctx ends.
// It does not stop the unit.
func (a *Agent) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.c.Installed:
	}
	// A start without the keys and a restart with them would cost half a minute.
	patience := time.NewTimer(10 * time.Second)
	select {
	case <-ctx.Done():
	case <-a.c.Arrived:
	case <-patience.C:
	}
	patience.Stop()
	for ctx.Err() == nil {
		keys, changed := a.c.Keys.Env()
		restarted, err := a.hand(ctx, keys)
		if err != nil && ctx.Err() == nil {
			a.c.Logger.Warn("starting the agent failed, will retry", "err", err)
			changed = soon(ctx)
		}
		a.watch(ctx, changed, restarted)
	}
	return nil
}

// hand writes the unit's environment and starts the unit with it. A running unit reads its file only at a restart. So a
// file records that a restart is owed, over failures and restarts of the guest, until systemd accepts it.
func (a *Agent) hand(ctx context.Context, keys map[string]string) (restarted bool, err error) {
	a.configure(keys)
	file, owed := filepath.Join(a.c.Dir, "openclaw.env"), filepath.Join(a.c.Dir, "openclaw.owed")
	text := environment(a.c.Token, a.c.Memory, keys)
	if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, text) {
		// Written first: later it is unknown which version the unit has read.
		if _, err := write(owed, []byte("restart\n"), nil); err != nil {
			return false, err
		}
		if _, err := write(file, text, nil); err != nil {
			return false, err
		}
	}
	if _, err := os.Stat(owed); errors.Is(err, fs.ErrNotExist) {
		return false, a.c.Control(ctx, "start", "--no-block", AgentUnit)
	}
	if a.c.Settle != nil {
		a.c.Settle(ctx)
	}
	a.healthy.Store(false)
	a.c.Logger.Info("agent start requested", "keys", len(keys))
	if err := a.c.Control(ctx, "restart", "--no-block", AgentUnit); err != nil {
		return false, err
	}
	return true, os.Remove(owed)
}

// configure writes our part of the gateway's configuration; a running gateway reads the change. Without it the gateway
// runs with what it has.
func (a *Agent) configure(keys map[string]string) {
	var state agentconfig.State
	who, err := proc.Ordinary(a.c.User)
	if err == nil {
		state, err = agentconfig.Write(a.c.Home, who, agentconfig.Facts{Keys: keys, Workspace: filepath.Join(a.c.Home, "workspace"), Screen: true, Sudo: a.c.Sudo})
	}
	if err != nil {
		a.c.Logger.Warn("agent configuration left alone", "err", err)
	}
	a.facts.Set(state, err)
	if a.c.Changed != nil {
		a.c.Changed()
	}
}

// stillOld is how long after the request of a restart an answer is taken as the old agent's. A new one takes longer
// to be ready.
const stillOld = 5 * time.Second

// watch follows the agent's readiness until changed is closed or ctx ends.
func (a *Agent) watch(ctx context.Context, changed <-chan struct{}, restarted bool) {
	tick := time.NewTicker(2 * quickly)
	defer tick.Stop()
	began := time.Now()
	pause := retry.Backoff{First: time.Minute, Max: 10 * time.Minute}
	revive := began.Add(pause.Next())
	for {
		ok := agent.Ready(ctx, a.c.Addr)
		switch {
		case ok:
		case a.healthy.Load():
			restarted = false // the old one has ended, or is ending
			a.ending(ctx)
		case time.Now().After(revive):
			a.revive(ctx)
			revive = time.Now().Add(pause.Next())
			fallthrough
		default:
			restarted = false
		}
		ok = ok && !(restarted && time.Since(began) < stillOld)
		a.healthy.Store(ok)
		every := 2 * quickly
		if ok {
			every = steadily
			select {
			case <-a.up:
			default:
				close(a.up)
			}
		}
		tick.Reset(every)
		select {
		case <-ctx.Done():
			return
		case <-changed:
			return
		case <-tick.C:
		}
	}
}

// revive starts a unit again that systemd gave up. That is for a wrong configuration, which stays wrong, but OpenClaw 2026.9.6
// ends with the same status if a busy machine delays its first start.
func (a *Agent) revive(ctx context.Context) {
	if a.c.Control(ctx, "is-failed", "--quiet", AgentUnit) != nil {
		return
	}
	a.c.Logger.Warn("agent gave up, will restart", "unit", AgentUnit)
	if err := a.c.Control(ctx, "start", "--no-block", AgentUnit); err != nil && ctx.Err() == nil {
		a.c.Logger.Warn("starting the agent failed, will retry", "err", err)
	}
}

// ending settles what the agent waits for if another program stops the unit, as systemd does when the machine stops: it runs
// until the agent has ended.
func (a *Agent) ending(ctx context.Context) {
	if a.c.Settle == nil || a.c.Control(ctx, "is-active", "--quiet", AgentUnit) == nil {
		return // it is only slow
	}
	if ctx.Err() == nil { // else the guest alone stops, and what waits goes on waiting
		a.c.Settle(ctx)
	}
}

// environment returns the unit's environment file, sorted, so that the same keys give the same file. The display is in it,
// too: an agent that older guests started without the gate then restarts, and the user can hold its input.
func environment(token string, memory int64, keys map[string]string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "OPENCLAW_GATEWAY_TOKEN=%s\nNODE_OPTIONS=--max-old-space-size=%d\nDISPLAY=%s\n", quote(token), heap(memory), agentDisplay)
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if v := keys[name]; !strings.ContainsAny(v, "\n\r\x00") { // no real key contains these
			fmt.Fprintf(&b, "%s=%s\n", name, quote(v))
		}
	}
	return []byte(b.String())
}

// quote quotes a value for systemd's environment files.
func quote(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`).Replace(v) + `"`
}

// heap returns the limit of the gateway's heap in MiB: 3/8 of the memory, which leaves room for a desktop.
func heap(memory int64) int64 {
	if memory == 0 {
		return 1536
	}
	return min(max(memory>>20*3/8, 768), 8192)
}

// soon returns a channel that closes after the steady interval.
func soon(ctx context.Context) <-chan struct{} {
	c := make(chan struct{})
	t := time.AfterFunc(steadily, func() { close(c) })
	context.AfterFunc(ctx, func() { t.Stop() })
	return c
}

// Dial connects to the agent and returns a function that serves one connection and closes it.
func (a *Agent) Dial(ctx context.Context) (func(context.Context, net.Conn) error, error) {
	if !a.healthy.Load() {
		return nil, agent.ErrNotReady
	}
	to, err := dial(ctx, a.c.Addr)
	if err != nil {
		return nil, agent.ErrNotReady
	}
	return func(ctx context.Context, c net.Conn) error { return pipe.Join(ctx, c, to) }, nil
}
