package postgres

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// AlwaysSlowPath makes every batch take the slow path.
func (s *Store) AlwaysSlowPath() { s.commit.alwaysSlow = true }

// Waiting is the number of appends in the queue.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}

// IndexKey returns the key of a name in the indexes.
func IndexKey(name string) [16]byte { return indexKey(name) }

// FailedLately records that the last append could not be kept.
func (s *Store) FailedLately() { s.lately.note(eventstore.ErrUnavailable) }

// MakeReadOnly makes the connection of the appends read-only, as a demoted server does.
func (s *Store) MakeReadOnly(ctx context.Context, t interface{ Fatal(...any) }) {
	s.commit.mu.Lock()
	defer s.commit.mu.Unlock()
	if _, err := s.commit.conn.Exec(ctx, `SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
}

// Sabotage makes appends panic until repair is called.
func (s *Store) Sabotage() (repair func()) {
	c := &s.commit
	c.mu.Lock()
	defer c.mu.Unlock()
	config := c.config
	c.drop()
	c.config = nil
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.config = config
	}
}

// Crowd has the store keep two batches on the wire however few callers there are.
func (s *Store) Crowd() { s.queue.crowded = 0 }

// ForgetRivals has the store expect no appends of other replicas.
func (s *Store) ForgetRivals() {
	s.commit.mu.Lock()
	defer s.commit.mu.Unlock()
	s.commit.rival = time.Time{}
}

// OnTheWire is the number of batches that were formed and are not settled.
func (s *Store) OnTheWire() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.flying)
}

// Sent is the number of batches whose bytes the server has, of those on the wire.
func (s *Store) Sent() (n int) {
	w := &s.commit.window
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		n++
	}
	if w.behind != nil {
		n++
	}
	return n
}
