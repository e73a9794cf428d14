package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/projections"
)

// fakeMachine is a machine whose guest sends what the test decides, to one reader at a time.
type fakeMachine struct {
	mu   sync.Mutex
	talk func(w io.Writer, after string) // nil: it is not connected
	conn net.Conn
}

// up connects the machine, or replaces it; talk is its answer.
func (m *fakeMachine) up(talk func(w io.Writer, after string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.talk = talk
}

// down disconnects the machine.
func (m *fakeMachine) down() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.talk = nil
	if m.conn != nil {
		m.conn.Close()
	}
}

func (m *fakeMachine) Dial(context.Context, string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.talk == nil {
		return nil, errors.New("no tunnel")
	}
	talk := m.talk
	here, there := net.Pipe()
	m.conn = there
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != wire.FollowPath {
			http.NotFound(w, r)
			return
		}
		talk(flusher{w, http.NewResponseController(w)}, r.FormValue("after"))
		<-r.Context().Done()
	})}
	go func() { _ = srv.Serve(&oneConn{conn: there, done: make(chan struct{})}) }()
	return here, nil
}

type flusher struct {
	io.Writer
	control *http.ResponseController
}

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// saying is a guest of that boot that sends only these lines.
func saying(boot string, said ...wire.Follow) func(io.Writer, string) {
	return func(w io.Writer, after string) {
		_ = wire.WriteLine(w, wire.Follow{Boot: boot}, wire.MaxFollow)
		from, _ := wire.ParsePlace(after)
		for _, f := range said {
			if f.Line == nil || from.Boot != boot || f.Line.Seq > from.Seq {
				_ = wire.WriteLine(w, f, wire.MaxFollow)
			}
		}
	}
}

func logged(seq int64, text string) wire.Follow {
	return wire.Follow{Line: &wire.Line{Seq: seq, At: time.Now(), Phase: "installing", Text: text}}
}

func reached(phase string, percent int) wire.Follow {
	return wire.Follow{Phase: &wire.Phase{Phase: phase, Detail: "D.", Progress: percent, At: time.Now()}}
}

// next returns the next event as text: its name, id and data.
func (r *reader) next() string {
	r.t.Helper()
	for {
		id, name, text := r.message()
		var data struct {
			Phase, Text, Detail, Reason string
			Progress, Lines, Seq        int64
			At                          time.Time
		}
		if name == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &data); err != nil {
			r.t.Fatal(err)
		}
		switch name {
		case "progress":
			return fmt.Sprint("progress ", data.Phase, " ", data.Progress)
		case "line":
			if time.Since(data.At) > time.Hour || !strings.HasSuffix(id, "."+strconv.FormatInt(data.Seq, 10)) {
				r.t.Errorf("line %d: got id %s and time %v, want an id that ends in the number and a time in the last hour", data.Seq, id, data.At)
			}
			return fmt.Sprint("line ", id, " ", data.Text)
		case "skipped":
			return fmt.Sprint("skipped ", data.Lines)
		case "end":
			return "end " + data.Reason
		}
		return name
	}
}

func (r *reader) hear(want ...string) {
	r.t.Helper()
	for _, w := range want {
		if got := r.next(); got != w {
			r.t.Fatalf("%q, want %q", got, w)
		}
	}
}

func TestBootWaitsForItsMachine(t *testing.T) {
	t.Parallel()
	m := &fakeMachine{}
	f := newFront(t, func(c *Config) { c.Diagnostics = m })
	ada := f.signUp("ada@example.com")
	id := f.create(ada, "x")
	s := f.stream(t, ada.access, "/api/instances/"+id+"/boot", "")
	s.hear("waiting")
	m.up(saying("b1", reached("booting", 20), reached("installing", 40), logged(7, "one"), reached("installing", 45), logged(9, "two")))
	s.hear("progress booting 20", "progress installing 40", "line b1.7 one", "progress installing 45", "line b1.9 two")

	m.down()
	s.hear("waiting")
	m.up(saying("b1", reached("installing", 45), logged(9, "two"), logged(10, "three")))
	s.hear("progress installing 45", "line b1.10 three")

	m.down()
	s.hear("waiting")
	m.up(saying("b2", reached("booting", 20), logged(3, "another boot")))
	s.hear("progress booting 20", "line b2.3 another boot")
}

// A change of the instance causes an earlier dial.
func TestBootDialsWhenTheInstanceChanges(t *testing.T) {
	t.Parallel()
	m := &fakeMachine{}
	f := newFront(t, func(c *Config) { c.Diagnostics = m })
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	s := f.stream(t, ada.access, "/api/instances/"+id+"/boot", "")
	s.hear("waiting")
	<-time.After(firstDial + 2*firstDial + 4*firstDial) // the pauses before the longest
	m.up(saying("b1", logged(1, "here")))
	began := time.Now()
	f.happen(id, instance.PhaseReached{Boot: "b1", Phase: instance.PhaseBooting, At: f.clock.Now()})
	s.hear("line b1.1 here")
	if took := time.Since(began); took > lastDial/2 {
		t.Errorf("time to reconnect: got %v, want at most %v", took, lastDial/2)
	}
}

func TestBootResumes(t *testing.T) {
	t.Parallel()
	m := &fakeMachine{}
	m.up(saying("b1", logged(1, "one"), logged(2, "two"), logged(3, "three")))
	f := newFront(t, func(c *Config) { c.Diagnostics = m })
	ada := f.signUp("ada@example.com")
	path := "/api/instances/" + f.running(ada, "x") + "/boot"
	f.stream(t, ada.access, path, "b1.2").hear("line b1.3 three")
	f.stream(t, ada.access, path, "b0.2").hear("line b1.1 one", "line b1.2 two")
	for _, bad := range []string{"b1", "1", "b1.x", "b1.-1", "b1.1.1", "b 1.1", strings.Repeat("b", 100) + ".1"} {
		a := f.do(call{method: "GET", path: path, token: ada.access, header: map[string]string{"Last-Event-ID": bad}})
		if a.status != 400 || a.field(t, "code") != "invalid_position" {
			t.Errorf("%q: got %d %s, want 400 invalid_position", bad, a.status, a.body)
		}
	}
}

func TestBootEnds(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for reason, events := range map[string][]instance.Event{
		"stopped":    {instance.StopRequested{At: at}, instance.MachineStopped{Asked: true}},
		"failed":     {instance.MachineGone{}, instance.Failed{Code: "c", Reason: "R."}},
		"terminated": {instance.TerminationRequested{At: at}, instance.MachineGone{Asked: true}, instance.Terminated{}},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			m := &fakeMachine{}
			m.up(saying("b1", logged(1, "one")))
			f := newFront(t, func(c *Config) { c.Diagnostics = m })
			ada := f.signUp("ada@example.com")
			id := f.running(ada, "x")
			s := f.stream(t, ada.access, "/api/instances/"+id+"/boot", "")
			s.hear("line b1.1 one")
			f.happen(id, events...)
			s.hear("end " + reason)
			if more, ok := s.block(); ok {
				t.Errorf("after the end: got %q, want nothing", more)
			}
			if reason == "terminated" {
				f.want(409, call{method: "GET", path: "/api/instances/" + id + "/boot", token: ada.access})
				return
			}
			m.down()
			s = f.stream(t, ada.access, "/api/instances/"+id+"/boot", "")
			for got := s.next(); got != "end "+reason; got = s.next() {
				if got != "waiting" {
					t.Errorf("event: got %q, want waiting", got)
				}
			}
		})
	}
}

// A read model that is behind does not end the stream of an instance that was started again.
func TestBootAsksTheLogBeforeItEnds(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	stale := projections.Instance{ID: id, Status: instance.Stopped}
	if status, over := f.server.over(t.Context(), ada.account, stale); over {
		t.Errorf("a starting instance: got over with %s, want not over", status)
	}
	f.happen(id, instance.StopRequested{At: time.Now()}, instance.MachineStopped{Asked: true})
	if status, over := f.server.over(t.Context(), ada.account, stale); !over || status != instance.Stopped {
		t.Errorf("a stopped instance: got over %v with %s, want true with %s", over, status, instance.Stopped)
	}
}

func TestBootEndsWithItsSession(t *testing.T) {
	t.Parallel()
	m := &fakeMachine{}
	m.up(saying("b1", logged(1, "one")))
	f := newFront(t, func(c *Config) { c.Diagnostics = m; c.MaxStreams = 2 })
	ada := f.signUp("ada@example.com")
	path := "/api/instances/" + f.running(ada, "x") + "/boot"
	f.caughtUp()
	s, other := f.stream(t, ada.access, path, ""), f.logIn("ada@example.com")
	s.hear("line b1.1 one")
	f.stream(t, ada.access, "/api/events", "")
	f.want(429, call{method: "GET", path: path, token: ada.access})
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: ada.access})
	if last := s.end(); !strings.Contains(last, "session has ended") {
		t.Errorf("last comment: got %q, want that the session has ended", last)
	}
	short, _ := f.tokens.Access(ada.account, other.session, f.clock.Now().Add(-time.Hour+300*time.Millisecond))
	if last := f.stream(t, short, path, "").end(); !strings.Contains(last, "sign in again") {
		t.Errorf("last comment: got %q, want to sign in again", last)
	}
	s = f.stream(t, other.access, path, "")
	s.hear("line b1.1 one")
	f.server.drain()
	if last := s.end(); !strings.HasPrefix(last, "retry: ") {
		t.Errorf("last comment: got %q, want a time to reconnect", last)
	}
}

func TestBootNeedsAnOwner(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Diagnostics = &fakeMachine{} })
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	id := f.create(ada, "x")
	f.want(404, call{method: "GET", path: "/api/instances/" + id + "/boot", token: eve.access})
	f.want(404, call{method: "GET", path: "/api/instances/nonsense/boot", token: ada.access})
}

func TestBootWithoutMachines(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	f.want(503, call{method: "GET", path: "/api/instances/" + f.create(ada, "x") + "/boot", token: ada.access})
}

// The log of a machine that logs too fast is read at a bounded rate, and its owner sees how many lines were skipped.
func TestBootOfAFloodIsBounded(t *testing.T) {
	t.Parallel()
	m := &fakeMachine{}
	m.up(func(w io.Writer, _ string) {
		_ = wire.WriteLine(w, wire.Follow{Boot: "b1"}, wire.MaxFollow)
		for seq := int64(1); wire.WriteLine(w, logged(seq, "flood"), wire.MaxFollow) == nil; seq++ {
			if seq%100 == 0 && wire.WriteLine(w, reached("installing", int(seq)), wire.MaxFollow) != nil {
				return
			}
		}
	})
	f := newFront(t, func(c *Config) { c.Diagnostics = m })
	ada := f.signUp("ada@example.com")
	began := time.Now()
	s := f.stream(t, ada.access, "/api/instances/"+f.running(ada, "x")+"/boot", "")
	lines, reports := 0, 0
	for reports < 2 {
		switch kind, _, _ := strings.Cut(s.next(), " "); kind {
		case "line":
			lines++
		case "skipped":
			reports++
		}
	}
	if most := linesAtOnce + linesPerSecond*(time.Since(began).Seconds()+1); float64(lines) > most {
		t.Errorf("lines in %v: got %d, want at most %.0f", time.Since(began), lines, most)
	}
}

// Whatever a machine sends, the stream has complete events with valid text of bounded length.
func TestBootOfAHostileMachine(t *testing.T) {
	t.Parallel()
	good := func(seq int, text string) string {
		return fmt.Sprintf(`{"line":{"seq":%d,"at":"2020-01-01T00:00:00Z","phase":"ready","text":%s}}`, seq, text) + "\n"
	}
	m := &fakeMachine{}
	m.up(func(w io.Writer, _ string) {
		for _, text := range []string{
			`{"boot":"b1"}` + "\n",
			good(1, `"one"`),
			"no JSON\n", "\n", "[]\n", `{"line":null}` + "\n", `{"line":{"seq":"x"}}` + "\n", `{"martian":{}}` + "\n",
			good(1, `"a number again"`), good(-5, `"below"`),
			strings.Repeat("x", 3*wire.MaxFollow) + "\n",
			good(2, `"`+strings.Repeat("y", 2*wire.MaxFollow)+`"`),
			`{"line":{"seq":3,"phase":"party","text":"a phase there is not"}}` + "\n",
			`{"line":{"seq":3,"at":"9999-12-31T23:59:59-23:00","phase":"ready","text":"from the end of time"}}` + "\n",
			`{"phase":{"phase":"party","progress":50}}` + "\n",
			`{"phase":{"phase":"ready","progress":-70000,"detail":"` + strings.Repeat("d", 2000) + `"}}` + "\n",
			`{"boot":"b1\nid: 5"}` + "\n", `{"boot":"b2"}` + "\n",
			good(4, `"\n\nevent: end\ndata: {}\n\n"`),
			good(5, "\"\xff\xfe bytes\""),
			good(6, `"`+strings.Repeat("ü", 2000)+`"`),
			good(7, `"last"`),
		} {
			_, _ = io.WriteString(w, text)
		}
	})
	f := newFront(t, func(c *Config) { c.Diagnostics = m })
	ada := f.signUp("ada@example.com")
	f.stream(t, ada.access, "/api/instances/"+f.running(ada, "x")+"/boot", "").hear(
		"line b1.1 one", "line b1.3 from the end of time", "progress ready 0", "line b1.4 \n\nevent: end\ndata: {}\n\n",
		"line b1.5 \ufffd\ufffd bytes", "line b1.6 "+strings.Repeat("ü", wire.MaxLogLine/2), "line b1.7 last")
}

// An answer that does not name its boot counts as no machine.
func TestBootOfNoGuest(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"garbage": "garbage\n", "no boot": `{"line":{"seq":1,"phase":"ready","text":"x"}}` + "\n", "bad boot": `{"boot":"a.b\n"}` + "\n", "long": strings.Repeat("x", 2*wire.MaxFollow),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &fakeMachine{}
			m.up(func(w io.Writer, _ string) { _, _ = io.WriteString(w, first) })
			f := newFront(t, func(c *Config) { c.Diagnostics = m })
			ada := f.signUp("ada@example.com")
			s := f.stream(t, ada.access, "/api/instances/"+f.running(ada, "x")+"/boot", "")
			s.hear("waiting")
			m.up(saying("b1", logged(1, "well")))
			s.hear("line b1.1 well")
		})
	}
}
