package mux

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// accept returns the stream with an id that a peer opens.
func accept(t *testing.T, s *Session, peer net.Conn, id uint32) *Stream {
	t.Helper()
	if _, err := peer.Write(head(typeWindow, flagSYN, id, 0)); err != nil {
		t.Fatal(err)
	}
	st, err := s.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A buffer returns the bytes that were put in, and holds no more chunks than they need.
func TestBuffer(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var b buffer
	var want []byte
	next := byte(0)
	for range 20_000 {
		switch n := 1 + r.IntN(2*chunkSize); r.IntN(5) {
		case 0, 1:
			p := make([]byte, n)
			for i := range p {
				next += 7
				p[i] = next
			}
			want = append(want, p...)
			b.put(p)
		case 2, 3:
			p := make([]byte, n)
			n = b.take(p)
			if !bytes.Equal(p[:n], want[:n]) || n < min(len(p), len(want)) {
				t.Fatalf("got %d other bytes, or fewer than %d", n, min(len(p), len(want)))
			}
			want = want[n:]
		case 4:
			if r.IntN(5) == 0 {
				b.clear()
				want = nil
			}
		}
		if b.size != len(want) || len(b.chunks) > len(want)/chunkSize+2 {
			t.Fatalf("got %d bytes in %d chunks, want %d", b.size, len(b.chunks), len(want))
		}
	}
}

// A stream that is closed while a frame of it arrives takes nothing more of it, and the frame after it is understood.
func TestCloseWithinAFrame(t *testing.T) {
	t.Parallel()
	s, peer := raw(t)
	after := accept(t, s, peer, 1001)
	for id := uint32(1); id < 200; id += 2 {
		st := accept(t, s, peer, id)
		if _, err := peer.Write(append(head(typeData, 0, id, 1000), make([]byte, 500)...)); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() { st.Close() })
		all.Go(func() { _, _ = st.Read(make([]byte, 100)) })
		if _, err := peer.Write(append(make([]byte, 500), append(head(typeData, 0, 1001, 1), byte(id))...)); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		p := make([]byte, 1)
		if _, err := after.Read(p); err != nil || p[0] != byte(id) {
			t.Fatalf("the next stream: got %v, %v, want %d", p, err, byte(id))
		}
		st.mu.Lock()
		if st.in.size > 0 {
			t.Errorf("a closed stream holds %d bytes", st.in.size)
		}
		st.mu.Unlock()
	}
}

// Close ends every Read and Write that waits, and so does a deadline.
func TestManyWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(*Stream)
		want error
	}{
		"close":    {func(st *Stream) { st.Close() }, net.ErrClosed},
		"the past": {func(st *Stream) { _ = st.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"deadline": {func(st *Stream) { _ = st.SetDeadline(time.Now().Add(20 * time.Millisecond)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := net.Pipe()
			one, two := New(a, Config{Dialled: true}), New(b, Config{})
			defer two.Close()
			defer one.Close()
			st, err := one.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			waiting := make(chan error, 8)
			for range 4 {
				go func() { _, err := st.Read(make([]byte, 1)); waiting <- err }()
				go func() { _, err := st.Write(make([]byte, 1<<20)); waiting <- err }()
			}
			time.Sleep(10 * time.Millisecond)
			c.end(st)
			for n := range 8 {
				select {
				case err := <-waiting:
					if !errors.Is(err, c.want) {
						t.Errorf("got %v, want %v", err, c.want)
					}
				case <-time.After(60 * time.Second):
					t.Fatalf("only %d of 8 calls have ended", n)
				}
			}
		})
	}
}

// A Read after its deadline fails even while bytes arrive.
func TestDeadlineBeforeBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from, to := ends(t, time.Millisecond)
		go flood(from)
		_ = to.SetReadDeadline(time.Now().Add(time.Second))
		for until := time.Now().Add(time.Minute); ; {
			if _, err := to.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if time.Sleep(10 * time.Millisecond); time.Now().After(until) {
				t.Fatal("the deadline has no effect while bytes arrive")
			}
		}
		_ = to.SetReadDeadline(time.Time{})
		if n, err := to.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("without a deadline: got %d, %v, want a byte", n, err)
		}
	})
}

// A reader that waits while its stream and then the session end learns how the stream ended: it may have everything.
func TestEndBeforeTheSession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags uint16
		want  error
	}{"closed": {flagFIN, io.EOF}, "reset": {flagRST, ErrReset}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, peer := raw(t)
			st := accept(t, s, peer, 1)
			_, _ = peer.Write(head(typeWindow, c.flags, st.id, 0))
			peer.Close()
			<-s.Done()
			for range 100 { // it has a token and the session's end at once, and takes either
				signal(st.readable)
				if err := st.wait(st.readable, time.Time{}); err != nil {
					t.Fatalf("got %v, want it to look at the stream", err)
				}
			}
			if _, err := st.Read(make([]byte, 1)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// failing is a connection whose writes fail after some.
type failing struct {
	net.Conn
	left int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// A Write counts the bytes that were handed to the connection, and no others.
func TestWriteCounts(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer b.Close()
	s := New(&failing{a, 3}, Config{Dialled: true}) // perhaps a ping, the opening frame, and a frame or two
	defer s.Close()
	st, err := s.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	const size = MaxFrame - headerSize
	if n, err := st.Write(make([]byte, 3*size)); err == nil || n > 2*size || n < size {
		t.Errorf("got %d, %v, want the bytes of the frames before the error", n, err)
	}
	if n, err := st.Write([]byte{1}); n != 0 || err == nil {
		t.Errorf("after the session's end: got %d, %v, want 0 and an error", n, err)
	}
}

// A frame that arrives slowly is no silence, whether a reader wants it or not.
func TestSlowFrames(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]uint32{"open": 1, "unknown": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, peer := far(time.Millisecond)
				s := New(a, Config{})
				defer func() { s.Close(); peer.Close(); time.Sleep(time.Second) }()
				_, _ = peer.Write(head(typeWindow, flagSYN, 1, 0))
				_, _ = peer.Write(head(typeData, 0, id, initialWindow))
				for range 64 { // no ping can be answered within a frame
					time.Sleep(time.Second)
					_, _ = peer.Write(make([]byte, initialWindow/64))
				}
				synctest.Wait()
				if err := s.Err(); err != nil {
					t.Errorf("got %v while a frame arrived, want the session to go on", err)
				}
			})
		})
	}
}

// A peer that resets a stream and opens another with its id keeps the new one when this end closes the old one.
func TestReusedID(t *testing.T) {
	t.Parallel()
	s, peer := raw(t)
	old := accept(t, s, peer, 1)
	_, _ = peer.Write(head(typeWindow, flagRST, 1, 0))
	fresh := accept(t, s, peer, 1)
	old.Close()
	_, _ = peer.Write(append(head(typeData, 0, 1, 1), 7))
	_ = fresh.SetReadDeadline(time.Now().Add(60 * time.Second))
	p := make([]byte, 1)
	if _, err := fresh.Read(p); err != nil || p[0] != 7 || s.Streams() != 1 {
		t.Errorf("got %v, %v and %d streams, want the byte, and one stream", p, err, s.Streams())
	}
}
