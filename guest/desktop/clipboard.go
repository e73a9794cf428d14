package desktop

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/xevents"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Copies watches what programs copy on a local display of Xvnc until ctx ends, and calls long with the size of each text that
// Xvnc does not send to viewers: one that comes in pieces (INCR), as texts above about 1 MiB do, or is longer than viewers
// take. The size of pieces is a lower bound. ready reports whether the display answers.
func Copies(ctx context.Context, display int, auth string, ready func() bool, long func(bytes int64), log *slog.Logger) {
	backoff := retry.Backoff{First: time.Second, Max: 10 * time.Second}
	for {
		if ready() {
			began := time.Now()
			err := watchCopies(ctx, display, auth, long)
			if ctx.Err() == nil {
				log.Info("watching the clipboard ended, will retry", "err", err)
			}
			if time.Since(began) > time.Minute {
				backoff.Reset()
			}
		}
		if backoff.Sleep(ctx) != nil {
			return
		}
	}
}

// Requests, events and constants of the core protocol and of XFIXES.
const (
	createWindow, destroyWindow         = 1, 4
	internAtom, getProperty             = 16, 20
	getSelectionOwner, convertSelection = 23, 24
	queryExtension                      = 98
	selectionNotify                     = 31
	xfixesQueryVersion                  = 0
	xfixesSelectSelectionInput          = 2
	setSelectionOwner                   = 1
	anyType, inputOnly                  = 0, 2
	convertWithin                       = 5 * time.Second
	copyPause                           = 500 * time.Millisecond // between two copies that are looked at
	copyFromParent, currentTime         = 0, 0
	maxQueued                           = 16
)

// copies is one connection to the display.
type copies struct {
	x                               *xevents.Conn
	clipboard, utf8, incr, property uint32        // atoms
	changed                         chan struct{} // the clipboard has another owner
	answers                         chan []byte
}

func watchCopies(ctx context.Context, display int, auth string, long func(int64)) error {
	c := &copies{changed: make(chan struct{}, 1), answers: make(chan []byte, maxQueued)}
	first := make(chan byte, 1) // number of the extension's first event
	var event byte
	var err error
	c.x, err = xevents.Dial(display, auth, func(b []byte) {
		select {
		case event = <-first:
		default:
		}
		to, kind := c.answers, b[0]&0x7f
		switch {
		case event != 0 && kind == event:
			select {
			case c.changed <- struct{}{}:
			default: // the last one has not been looked at
			}
		case kind == selectionNotify:
			select {
			case to <- b:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	defer c.x.Close()
	stop := context.AfterFunc(ctx, c.x.Close)
	defer stop()
	if err := c.prepare(first); err != nil {
		return err
	}
	for {
		select {
		case <-c.x.Done():
			return xevents.ErrEnded
		case <-c.changed:
		}
		owner, err := c.owner()
		if err != nil {
			return err
		}
		if c.x.OfServer(owner) { // what viewers paste, or nothing
			continue
		}
		n, pieces, err := c.size()
		if err != nil {
			return err
		}
		if pieces || n > maxClipboard {
			long(n)
		}
		if retry.Sleep(ctx, copyPause) != nil {
			return nil
		}
	}
}

// owner returns the window that owns the clipboard.
func (c *copies) owner() (uint32, error) {
	reply, err := c.x.Ask(xevents.U32([]byte{getSelectionOwner, 0, 0, 0}, c.clipboard)...)
	if err != nil {
		return 0, err
	}
	return xevents.Order.Uint32(reply[8:]), nil
}

// prepare asks for an event at each change of the clipboard's owner.
func (c *copies) prepare(first chan<- byte) error {
	for name, atom := range map[string]*uint32{"CLIPBOARD": &c.clipboard, "UTF8_STRING": &c.utf8, "INCR": &c.incr, "CLOUDBOT_COPY": &c.property} {
		b := xevents.U16([]byte{internAtom, 0, 0, 0}, uint16(len(name)), 0)
		reply, err := c.x.Ask(append(b, name...)...)
		if err != nil {
			return err
		}
		*atom = xevents.Order.Uint32(reply[8:])
	}
	const name = "XFIXES"
	reply, err := c.x.Ask(append([]byte{queryExtension, 0, 0, 0, byte(len(name)), 0, 0, 0}, name...)...)
	if err != nil {
		return err
	}
	if reply[8] == 0 {
		return errors.New("the display has no XFIXES extension")
	}
	major := reply[9]
	first <- reply[10]
	if _, err := c.x.Ask(xevents.U32([]byte{major, xfixesQueryVersion, 0, 0}, 2, 0)...); err != nil {
		return err
	}
	return c.x.Send(xevents.U32([]byte{major, xfixesSelectSelectionInput, 0, 0}, c.x.Root, c.clipboard, setSelectionOwner)...)
}

// size returns the size of the copied text, 0 if it is no text; pieces: it comes in pieces and has at least that size.
func (c *copies) size() (n int64, pieces bool, err error) {
	window := c.x.NewID()
	b := xevents.U32([]byte{createWindow, 0, 0, 0}, window, c.x.Root)
	b = xevents.U16(b, 0, 0, 1, 1, 0, inputOnly)
	if err := c.x.Send(xevents.U32(b, copyFromParent, 0)...); err != nil {
		return 0, false, err
	}
	// The window's end tells the owner to send no pieces.
	defer func() { err = errors.Join(err, c.x.Send(xevents.U32([]byte{destroyWindow, 0, 0, 0}, window)...)) }()
	b = xevents.U32([]byte{convertSelection, 0, 0, 0}, window, c.clipboard, c.utf8, c.property, currentTime)
	if err := c.x.Send(b...); err != nil {
		return 0, false, err
	}
	limit := time.NewTimer(convertWithin)
	defer limit.Stop()
	for {
		select {
		case <-c.x.Done():
			return 0, false, xevents.ErrEnded
		case <-limit.C:
			return 0, false, nil // the owner does not answer, so Xvnc gets nothing either
		case b := <-c.answers:
			if xevents.Order.Uint32(b[8:]) != window {
				continue
			}
			if xevents.Order.Uint32(b[20:]) == 0 {
				return 0, false, nil // it is no text
			}
		}
		break
	}
	b = xevents.U32([]byte{getProperty, 0, 0, 0}, window, c.property, anyType, 0, 1)
	reply, err := c.x.Ask(b...)
	if err != nil {
		return 0, false, err
	}
	if kind := xevents.Order.Uint32(reply[8:]); kind == c.incr {
		if len(reply) >= 36 {
			n = int64(xevents.Order.Uint32(reply[32:]))
		}
		return n, true, nil
	}
	items := int64(xevents.Order.Uint32(reply[16:])) * int64(reply[1]) / 8
	return items + int64(xevents.Order.Uint32(reply[12:])), false, nil
}
