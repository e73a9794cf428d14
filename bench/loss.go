package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// benchLoss has two replicas append while a reader follows on "position > cursor", and counts
// what the reader missed.
func benchLoss(ctx context.Context, l *lab, o options) error {
	const callers = 32 // of each replica
	target := int64(o.events / 2)
	var begun, acked atomic.Int64
	var failed atomic.Pointer[error]
	writing, finished := context.WithCancel(ctx)
	defer finished()

	reader, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	var seen, gaps, cursor int64
	tail := make(chan error, 1)
	go func() {
		for last := false; ; last = writing.Err() != nil {
			for e, err := range reader.ReadAll(ctx, cursor) {
				if err != nil {
					tail <- err
					return
				}
				gaps += e.Position - cursor - 1
				cursor = e.Position
				seen++
			}
			if last {
				tail <- nil
				return
			}
		}
	}()
	start := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		replica, err := l.open(ctx)
		if err != nil {
			return err
		}
		defer replica.Close()
		for range callers {
			wg.Go(func() {
				c := newCaller()
				for begun.Add(1) <= target {
					if _, err := replica.Append(ctx, c.next()); err != nil {
						failed.Store(&err)
						return
					}
					acked.Add(1)
				}
			})
		}
	}
	wg.Wait()
	took := time.Since(start)
	finished()
	if err := <-tail; err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	fmt.Println("\n| replicas | appended | read by the tail | gaps | lost | append/s |")
	fmt.Println("|---:|---:|---:|---:|---:|---:|")
	fmt.Printf("| 2 | %d | %d | %d | **%d** | %.0f |\n", acked.Load(), seen, gaps, acked.Load()-seen, float64(acked.Load())/took.Seconds())
	if acked.Load() != seen || gaps != 0 {
		return fmt.Errorf("%d events lost, %d gaps", acked.Load()-seen, gaps)
	}
	return nil
}
