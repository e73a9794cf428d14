package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// benchReplay compares reading and decoding the whole log with Postgres' own COPY of the same
// rows, thrown away as they arrive, and then how fast a read model is rebuilt.
func benchReplay(ctx context.Context, l *lab, o options) error {
	store, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := fill(ctx, store, o.events); err != nil {
		return err
	}
	if _, err := l.pool.Exec(ctx, `VACUUM ANALYZE log.entries`); err != nil {
		return err
	}
	var ours, theirs []float64
	for range o.runs {
		copied, err := l.copyOut(ctx)
		if err != nil {
			return err
		}
		begun, n := time.Now(), 0
		for _, err := range store.ReadAll(ctx, 0) {
			if err != nil {
				return err
			}
			n++
		}
		if n != o.events {
			return fmt.Errorf("%d events of %d", n, o.events)
		}
		ours = append(ours, float64(n)/time.Since(begun).Seconds())
		theirs = append(theirs, float64(o.events)/copied.Seconds())
	}
	fmt.Println("\n| events | ReadAll, decoded | COPY … TO STDOUT | ratio | bar |")
	fmt.Println("|---:|---:|---:|---:|---:|")
	fmt.Printf("| %d | %.0f/s | %.0f/s | **%s** | 0.4 |\n", o.events, median(ours), median(theirs), ratio(median(ours), median(theirs)))
	return benchRebuild(ctx, o)
}

func (l *lab) copyOut(ctx context.Context) (time.Duration, error) {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	begun := time.Now()
	_, err = conn.Conn().PgConn().CopyTo(ctx, io.Discard, `COPY (SELECT position, version, time, schema, stream, type, id, data, meta FROM log.entries) TO STDOUT`)
	return time.Since(begun), err
}

// fill appends n events in large appends.
func fill(ctx context.Context, store eventstore.Store, n int) error {
	for n > 0 {
		var a eventstore.Append
		for range min(n, eventstore.MaxAppendEvent) {
			a.Writes = append(a.Writes, newCaller().next().Writes...)
		}
		if _, err := store.Append(ctx, a); err != nil {
			return err
		}
		n -= len(a.Writes)
	}
	return nil
}
