package mux

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// picky is a sink that takes as much as a test allows.
type picky struct {
	take   func(n int) (int, bool)
	got    []byte
	offers int
}

func (s *picky) Offer(buf []byte, at int) (n int, ready bool) {
	s.offers++
	n, ready = s.take(len(buf) - at)
	s.got = append(s.got, buf[at:at+n]...)
	clear(buf[:at+n]) // it may
	return n, ready
}

// piped returns the ends of a stream over a net.Pipe.
func piped(t *testing.T) (from, to *Stream) {
	t.Helper()
	a, b := net.Pipe()
	one, two := New(a, Config{Dialled: true}), New(b, Config{})
	t.Cleanup(func() { one.Close(); two.Close() })
	from, err := one.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if to, err = two.AcceptStream(); err != nil {
		t.Fatal(err)
	}
	return from, to
}

// send writes size bytes in random pieces, of which the first is short, closes the stream, and returns them.
func send(from *Stream, size int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	all := make([]byte, size)
	for i := range all {
		all[i] = byte(r.Uint32())
	}
	go func() {
		for rest := all; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(100_000))
			if _, err := from.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		from.Close()
	}()
	return all
}

// What a sink takes needs no other goroutine: one that takes everything is left only at the stream's end, over many windows.
func TestDirectNeedsNoReader(t *testing.T) {
	t.Parallel()
	from, to := piped(t)
	all := send(from, 20*initialWindow)
	sink := &picky{take: func(n int) (int, bool) { return n, true }}
	if waits := to.Direct(sink); !waits {
		t.Error("Direct returned before the stream's end")
	}
	if n, err := to.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("got %d bytes for a reader, %v, want none, and the end", n, err)
	}
	if !bytes.Equal(sink.got, all) || sink.offers < 20 {
		t.Errorf("got %d bytes in %d pieces, want the %d that were sent", len(sink.got), sink.offers, len(all))
	}
}

// Whatever a sink takes and leaves, every byte arrives once and in order.
func TestDirectKeepsTheOrder(t *testing.T) {
	t.Parallel()
	from, to := piped(t)
	all := send(from, 20*initialWindow)
	r := rand.New(rand.NewPCG(5, 6))
	sink := &picky{take: func(n int) (int, bool) {
		switch r.IntN(4) {
		case 0:
			return r.IntN(n + 1), false
		case 1:
			return n, false
		case 2:
			return 0, false
		}
		return n, true
	}}
	p := make([]byte, 50_000)
	for {
		if !to.Direct(sink) {
			continue
		}
		n, err := to.Read(p[:1+r.IntN(len(p))])
		sink.got = append(sink.got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(sink.got, all) {
		t.Errorf("got %d bytes, want the %d that were sent, in order", len(sink.got), len(all))
	}
}

// Close and deadlines end a Direct that waits.
func TestDirectEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Stream){
		"close":   func(st *Stream) { st.Close() },
		"past":    func(st *Stream) { _ = st.SetReadDeadline(time.Unix(1, 0)) },
		"session": func(st *Stream) { st.s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				from, to := ends(t, time.Millisecond)
				var all sync.WaitGroup
				all.Go(func() {
					if !to.Direct(&picky{take: func(n int) (int, bool) { return n, true }}) {
						t.Error("Direct returned without a reason")
					}
				})
				_, _ = from.Write(make([]byte, 10))
				synctest.Wait()
				end(to)
				all.Wait()
				if _, err := to.Read(make([]byte, 1)); err == nil {
					t.Error("Read: got no error, want the reason")
				}
			})
		})
	}
}

// Nearby, a window grows only for a reader at line rate, not above nearWindow, and shrinks when that reader slows down.
func TestLineRateNearby(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from, to := ends(t, near/2)
		go flood(from)
		if _, err := io.CopyN(io.Discard, to, lineBytes); err != nil {
			t.Fatal(err)
		}
		if to.window != initialWindow {
			t.Errorf("after %d bytes: got a window of %d, want %d", lineBytes, to.window, initialWindow)
		}
		if _, err := io.CopyN(io.Discard, to, lineBytes); err != nil {
			t.Fatal(err)
		}
		if to.window != nearWindow {
			t.Errorf("at line rate: got a window of %d, want %d", to.window, nearWindow)
		}
		for range 600 {
			time.Sleep(time.Second)
			if _, err := io.CopyN(io.Discard, to, 100<<10); err != nil {
				t.Fatal(err)
			}
		}
		if to.window != initialWindow || to.s.grown.Load() != 0 {
			t.Errorf("with a reader of 100 KiB a second: got a window of %d, want %d", to.window, initialWindow)
		}
	})
}

// counting is a Conn that counts what is sent.
type counting struct {
	Conn
	sends, bytes int
	mu           sync.Mutex
}

func (c *counting) Send(buf []byte, at int) error {
	c.mu.Lock()
	c.sends++
	c.bytes += len(buf) - at
	c.mu.Unlock()
	return c.Conn.Send(buf, at)
}

// What a stream reads from a socket leaves in one Send a frame, with 12 bytes more than there are, and without an allocation a
// frame.
func TestReadFromSendsOnce(t *testing.T) {
	a, b := net.Pipe()
	c := &counting{Conn: plain{a, NewInput(a, Large, nil)}}
	one, two := NewOn(c, Config{Dialled: true}), New(b, Config{})
	defer one.Close()
	defer two.Close()
	from, err := one.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	to, err := two.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	in, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	socket, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	go func() { _, _ = from.ReadFrom(socket) }()
	message, back := make([]byte, 100), make([]byte, 100)
	c.mu.Lock()
	before, size := c.sends, c.bytes
	c.mu.Unlock()
	const frames = 500
	allocated := testing.AllocsPerRun(frames-1, func() {
		_, _ = in.Write(message)
		if _, err := io.ReadFull(to, back); err != nil {
			t.Error(err)
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, bytes := c.sends-before, c.bytes-size; n > frames+2 || bytes > frames*(100+headerSize)+2*headerSize {
		t.Errorf("%d messages: got %d sends of %d bytes, want one a message with its header", frames, n, bytes)
	}
	if allocated > 4 { // a chunk's slice, the pipe's own; the race detector empties pools
		t.Errorf("got %.1f allocations a frame at both ends, want at most 4", allocated)
	}
}

// What a sink took and could not pass on yet counts as waiting: together with what may still arrive, it is at most a window.
// The other end may always send something, or nothing would ever be allowed again.
func TestTornBytesCount(t *testing.T) {
	t.Parallel()
	s, peer := raw(t)
	st := accept(t, s, peer, 1)
	for _, ready := range []bool{true, false, false, true, false, false, false, false} {
		st.mu.Lock()
		st.allowed -= Large // as receive does
		st.sink = &picky{take: func(n int) (int, bool) { return n, ready }}
		st.mu.Unlock()
		st.deliver(make([]byte, Room+Large), Room)
		st.mu.Lock()
		if !ready && st.allowed+Large > initialWindow || st.allowed < Large {
			t.Errorf("ready %v: %d bytes may arrive", ready, st.allowed)
		}
		st.mu.Unlock()
	}
}
