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
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/desktop"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

var desktopUnits = []string{"cloudbot-xvnc.service", "cloudbot-xfce.service"}

// DesktopConfig describes the desktop.
type DesktopConfig struct {
	Installed <-chan struct{} // closed once the units are installed
	Password  string          // of the VNC server, which uses at most 8 characters
	User      string          // user of the desktop
	Logger    *slog.Logger

	Dir     string  // "": Dir
	Addr    string  // "": 127.0.0.1:5900
	Control Control // nil: systemctl
}

// Desktop is XFCE on Xvnc.
type Desktop struct {
	c       DesktopConfig
	up      chan struct{}
	healthy atomic.Bool
}

// NewDesktop returns a desktop that Run starts.
func NewDesktop(c DesktopConfig) *Desktop {
	c.Dir = cmp.Or(c.Dir, Dir)
	c.Addr = cmp.Or(c.Addr, vncAddr)
	if c.Control == nil {
		c.Control = systemctl
	}
	return &Desktop{c: c, up: make(chan struct{})}
}

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

// Run starts the units once they are installed and watches them until ctx ends. It does not stop them.
func (d *Desktop) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.c.Installed:
	}
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
	return dial(ctx, d.c.Addr, desktop.ErrNotReady)
}

func dial(ctx context.Context, addr string, notReady error) (func(context.Context, net.Conn) error, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	to, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, notReady
	}
	return func(ctx context.Context, c net.Conn) error { return pipe.Join(ctx, c, to) }, nil
}
