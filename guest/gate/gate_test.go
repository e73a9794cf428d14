package gate

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
)

const (
	badRequestError = 1
	badValueError   = 2
)

var orders = map[string]binary.ByteOrder{"little-endian": binary.LittleEndian, "big-endian": binary.BigEndian}

// While the gate is held, none of the agent's input reaches a window, and the agent gets an error for each event; the
// user's input arrives. After that the agent's arrives again.
func TestHold(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			user := d.connectTo(t, d.number, binary.LittleEndian) // a program of the user's, directly
			user.window()
			agent := d.connectTo(t, g.Number(), order)
			agent.fake(motionNotify, 0, 100, 100)
			agent.fake(buttonPress, 1, 0, 0)
			agent.fake(buttonRel, 1, 0, 0)
			agent.fake(keyPress, 38, 0, 0)
			agent.fake(keyRelease, 38, 0, 0)
			if errors := agent.sync(); errors != nil {
				t.Fatalf("before: got errors %v, want none", errors)
			}
			user.until(keyRelease, 38)

			g.Hold(time.Hour)
			if got := g.Held(); got <= 59*time.Minute {
				t.Errorf("held for %v, want an hour", got)
			}
			const times = 50
			for range times {
				agent.fake(motionNotify, 0, 200, 200)
				agent.fake(buttonPress, 1, 0, 0)
				agent.fake(keyPress, 39, 0, 0)
			}
			want := slices.Repeat([][2]byte{{badValueError, agent.ops.xtest}}, 3*times)
			if errors := agent.sync(); !reflect.DeepEqual(errors, want) {
				t.Errorf("while held: got errors %v, want %d of BadValue", errors, len(want))
			}
			v := d.view(t)
			v.point(0, 300, 300)
			v.point(4, 300, 300)
			v.point(0, 300, 300)
			for _, e := range user.until(buttonRel, 3) {
				if e != "motion" && e != "4:3" && e != "5:3" {
					t.Errorf("while held: the window got %q, want only the user's button 3", e)
				}
			}

			g.Hold(0)
			agent.fake(keyPress, 40, 0, 0)
			agent.fake(keyRelease, 40, 0, 0)
			if errors := agent.sync(); errors != nil {
				t.Errorf("after: got errors %v, want none", errors)
			}
			if got := user.until(keyRelease, 40); !slices.Contains(got, "2:40") || slices.Contains(got, "2:39") {
				t.Errorf("after: the window got %v, want key 40 and never 39", got)
			}
		})
	}
}

// A hold ends by itself.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	agent := d.connectTo(t, g.Number(), binary.LittleEndian)
	g.Hold(time.Millisecond)
	for limit := time.Now().Add(patience); ; {
		agent.fake(motionNotify, 0, 1, 1)
		if agent.sync() == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("got errors still, want the hold over")
		}
	}
}

// What the agent keeps pressed is released when the hold begins, even if its program has ended.
func TestHoldReleases(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	user := d.connectTo(t, d.number, binary.LittleEndian)
	user.window()
	agent := d.connectTo(t, g.Number(), binary.LittleEndian)
	agent.fake(motionNotify, 0, 100, 100)
	agent.fake(keyPress, 37, 0, 0) // control
	agent.fake(keyPress, 38, 0, 0)
	agent.fake(keyRelease, 38, 0, 0)
	agent.fake(buttonPress, 1, 0, 0)
	agent.sync()
	agent.c.Close()
	user.until(buttonPress, 1)
	g.Hold(time.Hour)
	got := append(user.until(keyRelease, 37), "")
	if !slices.Contains(got, "5:1") || slices.Contains(got, "3:38") {
		t.Errorf("got %v, want button 1 and key 37 released, and key 38 left alone", got)
	}
}

// A file holds, too, until the time that it names, and no longer than a hold may last.
func TestHoldByFile(t *testing.T) {
	t.Parallel()
	d := startX(t)
	f := &File{Path: filepath.Join(t.TempDir(), "held"), Max: time.Hour}
	g := d.startGate(t, func(c *Config) { c.File = f })
	user := d.connectTo(t, d.number, binary.LittleEndian)
	user.window()
	agent := d.connectTo(t, g.Number(), binary.LittleEndian)
	agent.fake(keyPress, 37, 0, 0)
	agent.sync()
	user.until(keyPress, 37)
	refused := func() bool {
		agent.fake(motionNotify, 0, 1, 1)
		return agent.sync() != nil
	}
	if err := f.Set(2 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := f.Left(); got > time.Hour || got < 50*time.Minute {
		t.Errorf("set for two hours: got %v left, want the most, %v", got, f.Max)
	}
	if !refused() {
		t.Error("the next request: got it passed, want it refused")
	}
	user.until(keyRelease, 37)
	if err := f.Set(0); err != nil || refused() {
		t.Errorf("ended: got %v and requests refused, want them passed", err)
	}
	for name, text := range map[string]string{
		"over": strconv.FormatInt(int64(Now()), 10) + "\n", "empty": "", "no number": "soon\n", "too far": strconv.FormatInt(int64(Now()+1000*time.Hour), 10), "too large": "99999999999999999999\n",
	} {
		if err := os.WriteFile(f.Path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if refused() {
			t.Errorf("%s: got a request refused, want it passed", name)
		}
	}
}

// Requests other than those of XTEST that create input, or change what the user's input means.
func TestHoldOfOtherRequests(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	user := d.connectTo(t, d.number, binary.LittleEndian)
	window := user.window()
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			agent := d.connectTo(t, g.Number(), order)
			sent := func(kind byte) []byte {
				event := append([]byte{kind, 38, 0, 0}, agent.u32(0, agent.root, window, 0)...)
				return append(append(event, agent.u16(1, 1, 1, 1, 0)...), 1, 0)
			}
			g.Hold(time.Hour)
			defer g.Hold(0)
			for kind := byte(keyPress); kind <= motionNotify; kind++ {
				agent.send(sendEvent, 0, agent.u32(window, 0), sent(kind))
				agent.send(sendEvent, 0, agent.u32(window, 0), sent(kind|0x80))
			}
			if errors, want := agent.sync(), slices.Repeat([][2]byte{{badValueError, sendEvent}}, 10); !reflect.DeepEqual(errors, want) {
				t.Errorf("SendEvent: got errors %v, want BadValue for each", errors)
			}
			if major, _ := agent.extension(xtest); major != 0 {
				t.Errorf("got XTEST at %d, want the server without it", major)
			}
			agent.send(warpPointer, 0, agent.u32(0, window), make([]byte, 8), agent.u16(9, 9))
			agent.send(agent.ops.xkb, xkbLatchLock, agent.u16(0x100), []byte{2, 2, 0, 0, 0, 0}, agent.u16(0))
			for _, minor := range []byte{7, 9, 11, 14, 16, 25} {
				agent.send(agent.ops.xkb, minor, make([]byte, 200)) // a length that the server itself would refuse
			}
			if errors := agent.sync(); errors != nil {
				t.Errorf("got errors %v, want none: ordinary programs send these, too", errors)
			}
			agent.send(agent.ops.xkb, xkbByName, agent.u16(0x100, 0, 0), []byte{1, 0})
			if got := agent.answer(); got[0] != 0 || got[1] != badRequestError {
				t.Errorf("XKB's GetKbdByName: got %v, want BadRequest", got[:2])
			}
			for _, minor := range []byte{5, 11, 25, 33, 41, 43} {
				agent.send(agent.ops.xinput, minor, make([]byte, 8))
				if got := agent.answer(); got[0] != 0 || got[1] != badRequestError {
					t.Errorf("XInput's request %d: got %v, want BadRequest", minor, got[:2])
				}
			}
			agent.send(setPointerMapping, 3, []byte{3, 2, 1})
			if got := agent.answer(); got[0] != 0 || got[1] != badRequestError {
				t.Errorf("SetPointerMapping: got %v, want BadRequest", got[:2])
			}
			// A message to a window is no input.
			agent.send(sendEvent, 0, agent.u32(window, 0), append([]byte{33, 32, 0, 0}, make([]byte, 28)...))
			agent.sync()
			for {
				b := user.message()
				if kind := b[0] & 0x7f; kind == 33 {
					break
				} else if kind <= motionNotify {
					t.Errorf("the window got event %d, want none", kind)
				}
			}
			g.Hold(0)
			if major, _ := agent.extension(xtest); major == 0 {
				t.Error("after: got no XTEST, want it")
			}
			agent.send(sendEvent, 0, agent.u32(window, 0), sent(keyPress))
			user.until(keyPress, 38)
			agent.send(setPointerMapping, 0)
			if got := agent.answer(); got[0] != 0 || got[1] != badValueError {
				t.Errorf("after: got %v, want the server's own BadValue", got[:2])
			}
		})
	}
}

// A request of input is found wherever it begins in what arrives, also after long requests and in BIG-REQUESTS' form.
func TestHoldInPieces(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			agent := d.connectTo(t, g.Number(), order)
			g.Hold(time.Hour)
			defer g.Hold(0)
			agent.send(agent.ops.bigRequests, bigReqEnable)
			if got := agent.answer(); got[0] != 1 {
				t.Fatalf("BIG-REQUESTS: got %v", got)
			}
			fake := agent.fakeRequest(keyPress, 38, 0, 0)
			for cut := 1; cut < len(fake); cut++ {
				agent.write(fake[:cut])
				agent.c.SetWriteBuffer(1 << 20)
				agent.seq++
				agent.write(fake[cut:])
			}
			big := func(b []byte) []byte {
				agent.seq++
				return append(append(append([]byte{}, b[:2]...), 0, 0), append(agent.u32(uint32(len(b)/4+1)), b[4:]...)...)
			}
			agent.write(big(fake))
			noOp := slices.Concat(agent.request(noOperation, 0, make([]byte, 200_000)), fake)
			agent.write(noOp)
			agent.seq++
			long := append([]byte{noOperation, 0, 0, 0}, make([]byte, 3_000_000)...)
			copy(long[1_000_000:], fake) // inside another request it is none
			agent.write(big(long))
			agent.write(fake)
			errors := agent.sync()
			want := len(fake) - 1 + 1 + 1 + 1
			if len(errors) != want {
				t.Errorf("got %d errors %v, want %d", len(errors), errors, want)
			}
		})
	}
}

// Programs that do not keep to the protocol are disconnected, and only they are.
func TestHostilePrograms(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	good := d.connectTo(t, g.Number(), binary.LittleEndian)
	setup := func() *program { return d.connectTo(t, g.Number(), binary.LittleEndian) }
	for name, hostile := range map[string]func() *program{
		"no byte order": func() *program {
			p := bare(t, g)
			p.write(append([]byte{'x'}, make([]byte, 11)...))
			return p
		},
		"length 0 without BIG-REQUESTS": func() *program {
			p := setup()
			p.write([]byte{noOperation, 0, 0, 0, 2, 0, 0, 0})
			return p
		},
		"length of 4 GiB": func() *program {
			p := setup()
			p.send(p.ops.bigRequests, bigReqEnable)
			p.answer()
			p.write([]byte{noOperation, 0, 0, 0, 1, 0, 0, 0x40})
			return p
		},
		"length 1 in the long form": func() *program {
			p := setup()
			p.send(p.ops.bigRequests, bigReqEnable)
			p.answer()
			p.write([]byte{noOperation, 0, 0, 0, 1, 0, 0, 0})
			return p
		},
		"wrong cookie": func() *program {
			p := bare(t, g)
			p.write([]byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0})
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := hostile()
			_ = p.c.SetReadDeadline(time.Now().Add(patience))
			b := make([]byte, 4096)
			for {
				if _, err := p.c.Read(b); err != nil {
					if err.Error() != "EOF" && !isReset(err) {
						t.Errorf("got %v, want the connection closed", err)
					}
					return
				}
			}
		})
	}
	if errors := good.sync(); errors != nil {
		t.Errorf("another program: got errors %v, want none", errors)
	}
	for range 300 {
		bare(t, g) // says nothing
	}
	if errors := good.sync(); errors != nil {
		t.Errorf("another program beside many: got errors %v, want none", errors)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	d := startX(t)
	one, two := d.startGate(t, nil), d.startGate(t, nil)
	if one.Number() == two.Number() {
		t.Errorf("two gates: got display %d for both, want two", one.Number())
	}
	if _, err := Listen(Config{Display: d.number, Number: one.Number()}); err == nil {
		t.Errorf("got display %d twice, want an error", one.Number())
	}
	if _, err := Listen(Config{Display: d.number, Number: d.number}); err == nil && d.number != 0 { // 0 is any
		t.Errorf("got the server's own display %d, want an error", d.number)
	}
}

// The VNC server's own extension switches the user's mouse off, and connects viewers, whose input no gate sees. So the
// agent's programs never get it, held or not.
func TestNoVNCExtension(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	const off = "AcceptPointerEvents=0"
	user := d.connectTo(t, d.number, binary.LittleEndian)
	user.window()
	for name, order := range orders {
		agent := d.connectTo(t, g.Number(), order)
		vnc, _ := agent.extension(vncExtension)
		if vnc == 0 {
			t.Skip("this Xvnc has no such extension")
		}
		agent.send(vnc, 0, []byte{byte(len(off)), 0, 0, 0}, []byte(off))
		if got := agent.answer(); got[0] != 0 || got[1] != badRequestError {
			t.Errorf("%s: got %v, want BadRequest", name, got[:2])
		}
	}
	v := d.view(t)
	v.point(4, 300, 300)
	v.point(0, 300, 300)
	user.until(buttonRel, 3)
}

// The agent's programs cannot take all places of the server: the user's session needs some.
func TestPlacesLeft(t *testing.T) {
	t.Parallel()
	d := startX(t)
	g := d.startGate(t, nil)
	for range maxClients - 2 { // each of the two sockets keeps a place for its next program
		d.connectTo(t, g.Number(), binary.LittleEndian)
	}
	bare(t, g) // waits
	for range 64 {
		d.connectTo(t, d.number, binary.LittleEndian)
	}
	g.Hold(time.Hour)
}

// The hold was given back and taken again so soon that the gate did not notice: what was pressed between is released, too.
func TestHoldTakenAgainAtOnce(t *testing.T) {
	t.Parallel()
	d := startX(t)
	f := &File{Path: filepath.Join(t.TempDir(), "held"), Max: time.Hour}
	g := d.startGate(t, func(c *Config) { c.File = f })
	user := d.connectTo(t, d.number, binary.LittleEndian)
	user.window()
	agent := d.connectTo(t, g.Number(), binary.LittleEndian)
	set := func(d time.Duration) {
		t.Helper()
		if err := f.Set(d); err != nil {
			t.Fatal(err)
		}
	}
	set(time.Hour)
	for limit := time.Now().Add(patience); g.Held() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the gate does not hold")
		}
	}
	set(0)
	agent.fake(keyPress, 37, 0, 0)
	errors := agent.sync()
	set(time.Hour)
	if errors != nil {
		t.Fatalf("between: got errors %v, want none", errors)
	}
	user.until(keyRelease, 37)
}

// Another user of the computer, such as that of another desktop, takes many numbers.
func TestNumbersTakenByAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for n := firstNumber; n < firstNumber+800; n++ {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "@" + filepath.Join(dir, "X"+strconv.Itoa(n)), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	g, err := Listen(Config{Dir: dir})
	if err != nil {
		t.Fatalf("got %v, want a number beyond the taken ones", err)
	}
	g.Close()
}
