package projections

import (
	"context"
	"sync"
)

// Progress holds how far the read models are, so that a query can wait for its caller's own write.
// The zero value is ready to use.
type Progress struct {
	mu      sync.Mutex
	at      map[string]int64
	changed chan struct{} // closed and replaced at every change
}

// Set notes that a projection has applied everything up to position.
func (p *Progress) Set(projection string, position int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		p.at = map[string]int64{}
	}
	if was, known := p.at[projection]; known && was == position {
		return
	}
	p.at[projection] = position
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Position returns how far the slowest projection is.
func (p *Progress) Position() int64 {
	position, _ := p.now()
	return position
}

// Changed returns the current position and a channel that is closed when it may have moved.
func (p *Progress) Changed() (position int64, changed <-chan struct{}) { return p.now() }

// Wait blocks until every projection has position, or ctx ends.
func (p *Progress) Wait(ctx context.Context, position int64) error {
	for {
		at, changed := p.now()
		if at >= position {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (p *Progress) now() (int64, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	if len(p.at) == 0 {
		return 0, p.changed
	}
	least := int64(-1)
	for _, at := range p.at {
		if least < 0 || at < least {
			least = at
		}
	}
	return least, p.changed
}
