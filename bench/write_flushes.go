package main

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// flushBar is how many flushes of the write-ahead log a lone command may cause.
const flushBar = 2

// walCounts are Postgres' own counters.
type walCounts struct{ commits, flushes, bytes int64 }

func (l *lab) walCounts(ctx context.Context) (c walCounts, err error) {
	err = l.pool.QueryRow(ctx, `
		SELECT (SELECT sum(xact_commit) FROM pg_stat_database)::bigint, wal_sync, wal_bytes::bigint FROM pg_stat_wal`).Scan(&c.commits, &c.flushes, &c.bytes)
	return c, err
}

// benchFlushes counts what lone POSTs of a key cost beyond an idle server of the same time. All flushes count: those
// that a commit waits for, and those of the WAL writer.
func (s *server) benchFlushes(ctx context.Context, l *lab) error {
	const posts, pause = 30, 330 * time.Millisecond
	const late = 11 * time.Second // an idle backend reports its counts within ten seconds
	measure := func(post func(int) error) (walCounts, error) {
		before, err := l.walCounts(ctx)
		for i := 0; i < posts && err == nil; i++ {
			if err = post(i); err == nil {
				err = retry.Sleep(ctx, pause)
			}
		}
		if err == nil {
			err = retry.Sleep(ctx, late)
		}
		if err != nil {
			return walCounts{}, err
		}
		after, err := l.walCounts(ctx)
		return walCounts{after.commits - before.commits, after.flushes - before.flushes, after.bytes - before.bytes}, err
	}
	if err := s.signUp(ctx, "lone@example.com"); err != nil {
		return err
	}
	if err := retry.Sleep(ctx, late); err != nil {
		return err
	}
	idle, err := measure(func(int) error { return nil })
	if err != nil {
		return err
	}
	busy, err := measure(func(i int) error { return s.store(ctx, i, "") })
	if err != nil {
		return err
	}
	each := func(busy, idle int64) float64 { return float64(busy-idle) / posts }
	flushes := each(busy.flushes, idle.flushes)
	verdict := "met"
	if flushes > flushBar {
		verdict = "missed"
	}
	fmt.Printf("\n| a lone POST /api/user/api-keys, %d of them | commits | flushes | bar | WAL bytes |\n|---|---:|---:|---:|---:|\n", posts)
	fmt.Printf("| beyond the idle server, which flushed %d times | %.1f | %.1f | %d, %s | %.0f |\n", idle.flushes, each(busy.commits, idle.commits), flushes,
		flushBar, verdict, each(busy.bytes, idle.bytes))
	return nil
}
