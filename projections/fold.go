package projections

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Fold keeps one row per key, where the row after an event follows from the row before it. The events of a batch are folded in
// memory, between one query and one statement, however many they are.
type Fold struct {
	Aggregate string // whose events it is about; "": all
	// Key returns the key of the event's row. Nil: the stream's ID.
	Key func(e *Event) string
	// Load reads the rows of keys. It leaves out a key without a row. Nil: the row before does not matter.
	Load func(ctx context.Context, tx pgx.Tx, keys []string) (map[string]any, error)
	// Evolve returns the row after an event; nil: there is none. It is pure; an error parks the event.
	Evolve func(row any, e *Event) (any, error)
	// Save returns the statement that writes rows, new ones and changed ones.
	Save func(rows []any) Statement
	// Grows says that a row has something of each of its events until it is saved.
	Grows bool
}

func (f *Fold) about(e *Event) bool { return f.Aggregate == "" || f.Aggregate == e.Stream.Aggregate }

func (f *Fold) key(e *Event) string {
	if f.Key == nil {
		return e.Stream.ID
	}
	return f.Key(e)
}

// folding folds events and sets aside what cannot be applied, with the later events of its stream.
type folding struct {
	fold    *Fold
	rows    map[string]any
	changed []string // keys, in the order of their first change
	is      map[string]bool
	grown   int // events that rows which grow have
	parked  map[string]bool
	aside   []setAside
	freed   []string // streams that are no longer parked
}

// setAside is an event that cannot be applied, and why.
type setAside struct {
	event *Event
	why   error
}

// newFolding returns a folding of rows that were loaded. parked are the streams that stopped before; it belongs to the folding.
func newFolding(f *Fold, parked map[string]bool) *folding {
	if parked == nil {
		parked = map[string]bool{}
	}
	return &folding{fold: f, rows: map[string]any{}, is: map[string]bool{}, parked: parked}
}

// load reads the rows that the events need and that are not in memory.
func (f *folding) load(ctx context.Context, tx pgx.Tx, events []*Event) error {
	if f.fold.Load == nil {
		return nil
	}
	var missing []string
	asked := map[string]bool{}
	for _, e := range events {
		if !f.fold.about(e) || e.Damage != nil {
			continue
		}
		key := f.fold.key(e)
		if _, known := f.rows[key]; !known && !asked[key] {
			asked[key] = true
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	found, err := f.fold.Load(ctx, tx, missing)
	for key, row := range found {
		f.rows[key] = row
	}
	return blame(err) // Postgres refuses a key with a zero byte
}

// add folds an event into its row, or sets it aside.
func (f *folding) add(e *Event) {
	if len(f.parked) > 0 {
		stream := e.Stream.String()
		if f.parked[stream] && lastWord(e) {
			f.free(stream)
		}
		if f.parked[stream] {
			f.aside = append(f.aside, setAside{e, errBehindParked})
			return
		}
	}
	if err := f.evolve(e); err != nil {
		f.park(e, err)
	}
}

func (f *folding) evolve(e *Event) error {
	if e.Damage != nil {
		_, err := e.Says()
		return err
	}
	if !f.fold.about(e) {
		return nil
	}
	key := f.fold.key(e)
	row, err := f.fold.Evolve(f.rows[key], e)
	if err != nil || row == nil {
		return err
	}
	f.rows[key] = row
	if !f.is[key] {
		f.is[key] = true
		f.changed = append(f.changed, key)
	}
	if f.fold.Grows {
		f.grown++
	}
	return nil
}

func (f *folding) park(e *Event, why error) {
	f.parked[e.Stream.String()] = true
	f.aside = append(f.aside, setAside{e, why})
}

// free lets a stream continue: what was parked of it no longer matters.
func (f *folding) free(stream string) {
	delete(f.parked, stream)
	f.freed = append(f.freed, stream)
	kept := f.aside[:0]
	for _, s := range f.aside {
		if s.event.Stream.String() != stream {
			kept = append(kept, s)
		}
	}
	f.aside = kept
}

// size is how much is in memory, in rows or in what rows have of events.
func (f *folding) size() int { return max(len(f.rows), f.grown) }

// save returns the statement that writes the changed rows; false: none changed.
func (f *folding) save() (Statement, bool) {
	if len(f.changed) == 0 {
		return Statement{}, false
	}
	return f.fold.Save(f.changedRows()), true
}

func (f *folding) changedRows() []any {
	rows := make([]any, len(f.changed))
	for n, key := range f.changed {
		rows[n] = f.rows[key]
	}
	return rows
}

// forget drops the rows, which were saved.
func (f *folding) forget() {
	f.rows, f.is, f.changed, f.grown = map[string]any{}, map[string]bool{}, nil, 0
}

// column returns a value of each row, as an array for a statement.
func column[R, T any](rows []any, value func(R) T) []T {
	values := make([]T, len(rows))
	for i, row := range rows {
		values[i] = value(row.(R))
	}
	return values
}
