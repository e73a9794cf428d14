package gate

import (
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shmAttachFd      = 6
	shmCreateSegment = 7
)

// Descriptors pass in both directions, also with a request that arrives in pieces.
func TestFiles(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			p := d.connectTo(t, g.Number(), order)
			shm, _ := p.extension("MIT-SHM")
			if shm == 0 {
				t.Skip("the server has no MIT-SHM")
			}
			const size = 640 * 480 * 4
			for cut := range 4 {
				p.next++
				b := p.request(shm, shmAttachFd, p.u32(p.next), []byte{0, 0, 0, 0})
				if cut > 0 { // the descriptor comes with the first bytes, of which the gate keeps some
					p.sendFile(b[:cut], memfd(t, size))
					p.write(b[cut:])
				} else {
					p.sendFile(b, memfd(t, size))
				}
				if errors := p.sync(); errors != nil {
					t.Errorf("attach, cut at %d: got errors %v, want none", cut, errors)
				}
				// GetImage into the segment fails if the server did not get the descriptor.
				p.send(shm, 4, p.u32(p.root), p.u16(0, 0, 640, 480), p.u32(0xffffffff), []byte{2, 0, 0, 0}, p.u32(p.next, 0))
				if got := p.answer(); got[0] != 1 {
					t.Errorf("picture, cut at %d: got error %v, want a reply", cut, got[:2])
				}
			}
			if order == binary.BigEndian {
				return // X.Org 21.1.6 never answers CreateSegment of such a program, without the gate either
			}
			p.next++
			p.send(shm, shmCreateSegment, p.u32(p.next, size), []byte{0, 0, 0, 0})
			if got := p.answer(); got[0] != 1 || got[1] != 1 || len(p.files) != 1 {
				t.Fatalf("create: got %v with %d descriptors, want a reply with 1", got[:2], len(p.files))
			}
			var st unix.Stat_t
			if err := unix.Fstat(p.files[0], &st); err != nil || st.Size < size {
				t.Errorf("create: got a descriptor of %d bytes %v, want %d", st.Size, err, size)
			}
			_ = unix.Close(p.files[0])
		})
	}
}

// A program that sends descriptors without end is disconnected.
func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	p := d.connectTo(t, g.Number(), orders["little-endian"])
	fd := memfd(t, 1)
	rights := unix.UnixRights(slices.Repeat([]int{fd}, 100)...)
	if _, _, err := p.c.WriteMsgUnix([]byte{noOperation}, rights, nil); err != nil {
		t.Fatal(err)
	}
	_ = p.c.SetReadDeadline(time.Now().Add(patience))
	if n, err := p.c.Read(make([]byte, 64)); err != io.EOF && !isReset(err) {
		t.Errorf("got %d bytes %v, want the connection closed", n, err)
	}
}

func (p *program) sendFile(b []byte, fd int) {
	p.t.Helper()
	if _, _, err := p.c.WriteMsgUnix(b, unix.UnixRights(fd), nil); err != nil {
		p.t.Fatal(err)
	}
}
