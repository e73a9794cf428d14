package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Codec is an aggregate's table of events: their wire names, and how their data is written and read.
// domain.Codec is one.
type Codec[E any] interface {
	// Aggregate returns what the streams are called: "instance".
	Aggregate() string
	Encode(e E) (typ string, schema int, data []byte, err error)
	// Decode is the inverse of Encode. It refuses an unknown name or schema.
	Decode(typ string, schema int, data []byte) (E, error)
}

// Aggregate ties a decider to its streams. S is its state, E its sealed event type, C its sealed command type.
type Aggregate[S, E, C any] struct {
	Codec  Codec[E]
	Evolve func(S, E) S
	Decide func(S, C) ([]E, error)
	// Closes reports whether the state that the last event alone leads to is the whole truth: such a
	// stream can be loaded although an earlier event cannot be read. Nil: none can.
	Closes func(S) bool
	// Snapshot says that every event holds the whole state: only a stream's last event is read, however
	// long the stream is. Such states are never kept (see States).
	Snapshot bool
	// Owner returns the account that the stream's state belongs to: States drops it with the account's key.
	// Nil, or "": no account.
	Owner func(id string, state S) string
}

// Stream returns the id of one aggregate's stream.
func (a Aggregate[S, E, C]) Stream(id string) StreamID { return StreamID{a.Codec.Aggregate(), id} }

// Stamp gives new events what a decider does not know: id, time and origin.
type Stamp struct {
	NewID func() string
	Now   time.Time
	Meta  Metadata
}

// Unit is one decision in progress: the streams it has read, at which versions, and what it will write
// to them. It lives for one attempt of Run.
type Unit struct {
	store  Store
	stamp  Stamp
	writes []Write
	states []any            // of the stream in writes at the same index, with what was emitted; nil: not read
	seen   map[StreamID]int // index into writes
}

// Load folds the aggregate's stream and remembers its version, so that an Emit to it is refused
// if another writer came first. A unit loads a stream at most once.
func (a Aggregate[S, E, C]) Load(ctx context.Context, u *Unit, id string) (S, error) {
	stream := a.Stream(id)
	f, err := fold(ctx, u.store, a, stream)
	if err != nil {
		return f.state, err
	}
	return f.state, u.remember(stream, f.version, f.state)
}

// LoadUnread remembers the version of a stream whose events need not, or cannot, be read.
func (a Aggregate[S, E, C]) LoadUnread(ctx context.Context, u *Unit, id string) error {
	stream := a.Stream(id)
	version, err := u.store.Version(ctx, stream)
	if err != nil {
		return fmt.Errorf("load %s: %w", stream, err)
	}
	return u.remember(stream, version, nil)
}

func (u *Unit) remember(stream StreamID, version int64, state any) error {
	if _, twice := u.seen[stream]; twice {
		return fmt.Errorf("load %s: %w: loaded twice in one unit", stream, ErrInvalid)
	}
	u.seen[stream] = len(u.writes)
	u.writes = append(u.writes, Write{Stream: stream, Expected: version})
	u.states = append(u.states, state)
	return nil
}

// Execute decides on a command and emits the outcome. It loads the stream unless the unit has done so,
// and returns the state after the command. An error of Decide is returned as it is, with the state
// before.
func (a Aggregate[S, E, C]) Execute(ctx context.Context, u *Unit, id string, command C) (S, error) {
	var state S
	if i, loaded := u.seen[a.Stream(id)]; !loaded {
		var err error
		if state, err = a.Load(ctx, u, id); err != nil {
			return state, err
		}
	} else if state, loaded = u.states[i].(S); !loaded {
		return state, fmt.Errorf("execute on %s: %w: not read", a.Stream(id), ErrInvalid)
	}
	events, err := a.Decide(state, command)
	if err != nil {
		return state, err
	}
	if err := a.Emit(u, id, events...); err != nil {
		return state, err
	}
	state, _ = u.states[u.seen[a.Stream(id)]].(S)
	return state, nil
}

// Emit adds events, without a decision, to the unit's write of a stream that was loaded before.
func (a Aggregate[S, E, C]) Emit(u *Unit, id string, events ...E) error {
	stream := a.Stream(id)
	i, ok := u.seen[stream]
	if !ok && len(events) > 0 {
		return fmt.Errorf("emit to %s: %w: not loaded", stream, ErrInvalid)
	}
	for _, ev := range events {
		typ, schema, data, err := a.Codec.Encode(ev)
		if err != nil {
			return fmt.Errorf("emit to %s: %w", stream, err)
		}
		u.writes[i].Events = append(u.writes[i].Events, NewEvent{
			ID: u.stamp.NewID(), Type: typ, Schema: schema,
			Time: u.stamp.Now, Data: data, Meta: u.stamp.Meta,
		})
		if state, read := u.states[i].(S); read {
			u.states[i] = a.Evolve(state, ev)
		}
	}
	return nil
}

// Fold returns the aggregate's present state, for reading only. ErrDamaged says that there is none.
func (a Aggregate[S, E, C]) Fold(ctx context.Context, store Store, id string) (S, error) {
	f, err := fold(ctx, store, a, a.Stream(id))
	return f.state, err
}

// folded is a state with the event it ends with: its version, and its id where it is known.
type folded[S any] struct {
	state   S
	version int64
	id      string
}

func foldLast[S, E, C any](ctx context.Context, store Store, a Aggregate[S, E, C], stream StreamID) (folded[S], error) {
	at, err := store.Version(ctx, stream)
	if err != nil {
		return folded[S]{}, fmt.Errorf("load %s: %w", stream, err)
	}
	if at == 0 {
		return folded[S]{}, nil
	}
	return follow(ctx, store, a, stream, folded[S]{version: at - 1}, at-1)
}

func foldWhole[S, E, C any](ctx context.Context, store Store, a Aggregate[S, E, C], stream StreamID) (folded[S], error) {
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
func follow[S, E, C any](ctx context.Context, store Store, a Aggregate[S, E, C], stream StreamID, f folded[S], after int64) (folded[S], error) {
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
		ev, err := a.Codec.Decode(e.Type, e.Schema, e.Data)
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

// maxTries bounds how often Run decides again. With jitter between tries, this many losses in a
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
		if err := retry.Sleep(ctx, rand.N(time.Duration(min(try, 20))*time.Millisecond)); err != nil {
			return Result{}, err
		}
	}
}
