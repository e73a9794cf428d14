package operator

import (
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// State returns what the agent needs from its user, how much it does, and whether the user holds its input, and a channel closed at the next change.
func (o *Operator) State() (s wire.State, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Held, s.Runs = o.control.held(), o.runs
	for _, p := range o.prompts {
		if p.kind == question {
			s.Questions++
		} else {
			s.Approvals++
		}
		if p.until > 0 && (s.Until.IsZero() || p.until < s.Until.UnixMilli()) {
			s.Until = time.UnixMilli(p.until).UTC()
		}
	}
	return s, o.changed
}

// stirred wakes up the readers of State; o.mu is held.
func (o *Operator) stirred() {
	close(o.changed)
	o.changed = make(chan struct{})
}
