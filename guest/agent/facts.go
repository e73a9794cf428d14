package agent

import (
	"cmp"
	"maps"
	"sync"

	"github.com/cloudbot-ai/control-plane/guest/agentconfig"
)

// Facts is what an OpenClaw agent really has, as machines report it beside their versions. Its zero value is an agent that
// is not configured yet.
type Facts struct {
	mu  sync.Mutex
	has map[string]string
}

// Set records what is configured, and the error with which that failed.
func (f *Facts) Set(s agentconfig.State, err error) {
	has := map[string]string{"agent_sees": "nothing", "model": cmp.Or(s.Model, "none")}
	if s.Sees {
		has["agent_sees"] = "desktop"
	}
	if err != nil && s.Model == "" {
		has["model"] = "unknown"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.has = has
}

// Remember records what an earlier run configured in home, so that a restart does not report a change and another back.
func (f *Facts) Remember(home string, screen bool) {
	if s, ok := agentconfig.Read(home, screen); ok {
		f.Set(s, nil)
	}
}

// Has returns "agent": openclaw or stand-in; and once the agent is configured "agent_sees": desktop or nothing, and
// "model": its id, none or unknown.
func (f *Facts) Has() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	has := map[string]string{"agent": OpenClaw}
	maps.Copy(has, f.has)
	return has
}
