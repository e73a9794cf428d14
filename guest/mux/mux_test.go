package mux_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// conn is what both implementations of a stream have.
type conn interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// end is one end of a session, of ours or of the library that guests of earlier releases use.
type end struct {
	open, accept func() (conn, error)
	close        func()
}

func ours(c net.Conn, dialled bool) end {
	s := mux.New(c, mux.Config{Dialled: dialled})
	return end{func() (conn, error) { return s.OpenStream() }, func() (conn, error) { return s.AcceptStream() }, func() { s.Close() }}
}

func theirs(c net.Conn, dialled bool) end {
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	start := yamux.Server
	if dialled {
		start = yamux.Client
	}
	s, err := start(c, config)
	if err != nil {
		panic(err)
	}
	return end{func() (conn, error) { return s.OpenStream() }, func() (conn, error) { return s.AcceptStream() }, func() { s.Close() }}
}

// pair connects two ends over TCP.
func pair(t testing.TB, dialled, answering func(net.Conn, bool) end) (a, b end) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = dialled(one, true), answering(two, false)
	t.Cleanup(func() { a.close(); b.close() })
	return a, b
}

var pairs = map[string][2]func(net.Conn, bool) end{
	"both ours": {ours, ours}, "theirs dials": {theirs, ours}, "theirs answers": {ours, theirs},
}

// Streams carry what was written, in both directions at once, whichever end opens them and whichever release it has.
func TestStreams(t *testing.T) {
	t.Parallel()
	for name, ends := range pairs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, ends[0], ends[1])
			var all sync.WaitGroup
			defer all.Wait()
			for _, way := range [][2]end{{a, b}, {b, a}} {
				all.Go(func() {
					for {
						s, err := way[1].accept()
						if err != nil {
							return
						}
						all.Go(func() { defer s.Close(); _, _ = io.Copy(s, s) })
					}
				})
			}
			var echoes sync.WaitGroup
			for n := range 12 {
				from := []end{a, b}[n%2]
				echoes.Go(func() {
					if err := echo(from, n); err != nil {
						t.Errorf("stream %d: %v", n, err)
					}
				})
			}
			echoes.Wait()
			a.close()
			b.close()
		})
	}
}

// echo sends more than a window in pieces of many sizes, and compares what returns.
func echo(from end, seed int) error {
	s, err := from.open()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(r.Uint32())
	}
	wrote := make(chan error, 1)
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), []int{10, 1000, 4096, 70_000, 400_000}[r.IntN(5)])
			if _, err := s.Write(rest[:n]); err != nil {
				wrote <- err
				return
			}
			rest = rest[n:]
		}
		wrote <- nil
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(s, got); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return errors.New("other bytes came back")
	}
	return <-wrote
}

// What was written before a Close arrives, and then io.EOF.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, ends := range pairs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, ends[0], ends[1])
			go func() {
				if s, err := a.open(); err == nil {
					_, _ = s.Write(bytes.Repeat([]byte{1}, 100_000))
					s.Close()
				}
			}()
			s, err := b.accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = s.SetDeadline(time.Now().Add(60 * time.Second))
			if got, err := io.ReadAll(s); err != nil || len(got) != 100_000 {
				t.Errorf("got %d bytes, %v, want 100000 and the end", len(got), err)
			}
		})
	}
}

// Close ends a Read and a Write that wait, and so does a deadline.
func TestWaiting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(s *mux.Stream)
		want error
	}{
		"close":    {func(s *mux.Stream) { s.Close() }, net.ErrClosed},
		"deadline": {func(s *mux.Stream) { _ = s.SetDeadline(time.Now().Add(10 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		"the past": {func(s *mux.Stream) { _ = s.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := net.Pipe()
			s, other := mux.New(a, mux.Config{Dialled: true}), mux.New(b, mux.Config{})
			defer other.Close()
			defer s.Close()
			st, err := s.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			read, wrote := make(chan error, 1), make(chan error, 1)
			go func() { _, err := st.Read(make([]byte, 1)); read <- err }()
			go func() { _, err := st.Write(make([]byte, 1<<20)); wrote <- err }() // more than the window
			time.Sleep(10 * time.Millisecond)
			c.end(st)
			for what, ended := range map[string]chan error{"Read": read, "Write": wrote} {
				select {
				case err := <-ended:
					if !errors.Is(err, c.want) {
						t.Errorf("%s: got %v, want %v", what, err, c.want)
					}
				case <-time.After(60 * time.Second):
					t.Fatalf("%s still waits", what)
				}
			}
		})
	}
}

// Nothing of a stream is left over after both ends have closed it.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	s, other := mux.New(a, mux.Config{Dialled: true}), mux.New(b, mux.Config{})
	defer other.Close()
	defer s.Close()
	for n := range 100 {
		st, err := s.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		peer, err := other.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(st, n)
		first, second := st, peer
		if n%2 == 0 {
			first, second = peer, st
		}
		first.Close()
		second.Close()
	}
	for deadline := time.Now().Add(60 * time.Second); s.Streams()+other.Streams() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d and %d streams, want none", s.Streams(), other.Streams())
		}
	}
}
