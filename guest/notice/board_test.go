package notice

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// A notice is seen until its time has passed, it is withdrawn, or it is hidden, and says how much time is left.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New()
		var mu sync.Mutex
		var seen []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Follow(ctx, 80, func(lines []string) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, strings.Join(lines, "|"))
			})
		}()
		after := func(d time.Duration, what string, want ...string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(seen, want) {
				t.Errorf("%s: got %q, want %q", what, seen, want)
			}
			seen = nil
		}
		after(0, "at first")
		b.Set(wire.Notice{Text: "It stops.", For: 3*60_000 + 30_000, Count: true})
		after(0, "a warning", "It stops. 4 minutes left.")
		after(31*time.Second, "half a minute later", "It stops. 3 minutes left.")
		after(59*time.Second+500*time.Millisecond, "in the last two minutes", "It stops. 120 seconds left.")
		after(time.Second, "a second later", "It stops. 119 seconds left.")
		b.Set(wire.Notice{Text: "It stops.", For: 1500, Count: true})
		after(0, "the time is near", "It stops. 2 seconds left.")
		after(time.Second, "nearer", "It stops. 1 second left.")
		after(time.Second, "passed", "")
		b.Set(wire.Notice{Text: "Another.", For: 60_000})
		after(0, "without a count", "Another.")
		b.hide()
		after(0, "hidden", "")
		b.Set(wire.Notice{Text: "Another.", For: 60_000})
		after(0, "said again")
		b.Set(wire.Notice{Text: "A third.", For: 60_000})
		after(0, "a third", "A third.")
		b.Set(wire.Notice{})
		after(0, "withdrawn", "")
		b.Set(wire.Notice{Text: "x", For: -1})
		after(time.Hour, "without time")
		cancel()
		<-done
	})
}

// Text is shown as text, in lines that fit.
func TestLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text    string
		columns int
		want    []string
	}{
		{"", 10, nil},
		{"one two three", 7, []string{"one two", "three"}},
		{"one two three", 13, []string{"one two three"}},
		{"a verylongword b", 5, []string{"a", "veryl", "ongwo", "rd b"}},
		{"x\n\x1b[31my\x00\tz", 20, []string{"x [31my z"}},
		{"äöü äöü", 3, []string{"äöü", "äöü"}},
		{"ab", 0, []string{"a", "b"}},
	} {
		if got := (shown{text: clean(c.text)}).lines(c.columns); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d columns: got %q, want %q", c.text, c.columns, got, c.want)
		}
	}
	if got := clean(strings.Repeat("ä", wire.MaxNotice)); len(got) > wire.MaxNotice+2 {
		t.Errorf("a long text: got %d bytes, want at most %d", len(got), wire.MaxNotice)
	}
}

// A picture fits on small screens, too.
func TestPaint(t *testing.T) {
	t.Parallel()
	for _, screen := range []int{1, 100, 320, 1280, 8000} {
		p := paint(shown{strings.Repeat("word ", 60), "5 minutes left."}, screen)
		if p.width > max(screen, 8*12) || p.width > widest || len(p.pixels) != 4*p.width*p.height || p.height > 65_535 {
			t.Errorf("a screen of %d: got %d × %d", screen, p.width, p.height)
		}
	}
}
