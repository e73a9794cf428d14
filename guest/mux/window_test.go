package mux

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// distant is an end of a connection whose bytes arrive after a delay, however many they are.
type distant struct {
	delay time.Duration
	out   chan parcel
	in    chan parcel
	rest  []byte
	once  sync.Once
	done  chan struct{}
	other chan struct{}
}

type parcel struct {
	at    time.Time
	bytes []byte
}

// far returns two ends whose round trip takes rtt.
func far(rtt time.Duration) (a, b *distant) {
	there, back := make(chan parcel, 1<<16), make(chan parcel, 1<<16)
	one, two := make(chan struct{}), make(chan struct{})
	return &distant{delay: rtt / 2, out: there, in: back, done: one, other: two}, &distant{delay: rtt / 2, out: back, in: there, done: two, other: one}
}

func (d *distant) Write(p []byte) (int, error) {
	select {
	case d.out <- parcel{time.Now().Add(d.delay), append([]byte(nil), p...)}:
		return len(p), nil
	case <-d.done:
		return 0, net.ErrClosed
	}
}

func (d *distant) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		select {
		case next := <-d.in:
			time.Sleep(time.Until(next.at))
			d.rest = next.bytes
		case <-d.done:
			return 0, net.ErrClosed
		case <-d.other:
			return 0, io.EOF
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *distant) Close() error { d.once.Do(func() { close(d.done) }); return nil }

// ends returns the two ends of a stream over a distance, in a bubble whose time is not the computer's.
func ends(t *testing.T, rtt time.Duration) (from, to *Stream) {
	a, b := far(rtt)
	one, two := New(a, Config{Dialled: true}), New(b, Config{})
	t.Cleanup(func() { one.Close(); two.Close(); time.Sleep(time.Second) }) // what is under way arrives
	from, err := one.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if to, err = two.AcceptStream(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * rtt) // both know the round trip
	return from, to
}

func flood(s *Stream) {
	for {
		if _, err := s.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

// A window is one round trip's worth of data: 50 ms away, 256 KiB would be 5 MB/s. It grows to what the reader takes.
func TestDistance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from, to := ends(t, 50*time.Millisecond)
		go flood(from)
		const size = 64 << 20
		began := time.Now()
		if _, err := io.CopyN(io.Discard, to, size); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); float64(size)/took.Seconds() < 80e6 {
			t.Errorf("64 MiB over a round trip of 50 ms took %v of the bubble's time, want at least 80 MB/s", took)
		}
		if to.window > MaxWindow || to.s.grown.Load() != int64(to.window)-initialWindow {
			t.Errorf("got a window of %d, and %d by which all have grown, want at most %d, and the difference to the first", to.window, to.s.grown.Load(), MaxWindow)
		}
		to.Close()
		if grown := to.s.grown.Load(); grown != 0 {
			t.Errorf("got %d bytes still taken by the window of a closed stream, want 0", grown)
		}
	})
}

// A reader that stops holds a window, and no more. Nearby, the window stays as it began.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rtt  time.Duration
		most int
	}{"nearby": {time.Millisecond, initialWindow}, "distant": {50 * time.Millisecond, MaxWindow}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				from, to := ends(t, c.rtt)
				go flood(from)
				if _, err := io.CopyN(io.Discard, to, 16<<20); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				to.mu.Lock()
				held, chunks := to.in.size, len(to.in.chunks)
				to.mu.Unlock()
				if held > c.most || held < initialWindow/2 || chunks > c.most/chunkSize+1 {
					t.Errorf("got %d bytes in %d chunks, want at most %d, and at least half a window", held, chunks, c.most)
				}
			})
		})
	}
}

// All windows of a session share what they may grow by.
func TestGrowthIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := far(50 * time.Millisecond)
		one, two := New(a, Config{Dialled: true}), New(b, Config{Growth: 3 << 20})
		defer func() { one.Close(); two.Close(); time.Sleep(time.Second) }()
		var readers sync.WaitGroup
		for range 10 {
			from, err := one.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			to, err := two.AcceptStream()
			if err != nil {
				t.Fatal(err)
			}
			go flood(from)
			readers.Go(func() { _, _ = io.CopyN(io.Discard, to, 8<<20) })
		}
		readers.Wait()
		if grown := two.grown.Load(); grown > 3<<20 || grown == 0 {
			t.Errorf("got %d bytes of growth, want some, and at most %d", grown, 3<<20)
		}
	})
}

// A window that grew shrinks when its reader becomes slow, and what it took is free for others.
func TestWindowsShrink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from, to := ends(t, 50*time.Millisecond)
		go flood(from)
		if _, err := io.CopyN(io.Discard, to, 64<<20); err != nil {
			t.Fatal(err)
		}
		for range 400 {
			time.Sleep(time.Second)
			if _, err := io.CopyN(io.Discard, to, 100<<10); err != nil {
				t.Fatal(err)
			}
		}
		if to.window != initialWindow || to.s.grown.Load() != 0 {
			t.Errorf("got a window of %d with a reader of 100 KiB a second, want %d", to.window, initialWindow)
		}
	})
}

// A session ends when nothing arrives any more, and when the other end does not read.
func TestDeadConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := far(time.Millisecond)
		silent := New(a, Config{Dialled: true})
		c, d := net.Pipe() // it speaks, but does not read: our writes wait
		stuck := New(c, Config{Dialled: true})
		go func() {
			for {
				if _, err := d.Write(head(typePing, flagACK, 0, 99)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		time.Sleep(time.Minute)
		if err := silent.Err(); !errors.Is(err, errSilent) {
			t.Errorf("nothing arrives: got %v, want %v", err, errSilent)
		}
		if err := stuck.Err(); !errors.Is(err, errStuck) {
			t.Errorf("nothing is read: got %v, want %v", err, errStuck)
		}
		one, two := far(time.Millisecond)
		x, y := New(one, Config{Dialled: true}), New(two, Config{})
		time.Sleep(time.Hour)
		if x.Err() != nil || y.Err() != nil {
			t.Errorf("an idle session: got %v, %v, want it to stay", x.Err(), y.Err())
		}
		x.Close()
		y.Close()
		time.Sleep(2 * time.Second) // what is under way arrives
	})
}

// raw is a session of ours with a peer that sends what a test says.
func raw(t *testing.T) (*Session, net.Conn) {
	a, b := net.Pipe()
	s := New(a, Config{})
	t.Cleanup(func() { s.Close(); b.Close() })
	go func() { _, _ = io.Copy(io.Discard, b) }()
	return s, b
}

func head(kind byte, flags uint16, id, length uint32) []byte {
	h := frame(kind, flags, id, length)
	return h[:]
}

// An end that breaks the protocol ends its session, and only that.
func TestBrokenProtocol(t *testing.T) {
	t.Parallel()
	opened := head(typeWindow, flagSYN, 1, 0)
	for name, frames := range map[string][][]byte{
		"version":                {{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"type":                   {head(9, 0, 0, 0)},
		"more than the window":   {opened, head(typeData, 0, 1, initialWindow+1)},
		"the whole window twice": {opened, head(typeData, 0, 1, initialWindow), make([]byte, initialWindow), head(typeData, 0, 1, 1)},
		"a stream of ours":       {head(typeWindow, flagSYN, 2, 0)},
		"stream 0":               {head(typeWindow, flagSYN, 0, 0)},
		"opened twice":           {opened, opened},
		"a window above 4 GiB":   {opened, head(typeWindow, 0, 1, 0xffffffff)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, peer := raw(t)
			for _, f := range frames {
				if _, err := peer.Write(f); err != nil {
					break
				}
			}
			select {
			case <-s.Done():
				if !errors.Is(s.Err(), errProtocol) {
					t.Errorf("got %v, want %v", s.Err(), errProtocol)
				}
			case <-time.After(60 * time.Second):
				t.Error("the session goes on")
			}
		})
	}
}

// What is no attack but odd: streams that are unknown, too many that are opened, pings without end.
func TestOddFrames(t *testing.T) {
	t.Parallel()
	s, peer := raw(t)
	send := func(frames ...[]byte) {
		for _, f := range frames {
			if _, err := peer.Write(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(head(typeData, 0, 77, 3), []byte("abc"), head(typeWindow, 0, 77, 5), head(typeData, flagFIN, 77, 0), head(typePing, flagACK, 0, 12345))
	for id := uint32(1); id < 2000; id += 2 {
		send(head(typeWindow, flagSYN, id, 0), head(typePing, flagSYN, 0, id))
	}
	if n := s.Streams(); n > 32 {
		t.Errorf("got %d streams that no one accepts, want at most 32", n)
	}
	st, err := s.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	// One byte a frame takes no more memory than its bytes.
	for range 40_000 {
		send(head(typeData, 0, st.id, 1), []byte{1})
	}
	st.mu.Lock()
	chunks := len(st.in.chunks)
	st.mu.Unlock()
	if chunks > 40_000/chunkSize+1 {
		t.Errorf("got %d chunks for 40,000 bytes, want %d", chunks, 40_000/chunkSize+1)
	}
	send(head(typeWindow, flagRST, st.id, 0))
	if got, err := io.ReadAll(st); len(got) != 40_000 || !errors.Is(err, ErrReset) {
		t.Errorf("got %d bytes and %v after a reset, want 40000 and %v", len(got), err, ErrReset)
	}
	if _, err := st.Write([]byte{1}); !errors.Is(err, ErrReset) {
		t.Errorf("write: got %v, want %v", err, ErrReset)
	}
	if err := s.Err(); err != nil {
		t.Errorf("got %v, want the session to go on", err)
	}
}

// No bytes of the other end make a session panic or hold more than its windows.
func FuzzReceive(f *testing.F) {
	f.Add(append(head(typeWindow, flagSYN, 1, 0), append(head(typeData, flagFIN, 1, 2), 1, 2)...))
	f.Add(append(head(typePing, flagSYN, 0, 7), head(typeGoAway, 0, 0, 0)...))
	f.Add(head(typeData, flagSYN|flagRST, 3, 9))
	f.Fuzz(func(t *testing.T, p []byte) {
		for at := 0; at+headerSize <= len(p); at += headerSize { // mostly well-formed frames reach deeper
			p[at] = 0
			binary.BigEndian.PutUint16(p[at+2:], binary.BigEndian.Uint16(p[at+2:])&0xf)
		}
		a, b := net.Pipe()
		s := New(a, Config{})
		go func() { _, _ = io.Copy(io.Discard, b) }()
		go func() {
			for {
				st, err := s.AcceptStream()
				if err != nil {
					return
				}
				go func() {
					st.Direct(&picky{take: func(n int) (int, bool) { return n / 2, n%2 == 0 }})
					_, _ = io.CopyN(io.Discard, st, 10)
					st.Close()
				}()
			}
		}()
		_, _ = b.Write(p)
		b.Close()
		<-s.Done()
	})
}
