package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// warnings counts what is logged at WARN and above, by message.
type warnings struct {
	slog.Handler
	mu   sync.Mutex
	seen map[string]int
}

func (w *warnings) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.mu.Lock()
		w.seen[r.Message]++
		w.mu.Unlock()
	}
	return w.Handler.Handle(ctx, r)
}

func (w *warnings) count(message string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[message]
}

// impatient starts a relay that notices failures soon, and returns the warnings it logs.
func (w *world) impatient(t *testing.T, patience time.Duration) (*jetstream.Relay, *warnings) {
	t.Helper()
	heard := &warnings{Handler: logTo(t).Handler(), seen: map[string]int{}}
	r, err := jetstream.NewRelay(jetstream.RelayConfig{
		Store: w.log, Conn: w.Conn, Epochs: w.epochs, Environment: "test",
		Poll: 20 * time.Millisecond, Logger: slog.New(heard), Patience: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, heard
}

// big appends events of half a megabyte together.
func (l *log) big(t testing.TB, megabytes int) {
	t.Helper()
	for range megabytes {
		head, err := l.Head(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		a := eventstore.Append{}
		for i := range int64(2) {
			a.Writes = append(a.Writes, eventstore.Write{Stream: eventstore.StreamID{Aggregate: "instance", ID: fmt.Sprint("big", head+i+1)}, Events: []eventstore.NewEvent{{
				ID: fmt.Sprint("big-", head+i+1), Type: "instance.requested", Schema: 1, Time: time.Unix(1700000000, 0).UTC(),
				Data: json.RawMessage(`"` + strings.Repeat("x", 500<<10) + `"`),
			}}})
		}
		if _, err := l.Append(context.Background(), a); err != nil {
			t.Fatal(err)
		}
	}
}

// The stream's files break under the server, which from then on answers and stores nothing: the stream is
// refilled from the log, without a restart.
func TestBrokenStreamIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 20, "A")
	r, heard := w.impatient(t, 300*time.Millisecond)
	run(t, r)
	w.settled(t)
	follower := w.follow(t, 0)
	follower.has(t, 0, 20, "A")
	w.Break(t, jetstream.StreamName)
	w.log.big(t, 9) // more than one file of the server's
	eventually(t, func() bool { return len(follower.got()) == 38 }, func() string { return fmt.Sprint(len(follower.got()), " followed") })
	if c := w.settled(t); c.Stream != 38 || w.epochOfStream(t) != "1" {
		t.Fatalf("%+v, epoch %s, want c.Stream 38 and w.epochOfStream(t) \"1\"", c, w.epochOfStream(t))
	}
	w.log.write(t, 1, "A")
	w.settled(t)
	if n := heard.count("stream replaced"); n != 1 {
		t.Errorf("the stream was replaced %d times, want 1", n)
	}
	if n := heard.count("relay interrupted, will resume"); n < 1 || n > 6 {
		t.Errorf("the relay warned %d times: once for each cause is enough, want n at least 1 and n at most 6", n)
	}
	t.Logf("the stream broke: replaced %d times, %d warnings", heard.count("stream replaced"), heard.count("relay interrupted, will resume"))
}

// The disk is full, and later has room: followers get events all the time, and the relay replaces the
// stream without help.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("a file system that can be filled needs the right to mount one (root in a container with CAP_SYS_ADMIN): %v; TestBrokenStreamIsReplaced shows the same on any", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	w := &world{Server: natstest.NewIn(t, dir, 1<<30), log: &log{}, epochs: &epochs{n: 1}}
	w.log.store.Store(memory.New())
	w.log.write(t, 20, "A")
	r, heard := w.impatient(t, 300*time.Millisecond)
	run(t, r)
	w.settled(t)
	follower := w.follow(t, 0)
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast, 2<<20)
	w.log.big(t, 4)
	eventually(t, func() bool { return heard.count("relay interrupted, will resume") > 0 }, func() string { return "the disk is not full" })
	eventually(t, func() bool { return len(follower.got()) == 28 }, func() string { return fmt.Sprint(len(follower.got()), " followed") })
	for range 5 { // while it is stuck
		w.log.write(t, 1, "A")
		head, _ := w.log.Head(t.Context())
		eventually(t, func() bool { return int64(len(follower.got())) == head }, func() string { return fmt.Sprint(len(follower.got()), " followed") })
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if c := w.settled(t); c.Stream != 33 || w.epochOfStream(t) != "1" {
		t.Fatalf("%+v, epoch %s, want c.Stream 33 and w.epochOfStream(t) \"1\"", c, w.epochOfStream(t))
	}
	w.log.write(t, 3, "A")
	w.settled(t)
	if n := heard.count("relay interrupted, will resume"); n > 6 {
		t.Errorf("the relay warned %d times: once for each cause is enough, want at most 6", n)
	}
	t.Logf("the disk was full: replaced %d times, %d warnings", heard.count("stream replaced"), heard.count("relay interrupted, will resume"))
}

// fill uses up a file system, except for some bytes.
func fill(t *testing.T, name string, leave uint64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		var s syscall.Statfs_t
		if err := syscall.Statfs(name, &s); err != nil {
			t.Fatal(err)
		}
		if s.Bavail*uint64(s.Bsize) <= leave {
			return
		}
		if _, err := f.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
}

// A server that accepts only small messages still gets every number: a large event's data stays in the
// log, where a follower reads it.
func TestEventTooLargeForAMessage(t *testing.T) {
	t.Parallel()
	s, err := natsserver.NewServer(&natsserver.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	w := &world{Server: &natstest.Server{Conn: nc, JS: natstest.JetStream(t, nc)}, log: &log{}, epochs: &epochs{n: 1}}
	w.log.store.Store(memory.New())
	w.log.write(t, 3, "A")
	w.log.big(t, 1)
	w.log.write(t, 1, "A")
	r, heard := w.impatient(t, 0)
	run(t, r)
	if c := w.settled(t); c.Stream != 6 {
		t.Fatalf("got %+v, want 6", c)
	}
	follower := w.follow(t, 0)
	eventually(t, func() bool { return len(follower.got()) == 6 }, func() string { return fmt.Sprint(len(follower.got()), " followed") })
	for _, e := range follower.got() {
		if e.Position > 3 && e.Position < 6 && len(e.Data) < 500<<10 {
			t.Errorf("event %d: got %d bytes, want at least %d", e.Position, len(e.Data), 500<<10)
		}
	}
	stream, err := w.JS.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ DataRef, DataSHA256, Sequence, Damage string }
	if err := json.Unmarshal(m.Data, &said); err != nil || said.DataRef != "/cloudbot/test/events/4" || len(said.DataSHA256) != 64 || said.Sequence != "4" || said.Damage != "" {
		t.Errorf("%s: got %v, want no error, said.DataRef \"/cloudbot/test/events/4\", len(said.DataSHA256) 64, said.Sequence \"4\" and said.Damage \"\"", m.Data, err)
	}
	if m.Header.Get(jetstream.DataHeader) != jetstream.DataLeftOut {
		t.Errorf("headers %v, want %v", m.Header, jetstream.DataLeftOut)
	}
	w.log.big(t, 1)
	w.log.write(t, 1, "A")
	eventually(t, func() bool { return len(follower.got()) == 9 }, func() string { return fmt.Sprint(len(follower.got()), " followed") })
	w.settled(t)
	if n := heard.count("event too large for a message, data left out"); n < 4 {
		t.Errorf("%d were said to be left out, want at least 4", n)
	}
	// Other data of the same length is not the data that the message names.
	if c, err := jetstream.Check(t.Context(), forged{w.log, 4}, w.Conn); err != nil || c.Different != 1 {
		t.Errorf("forged: got %+v, %v, want no error and 1", c, err)
	}
	t.Logf("a server with 8 KiB a message: 9 events, %d without their data", heard.count("event too large for a message, data left out"))
}

type forged struct {
	*log
	at int64
}

func (f forged) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return f.changed(ctx, after, func(e *eventstore.Event) {
		if e.Position == f.at {
			e.Data = json.RawMessage(`"` + strings.Repeat("y", 500<<10) + `"`)
		}
	})
}

func (l *log) changed(ctx context.Context, after int64, change func(*eventstore.Event)) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range l.ReadAll(ctx, after) {
			change(&e)
			if !yield(e, err) {
				return
			}
		}
	}
}

// damaged is a log in which some rows cannot be read.
type damaged struct{ *log }

func (d damaged) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return d.changed(ctx, after, func(e *eventstore.Event) {
		switch e.Position {
		case 3:
			e.Damage, e.Meta = errors.New("metadata: it is no JSON"), eventstore.Metadata{}
		case 5:
			e.Data = json.RawMessage("{\"half\": \x01")
		case 6:
			e.Data, e.Damage = nil, errors.New("columns are empty")
			e.Stream, e.Type, e.ID, e.Version, e.Time = eventstore.StreamID{Aggregate: "damaged", ID: "6"}, "damaged", "damaged-6", 0, time.Time{}
		}
	})
}

// Rows that cannot be read keep their numbers on the stream, and stop no follower.
func TestDamagedEventsAreRelayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := damaged{w.log}
	w.log.write(t, 8, "A")
	relay, err := jetstream.NewRelay(jetstream.RelayConfig{Store: store, Conn: w.Conn, Epochs: w.epochs, Environment: "test", Poll: 20 * time.Millisecond, Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	run(t, relay)
	var c jetstream.Counts
	eventually(t, func() bool {
		c, err = jetstream.Check(t.Context(), store, w.Conn)
		return err == nil && c == jetstream.Counts{Log: 8, Stream: 8}
	}, func() string { return fmt.Sprintf("%+v, %v", c, err) })
	if w.epochOfStream(t) != "1" {
		t.Error("damage began an epoch")
	}
	feed, err := jetstream.NewFeed(jetstream.FeedConfig{Store: store, Conn: w.Conn, Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []eventstore.Event
	if err := feed.Follow(ctx, 0, func(_ context.Context, events []eventstore.Event) error {
		if got = append(got, events...); len(got) == 8 {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, e := range got {
		if bad := i == 2 || i == 4 || i == 5; e.Position != int64(i+1) || (e.Damage != nil) != bad {
			t.Errorf("event %d: damage %v, want e.Position %v and (e.Damage != nil) %v", e.Position, e.Damage, int64(i+1), bad)
		}
	}
	t.Logf("3 damaged rows of 8: %+v", c)
}

// An event that cannot be read comes back from the stream unchanged.
func TestEnvelopeOfDamage(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`{"a":1}`, ``, `{"a":`, `null`, "\x00\xff"} {
		v := sample()
		v.Event.Data, v.Event.Damage = json.RawMessage(data), errors.New("why")
		body := v.Bytes()
		got, err := jetstream.ParseEnvelope(body)
		if err != nil || string(got.Event.Data) != data || got.Event.Damage == nil || got.Event.Damage.Error() != "why" || !json.Valid(body) {
			t.Errorf("%q: got %+v, %v, want no error, string(got.Event.Data) %v, got.Event.Damage other than nil, got.Event.Damage.Error() \"why\" and json.Valid(body) true\n%s", data, got, err, data, body)
		}
	}
}
