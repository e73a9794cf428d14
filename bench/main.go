// Command bench measures the log against plain Postgres in the same run, because a figure of a
// shared machine means nothing alone: append against pgbench, replay against COPY, and a count of
// lost events. For a launch it measures what the server adds to EC2's own time, and for a write how long it
// waits until its caller can read it. It starts a private Postgres and prints Markdown.
//
//	go run ./bench              # everything
//	go run ./bench append       # or another name of the table in measurements.go
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// options are the sizes of the measurements.
type options struct {
	runs    int           // of each side, alternating; the median counts
	length  time.Duration // of one append run
	callers []int
	events  int // of the replay and of the loss test
	profile string

	launches int
	streams  int
	rows     int // of the instances that queries list
	scale    scaleOptions
	bridge   bridgeOptions
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(ctx, role, strings.Fields(os.Getenv(roleArgs))); err != nil {
			slog.Error("bench", "role", role, "err", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx); err != nil {
		slog.Error("bench", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	flag.IntVar(&o.runs, "runs", 3, "runs of each side; the median counts")
	flag.DurationVar(&o.length, "length", 3*time.Second, "length of one append run")
	flag.IntVar(&o.events, "events", 200_000, "events of the replay; half of them in the loss test")
	flag.IntVar(&o.launches, "launches", 50, "launches, one after the other")
	flag.IntVar(&o.rows, "rows", 1_000_000, "rows of the read model that queries list")
	flag.IntVar(&o.streams, "streams", 10_000, "event streams at a time, beside 1 and 1,000")
	o.scale.flags()
	o.bridge.flags()
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of the append runs to this file")
	one := flag.Int("callers", 0, "only this number of callers")
	flag.Parse()
	o.callers = []int{1, 16, 64, 256}
	if *one > 0 {
		o.callers = []int{*one}
	}
	// As the server is meant to run: the collector's share of a short append is large otherwise.
	debug.SetGCPercent(400)

	printSetting()
	wanted := flag.Args()
	if len(wanted) == 0 {
		wanted = names()
	}
	for _, name := range wanted {
		i := slices.IndexFunc(measurements, func(m measurement) bool { return m.name == name })
		if i < 0 {
			return fmt.Errorf("no measurement %q: choose from %s", name, strings.Join(names(), ", "))
		}
		if err := measurements[i].run(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// printSetting says what a reader needs to judge the figures.
func printSetting() {
	load := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = string(b[:min(len(b), 14)])
	}
	fmt.Printf("%s, %s, %d cores, load before the run: %s\n\n",
		time.Now().UTC().Format("2006-01-02 15:04"), runtime.Version(), runtime.NumCPU(), load)
}

// lab is a fresh Postgres with an empty log.
type lab struct {
	pg   *embedded.Postgres
	pool *pgxpool.Pool
}

func inLab(ctx context.Context, measure func(*lab) error) (err error) {
	dir, err := os.MkdirTemp("", "cloudbot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	pg, err := embedded.StartPostgres(context.WithoutCancel(ctx), embedded.PostgresConfig{
		Dir: filepath.Join(dir, "pg"), Logger: log, Settings: map[string]string{"max_connections": "320"},
	})
	if err != nil {
		return err
	}
	defer pg.Close()
	if err := migrations.Up(ctx, pg.URL(), log); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, pg.URL())
	if err != nil {
		return err
	}
	defer pool.Close()
	return measure(&lab{pg: pg, pool: pool})
}

func (l *lab) open(ctx context.Context) (*postgres.Store, error) {
	return postgres.Open(ctx, postgres.Config{Pool: postgres.Wrap(l.pool), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
}
