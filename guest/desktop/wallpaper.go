package desktop

import (
	"context"
	"log/slog"

	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

// Requests, events and constants of the core protocol.
const (
	changeWindowAttributes      = 2
	getGeometry                 = 14
	createPixmap, freePixmap    = 53, 54
	createGC, freeGC            = 55, 60
	clearArea                   = 61
	putImage                    = 72
	configureNotify             = 22
	backgroundPixmap, eventMask = 1, 1 << 11
	structureNotify             = 1 << 17
	zPixmap, screenDepth        = 2, 24
	tileWidth, maxTile          = 8, 8000 // of the wallpaper's pixmap; a request takes 256 KiB
)

// sky has the colours of the wallpaper from top to bottom. A picture of each row in one colour stays small for viewers and
// for the agent.
var sky = [][3]int{{0x0d, 0x20, 0x35}, {0x16, 0x32, 0x4f}, {0x2b, 0x5b, 0x7a}}

// wallpaper paints the display's background until ctx ends. After each change of its size it does so again, and has the
// windows fit. The window manager's settings maximise programs that start.
func wallpaper(ctx context.Context, display int, auth string, log *slog.Logger) {
	resized := make(chan struct{}, 1)
	x, err := xevents.Dial(display, auth, func(b []byte) {
		if b[0]&0x7f == configureNotify {
			select {
			case resized <- struct{}{}:
			default: // the last one has not been handled
			}
		}
	})
	if err != nil {
		log.Info("wallpaper not painted", "err", err)
		return
	}
	defer x.Close()
	defer context.AfterFunc(ctx, x.Close)()
	err = x.Send(xevents.U32([]byte{changeWindowAttributes, 0, 0, 0}, x.Root, eventMask, structureNotify)...)
	var all *windows
	if err == nil {
		all, err = newWindows(x)
	}
	for err == nil {
		var width, height int
		if width, height, err = paint(x); err == nil {
			err = all.fit(width, height)
		}
		if err != nil {
			break
		}
		select {
		case <-x.Done():
			err = xevents.ErrEnded
		case <-resized:
		}
	}
	if ctx.Err() == nil {
		log.Info("wallpaper no longer painted", "err", err)
	}
}

// paint paints the background, and returns its size.
func paint(x *xevents.Conn) (width, height int, err error) {
	size, err := x.Ask(xevents.U32([]byte{getGeometry, 0, 0, 0}, x.Root)...)
	if err != nil {
		return 0, 0, err
	}
	width, height = int(xevents.Order.Uint16(size[16:])), int(xevents.Order.Uint16(size[18:]))
	if size[1] != screenDepth {
		return width, height, nil
	}
	tile := shades(min(height, maxTile))
	rows := uint16(len(tile) / 4 / tileWidth)
	pixmap, gc := x.NewID(), x.NewID()
	put := xevents.U32([]byte{putImage, zPixmap, 0, 0}, pixmap, gc)
	put = append(xevents.U16(put, tileWidth, rows, 0, 0), 0, screenDepth, 0, 0)
	for _, request := range [][]byte{
		xevents.U16(xevents.U32([]byte{createPixmap, screenDepth, 0, 0}, pixmap, x.Root), tileWidth, rows),
		xevents.U32([]byte{createGC, 0, 0, 0}, gc, pixmap, 0),
		append(put, tile...),
		xevents.U32([]byte{changeWindowAttributes, 0, 0, 0}, x.Root, backgroundPixmap, pixmap),
		xevents.U16(xevents.U32([]byte{clearArea, 0, 0, 0}, x.Root), 0, 0, 0, 0),
		xevents.U32([]byte{freeGC, 0, 0, 0}, gc),
		xevents.U32([]byte{freePixmap, 0, 0, 0}, pixmap),
	} {
		if err := x.Send(request...); err != nil {
			return 0, 0, err
		}
	}
	return width, height, x.Sync()
}

// shades returns the pixels of a picture that is so high.
func shades(height int) []byte {
	b := make([]byte, 0, 4*tileWidth*height)
	for y := range height {
		at := y * (len(sky) - 1)
		from := at / height
		part := at - from*height
		mix := func(c int) byte {
			return byte((sky[from][c]*(height-part) + sky[from+1][c]*part) / height)
		}
		for range tileWidth {
			b = append(b, mix(2), mix(1), mix(0), 0)
		}
	}
	return b
}
