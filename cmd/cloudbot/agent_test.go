package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/local"
	"github.com/cloudbot-ai/control-plane/guest/install"
)

// The line says which agent desktops get, and how to get the real one or a better one.
func TestDescribeAgent(t *testing.T) {
	t.Parallel()
	current := local.Agent{Command: "/x/bin/openclaw", Version: install.OpenClawVersion(), Node: "26.10.0"}
	older := current
	older.Version = "2025.1.1"
	const much = 16 << 30
	for name, c := range map[string]struct {
		agent local.Agent
		err   error
		free  int64
		want  string
		bad   bool
	}{
		"none installed":  {local.Agent{}, fmt.Errorf("looked: %w", local.ErrNoAgent), much, "the demo agent, which has no model; for the real one (OpenClaw): make agent", false},
		"chosen stand-in": {local.Agent{}, nil, much, "as LOCAL_AGENT says", false},
		"one that fails":  {local.Agent{}, errors.New("/x has Node 20"), much, "/x has Node 20; for a working one: make agent", true},
		"another version": {older, nil, much, "it is not version " + install.OpenClawVersion(), true},
		"little memory":   {current, nil, 1 << 30, "only 1.0 GB of memory are free", true},
		"the real one":    {current, nil, much, "OpenClaw " + install.OpenClawVersion() + " on Node 26.10.0, /x/bin/openclaw; each desktop takes", len(current.Lacks()) > 0},
		"unknown memory":  {current, nil, 0, "OpenClaw", len(current.Lacks()) > 0},
	} {
		what, wrong := describeAgent(c.agent, c.err, c.free)
		text := strings.Join(append([]string{what}, wrong...), "; ")
		if !strings.Contains(text, c.want) || c.bad != (len(wrong) > 0) {
			t.Errorf("%s: got %q, want %q in it, and something wrong: %v", name, text, c.want, c.bad)
		}
	}
	if got := freeMemory(); got < 1<<20 {
		t.Errorf("got %d bytes of free memory, want some MB", got)
	}
}
