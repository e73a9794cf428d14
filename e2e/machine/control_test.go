package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// takesControl has the user take mouse and keyboard while the model keeps asking for clicks and keys, in a run that
// began before and in one that began later. A window records the X events that reach it.
func (s *scene) takesControl() {
	s.t.Helper()
	d := s.openDoor()
	d.until(wire.HolderAgent)
	var w *recorder
	s.play("use the window", func(u *modeltest.Turn) {
		w = s.record()
		u.Look()
		w.agentArrives("before", func() []modeltest.Result { return w.agentTries(u, "a") })

		if c := d.ask(wire.ControlTake); c.Holder != wire.HolderUser || time.Until(time.UnixMilli(c.Until)) > wire.ControlFor+time.Second {
			s.t.Errorf("take: got %+v, want the user as holder for at most %s", c, wire.ControlFor)
		}
		d.until(wire.HolderUser)
		w.agentDoesNot("a run that began before", func() []modeltest.Result {
			refused := w.agentTries(u, "b")
			for _, r := range refused[1:] { // it may look
				if r.OK() {
					s.t.Errorf("input in a run that began before: got %s, want an error for the model", r)
				}
			}
			return refused
		})

		if c := d.ask(wire.ControlGive); c.Holder != wire.HolderAgent {
			s.t.Errorf("give: got %+v, want the agent as holder", c)
		}
		d.until(wire.HolderAgent)
		w.agentArrives("after it was given back", func() []modeltest.Result { return w.agentTries(u, "c") })
	})
	taken := d.ask(wire.ControlTake)
	d.until(wire.HolderUser)
	s.play("use the window again", func(u *modeltest.Turn) {
		w.agentDoesNot("a run that began later", func() []modeltest.Result {
			refused := w.agentTries(u, "d")
			if text := refused[0].Text; !strings.Contains(text, "COMPUTER_HOST_BUSY") {
				s.t.Errorf("a screenshot in a run that began later: got %s, want COMPUTER_HOST_BUSY", text)
			}
			return refused
		})
	})
	if left := time.Until(time.UnixMilli(taken.Until)); left <= 0 {
		s.t.Errorf("the hold: got an end %s ago, want one to come", -left)
	}
	d.until(wire.HolderAgent) // the hold ends by itself
	if early := time.Until(time.UnixMilli(taken.Until)); early > time.Second {
		s.t.Errorf("the hold: got an end %s before its time, want none", early)
	}
	s.t.Logf("the hold ended by itself after %s", time.Since(time.UnixMilli(taken.Since)).Round(time.Second))
	s.play("use the window at last", func(u *modeltest.Turn) {
		u.Look()
		w.agentArrives("after the hold's time", func() []modeltest.Result { return w.agentTries(u, "e") })
	})
}

// recorder is a window, of the program xev, that records its X events.
type recorder struct {
	*scene
	at   image.Rectangle
	seen int // bytes of the record
}

// record opens the window and gives it the focus.
func (s *scene) record() *recorder {
	s.t.Helper()
	s.paint()
	before := s.copy()
	s.start("xev -rv -name Recorder -geometry 500x300+350+250 -event keyboard -event button -event mouse")
	w := &recorder{scene: s}
	s.until("the recording window", func() bool {
		w.at = window(before, s.view.m)
		return w.at.Dx() >= 450 && w.at.Dy() >= 250
	})
	w.userActs('u')
	return w
}

// types has the user click at a point and type a text.
func (s *scene) types(p image.Point, text string) {
	s.t.Helper()
	for _, buttons := range []byte{0, 1, 0} {
		if err := s.view.move(p, buttons); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, r := range text {
		sym := uint32(r)
		if r == '\n' {
			sym = 0xff0d // Return
		}
		if err := s.view.press(sym); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (w *recorder) middle() image.Point { return w.at.Min.Add(w.at.Size().Div(2)) }

// userActs has the user click into the window and type a letter, and waits until both are recorded.
func (w *recorder) userActs(letter rune) {
	w.t.Helper()
	w.types(w.middle().Add(image.Pt(60, 40)), string(letter))
	await(w.t, 20*time.Second, "the user's input in the window", func() bool {
		return strings.Contains(strings.Join(events(w.recorded()[w.seen:]), "\n"), fmt.Sprintf("KeyRelease %c", letter))
	})
}

// agentTries has the model do all that it can with mouse and keyboard.
func (w *recorder) agentTries(u *modeltest.Turn, key string) []modeltest.Result {
	w.t.Helper()
	all := []modeltest.Result{u.Use("computer", `{"action":"screenshot"}`), u.Click(w.middle(), w.view.m.Rect.Size())}
	for _, args := range []string{
		`{"action":"type","text":"` + key + key + `"}`,
		`{"action":"key","text":"` + key + `"}`,
	} {
		all = append(all, u.Use("computer", args))
	}
	if w.xdotool { // input of a program that the agent starts
		p := w.middle()
		all = append(all, u.Use("exec", fmt.Sprintf(`{"command":"xdotool mousemove %d %d click 1 key %s"}`, p.X, p.Y, key)))
	}
	return all
}

// agentArrives checks that what the agent tries reaches the window.
func (w *recorder) agentArrives(when string, try func() []modeltest.Result) {
	w.t.Helper()
	w.seen = len(w.recorded())
	came := try()
	clicks, keys := 1, 3
	if w.xdotool {
		clicks, keys = 2, 4
	}
	var got []string
	ok := func() bool {
		got = events(w.recorded()[w.seen:])
		text := strings.Join(got, "\n")
		return strings.Count(text, "ButtonRelease 1") >= clicks && strings.Count(text, "KeyRelease") >= keys
	}
	await(w.t, 20*time.Second, fmt.Sprintf("the agent's input in the window, %s; the model got %v", when, came), ok)
	w.t.Logf("%s: the window recorded %q", when, got)
	for _, r := range came {
		w.t.Logf("%s: the model got %s", when, r)
	}
}

// agentDoesNot checks that none of what the agent tries reaches the window, but what the user does, does.
func (w *recorder) agentDoesNot(when string, try func() []modeltest.Result) {
	w.t.Helper()
	w.seen = len(w.recorded())
	came := try()
	w.userActs('u') // comes after all that the agent has sent
	got := events(w.recorded()[w.seen:])
	w.t.Logf("%s: the window recorded %q", when, got)
	for _, e := range got {
		if fields := strings.Fields(e); strings.HasPrefix(e, "Key") && fields[1] != "u" {
			w.t.Errorf("%s: got %s, want no key but the user's u", when, e)
		}
	}
	if n := strings.Count(strings.Join(got, "\n"), "ButtonPress"); n != 1 {
		w.t.Errorf("%s: got %d presses of buttons, want the user's one", when, n)
	}
	for _, r := range came {
		w.t.Logf("%s: the model got %s", when, r)
	}
}

var (
	eventLine  = regexp.MustCompile(`(?m)^(Key|Button)(Press|Release) event`)
	eventKey   = regexp.MustCompile(`keysym 0x[0-9a-f]+, (\w+)`)
	eventFrom  = regexp.MustCompile(`synthetic YES`)
	eventPress = regexp.MustCompile(`button (\d+)`)
)

// events reads what xev has written: "KeyPress a", "ButtonPress 1". Events that another program has sent itself are marked.
func events(record string) (list []string) {
	at := eventLine.FindAllStringIndex(record, -1)
	for i, from := range at {
		end := len(record)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		text := record[from[0]:end]
		name := strings.TrimSuffix(record[from[0]:from[1]], " event")
		for _, detail := range []*regexp.Regexp{eventKey, eventPress} {
			if found := detail.FindStringSubmatch(text); found != nil {
				name += " " + found[1]
				break
			}
		}
		if eventFrom.MatchString(text) {
			name += " (sent)"
		}
		list = append(list, name)
	}
	return list
}

// door is the user's chat, of which only mouse and keyboard are used here.
type door struct {
	t        testing.TB
	ws       *websocket.Conn
	ctx      context.Context
	n        int
	controls chan wire.Control
	answers  chan doorAnswer
}

type doorAnswer struct {
	ID      string
	OK      bool
	Event   string
	Error   json.RawMessage
	Payload json.RawMessage
}

// openDoor connects as the dashboard does.
func (s *scene) openDoor() *door {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	ws, err := s.bridge(ctx, s.id, "cloudbot")
	if err != nil {
		s.t.Fatal(err)
	}
	d := &door{t: s.t, ws: ws, ctx: ctx, controls: make(chan wire.Control, 100), answers: make(chan doorAnswer, 100)}
	go func() {
		defer ws.CloseNow()
		for {
			var a doorAnswer
			_, text, err := ws.Read(ctx)
			if err != nil {
				return
			}
			_ = json.Unmarshal(text, &a)
			switch {
			case a.Event == wire.ControlEvent:
				d.controls <- controlOf(a.Payload)
			case strings.HasPrefix(a.ID, "door-"):
				d.answers <- a
			}
		}
	}()
	return d
}

func controlOf(payload json.RawMessage) (c wire.Control) {
	_ = json.Unmarshal(payload, &c)
	return c
}

// until waits for an event with this holder.
func (d *door) until(holder string) {
	d.t.Helper()
	for late := time.After(wire.ControlFor + time.Minute); ; {
		select {
		case c := <-d.controls:
			if c.Holder == holder {
				return
			}
		case <-late:
			d.t.Fatalf("got no event %s with holder %s, want one", wire.ControlEvent, holder)
		}
	}
}

// ask sends a request and returns its answer.
func (d *door) ask(method string) wire.Control {
	d.t.Helper()
	d.n++
	id := fmt.Sprint("door-", d.n)
	if err := d.ws.Write(d.ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"req","id":%q,"method":%q,"params":{}}`, id, method)); err != nil {
		d.t.Fatal(err)
	}
	select {
	case a := <-d.answers:
		if a.ID != id || !a.OK {
			d.t.Fatalf("%s: got %s %s, want it accepted", method, a.ID, a.Error)
		}
		return controlOf(a.Payload)
	case <-time.After(time.Minute):
		d.t.Fatalf("%s: got no answer, want one", method)
		return wire.Control{}
	}
}
