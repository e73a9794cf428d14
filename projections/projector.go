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
	// Pages is where the projector reads while it is far behind the log, together with others. Nil: Feed alone.
	Pages    *Pages
	Progress *Progress
	Logger   *slog.Logger
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
	err = p.read(ctx, at, func(ctx context.Context, events []*Event) error {
		at, err := p.apply(ctx, events)
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

// poison marks an error that is the fault of an event: another try would fail too.
type poison struct{ err error }

func (e *poison) Error() string { return e.err.Error() }

func (e *poison) Unwrap() error { return e.err }

func isPoison(err error) bool {
	var p *poison
	return errors.As(err, &p)
}

// errGap says that events are missing between checkpoint and feed. Following again from the checkpoint repairs it.
var errGap = errors.New("the feed is ahead of the checkpoint")

// apply applies the events to the rows, moves the checkpoint in the same transaction and returns it. An event that cannot be applied
// is parked. If Postgres refuses a row, the events are applied in halves, until the poisonous one is alone.
func (p *Projector) apply(ctx context.Context, events []*Event) (at int64, err error) {
	at, err = p.applyOnce(ctx, events, nil)
	if !isPoison(err) {
		return at, err
	}
	if len(events) == 1 {
		return p.applyOnce(ctx, events, err)
	}
	half := len(events) / 2
	if _, err := p.apply(ctx, events[:half]); err != nil {
		return 0, err
	}
	return p.apply(ctx, events[half:])
}

// applyOnce applies the events by one transaction. With a reason it parks the one event.
func (p *Projector) applyOnce(ctx context.Context, events []*Event, reason error) (at int64, err error) {
	var f *folding
	err = pgx.BeginFunc(ctx, p.Pool, func(tx pgx.Tx) error {
		var parked map[string]bool
		if at, parked, err = begin(ctx, tx, p.Projection.Name); err != nil {
			return err
		}
		f = newFolding(p.Projection.Fold, parked)
		fresh, err := next(events, at)
		if err != nil || len(fresh) == 0 {
			return err
		}
		at = fresh[len(fresh)-1].Position
		if reason != nil {
			f.park(fresh[0], reason)
			return p.write(ctx, tx, f, at)
		}
		if err := f.load(ctx, tx, fresh); err != nil {
			return err
		}
		for _, e := range fresh {
			f.add(e)
		}
		return p.write(ctx, tx, f, at)
	})
	if err != nil {
		return 0, fmt.Errorf("apply to %s: %w", p.Projection.Name, err)
	}
	for _, s := range f.aside {
		p.report(ctx, s)
	}
	return at, nil
}

// next returns the events that follow position at. Events at or below it were applied before, by another
// replica or as duplicates.
func next(events []*Event, at int64) (fresh []*Event, err error) {
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

// write writes what was folded, what was parked and the checkpoint, in one round trip.
func (p *Projector) write(ctx context.Context, tx pgx.Tx, f *folding, at int64) error {
	var b pgx.Batch
	rows, changes := f.save()
	if changes {
		b.Queue(rows.SQL, rows.Args...)
	}
	name := p.Projection.Name
	if len(f.freed) > 0 {
		b.Queue(`DELETE FROM read.parked WHERE projection = $1 AND stream = ANY ($2)`, name, f.freed)
	}
	for _, s := range f.aside {
		b.Queue(insertParked, name, s.event.Position, s.event.Stream.String(), s.why.Error())
	}
	b.Queue(`UPDATE read.checkpoints SET position = $2 WHERE projection = $1`, name, at)
	results := tx.SendBatch(ctx, &b)
	if changes {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return blame(err)
		}
	}
	return results.Close()
}

const insertParked = `INSERT INTO read.parked (projection, position, stream, error) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`

// errBehindParked parks what follows a parked event in its stream.
var errBehindParked = errors.New("an earlier event of this stream is parked")

// report says that an event was parked.
func (p *Projector) report(ctx context.Context, s setAside) {
	e := s.event
	p.Logger.ErrorContext(ctx, "event parked: run `cloudbot replay --parked` once its cause is fixed",
		"projection", p.Projection.Name, "position", e.Position, "stream", e.Stream.String(), "type", e.Type, "err", s.why)
	if p.Parked != nil {
		p.Parked(p.Projection.Name)
	}
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

// blame marks err as poison if it is an event's own fault: its data breaks a constraint or a type.
func blame(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "23") {
		return &poison{err}
	}
	return err
}
