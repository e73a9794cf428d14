package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Aggregate ties a decider's fold and codec to its streams. S is its state, E its sealed event type.
type Aggregate[S, E any] struct {
	Name   string // the streams' aggregate: "instance"
	Evolve func(S, E) S
	Encode func(E) (typ string, schema int, data []byte, err error)
	Decode func(typ string, schema int, data []byte) (E, error)
	// Closes tells whether the state that the last event alone leads to is the whole truth: such a
	// stream can be loaded although an earlier event cannot be read. Nil: none can.
	Closes func(S) bool
	// Owner returns the account that the stream's state belongs to: with its key it is forgotten (see
	// States). Nil, or "": no account. Streams of which only the end is loaded are never kept, and need none.
	Owner func(id string, state S) string
}

// Stream returns the id of one aggregate's stream.
func (a Aggregate[S, E]) Stream(id string) StreamID { return StreamID{a.Name, id} }

// Stamp gives new events what a decider does not know: id, time and origin.
type Stamp struct {
	NewID func() string
	Now   time.Time
	Meta  Metadata
}

// Unit is one decision in the making: the streams it has read, at which versions, and what it
// will write to them. It lives for one attempt of Run.
type Unit struct {
	store  Store
	stamp  Stamp
	writes []Write
	seen   map[StreamID]int // index into writes
}

// Load folds the aggregate's stream and remembers its version, so that an Emit to it is refused
// if anyone wrote there in between. Load a stream at most once a unit.
func Load[S, E any](ctx context.Context, u *Unit, a Aggregate[S, E], id string) (S, error) {
	stream := a.Stream(id)
	f, err := fold(ctx, u.store, a, stream)
	if err != nil {
		return f.state, err
	}
	return f.state, u.remember(stream, f.version)
}

// LoadLast is Load for an aggregate whose every event says the whole state: it reads the stream's end
// alone, however long the stream is.
func LoadLast[S, E any](ctx context.Context, u *Unit, a Aggregate[S, E], id string) (S, error) {
	stream := a.Stream(id)
	f, err := foldLast(ctx, u.store, a, stream)
	if err != nil {
		return f.state, err
	}
	return f.state, u.remember(stream, f.version)
}

// LoadUnread remembers the version of a stream whose events need not, or cannot, be read.
func LoadUnread[S, E any](ctx context.Context, u *Unit, a Aggregate[S, E], id string) error {
	stream := a.Stream(id)
	version, err := u.store.Version(ctx, stream)
	if err != nil {
		return fmt.Errorf("load %s: %w", stream, err)
	}
	return u.remember(stream, version)
}

func (u *Unit) remember(stream StreamID, version int64) error {
	if _, twice := u.seen[stream]; twice {
		return fmt.Errorf("load %s: %w: loaded twice in one unit", stream, ErrInvalid)
	}
	u.seen[stream] = len(u.writes)
	u.writes = append(u.writes, Write{Stream: stream, Expected: version})
	return nil
}

// Fold returns the aggregate's present state, for reading only. ErrDamaged says that there is none.
func Fold[S, E any](ctx context.Context, store Store, a Aggregate[S, E], id string) (S, error) {
	f, err := fold(ctx, store, a, a.Stream(id))
	return f.state, err
}

// FoldLast returns the state that the stream's last event says; see LoadLast.
func FoldLast[S, E any](ctx context.Context, store Store, a Aggregate[S, E], id string) (S, error) {
	f, err := foldLast(ctx, store, a, a.Stream(id))
	return f.state, err
}

// folded is a state with the event it ends with: its version, and its id where it is known.
type folded[S any] struct {
	state   S
	version int64
	id      string
}

func foldLast[S, E any](ctx context.Context, store Store, a Aggregate[S, E], stream StreamID) (folded[S], error) {
	at, err := store.Version(ctx, stream)
	if err != nil {
		return folded[S]{}, fmt.Errorf("load %s: %w", stream, err)
	}
	if at == 0 {
		return folded[S]{}, nil
	}
	return follow(ctx, store, a, stream, folded[S]{version: at - 1}, at-1)
}

func foldWhole[S, E any](ctx context.Context, store Store, a Aggregate[S, E], stream StreamID) (folded[S], error) {
	f, err := follow(ctx, store, a, stream, folded[S]{}, 0)
	if err != nil && a.Closes != nil {
		// What came before a last word need not be readable.
		last, lastErr := foldLast(ctx, store, a, stream)
		if lastErr == nil && last.version > 0 && a.Closes(last.state) {
			return last, nil
		}
	}
	return f, err
}

// follow folds the stream's events after a version on top of f. Where they begin with the event that f
// ends with, that one must be the same.
func follow[S, E any](ctx context.Context, store Store, a Aggregate[S, E], stream StreamID, f folded[S], after int64) (folded[S], error) {
	same := after == f.version
	for e, err := range store.ReadStream(ctx, stream, after) {
		if err != nil {
			return folded[S]{}, fmt.Errorf("load %s: %w", stream, err)
		}
		if !same {
			if same = e.Version == f.version && e.ID == f.id; !same {
				return folded[S]{}, errMoved
			}
			continue
		}
		if e.Damage != nil {
			return folded[S]{}, fmt.Errorf("load %s: event %d: %w: %w", stream, e.Position, ErrDamaged, e.Damage)
		}
		ev, err := a.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			return folded[S]{}, fmt.Errorf("load %s: event %d: %w: %w", stream, e.Position, ErrDamaged, err)
		}
		f = folded[S]{a.Evolve(f.state, ev), e.Version, e.ID}
	}
	if !same {
		return folded[S]{}, errMoved
	}
	return f, nil
}

// Emit adds events to the unit's write of a stream that was loaded before.
func Emit[S, E any](u *Unit, a Aggregate[S, E], id string, events ...E) error {
	stream := a.Stream(id)
	i, ok := u.seen[stream]
	if !ok && len(events) > 0 {
		return fmt.Errorf("emit to %s: %w: not loaded", stream, ErrInvalid)
	}
	for _, ev := range events {
		typ, schema, data, err := a.Encode(ev)
		if err != nil {
			return fmt.Errorf("emit to %s: %w", stream, err)
		}
		u.writes[i].Events = append(u.writes[i].Events, NewEvent{
			ID: u.stamp.NewID(), Type: typ, Schema: schema,
			Time: u.stamp.Now, Data: data, Meta: u.stamp.Meta,
		})
	}
	return nil
}

// maxTries bounds how often Run decides afresh. With jitter between tries, this many losses in a
// row mean a stream written to without pause.
const maxTries = 200

// Run is the one load–decide–append loop. decide loads streams and emits events on a fresh Unit,
// and may return the command's receipt; when another writer was first, it is called again.
// An error of decide is returned as it is and nothing is written. A unit that emits nothing and
// has no receipt writes nothing.
func Run(ctx context.Context, store Store, stamp Stamp, decide func(*Unit) (*Receipt, error)) (Result, error) {
	for try := 1; ; try++ {
		u := &Unit{store: store, stamp: stamp, seen: map[StreamID]int{}}
		receipt, err := decide(u)
		if err != nil {
			return Result{}, err
		}
		a := Append{Receipt: receipt}
		for _, w := range u.writes {
			if len(w.Events) > 0 {
				a.Writes = append(a.Writes, w)
			}
		}
		if len(a.Writes) == 0 && receipt == nil {
			return Result{}, nil
		}
		res, err := store.Append(ctx, a)
		var conflict *ConflictError
		if !errors.As(err, &conflict) || try == maxTries {
			return res, err
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(rand.N(time.Duration(min(try, 20)) * time.Millisecond)):
		}
	}
}
