package x11

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kinds of fake input.
const (
	keyPress   = 2
	keyRelease = 3
	press      = 4
	release    = 5
	motion     = 6
)

// Keys without a letter, as keysyms.
const (
	Return    = 0xff0d
	BackSpace = 0xff08
	Control   = 0xffe3
	shift     = 0xffe1
)

// stroke is how to type a character.
type stroke struct {
	code  byte
	shift bool
}

func (d *Display) fake(kind, detail byte, x, y int) []byte {
	b := append([]byte{kind, detail, 0, 0}, make([]byte, 28)...)
	binary.LittleEndian.PutUint16(b[20:], uint16(int16(x)))
	binary.LittleEndian.PutUint16(b[22:], uint16(int16(y)))
	return request(d.xtest, 2, b)
}

// Move moves the pointer.
func (d *Display) Move(x, y int) error { return d.do(d.fake(motion, 0, x, y)) }

// Click presses and releases the left button.
func (d *Display) Click() error { return d.do(d.fake(press, 1, 0, 0), d.fake(release, 1, 0, 0)) }

// Probe sends an input that has no effect; its error says whether others would be refused.
func (d *Display) Probe() error { return d.do(d.fake(motion, 1, 0, 0)) } // relative, by nothing

// Key types the key of a keysym while the keys of others are held.
func (d *Display) Key(sym uint32, held ...uint32) error {
	if d.keys == nil {
		if err := d.readKeys(); err != nil {
			return err
		}
	}
	s, ok := d.keys[sym]
	if !ok {
		return fmt.Errorf("%w: %#x", ErrNoKey, sym)
	}
	if s.shift {
		held = append([]uint32{shift}, held...)
	}
	var all [][]byte
	for _, h := range held {
		all = append(all, d.fake(keyPress, d.keys[h].code, 0, 0))
	}
	all = append(all, d.fake(keyPress, s.code, 0, 0), d.fake(keyRelease, s.code, 0, 0))
	for i := len(held) - 1; i >= 0; i-- {
		all = append(all, d.fake(keyRelease, d.keys[held[i]].code, 0, 0))
	}
	return d.do(all...)
}

// ErrNoKey says that the display's keyboard has no such key.
var ErrNoKey = errors.New("the keyboard has no such key")

// Rune types a character; a newline is the return key.
func (d *Display) Rune(r rune) error {
	switch {
	case r == '\n':
		return d.Key(Return)
	case r == '\b':
		return d.Key(BackSpace)
	case r < 0x100:
		return d.Key(uint32(r))
	}
	return d.Key(0x01000000 | uint32(r))
}

// readKeys reads which key types what: the first two columns of the keyboard's table, without and with shift.
func (d *Display) readKeys() error {
	count := int(d.max) - int(d.min) + 1
	r, err := d.ask(32, request(101, 0, []byte{d.min, byte(count), 0, 0}))
	if err != nil {
		return err
	}
	per := int(r[1])
	if len(r) < 32+4*per*count {
		return errShort
	}
	d.keys = map[uint32]stroke{}
	for i := range count {
		for column := range min(per, 2) {
			sym := u32(r[32+4*(i*per+column):])
			if _, known := d.keys[sym]; !known && sym != 0 {
				d.keys[sym] = stroke{d.min + byte(i), column == 1}
			}
		}
	}
	return nil
}
