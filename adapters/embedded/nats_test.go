package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
)

func startNATS(t *testing.T, cfg embedded.NATSConfig) (*embedded.NATS, *nats.Conn, jetstream.JetStream) {
	t.Helper()
	n, err := embedded.StartNATS(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return n, nc, js
}

func makeEvents(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"cloudbot.events.>"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "cloudbot.events.instance.1.requested", []byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
}

func TestNATSKeepsItsStream(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	n, _, js := startNATS(t, embedded.NATSConfig{Dir: dir})
	makeEvents(t, js)
	if n.URL() != "" || n.ReaderFile() != "" {
		t.Fatalf("without a listener: got %q, %q, want n.URL() \"\" and n.ReaderFile() \"\"", n.URL(), n.ReaderFile())
	}
	if _, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: dir}); err == nil {
		t.Fatal("a second server started in the same folder")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, js = startNATS(t, embedded.NATSConfig{Dir: dir})
	if m := lastMessage(t, js); string(m) != `{"n":1}` {
		t.Fatalf("after the restart: got %s, want %q", m, `{"n":1}`)
	}
}

func lastMessage(t *testing.T, js jetstream.JetStream) []byte {
	t.Helper()
	s, err := js.Stream(t.Context(), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return m.Data
}

func TestNATSStopsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	n, err := embedded.StartNATS(ctx, embedded.NATSConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := n.Close(); err != nil { // waits for the stop in progress
		t.Fatal(err)
	}
	startNATS(t, embedded.NATSConfig{Dir: dir})
}

func TestNATSStartsOverBrokenFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A file in place of a folder that JetStream needs.
	if err := os.WriteFile(filepath.Join(dir, "store"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, js := startNATS(t, embedded.NATSConfig{Dir: dir})
	makeEvents(t, js)
}

func TestNATSListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":4222", "192.0.2.1:4222", "[::]:0", "127.0.0.1", "127.0.0.1:x"} {
		if n, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: t.TempDir(), Listen: addr}); err == nil {
			n.Close()
			t.Errorf("%s: got a server, want an error", addr)
		}
	}
}

func TestNATSReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, control, js := startNATS(t, embedded.NATSConfig{Dir: dir, Listen: "127.0.0.1:0"})
	makeEvents(t, js)
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "tickets"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(n.ReaderFile())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("credentials: got %v, %v, want no error and 0o600", info.Mode(), err)
	}
	for _, opt := range [][]nats.Option{nil, {nats.UserInfo("control", "")}, {nats.UserInfo("reader", "guess")}} {
		if nc, err := nats.Connect(n.URL(), opt...); err == nil {
			nc.Close()
			t.Fatal("admitted without credentials")
		}
	}
	url := readerURL(t, n)
	var denied atomic.Int64
	nc, err := nats.Connect(url, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			denied.Add(1)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()

	old, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	rjs, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { // the copy takes a little time
		s, err := rjs.Stream(t.Context(), "EVENTS")
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
	t.Run("follows the stream", func(t *testing.T) {
		first := func(m *nats.Msg, err error) {
			t.Helper()
			if err != nil || string(m.Data) != `{"n":1}` {
				t.Errorf("got %v, %v, want no error and %q", m, err, `{"n":1}`)
			}
		}
		for name, opts := range map[string][]nats.SubOpt{
			"push":         {nats.DeliverAll(), nats.AckExplicit()},
			"ordered":      {nats.OrderedConsumer()},
			"push durable": {nats.Durable("pushed"), nats.DeliverAll()},
		} {
			sub, err := old.SubscribeSync("cloudbot.events.>", append(opts, nats.BindStream("EVENTS"))...)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			first(sub.NextMsg(5 * time.Second))
			if err := sub.Unsubscribe(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		pull, err := old.PullSubscribe("cloudbot.events.>", "pulled", nats.BindStream("EVENTS"))
		if err != nil {
			t.Fatal(err)
		}
		list, err := pull.Fetch(1, nats.MaxWait(5*time.Second))
		if err != nil || len(list) != 1 {
			t.Fatalf("got %v, %v, want no error and 1", list, err)
		}
		first(list[0], list[0].AckSync())

		consumer, err := rjs.OrderedConsumer(t.Context(), "EVENTS", jetstream.OrderedConsumerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil || string(m.Data()) != `{"n":1}` {
			t.Fatalf("got %v, %v, want no error and %q", m, err, `{"n":1}`)
		}
		durable, err := rjs.CreateOrUpdateConsumer(t.Context(), "EVENTS", jetstream.ConsumerConfig{Durable: "outside", AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		if m, err = durable.Next(jetstream.FetchMaxWait(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := rjs.DeleteConsumer(t.Context(), "EVENTS", "outside"); err != nil {
			t.Errorf("its own consumer: %v", err)
		}
	})
	// No call of a reader with that name changes the control plane's own consumer.
	t.Run("does not reach our consumers", func(t *testing.T) {
		ours, err := js.CreateConsumer(t.Context(), "EVENTS", jetstream.ConsumerConfig{Durable: "ours", AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rjs.Consumer(t.Context(), "EVENTS", "ours"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.Errorf("a reader sees it: got %v, want error %v", err, jetstream.ErrConsumerNotFound)
		}
		if err := rjs.DeleteConsumer(t.Context(), "EVENTS", "ours"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.Errorf("delete: got %v, want error %v", err, jetstream.ErrConsumerNotFound)
		}
		pause, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := rjs.PauseConsumer(pause, "EVENTS", "ours", time.Now().Add(time.Hour)); err == nil {
			t.Error("it was paused")
		}
		if err := nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.EVENTS.ours", nats.NewInbox(), []byte("1")); err != nil {
			t.Fatal(err)
		}
		if _, err := rjs.CreateOrUpdateConsumer(t.Context(), "EVENTS", jetstream.ConsumerConfig{Durable: "ours", MaxDeliver: 1, AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
			t.Fatal(err) // its own consumer of the same name
		}
		info, err := ours.Info(t.Context())
		if err != nil || info.Paused || info.NumPending != 1 || info.NumAckPending != 0 || info.Config.MaxDeliver == 1 {
			t.Errorf("got %+v, %v, want no error, info.Paused false, info.NumPending 1, info.NumAckPending 0 and info.Config.MaxDeliver other than 1", info, err)
		}
	})
	// A consumer delivers to the subject that its creator names, which never reaches our subjects.
	t.Run("pushes nothing to us", func(t *testing.T) {
		heard, err := control.SubscribeSync(">")
		if err != nil {
			t.Fatal(err)
		}
		for i, to := range []string{"$KV.tickets.k", "$JS.API.STREAM.DELETE.KV_tickets", "cloudbot.events.instance.1.forged", "anything"} {
			config := fmt.Sprintf(`{"stream_name":"EVENTS","config":{"durable_name":"x%d","deliver_subject":%q,"ack_policy":"none"}}`, i, to)
			if _, err := nc.Request(fmt.Sprintf("$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.x%d", i), []byte(config), 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		// The reply subject of a reader's own request names a call of CONTROL's API.
		if err := nc.PublishRequest("$JS.API.CONSUMER.INFO.EVENTS.x0", "CONTROL.API.CONSUMER.CREATE.EVENTS.x0", nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(t.Context(), "EVENTS")
		if err != nil {
			t.Fatal(err)
		}
		for c := range s.ListConsumers(t.Context()).Info() {
			if c.Config.DeliverSubject != "" && !strings.HasPrefix(c.Config.DeliverSubject, "cloudbot.copy.") {
				t.Errorf("a consumer of ours: got deliver subject %s, want cloudbot.copy. before it", c.Config.DeliverSubject)
			}
		}
		e, err := kv.Get(t.Context(), "k")
		if err != nil || string(e.Value()) != "v" {
			t.Errorf("bucket: got %v, %v, want no error and \"v\"", e, err)
		}
		for {
			m, err := heard.NextMsg(200 * time.Millisecond)
			if err != nil {
				break
			}
			if strings.HasPrefix(m.Subject, "$KV.") || m.Subject == "anything" || strings.HasSuffix(m.Subject, ".forged") {
				t.Errorf("heard on %s: got %s, want m.Subject not to begin with \"$KV.\", m.Subject other than \"anything\" and m.Subject not to end with \".forged\"", m.Subject, m.Data)
			}
		}
	})
	t.Run("hears live events", func(t *testing.T) {
		sub, err := nc.SubscribeSync("cloudbot.events.instance.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "cloudbot.events.instance.1.renamed", []byte(`{"n":2}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := sub.NextMsg(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	})
	for _, subject := range []string{
		"cloudbot.events.instance.1.requested", "anything", "$KV.tickets.k", "$JS.API.STREAM.DELETE.EVENTS",
		"$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.UPDATE.EVENTS", "$JS.API.STREAM.MSG.DELETE.EVENTS",
		"$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.INFO.KV_tickets", "$JS.API.DIRECT.GET.KV_tickets.$KV.tickets.k",
		"$JS.API.CONSUMER.CREATE.KV_tickets", "$JS.API.STREAM.SNAPSHOT.EVENTS", "_R_.x", "$SYS.REQ.SERVER.PING",
	} {
		t.Run("may not publish "+subject, func(t *testing.T) {
			before := denied.Load()
			if _, err := nc.Request(subject, nil, 100*time.Millisecond); !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, nats.ErrPermissionViolation) {
				t.Fatalf("got %v, want %v or %v", err, nats.ErrTimeout, nats.ErrPermissionViolation)
			}
			waitFor(t, func() bool { return denied.Load() > before })
		})
	}
	for _, subject := range []string{">", "$KV.>", "$JS.API.>", "_R_.>", "$JS.>", "cloudbot.>"} {
		t.Run("may not subscribe to "+subject, func(t *testing.T) {
			before := denied.Load()
			if _, err := nc.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			if err := nc.FlushTimeout(5 * time.Second); err != nil && !errors.Is(err, nats.ErrPermissionViolation) {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return denied.Load() > before })
		})
	}
	// The server does not check reply subjects: the answer to an allowed call must not become a call that the reader
	// may not make.
	t.Run("replies change nothing", func(t *testing.T) {
		for _, reply := range []string{"$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.DELETE.EVENTS", "cloudbot.events.instance.1.forged", "$KV.tickets.k"} {
			if err := nc.PublishRequest("$JS.API.STREAM.INFO.EVENTS", reply, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		e, err := kv.Get(t.Context(), "k")
		if err != nil || string(e.Value()) != "v" {
			t.Errorf("bucket: got %v, %v, want no error and \"v\"", e, err)
		}
		s, err := js.Stream(t.Context(), "EVENTS")
		if err != nil {
			t.Fatal(err)
		}
		if got := s.CachedInfo().State; got.Msgs != 2 || got.LastSeq != 2 {
			t.Errorf("stream: got %+v, want got.Msgs 2 and got.LastSeq 2", got)
		}
	})
	t.Run("keeps its password", func(t *testing.T) {
		n.Close()
		again, _, _ := startNATS(t, embedded.NATSConfig{Dir: dir, Listen: "127.0.0.1:0"})
		if password(readerURL(t, again)) != password(url) {
			t.Fatal("a restart locks the readers out")
		}
	})
}

// The readers' copy is complete although it is larger than the messages in flight, and it is of the current stream:
// after a restored backup another stream has the same numbers.
func TestNATSCopyFollows(t *testing.T) {
	t.Parallel()
	n, _, js := startNATS(t, embedded.NATSConfig{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	nc, err := nats.Connect(readerURL(t, n))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	rjs, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	holds := func(last uint64, text string) {
		t.Helper()
		waitFor(t, func() bool {
			s, err := rjs.Stream(t.Context(), "EVENTS")
			if err != nil || s.CachedInfo().State.LastSeq != last || s.CachedInfo().State.Msgs != last {
				return false
			}
			m, err := s.GetMsg(t.Context(), last)
			return err == nil && strings.HasPrefix(string(m.Data), text)
		})
	}
	makeEvents(t, js)
	holds(1, `{"n":1}`)
	const many = 5000
	for range many {
		if _, err := js.PublishAsync("cloudbot.events.instance.1.renamed", append([]byte("many"), make([]byte, 16<<10)...)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	holds(many+1, "many")
	if err := js.DeleteStream(t.Context(), "EVENTS"); err != nil {
		t.Fatal(err)
	}
	makeEvents(t, js)
	if _, err := js.Publish(t.Context(), "cloudbot.events.instance.1.renamed", []byte("again")); err != nil {
		t.Fatal(err)
	}
	holds(2, "again")
}

func readerURL(t *testing.T, n *embedded.NATS) string {
	t.Helper()
	b, err := os.ReadFile(n.ReaderFile())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func password(url string) string {
	_, rest, _ := strings.Cut(url, "reader:")
	p, _, _ := strings.Cut(rest, "@")
	return p
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("timed out waiting")
		}
	}
}
