package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/projections"
)

// The bars of a catch-up.
const (
	catchUpBar   = 50_000 // events a second
	catchUpBytes = 250    // MB of the process
)

// benchCatchUp measures how fast all read models follow a log that is far ahead of them, as after a bulk append or a restore, in
// this process, with their backends beside it. The reference is one COPY of the same events out of the log.
func benchCatchUp(ctx context.Context, l *lab, o options) error {
	store, events, err := l.filled(ctx, o.events)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := l.settleDown(ctx); err != nil {
		return err
	}
	copied, err := l.copyOut(ctx)
	if err != nil {
		return err
	}
	debug.SetGCPercent(100) // as in a server
	debug.FreeOSMemory()
	resetPeak()
	stop, err := profiled(o)
	if err != nil {
		return err
	}
	defer stop()
	before, err := l.backends(ctx)
	if err != nil {
		return err
	}
	begun, own := time.Now(), ownCPU()
	if err := projections.CatchUp(ctx, l.pool, store, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	took, cpu := time.Since(begun), ownCPU()-own
	server, err := l.backends(ctx)
	if err != nil {
		return err
	}
	server -= before
	peak := peakMB()
	bytes, err := l.tableBytes(ctx)
	if err != nil {
		return err
	}
	rate, reference := float64(events)/took.Seconds(), float64(events)/copied.Seconds()
	fmt.Println("\n| events | all read models | COPY … TO STDOUT | ratio | process, peak MB | client µs an event | backends µs | read models, B an event | log, B an event | bars |")
	fmt.Println("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
	fmt.Printf("| %d | **%.0f/s** | %.0f/s | %s | **%d** | %.1f | %.1f | %d | %d | %d/s %s, %d MB %s |\n", events, rate, reference, ratio(rate, reference), peak,
		float64(cpu.Microseconds())/float64(events), float64(server.Microseconds())/float64(events), bytes["read"]/int64(events), bytes["log"]/int64(events),
		catchUpBar, verdict(rate >= catchUpBar), catchUpBytes, verdict(peak <= catchUpBytes))
	return nil
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

// tableBytes returns the sizes of the schemas' tables on the disk, indexes included.
func (l *lab) tableBytes(ctx context.Context) (map[string]int64, error) {
	rows, err := l.pool.Query(ctx, `SELECT n.nspname, c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('read', 'log') AND c.relkind = 'r' ORDER BY 3 DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	sizes := map[string]int64{}
	for rows.Next() {
		var schema, table string
		var size int64
		if err := rows.Scan(&schema, &table, &size); err != nil {
			return nil, err
		}
		sizes[schema] += size
		sizes[schema+"."+table] += size
	}
	return sizes, rows.Err()
}

// resetPeak makes the kernel count this process's peak of memory from now on.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakMB returns the peak of this process's memory.
func peakMB() int { return peakOf(os.Getpid()) }

func peakOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb >> 10
		}
	}
	return 0
}

// profiled writes a CPU profile until the returned function is called, if the user wants one.
func profiled(o options) (stop func(), err error) {
	if o.profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(o.profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}
