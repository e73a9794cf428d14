package guest

import (
	"sync"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Phases of a boot, in order.
const (
	booting    = "booting"
	installing = "installing"
	desktopUp  = "desktop"
	agentUp    = "agent"
	ready      = "ready"
)

var progress = map[string]int{booting: 20, installing: 40, desktopUp: 60, agentUp: 80, ready: 100}

// phases is how far the boot is. Each tunnel reads it from where it left off.
type phases struct {
	mu      sync.Mutex
	reached []wire.Phase
	changed chan struct{}
}

func newPhases() *phases { return &phases{changed: make(chan struct{})} }

func (p *phases) reach(phase, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = append(p.reached, wire.Phase{Phase: phase, Detail: detail, Progress: progress[phase]})
	close(p.changed)
	p.changed = make(chan struct{})
}

// after returns the phases reached beyond the first n and a channel closed at the next.
func (p *phases) after(n int) ([]wire.Phase, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]wire.Phase(nil), p.reached[min(n, len(p.reached)):]...), p.changed
}

func (p *phases) present() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.reached) == 0 {
		return ""
	}
	return p.reached[len(p.reached)-1].Phase
}
