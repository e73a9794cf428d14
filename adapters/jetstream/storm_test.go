package jetstream_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Two relays fill the stream with a long log, of which some events are large, while NATS is restarted, loses its
// files and loses a stream in the middle of their windows. Message n stays event n, in the first epoch.
func TestRefillInAStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const events = 10_000
	large := json.RawMessage(`"` + strings.Repeat("x", eventstore.MaxEventBytes-2) + `"`)
	for at := 0; at < events; {
		var a eventstore.Append
		for range eventstore.MaxAppendEvent {
			e := eventstore.NewEvent{ID: fmt.Sprint("A-", at), Type: "instance.requested", Schema: 1, Time: time.Unix(1700000000, 0).UTC(), Data: json.RawMessage(`{}`)}
			if at%999 == 0 {
				e.Data = large
			}
			a.Writes = append(a.Writes, eventstore.Write{Stream: eventstore.StreamID{Aggregate: "instance", ID: fmt.Sprint("01J", at)}, Events: []eventstore.NewEvent{e}})
			at++
		}
		if _, err := w.log.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	one, two := w.relay(t, jetstream.StreamLimits{}), w.relay(t, jetstream.StreamLimits{})
	run(t, one)
	run(t, two)
	reach := func(n int64) {
		eventually(t, func() bool { return max(one.Stats().Position, two.Stats().Position) >= n }, func() string { return fmt.Sprintf("%+v %+v", one.Stats(), two.Stats()) })
	}
	for n, fault := range []func(){
		func() { w.Stop(); w.Start(t) },
		func() { w.Stop(); w.Wipe(t); w.Start(t) },
		func() { _ = w.JS.DeleteStream(t.Context(), jetstream.StreamName) },
		func() { w.Stop(); w.Start(t) },
	} {
		reach(int64(n+1) * 2000)
		fault()
	}
	if c := w.settled(t); c.Stream != events || w.epochOfStream(t) != "1" {
		t.Errorf("got %+v in epoch %s, want %d events in the first", c, w.epochOfStream(t), events)
	}
}
