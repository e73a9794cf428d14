package guest

import (
	"sync"
	"time"

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

// phases records the progress of the boot. Each tunnel reads it from where the last one ended.
type phases struct {
	mu      sync.Mutex
	reached []wire.Phase
	changed chan struct{}
}

func newPhases() *phases { return &phases{changed: make(chan struct{})} }

func (p *phases) reach(phase, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = append(p.reached, wire.Phase{Phase: phase, Detail: detail, Progress: progress[phase], At: time.Now().UTC()})
	close(p.changed)
	p.changed = make(chan struct{})
}

// say records a detail of the current phase; percent is of the whole installation. It has no effect before the first
// phase and after the last.
func (p *phases) say(detail string, percent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.reached)
	if n == 0 || p.reached[n-1].Phase == ready {
		return
	}
	last := p.reached[n-1]
	// Between this phase's own figure and the next one's, and never decreasing.
	to := progress[last.Phase] + 19
	last.Detail, last.Progress, last.At = detail, max(last.Progress, min(progress[booting]+percent*60/100, to)), time.Now().UTC()
	p.reached = append(p.reached, last)
	close(p.changed)
	p.changed = make(chan struct{})
}

// after returns the phases after the first n and a channel closed at the next one.
func (p *phases) after(n int) ([]wire.Phase, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]wire.Phase(nil), p.reached[min(n, len(p.reached)):]...), p.changed
}

func (p *phases) detail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.reached) == 0 {
		return ""
	}
	return p.reached[len(p.reached)-1].Detail
}

// present returns the current phase of the boot.
func (p *phases) present() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.reached) == 0 {
		return booting
	}
	return p.reached[len(p.reached)-1].Phase
}
