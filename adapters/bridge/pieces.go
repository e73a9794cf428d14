package bridge

import (
	"io"
	"unicode/utf8"
)

// fill reads until buf is full or the message ends; whole reports whether it ended.
func fill(r io.Reader, buf []byte) (n int, whole bool, err error) {
	n, err = io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return n, true, nil
	}
	return n, false, err
}

// utf8Check checks whether text that arrives in pieces is valid UTF-8.
type utf8Check struct {
	rest [utf8.UTFMax]byte // an unfinished character
	n    int
}

func (c *utf8Check) add(p []byte) bool {
	for c.n > 0 && len(p) > 0 && !utf8.FullRune(c.rest[:c.n]) {
		c.rest[c.n] = p[0]
		c.n++
		p = p[1:]
	}
	if c.n > 0 && utf8.FullRune(c.rest[:c.n]) {
		if !utf8.Valid(c.rest[:c.n]) {
			return false
		}
		c.n = 0
	}
	// Keep an unfinished character at the end for the next piece.
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if tail := p[len(p)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				c.n = copy(c.rest[:], tail)
				p = p[:len(p)-i]
			}
			break
		}
	}
	return utf8.Valid(p)
}

func (c *utf8Check) complete() bool { return c.n == 0 }
