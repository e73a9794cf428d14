package postgres

import (
	"context"
	"iter"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Reads go page by page, each with its own short statement, so that a slow reader holds no transaction and
// no connection. While the caller reads one page, the next one is fetched.
const (
	firstPage = 200     // rows
	maxPage   = 5000    // rows
	pageBytes = 4 << 20 // a page aims at this size
)

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

// page is one reply. done says that it is the last.
type page struct {
	events []eventstore.Event
	bytes  int
	done   bool
	err    error
}

// read yields page after page. It calls learn with the last event of each.
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
					next = make(chan page, 1) // buffered: the fetch ends although the reader stopped
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
	args := [][]byte{int64Parameter(after), int64Parameter(int64(limit))}
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
			continue // the next page begins here, so the row is dropped
		}
		p.events = append(p.events, eventstore.Event{})
		n, err := decodeRow(rr.Values(), &p.events[len(p.events)-1], &types)
		p.bytes += n
		p.err = err // all rows are of an unknown shape; a single bad row is the event's Damage
	}
	p.done = rows < limit
	return p
}
