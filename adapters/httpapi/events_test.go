package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// reader reads one event stream.
type reader struct {
	t     *testing.T
	lines *bufio.Scanner
	res   *http.Response
}

func (f *front) stream(t *testing.T, token, path, lastID string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("X-Accel-Buffering") != "no" {
		t.Fatalf("got %d %s, want 200 with an unbuffered event stream", res.StatusCode, res.Header)
	}
	return &reader{t, bufio.NewScanner(res.Body), res}
}

// block returns the next block of lines; ok is false at the end of the stream.
func (r *reader) block() (lines []string, ok bool) {
	for r.lines.Scan() {
		if r.lines.Text() == "" {
			return lines, true
		}
		lines = append(lines, r.lines.Text())
	}
	return lines, false
}

// message returns the next block's id, name and data; "" for those that are missing.
func (r *reader) message() (id, name, data string) {
	r.t.Helper()
	lines, ok := r.block()
	if !ok {
		r.t.Fatal("got the end of the stream, want more")
	}
	for _, l := range lines {
		key, value, _ := strings.Cut(l, ": ")
		switch key {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			data = value
		}
	}
	return id, name, data
}

// event returns the next event: its id, name and data. Comments are skipped.
func (r *reader) event() (id, name string, event cloudEvent) {
	r.t.Helper()
	for {
		id, name, data := r.message()
		if id == "" {
			continue
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			r.t.Fatal(err)
		}
		return id, name, event
	}
}

// end reads until the stream ends and returns its last block.
func (r *reader) end() (last string) {
	for {
		lines, ok := r.block()
		if !ok {
			return last
		}
		last = strings.Join(lines, "\n")
	}
}

func TestEventsAreLiveAndResume(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	f.caughtUp()
	live := f.stream(t, ada.access, "/api/events", "")
	f.create(eve, "not hers")
	id := f.create(ada, "x")
	first, name, ce := live.event()
	if name != "instance.requested" || ce.Type != name || ce.Subject != "instance/"+id || "1-"+ce.Sequence != first || ce.SpecVersion != "1.0" || ce.Source != "/cloudbot/development" || ce.Actor != ada.account {
		t.Errorf("got %s %s %+v, want a CloudEvent instance.requested of %s", first, name, ce, id)
	}
	f.happen(id, instance.LaunchAttempted{Attempt: 1, At: f.clock.Now()}, instance.MachineLaunched{Attempt: 1, Machine: "i-1"})
	_, two, _ := live.event()
	third, three, _ := live.event()
	if two != "instance.launch_attempted" || three != "instance.machine_launched" {
		t.Errorf("got %s and %s, want instance.launch_attempted and instance.machine_launched", two, three)
	}

	resumed := f.stream(t, ada.access, "/api/events", first)
	for _, want := range []string{"instance.launch_attempted", "instance.machine_launched"} {
		if _, got, _ := resumed.event(); got != want {
			t.Errorf("resumed with %s, want %s", got, want)
		}
	}
	after := f.stream(t, ada.access, "/api/events?after="+third, "")
	f.happen(id, instance.MachineRunning{At: f.clock.Now()})
	if _, got, _ := after.event(); got != "instance.machine_running" {
		t.Errorf("after %s: got %s, want instance.machine_running", third, got)
	}
}

func TestALongBacklogArrivesWhole(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.create(ada, "x")
	const n = 2*streamBatch + 7
	for i := 0; i < n; i += 50 {
		var events []instance.Event
		for range min(50, n-i) {
			events = append(events, instance.Renamed{})
		}
		f.happen(id, events...)
	}
	s := f.stream(t, ada.access, "/api/events", "0")
	last := ""
	for range n + 3 { // signed up, session started, requested
		last, _, _ = s.event()
	}
	if last != fmt.Sprintf("1-%d", f.head()) {
		t.Errorf("ended at %s, want %d", last, f.head())
	}
}

func TestAStreamEndsWithItsSession(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	s := f.stream(t, ada.access, "/api/events", "")
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: ada.access})
	if last := s.end(); !strings.Contains(last, "session has ended") {
		t.Errorf("last comment: got %q, want that the session has ended", last)
	}
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	short, _ := f.tokens.Access(ada.account, ada.session, f.clock.Now().Add(-time.Hour+300*time.Millisecond))
	if last := f.stream(t, short, "/api/events", "").end(); !strings.Contains(last, "sign in again") {
		t.Errorf("last comment: got %q, want to sign in again", last)
	}
}

func TestAStreamIsToldToComeBackWhenTheServerDrains(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	s := f.stream(t, ada.access, "/api/events", "")
	if lines, _ := s.block(); !strings.HasPrefix(lines[0], "retry: ") {
		t.Errorf("got %q, want a time to reconnect first", lines)
	}
	f.server.drain()
	if last := s.end(); !strings.HasPrefix(last, "retry: ") {
		t.Errorf("last comment: got %q, want a time to reconnect", last)
	}
}

func TestASilentStreamSaysThatItIsThere(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Heartbeat = 5 * time.Millisecond })
	ada := f.signUp("ada@example.com")
	s := f.stream(t, ada.access, "/api/events", "")
	for {
		lines, ok := s.block()
		if !ok {
			t.Fatal("got the end of the stream, want more")
		}
		if len(lines) == 1 && lines[0] == ": still here" {
			return
		}
	}
}

func TestStreamsOfAnAccountAreBounded(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.MaxStreams = 2 })
	ada, bob := f.signUp("ada@example.com"), f.signUp("bob@example.com")
	one := f.stream(t, ada.access, "/api/events", "")
	f.stream(t, ada.access, "/api/events", "")
	f.want(429, call{method: "GET", path: "/api/events", token: ada.access})
	f.stream(t, bob.access, "/api/events", "")
	one.res.Body.Close()
	for f.do(call{method: "GET", path: "/api/events", token: ada.access}).status == 429 {
		if t.Context().Err() != nil {
			t.Fatal("places of closed streams: got some, want none")
		}
	}
}
