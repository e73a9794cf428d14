package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/desktop"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

const (
	screenW, screenH = 1280, 800
	lineRate         = 1_000_000 / 8         // bytes a second of the line
	atRest           = 8 * time.Second       // without data: the server is done
	mayTake          = 3 * time.Minute       // for one picture
	lineSlice        = 20 * time.Millisecond // of the line's time
	losslessFrom     = 9                     // quality from which Xvnc sends nothing again
	fineQuality      = -512                  // pseudo-encodings, as are the next three
	subsampling      = -768
	qualityLevel     = -32
	compressLevel    = -256
)

// benchScreen measures what a viewer on a line of 1 Mbit/s gets from the real Xvnc: a whole picture, then a change of a quarter
// of it. The levels are those of web/src/desktop/quality.ts; the reference asks for them by the quality level alone.
func benchScreen(ctx context.Context) error {
	x, err := startXvnc(ctx)
	if err != nil {
		return err
	}
	defer x.stop()
	if err := x.paint(1, screenW, screenH); err != nil {
		return err
	}
	fmt.Println("| choice | asked for | first picture | all of it | the line is busy | a quarter changes: bytes | busy |")
	fmt.Println("|---|---|---:|---:|---:|---:|---:|")
	for _, l := range []struct {
		name     string
		encoding []int32
	}{
		{"Best", level(9, 1)},
		{"Automatic, at first; before", level(6, 2)},
		{"Automatic, at first", once(level(6, 2), 79, 0)},
		{"Automatic, lower; before", level(4, 6)},
		{"Automatic, lower", once(level(4, 6), 62, 2)},
		{"Slow connection; before", level(1, 8)},
		{"Slow connection", once(level(1, 8), 29, 1)},
	} {
		first, all, change, err := x.view(ctx, l.encoding)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		fmt.Printf("| %s | %v | %.1f s | %.0f kB | %.1f s | %.0f kB | %.1f s |\n", l.name, l.encoding,
			first.Seconds(), float64(all.bytes)/1e3, all.busy.Seconds(), float64(change.bytes)/1e3, change.busy.Seconds())
	}
	return nil
}

func level(quality, compression int32) []int32 {
	return []int32{qualityLevel + quality, compressLevel + compression}
}

// once asks for the same picture by the JPEG quality itself, under a level of which Xvnc sends nothing again.
func once(level []int32, quality, colours int32) []int32 {
	level[0] = qualityLevel + losslessFrom
	return append(level, fineQuality+quality, subsampling+colours)
}

type xvnc struct {
	command *exec.Cmd
	dir     string
	port    string
	x       *xevents.Conn
	gc      uint32
}

func startXvnc(ctx context.Context) (*xvnc, error) {
	dir, err := os.MkdirTemp("", "cloudbot-screen-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	auth := filepath.Join(dir, "auth")
	if err := os.WriteFile(auth, desktop.Xauthority([]byte("0123456789abcdef")), 0o600); err != nil {
		return nil, err
	}
	x := &xvnc{dir: dir, port: port}
	number, announce, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer number.Close()
	x.command = exec.CommandContext(ctx, "Xvnc", "-displayfd", "3", "-geometry", fmt.Sprintf("%dx%d", screenW, screenH), "-depth", "24",
		"-rfbport", port, "-localhost", "-SecurityTypes", "None", "-nolisten", "tcp", "-auth", auth, "-noreset")
	x.command.ExtraFiles = []*os.File{announce}
	err = x.command.Start()
	announce.Close()
	if err != nil {
		return nil, err
	}
	text, err := bufio.NewReader(number).ReadString('\n')
	if err == nil {
		var n int
		if n, err = strconv.Atoi(strings.TrimSpace(text)); err == nil {
			x.x, err = xevents.Dial(n, auth, nil)
		}
	}
	if err != nil {
		x.stop()
		return nil, fmt.Errorf("start Xvnc: %w", err)
	}
	x.gc = x.x.NewID()
	return x, x.x.Send(xevents.U32([]byte{55, 0, 0, 0}, x.gc, x.x.Root, 0)...) // CreateGC
}

func (x *xvnc) stop() {
	if x.x != nil {
		x.x.Close()
	}
	_ = x.command.Process.Kill()
	_ = x.command.Wait()
	os.RemoveAll(x.dir)
}

// paint draws something like a photograph: smooth shapes of several sizes, with a little noise.
func (x *xvnc) paint(seed float64, w, h int) error {
	noise := uint32(seed * 7919)
	row := make([]byte, 0, 4*w)
	for y := range h {
		row = row[:0]
		for i := range w {
			u, v := float64(i)/100, float64(y)/100
			for c := 0.0; c < 3; c++ {
				f := math.Sin(u*seed+c) + math.Sin(v*1.3+c*2) + math.Sin((u+v)*3.1+seed)/2 + math.Sin(u*11)*math.Sin(v*13)/4
				noise = noise*1664525 + 1013904223
				row = append(row, byte(128+32*f)+byte(noise>>29))
			}
			row = append(row, 0)
		}
		b := xevents.U32([]byte{72, 2, 0, 0}, x.x.Root, x.gc) // PutImage, ZPixmap
		b = xevents.U16(b, uint16(w), 1, 0, uint16(y))
		if err := x.x.Send(append(append(b, 0, 24, 0, 0), row...)...); err != nil {
			return err
		}
	}
	return x.x.Sync()
}

// transfer is what came until the server was done.
type transfer struct {
	bytes int64
	busy  time.Duration // from its begin to its last byte
}

// view connects a viewer and waits for the picture, and for what follows on it. Then a quarter of the screen changes.
func (x *xvnc) view(ctx context.Context, encodings []int32) (first time.Duration, all, change transfer, err error) {
	c, err := net.Dial("tcp4", "127.0.0.1:"+x.port)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.(*net.TCPConn).SetReadBuffer(8 << 10)
	l := &line{c: c}
	v := &viewer{c: c, r: bufio.NewReaderSize(l, 4<<10)}
	if err = v.greet(encodings); err != nil {
		return
	}
	if first, all, err = v.wait(l, time.Now()); err != nil {
		return
	}
	began := time.Now()
	if err = x.paint(2, screenW/2, screenH/2); err != nil {
		return
	}
	_, change, err = v.wait(l, began)
	if err == nil {
		err = x.paint(1, screenW, screenH)
	}
	return
}

// line delays what is read to its rate.
type line struct {
	c     net.Conn
	bytes int64
	free  time.Time // when it can carry the next byte
	last  time.Time // when it carried the last one
}

func (l *line) Read(p []byte) (int, error) {
	if wait := time.Until(l.free); wait > 0 {
		time.Sleep(wait)
	}
	n, err := l.c.Read(p[:min(len(p), int(lineRate*lineSlice/time.Second))])
	if n == 0 {
		return 0, err
	}
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / lineRate)
	l.bytes += int64(n)
	l.last = l.free
	return n, err
}

// viewer is as much of a viewer as it takes to find the ends of updates.
type viewer struct {
	c net.Conn
	r *bufio.Reader
}

func (v *viewer) greet(encodings []int32) error {
	in := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(v.r, b)
		return b
	}
	in(12)
	fmt.Fprint(v.c, rfb.Version)
	in(int(in(1)[0]))
	_, _ = v.c.Write([]byte{rfb.SecurityNone})
	in(4)
	_, _ = v.c.Write([]byte{1})
	head := in(24)
	in(int(binary.BigEndian.Uint32(head[20:])))
	encodings = slices.Concat([]int32{1, 7, 0, -224, -312, -313}, encodings) // CopyRect, Tight, Raw, LastRect, Fence, ContinuousUpdates
	b := binary.BigEndian.AppendUint16([]byte{rfb.SetEncodings, 0}, uint16(len(encodings)))
	for _, e := range encodings {
		b = binary.BigEndian.AppendUint32(b, uint32(e))
	}
	// As noVNC does: 32 bits a pixel, of which Tight sends 24.
	format := []byte{rfb.SetPixelFormat, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0}
	_, err := v.c.Write(append(append(format, b...), request(rfb.FramebufferUpdateRequest)...))
	return err
}

// request is about the whole screen.
func request(kind byte) []byte {
	b := []byte{kind, 0, 0, 0, 0, 0}
	if kind == enableUpdates {
		b[1] = 1
	}
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, screenW), screenH)
}

const (
	enableUpdates, updatesEnd, fence = 150, 150, 248
	lastRect                         = -224
)

// wait reads until the server is at rest.
func (v *viewer) wait(l *line, began time.Time) (first time.Duration, t transfer, err error) {
	before := l.bytes
	defer func() { _ = v.c.SetReadDeadline(time.Time{}) }()
	for {
		if time.Since(began) > mayTake {
			return 0, t, errors.New("the server does not come to rest")
		}
		_ = v.c.SetReadDeadline(time.Now().Add(atRest))
		kind, err := v.r.ReadByte()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return first, transfer{l.bytes - before, l.last.Sub(began)}, nil
		}
		_ = v.c.SetReadDeadline(time.Now().Add(mayTake))
		if err == nil {
			err = v.message(kind)
		}
		if err != nil {
			return 0, t, err
		}
		if kind == rfb.FramebufferUpdate && first == 0 {
			first = time.Until(l.free) + time.Since(began)
		}
	}
}

func (v *viewer) message(kind byte) error {
	switch kind {
	case rfb.FramebufferUpdate:
		return v.update()
	case updatesEnd: // the server knows continuous updates
		_, err := v.c.Write(request(enableUpdates))
		return err
	case fence:
		head, err := v.bytes(8)
		if err != nil {
			return err
		}
		data, err := v.bytes(int(head[7]))
		if err == nil {
			_, err = v.c.Write(append([]byte{fence, 0, 0, 0, 0, 0, 0, head[6] & 3, head[7]}, data...))
		}
		return err
	case rfb.ServerCutText:
		head, err := v.bytes(7)
		if err != nil {
			return err
		}
		_, err = v.bytes(int(binary.BigEndian.Uint32(head[3:])))
		return err
	case rfb.Bell:
		return nil
	}
	return fmt.Errorf("unknown message %d", kind)
}

func (v *viewer) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(v.r, b)
	return b, err
}
