package postgres

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Reads go page by page, each its own short statement, so that a slow reader holds no
// transaction and no connection. While one page is read by the caller, the next is on its way.
const (
	firstPage = 200     // rows
	maxPage   = 5000    // rows
	pageBytes = 4 << 20 // a page stops growing beyond this
)

const columns = `position, version, time, schema, stream, type, id, data, meta`

const (
	readAll    = `SELECT ` + columns + ` FROM log.entries WHERE position > $1 ORDER BY position NULLS FIRST LIMIT $2`
	readStream = `SELECT ` + columns + ` FROM log.entries WHERE version > $1 AND stream_key = $3 ORDER BY version LIMIT $2`
)

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return s.read(ctx, after, query{
		name: "read_all", sql: readAll,
		key: func(e *eventstore.Event) int64 { return e.Position },
	}, func(eventstore.Event) {})
}

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	generation := s.versions.generation()
	name := stream.String()
	return s.read(ctx, after, query{
		name: "read_stream", sql: readStream, stream: name,
		key: func(e *eventstore.Event) int64 { return e.Version },
	}, func(last eventstore.Event) { s.versions.put(generation, name, last.Version) })
}

// query is one of the two ways to walk the log.
type query struct {
	name, sql string
	stream    string // "": all
	key       func(*eventstore.Event) int64
}

// page is one answer. done says that it was the last.
type page struct {
	events []eventstore.Event
	bytes  int
	done   bool
	err    error
}

// read yields page after page. learn hears the last event of each.
func (s *Store) read(ctx context.Context, after int64, q query, learn func(eventstore.Event)) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		after, limit := max(after, 0), firstPage
		p := s.page(ctx, q, after, limit)
		for {
			if p.err != nil {
				yield(eventstore.Event{}, unavailable("read", p.err))
				return
			}
			var next chan page
			if n := len(p.events); n > 0 {
				last := p.events[n-1]
				learn(last)
				after, limit = q.key(&last), nextLimit(n, p.bytes)
				if !p.done {
					next = make(chan page, 1) // the fetch ends by itself if the reader stops
					go func() { next <- s.page(ctx, q, after, limit) }()
				}
			}
			for i := range p.events {
				if err := ctx.Err(); err != nil {
					yield(eventstore.Event{}, unavailable("read", err))
					return
				}
				if !yield(p.events[i], nil) {
					return
				}
			}
			if p.done {
				return
			}
			p = <-next
		}
	}
}

// nextLimit aims at pages of pageBytes, judging by the last one.
func nextLimit(rows, size int) int {
	return max(min(maxPage, 4*rows, rows*pageBytes/max(size, 1)), 1)
}

func (s *Store) page(ctx context.Context, q query, after int64, limit int) (p page) {
	defer crash.Caught(&p.err) // it may have a goroutine of its own
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return page{err: err}
	}
	defer conn.Release()
	if _, err := conn.Conn().Prepare(ctx, q.name, q.sql); err != nil {
		return page{err: err}
	}
	args := [][]byte{
		binary.BigEndian.AppendUint64(nil, uint64(after)),
		binary.BigEndian.AppendUint64(nil, uint64(limit)),
	}
	if q.stream != "" {
		key := indexKey(q.stream)
		args = append(args, key[:])
	}
	rr := conn.Conn().PgConn().ExecPrepared(ctx, q.name, args, []int16{1}, []int16{1})
	p = decodePage(rr, limit)
	if _, err := rr.Close(); p.err == nil {
		p.err = err
	}
	return p
}

func decodePage(rr *pgconn.ResultReader, limit int) (p page) {
	p.events = make([]eventstore.Event, 0, min(limit, maxPage))
	var types names
	rows := 0
	for rr.NextRow() {
		rows++
		if p.bytes > 2*pageBytes || p.err != nil {
			continue // read and dropped: the next page begins here
		}
		p.events = append(p.events, eventstore.Event{})
		n, err := decode(rr.Values(), &p.events[len(p.events)-1], &types)
		p.bytes += n
		p.err = err // of the shape of all rows: that of one row is the event's Damage
	}
	p.done = rows < limit
	return p
}

var errShape = errors.New("a row of an unknown shape")

// decode reads one row and returns its size. All strings of an event share one piece of memory.
func decode(v [][]byte, e *eventstore.Event, types *names) (int, error) {
	if len(v) != 9 || len(v[0]) != 8 {
		return 0, errShape
	}
	e.Position = int64(binary.BigEndian.Uint64(v[0]))
	if len(v[1]) != 8 || len(v[2]) != 8 || len(v[3]) != 4 || len(v[4]) == 0 || len(v[5]) == 0 || len(v[6]) == 0 {
		decodeDamaged(v, e)
		return len(v[4]) + len(v[5]) + len(v[6]) + len(v[7]) + len(v[8]) + 28, nil
	}
	e.Version = int64(binary.BigEndian.Uint64(v[1]))
	e.Time = time.UnixMicro(int64(binary.BigEndian.Uint64(v[2])) + postgresEpoch).UTC()
	e.Schema = int(int32(binary.BigEndian.Uint32(v[3])))
	stream, typ, id, data, meta := v[4], v[5], v[6], v[7], v[8]

	var b strings.Builder
	b.Grow(len(stream) + len(id) + len(meta))
	b.Write(stream)
	b.Write(id)
	b.Write(meta)
	text := b.String()
	name, rest, metaText := text[:len(stream)], text[len(stream):len(stream)+len(id)], text[len(stream)+len(id):]
	aggregate, key, ok := strings.Cut(name, "/")
	e.Stream = eventstore.StreamID{Aggregate: aggregate, ID: key}
	e.ID = rest
	e.Type = types.get(typ)
	e.Data = json.RawMessage(slices.Clone(data))
	err := parseMeta(metaText, &e.Meta)
	switch {
	case err != nil:
		e.Meta = eventstore.Metadata{}
		e.Damage = fmt.Errorf("metadata: %w", err)
	case !ok:
		e.Damage = fmt.Errorf("stream %q has no aggregate", name)
	case e.Version < 1 || e.Schema < 1:
		e.Damage = fmt.Errorf("version %d, schema %d", e.Version, e.Schema)
	}
	if y := e.Time.Year(); y < 1 || y > 9999 {
		e.Time, e.Damage = time.Time{}, errors.New("time out of range")
	}
	return len(text) + len(typ) + len(data) + 28, nil
}

// decodeDamaged reads what there is of a row with empty columns. Names that are missing are made up,
// so that no reader has to reckon with an event without one.
func decodeDamaged(v [][]byte, e *eventstore.Event) {
	e.Damage = errors.New("columns are empty")
	if len(v[1]) == 8 {
		e.Version = int64(binary.BigEndian.Uint64(v[1]))
	}
	name := func(b []byte, otherwise string) string {
		if len(b) == 0 {
			return otherwise
		}
		return string(b)
	}
	aggregate, key, _ := strings.Cut(name(v[4], "damaged/"+strconv.FormatInt(e.Position, 10)), "/")
	e.Stream = eventstore.StreamID{Aggregate: aggregate, ID: key}
	e.Type = name(v[5], "damaged")
	e.ID = name(v[6], "damaged-"+strconv.FormatInt(e.Position, 10))
	e.Data = slices.Clone(v[7])
}

// names keeps one string for each of the few event types of a page.
type names struct{ seen []string }

func (n *names) get(b []byte) string {
	for _, s := range n.seen {
		if s == string(b) {
			return s
		}
	}
	s := string(b)
	if len(n.seen) < 16 {
		n.seen = append(n.seen, s)
	}
	return s
}
