package desktop

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/xevents"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Windows maximises the windows of large programs when they open, and windows that are larger than the screen after it became
// smaller, on a display with any window manager that follows EWMH, until ctx ends. It is for xfwm4, which has no such
// settings. ready reports whether the display answers.
func Windows(ctx context.Context, display int, auth string, ready func() bool, log *slog.Logger) {
	backoff := retry.Backoff{First: time.Second, Max: 10 * time.Second}
	for {
		if ready() {
			began := time.Now()
			err := watchWindows(ctx, display, auth)
			if ctx.Err() == nil {
				log.Info("watching the windows ended, will retry", "err", err)
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

const (
	propertyNotify        = 28
	propertyChange        = 1 << 22
	atomType, atomText    = 4, 31
	windowClass           = 67                     // WM_CLASS
	transientFor          = 68                     // WM_TRANSIENT_FOR
	windowsPause          = 100 * time.Millisecond // between two looks at all windows
	maxClass, maxFewTypes = 256, 8                 // units of four bytes
)

func watchWindows(ctx context.Context, display int, auth string) error {
	changed := make(chan struct{}, 1)
	resized := make(chan struct{}, 1)
	x, err := xevents.Dial(display, auth, func(b []byte) {
		to := changed
		switch b[0] & 0x7f {
		case configureNotify:
			to = resized
		case propertyNotify:
		default:
			return
		}
		select {
		case to <- struct{}{}:
		default: // the last one has not been handled
		}
	})
	if err != nil {
		return err
	}
	defer x.Close()
	defer context.AfterFunc(ctx, x.Close)()
	err = x.Send(xevents.U32([]byte{changeWindowAttributes, 0, 0, 0}, x.Root, eventMask, structureNotify|propertyChange)...)
	if err != nil {
		return err
	}
	w, err := newWindows(x)
	if err != nil {
		return err
	}
	var known map[uint32]bool
	for {
		if known, err = w.open(known); err != nil {
			return err
		}
		select {
		case <-x.Done():
			return xevents.ErrEnded
		case <-changed:
			if retry.Sleep(ctx, windowsPause) != nil { // titles and focus change properties, too
				return nil
			}
		case <-resized:
			size, err := x.Ask(xevents.U32([]byte{getGeometry, 0, 0, 0}, x.Root)...)
			if err != nil {
				return err
			}
			if err := w.fit(int(xevents.Order.Uint16(size[16:])), int(xevents.Order.Uint16(size[18:]))); err != nil {
				return err
			}
		}
	}
}

// open maximises the windows of large programs that are not known yet, and returns all that are there. At first (nil) it
// leaves those that the user may have sized.
func (w *windows) open(known map[uint32]bool) (there map[uint32]bool, err error) {
	list, err := w.list()
	if err != nil {
		return nil, err
	}
	there = map[uint32]bool{}
	for _, window := range list {
		there[window] = true
		if known == nil || known[window] || !w.isLarge(window) {
			continue
		}
		if err := w.maximise(window); err != nil {
			return nil, err
		}
	}
	return there, nil
}

// isLarge reports whether it is the main window of a program that fills the screen.
func (w *windows) isLarge(window uint32) bool {
	if owner := w.property(window, transientFor, atomWindow, 1); len(owner) > 0 {
		return false
	}
	if kinds := w.property(window, w.kind, atomType, maxFewTypes); len(kinds) >= 4 && xevents.Order.Uint32(kinds) != w.normal {
		return false
	}
	for name := range strings.SplitSeq(string(w.property(window, windowClass, atomText, maxClass)), "\x00") {
		for _, program := range large {
			if strings.HasPrefix(name, program) {
				return true
			}
		}
	}
	return false
}
