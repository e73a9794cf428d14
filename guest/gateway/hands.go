package gateway

import (
	"errors"
	"math"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// glide moves the pointer to a place in small steps, slower at both ends, as a hand does.
func (s *stage) glide(x, y int) error {
	x0, y0, err := s.d.Pointer()
	if err != nil {
		return err
	}
	steps := min(40, 8+int(math.Hypot(float64(x-x0), float64(y-y0)))/20)
	for i := 1; i <= steps; i++ {
		t := float64(i) / float64(steps)
		eased := t * t * (3 - 2*t)
		bow := math.Sin(math.Pi*t) * 12 // no hand moves in a straight line
		if err := s.d.Move(x0+int(eased*float64(x-x0)), y0+int(eased*float64(y-y0)-bow)); err != nil {
			return err
		}
		if err := retry.Sleep(s.ctx, s.g.c.Pace/2); err != nil {
			return err
		}
	}
	return nil
}

// typing returns an action that types a text with a human's rhythm. Called again after an error, it goes on where it
// stopped.
func (s *stage) typing(text string) func() error {
	rest := []rune(unescape(text))
	return func() error {
		for len(rest) > 0 {
			if err := s.focus(); err != nil { // the user may have clicked elsewhere, and these words are not for other windows
				return err
			}
			if err := s.d.Rune(rest[0]); err != nil {
				return err
			}
			typed := rest[0]
			rest = rest[1:]
			if err := retry.Sleep(s.ctx, s.rhythm(typed, rest)); err != nil {
				return err
			}
		}
		return nil
	}
}

// rhythm returns the pause after a character: short inside words, long at the end of a line and before a correction.
func (s *stage) rhythm(typed rune, rest []rune) time.Duration {
	pace := s.g.c.Pace
	switch {
	case len(rest) > 0 && rest[0] == '\b' && typed != '\b':
		return 12 * pace
	case typed == '\n':
		return 5 * pace
	case typed == ' ' && len(rest) > 0 && rest[0] == ' ':
		return pace / 4
	case strings.ContainsRune(",.:!?", typed):
		return 6 * pace
	case len(rest)%5 == 0:
		return pace * 7 / 4
	}
	return pace * 3 / 4
}

// focusWithin is how long the window may be without the keyboard: other windows that open take it.
const focusWithin = 20 * time.Second

var errNoKeyboard = errors.New("the window does not get the keyboard")

// focus clicks into the window if keys go elsewhere, and waits until they go there.
func (s *stage) focus() error {
	places := [...][2]int{{50, 75}, {95, 95}, {95, 12}, {5, 95}} // of the window, in percent: others may cover it
	for n, end := 0, time.Now().Add(focusWithin); time.Now().Before(end); n++ {
		if n > 0 && n%len(places) == 0 { // a window that appeared while the window manager took over is not managed
			if err := s.d.Remap(s.w.id); err != nil {
				return err
			}
		}
		ours, err := s.d.Focused(s.w.id)
		if err != nil || ours {
			return err
		}
		r, err := s.d.Place(s.w.id)
		if err != nil {
			return err
		}
		at := places[n%len(places)]
		if err := s.glide(r.Min.X+r.Dx()*at[0]/100, r.Min.Y+r.Dy()*at[1]/100); err != nil {
			return err
		}
		if err := s.d.Click(); err != nil {
			return err
		}
		for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
			if ours, err := s.d.Focused(s.w.id); err != nil || ours {
				return err
			}
			if err := retry.Sleep(s.ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return errNoKeyboard
}

// unescape makes a correction of each \b of a text.
func unescape(text string) string { return strings.ReplaceAll(text, `\b`, "\b") }

// clean returns a text after its corrections.
func clean(text string) string {
	var out []rune
	for _, r := range unescape(text) {
		if r == '\b' {
			out = out[:len(out)-1]
			continue
		}
		out = append(out, r)
	}
	return string(out)
}
