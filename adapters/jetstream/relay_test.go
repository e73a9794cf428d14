package jetstream_test

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func TestRelayKeepsTheNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 300, "A")
	r := w.relay(t, jetstream.StreamLimits{})
	run(t, r)
	w.log.write(t, 300, "A")
	if c := w.settled(t); c.Stream != 600 {
		t.Fatalf("got %+v, want 600", c)
	}
	s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "cloudbot.events.instance.01JA7.requested" || m.Header.Get("Content-Type") != jetstream.ContentType {
		t.Fatalf("got %s %v, want m.Subject \"cloudbot.events.instance.01JA7.requested\" and m.Header.Get(\"Content-Type\") %v", m.Subject, m.Header, jetstream.ContentType)
	}
	eventually(t, func() bool { return r.Stats() == jetstream.RelayStats{Published: 600, Position: 600, Epoch: 1} }, func() string { return "stats" })
}

// halting is a log whose reader waits at a position until it is released.
type halting struct {
	*log
	at      int64
	release chan struct{}
}

func (h halting) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range h.log.ReadAll(ctx, after) {
			if e.Position == h.at {
				<-h.release
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// While an empty stream is filled, the lag is what is missing of the whole log.
func TestLagWhileAStreamIsFilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 3000, "A")
	h := halting{w.log, 1000, make(chan struct{})}
	r, err := jetstream.NewRelay(jetstream.RelayConfig{Store: h, Conn: w.Conn, Epochs: &epochs{}, Window: 16, Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	run(t, r)
	stats := func() string { return fmt.Sprintf("%+v", r.Stats()) }
	eventually(t, func() bool { return r.Stats().Position >= 900 }, stats)
	if s := r.Stats(); s.Lag != 3000-s.Position {
		t.Errorf("got %+v, want a lag of all that is missing of 3000 events", s)
	}
	close(h.release)
	eventually(t, func() bool { return r.Stats().Position == 3000 && r.Stats().Lag == 0 }, stats)
}

func TestTwoRelaysAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 100, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	run(t, w.relay(t, jetstream.StreamLimits{}))
	for range 20 {
		w.log.write(t, 50, "A")
	}
	if c := w.settled(t); c.Stream != 1100 {
		t.Fatalf("got %+v, want 1100", c)
	}
	if got := w.epochOfStream(t); got != "1" {
		t.Fatalf("epoch %s: two relays are no reason for a new one, want \"1\"", got)
	}
}

func TestWipedFolderIsRefilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 50, "A")
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stop()
	w.Stop()
	w.Wipe(t)
	w.Start(t)
	w.log.write(t, 5, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	if c := w.settled(t); c.Stream != 55 || w.epochOfStream(t) != "1" {
		t.Fatalf("%+v, epoch %s, want c.Stream 55 and w.epochOfStream(t) \"1\"", c, w.epochOfStream(t))
	}
}

func TestWipedFolderUnderARelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 50, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	w.Stop()
	w.Wipe(t)
	w.log.write(t, 5, "A")
	w.Start(t)
	if c := w.settled(t); c.Stream != 55 || w.epochOfStream(t) != "1" {
		t.Fatalf("%+v, epoch %s, want c.Stream 55 and w.epochOfStream(t) \"1\"", c, w.epochOfStream(t))
	}
}

func TestStreamDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 20, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	for range 3 {
		if err := w.JS.DeleteStream(t.Context(), jetstream.StreamName); err != nil {
			t.Fatal(err)
		}
		w.log.write(t, 10, "A")
		w.settled(t)
	}
}

// An operator caps the stream by hand: the relay removes the cap and restores the prefix.
func TestPrefixLostWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 20, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs = 5
	if _, err := w.JS.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if c := w.settled(t); c.Stream != 20 {
		t.Fatalf("got %+v, want 20", c)
	}
}

func TestHoleIsFilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 20, "A")
	_, err := w.JS.CreateStream(t.Context(), njs.StreamConfig{
		Name: jetstream.StreamName, Subjects: []string{"cloudbot.events.>"}, Metadata: map[string]string{"cloudbot.epoch": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range w.log.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		body := jetstream.Envelope{Environment: "test", Epoch: 1, Event: e}.Bytes()
		if _, err := w.JS.Publish(t.Context(), jetstream.Subject(e), body); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if c, err := jetstream.Check(t.Context(), w.log, w.Conn); err != nil || c.Missing != 1 {
		t.Fatalf("the checker does not see the hole: got %+v, %v, want no error and 1", c, err)
	}
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	if w.epochOfStream(t) != "1" {
		t.Fatal("a hole is no reason for a new epoch")
	}
}

func TestShorterLogBeginsAnEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 40, "A")
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stop()
	w.log.restore(t, 25)
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.log.write(t, 3, "B")
	w.settled(t)
	if got := w.epochOfStream(t); got != "2" || w.epochs.at != 25 {
		t.Fatalf("epoch %s agrees up to %d, want got \"2\" and w.epochs.at 25", got, w.epochs.at)
	}
}

// The database knows nothing of the epochs that came after its backup.
func TestRestoredEpochsAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.epochs.n = 7
	w.log.write(t, 10, "A")
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stop()
	w.epochs.n = 3
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.log.write(t, 1, "A")
	eventually(t, func() bool { return w.epochOfStream(t) == "8" }, func() string { return w.epochOfStream(t) })
	w.settled(t)
}

func TestOtherContentsBeginAnEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 30, "A")
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stop()
	w.log.restore(t, 10)
	w.log.write(t, 40, "B")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	if c := w.settled(t); c.Stream != 50 || w.epochOfStream(t) != "2" || w.epochs.at != 10 {
		t.Fatalf("%+v, epoch %s agrees up to %d, want c.Stream 50, w.epochOfStream(t) \"2\" and w.epochs.at 10", c, w.epochOfStream(t), w.epochs.at)
	}
}

// The log is rewound and grows past its old end, without a restart of the relay.
func TestRewindUnderARelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 30, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	next := &log{}
	next.store.Store(w.log.store.Load())
	next.restore(t, 10)
	next.write(t, 40, "B")
	w.log.store.Store(next.store.Load())
	if c := w.settled(t); c.Stream != 50 || w.epochOfStream(t) != "2" {
		t.Fatalf("%+v, epoch %s, want c.Stream 50 and w.epochOfStream(t) \"2\"", c, w.epochOfStream(t))
	}
}

// A writer from before the epoch gets a message in. The message keeps its epoch, so its number stays
// unique, and the relay repairs the stream.
func TestStrangersMessageIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.epochs.n = 2
	w.log.write(t, 10, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stale := &log{}
	stale.store.Store(w.log.store.Load())
	stale.restore(t, 10)
	stale.write(t, 1, "Z")
	for e, err := range stale.ReadAll(t.Context(), 10) {
		if err != nil {
			t.Fatal(err)
		}
		msg := &nats.Msg{Subject: jetstream.Subject(e), Data: jetstream.Envelope{Epoch: 1, Event: e}.Bytes()}
		if _, err := w.JS.PublishMsg(t.Context(), msg, njs.WithExpectLastSequence(10)); err != nil {
			t.Fatal(err)
		}
	}
	w.log.write(t, 20, "A")
	if c := w.settled(t); c.Stream != 30 {
		t.Fatalf("got %+v, want 30", c)
	}
	if got := w.epochOfStream(t); got == "1" || got == "2" {
		t.Fatalf("epoch %s, want got other than \"1\" and got other than \"2\"", got)
	}
}

func TestRestartUnderARelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run(t, w.relay(t, jetstream.StreamLimits{}))
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range 40 {
			w.log.write(t, 50, "A")
		}
	}()
	w.Stop()
	<-written
	w.log.write(t, 10, "A")
	w.Start(t)
	if c := w.settled(t); c.Stream != 2010 || w.epochOfStream(t) != "1" {
		t.Fatalf("%+v, epoch %s, want c.Stream 2010 and w.epochOfStream(t) \"1\"", c, w.epochOfStream(t))
	}
}

func TestCappedStreamIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 200, "A")
	limits := jetstream.StreamLimits{MaxBytes: 20 << 10}
	run(t, w.relay(t, limits))
	r := w.follow(t, 0)
	r.has(t, 0, 200, "A")
	s := func() njs.StreamState {
		s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
		if err != nil {
			return njs.StreamState{}
		}
		return s.CachedInfo().State
	}
	eventually(t, func() bool { return s().LastSeq == 200 }, func() string { return "not filled" })
	w.log.write(t, 50, "A")
	r.has(t, 0, 250, "A")
	eventually(t, func() bool { return s().LastSeq == 250 }, func() string { return "not filled" })
	first := int64(s().FirstSeq)
	if first < 2 {
		t.Fatalf("nothing was discarded: the test shows nothing, want at least 2")
	}
	c, err := jetstream.Check(t.Context(), w.log, w.Conn)
	if want := (jetstream.Counts{Log: 250, Stream: 251 - first, Discarded: first - 1}); err != nil || c != want {
		t.Errorf("got %+v, %v, want %+v", c, err, want)
	}
	// A follower that begins below the stream's first message reads the log.
	w.follow(t, 0).has(t, 0, 250, "A")
}
