// Package viewers knows who watches a machine's screen, and lets its size belong to one viewer at a time. All viewers of a
// machine end here, whichever browser and replica they come from.
//
// A viewer asks for a size with RFB's SetDesktopSize, whose padding byte says why (see Why). A request that has to give way
// gets the server's answer to an impossible size, so the viewer learns of it in the order of its other messages.
package viewers

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/pipe"
)

// Why says why a viewer sends SetDesktopSize. It is the message's second byte, which RFB leaves unused.
type Why byte

const (
	Works   Why = iota // the user works here, chose Match, or changed the size of the window meanwhile
	Arrives            // the viewer is new: it gets the size if no other viewer is there
	Returns            // the viewer had the size before its connection broke: it gets it if no other viewer has it
	Leaves             // the user chose another mode than Match; the size in the message has no meaning
	Resets             // everybody gets the default size; the size in the message has no meaning
)

// Config describes a screen.
type Config struct {
	Addr     func() string // of the VNC server; "": it does not answer
	Password string        // of the VNC server
	Size     string        // the default size, as in 1280x800
	Grace    time.Duration // for the owner of the size to come back; 0: 10 s
	Logger   *slog.Logger
}

// Room holds the viewers of one screen.
type Room struct {
	c     Config
	sizes sync.Mutex // held while the size is being changed; it is locked before mu

	mu      sync.Mutex
	viewers map[*viewer]struct{}
	owner   *viewer       // set the size; nil: no viewer that is here
	left    bool          // the last owner has left, and its size stays until the grace is over
	reset   bool          // a viewer asked for the default size
	waits   bool          // settle will run
	asked   int           // counts requests
	settles *time.Timer   // runs settle
	closed  bool          // no size is changed any more
	changed chan struct{} // closed when the number of viewers changes
}

// New returns a room without viewers.
func New(c Config) *Room {
	c.Grace = cmp.Or(c.Grace, 10*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	r := &Room{c: c, viewers: map[*viewer]struct{}{}, changed: make(chan struct{})}
	r.settles = time.AfterFunc(c.Grace, r.settle)
	r.settles.Stop()
	return r
}

// Count returns the number of viewers, those that only watch included, and a channel closed at the next change.
func (r *Room) Count() (n int, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.viewers), r.changed
}

// Join connects a viewer with the VNC server until one of them or ctx ends, and closes both.
func (r *Room) Join(ctx context.Context, from, server net.Conn) error {
	v := &viewer{Conn: server, room: r}
	r.enter(v)
	defer r.leave(v)
	return pipe.Join(ctx, from, v)
}

// Counted returns a function that serves a viewer as serve does, and counts it.
func (r *Room) Counted(serve func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error {
		v := &viewer{room: r}
		r.enter(v)
		defer r.leave(v)
		return serve(ctx, c)
	}
}

// Close ends the wait for owners that left. It returns once no size is being changed.
func (r *Room) Close() {
	r.mu.Lock()
	r.closed = true
	r.settles.Stop()
	r.mu.Unlock()
	r.sizes.Lock() // a running settle
	defer r.sizes.Unlock()
}

func (r *Room) enter(v *viewer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.viewers[v] = struct{}{}
	r.stirred()
}

func (r *Room) leave(v *viewer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.viewers, v)
	owned := r.owner == v
	if owned {
		r.owner, r.left = nil, true
	}
	if r.owner == nil && !r.closed && !r.reset && (owned || !r.waits) {
		r.waits = true
		r.settles.Reset(r.c.Grace)
	}
	r.stirred()
}

// stirred wakes up the readers of Count; r.mu is held.
func (r *Room) stirred() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// asks handles a viewer's SetDesktopSize. It returns what the VNC server gets in its place; nil: nothing.
func (r *Room) asks(v *viewer, message []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := Why(message[1])
	message[1] = 0
	v.owed.Store(nil)
	switch why {
	case Leaves:
		v.wants = nil
		return nil
	case Resets:
		v.wants = nil
		if !r.closed {
			r.owner, r.reset, r.waits = nil, true, true
			r.settles.Reset(0)
		}
		return nil
	case Arrives, Returns:
		others := len(r.viewers) > 1
		if r.owner != nil && r.owner != v || why == Arrives && others {
			r.want(v, message)
			return impossible
		}
	}
	r.want(v, message)
	r.owner, r.left = v, false
	for other := range r.viewers {
		other.owed.Store(nil)
	}
	return message
}

func (r *Room) want(v *viewer, message []byte) {
	r.asked++
	v.wants, v.asked = message, r.asked
}

// settle decides about the size when its owner has been away for the grace period, or on request: a viewer that wants to set
// it gets it, else the screen gets its default size.
func (r *Room) settle() {
	r.sizes.Lock()
	heir, toDefault := r.decide()
	if toDefault {
		if err := r.setDefault(); err != nil {
			r.c.Logger.Info("screen's default size not restored", "err", err)
		}
	}
	r.sizes.Unlock()
	if heir != nil {
		heir.flush()
	}
}

// decide returns the viewer that gets the size, or whether the screen gets its default size.
func (r *Room) decide() (heir *viewer, toDefault bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, reset := r.left, r.reset
	r.left, r.reset, r.waits = false, false, false
	switch {
	case r.closed:
		return nil, false
	case reset:
		return nil, true
	case r.owner != nil: // it came back, or another viewer took over
		return nil, false
	}
	for v := range r.viewers {
		if v.wants != nil && (heir == nil || v.asked > heir.asked) {
			heir = v
		}
	}
	if heir != nil && (left || len(r.viewers) == 1) {
		r.owner = heir
		message := heir.wants
		heir.owed.Store(&message)
		return heir, false
	}
	return nil, left
}

// setDefault gives the screen its default size. r.sizes is held.
func (r *Room) setDefault() error {
	addr := r.c.Addr()
	if addr == "" {
		return errors.New("the VNC server does not answer")
	}
	return resize(addr, r.c.Password, r.c.Size)
}
