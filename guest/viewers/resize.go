package viewers

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

const (
	resizeWithin        = 5 * time.Second
	extendedDesktopSize = -308
	byThisViewer        = 1       // the reason of an ExtendedDesktopSize
	maxCut              = 4 << 20 // bytes of a copied text, which Xvnc may send
)

// resize gives the VNC server's screen a size as in 1280x800, with a connection of its own.
func resize(addr, password, size string) error {
	var width, height uint16
	if _, err := fmt.Sscanf(size, "%dx%d", &width, &height); err != nil {
		return fmt.Errorf("size %q: %w", size, err)
	}
	c, err := net.DialTimeout("tcp", addr, resizeWithin)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(resizeWithin))
	r := bufio.NewReader(c)
	init, err := rfb.Unlock(struct {
		io.Reader
		io.Writer
	}{r, c}, password)
	if err != nil {
		return err
	}
	order := binary.BigEndian
	encoding := int32(extendedDesktopSize)
	hello := order.AppendUint32([]byte{rfb.SetEncodings, 0, 0, 1}, uint32(encoding))
	// One pixel: the answer tells the screen's parts.
	pixel := []byte{rfb.FramebufferUpdateRequest, 0, 0, 0, 0, 0, 0, 1, 0, 1}
	if _, err := c.Write(append(hello, pixel...)); err != nil {
		return err
	}
	screen := listener{r: r, pixel: int64(init[4]) / 8}
	_, first, err := screen.next()
	if err != nil {
		return err
	}
	message := order.AppendUint16([]byte{rfb.SetDesktopSize, 0}, width)
	message = append(order.AppendUint16(message, height), 1, 0)
	message = append(append(message, first[:4]...), 0, 0, 0, 0) // its id, at the upper left
	message = append(order.AppendUint16(order.AppendUint16(message, width), height), first[12:16]...)
	pixel[1] = 1 // when something changes
	if _, err := c.Write(append(message, pixel...)); err != nil {
		return err
	}
	for {
		rect, _, err := screen.next()
		if err != nil {
			return err
		}
		if reason, status := order.Uint16(rect[:]), order.Uint16(rect[2:]); reason == byThisViewer {
			if status != 0 {
				return fmt.Errorf("the VNC server refused the size %s with status %d", size, status)
			}
			return nil
		}
	}
}

// listener reads what the server sends.
type listener struct {
	r     *bufio.Reader
	pixel int64 // bytes of one
	rects uint16
}

// next returns the next ExtendedDesktopSize: its rectangle, and the first part of the screen.
func (l *listener) next() (rect [12]byte, first [16]byte, err error) {
	read := func(b []byte) {
		if err == nil {
			_, err = io.ReadFull(l.r, b)
		}
	}
	skip := func(n int64) {
		if err == nil {
			_, err = io.CopyN(io.Discard, l.r, n)
		}
	}
	order := binary.BigEndian
	for err == nil {
		if l.rects == 0 {
			if err := l.update(read, skip); err != nil {
				return rect, first, err
			}
			continue
		}
		l.rects--
		read(rect[:])
		switch encoding := int32(order.Uint32(rect[8:])); {
		case err != nil:
		case encoding == rfb.EncodingRaw:
			skip(int64(order.Uint16(rect[4:])) * int64(order.Uint16(rect[6:])) * l.pixel)
		case encoding == extendedDesktopSize:
			var count [4]byte
			read(count[:])
			if err == nil && count[0] == 0 {
				return rect, first, errors.New("the screen has no parts")
			}
			read(first[:])
			skip(16 * (int64(count[0]) - 1))
			return rect, first, err
		default:
			return rect, first, fmt.Errorf("unknown encoding %d", encoding)
		}
	}
	return rect, first, err
}

// update reads until the rectangles of an update.
func (l *listener) update(read func([]byte), skip func(int64)) error {
	kind, err := l.r.ReadByte()
	if err != nil {
		return err
	}
	var b [7]byte
	switch kind {
	case rfb.FramebufferUpdate:
		read(b[:3])
		l.rects = binary.BigEndian.Uint16(b[1:])
	case rfb.Bell:
	case rfb.ServerCutText:
		read(b[:7])
		n := binary.BigEndian.Uint32(b[3:])
		if n > maxCut {
			return errors.New("the copied text is too long")
		}
		skip(int64(n))
	default:
		return fmt.Errorf("unknown message %d", kind)
	}
	return nil
}
