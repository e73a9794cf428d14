package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bufferSize = 64 << 10
	maxFiles   = 64                 // descriptors that may wait for the bytes they came with
	oobSize    = (maxFiles + 4) * 4 // one message's; the kernel allows 253, libxcb sends 16
)

// relay serves one client until either side ends.
func (g *Gate) relay(ctx context.Context, client *net.UnixConn) error {
	_ = client.SetReadDeadline(time.Now().Add(setupWithin))
	in := &reader{c: client, buf: make([]byte, bufferSize)}
	defer in.drop()
	for in.n < 12 { // a connection takes a place at the server only once it has said something
		if err := in.read(); err != nil {
			return tidy(err)
		}
	}
	_ = client.SetReadDeadline(time.Time{})
	own, err := g.own()
	if err != nil {
		return err
	}
	server, err := dialDisplay(g.c.Dir, int(g.display.Load()))
	if err != nil {
		return err
	}
	defer server.Close()
	end := sync.OnceFunc(func() { client.Close(); server.Close() })
	stop := context.AfterFunc(ctx, end)
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() {
		defer end()
		_ = copyAll(client, server)
	})
	defer end()
	return tidy(g.forward(in, server, own.ops))
}

// forward sends a client's requests to the server.
func (g *Gate) forward(in *reader, server *net.UnixConn, ops opcodes) error {
	locked := false
	r := requests{ops: ops, faked: g.note}
	r.refuses = func() bool {
		if !locked {
			locked = true
			g.input.RLock()
		}
		return g.refuses()
	}
	for {
		n, err := r.follow(in.buf[:in.n])
		if n > 0 && err == nil {
			err = in.send(server, n)
		}
		if locked {
			locked = false
			g.input.RUnlock()
		}
		if err != nil {
			return err
		}
		if err := in.read(); err != nil {
			return err
		}
	}
}

// copyAll copies the server's bytes and descriptors to a client.
func copyAll(to, from *net.UnixConn) error {
	in := &reader{c: from, buf: make([]byte, bufferSize)}
	defer in.drop()
	for {
		if err := in.read(); err != nil {
			return err
		}
		if err := in.send(to, in.n); err != nil {
			return err
		}
	}
}

// reader reads bytes and descriptors. Those that were not sent yet come first.
type reader struct {
	c     *net.UnixConn
	buf   []byte
	n     int // bytes in buf
	files []int
	oob   [oobSize]byte
}

var errFiles = errors.New("too many descriptors")

func (r *reader) read() error {
	n, oobn, flags, _, err := r.c.ReadMsgUnix(r.buf[r.n:], r.oob[:])
	if oobn > 0 {
		files, err := descriptors(r.oob[:oobn])
		r.files = append(r.files, files...)
		if err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	case flags&unix.MSG_CTRUNC != 0 || len(r.files) > maxFiles:
		return errFiles
	}
	r.n += n
	return nil
}

// descriptors returns those of a message.
func descriptors(oob []byte) (files []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		some, err := unix.ParseUnixRights(&m)
		files = append(files, some...)
		if err != nil {
			return files, err
		}
	}
	return files, nil
}

// send sends the first n bytes, and all descriptors: the other side may get one before the request that uses it.
func (r *reader) send(to *net.UnixConn, n int) error {
	b := r.buf[:n]
	if len(r.files) > 0 {
		sent, _, err := to.WriteMsgUnix(b, unix.UnixRights(r.files...), nil)
		if err != nil {
			return err
		}
		r.drop()
		b = b[sent:]
	}
	if len(b) > 0 {
		if _, err := to.Write(b); err != nil {
			return err
		}
	}
	r.n = copy(r.buf, r.buf[n:r.n])
	return nil
}

// drop closes the descriptors that are here.
func (r *reader) drop() {
	for _, f := range r.files {
		_ = unix.Close(f)
	}
	r.files = r.files[:0]
}

// tidy returns nil for the ordinary ends of a connection.
func tidy(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

func dialDisplay(dir string, number int) (*net.UnixConn, error) {
	path := filepath.Join(dir, "X"+strconv.Itoa(number))
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, os.ErrNotExist) { // a cleaner of /tmp removed it
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: "@" + path, Net: "unix"})
	}
	return c, err
}
