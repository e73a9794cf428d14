package httpapi

import (
	"sync"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// eventPresence says that an instance's machine fell silent or is heard again. It is not in the log and has
// no id: who was away reads the instance.
const eventPresence = "instance.presence"

// listeners are the open event streams by account. The zero value is ready to use.
type listeners struct {
	mu sync.Mutex
	by map[string]map[chan string]bool
}

// listen returns a channel of instance ids. What a slow stream does not take is left out: it reads
// the instances when it comes back.
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

// PresenceChanged tells the account's event streams that what Config.Silent says of an instance changed.
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

// presence is the event, as of the position that its reader has.
func (s *Server) presence(instanceID string, position int64) cloudEvent {
	return s.cloudEvent(projections.Entry{
		Position: position, EventID: s.cfg.NewID(), Time: s.cfg.Now(), Type: eventPresence, Subject: "instance/" + instanceID,
		Actor: commands.System, Sentence: "Whether the desktop answers has changed.",
	})
}
