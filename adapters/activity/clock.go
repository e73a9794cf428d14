package activity

import (
	"sync"
	"time"
)

// stepAbove is the least difference between two clocks that means that one of them was set. A statement that takes as long
// as patience allows is no step.
const stepAbove = 3 * patience

// clock compares the database's clock with this process's own, which no setting of the computer's clock moves.
type clock struct {
	mu     sync.Mutex
	sent   time.Time // of the last comparison; zero: there was none
	showed time.Time // what the database's clock showed then
}

// look returns by how much the database's clock was set since the last look; 0: not at all. sent was read before the
// statement that read now.
func (c *clock) look(sent, now time.Time) (by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sent.IsZero() {
		by = now.Sub(c.showed) - sent.Sub(c.sent)
	}
	if by > -stepAbove && by < stepAbove {
		by = 0
	}
	c.sent, c.showed = sent, now
	return by
}

// forget has the next look return the step again, which could not be dealt with.
func (c *clock) forget(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.showed = c.showed.Add(-by)
}
