// Package check refuses malformed appends, with the same errors for every store.
package check

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Longest names, in bytes. They keep index entries small.
const (
	maxAggregate = 40
	maxID        = 200
	maxType      = 100
	maxKey       = 200
	maxRequest   = 64
)

// Append returns nil, ErrInvalid or ErrTooLarge, wrapped with what is wrong.
func Append(a eventstore.Append) error {
	if len(a.Writes) == 0 && a.Receipt == nil {
		return invalid("it has neither events nor a receipt")
	}
	events := 0
	for i, w := range a.Writes {
		if err := stream(w.Stream); err != nil {
			return err
		}
		if w.Expected < 0 || w.Expected > math.MaxInt64-eventstore.MaxAppendEvent {
			return invalid("%s: expected version %d", w.Stream, w.Expected)
		}
		if len(w.Events) == 0 {
			return invalid("%s: a write without events", w.Stream)
		}
		for _, other := range a.Writes[:i] {
			if other.Stream == w.Stream {
				return invalid("%s: two writes to one stream", w.Stream)
			}
		}
		if events += len(w.Events); events > eventstore.MaxAppendEvent {
			return fmt.Errorf("%w: more than %d events", eventstore.ErrTooLarge, eventstore.MaxAppendEvent)
		}
		for _, e := range w.Events {
			if err := event(w.Stream, e); err != nil {
				return err
			}
		}
	}
	return receipt(a.Receipt)
}

func stream(s eventstore.StreamID) error {
	if s.Aggregate == "" || len(s.Aggregate) > maxAggregate || s.ID == "" || len(s.ID) > maxID {
		return invalid("stream %q: names missing or too long", s)
	}
	for _, c := range []byte(s.Aggregate) {
		if c < 'a' || c > 'z' {
			return invalid("stream %q: an aggregate is lower-case letters", s)
		}
	}
	for _, c := range []byte(s.ID) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return invalid("stream %q: an id is letters, digits, - and _", s)
		}
	}
	return nil
}

func event(s eventstore.StreamID, e eventstore.NewEvent) error {
	switch {
	case len(e.Data) > eventstore.MaxEventBytes:
		return fmt.Errorf("%w: %s: %d bytes of data", eventstore.ErrTooLarge, s, len(e.Data))
	case !text(e.ID, maxID):
		return invalid("%s: event id %q", s, e.ID)
	case !text(e.Type, maxType):
		return invalid("%s: event type %q", s, e.Type)
	case e.Schema < 1 || e.Schema > math.MaxInt32:
		return invalid("%s: schema %d", s, e.Schema)
	case e.Time.Year() < 1 || e.Time.Year() > 9999:
		return invalid("%s: time out of range", s)
	case !value(e.Data):
		return invalid("%s: data of %s is not JSON", s, e.Type)
	}
	return nil
}

func receipt(r *eventstore.Receipt) error {
	switch {
	case r == nil:
		return nil
	case len(r.Response) > eventstore.MaxEventBytes:
		return fmt.Errorf("%w: a response of %d bytes", eventstore.ErrTooLarge, len(r.Response))
	case !text(r.Key, maxKey):
		return invalid("receipt key %q", r.Key)
	case len(r.Request) > maxRequest:
		return invalid("a request hash of %d bytes", len(r.Request))
	case len(r.Response) > 0 && !value(r.Response):
		return invalid("the response is not JSON")
	}
	return nil
}

// text accepts what Postgres can keep as text: UTF-8 without zero bytes.
func text(s string, longest int) bool {
	return s != "" && len(s) <= longest && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func value(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", eventstore.ErrInvalid, fmt.Sprintf(format, args...))
}
