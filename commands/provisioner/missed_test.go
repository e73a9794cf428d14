package provisioner

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// A machine is missing without interruption only while looks follow each other. A process that starts, or did not look
// for a while, begins again: else two answers that leave the machine out would end it.
func TestMissedWithoutInterruption(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	var l Looks
	look := func(after time.Duration) time.Duration {
		c := l.observed("m", machines.Machine{Seen: instance.SeenMissing}, start.Add(after))
		return c.MissedSince.Sub(start)
	}
	for _, c := range []struct{ at, since time.Duration }{{0, 0}, {5, 0}, {14, 0}, {40, 40}, {45, 40}} {
		if got := look(c.at * time.Minute); got != c.since*time.Minute {
			t.Errorf("after %d minutes: got missing since %v, want %d minutes", c.at, got, c.since)
		}
	}
	l.note("m", instance.SeenRunning, start.Add(46*time.Minute))
	if got := look(47 * time.Minute); got != 47*time.Minute {
		t.Errorf("after it was seen: got %v, want 47 minutes", got)
	}
}
