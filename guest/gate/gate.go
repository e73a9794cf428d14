// Package gate relays an X display, so that the user can take mouse and keyboard from the agent. The agent's programs
// connect to a display of the gate's own, and the gate passes everything on to the real one. While it is held, it makes
// each request that would create input fail. The user's own input does not pass the gate.
//
// The one thing to know: the gate never stores a request, and changes no byte of any request except those that it refuses.
// So the server itself answers a refused request, in order, with an X error.
package gate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Config describes both displays.
type Config struct {
	Display int    // the real one
	Auth    string // file with its cookie, which the gate's own connection presents
	Number  int    // the gate's own display; 0: a free one from 200 up
	Users   []int  // ids of the users whose programs may connect, besides root and the gate's own user
	File    *File  // holds, too; nil: Hold alone does
	Logger  *slog.Logger
	Dir     string // of the sockets; "": /tmp/.X11-unix
}

// Gate is one gate. It holds its display from Listen until Close, or until Run returns.
type Gate struct {
	c         Config
	log       *slog.Logger
	number    int
	listeners []*net.UnixListener
	places    chan struct{} // of the clients

	display atomic.Int64 // the real one's number
	until   atomic.Int64 // when the hold ends, by Now
	input   sync.RWMutex // read-locked while input is checked and sent

	stranger sync.Once // is logged once

	mu      sync.Mutex
	server  *server // the gate's own connection; nil: none at present
	pressed pressed // by clients, and not released yet
}

const (
	maxClients  = 128 // half of those that the server accepts: the user's own programs need places, too
	setupWithin = 30 * time.Second
	firstNumber = 200
	lastNumber  = 59535 // as Xvnc: more than another user of this computer can take with one process
)

// Listen takes a display. Run serves it.
func Listen(c Config) (*Gate, error) {
	c.Dir = cmp.Or(c.Dir, "/tmp/.X11-unix")
	g := &Gate{c: c, log: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), places: make(chan struct{}, maxClients)}
	g.Use(c.Display)
	first, last := firstNumber, lastNumber
	if c.Number != 0 {
		first, last = c.Number, c.Number
	}
	var err error
	for g.number = first; g.number <= last; g.number++ {
		if g.listeners, err = listen(c.Dir, g.number); err == nil {
			return g, nil
		}
	}
	return nil, err
}

// Use relays further connections to another display, with the same authority file: an X server that starts again may have
// another number.
func (g *Gate) Use(display int) { g.display.Store(int64(display)) }

// Number returns the number of the gate's own display.
func (g *Gate) Number() int { return g.number }

// Close frees the display. Clients that are connected stay so until Run returns.
func (g *Gate) Close() {
	for _, l := range g.listeners {
		l.Close()
	}
}

// Run serves clients until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	defer g.forget()
	stop := context.AfterFunc(ctx, g.Close)
	defer stop()
	ended := make(chan error, len(g.listeners))
	for _, l := range g.listeners {
		all.Go(func() { ended <- g.accept(ctx, l, &all) })
	}
	if g.c.File != nil {
		all.Go(func() { g.follow(ctx) })
	}
	if _, err := g.own(); err != nil {
		g.log.Info("display not reached yet", "err", err)
	}
	err := <-ended
	g.Close()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (g *Gate) accept(ctx context.Context, l *net.UnixListener, all *sync.WaitGroup) error {
	for {
		select {
		case g.places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.AcceptUnix()
		if err != nil {
			<-g.places
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			g.log.Warn("accepting a program at the agent's display failed", "err", err) // no descriptor is free, for example
			if retry.Sleep(ctx, time.Second) != nil {
				return nil
			}
			continue
		}
		all.Go(func() {
			defer func() { <-g.places }()
			defer c.Close()
			if !g.admits(c) {
				g.stranger.Do(func() { g.log.Warn("program of another user refused at the agent's display") })
				return
			}
			if err := g.relay(ctx, c); err != nil && ctx.Err() == nil {
				g.log.Debug("program disconnected from the agent's display", "err", err)
			}
		})
	}
}

// Now returns the time since this computer started. Changes of the clock do not affect it, and all processes share it.
func Now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return time.Duration(t.Nano())
}

// Held returns how long the hold still lasts; 0: there is none.
func (g *Gate) Held() time.Duration { return max(0, time.Duration(g.until.Load())-Now()) }

// Hold refuses input from now on for d; 0 ends a hold. It also releases the keys and buttons that clients keep pressed.
// When it returns, no earlier request is on its way, unless the server does not answer.
func (g *Gate) Hold(d time.Duration) {
	was := g.Held() > 0
	if d <= 0 {
		g.until.Store(0)
		return
	}
	g.until.Store(int64(Now() + d))
	if was && !g.presses() { // else a file's hold ended and began again between two looks at it
		return
	}
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		g.input.Lock() // waits for the requests that were checked before
		list := g.keys()
		g.input.Unlock()
		if err := g.release(list); err != nil {
			g.log.Warn("releasing the agent's keys failed", "err", err)
		}
	}()
	select {
	case <-settled:
	case <-time.After(settleWithin):
		g.log.Warn("the display does not answer, keys may stay pressed")
	}
}

const settleWithin = 2 * time.Second
