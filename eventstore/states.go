package eventstore

import (
	"container/list"
	"context"
	"errors"
	"reflect"
	"sync"
)

// shortStream is the length up to which a stream's state is not kept: reading that many events again costs
// what looking at the stream's end does.
const shortStream = 8

// States keeps folded states in memory, so that a command on a long stream reads only the events added
// since. A kept state is never used without reading its stream: the last folded event must still be there,
// under the same id, and the events after it are folded on top. So another replica's events, and a log that
// was restored to an earlier day, are always seen. States hold personal data only as it is sealed in the
// log. A zero States is not ready; see NewStates.
type States struct {
	limit int
	mu    sync.Mutex
	bytes int
	by    map[StreamID]*list.Element
	used  *list.List // of *kept, the latest used first
	drops uint64
}

// kept is a folded state and the event that it ends with.
type kept struct {
	stream  StreamID
	version int64
	id      string // of the event at version
	state   any
	owner   string // the account that the state belongs to, "": none
	bytes   int
}

// NewStates returns States that keep at most limit bytes, estimated from what the states point to.
func NewStates(limit int) *States {
	return &States{limit: limit, by: map[StreamID]*list.Element{}, used: list.New()}
}

// Keeping returns the store, with states kept for Load and Fold.
func Keeping(store Store, states *States) Store { return &keeping{store, states} }

type keeping struct {
	Store
	states *States
}

// Drop removes the states of an account, when its key is destroyed.
func (k *States) Drop(account string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drops++ // a state that is being folded meanwhile is not kept
	for e := k.used.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*kept).owner == account {
			k.remove(e)
		}
		e = next
	}
}

// Held returns how many states are kept, and in how many bytes.
func (k *States) Held() (states, bytes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.by), k.bytes
}

func (k *States) get(stream StreamID) (*kept, uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.by[stream]
	if !ok {
		return nil, k.drops
	}
	k.used.MoveToFront(e)
	return e.Value.(*kept), k.drops
}

// put keeps s, unless a Drop came since drops was read.
func (k *States) put(s *kept, drops uint64) {
	s.bytes = keptOverhead + len(s.stream.ID) + len(s.id) + sizeOf(reflect.ValueOf(s.state))
	k.mu.Lock()
	defer k.mu.Unlock()
	if drops != k.drops || s.bytes > k.limit/16 { // one state must not displace all others
		return
	}
	if e, ok := k.by[s.stream]; ok {
		k.remove(e)
	}
	k.by[s.stream] = k.used.PushFront(s)
	k.bytes += s.bytes
	for k.bytes > k.limit {
		k.remove(k.used.Back())
	}
}

func (k *States) forget(s *kept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.by[s.stream]; ok && e.Value == any(s) {
		k.remove(e)
	}
}

func (k *States) remove(e *list.Element) {
	s := k.used.Remove(e).(*kept)
	delete(k.by, s.stream)
	k.bytes -= s.bytes
}

// keptOverhead estimates the bytes of an entry without its state: list element, map entry, struct.
const keptOverhead = 300

// sizeOf estimates the bytes that a state takes, with all that it points to.
func sizeOf(v reflect.Value) int {
	if !v.IsValid() {
		return 0
	}
	n := int(v.Type().Size())
	switch v.Kind() {
	case reflect.String:
		n += v.Len()
	case reflect.Slice:
		if elem := v.Type().Elem(); flat(elem.Kind()) {
			return n + v.Cap()*int(elem.Size())
		}
		for i := range v.Len() {
			n += sizeOf(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			n += 16 + sizeOf(it.Key()) + sizeOf(it.Value())
		}
	case reflect.Pointer, reflect.Interface:
		n += sizeOf(v.Elem())
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			return n // a location is shared
		}
		for i := range v.NumField() {
			f := v.Field(i)
			n += sizeOf(f) - int(f.Type().Size())
		}
	}
	return n
}

func flat(k reflect.Kind) bool { return k >= reflect.Bool && k <= reflect.Complex128 }

// errMoved says that the log no longer has the event that a kept state ends with.
var errMoved = errors.New("event store: a kept state is not of this log")

// fold returns the state of a stream as the store has it now.
func fold[S, E, C any](ctx context.Context, store Store, a Aggregate[S, E, C], stream StreamID) (folded[S], error) {
	if a.Snapshot {
		return foldLast(ctx, store, a, stream)
	}
	k, ok := store.(*keeping)
	if !ok {
		return foldWhole(ctx, store, a, stream)
	}
	base, drops := k.states.get(stream)
	if base != nil {
		if from, ok := base.state.(S); ok {
			f, err := follow(ctx, k.Store, a, stream, folded[S]{from, base.version, base.id}, base.version-1)
			switch {
			case err == nil && f.version == base.version:
				return f, nil
			case err == nil:
				keep(k.states, a, stream, f, drops)
				return f, nil
			case errors.Is(err, errMoved):
				k.states.forget(base)
			case !errors.Is(err, ErrDamaged): // a damaged stream can still be read if its last event closes it
				return f, err
			}
		}
	}
	f, err := foldWhole(ctx, k.Store, a, stream)
	if err == nil {
		keep(k.states, a, stream, f, drops)
	}
	return f, err
}

func keep[S, E, C any](states *States, a Aggregate[S, E, C], stream StreamID, f folded[S], drops uint64) {
	if f.version <= shortStream {
		return
	}
	s := &kept{stream: stream, version: f.version, id: f.id, state: f.state}
	if a.Owner != nil {
		s.owner = a.Owner(stream.ID, f.state)
	}
	states.put(s, drops)
}
