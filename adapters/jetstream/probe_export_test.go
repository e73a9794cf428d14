package jetstream

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// StoodStillSince makes the probe believe that the stream has not moved since t.
func (p *StreamProbe) StoodStillSince(t time.Time) { p.moved = t }

// OpenedLongAgo makes the bucket due for a look at its replicas.
func (p *Presence) OpenedLongAgo() {
	p.bucket.mu.Lock()
	defer p.bucket.mu.Unlock()
	p.bucket.opened = p.bucket.opened.Add(-2 * replicateEvery)
}

// ProbeOfRelay is what a relay looks for before it replaces a stream.
func ProbeOfRelay(ctx context.Context, conn *nats.Conn) error {
	r, err := NewRelay(RelayConfig{Conn: conn})
	if err != nil {
		return err
	}
	return r.probe(ctx)
}

// A stream that moves between its failures is slow: it is not replaced, however long it fails.
func TestSlowStreamIsNotStuck(t *testing.T) {
	t.Parallel()
	var slow, broken trouble
	log, failure := slog.New(slog.DiscardHandler), streamError{errors.New("no answer")}
	long := func(tr *trouble) bool {
		tr.since = tr.since.Add(-time.Hour)
		return tr.stuck(time.Second)
	}
	for at := range int64(100) {
		if slow.met(t.Context(), log, at+1, failure); long(&slow) {
			t.Fatalf("given up at %d, want long(&slow) false", at+1)
		}
	}
	broken.met(t.Context(), log, 7, failure)
	broken.met(t.Context(), log, 0, failure) // it did not report its position
	if broken.met(t.Context(), log, 7, failure); !long(&broken) {
		t.Error("a stream that stands still is kept")
	}
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		setting, have int
		want          []int
	}{
		{0, 0, []int{3, 1}}, {0, 1, []int{3, 1}}, {0, 2, []int{3, 2}}, {0, 3, []int{3}}, {0, 5, []int{5}},
		{1, 0, []int{1}}, {1, 3, []int{1}}, {5, 3, []int{5}},
	} {
		if got := replicas(c.setting, c.have); !slices.Equal(got, c.want) {
			t.Errorf("setting %d, there are %d: %v instead of %v", c.setting, c.have, got, c.want)
		}
	}
}
