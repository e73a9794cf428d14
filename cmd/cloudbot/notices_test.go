package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Each event about a stop leads to what the desktop shows, and the notice that stands is known without the event.
func TestNoticesOfStops(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 18, 25, 0, 0, time.UTC)
	stop := now.Add(5 * time.Minute)
	var got []wire.Notice
	s := notices{now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler), show: func(id string, n wire.Notice) {
		if id != "01DESKTOP" {
			t.Errorf("got a notice for %s, want one for the event's desktop", id)
		}
		got = append(got, n)
	}}
	const why = "No input since 18:02, agent idle since 18:09."
	long := strings.Repeat("Because it is so. ", 40)
	for _, c := range []struct {
		what  string
		event instance.Event
		want  wire.Notice
	}{
		{"a warning", instance.IdleWarned{At: now, StopAt: stop, Cause: instance.CauseIdle, Why: why},
			wire.Notice{Text: "CloudBot will stop this desktop at 18:30 UTC. " + why + " Use it, or extend its time in the dashboard, to keep it running.", For: 300_000, Count: true}},
		{"a late warning", instance.IdleWarned{At: now, StopAt: now, Cause: instance.CauseIdle, Why: why}, wire.Notice{}},
		{"more time", instance.IdleExtended{At: now, Until: stop}, wire.Notice{}},
		{"withdrawn", instance.IdleWithdrawn{At: now}, wire.Notice{}},
		{"a stop", instance.StopRequested{At: now, Cause: instance.CauseBudget, Why: "Its budget is used up."},
			wire.Notice{Text: "CloudBot is stopping this desktop. Its budget is used up.", For: 120_000}},
		{"the user's stop", instance.StopRequested{At: now}, wire.Notice{}},
	} {
		name, schema, data, err := instance.Codec.Encode(c.event)
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		s.follow(event(name, schema, data))
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: got %+v, want %+v", c.what, got, c.want)
		}
	}
	got = nil
	s.follow(event(idleWarned, 1, []byte("damaged")))
	if len(got) != 0 {
		t.Errorf("a damaged event: got %+v, want no notice", got)
	}
	if n := warning(instance.IdleWarned{StopAt: stop, Why: long}, now); len(n.Text) > wire.MaxNotice || !strings.HasSuffix(n.Text, "…") {
		t.Errorf("a long reason: got %d bytes, %q, want at most %d", len(n.Text), n.Text, wire.MaxNotice)
	}
}

func event(name string, schema int, data []byte) eventstore.Event {
	return eventstore.Event{
		Stream: eventstore.StreamID{Aggregate: "instance", ID: "01DESKTOP"}, NewEvent: eventstore.NewEvent{Type: name, Schema: schema, Data: data},
	}
}

// A tunnel that connects while a warning stands gets it from the log.
func TestStandingNotice(t *testing.T) {
	t.Parallel()
	w := commandstest.NewWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	out, err := w.Instances.Create(t.Context(), o, "desktop", "")
	if err != nil {
		t.Fatal(err)
	}
	id := out.Answer.ID
	now, machine := w.Clock.Now(), "m-1"
	do := func(c instance.Command) {
		t.Helper()
		if _, err := w.Log.ExecuteInstance(t.Context(), id, c); err != nil {
			t.Fatal(err)
		}
	}
	s := notices{guests: w.Guests, now: w.Clock.Now}
	stands := func(what, id string, want wire.Notice) {
		t.Helper()
		if n, err := s.standing(t.Context(), id); err != nil || n != want {
			t.Errorf("%s: got %+v, %v, want %+v", what, n, err, want)
		}
	}
	stands("no such desktop", "01NOTHING", wire.Notice{})
	do(instance.Attempt{At: now, Spec: instance.Spec{ClientToken: id, TokenKey: "k1"}})
	do(instance.Launched{Attempt: 1, Machine: machine, At: now})
	do(instance.Observe{Machine: machine, Seen: instance.SeenRunning, At: now})
	stands("running", id, wire.Notice{})
	warned := instance.IdleWarned{At: now, StopAt: now.Add(time.Minute), Cause: instance.CauseIdle, Why: "No input since 18:02."}
	do(instance.Warn(warned))
	stands("warned", id, warning(warned, now))
	do(instance.Extend{At: now, Until: now.Add(time.Hour)})
	stands("extended", id, wire.Notice{})
}
