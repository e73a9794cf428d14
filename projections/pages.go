package projections

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

const (
	pageEvents = 8192    // most events of a page
	pageBytes  = 8 << 20 // a page ends with the event that reaches this size
	keptPages  = 3       // at a time
	// pagePatience is how long the fastest projector waits for the others before it leaves them behind.
	pagePatience = 2 * time.Second
)

// Pages reads the log for projectors that are far behind it. Those that are near each other share each page, which is read and
// decoded once. At most keptPages are kept: the fastest waits for the others, though not for one that stands still. A projector
// whose page is no longer kept reads the log by itself.
type Pages struct {
	Store eventstore.Store // required

	mu      sync.Mutex
	readers map[*pageReader]bool
	pages   []page        // consecutive
	end     int64         // position of the last event in pages
	moved   chan struct{} // closed and replaced when a reader moves on, or a page is there
	next    func() (eventstore.Event, error, bool)
	cancel  func() // ends the reading of the log
	stop    func()
	reading bool // a reader is reading the next page
	over    bool // there is no next page
}

// page holds the events with positions above after.
type page struct {
	after  int64
	events []*Event
	last   bool // the log had no more
}

func (p page) end() int64 { return p.after + int64(len(p.events)) }

// holds reports whether the page has the event after a position.
func (p page) holds(at int64) bool { return p.after <= at && at < p.end() }

// pageReader is a projector that reads pages.
type pageReader struct{ at int64 }

// follow calls do with the events after a position, at most a page at a time, until the end of the log.
func (p *Pages) follow(ctx context.Context, after int64, do func(context.Context, []*Event) error) error {
	r := &pageReader{at: after}
	p.enter(ctx, r)
	defer p.leave(r)
	for {
		page, err := p.page(ctx, r)
		if err != nil {
			return err
		}
		if events := page.events[r.at-page.after:]; len(events) > 0 {
			if err := do(ctx, events); err != nil {
				return err
			}
		}
		if page.last {
			return nil
		}
		p.mu.Lock()
		r.at = page.end()
		p.wake()
		p.mu.Unlock()
	}
}

// enter adds a reader. The first one begins to read the log.
func (p *Pages) enter(ctx context.Context, r *pageReader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.readers) == 0 {
		p.readers = map[*pageReader]bool{}
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		next, stop := iter.Pull2(p.Store.ReadAll(ctx, r.at))
		p.next, p.cancel, p.stop = next, cancel, func() { cancel(); stop() }
		p.end, p.over = r.at, false
	}
	p.readers[r] = true
}

// leave removes a reader, and with the last one everything.
func (p *Pages) leave(r *pageReader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, r)
	if len(p.readers) == 0 {
		p.stop()
		p.pages, p.next, p.stop = nil, nil, nil
	}
	p.wake()
}

// wake wakes the readers that wait. p.mu is held.
func (p *Pages) wake() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// page returns the page with the event after the reader's position.
func (p *Pages) page(ctx context.Context, r *pageReader) (page, error) {
	patience := time.NewTimer(pagePatience)
	defer patience.Stop()
	for patient := true; ; {
		p.mu.Lock()
		for _, one := range p.pages {
			if one.holds(r.at) {
				p.mu.Unlock()
				return one, nil
			}
		}
		if r.at != p.end || p.over {
			p.mu.Unlock()
			return readPage(r.at, p.Store.ReadAll(ctx, r.at))
		}
		if !p.reading && (!patient || p.room()) {
			p.reading = true
			p.mu.Unlock()
			return p.advance(ctx, r)
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return page{}, ctx.Err()
		case <-moved:
		case <-patience.C:
			patient = false
		}
	}
}

// room reports whether the next page may be read: the oldest one can go, or need not. p.mu is held.
func (p *Pages) room() bool {
	if len(p.pages) < keptPages {
		return true
	}
	for r := range p.readers {
		if p.pages[0].holds(r.at) {
			return false
		}
	}
	return true
}

// advance reads the next page for a reader, which others may share. If ctx ends before, the others read by themselves.
func (p *Pages) advance(ctx context.Context, r *pageReader) (page, error) {
	defer context.AfterFunc(ctx, p.cancel)()
	next, err := readPage(r.at, func(yield func(eventstore.Event, error) bool) {
		for e, err, ok := p.next(); ok && yield(e, err); e, err, ok = p.next() {
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = false
	p.over = next.last || err != nil
	if err == nil {
		if len(p.pages) >= keptPages {
			p.pages = p.pages[1:]
		}
		p.pages, p.end = append(p.pages[:len(p.pages):len(p.pages)], next), next.end()
	}
	p.wake()
	return next, err
}

// readPage makes a page of the first events.
func readPage(after int64, events iter.Seq2[eventstore.Event, error]) (page, error) {
	var list []eventstore.Event
	size, full := 0, false
	for e, err := range events {
		if err != nil {
			return page{}, err
		}
		if e.Position != after+int64(len(list))+1 {
			return page{}, errGap
		}
		list = append(list, e)
		if size += len(e.Data); len(list) >= pageEvents || size >= pageBytes {
			full = true
			break
		}
	}
	return page{after, eventsOf(list), !full}, nil
}
