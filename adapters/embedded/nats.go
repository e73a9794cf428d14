package embedded

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/crash"
)

// NATSConfig configures an in-process NATS server.
type NATSConfig struct {
	Dir    string       // data folder, created if missing; required
	Logger *slog.Logger // nil: silent
	// Listen is a loopback address for subscribers outside the process: "127.0.0.1:4222"; port 0: any free one. "": no
	// listener; the server is reachable only from inside the process.
	Listen string
	// MaxStore limits the bytes that JetStream keeps on disk; 0: three quarters of the free space.
	MaxStore int64
}

// NATS is a running in-process server with JetStream. It stores a cache of the log: its files may be wiped while it is
// not running, and files that it cannot read are deleted.
type NATS struct {
	cfg      NATSConfig
	log      *slog.Logger
	server   *server.Server
	password string        // of the control plane's own connections; never leaves the process
	copier   string        // of the connection that keeps the readers' copy
	home     *folderLock   // holds the flock on the data folder
	close    func()        // once
	started  chan struct{} // closed once the server takes connections, or has failed
	failed   error         // why it does not
}

const (
	readerFile   = "reader.url"
	natsPatience = 10 * time.Second
	natsMemory   = 256 << 20
)

// StartNATS starts the server and returns when it takes connections. It stops when ctx ends and
// on Close. Two processes cannot share a folder.
func StartNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	n, err := LaunchNATS(ctx, cfg)
	if err != nil {
		return nil, err
	}
	<-n.started
	if n.failed != nil {
		n.close()
		return nil, n.failed
	}
	return n, nil
}

// LaunchNATS is StartNATS without the wait: the server reads an index of all subjects, so its start takes longer the more events
// there are. Meanwhile connections of Connect are not connected. Run returns an error if the server does not start.
func LaunchNATS(ctx context.Context, cfg NATSConfig) (_ *NATS, err error) {
	n := &NATS{cfg: cfg, log: cfg.Logger, password: rand.Text(), copier: rand.Text(), started: make(chan struct{})}
	n.log = cmp.Or(n.log, slog.New(slog.DiscardHandler))
	if cfg.Dir == "" {
		return nil, errors.New("private nats: no data folder")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("private nats: %w", err)
	}
	if n.home, err = lockFolder(cfg.Dir); err != nil {
		return nil, fmt.Errorf("private nats: %w", err)
	}
	defer func() {
		if err != nil {
			n.home.Close()
		}
	}()
	reader, err := readerPassword(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("private nats: %w", err)
	}
	opts, err := n.options(reader)
	if err != nil {
		return nil, fmt.Errorf("private nats: %w", err)
	}
	copying, stopCopying := context.WithCancel(context.WithoutCancel(ctx))
	copied := make(chan struct{})
	n.close = sync.OnceFunc(func() {
		stopCopying()
		<-n.started
		<-copied
		if n.server != nil {
			stop(n.server)
		}
		n.home.Close()
	})
	go func() {
		defer close(copied)
		n.start(ctx, opts, reader)
		if n.failed != nil || cfg.Listen == "" {
			return // without a listener there are no readers
		}
		if err := n.keepCopy(copying); err != nil {
			n.log.ErrorContext(ctx, "copying the stream for readers failed", "err", err)
		}
	}()
	context.AfterFunc(ctx, n.close)
	return n, nil
}

// start starts the server, and closes started.
func (n *NATS) start(ctx context.Context, opts *server.Options, reader string) {
	defer close(n.started)
	defer crash.Caught(&n.failed)
	if err := n.run(opts); err != nil {
		// The store is a cache, so unreadable files are no reason not to start.
		n.log.WarnContext(ctx, "starting private nats with its files failed, starting without them", "dir", n.cfg.Dir, "err", err)
		if err := os.RemoveAll(opts.StoreDir); err != nil {
			n.failed = fmt.Errorf("private nats: %w", err)
			return
		}
		if err := n.run(opts); err != nil {
			n.failed = fmt.Errorf("private nats: %w", err)
			return
		}
	}
	if n.cfg.Listen != "" {
		if err := writeReaderFile(n.cfg.Dir, n.server.Addr().String(), reader); err != nil {
			n.failed = fmt.Errorf("private nats: %w", err)
		}
	}
}

// Run returns an error if the server does not start, and otherwise nil when ctx ends.
func (n *NATS) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.started:
	}
	if n.failed != nil {
		return n.failed
	}
	<-ctx.Done()
	return nil
}

// URL returns the address for subscribers outside the process; "": no listener, or a server that did not start.
func (n *NATS) URL() string {
	if <-n.started; n.cfg.Listen == "" || n.server == nil {
		return ""
	}
	return "nats://" + n.server.Addr().String()
}

// ReaderFile returns the name of a file that only its owner can read. It contains a URL with the credentials of a user
// that may only follow the events. "": no listener.
func (n *NATS) ReaderFile() string {
	if n.cfg.Listen == "" {
		return ""
	}
	return filepath.Join(n.cfg.Dir, readerFile)
}

// Connect opens a connection inside the process, with all rights. It reconnects without limit, also while the server is starting.
func (n *NATS) Connect(opts ...nats.Option) (*nats.Conn, error) {
	own := []nats.Option{
		nats.InProcessServer(n), nats.UserInfo(controlUser, n.password),
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(time.Millisecond, time.Millisecond),
		nats.RetryOnFailedConnect(true),
	}
	nc, err := nats.Connect("", append(own, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to private nats: %w", err)
	}
	return nc, nil
}

// InProcessConn lets nats.InProcessServer dial this server.
func (n *NATS) InProcessConn() (net.Conn, error) {
	select {
	case <-n.started:
	default:
		return nil, fmt.Errorf("private nats is starting: %w", syscall.ECONNREFUSED)
	}
	if n.failed != nil {
		return nil, n.failed
	}
	return n.server.InProcessConn()
}

// Close stops the server and waits for its end. Connections are disconnected.
func (n *NATS) Close() error {
	n.close()
	return nil
}

func (n *NATS) options(reader string) (*server.Options, error) {
	opts := &server.Options{DontListen: true} // without users: only this process can connect
	if n.cfg.Listen != "" {
		host, port, err := net.SplitHostPort(n.cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen on %q: %w", n.cfg.Listen, err)
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("listen on %q: only loopback addresses are allowed", n.cfg.Listen)
		}
		if opts, err = accounts(n.password, n.copier, reader); err != nil {
			return nil, err
		}
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("listen on %q: %w", n.cfg.Listen, err)
		}
		opts.Port = cmp.Or(opts.Port, server.RANDOM_PORT)
		opts.Host = host
	}
	opts.ServerName = "cloudbot-embedded"
	opts.NoSigs = true // the process handles its own signals
	opts.JetStream, opts.StoreDir = true, filepath.Join(n.cfg.Dir, "store")
	opts.JetStreamMaxMemory, opts.JetStreamMaxStore = natsMemory, n.cfg.MaxStore
	opts.DisableJetStreamBanner = true
	return opts, nil
}

// run starts a server with these options. If it fails, no server is left running.
func (n *NATS) run(opts *server.Options) error {
	s, err := server.NewServer(opts.Clone())
	if err != nil {
		return err
	}
	heard := &natsLog{log: n.log}
	s.SetLoggerV2(heard, false, false, false)
	s.Start()
	// A fatal error is only logged, and a server that has given up never gets ready.
	if heard.fatal.Load() || !s.ReadyForConnections(natsPatience) || !s.JetStreamEnabled() {
		stop(s)
		return errors.New("the server did not get ready")
	}
	n.server = s
	return nil
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// readerPassword returns the password in the folder's file, or a new one.
func readerPassword(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, readerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return rand.Text(), nil
	}
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(strings.TrimSpace(string(b))); err == nil && u.User != nil {
		if p, ok := u.User.Password(); ok && p != "" {
			return p, nil
		}
	}
	return rand.Text(), nil
}

func writeReaderFile(dir, addr, password string) error {
	u := url.URL{Scheme: "nats", User: url.UserPassword(readerUser, password), Host: addr}
	tmp, err := os.CreateTemp(dir, readerFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // no effect after the rename
	if _, err := tmp.WriteString(u.String() + "\n"); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(dir, readerFile))
}

// natsLog logs the server's warnings and errors; its notices only at debug level.
type natsLog struct {
	log   *slog.Logger
	fatal atomic.Bool
}

func (l *natsLog) Noticef(format string, v ...any) { l.put(slog.LevelDebug, format, v) }
func (l *natsLog) Warnf(format string, v ...any)   { l.put(slog.LevelWarn, format, v) }
func (l *natsLog) Errorf(format string, v ...any)  { l.put(slog.LevelError, format, v) }
func (l *natsLog) Debugf(string, ...any)           {}
func (l *natsLog) Tracef(string, ...any)           {}

func (l *natsLog) Fatalf(format string, v ...any) {
	l.fatal.Store(true)
	l.put(slog.LevelError, format, v)
}

func (l *natsLog) put(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats server", "says", fmt.Sprintf(format, v...))
	}
}
