package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Counts compares log and stream, number by number. Missing, Extra and Different are zero when
// everything was relayed correctly.
type Counts struct {
	Log       int64 // events in the log
	Stream    int64 // messages in the stream
	Discarded int64 // events before the stream's first message, which its limits removed
	Missing   int64 // other events without a message
	Extra     int64 // messages without an event
	Different int64 // pairs that differ in position, id, epoch, subject or any byte of the data
}

// Check reads log and stream side by side. Run it while no events are appended: an event appended
// during the check may count as missing.
func Check(ctx context.Context, store eventstore.Store, conn *nats.Conn) (Counts, error) {
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return Counts{}, fmt.Errorf("check: %w", err)
	}
	var c Counts
	info, err := streamInfo(ctx, js, StreamName)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return c, fmt.Errorf("check: %w", err)
	}
	var upTo, first int64
	var epoch int
	if err == nil && info.State.Msgs > 0 {
		upTo = int64(info.State.LastSeq)
		epoch, _ = epochOf(info.Config)
		if info.Config.MaxBytes > 0 || info.Config.MaxAge > 0 {
			first = int64(info.State.FirstSeq)
		}
	}
	next, stop := iter.Pull2(messages(ctx, js, upTo))
	defer stop()
	m, err, more := next()
	for e, readErr := range store.ReadAll(ctx, 0) {
		if readErr != nil {
			return c, fmt.Errorf("check: %w", readErr)
		}
		c.Log++
		for ; more && err == nil && m.Sequence < uint64(e.Position); m, err, more = next() {
			c.Stream++ // only a log with a gap leads here
			c.Extra++
		}
		switch {
		case err != nil:
			return c, fmt.Errorf("check: %w", err)
		case e.Position < first:
			c.Discarded++
		case !more || m.Sequence > uint64(e.Position):
			c.Missing++
		default:
			c.Stream++
			if !same(m, e, epoch) {
				c.Different++
			}
			m, err, more = next()
		}
	}
	for ; more && err == nil; m, err, more = next() {
		c.Stream++
		c.Extra++
	}
	if err != nil {
		return c, fmt.Errorf("check: %w", err)
	}
	return c, nil
}

// messages yields the stream's messages up to number upTo.
func messages(ctx context.Context, js jetstream.JetStream, upTo int64) iter.Seq2[*jetstream.RawStreamMsg, error] {
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		if upTo == 0 {
			return
		}
		consumer, err := js.OrderedConsumer(ctx, StreamName, jetstream.OrderedConsumerConfig{})
		if err != nil {
			yield(nil, err)
			return
		}
		all, err := consumer.Messages(jetstream.PullMaxMessages(500))
		if err != nil {
			yield(nil, err)
			return
		}
		defer all.Stop()
		for {
			m, err := all.Next(jetstream.NextMaxWait(5 * time.Second))
			var meta *jetstream.MsgMetadata
			if err == nil {
				meta, err = m.Metadata()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			raw := &jetstream.RawStreamMsg{Subject: m.Subject(), Sequence: meta.Sequence.Stream, Header: m.Headers(), Data: m.Data(), Time: meta.Timestamp}
			if raw.Sequence > uint64(upTo) || !yield(raw, nil) || meta.NumPending == 0 || raw.Sequence == uint64(upTo) {
				return
			}
		}
	}
}
