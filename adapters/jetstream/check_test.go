package jetstream_test

import (
	"testing"

	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Each planted fault must be counted.
func TestCheckSeesFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if c, err := jetstream.Check(t.Context(), w.log, w.Conn); err != nil || c != (jetstream.Counts{}) {
		t.Fatalf("nothing at all: got %+v, %v, want no error and %+v", c, err, jetstream.Counts{})
	}
	w.log.write(t, 10, "A")
	if c, err := jetstream.Check(t.Context(), w.log, w.Conn); err != nil || c != (jetstream.Counts{Log: 10, Missing: 10}) {
		t.Fatalf("no stream: got %+v, %v, want no error and %+v", c, err, jetstream.Counts{Log: 10, Missing: 10})
	}
	_, err := w.JS.CreateStream(t.Context(), njs.StreamConfig{
		Name: jetstream.StreamName, Subjects: []string{"cloudbot.events.>"}, Metadata: map[string]string{"cloudbot.epoch": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.log.write(t, 1, "A") // an eleventh that goes to the stream only
	publish := func(e eventstore.Event, subject string, epoch int) {
		t.Helper()
		if _, err := w.JS.Publish(t.Context(), subject, jetstream.Envelope{Epoch: epoch, Event: e}.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	for e, err := range w.log.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		subject, epoch := jetstream.Subject(e), 1
		switch e.Position {
		case 2:
			e.Data = []byte(`{"n":2, "html":"<b>"}`) // one space less
		case 3:
			e.ID = "other"
		case 4:
			subject += "x"
		case 5:
			epoch = 2
		case 6:
			e.Position = 7
		}
		publish(e, subject, epoch)
	}
	s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	w.log.restore(t, 10)
	c, err := jetstream.Check(t.Context(), w.log, w.Conn)
	if want := (jetstream.Counts{Log: 10, Stream: 10, Missing: 1, Extra: 1, Different: 5}); err != nil || c != want {
		t.Fatalf("got %+v, %v, want %+v", c, err, want)
	}
}
