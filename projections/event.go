package projections

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/events"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Event is an event of the log. What it says is decoded once, for all read models that ask.
type Event struct {
	eventstore.Event

	decoded sync.Once
	says    any
	err     error
}

// eventsOf returns the events of a batch.
func eventsOf(batch []eventstore.Event) []*Event {
	made, list := make([]Event, len(batch)), make([]*Event, len(batch))
	for n := range batch {
		made[n].Event = batch[n]
		list[n] = &made[n]
	}
	return list
}

// Says returns the domain event. It belongs to all read models: do not change it. An unknown event is an error, never skipped.
func (e *Event) Says() (any, error) {
	e.decoded.Do(func() {
		if e.Damage != nil {
			e.err = fmt.Errorf("it cannot be read: %w", e.Damage)
			return
		}
		e.says, e.err = events.Decode(e.Stream.Aggregate, e.Type, e.Schema, e.Data)
	})
	return e.says, e.err
}

// says returns the domain event of an aggregate's stream.
func says[E any](e *Event) (of E, err error) {
	ev, err := e.Says()
	if err != nil {
		return of, err
	}
	return ev.(E), nil
}

// at returns when the event happened, for a row that outlives the event.
func (e *Event) at() *time.Time {
	at := e.Time
	return &at
}

// mayHoldZero reports whether a text of the event may have a zero byte, which Postgres refuses.
func (e *Event) mayHoldZero() bool {
	return bytes.Contains(e.Data, []byte(`\u0000`)) || strings.IndexByte(e.Stream.ID, 0) >= 0
}
