package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// server is a connection of the gate's own to the display.
type server struct {
	c       *net.UnixConn
	ops     opcodes
	replies chan []byte   // the first 32 bytes of replies and errors; what is late or not waited for is dropped
	done    chan struct{} // closed when the connection has ended

	mu   sync.Mutex // for one request with a reply at a time
	sent uint16     // requests, modulo 65,536
}

const (
	queryExtension = 98
	getInputFocus  = 43
	answerWithin   = 5 * time.Second
	maxReply       = 1 << 20
)

var le = binary.LittleEndian

// own returns the gate's own connection, and makes it if there is none.
func (g *Gate) own() (*server, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != nil {
		select {
		case <-g.server.done:
			g.server = nil
			g.pressed = pressed{} // another server begins with nothing pressed
		default:
			return g.server, nil
		}
	}
	display := int(g.display.Load())
	s, err := connect(g.c.Dir, display, g.c.Auth)
	if err != nil {
		return nil, fmt.Errorf("reach display :%d: %w", display, err)
	}
	g.log.Info("display reached", "display", display, "gate", g.number, "opcodes", s.ops)
	g.server = s
	return s, nil
}

// forget closes the gate's own connection.
func (g *Gate) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != nil {
		g.server.c.Close()
		<-g.server.done
		g.server = nil
	}
}

// connect connects and asks for the extensions' opcodes.
func connect(dir string, display int, auth string) (*server, error) {
	cookie, err := cookieIn(auth)
	if err != nil {
		return nil, err
	}
	c, err := dialDisplay(dir, display)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(answerWithin))
	if err := greet(c, cookie); err != nil {
		c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	s := &server{c: c, replies: make(chan []byte, 600), done: make(chan struct{})}
	go s.read()
	for _, e := range []struct {
		name         string
		major, event *byte
	}{
		{xtest, &s.ops.xtest, nil}, {"XKEYBOARD", &s.ops.xkb, nil}, {"BIG-REQUESTS", &s.ops.bigRequests, nil},
		{vncExtension, &s.ops.vnc, nil},
		{"XInputExtension", &s.ops.xinput, &s.ops.xinputEvent},
	} {
		name := []byte(e.name)
		b := append([]byte{queryExtension, 0, 0, 0, byte(len(name)), 0, 0, 0}, name...)
		reply, err := s.ask(b)
		if err != nil {
			c.Close()
			<-s.done
			return nil, err
		}
		if reply[0] != 1 || reply[8] == 0 {
			continue
		}
		*e.major = reply[9]
		if e.event != nil {
			*e.event = reply[10]
		}
	}
	return s, nil
}

const cookieName = "MIT-MAGIC-COOKIE-1"

// cookieIn returns the first cookie of an authority file; "": no cookie is needed.
func cookieIn(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	field := func() (f []byte) {
		if len(b) >= 2 {
			if n := int(binary.BigEndian.Uint16(b)); len(b) >= 2+n {
				f, b = b[2:2+n], b[2+n:]
				return f
			}
		}
		b = nil
		return nil
	}
	for len(b) > 2 {
		b = b[2:] // family
		field()   // address
		field()   // display
		if name, data := string(field()), field(); name == cookieName {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%s has no %s", path, cookieName)
}

// greet sets a connection up.
func greet(c io.ReadWriter, cookie []byte) error {
	name := cookieName
	if cookie == nil {
		name = ""
	}
	b := []byte{'l', 0, 11, 0, 0, 0, byte(len(name)), 0, byte(len(cookie)), 0, 0, 0}
	b = padded(append(b, name...))
	b = padded(append(b, cookie...))
	if _, err := c.Write(b); err != nil {
		return err
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	rest := make([]byte, 4*int(le.Uint16(head[6:])))
	if _, err := io.ReadFull(c, rest); err != nil {
		return err
	}
	if head[0] != 1 {
		return fmt.Errorf("the display refused a connection: %.80q", rest[:min(len(rest), int(head[1]))])
	}
	return nil
}

func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// read hands replies on and drops events, which the server sends without being asked.
func (s *server) read() {
	defer close(s.done)
	defer s.c.Close()
	for {
		b := make([]byte, 32)
		if _, err := io.ReadFull(s.c, b); err != nil {
			return
		}
		if kind := b[0] & 0x7f; kind == 1 || kind == 35 {
			more := 4 * int64(le.Uint32(b[4:]))
			if more > maxReply {
				return
			}
			if _, err := io.CopyN(io.Discard, s.c, more); err != nil {
				return
			}
		}
		if b[0] <= 1 {
			select {
			case s.replies <- b:
			default:
			}
		}
	}
}

var errNoAnswer = errors.New("the display does not answer")

// ask sends a request that has a reply, and returns the beginning of the reply or the error.
func (s *server) ask(request []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.send(request); err != nil {
		return nil, err
	}
	limit := time.After(answerWithin)
	for {
		select {
		case b := <-s.replies:
			if le.Uint16(b[2:]) == s.sent { // else the error of an earlier one
				return b, nil
			}
		case <-s.done:
			return nil, errNoAnswer
		case <-limit:
			return nil, errNoAnswer
		}
	}
}

func (s *server) send(request []byte) error {
	request = padded(request)
	le.PutUint16(request[2:], uint16(len(request)/4))
	_ = s.c.SetWriteDeadline(time.Now().Add(answerWithin))
	s.sent++
	_, err := s.c.Write(request)
	return err
}

// sync waits until the server has carried out all requests of this connection.
func (s *server) sync() error {
	_, err := s.ask([]byte{getInputFocus, 0, 0, 0})
	return err
}

// fake creates an event of input.
func (s *server) fake(event, detail byte) error {
	b := make([]byte, 36)
	b[0], b[1], b[4], b[5] = s.ops.xtest, fakeInput, event, detail
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(b)
}
