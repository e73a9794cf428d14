package projections

import (
	"context"
	"fmt"
)

// RebuildKeeping is Rebuild with fewer rows in memory.
var RebuildKeeping = rebuildKeeping

// FillOwners fills the owners that Live keeps.
func (l *Live) FillOwners() {
	for n := range keptOwners {
		l.learn(fmt.Sprint("session/", n), "other")
	}
}

// What Pages may keep, and from how far behind a projector uses them.
const (
	PageEvents = pageEvents
	KeptPages  = keptPages
	FarBehind  = farBehind
)

// Read is what a projector does with Pages.
func (p *Pages) Read(ctx context.Context, after int64, do func(context.Context, []*Event) error) error {
	return p.follow(ctx, after, do)
}

// Kept returns how many pages are in memory.
func (p *Pages) Kept() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pages)
}
