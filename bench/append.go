package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bar returns the ratio to pgbench that the append path should reach.
func bar(callers int) float64 {
	return map[int]float64{1: 1, 16: 1.5, 64: 4, 256: 6}[callers]
}

// benchAppend compares appends with pgbench's single-row INSERT of the same payload into a plain
// table with an identity key, taking turns.
func benchAppend(ctx context.Context, l *lab, o options) error {
	if _, err := l.pool.Exec(ctx, `CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data json)`); err != nil {
		return err
	}
	script := filepath.Join(os.TempDir(), fmt.Sprintf("cloudbot-bench-%d.sql", os.Getpid()))
	if err := os.WriteFile(script, []byte("INSERT INTO plain (data) VALUES ('"+payload+"');\n"), 0o644); err != nil {
		return err
	}
	defer os.Remove(script)
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println("| callers | append/s | p50 | p99 | pgbench -M prepared | ratio | bar | backend µs | client µs | WAL bytes |")
	fmt.Println("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, n := range o.callers {
		var ours, prepared []float64
		var p50, p99 []time.Duration
		var server, client, wal []float64
		for range o.runs {
			p, err := l.pgbench(ctx, script, n, o.length)
			if err != nil {
				return err
			}
			r, err := l.append(ctx, n, o.length)
			if err != nil {
				return err
			}
			prepared, ours = append(prepared, p), append(ours, r.rate)
			p50, p99 = append(p50, r.p50), append(p99, r.p99)
			server, client, wal = append(server, r.server), append(client, r.client), append(wal, r.wal)
		}
		verdict := "missed"
		if median(ours)/median(prepared) >= bar(n) {
			verdict = "met"
		}
		fmt.Printf("| %d | %.0f | %s | %s | %.0f | **%s** | %.1f, %s | %.1f | %.1f | %.0f |\n", n, median(ours),
			median(p50).Round(10*time.Microsecond), median(p99).Round(10*time.Microsecond),
			median(prepared), ratio(median(ours), median(prepared)), bar(n), verdict, median(server), median(client), median(wal))
	}
	return nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

func (l *lab) pgbench(ctx context.Context, script string, clients int, length time.Duration) (float64, error) {
	if err := l.settleDown(ctx); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(l.pg.BinDir(), "pgbench"), "-n", "-M", "prepared", "-f", script,
		"-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(int(length.Seconds())), l.pg.URL())
	out, err := cmd.CombinedOutput()
	m := tps.FindSubmatch(out)
	if err != nil || m == nil {
		return 0, fmt.Errorf("pgbench finished nothing: %v: %s", err, out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// append runs n callers, each waiting for its outcome before the next.
func (l *lab) append(ctx context.Context, n int, length time.Duration) (r appendRun, err error) {
	if err := l.settleDown(ctx); err != nil {
		return r, err
	}
	store, err := l.open(ctx)
	if err != nil {
		return r, err
	}
	defer store.Close()
	backend, err := l.backend(ctx)
	if err != nil {
		return r, err
	}
	wal, err := l.wal(ctx)
	if err != nil {
		return r, err
	}
	server, client := onCPU(backend), ownCPU()
	var stop atomic.Bool
	var failed atomic.Pointer[error]
	latencies := make([][]time.Duration, n)
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range n {
		wg.Go(func() {
			c := newCaller()
			for !stop.Load() {
				a := c.next()
				at := time.Now()
				if _, err := store.Append(ctx, a); err != nil {
					failed.Store(&err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(at))
			}
		})
	}
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	wg.Wait()
	took := time.Since(begun)
	if err := failed.Load(); err != nil {
		return r, *err
	}
	server, client = onCPU(backend)-server, ownCPU()-client
	written, err := l.wal(ctx)
	if err != nil {
		return r, err
	}
	lat := slices.Concat(latencies...)
	slices.Sort(lat)
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(len(lat)) }
	return appendRun{
		rate: float64(len(lat)) / took.Seconds(), p50: lat[len(lat)/2], p99: lat[len(lat)*99/100],
		server: each(server), client: each(client), wal: float64(written-wal) / float64(len(lat)),
	}, nil
}

// appendRun is what one run showed.
type appendRun struct {
	rate           float64 // appends a second
	p50, p99       time.Duration
	server, client float64 // processor time an append in µs: of the committing backend, of all of this process
	wal            float64 // bytes an append
}

// wal is the number of bytes in the write-ahead log.
func (l *lab) wal(ctx context.Context) (bytes int64, err error) {
	err = l.pool.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&bytes)
	return bytes, err
}

// backend is the process behind the store's committing connection.
func (l *lab) backend(ctx context.Context) (pid int, err error) {
	err = l.pool.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE application_name = 'cloudbot append' ORDER BY backend_start DESC LIMIT 1`).Scan(&pid)
	return pid, err
}

// onCPU is the processor time a process of one thread has had.
func onCPU(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	ns, _, _ := strings.Cut(string(b), " ")
	n, _ := strconv.ParseInt(ns, 10, 64)
	return time.Duration(n)
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// settleDown writes a checkpoint, so that the run before does not burden this one.
func (l *lab) settleDown(ctx context.Context) error {
	_, err := l.pool.Exec(ctx, `CHECKPOINT`)
	return err
}

func median[T int | float64 | time.Duration](v []T) T {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
