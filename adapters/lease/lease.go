// Package lease lets one process at a time run a named role, by a row in Postgres that expires unless
// renewed. Only the database's clock compares times. A holder stops its role before the lease can have
// expired there, but a process that was frozen may write a little later. The target of those writes must
// refuse stale ones, as the log's version check does.
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

// DB lists the methods of a connection pool that leases use. Give them a pool of their own: behind the
// queries of a busy server, a renewal would come too late.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Config configures leases.
type Config struct {
	Pool   DB            // required; its database must have been migrated
	Logger *slog.Logger  // nil: silent
	TTL    time.Duration // how long a dead holder blocks the role; 0: 5 s. Holders renew at 3/10 of it.
}

// Leases takes leases for this process.
type Leases struct {
	pool   DB
	log    *slog.Logger
	ttl    time.Duration
	holder string
}

// New returns leases for one holder: two values never hold the same lease at the same time.
func New(cfg Config) *Leases {
	l := &Leases{pool: cfg.Pool, log: cfg.Logger, ttl: cfg.TTL, holder: ulid.Make().String()}
	l.log = cmp.Or(l.log, slog.New(slog.DiscardHandler))
	l.ttl = cmp.Or(l.ttl, 5*time.Second)
	return l
}

// Clear drops all leases, so that the roles of a crashed process can be taken immediately. Call it only if
// no other process can be using the database.
func (l *Leases) Clear(ctx context.Context) error {
	if _, err := l.pool.Exec(ctx, `UPDATE ops.leases SET expires_at = now()`); err != nil {
		return fmt.Errorf("clear leases: %w", err)
	}
	return nil
}

// Hold waits for the lease and runs f while it holds it. If the lease is lost, f's ctx ends with cause
// ErrLost; Hold waits for f to return, then for the lease, and runs f again. Otherwise Hold releases the
// lease when f returns, and returns f's error. When ctx ends, Hold returns f's error, or ctx's error if f
// was not running.
func (l *Leases) Hold(ctx context.Context, name string, f func(context.Context) error) error {
	for {
		sent := time.Now()
		term, err := l.take(ctx, name)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("lease %s: %w", name, ctx.Err())
		case err != nil:
			l.log.WarnContext(ctx, "taking a lease failed, will retry", "lease", name, "err", err)
		case term > 0:
			l.log.InfoContext(ctx, "lease taken", "lease", name, "term", term)
			lost, err := l.while(ctx, name, term, sent, f)
			if !lost {
				return err
			}
			l.log.WarnContext(ctx, "lease lost", "lease", name, "term", term, "err", err)
		}
		// Another process has it, or the database is unavailable. Jitter spreads the tries.
		_ = retry.Sleep(ctx, l.ttl/10+rand.N(l.ttl/10))
	}
}

// while runs f under the lease and reports whether the lease was lost meanwhile.
func (l *Leases) while(ctx context.Context, name string, term int64, sent time.Time, f func(context.Context) error) (lost bool, err error) {
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop() // also when f panics: otherwise no other process could take the role until this one ends
	renewed := make(chan struct{})
	var bug error
	go func() {
		defer close(renewed)
		defer func() { // a role whose lease is no longer renewed must stop
			if bug != nil {
				cancel(bug)
			}
		}()
		defer crash.Caught(&bug)
		if l.renew(renewing, name, term, sent) {
			cancel(ErrLost)
		}
	}()
	// The lease is renewed until f has returned, even after ctx has ended: until then f may still write.
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

// renew renews the lease until ctx ends, and returns true when the lease is lost: the database refused the
// renewal, or has not confirmed one for so long that the lease may have expired. That time is counted from
// when the last confirmed request was sent.
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

// take returns the new term, or 0 if another process holds the lease.
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

// extend returns false if another process holds the lease, or if it has expired, so that one may take it.
func (l *Leases) extend(ctx context.Context, name string, term int64) (bool, error) {
	tag, err := l.pool.Exec(ctx, `
		UPDATE ops.leases SET expires_at = clock_timestamp() + $4
		WHERE name = $1 AND holder = $2 AND term = $3 AND expires_at > clock_timestamp()`,
		name, l.holder, term, l.ttl)
	return tag.RowsAffected() == 1, err
}

// release lets another process take the role immediately; if it fails, the lease expires.
func (l *Leases) release(ctx context.Context, name string, term int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.ttl)
	defer cancel()
	if _, err := l.pool.Exec(ctx, `
		UPDATE ops.leases SET expires_at = '-infinity' WHERE name = $1 AND holder = $2 AND term = $3`,
		name, l.holder, term); err != nil {
		l.log.WarnContext(ctx, "lease not released, it will expire", "lease", name, "err", err)
	}
}

// Probe takes a lease of its own and rolls it back in one message, so nothing is left behind.
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
