package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// update reads an update of the screen to its end.
func (v *viewer) update() error {
	head, err := v.bytes(3)
	if err != nil {
		return err
	}
	for left := int(binary.BigEndian.Uint16(head[1:])); left > 0; left-- {
		rect, err := v.bytes(12)
		if err != nil {
			return err
		}
		w, h := int(binary.BigEndian.Uint16(rect[4:])), int(binary.BigEndian.Uint16(rect[6:]))
		switch encoding := int32(binary.BigEndian.Uint32(rect[8:])); encoding {
		case lastRect:
			return nil
		case 0: // Raw
			_, err = v.bytes(4 * w * h)
		case 1: // CopyRect
			_, err = v.bytes(4)
		case 7:
			err = v.tight(w, h)
		default:
			err = fmt.Errorf("unknown encoding %d", encoding)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tight reads a rectangle to its end.
func (v *viewer) tight(w, h int) error {
	control, err := v.r.ReadByte()
	if err != nil {
		return err
	}
	switch kind := control >> 4; {
	case kind == 8: // one colour
		_, err = v.bytes(3)
		return err
	case kind == 9: // JPEG
		return v.compact()
	case kind > 9:
		return errors.New("unknown kind of Tight rectangle")
	}
	size := 3 * w * h
	if control&0x40 != 0 {
		filter, err := v.r.ReadByte()
		if err != nil {
			return err
		}
		if filter == 1 { // a palette
			last, err := v.r.ReadByte()
			if err != nil {
				return err
			}
			if _, err := v.bytes(3 * (int(last) + 1)); err != nil {
				return err
			}
			size = w * h
			if last == 1 {
				size = (w + 7) / 8 * h
			}
		}
	}
	if size < 12 { // too short to be compressed
		_, err = v.bytes(size)
		return err
	}
	return v.compact()
}

// compact reads data after its length, which has seven bits a byte.
func (v *viewer) compact() error {
	n := 0
	for shift := 0; shift < 21; shift += 7 {
		b, err := v.r.ReadByte()
		if err != nil {
			return err
		}
		if shift == 14 {
			n |= int(b) << shift
			break
		}
		n |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	_, err := v.bytes(n)
	return err
}
