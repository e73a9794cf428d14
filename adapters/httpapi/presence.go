package httpapi

import (
	"sync"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// Events that are not in the log and have no id: a client that missed one reads the instance.
const (
	eventPresence = "instance.presence" // the machine stopped responding or responds again
	eventAgent    = "instance.agent"    // what the agent needs from its user changed
)

var sentences = map[string]string{
	eventPresence: "The desktop connected or stopped responding.",
	eventAgent:    "The agent began or stopped waiting for its user, or the user took or gave back control.",
}

// touched is an instance, and the event that concerns it.
type touched struct{ instance, event string }

// listeners are the open event streams by account. The zero value is ready to use.
type listeners struct {
	mu sync.Mutex
	by map[string]map[chan touched]bool
}

// listen returns a channel of changes. Those that a slow stream does not read are dropped: its client reads
// the instances after it reconnects.
func (l *listeners) listen(account string) (changes <-chan touched, leave func()) {
	c := make(chan touched, 16)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]map[chan touched]bool{}
	}
	if l.by[account] == nil {
		l.by[account] = map[chan touched]bool{}
	}
	l.by[account][c] = true
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if delete(l.by[account], c); len(l.by[account]) == 0 {
			delete(l.by, account)
		}
	}
}

// PresenceChanged notifies the account's event streams that the result of Config.Silent changed for an instance.
func (s *Server) PresenceChanged(account, instanceID string) {
	s.listeners.notify(account, touched{instanceID, eventPresence})
}

// AgentChanged notifies the account's event streams that the result of Config.AgentState changed for an instance.
func (s *Server) AgentChanged(account, instanceID string) {
	s.listeners.notify(account, touched{instanceID, eventAgent})
}

func (l *listeners) notify(account string, t touched) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.by[account] {
		select {
		case c <- t:
		default:
		}
	}
}

// live returns the event, at the position that its reader has reached.
func (s *Server) live(t touched, position int64) cloudEvent {
	return s.cloudEvent(projections.Entry{
		Position: position, EventID: s.cfg.NewID(), Time: s.cfg.Now(), Type: t.event, Subject: "instance/" + t.instance,
		Actor: commands.System, Sentence: sentences[t.event],
	})
}
