package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	natsstream "github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

const refillBar = 0.8 // of the asynchronous publish

// benchRefill measures how fast the relay fills a JetStream that was wiped, in this process as a server without NATS_URL does. The
// reference publishes messages of the same subjects, headers and sizes asynchronously to a stream with the same settings.
func benchRefill(ctx context.Context, l *lab, o options) error {
	store, events, err := l.filled(ctx, o.events)
	if err != nil {
		return err
	}
	defer store.Close()
	var subjects []string
	var bodies [][]byte
	for e, err := range store.ReadAll(ctx, 0) {
		if err != nil {
			return err
		}
		subjects = append(subjects, jetstream.Subject(e))
		if len(bodies) < 10_000 {
			bodies = append(bodies, jetstream.Envelope{Environment: "test", Epoch: 1, Event: e}.Bytes())
		}
	}
	theirs, size, err := inNATS(ctx, func(conn *nats.Conn) error { return publishAll(ctx, conn, subjects, bodies) })
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	subjects, bodies = nil, nil
	stop, err := profiled(o)
	if err != nil {
		return err
	}
	ours, ourSize, err := inNATS(ctx, func(conn *nats.Conn) error { return l.relayAll(ctx, store, conn, int64(events)) })
	stop()
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	got := theirs.Seconds() / ours.Seconds()
	fmt.Println("\n| events | relay | asynchronous publish | ratio | JetStream, B an event | the reference's | bar |")
	fmt.Println("|---:|---:|---:|---:|---:|---:|---|")
	fmt.Printf("| %d | %.0f/s | %.0f/s | **%.2f** | %d | %d | %.1f %s |\n", events, float64(events)/ours.Seconds(), float64(events)/theirs.Seconds(), got,
		ourSize/int64(events), size/int64(events), refillBar, verdict(got >= refillBar))
	return nil
}

// relayAll runs a relay until the stream has everything.
func (l *lab) relayAll(ctx context.Context, store eventstore.Store, conn *nats.Conn, head int64) error {
	relay, err := jetstream.NewRelay(jetstream.RelayConfig{Store: store, Conn: conn, Epochs: jetstream.PostgresEpochs{Pool: l.pool}, Environment: "test"})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(running) }()
	for relay.Stats().Position < head {
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	stop()
	return <-ended
}

// publishAll creates the stream and publishes a message for each subject, under the number that it must get.
func publishAll(ctx context.Context, conn *nats.Conn, subjects []string, bodies [][]byte) error {
	js, err := natsstream.New(conn)
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamLimits{}.Config(1, 0, 1)); err != nil {
		return err
	}
	for n, subject := range subjects {
		msg := &nats.Msg{Subject: subject, Header: nats.Header{"Content-Type": {jetstream.ContentType}}, Data: bodies[n%len(bodies)]}
		_, err := js.PublishMsgAsync(msg, natsstream.WithExpectStream(jetstream.StreamName), natsstream.WithExpectLastSequence(uint64(n)), natsstream.WithRetryAttempts(0))
		if err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	s, err := js.Stream(ctx, jetstream.StreamName)
	if err == nil && s.CachedInfo().State.LastSeq != uint64(len(subjects)) {
		err = fmt.Errorf("got %d messages, want %d", s.CachedInfo().State.LastSeq, len(subjects))
	}
	return err
}

// inNATS returns how long do takes on a new private NATS, and the bytes that are then on the disk.
func inNATS(ctx context.Context, do func(*nats.Conn) error) (took time.Duration, bytes int64, err error) {
	dir, err := os.MkdirTemp("", "cloudbot-bench-nats-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	bus, err := embedded.StartNATS(context.WithoutCancel(ctx), embedded.NATSConfig{Dir: dir})
	if err != nil {
		return 0, 0, err
	}
	defer bus.Close()
	conn, err := bus.Connect()
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	err = do(conn)
	took = time.Since(begun)
	conn.Close()
	bus.Close()
	if err == nil {
		bytes, err = folderBytes(dir)
	}
	return took, bytes, err
}

func folderBytes(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}
