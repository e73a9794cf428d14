package gate

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// BenchmarkGate compares the gate with the display itself and with a relay that copies bytes and looks at none.
func BenchmarkGate(b *testing.B) {
	d := startX(b)
	for _, way := range []struct {
		name   string
		number int
	}{{"direct", d.number}, {"copied", copier(b, d.number)}, {"gate", d.startGate(b, nil).Number()}} {
		p := d.connectTo(b, way.number, binary.LittleEndian)
		b.Run("roundtrip/"+way.name, func(b *testing.B) {
			for b.Loop() {
				p.send(getInputFocus, 0)
				p.answer()
			}
		})
		small := p.request(noOperation, 0)
		p.seq-- // not sent yet
		for len(small) < 64<<10 {
			small = append(small, small...)
		}
		b.Run("requests/"+way.name, func(b *testing.B) { // of 4 bytes
			b.SetBytes(int64(len(small)))
			for b.Loop() {
				p.write(small)
				p.seq += uint16(len(small) / 4)
				p.sync()
			}
		})
		p.next++
		gc := p.next
		p.send(55, 0, p.u32(gc, p.root, 0)) // CreateGC
		picture := p.request(72, 2, p.u32(p.root, gc), p.u16(320, 200, 0, 0), []byte{0, 24, 0, 0}, make([]byte, 320*200*4))
		p.seq-- // not sent yet
		b.Run("put/"+way.name, func(b *testing.B) {
			b.SetBytes(int64(len(picture)))
			for b.Loop() {
				p.write(picture)
				p.seq++
				p.sync()
			}
		})
		b.Run("get/"+way.name, func(b *testing.B) {
			b.SetBytes(640 * 480 * 4)
			for b.Loop() {
				p.send(73, 2, p.u32(p.root), p.u16(0, 0, 640, 480), p.u32(0xffffffff)) // GetImage
				p.answer()
			}
		})
		b.Run("fake/"+way.name, func(b *testing.B) {
			for b.Loop() {
				p.fake(motionNotify, 0, 10, 10)
				p.sync()
			}
		})
	}
}

// copier relays to a display with io.Copy and returns its number.
func copier(b *testing.B, display int) int {
	b.Helper()
	number := 1000 + os.Getpid() // no server takes such a display by itself
	l, err := net.Listen("unix", filepath.Join("/tmp/.X11-unix", "X"+strconv.Itoa(number)))
	if err != nil {
		b.Fatal(err)
	}
	var all sync.WaitGroup
	b.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				s, err := dialDisplay("/tmp/.X11-unix", display)
				if err != nil {
					return
				}
				defer s.Close()
				all.Go(func() { _, _ = io.Copy(c, s); c.Close() })
				_, _ = io.Copy(s, c)
			})
		}
	})
	return number
}
