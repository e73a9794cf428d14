package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloudbot-ai/control-plane/adapters/local"
	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/install"
)

// checkAgent refuses a LOCAL_AGENT that is not of one of its forms.
func (c config) checkAgent() error {
	if c.LocalAgent == "" || c.LocalAgent == agent.StandIn || filepath.IsAbs(c.LocalAgent) {
		return nil
	}
	return fmt.Errorf("LOCAL_AGENT is %q; use the absolute path of the program openclaw, or %s, or leave it empty", c.LocalAgent, agent.StandIn)
}

// findAgent returns the agent of desktops on this computer; with an error, it is the stand-in.
func (c config) findAgent() (local.Agent, error) {
	a, err := local.FindAgent(c.LocalAgent, agentPlaces()...)
	if err != nil && c.LocalAgent != "" {
		return a, fmt.Errorf("LOCAL_AGENT is %s, which cannot be used: %w", c.LocalAgent, err)
	}
	return a, err
}

// agentPlaces lists where `make agent` installs: as root, else in the clone that this program was built in.
func agentPlaces() []string {
	places := []string{"/var/cache/cloudbot/agent"}
	if self, err := os.Executable(); err == nil {
		places = slices.Insert(places, 0, filepath.Join(filepath.Dir(filepath.Dir(self)), ".cache", "agent"))
	}
	return places
}

// agentOfMachines returns what finds the agent at each start of a machine: `make agent` may run beside the server.
func (c config) agentOfMachines(log *slog.Logger) func() local.Agent {
	return func() local.Agent {
		a, err := c.findAgent()
		if err != nil && !errors.Is(err, local.ErrNoAgent) {
			log.Warn("real agent unavailable, desktop starts with the stand-in", "err", err)
		}
		return a
	}
}

// agentMemory is what a desktop with the real agent takes while it works.
const agentMemory = 16 << 30 / 10

// describeAgent says in a sentence or two which agent desktops get, and what is wrong with it. err is findAgent's.
func describeAgent(a local.Agent, err error, free int64) (what string, wrong []string) {
	switch {
	case errors.Is(err, local.ErrNoAgent):
		return "the demo agent, which has no model; for the real one (OpenClaw): make agent", nil
	case err != nil:
		return "the demo agent, which has no model", []string{oneLine(err) + "; for a working one: make agent"}
	case a.Command == "":
		return "the demo agent, which has no model, as LOCAL_AGENT says", nil
	}
	what = fmt.Sprintf("OpenClaw %s on Node %s, %s; each desktop takes 1 to 1.6 GB of memory", a.Version, a.Node, a.Command)
	if want := install.OpenClawVersion(); a.Version != want {
		wrong = append(wrong, fmt.Sprintf("it is not version %s, which this server was tested with: make agent installs that", want))
	}
	if lacks := a.Lacks(); len(lacks) > 0 {
		wrong = append(wrong, fmt.Sprintf("this computer lacks %s, so it cannot use everything on a desktop: make agent installs them", strings.Join(lacks, ", ")))
	}
	if free > 0 && free < agentMemory {
		wrong = append(wrong, fmt.Sprintf("only %.1f GB of memory are free", float64(free)/(1<<30)))
	}
	return what, wrong
}

// freeMemory returns the bytes that new programs can have; 0: unknown.
func freeMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "\nMemAvailable:")
	var kilobytes int64
	_, _ = fmt.Sscan(after, &kilobytes)
	return kilobytes << 10
}

// sayAgent prints which agent desktops on this computer get.
func (c config) sayAgent() {
	if !c.LocalDevMode {
		return
	}
	a, err := c.findAgent()
	what, wrong := describeAgent(a, err, freeMemory())
	fmt.Println("Agent: " + strings.Join(append([]string{what}, wrong...), "; "))
}
