package agent_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/agentconfig"
)

func TestFactsClaimNothingUnknown(t *testing.T) {
	t.Parallel()
	var f agent.Facts
	want := func(want map[string]string) {
		t.Helper()
		if got := f.Has(); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	want(map[string]string{"agent": "openclaw"})
	f.Set(agentconfig.State{}, nil)
	want(map[string]string{"agent": "openclaw", "agent_sees": "nothing", "model": "none"})
	f.Set(agentconfig.State{Model: "x/y", Sees: true}, errors.New("the workspace is full"))
	want(map[string]string{"agent": "openclaw", "agent_sees": "desktop", "model": "x/y"})
	f.Set(agentconfig.State{}, errors.New("not JSON"))
	want(map[string]string{"agent": "openclaw", "agent_sees": "nothing", "model": "unknown"})
}
