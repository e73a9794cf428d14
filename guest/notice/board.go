// Package notice shows what the control plane has to say on the desktop itself, above all windows: mostly that the desktop
// will stop.
//
// The one thing to know: a notice is shown as text, in letters of the guest's own. Its window never takes the keyboard, and a
// click hides it.
package notice

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Board has the notice of one desktop.
type Board struct {
	mu      sync.Mutex
	text    string // "": none
	ends    time.Time
	count   bool
	hidden  bool          // by a click
	changed chan struct{} // closed at the next change
}

// New returns a board without a notice.
func New() *Board { return &Board{changed: make(chan struct{})} }

// Set replaces the notice. One that the user has hidden stays hidden while its text is the same.
func (b *Board) Set(n wire.Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := clean(n.Text)
	if n.For <= 0 {
		text = ""
	}
	if text != b.text {
		b.hidden = false
	}
	b.text, b.count, b.ends = text, n.Count, time.Now().Add(time.Duration(min(n.For, longest.Milliseconds()))*time.Millisecond)
	b.stirred()
}

const longest = 24 * time.Hour

// clean returns a text in one line of at most wire.MaxNotice bytes.
func clean(text string) string {
	if len(text) > wire.MaxNotice {
		text = text[:wire.MaxNotice]
	}
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// hide hides the notice until another one comes.
func (b *Board) hide() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hidden = true
	b.stirred()
}

// stirred wakes up those that show the notice; b.mu is held.
func (b *Board) stirred() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// shown is what is to be seen at a time.
type shown struct {
	text string // "": nothing
	left string // how much time is left; "": that is not said
}

// at returns what is to be seen at a time, how long that stays so (0: until the next change), and a channel that is closed
// at the next change.
func (b *Board) at(now time.Time) (s shown, next time.Duration, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.ends.Sub(now)
	if b.text == "" || b.hidden || left <= 0 {
		return shown{}, 0, b.changed
	}
	s.text, next = b.text, left
	if b.count {
		s.left, next = countdown(left)
	}
	return s, next, b.changed
}

// countdown says how much time is left, and for how long that stays true: in minutes, and in seconds at the end.
func countdown(left time.Duration) (text string, next time.Duration) {
	unit, name := time.Minute, "minutes"
	if left <= 2*time.Minute {
		unit, name = time.Second, "seconds"
	}
	n := int64((left + unit - 1) / unit)
	if next = left - time.Duration(n-1)*unit; name == "minutes" {
		next = min(next, left-2*time.Minute)
	}
	if n == 1 {
		name = strings.TrimSuffix(name, "s")
	}
	return fmt.Sprintf("%d %s left.", n, name), max(next, time.Millisecond)
}

// Follow calls show with each change of the notice, in lines of at most so many letters, until ctx ends; none: nothing is to
// be seen.
func (b *Board) Follow(ctx context.Context, columns int, show func(lines []string)) {
	var last shown
	for {
		now, next, changed := b.at(time.Now())
		if now != last {
			last = now
			show(now.lines(columns))
		}
		if !await(ctx, next, changed) {
			return
		}
	}
}

// await waits until a time has passed (0: never) or the channel is closed. It reports whether ctx has not ended.
func await(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	var passed <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		passed = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-passed:
	case <-changed:
	}
	return true
}

// lines breaks the notice into lines of at most so many letters.
func (s shown) lines(columns int) (lines []string) {
	if s.text == "" {
		return nil
	}
	columns = max(columns, 1)
	line := []rune{}
	for word := range strings.FieldsSeq(s.text + " " + s.left) {
		w := []rune(word)
		if len(line) > 0 && len(line)+1+len(w) > columns {
			lines, line = append(lines, string(line)), nil
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		for len(line)+len(w) > columns { // a word that fits in no line
			n := columns - len(line)
			lines, line, w = append(lines, string(append(line, w[:n]...))), nil, w[n:]
		}
		line = append(line, w...)
	}
	return append(lines, string(line))
}
