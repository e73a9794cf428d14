package httpapi

import (
	"sync"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// eventPresence means that an instance's machine stopped responding or responds again. It is not in the log
// and has no id: a client that missed it reads the instance.
const eventPresence = "instance.presence"

// listeners are the open event streams by account. The zero value is ready to use.
type listeners struct {
	mu sync.Mutex
	by map[string]map[chan string]bool
}

// listen returns a channel of instance ids. Ids that a slow stream does not read are dropped: its client reads
// the instances after it reconnects.
func (l *listeners) listen(account string) (ids <-chan string, leave func()) {
	c := make(chan string, 16)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]map[chan string]bool{}
	}
	if l.by[account] == nil {
		l.by[account] = map[chan string]bool{}
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
	s.listeners.mu.Lock()
	defer s.listeners.mu.Unlock()
	for c := range s.listeners.by[account] {
		select {
		case c <- instanceID:
		default:
		}
	}
}

// presence returns the event, at the position that its reader has reached.
func (s *Server) presence(instanceID string, position int64) cloudEvent {
	return s.cloudEvent(projections.Entry{
		Position: position, EventID: s.cfg.NewID(), Time: s.cfg.Now(), Type: eventPresence, Subject: "instance/" + instanceID,
		Actor: commands.System, Sentence: "The desktop connected or stopped responding.",
	})
}
