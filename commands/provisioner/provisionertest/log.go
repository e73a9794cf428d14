package provisionertest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Feed is a provisioner.Feed over any store.
type Feed struct{ Store eventstore.Store }

// Follow is a provisioner.Feed's.
func (f Feed) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	notified := f.Store.Notifications(ctx)
	for {
		var batch []eventstore.Event
		for e, err := range f.Store.ReadAll(ctx, after) {
			if err != nil {
				return err
			}
			batch = append(batch, e)
		}
		if len(batch) > 0 {
			if err := fn(ctx, batch); err != nil {
				return err
			}
			after = batch[len(batch)-1].Position
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-notified:
		}
	}
}

// Live lists the instances that are not final, as a read model would: while Play runs, a few events late.
func (s *Stage) Live(ctx context.Context) (ids []string, position int64, err error) {
	head, err := s.Head(ctx)
	if err != nil {
		return nil, 0, err
	}
	position = max(0, head-s.lag.Load())
	final := map[string]bool{}
	for e, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			return nil, 0, err
		}
		if e.Stream.Aggregate == "instance" && e.Position <= position {
			final[e.Stream.ID] = e.Type == "instance.terminated" || e.Type == "instance.failed"
		}
	}
	for id, is := range final {
		if !is {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, position, nil
}

// State returns the state of an instance.
func (s *Stage) State(id string) instance.State { return s.Fold()[id] }

// Fold folds the new events and returns the states, by instance. It notes with Wrong where the log breaks one of its
// own laws.
func (s *Stage) Fold() map[string]instance.State {
	for e, err := range s.ReadAll(context.Background(), s.read) {
		if err != nil {
			s.T.Fatal(err)
		}
		s.read = e.Position
		switch e.Stream.Aggregate {
		case "quota":
			s.count(e)
		case "instance":
			ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
			if err != nil {
				s.T.Fatal(err)
			}
			was := s.states[e.Stream.ID]
			s.check(e, was, ev)
			s.states[e.Stream.ID] = instance.Evolve(was, ev)
		}
	}
	return s.states
}

func (s *Stage) count(e eventstore.Event) {
	ev, err := quota.Codec.Decode(e.Type, e.Schema, e.Data)
	if err != nil {
		s.T.Fatal(err)
	}
	switch ev := ev.(type) {
	case quota.SlotTaken:
		s.slots[ev.Instance]++
	case quota.SlotReleased:
		s.slots[ev.Instance]--
	}
}

// check compares an event with the laws of an instance's stream.
func (s *Stage) check(e eventstore.Event, was instance.State, ev instance.Event) {
	switch ev := ev.(type) {
	case instance.LaunchAttempted:
		if was.Open || was.Machine != "" || ev.Attempt != was.Attempts+1 {
			s.Wrong("attempt %d after %d, open %v, machine %q", ev.Attempt, was.Attempts, was.Open, was.Machine)
		}
	case instance.MachineLaunched:
		if !was.Open || was.Machine != "" {
			s.Wrong("machine %s was launched twice", ev.Machine)
		}
	case instance.Failed:
		if ev.Code == "" || !strings.HasSuffix(ev.Reason, ".") {
			s.Wrong("%s failed because %q %q", e.Stream, ev.Code, ev.Reason)
		}
	}
	if _, asked := ev.(instance.TerminationRequested); was.Final() && !asked && e.Type != "instance.terminated" {
		s.Wrong("%s after the end of %s", e.Type, e.Stream)
	}
}

// Count returns how many events of a type are in the log.
func (s *Stage) Count(typ string) (n int) {
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			s.T.Fatal(err)
		}
		if e.Type == typ {
			n++
		}
	}
	return n
}

// History returns the events of all instances and what the cloud saw, by time.
func (s *Stage) History() string {
	var lines []string
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err == nil && e.Stream.Aggregate == "instance" {
			lines = append(lines, fmt.Sprint(e.Time.Format(TraceTime), e.Position, " ", e.Stream.ID, " ", e.Type, " ", clipped(e.Data)))
		}
	}
	if s.config.Trace != nil {
		lines = append(lines, s.config.Trace()...)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// clipped leaves out long data, and sealed data, which is different in each run.
func clipped(data []byte) string {
	text := string(data)
	if strings.Contains(text, `"spec"`) || strings.Contains(text, `"name"`) {
		return ""
	}
	return text
}
