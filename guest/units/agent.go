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
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agent"
)

const agentUnit = "cloudbot-openclaw.service"

// AgentConfig describes the agent.
type AgentConfig struct {
	Installed <-chan struct{} // closed once OpenClaw and its unit are there
	Token     string          // that the gateway asks of who connects
	Keys      agent.Keys
	Arrived   <-chan struct{} // closed once keys were set for the first time
	Memory    int64           // bytes the machine has; 0: unknown
	Logger    *slog.Logger

	Dir     string  // "": Dir
	Addr    string  // "": 127.0.0.1:18789
	Control Control // nil: systemctl
}

// Agent is the OpenClaw gateway.
type Agent struct {
	c       AgentConfig
	up      chan struct{}
	healthy atomic.Bool
}

// NewAgent returns an agent that Run starts.
func NewAgent(c AgentConfig) *Agent {
	c.Dir = cmp.Or(c.Dir, Dir)
	c.Addr = cmp.Or(c.Addr, agentAddr)
	if c.Control == nil {
		c.Control = systemctl
	}
	return &Agent{c: c, up: make(chan struct{})}
}

// About says in a few words which agent this is.
func (a *Agent) About() string { return "OpenClaw gateway" }

// Up is closed once it has been ready for the first time.
func (a *Agent) Up() <-chan struct{} { return a.up }

// Healthy tells whether it is ready now.
func (a *Agent) Healthy() bool { return a.healthy.Load() }

// Addr is the gateway's address, "" while it is not ready.
func (a *Agent) Addr() string {
	if a.healthy.Load() {
		return a.c.Addr
	}
	return ""
}

// Run starts the unit once it is installed, gives it the keys and every change of them, and watches
// it until ctx ends; the unit stays.
func (a *Agent) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.c.Installed:
	}
	// Starting without the keys only to start again with them would cost half a minute.
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
			a.c.Logger.Warn("the agent does not start", "err", err)
			changed = soon(ctx)
		}
		a.watch(ctx, changed, restarted)
	}
	return nil
}

// hand writes what the unit is to know and has it start with that. A running unit reads its file only
// when it is restarted, so that is owed, over failures and restarts of the guest, until systemd takes it on.
func (a *Agent) hand(ctx context.Context, keys map[string]string) (restarted bool, err error) {
	file, owed := filepath.Join(a.c.Dir, "openclaw.env"), filepath.Join(a.c.Dir, "openclaw.owed")
	text := environment(a.c.Token, a.c.Memory, keys)
	if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, text) {
		// First, as nobody knows afterwards what the unit has read.
		if _, err := write(owed, []byte("restart\n"), nil); err != nil {
			return false, err
		}
		if _, err := write(file, text, nil); err != nil {
			return false, err
		}
	}
	if _, err := os.Stat(owed); errors.Is(err, fs.ErrNotExist) {
		return false, a.c.Control(ctx, "start", "--no-block", agentUnit)
	}
	a.healthy.Store(false)
	a.c.Logger.Info("starting the agent", "keys", len(keys))
	if err := a.c.Control(ctx, "restart", "--no-block", agentUnit); err != nil {
		return false, err
	}
	return true, os.Remove(owed)
}

// stillOld is how long, after a restart was asked for, an answer is taken for the old agent's. No new one is ready that soon.
const stillOld = 5 * time.Second

// watch follows the agent's readiness until changed is closed or ctx ends.
func (a *Agent) watch(ctx context.Context, changed <-chan struct{}, restarted bool) {
	tick := time.NewTicker(2 * quickly)
	defer tick.Stop()
	began := time.Now()
	for {
		ok := ready(ctx, a.c.Addr)
		if !ok {
			restarted = false // the old one is gone, or ends what it does
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

// environment is the unit's environment file: sorted, so that the same keys make the same file.
func environment(token string, memory int64, keys map[string]string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "OPENCLAW_GATEWAY_TOKEN=%s\nNODE_OPTIONS=--max-old-space-size=%d\n", quote(token), heap(memory))
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if v := keys[name]; !strings.ContainsAny(v, "\n\r\x00") { // such a key cannot be one
			fmt.Fprintf(&b, "%s=%s\n", name, quote(v))
		}
	}
	return []byte(b.String())
}

// quote is for systemd's environment files, which expand nothing within double quotes.
func quote(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`).Replace(v) + `"`
}

// heap is the limit of the gateway's heap in MiB: 3/8 of the memory, so that a desktop fits beside it.
func heap(memory int64) int64 {
	if memory == 0 {
		return 1536
	}
	return min(max(memory>>20*3/8, 768), 8192)
}

func ready(ctx context.Context, addr string) bool {
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

// soon returns a channel closed in a while.
func soon(ctx context.Context) <-chan struct{} {
	c := make(chan struct{})
	t := time.AfterFunc(steadily, func() { close(c) })
	context.AfterFunc(ctx, func() { t.Stop() })
	return c
}

// Dial checks that the agent can be connected to and returns what serves one connection, and closes it.
func (a *Agent) Dial(ctx context.Context) (func(context.Context, net.Conn) error, error) {
	if !a.healthy.Load() {
		return nil, agent.ErrNotReady
	}
	return dial(ctx, a.c.Addr, agent.ErrNotReady)
}
