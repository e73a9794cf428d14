package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// streamsOfOne is how many event streams an account may have.
const streamsOfOne = 20

// writes is how many writes a row counts.
const writes = 300

// benchStreams measures how long an event takes from the request that causes it to every open event stream of its account, with
// one stream and with many, and what the server does while nothing happens.
func benchStreams(ctx context.Context, l *lab, o options) error {
	return inServer(ctx, l, func(s *server) error {
		fmt.Printf("\n| event streams | accounts | a write → each of its account's streams, p50 | p99 | CPU of the server a write | ÷ one stream | idle: transactions/s | idle: CPU | opened | a stream |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
		one := 0.0
		for _, streams := range []int{1, 1000, o.streams} {
			if err := s.streamsRow(ctx, l, streams, &one); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *server) streamsRow(ctx context.Context, l *lab, streams int, one *float64) error {
	accounts := (streams + streamsOfOne - 1) / streamsOfOne
	of, err := s.signedUp(ctx, l, accounts)
	if err != nil {
		return err
	}
	empty, err := s.holds(ctx)
	if err != nil {
		return err
	}
	open := make([][]*listener, accounts)
	began := time.Now()
	err = atOnce(ctx, 16, accounts, func(n int) error {
		for len(open[n]) < streamsOfOne && n*streamsOfOne+len(open[n]) < streams {
			in, err := of[n].listen(ctx)
			if err != nil {
				return err
			}
			open[n] = append(open[n], in)
		}
		return nil
	})
	defer func() {
		for _, in := range slices.Concat(open...) {
			in.Close()
		}
	}()
	if err != nil {
		return err
	}
	rate := float64(streams) / time.Since(began).Seconds()
	full, err := s.holds(ctx)
	s.saveHeld(ctx, fmt.Sprintf("streams-%d", streams))
	if err != nil {
		return err
	}
	for n := range min(writes, accounts) { // an account's first write reads its key
		if err := of[n].store(ctx, n, ""); err != nil {
			return err
		}
		for _, in := range open[n] {
			<-in.arrived
		}
	}
	idleCPU, idle, err := s.while(ctx, l, func() error { return sleep(ctx, 5*time.Second) })
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var took []time.Duration
	cpu, _, err := s.while(ctx, l, func() error {
		defer s.profile(ctx, fmt.Sprintf("streams-%d", streams))()
		for n := range writes {
			one, ins := of[n%accounts], open[n%accounts]
			began := time.Now()
			if err := one.store(ctx, n, "respond-async"); err != nil {
				return err
			}
			for _, in := range ins {
				select {
				case at, ok := <-in.arrived:
					if !ok {
						return errors.New("an event stream ended")
					}
					mu.Lock()
					took = append(took, at.Sub(began))
					mu.Unlock()
				case <-time.After(30 * time.Second):
					return errors.New("an event did not arrive within 30 s")
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(took)
	ms := func(percent int) float64 { return float64(took[len(took)*percent/100].Microseconds()) / 1e3 }
	used := cpu.Seconds() * 1e3 / writes
	if *one == 0 {
		*one = used
	}
	fmt.Printf("| %d | %d | %.1f ms | %.1f ms | %.2f ms | %.2f | %.0f | %.1f %% | %.0f/s | %.1f kB, %.1f goroutines |\n", streams, accounts, ms(50), ms(99),
		used, used / *one, idle/5, idleCPU.Seconds()/5*100, rate, kB(full.Live-empty.Live, streams), perSession(full.Goroutines-empty.Goroutines, streams))
	return nil
}

// profile saves what the server does in the next second, if profiles are wanted. Call wait before the work ends.
func (s *server) profile(ctx context.Context, name string) (wait func()) {
	dir := os.Getenv("CLOUDBOT_BENCH_PROFILES")
	if dir == "" {
		return func() {}
	}
	var done sync.WaitGroup
	done.Go(func() {
		if b, err := get(ctx, s.admin+"/debug/pprof/profile?seconds=1"); err == nil {
			_ = os.WriteFile(filepath.Join(dir, name+".pprof"), b, 0o600)
		}
	})
	return done.Wait
}

// saveHeld saves what the server holds, if profiles are wanted.
func (s *server) saveHeld(ctx context.Context, name string) {
	dir := os.Getenv("CLOUDBOT_BENCH_PROFILES")
	for _, kind := range []string{"heap", "goroutine"} {
		if b, err := get(ctx, s.admin+"/debug/pprof/"+kind); err == nil && dir != "" {
			_ = os.WriteFile(filepath.Join(dir, name+"."+kind), b, 0o600)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// while returns the server's CPU time and the database's transactions while do runs.
func (s *server) while(ctx context.Context, l *lab, do func() error) (cpu time.Duration, transactions float64, err error) {
	count := func() (n float64, err error) {
		err = l.pool.QueryRow(ctx, `SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database`).Scan(&n)
		return n, err
	}
	before, err := count()
	if err != nil {
		return 0, 0, err
	}
	used := processCPU(s.cmd.Process.Pid)
	if err := do(); err != nil {
		return 0, 0, err
	}
	cpu = processCPU(s.cmd.Process.Pid) - used
	after, err := count()
	return cpu, after - before, err
}
