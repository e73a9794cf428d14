package jetstream

import "time"

// StoodStillSince makes the probe believe that the stream has not moved since t.
func (p *StreamProbe) StoodStillSince(t time.Time) { p.moved = t }
