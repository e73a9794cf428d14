// Package typing lets viewers type any letter. An X server has 248 key codes, and the US keyboard leaves 19 of them free:
// Xvnc gives each unknown letter one of those and never takes it back, so the twentieth would be lost without a word. A Filter
// stands between a viewer and the VNC server: before a letter that the keyboard lacks passes, it gets a free key code, or the
// one that was not used for the longest time.
package typing

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/xevents"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	// rest is how long a key code keeps its letter after it was typed: a program that reads the event later reads another letter.
	rest = time.Second
	// settle is how long programs get to learn a letter: Chromium asks what changed, and goes on with key events meanwhile.
	settle = 50 * time.Millisecond
	// behind is how long x11vnc takes at most, as far as is known, to press a key that it got.
	behind = 250 * time.Millisecond
	// spare is how many free key codes are left to the VNC server. It gives them to keys that are no letters.
	spare = 2
	// again is the pause after a failed attempt to reach the display.
	again = 5 * time.Second
)

var errShort = errors.New("the X server's answer is too short")

// Keyboard is the keyboard of a display.
type Keyboard struct {
	log   *slog.Logger
	stale atomic.Bool // the keyboard changed since it was read

	mu      sync.Mutex
	display int
	auth    string
	inject  bool          // see Inject
	xtest   byte          // the extension's opcode; 0: the display lacks it
	x       *xevents.Conn // nil: not connected
	failed  time.Time     // of the last attempt to connect; zero: it succeeded
	m       mapping
	used    map[byte]time.Time // when the key codes for letters were last used
}

// New returns a keyboard that belongs to no display yet.
func New(log *slog.Logger) *Keyboard { return &Keyboard{log: log, used: map[byte]time.Time{}} }

// Use says which local display it belongs to from now on, and which authority file has its cookie.
func (k *Keyboard) Use(display int, auth string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.close()
	k.display, k.auth, k.failed = display, auth, time.Time{}
}

// Inject makes the guest itself type the letters that the keyboard lacked, for a VNC server that learns of changes late.
func (k *Keyboard) Inject() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inject = true
}

// typed types the letter and reports true if the VNC server must not. before is when that got its last key, which comes first.
func (k *Keyboard) typed(ctx context.Context, symbol uint32, before time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	code, has := k.m.codes[symbol]
	_, ours := k.m.letters[code]
	if !k.inject || k.x == nil || k.xtest == 0 || !has || !ours {
		return false
	}
	_ = retry.Sleep(ctx, time.Until(before.Add(behind)))
	for _, event := range []byte{keyPress, keyRelease} {
		b := make([]byte, 36)
		b[0], b[1], b[4], b[5] = k.xtest, fakeInput, event, code
		if err := k.x.Send(b...); err != nil {
			return false
		}
	}
	k.used[code] = time.Now()
	return k.x.Sync() == nil
}

// Close ends its connection to the display. The next letter connects again.
func (k *Keyboard) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.close()
}

func (k *Keyboard) close() {
	if k.x != nil {
		k.x.Close()
		k.x = nil
	}
}

// Ready returns once the keyboard has the symbol, if it is a letter, and programs know it. It waits while all key codes were
// used recently. If it waits, it prepares the letters that follow too.
func (k *Keyboard) Ready(ctx context.Context, symbol uint32, next ...uint32) {
	for {
		added, wait, err := k.ready(symbol, true)
		if err != nil {
			k.log.Warn("preparing a letter failed", "err", err)
			return
		}
		if !added && wait <= 0 {
			return
		}
		if added {
			for _, s := range next {
				if _, wait, err := k.ready(s, false); wait > 0 || err != nil {
					break
				}
			}
			wait = settle
		}
		if retry.Sleep(ctx, wait) != nil || added {
			return
		}
	}
}

// ready gives the symbol a key code, or returns how long to wait until one may be free. now: it is about to be typed.
func (k *Keyboard) ready(symbol uint32, now bool) (added bool, wait time.Duration, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ok, err := k.connect(); !ok || err != nil {
		return false, 0, err
	}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if k.stale.Swap(false) {
		if err := k.read(); err != nil {
			return false, 0, err
		}
	}
	if code, has := k.m.codes[symbol]; has {
		if _, ours := k.m.letters[code]; ours && now {
			k.used[code] = time.Now()
		}
		return false, 0, nil
	}
	if !isLetter(symbol) {
		return false, 0, nil
	}
	code, wait, err := k.choose()
	if err != nil || wait > 0 {
		return false, wait, err
	}
	if err := k.assign(code, symbol); err != nil {
		return false, 0, err
	}
	k.used[code] = time.Now()
	return true, 0, nil
}

// connect connects unless it is connected, or failed to recently.
func (k *Keyboard) connect() (ok bool, err error) {
	if k.x != nil {
		select {
		case <-k.x.Done():
			k.x = nil
		default:
			return true, nil
		}
	}
	if k.auth == "" || time.Since(k.failed) < again {
		return false, nil
	}
	x, err := xevents.Dial(k.display, k.auth, func(event []byte) {
		if event[0]&0x7f == mappingNotify {
			k.stale.Store(true)
		}
	})
	if err != nil {
		k.failed = time.Now()
		return false, err
	}
	k.x, k.failed, k.xtest = x, time.Time{}, 0
	if k.inject {
		reply, err := x.Ask(append([]byte{queryExtension, 0, 0, 0, 5, 0, 0, 0}, "XTEST"...)...)
		if err != nil {
			k.close()
			return false, err
		}
		if reply[8] != 0 {
			k.xtest = reply[9]
		}
	}
	clear(k.used)
	k.stale.Store(true)
	return true, nil
}

// read reads the keyboard, and leaves the VNC server its spare codes.
func (k *Keyboard) read() error {
	first := k.x.MinKey
	reply, err := k.x.Ask(getKeyboardMapping, 0, 0, 0, first, k.x.MaxKey-first+1, 0, 0)
	if err != nil {
		return err
	}
	k.m = parse(first, int(reply[1]), reply[32:], k.used)
	for n := len(k.m.free); n < spare; n++ {
		code, wait, err := k.oldest()
		if err != nil {
			return err
		}
		if code == 0 || wait > 0 {
			break
		}
		if err := k.assign(code, 0); err != nil {
			return err
		}
		delete(k.m.letters, code)
	}
	return nil
}

// choose returns a key code for another letter, or how long to wait until one may be free.
func (k *Keyboard) choose() (code byte, wait time.Duration, err error) {
	if n := len(k.m.free); n > spare {
		return k.m.free[n-1], 0, nil
	}
	if n := len(k.m.unneeded); n > 0 {
		return k.m.unneeded[n-1], 0, nil
	}
	code, wait, err = k.oldest()
	if code == 0 && err == nil && len(k.m.free) > 0 {
		return k.m.free[0], 0, nil
	}
	return code, wait, err
}

// oldest returns the letters' key code that was not used for the longest time and is not pressed, and how long it still
// needs rest; 0: there is none.
func (k *Keyboard) oldest() (code byte, wait time.Duration, err error) {
	if len(k.m.letters) == 0 {
		return 0, 0, nil
	}
	pressed, err := k.x.Ask(queryKeymap, 0, 0, 0)
	if err != nil {
		return 0, 0, err
	}
	if len(pressed) < 40 {
		return 0, 0, errShort
	}
	for c := range k.m.letters {
		down := pressed[8+c/8]&(1<<(c%8)) != 0
		if !down && (code == 0 || k.used[c].Before(k.used[code])) {
			code = c
		}
	}
	if code == 0 {
		return 0, rest, nil // all are pressed
	}
	return code, rest - time.Since(k.used[code]), nil
}

// assign gives a key code a symbol, which all programs and the VNC server learn at once; 0: none.
func (k *Keyboard) assign(code byte, symbol uint32) error {
	b := xevents.U32([]byte{changeKeyboardMapping, 1, 0, 0, code, 1, 0, 0}, symbol)
	if k.inject { // the same with and without Shift: the viewer's letter is exact
		b = xevents.U32([]byte{changeKeyboardMapping, 1, 0, 0, code, 2, 0, 0}, symbol, symbol)
	}
	if err := k.x.Send(b...); err != nil {
		return err
	}
	return k.x.Sync()
}
