// Package embedded runs the servers that the control plane needs if the operator has not provided them: a private
// Postgres from the installed binaries, and NATS inside the process. Both keep their files in a data folder and stop
// when the process ends, even if it is killed.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresConfig configures a private Postgres.
type PostgresConfig struct {
	Dir      string            // data folder, created if missing; required
	BinDir   string            // folder of initdb and postgres; "": PATH, then /usr/lib/postgresql, newest first
	Logger   *slog.Logger      // nil: silent
	Settings map[string]string // override the built-in settings; nil: none
	// Ephemeral trades safety against crashes for speed: for tests only.
	Ephemeral bool
}

// Postgres is a running private server. It is reachable only through its socket, in a folder that is closed to other
// users.
type Postgres struct {
	bin     string
	dir     string // may differ from the configured one; see place
	sockets string
	log     *slog.Logger
	owner   *syscall.Credential // nil: the same user as this process
	home    *folderLock         // holds the flock on dir
	cmd     *exec.Cmd
	exited  chan struct{} // closed once the server is gone
	stop    func() error  // once
}

const (
	postgresUser  = "cloudbot"
	postgresDB    = "cloudbot"
	postgresPort  = "5432" // only names the socket; no TCP port is opened
	startPatience = 60 * time.Second
	stopPatience  = 20 * time.Second
	oldestVersion = 15
)

// StartPostgres starts the server of cfg.Dir and returns when it accepts connections. The first time it creates the
// server's files. The server stops when ctx ends, on Close, and when this process dies. A server left behind by a
// killed process is stopped first. Two processes cannot share a folder.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (_ *Postgres, err error) {
	p := &Postgres{log: cfg.Logger, exited: make(chan struct{})}
	p.log = cmp.Or(p.log, slog.New(slog.DiscardHandler))
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil || cfg.Dir == "" {
		return nil, fmt.Errorf("private postgres: data folder %q: not a folder name", cfg.Dir)
	}
	if p.owner, err = unprivileged(); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	if p.dir, err = p.place(dir); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	if p.home, err = lockFolder(p.dir); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	defer func() {
		if err != nil {
			p.home.Close()
		}
	}()
	if p.bin, err = findBinaries(cfg.BinDir, p.majorOnDisk()); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	if err := p.evict(ctx); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	if err := p.initdb(ctx, cfg.Ephemeral); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	if err := p.makeSockets(); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	if err := p.launch(cfg); err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	context.AfterFunc(ctx, func() { p.stop() })
	return p, nil
}

// URL returns the connection string of the server's one database, for libpq and pgx.
func (p *Postgres) URL() string { return p.urlOf(postgresDB) }

// BinDir returns the folder of the Postgres programs in use.
func (p *Postgres) BinDir() string { return p.bin }

// Gone is closed when the server has ended for any reason.
func (p *Postgres) Gone() <-chan struct{} { return p.exited }

// Close stops the server and waits for its end: it closes connections and writes a checkpoint.
func (p *Postgres) Close() error { return p.stop() }

func (p *Postgres) urlOf(db string) string {
	q := url.Values{"host": {p.sockets}, "port": {postgresPort}, "user": {postgresUser}, "sslmode": {"disable"}}
	return "postgres:///" + db + "?" + q.Encode()
}

func (p *Postgres) data() string    { return filepath.Join(p.dir, "data") }
func (p *Postgres) logFile() string { return filepath.Join(p.dir, "postgres.log") }

// run prepares a program to run as the server's user. It is killed when this process dies.
func (p *Postgres) run(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{
		"PATH=" + p.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + p.dir,
		// A backend keeps its few MB of memory. Otherwise glibc returns them to the system after every batch of
		// appends and requests them for the next, which costs a tenth of its time or more.
		"MALLOC_TOP_PAD_=4194304", "MALLOC_TRIM_THRESHOLD_=16777216",
	}
	// Its own process group: a Ctrl-C in the terminal must reach only us, so that we stop everything in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner, Setpgid: true, Pdeathsig: syscall.SIGINT}
	return cmd
}

func (p *Postgres) majorOnDisk() string {
	b, _ := os.ReadFile(filepath.Join(p.data(), "PG_VERSION"))
	return strings.TrimSpace(string(b))
}

// initdb creates the data files. They get their final name only when complete, so that an interrupted start is
// repeated.
func (p *Postgres) initdb(ctx context.Context, ephemeral bool) error {
	if p.majorOnDisk() != "" {
		return nil
	}
	half := p.data() + ".new"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	args := []string{"-D", half, "-U", postgresUser, "-A", "trust", "-E", "UTF8", "--locale=C"}
	if ephemeral {
		args = append(args, "--no-sync")
	}
	var out []byte
	var err error
	onOwnThread(func() { out, err = p.run("initdb", args...).CombinedOutput() })
	if err != nil {
		return fmt.Errorf("initdb in %s: %w: %s", p.dir, err, lastLine(string(out)))
	}
	if err := os.Rename(half, p.data()); err != nil {
		return err
	}
	p.log.InfoContext(ctx, "private postgres created", "dir", p.dir, "binaries", p.bin)
	return nil
}

// launch starts the server and watches it.
func (p *Postgres) launch(cfg PostgresConfig) error {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(p.logFile()); err == nil && info.Size() > 10<<20 {
		flags |= os.O_TRUNC
	}
	out, err := os.OpenFile(p.logFile(), flags, 0o600)
	if err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addresses":                 "",
		"port":                             postgresPort,
		"unix_socket_directories":          p.sockets,
		"unix_socket_permissions":          "0700",
		"max_connections":                  "120",
		"shared_buffers":                   "128MB",
		"synchronous_commit":               "on",
		"wal_compression":                  "on",
		"max_wal_size":                     "2GB",
		"checkpoint_timeout":               "15min",
		"random_page_cost":                 "1.1",
		"jit":                              "off", // compiling takes longer than these queries
		"log_min_duration_statement":       "2000",
		"log_line_prefix":                  "%m [%p] ",
		"timezone":                         "UTC",
		"autovacuum_naptime":               "15s",
		"tcp_keepalives_idle":              "30",
		"client_connection_check_interval": "5s",
	}
	if cfg.Ephemeral {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
		settings["shared_buffers"], settings["autovacuum"] = "32MB", "off"
	}
	for k, v := range cfg.Settings {
		settings[k] = v
	}
	args := []string{"-D", p.data()}
	for k, v := range settings {
		args = append(args, "-c", k+"="+v)
	}
	p.cmd = p.run("postgres", args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.stop = sync.OnceValue(p.shutdown)

	started := make(chan error)
	go func() {
		// Pdeathsig fires when the thread that started the child ends, so this thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		out.Close()
		started <- err
		if err != nil {
			return
		}
		_ = p.cmd.Wait() // ProcessState says how it ended
		p.log.Info("private postgres ended", "state", p.cmd.ProcessState.String())
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// ready waits until the server's pid file says that it accepts connections, and makes sure that the database exists.
func (p *Postgres) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !p.accepting() {
		select {
		case <-p.exited:
			return fmt.Errorf("the server ended immediately: %s", p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %s", ctx.Err(), p.lastWords())
		case <-tick.C:
		}
	}
	conn, err := pgconn.Connect(ctx, p.URL())
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "3D000" {
		if conn, err = pgconn.Connect(ctx, p.urlOf("postgres")); err == nil {
			_, err = conn.Exec(ctx, "CREATE DATABASE "+postgresDB).ReadAll()
		}
	}
	if err != nil {
		return fmt.Errorf("connect: %w: %s", err, p.lastWords())
	}
	return conn.Close(ctx)
}

func (p *Postgres) accepting() bool {
	b, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
	lines := strings.Split(string(b), "\n")
	return err == nil && len(lines) >= 8 &&
		lines[0] == strconv.Itoa(p.cmd.Process.Pid) && strings.TrimSpace(lines[7]) == "ready"
}

func (p *Postgres) shutdown() error {
	defer p.home.Close()
	defer p.removeSockets()
	// SIGINT is a fast shutdown; SIGQUIT an immediate one, after which the next start recovers.
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop private postgres: %w", err)
		}
		select {
		case <-p.exited:
			if !p.cmd.ProcessState.Success() {
				return fmt.Errorf("stop private postgres: %s: %s", p.cmd.ProcessState, p.lastWords())
			}
			return nil
		case <-time.After(stopPatience):
		}
	}
	return errors.New("stop private postgres: it did not end")
}

func (p *Postgres) lastWords() string {
	b, _ := os.ReadFile(p.logFile())
	return lastLine(string(b))
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// onOwnThread runs f on a thread that lives as long as f's children (see Pdeathsig).
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		f()
	}()
	<-done
}
