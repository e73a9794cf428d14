package notice

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/font"
	"github.com/cloudbot-ai/control-plane/guest/xevents"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Requests, events and constants of the core protocol.
const (
	createWindow, changeWindowAttributes  = 1, 2
	mapWindow, configureWindow            = 8, 12
	getGeometry, changeProperty           = 14, 18
	createPixmap, freePixmap              = 53, 54
	createGC, freeGC, clearArea, putImage = 55, 60, 61, 72

	buttonPress, visibilityNotify, configureNotify = 4, 15, 22

	backgroundPixmap, overrideRedirect, eventMask      = 1, 1 << 9, 1 << 11
	buttonPresses, visibilityChanges, structureChanges = 1 << 2, 1 << 16, 1 << 17
	stackMode, windowX, windowY, windowW, windowH      = 1 << 6, 1, 2, 4, 8
	inputOutput, zPixmap, screenDepth                  = 1, 2, 24
	atomName, atomString                               = 39, 31
)

// Title is the name of the notice's window.
const Title = "CloudBot notice"

// Look of the window.
const (
	scale      = 2
	padding    = 18
	widest     = 780
	edge       = 3
	background = 0x11161c
	frame      = 0xf2a65a
	ink        = 0xe8eef2
	dim        = 0xa9bac6
	hint       = "Click to hide this."

	raiseAfter = 300 * time.Millisecond // a window that covers the notice may be raised often
	maxRequest = 200_000                // bytes of pixels in one request
)

// Show shows the board's notices on a display until ctx ends. ready reports whether the display answers; nil: always.
func (b *Board) Show(ctx context.Context, display int, auth string, ready func() bool, log *slog.Logger) {
	backoff := retry.Backoff{First: time.Second, Max: 10 * time.Second}
	for ctx.Err() == nil {
		now, _, changed := b.at(time.Now())
		if now.text == "" {
			backoff.Reset()
			if !await(ctx, 0, changed) {
				return
			}
			continue
		}
		if ready == nil || ready() {
			err := b.open(ctx, display, auth)
			if err == nil || ctx.Err() != nil {
				continue
			}
			log.Info("notice not shown, will retry", "err", err)
		}
		if backoff.Sleep(ctx) != nil {
			return
		}
	}
}

// heard is what the server reports of the window and the screen.
type heard struct{ click, covered, resized chan struct{} }

func (h heard) event(e []byte) {
	to := h.resized
	switch e[0] & 0x7f {
	case buttonPress:
		to = h.click
	case visibilityNotify:
		if e[8] == 0 {
			return
		}
		to = h.covered
	case configureNotify:
	default:
		return
	}
	select {
	case to <- struct{}{}:
	default: // the last one has not been handled
	}
}

// open shows a window until there is nothing more to be seen.
func (b *Board) open(ctx context.Context, display int, auth string) error {
	h := heard{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)}
	x, err := xevents.Dial(display, auth, h.event)
	if err != nil {
		return err
	}
	defer x.Close() // and with it the window
	defer context.AfterFunc(ctx, x.Close)()
	if err := x.Send(xevents.U32([]byte{changeWindowAttributes, 0, 0, 0}, x.Root, eventMask, structureChanges)...); err != nil {
		return err
	}
	w := window{x: x}
	for {
		now, next, changed := b.at(time.Now())
		if now.text == "" {
			return nil
		}
		if err := w.draw(now); err != nil {
			return err
		}
		if err := w.stay(ctx, h, next, changed, b.hide); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// stay keeps the window above all others until its contents may have changed.
func (w *window) stay(ctx context.Context, h heard, next time.Duration, changed <-chan struct{}, hide func()) error {
	timer := time.NewTimer(next)
	defer timer.Stop()
	var raise <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.x.Done():
			return xevents.ErrEnded
		case <-timer.C:
			return nil
		case <-changed:
			return nil
		case <-h.resized:
			return nil
		case <-h.click:
			hide()
			return nil
		case <-h.covered:
			if raise == nil {
				raise = time.After(raiseAfter)
			}
		case <-raise:
			raise = nil
			if err := w.raise(); err != nil {
				return err
			}
		}
	}
}

// window is the window on the display.
type window struct {
	x    *xevents.Conn
	id   uint32 // 0: not made yet
	last drawing
}

// drawing is what the window shows.
type drawing struct {
	shown
	width int // of the screen
}

// draw makes the window as large as its lines, at the top of the screen, and paints it.
func (w *window) draw(s shown) error {
	size, err := w.x.Ask(xevents.U32([]byte{getGeometry, 0, 0, 0}, w.x.Root)...)
	if err != nil {
		return err
	}
	if size[1] != screenDepth {
		return errors.New("the display does not have 24 bits a pixel")
	}
	screen := int(xevents.Order.Uint16(size[16:]))
	now := drawing{s, screen}
	if now == w.last {
		return nil
	}
	w.last = now
	p := paint(s, screen)
	at := (screen - p.width) / 2
	if w.id == 0 {
		w.id = w.x.NewID()
		request := xevents.U32([]byte{createWindow, 0, 0, 0}, w.id, w.x.Root)
		request = xevents.U16(request, uint16(at), 0, uint16(p.width), uint16(p.height), 0, inputOutput)
		request = xevents.U32(request, 0, overrideRedirect|eventMask, 1, buttonPresses|visibilityChanges)
		if err := w.x.Send(request...); err != nil {
			return err
		}
		name := xevents.U32([]byte{changeProperty, 0, 0, 0}, w.id, atomName, atomString)
		name = append(xevents.U32(append(name, 8, 0, 0, 0), uint32(len(Title))), Title...)
		if err := w.x.Send(name...); err != nil {
			return err
		}
	} else {
		request := xevents.U16(xevents.U32([]byte{configureWindow, 0, 0, 0}, w.id), windowX|windowY|windowW|windowH, 0)
		if err := w.x.Send(xevents.U32(request, uint32(at), 0, uint32(p.width), uint32(p.height))...); err != nil {
			return err
		}
	}
	if err := w.fill(p); err != nil {
		return err
	}
	if err := w.x.Send(xevents.U32([]byte{mapWindow, 0, 0, 0}, w.id)...); err != nil {
		return err
	}
	return w.raise()
}

// fill makes a picture the window's background: the server then repaints it.
func (w *window) fill(p picture) error {
	pixmap, gc := w.x.NewID(), w.x.NewID()
	requests := [][]byte{
		xevents.U16(xevents.U32([]byte{createPixmap, screenDepth, 0, 0}, pixmap, w.x.Root), uint16(p.width), uint16(p.height)),
		xevents.U32([]byte{createGC, 0, 0, 0}, gc, pixmap, 0),
	}
	rows := max(maxRequest/(4*p.width), 1)
	for y := 0; y < p.height; y += rows {
		n := min(rows, p.height-y)
		put := xevents.U32([]byte{putImage, zPixmap, 0, 0}, pixmap, gc)
		put = append(xevents.U16(put, uint16(p.width), uint16(n), 0, uint16(y)), 0, screenDepth, 0, 0)
		requests = append(requests, append(put, p.pixels[4*p.width*y:4*p.width*(y+n)]...))
	}
	requests = append(requests,
		xevents.U32([]byte{changeWindowAttributes, 0, 0, 0}, w.id, backgroundPixmap, pixmap),
		xevents.U16(xevents.U32([]byte{clearArea, 0, 0, 0}, w.id), 0, 0, 0, 0),
		xevents.U32([]byte{freeGC, 0, 0, 0}, gc),
		xevents.U32([]byte{freePixmap, 0, 0, 0}, pixmap),
	)
	for _, r := range requests {
		if err := w.x.Send(r...); err != nil {
			return err
		}
	}
	return nil
}

// raise puts the window above all others.
func (w *window) raise() error {
	request := xevents.U16(xevents.U32([]byte{configureWindow, 0, 0, 0}, w.id), stackMode, 0)
	if err := w.x.Send(xevents.U32(request, 0)...); err != nil {
		return err
	}
	return w.x.Sync()
}

// picture has 4 bytes a pixel: blue, green, red, nothing.
type picture struct {
	width, height int
	pixels        []byte
}

// paint draws a notice for a screen of a width.
func paint(s shown, screen int) picture {
	width := max(min(widest, screen-2*padding), 8*font.CellWidth*scale)
	columns := (width - 2*padding) / (font.CellWidth * scale)
	lines := s.lines(columns)
	lineHeight := font.CellHeight * scale
	p := picture{width: width, height: 2*padding + (len(lines)+1)*lineHeight + lineHeight/2}
	p.pixels = make([]byte, 4*p.width*p.height)
	p.fill(0, 0, p.width, p.height, frame)
	p.fill(edge, edge, p.width-2*edge, p.height-2*edge, background)
	for i, l := range lines {
		p.write(padding, padding+i*lineHeight, l, ink)
	}
	p.write(padding, p.height-padding-font.Rows*scale, hint, dim)
	return p
}

func (p picture) fill(x, y, w, h int, colour uint32) {
	for row := max(y, 0); row < min(y+h, p.height); row++ {
		for column := max(x, 0); column < min(x+w, p.width); column++ {
			xevents.Order.PutUint32(p.pixels[4*(row*p.width+column):], colour)
		}
	}
}

func (p picture) write(x, y int, text string, colour uint32) {
	for _, r := range text {
		for column, bits := range font.Glyph(r) {
			for row := range font.Rows {
				if bits>>row&1 == 1 {
					p.fill(x+column*scale, y+row*scale, scale, scale, colour)
				}
			}
		}
		x += font.CellWidth * scale
	}
}
