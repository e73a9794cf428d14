package units

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/desktop"
	"github.com/cloudbot-ai/control-plane/guest/gate"
	"github.com/cloudbot-ai/control-plane/guest/notice"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/typing"
	"github.com/cloudbot-ai/control-plane/guest/viewers"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Of cloudbot-xvnc.service.
const (
	displayNumber = 99
	defaultSize   = "1280x800"
)

var desktopUnits = []string{"cloudbot-xvnc.service", "cloudbot-gate.service", "cloudbot-xfce.service"}

// agentDisplay is the display of cloudbot-gate.service.
const agentDisplay = ":200"

// DesktopConfig describes the desktop.
type DesktopConfig struct {
	Installed <-chan struct{} // closed once the units are installed
	Password  string          // of the VNC server, which uses at most 8 characters
	User      string          // user of the desktop
	Logger    *slog.Logger
	LongCopy  func(bytes int64) // called when a program copies a text that viewers don't get; nil: not

	Dir     string                                                                                   // "": Dir
	Addr    string                                                                                   // "": 127.0.0.1:5900
	Control Control                                                                                  // nil: systemctl
	Windows func(ctx context.Context, display int, auth string, ready func() bool, log *slog.Logger) // nil: desktop.Windows
}

// Desktop is XFCE on Xvnc.
type Desktop struct {
	c       DesktopConfig
	up      chan struct{}
	healthy atomic.Bool
	keys    *typing.Keyboard
	room    *viewers.Room
	board   *notice.Board
	hold    gate.File
}

// NewDesktop returns a desktop that Run starts.
func NewDesktop(c DesktopConfig) *Desktop {
	c.Dir = cmp.Or(c.Dir, Dir)
	c.Addr = cmp.Or(c.Addr, vncAddr)
	if c.Control == nil {
		c.Control = systemctl
	}
	if c.Windows == nil {
		c.Windows = desktop.Windows
	}
	d := &Desktop{c: c, up: make(chan struct{}), keys: typing.New(c.Logger), board: notice.New(), hold: gate.File{Path: filepath.Join(c.Dir, "held"), Max: wire.ControlFor}}
	d.keys.Use(displayNumber, d.auth())
	d.room = viewers.New(viewers.Config{Addr: d.Addr, Password: c.Password, Size: defaultSize, Logger: c.Logger})
	return d
}

// auth returns the display's authority file.
func (d *Desktop) auth() string { return filepath.Join(d.c.Dir, "desktop", "xauthority") }

// About describes the desktop in a few words.
func (d *Desktop) About() string { return "XFCE on TigerVNC" }

// Up is closed when the desktop first answers.
func (d *Desktop) Up() <-chan struct{} { return d.up }

// Healthy reports whether it currently answers.
func (d *Desktop) Healthy() bool { return d.healthy.Load() }

// Addr returns the VNC server's address; "": it does not answer.
func (d *Desktop) Addr() string {
	if d.healthy.Load() {
		return d.c.Addr
	}
	return ""
}

// Env returns the environment with which the agent's programs reach the display; empty: it does not answer.
func (d *Desktop) Env() (env map[string]string, changed <-chan struct{}) {
	if !d.healthy.Load() {
		return nil, nil
	}
	session := filepath.Join(d.c.Dir, "session")
	return map[string]string{
		"DISPLAY": agentDisplay, "XAUTHORITY": filepath.Join(d.c.Dir, "desktop", "xauthority"),
		"XDG_RUNTIME_DIR": session, "DBUS_SESSION_BUS_ADDRESS": "unix:path=" + filepath.Join(session, "bus"),
	}, nil
}

// Hold refuses the agent's mouse and key events from now on for t; 0: no longer. The gate's unit reads the file.
func (d *Desktop) Hold(t time.Duration) error { return d.hold.Set(t) }

// Held returns how long that still lasts; 0: they are not refused.
func (d *Desktop) Held() time.Duration { return d.hold.Left() }

// Viewers returns the number of viewers, and a channel closed at the next change.
func (d *Desktop) Viewers() (n int, changed <-chan struct{}) { return d.room.Count() }

// Notice shows a notice above all windows, or withdraws it.
func (d *Desktop) Notice(n wire.Notice) { d.board.Set(n) }

// Run starts the units once they are installed and watches them until ctx ends. It does not stop them.
func (d *Desktop) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.c.Installed:
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { d.c.Windows(ctx, displayNumber, d.auth(), d.Healthy, d.c.Logger) })
	watching.Go(func() { d.board.Show(ctx, displayNumber, d.auth(), d.Healthy, d.c.Logger) })
	if d.c.LongCopy != nil {
		watching.Go(func() {
			desktop.Copies(ctx, displayNumber, d.auth(), d.Healthy, d.c.LongCopy, d.c.Logger)
		})
	}
	defer d.keys.Close()
	defer d.room.Close()
	tick := time.NewTicker(quickly)
	defer tick.Stop()
	started := time.Time{}
	for {
		ok := greets(ctx, d.c.Addr)
		d.healthy.Store(ok)
		switch {
		case ok:
			select {
			case <-d.up:
			default:
				close(d.up)
				tick.Reset(steadily)
			}
		case time.Since(started) >= steadily: // starting a running unit has no effect
			started = time.Now()
			if err := d.start(ctx); err != nil && ctx.Err() == nil {
				d.c.Logger.Warn("starting the desktop failed", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (d *Desktop) start(ctx context.Context) error {
	who, err := proc.Ordinary(d.c.User)
	if err != nil {
		return err
	}
	if err := errors.Join(own(d.c.Dir, "desktop", who), own(d.c.Dir, "session", who)); err != nil {
		return err
	}
	cookie := filepath.Join(d.c.Dir, "desktop", "xauthority")
	if _, err := os.Stat(cookie); err != nil { // an existing cookie may be in use
		b := make([]byte, 16)
		rand.Read(b)
		if _, err := write(cookie, desktop.Xauthority(b), who); err != nil {
			return err
		}
	}
	if _, err := write(filepath.Join(d.c.Dir, "desktop", "vnc"), rfb.Obscure(d.c.Password), who); err != nil {
		return err
	}
	return d.c.Control(ctx, append([]string{"start", "--no-block"}, desktopUnits...)...)
}

// Dial connects to the desktop and returns a function that serves one connection and closes it.
func (d *Desktop) Dial(ctx context.Context) (func(context.Context, net.Conn) error, error) {
	to, err := dial(ctx, d.c.Addr)
	if err != nil {
		return nil, desktop.ErrNotReady
	}
	return func(ctx context.Context, c net.Conn) error { return d.room.Join(ctx, d.keys.Filter(ctx, c), to) }, nil
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return dialer.DialContext(ctx, "tcp", addr)
}
