package activity_test

import (
	"context"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/activity"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// served gives what a client sends to a tracker in pieces of every size, and returns the tracker.
func served(t *testing.T, serve func(*activity.Tracker) func(func(context.Context, net.Conn) error) func(context.Context, net.Conn) error, pieces ...[]byte) *activity.Tracker {
	t.Helper()
	tracker := activity.New(activity.Config{})
	near, far := net.Pipe()
	var got []byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(tracker)(func(_ context.Context, c net.Conn) error {
			defer c.Close()
			var err error
			got, err = io.ReadAll(c)
			return err
		})(t.Context(), far)
	}()
	var want []byte
	for _, p := range pieces {
		want = append(want, p...)
		if _, err := near.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	near.Close()
	<-done
	if string(got) != string(want) {
		t.Errorf("passed on: got %d bytes, want the same %d", len(got), len(want))
	}
	return tracker
}

// bytewise cuts pieces into bytes.
func bytewise(pieces [][]byte) (all [][]byte) {
	for _, p := range pieces {
		for i := range p {
			all = append(all, p[i:i+1])
		}
	}
	return all
}

func work(w operator.Work) func() operator.Work { return func() operator.Work { return w } }

// A report has the ages of what was measured, by the monotonic clock.
func TestReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		w := operator.Work{}
		tracker := activity.New(activity.Config{Meter: "m", Work: func() operator.Work { return w }})
		if a := tracker.Report(); a != (wire.Activity{Blind: true, Meter: "m"}) {
			t.Errorf("at first: got %+v, want only that nothing is known", a)
		}
		tracker.Chatted()
		time.Sleep(20 * time.Second)
		w = operator.Work{Known: true, Worked: now, Waited: now.Add(5 * time.Second), HasNext: true, Next: -time.Second, Cost: 7}
		a := tracker.Report()
		if a.Blind || a.Input != nil || a.Shell != nil || *a.Chat != 20_000 || *a.Agent != 20_000 || *a.Question != 15_000 || *a.NextJob != 0 || a.Cost != 7 {
			t.Errorf("got %+v, want a chat and a run 20 s ago, a question 15 s ago, a job that is due and a cost", a)
		}
		w.Next = 90 * time.Second
		if a := tracker.Report(); *a.NextJob != 90_000 {
			t.Errorf("next job: got %d ms, want 90 s", *a.NextJob)
		}
	})
}

// Use that resumes is known immediately; use that goes on is not said again.
func TestResumed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracker := activity.New(activity.Config{Work: work(operator.Work{})})
		resumed := func() bool {
			c := tracker.Resumed()
			tracker.Chatted()
			select {
			case <-c:
				return true
			default:
				return false
			}
		}
		for _, c := range []struct {
			after time.Duration
			want  bool
		}{{0, true}, {0, false}, {wire.ActivityEvery - 1, false}, {wire.ActivityEvery - 1, false}, {wire.ActivityEvery, true}, {time.Hour, true}, {time.Second, false}} {
			time.Sleep(c.after)
			if got := resumed(); got != c.want {
				t.Errorf("use after %v: got resumed %v, want %v", c.after, got, c.want)
			}
		}
	})
}

// Terminals that cannot be looked at are not idle.
func TestUnknownShells(t *testing.T) {
	t.Parallel()
	tracker := activity.New(activity.Config{Shells: &activity.Shells{Root: t.TempDir()}})
	ctx, cancel := context.WithCancel(t.Context())
	resumed := tracker.Resumed()
	done := make(chan struct{})
	go func() { defer close(done); _ = tracker.Run(ctx) }()
	<-resumed
	cancel()
	<-done
	if a := tracker.Report(); a.Shell == nil {
		t.Errorf("got %+v, want use of a terminal", a)
	}
}

var handshake = []byte("RFB 003.008\n\x01\x01")

func pointer(mask byte, x, y byte) []byte { return []byte{5, mask, 0, x, 0, y} }
func key(down byte) []byte                { return []byte{4, down, 0, 0, 0, 0, 0, 'a'} }
func qemuKey(down byte) []byte            { return []byte{255, 0, 0, down, 0, 0, 0, 'a', 0, 0, 0, 30} }
func cut(text string) []byte              { return append([]byte{6, 0, 0, 0, 0, 0, 0, byte(len(text))}, text...) }
func extended(flags uint32, more ...byte) []byte {
	n := -int32(4 + len(more))
	head := []byte{6, 0, 0, 0, byte(uint32(n) >> 24), byte(uint32(n) >> 16), byte(uint32(n) >> 8), byte(uint32(n)),
		byte(flags >> 24), byte(flags >> 16), byte(flags >> 8), byte(flags)}
	return append(head, more...)
}

const caps, request, peek, notify, provide, text = 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1

// Only what a user's hand makes is input.
func TestInput(t *testing.T) {
	t.Parallel()
	automatic := map[string][][]byte{
		"nothing":                 {},
		"requests for pictures":   {{3, 1, 0, 0, 0, 0, 5, 0, 3, 32}, {3, 0, 0, 0, 0, 0, 5, 0, 3, 32}},
		"formats and encodings":   {append([]byte{0, 0, 0, 0}, make([]byte, 16)...), {2, 0, 0, 1, 0, 0, 0, 7}},
		"continuous updates":      {{150, 1, 0, 0, 0, 0, 5, 0, 3, 32}},
		"a fence":                 {append([]byte{248, 0, 0, 0, 0x80, 0, 0, 1, 3}, 1, 2, 3)},
		"a size":                  {append([]byte{251, 0, 5, 0, 3, 32, 1, 0}, make([]byte, 16)...)},
		"a pointer that stays":    {pointer(0, 9, 9), pointer(0, 9, 9), pointer(0, 9, 9)},
		"a button that stays":     {pointer(0, 9, 9)},
		"a key that is released":  {key(0)},
		"QEMU's key released":     {qemuKey(0)},
		"no text":                 {cut("")},
		"abilities":               {extended(caps|provide|notify|text, 0, 16, 0, 0)},
		"a request for a text":    {extended(request | text)},
		"a peek":                  {extended(peek)},
		"no text to announce":     {extended(notify)},
		"the flags are cut short": {{6, 0, 0, 0, 255, 255, 255, 254, 1, 2}},
	}
	made := map[string][][]byte{
		"a key":                      {key(1)},
		"QEMU's key":                 {qemuKey(1)},
		"a pointer that moves":       {pointer(0, 9, 9), pointer(0, 9, 9), pointer(0, 9, 10)},
		"a click":                    {pointer(1, 9, 9)},
		"a click at the same place":  {pointer(0, 9, 9), pointer(1, 9, 9)},
		"a button released":          {pointer(0, 9, 9), pointer(4, 9, 9), pointer(0, 9, 9)},
		"another button":             {{5, 0x80, 0, 9, 0, 9, 1}},
		"a text":                     {cut("text")},
		"a text announced":           {extended(notify | text)},
		"a text unasked":             {extended(provide|text, 1, 2, 3)},
		"an unknown message":         {{77}},
		"an unknown message of QEMU": {{255, 1}},
		"after much else": {{2, 0, 0, 1, 0, 0, 0, 7}, {3, 1, 0, 0, 0, 0, 5, 0, 3, 32}, pointer(0, 9, 9), append([]byte{251, 0, 5, 0, 3, 32, 1, 0}, make([]byte, 16)...),
			extended(caps|provide|text, 0, 16, 0, 0), key(0), key(1)},
	}
	viewer := func(t *activity.Tracker) func(func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
		return t.Viewer
	}
	for want, cases := range map[bool]map[string][][]byte{false: automatic, true: made} {
		for name, messages := range cases {
			pieces := append([][]byte{handshake}, messages...)
			for how, pieces := range map[string][][]byte{"in messages": pieces, "in bytes": bytewise(pieces)} {
				if a := served(t, viewer, pieces...).Report(); (a.Input != nil) != want {
					t.Errorf("%s, %s: got input %v, want %v", name, how, a.Input != nil, want)
				}
			}
		}
	}
	// A viewer that announces its texts sends them only when a program of the desktop asks.
	synctest.Test(t, func(t *testing.T) {
		tracker := activity.New(activity.Config{})
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = tracker.Viewer(func(_ context.Context, c net.Conn) error { _, err := io.Copy(io.Discard, c); return err })(t.Context(), far)
		}()
		for _, b := range [][]byte{handshake, extended(notify | text)} {
			_, _ = near.Write(b)
		}
		time.Sleep(time.Minute)
		_, _ = near.Write(extended(provide|text, 1, 2, 3))
		synctest.Wait()
		if a := tracker.Report(); *a.Input != 60_000 {
			t.Errorf("a text that was asked for: got input %d ms ago, want a minute", *a.Input)
		}
		near.Close()
		<-done
	})
}

// frame is a frame of a browser.
func frame(first byte, payload string) []byte {
	b := []byte{first, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload)), 1, 2, 3, 4}
	switch {
	case len(payload) < 126:
		b = []byte{first, 0x80 | byte(len(payload)), 1, 2, 3, 4}
	case len(payload) > math.MaxUint16:
		b = []byte{first, 0x80 | 127, 0, 0, 0, 0, byte(len(payload) >> 24), byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), 1, 2, 3, 4}
	}
	for i := range len(payload) {
		b = append(b, payload[i]^byte(1+i%4))
	}
	return b
}

func whole(payload string) []byte { return frame(0x81, payload) }

// Only what a user does in the chat counts, not what a page asks for by itself.
func TestChat(t *testing.T) {
	t.Parallel()
	open := []byte("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
	long := string(make([]byte, 70_000))
	automatic := map[string][][]byte{
		"nothing":               {},
		"the connect frame":     {whole(`{"type":"req","id":"1","method":"connect","params":{"caps":["tool-events"]}}`)},
		"reading":               {whole(`{"type":"req","id":"1","method":"chat.history","params":{"sessionKey":"chat.send"}}`), whole(`{"method":"sessions.list"}`)},
		"a ping and a close":    {frame(0x89, ""), frame(0x8a, "x"), frame(0x88, "\x03\xe8")},
		"no method":             {whole(`{"type":"req","text":"chat.send"}`), whole(`nonsense`), whole(``)},
		"a method further in":   {whole(`{"params":{"method":"chat.send"},"method":"health"}`)},
		"a response":            {whole(`{"type":"res","id":"chat.send"}`)},
		"a method not a string": {whole(`{"method":{"chat.send":1}}`)},
	}
	made := map[string][][]byte{
		"a message":        {whole(`{"type":"req","id":"1","method":"connect"}`), whole(`{"type":"req","id":"2","method":"chat.send","params":{"message":"hi"}}`)},
		"a stop":           {whole(`{"id":"2","method":"chat.abort"}`)},
		"an answer":        {whole(`{"id":"2","method":"question.resolve"}`)},
		"in two frames":    {frame(0x01, `{"id":"2","met`), frame(0x89, "ping"), frame(0x80, `hod":"chat.send"}`)},
		"its method last":  {whole(`{"params":{"message":"` + string(make([]byte, 0)) + `"},"method":"chat.send"}`)},
		"escaped":          {whole("{\"m\\u0065thod\":\"chat.send\"}")},
		"a long one":       {whole(`{"params":{"message":"` + long + `"},"method":"chat.send"}`)},
		"after a long one": {whole(`{"method":"chat.history","x":"` + long + `"}`), whole(`{"method":"chat.send"}`)},
	}
	chat := func(t *activity.Tracker) func(func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
		return t.Chat
	}
	for want, cases := range map[bool]map[string][][]byte{false: automatic, true: made} {
		for name, frames := range cases {
			pieces := append([][]byte{open}, frames...)
			for how, pieces := range map[string][][]byte{"in frames": pieces, "in bytes": bytewise(pieces)} {
				if a := served(t, chat, pieces...).Report(); (a.Chat != nil) != want || a.Input != nil {
					t.Errorf("%s, %s: got %+v, want a chat %v", name, how, a, want)
				}
			}
		}
	}
	if a := served(t, chat, make([]byte, 100_000)).Report(); a.Chat == nil {
		t.Errorf("what is not understood: got no use, want use")
	}
}
