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

// A buffer returns the bytes that were put in, and never frees a chunk that is being written.
func TestBuffer(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var b buffer
	var want []byte
	var to []byte
	next := byte(0)
	for range 20_000 {
		switch n := 1 + r.IntN(2*chunkSize); r.IntN(7) {
		case 0, 1, 2:
			if !b.filling {
				to = b.space(n)
			}
		case 3, 4:
			if !b.filling {
				continue
			}
			for i := range to {
				next += 7
				to[i] = next
			}
			want = append(want, to...)
			b.commit(len(to))
		case 5:
			p := make([]byte, n)
			n = b.take(p)
			if !bytes.Equal(p[:n], want[:n]) || n < min(len(p), len(want)) {
				t.Fatalf("got %d other bytes, or fewer than %d", n, min(len(p), len(want)))
			}
			want = want[n:]
		case 6:
			if r.IntN(5) == 0 {
				b.clear()
				want = nil
			}
		}
		if b.size != len(want) || len(b.chunks) > len(want)/chunkSize+2 || b.filling && len(b.chunks) == 0 {
			t.Fatalf("got %d bytes in %d chunks, want %d", b.size, len(b.chunks), len(want))
		}
	}
}

// A stream that is closed while a frame of it arrives gives its chunk to no other stream before the frame's end.
func TestCloseWhileFilling(t *testing.T) {
	t.Parallel()
	s, peer := raw(t)
	for id := uint32(1); id < 200; id += 2 {
		st := accept(t, s, peer, id)
		if _, err := peer.Write(append(head(typeData, 0, id, 1000), make([]byte, 500)...)); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() { st.Close() })
		all.Go(func() { _, _ = st.Read(make([]byte, 100)) })
		other := New(nopConn{}, Config{}) // takes chunks of the same pool
		filler := Stream{s: other}
		for range 10 {
			copy(filler.in.space(chunkSize), bytes.Repeat([]byte{1}, chunkSize))
			filler.in.commit(chunkSize)
		}
		if _, err := peer.Write(make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		p := make([]byte, 10*chunkSize)
		if n := filler.in.take(p); n != len(p) || bytes.IndexByte(p, 0) >= 0 {
			t.Fatal("bytes of a closed stream arrived in another")
		}
		other.Close()
	}
}

type nopConn struct{}

func (nopConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (nopConn) Write(p []byte) (int, error) { return len(p), nil }
func (nopConn) Close() error                { return nil }

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
