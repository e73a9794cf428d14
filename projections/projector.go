package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Feed delivers the log: every event with a position above after, in order and in batches, until ctx ends or
// fn returns an error.
type Feed interface {
	Follow(ctx context.Context, after int64, fn func(ctx context.Context, events []eventstore.Event) error) error
}

// Projector keeps one projection's rows at the head of the log. Any number of replicas may run the same
// projection: the checkpoint decides which of them applies an event.
type Projector struct {
	Projection Projection
	Pool       DB
	Feed       Feed
	Progress   *Progress
	Logger     *slog.Logger
	// Parked is called when an event is parked, for an alert. Nil: no call.
	Parked func(projection string)
}

// Run follows the log until ctx ends. It survives the loss of Postgres or the feed.
func (p *Projector) Run(ctx context.Context) error {
	p.Progress.Set(p.Projection.Name, 0) // from here on, Wait waits for this projection too
	backoff := retry.Backoff{First: 50 * time.Millisecond, Max: 5 * time.Second}
	for ctx.Err() == nil {
		started := time.Now()
		err := p.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		p.Logger.WarnContext(ctx, "projection interrupted, resuming", "projection", p.Projection.Name, "err", err)
		if time.Since(started) > 10*time.Second {
			backoff.Reset()
		}
		if backoff.Sleep(ctx) != nil {
			return nil
		}
	}
	return nil
}

func (p *Projector) follow(ctx context.Context) error {
	at, err := p.checkpoint(ctx)
	if err != nil {
		return err
	}
	p.Progress.Set(p.Projection.Name, at)
	var applied atomic.Int64
	applied.Store(at) // perhaps a moment ago, by an earlier process
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	go func() {
		defer crash.Logged(p.Logger, "projection "+p.Projection.Name)
		p.confirm(ctx, &applied, lost)
	}()
	err = p.Feed.Follow(ctx, at, func(ctx context.Context, events []eventstore.Event) error {
		at, err := p.apply(ctx, events, false)
		if isPoison(err) {
			at, err = p.applySingly(ctx, events)
		}
		if err != nil {
			return err
		}
		applied.Store(at)
		p.Progress.Set(p.Projection.Name, at)
		return nil
	})
	if errors.Is(context.Cause(ctx), errLost) {
		return errLost
	}
	return err
}

// errLost says that Postgres crashed before it had written the latest commits to the disk.
var errLost = errors.New("the read model has lost its latest events")

// confirmAfter is when a commit is certainly on the disk, if Postgres did not crash: more than three times its wal_writer_delay,
// which is 200 ms.
const confirmAfter = 2 * time.Second

// confirm looks whether commits have survived, and calls lost if not. Without it, a read model whose last commit was lost would
// lack it until another event comes.
func (p *Projector) confirm(ctx context.Context, applied *atomic.Int64, lost func(error)) {
	for seen, confirmed := int64(0), int64(0); retry.Sleep(ctx, confirmAfter) == nil; seen = applied.Load() {
		if seen <= confirmed {
			continue
		}
		switch at, err := p.position(ctx); {
		case err != nil: // Postgres is away: look again
		case at < seen:
			lost(errLost)
			return
		default:
			confirmed = seen
		}
	}
}

// checkpoint returns the checkpoint, and makes it if there is none.
func (p *Projector) checkpoint(ctx context.Context) (int64, error) {
	if _, err := p.Pool.Exec(ctx, `INSERT INTO read.checkpoints VALUES ($1, 0) ON CONFLICT DO NOTHING`, p.Projection.Name); err != nil {
		return 0, fmt.Errorf("make checkpoint of %s: %w", p.Projection.Name, err)
	}
	return p.position(ctx)
}

// position returns the checkpoint; 0 if there is none.
func (p *Projector) position(ctx context.Context) (at int64, err error) {
	err = p.Pool.QueryRow(ctx, `SELECT coalesce((SELECT position FROM read.checkpoints WHERE projection = $1), 0)`, p.Projection.Name).Scan(&at)
	if err != nil {
		return 0, fmt.Errorf("read checkpoint of %s: %w", p.Projection.Name, err)
	}
	return at, nil
}

// poison marks an error that is the event's own fault: another try would fail too.
type poison struct {
	event eventstore.Event
	err   error
}

func (e *poison) Error() string { return fmt.Sprintf("event %d: %v", e.event.Position, e.err) }

func (e *poison) Unwrap() error { return e.err }

func isPoison(err error) bool {
	var p *poison
	return errors.As(err, &p)
}

// errGap says that events are missing between checkpoint and feed. Following again from the checkpoint repairs it.
var errGap = errors.New("the feed is ahead of the checkpoint")

// apply applies the events to the rows, moves the checkpoint in the same transaction and returns it. With park,
// an event that cannot be applied is parked instead of failing the rest.
func (p *Projector) apply(ctx context.Context, events []eventstore.Event, park bool) (at int64, err error) {
	name := p.Projection.Name
	err = pgx.BeginFunc(ctx, p.Pool, func(tx pgx.Tx) error {
		var parked map[string]bool
		if at, parked, err = begin(ctx, tx, name); err != nil {
			return err
		}
		events, err := next(events, at)
		if err != nil || len(events) == 0 {
			return err
		}
		at = events[len(events)-1].Position
		return p.applyAll(ctx, tx, events, parked, park)
	})
	if err != nil {
		return 0, fmt.Errorf("apply to %s: %w", name, err)
	}
	return at, nil
}

// next returns the events that follow position at. Events at or below it were applied before, by another
// replica or as duplicates.
func next(events []eventstore.Event, at int64) (fresh []eventstore.Event, err error) {
	for _, e := range events {
		switch want := at + int64(len(fresh)) + 1; {
		case e.Position == want:
			fresh = append(fresh, e)
		case e.Position > want:
			return nil, errGap
		}
	}
	return fresh, nil
}

func (p *Projector) applyAll(ctx context.Context, tx pgx.Tx, events []eventstore.Event, parked map[string]bool, park bool) error {
	batch := newBatch(p.Projection)
	for _, e := range events {
		if parked[e.Stream.String()] && lastWord(e) {
			if err := unpark(ctx, tx, p.Projection.Name, e.Stream); err != nil {
				return err
			}
			delete(parked, e.Stream.String())
		}
		if parked[e.Stream.String()] {
			if err := p.park(ctx, tx, e, errBehindParked); err != nil {
				return err
			}
			continue
		}
		if err := batch.add(e); err != nil {
			if !park {
				return err
			}
			if err := p.park(ctx, tx, e, err); err != nil {
				return err
			}
		}
	}
	last := events[len(events)-1]
	const moved = `UPDATE read.checkpoints SET position = $2 WHERE projection = $1`
	if !park {
		return batch.send(ctx, tx, queued{last, Statement{moved, []any{p.Projection.Name, last.Position}}})
	}
	if _, err := tx.Exec(ctx, moved, p.Projection.Name, last.Position); err != nil {
		return err
	}
	// A single event: a savepoint keeps the checkpoint's transaction alive when its statements fail.
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return batch.send(ctx, tx) })
	if isPoison(err) {
		return p.park(ctx, tx, events[0], err)
	}
	return err
}

// applySingly applies each event in a transaction of its own, so that a poisonous one is parked alone.
func (p *Projector) applySingly(ctx context.Context, events []eventstore.Event) (at int64, err error) {
	for i := range events {
		if at, err = p.apply(ctx, events[i:i+1], true); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// errBehindParked parks what follows a parked event in its stream.
var errBehindParked = errors.New("an earlier event of this stream is parked")

func (p *Projector) park(ctx context.Context, tx pgx.Tx, e eventstore.Event, why error) error {
	_, err := tx.Exec(ctx, `INSERT INTO read.parked (projection, position, stream, error) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		p.Projection.Name, e.Position, e.Stream.String(), why.Error())
	if err != nil {
		return err
	}
	p.Logger.ErrorContext(ctx, "event parked: run `cloudbot replay --parked` once its cause is fixed",
		"projection", p.Projection.Name, "position", e.Position, "stream", e.Stream.String(), "type", e.Type, "err", why)
	if p.Parked != nil {
		p.Parked(p.Projection.Name)
	}
	return nil
}

// begin locks the checkpoint and returns it with the streams that have parked events, in one round trip. The commit will not
// wait for the disk: rows and checkpoint are committed together, so after a crash of Postgres both are older, and what is
// missing is applied again.
func begin(ctx context.Context, tx pgx.Tx, name string) (at int64, parked map[string]bool, err error) {
	var b pgx.Batch
	b.Queue(`SET LOCAL search_path = read`)
	b.Queue(`SET LOCAL synchronous_commit = off`)
	b.Queue(`SELECT position FROM read.checkpoints WHERE projection = $1 FOR UPDATE`, name).QueryRow(func(row pgx.Row) error { return row.Scan(&at) })
	b.Queue(`SELECT DISTINCT stream FROM read.parked WHERE projection = $1`, name).Query(func(rows pgx.Rows) error {
		streams, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, s := range streams {
			if parked == nil {
				parked = make(map[string]bool, len(streams))
			}
			parked[s] = true
		}
		return err
	})
	err = tx.SendBatch(ctx, &b).Close()
	return at, parked, err
}

// batch gathers the statements of several events for one round trip.
type batch struct {
	projection Projection
	pgx        pgx.Batch
	origin     []eventstore.Event // of each statement
	folding    []eventstore.Event // to be folded by send
}

func newBatch(p Projection) *batch { return &batch{projection: p} }

func (b *batch) add(e eventstore.Event) error {
	if e.Damage != nil {
		return &poison{e, fmt.Errorf("it cannot be read: %w", e.Damage)}
	}
	if f := b.projection.Fold; f != nil {
		if e.Stream.Aggregate == f.Aggregate {
			b.folding = append(b.folding, e)
		}
		return nil
	}
	statements, err := b.projection.Apply(e)
	if err != nil {
		return &poison{e, err}
	}
	for _, s := range statements {
		b.pgx.Queue(s.SQL, s.Args...)
		b.origin = append(b.origin, e)
	}
	return nil
}

// queued is a statement with the event that it is for.
type queued struct {
	event eventstore.Event
	Statement
}

// send sends the statements, and then more of them.
func (b *batch) send(ctx context.Context, tx pgx.Tx, more ...queued) error {
	if len(b.folding) > 0 {
		s, changes, err := b.projection.Fold.statement(ctx, tx, b.folding)
		if err != nil {
			return err
		}
		if changes {
			b.pgx.Queue(s.SQL, s.Args...)
			b.origin = append(b.origin, b.folding[len(b.folding)-1])
		}
	}
	for _, q := range more {
		b.pgx.Queue(q.SQL, q.Args...)
		b.origin = append(b.origin, q.event)
	}
	if b.pgx.Len() == 0 {
		return nil
	}
	results := tx.SendBatch(ctx, &b.pgx)
	for _, e := range b.origin {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return blame(e, err)
		}
	}
	return results.Close()
}

// blame marks err as poison if it is the event's own fault: its data breaks a constraint or a type.
func blame(e eventstore.Event, err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "23") {
		return &poison{e, err}
	}
	return err
}
