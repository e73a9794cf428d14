package machine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// cloud is a point where our wallpaper is nearly white, on a screen of 1280 by 800.
var cloud = image.Pt(870, 430)

// viewer is an RFB client on the VNC bridge.
type viewer struct {
	conn    net.Conn
	m       *image.RGBA // as last painted
	painted chan error  // the end of each update
}

// view opens a viewer until ctx ends. It reads all the time, as the bridge expects of a browser.
func (u *user) view(ctx context.Context, id string) (*viewer, error) {
	ws, err := u.bridge(ctx, id, "vnc")
	if err != nil {
		return nil, err
	}
	v := &viewer{conn: websocket.NetConn(ctx, ws, websocket.MessageBinary)}
	size, err := rfbHello(v.conn)
	if err != nil {
		ws.CloseNow()
		return nil, fmt.Errorf("RFB handshake: %w", err)
	}
	v.m, v.painted = image.NewRGBA(image.Rectangle{Max: size}), make(chan error, 1)
	go func() {
		for err := error(nil); err == nil; {
			err = rfbUpdate(v.conn, v.m)
			v.painted <- err
		}
		close(v.painted)
	}()
	return v, nil
}

// paint gets the whole picture.
func (v *viewer) paint() error {
	if err := rfbAsk(v.conn, v.m.Rect.Max); err != nil {
		return err
	}
	err, ok := <-v.painted
	if !ok {
		err = net.ErrClosed
	}
	return err
}

// move moves the pointer with these buttons pressed, as a mask.
func (v *viewer) move(p image.Point, buttons byte) error {
	b := binary.BigEndian.AppendUint16([]byte{rfb.PointerEvent, buttons}, uint16(p.X))
	_, err := v.conn.Write(binary.BigEndian.AppendUint16(b, uint16(p.Y)))
	return err
}

// press presses and releases a key.
func (v *viewer) press(sym uint32) error {
	var b []byte
	for _, down := range []byte{1, 0} {
		b = binary.BigEndian.AppendUint32(append(b, rfb.KeyEvent, down, 0, 0), sym)
	}
	_, err := v.conn.Write(b)
	return err
}

// screenshot looks at the desktop through the VNC bridge until it shows as many colours as a desktop has, and saves the
// picture. A desktop without our wallpaper is not complete.
func (u *user) screenshot(id, file string) (colours int, err error) {
	ctx, cancel := context.WithTimeout(u.t.Context(), 60*time.Second)
	defer cancel()
	v, err := u.view(ctx, id)
	if err != nil {
		return 0, err
	}
	defer v.conn.Close()
	same, last := 0, 0
	for colours < 500 || same < 3 { // it is up and fully painted
		if err := v.paint(); err != nil {
			return colours, fmt.Errorf("with %d colours: %w", colours, err)
		}
		if colours = count(v.m); colours == last {
			same++
		} else {
			same, last = 0, colours
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return colours, ctx.Err()
		case <-t.C:
		}
	}
	if err := savePNG(file, v.m); err != nil {
		return colours, err
	}
	if c := v.m.RGBAAt(cloud.X, cloud.Y); c.R < 160 || c.G < 160 || c.B < 160 {
		return colours, fmt.Errorf("no wallpaper: %v at %v", c, cloud)
	}
	return colours, nil
}

func savePNG(file string, m image.Image) error {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func count(m *image.RGBA) int {
	seen := map[[3]byte]bool{}
	for i := 0; i < len(m.Pix); i += 4 {
		seen[[3]byte(m.Pix[i:i+3])] = true
	}
	return len(seen)
}

// rfbHello does the client's part of RFB 3.8 with security type None, and asks for raw rectangles.
func rfbHello(conn io.ReadWriter) (size image.Point, err error) {
	talk := []struct {
		read  int
		write []byte
	}{
		{12, []byte("RFB 003.008\n")},
		{2, []byte{1}}, // one security type
		{4, []byte{1}}, // its result; shared
	}
	for _, s := range talk {
		b := make([]byte, s.read)
		if _, err := io.ReadFull(conn, b); err != nil {
			return size, err
		}
		if s.read == 2 && (b[0] != 1 || b[1] != 1) || s.read == 4 && binary.BigEndian.Uint32(b) != 0 {
			return size, fmt.Errorf("the server says %v", b)
		}
		if _, err := conn.Write(s.write); err != nil {
			return size, err
		}
	}
	b := make([]byte, 24)
	if _, err := io.ReadFull(conn, b); err != nil {
		return size, err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(b[20:]))); err != nil {
		return size, err
	}
	size = image.Pt(int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:])))
	_, err = conn.Write([]byte{
		0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, // SetPixelFormat: 32 bits, true colour
		2, 0, 0, 1, 0, 0, 0, 0, // SetEncodings: raw
	})
	return size, err
}

// rfbAsk requests the whole picture.
func rfbAsk(conn io.Writer, size image.Point) error {
	ask := []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(ask[6:], uint16(size.X))
	binary.BigEndian.PutUint16(ask[8:], uint16(size.Y))
	_, err := conn.Write(ask)
	return err
}

// rfbUpdate paints the next update.
func rfbUpdate(conn io.Reader, m *image.RGBA) error {
	for {
		head := make([]byte, 1)
		if _, err := io.ReadFull(conn, head); err != nil {
			return err
		}
		switch head[0] {
		case 0: // FramebufferUpdate
			return rfbRectangles(conn, m)
		case 2: // Bell
		case 3: // ServerCutText
			b := make([]byte, 7)
			if _, err := io.ReadFull(conn, b); err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(b[3:]))); err != nil {
				return err
			}
		default:
			return fmt.Errorf("server message %d", head[0])
		}
	}
}

func rfbRectangles(conn io.Reader, m *image.RGBA) error {
	b := make([]byte, 3)
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	for range binary.BigEndian.Uint16(b[1:]) {
		r := make([]byte, 12)
		if _, err := io.ReadFull(conn, r); err != nil {
			return err
		}
		x, y := int(binary.BigEndian.Uint16(r)), int(binary.BigEndian.Uint16(r[2:]))
		w, h := int(binary.BigEndian.Uint16(r[4:])), int(binary.BigEndian.Uint16(r[6:]))
		pixels := make([]byte, 4*w*h)
		if _, err := io.ReadFull(conn, pixels); err != nil {
			return err
		}
		for i := range w * h {
			p := pixels[4*i:]
			m.SetRGBA(x+i%w, y+i/w, color.RGBA{p[2], p[1], p[0], 255})
		}
	}
	return nil
}
