// Package postgres is the log on Postgres: the control plane's only truth.
//
// Appends of all callers are committed in groups, one transaction at a time under an advisory lock, so
// that positions have no gap and commit in order. The unique index on (stream, version) is the version
// check, and the one on receipts' keys is the duplicate check. The store looks streams up only after one of
// them has refused a batch: see batch.go for a batch, and slowpath.go for what follows a refusal.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/internal/check"
)

// Config says where the log is. The database must have been migrated.
type Config struct {
	URL    string       // connection string; used, and needed, where Pool is nil
	Pool   *Pool        // for reads and look-ups, and the pattern of the store's own connections; nil: one is made from URL
	Logger *slog.Logger // nil: silent

	// CachedVersions is how many streams' versions are remembered, so that most appends need no
	// look-up; 0: 100,000, about 15 MB.
	CachedVersions int
	// LockTimeout bounds the wait for other replicas' appends; 0: 5 s.
	LockTimeout time.Duration
	// Patience bounds how long an append whose connection broke tries to reach the database
	// again before it is ErrUnavailable; 0: 3 s.
	Patience time.Duration
	// PollEvery is how often the head is polled for appends whose notification was lost; 0: 500 ms.
	PollEvery time.Duration
}

// Store is an eventstore.Store on Postgres. It holds one connection for appends, and one for notifications
// once Notifications was called. Reads borrow from the pool.
type Store struct {
	pool          *Pool
	ownPool       bool
	log           *slog.Logger
	versions      *versionCache
	queue         queue
	commit        committer
	notifications notifications
	lately        lately
}

var _ eventstore.Store = (*Store)(nil)

// Open connects to the log. Close the store when no append is running.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{pool: cfg.Pool, log: cfg.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.pool == nil {
		pool, err := OpenPool(ctx, cfg.URL, s.log)
		if err != nil {
			return nil, fmt.Errorf("open event store: %w", err)
		}
		s.pool, s.ownPool = pool, true
	}
	s.versions = newVersionCache(cmp.Or(cfg.CachedVersions, 100_000))
	s.commit = committer{
		store:    s,
		config:   committerConfig(s.pool.Config().ConnConfig, cmp.Or(cfg.LockTimeout, 5*time.Second)),
		patience: cmp.Or(cfg.Patience, 3*time.Second),
	}
	s.queue.crowded = crowded
	s.notifications = notifications{store: s, every: cmp.Or(cfg.PollEvery, 500*time.Millisecond)}
	if err := s.commit.reach(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("open event store: %w", err)
	}
	return s, nil
}

// Close releases the store's connections, and the pool if the store made it.
func (s *Store) Close() {
	s.notifications.close()
	s.commit.close()
	if s.ownPool {
		s.pool.Close()
	}
}

// Append implements eventstore.Store. A caller whose ctx ends before its batch is sent leaves the queue;
// after that it waits for the outcome.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	if err := check.Append(a); err != nil {
		return eventstore.Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return eventstore.Result{}, unavailable("append", err)
	}
	r := newRequest(a)
	defer r.free()
	if err := s.verify(ctx, r); err != nil {
		return eventstore.Result{}, err
	}
	if err := s.wait(ctx, r); err != nil {
		return eventstore.Result{}, err
	}
	if r.stale {
		// Another append came first while this one waited; refuse says which.
		return eventstore.Result{}, s.refuse(ctx, r)
	}
	s.lately.note(r.err)
	return r.result, r.err
}

// verify makes sure that the versions the append builds on exist. The unique index sees only versions that
// exist, so without verify an append could leave a gap. Versions never go away: this is safe outside the
// lock.
func (s *Store) verify(ctx context.Context, r *request) error {
	r.generation = s.versions.generation()
	for _, w := range r.writes {
		at, ok := s.versions.get(w.stream)
		if !ok || at < w.expected {
			if w.expected == 0 {
				continue
			}
			actual, err := s.version(ctx, w.stream)
			if err != nil {
				return err
			}
			at = actual
		}
		if at != w.expected {
			return s.refuse(ctx, r)
		}
	}
	return nil
}

// refuse returns why the append is refused: its receipt exists, or a stream has moved on. A retried command
// is stale as well, so refuse looks for the receipt first.
func (s *Store) refuse(ctx context.Context, r *request) error {
	if r.key != "" {
		receipt, err := s.Receipt(ctx, r.key)
		if err != nil {
			return err
		}
		if receipt != nil {
			return &eventstore.DuplicateError{Receipt: *receipt}
		}
	}
	for _, w := range r.writes {
		actual, err := s.version(ctx, w.stream)
		if err != nil {
			return err
		}
		if actual != w.expected {
			return w.conflict(actual)
		}
	}
	// The version cache is wrong: the log was replaced by an older one.
	s.versions.forget()
	return unavailable("append", errors.New("the log has changed under the store; try again"))
}

// version returns the stream's version, 0 if it does not exist.
func (s *Store) version(ctx context.Context, stream string) (int64, error) {
	generation := s.versions.generation()
	var v int64
	err := s.pool.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM log.entries WHERE stream_key = $1`, indexKey(stream)).Scan(&v)
	if err != nil {
		return 0, unavailable("look up "+stream, err)
	}
	s.versions.put(generation, stream, v)
	return v, nil
}

// Receipt implements eventstore.Store.
func (s *Store) Receipt(ctx context.Context, key string) (*eventstore.Receipt, error) {
	found, err := receipts(ctx, s.pool, []string{key})
	if err != nil {
		return nil, unavailable("receipt", err)
	}
	if r, ok := found[key]; ok {
		return &r, nil
	}
	return nil, nil
}

// Head implements eventstore.Store.
func (s *Store) Head(ctx context.Context) (int64, error) {
	var head int64
	if err := s.pool.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM log.entries`).Scan(&head); err != nil {
		return 0, unavailable("head", err)
	}
	return head, nil
}

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: %s: %w", eventstore.ErrUnavailable, doing, err)
}
