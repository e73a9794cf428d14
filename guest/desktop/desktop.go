// Package desktop provides the machine's screen: a real X desktop behind a VNC server if the programs are installed, else
// the built-in screen. Dial connects to either, and About says which it is.
package desktop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/clipboard"
	"github.com/cloudbot-ai/control-plane/guest/gate"
	"github.com/cloudbot-ai/control-plane/guest/notice"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/screen"
	"github.com/cloudbot-ai/control-plane/guest/typing"
	"github.com/cloudbot-ai/control-plane/guest/viewers"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Kinds of desktop that a config may ask for.
const (
	Auto    = "auto"     // X if installed, else the built-in screen
	X11     = "x11"      // X or an error
	BuiltIn = "built-in" // the built-in screen
)

// Config describes the desktop.
type Config struct {
	Kind     string   // "": Auto
	Display  int      // X display; 0: a free one
	Port     int      // loopback port of the VNC server; 0: a free one
	Geometry string   // "": "1280x800"
	Session  []string // command of the session; none: openbox with tint2 and xterm, if installed
	Password string   // VNC password, of which at most 8 characters are used
	Home     string   // home folder of the session, owned by the user
	Shm      string   // private memory-backed folder, owned by the user; for password and cookie
	User     *proc.User
	Env      []string          // added to every child's environment
	Title    string            // shown on the built-in screen
	LongCopy func(bytes int64) // called when a program copies a text that viewers don't get; nil: not
	Logger   *slog.Logger
	Output   io.Writer // of the programs; nil: discarded
}

// Desktop is one desktop. Run keeps it running.
type Desktop struct {
	c      Config
	log    *slog.Logger
	x      *programs // nil: built in
	screen *screen.Screen
	addr   atomic.Pointer[string] // of the VNC server while it answers
	up     chan struct{}          // closed when it first answers
	keys   *typing.Keyboard
	room   *viewers.Room
	pastes *clipboard.Owner // of x11vnc's viewers
	board  *notice.Board
	number int // of the last X display, which the next one takes if it is free; 0: none
	gates  sync.WaitGroup

	mu        sync.Mutex
	gate      *gate.Gate        // the last one; nil: none yet
	gateEnded chan error        // gets its error; nil: it has ended
	env       map[string]string // see Env
	changed   chan struct{}
}

// New chooses the kind.
func New(c Config) (*Desktop, error) {
	c.Geometry = cmp.Or(c.Geometry, "1280x800")
	d := &Desktop{c: c, log: c.Logger, up: make(chan struct{}), changed: make(chan struct{}), keys: typing.New(c.Logger), pastes: clipboard.New(c.Logger), board: notice.New()}
	d.room = viewers.New(viewers.Config{Addr: d.Addr, Password: c.Password, Size: c.Geometry, Logger: c.Logger})
	if c.Kind != BuiltIn {
		x, err := find()
		if err != nil && c.Kind == X11 {
			return nil, err
		}
		d.x = x
	}
	if d.x == nil {
		d.screen = screen.New(screen.Config{
			Password: c.Password,
			Title:    "CloudBot  -  built-in screen",
			Notes: []string{
				c.Title,
				"No X server is installed here, so this picture stands in for the desktop.",
				"Install Xvnc (TigerVNC), openbox and xterm for a real one.",
			},
		})
	}
	return d, nil
}

// About describes the desktop in a few words.
func (d *Desktop) About() string {
	if d.x == nil {
		return "built-in screen"
	}
	return d.x.about()
}

// Up is closed when the desktop first answers.
func (d *Desktop) Up() <-chan struct{} { return d.up }

// X11 reports whether it is a real X desktop.
func (d *Desktop) X11() bool { return d.x != nil }

// Env returns the environment with which the agent's programs reach the X display that the viewers see, through a gate (see
// Hold), and a channel closed at the next change. Without a display, or before it first runs, there is none.
func (d *Desktop) Env() (env map[string]string, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.env), d.changed
}

func (d *Desktop) setEnv(env map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if maps.Equal(d.env, env) {
		return
	}
	d.env = env
	close(d.changed)
	d.changed = make(chan struct{})
}

// Hold refuses the agent's mouse and key events from now on for t; 0: no longer.
func (d *Desktop) Hold(t time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate == nil {
		return ErrNotReady
	}
	d.gate.Hold(t)
	return nil
}

// Held returns how long that still lasts; 0: they are not refused.
func (d *Desktop) Held() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate == nil {
		return 0
	}
	return d.gate.Held()
}

// Healthy reports whether it currently answers.
func (d *Desktop) Healthy() bool { return d.x == nil || d.addr.Load() != nil }

// Addr returns the VNC server's address; "": it does not answer, or is built in.
func (d *Desktop) Addr() string {
	if a := d.addr.Load(); a != nil {
		return *a
	}
	return ""
}

// Viewers returns the number of viewers, and a channel closed at the next change.
func (d *Desktop) Viewers() (n int, changed <-chan struct{}) { return d.room.Count() }

// Notice shows a notice above all windows, or withdraws it.
func (d *Desktop) Notice(n wire.Notice) { d.board.Set(n) }

// Run keeps the desktop running until ctx ends, and leaves no process behind.
func (d *Desktop) Run(ctx context.Context) error {
	if d.x == nil {
		close(d.up)
		d.board.Follow(ctx, screen.NoticeColumns, d.screen.Notice)
		return nil
	}
	defer d.gates.Wait()
	defer d.room.Close()
	backoff := retry.Backoff{First: 250 * time.Millisecond, Max: 10 * time.Second}
	for {
		began := time.Now()
		err := d.runX(ctx)
		d.addr.Store(nil)
		if ctx.Err() != nil {
			return nil
		}
		d.log.Warn("desktop ended, will restart", "err", err)
		if time.Since(began) > time.Minute {
			backoff.Reset()
		}
		if backoff.Sleep(ctx) != nil {
			return nil
		}
	}
}

// ErrNotReady says that the desktop does not accept connections yet.
var ErrNotReady = errors.New("the desktop is not ready yet")

// Dial connects to the desktop and returns a function that serves one connection and closes it.
func (d *Desktop) Dial(ctx context.Context) (serve func(context.Context, net.Conn) error, err error) {
	if d.x == nil {
		return d.room.Counted(d.screen.Serve), nil
	}
	addr := d.addr.Load()
	if addr == nil {
		return nil, ErrNotReady
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	to, err := dialer.DialContext(ctx, "tcp", *addr)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c net.Conn) error {
		if d.x.xvnc == "" {
			c = d.pastes.Filter(c)
		}
		return d.room.Join(ctx, d.keys.Filter(ctx, c), to)
	}, nil
}

// programs holds the paths of the installed programs.
type programs struct {
	xvnc           string // both in one; "": the other two
	xvfb, x11vnc   string
	openbox, xterm string
	tint2          string
}

// find prefers Xvnc: its screen adapts to the viewer's size, its clipboard supports all of Unicode, and it detects
// changes without polling.
func find() (*programs, error) {
	p := &programs{
		xvnc: look("Xvnc"), xvfb: look("Xvfb"), x11vnc: look("x11vnc"),
		openbox: look("openbox"), xterm: look("xterm"), tint2: look("tint2"),
	}
	if p.xvnc == "" && (p.xvfb == "" || p.x11vnc == "") {
		return nil, errors.New("neither Xvnc nor Xvfb with x11vnc is installed")
	}
	return p, nil
}

func (p *programs) about() string {
	s := "Xvfb and x11vnc"
	if p.xvnc != "" {
		s = "TigerVNC"
	}
	if p.openbox != "" {
		s += " with openbox"
	}
	return s
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// write creates a file owned by the desktop's user in the memory-backed folder.
func (d *Desktop) write(name string, data []byte) (string, error) {
	folder, err := os.OpenRoot(d.c.Shm)
	if err != nil {
		return "", err
	}
	defer folder.Close()
	return filepath.Join(d.c.Shm, name), d.put(folder, name, data)
}

// put creates a file owned by the desktop's user, who may change the folder at the same time.
func (d *Desktop) put(folder *os.Root, name string, data []byte) error {
	_ = folder.Remove(name)
	f, err := folder.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if d.c.User != nil {
		err = f.Chown(int(d.c.User.UID), int(d.c.User.GID))
	}
	_, failed := f.Write(data)
	return errors.Join(err, failed, f.Close())
}

// answers waits until the VNC server at addr greets.
func answers(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for !greets(ctx, addr) {
		if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("VNC server at %s did not answer: %w", addr, err)
		}
	}
	return nil
}

func greets(ctx context.Context, addr string) bool {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 4)
	_, err = io.ReadFull(c, b)
	return err == nil && string(b) == "RFB "
}

func display(n int) string { return ":" + strconv.Itoa(n) }
