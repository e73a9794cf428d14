package domain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Codec is an aggregate's table of events, with the wire name of each Go type. It never changes after NewCodec. Once a
// log contains a name or a field, it stays as it is; fields may be added.
type Codec[E any] struct {
	aggregate string
	rows      []Row[E]
	byName    map[string]Row[E]
}

// Row ties one event type to its wire name; As makes one.
type Row[E any] struct {
	name   string
	is     func(E) bool
	decode func(data []byte) (E, error)
}

// schema is the version of every event's data so far.
const schema = 1

// NewCodec returns the table of the named aggregate. It panics if a wire name occurs twice.
func NewCodec[E any](aggregate string, rows ...Row[E]) Codec[E] {
	c := Codec[E]{aggregate, rows, make(map[string]Row[E], len(rows))}
	for _, r := range rows {
		if _, twice := c.byName[r.name]; twice {
			panic("two events are called " + r.name)
		}
		c.byName[r.name] = r
	}
	return c
}

// As returns the row of event type T with its wire name. It panics if T does not implement E.
func As[T, E any](name string) Row[E] {
	var zero T
	if _, ok := any(zero).(E); !ok {
		panic(fmt.Sprintf("%T is not an event of %s", zero, name))
	}
	return Row[E]{
		name: name,
		is:   func(e E) bool { _, ok := any(e).(T); return ok },
		decode: func(data []byte) (E, error) {
			var v T
			err := json.Unmarshal(data, &v)
			return any(v).(E), err
		},
	}
}

// Aggregate returns the aggregate's name, for example "instance".
func (c Codec[E]) Aggregate() string { return c.aggregate }

// Names returns the wire names, sorted.
func (c Codec[E]) Names() []string { return slices.Sorted(maps.Keys(c.byName)) }

// Name returns an event's wire name, or "" if it is not in the table.
func (c Codec[E]) Name(e E) string {
	for _, r := range c.rows {
		if r.is(e) {
			return r.name
		}
	}
	return ""
}

// Encode returns an event's wire name, the schema of its data, and its data as JSON.
func (c Codec[E]) Encode(e E) (name string, version int, data []byte, err error) {
	if name = c.Name(e); name == "" {
		return "", 0, nil, fmt.Errorf("encode %T: not an event of %s", e, c.aggregate)
	}
	data, err = json.Marshal(e)
	return name, schema, data, err
}

// Decode is the inverse of Encode. An unknown name or schema is an error: nothing is skipped silently.
func (c Codec[E]) Decode(name string, version int, data []byte) (E, error) {
	r, ok := c.byName[name]
	if !ok {
		var none E
		return none, fmt.Errorf("decode %s: not an event of %s", name, c.aggregate)
	}
	if version != schema {
		var none E
		return none, fmt.Errorf("decode %s: unknown schema %d", name, version)
	}
	return r.decode(data)
}

// DecodeAny is Decode for callers that read the events of all aggregates.
func (c Codec[E]) DecodeAny(name string, version int, data []byte) (any, error) {
	e, err := c.Decode(name, version, data)
	return e, err
}
