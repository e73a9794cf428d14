package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// The slow path is for batches that the database has refused, and for those whose connection broke. It
// looks up streams and receipts under the lock, refuses the requests that cannot be kept and inserts the
// rest. It takes a few round trips and is rare.

// runSlowPath settles every request. resent says that the batch may have been committed already: then the
// event or receipt that conflicts with a request may be its own.
func (c *committer) runSlowPath(requests []*request, resent bool) {
	ctx, cancel := context.WithTimeout(context.Background(), replyPatience)
	defer cancel()
	began := time.Now()
	for tries := 1; ; tries++ {
		err := c.slowPath(ctx, requests, resent)
		if err == nil {
			return
		}
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && c.conn != nil && !c.conn.IsClosed() && !wrongServer(pgErr) {
			c.isolate(ctx, requests, resent, pgErr)
			return
		}
		c.drop()
		if tries > 1 && time.Since(began) > c.patience || ctx.Err() != nil {
			fail(requests, unavailable("append: outcome unknown", err))
			return
		}
		resent = true
		_ = retry.Sleep(ctx, 50*time.Millisecond) // once ctx has ended, one more try says why
	}
}

// isolate handles a batch that the database refuses because of one of its requests, or as a whole.
func (c *committer) isolate(ctx context.Context, requests []*request, resent bool, cause *pgconn.PgError) {
	if len(requests) == 1 || !blameable(cause) {
		fail(requests, unavailable("append", cause))
		return
	}
	for i := range requests {
		one := requests[i : i+1]
		if err := c.slowPath(ctx, one, resent); err != nil {
			fail(one, unavailable("append", err))
		}
	}
}

// blameable reports whether one request can cause such an error, rather than the server itself.
func blameable(err *pgconn.PgError) bool {
	switch err.Code[:2] {
	case "22", "23", "54": // data exception, integrity, program limit
		return true
	}
	return false
}

// slowPath appends the requests that can be kept, in one transaction, and settles all. An error means that
// none is settled.
func (c *committer) slowPath(ctx context.Context, requests []*request, resent bool) error {
	if c.conn == nil {
		if err := c.reach(ctx); err != nil {
			return err
		}
	}
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	var head int64
	if err := tx.QueryRow(ctx, `SELECT log.begin_append()`).Scan(&head); err != nil {
		return err
	}
	at, found, err := lookUp(ctx, tx, requests)
	if err != nil {
		return err
	}
	var winners []*request
	results := make(map[*request]outcome, len(requests))
	for _, r := range requests {
		refusal := r.objection(at, found)
		if refusal != nil && resent {
			if own, res, err := r.committedBefore(ctx, tx, found); err != nil {
				return err
			} else if own {
				results[r] = outcome{result: res}
				continue
			}
		}
		if refusal != nil {
			results[r] = outcome{err: refusal}
			continue
		}
		r.claim(at, found)
		winners = append(winners, r)
	}
	if err := insert(ctx, tx, winners, head); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	// The versions were read under the lock, with all other replicas' events: they are exact.
	generation := c.store.versions.generation()
	for stream, v := range at {
		c.store.versions.put(generation, stream, v)
	}
	settle(c.store.versions, winners, head)
	for r, o := range results {
		r.settle(o.result, o.err)
	}
	c.used, c.head = time.Now(), head+events(winners)
	c.store.notifications.broadcast()
	return nil
}

type outcome struct {
	result eventstore.Result
	err    error
}

func events(requests []*request) (n int64) {
	for _, r := range requests {
		n += int64(r.events)
	}
	return n
}

// lookUp returns the versions of all streams and the receipts under all keys of the requests.
func lookUp(ctx context.Context, tx pgx.Tx, requests []*request) (at map[string]int64, found map[string]eventstore.Receipt, err error) {
	var streams, keys []string
	var streamKeys [][16]byte
	for _, r := range requests {
		for _, w := range r.writes {
			streams, streamKeys = append(streams, w.stream), append(streamKeys, w.key)
		}
		if r.key != "" {
			keys = append(keys, r.key)
		}
	}
	at = make(map[string]int64, len(streams))
	// One index look-up for each stream: the newest version is at its end.
	rows, err := tx.Query(ctx, `
		SELECT s, coalesce((SELECT max(e.version) FROM log.entries e WHERE e.stream_key = k), 0)
		FROM unnest($1::text[], $2::uuid[]) u(s, k)`, streams, streamKeys)
	if err != nil {
		return nil, nil, err
	}
	var stream string
	var version int64
	if _, err := pgx.ForEachRow(rows, []any{&stream, &version}, func() error {
		at[stream] = version
		return nil
	}); err != nil {
		return nil, nil, err
	}
	found, err = receipts(ctx, tx, keys)
	return at, found, err
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// receipts returns the receipts that exist under keys, by key.
func receipts(ctx context.Context, q querier, keys []string) (map[string]eventstore.Receipt, error) {
	hashed := make([][16]byte, len(keys))
	for i, key := range keys {
		hashed[i] = indexKey(key)
	}
	rows, err := q.Query(ctx, `
		SELECT receipt, request, response, coalesce(position, 0) FROM log.entries WHERE receipt_key = ANY ($1)`, hashed)
	if err != nil {
		return nil, err
	}
	found := map[string]eventstore.Receipt{}
	var r eventstore.Receipt
	var response *string
	_, err = pgx.ForEachRow(rows, []any{&r.Key, &r.Request, &response, &r.Position}, func() error {
		r.Response = nil
		if response != nil {
			r.Response = []byte(*response)
		}
		found[r.Key] = r
		r.Request = nil
		return nil
	})
	return found, err
}

// objection returns why the request cannot be appended, given what the log holds; nil: it can.
func (r *request) objection(at map[string]int64, found map[string]eventstore.Receipt) error {
	if first, used := found[r.key]; used && r.key != "" {
		return &eventstore.DuplicateError{Receipt: first}
	}
	for _, w := range r.writes {
		if at[w.stream] != w.expected {
			return w.conflict(at[w.stream])
		}
	}
	return nil
}

// claim marks the request's streams and key as taken, for the requests behind it.
func (r *request) claim(at map[string]int64, found map[string]eventstore.Receipt) {
	for _, w := range r.writes {
		at[w.stream] += int64(w.count)
	}
	if r.key != "" {
		found[r.key] = eventstore.Receipt{Key: r.key, Request: r.digest, Response: r.answer}
	}
}

// committedBefore reports whether the request itself wrote what conflicts with it, over a connection that
// broke before the reply. Event ids are unique, so its first event proves it. A receipt without events is
// its own if it says the same.
func (r *request) committedBefore(ctx context.Context, tx pgx.Tx, found map[string]eventstore.Receipt) (bool, eventstore.Result, error) {
	if r.events == 0 {
		first := found[r.key]
		return bytes.Equal(first.Request, r.digest) && bytes.Equal(first.Response, r.answer) && first.Position == 0, eventstore.Result{}, nil
	}
	var position int64
	err := tx.QueryRow(ctx, `SELECT position FROM log.entries WHERE stream_key = $1 AND version = $2 AND id = $3`,
		r.writes[0].key, r.writes[0].expected+1, r.firstID).Scan(&position)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, eventstore.Result{}, nil
	}
	return err == nil, eventstore.Result{First: position, Last: position + int64(r.events) - 1}, err
}

func insert(ctx context.Context, tx pgx.Tx, winners []*request, head int64) error {
	if len(winners) == 0 {
		return nil
	}
	if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(appendCopyRows(nil, winners, head)), copyEntries); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	return nil
}
