package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
)

// probes are all of them, by name, on one connection.
func probes(conn *nats.Conn, head func(context.Context) (int64, error)) map[string]func(context.Context) error {
	stream := jetstream.NewStreamProbe(conn, head)
	return map[string]func(context.Context) error{
		"able":     func(ctx context.Context) error { return jetstream.Able(ctx, conn, jetstream.StreamLimits{}) },
		"publish":  stream.Publish,
		"relayed":  stream.Relayed,
		"limits":   jetstream.NewLimiter(jetstream.LimiterConfig{Conn: conn}).Probe,
		"presence": jetstream.NewPresence(jetstream.PresenceConfig{Conn: conn}).Probe,
	}
}

// works tries a probe until it succeeds: a slow machine may miss its deadline.
func works(t *testing.T, name string, try func(context.Context) error) {
	t.Helper()
	var err error
	eventually(t, func() bool { err = try(t.Context()); return err == nil }, func() string { return fmt.Sprintf("%s: got %v, want no error", name, err) })
}

func TestProbesLeaveNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := jetstream.Able(t.Context(), w.Conn, jetstream.StreamLimits{}); err != nil {
		t.Errorf("before there is a stream: %v", err)
	}
	names := w.JS.StreamNames(t.Context())
	for name := range names.Name() {
		t.Errorf("got stream %s, want none left", name)
	}
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.log.write(t, 5, "a")
	w.settled(t)
	all := probes(w.Conn, w.log.Head)
	for range 50 {
		for name, try := range all {
			works(t, name, try)
		}
	}
	for stream, want := range map[string]uint64{jetstream.StreamName: 5, "KV_limits": 1, "KV_presence": 1} {
		s, err := w.JS.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if at := s.CachedInfo().State; at.Msgs != want || stream == jetstream.StreamName && at.LastSeq != want {
			t.Errorf("%s: got %+v, want %d messages", stream, at, want)
		}
	}
	// Two replicas' probes share the key.
	for name, try := range probes(w.Connect(t), w.log.Head) {
		works(t, name+" of another replica", try)
	}
	w.Stop()
	for name, try := range all {
		err := try(t.Context())
		if _, unable := jetstream.Unable(err); err == nil || unable {
			t.Errorf("%s while NATS is unreachable: got %v, want an error and unable false", name, err)
		}
	}
}

// A stream that does not grow with the log has no relay, or no quorum.
func TestRelayedNeedsProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 3, "a")
	p := jetstream.NewStreamProbe(w.Conn, w.log.Head)
	p.StoodStillSince(time.Now().Add(-time.Hour))
	err := p.Relayed(t.Context())
	if err == nil {
		t.Fatal("nothing is relayed, and the probe is content")
	}
	w.log.write(t, 1, "a") // the error must not change, so that it is logged once
	if again := p.Relayed(t.Context()); again == nil || again.Error() != err.Error() {
		t.Errorf("%v, and then %v, want again other than nil and again.Error() err.Error()", err, again)
	}
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	if err := p.Relayed(t.Context()); err != nil {
		t.Error(err)
	}
}

// A NATS whose configuration prevents its work is distinguished from one that is unreachable, in a sentence.
func TestUnable(t *testing.T) {
	t.Parallel()
	plain := func(o *server.Options) string { return "" }
	jet := func(o *server.Options) { o.JetStream = true }
	for name, c := range map[string]struct {
		set   func(*server.Options) (user string)
		fails map[string]bool // which probes; nil: all but those that need no JetStream
	}{
		"no JetStream": {plain, nil},
		"account without": {func(o *server.Options) string {
			jet(o)
			a := server.NewAccount("A")
			o.Accounts, o.Users = []*server.Account{a}, []*server.User{{Username: "u", Password: "p", Account: a}}
			return "u:p@"
		}, nil},
		"wrong password": {func(o *server.Options) string {
			jet(o)
			o.Username, o.Password = "u", "p"
			return "u:wrong@"
		}, nil},
		"no rights": {func(o *server.Options) string {
			jet(o)
			o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: []string{"nothing.of.ours"}},
			}}}
			return "u:p@"
		}, nil},
		"too little memory": {func(o *server.Options) string {
			jet(o)
			o.JetStreamMaxMemory = 1 << 20
			return ""
		}, map[string]bool{"limits": true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
			user := c.set(o)
			s, err := server.NewServer(o)
			if err != nil {
				t.Fatal(err)
			}
			go s.Start()
			t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
			if !s.ReadyForConnections(20 * time.Second) {
				t.Fatal("NATS does not come up")
			}
			conn, err := nats.Connect("nats://"+user+s.Addr().String(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Close)
			for name, try := range probes(conn, func(context.Context) (int64, error) { return 0, nil }) {
				err := try(t.Context())
				sentence, unable := jetstream.Unable(err)
				if want := c.fails == nil || c.fails[name]; unable != want {
					t.Errorf("%s: got %v, want %v", name, err, want)
				}
				if unable && name == "able" {
					t.Log(sentence)
				}
			}
		})
	}
}

// An earlier refusal of a subject that we do not need does not explain a call that fails later.
func TestOtherRefusalIsNoReason(t *testing.T) {
	t.Parallel()
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, JetStream: true}
	o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{"$JS.API.>", "$KV.>", "cloudbot.events.>", "_INBOX.>"}},
	}}}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS does not come up")
	}
	refused := make(chan error, 1)
	conn, err := nats.Connect("nats://u:p@"+s.Addr().String(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := jetstream.Able(t.Context(), conn, jetstream.StreamLimits{}); err != nil {
		t.Errorf("with the rights that the sentence names: %v", err)
	}
	if err := jetstream.ProbeOfRelay(t.Context(), conn); err != nil {
		t.Errorf("the relay's own look, with the same rights: %v", err)
	}
	if err := conn.Publish("somewhere.else", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatal(err)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if err := jetstream.Able(late, conn, jetstream.StreamLimits{}); err == nil {
		t.Error("a call that was given up worked")
	} else if sentence, unable := jetstream.Unable(err); unable {
		t.Errorf("got %v: %s, want unable false", err, sentence)
	}
}
