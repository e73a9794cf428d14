package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

const startBar = 200 * time.Millisecond // beyond pg_ctl start

// benchStart measures how long a server with a private Postgres and NATS takes from its start until it is ready, on a folder whose
// log has many events. The reference is pg_ctl start of the same folder.
func benchStart(ctx context.Context, _ *lab, o options) error {
	dir, err := os.MkdirTemp("", "cloudbot-bench-start-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	h := &host{program: filepath.Join(dir, "cloudbot"), data: filepath.Join(dir, "data")}
	build := exec.CommandContext(ctx, "go", "build", "-o", dir, "./cmd/cloudbot", "./cmd/cloudbot-guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	events, err := h.fill(ctx, o.events)
	if err != nil {
		return err
	}
	var ours, theirs []time.Duration
	for range max(o.runs, 3) {
		took, err := h.pgCtl(ctx)
		if err != nil {
			return err
		}
		theirs = append(theirs, took)
		if took, err = h.serve(ctx, nil); err != nil {
			return err
		}
		ours = append(ours, took)
	}
	added := median(ours) - median(theirs)
	fmt.Println("\n| events | server is ready after | pg_ctl start | added | bar |")
	fmt.Println("|---:|---:|---:|---:|---|")
	fmt.Printf("| %d | %d ms | %d ms | **%d ms** | %d ms %s |\n", events, median(ours).Milliseconds(), median(theirs).Milliseconds(),
		added.Milliseconds(), startBar.Milliseconds(), verdict(added <= startBar))
	return nil
}

// host is a data folder with the program that runs on it.
type host struct{ program, data string }

// serve starts the server, calls use, stops the server and returns how long it took until it was ready.
func (h *host) serve(ctx context.Context, use func() error) (took time.Duration, err error) {
	cmd := exec.CommandContext(ctx, h.program, "serve")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Dir, cmd.Stderr = filepath.Dir(h.data), os.Stderr
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(h.data), "DATA_DIR=" + h.data, "PORT=0", "ADMIN_ADDR=127.0.0.1:0", "LOCAL_AGENT=stand-in",
		"LOG_LEVEL=" + os.Getenv("LOG_LEVEL"),
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	for took == 0 && lines.Scan() {
		if strings.Contains(lines.Text(), "is ready") {
			took = time.Since(begun)
		}
	}
	go func() {
		for lines.Scan() { //nolint:revive // the pipe must not fill
		}
	}()
	if took == 0 {
		err = errors.New("the server did not get ready")
	} else if use != nil {
		err = use()
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	return took, err
}

// fill makes a folder with a log of n events, read models that have them, and a stream that has them.
func (h *host) fill(ctx context.Context, n int) (events int, err error) {
	if _, err := h.serve(ctx, nil); err != nil { // makes the folder and the schema
		return 0, err
	}
	pg, err := embedded.StartPostgres(context.WithoutCancel(ctx), embedded.PostgresConfig{Dir: filepath.Join(h.data, "postgres")})
	if err != nil {
		return 0, err
	}
	defer pg.Close()
	pool, err := pgxpool.New(ctx, pg.URL())
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	store, err := postgres.Open(ctx, postgres.Config{Pool: postgres.Wrap(pool)})
	if err != nil {
		return 0, err
	}
	defer store.Close()
	if events, err = fillMix(ctx, store, n); err != nil {
		return 0, err
	}
	if err := projections.CatchUp(ctx, pool, store, slog.New(slog.DiscardHandler)); err != nil {
		return 0, err
	}
	store.Close()
	pool.Close()
	pg.Close()
	_, err = h.serve(ctx, func() error { return sleep(ctx, 2*time.Second+time.Duration(events)*12*time.Microsecond) }) // fills the stream
	return events, err
}

// pgCtl starts and stops the private Postgres by its own tool, as the user that owns its files.
func (h *host) pgCtl(ctx context.Context) (time.Duration, error) {
	data := filepath.Join(h.data, "postgres", "data")
	info, err := os.Stat(data)
	if err != nil {
		return 0, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	sockets, err := os.MkdirTemp("", "cb-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(sockets)
	if err := os.Chown(sockets, int(owner.Uid), int(owner.Gid)); err != nil {
		return 0, err
	}
	tool, err := exec.LookPath("pg_ctl")
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
		if len(found) == 0 {
			return 0, err
		}
		tool = found[len(found)-1]
	}
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, tool, append([]string{"-D", data, "-s", "-w", "-l", os.DevNull}, args...)...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("pg_ctl: %w: %s", err, out)
		}
		return nil
	}
	begun := time.Now()
	if err := run("-o", "-k "+sockets+" -c listen_addresses=''", "start"); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, run("-m", "fast", "stop")
}
