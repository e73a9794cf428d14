// Package x11 is a small X client: it sees a display and uses its mouse and keyboard (XTEST). Open connects with the
// cookie of the display's authority file. A display is used by one goroutine at a time, and each call waits for the
// server, so an error belongs to the call that returns it.
package x11

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	answerWithin = 10 * time.Second
	maxReply     = 64 << 20 // bytes; a picture of a 4K screen has 33 MB
	maxAuthority = 64 << 10
	cookieName   = "MIT-MAGIC-COOKIE-1"
)

// Error is a refusal of the server.
type Error struct {
	Code   byte
	Opcode byte // of the refused request
}

func (e *Error) Error() string {
	return fmt.Sprintf("the X server refused request %d with error %d", e.Opcode, e.Code)
}

// Display is a connection to an X server.
type Display struct {
	conn net.Conn
	r    *bufio.Reader
	stop func() bool
	sent uint16 // sequence number of the latest request

	root     uint32
	xtest    byte // major opcode
	min, max byte // keycodes
	keys     map[uint32]stroke
}

// Open connects to the display of an environment: DISPLAY and XAUTHORITY. The connection ends with ctx.
func Open(ctx context.Context, env map[string]string) (*Display, error) {
	socket, number, err := address(env["DISPLAY"])
	if err != nil {
		return nil, err
	}
	cookie, err := Cookie(env["XAUTHORITY"], number)
	if err != nil {
		return nil, fmt.Errorf("read the display's cookie: %w", err)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	d := &Display{conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	d.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if err = d.greet(cookie); err == nil {
		err = d.prepare()
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("connect to display %s: %w", env["DISPLAY"], err)
	}
	return d, nil
}

// Close ends the connection.
func (d *Display) Close() {
	d.stop()
	d.conn.Close()
}

// address returns the socket and the number of a display such as ":1", ":1.0" or "/folder/socket:1".
func address(display string) (socket, number string, err error) {
	host, rest, ok := cutLast(display, ":")
	number, _, _ = strings.Cut(rest, ".")
	if _, bad := strconv.ParseUint(number, 10, 16); !ok || bad != nil || host != "" && host != "unix" && host[0] != '/' {
		return "", "", fmt.Errorf("display %q is not on this machine", display)
	}
	if strings.HasPrefix(host, "/") {
		return host + ":" + number, number, nil
	}
	return "/tmp/.X11-unix/X" + number, number, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Cookie returns the cookie for a display, given by its number, from an authority file. The desktop's user owns the file, so it may be
// anything.
func Cookie(path, number string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("the authority file is not a regular file"))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxAuthority))
	if err != nil {
		return nil, err
	}
	for len(b) >= 2 {
		b = b[2:] // the family: the address does not matter on a socket of this machine
		var fields [4][]byte
		for i := range fields {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return nil, errors.New("the authority file is damaged")
			}
			n := int(binary.BigEndian.Uint16(b))
			fields[i], b = b[2:2+n], b[2+n:]
		}
		of, name, data := string(fields[1]), string(fields[2]), fields[3]
		if name == cookieName && (of == "" || of == number) {
			return data, nil
		}
	}
	return nil, errors.New("the authority file has no cookie for the display")
}

func pad(n int) int { return (n + 3) &^ 3 }

func (d *Display) greet(cookie []byte) error {
	_ = d.conn.SetDeadline(time.Now().Add(answerWithin))
	b := []byte{'l', 0, 11, 0, 0, 0}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(cookieName)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(cookie)))
	b = append(b, 0, 0)
	b = append(b, cookieName...)
	b = append(b, make([]byte, pad(len(cookieName))-len(cookieName))...)
	b = append(b, cookie...)
	b = append(b, make([]byte, pad(len(cookie))-len(cookie))...)
	if _, err := d.conn.Write(b); err != nil {
		return err
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(d.r, head); err != nil {
		return err
	}
	setup := make([]byte, 4*int(u16(head[6:])))
	if _, err := io.ReadFull(d.r, setup); err != nil {
		return err
	}
	if head[0] != 1 {
		return fmt.Errorf("the X server refused the connection: %q", setup[:min(int(head[1]), len(setup))])
	}
	if len(setup) < 32 {
		return errShort
	}
	d.min, d.max = setup[26], setup[27]
	screen := 32 + pad(int(u16(setup[16:]))) + 8*int(setup[21])
	if setup[20] == 0 || len(setup) < screen+40 || d.max < d.min {
		return errShort
	}
	d.root = u32(setup[screen:])
	if setup[22] != 0 || setup[screen+38] != 24 {
		return errors.New("the display does not have 24 bits a pixel")
	}
	return nil
}

var errShort = errors.New("the X server's answer is too short")

func (d *Display) prepare() error {
	const name = "XTEST"
	r, err := d.ask(32, request(98, 0, append([]byte{byte(len(name)), 0, 0, 0}, name+"\x00\x00\x00"...)))
	if err != nil {
		return err
	}
	if r[8] == 0 {
		return fmt.Errorf("%w: it has no XTEST extension", ErrInput) // a gate that is held has none
	}
	d.xtest = r[9]
	return d.readKeys()
}

// request builds a request; body has whole groups of four bytes.
func request(opcode, detail byte, body []byte) []byte {
	b := []byte{opcode, detail}
	b = binary.LittleEndian.AppendUint16(b, uint16(1+len(body)/4))
	return append(b, body...)
}

func words(w ...uint32) (b []byte) {
	for _, v := range w {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func i16(b []byte) int    { return int(int16(u16(b))) }

const (
	opGetInputFocus = 43
	mappingNotify   = 34
	genericEvent    = 35
)

// ask sends requests, of which only the last one has a reply, and returns that reply, of at least so many bytes. An error
// of any of them is returned.
func (d *Display) ask(atLeast int, requests ...[]byte) ([]byte, error) {
	_ = d.conn.SetDeadline(time.Now().Add(answerWithin))
	var all []byte
	for _, r := range requests {
		all = append(all, r...)
	}
	if _, err := d.conn.Write(all); err != nil {
		return nil, err
	}
	d.sent += uint16(len(requests))
	var refused error
	for {
		head := make([]byte, 32)
		if _, err := io.ReadFull(d.r, head); err != nil {
			return nil, err
		}
		more := 0
		if head[0] == 1 || head[0]&0x7f == genericEvent {
			if u32(head[4:]) > maxReply/4 {
				return nil, errors.New("the X server's answer is too long")
			}
			more = 4 * int(u32(head[4:]))
		}
		reply := append(head, make([]byte, more)...)
		if _, err := io.ReadFull(d.r, reply[32:]); err != nil {
			return nil, err
		}
		switch {
		case head[0] == 0:
			refused = &Error{Code: head[1], Opcode: head[10]}
			if u16(head[2:]) == d.sent {
				return nil, refused
			}
		case head[0] == 1 && u16(head[2:]) == d.sent:
			if refused == nil && len(reply) < atLeast {
				refused = errShort
			}
			return reply, refused
		case head[0]&0x7f == mappingNotify:
			d.keys = nil // read when a key is needed
		}
	}
}

// ErrInput says that the server refused a fake input.
var ErrInput = errors.New("the display refuses input")

// do sends fake inputs. If the server refuses one, the error is an ErrInput.
func (d *Display) do(requests ...[]byte) error {
	_, err := d.ask(32, append(requests, request(opGetInputFocus, 0, nil))...)
	if lost(err) {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	return err
}
