// Package lease lets one process at a time play a named role, by a row in Postgres that expires
// unless renewed. Times are compared by the database's clock only. A holder stops itself before
// its lease can have expired there, but a process that was frozen may act a moment longer: what a
// role writes must still be refused when stale, as the log's version check does.
package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// ErrLost is the cause of a function's ended context when its lease was lost.
var ErrLost = errors.New("lease lost")

// DB is what leases need of a connection pool. Give them one of their own: behind the queries of a
// busy server a renewal comes too late.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Config says where leases are kept.
type Config struct {
	Pool   DB            // required; its database must have been migrated
	Logger *slog.Logger  // nil: silent
	TTL    time.Duration // how long a dead holder blocks the role; 0: 5 s. Renewed at 3/10 of it.
}

// Leases takes leases in the name of this process.
type Leases struct {
	pool   DB
	log    *slog.Logger
	ttl    time.Duration
	holder string
}

// New returns leases for one holder: two values never hold the same lease together.
func New(cfg Config) *Leases {
	l := &Leases{pool: cfg.Pool, log: cfg.Logger, ttl: cfg.TTL, holder: ulid.Make().String()}
	l.log = cmp.Or(l.log, slog.New(slog.DiscardHandler))
	l.ttl = cmp.Or(l.ttl, 5*time.Second)
	return l
}

// Clear drops all leases, so that the roles of a process that crashed can be taken at once. It is
// only for a database that no other process can be using.
func (l *Leases) Clear(ctx context.Context) error {
	if _, err := l.pool.Exec(ctx, `UPDATE ops.leases SET expires_at = now()`); err != nil {
		return fmt.Errorf("clear leases: %w", err)
	}
	return nil
}

// Hold waits until it gets the lease and runs f while it is held. If the lease is lost, f's ctx
// ends with cause ErrLost, and Hold waits for f to return, then for the lease, and runs f again.
// Otherwise it releases the lease when f returns, and returns f's error. When ctx ends it returns
// f's error, or ctx's if f was not running.
func (l *Leases) Hold(ctx context.Context, name string, f func(context.Context) error) error {
	for {
		sent := time.Now()
		term, err := l.take(ctx, name)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("lease %s: %w", name, ctx.Err())
		case err != nil:
			l.log.WarnContext(ctx, "lease cannot be taken", "lease", name, "err", err)
		case term > 0:
			l.log.InfoContext(ctx, "lease taken", "lease", name, "term", term)
			lost, err := l.while(ctx, name, term, sent, f)
			if !lost {
				return err
			}
			l.log.WarnContext(ctx, "lease lost", "lease", name, "term", term, "err", err)
		}
		// Somebody else has it, or the database is away. Jitter keeps the waiting apart.
		_ = retry.Sleep(ctx, l.ttl/10+rand.N(l.ttl/10))
	}
}

// while runs f under the lease and tells whether the lease was lost meanwhile.
func (l *Leases) while(ctx context.Context, name string, term int64, sent time.Time, f func(context.Context) error) (lost bool, err error) {
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop() // also where f panics: nobody else could have the role until this process ends
	renewed := make(chan struct{})
	var bug error
	go func() {
		defer close(renewed)
		defer func() { // a role whose lease nobody renews must not go on
			if bug != nil {
				cancel(bug)
			}
		}()
		defer crash.Caught(&bug)
		if l.renew(renewing, name, term, sent) {
			cancel(ErrLost)
		}
	}()
	// Renewing goes on until f has returned, even when ctx has ended: until then f may still act.
	err = f(work)
	stop()
	<-renewed
	if bug != nil {
		return false, bug
	}
	if errors.Is(context.Cause(work), ErrLost) {
		return true, err
	}
	l.release(ctx, name, term)
	return false, err
}

// renew keeps the lease until ctx ends, and returns true once it is lost: refused, or not
// confirmed for so long that it may have expired, counted from when the last request was sent.
func (l *Leases) renew(ctx context.Context, name string, term int64, sent time.Time) (lost bool) {
	for pause := l.ttl * 3 / 10; ; {
		safe := sent.Add(l.ttl * 8 / 10)
		if retry.Sleep(ctx, min(pause, time.Until(safe))) != nil {
			return false
		}
		now := time.Now()
		if !now.Before(safe) {
			return true
		}
		try, stop := context.WithDeadline(ctx, safe)
		held, err := l.extend(try, name, term)
		stop()
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil && !held:
			return true
		case err == nil:
			sent, pause = now, l.ttl*3/10
		default:
			pause = l.ttl / 20 // the database may be back in time
		}
	}
}

// take returns the new term, or 0 if another holds the lease.
func (l *Leases) take(ctx context.Context, name string) (term int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.ttl)
	defer cancel()
	err = l.pool.QueryRow(ctx, `
		INSERT INTO ops.leases AS l (name, holder, term, expires_at)
		VALUES ($1, $2, 1, clock_timestamp() + $3)
		ON CONFLICT (name) DO UPDATE
		SET holder = excluded.holder, term = l.term + 1, expires_at = clock_timestamp() + $3
		WHERE l.expires_at <= clock_timestamp()
		RETURNING term`, name, l.holder, l.ttl).Scan(&term)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return term, err
}

// extend returns false if the lease is another's, or has expired and so may be any moment.
func (l *Leases) extend(ctx context.Context, name string, term int64) (bool, error) {
	tag, err := l.pool.Exec(ctx, `
		UPDATE ops.leases SET expires_at = clock_timestamp() + $4
		WHERE name = $1 AND holder = $2 AND term = $3 AND expires_at > clock_timestamp()`,
		name, l.holder, term, l.ttl)
	return tag.RowsAffected() == 1, err
}

// release lets the next one in at once; if it fails, the lease simply expires.
func (l *Leases) release(ctx context.Context, name string, term int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.ttl)
	defer cancel()
	if _, err := l.pool.Exec(ctx, `
		UPDATE ops.leases SET expires_at = '-infinity' WHERE name = $1 AND holder = $2 AND term = $3`,
		name, l.holder, term); err != nil {
		l.log.WarnContext(ctx, "lease not released, it will expire", "lease", name, "err", err)
	}
}

// Probe takes a lease of its own and takes it back in one message: nothing is left of it.
func (l *Leases) Probe(ctx context.Context) error {
	_, err := l.pool.Exec(ctx, fmt.Sprintf(`BEGIN;
		INSERT INTO ops.leases AS l (name, holder, term, expires_at) VALUES ('probe %s', '%[1]s', 1, clock_timestamp())
		ON CONFLICT (name) DO UPDATE SET term = l.term + 1, expires_at = clock_timestamp();
		ROLLBACK`, l.holder), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("probe leases: %w", err)
	}
	return nil
}
