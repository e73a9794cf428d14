package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/cloudbot-ai/control-plane/projections"
)

// inboxSize is how many events a stream that is slow may have waiting. One with more reads them from the read models.
const inboxSize = 128

// fanout hands new events to the open event streams of their accounts. One follower of the log serves all streams: a stream
// reads the read models only when it begins, and when it was too slow. The zero value is ready to use.
type fanout struct {
	mu sync.Mutex
	at int64 // events up to here were handed over; those after it will be
	by map[string]map[*inbox]bool

	joins int             // how many streams joined so far
	fresh map[*inbox]bool // those that joined since Happened was last called
}

// inbox holds what is waiting for one stream.
type inbox struct {
	ready   chan struct{} // has a token while something waits
	waiting []sealedEvent
	lost    bool // something is missing: read from the read models
	number  int  // it was the n-th to join
}

// sealedEvent is an event as the streams send it.
type sealedEvent struct {
	at      point
	subject string
	text    string
}

// join adds a stream. Call restart before the first take.
func (f *fanout) join(account string) (in *inbox, leave func()) {
	in = &inbox{ready: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.joins++
	in.number = f.joins
	if f.by == nil {
		f.by, f.fresh = map[string]map[*inbox]bool{}, map[*inbox]bool{}
	}
	f.fresh[in] = true
	if f.by[account] == nil {
		f.by[account] = map[*inbox]bool{}
	}
	f.by[account][in] = true
	return in, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.fresh, in)
		if delete(f.by[account], in); len(f.by[account]) == 0 {
			delete(f.by, account)
		}
	}
}

// restart empties an inbox and returns a position that the read models have: what comes after it will be in the inbox.
func (f *fanout) restart(in *inbox) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	in.waiting, in.lost = nil, false
	return f.at
}

// take empties an inbox. lost says that events are missing after those.
func (f *fanout) take(in *inbox) (waiting []sealedEvent, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting, in.waiting = in.waiting, nil
	return waiting, in.lost
}

// lose makes a stream read from the read models. f.mu is held.
func (in *inbox) lose() {
	in.waiting, in.lost = nil, true
	in.signal()
}

func (in *inbox) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// StreamsFrom says that Happened will be called with all events after a position that the read models have reached. Open
// streams read what came before.
func (s *Server) StreamsFrom(position int64) {
	f := &s.fan
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = position
	f.loseAll()
}

// loseAll makes all streams read from the read models. f.mu is held.
func (f *fanout) loseAll() {
	for _, inboxes := range f.by {
		for in := range inboxes {
			in.lose()
		}
	}
}

// Streaming reports whether any event stream is open here, and how many have been: pass that to Happened.
func (s *Server) Streaming() (open bool, joins int) {
	s.fan.mu.Lock()
	defer s.fan.mu.Unlock()
	return len(s.fan.by) > 0, s.fan.joins
}

// StreamsTo reports whether an account has an event stream open here.
func (s *Server) StreamsTo(account string) bool {
	s.fan.mu.Lock()
	defer s.fan.mu.Unlock()
	return len(s.fan.by[account]) > 0
}

// Happened hands events to the open streams of their accounts, and says that the read models have reached a position. joins
// is what Streaming returned before the events were chosen: the streams that joined later read them, and so do those that do
// not keep up.
func (s *Server) Happened(list []projections.Owned, position int64, joins int) {
	epoch, _ := s.cfg.Epoch.Now()
	texts := make([]sealedEvent, len(list))
	for i, o := range list {
		texts[i].at, texts[i].subject = point{epoch, o.Entry.Position}, o.Entry.Subject
		texts[i].text, _ = eventText(texts[i].at.String(), o.Entry.Type, s.cloudEvent(o.Entry)) // made of texts and JSON: it always marshals
	}
	s.handOver(list, texts, position, joins, epoch)
}

// handOver hands over the texts of events, which have ids of an epoch.
func (s *Server) handOver(list []projections.Owned, texts []sealedEvent, position int64, joins, epoch int) {
	f := &s.fan
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = position
	if now, _ := s.cfg.Epoch.Now(); now != epoch { // it turned in between: streams that know of it already would drop these texts
		f.loseAll()
	}
	for in := range f.fresh {
		if in.number > joins {
			in.lose()
		}
	}
	clear(f.fresh)
	for i, o := range list {
		for in := range f.by[o.Account] {
			switch {
			case in.lost:
			case len(in.waiting) >= inboxSize:
				in.lose()
			default:
				in.waiting = append(in.waiting, texts[i])
			}
			in.signal()
		}
	}
}

// eventText returns an event as a stream sends it; without an id, the client keeps its Last-Event-ID.
func eventText(id, name string, data any) (string, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return "", err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, name, text), nil
}

// follow sends the account's events after a point: first what the read models have, then what happens. A client of another
// epoch gets a reset and then all events. follow returns when the stream has to end.
func (s *Server) follow(ctx context.Context, out *stream, account string, at point) {
	in, leave := s.fan.join(account)
	defer leave()
	changes, leave := s.listeners.listen(account)
	defer leave()
	for {
		epoch, turned := s.cfg.Epoch.Now()
		if at.epoch != epoch {
			at = point{epoch, 0}
			if out.event(at.String(), "reset", map[string]int{"epoch": epoch}) != nil {
				return
			}
		}
		if err := s.resume(ctx, out, account, &at, s.fan.restart(in)); err != nil {
			if ctx.Err() == nil {
				s.cfg.Logger.Warn("event stream ended", "err", err)
			}
			return // the client reconnects with Last-Event-ID
		}
		for whole := true; whole; {
			select {
			case <-ctx.Done():
				return
			case <-out.heartbeat.C:
				if out.send(": still here\n\n") != nil {
					return
				}
			case t := <-changes:
				if !out.sees("instance/" + t.instance) {
					continue
				}
				if out.event("", t.event, s.live(t, at.position)) != nil {
					return
				}
			case <-in.ready:
				waiting, lost := s.fan.take(in)
				if out.write(after(waiting, &at, out.sees)) != nil {
					return
				}
				whole = !lost
			case <-turned:
				whole = false
			}
		}
	}
}

// after returns the texts of the events after a point that the client sees, and moves the point.
func after(list []sealedEvent, at *point, sees func(subject string) bool) string {
	texts := make([]string, 0, 4)
	for _, e := range list {
		if e.at.epoch == at.epoch && e.at.position > at.position {
			if sees(e.subject) {
				texts = append(texts, e.text)
			}
			at.position = e.at.position
		}
	}
	return strings.Join(texts, "") // one text, as mostly, is not copied
}

// resume sends what the read models have after a point and up to a position, and moves the point to the last event that was
// sent. No further: read models that have lost their latest events, or a log that was restored, may lack some up to there, and
// StreamsFrom will say so.
func (s *Server) resume(ctx context.Context, out *stream, account string, at *point, upTo int64) error {
	for at.position < upTo {
		list, err := s.cfg.Queries.Since(ctx, account, at.position, streamBatch)
		if err != nil {
			return err
		}
		for _, e := range list {
			if e.Position > upTo {
				return nil
			}
			at.position = e.Position
			if !out.sees(e.Subject) {
				continue
			}
			if err := out.event(at.String(), e.Type, s.cloudEvent(e)); err != nil {
				return err
			}
		}
		if len(list) < streamBatch {
			return nil
		}
	}
	return nil
}
