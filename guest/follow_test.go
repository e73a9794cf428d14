package guest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// follower is a guest with only its log and phases, and a reader of them.
type follower struct {
	*Guest
	t   *testing.T
	url string
}

func newFollower(t *testing.T) *follower {
	t.Helper()
	g := &Guest{boot: "b1", redact: &Redactor{}, phases: newPhases()}
	g.lines = NewLog(io.Discard, g.redact, g.phases.present)
	server := httptest.NewUnstartedServer(http.HandlerFunc(g.follow))
	server.Config.ReadTimeout, server.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond // it must outlast both
	server.Start()
	t.Cleanup(server.Close)
	return &follower{g, t, server.URL}
}

// from returns the lines after that place, one at a time, as text.
func (f *follower) from(after string) (next func() string) {
	f.t.Helper()
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(f.url + "?after=" + after)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	return func() string {
		f.t.Helper()
		if !lines.Scan() {
			f.t.Fatalf("it ended: got %v, want lines.Scan() true", lines.Err())
		}
		var m wire.Follow
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			f.t.Fatal(err)
		}
		switch {
		case m.Phase != nil:
			return fmt.Sprintf("%s %d %s", m.Phase.Phase, m.Phase.Progress, m.Phase.Detail)
		case m.Line != nil:
			return fmt.Sprintf("+%d %s: %s", m.Line.Seq-f.first(), m.Line.Phase, m.Line.Text)
		}
		return m.Boot
	}
}

// first returns the number of the ring's first line.
func (f *follower) first() int64 {
	lines, _ := f.lines.after(0)
	return lines[0].Seq
}

func (f *follower) hear(next func() string, want ...string) {
	f.t.Helper()
	for _, w := range want {
		if got := next(); got != w {
			f.t.Fatalf("%q, want %q", got, w)
		}
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.lines.line("one")
	live := f.from("")
	f.hear(live, "b1", "+0 booting: one")
	f.phases.reach(booting, "Up.")
	f.hear(live, "booting 20 Up.")
	f.phases.reach(installing, "")
	f.phases.say("Browser.", 60)
	f.hear(live, "installing 40 ", "installing 56 Browser.")
	<-time.After(150 * time.Millisecond) // beyond the server's deadlines
	f.lines.line("two")
	f.lines.line("three")
	f.hear(live, "+1 installing: two", "+2 installing: three")

	place := wire.Place{Boot: "b1", Seq: f.first() + 1}
	f.hear(f.from(place.String()), "b1", "installing 56 Browser.", "+2 installing: three")
	place.Boot = "b0"
	f.hear(f.from(place.String()), "b1", "booting 20 Up.", "installing 40 ", "installing 56 Browser.", "+0 booting: one")
	f.hear(f.from("nonsense"), "b1", "booting 20 Up.")
}

// A key that arrived after the line is not in what a later reader gets.
func TestFollowRedactsAgain(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.lines.line("said late-canary aloud")
	f.redact.Know("keys", "late-canary")
	f.hear(f.from(""), "b1", "+0 booting: said [redacted] aloud")
}

func TestFollowIsBounded(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	for range 20_000 {
		f.lines.line("")
	}
	if lines, _ := f.lines.after(0); len(lines) > ringBytes/lineBytes {
		t.Errorf("%d empty lines are kept, want at most %v", len(lines), ringBytes/lineBytes)
	}
	f.lines.line("last")
	f.lines.line(strings.Repeat("\x01", 2*wire.MaxLogLine)) // longer when encoded
	lines, _ := f.lines.after(0)
	last := lines[len(lines)-2]
	next := f.from(wire.Place{Boot: "b1", Seq: last.Seq}.String())
	next()
	if got := next(); !strings.HasSuffix(got, strings.Repeat("\x01", wire.MaxLogLine)) {
		t.Errorf("got %q, want to end with %q", got, strings.Repeat("\x01", wire.MaxLogLine))
	}
	// A reader that was away too long continues with the lines that are left; one with a future position waits.
	if lines, _ := f.lines.after(1); len(lines) == 0 || lines[0].Seq < 2 {
		t.Error("nothing after what is gone")
	}
	if lines, _ := f.lines.after(last.Seq + 1_000_000); len(lines) != 0 {
		t.Errorf("%d lines of the future, want none", len(lines))
	}
}

// A guest that restarts within a boot does not reuse numbers.
func TestNumbersGrowOverRestarts(t *testing.T) {
	t.Parallel()
	before := NewLog(io.Discard, &Redactor{}, func() string { return "" })
	for range 50 {
		before.line("x")
	}
	<-time.After(20 * time.Millisecond) // the kernel's clock has steps of ten
	if after := NewLog(io.Discard, &Redactor{}, func() string { return "" }); after.last <= before.last {
		t.Errorf("got %d after %d, want more than %v", after.last, before.last, before.last)
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	for _, p := range []wire.Place{{Boot: "b"}, {Boot: "0b1e-4c_A", Seq: 1 << 60}} {
		if got, err := wire.ParsePlace(p.String()); got != p || err != nil {
			t.Errorf("got %v, %v, want %v and no error", got, err, p)
		}
	}
	for _, text := range []string{"", ".", ".1", "b", "b.", "b.-1", "b.+1", "b.01", "b.1.1", "b\n.1", "b.1\n", "b.99999999999999999999", "ü.1", strings.Repeat("b", 65) + ".1"} {
		if got, err := wire.ParsePlace(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}
