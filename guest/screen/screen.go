// Package screen is a desktop for machines without an X server: a small RFB 3.8 server that draws a picture, a clock and
// the typed text. It shows that the connection to the machine works, and says that it is not a real desktop.
package screen

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/font"
)

// Width and Height are the framebuffer's size in pixels.
const (
	Width  = 1280
	Height = 800
)

const (
	tile  = 64 // changes are tracked in squares of this many pixels
	tileX = (Width + tile - 1) / tile
	tileY = (Height + tile - 1) / tile
)

// Config describes a screen.
type Config struct {
	Password string           // of VNC authentication; "" admits no viewer
	Title    string           // one line at the top; "": "CloudBot"
	Notes    []string         // lines under it
	Now      func() time.Time // nil: time.Now
}

// Screen is one framebuffer, shared by all its viewers.
type Screen struct {
	password string
	now      func() time.Time

	mu      sync.Mutex
	pixels  []uint32             // 0x00RRGGBB, row by row
	version int64                // counts changes
	tiles   [tileX * tileY]int64 // version of the last change of each
	changed chan struct{}        // closed at the next change
	clock   string
	lines   []string // the typed text
	viewers int
}

// New draws the picture.
func New(c Config) *Screen {
	s := &Screen{
		password: c.Password,
		now:      c.Now,
		pixels:   make([]uint32, Width*Height),
		changed:  make(chan struct{}),
		lines:    []string{"$ "},
	}
	if s.now == nil {
		s.now = time.Now
	}
	title := c.Title
	title = cmp.Or(title, "CloudBot")
	s.paint(title, c.Notes)
	s.tick()
	return s
}

// Colours of the picture.
const (
	skyTop  = 0x16324f
	skyLow  = 0x3c7a89
	bar     = 0x0e1c2b
	accent  = 0xf2a65a
	paper   = 0x11161c
	frame   = 0x9fb8ad
	text    = 0xe8eef2
	dimText = 0xa9bac6
	ink     = 0xe4572e
)

// The box for typed text.
const (
	boxX, boxY, boxW, boxH = 140, 220, 1000, 480
	scale                  = 2
	lineH                  = 10 * scale
	columns                = (boxW - 40) / (6 * scale)
	rows                   = (boxH - 60) / lineH
)

func (s *Screen) paint(title string, notes []string) {
	for y := range Height {
		c := blend(skyTop, skyLow, y, Height)
		for x := range Width {
			s.pixels[y*Width+x] = c
		}
	}
	s.fill(0, 0, Width, 44, bar)
	s.fill(0, 44, Width, 3, accent)
	s.write(24, 14, 2, title, text)
	for i, n := range notes {
		s.write(boxX, 90+i*28, 2, n, text)
	}
	s.fill(boxX-3, boxY-3, boxW+6, boxH+6, frame)
	s.fill(boxX, boxY, boxW, boxH, paper)
	s.fill(boxX, boxY, boxW, 30, bar)
	for i, c := range []uint32{0xe4572e, 0xf2a65a, 0x76b041} {
		s.fill(boxX+14+i*24, boxY+9, 12, 12, c)
	}
	s.write(boxX+100, boxY+8, 2, "type here: the screen answers", dimText)
	s.echo()
}

// echo redraws the typed lines.
func (s *Screen) echo() {
	s.fill(boxX, boxY+30, boxW, boxH-30, paper)
	for i, l := range s.lines {
		s.write(boxX+20, boxY+46+i*lineH, scale, l, text)
	}
	s.cursor(accent)
}

// cursor paints the cell after the end of the last line.
func (s *Screen) cursor(c uint32) {
	last := len(s.lines) - 1
	s.fill(boxX+20+len(s.lines[last])*6*scale, boxY+46+last*lineH, 5*scale, 8*scale, c)
}

// tick redraws the clock when its second has passed.
func (s *Screen) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UTC().Format("15:04:05 UTC")
	if now == s.clock {
		return
	}
	s.clock = now
	s.fill(Width-180, 10, 170, 24, bar)
	s.write(Width-176, 14, 2, now, accent)
	s.announce()
}

// Keysyms that are not their own character.
const (
	keyBackspace = 0xff08
	keyReturn    = 0xff0d
	keyEnter     = 0xff8d
)

func (s *Screen) typed(keysym uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.lines) - 1
	line := s.lines[last]
	switch {
	case keysym == keyReturn || keysym == keyEnter:
		s.lines = append(s.lines, "$ ")
	case keysym == keyBackspace && len(line) > 2:
		s.cursor(paper)
		s.lines[last] = line[:len(line)-1]
		s.cursor(paper)
		s.cursor(accent)
		s.announce()
		return
	case keysym >= 0x20 && keysym <= 0x7e && len(line) < columns:
		s.cursor(paper) // only this cell changes, so only its tile is sent
		s.write(boxX+20+len(line)*6*scale, boxY+46+last*lineH, scale, string(rune(keysym)), text)
		s.lines[last] += string(rune(keysym))
		s.cursor(accent)
		s.announce()
		return
	case keysym >= 0x20 && keysym <= 0x7e:
		s.lines = append(s.lines, "  "+string(rune(keysym)))
	default:
		return
	}
	if len(s.lines) > rows {
		s.lines = s.lines[len(s.lines)-rows:]
	}
	s.echo()
	s.announce()
}

// pasted types printable text.
func (s *Screen) pasted(t string) {
	for _, r := range strings.ReplaceAll(t, "\r\n", "\n") {
		if r == '\n' {
			r = keyReturn
		}
		s.typed(uint32(r))
	}
}

// pressed draws a dot where a button is held.
func (s *Screen) pressed(x, y int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fill(x-3, y-3, 7, 7, ink)
	s.announce()
}

// The place of a notice: what the picture leaves free at the bottom.
const (
	noticeY    = boxY + boxH + 8
	noticeRows = (Height - noticeY - 8) / lineH
)

// NoticeColumns is how many letters a line of a notice can have.
const NoticeColumns = (Width - 40) / (6 * scale)

// Notice shows the first lines of a notice at the bottom; none: there is no notice any more.
func (s *Screen) Notice(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(lines) == 0 {
		for y := noticeY; y < Height; y++ {
			s.fill(0, y, Width, 1, blend(skyTop, skyLow, y, Height))
		}
		s.announce()
		return
	}
	s.fill(0, noticeY, Width, Height-noticeY, bar)
	s.fill(0, noticeY, Width, 3, accent)
	for i, l := range lines[:min(len(lines), noticeRows)] {
		s.write(20, noticeY+10+i*lineH, scale, l, text)
	}
	s.announce()
}

// Pixel returns the colour of a pixel, as 0x00RRGGBB.
func (s *Screen) Pixel(x, y int) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pixels[y*Width+x]
}

// announce wakes the viewers; s.mu is held.
func (s *Screen) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// fill paints a rectangle, clipped to the screen; s.mu is held, or s is not shared yet.
func (s *Screen) fill(x, y, w, h int, c uint32) {
	x1, y1 := min(x+w, Width), min(y+h, Height)
	x, y = max(x, 0), max(y, 0)
	if x >= x1 || y >= y1 {
		return
	}
	for row := y; row < y1; row++ {
		line := s.pixels[row*Width+x : row*Width+x1]
		for i := range line {
			line[i] = c
		}
	}
	s.touch(x, y, x1, y1)
}

func (s *Screen) write(x, y, size int, t string, c uint32) {
	for _, r := range t {
		for col, bits := range font.Glyph(r) {
			for row := range font.Rows {
				if bits>>row&1 == 1 {
					s.fill(x+col*size, y+row*size, size, size, c)
				}
			}
		}
		x += 6 * size
	}
}

func (s *Screen) touch(x0, y0, x1, y1 int) {
	s.version++
	for ty := y0 / tile; ty <= (y1-1)/tile; ty++ {
		for tx := x0 / tile; tx <= (x1-1)/tile; tx++ {
			s.tiles[ty*tileX+tx] = s.version
		}
	}
}

func blend(a, b uint32, i, n int) uint32 {
	mix := func(shift int) uint32 {
		x, y := int(a>>shift&0xff), int(b>>shift&0xff)
		return uint32(x+(y-x)*i/n) << shift
	}
	return mix(16) | mix(8) | mix(0)
}
